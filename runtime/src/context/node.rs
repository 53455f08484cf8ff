//! The tree of everything that can end. It has a node for each context that can be cancelled, for
//! each function that waits for an end, and for each frame that an end unwinds to.
//!
//! # The problem
//!
//! Ending a node ends all nodes below it, in time linear in their number, at any depth and on a
//! small stack. Meanwhile any thread may add children, end them, or drop the last reference to any
//! node. No user code may run under a lock.
//!
//! # The protocol
//!
//! 1. A node holds its parent by a reference. A parent has its children in a list without
//!    references, linked through the children under the **parent's** lock. No two of the locks of
//!    the nodes and of the clock are ever held together. (The lock of the sender in [`Done`] is
//!    held while the sender is dropped, which takes the channel's lock.)
//! 2. A node whose last reference is dropped takes itself out of its parent's list and out of the
//!    clock's, each under that list's lock, before its memory is freed. So a node that is found in
//!    a list, under its lock, is alive. A reference to it may be taken, unless there is none left
//!    to add to.
//! 3. [`mark`](NodeRef::mark) ends a single node, under its own lock, once. A parent that has ended
//!    takes no more children. A node that is to be added finds the end, under the same lock, and
//!    ends itself in the same way.
//! 4. The caller that ends a node then takes its children one by one. It marks the first of the
//!    list, with the parent's cause, ends all nodes below that child in the same way, and only then
//!    takes the child out. This is a walk along the tree: down by the references it takes, and up
//!    by the parents. So if the list of a node that has ended is found empty, all nodes below it
//!    have ended.
//! 5. A node that ends by itself leaves its parent's list afterwards. So several walks may be at
//!    one node, and none leaves work to another: a walk that finds a marked child goes down there
//!    all the same. The flag [`BELOW`] saves this where all is done.
//! 6. A node that has ended is out of its list before its marker gives up the reference. So when
//!    the last reference is dropped, the node is in no list.

use std::cell::Cell;
use std::error::Error;
use std::ops::Deref;
use std::ptr::{NonNull, null, null_mut};
use std::time::Instant;

use crate::context::ContextError;
use crate::context::clock;
use crate::context::end::{BELOW, Child, Done, OnEnd, decode};
use crate::prim::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use crate::prim::untracked::Arc;
use crate::prim::{self, Lock, process};

pub(super) type Cause = Arc<dyn Error + Send + Sync>;

/// The `state` of a node that has not ended.
pub(super) const LIVE: u8 = 0;
pub(crate) struct Node {
    references: AtomicUsize,
    /// `None` if nothing above can end it.
    pub(super) parent: Option<NodeRef>,
    /// Its place in the parent's list, under the parent's lock.
    next: Cell<*const Node>,
    previous: Cell<*const Node>,
    linked: Cell<bool>,
    /// Changes under the lock, except when [`ENDING`](super::end::ENDING) is cleared.
    pub(super) state: AtomicU8,
    /// The deadline is the node's own, and the clock watches it.
    pub(super) timed: bool,
    deadline: Option<Instant>,
    /// Made when somebody asks for it. Set under the lock.
    pub(super) done: AtomicPtr<Done>,
    pub(super) inner: Lock<Inner>,
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
}

pub(super) struct Inner {
    /// The newest child.
    pub(super) children: *const Node,
    /// What it was cancelled with, if anything.
    pub(super) cause: Option<Cause>,
    pub(super) on_end: OnEnd,
}

// SAFETY: fields that are not atomic never change, or are under the node's or its parent's lock.
// Any thread may use and drop the nodes, causes, functions and channels it points to, and cancel
// the cancel scope.
unsafe impl Send for Node {}
// SAFETY: as for `Send`: fields never change, are atomic, or are under a lock.
unsafe impl Sync for Node {}

/// A reference to a node.
pub(crate) struct NodeRef(NonNull<Node>);

// SAFETY: any thread may use and drop a node.
unsafe impl Send for NodeRef {}
// SAFETY: any thread may use and drop a node.
unsafe impl Sync for NodeRef {}

