//! The seam for verification: the only place that names std's atomics, cells, locks, threads and
//! clock.
//!
//! A plain build takes them from std ([`real`]). Under `cfg(greenloom_loom)` the same names are
//! loom's (`model`), so that the scheduler's real code runs inside the model checker. Nothing
//! here decides anything: it is vocabulary.
//!
//! [`Lock`] is the lock for sections of a few instructions: wait queues, channels, timers.
//!
//! [`untracked`] is std's in both builds. It holds counters and labels that other threads may read
//! at any time but that no protocol depends on; tracking them would only multiply the states a
//! model has to visit.

#[cfg(not(greenloom_loom))]
mod real;
#[cfg(not(greenloom_loom))]
pub(crate) use real::*;

#[cfg(greenloom_loom)]
mod model;
#[cfg(greenloom_loom)]
pub(crate) use model::*;

/// Counters and labels that no protocol depends on: std's atomics in both builds.
/// [`Arc`](untracked::Arc) is for names.
pub(crate) mod untracked {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::sync::{Arc, Mutex, OnceLock, RwLock};
}
