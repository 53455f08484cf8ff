//! The protocol of a channel: Go's, one lock and two queues of waiters, extended by what
//! crossbeam's `Select` needs.
//!
//! # The problem
//!
//! Senders and receivers meet, directly or through a buffer, first come, first served. Some of them
//! are arms of a select, which waits in several channels and must be served by only one. A select
//! learns its message, or the place for it, only after it has been chosen
//! (`SelectedOperation::send(&s, message)`). Its partner may already be waiting then.
//!
//! # The protocol
//!
//! 1. Everything is decided under the channel's lock. Receivers wait only while every message in
//!    the buffer is reserved. Senders wait only while every place is reserved.
//! 2. An operation that finds a waiter on the other side takes it out and [wins](Arm::win) it. It
//!    always wins a plain waiter. It wins an arm only if no arm of that select was won before. The
//!    winner then serves the waiter, notes the [`Outcome`], and owes the waiter a wake.
//! 3. Most waiters say where their message is, or where it goes: their *cell*. Serving them moves
//!    the message. So a value goes straight from one frame into another, or into the buffer if a
//!    sender waited for room.
//! 4. An arm without a cell is served by a reservation: of a message in the buffer, or of a place
//!    there. The select [commits](Channel::commit_receive) or [releases](Channel::release_receive)
//!    it later. A channel without capacity has a buffer for this alone. It holds messages that
//!    selects have received but not fetched yet.
//! 5. Such a channel has no place to reserve for a sender. A sender that is won without its message
//!    *meets* a receiver. The receiver waits for the message in a queue of its own, where
//!    cancellation does not reach it. (A receiving select has no cell either. It comes to that
//!    queue later, or finds the message in the buffer.) Each meeting has one sender and one
//!    receiver; which serves which does not matter.
//! 6. An operation that only wants to know that something is ready (`Select::ready`) waits in the
//!    queue of watchers of its side. It is woken whenever that may have become so.

use crate::channel::arm::{Arm, Claim, Outcome, Waiting};
use crate::channel::buffer::{Buffer, Spare};
use crate::channel::ready_hint::{Held, Readiness};
use crate::prim::Lock;
use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::wait::Waiter;
use crate::wait::list::{List, Wakes};

/// The result of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Done,
    /// A sender was won that has yet to bring its message.
    Meets,
    Closed,
    /// It would block.
    Blocked,
    /// It needs a block first. Nothing has changed.
    NeedsBlock,
}

/// The first fields, up to `senders`, share a cache line with the lock and with [`Readiness`]. A
/// rendezvous touches nothing else.
#[repr(C)]
pub(super) struct Core<T> {
    /// Both sides have handles.
    pub(super) connected: bool,
    /// False only if there are no watchers.
    watched: bool,
    /// Messages in the buffer that anyone may receive. The others there are reserved for selects.
    pub(super) items: usize,
    pub(super) receivers: List<Arm>,
    pub(super) senders: List<Arm>,
    pub(super) buffer: Buffer<T>,
    /// Places in the buffer that are reserved for selects.
    pub(super) promised_room: usize,
    /// `usize::MAX` for a channel without a limit.
    capacity: usize,
    watchers: Watchers,
    pub(super) meeting: Meeting,
}

/// The watchers of rule 6, on either side.
struct Watchers {
    senders: List<Arm>,
    receivers: List<Arm>,
}

/// Rule 5: receivers and selected senders that belong to each other, while only one of the two has
/// come.
pub(super) struct Meeting {
    pub(super) receivers: List<Arm>,
    /// Reserved messages in the buffer, from senders that came first.
    pub(super) items: usize,
    /// Senders that will not come, although a selected receiver will.
    pub(super) missed_senders: usize,
    /// Selected receivers that will not come, although their sender will.
    pub(super) missed_receivers: usize,
}

/// Aligned to a cache line; see [`Core`]. A thousand tasks in a ring touch one line per channel
/// instead of three, and two processors that share a channel move one line between them.
#[repr(C, align(64))]
pub(super) struct Channel<T> {
    pub(super) readiness: Readiness,
    core: Lock<Core<T>>,
    capacity: Option<usize>,
    sender_handles: AtomicUsize,
    receiver_handles: AtomicUsize,
}

