//! Reports which task overflowed its stack, and ends the process.
//!
//! An overflow is an access to the guard below a stack (see [`super::guard`]). It arrives as
//! `SIGSEGV` (or `SIGBUS`) on the thread that made it. There is no stack left to handle it on, so
//! each machine has an alternate one for signals ([`super::alternate`]). The handler looks at the
//! faulting address, since the `si_code` of a guard marker is not that of a `PROT_NONE` page. If
//! the address lies in the guard of the task that runs on this thread, the handler prints which
//! task that is and what to raise, and aborts. Any other fault is not ours. It goes to the previous
//! handler, as if ours were not there: usually std's, which reports overflows of plain threads, or
//! a crash reporter's.
//!
//! **A signal that finds no room.** The frame of a handler without `SA_ONSTACK` goes onto the stack
//! that is in use. If a task has too little of its stack left, the kernel cannot write the frame.
//! The signal is lost, and `SIGSEGV` comes in its place, from the kernel itself and with no
//! address. The stack pointer then identifies the task. (Such a fault does not come again when a
//! handler returns: std's handler would remove itself for it, and the program would go on without.)
//!
//! # In a signal handler
//!
//! A fault may come at any instruction: inside the allocator, with a lock held, or with `errno`
//! about to be read. So nothing here that runs in the handler allocates, locks or initialises. The
//! handler reads what [`install`] wrote before the handler existed, formats integers and strings
//! with `core::fmt` into an array, and calls `write`, `sigaction`, `pthread_sigmask`, `raise` and
//! `abort`, which POSIX lists as async-signal-safe. It leaves `errno` as it found it.

use std::fmt;
use std::panic::Location;
// Not `crate::prim`: a signal handler needs real statics, and no model runs one.
use std::sync::{Once, OnceLock};
use std::{mem, ptr};

use super::CURE;
use crate::sys::stderr;

/// The task that ran out of stack.
pub(crate) struct Report<'a> {
    pub(crate) id: u64,
    pub(crate) name: Option<&'a str>,
    /// Where it was spawned.
    pub(crate) site: Option<&'static Location<'static>>,
    pub(crate) stack_bytes: usize,
    /// The task has not overflowed; there was no room for the frame of a signal.
    pub(crate) by_signal: bool,
}

/// The fault that a lookup is about.
pub(crate) struct Fault {
    /// The address that could not be accessed; zero if the kernel does not say.
    pub(crate) address: usize,
    /// Set if the kernel may have failed to write a signal's frame: the address below which it
    /// failed.
    pub(crate) no_frame_below: Option<usize>,
}

/// Finds the owner of a fault. If it is the task that runs on this thread, calls `say` once with
/// what is known of that task and returns true; otherwise returns false.
///
/// # Safety
///
/// It is called inside the signal handler, on the thread that faulted, on its alternate stack. It
/// must be async-signal-safe: no allocation, no lock, no thread-local that needs initialising. It
/// must cope with any thread of the process, and with a fault at any point of our own code.
pub(crate) type Lookup = unsafe fn(fault: &Fault, say: &mut dyn FnMut(&Report<'_>)) -> bool;

/// The data that the handler uses. Written once, before the handler is installed.
struct Installed {
    lookup: Lookup,
    previous_segv: libc::sigaction,
    previous_bus: libc::sigaction,
}

/// The handler only calls `get`, which is one atomic load and never waits.
static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Installs the handler for the whole process. Only the first call does anything; when any call
/// returns, the handler is in place.
///
/// It is never removed: a handler that was installed later may have kept its address to chain to.
/// For the same reason a later call does not install ours again on top of that one.
pub(crate) fn install(lookup: Lookup) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // The previous actions are queried first, not taken from the call that installs ours:
        // another thread may fault in between, and must find them.
        INSTALLED.get_or_init(|| Installed {
            lookup,
            previous_segv: current_action(libc::SIGSEGV),
            previous_bus: current_action(libc::SIGBUS),
        });
        let mut action = default_action();
        action.sa_sigaction = on_fault as *const () as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            // SAFETY: `on_fault` has the signature that SA_SIGINFO asks for, is async-signal-safe
            // (module doc), and finds `INSTALLED` set. With valid arguments the call cannot fail.
            unsafe { libc::sigaction(signal, &action, ptr::null_mut()) };
        }
    });
}

