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

/// Counts a new thread that only handles deadlines.
pub(crate) fn count_thread() {
    // Relaxed: counted before the thread starts, by the thread that starts it.
    THREADS.fetch_add(1, Ordering::Relaxed);
}

/// Takes the count back: the thread has not started after all.
pub(crate) fn discount_thread() {
    THREADS.fetch_sub(1, Ordering::Relaxed);
}

pub(crate) fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}

/// Called in a process that has just been forked, where none of this exists.
pub(super) fn forget() {
    PENDING.store(0, Ordering::Relaxed);
    THREADS.store(0, Ordering::Relaxed);
}