// SAFETY: everything is under the lock, and messages are sent between threads, never shared.
unsafe impl<T: Send> Send for Channel<T> {}
// SAFETY: a shared channel also only hands messages over, under the lock.
unsafe impl<T: Send> Sync for Channel<T> {}

/// Takes out and wins the first waiter that can be won. Called under the lock, under which the
/// result is used.
#[inline(always)]
pub(super) fn win_first<'a>(queue: &List<Arm>) -> Option<&'a Waiting> {
    // SAFETY: the queues are reached only through the lock (rule 1 of `wait::list`).
    while let Some(node) = unsafe { queue.pop_front() } {
        if node.data().win() {
            return Some(node);
        }
    }
    None
}

/// Whether a waiter could be won by anything but the select `myself`. Called under the lock.
pub(super) fn has_free(queue: &List<Arm>, myself: *const Claim) -> bool {
    // SAFETY: the lock is held (rule 1 of `wait::list`).
    !queue.is_empty() && unsafe { queue.iter() }.any(|node| node.data().is_free(myself))
}

/// Whether one of the first waiters could be won. A model looks at all of them. Elsewhere, a check
/// that is made on each release of the lock must not walk along all arms of selects that others
/// have already won.
#[cfg(debug_assertions)]
fn has_free_in_front(queue: &List<Arm>) -> bool {
    const LOOKED_AT: usize = if cfg!(greenloom_loom) { usize::MAX } else { 4 };
    // SAFETY: the lock is held (rule 1 of `wait::list`).
    unsafe { queue.iter() }.take(LOOKED_AT).any(|node| node.data().is_free(std::ptr::null()))
}

#[inline(always)]
pub(super) fn finish(node: &Waiting, outcome: Outcome, wakes: &mut Wakes<Arm>) {
    node.data().set_outcome(outcome);
    // SAFETY: the winner has taken the node out of its queue, and holds the lock.
    unsafe { wakes.add(node) };
}

/// Wakes all waiters that can be won. Called under the lock.
#[inline(always)]
pub(super) fn finish_all(queue: &List<Arm>, outcome: Outcome, wakes: &mut Wakes<Arm>) {
    while let Some(node) = win_first(queue) {
        finish(node, outcome, wakes);
    }
}

#[cfg(not(greenloom_loom))]
const _: () = assert!(std::mem::offset_of!(Channel<u64>, core) + std::mem::offset_of!(Core<u64>, buffer) + 8 <= 64);

impl<T> Core<T> {
    pub(super) fn has_item(&self) -> bool {
        self.items > 0
    }

    pub(super) fn has_room(&self) -> bool {
        self.buffer.len() + self.promised_room < self.capacity
    }

    /// Whether what can be read without the lock is true of what is under it.
    #[cfg(debug_assertions)]
    pub(super) fn agrees_with(&self, readiness: &Readiness) -> bool {
        let watchers = &self.watchers;
        let send = self.has_room() || (readiness.rendezvous && has_free_in_front(&self.receivers));
        let receive = self.has_item() || (readiness.rendezvous && has_free_in_front(&self.senders));
        readiness.covers(send, receive)
            && self.items <= self.buffer.len()
            && (self.watched || (watchers.senders.is_empty() && watchers.receivers.is_empty()))
    }

    /// The queue of operations that send, or that watch for a moment to do so.
    pub(super) fn queue_to_send(&mut self, watch: bool) -> &List<Arm> {
        self.watched |= watch;
        if watch { &self.watchers.senders } else { &self.senders }
    }

    /// The queue of operations that receive, or that watch for a moment to do so.
    pub(super) fn queue_to_receive(&mut self, watch: bool) -> &List<Arm> {
        self.watched |= watch;
        if watch { &self.watchers.receivers } else { &self.receivers }
    }

