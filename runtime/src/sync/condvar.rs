//! The condition variable.
//!
//! 1. `wait` puts its node into the queue before it unlocks the mutex. A notifier that changes the
//!    condition under the mutex and then notifies therefore finds the node.
//! 2. A notification takes nodes out under the queue's lock, and wakes their owners after releasing
//!    it.
//! 3. A cancelled waiter takes its node back and unwinds. It does not need the mutex, whose guard
//!    it gave away. A waiter may also be cancelled after it was notified: before it resumes, or
//!    while it waits for the mutex. It then passes the notification of `notify_one` on to another
//!    waiter.

use std::cell::Cell;
use std::fmt;
use std::sync::LockResult;
use std::time::{Duration, Instant};

use super::const_fn;
use super::mutex::MutexGuard;
use crate::prim::atomic::{AtomicU8, Ordering};
use crate::prim::{self, Lock};
use crate::unwind;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::Node;
use crate::wait::queue::{Queued, WaitQueue};
use crate::wait::{self, WaitOutcome};

/// A condition variable that suspends a waiting task, for guards of [`Mutex`](super::Mutex). The
/// API is that of [`std::sync::Condvar`].
///
/// Notifications wake the oldest waiter first. A wait does not return without a notification. But
/// others may have held the mutex before it returns, so check the condition again.
///
/// ```
/// use greenloom::sync::{Condvar, Mutex};
/// use std::sync::Arc;
///
/// greenloom::run(|| {
///     let shared = Arc::new((Mutex::new(false), Condvar::new()));
///     let setter = greenloom::spawn({
///         let shared = shared.clone();
///         move || {
///             *shared.0.lock().unwrap() = true;
///             shared.1.notify_one();
///         }
///     });
///     let mut ready = shared.0.lock().unwrap();
///     while !*ready {
///         ready = shared.1.wait(ready).unwrap();
///     }
///     # drop(ready);
///     setter.join().unwrap();
/// });
/// ```
pub struct Condvar {
    /// Whether anyone waits, so that a notification without a waiter is one load. Written under the
    /// lock.
    anyone: AtomicU8,
    /// Each waiter learns whether a `notify_one` released it.
    queue: Lock<WaitQueue<Cell<bool>>>,
}

