//! Channels: crossbeam-channel's interface, for tasks and plain threads alike, with Go's rules underneath.
//!
//! A channel has any number of senders and receivers, all of which may be cloned and shared. Waiting suspends only the task; on a
//! plain OS thread it blocks the thread, so that the two may talk, also across runtimes and outside of any.
//!
//! | channel | holds |
//! |---|---|
//! | [`bounded(n)`](bounded) | `n` messages; a sender waits while it is full |
//! | `bounded(0)` | none: a send and a receive meet, and the value goes from one frame into the other |
//! | [`unbounded()`](unbounded) | any number: a sender never waits |
//! | [`after(d)`](after), [`at(t)`](at) | one message, when the time has come |
//! | [`tick(d)`](tick) | a message every `d` |
//! | [`never()`](never()) | none, ever |
//!
//! ```
//! use greenloom::channel::bounded;
//!
//! greenloom::run(|| {
//!     let (jobs, inbox) = bounded::<u64>(8);
//!     let workers: Vec<_> = (0..4)
//!         .map(|_| {
//!             let inbox = inbox.clone();
//!             // Ends when all senders are gone.
//!             greenloom::spawn(move || inbox.iter().map(|n| n * n).sum::<u64>())
//!         })
//!         .collect();
//!     for n in 1..=100 {
//!         jobs.send(n).unwrap();
//!     }
//!     drop(jobs);
//!     let sum: u64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
//!     assert_eq!(sum, 338_350);
//! });
//! ```
//!
//! # Disconnection
//!
//! When the last sender goes, receivers get what is left and then errors; when the last receiver goes, what is left is dropped, and
//! senders get errors with their messages in them. Everyone who waits is woken.
//!
//! # Several at a time
//!
//! [`select!`](crate::select!) waits for the first of several operations; [`Select`] does so for a set that is made at run time.
//!
//! # Cancellation
//!
//! A task that is cancelled while it waits in a channel unwinds, and the channel is as if it had never come. The message of a
//! cancelled `send` is dropped. If a partner has taken or given the message before, the operation returns as usual, and the
//! cancellation comes at the next suspension.
//!
//! # Coming from Go
//!
//! | Go | here |
//! |---|---|
//! | `make(chan T, n)` | [`bounded(n)`](bounded) |
//! | `ch <- v`, `v := <-ch` | [`s.send(v)`](Sender::send), [`r.recv()`](Receiver::recv) |
//! | `close(ch)` | drop all senders |
//! | `for v := range ch` | `for v in &r` |
//! | `select { … default: }` | [`select!`](crate::select!)`{ … default => … }` |
//! | `time.After(d)` in a select | [`after(d)`](after), or `default(d) => …` |
//! | a nil channel | [`never()`](never()) |

mod buffer;
mod core;
mod error;
mod iter;
mod promise;
#[allow(clippy::missing_const_for_thread_local, reason = "loom's macro takes no const initialiser")]
mod select;
mod select_macro;
mod timer;

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

pub use error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError, SendTimeoutError, TryReadyError, TryRecvError,
    TrySelectError, TrySendError,
};
pub use iter::{IntoIter, Iter, TryIter};
pub use select::{Select, SelectedOperation};

pub use crate::{select, select_biased};

use self::core::{Arm, Attempt, Channel, Claim, Outcome, Waiting};
use crate::prim::sync::Arc;
use crate::wait::{Reason, Waited, Waiter, sleep_until, wait_for};
use promise::Missed;
use select::{Promise, Side};
use timer::Timer;

/// What the macros expand to; nothing for anybody else.
#[doc(hidden)]
pub mod internal {
    pub use super::select::{Chosen, Handle, Limit, Operation, Selected};
    use super::{Receiver, Sender};

    pub fn sender<T>(sender: &Sender<T>) -> &Sender<T> {
        sender
    }

    pub fn receiver<T>(receiver: &Receiver<T>) -> &Receiver<T> {
        receiver
    }
}

/// A channel with room for `cap` messages. With no room, each send waits for its receive.
///
/// # Panics
/// If there is no memory for so many messages.
///
/// ```
/// let (s, r) = greenloom::channel::bounded(1);
/// s.send("once").unwrap();
/// assert!(s.try_send("twice").unwrap_err().is_full());
/// assert_eq!(r.recv(), Ok("once"));
/// ```
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    handles(Channel::new(Some(cap)))
}