    /// Notes that there is room for a message, or a waiting receiver, and that no sender waited for
    /// it.
    #[inline(always)]
    pub(super) fn note_room(&mut self, readiness: &Readiness, wakes: &mut Wakes<Arm>) {
        readiness.note_sendable(true);
        if self.watched {
            self.tell_watchers(true, Outcome::Waiting, wakes);
        }
    }

    /// Tells the watchers that a receive may have become ready.
    #[inline(always)]
    fn tell_receive_watchers(&mut self, wakes: &mut Wakes<Arm>) {
        if self.watched {
            self.tell_watchers(false, Outcome::Waiting, wakes);
        }
    }

    #[cold]
    fn tell_watchers(&mut self, to_send: bool, outcome: Outcome, wakes: &mut Wakes<Arm>) {
        let Watchers { senders, receivers } = &self.watchers;
        finish_all(if to_send { senders } else { receivers }, outcome, wakes);
        self.watched = !(senders.is_empty() && receivers.is_empty());
    }

    /// Sends the message at `from`, if that does not block.
    ///
    /// # Safety
    /// A message is at `from`. It is moved out if the answer is `Done`.
    #[inline(always)]
    pub(super) unsafe fn offer(&mut self, from: *const T, readiness: &Readiness, wakes: &mut Wakes<Arm>) -> Attempt {
        if !self.connected {
            return Attempt::Closed;
        }
        if readiness.rendezvous {
            // SAFETY: a message is at `from`, as `# Safety` demands.
            return unsafe { self.offer_to_receivers(from, wakes) };
        }
        if self.buffer.needs_block() {
            return Attempt::NeedsBlock;
        }
        if !self.has_room() {
            return Attempt::Blocked;
        }
        // SAFETY: a message is at `from`, as `# Safety` demands, and there is room.
        match unsafe { self.offer_to_receivers(from, wakes) } {
            Attempt::Blocked => {}
            attempt => return attempt,
        }
        // SAFETY: there is room.
        unsafe { self.buffer.push(from) };
        self.items += 1;
        self.note_item(readiness, wakes);
        Attempt::Done
    }

    /// Gives the message at `from` to the first receiver that can be won. Returns `Blocked` if
    /// there is none, and `NeedsBlock` if the receiver needs a block first.
    ///
    /// # Safety
    /// As for [`offer`](Self::offer). In a channel with a buffer, there is room for the message.
    #[inline(always)]
    unsafe fn offer_to_receivers(&mut self, from: *const T, wakes: &mut Wakes<Arm>) -> Attempt {
        // SAFETY: the lock is held (rule 1 of `wait::list`).
        while let Some(receiver) = unsafe { self.receivers.front() } {
            if self.lacks_block_for(receiver) {
                return Attempt::NeedsBlock;
            }
            // SAFETY: the lock is held, and the receiver is in this queue.
            unsafe { self.receivers.remove(receiver) };
            if receiver.data().win() {
                // SAFETY: a message is at `from`, as `# Safety` demands. A reserved one has room:
                // `lacks_block_for` was false.
                unsafe { self.serve_receiver(receiver, from, wakes) };
                return Attempt::Done;
            }
        }
        Attempt::Blocked
    }

    /// Whether this receiver has no cell, and serving it needs a block that is not there.
    pub(super) fn lacks_block_for(&self, receiver: &Waiting) -> bool {
        receiver.data().cell::<T>().is_null() && self.buffer.needs_block()
    }

    /// Gives the message at `from` to a receiver that was won.
    ///
    /// # Safety
    /// A message is at `from`, and is moved out. The buffer has room for it.
    #[inline(always)]
    pub(super) unsafe fn serve_receiver(&mut self, receiver: &Waiting, from: *const T, wakes: &mut Wakes<Arm>) {
        let cell = receiver.data().cell::<T>();
        if cell.is_null() {
            // SAFETY: a message is at `from` and the buffer has room for it, as `# Safety` demands.
            unsafe { self.buffer.push(from) };
            finish(receiver, Outcome::Item, wakes);
        } else {
            // SAFETY: header rule 3: the cell is where the receiver's message goes.
            unsafe { cell.copy_from_nonoverlapping(from, 1) };
            finish(receiver, Outcome::Done, wakes);
        }
    }

