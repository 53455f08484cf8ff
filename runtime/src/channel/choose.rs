//! Waits for the first of several channel operations to become ready.
//!
//! A select asks each channel whose [`ReadyHint`] is open, one lock at a time, in random order. If
//! none is ready, but a few tasks on its processor are, it lets them run once and asks again:
//! queueing costs more than a switch, and those tasks may be what it waits for. Then it queues one
//! arm in each channel, again one at a time and in random order. If it finds one ready by then, it
//! gives up its [`Claim`], leaves all queues and begins again. Otherwise it sleeps until a partner
//! wins it (the claim lets only one do so), or until its time is up. crossbeam-channel's select is
//! built the same way.
//!
//! No wake is lost, because whether an operation is ready is checked under the lock under which its
//! arm is queued.
//!
//! In `select!`, the message of a receive is handed over in a [`Room`] in the frame. All arms share
//! one room, since only one arm is won. In two cases the message stays in the channel instead,
//! reserved, until the operation is completed: if it is too large for the room, and in a
//! [`Select`](super::Select), which may go to another thread where its messages may not. The moment
//! of a timer channel is always handed over.
//!
//! A select never meets itself, even with arms on both sides of one channel: it is queued only
//! while it sleeps.

use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use crate::channel::arm::{Arm, Claim, Outcome, Waiting};
use crate::channel::ready_hint::ReadyHint;
use crate::channel::{Receiver, RecvError, SendError, Sender};
use crate::prim;
use crate::scheduler::local;
use crate::sys::number::next_random;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::{self, wait_for};

/// One side of a channel as a select uses it, whatever its messages are.
pub(crate) trait Side {
    /// Chooses the operation, if it does not block. A received message goes to `room`, unless that
    /// is null.
    ///
    /// # Safety
    /// `room` is null or has room for a message. A timer channel's is never null.
    unsafe fn reserve(&self, room: *mut ()) -> Option<Outcome>;
    /// Whether the operation would not block.
    fn is_ready(&self) -> bool;
    /// When the operation will be ready by itself.
    fn due(&self) -> Option<Instant>;
    /// Queues an arm. If the operation is ready, returns false and does not queue it.
    ///
    /// # Safety
    /// The node is in no queue, is an arm of `select`, and stays where it is until
    /// [`leave`](Self::leave).
    unsafe fn join(&self, node: &Waiting, waiter: Waiter, select: &Claim, watch: bool) -> bool;
    /// Takes the arm out of the queue, if it is still there.
    ///
    /// # Safety
    /// The arm joined here, with the same `watch`, or is in no queue.
    unsafe fn leave(&self, node: &Waiting, watch: bool);
    /// Meets the sender of the reservation. Returns `None` if it has gone: the select then begins
    /// again. Returns any other reservation unchanged.
    ///
    /// # Safety
    /// As for [`reserve`](Self::reserve).
    unsafe fn meet(&self, reservation: Outcome, _room: *mut ()) -> Option<Outcome> {
        Some(reservation)
    }
    /// Releases a reservation, and drops a message that has been handed over to `room`.
    ///
    /// # Safety
    /// This side made the reservation to the caller, with this room.
    unsafe fn release(&self, reservation: Outcome, room: *mut ());
    /// Tells channels and their sides apart.
    fn identity(&self) -> (*const (), bool);
}

/// Where a message is handed over, if it fits.
#[repr(align(16))]
pub(crate) struct Room(UnsafeCell<MaybeUninit<[u8; 32]>>);

impl Room {
    pub(super) fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    const fn fits<T>() -> bool {
        size_of::<T>() <= size_of::<Self>() && align_of::<T>() <= align_of::<Self>()
    }

    fn as_ptr(&self) -> *mut () {
        self.0.get().cast()
    }
}

const _: () = assert!(Room::fits::<Instant>(), "a timer hands its moment over in the room");

/// An operation that a select may choose.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    side: &'a dyn Side,
    hint: ReadyHint<'a>,
    index: u32,
    /// Whether a message fits into a `Room`.
    fits: bool,
    /// Whether it may become ready by itself.
    timed: bool,
}

impl<'a> Operation<'a> {
    pub(super) fn send<T>(sender: &'a Sender<T>, index: usize) -> Self {
        Self { side: sender, hint: sender.hint(), index: index as u32, fits: false, timed: false }
    }

    /// With `fits`, the message is handed over in the room of a select that stays on the thread
    /// where it was made.
    pub(super) fn receive<T>(receiver: &'a Receiver<T>, index: usize, fits: bool) -> Self {
        let timed = receiver.is_timed();
        Self { side: receiver, hint: receiver.hint(), index: index as u32, fits: fits || timed, timed }
    }

