//! The semaphore.
//!
//! # The word
//!
//! | field | changes | meaning |
//! |---|---|---|
//! | `CLOSED` | under the queue's lock, once | no more permits are given out |
//! | `WAITERS` | under the queue's lock | the queue is not empty: permits belong to the oldest waiter, and accumulate until there are enough for it |
//! | permits | an acquisition takes some only if `WAITERS` is not set; a release adds some, and takes the queue's lock if it sees `WAITERS` | |
//!
//! Under the queue's lock, a waiter queues itself if the word has too few permits in the same step
//! that sets `WAITERS`. The next release therefore sees `WAITERS`, takes the lock, and serves the
//! queue from its front as long as there are permits.

mod permit;

use std::cell::Cell;
use std::fmt;

use super::const_fn;
use crate::prim::Lock;
use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::prim::untracked::Arc;
use crate::sync::word;
use crate::unwind;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::{List, Node, Wakes};

pub use permit::{OwnedSemaphorePermit, SemaphorePermit};

const CLOSED: usize = 1;
const WAITERS: usize = 1 << 1;
const PERMIT: usize = 1 << 2;

const TOO_MANY: &str = "a semaphore cannot have so many permits";

/// The maximum number of waiters served each time the queue's lock is taken.
const AT_ONCE: usize = 32;

/// Permits that are given out in the order in which they are requested. The API is [tokio's], but
/// blocking.
///
/// A request for many permits is served before later requests for few. Permits may also be added
/// and removed, so they can stand for anything that can be counted.
///
/// [tokio's]: https://docs.rs/tokio/latest/tokio/sync/struct.Semaphore.html
///
/// ```
/// use greenloom::sync::Semaphore;
/// use std::sync::Arc;
///
/// greenloom::run(|| {
///     let at_once = Arc::new(Semaphore::new(2));
///     let tasks: Vec<_> = (0..10)
///         .map(|_| {
///             let at_once = at_once.clone();
///             greenloom::spawn(move || {
///                 let _permit = at_once.acquire().unwrap();
///                 greenloom::yield_now();
///             })
///         })
///         .collect();
///     tasks.into_iter().for_each(|task| task.join().unwrap());
///     assert_eq!(at_once.available_permits(), 2);
/// });
/// ```
pub struct Semaphore {
    word: Word,
    queue: Lock<List<Claim>>,
}

/// The [`Semaphore`] has been closed.
///
/// ```
/// let semaphore = greenloom::sync::Semaphore::new(1);
/// semaphore.close();
/// assert_eq!(semaphore.acquire().unwrap_err().to_string(), "the semaphore is closed");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcquireError(());

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the semaphore is closed")
    }
}

impl std::error::Error for AcquireError {}

/// The reason why a [`Semaphore`] gives no permit at once.
///
/// ```
/// use greenloom::sync::{Semaphore, TryAcquireError};
///
/// assert_eq!(Semaphore::new(0).try_acquire().unwrap_err(), TryAcquireError::NoPermits);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryAcquireError {
    /// The semaphore has been closed.
    Closed,
    /// There are not enough permits, or others wait for them.
    NoPermits,
}

impl fmt::Display for TryAcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "the semaphore is closed",
            Self::NoPermits => "the semaphore has no permits to spare",
        })
    }
}

impl std::error::Error for TryAcquireError {}

impl Semaphore {
    /// The maximum number of permits that a semaphore can have.
    pub const MAX_PERMITS: usize = usize::MAX >> 3;

    const_fn! {
        /// Creates a semaphore with the given number of permits.
        ///
        /// # Panics
        /// Panics if there are more than [`MAX_PERMITS`](Self::MAX_PERMITS).
        ///
        /// ```
        /// static CONNECTIONS: greenloom::sync::Semaphore = greenloom::sync::Semaphore::new(100);
        /// assert_eq!(CONNECTIONS.available_permits(), 100);
        /// ```
        #[track_caller]
        pub const fn new(permits: usize) -> Self {
            assert!(permits <= Self::MAX_PERMITS, "{}", TOO_MANY);
            Self { word: Word::new(permits), queue: Lock::new(List::new()) }
        }
    }

