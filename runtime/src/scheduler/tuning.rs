//! The constants that decide who runs when and where, each with its reason.

use std::time::Duration;

/// How long a time slice is: chains of tasks that make each other ready share one.
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// Every this many picks a processor looks at what it would otherwise reach last (Go's figure; a prime, so that it does not beat
/// with periodic programs). In a model, often enough that three picks visit the fair path.
pub(crate) const FAIR_EVERY: u32 = if cfg!(greenloom_loom) { 3 } else { 61 };

/// Rounds of looking around before an idle machine sleeps; a round is a few hundred nanoseconds. One in a model: a spin that loom lets turn
/// twice only doubles what it must visit.
pub(crate) const SEARCH_ROUNDS: u32 = if cfg!(greenloom_loom) { 1 } else { 128 };

/// What is left of them after searches that found nothing.
pub(crate) const LEAST_SEARCH_ROUNDS: u32 = if cfg!(greenloom_loom) { 1 } else { 16 };

/// Fresh tasks in the deque from which on it is worth waking a sleeping processor at once. Fewer wait for the monitor's next
/// tick: a pair that talks starts within a microsecond on one processor, and would be torn apart for good by an eager thief.
pub(crate) const MIN_TO_STEAL: usize = 8;

/// Fewer ready tasks than that may run before one that could have gone on.
pub(super) const FEW: usize = 16;

/// Task numbers taken at a time.
pub(super) const IDS: u64 = 1 << 12;
