//! Free stacks: each processor's cache, in front of the runtime's pool, in front of the slabs.
//!
//! **What goes back to the system, and when.** The pool's free stacks do, whole, however deep they
//! were used, if they were not needed between two of the monitor's passes, which are a second
//! apart. Each costs a system call. There may be hundreds of thousands after a burst of tasks,
//! while the monitor has limits and late timers to attend to. So a pass works in pieces of
//! [`PIECE`]. A processor's cache is not trimmed. Its stacks, at most [`CACHE`] of each size, are
//! the next ones to be used. When the processor runs out of work, all but [`KEEP`] go to the pool.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use crate::prim::untracked::{Mutex, RwLock};
use crate::raw::record::{Record, StackPtr};
use crate::stack::slab::{Class, Slabs, Slot};

/// How many stacks move between a cache and the pool at a time.
const BATCH: usize = 64;

/// The most free stacks of one size that a processor keeps for itself.
const CACHE: usize = 256;

/// How many of them a sleeping machine keeps.
const KEEP: usize = 16;

/// The most stacks that are given back to the system at a time, between two ticks of the monitor.
/// This takes some 0.3 ms if they are neighbours, 1 ms if they are not.
const PIECE: usize = 64;

/// The free stacks of a runtime, and the slabs that all of its stacks are carved from.
pub(crate) struct StackPool {
    slabs: Slabs,
    free: [Mutex<Shelf>; Class::COUNT],
    /// Read-locked while anyone but a stack's owner reads heads; write-locked while heads are given
    /// back with their stacks. A reader may have found a task in a head just before. What that head
    /// holds besides atomics (the lock of its name) would be overwritten while it reads, first with
    /// zeroes and then by [`StackPtr::create`].
    heads: RwLock<()>,
}

/// The free stacks of one size.
#[derive(Default)]
struct Shelf {
    /// Stacks with a head, oldest first.
    warm: VecDeque<StackPtr>,
    /// Slots whose memory has been given back, including the head.
    cold: Vec<Slot>,
    /// The fewest warm stacks here since the last pass began: this many were not needed in that
    /// time.
    idle: usize,
    /// How many of the oldest this pass has still to give back.
    due: usize,
}

impl StackPool {
    pub(crate) fn new(slabs: Slabs) -> Self {
        Self { slabs, free: Default::default(), heads: RwLock::new(()) }
    }

    /// Carves a slot that is in no cache and never will be.
    ///
    /// # Errors
    /// As [`Slabs::carve`].
    pub(crate) fn set_aside(&self, class: Class) -> io::Result<Slot> {
        self.slabs.carve(class)
    }

    fn shelf(&self, class: Class) -> impl std::ops::DerefMut<Target = Shelf> + '_ {
        self.free[class.index()].lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Moves a batch of free stacks into `into`; if there are none, one that is cold or new.
    fn take(&self, class: Class, into: &mut Vec<StackPtr>) -> io::Result<()> {
        let mut shelf = self.shelf(class);
        let keep = shelf.warm.len().saturating_sub(BATCH);
        into.extend(shelf.warm.drain(keep..));
        shelf.idle = shelf.idle.min(keep);
        shelf.due = shelf.due.min(keep);
        if into.is_empty() {
            let cold = shelf.cold.pop();
            drop(shelf);
            let slot = cold.map_or_else(|| self.slabs.carve(class), Ok)?;
            // SAFETY: the slot has just come from the slab or the shelf; the slabs live as long as
            // their stacks.
            into.push(unsafe { StackPtr::create(slot) });
        }
        Ok(())
    }

    fn give(&self, class: Class, stacks: impl Iterator<Item = StackPtr>) {
        self.shelf(class).warm.extend(stacks);
    }

    /// Whether there is anything that the next pass, or the second from now, would give back.
    pub(crate) fn is_warm(&self) -> bool {
        self.free.iter().any(|shelf| !shelf.lock().unwrap_or_else(|e| e.into_inner()).warm.is_empty())
    }

    /// Begins a pass of the monitor: what has lain here since the last pass began is to go back to
    /// the system.
    pub(crate) fn begin_trim(&self) {
        for shelf in &self.free {
            let mut shelf = shelf.lock().unwrap_or_else(|e| e.into_inner());
            shelf.due = shelf.idle;
            shelf.idle = shelf.warm.len();
        }
    }

