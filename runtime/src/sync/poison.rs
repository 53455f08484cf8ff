//! Poisoning: a lock tells that a panic ended somebody who held it for writing.
//!
//! The unwinding of a cancellation does not poison: it is an orderly end that its owner asked for, and what was half done is the
//! business of destructors. As in std, a guard that was made during an unwinding does not poison.
//!
//! `std::thread::panicking` counts per thread, and tasks interleave on theirs. While it says no, which costs one load of a global
//! counter and no thread-local, nothing more is asked; where it says yes,
//! [`cancel::unwinding`](crate::unwind::raise::unwinding) tells whether it is this task that unwinds, and why.

use std::sync::{LockResult, PoisonError};

use crate::prim::thread;
use crate::prim::untracked::{AtomicU8, Ordering};
use crate::unwind::{self, Unwinding};

/// Whether the lock is poisoned.
///
/// Relaxed throughout, and in no model: it is written and read by holders of the lock, which orders it; who looks without the
/// lock gets a hint, as in std.
pub(super) struct Flag(AtomicU8);

/// What a guard remembers of the moment it was made: whether its task was unwinding.
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

    /// A guard is made.
    #[inline(always)]
    pub(super) fn enter() -> Made {
        Made { unwinding: thread::panicking() && unwind::unwinding() != Unwinding::No }
    }

    /// The guard goes.
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

    /// Wraps what a lock gives as std does.
    #[inline(always)]
    pub(super) fn wrap<G>(&self, guard: G) -> LockResult<G> {
        if self.get() { Err(PoisonError::new(guard)) } else { Ok(guard) }
    }
}
