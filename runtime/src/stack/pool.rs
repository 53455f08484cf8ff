//! Free stacks: a processor's cache in front of the runtime's pool in front of the slabs.
//!
//! **What goes back to the system, and when.** The pool's free stacks do, whole, when they were not needed from one of the monitor's
//! passes to the next, a second later: however deep they were used. A processor's cache is not trimmed. Its stacks, [`CACHE`] of each
//! size at most, are the next ones to be used; when the processor runs out of work, all but [`KEEP`] go to the pool.

use std::cell::{Cell, RefCell};
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
    warm: Vec<StackPtr>,
    /// Slots whose memory has been given back, head and all.
    cold: Vec<Slot>,
    /// The fewest warm stacks here since the last trimming: so many were not needed in that time.
    idle: usize,
}

impl StackPool {
    pub(crate) fn new(slabs: Slabs) -> Self {
        Self { slabs, free: Default::default(), heads: RwLock::new(()) }
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
                let _no_reader = self.heads.write().unwrap_or_else(|e| e.into_inner());
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
