//! The notification.
//!
//! # The word
//!
//! | value | meaning | changes |
//! |---|---|---|
//! | `IDLE` | nobody waits, and no notification is kept | to `KEPT` by `notify_one` and `notify_last`; to `WAITING` under the lock |
//! | `KEPT` | the next `notified` returns at once | to `IDLE` by `notified` |
//! | `WAITING` | the queue is not empty | to `IDLE` under the lock |
//!
//! This is tokio's design (`sync/notify.rs`), without its count of calls.

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

/// Wakes one waiter, or all of them, without passing a value. The API is that of [tokio's
/// `Notify`], but blocking.
///
/// If nobody waits, a notification for one waiter is kept, and the next caller of
/// [`notified`](Self::notified) takes it. Two kept notifications count as one.
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
        /// Creates a `Notify` that keeps no notification.
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

    /// Takes the kept notification, or waits for one behind those who already wait.
    ///
    /// If `notify_waiters` is called between a check of some condition and this call, its
    /// notification is not kept. tokio's `notified()` first makes a future, which counts from then
    /// on. There is none here. If that matters, use `notify_one`, a [`Condvar`](super::Condvar), or
    /// a channel that is closed.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait. No notification is lost: one meant for
    /// a single waiter goes to the next.
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

    /// Wakes the oldest waiter. If nobody waits, keeps the notification for the next caller of
    /// `notified`. Never waits itself.
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

    /// Wakes the newest waiter. If nobody waits, keeps the notification for the next caller of
    /// `notified`. Never waits itself.
    ///
    /// This is for workers that wait for work: the newest waiter's memory is still in the caches,
    /// and the others can stay asleep.
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

    /// Wakes all current waiters. Keeps nothing for later ones. Never waits itself.
    ///
    /// A task that was spawned but has not yet reached `notified` is not among them.
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
        // Under the lock the word is accurate: the waiters may have left in the meantime.
        if self.word.keep() == TransitionByNotify::Kept {
            return;
        }
        // SAFETY: rules 1 and 3 of `wait::list`: the queue is locked; after it is unlocked, only
        // the waiter is used.
        let waiter = unsafe { if meant == Meant::Newest { queue.release_newest() } else { queue.release_one() } }.map(|node| {
            node.data().data().set(meant);
            node.waiter()
        });
        if queue.is_empty() {
            self.word.forget_waiters();
        }
        drop(queue);
        if let Some(waiter) = waiter {
            // SAFETY: rule 2 of `wait`: taken out of the queue just now, so it is owed one wake.
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

/// Which waiters a notification is meant for.
#[derive(Clone, Copy, PartialEq)]
enum Meant {
    Oldest,
    Newest,
    All,
}

/// What happened to a notification.
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

    /// Takes the kept notification, if there is one.
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
            // Release: pairs with the Acquire of `take`, even if one is already kept, so that
            // its taker sees both notifiers.
            match self.0.compare_exchange_weak(seen, KEPT, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return TransitionByNotify::Kept,
                Err(now) => seen = now,
            }
        }
        TransitionByNotify::Wake
    }

    /// Under the lock: takes the kept notification, or records that somebody waits. Returns whether
    /// it was taken.
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

    /// Under the lock, when the queue is empty. While the word says `WAITING`, nobody changes it
    /// without the lock.
    fn forget_waiters(&self) {
        // Release: preserves what earlier notifiers published.
        self.0.store(IDLE, Ordering::Release);
    }

    /// Under the lock: returns whether anybody waits, and clears that.
    fn release_all(&self) -> bool {
        // Relaxed: the lock orders it.
        let waiting = self.0.load(Ordering::Relaxed) == WAITING;
        if waiting {
            self.forget_waiters();
        }
        waiting
    }
}

/// A waiter.
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
        // SAFETY: rules 1 and 2 of `wait::list`: the queue is locked; the node is in no list, and
        // it does not move while it is in one, because the wait lasts until it is taken out.
        unsafe { queue.push(&self.node, waiter) };
        true
    }

    #[cold]
    fn withdraw(&self) -> bool {
        let mut queue = self.notify.queue.lock();
        // SAFETY: rule 1 of `wait::list`: the queue is locked. The node was pushed to it.
        let withdrawn = unsafe { queue.withdraw(&self.node) };
        if withdrawn && queue.is_empty() {
            self.notify.word.forget_waiters();
        }
        withdrawn
    }

    /// The waiter unwinds after it was notified. A notification for one waiter goes to another.
    #[cold]
    fn pass_on(&self) {
        match self.node.data().data().get() {
            Meant::All => {}
            one => self.notify.notify(one),
        }
    }
}
