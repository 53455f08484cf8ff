//! The reader-writer lock. [`raw`] describes its protocol.

mod guard;
mod raw;

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::{LockResult, TryLockError, TryLockResult};

use self::raw::Raw;
use super::const_fn;
use super::poison::Flag;
use super::value::Value;
use crate::wait;

pub use guard::{RwLockReadGuard, RwLockWriteGuard};

/// A lock that many readers or one writer may hold. It suspends a waiting task and blocks a waiting
/// plain thread. The API is that of [`std::sync::RwLock`].
///
/// Its guards may be held across a suspension. Readers and writers take turns, so that neither
/// starves: a reader that arrives while a writer waits has to wait until that writer is done. A
/// task that already reads and reads again may therefore wait forever.
///
/// A panic while a guard for writing is held poisons the lock, as in std. Unwinding from a
/// cancellation does not.
///
/// ```
/// use greenloom::sync::RwLock;
///
/// let lock = RwLock::new(5);
/// {
///     let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
///     assert_eq!(*one + *other, 10);
/// }
/// *lock.write().unwrap() += 1;
/// assert_eq!(*lock.read().unwrap(), 6);
/// ```
pub struct RwLock<T: ?Sized> {
    raw: Raw,
    poison: Flag,
    value: Value<T>,
}

// SAFETY: the lock gives the value to one writer at a time, on any thread.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: the lock gives the value to one writer at a time, on any thread, or to several readers on
// several threads.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

impl<T> RwLock<T> {
    const_fn! {
        /// Creates an unlocked lock around `value`.
        ///
        /// ```
        /// static LIMIT: greenloom::sync::RwLock<u64> = greenloom::sync::RwLock::new(10);
        /// assert_eq!(*LIMIT.read().unwrap(), 10);
        /// ```
        pub const fn new(value: T) -> Self {
            Self { raw: Raw::new(), poison: Flag::new(), value: Value::new(value) }
        }
    }

    /// Takes the value out. Never waits.
    ///
    /// # Errors
    /// Fails if the lock is poisoned. The value is in the error.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::RwLock::new(1).into_inner().unwrap(), 1);
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.wrap(self.value.into_inner())
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading, waiting until no writer holds it or waits for it.
    ///
    /// Suspends the task until then; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the lock is poisoned. The guard is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait. Panics if there are more
    /// readers than can be counted.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here, without the lock, if it has to wait.
    ///
    /// ```
    /// assert_eq!(*greenloom::sync::RwLock::new(1).read().unwrap(), 1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        self.raw.read();
        self.poison.wrap(RwLockReadGuard::new(self))
    }

    /// Takes the lock for reading if no writer holds it or waits for it. Does not wait, but a
    /// failed attempt may [give way](crate#what-suspends).
    ///
    /// # Errors
    /// Fails if a writer holds the lock or waits for it, or if the lock is poisoned. If it is
    /// poisoned, the guard is in the error.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// let guard = lock.write().unwrap();
    /// assert!(lock.try_read().is_err());
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        let guard = self.attempt_read();
        if let Err(TryLockError::WouldBlock) = guard {
            wait::yield_if_hogging();
        }
        guard
    }

    /// Like [`try_read`](Self::try_read), without giving way.
    #[inline]
    fn attempt_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !self.raw.try_read() {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(RwLockReadGuard::new(self))?)
    }

    /// Takes the lock for writing, waiting until it is free and it is the caller's turn.
    ///
    /// Suspends the task until then; blocks a plain thread. Never returns to a task that already
    /// holds the lock.
    ///
    /// # Errors
    /// Fails if the lock is poisoned. The guard is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here, without the lock, if it has to wait.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// *lock.write().unwrap() = 2;
    /// ```
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        self.raw.write();
        self.poison.wrap(RwLockWriteGuard::new(self))
    }

    /// Takes the lock for writing if it is free. Does not wait, but a failed attempt may [give
    /// way](crate#what-suspends).
    ///
    /// # Errors
    /// Fails if the lock is not free or is poisoned. If it is poisoned, the guard is in the error.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// let guard = lock.read().unwrap();
    /// assert!(lock.try_write().is_err());
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if !self.raw.try_write() {
            wait::yield_if_hogging();
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(RwLockWriteGuard::new(self))?)
    }

    /// Returns whether a writer has panicked. A hint, unless the caller holds the lock. Never
    /// waits.
    ///
    /// ```
    /// assert!(!greenloom::sync::RwLock::new(1).is_poisoned());
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Clears the poison that a panicking writer left. Never waits.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// lock.clear_poison();
    /// assert!(lock.write().is_ok());
    /// ```
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// Returns the value mutably. Nobody else can hold the lock. Never waits.
    ///
    /// # Errors
    /// Fails if the lock is poisoned. The reference is in the error.
    ///
    /// ```
    /// let mut lock = greenloom::sync::RwLock::new(1);
    /// *lock.get_mut().unwrap() = 2;
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.wrap(self.value.get_mut())
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::debug_lock(f, "RwLock", self.attempt_read(), &format_args!("<locked>"), self.is_poisoned())
    }
}