/// A channel that takes any number of messages. Nothing slows its senders down: prefer [`bounded`] where they may be faster than
/// the receivers.
///
/// ```
/// let (s, r) = greenloom::channel::unbounded();
/// for i in 0..1000 {
///     s.send(i).unwrap();
/// }
/// assert_eq!(r.len(), 1000);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    handles(Channel::new(None))
}

fn handles<T>(channel: Channel<T>) -> (Sender<T>, Receiver<T>) {
    let channel = Arc::new(channel);
    (Sender { channel: channel.clone() }, Receiver { flavor: Flavor::Channel(channel) })
}

/// A channel that delivers one message, the moment itself, after this time has passed. It never disconnects. If the time is too
/// long to be said, it is [`never()`].
///
/// Nothing is set up until somebody waits.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// let start = Instant::now();
/// let due = greenloom::channel::after(Duration::from_millis(5)).recv().unwrap();
/// assert!(due >= start + Duration::from_millis(5) && Instant::now() >= due);
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    Instant::now().checked_add(duration).map_or_else(never, at)
}

/// A channel that delivers one message, the moment itself, when it has come. It never disconnects.
///
/// ```
/// let now = std::time::Instant::now();
/// assert_eq!(greenloom::channel::at(now).recv(), Ok(now));
/// ```
pub fn at(when: Instant) -> Receiver<Instant> {
    timer(Timer::new(when, None))
}

/// A channel that delivers a message, the moment that it is due, every so often, for the first time after `duration`. It never
/// disconnects. Ticks that nobody receives are not made up for. If the time is too long to be said, it is [`never()`].
///
/// ```
/// use std::time::Duration;
///
/// let ticker = greenloom::channel::tick(Duration::from_millis(2));
/// let (first, second) = (ticker.recv().unwrap(), ticker.recv().unwrap());
/// assert!(second >= first + Duration::from_millis(2));
/// ```
pub fn tick(duration: Duration) -> Receiver<Instant> {
    match Instant::now().checked_add(duration) {
        Some(first) => timer(Timer::new(first, Some(duration))),
        None => never(),
    }
}

fn timer(timer: Timer) -> Receiver<Instant> {
    Receiver { flavor: Flavor::Timer(Arc::new(timer), |moment| moment) }
}

/// A channel that never delivers a message and never disconnects: for an arm of a [`select!`](crate::select!) that is switched off.
///
/// ```
/// use greenloom::channel::{never, select};
///
/// let maybe: Option<greenloom::channel::Receiver<i32>> = None;
/// select! {
///     recv(maybe.unwrap_or_else(never)) -> _ => unreachable!(),
///     default => {}
/// }
/// ```
pub const fn never<T>() -> Receiver<T> {
    Receiver { flavor: Flavor::Never }
}

/// The sending side of a channel. Clone it for another sender; when all are gone, the channel is disconnected.
///
/// ```
/// let (s, r) = greenloom::channel::unbounded();
/// let other = s.clone();
/// greenloom::run(move || {
///     s.send(1).unwrap();
///     other.send(2).unwrap();
/// });
/// assert_eq!(r.iter().sum::<i32>(), 3);
/// ```
pub struct Sender<T> {
    channel: Arc<Channel<T>>,
}

/// The receiving side of a channel. Clone it for another receiver (each message goes to one of them); when all are gone, the channel
/// is disconnected.
///
/// ```
/// let (s, r) = greenloom::channel::bounded(2);
/// s.send("a").unwrap();
/// s.send("b").unwrap();
/// drop(s);
/// assert_eq!(r.iter().collect::<String>(), "ab");
/// assert!(r.recv().is_err());
/// ```
pub struct Receiver<T> {
    flavor: Flavor<T>,
}

enum Flavor<T> {
    Channel(Arc<Channel<T>>),
    /// The function is the identity: a timer's `T` is `Instant`.
    Timer(Arc<Timer>, fn(Instant) -> T),
    Never,
}

// SAFETY: handles give messages away and take them in, under the channel's lock; they never share one.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Sender<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Receiver<T> {}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}
impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

/// A message on its way out: dropped by an unwinding, unless it has been moved out of here.
struct Parcel<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Parcel<T> {
    fn cell(&self) -> *mut T {
        self.0.get().cast()
    }

    fn open(self) -> T {
        // SAFETY: it is there; `self` is forgotten.
        let message = unsafe { self.cell().read() };
        std::mem::forget(self);
        message
    }
}

impl<T> Drop for Parcel<T> {
    fn drop(&mut self) {
        // SAFETY: it has not been moved out, or `self` would have been forgotten.
        unsafe { self.0.get_mut().assume_init_drop() };
    }
}

