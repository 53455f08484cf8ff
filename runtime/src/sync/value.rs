//! The cell for what a lock protects.

use std::cell::UnsafeCell;

/// An `UnsafeCell` that gives out its address, as references that live as long as a guard need it.
///
/// loom's cell knows accesses only in the extent of a closure. So in a model an access is announced where it begins, which shows
/// whether it is ordered behind those before it.
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
    /// The address. Whoever uses it has the lock.
    #[inline(always)]
    pub(super) fn get(&self) -> *mut T {
        self.cell.get()
    }

    pub(super) fn get_mut(&mut self) -> &mut T {
        self.cell.get_mut()
    }

    /// The caller has the value for reading.
    #[inline(always)]
    pub(super) fn announce_read(&self) {
        #[cfg(greenloom_loom)]
        self.watched.with(|_| ());
    }

    /// The caller has the value for itself.
    #[inline(always)]
    pub(super) fn announce_write(&self) {
        #[cfg(greenloom_loom)]
        self.watched.with_mut(|_| ());
    }
}
