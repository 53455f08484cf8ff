//! The channel as a select sees it: operations are chosen first, and committed or released later.
//! [`core`](super::core) describes the protocol.

use std::cell::Cell;

use crate::channel::arm::{Arm, Claim, Outcome, Waiting};
use crate::channel::core::{Attempt, Channel, Core, finish, has_free, win_first};
use crate::channel::ready_hint::Readiness;
use crate::unwind::uncancellable;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::Wakes;
use crate::wait::wait_for;

/// A send that could not be committed as reserved, because the receiver that it was to meet has
/// gone. It begins again.
pub(super) struct Missed;

/// A block is needed first. Nothing has changed.
struct NeedsBlock;

impl<T> Core<T> {
    fn send_is_ready(&self, readiness: &Readiness, myself: *const Claim) -> bool {
        !self.connected || self.has_room() || (readiness.rendezvous && has_free(&self.receivers, myself))
    }

    fn receive_is_ready(&self, readiness: &Readiness, myself: *const Claim) -> bool {
        !self.connected || self.has_item() || (readiness.rendezvous && has_free(&self.senders, myself))
    }

    /// Chooses to send, if that does not block. The message comes later.
    fn reserve_send(&mut self, readiness: &Readiness, wakes: &mut Wakes<Arm>) -> Option<Outcome> {
        if !self.connected {
            return Some(Outcome::Closed);
        }
        if !readiness.rendezvous {
            if !self.has_room() {
                readiness.note_sendable(false);
                return None;
            }
            self.promised_room += 1;
            return Some(Outcome::Room);
        }
        let Some(receiver) = win_first(&self.receivers) else {
            readiness.note_sendable(false);
            return None;
        };
        if receiver.data().cell::<T>().is_null() {
            finish(receiver, Outcome::Meets, wakes);
        } else {
            receiver.data().set_outcome(Outcome::Meets);
            // SAFETY: the lock is held. The receiver is in no queue any more, and waits until it is
            // served here.
            unsafe { self.meeting.receivers.push_back(receiver, receiver.waiter()) };
        }
        Some(Outcome::Meets)
    }

    /// Chooses to receive, if that does not block. The room for the message comes later.
    fn reserve_receive(&mut self, readiness: &Readiness, wakes: &mut Wakes<Arm>) -> Result<Option<Outcome>, NeedsBlock> {
        if self.has_item() {
            self.items -= 1;
            return Ok(Some(Outcome::Item));
        }
        if readiness.rendezvous {
            if self.buffer.needs_block() && !self.senders.is_empty() {
                return Err(NeedsBlock);
            }
            if let Some(sender) = win_first(&self.senders) {
                let cell = sender.data().cell::<T>();
                if cell.is_null() {
                    finish(sender, Outcome::Meets, wakes);
                    return Ok(Some(Outcome::Meets));
                }
                // SAFETY: the sender's message is in its cell, and there is a block for it.
                unsafe { self.buffer.push(cell) };
                finish(sender, Outcome::Done, wakes);
                self.note_sender_gone(readiness);
                return Ok(Some(Outcome::Item));
            }
        }
        if !self.connected {
            return Ok(Some(Outcome::Closed));
        }
        readiness.note_receivable(false);
        Ok(None)
    }
}

impl<T> Channel<T> {
    /// Chooses to send, if that does not block.
    pub(super) fn reserve_send(&self) -> Option<Outcome> {
        let mut wakes = Wakes::new();
        self.lock().reserve_send(&self.readiness, &mut wakes)
    }

    /// Chooses to receive, if that does not block. If there is room for the message, receives it at
    /// once: if the outcome is `Done`, the message has been written to `to`.
    ///
    /// # Safety
    /// `to` is null or room for a message.
    #[inline]
    pub(super) unsafe fn reserve_receive(&self, to: *mut T) -> Option<Outcome> {
        if !to.is_null() {
            // SAFETY: `to` is not null, so it is room for a message, as `# Safety` demands.
            return match unsafe { self.try_receive(to) } {
                Attempt::Done => Some(Outcome::Done),
                Attempt::Meets => Some(Outcome::Meets),
                Attempt::Closed => Some(Outcome::Closed),
                Attempt::Blocked | Attempt::NeedsBlock => None,
            };
        }
        loop {
            let mut wakes = Wakes::new();
            let reserved = self.lock().reserve_receive(&self.readiness, &mut wakes);
            match reserved {
                Ok(outcome) => return outcome,
                Err(NeedsBlock) => self.supply_block(),
            }
        }
    }

    pub(super) fn send_is_ready(&self) -> bool {
        self.lock().send_is_ready(&self.readiness, std::ptr::null())
    }

