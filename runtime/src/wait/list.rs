//! The list of those who wait in a primitive: its nodes lie in the waiters' own frames, so that waiting allocates nothing.
//!
//! 1. A list and its nodes are touched under the lock of the primitive that they belong to, and only there.
//! 2. A node is in one list at most. Its owner neither moves nor leaves the frame while it is in one.
//! 3. Who takes a node out, other than its owner, owes the owner one wake, and does not touch the node after the lock is
//!    released: it keeps the [`Waiter`], which is a copy.
//!
//! Under loom each node watches that rule: every touch of it reads a cell that its end writes.

use std::cell::Cell;
use std::marker::PhantomPinned;
use std::mem::MaybeUninit;
use std::ptr::null;

use crate::wait::Waiter;

/// One who waits, with what the primitive keeps for it.
pub(crate) struct Node<D> {
    next: Cell<*const Node<D>>,
    previous: Cell<*const Node<D>>,
    linked: Cell<bool>,
    waiter: Cell<Waiter>,
    data: D,
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
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
            crate::prim::say(format_args!("greenloom: a waiter left its frame while it was in a list"));
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
            Some(tail) => tail.next.set(node),
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
            Some(head) => head.previous.set(node),
            None => self.tail.set(node),
        }
    }

    fn link(&self, node: &Node<D>, waiter: Waiter, previous: *const Node<D>, next: *const Node<D>) {
        debug_assert!(!node.linked.get());
        node.linked.set(true);
        node.waiter.set(waiter);
        node.previous.set(previous);
        node.next.set(next);
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

    /// Takes the oldest waiter out.
    ///
    /// # Safety
    /// Rules 1 and 3; the result is used under the same holding of the lock.
    #[inline(always)]
    pub(crate) unsafe fn pop_front<'a>(&self) -> Option<&'a Node<D>> {
        // SAFETY: the caller's promise.
        unsafe {
            let node = self.front()?;
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
        let (previous, next) = (node.previous.get(), node.next.get());
        // SAFETY: its neighbours are in the list, and alive (rule 2).
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.head.set(next),
            }
            match next.as_ref() {
                Some(next) => next.previous.set(previous),
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
            here.touch();
            node = here.next.get();
            Some(here)
        })
    }
}

/// Wakes that are delivered together.
const BATCH: usize = 32;

/// Waiters that have been taken out of a primitive and are owed their wake. They get it when this is dropped: after the lock is
/// released, if this was made before it was taken, since waking a sleeping thread is a system call.
pub(crate) struct Wakes {
    waiters: [MaybeUninit<Waiter>; BATCH],
    count: usize,
}

impl Wakes {
    #[inline(always)]
    pub(crate) fn new() -> Self {
        Self { waiters: [const { MaybeUninit::uninit() }; BATCH], count: 0 }
    }

    /// Takes over the wake that a waiter is owed. A crowd is woken at once.
    #[inline(always)]
    pub(crate) fn add(&mut self, waiter: Waiter) {
        if self.count == BATCH {
            self.deliver();
        }
        self.waiters[self.count].write(waiter);
        self.count += 1;
    }

    fn deliver(&mut self) {
        for waiter in &self.waiters[..std::mem::take(&mut self.count)] {
            // SAFETY: the first `count` are written; whoever added this one took it out of its primitive.
            unsafe { waiter.assume_init().wake() };
        }
    }
}

impl Drop for Wakes {
    #[inline(always)]
    fn drop(&mut self) {
        if self.count > 0 {
            self.deliver();
        }
    }
}
