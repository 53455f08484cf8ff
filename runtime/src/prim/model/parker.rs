//! Parking a thread of the model.

use std::sync::Mutex;
use std::time::Instant;

use super::Alive;
use super::atomic::{AtomicU32, Ordering};

const EMPTY: u32 = 0;
const NOTIFIED: u32 = 1;
const PARKED: u32 = u32::MAX;

/// The futex's state machine, with loom's blocking in place of the system call.
///
/// Between the step to `PARKED` and the blocking there is no operation at which loom could let
/// another thread run, and the same holds for the token and the wake. So the wait is atomic with
/// the check of the word, as in the kernel. The wake comes at once; the real one may come late, to
/// an address that something else uses by then.
pub(crate) struct Parker {
    state: AtomicU32,
    sleeper: Mutex<Option<loom::thread::Thread>>,
    /// As soon as the sleeper has the token, it may leave, and its frame with it.
    alive: Alive,
}

impl Parker {
    pub(crate) fn new() -> Self {
        Self { state: AtomicU32::new(EMPTY), sleeper: Mutex::new(None), alive: Alive::new() }
    }

    /// Blocks the thread until the token is there, and takes it.
    pub(crate) fn park(&self) {
        *self.sleeper.lock().unwrap() = Some(loom::thread::current());
        if self.state.fetch_sub(1, Ordering::Acquire) == NOTIFIED {
            return;
        }
        loop {
            loom::thread::park();
            if self.state.compare_exchange(NOTIFIED, EMPTY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Time stands still in a model. But a deadline that had passed before the wait began is
    /// noticed, whenever loom lets this thread reach it. So a model may let a wait end late, with a
    /// partner on its way.
    pub(crate) fn park_until(&self, deadline: Instant) -> bool {
        if deadline > super::now() {
            self.park();
            return true;
        }
        *self.sleeper.lock().unwrap() = Some(loom::thread::current());
        if self.state.fetch_sub(1, Ordering::Acquire) == NOTIFIED {
            return true;
        }
        self.state.swap(EMPTY, Ordering::Acquire) == NOTIFIED
    }

    /// Leaves the token and wakes the thread if it is parked.
    pub(crate) fn unpark(&self) {
        self.alive.touch();
        if self.state.swap(NOTIFIED, Ordering::Release) == PARKED {
            let sleeper = self.sleeper.lock().unwrap().clone();
            sleeper.expect("only a thread that has left its handle is parked").unpark();
        }
    }
}