fn default_action() -> libc::sigaction {
    // SAFETY: all zeroes is a valid `sigaction`: SIG_DFL, an empty mask, no flags, no restorer.
    unsafe { mem::zeroed() }
}

fn current_action(signal: libc::c_int) -> libc::sigaction {
    let mut action = default_action();
    // SAFETY: only queries; `action` is valid for writes.
    unsafe { libc::sigaction(signal, ptr::null(), &mut action) };
    action
}

/// The handler. The module doc says what it may do.
unsafe extern "C" fn on_fault(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: every thread has an `errno`, and only this thread accesses it.
    let errno = unsafe { *libc::__errno_location() };
    let Some(installed) = INSTALLED.get() else {
        // Cannot happen, since `install` sets it first. Returning would repeat the fault forever.
        // SAFETY: ends the process.
        unsafe { libc::abort() }
    };
    // SAFETY: with SA_SIGINFO the kernel passes a filled-in `siginfo_t`.
    let code = unsafe { (*info).si_code };
    // A signal that was sent (`kill`, `raise`) has a sender where a fault has its address.
    let sent = code <= 0;
    if !sent {
        // SAFETY: the kernel's `siginfo_t` (SA_SIGINFO); for a fault, `si_addr` is the field that
        // is filled in.
        let address = unsafe { (*info).si_addr() }.addr();
        // A fault in user mode without an address means a lost signal, or an access to an address
        // that no pointer can have.
        let no_frame = signal == libc::SIGSEGV && code == SI_KERNEL && address == 0;
        // SAFETY: with SA_SIGINFO the kernel passes the context of what was interrupted.
        let no_frame_below = no_frame.then(|| unsafe { stack_pointer_in(context.cast()) });
        // SAFETY: this is the handler in which `Lookup`'s `# Safety` says it is called.
        if unsafe { (installed.lookup)(&Fault { address, no_frame_below }, &mut print) } {
            // SAFETY: ends the process.
            unsafe { libc::abort() };
        }
    }
    let previous = if signal == libc::SIGBUS { &installed.previous_bus } else { &installed.previous_segv };
    // SAFETY: the arguments are those that the kernel passed for `signal`.
    unsafe { chain(previous, signal, info, context, sent) };
    // SAFETY: the thread's own `errno`.
    unsafe { *libc::__errno_location() = errno };
}

/// The `si_code` of a signal that the kernel raises for reasons of its own.
const SI_KERNEL: libc::c_int = 0x80;

/// The stack pointer of the code that a signal interrupted. The seam for other architectures: zero
/// belongs to no task.
///
/// # Safety
///
/// `context` is the kernel's `ucontext_t`.
unsafe fn stack_pointer_in(context: *const libc::ucontext_t) -> usize {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `context` is the kernel's, as `# Safety` demands.
    return unsafe { (*context).uc_mcontext.gregs[libc::REG_RSP as usize] as usize };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: `context` is the kernel's, as `# Safety` demands.
    return unsafe { (*context).uc_mcontext.sp as usize };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = context;
        0
    }
}