/// Whether a wait with a time limit ended because the limit was reached.
///
/// ```
/// use greenloom::sync::{Condvar, Mutex};
/// use std::time::Duration;
///
/// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
/// let (_guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), Duration::from_millis(1)).unwrap();
/// assert!(result.timed_out());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Returns whether the time was up before a notification came.
    ///
    /// ```
    /// # use greenloom::sync::{Condvar, Mutex};
    /// # let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// let (_guard, result) =
    ///     condvar.wait_timeout(mutex.lock().unwrap(), std::time::Duration::ZERO).unwrap();
    /// assert!(result.timed_out());
    /// ```
    #[must_use]
    pub fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    const_fn! {
        /// Creates a condition variable without waiters.
        ///
        /// ```
        /// static CHANGED: greenloom::sync::Condvar = greenloom::sync::Condvar::new();
        /// CHANGED.notify_all();
        /// ```
        pub const fn new() -> Self {
            Self { anyone: AtomicU8::new(0), queue: Lock::new(WaitQueue::new()) }
        }
    }

    /// Unlocks the mutex, waits for a notification, and locks the mutex again.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend).
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here without the mutex. No notification is lost.
    ///
    /// ```
    /// use greenloom::sync::{Condvar, Mutex};
    ///
    /// let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         *mutex.lock().unwrap() = 1;
    ///         condvar.notify_one();
    ///     });
    ///     let mut value = mutex.lock().unwrap();
    ///     while *value == 0 {
    ///         value = condvar.wait(value).unwrap();
    ///     }
    /// });
    /// ```
    // Inlined for the sake of `Record::suspend`.
    #[inline(always)]
    #[track_caller]
    pub fn wait<'a, T: ?Sized>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let mutex = guard.mutex();
        let notice = Notice::new(self);
        let mut guard = Some(guard);
        let _ = wait::wait_for(Reason::Sync, None, |waiter| notice.publish(waiter, &mut guard), || notice.withdraw());
        unwind::checkpoint();
        let locked = mutex.lock();
        notice.keep();
        locked
    }

    /// Waits, like [`wait`](Self::wait), as long as `condition` holds.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait. Panics if `condition`
    /// does.
    ///
    /// # Cancellation
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// use greenloom::sync::{Condvar, Mutex};
    ///
    /// let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    /// std::thread::scope(|s| {
    ///     s.spawn(|| {
    ///         *mutex.lock().unwrap() = 1;
    ///         condvar.notify_one();
    ///     });
    ///     let value = condvar.wait_while(mutex.lock().unwrap(), |value| *value == 0).unwrap();
    ///     assert_eq!(*value, 1);
    /// });
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn wait_while<'a, T: ?Sized, F>(&self, mut guard: MutexGuard<'a, T>, mut condition: F) -> LockResult<MutexGuard<'a, T>>
    where
        F: FnMut(&mut T) -> bool,
    {
        while condition(&mut *guard) {
            guard = self.wait(guard)?;
        }
        Ok(guard)
    }

    /// Waits, like [`wait`](Self::wait), but at most for `limit`. Then locks the mutex again,
    /// however long that takes.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend).
    ///
    /// # Cancellation
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// use greenloom::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let (mutex, condvar) = (Mutex::new(()), Condvar::new());
    /// let (_guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), Duration::from_millis(1)).unwrap();
    /// assert!(result.timed_out());
    /// ```
    #[track_caller]
    pub fn wait_timeout<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        limit: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        // A deadline that the clock cannot represent never comes.
        self.wait_until(guard, prim::now().checked_add(limit))
    }

    /// Waits, like [`wait`](Self::wait), as long as `condition` holds, but at most for `limit`.
    ///
    /// Suspends the task; blocks a plain thread. The result says that the time was up only if the
    /// condition still held then.
    ///
    /// # Errors
    /// Fails if the mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait. Panics if `condition`
    /// does.
    ///
    /// # Cancellation
    /// As [`wait`](Self::wait).
    ///
    /// ```
    /// use greenloom::sync::{Condvar, Mutex};
    /// use std::time::Duration;
    ///
    /// let (mutex, condvar) = (Mutex::new(0), Condvar::new());
    /// let (value, result) = condvar
    ///     .wait_timeout_while(mutex.lock().unwrap(), Duration::from_millis(1), |value| *value == 0)
    ///     .unwrap();
    /// assert!(result.timed_out() && *value == 0);
    /// ```
    #[track_caller]
    pub fn wait_timeout_while<'a, T: ?Sized, F>(
        &self,
        mut guard: MutexGuard<'a, T>,
        limit: Duration,
        mut condition: F,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)>
    where
        F: FnMut(&mut T) -> bool,
    {
        let deadline = prim::now().checked_add(limit);
        let mut result = WaitTimeoutResult(false);
        while condition(&mut *guard) {
            if result.timed_out() {
                return Ok((guard, result));
            }
            (guard, result) = self.wait_until(guard, deadline)?;
        }
        Ok((guard, WaitTimeoutResult(false)))
    }

    #[track_caller]
    fn wait_until<'a, T: ?Sized>(
        &self,
        guard: MutexGuard<'a, T>,
        deadline: Option<Instant>,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let mutex = guard.mutex();
        let notice = Notice::new(self);
        let mut guard = Some(guard);
        let waited = wait::wait_for(Reason::Sync, deadline, |waiter| notice.publish(waiter, &mut guard), || notice.withdraw());
        if waited == WaitOutcome::Done {
            // The notification goes to the next waiter. If the time was up, that came first.
            unwind::checkpoint();
        }
        let locked = mutex.lock();
        notice.keep();
        let result = WaitTimeoutResult(waited == WaitOutcome::TimedOut);
        match locked {
            Ok(guard) => Ok((guard, result)),
            Err(error) => Err(std::sync::PoisonError::new((error.into_inner(), result))),
        }
    }

    /// Wakes the oldest waiter, if there is one. Never waits.
    ///
    /// ```
    /// greenloom::sync::Condvar::new().notify_one();
    /// ```
    #[inline]
    pub fn notify_one(&self) {
        if self.has_waiters() {
            self.release_one();
        }
    }

    /// Wakes all waiters. Never waits.
    ///
    /// ```
    /// greenloom::sync::Condvar::new().notify_all();
    /// ```
    #[inline]
    pub fn notify_all(&self) {
        if self.has_waiters() {
            self.release_all();
        }
    }

    #[inline]
    fn has_waiters(&self) -> bool {
        // Acquire: pairs with the Release of `note_waiters`. A waiter publishes itself before it
        // unlocks the mutex. A notifier that has since changed the condition under the mutex
        // therefore sees the store. (A notifier that did not take the mutex may be too early for a
        // waiter, as with any condition variable.)
        self.anyone.load(Ordering::Acquire) != 0
    }

    fn note_waiters(&self, queue: &WaitQueue<Cell<bool>>) {
        // Release: pairs with the Acquire of `has_waiters`.
        self.anyone.store(u8::from(!queue.is_empty()), Ordering::Release);
    }

    #[cold]
    fn release_one(&self) {
        let mut queue = self.queue.lock();
        // SAFETY: rules 1 and 3 of `wait::list`: the queue is locked; after it is unlocked, only
        // the waiter is used.
        let released = unsafe { queue.release_one() }.map(|node| {
            node.data().data().set(true);
            node.waiter()
        });
        self.note_waiters(&queue);
        drop(queue);
        if let Some(waiter) = released {
            // SAFETY: rule 2 of `wait`: taken out of the queue just now, so it is owed one wake.
            unsafe { waiter.wake() };
        }
    }

    #[cold]
    fn release_all(&self) {
        let mut queue = self.queue.lock();
        let released = queue.release_all();
        self.note_waiters(&queue);
        drop(queue);
        drop(released);
    }
}

