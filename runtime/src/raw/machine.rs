//! The machine that a thread is, as far as it is known here: the scheduler knows the rest.

use std::cell::Cell;
use std::ptr::{dangling, null};

use crate::prim::local;
use crate::prim::untracked::{AtomicPtr, Ordering};
use crate::raw::record::Record;

/// What the code that runs on a machine's thread finds there.
#[repr(C)]
pub(crate) struct Machine {
    /// Where the machine keeps the stack that runs now, null between two tasks.
    running: *const AtomicPtr<Record>,
    pub(crate) panics: Panics,
}

impl Machine {
    /// # Safety
    /// `running` lives longer than this, and what is in it is mapped.
    pub(crate) unsafe fn new(running: *const AtomicPtr<Record>) -> Self {
        Self { running, panics: Panics { first: Cell::new(null()) } }
    }

    /// The stack that runs now.
    #[inline(always)]
    pub(crate) fn record(&self) -> Option<&Record> {
        // SAFETY: as `new` was promised. Relaxed: this thread's own.
        unsafe { (*self.running).load(Ordering::Relaxed).as_ref() }
    }
}

/// What a machine knows of its thread's panics; see [`unwind`](crate::unwind).
pub(crate) struct Panics {
    /// The stack of the task that was suspended in the middle of its unwinding: the first, if there are more. If that has ended before the
    /// others, an address that is no stack's.
    pub(crate) first: Cell<*const Record>,
}

impl Panics {
    /// Whether a task was suspended in the middle of its unwinding, as far as is known.
    #[inline(always)]
    pub(crate) fn are_noted(&self) -> bool {
        !self.first.get().is_null()
    }

    /// Notes that somebody unwinds, of whom nobody knows who it is.
    pub(crate) fn note_somebody(&self) {
        self.first.set(dangling());
    }
}

/// The machine that this thread is, if it is one.
///
/// The result is good for as long as the caller runs on this thread: a machine does not end while a task is on it.
#[inline]
pub(crate) fn machine<'a>() -> Option<&'a Machine> {
    // SAFETY: set by the machine for as long as its own lives, which is as long as anything can run on this thread that calls this; started
    // tasks stay on their thread.
    unsafe { local::get().cast::<Machine>().as_ref() }
}

/// The stack of the task that runs on this thread, if one does.
#[inline]
pub(crate) fn record<'a>() -> Option<&'a Record> {
    machine()?.record()
}
