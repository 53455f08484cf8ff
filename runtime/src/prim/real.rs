//! std's primitives under the names that the rest of the crate uses.

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

pub(crate) mod sync {
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
}

/// The clock that all of the runtime goes by.
#[inline(always)]
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

/// The time, for decisions that depend on how long something took.
pub(crate) fn measured_now() -> Option<std::time::Instant> {
    Some(now())
}

pub(crate) mod deque {
    pub(crate) use crossbeam_deque::{Injector, Steal, Stealer, Worker};
}

pub(crate) mod cell {
    /// `std::cell::UnsafeCell` in the shape of loom's, whose accesses are closures so that it can watch their extent.
    #[derive(Debug)]
    #[repr(transparent)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        #[inline(always)]
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

pub(crate) mod thread {
    use std::io;
    pub(crate) use std::thread::{JoinHandle, Thread, current, park, park_timeout, yield_now};

    /// The number of this plain thread, from those of the tasks. Zero for a thread that is ending and has given its own back.
    pub(crate) fn number() -> u64 {
        thread_local! {
            static NUMBER: u64 = crate::prim::take_ids(1);
        }
        NUMBER.try_with(|number| *number).unwrap_or(0)
    }

    /// A random number, from a generator of this plain thread's own.
    pub(crate) fn random() -> u64 {
        thread_local! {
            static STATE: std::cell::Cell<u64> = std::cell::Cell::new((number() + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        }
        STATE.try_with(crate::prim::next_random).unwrap_or(1)
    }

    /// Starts an OS thread of the scheduler: a machine or a monitor.
    ///
    /// Tasks catch their own panics. One that gets here is the scheduler's: whatever waits for this thread would wait for ever, so it
    /// ends the process.
    ///
    /// # Errors
    /// As [`start_plain`].
    pub(crate) fn start(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        start_plain(name, || abort_on_unwind(f))
    }

    /// Starts an OS thread for a user's code, whose panic is its own affair.
    ///
    /// # Errors
    /// If the system has no thread for it; the message says which limit to look at.
    pub(crate) fn start_plain(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name(name.clone()).spawn(f).map_err(|error| {
            // The C library says EAGAIN, whichever of the two is missing.
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

    /// Whether addresses for the stack of a thread can be had.
    fn has_room_for_a_stack() -> bool {
        /// std's default for a thread, unless this variable says more.
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
                crate::prim::say(format_args!(
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

    /// Calls `f` on a thread of its own, and waits for it; `None` if there is no thread to be had.
    #[cfg(feature = "tracing")]
    pub(crate) fn elsewhere<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        std::thread::Builder::new().spawn(f).ok()?.join().ok()
    }

    /// Ends what this thread does, though not the thread: the stacks of tasks that cannot end stay with it. It is not counted any more
    /// among the process's.
    pub(crate) fn stay_for_ever() -> ! {
        super::process::lose_thread();
        loop {
            park();
        }
    }

    /// Makes this thread one that tasks run on: overflows of their stacks are reported, as long as the result lives; with `core`,
    /// it stays on one core, the one of that number if there are so many.
    pub(crate) fn prepare_machine(core: Option<usize>) -> impl Sized {
        if let Some(index) = core
            && let Some(cores) = core_affinity::get_core_ids()
            && !cores.is_empty()
        {
            core_affinity::set_for_current(cores[index % cores.len()]);
        }
        crate::stack::watch::this_thread()
    }

    /// Whether this thread is unwinding, or holds a task that was suspended in the middle of an unwinding.
    #[inline(always)]
    pub(crate) fn panicking() -> bool {
        std::thread::panicking()
    }

    /// Part of a cancellation's payload, by which a model counts unwindings. std counts for itself.
    pub(crate) struct Unwinding(());

    impl Unwinding {
        pub(crate) fn begin() -> Self {
            Self(())
        }
    }

    /// Starts an unwinding that no panic hook hears of.
    pub(crate) fn raise(payload: Box<dyn std::any::Any + Send>) -> ! {
        std::panic::resume_unwind(payload)
    }
}

pub(crate) mod process;

/// The one thread-local of the runtime: which machine this thread is.
pub(crate) mod local {
    use std::cell::Cell;

    thread_local! {
        static MACHINE: Cell<*const ()> = const { Cell::new(std::ptr::null()) };
    }

    // Never inlined: LLVM may keep a thread-local's address across a call that it can see through, and a call that suspends is
    // one. Tasks stay on their thread, so today that would be harmless; migratable tasks will not.
    #[inline(never)]
    pub(crate) fn get() -> *const () {
        MACHINE.get()
    }

    pub(crate) fn set(machine: *const ()) {
        MACHINE.set(machine);
    }
}

pub(crate) use std::thread_local;

mod futex;
pub(crate) mod hook;
mod lock;
pub(crate) use futex::Parker;
pub(crate) use lock::{Lock, LockGuard};

/// Every this many picks a processor looks at what it would otherwise reach last (Go's figure; a prime, so that it does not beat
/// with periodic programs).
pub(crate) const FAIR_EVERY: u32 = 61;

/// Rounds of looking around before an idle machine sleeps; a round is a few hundred nanoseconds.
pub(crate) const SEARCH_ROUNDS: u32 = 128;

/// What is left of them after searches that found nothing.
pub(crate) const LEAST_SEARCH_ROUNDS: u32 = 16;

/// What a thread does that can go on only after another thread's next step.
#[cold]
pub(crate) fn back_off() {
    std::thread::yield_now();
}

/// What a searching machine does between two rounds, unless something comes that it need not search for.
pub(crate) fn search_pause(came: impl Fn() -> bool) {
    for _ in 0..16 {
        if came() {
            return;
        }
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use crate::stack::overflow::child;

    #[test]
    fn a_panic_of_the_scheduler_ends_the_process_with_a_sentence() {
        const TEST: &str = concat!(module_path!(), "::a_panic_of_the_scheduler_ends_the_process_with_a_sentence");
        let Some(output) = child::run(TEST) else {
            super::thread::start("loom-7".to_owned(), || panic!("a bug")).unwrap();
            loop {
                std::thread::park();
            }
        };
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
        assert!(text.contains("the scheduler's own thread 'loom-7' panicked"), "{text}");
    }

    #[test]
    fn the_threads_of_a_process_are_counted_whatever_its_name() {
        const TEST: &str = concat!(module_path!(), "::the_threads_of_a_process_are_counted_whatever_its_name");
        let Some(output) = child::run(TEST) else {
            for name in ["plain", "a) S 1 2 (b", "))"] {
                std::fs::write(format!("/proc/self/task/{}/comm", std::process::id()), name).unwrap();
                let before = super::process::count_threads().unwrap();
                let (release, wait) = std::sync::mpsc::channel::<()>();
                let thread = std::thread::spawn(move || wait.recv());
                assert_eq!(super::process::count_threads(), Some(before + 1), "{name}");
                drop(release);
                let _ = thread.join();
            }
            return;
        };
        child::assert_passed(&output);
    }

    #[test]
    fn the_lock_excludes_and_lets_go_also_under_contention_and_unwinding() {
        let lock = std::sync::Arc::new(super::Lock::new(0_u64));
        let threads = [(); 4].map(|()| {
            let lock = lock.clone();
            std::thread::spawn(move || {
                for i in 0..2000 {
                    let mut value = lock.lock();
                    let seen = *value;
                    if i % 100 == 0 {
                        // Whoever waits gives its CPU away meanwhile.
                        std::thread::yield_now();
                    }
                    *value = seen + 1;
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = lock.lock();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panics.is_err());
        assert_eq!(*lock.lock(), 8000);
    }
}
