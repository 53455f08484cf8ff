//! Waiting for whichever of several channel operations is ready first.
//!
//! A select asks each channel, one lock at a time, in random order. If none is ready it queues one arm in each, again one at a time;
//! if it finds one ready by then, it gives up its [`Claim`], leaves all queues and begins again. Otherwise it sleeps, until a partner
//! wins it (by the claim: only one does), or until its time is up. crossbeam-channel's select is built the same way. That no wake is
//! lost rests on one thing: whether an operation is ready is looked at under the lock under which its arm is queued.
//!
//! A select never meets itself, even with arms on both sides of one channel: it is queued only while it sleeps.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use crate::channel::core::{Arm, Claim, Outcome, Waiting};
use crate::channel::{
    ReadyTimeoutError, Receiver, RecvError, SelectTimeoutError, SendError, Sender, TryReadyError, TrySelectError,
};
use crate::scheduler::local;
use crate::wait::{Reason, Waiter, wait_for};

/// What the operation that was selected has been promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promise {
    Channel(Outcome),
    /// The message of a timer channel.
    Moment(Instant),
}

/// One side of a channel, as a select uses it, whatever its messages are.
pub(crate) trait Side {
    /// Chooses the operation, if it does not block.
    fn promise(&self) -> Option<Promise>;
    /// Whether it would not block.
    fn is_ready(&self) -> bool;
    /// When it will be ready by itself.
    fn due(&self) -> Option<Instant>;
    /// Queues an arm; false, and not queued, if the operation is ready.
    ///
    /// # Safety
    /// The node is in no queue, is an arm of `select`, and stays where it is until [`leave`](Self::leave).
    unsafe fn join(&self, node: &Waiting, waiter: Waiter, select: &Claim, watch: bool) -> bool;
    /// Takes the arm out of the queue, if it is still there.
    ///
    /// # Safety
    /// It joined here, with the same `watch`.
    unsafe fn leave(&self, node: &Waiting, watch: bool);
    /// Gives a promise back.
    fn release(&self, promise: Promise);
    /// Tells channels apart, and their sides.
    fn identity(&self) -> (*const (), bool);
}

/// An operation that a select may choose.
#[derive(Clone, Copy)]
pub struct Operation<'a> {
    side: &'a dyn Side,
    index: usize,
}

impl<'a> Operation<'a> {
    fn new(side: &'a dyn Side, index: usize) -> Self {
        Self { side, index }
    }
}

/// What the macros make operations of.
pub trait Handle {
    fn operation(&self, index: usize) -> Operation<'_>;
}

impl<T> Handle for Sender<T> {
    fn operation(&self, index: usize) -> Operation<'_> {
        Operation::new(self, index)
    }
}

impl<T> Handle for Receiver<T> {
    fn operation(&self, index: usize) -> Operation<'_> {
        Operation::new(self, index)
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
    /// So long from now; for ever if that is too long to say.
    pub fn after(timeout: Duration) -> Self {
        Instant::now().checked_add(timeout).map_or(Limit::Never, Limit::Until)
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Until(deadline) => Some(deadline),
            Limit::Now | Limit::Never => None,
        }
    }
}

/// Arms that need no allocation.
const FEW: usize = 8;

/// The arms of a select in their queues. They leave when this is dropped, by a cancellation for instance.
struct Queued<'s> {
    operations: &'s [Operation<'s>],
    nodes: &'s [Waiting],
    claim: &'s Claim,
    watch: bool,
    joined: Cell<usize>,
}

