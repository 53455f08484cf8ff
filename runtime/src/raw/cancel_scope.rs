//! Cancel scopes: frames that a task can be unwound to, from whatever it waits in, while it goes on
//! outside of them. A limit of time is one.
//!
//! - A cancel scope lies in the frame of [`in_cancel_scope`](crate::unwind::in_cancel_scope). The
//!   task's [`Interrupts`] point to the innermost scope, and each scope to the next. The frame is a
//!   [`Section`](crate::unwind::Section). So when the frame ends its scope is the innermost, and
//!   when the task ends it has no scope.
//! - To *cancel* a scope, a timer or another task first marks it, then changes the task's state
//!   word, which wakes the task if it is parked. Both happen under a lock of the canceller's. Under
//!   the same lock, the frame withdraws the scope before it ends. So a cancel scope is never
//!   touched late, nor half cancelled when its frame ends.
//! - While the bit `SCOPE_CANCELLED` is in the state word, every suspension point looks for the
//!   outermost cancelled scope and raises an unwinding to it; see [`unwind`](crate::unwind) for
//!   when that is deferred.
//! - When the frame ends, it withdraws the scope, clears the bit, and then looks at the outer
//!   scopes. A canceller marks a scope before it sets the bit. So if an outer scope is cancelled at
//!   that moment, the bit is kept or set again.
//! - A cancel scope that has been raised stays so: its frame ends as cancelled even if the
//!   unwinding was swallowed in between. If a scope is cancelled too
//!   late for an unwinding to be raised, its cancellation is dropped.
//!
//! A plain thread has cancel scopes as well. When it waits, it looks at them itself: at their
//! deadlines, and every [`LOOK`] at those without.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::prim::atomic::{AtomicU8, Ordering};
use crate::prim::thread::{self, Thread};
use crate::raw::header::TaskPtr;
use crate::raw::interrupts::Interrupts;

/// How often a plain thread that waits checks whether others have cancelled one of its cancel
/// scopes.
const LOOK: Duration = Duration::from_millis(10);

/// A frame that can be unwound to.
pub(crate) struct CancelScope {
    /// The task whose frame it is; `None` on a plain thread.
    task: Option<TaskPtr>,
    /// The plain thread, if it is one.
    thread: Option<Thread>,
    /// A [`Cause`], once the scope is cancelled.
    cancelled: AtomicU8,
    /// When its time is up, if it has one.
    due: Option<Instant>,
    /// On a plain thread: the scope cancels itself at `due`.
    by_itself: bool,
    /// How often an unwinding to this scope was raised.
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
    /// It was cancelled on request.
    Cancellation,
}

/// When a cancel scope cancels, as far as that is known when it is made.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    /// When its time is up, if it has one.
    pub(crate) moment: Option<Instant>,
    /// A plain thread notices that itself; nobody else cancels the scope then.
    pub(crate) by_itself: bool,
}

impl CancelScope {
    /// A scope of the running code, inside its innermost scope.
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

    /// Called when the frame of this scope ends; nobody can cancel the scope any more. Returns
    /// whether it is cancelled, which its task then forgets.
    #[inline(always)]
    pub(crate) fn leave(&self, interrupts: &Interrupts) -> bool {
        interrupts.scope.set(self.outer);
        let cancelled = self.is_cancelled();
        if cancelled {
            self.leave_cancelled();
        }
        cancelled
    }

    /// The frame of a cancelled scope ends: keeps the bit if other scopes are cancelled.
    #[cold]
    fn leave_cancelled(&self) {
        let Some(task) = self.task else { return };
        task.state().leave_scope();
        if chain(self.outer).any(CancelScope::is_cancelled) {
            task.state().keep_scope_cancelled();
        }
    }

    /// Marks the scope, and asks its task to unwind to it. If a task is returned, the caller must
    /// queue it. Any thread may call this, under the lock under which the scope is withdrawn.
    #[must_use = "a task that is returned is in no queue"]
    pub(crate) fn cancel(&self, cause: Cause) -> Option<TaskPtr> {
        #[cfg(greenloom_loom)]
        self.alive.touch();
        // Release: pairs with the Acquire in `is_cancelled`. This comes before the change of the
        // state, which pairs with `leave_scope`.
        self.cancelled.store(cause as u8, Ordering::Release);
        if let Some(thread) = &self.thread {
            // Ends its `park`. Where it waits for something of this crate, it checks by itself.
            thread.unpark();
        }
        self.task.filter(|task| task.state().cancel_scope())
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire) != 0
    }

    /// Whether it is cancelled, or has cancelled itself, by `now`.
    fn is_over(&self, now: Instant) -> bool {
        (self.by_itself && self.due.is_some_and(|due| due <= now)) || self.is_cancelled()
    }

    /// Whether this scope, which is over, was so before `moment`. A cancellation on request counts
    /// as before any moment.
    fn was_over_before(&self, moment: Instant) -> bool {
        // Acquire: as in `is_cancelled`.
        self.cancelled.load(Ordering::Acquire) == Cause::Cancellation as u8 || self.due.is_none_or(|due| due <= moment)
    }
}

/// A cancel scope and those around it, as seen by the task or thread that they belong to.
fn chain<'a>(innermost: *const CancelScope) -> impl Iterator<Item = &'a CancelScope> {
    // SAFETY: each lies in a frame that has not ended: on the caller's own stack, or on that of
    // another crate's coroutine. A scope that ends is the innermost of its chain (see `Section`),
    // and takes itself out.
    let next = |scope: *const CancelScope| unsafe { scope.as_ref() };
    std::iter::successors(next(innermost), move |scope| next(scope.outer))
}

impl Interrupts {
    /// The cancel scopes that an unwinding may be raised to: those inside the innermost
    /// `uncancellable` section.
    fn reachable<'a>(&self) -> impl Iterator<Item = &'a CancelScope> {
        let depth = self.uncancellable.get();
        chain(self.scope.get()).take_while(move |scope| scope.depth == depth)
    }

    /// The cancelled scope to unwind to. If the time of a wait was up by `time_up`, only if a scope
    /// was over before that.
    pub(crate) fn outermost_cancelled<'a>(&self, time_up: Option<Instant>) -> Option<&'a CancelScope> {
        outermost(self.reachable().filter(|scope| scope.is_cancelled()), time_up)
    }

    /// Like `outermost_cancelled`, for a plain thread, at `now`.
    pub(crate) fn outermost_over<'a>(&self, now: Instant, time_up: Option<Instant>) -> Option<&'a CancelScope> {
        outermost(self.reachable().filter(|scope| scope.is_over(now)), time_up)
    }

    /// When the next scope cancels itself, on a plain thread.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.reachable().filter(|scope| scope.by_itself).filter_map(|scope| scope.due).min()
    }

    /// When a plain thread that waits must look at its cancel scopes again.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.reachable().map(|scope| scope.due.filter(|_| scope.by_itself).unwrap_or(now + LOOK)).min()
    }
}

/// The last of some scopes that are over, which are given from the innermost on.
fn outermost<'a>(over: impl Iterator<Item = &'a CancelScope>, time_up: Option<Instant>) -> Option<&'a CancelScope> {
    let mut before = time_up.is_none();
    let last = over.inspect(|scope| before |= time_up.is_some_and(|moment| scope.was_over_before(moment))).last();
    last.filter(|_| before)
}
