//! Memory for tasks: blocks of a few sizes, cut from chunks and cached by each processor.
//!
//! Where it matters most, a task lives for some fifty nanoseconds, and the system allocator's round
//! trip costs half of that. So a processor keeps the blocks of ended tasks and hands them out
//! again, newest first, while they are still in its CPU's cache. New blocks come from a chunk,
//! which takes one call to the allocator for some hundred tasks. Otherwise, where one processor
//! spawns and another frees, the two would contend for the allocator's lock on every task.
//!
//! Threads that are not machines of a runtime share one of its caches, behind a lock, to cut from
//! ([`TaskSlab`]).
//!
//! A block that no cache has room for goes back to its chunk, no matter who cut the chunk. The
//! chunk counts, and frees itself when all its blocks are back. A block that is freed in another
//! runtime than the one it was cut in also goes back to its chunk. A cache there that kept the
//! block would keep its chunk: 64 KiB of a runtime that may have ended long ago.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::ptr::null_mut;

use crate::prim::untracked::{AtomicUsize, Mutex, Ordering};

/// Block sizes. A header takes 72 bytes, so closures (and results) may take up to 8, 24, 56 and
/// 120.
const SIZES: [usize; 4] = [80, 96, 128, 192];
const ALIGN: usize = 8;

/// A processor keeps at most this many blocks of each size.
const KEEP: usize = 4096;

/// A chunk's size and alignment, so that a block's address leads to its chunk. It is so large that
/// glibc's cost for the alignment (two system calls) is negligible for each task.
const CHUNK: usize = 64 * 1024;

/// The head of a chunk.
struct Chunk {
    /// Blocks that are not back: cached, in use, or not yet cut.
    out: AtomicUsize,
    /// The number of the runtime that the chunk belongs to.
    owner: u64,
}

const HEAD: usize = 64;
const CHUNK_LAYOUT: Layout = match Layout::from_size_align(CHUNK, CHUNK) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

/// The free blocks of one processor, all from chunks of its runtime. Only its machine touches it.
pub(crate) struct SlabCache {
    lists: [FreeList; SIZES.len()],
    owner: u64,
}

// SAFETY: the blocks in the lists belong to nobody and are bound to no thread. What is shared of
// their chunks is counted by an atomic.
unsafe impl Send for SlabCache {}

/// Where all threads that are not machines of a runtime get blocks for the tasks that they spawn
/// there.
///
/// They only take blocks from it. The blocks come back through the machines that run the tasks, or
/// to their chunks.
pub(crate) struct TaskSlab {
    cells: Mutex<SlabCache>,
    owner: u64,
}

impl TaskSlab {
    /// The slab of the runtime that has this number.
    pub(crate) fn new(owner: u64) -> Self {
        Self { cells: Mutex::new(SlabCache::new(owner)), owner }
    }

    /// A cache for a processor of the same runtime.
    pub(crate) fn cache(&self) -> SlabCache {
        SlabCache::new(self.owner)
    }

    /// Room for `layout`; null if there is none. No user code runs under the lock.
    pub(crate) fn alloc(&self, layout: Layout) -> *mut u8 {
        self.cells.lock().unwrap_or_else(|e| e.into_inner()).alloc(layout)
    }
}

#[derive(Default)]
struct FreeList {
    /// The newest free block; its first word links to the next.
    head: Cell<*mut u8>,
    len: Cell<usize>,
    /// Where the next block of the newest chunk begins, and how many are left in it.
    uncut: Cell<*mut u8>,
    left: Cell<usize>,
}

#[inline(always)]
fn class_of(layout: Layout) -> Option<usize> {
    // In a model each task is an allocation of its own, so that a late access is a fault.
    if cfg!(greenloom_loom) || layout.align() > ALIGN {
        return None;
    }
    SIZES.iter().position(|&size| layout.size() <= size)
}

impl SlabCache {
    fn new(owner: u64) -> Self {
        Self { lists: Default::default(), owner }
    }

