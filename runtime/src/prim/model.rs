//! loom's primitives under the names that the rest of the crate uses, and stand-ins for what loom
//! does not model.
//!
//! Inside a model every thread is a coroutine of loom's, all on one OS thread. Before each
//! operation on an atomic or a lock, loom decides which of them goes on. The runtime's tasks are
//! real coroutines on top of those. A task that loom interrupts leaves its stack in the middle,
//! like a machine that the kernel interrupts, and nothing else in the runtime needs to know.
//!
//! What a green model does **not** prove: that crossbeam's deque is right ([`deque`] stands in for
//! it); that the futex is right ([`Parker`] has its state machine, and loom's blocking); anything
//! about time, the monitor, signals, or memory that is given back. Also, all threads see what
//! [`untracked`](super::untracked) holds in one order.

pub(crate) mod deque;
mod lock;
mod parker;

pub(crate) use lock::{Lock, LockGuard};
pub(crate) use loom::{lazy_static, thread_local};
pub(crate) use parker::Parker;

pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

pub(crate) mod sync {
    pub(crate) use loom::sync::{Arc, Mutex};
}

pub(crate) mod cell {
    pub(crate) use loom::cell::UnsafeCell;
}

/// A clock that only a model advances, by far more than its executions take. No wait notices that
/// by itself; see [`Parker::park_until`].
pub(crate) fn now() -> std::time::Instant {
    std::time::Instant::now() + clock::PASSED.get()
}

/// None: what a model does must not depend on how long it takes.
pub(crate) fn measured_now() -> Option<std::time::Instant> {
    None
}

pub(crate) mod clock {
    use std::cell::Cell;
    use std::time::Duration;

    std::thread_local! {
        /// Belongs to the OS thread, which runs one model.
        pub(super) static PASSED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(crate) fn pass(time: Duration) {
        PASSED.set(PASSED.get() + time);
    }
}

pub(crate) mod thread {
    use std::cell::Cell;
    use std::io;

    pub(crate) use loom::thread::{JoinHandle, Thread, current, park, yield_now};

    /// A machine's own stack: room for the scheduler, and for a message when a model fails.
    const STACK_WORDS: usize = 1 << 14;

    /// Time stands still in a model: only a limit of zero ends the wait by time.
    pub(crate) fn park_timeout(limit: std::time::Duration) {
        if !limit.is_zero() {
            park();
        }
    }

    /// One order is as good as another: a model tries all schedules.
    pub(crate) fn random() -> u64 {
        0
    }

    /// Starts a thread of the model, which must end for the model to end.
    pub(crate) fn start(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        loom::thread::Builder::new().name(name).stack_size(STACK_WORDS).spawn(f)
    }

    /// The same for a thread of user code.
    pub(crate) fn start_plain(name: String, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        start(name, f)
    }

    pub(crate) fn stay_for_ever() -> ! {
        loop {
            park();
        }
    }

    pub(crate) fn stay_on_core(_index: usize) -> bool {
        true
    }

    loom::thread_local! {
        static UNWINDINGS: Cell<usize> = Cell::new(0);
    }

    /// The number of this plain thread, from the same sequence as the numbers of tasks. Zero for a
    /// thread that is ending and has given its own back.
    pub(crate) fn number() -> u64 {
        loom::thread_local! {
            static NUMBER: u64 = crate::sys::number::take_ids(1);
        }
        NUMBER.try_with(|number| *number).unwrap_or(0)
    }

    /// Part of a cancellation's payload: as long as it lives, the model's thread that made it
    /// unwinds.
    ///
    /// std counts unwindings per OS thread, and so for all threads of a model together. The payload
    /// lives from the raise until the code that caught it drops it. That is on the same thread,
    /// since started tasks stay there. So this counts what std would. Panics other than
    /// cancellations are not counted; in a model they are failures.
    pub(crate) struct Unwinding(());

    impl Unwinding {
        pub(crate) fn begin() -> Self {
            UNWINDINGS.with(|count| count.set(count.get() + 1));
            Self(())
        }
    }

    impl Drop for Unwinding {
        fn drop(&mut self) {
            UNWINDINGS.with(|count| count.set(count.get() - 1));
        }
    }

    pub(crate) fn panicking() -> bool {
        UNWINDINGS.with(Cell::get) > 0
    }

    pub(crate) fn raise(payload: Box<dyn std::any::Any + Send>) -> ! {
        std::panic::resume_unwind(payload)
    }
}

/// Nobody waits in a panic hook: in a model, a panic is a failure.
pub(crate) mod panic_count {
    pub(crate) fn hide() -> bool {
        false
    }

    pub(crate) fn show() {}
}

/// A model cannot tell how many threads there are, and never forks.
pub(crate) mod process {
    pub(crate) fn made_here(_number: u64) -> bool {
        true
    }

    pub(crate) fn is_forked() -> bool {
        false
    }

    pub(crate) fn watch_forks(_begin_child: fn()) {}

    pub(crate) fn count_threads() -> Option<usize> {
        None
    }

    pub(crate) fn handles_signals() -> bool {
        true
    }
}

/// Which machine a thread of the model is.
pub(crate) mod local {
    use std::cell::Cell;
    use std::ptr::null;

    loom::thread_local! {
        static MACHINE: Cell<*const ()> = Cell::new(null());
    }

    pub(crate) fn get() -> *const () {
        // A thread that is ending is no longer a machine.
        MACHINE.try_with(Cell::get).unwrap_or(null())
    }

    pub(crate) fn set(machine: *const ()) {
        MACHINE.with(|cell| cell.set(machine));
    }
}

/// Something that others may touch only while it lives. Each touch reads a cell that loom watches,
/// and the end writes it.
///
/// So a touch that is not ordered before the end fails the model, even if the memory happens to be
/// still there.
pub(crate) struct Alive {
    cell: cell::UnsafeCell<()>,
    ended: std::sync::atomic::AtomicBool,
}

// SAFETY: the cell holds nothing; it exists so that loom reports accesses that are not ordered.
unsafe impl Sync for Alive {}

impl Alive {
    pub(crate) fn new() -> Self {
        Self { cell: cell::UnsafeCell::new(()), ended: false.into() }
    }

    pub(crate) fn touch(&self) {
        assert!(!self.ended.load(std::sync::atomic::Ordering::Relaxed), "touched after its end");
        self.cell.with(|_| ());
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.cell.with_mut(|_| ());
        self.ended.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

pub(crate) fn search_pause(_came: impl Fn() -> bool) {}

/// Lets another thread of the model move before this one goes on.
pub(crate) fn back_off() {
    loom::thread::yield_now();
}
