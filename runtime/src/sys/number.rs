//! Numbers that are unique in the process, and random numbers.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Takes process-wide unique numbers for tasks, in blocks, so that spawning touches no shared cache
/// line.
///
/// Returns the first of `count` numbers; zero is never handed out.
pub(crate) fn take_ids(count: u64) -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: uniqueness comes from the RMW alone.
    NEXT.fetch_add(count, Ordering::Relaxed)
}

/// The next number of a generator whose state is not zero: xorshift64 (Marsaglia, 2003).
#[inline]
pub(crate) fn next_random(state: &Cell<u64>) -> u64 {
    let mut x = state.get();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    state.set(x);
    x
}
