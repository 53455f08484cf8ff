//! The ready queue: a ring of tasks that only its machine touches.

use std::cell::Cell;
use std::ptr::{NonNull, slice_from_raw_parts_mut};

use crate::prim::prefetch_to_write;
use crate::task::TaskPtr;

/// A FIFO queue without locks or borrow counts: every operation is over before any other code runs.
pub(crate) struct ReadyQueue {
    /// The ring's first place; `mask + 1` of them, a power of two, are a box of the queue's. Not kept as one: a box claims what is
    /// in it for itself alone each time it is moved, with the queue, say, and pointers into it would be void.
    places: Cell<NonNull<Place>>,
    mask: Cell<usize>,
    /// Counts of tasks ever taken and ever put; their difference is the length.
    head: Cell<usize>,
    tail: Cell<usize>,
    /// The count of tasks ever put when the running chain began.
    chain: Cell<usize>,
}

type Place = Cell<Option<TaskPtr>>;

const FIRST: usize = 64;

/// The first place of a new ring.
fn new_ring(len: usize) -> NonNull<Place> {
    let ring: Box<[Place]> = (0..len).map(|_| Cell::new(None)).collect();
    NonNull::from(Box::leak(ring)).cast()
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self {
            places: Cell::new(new_ring(FIRST)),
            mask: Cell::new(FIRST - 1),
            head: Cell::new(0),
            tail: Cell::new(0),
            chain: Cell::new(0),
        }
    }

    #[inline(always)]
    fn place(&self, count: usize) -> &Place {
        // SAFETY: the ring has `mask + 1` places, and is replaced only between two operations.
        unsafe { self.places.get().add(count & self.mask.get()).as_ref() }
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

    /// A chain of tasks that make each other ready begins: what is queued by now is not its own doing.
    #[inline(always)]
    pub(crate) fn begin_chain(&self) {
        self.chain.set(self.tail.get());
    }

    /// Whether a task is queued since before the running chain began.
    pub(crate) fn is_owed_a_turn(&self) -> bool {
        (self.chain.get().wrapping_sub(self.head.get()) as isize) > 0
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
        let larger = ReadyQueue {
            places: Cell::new(new_ring(len)),
            mask: Cell::new(len - 1),
            head: self.head.clone(),
            tail: self.tail.clone(),
            chain: self.chain.clone(),
        };
        for count in 0..self.len() {
            let count = self.head.get().wrapping_add(count);
            larger.place(count).set(self.place(count).get());
        }
        // The old ring goes with `larger`.
        self.places.swap(&larger.places);
        self.mask.swap(&larger.mask);
    }
}

impl Drop for ReadyQueue {
    fn drop(&mut self) {
        let ring = slice_from_raw_parts_mut(self.places.get().as_ptr(), self.mask.get() + 1);
        // SAFETY: it came from a box, of so many places, and goes with the queue.
        drop(unsafe { Box::from_raw(ring) });
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
