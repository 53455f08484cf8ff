//! Parking an OS thread on a Linux futex: the platform seam for sleeping.
//!
//! The state machine is std's own (`library/std/src/sys/sync/thread_parking/futex.rs`): three
//! values, one futex word.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = u32::MAX;

/// Puts one OS thread to sleep until it is handed a token.
///
/// Unlike std's, parking is exact: [`park`](Parker::park) returns only with the token consumed. The
/// scheduler relies on that: a thread that is owed a wake cannot leave (and free what the waker
/// still touches) before the waker has stored the token.
#[derive(Debug)]
pub(crate) struct Parker {
    state: AtomicU32,
}

impl Parker {
    pub(crate) const fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY) }
    }

    /// Blocks the thread until the token is there, and takes it.
    pub(crate) fn park(&self) {
        // NOTIFIED - 1 is EMPTY, EMPTY - 1 is PARKED. Acquire: pairs with the Release in `unpark`.
        if self.state.fetch_sub(1, Ordering::Acquire) == NOTIFIED {
            return;
        }
        loop {
            self.wait(None);
            if self.take_token() {
                return;
            }
        }
    }

    /// Blocks the thread until the token is there or `deadline` has passed. Returns whether it took
    /// the token.
    pub(crate) fn park_until(&self, deadline: Instant) -> bool {
        if self.state.fetch_sub(1, Ordering::Acquire) == NOTIFIED {
            return true;
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // Acquire: pairs with the Release in `unpark`, in case the token came at the last
                // moment.
                return self.state.swap(EMPTY, Ordering::Acquire) == NOTIFIED;
            }
            self.wait(Some(left));
            if self.take_token() {
                return true;
            }
        }
    }

    /// Leaves the token and wakes the thread if it is parked.
    ///
    /// After the token is stored the parker may already be gone. The system call uses only its
    /// address. If another waiter uses that address by then, it sees a spurious wake, which every
    /// futex user must expect.
    pub(crate) fn unpark(&self) {
        // Release: pairs with the Acquire in `park`.
        let word = self.state.as_ptr();
        if self.state.swap(NOTIFIED, Ordering::Release) == PARKED {
            // SAFETY: FUTEX_WAKE does not dereference the address in user space; a stale one causes
            // an error code or a spurious wake.
            unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG, 1) };
        }
    }

    fn take_token(&self) -> bool {
        self.state.compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn wait(&self, limit: Option<Duration>) {
        let spec = limit.map(|d| libc::timespec {
            tv_sec: d.as_secs().min(i64::MAX as u64) as libc::time_t,
            tv_nsec: d.subsec_nanos() as libc::c_long,
        });
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the word lives as long as `self`, which outlives this call; the timespec is on
        // this frame.
        unsafe { libc::syscall(libc::SYS_futex, self.state.as_ptr(), libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, PARKED, spec) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(2);

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_token_that_was_left_before_is_taken_once() {
        let parker = Parker::new();
        for deadline in [None, Some(Duration::ZERO), Some(SHORT), Some(Duration::from_secs(3600))] {
            // Tokens do not pile up.
            parker.unpark();
            parker.unpark();
            match deadline {
                None => parker.park(),
                Some(limit) => assert!(parker.park_until(now() + limit)),
            }
            assert!(!parker.park_until(now()), "it was taken");
        }
    }

    #[test]
    fn a_wait_that_ends_by_time_leaves_nothing_behind() {
        let parker = Parker::new();
        for limit in [Duration::ZERO, SHORT] {
            for _ in 0..3 {
                let deadline = now() + limit;
                assert!(!parker.park_until(deadline));
                assert!(now() >= deadline);
                assert_eq!(parker.state.load(Ordering::Relaxed), EMPTY);
            }
            parker.unpark();
            parker.park();
        }
    }

    #[test]
    fn a_token_wakes_who_waits_with_and_without_a_deadline() {
        let to_and_fro = std::sync::Arc::new([Parker::new(), Parker::new()]);
        let other = std::thread::spawn({
            let to_and_fro = to_and_fro.clone();
            move || {
                for _ in 0..100 {
                    to_and_fro[0].park();
                    to_and_fro[1].unpark();
                }
            }
        });
        for round in 0..100 {
            // Now and then, late enough that the other thread sleeps.
            if round % 10 == 0 {
                std::thread::sleep(SHORT);
            }
            to_and_fro[0].unpark();
            assert!(to_and_fro[1].park_until(now() + Duration::from_secs(60)), "the token did not come");
        }
        other.join().unwrap();
    }
}
