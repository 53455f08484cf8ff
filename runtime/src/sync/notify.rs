//! The notification.
//!
//! # The word
//!
//! | value | | changes |
//! |---|---|---|
//! | `IDLE` | nobody waits, and no notification is kept | to `KEPT` by `notify_one` and `notify_last`; to `WAITING` under the lock |
//! | `KEPT` | the next `notified` returns at once | to `IDLE` by `notified` |
//! | `WAITING` | the queue is not empty | to `IDLE` under the lock |
//!
//! tokio's design (`sync/notify.rs`), without its count of calls.

use std::cell::Cell;
use std::fmt;

use super::const_fn;
use crate::prim::Lock;
use crate::prim::atomic::{AtomicU8, Ordering};
use crate::unwind;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::Node;
use crate::wait::queue::{Queued, Released, WaitQueue};

const IDLE: u8 = 0;
const KEPT: u8 = 1;
const WAITING: u8 = 2;

/// Wakes one task, or all that wait, without a value: [tokio's `Notify`], but blocking.
///
/// A notification for one is kept if nobody waits, and the next who would wait takes it; two are kept as one.
///
/// [tokio's `Notify`]: https://docs.rs/tokio/latest/tokio/sync/struct.Notify.html
///
/// ```
/// use greenloom::sync::Notify;
/// use std::sync::Arc;
///
/// greenloom::run(|| {
///     let notify = Arc::new(Notify::new());
///     let waiter = greenloom::spawn({
///         let notify = notify.clone();
///         move || notify.notified()
///     });
///     notify.notify_one();
///     waiter.join().unwrap();
/// });
/// ```
pub struct Notify {
    word: Word,
    /// Each waiter learns which notify call woke it, so that it can be passed on.
    queue: Lock<WaitQueue<Cell<Meant>>>,
}

impl Notify {
    const_fn! {
        /// With no notification kept.
        ///
        /// ```
        /// static WORK: greenloom::sync::Notify = greenloom::sync::Notify::new();
        /// WORK.notify_one();
        /// WORK.notified();
        /// ```
        pub const fn new() -> Self {
            Self { word: Word::new(), queue: Lock::new(WaitQueue::new()) }
        }
    }

    /// Takes the notification that is kept, or waits for one, behind those who wait already.
    ///
    /// A `notify_waiters` between a look at some condition and this call is not kept: tokio's `notified()` makes a future first, which
    /// counts from then on, and there is none here. Where that matters, take `notify_one`, a [`Condvar`](super::Condvar), or a channel
    /// that is closed.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait. No notification is lost with it: one for one goes to the next.
    ///
    /// ```
    /// let notify = greenloom::sync::Notify::new();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| notify.notify_one());
    ///     notify.notified();
    /// });
    /// ```
    // Inlined for the sake of `Record::suspend`.
    #[inline(always)]
    #[track_caller]
    pub fn notified(&self) {
        wait::look_at_slice();
        if self.word.take() {
            return;
        }
        let wait = Wait { notify: self, node: Queued::node(Cell::new(Meant::All)) };
        let _ = wait::wait_for(Reason::Sync, None, |waiter| wait.publish(waiter), || wait.withdraw());
        unwind::checkpoint_with(|| wait.pass_on());
    }

    /// Wakes the oldest waiter; if nobody waits, keeps the notification for the next who would. Never waits itself.
    ///
    /// ```
    /// let notify = greenloom::sync::Notify::new();
    /// notify.notify_one();
    /// notify.notified();
    /// ```
    #[inline]
    pub fn notify_one(&self) {
        self.notify(Meant::Oldest);
    }

    /// Wakes the waiter that came last; if nobody waits, keeps the notification for the next who would. Never waits itself.
    ///
    /// For workers that wait for work: the last one has its memory in the caches still, and the others may sleep on.
    ///
    /// ```
    /// let notify = greenloom::sync::Notify::new();
    /// notify.notify_last();
    /// notify.notified();
    /// ```
    #[inline]
    pub fn notify_last(&self) {
        self.notify(Meant::Newest);
    }

    /// Wakes all who wait now. Nothing is kept for others. Never waits itself.
    ///
    /// A task that was spawned but has not yet come to `notified` is not among them.
    ///
    /// ```
    /// greenloom::sync::Notify::new().notify_waiters();
    /// ```
    pub fn notify_waiters(&self) {
        let mut queue = self.queue.lock();
        let released = if self.word.release_all() { queue.release_all() } else { Released::none() };
        drop(queue);
        drop(released);
    }