impl Queued<'_> {
    /// Queues all arms; false if one is ready, and none was won.
    #[inline(never)]
    fn join(&self, waiter: Waiter) -> bool {
        self.leave();
        self.claim.open();
        for (node, operation) in self.nodes.iter().zip(self.operations) {
            // SAFETY: the node is in no queue; it outlives `self`, whose drop takes it out.
            if !unsafe { operation.side.join(node, waiter, self.claim, self.watch) } {
                // If it was won meanwhile, the winner's wake comes.
                return !self.claim.abort();
            }
            self.joined.set(self.joined.get() + 1);
        }
        true
    }

    #[inline(never)]
    fn leave(&self) {
        for (node, operation) in self.nodes.iter().zip(self.operations).take(self.joined.replace(0)) {
            // SAFETY: it joined there.
            unsafe { operation.side.leave(node, self.watch) };
        }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The first operation that can be chosen without waiting.
#[inline(never)]
fn poll(operations: &[Operation<'_>], watch: bool) -> Option<(usize, Promise)> {
    operations.iter().enumerate().find_map(|(place, operation)| {
        let promise = if watch {
            operation.side.is_ready().then_some(Promise::Channel(Outcome::Waiting))
        } else {
            operation.side.promise()
        };
        promise.map(|promise| (place, promise))
    })
}

/// Chooses an operation (or, with `watch`, finds a ready one) and tells its place; `None` if the time is up before.
#[inline(always)]
#[track_caller]
fn run(operations: &mut [Operation<'_>], limit: Limit, biased: bool, watch: bool) -> Option<(usize, Promise)> {
    if !biased {
        shuffle(operations);
    }
    let operations = &*operations;
    if let Some(found) = poll(operations, watch) {
        return Some(found);
    }
    if let Limit::Now = limit {
        return None;
    }
    let claim = Claim::new();
    let mut nodes = Nodes::new();
    let nodes = nodes.make(&claim, operations.len());
    let queued = Queued { operations, nodes, claim: &claim, watch, joined: Cell::new(0) };
    loop {
        let deadline = earliest(operations, limit);
        let _ = wait_for(Reason::Select, deadline, |waiter| queued.join(waiter), || claim.abort());
        if let Some(found) = queued.outcome() {
            return Some(found);
        }
        if limit.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            return None;
        }
    }
}

impl Queued<'_> {
    /// After a wait: what was won, or can be had now.
    #[inline(never)]
    fn outcome(&self) -> Option<(usize, Promise)> {
        self.leave();
        if let Some(place) = self.claim.won() {
            let outcome = self.nodes[place].data().outcome();
            // A watcher was only told to look; it reports what it was told of, as the promise that a wait for it implies.
            if self.watch || outcome != Outcome::Missed {
                return Some((place, Promise::Channel(outcome)));
            }
        }
        poll(self.operations, self.watch)
    }
}

/// The nodes of a select's arms: in its frame, if they are few.
struct Nodes {
    few: [MaybeUninit<Waiting>; FEW],
    /// How many of `few` are there.
    count: usize,
    many: Vec<Waiting>,
}

impl Nodes {
    #[inline(always)]
    fn new() -> Self {
        Self { few: [const { MaybeUninit::uninit() }; FEW], count: 0, many: Vec::new() }
    }

    /// Makes one for each of so many arms. Once.
    #[inline(never)]
    fn make(&mut self, claim: *const Claim, arms: usize) -> &[Waiting] {
        let node = |place| Waiting::new(Arm::of_select(claim, place, std::ptr::null_mut()));
        if arms > FEW {
            self.many.extend((0..arms).map(node));
            return &self.many;
        }
        for (place, room) in self.few[..arms].iter_mut().enumerate() {
            room.write(node(place));
        }
        self.count = arms;
        // SAFETY: so many have been written.
        unsafe { std::slice::from_raw_parts(self.few.as_ptr().cast(), arms) }
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.few[..self.count] {
            // SAFETY: so many have been written.
            unsafe { node.assume_init_drop() };
        }
    }
}

/// When to stop waiting, if ever: when the time is up, or a timer channel has a message.
#[inline(never)]
fn earliest(operations: &[Operation<'_>], limit: Limit) -> Option<Instant> {
    operations.iter().filter_map(|operation| operation.side.due()).chain(limit.deadline()).min()
}

/// Fisher and Yates.
#[inline(never)]
fn shuffle(operations: &mut [Operation<'_>]) {
    for last in (1..operations.len()).rev() {
        operations.swap(last, local::random_below(last + 1));
    }
}

/// An operation that was selected: to be completed, or released when this is dropped.
pub struct Selected<'a> {
    operation: Operation<'a>,
    promise: Promise,
}

impl<'a> Selected<'a> {
    #[inline(always)]
    #[track_caller]
    pub fn among(operations: &mut [Operation<'a>], limit: Limit, biased: bool) -> Option<Self> {
        let (place, promise) = run(operations, limit, biased, false)?;
        Some(Self { operation: operations[place], promise })
    }

    pub fn index(&self) -> usize {
        self.operation.index
    }

    #[inline]
    pub fn send<T>(self, sender: &Sender<T>, message: T) -> Result<(), SendError<T>> {
        assert!(self.operation.side.identity() == sender.identity(), "passed a sender that wasn't selected");
        // SAFETY: the promise was made for this channel, and is used up.
        unsafe { sender.complete(self.into_promise(), message) }
    }

    #[inline]
    pub fn recv<T>(self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        assert!(self.operation.side.identity() == receiver.identity(), "passed a receiver that wasn't selected");
        // SAFETY: as above.
        unsafe { receiver.complete(self.into_promise()) }
    }

    fn into_promise(self) -> Promise {
        let promise = self.promise;
        std::mem::forget(self);
        promise
    }
}

impl Drop for Selected<'_> {
    fn drop(&mut self) {
        self.operation.side.release(self.promise);
    }
}

const NO_OPERATIONS: &str = "no operations have been added to `Select`";

/// Selects from a set of channel operations that is made at run time; [`select!`](crate::select!) is for one that is written down.
///
/// Operations are added with [`send`](Self::send) and [`recv`](Self::recv), which give them their index. Then either one of them is
/// *selected* and must be completed ([`try_select`](Self::try_select), [`select`](Self::select), …), or one is found *ready* and may be tried
/// ([`try_ready`](Self::try_ready), [`ready`](Self::ready), …), which may fail if somebody else is faster. An operation is ready also if it
/// will fail because the channel is disconnected.
///
/// ```
/// use greenloom::channel::{Select, unbounded};
///
/// let (s1, r1) = unbounded();
/// let (_s2, r2) = unbounded::<i32>();
/// s1.send(10).unwrap();
///
/// let mut select = Select::new();
/// let first = select.recv(&r1);
/// let second = select.recv(&r2);
/// let operation = select.select();
/// match operation.index() {
///     i if i == first => assert_eq!(operation.recv(&r1), Ok(10)),
///     i if i == second => unreachable!("nobody sends there"),
///     _ => unreachable!(),
/// }
/// ```
pub struct Select<'a> {
    operations: Vec<Operation<'a>>,
    next_index: usize,
    biased: bool,
}

// SAFETY: a select moves messages, if at all, from one place in memory to another; it neither looks at them nor drops them. All else
// that it touches is under the channels' locks.
unsafe impl Send for Select<'_> {}
// SAFETY: by shared reference it does nothing but print its name and copy itself.
unsafe impl Sync for Select<'_> {}

impl<'a> Select<'a> {
    /// No operations yet. Among several that are ready it will choose by chance.
    pub fn new() -> Self {
        Self { operations: Vec::new(), next_index: 0, biased: false }
    }

    /// No operations yet. Among several that are ready it will choose the one that was added first.
    pub fn new_biased() -> Self {
        Self { biased: true, ..Self::new() }
    }

    fn add(&mut self, side: &'a dyn Side) -> usize {
        let index = self.next_index;
        self.operations.push(Operation::new(side, index));
        self.next_index += 1;
        index
    }

    /// Adds a send operation, and returns its index: zero for the first, one for the second.
    pub fn send<T>(&mut self, s: &'a Sender<T>) -> usize {
        self.add(s)
    }

    /// Adds a receive operation, and returns its index: zero for the first, one for the second.
    pub fn recv<T>(&mut self, r: &'a Receiver<T>) -> usize {
        self.add(r)
    }

    /// Removes an operation, because its channel is disconnected, say. The others keep their indices.
    ///
    /// # Panics
    /// If there is no operation with this index, or it was removed before.
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.next_index, "index out of bounds; {index} >= {}", self.next_index);
        let place = self.operations.iter().position(|operation| operation.index == index);
        self.operations.remove(place.expect("no operation with this index"));
    }

    /// Forgets all operations and keeps their room, for others with another lifetime.
    pub fn recycle<'b>(mut self) -> Select<'b> {
        self.operations.clear();
        // Nothing is left in it; mapping an empty vector's elements keeps its allocation.
        let operations = self.operations.into_iter().map(|_| unreachable!("it is empty")).collect();
        Select { operations, next_index: 0, biased: self.biased }
    }

    #[inline(always)]
    #[track_caller]
    fn selected(&mut self, limit: Limit) -> Option<SelectedOperation<'a>> {
        let biased = self.biased;
        Selected::among(self.working_copy(), limit, biased)
            .map(|inner| SelectedOperation { inner: Some(inner), _marker: PhantomData })
    }

    /// The operations, in the order in which they were added: a shuffle leaves another one behind.
    fn working_copy(&mut self) -> &mut [Operation<'a>] {
        if self.biased && !self.operations.is_sorted_by_key(|operation| operation.index) {
            self.operations.sort_by_key(|operation| operation.index);
        }
        &mut self.operations
    }

    /// Selects an operation that is ready now. Never waits.
    ///
    /// # Errors
    /// If none is ready.
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        self.selected(Limit::Now).ok_or(TrySelectError)
    }

    /// Waits until an operation is ready, and selects it.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// If no operations have been added; inside [`no_suspend`](crate::no_suspend) if none is ready.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait.
    #[inline(always)]
    #[track_caller]
    pub fn select(&mut self) -> SelectedOperation<'a> {
        assert!(!self.operations.is_empty(), "{NO_OPERATIONS}");
        self.selected(Limit::Never).expect("without a limit it waits until there is one")
    }

    /// Waits until an operation is ready, and selects it, or until the time is up.
    ///
    /// Suspends the task; blocks a plain thread. Cancellation as in [`select`](Self::select).
    ///
    /// # Errors
    /// If none is ready within the time.
    #[track_caller]
    pub fn select_timeout(&mut self, timeout: Duration) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        match Limit::after(timeout) {
            Limit::Until(deadline) => self.select_deadline(deadline),
            _ => Ok(self.select()),
        }
    }

    /// As [`select_timeout`](Self::select_timeout), until a given moment.
    ///
    /// # Errors
    /// If none is ready by then.
    #[track_caller]
    pub fn select_deadline(&mut self, deadline: Instant) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        self.selected(Limit::Until(deadline)).ok_or(SelectTimeoutError)
    }

    #[inline(always)]
    #[track_caller]
    fn found_ready(&mut self, limit: Limit) -> Option<usize> {
        let biased = self.biased;
        let operations = self.working_copy();
        run(operations, limit, biased, true).map(|(place, _)| operations[place].index)
    }

    /// Finds an operation that is ready now, and returns its index. Never waits.
    ///
    /// # Errors
    /// If none is ready.
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.found_ready(Limit::Now).ok_or(TryReadyError)
    }

    /// Waits until an operation is ready, and returns its index. It may not be so any more when you try it.
    ///
    /// Suspends the task; blocks a plain thread. Cancellation as in [`select`](Self::select).
    ///
    /// # Panics
    /// If no operations have been added; inside [`no_suspend`](crate::no_suspend) if none is ready.
    #[track_caller]
    pub fn ready(&mut self) -> usize {
        assert!(!self.operations.is_empty(), "{NO_OPERATIONS}");
        self.found_ready(Limit::Never).expect("without a limit it waits until there is one")
    }

    /// As [`ready`](Self::ready), but no longer than this.
    ///
    /// # Errors
    /// If none is ready within the time.
    #[track_caller]
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        match Limit::after(timeout) {
            Limit::Until(deadline) => self.ready_deadline(deadline),
            _ => Ok(self.ready()),
        }
    }

    /// As [`ready`](Self::ready), but until a given moment.
    ///
    /// # Errors
    /// If none is ready by then.
    #[track_caller]
    pub fn ready_deadline(&mut self, deadline: Instant) -> Result<usize, ReadyTimeoutError> {
        self.found_ready(Limit::Until(deadline)).ok_or(ReadyTimeoutError)
    }
}