/// Why a message was not sent.
enum Unsent {
    Closed,
    TimedOut,
}

impl<T> Sender<T> {
    #[inline(always)]
    #[track_caller]
    fn send_until(&self, message: T, deadline: Option<Instant>) -> Result<(), (Unsent, T)> {
        let parcel = Parcel(UnsafeCell::new(MaybeUninit::new(message)));
        // SAFETY: the message is there; where it is moved out, the parcel is forgotten.
        let unsent = match unsafe { self.channel.try_send(parcel.cell()) } {
            Attempt::Done => None,
            Attempt::Closed => Some(Unsent::Closed),
            _ => self.wait_to_send(&parcel, deadline),
        };
        match unsent {
            None => {
                std::mem::forget(parcel);
                Ok(())
            }
            Some(unsent) => Err((unsent, parcel.open())),
        }
    }

    #[inline(always)]
    #[track_caller]
    fn wait_to_send(&self, parcel: &Parcel<T>, deadline: Option<Instant>) -> Option<Unsent> {
        let node = Waiting::new(Arm::plain(parcel.cell()));
        // SAFETY: the node is in no queue when this is called, and taken out before it goes: by whoever serves it, or by `withdraw`.
        let publish = |waiter| unsafe { self.channel.send_or_wait(&node, waiter) };
        // SAFETY: it was queued there.
        let withdraw = || unsafe { self.channel.withdraw_sender(&node) };
        match wait_for(Reason::Send, deadline, publish, withdraw) {
            Waited::TimedOut => Some(Unsent::TimedOut),
            Waited::Done if node.data().outcome() == Outcome::Done => None,
            Waited::Done => Some(Unsent::Closed),
        }
    }

    /// Sends a message if there is room, or a receiver that waits for it. Never waits.
    ///
    /// # Errors
    /// If there is not, or all receivers are gone; the error holds the message.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::bounded(1);
    /// assert!(s.try_send(1).is_ok());
    /// assert!(s.try_send(2).unwrap_err().is_full());
    /// drop(r);
    /// assert!(s.try_send(3).unwrap_err().is_disconnected());
    /// ```
    pub fn try_send(&self, msg: T) -> Result<(), TrySendError<T>> {
        let message = MaybeUninit::new(msg);
        // SAFETY: the message is there, and not touched again if it is moved out.
        let unsent: fn(T) -> TrySendError<T> = match unsafe { self.channel.try_send(message.as_ptr()) } {
            Attempt::Done => return Ok(()),
            Attempt::Closed => TrySendError::Disconnected,
            _ => TrySendError::Full,
        };
        // SAFETY: it is still there.
        Err(unsent(unsafe { message.assume_init() }))
    }

    /// Sends a message, waiting for room; with a capacity of zero, for a receiver.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If all receivers are gone, or go meanwhile; the error holds the message.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, and the message is dropped.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::bounded(0);
    /// greenloom::run(move || {
    ///     let sender = greenloom::spawn(move || s.send("hello"));
    ///     assert_eq!(r.recv(), Ok("hello"));
    ///     assert_eq!(sender.join().unwrap(), Ok(()));
    /// });
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn send(&self, msg: T) -> Result<(), SendError<T>> {
        self.send_until(msg, None).map_err(|(_, message)| SendError(message))
    }

    /// As [`send`](Self::send), but waits no longer than this.
    ///
    /// # Errors
    /// If the time is up, or all receivers are gone; the error holds the message.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::bounded(0);
    /// let error = s.send_timeout(1, std::time::Duration::from_millis(1)).unwrap_err();
    /// assert!(error.is_timeout());
    /// # drop(r);
    /// ```
    #[track_caller]
    pub fn send_timeout(&self, msg: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_by(msg, Instant::now().checked_add(timeout))
    }

    /// As [`send`](Self::send), but waits no longer than until this moment.
    ///
    /// # Errors
    /// If the time is up, or all receivers are gone; the error holds the message.
    #[track_caller]
    pub fn send_deadline(&self, msg: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_by(msg, Some(deadline))
    }

    #[track_caller]
    fn send_by(&self, msg: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        self.send_until(msg, deadline).map_err(|(unsent, message)| match unsent {
            Unsent::TimedOut => SendTimeoutError::Timeout(message),
            Unsent::Closed => SendTimeoutError::Disconnected(message),
        })
    }

    /// Whether no message is in the channel; always, if its capacity is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room; always, if its capacity is zero.
    pub fn is_full(&self) -> bool {
        self.channel.is_full()
    }