    /// Receives a message into `to`, if it can do so without blocking.
    ///
    /// # Safety
    /// `to` is room for a message. If the answer is `Done`, the message is there.
    #[inline(always)]
    pub(super) unsafe fn take(&mut self, to: *mut T, readiness: &Readiness, wakes: &mut Wakes<Arm>) -> Attempt {
        if self.has_item() {
            // SAFETY: there is a message.
            unsafe { self.buffer.pop(to) };
            self.items -= 1;
            self.refill(readiness, wakes);
            return Attempt::Done;
        }
        if readiness.rendezvous
            && let Some(sender) = win_first(&self.senders)
        {
            let cell = sender.data().cell::<T>();
            if cell.is_null() {
                finish(sender, Outcome::Meets, wakes);
                return Attempt::Meets;
            }
            // SAFETY: header rule 3: the sender's message is in its cell.
            unsafe { to.copy_from_nonoverlapping(cell, 1) };
            finish(sender, Outcome::Done, wakes);
            self.note_sender_gone(readiness);
            return Attempt::Done;
        }
        if !self.connected {
            return Attempt::Closed;
        }
        readiness.note_receivable(false);
        Attempt::Blocked
    }

    /// Called when a place in the buffer has become free. Serves the sender that waits for one.
    #[inline(always)]
    fn refill(&mut self, readiness: &Readiness, wakes: &mut Wakes<Arm>) {
        if readiness.rendezvous {
            return;
        }
        let Some(sender) = win_first(&self.senders) else {
            return self.note_room(readiness, wakes);
        };
        let cell = sender.data().cell::<T>();
        if cell.is_null() {
            self.promised_room += 1;
            finish(sender, Outcome::Room, wakes);
        } else {
            // SAFETY: there is room. Header rule 3: the sender's message is in its cell.
            unsafe { self.buffer.push(cell) };
            self.items += 1;
            finish(sender, Outcome::Done, wakes);
        }
    }

    /// Notes that there is a message that is not reserved and that no receiver waited for.
    #[inline(always)]
    pub(super) fn note_item(&mut self, readiness: &Readiness, wakes: &mut Wakes<Arm>) {
        readiness.note_receivable(true);
        self.tell_receive_watchers(wakes);
    }

    /// Called when a sender has been taken out of a channel without capacity. If it was the last
    /// one, this spares a select the lock that would tell it so.
    #[inline(always)]
    pub(super) fn note_sender_gone(&self, readiness: &Readiness) {
        if self.senders.is_empty() && self.connected {
            readiness.note_receivable(false);
        }
    }

    /// Called when reservations have been committed or released. Serves the operations that waited
    /// because of them, in either queue.
    #[inline(always)]
    pub(super) fn serve_waiting(&mut self, readiness: &Readiness, wakes: &mut Wakes<Arm>) {
        let idle = self.receivers.is_empty() && !self.watched && !self.has_item();
        if !idle || (self.has_room() && !self.senders.is_empty()) {
            self.serve_waiting_slowly(readiness, wakes);
        } else if self.has_room() {
            readiness.note_sendable(true);
        }
    }

    #[inline(never)]
    fn serve_waiting_slowly(&mut self, readiness: &Readiness, wakes: &mut Wakes<Arm>) {
        loop {
            if self.has_item()
                && let Some(receiver) = win_first(&self.receivers)
            {
                let cell = receiver.data().cell::<T>();
                self.items -= 1;
                if cell.is_null() {
                    finish(receiver, Outcome::Item, wakes);
                } else {
                    // SAFETY: there is a message. Header rule 3: the cell is where the receiver's
                    // message goes.
                    unsafe { self.buffer.pop(cell) };
                    finish(receiver, Outcome::Done, wakes);
                }
            } else if self.has_room() && !self.senders.is_empty() {
                self.refill(readiness, wakes);
            } else {
                break;
            }
        }
        if self.has_item() {
            self.note_item(readiness, wakes);
        }
        if self.has_room() {
            self.note_room(readiness, wakes);
        }
    }
}

