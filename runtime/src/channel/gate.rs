//! What may be read of a channel without its lock: whether it is worth to take it.

use crate::prim::untracked::{AtomicBool, Ordering};

/// What may be read without the lock.
pub(super) struct Open {
    /// The channel has no capacity.
    pub(super) rendezvous: bool,
    /// False only if there is nothing to receive: set under the lock where something is left, and cleared, also under the lock, by
    /// whoever finds nothing. A select looks here before it takes the lock; one that is going to wait looks again under it.
    may_receive: AtomicBool,
    /// The same of sending: false only if there is neither room nor a receiver that waits.
    may_send: AtomicBool,
}

impl Open {
    /// Of a new channel.
    pub(super) fn new(rendezvous: bool) -> Self {
        Self { rendezvous, may_receive: AtomicBool::new(false), may_send: AtomicBool::new(true) }
    }

    #[inline(always)]
    pub(super) fn receive_gate(&self) -> Gate<'_> {
        Gate(Some(&self.may_receive))
    }

    #[inline(always)]
    pub(super) fn send_gate(&self) -> Gate<'_> {
        Gate(Some(&self.may_send))
    }

    /// Under the lock.
    #[inline(always)]
    pub(super) fn note_receivable(&self, something: bool) {
        self.may_receive.store(something, Ordering::Release);
    }

    /// Under the lock.
    #[inline(always)]
    pub(super) fn note_sendable(&self, somewhere: bool) {
        self.may_send.store(somewhere, Ordering::Release);
    }
}

/// Tells without a lock that an operation is certainly not ready.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a>(Option<&'a AtomicBool>);

impl Gate<'_> {
    /// Of an operation that must be asked.
    pub(crate) const ASK: Gate<'static> = Gate(None);

    #[inline(always)]
    pub(crate) fn is_open(self) -> bool {
        // Acquire: pairs with the Release of `note_receivable` and `note_sendable`, so that whoever finds nothing here sees what was done
        // before it became so; to another channel of the same select, say. In a model the lock is always taken, since loom does not see
        // this access.
        cfg!(greenloom_loom) || self.0.is_none_or(|may| may.load(Ordering::Acquire))
    }
}