impl NodeRef {
    /// A context below `parent`. Its deadline is the parent's, or an earlier one, at which the
    /// clock ends the node.
    ///
    /// # Panics
    /// If the clock needs a thread, and the system cannot start one.
    #[track_caller]
    pub(super) fn context(parent: Option<NodeRef>, deadline: Option<Instant>) -> NodeRef {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline);
        let own = deadline.filter(|own| inherited.is_none_or(|inherited| *own < inherited));
        // The clock may not know the parent's deadline, which another process may have set: see
        // `clock`.
        let own = if process::is_forked() { own.or(inherited) } else { own };
        let over = own.is_some_and(|own| own <= prim::now());
        let node = Self::new(parent, own.or(inherited), own.is_some() && !over, OnEnd::Nothing);
        if node.timed {
            // Before it joins its parent: whatever the parent does with it comes later.
            clock::watch(&node);
        }
        node.join_parent();
        if over {
            node.end(ContextError::DeadlineExceeded, &None);
        }
        node
    }

    pub(super) fn new(parent: Option<NodeRef>, deadline: Option<Instant>, timed: bool, on_end: OnEnd) -> NodeRef {
        let node = Box::new(Node {
            references: AtomicUsize::new(1),
            parent,
            next: Cell::new(null()),
            previous: Cell::new(null()),
            linked: Cell::new(false),
            state: AtomicU8::new(LIVE),
            timed,
            deadline,
            done: AtomicPtr::new(null_mut()),
            inner: Lock::new(Inner { children: null(), cause: None, on_end }),
            #[cfg(greenloom_loom)]
            alive: crate::prim::Alive::new(),
        });
        NodeRef(NonNull::from(Box::leak(node)))
    }

    pub(crate) fn as_ptr(&self) -> *const Node {
        self.0.as_ptr()
    }

    /// Takes over a reference that was kept.
    ///
    /// # Safety
    /// The node is alive, and the caller gives up a reference to it that it owns.
    pub(super) unsafe fn from_raw(node: *const Node) -> NodeRef {
        // SAFETY: the caller gives up a reference to a live node, as `# Safety` demands.
        NodeRef(unsafe { NonNull::new_unchecked(node.cast_mut()) })
    }

    /// A reference to a node that was found in a list, unless the node has no references left.
    ///
    /// # Safety
    /// The node was found under the lock of that list (rule 2), and the lock is still held.
    pub(crate) unsafe fn try_from_list(node: *const Node) -> Option<NodeRef> {
        // SAFETY: found under the list's lock, as `# Safety` demands, so it is alive (rule 2).
        let found = unsafe { &*node };
        #[cfg(greenloom_loom)]
        found.alive.touch();
        let add = |references| (references > 0).then_some(references + 1);
        // Relaxed: the lock orders what matters. If this fails, nothing is touched.
        found.references.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        // SAFETY: the reference was just added.
        Some(unsafe { Self::from_raw(node) })
    }

    /// Gives up the reference, unless it is the last.
    pub(crate) fn drop_unless_last(self) -> Option<NodeRef> {
        let remove = |references| (references > 1).then(|| references - 1);
        // Release: what was done through this reference comes before the end of the node, for which
        // the last reference synchronises (see `drop`).
        match self.references.fetch_update(Ordering::Release, Ordering::Relaxed, remove) {
            Ok(_) => {
                std::mem::forget(self);
                None
            }
            Err(_) => Some(self),
        }
    }

    /// Adds the node to its parent's list, or ends it if the parent has ended.
    pub(super) fn join_parent(&self) {
        let Some(parent) = &self.parent else { return };
        let inherited = {
            let mut inner = parent.inner.lock();
            // Relaxed: it changes under the lock.
            match decode(parent.state.load(Ordering::Relaxed)) {
                None => {
                    inner.link(self);
                    None
                }
                Some(why) => Some((why, inner.cause.clone())),
            }
        };
        match inherited {
            Some((why, cause)) => self.end(why, &cause),
            // The clock ended it before there was a list to leave. If the clock does so from now
            // on, it finds the list. Relaxed: ordered by the parent's lock, under which the clock
            // looked whether this node was linked.
            None if self.state.load(Ordering::Relaxed) != LIVE => parent.unlink(self),
            None => {}
        }
    }
}

impl Deref for NodeRef {
    type Target = Node;

    fn deref(&self) -> &Node {
        // SAFETY: a node is alive as long as there is a reference to it.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for NodeRef {
    fn clone(&self) -> Self {
        // Relaxed: made from an existing reference.
        if self.references.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
        NodeRef(self.0)
    }
}

impl Drop for NodeRef {
    /// Frees the node with its last reference, and then every node above of which that was the last
    /// reference. It is a loop, since chains may be long.
    fn drop(&mut self) {
        let mut node = self.0;
        loop {
            // SAFETY: this reference keeps it alive.
            let last = unsafe { node.as_ref() };
            // AcqRel: what was done through any reference happens before the end.
            if last.references.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            last.leave_lists();
            // SAFETY: nobody can find the node any more, and it was made by a box.
            let mut boxed = unsafe { Box::from_raw(node.as_ptr()) };
            let parent = boxed.parent.take();
            // A cause or a function may be dropped with it. Its destructor may do anything. If it
            // panics, the unwinding drops the parent.
            drop(boxed);
            let Some(parent) = parent else { return };
            node = parent.0;
            std::mem::forget(parent);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let done = self.done.load(Ordering::Relaxed);
        if !done.is_null() {
            // SAFETY: made by a box, and nobody else knows it any more.
            drop(unsafe { Box::from_raw(done) });
        }
    }
}

impl Node {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Called before the memory is freed. A node that has ended is in no list (rule 6).
    fn leave_lists(&self) {
        // Relaxed: the thread that ended it had a reference, and the last reference is gone.
        if self.state.load(Ordering::Relaxed) != LIVE {
            return;
        }
        if self.timed {
            clock::forget(self);
        }
        if let Some(parent) = &self.parent {
            parent.unlink(self);
        }
    }

