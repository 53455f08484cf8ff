//! The part of a machine that is known here, for the thread that it runs on. The scheduler knows
//! the rest.

use std::cell::Cell;
use std::ptr::{dangling, null};

use crate::prim::local;
use crate::prim::untracked::{AtomicPtr, Ordering};
use crate::raw::record::Record;

/// What the code that runs on a machine's thread finds there.
#[repr(C)]
pub(crate) struct Machine {
    /// Where the machine keeps the stack that is running; null between two tasks.
    running: *const AtomicPtr<Record>,
    pub(crate) panics: Panics,
}

impl Machine {
    /// # Safety
    /// `running` outlives this, and the record that it holds is mapped.
    pub(crate) unsafe fn new(running: *const AtomicPtr<Record>) -> Self {
        Self { running, panics: Panics { first: Cell::new(null()) } }
    }

    /// The stack that is running.
    #[inline(always)]
    pub(crate) fn record(&self) -> Option<&Record> {
        // SAFETY: `running` outlives this, as `new` demands. Relaxed: only this thread writes it.
        unsafe { (*self.running).load(Ordering::Relaxed).as_ref() }
    }
}

/// What a machine knows of its thread's panics; see [`unwind`](crate::unwind).
pub(crate) struct Panics {
    /// The stack of the task that was suspended in the middle of its unwinding; the first, if there
    /// are several. If that task has ended before the others, an address that is no stack's.
    pub(crate) first: Cell<*const Record>,
}

impl Panics {
    /// Whether a task was suspended in the middle of its unwinding, as far as is known.
    #[inline(always)]
    pub(crate) fn are_noted(&self) -> bool {
        !self.first.get().is_null()
    }

    /// Notes that some task unwinds, without knowing which.
    pub(crate) fn note_somebody(&self) {
        self.first.set(dangling());
    }
}

/// The machine that this thread is, if it is one.
///
/// The result is valid for as long as the caller runs on this thread: a machine does not end while
/// a task is on it.
#[inline]
pub(crate) fn machine<'a>() -> Option<&'a Machine> {
    // SAFETY: the machine sets this for as long as its `Machine` lives, which is as long as any
    // code that calls this can run on this thread. Started tasks stay on their thread.
    unsafe { local::get().cast::<Machine>().as_ref() }
}

/// The stack of the task that runs on this thread, if there is one.
#[inline]
pub(crate) fn record<'a>() -> Option<&'a Record> {
    machine()?.record()
}