/// Does what would have happened without our handler.
///
/// Two differences remain. A previous handler that did not ask for the alternate stack still runs
/// on it. A fault that was to be ignored takes the default action, as it does in the kernel, which
/// would otherwise repeat the fault forever.
///
/// # Safety
///
/// Called in the handler of `signal`, with its arguments; `previous` is what was installed before.
unsafe fn chain(
    previous: &libc::sigaction,
    signal: libc::c_int,
    info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
    sent: bool,
) {
    let default = || {
        // SAFETY: a valid action for a valid signal.
        unsafe { libc::sigaction(signal, &default_action(), ptr::null_mut()) };
    };
    if matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) {
        // We return, the instruction faults again, and the default action ends the process. A
        // signal that was sent does not come again by itself; raised here, it is delivered on
        // return.
        default();
        if sent {
            // SAFETY: raising a signal has no memory contract.
            unsafe { libc::raise(signal) };
        }
        return;
    }

    // Do what the kernel would have done on the way into that handler. On the way out of ours, the
    // kernel restores the signal mask.
    if previous.sa_flags & libc::SA_RESETHAND != 0 {
        default();
    }
    // SAFETY: `previous.sa_mask` is a signal set that the kernel filled in, `this_signal` is made
    // by `sigemptyset`; the thread's mask is ours to change until the handler returns.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, &previous.sa_mask, ptr::null_mut());
        if previous.sa_flags & libc::SA_NODEFER != 0 {
            let mut this_signal = mem::zeroed();
            libc::sigemptyset(&mut this_signal);
            libc::sigaddset(&mut this_signal, signal);
            libc::pthread_sigmask(libc::SIG_UNBLOCK, &this_signal, ptr::null_mut());
        }
    }
    if previous.sa_flags & libc::SA_SIGINFO != 0 {
        type Handler = unsafe extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: neither SIG_DFL nor SIG_IGN, so it is a handler's address; SA_SIGINFO determines
        // its signature.
        let handler = unsafe { mem::transmute::<libc::sighandler_t, Handler>(previous.sa_sigaction) };
        // SAFETY: called as the kernel would have called it.
        unsafe { handler(signal, info, context) };
    } else {
        // SAFETY: a handler's address, since neither SIG_DFL nor SIG_IGN; without SA_SIGINFO, a
        // handler takes the signal alone.
        let handler = unsafe { mem::transmute::<libc::sighandler_t, unsafe extern "C" fn(libc::c_int)>(previous.sa_sigaction) };
        // SAFETY: called as the kernel would have called it.
        unsafe { handler(signal) };
    }
}

/// Prints the report on stderr. Runs in the handler.
fn print(report: &Report<'_>) {
    let mut stderr = Stderr { buffer: [0; 512], len: 0 };
    // Neither `Stderr` nor the formatting of strings and integers can fail.
    let _ = write_report(&mut stderr, report);
    stderr.flush();
}

fn write_report(out: &mut impl fmt::Write, report: &Report<'_>) -> fmt::Result {
    write!(out, "greenloom: ")?;
    match report.name {
        Some(name) => write!(out, "task '{name}'")?,
        None => write!(out, "a task without a name")?,
    }
    write!(out, " (id {}", report.id)?;
    if let Some(site) = report.site {
        write!(out, ", spawned at {site}")?;
    }
    if report.by_signal {
        writeln!(out, ") had no room left on its stack of {} KiB for a signal's handler", report.stack_bytes / 1024)?;
        writeln!(out, "  install the handler with SA_ONSTACK: it then runs on a stack of its own. Or:")?;
    } else {
        writeln!(out, ") overflowed its stack of {} KiB", report.stack_bytes / 1024)?;
    }
    writeln!(out, "{CURE}")
}

/// Buffers text, so that a message of usual length is one `write` and does not mix with other
/// threads' output.
struct Stderr {
    buffer: [u8; 512],
    len: usize,
}

impl Stderr {
    fn flush(&mut self) {
        stderr::write(&self.buffer[..self.len]);
        self.len = 0;
    }
}

impl fmt::Write for Stderr {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.len == self.buffer.len() {
                self.flush();
            }
            let (now, later) = rest.split_at(rest.len().min(self.buffer.len() - self.len));
            self.buffer[self.len..self.len + now.len()].copy_from_slice(now);
            self.len += now.len();
            rest = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::super::HEAD_BYTES;
    use super::super::alternate::ensure_alternate_stack;
    use super::super::guard::{PAGE_BYTES, StackGuard};
    use super::super::slab::{Class, Slabs, Slot};
    use super::*;
    use crate::prim::atomic::{AtomicUsize, Ordering};
    use crate::sys::child;

    static SITE: &Location<'static> = Location::caller();

    const CLASS: Class = Class::DEFAULT;

    const REPORT: Report<'static> =
        Report { id: 7, name: Some("ackermann"), site: Some(SITE), stack_bytes: 112 * 1024, by_signal: false };

    /// The start of the guard of the task that the child claims to run; 0 if it runs none.
    static GUARD: AtomicUsize = AtomicUsize::new(0);

