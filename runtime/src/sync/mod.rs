//! Locks, conditions and similar primitives that suspend a waiting task and block a waiting plain
//! thread. Where std has the same primitive, the API is std's.
//!
//! All of them work between tasks and plain threads in any mix, with or without a runtime. Waiting
//! allocates nothing.
//!
//! **A guard from this module may be held across a suspension.** A guard from `std::sync` may not.
//! If another task of the same thread wants that lock, it blocks the thread forever, and with it
//! the task that holds the lock.
//!
//! A waiting task can be cancelled. It leaves the primitive as if it had never waited. If it is
//! given a lock, a permit or a notification meant for one waiter before it resumes, the next waiter
//! gets that instead, whether it came before or after the cancellation. Some waits end in a way
//! that cannot be passed on: a [`Barrier`] was passed, a [`WaitGroup`] is empty, an initialisation
//! is done. Such a wait returns, and the task is cancelled at its next suspension. Cancellation
//! poisons nothing in this module.

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
mod word;

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

// Unwinding leaves nothing here half done: locks report it by poisoning what they protect, and the
// rest holds no user value.
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

/// A `const fn` in a plain build. A plain `fn` in a model, because loom's primitives cannot be made
/// in a constant.
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

/// Formats guards as the value that they guard.
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

/// Formats a lock as std does. `locked` stands for the value while somebody else holds the lock.
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
