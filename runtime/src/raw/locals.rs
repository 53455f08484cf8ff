//! The values that a task has through `task_local!`.

use std::any::Any;
use std::cell::RefCell;
use std::rc::Rc;

/// What a task has under a key.
#[derive(Clone)]
pub(crate) enum Slot {
    Empty,
    Value(Rc<dyn Any>),
    /// The task is ending.
    Dropped,
}

/// The values of a task or thread, in the order in which it first used them. No user code runs
/// while the list is borrowed.
pub(crate) struct Locals(RefCell<Vec<(*const (), Slot)>>);

impl Locals {
    pub(crate) fn new() -> *const Locals {
        Box::into_raw(Box::new(Locals(RefCell::new(Vec::new()))))
    }

    // A linear search: programs have few of these.
    pub(crate) fn get(&self, key: *const ()) -> Slot {
        self.0.borrow().iter().find(|(k, _)| *k == key).map_or(Slot::Empty, |(_, slot)| slot.clone())
    }

    pub(crate) fn replace(&self, key: *const (), new: Slot) -> Slot {
        let mut list = self.0.borrow_mut();
        match list.iter_mut().find(|(k, _)| *k == key) {
            Some((_, slot)) => std::mem::replace(slot, new),
            None => {
                list.push((key, new));
                Slot::Empty
            }
        }
    }

    /// Takes the newest value for good.
    fn take_newest(&self) -> Option<Rc<dyn Any>> {
        self.0.borrow_mut().iter_mut().rev().find_map(|(_, slot)| match std::mem::replace(slot, Slot::Dropped) {
            Slot::Value(value) => Some(value),
            other => {
                *slot = other;
                None
            }
        })
    }

    /// Takes all values, newest first, including those that the destructors of others create, and
    /// passes them to `drop`.
    pub(crate) fn take_all(&self, mut drop: impl FnMut(Rc<dyn Any>)) {
        while let Some(value) = self.take_newest() {
            drop(value);
        }
    }

    /// # Safety
    /// `locals` came from [`new`](Self::new), and is freed once.
    pub(crate) unsafe fn free(locals: *const Self) {
        // SAFETY: `locals` came from `new` and is freed once, as `# Safety` demands.
        drop(unsafe { Box::from_raw(locals.cast_mut()) });
    }
}
