//! Channels whose messages are moments: `at`, `after` and `tick`.
//!
//! Nothing is registered anywhere until a receiver waits. It sleeps until the next moment, then
//! checks whether it is the first to take it.

use std::time::{Duration, Instant};

use crate::prim::{self, Lock};
use crate::wait;
use crate::wait::Reason;

pub(super) struct Timer {
    /// The next message; `None` if there will be none.
    next: Lock<Option<Instant>>,
    /// The time from one message to the next, if there is a next one.
    period: Option<Duration>,
}

impl Timer {
    pub(super) fn new(first: Instant, period: Option<Duration>) -> Self {
        Self { next: Lock::new(Some(first)), period }
    }

    /// When the next message is due.
    pub(super) fn next(&self) -> Option<Instant> {
        *self.next.lock()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.next().is_some_and(|next| next <= prim::now())
    }

    /// Takes the message, if its time has come. The next one comes a period later. That period
    /// starts when this one was due if the caller was already waiting then (`since` is when it
    /// began), and now if nobody was: a ticker that nobody looked at does not catch up.
    fn take(&self, since: Option<Instant>) -> Option<Instant> {
        let now = prim::now();
        let mut next = self.next.lock();
        let due = next.filter(|&due| due <= now)?;
        let from = if since.is_some_and(|since| since <= due) { due } else { now };
        *next = self.period.and_then(|period| from.checked_add(period));
        Some(due)
    }

    pub(super) fn try_receive(&self) -> Option<Instant> {
        self.take(None)
    }

    /// Waits for the message. Returns `None` if the deadline comes first.
    #[inline(always)]
    pub(super) fn receive(&self, deadline: Option<Instant>) -> Option<Instant> {
        let since = prim::now();
        loop {
            if let Some(message) = self.take(Some(since)) {
                return Some(message);
            }
            let next = self.next();
            if deadline.is_some_and(|deadline| next.is_none_or(|next| deadline < next)) {
                wait::sleep_until(Reason::Receive, deadline);
                return None;
            }
            wait::sleep_until(Reason::Receive, next);
        }
    }
}
