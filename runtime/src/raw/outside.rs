//! What can wake tasks from outside of every runtime, as far as it is this crate's own: the clock of contexts. It keeps these numbers,
//! and the search for deadlocks reads them.

use crate::prim::untracked::{AtomicUsize, Ordering};

static PENDING: AtomicUsize = AtomicUsize::new(0);
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// So many deadlines are still to come, or are being dealt with just now. Called under the lock that they are kept under.
pub(crate) fn set_pending(deadlines: usize) {
    // Release: pairs with the Acquire in `pending`. Whom the clock has woken is in an inbox by the time that its deadline is gone from here.
    PENDING.store(deadlines, Ordering::Release);
}

pub(crate) fn pending() -> usize {
    PENDING.load(Ordering::Acquire)
}

/// A thread begins that does nothing but deal with deadlines.
pub(crate) fn count_thread() {
    // Relaxed: counted before it starts, by whoever starts it.
    THREADS.fetch_add(1, Ordering::Relaxed);
}

/// It has not started after all.
pub(crate) fn discount_thread() {
    THREADS.fetch_sub(1, Ordering::Relaxed);
}

pub(crate) fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}

/// In a process that has just been forked: none of it is there.
pub(super) fn forget() {
    PENDING.store(0, Ordering::Relaxed);
    THREADS.store(0, Ordering::Relaxed);
}
