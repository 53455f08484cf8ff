//! Waiters that may all be released at once.

use std::cell::Cell;

use crate::raw::waiter::Waiter;
use crate::wait::list::{List, Node};

/// Waiters, oldest first. A primitive releases one or all of them.
///
/// Releasing all takes the whole list away, in a few instructions under the primitive's lock, and
/// increments the generation. From then on the released nodes belong to the holder of [`Released`],
/// which wakes their owners without the lock. An owner that is cancelled in the meantime sees by
/// the generation that it has been released: it touches no link, and waits for its wake. Later
/// waiters are not released with them.
pub(crate) struct WaitQueue<D> {
    list: List<Queued<D>>,
    generation: u64,
    len: usize,
}

/// What a [`WaitQueue`] keeps for a waiter.
pub(crate) struct Queued<D> {
    generation: Cell<u64>,
    data: D,
}

impl<D> Queued<D> {
    /// A node for a waiter's frame.
    #[inline(always)]
    pub(crate) fn node(data: D) -> Node<Queued<D>> {
        Node::new(Queued { generation: Cell::new(0), data })
    }

    /// What the primitive keeps for the waiter.
    #[inline(always)]
    pub(crate) fn data(&self) -> &D {
        &self.data
    }
}

impl<D> WaitQueue<D> {
    pub(crate) const fn new() -> Self {
        Self { list: List::new(), generation: 0, len: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a waiter behind all others.
    ///
    /// # Safety
    /// Rules 1 and 2 of [`crate::wait::list`]; the node is in no list.
    pub(crate) unsafe fn push(&mut self, node: &Node<Queued<D>>, waiter: Waiter) {
        node.data().generation.set(self.generation);
        self.len += 1;
        // SAFETY: rules 1 and 2 of the list hold, as `# Safety` demands.
        unsafe { self.list.push_back(node, waiter) };
    }

    /// Takes a waiter back; called by its owner. Returns false if it has been released, in which
    /// case its wake comes.
    ///
    /// # Safety
    /// Rule 1. The node has been pushed to this queue.
    pub(crate) unsafe fn withdraw(&mut self, node: &Node<Queued<D>>) -> bool {
        // SAFETY: rule 1, as `# Safety` demands; a node of this generation is in this list or in
        // none.
        let withdrawn = node.data().generation.get() == self.generation && unsafe { self.list.remove(node) };
        self.len -= usize::from(withdrawn);
        withdrawn
    }

    /// Takes the oldest waiter out; the caller owes it a wake.
    ///
    /// # Safety
    /// Rules 1 and 3. The result is used before the lock is released.
    pub(crate) unsafe fn release_one<'a>(&mut self) -> Option<&'a Node<Queued<D>>> {
        // SAFETY: rules 1 and 3 of the list hold, as `# Safety` demands.
        let node = unsafe { self.list.pop_front() }?;
        self.len -= 1;
        Some(node)
    }

    /// Takes the newest waiter out; the caller owes it a wake.
    ///
    /// # Safety
    /// As [`release_one`](Self::release_one).
    pub(crate) unsafe fn release_newest<'a>(&mut self) -> Option<&'a Node<Queued<D>>> {
        // SAFETY: rules 1 and 3 hold, as `# Safety` demands; the node at the back is in the list.
        unsafe {
            let node = self.list.back()?;
            self.list.remove(node);
            self.len -= 1;
            Some(node)
        }
    }

    /// Releases all current waiters. They are woken when the result is dropped, which is after the
    /// lock is released.
    pub(crate) fn release_all(&mut self) -> Released<D> {
        self.generation += 1;
        self.len = 0;
        Released(std::mem::replace(&mut self.list, List::new()))
    }
}

/// Waiters that have been released and are owed their wake. They are woken when this is dropped.
#[must_use = "must outlive the lock"]
pub(crate) struct Released<D>(List<Queued<D>>);

impl<D> Released<D> {
    pub(crate) fn none() -> Self {
        Self(List::new())
    }
}

impl<D> Drop for Released<D> {
    fn drop(&mut self) {
        // SAFETY: the nodes belong to this value alone (see `WaitQueue`). They are alive, since
        // their owners have not been woken. Each is taken out of the list before its owner is
        // woken.
        unsafe {
            while let Some(waiter) = self.0.pop_front().map(Node::waiter) {
                waiter.wake();
            }
        }
    }
}
