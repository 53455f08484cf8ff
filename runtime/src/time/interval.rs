//! A clock that ticks.

use std::time::{Duration, Instant};

use super::sleep_until;
use crate::prim;
use crate::task::checkpoint;
use crate::wait;

/// A tick that is seen this soon after it was due is not missed: every sleep ends a little late.
const TOLERANCE: Duration = Duration::from_millis(5);

/// What an [`Interval`] does about ticks that nobody waited for; the choices are tokio's.
///
/// ```
/// use greenloom::time::MissedTickBehavior;
/// assert_eq!(MissedTickBehavior::default(), MissedTickBehavior::Burst);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MissedTickBehavior {
    /// They come at once, one after another, until the interval has caught up.
    #[default]
    Burst,
    /// The next tick comes a period after the late one.
    Delay,
    /// They are skipped: the next tick comes at a multiple of the period from the start.
    Skip,
}

/// Ticks at regular intervals; see [`interval`].
#[derive(Debug)]
pub struct Interval {
    /// When the next tick is due; `None` if it never is.
    next: Option<Instant>,
    period: Duration,
    missed: MissedTickBehavior,
}

/// A clock whose first tick is now; the others follow a period apart.
///
/// # Panics
/// If the period is zero.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// greenloom::run(|| {
///     let start = Instant::now();
///     let mut clock = greenloom::time::interval(Duration::from_millis(2));
///     for _ in 0..3 {
///         clock.tick();
///     }
///     assert!(start.elapsed() >= Duration::from_millis(4));
/// });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    interval_at(prim::now(), period)
}

/// A clock whose first tick is at `start`; the others follow a period apart.
///
/// # Panics
/// If the period is zero.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now() + Duration::from_millis(2);
/// let mut clock = greenloom::time::interval_at(start, Duration::from_secs(60));
/// assert_eq!(clock.tick(), start);
/// ```
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    assert!(!period.is_zero(), "the period of an interval must not be zero");
    Interval { next: Some(start), period, missed: MissedTickBehavior::default() }
}

impl Interval {
    /// Waits for the next tick, and returns when it was due.
    ///
    /// Suspends the task; blocks a plain thread. Returns at once if the tick is due. A tick whose
    /// time cannot be represented never comes.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here, also while it waits. The tick is not lost.
    #[track_caller]
    pub fn tick(&mut self) -> Instant {
        checkpoint();
        let Some(due) = self.next else {
            loop {
                super::sleep(Duration::MAX);
            }
        };
        let mut now = prim::now();
        if now < due {
            sleep_until(due);
            now = prim::now();
        } else {
            wait::look_at_slice();
        }
        self.next = self.after(due, now);
        due
    }

    /// The time of the tick that follows the one that was due at `due` and seen at `now`.
    fn after(&self, due: Instant, now: Instant) -> Option<Instant> {
        let regular = due.checked_add(self.period);
        if now <= due + TOLERANCE {
            return regular;
        }
        match self.missed {
            MissedTickBehavior::Burst => regular,
            MissedTickBehavior::Delay => now.checked_add(self.period),
            MissedTickBehavior::Skip => {
                let over = (now - due).as_nanos() % self.period.as_nanos();
                let left = self.period.as_nanos() - over;
                now.checked_add(Duration::from_nanos_u128(left))
            }
        }
    }

    /// Lets the next tick come a period from now.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let mut clock = greenloom::time::interval(Duration::from_millis(2));
    /// let now = Instant::now();
    /// clock.reset();
    /// assert!(clock.tick() >= now + Duration::from_millis(2));
    /// ```
    pub fn reset(&mut self) {
        self.next = prim::now().checked_add(self.period);
    }

    /// Lets the next tick come at once.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let mut clock = greenloom::time::interval(Duration::from_secs(60));
    /// clock.tick();
    /// clock.reset_immediately();
    /// assert!(clock.tick() <= Instant::now());
    /// ```
    pub fn reset_immediately(&mut self) {
        self.next = Some(prim::now());
    }

    /// Lets the next tick come after this time.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let mut clock = greenloom::time::interval(Duration::from_secs(60));
    /// let now = Instant::now();
    /// clock.reset_after(Duration::from_millis(2));
    /// assert!(clock.tick() >= now + Duration::from_millis(2));
    /// ```
    pub fn reset_after(&mut self, after: Duration) {
        self.next = prim::now().checked_add(after);
    }

    /// Lets the next tick come at this moment.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// let mut clock = greenloom::time::interval(Duration::from_secs(60));
    /// let deadline = Instant::now() + Duration::from_millis(2);
    /// clock.reset_at(deadline);
    /// assert_eq!(clock.tick(), deadline);
    /// ```
    pub fn reset_at(&mut self, deadline: Instant) {
        self.next = Some(deadline);
    }

    /// What the interval does about missed ticks; [`MissedTickBehavior::Burst`] unless set
    /// otherwise.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.missed
    }

    /// Sets what the interval does about missed ticks.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenloom::time::{MissedTickBehavior, interval};
    ///
    /// let mut clock = interval(Duration::from_millis(2));
    /// clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    /// assert_eq!(clock.missed_tick_behavior(), MissedTickBehavior::Skip);
    /// ```
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.missed = behavior;
    }

    /// The time between two ticks.
    pub fn period(&self) -> Duration {
        self.period
    }
}
