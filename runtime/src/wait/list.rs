//! The list of those who wait in a primitive: its nodes lie in the waiters' own frames, so that waiting allocates nothing.
//!
//! 1. A list and its nodes are touched under the lock of the primitive that they belong to, and only there, but for rule 3.
//! 2. A node is in one list at most. Its owner neither moves nor leaves the frame while it is in one.
//! 3. Who takes a node out, other than its owner, owes the owner one wake. Until then the node stays where it is, and its links are
//!    the waker's; see [`Wakes`].
//!
//! Under loom each node watches that rule: every touch of it, its links too, reads a cell that its end writes.
//!
//! **`PhantomPinned` is not about `Pin` here.** Others write to a node while it is in a list, and some of its owners hold a `&mut` to what it
//! lies in at that time: a destructor that takes it out (`task/members.rs`), or the call that makes a select's nodes (`channel/choose.rs`).
//! The compiler takes a `&mut` for the only way to a value, cells in it or not (`noalias`), unless the type is not `Unpin`. That
//! exception was made for futures that refer to themselves, and stands until a type of its own takes its place (`UnsafePinned`,
//! RFC 3467); `PhantomPinned` in the node makes everything that contains one such a type. Timers and cancel scopes, to which others write as
//! well, are only ever reached by shared references.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::ptr::null;

use crate::raw::waiter::Waiter;
use crate::sys::cpu::prefetch_to_write;

/// One who waits, with what the primitive keeps for it.
pub(crate) struct Node<D> {
    next: Cell<*const Node<D>>,
    /// Of all but the first.
    previous: Cell<*const Node<D>>,
    linked: Cell<bool>,
    waiter: Cell<Waiter>,
    data: D,
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
    /// Without it a `&mut` to what contains a node would be `noalias`; see the module.
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

    /// What the primitive keeps for the waiter. Under the lock, or by the owner while the node is in no list.
    #[inline(always)]
    pub(crate) fn data(&self) -> &D {
        self.touch();
        &self.data
    }

    /// Whose node this is.
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
            // Others may touch the frame that goes: nothing can be saved by unwinding.
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

// SAFETY: rule 1: a lock orders all uses, from whatever thread. What is in a node is reached by the primitive alone, which answers
// for its type.
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
    /// Rules 1 and 2; the node is in no list.
    pub(crate) unsafe fn push_back(&self, node: &Node<D>, waiter: Waiter) {
        let tail = self.tail.replace(node);
        self.link(node, waiter, tail, null());
        // SAFETY: what is in the list is alive (rule 2).
        match unsafe { tail.as_ref() } {
            Some(tail) => tail.set_next(node),
            None => self.head.set(node),
        }
    }

    /// Adds a waiter before all others.
    ///
    /// # Safety
    /// Rules 1 and 2; the node is in no list.
    pub(crate) unsafe fn push_front(&self, node: &Node<D>, waiter: Waiter) {
        let head = self.head.replace(node);
        self.link(node, waiter, null(), head);
        // SAFETY: what is in the list is alive (rule 2).
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

    /// The oldest waiter, left where it is.
    ///
    /// # Safety
    /// Rule 1; the result is used under the same holding of the lock.
    #[inline(always)]
    pub(crate) unsafe fn front<'a>(&self) -> Option<&'a Node<D>> {
        // SAFETY: what is in the list is alive (rule 2).
        unsafe { self.head.get().as_ref() }
    }

    /// The newest waiter, left where it is.
    ///
    /// # Safety
    /// Rule 1; the result is used under the same holding of the lock.
    #[inline(always)]
    pub(crate) unsafe fn back<'a>(&self) -> Option<&'a Node<D>> {
        // SAFETY: what is in the list is alive (rule 2).
        unsafe { self.tail.get().as_ref() }
    }

    /// Takes the oldest waiter out.
    ///
    /// # Safety
    /// Rules 1 and 3; the result is used under the same holding of the lock.
    #[inline(always)]
    pub(crate) unsafe fn pop_front<'a>(&self) -> Option<&'a Node<D>> {
        // SAFETY: the caller's promise.
        unsafe {
            let node = self.front()?;
            // Its owner may have queued it on another CPU; it is read and written here.
            prefetch_to_write(node);
            self.remove(node);
            Some(node)
        }
    }

    /// Takes a waiter out; false if it is in no list any more.
    ///
    /// # Safety
    /// Rule 1; the node is in this list or in none.
    #[inline(always)]
    pub(crate) unsafe fn remove(&self, node: &Node<D>) -> bool {
        node.touch();
        if !node.linked.replace(false) {
            return false;
        }
        let next = node.next();
        // The first one's `previous` says nothing, so that nothing is written to its successor, a line that may have to come from another
        // CPU while the lock is held.
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
        // SAFETY: its neighbours are in the list, and alive (rule 2).
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
    /// Rule 1, as long as the iterator is used; the list is not changed meanwhile.
    pub(crate) unsafe fn iter<'a>(&self) -> impl Iterator<Item = &'a Node<D>>
    where
        D: 'a,
    {
        let mut node = self.head.get();
        std::iter::from_fn(move || {
            // SAFETY: what is in the list is alive (rule 2).
            let here = unsafe { node.as_ref() }?;
            node = here.next();
            Some(here)
        })
    }
}

/// Waiters that have been taken out of a primitive and are owed their wake. They get it when this is dropped: after the lock is
/// released, if this was made before it was taken, since waking a sleeping thread is a system call.
///
/// A chain of their nodes, which are alive until each has been woken (rule 3), so that there is room for any number of them in a
/// word or two of the waker's frame.
pub(crate) struct Wakes<D> {
    first: *const Node<D>,
    last: *const Node<D>,
}

impl<D> Wakes<D> {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { first: null(), last: null() }
    }

    /// Takes over the wake that the owner of a node is owed.
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
            // SAFETY: it has not been woken yet, so it is alive.
            unsafe { (*self.last).set_next(node) };
        }
        self.last = node;
    }
}

impl<D> Drop for Wakes<D> {
    #[inline(always)]
    fn drop(&mut self) {
        let mut next = self.first;
        // SAFETY: a node is alive until its owner is woken, which happens here, after all that is read of it; and its links are this
        // chain's: an owner that would take it back finds it in no list, and waits for the wake.
        while let Some(node) = unsafe { next.as_ref() } {
            let waiter = node.waiter();
            next = node.next();
            // SAFETY: whoever added it took it out of its primitive.
            unsafe { waiter.wake() };
        }
    }
}
