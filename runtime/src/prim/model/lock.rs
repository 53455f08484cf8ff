//! The lock for short sections: loom's mutex. It lets other threads run until it is free, where the
//! real lock spins.

use std::ops::{Deref, DerefMut};

pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        LockGuard(self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

pub(crate) struct LockGuard<'a, T>(loom::sync::MutexGuard<'a, T>);

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
