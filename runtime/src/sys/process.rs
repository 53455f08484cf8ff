//! Facts about the process: whether it was forked, and, on Linux, what the system says of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use crate::sys::number::take_ids;

/// The process's number, from [`take_ids`]. What was made in this process has a greater number.
/// Zero in a process that was not forked.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// What the runtime does in a child.
static BEGIN_CHILD: OnceLock<fn()> = OnceLock::new();

/// Whether the object with this number was made in this process, and not in one that it was forked
/// from.
#[inline]
pub(crate) fn made_here(number: u64) -> bool {
    // Relaxed: it changes only while the process has one thread.
    number >= NUMBER.load(Ordering::Relaxed)
}

/// Whether the process was forked from one that had used this crate.
pub(crate) fn is_forked() -> bool {
    NUMBER.load(Ordering::Relaxed) != 0
}

/// Calls `begin_child` in each process that is forked from this one from now on, on its only
/// thread. Only the first call does anything.
///
/// This covers children of libc's `fork`. A child made by `vfork` or by a bare system call is
/// expected to `exec`.
pub(crate) fn watch_forks(begin_child: fn()) {
    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<unsafe extern "C" fn()>,
            parent: Option<unsafe extern "C" fn()>,
            child: Option<unsafe extern "C" fn()>,
        ) -> libc::c_int;
    }
    unsafe extern "C" fn in_child() {
        NUMBER.store(take_ids(1), Ordering::Relaxed);
        LOST.store(0, Ordering::Relaxed);
        if let Some(begin_child) = BEGIN_CHILD.get() {
            begin_child();
        }
    }
    if BEGIN_CHILD.set(begin_child).is_ok() {
        // If there is no memory for it, nobody is told of forks.
        // SAFETY: the signature is POSIX's, and the function stays valid.
        unsafe { pthread_atfork(None, None, Some(in_child)) };
    }
}

/// A value that each process makes for itself. The parent's value is left as it was: threads that
/// do not exist here may hold its locks.
pub(crate) struct PerProcess<T: 'static>(AtomicPtr<Made<T>>);

struct Made<T> {
    number: u64,
    value: T,
}

impl<T: Sync> PerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The value, made by the first caller in this process.
    #[inline]
    pub(crate) fn get(&self, new: fn() -> T) -> &'static T {
        // Acquire: pairs with the Release in `make`.
        let made = self.0.load(Ordering::Acquire);
        // SAFETY: null, or from `make`, which leaks it.
        match unsafe { made.as_ref() } {
            Some(made) if made_here(made.number) => &made.value,
            _ => self.make(made, new),
        }
    }

    #[cold]
    fn make(&self, old: *mut Made<T>, new: fn() -> T) -> &'static T {
        let made = Box::into_raw(Box::new(Made { number: take_ids(1), value: new() }));
        // Release: pairs with the Acquire in `get`, and with the Acquire of this exchange.
        match self.0.compare_exchange(old, made, Ordering::Release, Ordering::Acquire) {
            // SAFETY: leaked, since it is reached from a static.
            Ok(_) => unsafe { &(*made).value },
            Err(other) => {
                // SAFETY: `made` was made above, and nobody else knows it; `other` was leaked in
                // the same way.
                unsafe {
                    drop(Box::from_raw(made));
                    &(*other).value
                }
            }
        }
    }
}

/// The number of our threads that will never do anything again.
static LOST: AtomicUsize = AtomicUsize::new(0);

/// Notes that the calling thread is about to sleep forever.
pub(super) fn lose_thread() {
    // Relaxed: the thread wakes nobody afterwards, so it may be counted as still at work.
    LOST.fetch_add(1, Ordering::Relaxed);
}

/// The number of the process's threads that may still do something; `None` if the system does not
/// tell.
///
/// Linux tells exactly, by its own count. (A listing of `/proc/self/task` may miss some threads
/// while another one ends.)
pub(crate) fn count_threads() -> Option<usize> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name, in parentheses, is the second field and may hold anything; the number of threads is
    // field 20 (proc_pid_stat(5)).
    let all: usize = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(17)?.parse().ok()?;
    // Threads that are lost by now were there when the system counted, since none of them ends.
    Some(all - LOST.load(Ordering::Relaxed))
}

/// Whether a signal from elsewhere may make a thread of this process do something, because the user
/// has installed a handler.
///
/// Handlers of faults, including ours, do not count: those signals come from what the thread does
/// itself. Nor do handlers of the C library's own two signals.
pub(crate) fn handles_signals() -> bool {
    const FAULTS: &[i32] = &[libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];
    const OF_LIBC: &[i32] = &[32, 33];
    let bit = |signal: &i32| 1u64 << (signal - 1);
    let harmless: u64 = FAULTS.iter().chain(OF_LIBC).map(bit).sum();
    caught_signals().is_none_or(|caught| caught & !harmless != 0)
}

/// The set of signals that have a handler, from the lowest bit on.
fn caught_signals() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let set = status.lines().find_map(|line| line.strip_prefix("SigCgt:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::child;

    #[test]
    fn the_system_tells_of_threads_and_of_handlers() {
        assert!(count_threads().is_some_and(|threads| threads >= 1));
        // std's own handler, for overflows of threads' stacks.
        assert!(caught_signals().is_some_and(|caught| caught & (1 << (libc::SIGSEGV - 1)) != 0));
    }

    #[test]
    fn the_threads_of_a_process_are_counted_whatever_its_name() {
        const TEST: &str = concat!(module_path!(), "::the_threads_of_a_process_are_counted_whatever_its_name");
        let Some(output) = child::run(TEST) else {
            for name in ["plain", "a) S 1 2 (b", "))"] {
                std::fs::write(format!("/proc/self/task/{}/comm", std::process::id()), name).unwrap();
                let before = count_threads().unwrap();
                let (release, wait) = std::sync::mpsc::channel::<()>();
                let thread = std::thread::spawn(move || wait.recv());
                assert_eq!(count_threads(), Some(before + 1), "{name}");
                drop(release);
                let _ = thread.join();
            }
            return;
        };
        child::assert_passed(&output);
    }
}