    /// Takes a permit, waiting until it is the caller's turn and there is one.
    ///
    /// Suspends the task until then; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the semaphore is closed, or is closed while the caller waits.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait. No permit is lost: if the task was
    /// given one, it goes to the next waiter.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(1);
    /// let permit = semaphore.acquire().unwrap();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// # drop(permit);
    /// ```
    // Inlined for the sake of `Record::suspend`.
    #[inline(always)]
    #[track_caller]
    pub fn acquire(&self) -> Result<SemaphorePermit<'_>, AcquireError> {
        self.acquire_many(1)
    }

    /// Takes `permits` permits together, waiting until it is the caller's turn and there are that
    /// many.
    ///
    /// Suspends the task until then; blocks a plain thread. Permits accumulate for the oldest
    /// waiter: nobody overtakes it.
    ///
    /// # Errors
    /// Fails if the semaphore is closed, or is closed while the caller waits.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait. No permit is lost: those that the task
    /// was given go to the next waiter.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(3);
    /// let permits = semaphore.acquire_many(3).unwrap();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// # drop(permits);
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn acquire_many(&self, permits: u32) -> Result<SemaphorePermit<'_>, AcquireError> {
        wait::look_at_slice();
        match self.word.take(permits) {
            TransitionByTake::Taken => {}
            TransitionByTake::Closed => return Err(AcquireError(())),
            TransitionByTake::TooFew => {
                std::hint::cold_path();
                let request = Request::new(self, permits);
                let _ = wait::wait_for(Reason::Sync, None, |waiter| request.publish(waiter), || request.withdraw());
                if request.refused() {
                    return Err(AcquireError(()));
                }
                unwind::checkpoint_with(|| self.give_back(permits));
            }
        }
        Ok(SemaphorePermit::new(self, permits))
    }

    /// Takes a permit if there is one and nobody waits. Does not wait, but a failed attempt may
    /// [give way](crate#what-suspends).
    ///
    /// # Errors
    /// Fails if there is no permit or others wait, or if the semaphore is closed. The error says
    /// which.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(1);
    /// let permit = semaphore.try_acquire().unwrap();
    /// assert!(semaphore.try_acquire().is_err());
    /// # drop(permit);
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        self.try_acquire_many(1)
    }

    /// Takes `permits` permits together if there are that many and nobody waits. Does not wait, but
    /// a failed attempt may [give way](crate#what-suspends).
    ///
    /// # Errors
    /// Fails if there are too few permits or others wait, or if the semaphore is closed. The error
    /// says which.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(1);
    /// assert!(semaphore.try_acquire_many(2).is_err());
    /// ```
    #[inline]
    pub fn try_acquire_many(&self, permits: u32) -> Result<SemaphorePermit<'_>, TryAcquireError> {
        let error = match self.word.take(permits) {
            TransitionByTake::Taken => return Ok(SemaphorePermit::new(self, permits)),
            TransitionByTake::Closed => TryAcquireError::Closed,
            TransitionByTake::TooFew => TryAcquireError::NoPermits,
        };
        wait::yield_if_hogging();
        Err(error)
    }

    /// Like [`acquire`](Self::acquire), but the permit shares ownership of the semaphore.
    ///
    /// Suspends the task until there is one; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the semaphore is closed, or is closed while the caller waits.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// As [`acquire`](Self::acquire).
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(1));
    /// let permit = semaphore.clone().acquire_owned().unwrap();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// # drop(permit);
    /// ```
    #[track_caller]
    pub fn acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_many_owned(1)
    }

    /// Like [`acquire_many`](Self::acquire_many), but the permits share ownership of the semaphore.
    ///
    /// Suspends the task until there are that many; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the semaphore is closed, or is closed while the caller waits.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// As [`acquire_many`](Self::acquire_many).
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(3));
    /// let permits = semaphore.clone().acquire_many_owned(2).unwrap();
    /// assert_eq!((permits.num_permits(), semaphore.available_permits()), (2, 1));
    /// ```
    #[track_caller]
    pub fn acquire_many_owned(self: Arc<Self>, permits: u32) -> Result<OwnedSemaphorePermit, AcquireError> {
        self.acquire_many(permits)?.forget();
        Ok(OwnedSemaphorePermit::new(self, permits))
    }

    /// Like [`try_acquire`](Self::try_acquire), but the permit shares ownership of the semaphore.
    ///
    /// # Errors
    /// As [`try_acquire`](Self::try_acquire).
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(1));
    /// let permit = semaphore.clone().try_acquire_owned().unwrap();
    /// assert!(semaphore.try_acquire_owned().is_err());
    /// # drop(permit);
    /// ```
    pub fn try_acquire_owned(self: Arc<Self>) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many_owned(1)
    }

    /// Like [`try_acquire_many`](Self::try_acquire_many), but the permits share ownership of the
    /// semaphore.
    ///
    /// # Errors
    /// As [`try_acquire_many`](Self::try_acquire_many).
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(1));
    /// assert!(semaphore.try_acquire_many_owned(2).is_err());
    /// ```
    pub fn try_acquire_many_owned(self: Arc<Self>, permits: u32) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        self.try_acquire_many(permits)?.forget();
        Ok(OwnedSemaphorePermit::new(self, permits))
    }

    /// Adds permits. Waiters are served first. Never waits.
    ///
    /// # Panics
    /// Panics if the semaphore would have more than [`MAX_PERMITS`](Self::MAX_PERMITS).
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(0);
    /// semaphore.add_permits(2);
    /// assert_eq!(semaphore.available_permits(), 2);
    /// ```
    #[inline]
    #[track_caller]
    pub fn add_permits(&self, permits: usize) {
        match self.word.add(permits) {
            TransitionByAdd::Added => {}
            TransitionByAdd::Serve => self.serve(),
            TransitionByAdd::TooMany => panic!("{TOO_MANY}"),
        }
    }

    /// Gives permits back. If so many have been added in the meantime that there is no room, they
    /// are forgotten: this may run in a destructor during unwinding, which must not panic.
    #[inline]
    fn give_back(&self, permits: u32) {
        if let TransitionByAdd::Serve = self.word.add(permits as usize) {
            self.serve();
        }
    }

    /// Removes `n` permits for good, or as many as can be taken at once. Returns how many were
    /// removed. Never waits.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(3);
    /// assert_eq!((semaphore.forget_permits(2), semaphore.forget_permits(2)), (2, 1));
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn forget_permits(&self, n: usize) -> usize {
        self.word.forget(n)
    }

    /// Returns how many permits can be taken at once: none while somebody waits. Never waits.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::Semaphore::new(2).available_permits(), 2);
    /// ```
    pub fn available_permits(&self) -> usize {
        self.word.available()
    }

    /// Closes the semaphore. All current waiters and all later callers get an error. Permits that
    /// have been acquired may still be given back. Never waits.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(1);
    /// semaphore.close();
    /// assert!(semaphore.acquire().is_err());
    /// ```
    pub fn close(&self) {
        // Under the lock, so that a waiter that looked at the word before is now in the queue.
        let queue = self.queue.lock();
        self.word.close();
        drop(queue);
        self.serve();
    }

    /// Returns whether the semaphore has been closed. Never waits.
    ///
    /// ```
    /// assert!(!greenloom::sync::Semaphore::new(1).is_closed());
    /// ```
    pub fn is_closed(&self) -> bool {
        self.word.is_closed()
    }

    /// Gives permits to the waiters, oldest first, as long as there are enough for the next one. Or
    /// refuses them all.
    #[cold]
    fn serve(&self) {
        loop {
            let mut wakes = Wakes::new();
            let queue = self.queue.lock();
            for _ in 0..AT_ONCE {
                // SAFETY: rule 1 of `wait::list`: the queue is locked, and the node is used only
                // while it is.
                let Some(oldest) = (unsafe { queue.front() }) else { return };
                let claim = oldest.data();
                // SAFETY: rule 1 of `wait::list`: the queue is locked.
                let last = unsafe { queue.iter() }.nth(1).is_none();
                match self.word.serve(claim.permits, last) {
                    TransitionByTake::Taken => {}
                    TransitionByTake::Closed => claim.refused.set(true),
                    TransitionByTake::TooFew => return,
                }
                // SAFETY: rules 1 and 3 of `wait::list`: the queue is locked, the node is in it,
                // and `wakes` owes the wake.
                unsafe {
                    queue.remove(oldest);
                    wakes.add(oldest);
                }
            }
        }
    }
}

