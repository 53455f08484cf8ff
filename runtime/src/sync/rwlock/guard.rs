//! The guards of a reader-writer lock.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::RwLock;
use super::raw::Raw;
use crate::sync::poison::{Flag, Made};
use crate::sync::shown_as_value;

/// Shared access to the value that an [`RwLock`] protects. Unlocks the lock when dropped.
///
/// It may be held across a suspension. It stays on its thread, like std's guard.
#[must_use = "the lock is given back at once if its guard is not kept"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized + 'a> {
    /// Does not go through the lock, because that would make the guard invariant in `T`. A guard
    /// that only reads may shorten the lifetimes in `T`.
    value: NonNull<T>,
    raw: &'a Raw,
}

/// Exclusive access to the value that an [`RwLock`] protects. Unlocks the lock when dropped.
///
/// It may be held across a suspension. It stays on its thread, like std's guard.
#[must_use = "the lock is given back at once if its guard is not kept"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    made: Made,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: a shared guard gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// The caller has taken the lock for reading and passes it to the guard.
    #[inline(always)]
    pub(super) fn new(lock: &'a RwLock<T>) -> Self {
        lock.value.announce_read();
        // SAFETY: the address of a cell is not null.
        let value = unsafe { NonNull::new_unchecked(lock.value.get()) };
        Self { value, raw: &lock.raw }
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// The caller has taken the lock for writing and passes it to the guard.
    #[inline(always)]
    pub(super) fn new(lock: &'a RwLock<T>) -> Self {
        lock.value.announce_write();
        Self { lock, made: Flag::enter(), _not_send: PhantomData }
    }

    /// Turns a guard for writing into one for reading. No other writer holds the lock in between.
    /// Never waits.
    ///
    /// Waiting readers are let in as well. A waiting writer is next after them.
    ///
    /// ```
    /// use greenloom::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut writing = lock.write().unwrap();
    /// *writing = 2;
    /// let reading = RwLockWriteGuard::downgrade(writing);
    /// assert_eq!(*reading, 2);
    /// assert!(lock.try_read().is_ok() && lock.try_write().is_err());
    /// ```
    pub fn downgrade(s: Self) -> RwLockReadGuard<'a, T> {
        // This does not release the lock, and does not poison it.
        let lock = ManuallyDrop::new(s).lock;
        lock.raw.downgrade();
        RwLockReadGuard::new(lock)
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for reading, so nobody writes. It borrows the lock, so
        // the value is alive.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for writing, and with it the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock for writing, and with it the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.raw.unlock_read();
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(self.made);
        self.lock.raw.unlock_write();
    }
}

shown_as_value!(RwLockReadGuard, RwLockWriteGuard);
