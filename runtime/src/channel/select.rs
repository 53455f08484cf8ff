//! `Select`: a set of operations that is built at run time.

use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::channel::choose::{Chosen, Limit, Operation, Room, Selected, run};
use crate::channel::{
    ReadyTimeoutError, Receiver, RecvError, SelectTimeoutError, SendError, Sender, TryReadyError, TrySelectError,
};

const COMPLETED_ONCE: &str = "it is completed by value, once";
const NO_OPERATIONS: &str = "no operations have been added to `Select`";

/// Selects from a set of channel operations that is built at run time. For a set that is written in
/// the source, there is [`select!`](crate::select!).
///
/// [`send`](Self::send) and [`recv`](Self::recv) add an operation and return its index. Then either
/// one operation is *selected* and must be completed ([`try_select`](Self::try_select),
/// [`select`](Self::select), …), or one is found *ready* and may be tried
/// ([`try_ready`](Self::try_ready), [`ready`](Self::ready), …). Such a try may fail if somebody
/// else is faster. An operation is also ready if it will fail because the channel is disconnected.
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

// SAFETY: a select at most moves messages from a frame into a buffer. It neither looks at them nor
// drops them: none is handed over to it (`fits` is false) except a timer's moment, which is `Send`.
// Everything else that it touches is under the channels' locks.
unsafe impl Send for Select<'_> {}
// SAFETY: by shared reference it only prints its name and copies itself.
unsafe impl Sync for Select<'_> {}

impl<'a> Select<'a> {
    /// Creates a `Select` without operations. Among several that are ready, it will choose at
    /// random.
    pub fn new() -> Self {
        Self { operations: Vec::new(), next_index: 0, biased: false }
    }

    /// Creates a `Select` without operations. Among several that are ready, it will choose the one
    /// that was added first.
    pub fn new_biased() -> Self {
        Self { biased: true, ..Self::new() }
    }

    fn take_index(&mut self) -> usize {
        self.next_index += 1;
        self.next_index - 1
    }

    /// Adds a send operation and returns its index: zero for the first, one for the second.
    pub fn send<T>(&mut self, s: &'a Sender<T>) -> usize {
        let index = self.take_index();
        self.operations.push(Operation::send(s, index));
        index
    }

    /// Adds a receive operation and returns its index: zero for the first, one for the second.
    pub fn recv<T>(&mut self, r: &'a Receiver<T>) -> usize {
        let index = self.take_index();
        self.operations.push(Operation::receive(r, index, false));
        index
    }

    /// Removes an operation, for example because its channel is disconnected. The others keep their
    /// indices.
    ///
    /// # Panics
    /// If there is no operation with this index, or it has already been removed.
    #[track_caller]
    pub fn remove(&mut self, index: usize) {
        assert!(index < self.next_index, "index out of bounds; {index} >= {}", self.next_index);
        let place = self.operations.iter().position(|operation| operation.index() == index);
        self.operations.remove(place.expect("no operation with this index"));
    }

    /// Removes all operations but keeps their memory, for operations with another lifetime.
    pub fn recycle<'b>(mut self) -> Select<'b> {
        self.operations.clear();
        // The vector is empty. Mapping the elements of an empty vector keeps its allocation.
        let operations = self.operations.into_iter().map(|_| unreachable!("it is empty")).collect();
        Select { operations, next_index: 0, biased: self.biased }
    }

    #[inline(always)]
    #[track_caller]
    fn selected(&mut self, limit: Limit) -> Option<SelectedOperation<'a>> {
        let inner = Chosen::among(&self.operations, limit, self.biased)?.hold();
        Some(SelectedOperation { inner: Some(inner), _marker: PhantomData })
    }

    /// Selects an operation that is ready now. It does not wait for one to become ready. However,
    /// in a channel without capacity, it waits for a sender that was also selected and has yet to
    /// bring its message. A failure may [give way](crate#what-suspends).
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
    /// If no operations have been added, or if none is ready inside
    /// [`no_suspend`](crate::no_suspend).
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait.
    #[inline(always)]
    #[track_caller]
    pub fn select(&mut self) -> SelectedOperation<'a> {
        assert!(!self.operations.is_empty(), "{NO_OPERATIONS}");
        self.selected(Limit::Never).expect("without a limit it waits until there is one")
    }

    /// Waits until an operation is ready and selects it, or until the time is up.
    ///
    /// Suspends the task; blocks a plain thread. Cancellation works as in [`select`](Self::select).
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

    /// Like [`select_timeout`](Self::select_timeout), but waits until `deadline`.
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
        let (place, _) = run(&self.operations, limit, self.biased, true, &Room::new())?;
        Some(self.operations[place].index())
    }

    /// Finds an operation that is ready now and returns its index. Does not wait; a failure may
    /// [give way](crate#what-suspends).
    ///
    /// # Errors
    /// If none is ready.
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        self.found_ready(Limit::Now).ok_or(TryReadyError)
    }

    /// Waits until an operation is ready and returns its index. It may no longer be ready when you
    /// try it.
    ///
    /// Suspends the task; blocks a plain thread. Cancellation works as in [`select`](Self::select).
    ///
    /// # Panics
    /// If no operations have been added, or if none is ready inside
    /// [`no_suspend`](crate::no_suspend).
    #[track_caller]
    pub fn ready(&mut self) -> usize {
        assert!(!self.operations.is_empty(), "{NO_OPERATIONS}");
        self.found_ready(Limit::Never).expect("without a limit it waits until there is one")
    }

    /// Like [`ready`](Self::ready), but waits at most `timeout`.
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

    /// Like [`ready`](Self::ready), but waits until `deadline` at the latest.
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

/// An operation that a [`Select`] has selected. It must be completed by [`send`](Self::send) or
/// [`recv`](Self::recv), with the handle that it was added with, or a clone of that handle. Its
/// partner may be waiting: do not let it wait long.
///
/// # Panics
/// When it is dropped without having been completed, unless a panic is the reason. The channel
/// stays usable in either case.
#[must_use = "a selected operation must be completed"]
pub struct SelectedOperation<'a> {
    inner: Option<Selected<'a>>,
    /// Keeps it on the thread or task that selected.
    _marker: PhantomData<*const ()>,
}

impl SelectedOperation<'_> {
    /// Returns the index of the operation.
    pub fn index(&self) -> usize {
        self.inner.as_ref().map_or(usize::MAX, Selected::index)
    }

    /// Completes a send operation. It does not wait, unless the receiver that it was to meet is
    /// gone because of a panic. In that case it sends as [`Sender::send`] does.
    ///
    /// # Errors
    /// If all receivers are gone. The error holds the message.
    ///
    /// # Panics
    /// If the selected operation is not this sender's.
    #[track_caller]
    pub fn send<T>(mut self, s: &Sender<T>, msg: T) -> Result<(), SendError<T>> {
        self.inner.take().expect(COMPLETED_ONCE).send(s, msg)
    }

    /// Completes a receive operation. It never waits: the message is there.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone.
    ///
    /// # Panics
    /// If the selected operation is not this receiver's.
    #[track_caller]
    pub fn recv<T>(mut self, r: &Receiver<T>) -> Result<T, RecvError> {
        self.inner.take().expect(COMPLETED_ONCE).recv(r)
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
