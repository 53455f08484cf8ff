//! Locks, conditions and the like that suspend the task that waits, and block a plain thread: std's shapes where std has them.
//!
//! All work between tasks and plain threads in any mix, with or without a runtime. Waiting allocates nothing.
//!
//! **A guard from here may be held across a suspension.** A guard of `std::sync` may not: another task of the same thread that wants
//! that lock blocks the thread, and with it the task that has the lock, for ever.
//!
//! A waiting task can be cancelled; it leaves the primitive as if it had never come. If it is given a lock, a permit or a notification
//! for one before it goes on, be it before or after the cancellation, that goes to the next. What is over and cannot be given back, a
//! [`Barrier`] that was passed, a [`WaitGroup`] that is empty, an initialisation that is done, lets it return; it is cancelled at
//! its next suspension then. Cancellation poisons nothing here.

mod barrier;
mod condvar;
mod lazy_lock;
mod mutex;
mod notify;
mod once;
mod once_lock;
mod poison;
mod rwlock;
mod semaphore;
mod value;
mod wait_group;

use std::fmt;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

pub use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

pub use barrier::{Barrier, BarrierWaitResult};
pub use condvar::{Condvar, WaitTimeoutResult};
pub use lazy_lock::LazyLock;
pub use mutex::{Mutex, MutexGuard};
pub use notify::Notify;
pub use once::{Once, OnceState};
pub use once_lock::OnceLock;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use semaphore::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit, TryAcquireError};
pub use wait_group::WaitGroup;

// Nothing here is left half done by an unwinding: locks tell by poisoning what they protect, the rest has no value of a user.
impl<T: ?Sized> UnwindSafe for Mutex<T> {}
impl<T: ?Sized> RefUnwindSafe for Mutex<T> {}
impl UnwindSafe for Condvar {}
impl RefUnwindSafe for Condvar {}
impl UnwindSafe for Barrier {}
impl RefUnwindSafe for Barrier {}
impl UnwindSafe for Semaphore {}
impl RefUnwindSafe for Semaphore {}
impl UnwindSafe for Notify {}
impl RefUnwindSafe for Notify {}
impl UnwindSafe for WaitGroup {}
impl RefUnwindSafe for WaitGroup {}

/// A `const fn` in a plain build; in a model just a `fn`, since loom's primitives cannot be made in a constant.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis const fn $($rest:tt)*) => {
        #[cfg(not(greenloom_loom))]
        $(#[$attribute])*
        $visibility const fn $($rest)*

        #[cfg(greenloom_loom)]
        $(#[$attribute])*
        $visibility fn $($rest)*
    };
}
use const_fn;

/// Guards are shown as what they guard.
macro_rules! shown_as_value {
    ($($guard:ident),+) => {$(
        impl<T: ?Sized + std::fmt::Debug> std::fmt::Debug for $guard<'_, T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                (**self).fmt(f)
            }
        }

        impl<T: ?Sized + std::fmt::Display> std::fmt::Display for $guard<'_, T> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                (**self).fmt(f)
            }
        }
    )+};
}
use shown_as_value;

/// As std shows its locks; `locked` stands for a value that another has.
fn debug_lock<G>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    guard: TryLockResult<G>,
    locked: &dyn fmt::Debug,
    poisoned: bool,
) -> fmt::Result
where
    G: Deref<Target: fmt::Debug>,
{
    let mut out = f.debug_struct(name);
    match guard {
        Ok(guard) => out.field("data", &&*guard),
        Err(TryLockError::Poisoned(error)) => out.field("data", &&**error.get_ref()),
        Err(TryLockError::WouldBlock) => out.field("data", locked),
    };
    out.field("poisoned", &poisoned).finish_non_exhaustive()
}