    /// Room for `layout`; null if there is none.
    #[inline(always)]
    pub(crate) fn alloc(&self, layout: Layout) -> *mut u8 {
        match class_of(layout) {
            Some(class) => self.lists[class].take(SIZES[class], self.owner),
            // SAFETY: a task cell is never empty.
            None => unsafe { alloc(layout) },
        }
    }

    /// Takes back room that came from [`alloc`](Self::alloc) of this or any other cache.
    ///
    /// # Safety
    /// `room` came from `alloc` with the same layout and is not used any more.
    #[inline(always)]
    pub(crate) unsafe fn free(cache: Option<&SlabCache>, room: *mut u8, layout: Layout) {
        // SAFETY: `room` came from `alloc` with this layout and is not used any more, as `# Safety`
        // demands. Blocks of a class come from chunks, all else from the allocator.
        unsafe {
            match (class_of(layout), cache) {
                (Some(class), Some(cache)) if cache.lists[class].len.get() < KEEP && owner_of(room) == cache.owner => {
                    cache.lists[class].put(room);
                }
                (Some(_), _) => give_back(room, 1),
                (None, _) => dealloc(room, layout),
            }
        }
    }
}

impl FreeList {
    #[inline(always)]
    fn take(&self, size: usize, owner: u64) -> *mut u8 {
        let head = self.head.get();
        if head.is_null() {
            return self.cut(size, owner);
        }
        // SAFETY: a free block's first word is its link.
        self.head.set(unsafe { head.cast::<*mut u8>().read() });
        self.len.set(self.len.get() - 1);
        head
    }

    /// # Safety
    /// The caller owns the block and gives it up.
    #[inline(always)]
    unsafe fn put(&self, room: *mut u8) {
        // SAFETY: the block has room for a word.
        unsafe { room.cast::<*mut u8>().write(self.head.get()) };
        self.head.set(room);
        self.len.set(self.len.get() + 1);
    }

    /// A block that was never used; null if there is no memory.
    fn cut(&self, size: usize, owner: u64) -> *mut u8 {
        if self.left.get() == 0 {
            // SAFETY: the layout is not empty.
            let chunk = unsafe { alloc(CHUNK_LAYOUT) };
            if chunk.is_null() {
                return null_mut();
            }
            let blocks = (CHUNK - HEAD) / size;
            // SAFETY: the chunk is new, and its head fits before the blocks.
            unsafe { chunk.cast::<Chunk>().write(Chunk { out: AtomicUsize::new(blocks), owner }) };
            self.left.set(blocks);
            self.uncut.set(chunk.wrapping_add(HEAD));
        }
        let block = self.uncut.get();
        self.left.set(self.left.get() - 1);
        self.uncut.set(block.wrapping_add(size));
        block
    }

    /// Gives everything that is not in use back to the chunks.
    ///
    /// # Safety
    /// The list is not used afterwards.
    unsafe fn abandon(&self) {
        let mut next = self.head.replace(null_mut());
        while !next.is_null() {
            let room = next;
            // SAFETY: the blocks in the list are free and linked by their first word.
            unsafe {
                next = room.cast::<*mut u8>().read();
                give_back(room, 1);
            }
        }
        let left = self.left.replace(0);
        if left > 0 {
            // SAFETY: the blocks from here on have never been cut, and lie in the same chunk as
            // this first one.
            unsafe { give_back(self.uncut.get(), left) };
        }
    }
}

/// The chunk that a block is in.
#[inline(always)]
fn chunk_of(room: *mut u8) -> *mut Chunk {
    room.map_addr(|address| address & !(CHUNK - 1)).cast()
}

/// # Safety
/// `room` is a block that is not back.
#[inline(always)]
unsafe fn owner_of(room: *mut u8) -> u64 {
    // SAFETY: the chunk lives until all its blocks are back; its owner never changes.
    unsafe { (*chunk_of(room)).owner }
}