impl Default for Condvar {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Condvar").finish_non_exhaustive()
    }
}

/// A waiter, from before it waits until it holds the mutex again.
struct Notice<'a> {
    condvar: &'a Condvar,
    node: Node<Queued<Cell<bool>>>,
}

impl<'a> Notice<'a> {
    #[inline(always)]
    fn new(condvar: &'a Condvar) -> Self {
        Self { condvar, node: Queued::node(Cell::new(false)) }
    }

    /// Joins the queue, then unlocks the mutex, unless that has already happened.
    #[inline(never)]
    fn publish<T: ?Sized>(&self, waiter: Waiter, guard: &mut Option<MutexGuard<'_, T>>) -> bool {
        let mut queue = self.condvar.queue.lock();
        // SAFETY: rules 1 and 2 of `wait::list`: the queue is locked; the node is in no list, and
        // it does not move while it is in one, because the wait lasts until it is taken out.
        unsafe { queue.push(&self.node, waiter) };
        self.condvar.note_waiters(&queue);
        drop(queue);
        drop(guard.take());
        true
    }

    #[cold]
    fn withdraw(&self) -> bool {
        let mut queue = self.condvar.queue.lock();
        // SAFETY: rule 1 of `wait::list`: the queue is locked. The node was pushed to it.
        let withdrawn = unsafe { queue.withdraw(&self.node) };
        self.condvar.note_waiters(&queue);
        withdrawn
    }

    /// The caller returns, so it uses its notification up.
    #[inline(always)]
    fn keep(&self) {
        self.node.data().data().set(false);
    }
}

impl Drop for Notice<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // The waiter unwinds although `notify_one` chose it, so another waiter is chosen.
        if self.node.data().data().get() {
            self.condvar.notify_one();
        }
    }
}