    pub(super) fn index(&self) -> usize {
        self.index as usize
    }

    fn room(&self, room: &Room) -> *mut () {
        if self.fits { room.as_ptr() } else { null_mut() }
    }
}

/// What the macros turn into operations.
pub trait Handle {
    fn operation(&self, index: usize) -> Operation<'_>;
}

impl<T> Handle for Sender<T> {
    fn operation(&self, index: usize) -> Operation<'_> {
        Operation::send(self, index)
    }
}

impl<T> Handle for Receiver<T> {
    fn operation(&self, index: usize) -> Operation<'_> {
        Operation::receive(self, index, Room::fits::<T>())
    }
}

/// How long a select may wait.
#[derive(Clone, Copy)]
pub enum Limit {
    Now,
    Until(Instant),
    Never,
}

impl Limit {
    /// A limit of this length from now. A duration that cannot be represented waits forever.
    pub fn after(timeout: Duration) -> Self {
        prim::now().checked_add(timeout).map_or(Limit::Never, Limit::Until)
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Until(deadline) => Some(deadline),
            Limit::Now | Limit::Never => None,
        }
    }

    fn is_over(self) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= prim::now())
    }
}

/// The number of arms that need no allocation.
const FEW: usize = 8;

/// The arms of a select in their queues. They leave when this is dropped, for example by a
/// cancellation.
struct Queued<'s> {
    operations: &'s [Operation<'s>],
    nodes: &'s [Waiting],
    claim: &'s Claim,
    order: &'s Order,
    watch: bool,
    /// Whether any may be queued.
    joined: Cell<bool>,
}