    /// Gives back a piece of this pass; false if nothing is left of it.
    pub(crate) fn trim_piece(&self) -> bool {
        let mut left = PIECE;
        for shelf in &self.free {
            let shelf = || shelf.lock().unwrap_or_else(|e| e.into_inner());
            let stacks: Vec<StackPtr> = {
                let mut shelf = shelf();
                let some = shelf.due.min(left);
                shelf.due -= some;
                shelf.idle -= some;
                shelf.warm.drain(..some).collect()
            };
            left -= stacks.len();
            // Off the shelf and unlocked: a machine that needs a stack meanwhile does not wait for
            // these system calls.
            let mut slots: Vec<Slot> = stacks.iter().map(|stack| *stack.record().slot()).collect();
            let no_reader = self.heads.write().unwrap_or_else(|e| e.into_inner());
            // SAFETY: the stacks were free and this thread has taken them. Their heads go with
            // them, and nothing in the heads needs dropping.
            unsafe { self.slabs.discard_all(&mut slots) };
            drop(no_reader);
            shelf().cold.extend(slots);
        }
        left == 0
    }

    /// Unmaps all stacks.
    ///
    /// # Safety
    /// No stack has a task any more, and none is looked at: nobody calls
    /// [`for_each_bound`](Self::for_each_bound) now or later.
    #[cfg(not(greenloom_loom))]
    pub(crate) unsafe fn unmap(&self) {
        for shelf in &self.free {
            *shelf.lock().unwrap_or_else(|e| e.into_inner()) = Shelf::default();
        }
        // SAFETY: no stack has a task or is looked at, as `# Safety` demands, and nobody can find a
        // free stack any more.
        unsafe { self.slabs.unmap() };
    }

    /// For code that reads heads of stacks that others own: none is given back to the system while
    /// the result lives.
    pub(crate) fn keep_heads(&self) -> impl Sized + '_ {
        self.heads.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Calls `f` for every stack that has a task.
    pub(crate) fn for_each_bound(&self, mut f: impl FnMut(&Record)) {
        let _heads = self.keep_heads();
        self.slabs.for_each_carved(|slot| {
            // SAFETY: the slabs outlive this call.
            if let Some(stack) = unsafe { StackPtr::of_slot(slot) } {
                f(stack.record());
            }
        });
    }
}

/// The free stacks of one processor, newest last: the next task gets the stack that is still in the
/// CPU's cache.
pub(crate) struct StackCache {
    /// The newest stack of the usual size, apart from the others. A task that never suspends takes
    /// it and gives it back.
    hot: Cell<Option<StackPtr>>,
    usual: Class,
    classes: [RefCell<Vec<StackPtr>>; Class::COUNT],
}

impl StackCache {
    /// A cache for a processor whose tasks mostly have stacks of the size `usual`.
    pub(crate) fn new(usual: Class) -> Self {
        Self { hot: Cell::new(None), usual, classes: Default::default() }
    }

    #[inline(always)]
    pub(crate) fn take(&self, pool: &StackPool, class: Class) -> io::Result<StackPtr> {
        if class == self.usual
            && let Some(stack) = self.hot.take()
        {
            return Ok(stack);
        }
        self.take_colder(pool, class)
    }

    fn take_colder(&self, pool: &StackPool, class: Class) -> io::Result<StackPtr> {
        let mut cache = self.classes[class.index()].borrow_mut();
        if let Some(stack) = cache.pop() {
            return Ok(stack);
        }
        pool.take(class, &mut cache)?;
        Ok(cache.pop().expect("the pool gave at least one"))
    }

    #[inline(always)]
    pub(crate) fn give(&self, pool: &StackPool, stack: StackPtr) {
        let colder = if stack.record().slot().class == self.usual { self.hot.replace(Some(stack)) } else { Some(stack) };
        if let Some(colder) = colder {
            self.give_colder(pool, colder);
        }
    }

    fn give_colder(&self, pool: &StackPool, stack: StackPtr) {
        let class = stack.record().slot().class;
        let mut cache = self.classes[class.index()].borrow_mut();
        cache.push(stack);
        if cache.len() > CACHE {
            // The oldest go, since the newest are warm.
            pool.give(class, cache.drain(..BATCH));
        }
    }

