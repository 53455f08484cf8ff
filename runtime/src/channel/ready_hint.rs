//! What can be read of a channel without its lock: whether taking the lock is worth it.
//!
//! A closed hint guarantees that nothing is ready. The holder of the lock must have made this true
//! when it releases the lock. With debug assertions this is checked each time, in models too.

use std::ops::{Deref, DerefMut};

use crate::channel::core::Core;
use crate::prim::LockGuard;
use crate::prim::untracked::{AtomicBool, Ordering};

/// What can be read without the lock.
pub(super) struct Readiness {
    /// The channel has no capacity.
    pub(super) rendezvous: bool,
    /// False only if there is nothing to receive. It is set under the lock when something is left.
    /// It is cleared, also under the lock, by an operation that finds nothing. A select looks here
    /// before it takes the lock. A select that is about to wait looks again under the lock.
    may_receive: AtomicBool,
    /// The same for sending: false only if there is neither room nor a waiting receiver.
    may_send: AtomicBool,
}

impl Readiness {
    /// The state of a new channel.
    pub(super) fn new(rendezvous: bool) -> Self {
        Self { rendezvous, may_receive: AtomicBool::new(false), may_send: AtomicBool::new(true) }
    }

    #[inline(always)]
    pub(super) fn receive_hint(&self) -> ReadyHint<'_> {
        ReadyHint(Some(&self.may_receive))
    }

    #[inline(always)]
    pub(super) fn send_hint(&self) -> ReadyHint<'_> {
        ReadyHint(Some(&self.may_send))
    }

    /// Whether the hints are open for what is ready. Called under the lock.
    #[cfg(debug_assertions)]
    pub(super) fn covers(&self, send: bool, receive: bool) -> bool {
        (!send || self.may_send.load(Ordering::Relaxed)) && (!receive || self.may_receive.load(Ordering::Relaxed))
    }

    /// Called under the lock.
    #[inline(always)]
    pub(super) fn note_receivable(&self, something: bool) {
        self.may_receive.store(something, Ordering::Release);
    }

    /// Called under the lock.
    #[inline(always)]
    pub(super) fn note_sendable(&self, somewhere: bool) {
        self.may_send.store(somewhere, Ordering::Release);
    }
}

/// Tells, without a lock, that an operation is certainly not ready.
#[derive(Clone, Copy)]
pub(crate) struct ReadyHint<'a>(Option<&'a AtomicBool>);

impl ReadyHint<'_> {
    /// The hint of an operation that must be asked.
    pub(crate) const ASK: ReadyHint<'static> = ReadyHint(None);

    #[inline(always)]
    pub(crate) fn may_be_ready(self) -> bool {
        // Acquire: pairs with the Release of `note_receivable` and `note_sendable`. A caller that
        // finds nothing here sees what was done before that, for example to another channel of the
        // same select. In a model the lock is always taken, because loom does not see this access.
        cfg!(greenloom_loom) || self.0.is_none_or(|may| may.load(Ordering::Acquire))
    }
}

/// The lock of a channel, held.
pub(super) struct Held<'a, T> {
    pub(super) core: LockGuard<'a, Core<T>>,
    #[cfg_attr(not(debug_assertions), expect(dead_code, reason = "for the check alone"))]
    pub(super) readiness: &'a Readiness,
}

impl<T> Deref for Held<'_, T> {
    type Target = Core<T>;

    #[inline(always)]
    fn deref(&self) -> &Core<T> {
        &self.core
    }
}

impl<T> DerefMut for Held<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Core<T> {
        &mut self.core
    }
}

#[cfg(debug_assertions)]
impl<T> Drop for Held<'_, T> {
    fn drop(&mut self) {
        if !self.core.agrees_with(self.readiness) {
            // Some waiter would wait forever. Unwinding saves nothing: a task would contain it.
            crate::sys::stderr::say(format_args!("greenloom: a channel is given up with a hint that is closed to what is ready"));
            std::process::abort();
        }
    }
}
