//! Free stacks: a processor's cache in front of the runtime's pool in front of the slabs.
//!
//! **What goes back to the system, and when.** The pool's free stacks do, whole, when they were not needed from one of the monitor's
//! passes to the next, a second later: however deep they were used. A processor's cache is not trimmed. Its stacks, [`CACHE`] of each
//! size at most, are the next ones to be used; when the processor runs out of work, all but [`KEEP`] go to the pool.

use std::cell::{Cell, RefCell};
use std::io;

use crate::prim::untracked::Mutex;
use crate::stack::record::{Record, StackPtr};
use crate::stack::slab::{Class, Slabs, Slot};

/// Stacks that move between a cache and the pool at a time.
const BATCH: usize = 64;

/// The most free stacks of a size that a processor keeps to itself.
const CACHE: usize = 256;

/// What a sleeping machine keeps of them.
const KEEP: usize = 16;

/// The free stacks of a runtime, and the slabs that all of its stacks are carved from.
pub(crate) struct StackPool {
    slabs: Slabs,
    free: [Mutex<Shelf>; Class::COUNT],
}

/// The free stacks of one size.
#[derive(Default)]
struct Shelf {
    /// Stacks with a head, oldest first.
    warm: Vec<StackPtr>,
    /// Slots whose memory has been given back, head and all.
    cold: Vec<Slot>,
    /// The fewest warm stacks here since the last trimming: so many were not needed in that time.
    idle: usize,
}

impl StackPool {
    pub(crate) fn new(slabs: Slabs) -> Self {
        Self { slabs, free: Default::default() }
    }

    fn shelf(&self, class: Class) -> impl std::ops::DerefMut<Target = Shelf> + '_ {
        self.free[class.index()].lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Moves a batch of free stacks into `into`, or one that is cold or new.
    fn take(&self, class: Class, into: &mut Vec<StackPtr>) -> io::Result<()> {
        let mut shelf = self.shelf(class);
        let keep = shelf.warm.len().saturating_sub(BATCH);
        into.extend(shelf.warm.drain(keep..));
        shelf.idle = shelf.idle.min(keep);
        if into.is_empty() {
            let cold = shelf.cold.pop();
            drop(shelf);
            let slot = cold.map_or_else(|| self.slabs.carve(class), Ok)?;
            // SAFETY: the slot came from the slab or the shelf just now; the slabs live as long as their stacks.
            into.push(unsafe { StackPtr::create(slot) });
        }
        Ok(())
    }

    fn give(&self, class: Class, stacks: impl Iterator<Item = StackPtr>) {
        self.shelf(class).warm.extend(stacks);
    }

    /// Gives the memory of stacks that have lain here since the last call back to the system: the monitor's background pass.
    pub(crate) fn trim(&self) {
        for shelf in &self.free {
            let shelf = || shelf.lock().unwrap_or_else(|e| e.into_inner());
            let idle = shelf().idle;
            for _ in (0..idle).step_by(BATCH) {
                let stacks: Vec<StackPtr> = {
                    let mut shelf = shelf();
                    let some = shelf.idle.min(BATCH);
                    shelf.idle -= some;
                    shelf.warm.drain(..some).collect()
                };
                // Off the shelf and unlocked: a machine that needs a stack meanwhile does not wait for these system calls.
                let slots: Vec<Slot> = stacks.iter().map(|stack| *stack.record().slot()).collect();
                for &slot in &slots {
                    // SAFETY: the stacks were free and are ours; their heads go with them, and nothing in those needs dropping.
                    unsafe { self.slabs.discard(slot) };
                }
                shelf().cold.extend(slots);
            }
            let mut shelf = shelf();
            shelf.idle = shelf.warm.len();
        }
    }

    /// Every stack that has a task.
    pub(crate) fn for_each_bound(&self, mut f: impl FnMut(&Record)) {
        self.slabs.for_each_carved(|slot| {
            // SAFETY: the slabs outlive this call.
            if let Some(stack) = unsafe { StackPtr::of_slot(slot) } {
                f(stack.record());
            }
        });
    }
}

/// The free stacks of one processor, newest last: the next task gets the stack that is still in the CPU's cache.
pub(crate) struct StackCache {
    /// The newest stack of the usual size, apart from the others: a task that never suspends takes it and gives it back.
    hot: Cell<Option<StackPtr>>,
    usual: Class,
    classes: [RefCell<Vec<StackPtr>>; Class::COUNT],
}

impl StackCache {
    /// For a processor whose tasks mostly have stacks of the size `usual`.
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
            // The oldest go: the newest are warm.
            pool.give(class, cache.drain(..BATCH));
        }
    }

    /// Gives all but the newest few to the pool, where the monitor can trim them: what a machine does before it sleeps.
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
    use crate::stack::guard::{PAGE_BYTES, StackGuard};
    use crate::stack::slab::RECORD_BYTES;

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

        /// So many stacks at once, each used down to its middle.
        fn use_at_once(&self, class: Class, count: usize) -> Vec<StackPtr> {
            let stacks: Vec<StackPtr> = (0..count).map(|_| self.take(class)).collect();
            for stack in &stacks {
                for page in used(*stack.record().slot()).step_by(PAGE_BYTES) {
                    // SAFETY: in the usable part of a stack that is ours.
                    unsafe { std::ptr::with_exposed_provenance_mut::<u8>(page).write(1) };
                }
            }
            stacks
        }

        fn carved(&self) -> usize {
            let mut carved = 0;
            self.pool.slabs.for_each_carved(|_| carved += 1);
            carved
        }

        /// How many slots have memory, heads aside.
        fn resident(&self) -> usize {
            let mut resident = 0;
            self.pool.slabs.for_each_carved(|slot| resident += usize::from(is_resident(slot)));
            resident
        }
    }

    /// The upper half of a stack, but for the page of its head.
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
        // More than a cache holds, so that they travel to the pool and back; by way of another processor's cache too.
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
            // What the other one keeps is missing here.
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
                room.pool.trim();
                assert_eq!(room.resident(), STACKS, "the first pass only marks what is idle");
                room.pool.trim();
                assert_eq!(room.resident(), kept, "in round {round}");
                room.pool.trim();
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
        room.pool.trim();
        // Some are needed, all at once, and come back.
        let kept = KEEP + 1;
        let busy: Vec<StackPtr> = (0..kept + 2 * BATCH).map(|_| room.take(Class::DEFAULT)).collect();
        busy.into_iter().for_each(|stack| room.give(stack));
        room.cache.release(&room.pool);
        room.pool.trim();
        assert_eq!(room.resident(), kept + 2 * BATCH);
        // In the next turn nobody needs them either.
        room.pool.trim();
        assert_eq!(room.resident(), kept);
    }

    #[test]
    fn a_free_stack_has_no_task() {
        let room = Room::new();
        room.use_at_once(Class::DEFAULT, 10).into_iter().for_each(|stack| room.give(stack));
        room.pool.for_each_bound(|_| panic!("nobody was bound"));
    }
}