    /// Gives all but the newest few to the pool, where the monitor can trim them. A machine does
    /// this before it sleeps.
    pub(crate) fn release(&self, pool: &StackPool) {
        for cache in &self.classes {
            let mut cache = cache.borrow_mut();
            if cache.len() > KEEP {
                let class = cache[0].record().slot().class;
                let surplus = cache.len() - KEEP;
                pool.give(class, cache.drain(..surplus));
            }
        }
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::raw::record::RECORD_BYTES;
    use crate::stack::guard::{PAGE_BYTES, StackGuard};

    struct Room {
        pool: StackPool,
        cache: StackCache,
    }

    impl Room {
        fn new() -> Self {
            Self { pool: StackPool::new(Slabs::new(StackGuard::Auto)), cache: StackCache::new(Class::DEFAULT) }
        }

        fn take(&self, class: Class) -> StackPtr {
            self.cache.take(&self.pool, class).unwrap()
        }

        fn give(&self, stack: StackPtr) {
            self.cache.give(&self.pool, stack);
        }

        /// This many stacks at once, each used down to its middle.
        fn use_at_once(&self, class: Class, count: usize) -> Vec<StackPtr> {
            let stacks: Vec<StackPtr> = (0..count).map(|_| self.take(class)).collect();
            for stack in &stacks {
                for page in used(*stack.record().slot()).step_by(PAGE_BYTES) {
                    // SAFETY: in the usable part of a stack that this test owns.
                    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(page).write(1) };
                }
            }
            stacks
        }

        /// A pass of the monitor.
        fn trim(&self) {
            self.pool.begin_trim();
            while self.pool.trim_piece() {}
        }

        fn carved(&self) -> usize {
            let mut carved = 0;
            self.pool.slabs.for_each_carved(|_| carved += 1);
            carved
        }

        /// How many slots have memory, not counting heads.
        fn resident(&self) -> usize {
            let mut resident = 0;
            self.pool.slabs.for_each_carved(|slot| resident += usize::from(is_resident(slot)));
            resident
        }
    }

    /// The upper half of a stack, without the page of its head.
    fn used(slot: Slot) -> std::ops::Range<usize> {
        let top = (slot.top - RECORD_BYTES) & !(PAGE_BYTES - 1);
        let middle = (slot.bottom + (top - slot.bottom) / 2) & !(PAGE_BYTES - 1);
        middle..top
    }