    pub(super) fn receive_is_ready(&self) -> bool {
        self.lock().receive_is_ready(&self.readiness, std::ptr::null())
    }

    /// Queues an arm of a select that sends. If the operation is ready, returns false and does not
    /// queue it.
    ///
    /// # Safety
    /// The node is in no queue, is an arm of `select`, and stays where it is until
    /// [`leave_send`](Self::leave_send).
    pub(super) unsafe fn join_send(&self, node: &Waiting, waiter: Waiter, select: &Claim, watch: bool) -> bool {
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        if core.send_is_ready(&self.readiness, select) {
            return false;
        }
        node.data().set_outcome(Outcome::Waiting);
        // SAFETY: the node is as `# Safety` demands, and the lock is held.
        unsafe { core.queue_to_send(watch).push_back(node, waiter) };
        if self.readiness.rendezvous && !watch {
            core.note_item(&self.readiness, &mut wakes);
        }
        true
    }

    /// Does the same for an arm that receives.
    ///
    /// # Safety
    /// As for [`join_send`](Self::join_send), until [`leave_receive`](Self::leave_receive).
    pub(super) unsafe fn join_receive(&self, node: &Waiting, waiter: Waiter, select: &Claim, watch: bool) -> bool {
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        if core.receive_is_ready(&self.readiness, select) {
            return false;
        }
        node.data().set_outcome(Outcome::Waiting);
        // SAFETY: the node is as `# Safety` demands, and the lock is held.
        unsafe { core.queue_to_receive(watch).push_back(node, waiter) };
        if self.readiness.rendezvous && !watch {
            core.note_room(&self.readiness, &mut wakes);
        }
        true
    }

    /// Takes an arm out of the queue that it joined, if it is still there.
    ///
    /// # Safety
    /// The node joined here to send, with the same `watch`, or is in no queue.
    pub(super) unsafe fn leave_send(&self, node: &Waiting, watch: bool) {
        let mut core = self.lock();
        // SAFETY: the node is as `# Safety` demands, and the lock is held.
        unsafe { core.queue_to_send(watch).remove(node) };
    }

    /// # Safety
    /// The node joined here to receive, with the same `watch`, or is in no queue.
    pub(super) unsafe fn leave_receive(&self, node: &Waiting, watch: bool) {
        let mut core = self.lock();
        // SAFETY: the node is as `# Safety` demands, and the lock is held. An arm in a meeting does
        // not leave: its select waits to be served.
        unsafe { core.queue_to_receive(watch).remove(node) };
    }

    /// Commits a send that was reserved: moves the message out of `from`. Returns false if nobody
    /// can receive it any more.
    ///
    /// # Safety
    /// A message is at `from`. It is moved out if the answer is true. The reservation was made to
    /// the caller. The call uses it up.
    pub(super) unsafe fn commit_send(&self, reservation: Outcome, from: *const T) -> Result<bool, Missed> {
        let mut kept = false;
        loop {
            let mut wakes = Wakes::new();
            let mut core = self.lock();
            // SAFETY (all below): `from` is as `# Safety` demands. There is a block for whatever is
            // pushed.
            match reservation {
                Outcome::Room => {
                    if !std::mem::replace(&mut kept, true) {
                        core.promised_room -= 1;
                    }
                    // SAFETY: a message is at `from`, as `# Safety` demands.
                    match unsafe { core.offer(from, &self.readiness, &mut wakes) } {
                        Attempt::Done => {
                            // A receiver that was served directly leaves the place free for other
                            // waiters.
                            core.serve_waiting(&self.readiness, &mut wakes);
                            return Ok(true);
                        }
                        Attempt::Closed => return Ok(false),
                        _ => {
                            debug_assert!(core.buffer.needs_block(), "the reserved place is free");
                        }
                    }
                }
                Outcome::Meets => {
                    if core.meeting.missed_receivers > 0 {
                        core.meeting.missed_receivers -= 1;
                        return Err(Missed);
                    }
                    // SAFETY: the lock is held (rule 1 of `wait::list`).
                    let first = unsafe { core.meeting.receivers.front() };
                    if let Some(receiver) = first.filter(|receiver| !core.lacks_block_for(receiver)) {
                        // SAFETY: the lock is held, and the receiver is in this queue.
                        unsafe { core.meeting.receivers.remove(receiver) };
                        // SAFETY: a message is at `from`, as `# Safety` demands, and there is a
                        // block for it.
                        unsafe { core.serve_receiver(receiver, from, &mut wakes) };
                        return Ok(true);
                    }
                    if first.is_none() && !core.buffer.needs_block() {
                        // SAFETY: a message is at `from`, as `# Safety` demands, and there is a
                        // block for it.
                        unsafe { core.buffer.push(from) };
                        core.meeting.items += 1;
                        return Ok(true);
                    }
                }
                _ => return Ok(false),
            }
            drop(core);
            self.supply_block();
        }
    }

