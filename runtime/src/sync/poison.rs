//! Poisoning: a lock reports that somebody panicked while holding it for writing.
//!
//! Unwinding from a cancellation does not poison. It is an orderly end that the task's owner asked
//! for, and destructors deal with what is half done. As in std, a guard that was made during an
//! unwinding does not poison.
//!
//! `std::thread::panicking` counts per thread, and tasks interleave on their thread. If it says no,
//! nothing more is checked. That costs one load of a global counter and no thread-local access. If
//! it says yes, [`unwind::unwinding`](crate::unwind::unwinding) tells whether this task
//! unwinds, and why.

use std::sync::{LockResult, PoisonError};

use crate::prim::thread;
use crate::prim::untracked::{AtomicU8, Ordering};
use crate::unwind::{self, Unwinding};

/// Whether the lock is poisoned.
///
/// Relaxed throughout, and not part of any model: it is written and read by holders of the lock,
/// which orders it. A reader without the lock gets a hint, as in std.
pub(super) struct Flag(AtomicU8);

/// What a guard records when it is made: whether its task was unwinding.
#[derive(Clone, Copy)]
pub(super) struct Made {
    unwinding: bool,
}

impl Flag {
    pub(super) const fn new() -> Self {
        Self(AtomicU8::new(0))
    }

    #[inline(always)]
    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    pub(super) fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// A guard is being made.
    #[inline(always)]
    pub(super) fn enter() -> Made {
        Made { unwinding: thread::panicking() && unwind::unwinding() != Unwinding::No }
    }

    /// The guard is being dropped.
    #[inline(always)]
    pub(super) fn leave(&self, made: Made) {
        if !made.unwinding && thread::panicking() {
            self.leave_on_panicking_thread();
        }
    }

    #[cold]
    fn leave_on_panicking_thread(&self) {
        if unwind::unwinding() == Unwinding::Panic {
            self.0.store(1, Ordering::Relaxed);
        }
    }

    /// Wraps the result of a lock operation as std does.
    #[inline(always)]
    pub(super) fn wrap<G>(&self, guard: G) -> LockResult<G> {
        if self.get() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }
}
