//! A stand-in for crossbeam-deque, which loom cannot see into. It proves nothing about the deque
//! itself.
//!
//! Each operation is one step of an atomic count, and the items lie where loom does not look. Both
//! happen as one, since loom lets other threads run only before an operation. The orderings are the
//! weakest that a deque could have: a thread that takes an item sees what was done before its push,
//! and nothing else. A look at the length may be stale unless something else orders it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::atomic::{AtomicUsize, Ordering};

struct Queue<T> {
    len: AtomicUsize,
    items: Mutex<VecDeque<T>>,
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self { len: AtomicUsize::new(0), items: Mutex::new(VecDeque::new()) }
    }

    fn push(&self, item: T) {
        self.len.fetch_add(1, Ordering::Release);
        self.items.lock().unwrap().push_back(item);
    }

    /// An exchange that fails if the queue is empty, like that of a thief that finds it so.
    fn take(&self, end: impl FnOnce(&mut VecDeque<T>) -> Option<T>) -> Option<T> {
        let taken = self.len.fetch_update(Ordering::Acquire, Ordering::Acquire, |len| len.checked_sub(1));
        taken.ok().and_then(|_| end(&mut self.items.lock().unwrap()))
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }
}

pub(crate) enum Steal<T> {
    Success(T),
    Empty,
    /// Never returned by the stand-in.
    Retry,
}

impl<T> Steal<T> {
    fn of(item: Option<T>) -> Self {
        item.map_or(Steal::Empty, Steal::Success)
    }

    pub(crate) fn success(self) -> Option<T> {
        match self {
            Steal::Success(item) => Some(item),
            Steal::Empty | Steal::Retry => None,
        }
    }
}

/// First in, first out.
pub(crate) struct Injector<T>(Queue<T>);

impl<T> Injector<T> {
    pub(crate) fn new() -> Self {
        Self(Queue::new())
    }

    pub(crate) fn push(&self, item: T) {
        self.0.push(item);
    }

    pub(crate) fn steal(&self) -> Steal<T> {
        Steal::of(self.0.take(VecDeque::pop_front))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

/// The owner's end: last in, first out.
pub(crate) struct Worker<T>(Arc<Queue<T>>);

impl<T> Worker<T> {
    pub(crate) fn new_lifo() -> Self {
        Self(Arc::new(Queue::new()))
    }

    pub(crate) fn stealer(&self) -> Stealer<T> {
        Stealer(self.0.clone())
    }

    pub(crate) fn push(&self, item: T) {
        self.0.push(item);
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.take(VecDeque::pop_back)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The thieves' end: first in, first out.
pub(crate) struct Stealer<T>(Arc<Queue<T>>);

impl<T> Stealer<T> {
    pub(crate) fn steal(&self) -> Steal<T> {
        Steal::of(self.0.take(VecDeque::pop_front))
    }

    /// Steals only one: a batch equals as many single steals, and the models do not have so many
    /// tasks.
    pub(crate) fn steal_batch_and_pop(&self, _into: &Worker<T>) -> Steal<T> {
        self.steal()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
