//! Bounds: frames that a task can be unwound to, from whatever it waits in, while it goes on outside of them. A limit of time is one.
//!
//! - A bound lies in the frame of [`bounded`], and the task's innermost one in its [`Interrupts`]; each knows the next. The frame is a
//!   [`Section`], so where it ends the bound is the innermost, and the task has none where it ends.
//! - Whoever *trips* it (a timer, another task) first marks the bound, then changes the task's state word, which wakes the task if
//!   it is parked. Both happen under a lock of the tripper's, under which the frame withdraws the bound before it ends: so a bound is
//!   never touched late, nor half tripped when its frame ends.
//! - While the bit `BOUND_UP` is in the state word, every suspension point looks for the outermost tripped bound and raises an
//!   unwinding to it; see [`cancel`](super::cancel) for when that is put off.
//! - The frame, when it ends, withdraws the bound, clears the bit and looks at the outer bounds: after the clearing, while a tripper
//!   marks before it sets the bit. So one that is tripped at that moment keeps the bit or sets it again.
//! - A bound that has been raised stays so: its frame ends as tripped even if the unwinding was swallowed in between. One that was
//!   tripped too late to be raised is forgotten.
//!
//! A plain thread has bounds as well. It looks at them itself when it waits: at their deadlines, and every [`LOOK`] at those without.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::prim::atomic::{AtomicU8, Ordering};
use crate::prim::thread::{self, Thread};
use crate::raw::header::TaskPtr;
use crate::raw::interrupts::Interrupts;

/// How often a plain thread that waits looks whether others have tripped a bound of its own.
const LOOK: Duration = Duration::from_millis(10);

/// A frame that can be unwound to.
pub(crate) struct Bound {
    /// The task whose frame it is; `None` on a plain thread.
    task: Option<TaskPtr>,
    /// The plain thread, if it is one.
    thread: Option<Thread>,
    /// A [`Cause`], once it is tripped.
    tripped: AtomicU8,
    /// When its time is up, if it has one.
    due: Option<Instant>,
    /// On a plain thread: it trips by itself then.
    by_itself: bool,
    /// How often an unwinding to it was raised.
    pub(crate) raised: Cell<u32>,
    /// How many `uncancellable` sections are around it.
    depth: u32,
    outer: *const Bound,
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
}

/// Why a bound is tripped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its time is up.
    Time = 1,
    /// Somebody wanted it.
    Cancellation,
}

/// When a bound trips, as far as that is known when it is made.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    /// When its time is up, if it has one.
    pub(crate) moment: Option<Instant>,
    /// A plain thread notices that by itself; nobody else trips the bound then.
    pub(crate) by_itself: bool,
}

impl Bound {
    /// One of the running code, inside the innermost that it has.
    #[inline(always)]
    pub(crate) fn new(interrupts: &Interrupts, task: Option<TaskPtr>, due: Due) -> Self {
        Self {
            task,
            thread: task.is_none().then(thread::current),
            tripped: AtomicU8::new(0),
            due: due.moment,
            by_itself: due.by_itself,
            raised: Cell::new(0),
            depth: interrupts.uncancellable.get(),
            outer: interrupts.bound.get(),
            #[cfg(greenloom_loom)]
            alive: crate::prim::Alive::new(),
        }
    }

    /// The frame of this bound ends, which nobody trips any more: whether it is tripped, which its task then forgets.
    #[inline(always)]
    pub(crate) fn leave(&self, interrupts: &Interrupts) -> bool {
        interrupts.bound.set(self.outer);
        let tripped = self.is_tripped();
        if tripped {
            self.leave_tripped();
        }
        tripped
    }

    /// The frame of a tripped bound ends: are others tripped?
    #[cold]
    fn leave_tripped(&self) {
        let Some(task) = self.task else { return };
        task.state().leave_bound();
        if chain(self.outer).any(Bound::is_tripped) {
            task.state().keep_bound_up();
        }
    }

    /// Marks the bound, and asks its task to unwind to it; a task that is returned has to be queued by the caller. Any thread may call
    /// this, under the lock under which the bound is withdrawn.
    #[must_use = "a task that is returned is in no queue"]
    pub(crate) fn trip(&self, cause: Cause) -> Option<TaskPtr> {
        #[cfg(greenloom_loom)]
        self.alive.touch();
        // Release: pairs with the Acquire in `is_tripped`. Before the state's change, which pairs with `leave_bound`.
        self.tripped.store(cause as u8, Ordering::Release);
        if let Some(thread) = &self.thread {
            // Ends its `park`; where it waits for something of ours, it looks by itself.
            thread.unpark();
        }
        self.task.filter(|task| task.state().trip())
    }

    fn is_tripped(&self) -> bool {
        self.tripped.load(Ordering::Acquire) != 0
    }

    /// Whether it is tripped, by itself too if it does that, by this moment.
    fn is_over(&self, now: Instant) -> bool {
        (self.by_itself && self.due.is_some_and(|due| due <= now)) || self.is_tripped()
    }

    /// Whether it, which is over, was so before this moment. By somebody's wish it is before any.
    fn was_over_before(&self, moment: Instant) -> bool {
        // Acquire: as in `is_tripped`.
        self.tripped.load(Ordering::Acquire) == Cause::Cancellation as u8 || self.due.is_none_or(|due| due <= moment)
    }
}

/// A bound and those around it, by the task or thread whose they are.
fn chain<'a>(innermost: *const Bound) -> impl Iterator<Item = &'a Bound> {
    // SAFETY: each lies in a frame that has not ended: on the caller's own stack, or on that of a coroutine of another crate. One that
    // ends takes itself out of the chain, whose innermost it is (see `Section`).
    let next = |bound: *const Bound| unsafe { bound.as_ref() };
    std::iter::successors(next(innermost), move |bound| next(bound.outer))
}

impl Interrupts {
    /// The bounds that an unwinding may be raised to: those inside the innermost `uncancellable` section.
    fn reachable<'a>(&self) -> impl Iterator<Item = &'a Bound> {
        let depth = self.uncancellable.get();
        chain(self.bound.get()).take_while(move |bound| bound.depth == depth)
    }

    /// The tripped bound to unwind to. If the time of a wait was up by `time_up`, only if one was over before that.
    pub(crate) fn outermost_tripped<'a>(&self, time_up: Option<Instant>) -> Option<&'a Bound> {
        outermost(self.reachable().filter(|bound| bound.is_tripped()), time_up)
    }

    /// The same for a plain thread, by this moment.
    pub(crate) fn outermost_over<'a>(&self, now: Instant, time_up: Option<Instant>) -> Option<&'a Bound> {
        outermost(self.reachable().filter(|bound| bound.is_over(now)), time_up)
    }

    /// When the next one trips by itself, on a plain thread.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.reachable().filter(|bound| bound.by_itself).filter_map(|bound| bound.due).min()
    }

    /// When a plain thread that waits is to look at its bounds again.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.reachable().map(|bound| bound.due.filter(|_| bound.by_itself).unwrap_or(now + LOOK)).min()
    }
}

/// The last of some bounds that are over, from the innermost on.
fn outermost<'a>(over: impl Iterator<Item = &'a Bound>, time_up: Option<Instant>) -> Option<&'a Bound> {
    let mut before = time_up.is_none();
    let last = over.inspect(|bound| before |= time_up.is_some_and(|moment| bound.was_over_before(moment))).last();
    last.filter(|_| before)
}
