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
//! cancelled `send` is dropped. A message that a partner has taken or given before the task goes on cannot be given back: the
//! operation returns as usual, even if the cancellation was first, and that comes at the next suspension.
//!
//! # A message that is still to come
//!
//! In a channel without capacity, a `send` in a [`select!`](crate::select!) or [`Select`] is chosen before its message is evaluated. A receiver
//! that meets such a sender waits for that message, and whatever its own limit, `default` or cancellation, it waits on: it has been
//! given its partner, and is only told later what by. This holds for `recv`, `try_recv` and their kin, for iterators and selects
//! alike; inside [`no_suspend`](crate::no_suspend) they panic then. So let such an expression be quick, and let it wait for nothing
//! that the receiver may hold.
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

mod arm;
mod buffer;
#[allow(clippy::missing_const_for_thread_local, reason = "loom's macro takes no const initialiser")]
mod choose;
mod core;
mod error;
mod iter;
mod ready_hint;
mod receiver;
mod reservation;
mod select;
mod select_macro;
mod sender;
mod timer;

use std::time::{Duration, Instant};

pub use error::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError, SendTimeoutError, TryReadyError, TryRecvError,
    TrySelectError, TrySendError,
};
pub use iter::{IntoIter, Iter, TryIter};
pub use receiver::Receiver;
pub use select::{Select, SelectedOperation};
pub use sender::Sender;

pub use crate::{select, select_biased};

use self::core::Channel;
use crate::prim;
use crate::prim::sync::Arc;
use receiver::Flavor;
use timer::Timer;

/// What the macros expand to; nothing for anybody else.
#[doc(hidden)]
pub mod internal {
    pub use super::choose::{Chosen, Handle, Limit, Operation, Selected};
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
#[track_caller]
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
    prim::now().checked_add(duration).map_or_else(never, at)
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
/// disconnects. Ticks that nobody receives are not made up for. If the duration cannot be represented, it is [`never()`].
///
/// ```
/// use std::time::Duration;
///
/// let ticker = greenloom::channel::tick(Duration::from_millis(2));
/// let (first, second) = (ticker.recv().unwrap(), ticker.recv().unwrap());
/// assert!(second >= first + Duration::from_millis(2));
/// ```
pub fn tick(duration: Duration) -> Receiver<Instant> {
    match prim::now().checked_add(duration) {
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
