//! std's primitives under the names that the rest of the crate uses.

pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
}

pub(crate) mod sync {
    pub(crate) use std::sync::{Arc, Mutex, MutexGuard};
}

/// The clock that the whole runtime uses.
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
    /// `std::cell::UnsafeCell` in the shape of loom's, whose accesses are closures so that it can
    /// watch their extent.
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

/// The one thread-local of the runtime: which machine this thread is.
pub(crate) mod local {
    use std::cell::Cell;

    thread_local! {
        static MACHINE: Cell<*const ()> = const { Cell::new(std::ptr::null()) };
    }

    // Never inlined: LLVM may keep a thread-local's address across a call that it can see through,
    // and a call that suspends is one. Tasks stay on their thread, so today that would be harmless;
    // migratable tasks will not stay.
    #[inline(never)]
    pub(crate) fn get() -> *const () {
        MACHINE.get()
    }

    pub(crate) fn set(machine: *const ()) {
        MACHINE.set(machine);
    }
}

pub(crate) use std::thread_local;

pub(crate) use crate::sys::lock::{Lock, LockGuard};
pub(crate) use crate::sys::parker::Parker;
pub(crate) use crate::sys::{panic_count, process, thread};

/// Called by a thread that can go on only after another thread's next step.
#[cold]
pub(crate) fn back_off() {
    std::thread::yield_now();
}

/// The pause of a searching machine between two rounds. It ends early if something comes that needs
/// no search.
pub(crate) fn search_pause(came: impl Fn() -> bool) {
    for _ in 0..16 {
        if came() {
            return;
        }
        std::hint::spin_loop();
    }
}
