//! Memory for tasks: a processor's cache of the two usual sizes in front of the global allocator.
//!
//! A task lives for some fifty nanoseconds where it matters most, and the system allocator's round trip costs half of that. So a
//! processor keeps the blocks of ended tasks and hands them out again, newest first, while they are still in its CPU's cache.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ptr::null_mut;

/// Block sizes: what a header with a closure of up to 16, or up to 112 bytes needs.
const SIZES: [usize; 2] = [88, 184];
const ALIGN: usize = 8;

/// A processor keeps at most this many blocks of each size; what is beyond goes back to the allocator.
const KEEP: usize = 4096;

/// The free blocks of one processor. Only its machine touches it.
pub(crate) struct CellCache {
    lists: [FreeList; SIZES.len()],
}

#[derive(Default)]
struct FreeList {
    /// The newest free block; its first word links to the next.
    head: Cell<*mut u8>,
    len: Cell<usize>,
}

fn class_of(layout: Layout) -> Option<usize> {
    if cfg!(greenloom_loom) || layout.align() > ALIGN {
        return None;
    }
    SIZES.iter().position(|&size| layout.size() <= size)
}

fn block(class: usize) -> Layout {
    Layout::from_size_align(SIZES[class], ALIGN).expect("the sizes are small")
}

impl CellCache {
    pub(crate) fn new() -> Self {
        Self { lists: Default::default() }
    }

    /// Room for `layout`; null if there is none.
    #[inline]
    pub(crate) fn alloc(cache: Option<&CellCache>, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: a task cell is never empty.
            return unsafe { alloc(layout) };
        };
        if let Some(list) = cache.map(|c| &c.lists[class]) {
            let head = list.head.get();
            if !head.is_null() {
                // SAFETY: a free block's first word is its link.
                list.head.set(unsafe { head.cast::<*mut u8>().read() });
                list.len.set(list.len.get() - 1);
                return head;
            }
        }
        // SAFETY: the block's size is not zero.
        unsafe { alloc(block(class)) }
    }

    /// Takes room from [`alloc`](Self::alloc) back, from this or any other cache.
    ///
    /// # Safety
    /// `room` came from `alloc` with the same layout and is not used any more.
    #[inline]
    pub(crate) unsafe fn free(cache: Option<&CellCache>, room: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { dealloc(room, layout) };
        };
        match cache.map(|c| &c.lists[class]) {
            Some(list) if list.len.get() < KEEP => {
                // SAFETY: the block is ours and has room for a word.
                unsafe { room.cast::<*mut u8>().write(list.head.get()) };
                list.head.set(room);
                list.len.set(list.len.get() + 1);
            }
            // SAFETY: blocks of a class are allocated with that class's layout, whichever cache they passed through.
            _ => unsafe { dealloc(room, block(class)) },
        }
    }
}

impl Drop for CellCache {
    fn drop(&mut self) {
        for (class, list) in self.lists.iter().enumerate() {
            let mut next = list.head.replace(null_mut());
            while !next.is_null() {
                // SAFETY: the blocks in the list are free and linked by their first word.
                unsafe {
                    let room = next;
                    next = room.cast::<*mut u8>().read();
                    dealloc(room, block(class));
                }
            }
        }
    }
}