impl Clone for Select<'_> {
    fn clone(&self) -> Self {
        Self { operations: self.operations.clone(), next_index: self.next_index, biased: self.biased }
    }
}

impl Default for Select<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}

/// An operation that a [`Select`] has selected. It must be completed, by [`send`](Self::send) or [`recv`](Self::recv) with the handle that it
/// was added with (or a clone of that). Its partner may be waiting meanwhile: do not let it wait long.
///
/// # Panics
/// When it is dropped without having been completed, unless that is because of a panic; the channel stays usable in either case.
#[must_use = "a selected operation must be completed"]
pub struct SelectedOperation<'a> {
    inner: Option<Selected<'a>>,
    /// Stays with the thread or task that selected.
    _marker: PhantomData<*const ()>,
}

impl SelectedOperation<'_> {
    /// The index of the operation.
    pub fn index(&self) -> usize {
        self.inner.as_ref().map_or(usize::MAX, Selected::index)
    }

    /// Completes a send operation. It may wait for a partner that was selected too and has not completed its operation yet.
    ///
    /// # Errors
    /// If all receivers are gone: the error holds the message.
    ///
    /// # Panics
    /// If another operation was selected than that of this sender.
    #[track_caller]
    pub fn send<T>(mut self, s: &Sender<T>, msg: T) -> Result<(), SendError<T>> {
        self.take().send(s, msg)
    }

    /// Completes a receive operation. It may wait for a partner that was selected too and has not completed its operation yet.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone.
    ///
    /// # Panics
    /// If another operation was selected than that of this receiver.
    #[track_caller]
    pub fn recv<T>(mut self, r: &Receiver<T>) -> Result<T, RecvError> {
        self.take().recv(r)
    }

    fn take(&mut self) -> Selected<'_> {
        let Some(Selected { operation, promise }) = self.inner.as_ref() else { unreachable!("completed by value, once") };
        let selected = Selected { operation: *operation, promise: *promise };
        std::mem::forget(self.inner.take());
        selected
    }
}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}

impl Drop for SelectedOperation<'_> {
    fn drop(&mut self) {
        if let Some(selected) = self.inner.take() {
            drop(selected);
            if !crate::prim::thread::panicking() {
                panic!("dropped `SelectedOperation` without completing the operation");
            }
        }
    }
}