    /// How many messages are in the channel.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// How many messages it has room for; `None` if for any number.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.capacity()
    }

    /// Whether both send to the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }

    /// Completes what a select was promised.
    ///
    /// # Safety
    /// The promise was made to the caller by this channel, for a send, and is used up.
    pub(crate) unsafe fn complete(&self, promise: Promise, message: T) -> Result<(), SendError<T>> {
        let Promise::Channel(outcome) = promise else { unreachable!("timers are not sent to") };
        let parcel = Parcel(UnsafeCell::new(MaybeUninit::new(message)));
        // SAFETY: the caller's promise; the message is there, and where it is moved out, the parcel is forgotten.
        match unsafe { self.channel.complete_send(outcome, parcel.cell()) } {
            Ok(true) => {
                std::mem::forget(parcel);
                Ok(())
            }
            Ok(false) => Err(SendError(parcel.open())),
            Err(Missed) => self.send(parcel.open()),
        }
    }
}

/// Why nothing was received.
enum Missing {
    Closed,
    TimedOut,
}

impl<T> Receiver<T> {
    #[inline(always)]
    #[track_caller]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, Missing> {
        match &self.flavor {
            Flavor::Channel(channel) => Self::recv_from(channel, deadline),
            Flavor::Timer(timer, convert) => match timer.receive(deadline) {
                Some(moment) => Ok(convert(moment)),
                None => Err(Missing::TimedOut),
            },
            Flavor::Never => {
                sleep_until(Reason::Receive, deadline);
                Err(Missing::TimedOut)
            }
        }
    }

    #[inline(always)]
    #[track_caller]
    fn recv_from(channel: &Channel<T>, deadline: Option<Instant>) -> Result<T, Missing> {
        let room = UnsafeCell::new(MaybeUninit::<T>::uninit());
        let cell: *mut T = room.get().cast();
        loop {
            // SAFETY: `cell` is room for a message.
            let outcome = match unsafe { channel.try_receive(cell) } {
                Attempt::Done => Outcome::Done,
                Attempt::Closed => Outcome::Closed,
                // SAFETY: as above.
                Attempt::Meets => unsafe { channel.meet(cell) },
                Attempt::Blocked | Attempt::NeedsBlock => match Self::wait_to_receive(channel, cell, deadline) {
                    Some(outcome) => outcome,
                    None => return Err(Missing::TimedOut),
                },
            };
            match outcome {
                // SAFETY: the message is there.
                Outcome::Done => return Ok(unsafe { cell.read() }),
                Outcome::Missed => {}
                _ => return Err(Missing::Closed),
            }
        }
    }

    #[inline(always)]
    #[track_caller]
    fn wait_to_receive(channel: &Channel<T>, cell: *mut T, deadline: Option<Instant>) -> Option<Outcome> {
        let node = Waiting::new(Arm::plain(cell));
        // SAFETY: the node is in no queue when this is called, and taken out before it goes: by whoever serves it, or by `withdraw`.
        let publish = |waiter| unsafe { channel.receive_or_wait(&node, waiter) };
        // SAFETY: it was queued there.
        let withdraw = || unsafe { channel.withdraw_receiver(&node) };
        match wait_for(Reason::Receive, deadline, publish, withdraw) {
            Waited::TimedOut => None,
            Waited::Done => Some(node.data().outcome()),
        }
    }

    /// Receives a message if there is one, or a sender that waits to give it. It never waits for a sender to come; but in a channel
    /// without capacity, a sender that waits in a [`select!`](crate::select!) evaluates its message only now, and that is waited for.
    ///
    /// # Errors
    /// If there is none; the error says whether there may be one later.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it meets such a sender; that one waits on.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::unbounded();
    /// assert!(r.try_recv().unwrap_err().is_empty());
    /// s.send(1).unwrap();
    /// drop(s);
    /// assert_eq!(r.try_recv(), Ok(1));
    /// assert!(r.try_recv().unwrap_err().is_disconnected());
    /// ```
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        let channel = match &self.flavor {
            Flavor::Channel(channel) => channel,
            Flavor::Timer(timer, convert) => return timer.try_receive().map(convert).ok_or(TryRecvError::Empty),
            Flavor::Never => return Err(TryRecvError::Empty),
        };
        let mut room = MaybeUninit::uninit();
        loop {
            // SAFETY: there is room for a message.
            match unsafe { channel.try_receive(room.as_mut_ptr()) } {
                Attempt::Done => {}
                Attempt::Closed => return Err(TryRecvError::Disconnected),
                // SAFETY: as above.
                Attempt::Meets => match unsafe { channel.meet(room.as_mut_ptr()) } {
                    Outcome::Done => {}
                    _ => continue,
                },
                Attempt::Blocked | Attempt::NeedsBlock => return Err(TryRecvError::Empty),
            }
            // SAFETY: the message is there.
            return Ok(unsafe { room.assume_init() });
        }
    }

    /// Receives a message, waiting for it.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone, or go meanwhile.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait. No message is lost.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::unbounded();
    /// greenloom::run(move || {
    ///     greenloom::spawn(move || s.send(5).unwrap());
    ///     assert_eq!(r.recv(), Ok(5));
    ///     assert!(r.recv().is_err());
    /// });
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_until(None).map_err(|_| RecvError)
    }

    /// As [`recv`](Self::recv), but waits no longer than this.
    ///
    /// # Errors
    /// If the time is up, or the channel is empty and all senders are gone.
    ///
    /// ```
    /// let (_s, r) = greenloom::channel::unbounded::<i32>();
    /// assert!(r.recv_timeout(std::time::Duration::from_millis(1)).unwrap_err().is_timeout());
    /// ```
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        self.recv_by(Instant::now().checked_add(timeout))
    }

    /// As [`recv`](Self::recv), but waits no longer than until this moment.
    ///
    /// # Errors
    /// If the time is up, or the channel is empty and all senders are gone.
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        self.recv_by(Some(deadline))
    }

    #[track_caller]
    fn recv_by(&self, deadline: Option<Instant>) -> Result<T, RecvTimeoutError> {
        self.recv_until(deadline).map_err(|missing| match missing {
            Missing::TimedOut => RecvTimeoutError::Timeout,
            Missing::Closed => RecvTimeoutError::Disconnected,
        })
    }

    /// Whether no message is in the channel; always, if its capacity is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is no room; always, if its capacity is zero.
    pub fn is_full(&self) -> bool {
        match &self.flavor {
            Flavor::Channel(channel) => channel.is_full(),
            Flavor::Timer(timer, _) => timer.is_ready(),
            Flavor::Never => true,
        }
    }

    /// How many messages are in the channel.
    pub fn len(&self) -> usize {
        match &self.flavor {
            Flavor::Channel(channel) => channel.len(),
            Flavor::Timer(timer, _) => usize::from(timer.is_ready()),
            Flavor::Never => 0,
        }
    }

    /// How many messages it has room for; `None` if for any number.
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavor {
            Flavor::Channel(channel) => channel.capacity(),
            Flavor::Timer(..) => Some(1),
            Flavor::Never => Some(0),
        }
    }

    /// Whether both receive from the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        match (&self.flavor, &other.flavor) {
            (Flavor::Channel(a), Flavor::Channel(b)) => Arc::ptr_eq(a, b),
            (Flavor::Timer(a, _), Flavor::Timer(b, _)) => Arc::ptr_eq(a, b),
            (Flavor::Never, Flavor::Never) => true,
            _ => false,
        }
    }

    /// The messages as they come, waiting for each, until the channel is disconnected.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::bounded(3);
    /// for i in 1..=3 {
    ///     s.send(i).unwrap();
    /// }
    /// drop(s);
    /// assert_eq!(r.iter().collect::<Vec<_>>(), [1, 2, 3]);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter::new(self)
    }

    /// The messages that are there, without waiting.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::unbounded();
    /// s.send(1).unwrap();
    /// assert_eq!(r.try_iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter::new(self)
    }
}

