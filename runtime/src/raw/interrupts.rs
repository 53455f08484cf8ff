//! What may end a task's code early, and what defers that.

use std::cell::Cell;
use std::ptr::null;

use crate::raw::cancel_scope::CancelScope;

/// Only the task or thread itself uses this.
pub(crate) struct Interrupts {
    /// The innermost frame that may be unwound to; null if there is none.
    pub(crate) scope: Cell<*const CancelScope>,
    /// How many `uncancellable` sections the code is in: nothing outside them may end them.
    pub(crate) uncancellable: Cell<u32>,
    /// How many sections of any kind the code is in.
    pub(crate) sections: Cell<u32>,
    /// The number of the unwinding that was raised last, as long as its payload lives; otherwise
    /// zero.
    pub(crate) unwinding: Cell<u32>,
    /// How many unwindings have been raised.
    pub(crate) raises: Cell<u32>,
    /// How often the task's cancellation was raised.
    pub(crate) cancellations: Cell<u32>,
    /// Whether it has been reported that cancellations are swallowed.
    pub(crate) reported: Cell<bool>,
}

impl Interrupts {
    pub(crate) const fn new() -> Self {
        Self {
            scope: Cell::new(null()),
            uncancellable: Cell::new(0),
            sections: Cell::new(0),
            unwinding: Cell::new(0),
            raises: Cell::new(0),
            cancellations: Cell::new(0),
            reported: Cell::new(false),
        }
    }

    /// Whether the code is in any section.
    #[inline(always)]
    pub(crate) fn is_in_section(&self) -> bool {
        self.sections.get() != 0
    }

    /// Resets this when the task has ended.
    #[inline]
    pub(crate) fn reset(&self) {
        debug_assert!(!self.is_in_section() && self.scope.get().is_null() && self.uncancellable.get() == 0);
        self.unwinding.set(0);
        self.cancellations.set(0);
        self.reported.set(false);
    }
}
