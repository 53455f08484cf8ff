//! Time: sleeping, limits, intervals. The channels of [`channel::after`](crate::channel::after),
//! [`at`](crate::channel::at) and [`tick`](crate::channel::tick) are for
//! [`select!`](crate::select!).
//!
//! Nothing here ends early. It may end late: by some 100 µs on an idle processor; on a busy one, by
//! as long as its tasks take to let others run, plus some milliseconds.
//!
//! All of it works on plain OS threads too, and blocks them.

mod interval;
mod timeout;

use std::time::{Duration, Instant};

pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use timeout::{Elapsed, timeout, timeout_at};

use crate::prim;
use crate::task::yield_now;
use crate::wait;
use crate::wait::Reason;

/// Waits for the given duration.
///
/// Suspends the task; blocks a plain thread. A duration that cannot be represented waits forever. A
/// duration of zero lets others run, as [`yield_now`] does.
///
/// # Panics
/// Inside [`no_suspend`](crate::no_suspend).
///
/// # Cancellation
/// A cancelled task unwinds from here, also while it waits.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// greenloom::run(|| {
///     let start = Instant::now();
///     greenloom::sleep(Duration::from_millis(2));
///     assert!(start.elapsed() >= Duration::from_millis(2));
/// });
/// ```
#[inline(always)]
#[track_caller]
pub fn sleep(duration: Duration) {
    if duration.is_zero() {
        yield_now();
    } else {
        wait::sleep_until(Reason::Sleep, prim::now().checked_add(duration));
    }
}

/// Waits until this moment has come. If it has passed, lets others run, as [`yield_now`] does.
///
/// Suspends the task; blocks a plain thread.
///
/// # Panics
/// Inside [`no_suspend`](crate::no_suspend).
///
/// # Cancellation
/// A cancelled task unwinds from here, also while it waits.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// greenloom::run(|| {
///     let deadline = Instant::now() + Duration::from_millis(2);
///     greenloom::time::sleep_until(deadline);
///     assert!(Instant::now() >= deadline);
/// });
/// ```
#[inline(always)]
#[track_caller]
pub fn sleep_until(deadline: Instant) {
    if deadline <= prim::now() {
        yield_now();
    } else {
        wait::sleep_until(Reason::Sleep, Some(deadline));
    }
}
