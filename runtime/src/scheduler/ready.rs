//! The ready queue: a ring of tasks that only its machine touches.

use std::cell::{Cell, RefCell};

use crate::prim::prefetch_to_write;
use crate::task::TaskPtr;

/// A FIFO queue without locks or borrow counts: every operation is over before any other code runs.
pub(crate) struct ReadyQueue {
    /// A power of two of places. Replaced by a larger one when it is full.
    ring: RefCell<Box<[Cell<Option<TaskPtr>>]>>,
    places: Cell<*const Cell<Option<TaskPtr>>>,
    mask: Cell<usize>,
    /// Counts of tasks ever taken and ever put; their difference is the length.
    head: Cell<usize>,
    tail: Cell<usize>,
}

const FIRST: usize = 64;

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        let queue = Self {
            ring: RefCell::default(),
            places: Cell::new(std::ptr::null()),
            mask: Cell::new(0),
            head: Cell::new(0),
            tail: Cell::new(0),
        };
        queue.replace_ring(FIRST);
        queue
    }

    #[inline(always)]
    fn place(&self, count: usize) -> &Cell<Option<TaskPtr>> {
        // SAFETY: the ring has `mask + 1` places, and is replaced only between two operations.
        unsafe { &*self.places.get().add(count & self.mask.get()) }
    }

    #[inline(always)]
    pub(crate) fn push(&self, task: TaskPtr) {
        let tail = self.tail.get();
        if tail.wrapping_sub(self.head.get()) > self.mask.get() {
            self.replace_ring(2 * (self.mask.get() + 1));
        }
        self.place(tail).set(Some(task));
        self.tail.set(tail.wrapping_add(1));
    }

    pub(crate) fn len(&self) -> usize {
        self.tail.get().wrapping_sub(self.head.get())
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<TaskPtr> {
        let head = self.head.get();
        if head == self.tail.get() {
            return None;
        }
        let task = self.place(head).get();
        self.head.set(head.wrapping_add(1));
        self.look_ahead(head);
        task
    }

    /// Fetches what the tasks after this one will touch first: with many tasks, each switch would otherwise wait for memory. What leads
    /// there is fetched a turn earlier, step by step: the task, the head of its stack, its frame.
    #[inline(always)]
    fn look_ahead(&self, head: usize) {
        // A place may be empty, or hold a task that is gone: nothing is read there.
        if let Some(task) = self.place(head.wrapping_add(5)).get() {
            prefetch_to_write(task.as_ptr());
        }
        let ahead = self.tail.get().wrapping_sub(head) as isize;
        // SAFETY (both): the task is in the queue, so it is alive, and ours.
        if ahead > 3
            && let Some(task) = self.place(head.wrapping_add(3)).get()
        {
            // SAFETY: as above.
            prefetch_to_write(unsafe { task.record() });
        }
        if ahead > 2
            && let Some(task) = self.place(head.wrapping_add(2)).get()
        {
            // SAFETY: as above.
            unsafe { task.prefetch_stack() };
        }
    }

    #[cold]
    fn replace_ring(&self, len: usize) {
        let new: Box<[Cell<Option<TaskPtr>>]> = (0..len).map(|_| Cell::new(None)).collect();
        let (head, tail) = (self.head.get(), self.tail.get());
        for count in 0..tail.wrapping_sub(head) {
            let count = head.wrapping_add(count);
            new[count & (len - 1)].set(self.place(count).get());
        }
        self.places.set(new.as_ptr());
        self.mask.set(len - 1);
        *self.ring.borrow_mut() = new;
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use super::*;
    use crate::task::cells::SharedCells;

    fn task(id: u64) -> TaskPtr {
        let alloc = |layout| SharedCells::new().alloc(layout);
        // SAFETY: never run, and leaked.
        unsafe { TaskPtr::new(|| (), std::panic::Location::caller(), id, None, alloc) }.unwrap()
    }

    #[test]
    fn first_in_first_out_across_growth() {
        let queue = ReadyQueue::new();
        let mut next = 0;
        for id in 0..10 * FIRST as u64 {
            queue.push(task(id));
            if id % 3 == 0 {
                assert_eq!(queue.pop().map(TaskPtr::id), Some(next));
                next += 1;
            }
        }
        while let Some(task) = queue.pop() {
            assert_eq!(task.id(), next);
            next += 1;
        }
        assert_eq!(next, 10 * FIRST as u64);
    }
}