    /// Commits a receive for which a message in the buffer is reserved: moves the message to `to`.
    ///
    /// # Safety
    /// `to` is room for a message. The reservation was made to the caller. The call uses it up.
    pub(super) unsafe fn commit_receive(&self, to: *mut T) {
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        // SAFETY: the message was reserved, so it is there.
        unsafe { core.buffer.pop(to) };
        core.serve_waiting(&self.readiness, &mut wakes);
    }

    /// Meets the sender that the caller has won, or that has won the caller. Waits until the sender
    /// brings its message. The message goes to `to` or, if that is null, into the buffer, where it
    /// is reserved. Nothing aborts this wait. A cancellation takes effect at the next suspension.
    ///
    /// # Panics
    /// Inside `no_suspend`. The sender then begins again.
    ///
    /// # Safety
    /// `to` is null or room for a message. If the outcome is `Done`, the message is there.
    #[cold]
    #[track_caller]
    pub(super) unsafe fn meet(&self, to: *mut T) -> Outcome {
        let node = Waiting::new(Arm::plain(to));
        let reserved = Reserved { channel: self, kept: Cell::new(false) };
        let publish = |waiter| {
            reserved.kept.set(true);
            // SAFETY: the node is in no queue. It stays until it is served, which nothing aborts.
            unsafe { self.arrive(&node, waiter) }
        };
        let _ = uncancellable(|| wait_for(Reason::Receive, None, publish, || false));
        node.data().outcome()
    }

    /// Receives what a selected sender has left, or queues the node for it. Returns whether the
    /// node is queued.
    ///
    /// # Safety
    /// The node is in no queue, and its cell is null or room for a message. The node stays until it
    /// is served.
    unsafe fn arrive(&self, node: &Waiting, waiter: Waiter) -> bool {
        let mut core = self.lock();
        if core.meeting.items > 0 {
            core.meeting.items -= 1;
            let cell = node.data().cell::<T>();
            if cell.is_null() {
                node.data().set_outcome(Outcome::Item);
            } else {
                // SAFETY: the message of a meeting is in the buffer.
                unsafe { core.buffer.pop(cell) };
                node.data().set_outcome(Outcome::Done);
            }
        } else if core.meeting.missed_senders > 0 {
            core.meeting.missed_senders -= 1;
            node.data().set_outcome(Outcome::Missed);
        } else if !core.connected {
            // Its sender has been forgotten. The receiver begins again, and finds the channel
            // closed.
            node.data().set_outcome(Outcome::Missed);
        } else {
            node.data().set_outcome(Outcome::Meets);
            // SAFETY: the node is as `# Safety` demands, and the lock is held.
            unsafe { core.meeting.receivers.push_back(node, waiter) };
            return true;
        }
        false
    }

    /// Releases a reservation: nothing is sent.
    pub(super) fn release_send(&self, reservation: Outcome) {
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        match reservation {
            Outcome::Room => {
                core.promised_room -= 1;
                core.serve_waiting(&self.readiness, &mut wakes);
            }
            // SAFETY: the lock is held (rule 1 of `wait::list`).
            Outcome::Meets => match unsafe { core.meeting.receivers.pop_front() } {
                Some(receiver) => finish(receiver, Outcome::Missed, &mut wakes),
                // The two that do not come are treated as each other's partners. Nobody has to be
                // told.
                None if core.meeting.missed_receivers > 0 => core.meeting.missed_receivers -= 1,
                None => core.meeting.missed_senders += 1,
            },
            _ => {}
        }
    }

    /// Releases a reservation: nothing is received.
    pub(super) fn release_receive(&self, reservation: Outcome) {
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        match reservation {
            Outcome::Item => core.items += 1,
            // As in `release_send`.
            Outcome::Meets if core.meeting.missed_senders > 0 => core.meeting.missed_senders -= 1,
            Outcome::Meets if core.meeting.items > 0 => {
                core.meeting.items -= 1;
                core.items += 1;
            }
            Outcome::Meets => core.meeting.missed_receivers += 1,
            _ => return,
        }
        core.serve_waiting(&self.readiness, &mut wakes);
    }
}

/// A receiver that has not come to its meeting yet. If it never comes, its partner is told.
struct Reserved<'c, T> {
    channel: &'c Channel<T>,
    kept: Cell<bool>,
}

impl<T> Drop for Reserved<'_, T> {
    fn drop(&mut self) {
        if !self.kept.get() {
            self.channel.release_receive(Outcome::Meets);
        }
    }
}
