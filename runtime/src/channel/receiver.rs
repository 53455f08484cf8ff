//! The receiving side.

use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use crate::channel::arm::{Arm, Claim, Outcome, Waiting};
use crate::channel::choose::Side;
use crate::channel::core::{Attempt, Channel};
use crate::channel::ready_hint::ReadyHint;
use crate::channel::timer::Timer;
use crate::channel::{IntoIter, Iter, RecvError, RecvTimeoutError, TryIter, TryRecvError};
use crate::prim;
use crate::prim::sync::Arc;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::{WaitOutcome, look_at_slice, sleep_until, wait_for, yield_if_hogging};

/// The receiving side of a channel. Clone it to get another receiver; each message goes to one of
/// them. When all receivers are gone, the channel is disconnected.
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
    pub(super) flavor: Flavor<T>,
}

pub(super) enum Flavor<T> {
    Channel(Arc<Channel<T>>),
    /// The function is the identity: a timer's `T` is `Instant`.
    Timer(Arc<Timer>, fn(Instant) -> T),
    Never,
}

// SAFETY: a handle takes messages in, under the channel's lock. It never shares one.
unsafe impl<T: Send> Send for Receiver<T> {}
// SAFETY: a shared handle also only takes messages in, under the channel's lock.
unsafe impl<T: Send> Sync for Receiver<T> {}

impl<T> UnwindSafe for Receiver<T> {}
impl<T> RefUnwindSafe for Receiver<T> {}

/// Why nothing was received.
enum Missing {
    Closed,
    TimedOut,
}

impl<T> Receiver<T> {
    #[inline(always)]
    #[track_caller]
    fn recv_until(&self, deadline: Option<Instant>) -> Result<T, Missing> {
        look_at_slice();
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
            // If there is nothing to receive, the lock is taken only once, to queue.
            let attempt = if channel.readiness.receive_hint().may_be_ready() {
                // SAFETY: `cell` is room for a message.
                unsafe { channel.try_receive(cell) }
            } else {
                Attempt::Blocked
            };
            let outcome = match attempt {
                Attempt::Done => Outcome::Done,
                Attempt::Closed => Outcome::Closed,
                // SAFETY: `cell` is room for a message.
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
        // SAFETY: the node is in no queue when this is called. It is taken out before it is
        // dropped: by the operation that serves it, or by `withdraw`.
        let publish = |waiter| unsafe { channel.receive_or_wait(&node, waiter) };
        // SAFETY: `publish` queued the node there.
        let withdraw = || unsafe { channel.withdraw_receiver(&node) };
        match wait_for(Reason::Receive, deadline, publish, withdraw) {
            WaitOutcome::TimedOut => None,
            WaitOutcome::Done => Some(node.data().outcome()),
        }
    }

    /// Receives a message if there is one, or if a sender waits to give one. It does not wait for a
    /// sender to come. However, in a channel without capacity, a sender that waits in a
    /// [`select!`](crate::select!) evaluates its message only now, and this call waits for that. A
    /// failure may [give way](crate#what-suspends).
    ///
    /// # Errors
    /// If there is no message. The error says whether there may be one later.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it meets such a sender. The sender continues to
    /// wait.
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
        self.attempt().inspect_err(|_| yield_if_hogging())
    }

    /// Whether `recv` would not wait: there is a message, or there will never be one.
    pub(crate) fn has_answer(&self) -> bool {
        Side::is_ready(self)
    }

    /// Like [`try_recv`](Self::try_recv), without giving way.
    #[inline]
    pub(crate) fn attempt(&self) -> Result<T, TryRecvError> {
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
                // SAFETY: there is room for a message.
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

    /// Receives a message. Waits until there is one.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If the channel is empty and all senders are gone, or go while it waits.
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

    /// Like [`recv`](Self::recv), but waits at most `timeout` for a sender. For a sender whose
    /// message is still to come, see the [module](super).
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
        self.recv_by(prim::now().checked_add(timeout))
    }

    /// Like [`recv`](Self::recv), but waits for a sender until `deadline` at the latest.
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

    /// Returns whether the channel holds no message. Always true if its capacity is zero.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether there is no room. Always true if the capacity is zero.
    pub fn is_full(&self) -> bool {
        match &self.flavor {
            Flavor::Channel(channel) => channel.is_full(),
            Flavor::Timer(timer, _) => timer.is_ready(),
            Flavor::Never => true,
        }
    }