    fn is_resident(slot: Slot) -> bool {
        let range = used(slot);
        let mut pages = vec![0_u8; range.len() / PAGE_BYTES];
        // SAFETY: page-aligned and mapped; one byte for each page.
        let result =
            unsafe { libc::mincore(std::ptr::with_exposed_provenance_mut(range.start), range.len(), pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        let resident = pages.iter().filter(|&&page| page & 1 == 1).count();
        assert!(resident == 0 || resident == pages.len(), "memory of a stack is given back whole");
        resident > 0
    }

    #[test]
    fn the_newest_stack_is_the_next_and_sizes_are_kept_apart() {
        let room = Room::new();
        let large = Class::for_stack(500_000).unwrap();
        for class in [Class::DEFAULT, large, Class::for_stack(16 * 1024).unwrap()] {
            let stacks: Vec<StackPtr> = (0..5).map(|_| room.take(class)).collect();
            assert!(stacks.iter().all(|stack| stack.record().slot().class == class));
            assert_eq!(stacks.iter().map(|stack| stack.record().slot().top).collect::<HashSet<_>>().len(), 5);
            stacks.iter().for_each(|&stack| room.give(stack));
            for &stack in stacks.iter().rev() {
                assert_eq!(room.take(class), stack);
            }
            stacks.iter().for_each(|&stack| room.give(stack));
        }
        assert_eq!(room.carved(), 15);
    }

    #[test]
    fn stacks_that_are_free_are_used_before_new_ones_are_carved() {
        // More than a cache holds, so that they move to the pool and back, and through another
        // processor's cache too.
        const STACKS: usize = 3 * CACHE + 17;
        let room = Room::new();
        let other = StackCache::new(Class::DEFAULT);
        for round in 0..5 {
            let stacks: Vec<StackPtr> = (0..STACKS).map(|_| room.take(Class::DEFAULT)).collect();
            assert_eq!(stacks.iter().map(|stack| stack.record().slot().top).collect::<HashSet<_>>().len(), STACKS);
            stacks.into_iter().for_each(|stack| room.give(stack));
            room.cache.release(&room.pool);
            let kept = KEEP + 1;
            let all: Vec<StackPtr> = (0..STACKS - kept).map(|_| other.take(&room.pool, Class::DEFAULT).unwrap()).collect();
            assert_eq!(room.carved(), STACKS, "in round {round}");
            all.into_iter().for_each(|stack| other.give(&room.pool, stack));
            other.release(&room.pool);
            // What the other cache keeps is missing here.
            let rest: Vec<StackPtr> = (0..STACKS - kept).map(|_| room.take(Class::DEFAULT)).collect();
            assert_eq!(room.carved(), STACKS, "in round {round}");
            rest.into_iter().for_each(|stack| room.give(stack));
            for _ in 0..kept {
                room.give(other.take(&room.pool, Class::DEFAULT).unwrap());
            }
        }
    }

    #[test]
    fn a_working_processor_keeps_a_cacheful_and_a_sleeping_one_a_few() {
        let room = Room::new();
        let large = Class::for_stack(500_000).unwrap();
        for (class, hot) in [(Class::DEFAULT, 1), (large, 0)] {
            let stacks: Vec<StackPtr> = (0..4 * CACHE).map(|_| room.take(class)).collect();
            stacks.into_iter().for_each(|stack| room.give(stack));
            let warm = || room.pool.shelf(class).warm.len();
            assert!((4 * CACHE - warm()) <= CACHE + hot, "it keeps {}", 4 * CACHE - warm());
            room.cache.release(&room.pool);
            assert_eq!(4 * CACHE - warm(), KEEP + hot);
        }
    }

    #[test]
    fn what_lies_unused_from_one_pass_to_the_next_is_given_back_and_used_again() {
        for class in [Class::DEFAULT, Class::for_stack(500_000).unwrap()] {
            const STACKS: usize = 2 * BATCH + 5;
            let room = Room::new();
            let kept = KEEP + usize::from(class == Class::DEFAULT);
            for round in 0..3 {
                room.use_at_once(class, STACKS).into_iter().for_each(|stack| room.give(stack));
                assert_eq!((room.carved(), room.resident()), (STACKS, STACKS), "in round {round}");
                room.cache.release(&room.pool);
                room.trim();
                assert_eq!(room.resident(), STACKS, "the first pass only marks what is idle");
                room.trim();
                assert_eq!(room.resident(), kept, "in round {round}");
                room.trim();
                assert_eq!(room.resident(), kept);
            }
        }
    }

    #[test]
    fn only_what_was_not_needed_in_between_is_given_back() {
        const STACKS: usize = 6 * BATCH;
        let room = Room::new();
        room.use_at_once(Class::DEFAULT, STACKS).into_iter().for_each(|stack| room.give(stack));
        room.cache.release(&room.pool);
        room.trim();
        // Some are needed, all at once, and come back.
        let kept = KEEP + 1;
        let busy: Vec<StackPtr> = (0..kept + 2 * BATCH).map(|_| room.take(Class::DEFAULT)).collect();
        busy.into_iter().for_each(|stack| room.give(stack));
        room.cache.release(&room.pool);
        room.trim();
        assert_eq!(room.resident(), kept + 2 * BATCH);
        // In the next pass nobody needs them either.
        room.trim();
        assert_eq!(room.resident(), kept);
    }

    #[test]
    fn a_free_stack_has_no_task() {
        let room = Room::new();
        room.use_at_once(Class::DEFAULT, 10).into_iter().for_each(|stack| room.give(stack));
        room.pool.for_each_bound(|_| panic!("nobody was bound"));
    }

    fn warm_and_cold(pool: &StackPool) -> (usize, usize) {
        let shelf = pool.shelf(Class::DEFAULT);
        (shelf.warm.len(), shelf.cold.len())
    }

    #[test]
    fn what_was_not_needed_between_two_passes_goes_back_in_pieces_and_what_was_stays() {
        let pool = StackPool::new(Slabs::new(StackGuard::Auto));
        let mut in_use = Vec::new();
        for _ in 0..1000 {
            let mut one = Vec::new();
            pool.take(Class::DEFAULT, &mut one).unwrap();
            in_use.extend(one);
        }
        assert_eq!(in_use.len(), 1000);
        pool.give(Class::DEFAULT, in_use.drain(..));
        assert!(pool.is_warm());

        pool.begin_trim();
        assert!(!pool.trim_piece(), "they have just come");
        // A batch is needed, and comes back.
        pool.take(Class::DEFAULT, &mut in_use).unwrap();
        assert_eq!(in_use.len(), BATCH);
        pool.give(Class::DEFAULT, in_use.drain(..));

        pool.begin_trim();
        assert!(pool.trim_piece());
        assert_eq!(warm_and_cold(&pool), (1000 - PIECE, PIECE));
        // In the middle of a pass, more are needed than were to stay.
        (0..4).for_each(|_| pool.take(Class::DEFAULT, &mut in_use).unwrap());
        while pool.trim_piece() {}
        assert_eq!(warm_and_cold(&pool), (0, 1000 - in_use.len()));
        pool.give(Class::DEFAULT, in_use.drain(..));
        pool.begin_trim();
        assert!(!pool.trim_piece());
        assert!(pool.is_warm());
        pool.begin_trim();
        while pool.trim_piece() {}
        assert_eq!(warm_and_cold(&pool), (0, 1000));
        assert!(!pool.is_warm());
        // They can be used for tasks again.
        pool.take(Class::DEFAULT, &mut in_use).unwrap();
        assert_eq!(warm_and_cold(&pool), (0, 999));
    }
}
