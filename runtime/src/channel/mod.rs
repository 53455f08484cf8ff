//! Channels for tasks and plain threads, with crossbeam-channel's interface and Go's rules.
//!
//! A channel has any number of senders and receivers. All of them can be cloned and shared. Waiting
//! suspends only the task. On a plain OS thread it blocks the thread. Tasks and plain threads can
//! therefore use the same channel, also across runtimes and outside any runtime.
//!
//! | channel | holds |
//! |---|---|
//! | [`bounded(n)`](bounded) | `n` messages; a sender waits while it is full |
//! | `bounded(0)` | none: a send and a receive meet, and the value moves directly from one frame to the other |
//! | [`unbounded()`](unbounded) | any number: a sender never waits |
//! | [`after(d)`](after), [`at(t)`](at) | one message, when the time comes |
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
//! When the last sender is dropped, receivers get the messages that are left, then errors. When the
//! last receiver is dropped, the messages that are left are dropped, and senders get errors that
//! hold their messages. All waiters are woken.
//!
//! # Several at a time
//!
//! [`select!`](crate::select!) waits for the first of several operations. [`Select`] does the same
//! for a set that is built at run time.
//!
//! # Cancellation
//!
//! A task that is cancelled while it waits in a channel unwinds, and the channel is left as if the
//! task had never come. The message of a cancelled `send` is dropped. If a partner takes or gives a
//! message before the task resumes, this cannot be undone. The operation then returns as usual,
//! even if the cancellation came first. The cancellation takes effect at the next suspension.
//!
//! # A message that is still to come
//!
//! In a channel without capacity, a `send` in a [`select!`](crate::select!) or [`Select`] is chosen
//! before its message is evaluated. A receiver that meets such a sender waits for that message. Its
//! own limit, `default` or cancellation does not end this wait: its partner is fixed; the value is
//! still being produced. This holds for `recv`, `try_recv` and the like, for iterators and for
//! selects. Inside [`no_suspend`](crate::no_suspend) they panic in this case. Keep such an
//! expression quick, and do not let it wait for anything that the receiver may hold.
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

/// What the macros expand to. Not for direct use.
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

/// Creates a channel with room for `cap` messages. If `cap` is zero, each send waits for its
/// receive.
///
/// # Panics
/// If there is no memory for that many messages.
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

/// Creates a channel that holds any number of messages. Nothing slows its senders down: prefer
/// [`bounded`] where they may be faster than the receivers.
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

/// Creates a channel that delivers one message, after this time has passed. The message is the
/// moment at which it was due. The channel never disconnects. If the duration cannot be
/// represented, it is [`never()`].
///
/// Nothing is set up until a receiver waits.
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

/// Creates a channel that delivers one message, at this moment. The message is the moment itself.
/// The channel never disconnects.
///
/// ```
/// let now = std::time::Instant::now();
/// assert_eq!(greenloom::channel::at(now).recv(), Ok(now));
/// ```
pub fn at(when: Instant) -> Receiver<Instant> {
    timer(Timer::new(when, None))
}

/// Creates a channel that delivers a message every `duration`, the first one after `duration`. Each
/// message is the moment at which it was due. The channel never disconnects. Ticks that nobody
/// receives are not made up for. If the duration cannot be represented, it is [`never()`].
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

/// Creates a channel that never delivers a message and never disconnects. It serves as an arm of a
/// [`select!`](crate::select!) that is switched off.
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
