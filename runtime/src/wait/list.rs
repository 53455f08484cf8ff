//! The list of the waiters of a primitive. Its nodes lie in the waiters' own frames, so waiting
//! allocates nothing.
//!
//! 1. A list and its nodes are touched only under the lock of the primitive that they belong to,
//!    except for rule 3.
//! 2. A node is in at most one list. While it is in one, its owner neither moves it nor leaves the
//!    frame.
//! 3. A thread or task that takes out a node it does not own owes the owner one wake. Until then
//!    the node stays where it is, and its links belong to the waker; see [`Wakes`].
//!
//! Under loom each node checks this rule: every access to the node, its links included, reads a
//! cell that the node's end writes.
//!
//! **`PhantomPinned` is not about `Pin` here.** Others write to a node while it is in a list. At
//! that time some of its owners hold a `&mut` to the value that contains it: a destructor that
//! takes it out (`task/tracker.rs`), or the call that makes a select's nodes (`channel/choose.rs`).
//! The compiler assumes that a `&mut` is the only way to a value (`noalias`), whether or not the
//! value has cells, unless its type is not `Unpin`. That exception was made for futures that refer
//! to themselves. It stands until a type of its own takes its place (`UnsafePinned`, RFC 3467).
//! `PhantomPinned` in the node extends the exception to every type that contains a node. Timers and
//! cancel scopes, to which others write as well, are only ever reached by shared references.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ptr::null;

use crate::raw::waiter::Waiter;
use crate::sys::cpu::prefetch_to_write;

/// A waiter, with what the primitive keeps for it.
pub(crate) struct Node<D> {
    next: Cell<*const Node<D>>,
    /// Valid in all nodes but the first.
    previous: Cell<*const Node<D>>,
    linked: Cell<bool>,
    waiter: Cell<Waiter>,
    data: D,
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
    /// Without it a `&mut` to a value that contains a node would be `noalias`; see the module docs.
    _pin: PhantomPinned,
}

impl<D> Node<D> {
    #[inline(always)]
    pub(crate) fn new(data: D) -> Self {
        Self {
            next: Cell::new(null()),
            previous: Cell::new(null()),
            linked: Cell::new(false),
            waiter: Cell::new(Waiter::NONE),
            data,
            #[cfg(greenloom_loom)]
            alive: crate::prim::Alive::new(),
            _pin: PhantomPinned,
        }
    }

    /// What the primitive keeps for the waiter. To be called under the lock, or by the owner while
    /// the node is in no list.
    #[inline(always)]
    pub(crate) fn data(&self) -> &D {
        self.touch();
        &self.data
    }

    /// The waiter that this node belongs to.
    #[inline(always)]
    pub(crate) fn waiter(&self) -> Waiter {
        self.touch();
        self.waiter.get()
    }

    #[inline(always)]
    fn next(&self) -> *const Self {
        self.touch();
        self.next.get()
    }

    #[inline(always)]
    fn set_next(&self, next: *const Self) {
        self.touch();
        self.next.set(next);
    }

    #[inline(always)]
    fn set_previous(&self, previous: *const Self) {
        self.touch();
        self.previous.set(previous);
    }

    #[inline(always)]
    fn touch(&self) {
        #[cfg(greenloom_loom)]
        self.alive.touch();
    }
}

#[cfg(debug_assertions)]
impl<D> Drop for Node<D> {
    fn drop(&mut self) {
        if self.linked.get() {
            // Others may touch the frame that is going away: unwinding cannot save anything.
            crate::sys::stderr::say(format_args!("greenloom: a waiter left its frame while it was in a list"));
            std::process::abort();
        }
    }
}

/// Waiters, oldest first.
pub(crate) struct List<D> {
    head: Cell<*const Node<D>>,
    tail: Cell<*const Node<D>>,
}

// SAFETY: rule 1: a lock orders all uses, from any thread. Only the primitive reaches what is in a
// node, and it is responsible for its type.
unsafe impl<D> Send for List<D> {}

impl<D> List<D> {
    pub(crate) const fn new() -> Self {
        Self { head: Cell::new(null()), tail: Cell::new(null()) }
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.get().is_null()
    }

    /// Adds a waiter behind all others.
    ///
    /// # Safety
    /// Rules 1 and 2. The node is in no list.
    pub(crate) unsafe fn push_back(&self, node: &Node<D>, waiter: Waiter) {
        let tail = self.tail.replace(node);
        self.link(node, waiter, tail, null());
        // SAFETY: nodes in the list are alive (rule 2).
        match unsafe { tail.as_ref() } {
            Some(tail) => tail.set_next(node),
            None => self.head.set(node),
        }
    }

    /// Adds a waiter before all others.
    ///
    /// # Safety
    /// Rules 1 and 2. The node is in no list.
    pub(crate) unsafe fn push_front(&self, node: &Node<D>, waiter: Waiter) {
        let head = self.head.replace(node);
        self.link(node, waiter, null(), head);
        // SAFETY: nodes in the list are alive (rule 2).
        match unsafe { head.as_ref() } {
            Some(head) => head.set_previous(node),
            None => self.tail.set(node),
        }
    }

