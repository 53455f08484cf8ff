//! The ready queue: a ring of tasks that only its machine touches.

use std::cell::Cell;
use std::ptr::{NonNull, slice_from_raw_parts_mut};

use crate::raw::header::TaskPtr;
use crate::sys::cpu::prefetch_to_write;

/// A FIFO queue without locks or borrow counts: every operation ends before any other code runs.
pub(crate) struct ReadyQueue {
    /// The first place of the ring. The ring has `mask + 1` places, a power of two, in a box that
    /// the queue owns. It is not kept as a `Box`: a move of that, for instance with the queue,
    /// claims exclusive access to its contents, and would invalidate pointers into it.
    places: Cell<NonNull<Place>>,
    mask: Cell<usize>,
    /// How many tasks were ever taken and ever put. The difference is the length.
    head: Cell<usize>,
    tail: Cell<usize>,
    /// How many tasks had ever been put when the running chain began.
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

    /// Begins a chain of tasks that make each other ready. The chain did not queue what is here by
    /// now.
    #[inline(always)]
    pub(crate) fn begin_chain(&self) {
        self.chain.set(self.tail.get());
    }

    /// Whether a task has been queued since before the running chain began.
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

    /// Prefetches what the tasks after this one will touch first. With many tasks, each switch
    /// would otherwise wait for memory. What leads there is fetched a turn earlier, step by step:
    /// the task, the head of its stack, its frame.
    #[inline(always)]
    fn look_ahead(&self, head: usize) {
        // Nothing is read there: a place may be empty, or hold a task that is gone.
        if let Some(task) = self.place(head.wrapping_add(5)).get() {
            prefetch_to_write(task.as_ptr());
        }
        let ahead = self.tail.get().wrapping_sub(head) as isize;
        // SAFETY (both): the task is in the queue, so it is alive, and ours.
        if ahead > 3
            && let Some(task) = self.place(head.wrapping_add(3)).get()
        {
            // SAFETY: the task is queued, so it is alive and ours.
            prefetch_to_write(unsafe { task.record() });
        }
        if ahead > 2
            && let Some(task) = self.place(head.wrapping_add(2)).get()
        {
            // SAFETY: the task is queued, so it is alive and ours.
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
        // The old ring is dropped with `larger`.
        self.places.swap(&larger.places);
        self.mask.swap(&larger.mask);
    }
}

impl Drop for ReadyQueue {
    fn drop(&mut self) {
        let ring = slice_from_raw_parts_mut(self.places.get().as_ptr(), self.mask.get() + 1);
        // SAFETY: the ring came from a box of this many places, and is dropped with the queue.
        drop(unsafe { Box::from_raw(ring) });
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use super::*;
    use crate::raw::task_slab::TaskSlab;

    fn task(id: u64) -> TaskPtr {
        let alloc = |layout| TaskSlab::new(0).alloc(layout);
        // SAFETY: the task never runs, and is leaked.
        unsafe { TaskPtr::new(|| (), std::panic::Location::caller(), id, None, alloc) }.unwrap()
    }

    /// Puts `puts` tasks, then takes `takes`, over and over, until `ends` were taken. Then takes
    /// the rest.
    fn first_in_first_out(queue: &ReadyQueue, puts: u64, takes: u64, ends: u64) {
        let (mut put, mut taken) = (0, 0);
        let take = |taken: &mut u64, put: u64| {
            assert_eq!(queue.len() as u64, put - *taken);
            assert_eq!(queue.pop().map(TaskPtr::id), (*taken < put).then_some(*taken));
            *taken = put.min(*taken + 1);
        };
        while taken < ends {
            for _ in 0..puts {
                queue.push(task(put));
                put += 1;
            }
            (0..takes).for_each(|_| take(&mut taken, put));
        }
        (0..=put - taken).for_each(|_| take(&mut taken, put));
    }

    #[test]
    fn first_in_first_out_across_growth_and_around_the_ring() {
        let first = FIRST as u64;
        // Growth from every place where the head may be, a ring that is exactly full, and one more.
        for (puts, takes) in [(1, 1), (3, 1), (first, first), (first + 1, first), (7, 2), (first / 2, 1), (5, 8)] {
            first_in_first_out(&ReadyQueue::new(), puts, takes, 10 * first);
        }
    }

    #[test]
    fn counts_may_wrap_around() {
        let queue = ReadyQueue::new();
        for counts in [&queue.head, &queue.tail] {
            counts.set(usize::MAX - FIRST);
        }
        first_in_first_out(&queue, FIRST as u64 + 3, 3, 10 * FIRST as u64);
    }

    /// Places behind the last task hold what was there one round ago.
    #[test]
    fn what_has_left_the_queue_is_not_touched_again() {
        const PAGE: usize = 4096;
        // Tasks in memory that can be unmapped.
        // SAFETY: this is a new mapping of our own.
        let pages = unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(std::ptr::null_mut(), FIRST * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_ne!(pages, libc::MAP_FAILED);
        let queue = ReadyQueue::new();
        for i in 0..FIRST {
            let alloc = |layout: std::alloc::Layout| {
                assert!(layout.size() <= PAGE);
                pages.cast::<u8>().wrapping_add(i * PAGE)
            };
            // SAFETY: the task never runs, and is leaked.
            queue.push(unsafe { TaskPtr::new(|| (), std::panic::Location::caller(), i as u64, None, alloc) }.unwrap());
        }
        while queue.pop().is_some() {}
        // SAFETY: the mapping is ours, and no longer needed.
        assert_eq!(unsafe { libc::munmap(pages, FIRST * PAGE) }, 0);
        // Counts that leave each number of old places ahead.
        for count in 1..FIRST as u64 {
            first_in_first_out(&queue, count, count, 1);
        }
    }
}
