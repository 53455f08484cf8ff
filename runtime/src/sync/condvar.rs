//! The condition variable.
//!
//! 1. `wait` puts its node into the queue, and only then unlocks the mutex. Who changes the condition under the mutex and notifies
//!    afterwards therefore finds the node.
//! 2. A notification takes nodes out under the queue's lock, and wakes their owners after it.
//! 3. A cancelled waiter takes its node back and unwinds; it has no use for the mutex, whose guard it gave away. If it was notified
//!    before, and is cancelled by the time it goes on, or where it has to wait for the mutex, it passes the notification of
//!    `notify_one` on to another waiter.

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

/// A condition variable that suspends the task that waits: [`std::sync::Condvar`]'s shape, for guards of [`Mutex`](super::Mutex).
///
/// Notifications wake the oldest waiter first. A wait does not return without a notification, but when it does, others may
/// have had the mutex before: look at the condition again.
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
    /// Whether anyone waits, so that a notification for nobody is one load. Written under the lock.
    anyone: AtomicU8,
    /// Each waiter learns whether a `notify_one` took it.
    queue: Lock<WaitQueue<Cell<bool>>>,
}

/// Whether a wait with a time limit has ended because of that.
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
    /// Whether the time was up before a notification came.
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
        /// A condition variable nobody waits for.
        ///
        /// ```
        /// static CHANGED: greenloom::sync::Condvar = greenloom::sync::Condvar::new();
        /// CHANGED.notify_all();
        /// ```
        pub const fn new() -> Self {
            Self { anyone: AtomicU8::new(0), queue: Lock::new(WaitQueue::new()) }
        }
    }

    /// Unlocks the mutex, waits for a notification, and locks it again.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If the mutex is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend).
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here without the mutex. No notification is lost with it.
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

    /// Waits, as [`wait`](Self::wait), as long as `condition` holds.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If the mutex is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait; if `condition` does.
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

    /// Waits, as [`wait`](Self::wait), for `limit` at most; then locks the mutex again, however long that takes.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If the mutex is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend).
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
        // A moment beyond what the clock can say never comes.
        self.wait_until(guard, prim::now().checked_add(limit))
    }

    /// Waits, as [`wait`](Self::wait), as long as `condition` holds, and for `limit` at most.
    ///
    /// Suspends the task; blocks a plain thread. The result says that the time was up only if the condition still held then.
    ///
    /// # Errors
    /// If the mutex is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait; if `condition` does.
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
            // A notification is given to the next. Where the time was up, that came first.
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

    /// Wakes all who wait. Never waits.
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
        // Acquire: pairs with the Release of `note_waiters`. Who waits published itself before it unlocked the mutex; who notifies it
        // has changed the condition under the mutex since, and so sees this. (A notifier that did not take the mutex may
        // be too early for a waiter here as in any condition variable.)
        self.anyone.load(Ordering::Acquire) != 0
    }

    fn note_waiters(&self, queue: &WaitQueue<Cell<bool>>) {
        // Release: pairs with the Acquire of `has_waiters`.
        self.anyone.store(u8::from(!queue.is_empty()), Ordering::Release);
    }

    #[cold]
    fn release_one(&self) {
        let mut queue = self.queue.lock();
        // SAFETY: under the queue's lock, of which the waiter is all that is used afterwards.
        let released = unsafe { queue.release_one() }.map(|node| {
            node.data().data().set(true);
            node.waiter()
        });
        self.note_waiters(&queue);
        drop(queue);
        if let Some(waiter) = released {
            // SAFETY: taken out of the queue just now.
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

/// A waiter, from before it waits until it has the mutex again.
struct Notice<'a> {
    condvar: &'a Condvar,
    node: Node<Queued<Cell<bool>>>,
}

impl<'a> Notice<'a> {
    #[inline(always)]
    fn new(condvar: &'a Condvar) -> Self {
        Self { condvar, node: Queued::node(Cell::new(false)) }
    }

    /// Joins the queue, then gives the mutex up, if that has not happened yet.
    #[inline(never)]
    fn publish<T: ?Sized>(&self, waiter: Waiter, guard: &mut Option<MutexGuard<'_, T>>) -> bool {
        let mut queue = self.condvar.queue.lock();
        // SAFETY: under the queue's lock; the node is in no list, and stays where it is as long as it is in one: the wait ends when
        // it was taken out.
        unsafe { queue.push(&self.node, waiter) };
        self.condvar.note_waiters(&queue);
        drop(queue);
        drop(guard.take());
        true
    }

    #[cold]
    fn withdraw(&self) -> bool {
        let mut queue = self.condvar.queue.lock();
        // SAFETY: under the queue's lock; pushed before.
        let withdrawn = unsafe { queue.withdraw(&self.node) };
        self.condvar.note_waiters(&queue);
        withdrawn
    }

    /// The caller returns as notified.
    #[inline(always)]
    fn keep(&self) {
        self.node.data().data().set(false);
    }
}

impl Drop for Notice<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Unwinding, and `notify_one` chose this waiter: it chooses another.
        if self.node.data().data().get() {
            self.condvar.notify_one();
        }
    }
}
