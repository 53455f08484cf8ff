//! The part of this crate that can wake tasks from outside every runtime: the clock of contexts.
//! The clock keeps these numbers, and the search for deadlocks reads them.

use crate::prim::untracked::{AtomicUsize, Ordering};

static PENDING: AtomicUsize = AtomicUsize::new(0);
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Sets how many deadlines are still to come or are being handled right now. Called under the lock
/// that guards the deadlines.
pub(crate) fn set_pending(deadlines: usize) {
    // Release: pairs with the Acquire in `pending`. A task that the clock has woken is in an inbox
    // by the time its deadline leaves this count.
    PENDING.store(deadlines, Ordering::Release);
}

pub(crate) fn pending() -> usize {
    PENDING.load(Ordering::Acquire)
}

/// Counts a thread that has started, and only deals with deadlines.
pub(crate) fn count_thread() {
    // Release: pairs with the Acquire in `threads`: the thread is there.
    THREADS.fetch_add(1, Ordering::Release);
}

pub(crate) fn threads() -> usize {
    THREADS.load(Ordering::Acquire)
}

/// Called in a process that has just been forked, where none of this exists.
pub(super) fn forget() {
    PENDING.store(0, Ordering::Relaxed);
    THREADS.store(0, Ordering::Relaxed);
}
