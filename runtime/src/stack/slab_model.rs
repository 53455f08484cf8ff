//! Stand-in for `slab` inside the model checker: stacks from the heap, kept from one execution to
//! the next.
//!
//! A model visits thousands of executions, and some abandon their coroutines half way. So nothing
//! is ever unmapped, and no guard is armed. What is modelled is the protocol that hands out stacks,
//! which is the pool's and the scheduler's own code.

use std::alloc::{Layout, alloc_zeroed};
use std::io;
use std::sync::Mutex;

const SLOT: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(());

impl Class {
    pub(crate) const DEFAULT: Class = Class(());
    pub(crate) const ROOT: Class = Class(());
    pub(crate) const COUNT: usize = 1;

    pub(crate) fn for_stack(_bytes: usize) -> io::Result<Class> {
        Ok(Class(()))
    }

    pub(crate) fn max(self, _other: Class) -> Class {
        self
    }

    pub(crate) const fn stack_bytes(self) -> usize {
        SLOT
    }

    pub(crate) const fn index(self) -> usize {
        0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) top: usize,
    pub(crate) bottom: usize,
    pub(crate) class: Class,
    pub(crate) canary: bool,
}

impl Slot {
    pub(crate) unsafe fn canary_intact(&self) -> bool {
        true
    }
}

/// Slots that no execution uses.
static FREE: Mutex<Vec<usize>> = Mutex::new(Vec::new());

pub(crate) struct Slabs {
    carved: Mutex<Vec<Slot>>,
}

impl Slabs {
    pub(crate) fn new() -> Slabs {
        Slabs { carved: Mutex::new(Vec::new()) }
    }

    pub(crate) fn carve(&self, class: Class) -> io::Result<Slot> {
        let free = FREE.lock().unwrap().pop();
        let bottom = free.unwrap_or_else(|| {
            let layout = Layout::from_size_align(SLOT, 4096).unwrap();
            // SAFETY: the size is not zero.
            unsafe { alloc_zeroed(layout) }.addr()
        });
        let slot = Slot { top: bottom + SLOT, bottom, class, canary: false };
        self.carved.lock().unwrap().push(slot);
        Ok(slot)
    }

    pub(crate) fn for_each_carved(&self, f: impl FnMut(Slot)) {
        let carved = self.carved.lock().unwrap().clone();
        carved.into_iter().for_each(f);
    }

    pub(crate) unsafe fn discard_all(&self, _slots: &mut [Slot]) {}
}

impl Drop for Slabs {
    fn drop(&mut self) {
        let carved = self.carved.get_mut().unwrap();
        FREE.lock().unwrap().extend(carved.iter().map(|slot| slot.bottom));
    }
}