    unsafe fn find_task(fault: &Fault, say: &mut dyn FnMut(&Report<'_>)) -> bool {
        let guard = GUARD.load(Ordering::Relaxed);
        let found = guard != 0 && (guard..guard + CLASS.guard_bytes()).contains(&fault.address);
        if found {
            say(&REPORT);
        }
        found
    }

    fn message(report: &Report<'_>) -> String {
        let mut text = String::new();
        write_report(&mut text, report).unwrap();
        text
    }

    #[test]
    fn the_message_names_the_task_and_what_to_raise() {
        let text = message(&REPORT);
        let first = format!("greenloom: task 'ackermann' (id 7, spawned at {SITE}) overflowed its stack of 112 KiB\n");
        assert_eq!(text, format!("{first}{CURE}\n"));
        assert!(CURE.contains("task::Builder::stack_size or RuntimeBuilder::stack_size"));
    }

    #[test]
    fn the_message_does_without_name_and_site() {
        let text = message(&Report { id: 8, name: None, site: None, ..REPORT });
        assert!(text.starts_with("greenloom: a task without a name (id 8) overflowed its stack of 112 KiB\n"), "{text}");
    }

    #[test]
    fn the_message_of_a_signal_without_room_says_what_helps() {
        let text = message(&Report { by_signal: true, ..REPORT });
        assert!(text.contains(") had no room left on its stack of 112 KiB for a signal's handler\n"), "{text}");
        assert!(text.contains("SA_ONSTACK") && text.ends_with(&format!("{CURE}\n")), "{text}");
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_written_whole() {
        let Some(output) = child::run(concat!(module_path!(), "::a_message_longer_than_the_buffer_is_written_whole")) else {
            let name = "x".repeat(2000);
            print(&Report { id: 9, name: Some(&name), site: None, ..REPORT });
            return;
        };
        child::assert_passed(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(&format!("task '{}' (id 9)", "x".repeat(2000))), "{text}");
        assert!(text.ends_with(&format!("{CURE}\n")), "{text}");
    }

    /// Recurses until the stack ends.
    #[inline(never)]
    fn dig(depth: u64) -> u64 {
        let frame = std::hint::black_box([depth; 64]);
        if depth == u64::MAX { 0 } else { dig(depth + 1) + frame[7] }
    }

    extern "C" fn overflow(_: *mut libc::c_void) -> *mut libc::c_void {
        let _alternate = ensure_alternate_stack();
        install(find_task);
        dig(0);
        ptr::null_mut()
    }

    /// Runs `main` on a thread whose stack is `slot`, like a machine that runs a task, without the
    /// scheduler.
    fn run_on(slot: Slot, main: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void) {
        let size = slot.top - HEAD_BYTES - slot.bottom;
        // SAFETY: the slot was just carved and is used by nobody else until the thread is joined.
        unsafe {
            let mut attributes = mem::zeroed();
            assert_eq!(libc::pthread_attr_init(&mut attributes), 0);
            let bottom = ptr::with_exposed_provenance_mut(slot.bottom);
            assert_eq!(libc::pthread_attr_setstack(&mut attributes, bottom, size), 0);
            let mut thread = mem::zeroed();
            assert_eq!(libc::pthread_create(&mut thread, &attributes, main, ptr::null_mut()), 0);
            libc::pthread_join(thread, ptr::null_mut());
        }
    }

    fn overflow_is_reported(test: &str, guard: StackGuard) {
        let Some(output) = child::run(test) else {
            let slabs = Slabs::new(guard);
            let slot = slabs.carve(CLASS).unwrap();
            GUARD.store(slot.guard_range().start, Ordering::Relaxed);
            run_on(slot, overflow);
            unreachable!("the overflow ends the process");
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
        assert!(text.contains("greenloom: task 'ackermann' (id 7, spawned at "), "{text}");
        assert!(text.contains("overflowed its stack of 112 KiB"), "{text}");
    }

    #[test]
    fn an_overflow_is_reported() {
        overflow_is_reported(concat!(module_path!(), "::an_overflow_is_reported"), StackGuard::Auto);
    }

    #[test]
    fn an_overflow_into_a_protected_page_is_reported() {
        overflow_is_reported(concat!(module_path!(), "::an_overflow_into_a_protected_page_is_reported"), StackGuard::Mprotect);
    }

    /// An address that faults and is in no task's guard.
    fn forbidden_page() -> *mut u8 {
        // SAFETY: a new private mapping.
        let page =
            unsafe { libc::mmap(ptr::null_mut(), PAGE_BYTES, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        assert_ne!(page, libc::MAP_FAILED);
        page.cast()
    }

    fn set_handler(handler: libc::sighandler_t, flags: libc::c_int) {
        let mut action = default_action();
        action.sa_sigaction = handler;
        action.sa_flags = flags;
        // SAFETY: the tests below pass handlers whose signatures fit their flags.
        let result = unsafe { libc::sigaction(libc::SIGSEGV, &action, ptr::null_mut()) };
        assert_eq!(result, 0);
    }

    /// Handles the fault: makes the page accessible, and spoils `errno`.
    unsafe extern "C" fn allow(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
        // SAFETY: the kernel's `siginfo_t`, and the page of `forbidden_page`.
        unsafe {
            libc::mprotect((*info).si_addr(), PAGE_BYTES, libc::PROT_READ | libc::PROT_WRITE);
            *libc::__errno_location() = libc::EIO;
        }
    }

    #[test]
    fn a_foreign_fault_reaches_the_previous_handler_and_keeps_errno() {
        const TEST: &str = concat!(module_path!(), "::a_foreign_fault_reaches_the_previous_handler_and_keeps_errno");
        let Some(output) = child::run(TEST) else {
            set_handler(allow as *const () as usize, libc::SA_SIGINFO);
            install(find_task);
            let page = forbidden_page();
            // SAFETY: `allow` makes the page writable.
            unsafe {
                *libc::__errno_location() = libc::EXDEV;
                page.write_volatile(5);
                assert_eq!(*libc::__errno_location(), libc::EXDEV);
                assert_eq!(page.read_volatile(), 5);
            }
            return;
        };
        child::assert_passed(&output);
    }

    unsafe extern "C" fn exit_with_the_signal(signal: libc::c_int) {
        // SAFETY: ends the process.
        unsafe { libc::_exit(100 + signal) };
    }

    #[test]
    fn a_previous_handler_of_the_plain_kind_gets_the_signal() {
        let Some(output) = child::run(concat!(module_path!(), "::a_previous_handler_of_the_plain_kind_gets_the_signal")) else {
            set_handler(exit_with_the_signal as *const () as usize, 0);
            install(find_task);
            // SAFETY: faults, and the handler exits.
            unsafe { forbidden_page().write_volatile(5) };
            unreachable!("the handler exits");
        };
        assert_eq!(output.status.code(), Some(100 + libc::SIGSEGV));
    }

    fn foreign_fault_kills(test: &str, previous: libc::sighandler_t, fault: fn()) {
        let Some(output) = child::run(test) else {
            set_handler(previous, 0);
            install(find_task);
            fault();
            unreachable!("the fault ends the process");
        };
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn touch() {
        // SAFETY: faults, and ends the process.
        unsafe { forbidden_page().write_volatile(5) };
    }

    fn send() {
        // SAFETY: raising a signal has no memory contract.
        unsafe { libc::raise(libc::SIGSEGV) };
    }

    #[test]
    fn a_foreign_fault_takes_the_default_action() {
        let test = concat!(module_path!(), "::a_foreign_fault_takes_the_default_action");
        foreign_fault_kills(test, libc::SIG_DFL, touch);
    }

    #[test]
    fn a_foreign_fault_cannot_be_ignored() {
        let test = concat!(module_path!(), "::a_foreign_fault_cannot_be_ignored");
        foreign_fault_kills(test, libc::SIG_IGN, touch);
    }

    #[test]
    fn a_signal_that_was_sent_takes_the_default_action() {
        let test = concat!(module_path!(), "::a_signal_that_was_sent_takes_the_default_action");
        foreign_fault_kills(test, libc::SIG_DFL, send);
    }

    #[test]
    fn the_second_install_leaves_a_later_handler_in_place() {
        let Some(output) = child::run(concat!(module_path!(), "::the_second_install_leaves_a_later_handler_in_place")) else {
            install(find_task);
            set_handler(exit_with_the_signal as *const () as usize, 0);
            install(find_task);
            touch();
            unreachable!("the handler exits");
        };
        assert_eq!(output.status.code(), Some(100 + libc::SIGSEGV));
    }
}
