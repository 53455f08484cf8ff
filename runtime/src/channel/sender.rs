//! The sending side.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use crate::channel::arm::{Arm, Claim, Outcome, Waiting};
use crate::channel::choose::Side;
use crate::channel::core::{Attempt, Channel};
use crate::channel::ready_hint::ReadyHint;
use crate::channel::reservation::Missed;
use crate::channel::{SendError, SendTimeoutError, TrySendError};
use crate::prim;
use crate::prim::sync::Arc;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::{WaitOutcome, look_at_slice_if, wait_for, yield_if_hogging};

/// The sending side of a channel. Clone it to get another sender. When all senders are gone, the
/// channel is disconnected.
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
    pub(super) channel: Arc<Channel<T>>,
}

// SAFETY: a handle gives messages away, under the channel's lock. It never shares one.
unsafe impl<T: Send> Send for Sender<T> {}
// SAFETY: a shared handle also only gives messages away, under the channel's lock.
unsafe impl<T: Send> Sync for Sender<T> {}

impl<T> UnwindSafe for Sender<T> {}
impl<T> RefUnwindSafe for Sender<T> {}

/// A message that is being sent. Unwinding drops it, unless it has been moved out.
struct Parcel<T>(UnsafeCell<MaybeUninit<T>>);

impl<T> Parcel<T> {
    fn cell(&self) -> *mut T {
        self.0.get().cast()
    }

    fn open(self) -> T {
        // SAFETY: the message is there, and `self` is forgotten.
        let message = unsafe { self.cell().read() };
        std::mem::forget(self);
        message
    }
}

impl<T> Drop for Parcel<T> {
    fn drop(&mut self) {
        // SAFETY: the message has not been moved out, or `self` would have been forgotten.
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
    pub(crate) fn hint(&self) -> ReadyHint<'_> {
        self.channel.readiness.send_hint()
    }

    #[inline(always)]
    #[track_caller]
    fn send_until(&self, message: T, deadline: Option<Instant>) -> Result<(), (Unsent, T)> {
        look_at_slice_if(|| self.channel.capacity().is_some());
        let parcel = Parcel(UnsafeCell::new(MaybeUninit::new(message)));
        // If there is nowhere to send it, the lock is taken only once, to queue.
        let attempt = if self.hint().may_be_ready() {
            // SAFETY: the message is there. If it is moved out, the parcel is forgotten.
            unsafe { self.channel.try_send(parcel.cell()) }
        } else {
            Attempt::Blocked
        };
        let unsent = match attempt {
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
        // SAFETY: the node is in no queue when this is called. It is taken out before it is
        // dropped: by the operation that serves it, or by `withdraw`.
        let publish = |waiter| unsafe { self.channel.send_or_wait(&node, waiter) };
        // SAFETY: `publish` queued the node there.
        let withdraw = || unsafe { self.channel.withdraw_sender(&node) };
        match wait_for(Reason::Send, deadline, publish, withdraw) {
            WaitOutcome::TimedOut => Some(Unsent::TimedOut),
            WaitOutcome::Done if node.data().outcome() == Outcome::Done => None,
            WaitOutcome::Done => Some(Unsent::Closed),
        }
    }

    /// Sends a message if there is room, or if a receiver waits for it. Does not wait; a failure
    /// may [give way](crate#what-suspends).
    ///
    /// # Errors
    /// If there is neither, or all receivers are gone. The error holds the message.
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
        // SAFETY: the message is there, and is not touched again if it is moved out.
        let unsent: fn(T) -> TrySendError<T> = match unsafe { self.channel.try_send(message.as_ptr()) } {
            Attempt::Done => return Ok(()),
            Attempt::Closed => TrySendError::Disconnected,
            _ => TrySendError::Full,
        };
        // SAFETY: the message is still there.
        let error = unsent(unsafe { message.assume_init() });
        yield_if_hogging();
        Err(error)
    }

    /// Sends a message. Waits for room or, if the capacity is zero, for a receiver.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If all receivers are gone, or go while it waits. The error holds the message.
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

    /// Like [`send`](Self::send), but waits at most `timeout`.
    ///
    /// # Errors
    /// If the time is up, or all receivers are gone. The error holds the message.
    ///
    /// ```
    /// let (s, r) = greenloom::channel::bounded(0);
    /// let error = s.send_timeout(1, std::time::Duration::from_millis(1)).unwrap_err();
    /// assert!(error.is_timeout());
    /// # drop(r);
    /// ```
    #[track_caller]
    pub fn send_timeout(&self, msg: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_by(msg, prim::now().checked_add(timeout))
    }

    /// Like [`send`](Self::send), but waits until `deadline` at the latest.
    ///
    /// # Errors
    /// If the time is up, or all receivers are gone. The error holds the message.
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

    /// Returns whether the channel holds no message. Always true if its capacity is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether there is no room. Always true if the capacity is zero.
    pub fn is_full(&self) -> bool {
        self.channel.is_full()
    }

    /// Returns the number of messages in the channel.
    pub fn len(&self) -> usize {
        self.channel.len()
    }

    /// Returns the number of messages that the channel has room for, or `None` if there is no
    /// limit.
    pub fn capacity(&self) -> Option<usize> {
        self.channel.capacity()
    }

    /// Returns whether both send to the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.channel, &other.channel)
    }

    /// Completes a select's reservation.
    ///
    /// # Safety
    /// This channel made the reservation to the caller, for a send. The call uses it up.
    pub(crate) unsafe fn complete(&self, reservation: Outcome, message: T) -> Result<(), SendError<T>> {
        let parcel = Parcel(UnsafeCell::new(MaybeUninit::new(message)));
        // SAFETY: the caller owns the reservation, as `# Safety` demands. The message is there. If
        // it is moved out, the parcel is forgotten.
        match unsafe { self.channel.commit_send(reservation, parcel.cell()) } {
            Ok(true) => {
                std::mem::forget(parcel);
                Ok(())
            }
            Ok(false) => Err(SendError(parcel.open())),
            Err(Missed) => self.send(parcel.open()),
        }
    }
}

impl<T> Side for Sender<T> {
    unsafe fn reserve(&self, _room: *mut ()) -> Option<Outcome> {
        self.channel.reserve_send()
    }

    fn is_ready(&self) -> bool {
        self.channel.send_is_ready()
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    unsafe fn join(&self, node: &Waiting, waiter: Waiter, select: &Claim, watch: bool) -> bool {
        // SAFETY: the node is as `Side::join` demands.
        unsafe { self.channel.join_send(node, waiter, select, watch) }
    }

    unsafe fn leave(&self, node: &Waiting, watch: bool) {
        // SAFETY: the node is as `Side::leave` demands.
        unsafe { self.channel.leave_send(node, watch) }
    }

    unsafe fn release(&self, reservation: Outcome, _room: *mut ()) {
        self.channel.release_send(reservation);
    }

    fn identity(&self) -> (*const (), bool) {
        (Arc::as_ptr(&self.channel).cast(), true)
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

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Sender { .. }")
    }
}