    /// Returns the number of messages in the channel.
    pub fn len(&self) -> usize {
        match &self.flavor {
            Flavor::Channel(channel) => channel.len(),
            Flavor::Timer(timer, _) => usize::from(timer.is_ready()),
            Flavor::Never => 0,
        }
    }

    /// Returns the number of messages that the channel has room for, or `None` if there is no
    /// limit.
    pub fn capacity(&self) -> Option<usize> {
        match &self.flavor {
            Flavor::Channel(channel) => channel.capacity(),
            Flavor::Timer(..) => Some(1),
            Flavor::Never => Some(0),
        }
    }

    /// Returns whether both receive from the same channel.
    pub fn same_channel(&self, other: &Self) -> bool {
        match (&self.flavor, &other.flavor) {
            (Flavor::Channel(a), Flavor::Channel(b)) => Arc::ptr_eq(a, b),
            (Flavor::Timer(a, _), Flavor::Timer(b, _)) => Arc::ptr_eq(a, b),
            (Flavor::Never, Flavor::Never) => true,
            _ => false,
        }
    }

    /// Returns an iterator over the messages. It waits for each, until the channel is disconnected.
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

    /// Returns an iterator over the messages that are there. It does not wait. Its end may [give
    /// way](crate#what-suspends).
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
    /// Whether the operation becomes ready by itself.
    pub(crate) fn is_timed(&self) -> bool {
        matches!(self.flavor, Flavor::Timer(..))
    }

    pub(crate) fn hint(&self) -> ReadyHint<'_> {
        match &self.flavor {
            Flavor::Channel(channel) => channel.readiness.receive_hint(),
            Flavor::Timer(..) | Flavor::Never => ReadyHint::ASK,
        }
    }

    /// Completes a select's reservation.
    ///
    /// # Safety
    /// This channel made the reservation to the caller, for a receive. The call uses it up. If it
    /// is `Done`, the message is at `handed`.
    #[inline]
    #[track_caller]
    pub(crate) unsafe fn complete(&self, reservation: Outcome, handed: *const T) -> Result<T, RecvError> {
        match (&self.flavor, reservation) {
            // SAFETY: the message is at `handed`, as `# Safety` demands.
            (_, Outcome::Done) => Ok(unsafe { handed.read() }),
            (Flavor::Channel(channel), Outcome::Item) => {
                let mut room = MaybeUninit::uninit();
                // SAFETY: the caller owns the reservation, as `# Safety` demands. There is room for
                // a message, which is there afterwards.
                unsafe {
                    channel.commit_receive(room.as_mut_ptr());
                    Ok(room.assume_init())
                }
            }
            (_, Outcome::Closed) => Err(RecvError),
            _ => unreachable!("the reservation came from this channel"),
        }
    }
}

impl<T> Side for Receiver<T> {
    unsafe fn reserve(&self, room: *mut ()) -> Option<Outcome> {
        match &self.flavor {
            // SAFETY: `room` is as `Side::reserve` demands.
            Flavor::Channel(channel) => unsafe { channel.reserve_receive(room.cast()) },
            // SAFETY: `room` has room for a moment: a timer channel's is never null.
            Flavor::Timer(timer, convert) => timer.try_receive().map(|moment| unsafe {
                room.cast::<T>().write(convert(moment));
                Outcome::Done
            }),
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
            // SAFETY: the node is as `Side::join` demands.
            Flavor::Channel(channel) => unsafe { channel.join_receive(node, waiter, select, watch) },
            // These have no partner: the select's deadline covers them.
            Flavor::Timer(timer, _) => !timer.is_ready(),
            Flavor::Never => true,
        }
    }

    unsafe fn leave(&self, node: &Waiting, watch: bool) {
        if let Flavor::Channel(channel) = &self.flavor {
            // SAFETY: the node is as `Side::leave` demands.
            unsafe { channel.leave_receive(node, watch) }
        }
    }

    unsafe fn meet(&self, reservation: Outcome, room: *mut ()) -> Option<Outcome> {
        let Flavor::Channel(channel) = &self.flavor else { return Some(reservation) };
        // SAFETY: `room` is as `Side::meet` demands.
        match unsafe { channel.meet(room.cast()) } {
            Outcome::Missed => None,
            outcome => Some(outcome),
        }
    }

    unsafe fn release(&self, reservation: Outcome, room: *mut ()) {
        match (&self.flavor, reservation) {
            // SAFETY: the message was handed over there, and nobody else has it.
            (_, Outcome::Done) => unsafe { room.cast::<T>().drop_in_place() },
            (Flavor::Channel(channel), outcome) => channel.release_receive(outcome),
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