    #[inline]
    fn notify(&self, meant: Meant) {
        if self.word.keep() == TransitionByNotify::Wake {
            self.release(meant);
        }
    }

    /// Wakes one waiter.
    #[cold]
    fn release(&self, meant: Meant) {
        let mut queue = self.queue.lock();
        // Under the lock the word says what is so: whoever waited may have left in the meantime.
        if self.word.keep() == TransitionByNotify::Kept {
            return;
        }
        // SAFETY: under the queue's lock, of which the waiter is all that is used afterwards.
        let waiter = unsafe { if meant == Meant::Newest { queue.release_newest() } else { queue.release_one() } }.map(|node| {
            node.data().data().set(meant);
            node.waiter()
        });
        if queue.is_empty() {
            self.word.forget_waiters();
        }
        drop(queue);
        if let Some(waiter) = waiter {
            // SAFETY: taken out of the queue just now.
            unsafe { waiter.wake() };
        }
    }
}

impl Default for Notify {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}

/// For whom a notification was made.
#[derive(Clone, Copy, PartialEq)]
enum Meant {
    Oldest,
    Newest,
    All,
}

/// What became of a notification.
#[must_use]
#[derive(PartialEq)]
enum TransitionByNotify {
    /// The word keeps it.
    Kept,
    /// Somebody waits for it.
    Wake,
}

/// The word; see the module.
struct Word(AtomicU8);

impl Word {
    const_fn! {
        const fn new() -> Self {
            Self(AtomicU8::new(IDLE))
        }
    }

    /// Takes the notification that is kept, if there is one.
    #[inline(always)]
    fn take(&self) -> bool {
        // Acquire: pairs with the Release of `keep`.
        self.0.compare_exchange(KEPT, IDLE, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Keeps a notification, unless somebody waits.
    #[inline(always)]
    fn keep(&self) -> TransitionByNotify {
        let mut seen = self.0.load(Ordering::Relaxed);
        while seen != WAITING {
            // Release: pairs with the Acquire of `take`, also where one is kept already: whoever takes it sees both notifiers.
            match self.0.compare_exchange_weak(seen, KEPT, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return TransitionByNotify::Kept,
                Err(now) => seen = now,
            }
        }
        TransitionByNotify::Wake
    }

    /// Under the lock: takes the notification that is kept, or says that somebody waits; whether it was taken.
    fn take_or_wait(&self) -> bool {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (next, taken) = if seen == KEPT { (IDLE, true) } else { (WAITING, false) };
            // AcqRel: as `take`.
            match self.0.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return taken,
                Err(now) => seen = now,
            }
        }
    }

    /// Under the lock, the queue being empty now. While it says `WAITING`, nobody changes it without the lock.
    fn forget_waiters(&self) {
        // Release: keeps what earlier notifiers published.
        self.0.store(IDLE, Ordering::Release);
    }

    /// Under the lock: whether anybody waits, who then does no more.
    fn release_all(&self) -> bool {
        // Relaxed: the lock orders it.
        let waiting = self.0.load(Ordering::Relaxed) == WAITING;
        if waiting {
            self.forget_waiters();
        }
        waiting
    }
}

/// One who waits.
struct Wait<'a> {
    notify: &'a Notify,
    node: Node<Queued<Cell<Meant>>>,
}

impl Wait<'_> {
    /// Takes the notification, or joins the queue.
    #[inline(never)]
    fn publish(&self, waiter: Waiter) -> bool {
        let mut queue = self.notify.queue.lock();
        if self.notify.word.take_or_wait() {
            self.node.data().data().set(Meant::Oldest);
            return false;
        }
        // SAFETY: under the queue's lock; the node is in no list, and stays where it is as long as it is in one: the wait ends when
        // it was taken out.
        unsafe { queue.push(&self.node, waiter) };
        true
    }

    #[cold]
    fn withdraw(&self) -> bool {
        let mut queue = self.notify.queue.lock();
        // SAFETY: under the queue's lock; pushed before.
        let withdrawn = unsafe { queue.withdraw(&self.node) };
        if withdrawn && queue.is_empty() {
            self.notify.word.forget_waiters();
        }
        withdrawn
    }

    /// The waiter unwinds after it was notified: one for one goes to another.
    #[cold]
    fn pass_on(&self) {
        match self.node.data().data().get() {
            Meant::All => {}
            one => self.notify.notify(one),
        }
    }
}