impl<T> Receiver<T> {
    /// Whether it becomes ready by itself.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self.flavor, Flavor::Timer(..))
    }

    /// Completes what a select was promised.
    ///
    /// # Safety
    /// The promise was made to the caller by this channel, for a receive, and is used up. If it is done, the message is at `handed`.
    #[inline]
    #[track_caller]
    pub(crate) unsafe fn complete(&self, promise: Promise, handed: *const T) -> Result<T, RecvError> {
        match (&self.flavor, promise) {
            // SAFETY: the caller's promise.
            (_, Promise::Channel(Outcome::Done)) => Ok(unsafe { handed.read() }),
            (Flavor::Channel(channel), Promise::Channel(Outcome::Item)) => {
                let mut room = MaybeUninit::uninit();
                // SAFETY: the caller's promise; there is room for a message, which is there afterwards.
                unsafe {
                    channel.complete_receive(room.as_mut_ptr());
                    Ok(room.assume_init())
                }
            }
            (_, Promise::Channel(Outcome::Closed)) => Err(RecvError),
            (Flavor::Timer(_, convert), Promise::Moment(moment)) => Ok(convert(moment)),
            _ => unreachable!("the promise came from this channel"),
        }
    }
}

impl<T> Side for Sender<T> {
    unsafe fn promise(&self, _room: *mut ()) -> Option<Promise> {
        self.channel.promise_send().map(Promise::Channel)
    }