impl Queued<'_> {
    /// Queues all arms. Returns false if one is ready and none was won.
    #[inline(never)]
    fn join(&self, waiter: Waiter) -> bool {
        self.leave();
        self.joined.set(true);
        self.claim.open();
        let arms = self.nodes.len();
        let (mut place, step) = self.order.round(arms);
        for _ in 0..arms {
            let (node, operation) = (&self.nodes[place], &self.operations[place]);
            // SAFETY: the node is in no queue; it outlives `self`, whose drop takes it out.
            if !unsafe { operation.side.join(node, waiter, self.claim, self.watch) } {
                // If an arm was won meanwhile, the winner's wake comes.
                return !self.claim.abort();
            }
            place += step;
            if place >= arms {
                place -= arms;
            }
        }
        true
    }

    #[inline(never)]
    fn leave(&self) {
        if !self.joined.replace(false) {
            return;
        }
        // The winner of an arm has taken it out.
        let won = self.claim.won();
        for (place, (node, operation)) in self.nodes.iter().zip(self.operations).enumerate() {
            if won != Some(place) {
                // SAFETY: the node joined there, or is in no queue.
                unsafe { operation.side.leave(node, self.watch) };
            }
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Which of several ready arms a select takes: one at random, each equally likely, or always the
/// first.
struct Order {
    random: Cell<u64>,
}

impl Order {
    #[inline]
    fn new(biased: bool) -> Self {
        Self { random: Cell::new(if biased { 0 } else { local::random() }) }
    }

    /// A number below `limit`: the upper half of the generator's output, scaled without a division.
    #[inline(always)]
    fn below(&self, limit: u32) -> u32 {
        if self.random.get() == 0 {
            return 0;
        }
        (((next_random(&self.random) >> 32) * u64::from(limit)) >> 32) as u32
    }

    /// Where to begin among this many arms, and the step that reaches them all: forward or back. A
    /// partner meets the first of the arms that queue in one channel. Of any two arms, this makes
    /// either one the first with the same chance.
    #[inline(always)]
    fn round(&self, arms: usize) -> (usize, usize) {
        let first = self.below(arms as u32) as usize;
        (first, if self.below(2) == 0 { 1 } else { arms.wrapping_sub(1) })
    }

    /// Draws one of the `count` bits that are set.
    #[inline(always)]
    fn draw(&self, bits: u64, count: u32) -> u32 {
        let mut left = bits;
        for _ in 0..self.below(count) {
            left &= left - 1;
        }
        left.trailing_zeros()
    }
}

/// The number of operations that a poll looks at together.
const GROUP: usize = u64::BITS as usize;

/// Chooses an operation, if one can be chosen without waiting.
#[inline(never)]
fn poll(operations: &[Operation<'_>], order: &Order, watch: bool, room: &Room) -> Option<(usize, Outcome)> {
    if operations.len() <= GROUP {
        return poll_group(operations, 0, operations, order, watch, room);
    }
    let groups = operations.len().div_ceil(GROUP);
    let first = order.below(operations.len() as u32) as usize / GROUP;
    (0..groups).find_map(|step| {
        let start = (first + step) % groups * GROUP;
        let group = &operations[start..operations.len().min(start + GROUP)];
        poll_group(group, start, operations, order, watch, room)
    })
}

/// Does the same for a group of `operations` that begins at `start`.
#[inline(always)]
fn poll_group(
    group: &[Operation<'_>],
    start: usize,
    operations: &[Operation<'_>],
    order: &Order,
    watch: bool,
    room: &Room,
) -> Option<(usize, Outcome)> {
    let (mut open, mut count) = (0u64, 0);
    for (place, operation) in group.iter().enumerate() {
        let bit = u64::from(operation.hint.may_be_ready());
        open |= bit << place;
        count += bit as u32;
    }
    while count > 0 {
        let drawn = order.draw(open, count);
        open &= !(1 << drawn);
        count -= 1;
        let place = start + drawn as usize;
        let operation = &operations[place];
        if watch {
            if operation.side.is_ready() {
                return Some((place, Outcome::Waiting));
            }
            continue;
        }
        // SAFETY: the room is null, or large enough for a message.
        let Some(reservation) = (unsafe { operation.side.reserve(operation.room(room)) }) else { continue };
        let kept = keep(operations, place, reservation, room);
        if kept.is_some() {
            return kept;
        }
    }
    None
}

/// Chooses an operation (or, with `watch`, finds a ready one) and returns its place. Returns `None`
/// if the time is up first.
#[inline(always)]
#[track_caller]
pub(super) fn run(
    operations: &[Operation<'_>],
    limit: Limit,
    biased: bool,
    watch: bool,
    room: &Room,
) -> Option<(usize, Outcome)> {
    wait::look_at_slice_if(|| !matches!(limit, Limit::Now));
    let order = Order::new(biased);
    let found = poll(operations, &order, watch, room);
    if found.is_some() {
        return found;
    }
    if let Limit::Now = limit {
        // Look again. During the first look, a message may have moved from a channel that was not
        // yet looked at to one that had been. If only one message moves, then the answer that
        // none was ready is true of the moment between the two looks. If several come and go, each
        // look may miss another one.
        let found = poll(operations, &order, watch, room);
        if found.is_none() {
            wait::yield_if_hogging();
        }
        return found;
    }
    if wait::let_few_run(Reason::Select, || earliest(operations, limit)) {
        let found = poll(operations, &order, watch, room);
        if found.is_some() || limit.is_over() {
            return found;
        }
    }
    let claim = Claim::new();
    let mut nodes = Nodes::new();
    let nodes = nodes.make(&claim, operations, room);
    let queued = Queued { operations, nodes, claim: &claim, order: &order, watch, joined: Cell::new(false) };
    loop {
        let deadline = earliest(operations, limit);
        let _ = wait_for(Reason::Select, deadline, |waiter| queued.join(waiter), || claim.abort());
        let found = queued.outcome(room).or_else(|| poll(operations, &order, watch, room));
        if found.is_some() || limit.is_over() {
            return found;
        }
    }
}

impl Queued<'_> {
    /// What was won in a wait.
    #[inline(never)]
    fn outcome(&self, room: &Room) -> Option<(usize, Outcome)> {
        self.leave();
        let place = self.claim.won()?;
        let outcome = self.nodes[place].data().outcome();
        if self.watch {
            return Some((place, outcome));
        }
        // An arm that missed its partner begins again.
        if outcome == Outcome::Missed { None } else { keep(self.operations, place, outcome, room) }
    }
}

/// What is left of a reservation once the partner, if there is one to meet, has come.
#[inline(always)]
fn keep(operations: &[Operation<'_>], place: usize, reservation: Outcome, room: &Room) -> Option<(usize, Outcome)> {
    let operation = &operations[place];
    if reservation != Outcome::Meets {
        return Some((place, reservation));
    }
    // SAFETY: the room is null, or large enough for a message.
    unsafe { operation.side.meet(reservation, operation.room(room)) }.map(|reservation| (place, reservation))
}

prim::thread_local! {
    /// A block for the nodes of a select with many arms, while none uses it. The last select leaves
    /// it for the next.
    static SPARE: Cell<Vec<Waiting>> = Cell::new(Vec::new());
}

/// The largest block that is kept, in nodes.
const KEPT: usize = 1024;

// Never inlined, like every access to a thread-local here.
#[inline(never)]
fn take_block() -> Vec<Waiting> {
    SPARE.try_with(Cell::take).unwrap_or_default()
}

#[inline(never)]
fn keep_block(mut block: Vec<Waiting>) {
    block.clear();
    if block.capacity() <= KEPT {
        // If the thread is ending, the block goes too.
        let _ = SPARE.try_with(|spare| spare.set(block));
    }
}

/// The nodes of a select's arms. They are in its frame if they are few.
struct Nodes {
    few: [MaybeUninit<Waiting>; FEW],
    /// How many of `few` have been written.
    count: usize,
    many: Vec<Waiting>,
}

impl Nodes {
    #[inline(always)]
    fn new() -> Self {
        Self { few: [const { MaybeUninit::uninit() }; FEW], count: 0, many: Vec::new() }
    }

    /// Makes a node for each operation. Called once.
    #[inline(never)]
    fn make(&mut self, claim: *const Claim, operations: &[Operation<'_>], room: &Room) -> &[Waiting] {
        let arms = operations.len();
        let node = |place: usize| Waiting::new(Arm::of_select(claim, place, operations[place].room(room)));
        if arms > FEW {
            self.many = take_block();
            self.many.extend((0..arms).map(node));
            return &self.many;
        }
        for (place, room) in self.few[..arms].iter_mut().enumerate() {
            room.write(node(place));
        }
        self.count = arms;
        // SAFETY: `arms` nodes have been written.
        unsafe { std::slice::from_raw_parts(self.few.as_ptr().cast(), arms) }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.few[..self.count] {
            // SAFETY: `count` nodes have been written.
            unsafe { node.assume_init_drop() };
        }
        if self.many.capacity() > 0 {
            keep_block(std::mem::take(&mut self.many));
        }
    }
}

/// When to stop waiting, if ever: when the time is up, or when a timer channel has a message.
#[inline]
fn earliest(operations: &[Operation<'_>], limit: Limit) -> Option<Instant> {
    let timed = operations.iter().filter(|operation| operation.timed);
    timed.filter_map(|operation| operation.side.due()).chain(limit.deadline()).min()
}

/// What a select has chosen, and owes to somebody. It has no destructor: `select!` holds it while
/// it looks for the arm. A destructor would keep the handles borrowed until the end of the arm, and
/// the arm may assign to them or move them.
#[must_use = "a reservation that is neither kept nor released is owed for ever"]
pub struct Chosen<'a> {
    operation: Operation<'a>,
    reservation: Outcome,
    room: Room,
}

impl<'a> Chosen<'a> {
    #[inline(always)]
    #[track_caller]
    pub fn among(operations: &[Operation<'a>], limit: Limit, biased: bool) -> Option<Self> {
        let room = Room::new();
        let (place, reservation) = run(operations, limit, biased, false, &room)?;
        Some(Self { operation: operations[place], reservation, room })
    }

    pub fn index(&self) -> usize {
        self.operation.index as usize
    }

    /// Turns it into an operation to be completed. Called before the message of a send is
    /// evaluated, which may panic.
    pub fn hold(self) -> Selected<'a> {
        Selected(self)
    }
}

/// A chosen operation. It is completed, or released when this is dropped.
pub struct Selected<'a>(Chosen<'a>);

impl Selected<'_> {
    pub fn index(&self) -> usize {
        self.0.index()
    }

    #[inline]
    #[track_caller]
    pub fn send<T>(self, sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        assert!(self.0.operation.side.identity() == sender.identity(), "passed a sender that wasn't selected");
        let selected = ManuallyDrop::new(self);
        // SAFETY: the reservation was made by this channel, and is used up.
        unsafe { sender.complete(selected.0.reservation, message) }
    }

    #[inline]
    #[track_caller]
    pub fn recv<T>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        assert!(self.0.operation.side.identity() == receiver.identity(), "passed a receiver that wasn't selected");
        let selected = ManuallyDrop::new(self);
        // SAFETY: the reservation was made by this channel, and is used up. A message in the room
        // is of this channel's type.
        unsafe { receiver.complete(selected.0.reservation, selected.0.room.as_ptr().cast()) }
    }
}

impl Drop for Selected<'_> {
    fn drop(&mut self) {
        // SAFETY: the operation was not completed.
        unsafe { self.0.operation.side.release(self.0.reservation, self.0.room.as_ptr()) };
    }
}
