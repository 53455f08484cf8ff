//! Free stacks: a processor's cache in front of the runtime's pool in front of the slabs.
//!
//! **What goes back to the system, and when.** The pool's free stacks do, whole, when they were not needed from one of the monitor's
//! passes to the next, a second later: however deep they were used. Each costs a system call, and there may be hundreds of thousands after a
//! burst of tasks, while the monitor has limits and late timers to see to: so a pass goes in pieces of [`PIECE`]. A processor's cache is
//! not trimmed. Its stacks, [`CACHE`] of each size at most, are the next ones to be used; when the processor runs out of work, all
//! but [`KEEP`] go to the pool.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use crate::prim::untracked::{Mutex, RwLock};
use crate::stack::record::{Record, StackPtr};
use crate::stack::slab::{Class, Slabs, Slot};

/// Stacks that move between a cache and the pool at a time.
const BATCH: usize = 64;

/// The most free stacks of a size that a processor keeps to itself.
const CACHE: usize = 256;

/// What a sleeping machine keeps of them.
const KEEP: usize = 16;

/// The most stacks that are given back to the system at a time, between two ticks of the monitor: some 0.1 ms, more if they were used
/// deeply.
const PIECE: usize = 64;

/// The free stacks of a runtime, and the slabs that all of its stacks are carved from.
pub(crate) struct StackPool {
    slabs: Slabs,
    free: [Mutex<Shelf>; Class::COUNT],
    /// Held to read while anybody but the stack's owner reads in heads, to write while heads are given back with their stacks: one
    /// of them may have found a task there just before, and what a head holds besides atomics (the lock of its name) would be overwritten
    /// under its hands, first with zeroes and then by [`StackPtr::create`].
    heads: RwLock<()>,
}

/// The free stacks of one size.
#[derive(Default)]
struct Shelf {
    /// Stacks with a head, oldest first.
    warm: VecDeque<StackPtr>,
    /// Slots whose memory has been given back, head and all.
    cold: Vec<Slot>,
    /// The fewest warm stacks here since the last pass began: so many were not needed in that time.
    idle: usize,
    /// So many of the oldest this pass has still to give back.
    due: usize,
}

impl StackPool {
    pub(crate) fn new(slabs: Slabs) -> Self {
        Self { slabs, free: Default::default(), heads: RwLock::new(()) }
    }

    /// A slot that is in no cache and never will be.
    ///
    /// # Errors
    /// As [`Slabs::carve`].
    pub(crate) fn set_aside(&self, class: Class) -> io::Result<Slot> {
        self.slabs.carve(class)
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
        shelf.due = shelf.due.min(keep);
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

    /// Whether there is anything that a pass, or the second from now, would give back.
    pub(crate) fn is_warm(&self) -> bool {
        self.free.iter().any(|shelf| !shelf.lock().unwrap_or_else(|e| e.into_inner()).warm.is_empty())
    }

    /// Begins a pass of the monitor's: what has lain here since the last one began is to go back to the system.
    pub(crate) fn begin_trim(&self) {
        for shelf in &self.free {
            let mut shelf = shelf.lock().unwrap_or_else(|e| e.into_inner());
            shelf.due = shelf.idle;
            shelf.idle = shelf.warm.len();
        }
    }

    /// Gives a piece of it back; false if nothing is left of this pass.
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
            // Off the shelf and unlocked: a machine that needs a stack meanwhile does not wait for these system calls.
            let slots: Vec<Slot> = stacks.iter().map(|stack| *stack.record().slot()).collect();
            let no_reader = self.heads.write().unwrap_or_else(|e| e.into_inner());
            for &slot in &slots {
                // SAFETY: the stacks were free and are ours; their heads go with them, and nothing in those needs dropping.
                unsafe { self.slabs.discard(slot) };
            }
            drop(no_reader);
            shelf().cold.extend(slots);
        }
        left == 0
    }

    /// Unmaps all stacks.
    ///
    /// # Safety
    /// No stack has a task any more, nor is one looked at: nobody calls [`for_each_bound`](Self::for_each_bound) now or later.
    #[cfg(not(greenloom_loom))]
    pub(crate) unsafe fn unmap(&self) {
        for shelf in &self.free {
            *shelf.lock().unwrap_or_else(|e| e.into_inner()) = Shelf::default();
        }
        // SAFETY: the caller's promise; and nobody finds a free stack any more.
        unsafe { self.slabs.unmap() };
    }

    /// For whoever reads in heads of stacks that others own: none is given back to the system while the result lives.
    pub(crate) fn keep_heads(&self) -> impl Sized + '_ {
        self.heads.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Every stack that has a task.
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
    use super::*;
    use crate::stack::guard::StackGuard;

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
        // They are good for tasks again.
        pool.take(Class::DEFAULT, &mut in_use).unwrap();
        assert_eq!(warm_and_cold(&pool), (0, 999));
    }
}
