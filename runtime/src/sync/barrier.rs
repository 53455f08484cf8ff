//! The barrier.

use std::fmt;

use super::const_fn;
use crate::prim::Lock;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::Node;
use crate::wait::queue::{Queued, Released, WaitQueue};

/// Lets several tasks wait for each other. The API is that of [`std::sync::Barrier`].
///
/// It can be used again for another round of the same size.
///
/// ```
/// use greenloom::sync::Barrier;
/// use std::sync::Arc;
///
/// greenloom::run(|| {
///     let barrier = Arc::new(Barrier::new(3));
///     let tasks: Vec<_> = (0..3)
///         .map(|_| {
///             let barrier = barrier.clone();
///             greenloom::spawn(move || barrier.wait().is_leader())
///         })
///         .collect();
///     let leaders = tasks.into_iter().map(|task| task.join().unwrap());
///     assert_eq!(leaders.filter(|leads| *leads).count(), 1);
/// });
/// ```
pub struct Barrier {
    size: usize,
    /// The tasks and threads that have arrived.
    queue: Lock<WaitQueue<()>>,
}

/// The result of [`Barrier::wait`]. It says whether the caller is the leader, the one that arrived
/// last.
///
/// ```
/// assert!(greenloom::sync::Barrier::new(1).wait().is_leader());
/// ```
pub struct BarrierWaitResult(bool);

impl BarrierWaitResult {
    /// Returns whether the caller arrived last.
    ///
    /// ```
    /// assert!(greenloom::sync::Barrier::new(1).wait().is_leader());
    /// ```
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0
    }
}

impl fmt::Debug for BarrierWaitResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BarrierWaitResult").field("is_leader", &self.is_leader()).finish()
    }
}

impl Barrier {
    const_fn! {
        /// Creates a barrier for `n` callers. Zero counts as one.
        ///
        /// ```
        /// let barrier = greenloom::sync::Barrier::new(1);
        /// barrier.wait();
        /// ```
        pub const fn new(n: usize) -> Self {
            Self { size: n, queue: Lock::new(WaitQueue::new()) }
        }
    }

    /// Waits until as many callers as the barrier is made for have arrived.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait. It then does not count as having
    /// arrived, unless all had arrived.
    ///
    /// ```
    /// let barrier = greenloom::sync::Barrier::new(2);
    /// std::thread::scope(|s| {
    ///     s.spawn(|| barrier.wait());
    ///     barrier.wait();
    /// });
    /// ```
    #[track_caller]
    pub fn wait(&self) -> BarrierWaitResult {
        wait::look_at_slice();
        let completed = self.complete(&mut self.queue.lock());
        if completed.is_some() {
            return BarrierWaitResult(true);
        }
        let node = Queued::node(());
        let mut leads = false;
        let publish = |waiter| {
            leads = !self.arrive(&node, waiter);
            !leads
        };
        let _ = wait::wait_for(Reason::Sync, None, publish, || self.withdraw(&node));
        BarrierWaitResult(leads)
    }

    /// Releases the waiters, if the caller is the last one to arrive.
    fn complete(&self, queue: &mut WaitQueue<()>) -> Option<Released<()>> {
        (queue.len() + 1 >= self.size).then(|| queue.release_all())
    }

    /// Joins the waiters, or releases them.
    fn arrive(&self, node: &Node<Queued<()>>, waiter: Waiter) -> bool {
        let mut queue = self.queue.lock();
        if let Some(released) = self.complete(&mut queue) {
            drop(queue);
            drop(released);
            return false;
        }
        // SAFETY: rules 1 and 2 of `wait::list`: the queue is locked; the node is in no list, and
        // it does not move while it is in one, because the wait lasts until it is taken out.
        unsafe { queue.push(node, waiter) };
        true
    }

    fn withdraw(&self, node: &Node<Queued<()>>) -> bool {
        // SAFETY: rule 1 of `wait::list`: the queue is locked. The node was pushed to it.
        unsafe { self.queue.lock().withdraw(node) }
    }
}

impl fmt::Debug for Barrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Barrier").finish_non_exhaustive()
    }
}
