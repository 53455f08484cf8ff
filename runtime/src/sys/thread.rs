//! OS threads: how they are started, and what each has of its own.

use std::cell::Cell;
use std::io;
pub(crate) use std::thread::{JoinHandle, Thread, current, park, park_timeout, yield_now};

use crate::sys::number::{next_random, take_ids};
use crate::sys::process;
use crate::sys::stderr::say;

/// The number of this plain thread, from the same sequence as the numbers of tasks. Zero for a
/// thread that is ending and has given its own back.
pub(crate) fn number() -> u64 {
    thread_local! {
        static NUMBER: u64 = take_ids(1);
    }
    NUMBER.try_with(|number| *number).unwrap_or(0)
}

/// A random number, from this plain thread's own generator.
pub(crate) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new((number() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
    STATE.try_with(next_random).unwrap_or(1)
}

/// Starts an OS thread of the scheduler: a machine or a monitor.
///
/// Tasks catch their own panics. A panic that gets here is the scheduler's. Anything that waits for
/// this thread would wait forever, so the panic ends the process.
///
/// # Errors
/// As [`start_plain`].
pub(crate) fn start(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    start_plain(name, || abort_on_unwind(f))
}

/// Starts an OS thread for user code, which handles its own panics.
///
/// # Errors
/// If the system cannot provide the thread; the message says which limit to look at.
pub(crate) fn start_plain(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.clone()).spawn(f).map_err(|error| {
        // The C library returns EAGAIN, whichever of the two is missing.
        let (what, look_at) = if has_room_for_a_stack() {
            (
                "there are as many threads as there may be",
                "RLIMIT_NPROC (ulimit -u), pids.max of the cgroup and kernel.threads-max",
            )
        } else {
            ("there is no memory for its stack", "RLIMIT_AS (ulimit -v), vm.overcommit_memory and vm.max_map_count")
        };
        io::Error::new(error.kind(), format!("cannot start the thread '{name}', since {what}: {error}. Look at {look_at}"))
    })
}

/// Whether there are addresses left for the stack of a thread.
fn has_room_for_a_stack() -> bool {
    /// std's default for a thread, unless `RUST_MIN_STACK` says more.
    const STACK_BYTES: usize = 2 << 20;
    let told = std::env::var("RUST_MIN_STACK").ok().and_then(|bytes| bytes.parse().ok());
    let bytes = told.unwrap_or(0).max(STACK_BYTES);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new private mapping at an address of the kernel's choice, which is unmapped again.
    unsafe {
        let start = libc::mmap(std::ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        start != libc::MAP_FAILED && libc::munmap(start, bytes) == 0
    }
}

fn abort_on_unwind(f: impl FnOnce()) {
    struct Abort;
    impl Drop for Abort {
        fn drop(&mut self) {
            let thread = current();
            say(format_args!(
                "greenloom: the scheduler's own thread '{}' panicked, which is a bug in greenloom. Its tasks could never \
                 run again: the process ends",
                thread.name().unwrap_or("without a name")
            ));
            std::process::abort();
        }
    }
    let abort = Abort;
    f();
    std::mem::forget(abort);
}

/// Calls `f` on a thread of its own, and waits for it; `None` if no thread can be started.
#[cfg(feature = "tracing")]
pub(crate) fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    std::thread::Builder::new().spawn(f).ok()?.join().ok()
}

/// Ends this thread's work, but not the thread: the stacks of tasks that cannot end stay with it.
/// It no longer counts among the process's threads.
pub(crate) fn stay_for_ever() -> ! {
    process::lose_thread();
    loop {
        park();
    }
}

/// Keeps this thread on one core, number `index` if there are so many. Returns false if the system
/// refuses.
pub(crate) fn stay_on_core(index: usize) -> bool {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    !cores.is_empty() && core_affinity::set_for_current(cores[index % cores.len()])
}

/// Whether this thread is unwinding, or holds a task that was suspended in the middle of an
/// unwinding.
#[inline(always)]
pub(crate) fn panicking() -> bool {
    std::thread::panicking()
}

/// Part of a cancellation's payload, by which a model counts unwindings. std keeps its own count.
pub(crate) struct Unwinding(());

impl Unwinding {
    pub(crate) fn begin() -> Self {
        Self(())
    }
}

/// Starts an unwinding without calling the panic hook.
pub(crate) fn raise(payload: Box<dyn std::any::Any + Send>) -> ! {
    std::panic::resume_unwind(payload)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use crate::sys::child;

    #[test]
    fn a_panic_of_the_scheduler_ends_the_process_with_a_sentence() {
        const TEST: &str = concat!(module_path!(), "::a_panic_of_the_scheduler_ends_the_process_with_a_sentence");
        let Some(output) = child::run(TEST) else {
            super::start("loom-7".to_owned(), || panic!("a bug")).unwrap();
            loop {
                std::thread::park();
            }
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
        assert!(text.contains("the scheduler's own thread 'loom-7' panicked"), "{text}");
    }
}