    fn link(&self, node: &Node<D>, waiter: Waiter, previous: *const Node<D>, next: *const Node<D>) {
        debug_assert!(!node.linked.get());
        node.linked.set(true);
        node.waiter.set(waiter);
        node.set_previous(previous);
        node.set_next(next);
    }

    /// The oldest waiter, which stays in the list.
    ///
    /// # Safety
    /// Rule 1. The result is used before the lock is released.
    #[inline(always)]
    pub(crate) unsafe fn front<'a>(&self) -> Option<&'a Node<D>> {
        // SAFETY: nodes in the list are alive (rule 2).
        unsafe { self.head.get().as_ref() }
    }

    /// The newest waiter, which stays in the list.
    ///
    /// # Safety
    /// Rule 1. The result is used before the lock is released.
    #[inline(always)]
    pub(crate) unsafe fn back<'a>(&self) -> Option<&'a Node<D>> {
        // SAFETY: nodes in the list are alive (rule 2).
        unsafe { self.tail.get().as_ref() }
    }

    /// Takes the oldest waiter out.
    ///
    /// # Safety
    /// Rules 1 and 3. The result is used before the lock is released.
    #[inline(always)]
    pub(crate) unsafe fn pop_front<'a>(&self) -> Option<&'a Node<D>> {
        // SAFETY: rules 1 and 3 hold, as `# Safety` demands.
        unsafe {
            let node = self.front()?;
            // Its owner may have queued it on another CPU. It is read and written here.
            prefetch_to_write(node);
            self.remove(node);
            Some(node)
        }
    }

    /// Takes a waiter out. Returns false if it is in no list any more.
    ///
    /// # Safety
    /// Rule 1. The node is in this list or in none.
    #[inline(always)]
    pub(crate) unsafe fn remove(&self, node: &Node<D>) -> bool {
        node.touch();
        if !node.linked.replace(false) {
            return false;
        }
        let next = node.next();
        // The first node's `previous` has no meaning. So nothing is written to its successor, whose
        // cache line may have to come from another CPU while the lock is held.
        if std::ptr::eq(self.head.get(), node) {
            self.head.set(next);
            if next.is_null() {
                self.tail.set(null());
            } else {
                prefetch_to_write(next);
            }
            return true;
        }
        let previous = node.previous.get();
        // SAFETY: its neighbours are in the list, so they are alive (rule 2).
        unsafe {
            (*previous).set_next(next);
            match next.as_ref() {
                Some(next) => next.set_previous(previous),
                None => self.tail.set(previous),
            }
        }
        true
    }

    /// The waiters, oldest first.
    ///
    /// # Safety
    /// Rule 1, as long as the iterator is used. The list is not changed meanwhile.
    pub(crate) unsafe fn iter<'a>(&self) -> impl Iterator<Item = &'a Node<D>>
    where
        D: 'a,
    {
        let mut node = self.head.get();
        std::iter::from_fn(move || {
            // SAFETY: nodes in the list are alive (rule 2).
            let here = unsafe { node.as_ref() }?;
            node = here.next();
            Some(here)
        })
    }
}

/// Waiters that have been taken out of a primitive and are owed their wake. They are woken when
/// this value is dropped. If it was made before the lock was taken, that is after the lock is
/// released: waking a sleeping thread is a system call.
///
/// The waiters form a chain of their nodes, which are alive until each has been woken (rule 3). So
/// two words in the waker's frame are enough for any number of waiters.
pub(crate) struct Wakes<D> {
    first: *const Node<D>,
    last: *const Node<D>,
}

impl<D> Wakes<D> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { first: null(), last: null() }
    }

    /// Takes over the wake that is owed to the owner of a node.
    ///
    /// # Safety
    /// The caller has taken the node out of its list, under the lock that is still held.
    #[inline(always)]
    pub(crate) unsafe fn add(&mut self, node: &Node<D>) {
        debug_assert!(!node.linked.get());
        node.set_next(null());
        if self.first.is_null() {
            self.first = node;
        } else {
            // SAFETY: rule 3: the last node has not been woken yet, so it is alive.
            unsafe { (*self.last).set_next(node) };
        }
        self.last = node;
    }
}

impl<D> Drop for Wakes<D> {
    #[inline(always)]
    fn drop(&mut self) {
        let mut next = self.first;
        // SAFETY: rule 3: a node is alive until its owner is woken, which happens here, after
        // everything has been read from it. Its links belong to this chain: an owner that tries to
        // take it back finds it in no list, and waits for the wake.
        while let Some(node) = unsafe { next.as_ref() } {
            let waiter = node.waiter();
            next = node.next();
            // SAFETY: rule 3: the caller of `add` took it out of its primitive.
            unsafe { waiter.wake() };
        }
    }
}