    fn is_ready(&self) -> bool {
        self.channel.send_is_ready()
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    unsafe fn join(&self, node: &Waiting, waiter: Waiter, select: &Claim, watch: bool) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.channel.join_send(node, waiter, select, watch) }
    }

    unsafe fn leave(&self, node: &Waiting, watch: bool) {
        // SAFETY: the caller's promise.
        unsafe { self.channel.leave_send(node, watch) }
    }

    unsafe fn release(&self, promise: Promise, _room: *mut ()) {
        if let Promise::Channel(outcome) = promise {
            self.channel.release_send(outcome);
        }
    }

    fn identity(&self) -> (*const (), bool) {
        (Arc::as_ptr(&self.channel).cast(), true)
    }
}

impl<T> Side for Receiver<T> {
    unsafe fn promise(&self, room: *mut ()) -> Option<Promise> {
        match &self.flavor {
            // SAFETY: the caller's promise.
            Flavor::Channel(channel) => unsafe { channel.promise_receive(room.cast()) }.map(Promise::Channel),
            Flavor::Timer(timer, _) => timer.try_receive().map(Promise::Moment),
            Flavor::Never => None,
        }
    }

    fn is_ready(&self) -> bool {
        match &self.flavor {
            Flavor::Channel(channel) => channel.receive_is_ready(),
            Flavor::Timer(timer, _) => timer.is_ready(),
            Flavor::Never => false,
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.flavor {
            Flavor::Timer(timer, _) => timer.next(),
            _ => None,
        }
    }

    unsafe fn join(&self, node: &Waiting, waiter: Waiter, select: &Claim, watch: bool) -> bool {
        match &self.flavor {
            // SAFETY: the caller's promise.
            Flavor::Channel(channel) => unsafe { channel.join_receive(node, waiter, select, watch) },
            // Nobody serves these: the select's deadline is theirs.
            Flavor::Timer(timer, _) => !timer.is_ready(),
            Flavor::Never => true,
        }
    }

    unsafe fn leave(&self, node: &Waiting, watch: bool) {
        if let Flavor::Channel(channel) = &self.flavor {
            // SAFETY: the caller's promise.
            unsafe { channel.leave_receive(node, watch) }
        }
    }

    unsafe fn meet(&self, promise: Promise, room: *mut ()) -> Option<Promise> {
        let Flavor::Channel(channel) = &self.flavor else { return Some(promise) };
        // SAFETY: the caller's promise.
        match unsafe { channel.meet(room.cast()) } {
            Outcome::Missed => None,
            outcome => Some(Promise::Channel(outcome)),
        }
    }

    unsafe fn release(&self, promise: Promise, room: *mut ()) {
        match (&self.flavor, promise) {
            // SAFETY: the message has been handed over there, and nobody else has it.
            (_, Promise::Channel(Outcome::Done)) => unsafe { room.cast::<T>().drop_in_place() },
            (Flavor::Channel(channel), Promise::Channel(outcome)) => channel.release_receive(outcome),
            _ => {}
        }
    }

    fn identity(&self) -> (*const (), bool) {
        let channel = match &self.flavor {
            Flavor::Channel(channel) => Arc::as_ptr(channel).cast(),
            Flavor::Timer(timer, _) => Arc::as_ptr(timer).cast(),
            Flavor::Never => std::ptr::null(),
        };
        (channel, false)
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.channel.add_sender();
        Self { channel: self.channel.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.channel.drop_sender();
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        let flavor = match &self.flavor {
            Flavor::Channel(channel) => {
                channel.add_receiver();
                Flavor::Channel(channel.clone())
            }
            Flavor::Timer(timer, convert) => Flavor::Timer(timer.clone(), *convert),
            Flavor::Never => Flavor::Never,
        };
        Self { flavor }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        if let Flavor::Channel(channel) = &self.flavor {
            channel.drop_receiver();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Receiver { .. }")
    }
}

impl<'a, T> IntoIterator for &'a Receiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for Receiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter::new(self)
    }
}