impl fmt::Debug for Semaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Semaphore").field("available_permits", &self.available_permits()).finish_non_exhaustive()
    }
}

/// The result of a request for permits.
#[must_use]
#[derive(Clone, Copy, PartialEq)]
enum TransitionByTake {
    Taken,
    Closed,
    /// Fewer than requested, or others came first.
    TooFew,
}

/// The result of adding permits.
#[must_use]
enum TransitionByAdd {
    Added,
    /// Added, and somebody waits: serve the queue.
    Serve,
    TooMany,
}

/// The word; see the module.
struct Word(AtomicUsize);

impl Word {
    const_fn! {
        const fn new(permits: usize) -> Self {
            Self(AtomicUsize::new(permits * PERMIT))
        }
    }

    /// Applies `step` until the exchange succeeds.
    ///
    /// AcqRel: the taker of a permit sees what was done before earlier permits were given back.
    /// `add` pairs with `take` and `serve`.
    #[inline(always)]
    fn change<R>(&self, step: impl FnMut(usize) -> (usize, R)) -> R {
        word::change(&self.0, step)
    }

    /// Takes permits if there are enough and nobody waits.
    #[inline(always)]
    fn take(&self, permits: u32) -> TransitionByTake {
        self.change(|s| Self::without(s, permits, s & WAITERS != 0))
    }

