//! What may end the running code early, and what puts that off: kept for each task in its stack's record, and for each plain thread.

use std::cell::Cell;
use std::ptr::null;

use crate::prim::thread;
use crate::scheduler::local;
use crate::stack::record::Record;
use crate::task::TaskPtr;
use crate::task::bound::Bound;

/// For the task or the thread itself alone.
pub(crate) struct Interrupts {
    /// The innermost frame that may be unwound to; null if there is none.
    pub(super) bound: Cell<*const Bound>,
    /// How many sections the code is in that nothing outside them may end.
    pub(super) uncancellable: Cell<u32>,
    /// The number of the unwinding that was raised last, as long as its payload lives; or zero.
    pub(super) unwinding: Cell<u32>,
    /// How many have been raised.
    pub(super) raises: Cell<u32>,
    /// How often the task's cancellation was raised.
    pub(super) cancellations: Cell<u32>,
    /// It has been said that they are swallowed.
    pub(super) reported: Cell<bool>,
}

impl Interrupts {
    pub(crate) const fn new() -> Self {
        Self {
            bound: Cell::new(null()),
            uncancellable: Cell::new(0),
            unwinding: Cell::new(0),
            raises: Cell::new(0),
            cancellations: Cell::new(0),
            reported: Cell::new(false),
        }
    }

    /// The task has ended.
    #[inline]
    pub(crate) fn reset(&self) {
        debug_assert!(self.bound.get().is_null() && self.uncancellable.get() == 0);
        self.unwinding.set(0);
        self.cancellations.set(0);
        self.reported.set(false);
    }
}

/// Those of a plain thread; `None` if it is ending and has given them back. Never inlined, as no access to a thread-local is.
#[allow(clippy::missing_const_for_thread_local, reason = "loom's macro knows no const")]
#[inline(never)]
fn of_thread<'a>() -> Option<&'a Interrupts> {
    crate::prim::thread_local! {
        static INTERRUPTS: Interrupts = Interrupts::new();
    }
    let interrupts = INTERRUPTS.try_with(std::ptr::from_ref).ok()?;
    // SAFETY: std never destroys what needs no drop; loom does after all code of the thread but destructors of thread-locals, which
    // then get an error here.
    Some(unsafe { &*interrupts })
}

/// The running code: a task, or a plain thread.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) interrupts: &'a Interrupts,
    /// `None` on a plain thread.
    pub(crate) task: Option<TaskPtr>,
}

/// Who runs; `None` on a thread that is ending and has given its own away.
///
/// Good for as long as the caller runs.
pub(crate) fn current<'a>() -> Option<Running<'a>> {
    match local::running() {
        Some((_, record)) => Some(Running::task(record)),
        None => Some(Running { interrupts: of_thread()?, task: None }),
    }
}

/// Whether a frame around the caller may be unwound to.
pub(crate) fn is_bounded() -> bool {
    current().is_some_and(|running| !running.interrupts.bound.get().is_null())
}

impl<'a> Running<'a> {
    #[inline(always)]
    pub(crate) fn task(record: &'a Record) -> Self {
        Self { interrupts: record.interrupts(), task: Some(record.task()) }
    }

    /// Its number.
    pub(super) fn id(self) -> u64 {
        self.task.map_or_else(thread::number, TaskPtr::id)
    }
}