    /// Takes a child out of the list of children, if it is in it.
    pub(super) fn unlink(&self, child: &Node) {
        self.inner.lock().unlink(child);
    }

    /// For a node that has ended. Takes out a child that has ended with all nodes below it, if one
    /// is given. Finds the next child, which stays in the list (rule 4).
    pub(super) fn next_child(&self, ended: Option<&NodeRef>) -> Option<Child> {
        let mut inner = self.inner.lock();
        if let Some(ended) = ended {
            inner.unlink(ended);
        }
        loop {
            let first = inner.children;
            // SAFETY: a node in the list is alive (rule 2).
            let Some(found) = (unsafe { first.as_ref() }) else {
                // Release: pairs with the Acquire in `begin_end`. A caller that sees this sees the
                // ends of all nodes below.
                self.state.fetch_and(!BELOW, Ordering::Release);
                return None;
            };
            // SAFETY: found under the lock, which is still held (rule 2).
            if let Some(node) = unsafe { NodeRef::try_from_list(first) } {
                // Relaxed: set under the lock.
                let why = decode(self.state.load(Ordering::Relaxed)).expect("only what has ended is walked through");
                return Some(Child { node, why, cause: inner.cause.clone() });
            }
            // It is about to be freed.
            inner.unlink(found);
        }
    }
}

impl Inner {
    fn link(&mut self, child: &NodeRef) {
        let old = std::mem::replace(&mut self.children, child.as_ptr());
        child.next.set(old);
        child.linked.set(true);
        // SAFETY: a node in the list is alive (rule 2).
        if let Some(old) = unsafe { old.as_ref() } {
            old.previous.set(child.as_ptr());
        }
    }

    fn unlink(&mut self, child: &Node) {
        if !child.linked.replace(false) {
            return;
        }
        let (previous, next) = (child.previous.replace(null()), child.next.replace(null()));
        // SAFETY: its neighbours are in the list, and so alive (rule 2).
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.children = next,
            }
            if let Some(next) = next.as_ref() {
                next.previous.set(previous);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::context::Context;

    fn children(ctx: &Context) -> usize {
        let inner = ctx.node.as_ref().unwrap().inner.lock();
        let next = |node: &*const Node| {
            // SAFETY: a node in the list is alive.
            unsafe { node.as_ref() }.map(|node| node.next.get())
        };
        std::iter::successors(Some(inner.children), next).count() - 1
    }

    #[test]
    fn what_ends_or_goes_leaves_its_parent() {
        let (parent, parents) = Context::background().with_cancel();
        let (first, firsts) = parent.with_cancel();
        let (second, seconds) = parent.with_timeout(Duration::from_secs(3600));
        let (third, thirds) = parent.with_value(1).with_cancel();
        let waits = parent.after_func(|| ());
        assert_eq!(children(&parent), 4);
        // Cancelled, from the middle.
        seconds.cancel();
        assert_eq!(children(&parent), 3);
        // Dropped while it is live.
        thirds.disarm();
        drop(third);
        assert_eq!(children(&parent), 2);
        // Stopped.
        assert!(waits.stop());
        assert_eq!(children(&parent), 1);
        // At the end of a frame.
        parent.run_until_done(|| assert_eq!(children(&parent), 2)).unwrap();
        assert_eq!(children(&parent), 1);
        // Its deadline has passed.
        let (late, _lates) = parent.with_timeout(Duration::from_millis(1));
        assert!(late.done().recv().is_err());
        while children(&parent) > 1 {
            crate::yield_now();
        }
        let (_past, _pasts) = parent.with_timeout(Duration::ZERO);
        assert_eq!(children(&parent), 1);
        parents.cancel();
        assert_eq!(children(&parent), 0);
        // Too late to be added.
        let (_child, _childs) = parent.with_cancel();
        assert_eq!(children(&parent), 0);
        drop((first, firsts, second, seconds));
    }

    #[test]
    fn a_node_is_small() {
        assert!(size_of::<Node>() <= 112, "{}", size_of::<Node>());
    }
}