    /// Under the queue's lock: takes permits, or records that somebody waits.
    fn take_or_wait(&self, permits: u32) -> TransitionByTake {
        self.change(|s| match Self::without(s, permits, s & WAITERS != 0) {
            (_, TransitionByTake::TooFew) => (s | WAITERS, TransitionByTake::TooFew),
            other => other,
        })
    }

    /// Under the queue's lock: takes permits for the oldest waiter. `last` means that there is no
    /// other.
    fn serve(&self, permits: u32, last: bool) -> TransitionByTake {
        self.change(|s| match Self::without(s, permits, false) {
            (_, TransitionByTake::TooFew) => (s, TransitionByTake::TooFew),
            (next, answer) => (if last { next & !WAITERS } else { next }, answer),
        })
    }

    #[inline(always)]
    fn without(s: usize, permits: u32, others_first: bool) -> (usize, TransitionByTake) {
        // No overflow: the product has 34 bits at most. A word of 32 bits cannot hold that many
        // permits, and there the product saturates.
        let asked = (permits as usize).saturating_mul(PERMIT);
        if s & CLOSED != 0 {
            (s, TransitionByTake::Closed)
        } else if others_first || s < asked {
            (s, TransitionByTake::TooFew)
        } else {
            (s - asked, TransitionByTake::Taken)
        }
    }

    #[inline(always)]
    fn add(&self, permits: usize) -> TransitionByAdd {
        self.change(|s| {
            if permits > Semaphore::MAX_PERMITS || s / PERMIT + permits > Semaphore::MAX_PERMITS {
                (s, TransitionByAdd::TooMany)
            } else {
                let answer = if s & WAITERS != 0 { TransitionByAdd::Serve } else { TransitionByAdd::Added };
                (s + permits * PERMIT, answer)
            }
        })
    }

    /// Removes permits that nobody waits for, and returns how many.
    fn forget(&self, permits: usize) -> usize {
        self.change(|s| {
            let gone = permits.min(Self::spare(s));
            (s - gone * PERMIT, gone)
        })
    }

    /// Under the queue's lock: nobody waits any more.
    fn forget_waiters(&self) {
        self.change(|s| (s & !WAITERS, ()));
    }

    fn close(&self) {
        self.change(|s| (s | CLOSED, ()));
    }

    fn is_closed(&self) -> bool {
        // Acquire: pairs with `close`.
        self.0.load(Ordering::Acquire) & CLOSED != 0
    }

    fn available(&self) -> usize {
        // Relaxed: the number may be out of date when it is read.
        Self::spare(self.0.load(Ordering::Relaxed))
    }

    /// The permits that do not accumulate for a waiter.
    fn spare(s: usize) -> usize {
        if s & WAITERS != 0 { 0 } else { s / PERMIT }
    }
}

/// What the queue keeps for a waiter.
struct Claim {
    permits: u32,
    /// Whether the semaphore was closed. Written under the queue's lock, read by the owner after
    /// its wait.
    refused: Cell<bool>,
}

/// A waiter for permits.
struct Request<'a> {
    semaphore: &'a Semaphore,
    node: Node<Claim>,
}

impl<'a> Request<'a> {
    #[inline(always)]
    fn new(semaphore: &'a Semaphore, permits: u32) -> Self {
        Self { semaphore, node: Node::new(Claim { permits, refused: Cell::new(false) }) }
    }

    #[inline(always)]
    fn refused(&self) -> bool {
        self.node.data().refused.get()
    }

    /// Takes the permits, is refused, or joins the queue.
    #[inline(never)]
    fn publish(&self, waiter: Waiter) -> bool {
        let queue = self.semaphore.queue.lock();
        let claim = self.node.data();
        match self.semaphore.word.take_or_wait(claim.permits) {
            TransitionByTake::Taken => false,
            TransitionByTake::Closed => {
                claim.refused.set(true);
                false
            }
            TransitionByTake::TooFew => {
                // SAFETY: rules 1 and 2 of `wait::list`: the queue is locked; the node is in no
                // list, and it does not move while it is in one, because the wait lasts until it is
                // taken out.
                unsafe { queue.push_back(&self.node, waiter) };
                true
            }
        }
    }

    #[cold]
    fn withdraw(&self) -> bool {
        let queue = self.semaphore.queue.lock();
        // SAFETY: rule 1 of `wait::list`: the queue is locked. The node is in this list or in none.
        if !unsafe { queue.remove(&self.node) } {
            return false;
        }
        if queue.is_empty() {
            self.semaphore.word.forget_waiters();
            return true;
        }
        drop(queue);
        // Too few permits for this waiter may be enough for the next.
        self.semaphore.serve();
        true
    }
}
