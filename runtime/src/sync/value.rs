//! The cell for the value that a lock protects.

use std::cell::UnsafeCell;

/// An `UnsafeCell` that hands out its address, because a guard needs references that live as long
/// as the guard.
///
/// loom's cell tracks an access only within a closure. In a model, an access is therefore announced
/// where it begins, which checks that it is ordered after earlier accesses.
pub(super) struct Value<T: ?Sized> {
    #[cfg(greenloom_loom)]
    watched: crate::prim::cell::UnsafeCell<()>,
    cell: UnsafeCell<T>,
}

impl<T> Value<T> {
    super::const_fn! {
        pub(super) const fn new(value: T) -> Self {
            Self {
                #[cfg(greenloom_loom)]
                watched: crate::prim::cell::UnsafeCell::new(()),
                cell: UnsafeCell::new(value),
            }
        }
    }

    pub(super) fn into_inner(self) -> T {
        self.cell.into_inner()
    }
}

impl<T: ?Sized> Value<T> {
    /// The address. Only a holder of the lock may use it.
    #[inline(always)]
    pub(super) fn get(&self) -> *mut T {
        self.cell.get()
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.cell.get_mut()
    }

    /// The caller holds the value for reading.
    #[inline(always)]
    pub(super) fn announce_read(&self) {
        #[cfg(greenloom_loom)]
        self.watched.with(|_| ());
    }

    /// The caller holds the value exclusively.
    #[inline(always)]
    pub(super) fn announce_write(&self) {
        #[cfg(greenloom_loom)]
        self.watched.with_mut(|_| ());
    }
}
