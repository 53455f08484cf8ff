//! Cancel scopes: frames that a task can be unwound to, from whatever it waits in, while it goes on outside of them. A limit of time is one.
//!
//! - A cancel scope lies in the frame of [`bounded`], and the task's innermost one in its [`Interrupts`]; each knows the next. The frame is a
//!   [`Section`], so where it ends the scope is the innermost, and the task has none where it ends.
//! - Whoever *cancels* it (a timer, another task) first marks the scope, then changes the task's state word, which wakes the task if
//!   it is parked. Both happen under a lock of the canceller's, under which the frame withdraws the scope before it ends: so a cancel scope is
//!   never touched late, nor half cancelled when its frame ends.
//! - While the bit `SCOPE_CANCELLED` is in the state word, every suspension point looks for the outermost cancelled scope and raises an
//!   unwinding to it; see [`cancel`](super::cancel) for when that is put off.
//! - The frame, when it ends, withdraws the scope, clears the bit and looks at the outer cancel scopes: after the clearing, while a canceller
//!   marks before it sets the bit. So one that is cancelled at that moment keeps the bit or sets it again.
//! - A cancel scope that has been raised stays so: its frame ends as cancelled even if the unwinding was swallowed in between. One that was
//!   cancelled too late to be raised is forgotten.
//!
//! A plain thread has cancel scopes as well. It looks at them itself when it waits: at their deadlines, and every [`LOOK`] at those without.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::prim::atomic::{AtomicU8, Ordering};
use crate::prim::thread::{self, Thread};
use crate::raw::header::TaskPtr;
use crate::raw::interrupts::Interrupts;

/// How often a plain thread that waits looks whether others have cancelled a cancel scope of its own.
const LOOK: Duration = Duration::from_millis(10);

/// A frame that can be unwound to.
pub(crate) struct CancelScope {
    /// The task whose frame it is; `None` on a plain thread.
    task: Option<TaskPtr>,
    /// The plain thread, if it is one.
    thread: Option<Thread>,
    /// A [`Cause`], once it is cancelled.
    cancelled: AtomicU8,
    /// When its time is up, if it has one.
    due: Option<Instant>,
    /// On a plain thread: it cancels by itself then.
    by_itself: bool,
    /// How often an unwinding to it was raised.
    pub(crate) raised: Cell<u32>,
    /// How many `uncancellable` sections are around it.
    depth: u32,
    outer: *const CancelScope,
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
}

/// Why a cancel scope is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its time is up.
    Time = 1,
    /// Somebody wanted it.
    Cancellation,
}

/// When a cancel scope cancels, as far as that is known when it is made.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    /// When its time is up, if it has one.
    pub(crate) moment: Option<Instant>,
    /// A plain thread notices that by itself; nobody else cancels the scope then.
    pub(crate) by_itself: bool,
}

impl CancelScope {
    /// One of the running code, inside the innermost that it has.
    #[inline(always)]
    pub(crate) fn new(interrupts: &Interrupts, task: Option<TaskPtr>, due: Due) -> Self {
        Self {
            task,
            thread: task.is_none().then(thread::current),
            cancelled: AtomicU8::new(0),
            due: due.moment,
            by_itself: due.by_itself,
            raised: Cell::new(0),
            depth: interrupts.uncancellable.get(),
            outer: interrupts.scope.get(),
            #[cfg(greenloom_loom)]
            alive: crate::prim::Alive::new(),
        }
    }

    /// The frame of this scope ends, which nobody cancels any more: whether it is cancelled, which its task then forgets.
    #[inline(always)]
    pub(crate) fn leave(&self, interrupts: &Interrupts) -> bool {
        interrupts.scope.set(self.outer);
        let cancelled = self.is_cancelled();
        if cancelled {
            self.leave_cancelled();
        }
        cancelled
    }

    /// The frame of a cancelled scope ends: are others cancelled?
    #[cold]
    fn leave_cancelled(&self) {
        let Some(task) = self.task else { return };
        task.state().leave_scope();
        if chain(self.outer).any(CancelScope::is_cancelled) {
            task.state().keep_scope_cancelled();
        }
    }

    /// Marks the scope, and asks its task to unwind to it; a task that is returned has to be queued by the caller. Any thread may call
    /// this, under the lock under which the scope is withdrawn.
    #[must_use = "a task that is returned is in no queue"]
    pub(crate) fn cancel(&self, cause: Cause) -> Option<TaskPtr> {
        #[cfg(greenloom_loom)]
        self.alive.touch();
        // Release: pairs with the Acquire in `is_cancelled`. Before the state's change, which pairs with `leave_scope`.
        self.cancelled.store(cause as u8, Ordering::Release);
        if let Some(thread) = &self.thread {
            // Ends its `park`; where it waits for something of ours, it looks by itself.
            thread.unpark();
        }
        self.task.filter(|task| task.state().cancel_scope())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) != 0
    }

    /// Whether it is cancelled, by itself too if it does that, by this moment.
    fn is_over(&self, now: Instant) -> bool {
        (self.by_itself && self.due.is_some_and(|due| due <= now)) || self.is_cancelled()
    }

    /// Whether it, which is over, was so before this moment. By somebody's wish it is before any.
    fn was_over_before(&self, moment: Instant) -> bool {
        // Acquire: as in `is_cancelled`.
        self.cancelled.load(Ordering::Acquire) == Cause::Cancellation as u8 || self.due.is_none_or(|due| due <= moment)
    }
}

/// A cancel scope and those around it, by the task or thread whose they are.
fn chain<'a>(innermost: *const CancelScope) -> impl Iterator<Item = &'a CancelScope> {
    // SAFETY: each lies in a frame that has not ended: on the caller's own stack, or on that of a coroutine of another crate. One that
    // ends takes itself out of the chain, whose innermost it is (see `Section`).
    let next = |scope: *const CancelScope| unsafe { scope.as_ref() };
    std::iter::successors(next(innermost), move |scope| next(scope.outer))
}

impl Interrupts {
    /// The cancel scopes that an unwinding may be raised to: those inside the innermost `uncancellable` section.
    fn reachable<'a>(&self) -> impl Iterator<Item = &'a CancelScope> {
        let depth = self.uncancellable.get();
        chain(self.scope.get()).take_while(move |scope| scope.depth == depth)
    }

    /// The cancelled bound to unwind to. If the time of a wait was up by `time_up`, only if one was over before that.
    pub(crate) fn outermost_cancelled<'a>(&self, time_up: Option<Instant>) -> Option<&'a CancelScope> {
        outermost(self.reachable().filter(|scope| scope.is_cancelled()), time_up)
    }

    /// The same for a plain thread, by this moment.
    pub(crate) fn outermost_over<'a>(&self, now: Instant, time_up: Option<Instant>) -> Option<&'a CancelScope> {
        outermost(self.reachable().filter(|scope| scope.is_over(now)), time_up)
    }

    /// When the next one cancels by itself, on a plain thread.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.reachable().filter(|scope| scope.by_itself).filter_map(|scope| scope.due).min()
    }

    /// When a plain thread that waits is to look at its cancel scopes again.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.reachable().map(|scope| scope.due.filter(|_| scope.by_itself).unwrap_or(now + LOOK)).min()
    }
}

/// The last of some cancel scopes that are over, from the innermost on.
fn outermost<'a>(over: impl Iterator<Item = &'a CancelScope>, time_up: Option<Instant>) -> Option<&'a CancelScope> {
    let mut before = time_up.is_none();
    let last = over.inspect(|scope| before |= time_up.is_some_and(|moment| scope.was_over_before(moment))).last();
    last.filter(|_| before)
}
