//! The constants that decide what runs when and where, each with its reason.

use std::time::Duration;

/// How long a time slice is. Chains of tasks that make each other ready share one.
pub(crate) const SLICE: Duration = Duration::from_millis(10);

/// After this many picks, a processor looks at what it would otherwise reach last. This is Go's
/// figure: a prime, so that it does not beat with periodic programs. In a model it is small enough
/// that three picks visit the fair path.
pub(crate) const FAIR_EVERY: u32 = if cfg!(greenloom_loom) { 3 } else { 61 };

/// Rounds of looking around before an idle machine sleeps. A round is a few hundred nanoseconds.
/// One in a model: a spin that loom runs twice only doubles what it must visit.
pub(crate) const SEARCH_ROUNDS: u32 = if cfg!(greenloom_loom) { 1 } else { 128 };

/// How many rounds are left after searches that found nothing.
pub(crate) const LEAST_SEARCH_ROUNDS: u32 = if cfg!(greenloom_loom) { 1 } else { 16 };

/// How many fresh tasks in the deque make it worth waking a sleeping processor at once. Fewer wait
/// for the monitor's next tick. A pair of tasks that talk starts within a microsecond on one
/// processor, and an eager thief would separate them for good.
pub(crate) const MIN_TO_STEAL: usize = 8;

/// A task that could go on may let ready tasks run first if there are fewer than this.
pub(super) const FEW: usize = 16;

/// How many task numbers are taken at a time.
pub(super) const IDS: u64 = 1 << 12;
