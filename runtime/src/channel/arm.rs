//! The waiters in a channel, and the claim that decides which arm of a select is served.

use std::cell::Cell;
use std::ptr::null;

use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::wait::list::Node;

/// A waiter in a channel.
pub(super) type Waiting = Node<Arm>;

/// What waits: a plain operation, or an arm of a select.
pub(super) struct Arm {
    /// Null for a plain operation. The claim is alive as long as the node is in a queue.
    select: *const Claim,
    /// Which arm of the select this is.
    index: usize,
    /// Where the message is, or where it goes. Null if that is not known yet.
    cell: *mut (),
    outcome: Cell<Outcome>,
}

/// What became of a waiter, or what is reserved for a select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing yet.
    Waiting,
    /// The message has been moved out of its cell, or into it.
    Done,
    /// A message in the buffer is reserved.
    Item,
    /// A place in the buffer is reserved.
    Room,
    /// It meets a partner.
    Meets,
    /// The partner that it was to meet did not come. The waiter begins again.
    Missed,
    /// The other side is gone.
    Closed,
}

impl Arm {
    pub(super) fn plain<T>(cell: *mut T) -> Self {
        Self::of_select(null(), 0, cell.cast())
    }

    pub(super) fn of_select(select: *const Claim, index: usize, cell: *mut ()) -> Self {
        Self { select, index, cell, outcome: Cell::new(Outcome::Waiting) }
    }

    pub(super) fn outcome(&self) -> Outcome {
        self.outcome.get()
    }

    pub(super) fn set_outcome(&self, outcome: Outcome) {
        self.outcome.set(outcome);
    }

    /// Takes the right to serve the waiter. Called under the lock of the channel where it waits.
    #[inline(always)]
    pub(super) fn win(&self) -> bool {
        // SAFETY: the node was in a queue until now, and the lock is held, so its select is alive.
        match unsafe { self.select.as_ref() } {
            None => true,
            Some(claim) => claim.win(self.index),
        }
    }

    /// Whether the waiter could be won by anything but the select `myself`.
    pub(super) fn is_free(&self, myself: *const Claim) -> bool {
        // SAFETY: the node is in a queue, and the lock is held, so its select is alive.
        self.select.is_null() || (!std::ptr::eq(self.select, myself) && unsafe { &*self.select }.is_waiting())
    }

    #[inline(always)]
    pub(super) fn cell<T>(&self) -> *mut T {
        self.cell.cast()
    }
}

/// Which arm of a select was won: one word, decided once in each wait.
///
/// | value | means |
/// |---|---|
/// | 0 | it waits |
/// | 1 | it does not wait, or has given up: nobody can win it |
/// | i + 2 | arm i was won, by a partner that owes the select a wake |
pub(super) struct Claim(AtomicUsize);

const WAITING: usize = 0;
const ABORTED: usize = 1;

impl Claim {
    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(ABORTED))
    }

    /// Called when the select begins to wait. It is in no queue yet.
    pub(super) fn open(&self) {
        // Relaxed: published by the lock of each channel where it is queued afterwards.
        self.0.store(WAITING, Ordering::Relaxed);
    }

    fn decide(&self, word: usize) -> bool {
        // AcqRel: the winner sees what the select did before it waited. The select learns here or
        // in `won` that it was won, and sees what the winner did before that.
        self.0.compare_exchange(WAITING, word, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn win(&self, arm: usize) -> bool {
        self.decide(arm + 2)
    }

    /// Called when the select gives up. Returns false if it was won.
    pub(super) fn abort(&self) -> bool {
        self.decide(ABORTED)
    }

    /// Only for decisions that are made again if the answer is wrong.
    fn is_waiting(&self) -> bool {
        // Relaxed: the decision is made again if the answer is wrong.
        self.0.load(Ordering::Relaxed) == WAITING
    }

    /// The arm that was won. Called by the select itself.
    pub(super) fn won(&self) -> Option<usize> {
        // Acquire: pairs with `decide`.
        self.0.load(Ordering::Acquire).checked_sub(2)
    }
}
