//! Channels whose messages are moments: `at`, `after` and `tick`.
//!
//! Nothing is registered anywhere until somebody waits: a receiver sleeps until the next moment, and then looks whether it is the
//! first to take it.

use std::time::{Duration, Instant};

use crate::prim::{self, Lock};
use crate::wait;
use crate::wait::Reason;

pub(super) struct Timer {
    /// The next message; `None` if there will be none.
    next: Lock<Option<Instant>>,
    /// How long after one message comes the next, if one does.
    period: Option<Duration>,
}

impl Timer {
    pub(super) fn new(first: Instant, period: Option<Duration>) -> Self {
        Self { next: Lock::new(Some(first)), period }
    }

    /// When there will be a message.
    pub(super) fn next(&self) -> Option<Instant> {
        *self.next.lock()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.next().is_some_and(|next| next <= prim::now())
    }

    /// Takes the message, if its time has come. The next comes a period later, reckoned from when the last was due if the caller
    /// `since` then waited for it, and from now if nobody did: a ticker that was not looked at does not catch up.
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

    /// Waits for the message; `None` if the deadline comes first.
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
