//! The wait group.

use std::fmt;

use crate::prim::Lock;
use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::prim::sync::Arc;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::Node;
use crate::wait::queue::{Queued, WaitQueue};

/// Waits until every handle of a group has been dropped. The API is that of
/// `crossbeam_utils::sync::WaitGroup`.
///
/// It works like Go's, except that it counts handles, so a decrement cannot be forgotten.
///
/// ```
/// use greenloom::sync::WaitGroup;
///
/// greenloom::run(|| {
///     let group = WaitGroup::new();
///     for _ in 0..4 {
///         let member = group.clone();
///         greenloom::spawn(move || {
///             // Work, and then:
///             drop(member);
///         });
///     }
///     group.wait();
/// });
/// ```
pub struct WaitGroup {
    inner: Arc<Inner>,
}

struct Inner {
    /// The number of handles. Dropping the last handle releases the queue under the lock. A waiter
    /// joins the queue after it has looked at the count under the same lock. So either the waiter
    /// is seen in the queue, or the waiter sees zero.
    handles: AtomicUsize,
    queue: Lock<WaitQueue<()>>,
}

impl WaitGroup {
    /// Creates a group with one handle, which is returned.
    ///
    /// ```
    /// greenloom::sync::WaitGroup::new().wait();
    /// ```
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { handles: AtomicUsize::new(1), queue: Lock::new(WaitQueue::new()) }) }
    }

    /// Drops this handle and waits until all others have been dropped or wait as well.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait. Its handle has been dropped by then.
    ///
    /// ```
    /// let group = greenloom::sync::WaitGroup::new();
    /// drop(group.clone());
    /// group.wait();
    /// ```
    #[track_caller]
    pub fn wait(self) {
        let inner = self.inner.clone();
        drop(self);
        if inner.is_done() {
            return wait::look_at_slice();
        }
        let node = Queued::node(());
        let _ = wait::wait_for(Reason::Sync, None, |waiter| inner.publish(&node, waiter), || inner.withdraw(&node));
    }
}

impl Inner {
    fn is_done(&self) -> bool {
        // Acquire: pairs with the AcqRel of the drop. What was done before each drop is visible.
        self.handles.load(Ordering::Acquire) == 0
    }

    fn publish(&self, node: &Node<Queued<()>>, waiter: Waiter) -> bool {
        let mut queue = self.queue.lock();
        if self.is_done() {
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

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        // Relaxed: the new handle is made from an existing one.
        let before = self.inner.handles.fetch_add(1, Ordering::Relaxed);
        if before > usize::MAX / 2 {
            std::process::abort();
        }
        Self { inner: self.inner.clone() }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        // AcqRel: the last drop sees what came before all the others, and passes it to the waiters
        // through the lock.
        if self.inner.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            let released = self.inner.queue.lock().release_all();
            drop(released);
        }
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Relaxed: the number may be out of date when it is read.
        f.debug_struct("WaitGroup").field("handles", &self.inner.handles.load(Ordering::Relaxed)).finish()
    }
}