impl<T> Channel<T> {
    #[track_caller]
    pub(super) fn new(capacity: Option<usize>) -> Self {
        let buffer = Buffer::new(capacity.filter(|&places| places > 0));
        Self {
            readiness: Readiness::new(capacity == Some(0)),
            core: Lock::new(Core {
                connected: true,
                watched: false,
                items: 0,
                receivers: List::new(),
                senders: List::new(),
                buffer,
                promised_room: 0,
                capacity: capacity.unwrap_or(usize::MAX),
                watchers: Watchers { senders: List::new(), receivers: List::new() },
                meeting: Meeting { receivers: List::new(), items: 0, missed_senders: 0, missed_receivers: 0 },
            }),
            capacity,
            sender_handles: AtomicUsize::new(1),
            receiver_handles: AtomicUsize::new(1),
        }
    }

    #[inline(always)]
    pub(super) fn lock(&self) -> Held<'_, T> {
        Held { core: self.core.lock(), readiness: &self.readiness }
    }

    pub(super) fn capacity(&self) -> Option<usize> {
        self.capacity
    }

    /// The number of messages that anyone may receive.
    pub(super) fn len(&self) -> usize {
        if self.readiness.rendezvous { 0 } else { self.lock().items }
    }

    pub(super) fn is_full(&self) -> bool {
        self.readiness.rendezvous || !self.lock().has_room()
    }

    pub(super) fn supply_block(&self) {
        let spare = Spare::new();
        self.lock().buffer.supply(spare);
    }

    /// Sends the message at `from`, if that does not block.
    ///
    /// # Safety
    /// A message is at `from`. It is moved out if the answer is `Done`.
    #[inline(always)]
    pub(super) unsafe fn try_send(&self, from: *const T) -> Attempt {
        loop {
            let mut wakes = Wakes::new();
            // SAFETY: a message is at `from`, as `# Safety` demands.
            match unsafe { self.lock().offer(from, &self.readiness, &mut wakes) } {
                Attempt::NeedsBlock => self.supply_block(),
                attempt => return attempt,
            }
        }
    }

    /// Receives a message into `to`, if that does not block.
    ///
    /// # Safety
    /// `to` is room for a message. If the answer is `Done`, the message is there.
    #[inline(always)]
    pub(super) unsafe fn try_receive(&self, to: *mut T) -> Attempt {
        let mut wakes = Wakes::new();
        // SAFETY: `to` is room for a message, as `# Safety` demands.
        unsafe { self.lock().take(to, &self.readiness, &mut wakes) }
    }

    /// Sends the message in the node's cell, or queues the node. Returns whether the node is
    /// queued.
    ///
    /// # Safety
    /// The node is in no queue and is a plain one with a cell of `T`. It stays where it is as long
    /// as it is in a queue.
    #[inline(never)]
    pub(super) unsafe fn send_or_wait(&self, node: &Waiting, waiter: Waiter) -> bool {
        loop {
            let mut wakes = Wakes::new();
            let mut core = self.lock();
            // SAFETY: the node has a cell of `T`, as `# Safety` demands, with its message in it
            // (header rule 3).
            match unsafe { core.offer(node.data().cell::<T>(), &self.readiness, &mut wakes) } {
                Attempt::Done => node.data().set_outcome(Outcome::Done),
                Attempt::Closed => node.data().set_outcome(Outcome::Closed),
                Attempt::NeedsBlock => {
                    drop(core);
                    self.supply_block();
                    continue;
                }
                Attempt::Blocked | Attempt::Meets => {
                    node.data().set_outcome(Outcome::Waiting);
                    self.readiness.note_sendable(false);
                    // SAFETY: the node is as `# Safety` demands, and the lock is held.
                    unsafe { core.senders.push_back(node, waiter) };
                    if self.readiness.rendezvous {
                        core.note_item(&self.readiness, &mut wakes);
                    }
                    return true;
                }
            }
            return false;
        }
    }

    /// Receives into the node's cell, or queues the node. Returns whether the node is queued.
    ///
    /// # Safety
    /// As for [`send_or_wait`](Self::send_or_wait).
    #[inline(never)]
    pub(super) unsafe fn receive_or_wait(&self, node: &Waiting, waiter: Waiter) -> bool {
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        // SAFETY: the node has a cell of `T`, as `# Safety` demands, which is room for a message.
        match unsafe { core.take(node.data().cell::<T>(), &self.readiness, &mut wakes) } {
            Attempt::Done => node.data().set_outcome(Outcome::Done),
            Attempt::Closed => node.data().set_outcome(Outcome::Closed),
            Attempt::Meets => {
                node.data().set_outcome(Outcome::Meets);
                // SAFETY: the node is as `# Safety` demands, and the lock is held.
                unsafe { core.meeting.receivers.push_back(node, waiter) };
                return true;
            }
            Attempt::Blocked | Attempt::NeedsBlock => {
                node.data().set_outcome(Outcome::Waiting);
                // SAFETY: the node is as `# Safety` demands, and the lock is held.
                unsafe { core.receivers.push_back(node, waiter) };
                if self.readiness.rendezvous {
                    core.note_room(&self.readiness, &mut wakes);
                }
                return true;
            }
        }
        false
    }

    /// Takes a sender's node out of its queue. Returns false if it has been served.
    ///
    /// # Safety
    /// The node was queued here, as a sender.
    pub(super) unsafe fn withdraw_sender(&self, node: &Waiting) -> bool {
        let core = self.lock();
        // SAFETY: the node was queued here, and the lock is held. A node that is not linked was
        // served.
        unsafe { core.senders.remove(node) }
    }

    /// Does the same for a receiver, which must not leave a meeting.
    ///
    /// # Safety
    /// The node was queued here, as a receiver.
    pub(super) unsafe fn withdraw_receiver(&self, node: &Waiting) -> bool {
        let core = self.lock();
        // SAFETY: the node was queued here, and the lock is held. With this outcome it is in the
        // queue of receivers, or in no queue.
        node.data().outcome() == Outcome::Waiting && unsafe { core.receivers.remove(node) }
    }

    pub(super) fn add_sender(&self) {
        count_handle(&self.sender_handles);
    }

    pub(super) fn add_receiver(&self) {
        count_handle(&self.receiver_handles);
    }

    /// Drops a sending handle. The last one ends the channel.
    pub(super) fn drop_sender(&self) {
        // AcqRel: what was done through any handle is done before the end.
        if self.sender_handles.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        core.connected = false;
        self.readiness.note_receivable(true);
        finish_all(&core.receivers, Outcome::Closed, &mut wakes);
        core.tell_watchers(false, Outcome::Closed, &mut wakes);
        // The senders that these were to meet have been forgotten. The receivers begin again, and
        // find the channel closed.
        // SAFETY: the lock is held (rule 1 of `wait::list`).
        while let Some(receiver) = unsafe { core.meeting.receivers.pop_front() } {
            finish(receiver, Outcome::Missed, &mut wakes);
        }
    }

    /// Drops a receiving handle. With the last one, the messages go too.
    pub(super) fn drop_receiver(&self) {
        // AcqRel: see `drop_sender`.
        if self.receiver_handles.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        // Dropped after the lock is released: a message's destructor may do anything.
        let _messages;
        let mut wakes = Wakes::new();
        let mut core = self.lock();
        core.connected = false;
        _messages = std::mem::replace(&mut core.buffer, Buffer::new(None));
        core.items = 0;
        // A select with a reserved message had a handle, unless it has forgotten the reservation
        // and dropped the handle.
        core.meeting.items = 0;
        finish_all(&core.senders, Outcome::Closed, &mut wakes);
        self.readiness.note_sendable(true);
        core.tell_watchers(true, Outcome::Closed, &mut wakes);
    }
}

fn count_handle(handles: &AtomicUsize) {
    // Relaxed: the new handle is made from an existing one.
    if handles.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
        std::process::abort();
    }
}