/// Counts blocks of a chunk as back. The last one frees the chunk.
///
/// # Safety
/// `room` is in a chunk of which `blocks` blocks, counted as out, are not in use and in no list.
#[cold]
unsafe fn give_back(room: *mut u8, blocks: usize) {
    let chunk = chunk_of(room);
    // SAFETY: chunks are aligned to their size and live until all blocks are back. AcqRel: all uses
    // of all blocks happen before the free.
    unsafe {
        if (*chunk).out.fetch_sub(blocks, Ordering::AcqRel) == blocks {
            dealloc(chunk.cast(), CHUNK_LAYOUT);
        }
    }
}

impl Drop for SlabCache {
    fn drop(&mut self) {
        for list in &self.lists {
            // SAFETY: the cache is being dropped, so the list is not used afterwards.
            unsafe { list.abandon() };
        }
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn threads_without_a_cache_share_chunks_that_outlive_the_shared_one() {
        let shared = TaskSlab::new(0);
        let layout = Layout::from_size_align(80, ALIGN).unwrap();
        let blocks: Vec<*mut u8> = (0..1000).map(|_| shared.alloc(layout)).collect();
        assert_eq!(blocks.iter().collect::<HashSet<_>>().len(), blocks.len());
        let chunks: HashSet<usize> = blocks.iter().map(|block| block.addr() & !(CHUNK - 1)).collect();
        assert_eq!(chunks.len(), (1000 * 80_usize).div_ceil(CHUNK - HEAD));
        drop(shared);
        for block in blocks {
            // SAFETY: not in use; from `alloc` with this layout.
            unsafe {
                block.write_bytes(1, layout.size());
                SlabCache::free(None, block, layout);
            }
        }
    }

    #[test]
    fn a_block_is_kept_where_it_was_cut_and_nowhere_else() {
        let (one, other) = (TaskSlab::new(1), TaskSlab::new(2));
        let (home, away) = (one.cache(), other.cache());
        let layout = Layout::from_size_align(80, ALIGN).unwrap();
        let kept = |cache: &SlabCache| cache.lists[0].len.get();
        let blocks: Vec<*mut u8> = (0..100).map(|i| if i % 2 == 0 { one.alloc(layout) } else { home.alloc(layout) }).collect();
        for (i, &block) in blocks.iter().enumerate() {
            let cache = if i % 4 < 2 { &home } else { &away };
            // SAFETY: not in use; from `alloc` with this layout.
            unsafe { SlabCache::free(Some(cache), block, layout) };
        }
        assert_eq!((kept(&home), kept(&away)), (50, 0));
    }

    /// Every size that a class takes, and some that no class takes.
    fn layouts() -> impl Iterator<Item = Layout> {
        let sizes = SIZES.iter().flat_map(|&size| [size - 15, size - 1, size, size + 1]).chain([1000, 100_000]);
        sizes.flat_map(|size| [1, 8, 16, 128].map(move |align| Layout::from_size_align(size, align).unwrap()))
    }

    fn chunk_of(block: *mut u8) -> usize {
        block.addr() & !(CHUNK - 1)
    }

    /// How many blocks of a chunk are not back.
    fn out(block: *mut u8) -> usize {
        // SAFETY: the caller's block is in use, so its chunk exists.
        unsafe { (*block.map_addr(|_| chunk_of(block)).cast::<Chunk>()).out.load(Ordering::Relaxed) }
    }

    #[test]
    fn blocks_are_large_and_aligned_enough_and_apart() {
        for layout in layouts() {
            let cache = TaskSlab::new(0).cache();
            // More than one chunk, to its very end.
            let count = CHUNK / layout.size() + 3;
            let mut blocks: Vec<*mut u8> = (0..count).map(|_| cache.alloc(layout)).collect();
            for (i, block) in blocks.iter().enumerate() {
                assert!(block.addr().is_multiple_of(layout.align()), "{layout:?}");
                // SAFETY: ours, of this layout.
                unsafe { block.write_bytes(i as u8, layout.size()) };
            }
            for (i, block) in blocks.iter().enumerate() {
                // SAFETY: ours, of this layout, and written just before.
                let bytes = unsafe { std::slice::from_raw_parts(*block, layout.size()) };
                assert!(bytes.iter().all(|&byte| byte == i as u8), "{layout:?}: blocks overlap");
            }
            blocks.sort_unstable();
            assert!(blocks.windows(2).all(|pair| pair[1].addr() - pair[0].addr() >= layout.size()), "{layout:?}");
            if class_of(layout).is_some() {
                let in_chunk = |block: &*mut u8| {
                    let at = block.addr() - chunk_of(*block);
                    at >= size_of::<Chunk>() && at + layout.size() <= CHUNK
                };
                assert!(blocks.iter().all(in_chunk), "{layout:?}");
            }
            for block in blocks {
                // SAFETY: ours, and not used any more.
                unsafe { SlabCache::free(Some(&cache), block, layout) };
            }
        }
    }

    #[test]
    fn the_block_that_was_freed_last_is_the_next_of_its_size() {
        let cache = TaskSlab::new(0).cache();
        let layout = |size| Layout::from_size_align(size, ALIGN).unwrap();
        let blocks = SIZES.map(|size| [0; 3].map(|_| cache.alloc(layout(size))));
        for (size, blocks) in SIZES.into_iter().zip(blocks) {
            for block in blocks {
                // SAFETY: ours, and not used any more.
                unsafe { SlabCache::free(Some(&cache), block, layout(size)) };
            }
        }
        for (size, blocks) in SIZES.into_iter().zip(blocks) {
            assert_eq!([0; 3].map(|_| cache.alloc(layout(size))), [blocks[2], blocks[1], blocks[0]]);
            // A smaller closure takes from the same class, and what was freed is used up.
            assert!(!blocks.contains(&cache.alloc(layout(size - 1))));
        }
    }

    #[test]
    fn a_cache_keeps_so_many_blocks_and_the_rest_goes_back_to_its_chunk() {
        let layout = Layout::from_size_align(SIZES[3], ALIGN).unwrap();
        let cells = TaskSlab::new(0);
        let (cache, other) = (cells.cache(), cells.cache());
        let per_chunk = (CHUNK - HEAD) / SIZES[3];
        // One chunk more, so that the last one, of which some blocks are not yet cut, is not among
        // those examined.
        let blocks: Vec<*mut u8> = (0..KEEP + 2 * per_chunk).map(|_| other.alloc(layout)).collect();
        for &block in &blocks[..KEEP + per_chunk / 2] {
            // SAFETY: ours, and not used any more. Freed by another cache than the one that cut it.
            unsafe { SlabCache::free(Some(&cache), block, layout) };
        }
        assert_eq!(cache.lists[3].len.get(), KEEP);
        let back: usize = blocks
            .iter()
            .map(|&block| (chunk_of(block), block))
            .collect::<std::collections::HashMap<_, _>>()
            .into_values()
            .map(|block| per_chunk - out(block))
            .sum();
        assert_eq!(back, per_chunk / 2);
        // What the cache keeps is used before a new block is cut.
        let kept: HashSet<*mut u8> = blocks[..KEEP].iter().copied().collect();
        let again: HashSet<*mut u8> = (0..KEEP).map(|_| cache.alloc(layout)).collect();
        assert_eq!(again, kept);
        assert_eq!(cache.lists[3].len.get(), 0);
        for block in again.into_iter().chain(blocks[KEEP + per_chunk / 2..].iter().copied()) {
            // SAFETY: ours, and not used any more.
            unsafe { SlabCache::free(None, block, layout) };
        }
    }

    #[test]
    fn a_cache_that_goes_gives_back_what_it_has_and_what_it_has_not_cut() {
        for size in SIZES {
            let layout = Layout::from_size_align(size, ALIGN).unwrap();
            let cache = TaskSlab::new(0).cache();
            let [used, free] = [0; 2].map(|_| cache.alloc(layout));
            assert_eq!(out(used), (CHUNK - HEAD) / size);
            // SAFETY: ours, and not used any more.
            unsafe { SlabCache::free(Some(&cache), free, layout) };
            drop(cache);
            // All but the one in use, which keeps the chunk alive.
            assert_eq!(out(used), 1);
            // SAFETY: ours, and not used any more.
            unsafe { SlabCache::free(None, used, layout) };
        }
    }
}
