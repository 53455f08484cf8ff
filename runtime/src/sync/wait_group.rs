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

/// Waits until all of a group have dropped their handle: `crossbeam_utils::sync::WaitGroup`.
///
/// As Go's, except that a handle is what is counted, so that nobody forgets.
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
    /// Handles. Whoever drops the last one releases the queue under the lock; whoever joins the queue looks at the count under the
    /// lock. So either the one sees the other in the queue, or that one sees zero.
    handles: AtomicUsize,
    queue: Lock<WaitQueue<()>>,
}

impl WaitGroup {
    /// A group of one: the handle that is returned.
    ///
    /// ```
    /// greenloom::sync::WaitGroup::new().wait();
    /// ```
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { handles: AtomicUsize::new(1), queue: Lock::new(WaitQueue::new()) }) }
    }

    /// Drops this handle and waits until all others have been dropped, or wait as well.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
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
        // Acquire: pairs with the AcqRel of the drop; what members did before is seen.
        self.handles.load(Ordering::Acquire) == 0
    }

    fn publish(&self, node: &Node<Queued<()>>, waiter: Waiter) -> bool {
        let mut queue = self.queue.lock();
        if self.is_done() {
            return false;
        }
        // SAFETY: under the queue's lock; the node is in no list, and stays where it is as long as it is in one: the wait ends when
        // it was taken out.
        unsafe { queue.push(node, waiter) };
        true
    }

    fn withdraw(&self, node: &Node<Queued<()>>) -> bool {
        // SAFETY: under the queue's lock; pushed before.
        unsafe { self.queue.lock().withdraw(node) }
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        // Relaxed: made from an existing handle.
        let before = self.inner.handles.fetch_add(1, Ordering::Relaxed);
        if before > usize::MAX / 2 {
            std::process::abort();
        }
        Self { inner: self.inner.clone() }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        // AcqRel: the last one sees what all others did, and with the lock passes it to those who wait.
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
        // Relaxed: a number that may be old when it is read.
        f.debug_struct("WaitGroup").field("handles", &self.inner.handles.load(Ordering::Relaxed)).finish()
    }
}
