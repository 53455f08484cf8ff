//! Memory for a million stacks from a few mappings.
//!
//! One `mmap` per stack stops working near 32,000 tasks: a process may have `vm.max_map_count`
//! mappings, 65,530 by default, and a stack with a `PROT_NONE` guard takes two. So slots are carved
//! from slabs. A slab is a mapping of up to 4 GiB that reserves addresses but no memory
//! (`MAP_NORESERVE`). From Linux 6.13 on, its guards need no mapping of their own (see
//! [`super::guard`]). A million slots for stacks of 128 KiB take 200 GiB of addresses, a
//! six-hundredth of what a process has, in some 60 slabs.
//!
//! ```text
//!   one slot
//!
//!    base      bottom                                    top - HEAD_BYTES top       end
//!    │  guard  │      the task's stack, growing down <──│     its head     │ colour  │
//!    │         │    a power of two, and ...           │ ... the top page            │
//! ```
//!
//! - **From slot to slot is an odd number of pages.** At a stride that is a power of two, the tops
//!   of many stacks would share a few sets of the second-level TLB and cache: reading one word on
//!   each of 100 stacks took 5.5 ns a word at a stride of 128 KiB, and 3.4 ns at a page more. Slots
//!   lie close together. So a parked task costs a page of stack and its share of a page table (408
//!   bytes with the usual size), whether or not the same page table holds its guard and its top.
//! - **No huge pages.** The first touch of a stack must take 4 KiB, not 2 MiB.
//! - **The top is coloured.** Tops at the same offset in their page share the same few sets of the
//!   first-level cache. Switching between many tasks then misses in it although it is nearly empty.
//!   So each slot moves its top down by a multiple of a cache line that follows from its index
//!   alone.
//! - **A slab never moves, shrinks or goes away** before its [`Slabs`] is dropped, or is told that
//!   nobody will use a slot again. A carved slot stays valid, and can be looked at, even while
//!   nobody uses it. Reuse is the stack cache's business, not ours.
//!
//! Stacks are left in core dumps: only touched pages are written, and backtraces are what a dump is
//! for.

use std::ops::Range;
use std::{io, ptr};

pub(crate) use super::class::Class;
use super::class::{GIB, MIB, Size};
use super::guard::{self, Armed, Guards, PAGE_BYTES, StackGuard};
use crate::prim::sync::Mutex;
use crate::stack::HEAD_BYTES;

/// The largest colour. Colour and record leave more than half of the top page to the stack itself,
/// so that a task that does little keeps a single page resident.
pub(crate) const MAX_COLOUR: usize = 1536;

/// A cache line.
const COLOUR_STEP: usize = 64;

/// Odd, so that slots at a stride that is a power of two still go through all colours.
const COLOURS: usize = MAX_COLOUR / COLOUR_STEP + 1;

const _: () = assert!(COLOURS % 2 == 1 && MAX_COLOUR + HEAD_BYTES < PAGE_BYTES / 2);

/// A runtime with a few tasks should not look large in tools that show virtual memory. Large stacks
/// are few: their first slab holds one.
const FIRST_SLAB_BYTES: usize = 64 * MIB;
const LARGE_STACK_BYTES: usize = 8 * MIB;
const MAX_SLAB_BYTES: usize = 4 * GIB;

/// A place for one stack. It is only a description: the owner decides who may use the memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    /// The coloured top, 64-byte aligned. The record lies directly under it, the stack under that.
    pub(crate) top: usize,
    /// The lowest usable byte, directly above the guard.
    pub(crate) bottom: usize,
    pub(crate) class: Class,
    /// The guard does not fault: use [`Slot::canary_intact`] to find an overflow.
    pub(crate) canary: bool,
}

impl Slot {
    /// The addresses at which an access means that this stack has overflowed.
    pub(crate) fn guard_range(&self) -> Range<usize> {
        self.bottom - self.class.guard_bytes()..self.bottom
    }

    /// Whether `next` lies directly behind this slot, and nothing of either has to be kept if the
    /// whole range is discarded.
    fn is_followed_by(&self, next: &Slot) -> bool {
        self.class == next.class && self.bottom + self.class.stride() == next.bottom && !next.canary
    }

    /// Whether the pattern at the low end is still there. Always true for a slot whose guard
    /// faults.
    ///
    /// # Safety
    ///
    /// The slot's [`Slabs`] is alive, and no other thread runs on this stack.
    pub(crate) unsafe fn canary_intact(&self) -> bool {
        // SAFETY: a carved slot is mapped while its `Slabs` is alive. Only a task that runs on it
        // could write to its lowest page meanwhile, and `# Safety` rules that out.
        !self.canary || unsafe { guard::canary_intact(ptr::with_exposed_provenance(self.bottom)) }
    }
}

/// The slabs of one runtime, and the slots carved from them.
///
/// Dropping it unmaps everything: its owner guarantees that no task is alive, and that no slot is
/// used afterwards.
pub(crate) struct Slabs {
    inner: Mutex<Inner>,
}

struct Inner {
    /// In the order in which they were mapped.
    slabs: Vec<Slab>,
    /// Per class, the index of its newest slab in `slabs`. Only that one may have slots left.
    newest: [Option<usize>; Class::COUNT],
    /// Dropped after `Inner::drop` has unmapped the slabs, as it must be.
    guards: Guards,
}

/// One mapping, cut into slots from its low end up.
#[derive(Clone, Copy)]
struct Slab {
    base: usize,
    bytes: usize,
    class: Class,
    /// The number of slots of the class in earlier slabs. Colours go on from there; otherwise a
    /// class whose slabs have one slot each would have one colour.
    before: usize,
    /// The number of slots handed out.
    carved: usize,
    /// How many of these have a guard that faults. They come first, since guards only get worse.
    faulting: usize,
}

impl Slabs {
    /// Maps nothing yet.
    pub(crate) fn new(guard: StackGuard) -> Slabs {
        Slabs { inner: Mutex::new(Inner::new(guard)) }
    }

    /// Unmaps everything, as dropping it does.
    ///
    /// # Safety
    ///
    /// No task is alive, no slot is used afterwards, and nobody is inside
    /// [`for_each_carved`](Self::for_each_carved).
    pub(crate) unsafe fn unmap(&self) {
        let mut inner = self.inner.lock().expect(NO_PANIC);
        *inner = Inner::new(StackGuard::Auto);
    }

    /// Returns a slot that was never used, with its guard armed. Its memory is zero.
    ///
    /// # Errors
    ///
    /// `OutOfMemory` if not even one slot can be mapped, or its guard cannot be armed;
    /// `Unsupported` if [`StackGuard::Marker`] is forced on a kernel that has no markers. Nothing
    /// is lost by trying again.
    pub(crate) fn carve(&self, class: Class) -> io::Result<Slot> {
        let mut inner = self.inner.lock().expect(NO_PANIC);
        let Inner { slabs, newest, guards } = &mut *inner;
        let current = match newest[class.index()] {
            Some(newest) if !slabs[newest].is_used_up() => newest,
            full => {
                let slab = Slab::map(class, full.map(|full| slabs[full]))?;
                slabs.push(slab);
                newest[class.index()] = Some(slabs.len() - 1);
                slabs.len() - 1
            }
        };
        slabs[current].carve(guards)
    }

    /// Calls `f` with every slot carved before the call: slab by slab, and oldest first within each
    /// class.
    ///
    /// No lock is held during the calls, so `f` may carve; what it carves is not visited.
    pub(crate) fn for_each_carved(&self, mut f: impl FnMut(Slot)) {
        // The slabs are few and small: a million slots of the usual size are in some 60.
        let slabs = self.inner.lock().expect(NO_PANIC).slabs.clone();
        for slab in slabs {
            (0..slab.carved).for_each(|i| f(slab.slot(i)));
        }
    }

    /// Gives the memory of these slots, including their heads, back to the kernel. It then reads as
    /// zero. The slots stay carved and armed. A canary's page stays.
    ///
    /// The slots may be in any order; the call sorts them. Neighbours share a system call, most of
    /// whose cost is the same for one slot and for many: 22 µs for one, 5 µs each for 64.
    ///
    /// If the kernel refuses (memory locked by `mlockall`), nothing happens.
    ///
    /// # Safety
    ///
    /// The slots were carved from `self`, and nobody needs their contents or has a reference to
    /// them.
    pub(crate) unsafe fn discard_all(&self, slots: &mut [Slot]) {
        slots.sort_unstable_by_key(|slot| slot.bottom);
        for run in slots.chunk_by(Slot::is_followed_by) {
            let (first, last) = (run[0], run[run.len() - 1]);
            let start = if first.canary { first.bottom + PAGE_BYTES } else { first.bottom };
            let end = last.top.next_multiple_of(PAGE_BYTES);
            // SAFETY: page-aligned, from the usable part of a slot to that of the same or a later
            // one. In between are only slots of the run, their guards, which stay armed, and pages
            // that nobody uses. All of it is mapped while `self` is alive, and nobody needs the
            // contents, as `# Safety` demands.
            unsafe { libc::madvise(ptr::with_exposed_provenance_mut(start), end - start, libc::MADV_DONTNEED) };
        }
    }
}

const NO_PANIC: &str = "nothing panics while the slabs are locked";

impl Inner {
    fn new(guard: StackGuard) -> Inner {
        Inner { slabs: Vec::new(), newest: [None; Class::COUNT], guards: Guards::new(guard) }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for slab in &self.slabs {
            // SAFETY: our mapping; the owner of the `Slabs` guarantees that no slot is used any
            // more.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(slab.base), slab.bytes) };
        }
    }
}

impl Slab {
    /// Maps the slab that follows `previous` in its class: twice as large, or as large as the
    /// system allows.
    ///
    /// If addresses or commitments are scarce (`ulimit -v`, `vm.overcommit_memory=2`), smaller and
    /// smaller slabs are tried, down to a single slot.
    fn map(class: Class, previous: Option<Slab>) -> io::Result<Slab> {
        let (mut bytes, before) = match previous {
            None if class.stack_bytes() >= LARGE_STACK_BYTES => (class.stride(), 0),
            None => (FIRST_SLAB_BYTES, 0),
            Some(previous) => ((2 * previous.bytes).min(MAX_SLAB_BYTES).max(class.stride()), previous.before + previous.carved),
        };
        loop {
            match map(bytes) {
                Ok(base) => {
                    return Ok(Slab { base, bytes, class, before, carved: 0, faulting: 0 });
                }
                Err(_) if bytes > class.stride() => bytes = (bytes / 2).next_multiple_of(PAGE_BYTES).max(class.stride()),
                Err(error) => {
                    return Err(io::Error::new(
                        io::ErrorKind::OutOfMemory,
                        format!(
                            "cannot map a task's stack of {}, with its guard {}: {error}. Look at RLIMIT_AS (ulimit -v), \
                             vm.overcommit_memory and vm.max_map_count",
                            Size(class.stack_bytes()),
                            Size(class.stride())
                        ),
                    ));
                }
            }
        }
    }

    fn is_used_up(&self) -> bool {
        self.carved == self.bytes / self.class.stride()
    }

    fn carve(&mut self, guards: &mut Guards) -> io::Result<Slot> {
        let base = self.base + self.carved * self.class.stride();
        // SAFETY: a slot that was not handed out is within our mapping, is used by nobody, and is
        // larger than the guard and a page.
        let armed = unsafe { guards.arm(ptr::with_exposed_provenance_mut(base), self.class.guard_bytes()) }?;
        self.carved += 1;
        if armed == Armed::Hardware {
            self.faulting = self.carved;
        }
        Ok(self.slot(self.carved - 1))
    }

    /// The `i`th slot of this slab. A pure function, so that slots can be enumerated without a
    /// list.
    fn slot(&self, i: usize) -> Slot {
        let base = self.base + i * self.class.stride();
        Slot {
            top: base + self.class.stride() - colour(self.before + i),
            bottom: base + self.class.guard_bytes(),
            class: self.class,
            canary: i >= self.faulting,
        }
    }
}

/// How far the top of the class's `index`th slot lies below the slot's end.
fn colour(index: usize) -> usize {
    index % COLOURS * COLOUR_STEP
}

/// Maps `bytes`, a multiple of the page size, without huge pages.
fn map(bytes: usize) -> io::Result<usize> {
    // SAFETY: a new private mapping at an address of the kernel's choice touches no existing
    // memory.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is ours. A kernel without huge pages refuses, and that is as good.
    unsafe { libc::madvise(start, bytes, libc::MADV_NOHUGEPAGE) };
    Ok(start.expose_provenance())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::mem;

    use super::super::class::MIN_STACK_BYTES;
    use super::*;
    use crate::sys::child;

    /// The class whose figures the tests know, whatever the build's default is.
    const USUAL: Class = Class(17);

    /// Whether `write` can read a byte at `addr`: the kernel finds out without a signal.
    fn readable(addr: usize) -> bool {
        let mut pipe = [0; 2];
        // SAFETY: `pipe` has room for two descriptors; `write` checks the address; both ends are
        // ours to close.
        let readable = unsafe {
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            let written = libc::write(pipe[1], ptr::with_exposed_provenance(addr), 1);
            let error = io::Error::last_os_error();
            libc::close(pipe[0]);
            libc::close(pipe[1]);
            assert!(written == 1 || error.raw_os_error() == Some(libc::EFAULT), "{error}");
            written == 1
        };
        let word = ptr::with_exposed_provenance(addr & !3);
        assert_eq!(guard::readable(word), readable, "the other way to find out");
        readable
    }

    fn touch_pages(range: Range<usize>) {
        for page in range.step_by(PAGE_BYTES) {
            // SAFETY: callers pass the usable part of a slot that is theirs.
            unsafe { ptr::with_exposed_provenance_mut::<u8>(page + 8).write_volatile(1) };
        }
    }

    /// The usable part of a slot, in whole pages: up to the slot's end.
    fn usable_pages(slot: Slot) -> Range<usize> {
        slot.bottom..slot.top.next_multiple_of(PAGE_BYTES)
    }

    fn resident_pages(range: Range<usize>) -> usize {
        let mut pages = vec![0_u8; range.len() / PAGE_BYTES];
        let start = ptr::with_exposed_provenance_mut(range.start);
        // SAFETY: page-aligned and mapped; one byte of `pages` for each page.
        let result = unsafe { libc::mincore(start, range.len(), pages.as_mut_ptr()) };
        assert_eq!(result, 0);
        pages.iter().filter(|&&page| page & 1 == 1).count()
    }

    /// How many of the process's mappings lie in these slabs.
    fn mappings(slabs: &Slabs) -> usize {
        let slabs = slabs.inner.lock().unwrap().slabs.clone();
        let in_slabs = |line: &str| {
            let (start, rest) = line.split_once('-').unwrap();
            let (end, _) = rest.split_once(' ').unwrap();
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16).unwrap());
            slabs.iter().any(|slab| start < slab.base + slab.bytes && slab.base < end)
        };
        std::fs::read_to_string("/proc/self/maps").unwrap().lines().filter(|line| in_slabs(line)).count()
    }

    /// Slabs with forced markers; `None`, with a message, if the kernel has none.
    fn with_markers() -> Option<(Slabs, Slot)> {
        let slabs = Slabs::new(StackGuard::Marker);
        match slabs.carve(USUAL) {
            Ok(slot) => Some((slabs, slot)),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::Unsupported);
                assert!(error.to_string().contains("Linux 6.13"), "{error}");
                println!("not tested: {error}");
                None
            }
        }
    }

    #[test]
    fn nothing_is_mapped_before_the_first_slot() {
        let slabs = Slabs::new(StackGuard::Auto);
        assert!(slabs.inner.lock().unwrap().slabs.is_empty());
    }

    #[test]
    fn colours_differ_between_neighbours_and_stay_in_the_top_page() {
        let slabs = Slabs::new(StackGuard::Canary);
        let slots: Vec<_> = (0..600).map(|_| slabs.carve(USUAL).unwrap()).collect();
        let colour_of = |slot: &Slot| slot.guard_range().start + slot.class.stride() - slot.top;
        for slot in &slots {
            assert_eq!(slot.top % 64, 0);
            assert!(colour_of(slot) <= MAX_COLOUR);
            assert!(slot.top - HEAD_BYTES - slot.bottom >= slot.class.stack_bytes());
        }
        // The first slab ends among these slots: its last slot and the next slab's first are
        // neighbours in time.
        assert!(slabs.inner.lock().unwrap().slabs.len() > 1);
        for stride in [1, 2, 4, 8] {
            assert!(slots.iter().zip(&slots[stride..]).all(|(a, b)| colour_of(a) != colour_of(b)), "{stride}");
        }
    }

    #[test]
    fn slots_are_disjoint() {
        let slabs = Slabs::new(StackGuard::Auto);
        for class in [Class(14), Class(17), Class(20), Class(21), Class(23)] {
            let slots: Vec<Slot> = (0..70).map(|_| slabs.carve(class).unwrap()).collect();
            let bases: HashSet<usize> = slots.iter().map(|slot| slot.guard_range().start).collect();
            assert_eq!(bases.len(), slots.len());
            let mut bottoms: Vec<usize> = slots.iter().map(|slot| slot.bottom).collect();
            bottoms.sort_unstable();
            assert!(bottoms.windows(2).all(|pair| pair[1] - pair[0] >= class.stride()));
            assert!(slots.iter().all(|slot| slot.top - slot.guard_range().start <= class.stride()));
        }
    }

    fn guard_faults(slabs: &Slabs, slot: Slot) {
        let guard = slot.guard_range();
        assert_eq!((guard.len(), guard.end), (slot.class.guard_bytes(), slot.bottom));
        assert!(!slot.canary);
        let check = |when| {
            assert!(!readable(guard.start) && !readable(guard.end - 1), "{when}");
            assert!(readable(slot.bottom) && readable(slot.top - 1), "{when}");
        };
        check("when carved");
        touch_pages(usable_pages(slot));
        // SAFETY: carved from these slabs, and nobody uses it.
        unsafe { slabs.discard_all(&mut [slot]) };
        check("after its memory was given back");
        // SAFETY: the slabs are alive, and no task runs.
        let intact = unsafe { slot.canary_intact() };
        assert!(intact, "there is none to be damaged");
    }

    #[test]
    fn the_guard_of_every_class_faults_from_end_to_end() {
        for guard in [StackGuard::Auto, StackGuard::Mprotect] {
            let slabs = Slabs::new(guard);
            for class in (0..Class::COUNT as u8).map(|i| Class(14 + i)) {
                // Two: the second lies above the first's stack, within the same slab if there is
                // room.
                for slot in [(); 2].map(|()| slabs.carve(class).unwrap()) {
                    assert!(!slot.canary);
                    assert!(slot.guard_range().step_by(PAGE_BYTES).all(|page| !readable(page)), "{class:?} {guard:?}");
                    assert!(!readable(slot.bottom - 1) && readable(slot.bottom) && readable(slot.top - 1), "{class:?} {guard:?}");
                }
            }
        }
    }

    #[test]
    fn a_marker_guard_faults() {
        if let Some((slabs, slot)) = with_markers() {
            guard_faults(&slabs, slot);
        }
    }

    #[test]
    fn an_mprotect_guard_faults() {
        let slabs = Slabs::new(StackGuard::Mprotect);
        let slot = slabs.carve(USUAL).unwrap();
        guard_faults(&slabs, slot);
        assert!(mappings(&slabs) >= 2, "not a marker");
    }

    #[test]
    fn a_canary_tells_of_an_overflow() {
        let slabs = Slabs::new(StackGuard::Canary);
        let slot = slabs.carve(USUAL).unwrap();
        assert!(slot.canary);
        assert!(readable(slot.guard_range().start), "its guard does not fault");
        // SAFETY: the slot is ours, and nobody else uses it.
        unsafe {
            assert!(slot.canary_intact());
            touch_pages(slot.bottom + PAGE_BYTES..slot.top);
            assert!(slot.canary_intact());
            slabs.discard_all(&mut [slot]);
            assert!(slot.canary_intact(), "giving memory back keeps it");
            touch_pages(slot.bottom..slot.top);
            assert!(!slot.canary_intact());
        }
    }

    #[test]
    fn marker_guards_cost_no_mappings() {
        let Some((slabs, _)) = with_markers() else {
            return;
        };
        for _ in 0..20_000 {
            slabs.carve(USUAL).unwrap();
        }
        // 64 MiB, doubled until the sum is 3.9 GiB: six slabs.
        assert_eq!(slabs.inner.lock().unwrap().slabs.len(), 6);
        assert!(mappings(&slabs) <= 6, "{}", mappings(&slabs));
    }

    #[test]
    fn mprotect_guards_end_at_their_share_and_canaries_follow() {
        const TEST: &str = concat!(module_path!(), "::mprotect_guards_end_at_their_share_and_canaries_follow");
        let Some(output) = child::run(TEST) else {
            let limit: usize = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap().trim().parse().unwrap();
            let faulting = limit / 4;
            if faulting > 50_000 {
                println!("vm.max_map_count is {limit}: reaching its half would take long");
                return;
            }
            let class = Class::for_stack(MIN_STACK_BYTES).unwrap();
            for _ in 0..2 {
                // The second turn finds that the first has returned its share.
                let slabs = Slabs::new(StackGuard::Mprotect);
                for _ in 0..faulting {
                    assert!(!slabs.carve(class).unwrap().canary);
                }
                for _ in 0..10 {
                    assert!(slabs.carve(class).unwrap().canary);
                }
                let mut kinds = Vec::new();
                slabs.for_each_carved(|slot| kinds.push(slot.canary));
                assert_eq!(kinds.iter().filter(|&&canary| canary).count(), 10);
                assert!(kinds.is_sorted());
            }
            eprintln!("reached");
            return;
        };
        child::assert_passed(&output);
        let text = String::from_utf8_lossy(&output.stderr);
        if text.contains("reached") {
            assert_eq!(text.matches("greenloom: no mappings are left for stack guards").count(), 1, "{text}");
        }
    }

    #[test]
    fn discard_gives_back_runs_of_stacks_and_nothing_between_them() {
        for guard in [StackGuard::Auto, StackGuard::Mprotect, StackGuard::Canary] {
            let slabs = Slabs::new(guard);
            let slots = [(); 6].map(|()| slabs.carve(Class::DEFAULT).unwrap());
            for slot in slots {
                touch_pages(slot.bottom + PAGE_BYTES..usable_pages(slot).end);
            }
            let canary = usize::from(slots[0].canary);
            let all = usable_pages(slots[0]).len() / PAGE_BYTES - 1 + canary;
            // SAFETY: the slots are ours, and nobody else uses them.
            unsafe { slabs.discard_all(&mut [slots[4], slots[1], slots[2]]) };
            let resident = slots.map(|slot| resident_pages(usable_pages(slot)));
            assert_eq!(resident, [all, canary, canary, all, canary, all]);
            for slot in slots {
                // SAFETY: the slabs are alive, and nobody runs on the stack.
                assert!(unsafe { slot.canary_intact() });
                assert!(slot.canary || !readable(slot.guard_range().end - 1), "the guard is gone");
            }
        }
    }

    #[test]
    fn discard_gives_back_a_stack_and_leaves_its_neighbours() {
        for guard in [StackGuard::Auto, StackGuard::Mprotect, StackGuard::Canary] {
            let slabs = Slabs::new(guard);
            let slots = [(); 3].map(|()| slabs.carve(USUAL).unwrap());
            for slot in slots {
                touch_pages(slot.bottom + PAGE_BYTES..usable_pages(slot).end);
            }
            let neighbours = || resident_pages(usable_pages(slots[0])) + resident_pages(usable_pages(slots[2]));
            let before = neighbours();

            let slot = slots[1];
            // A canary lives in the lowest page.
            let canary = usize::from(slot.canary);
            let pages = usable_pages(slot);
            assert_eq!(resident_pages(pages.clone()), pages.len() / PAGE_BYTES - 1 + canary);
            // SAFETY: the slots are ours, and nobody else uses them.
            unsafe { slabs.discard_all(&mut [slot]) };
            assert_eq!(resident_pages(pages), canary);
            assert_eq!(neighbours(), before);
        }
    }

    #[test]
    fn every_carved_slot_is_enumerated_as_it_was_carved() {
        let slabs = Slabs::new(StackGuard::Auto);
        let large = Class::for_stack(40 * MIB).unwrap();
        let mut carved = [USUAL, large].map(|class| (class, Vec::new()));
        for _ in 0..1200 {
            let slot = slabs.carve(USUAL).unwrap();
            carved[0].1.push((slot.bottom, slot.top, slot.canary));
        }
        for _ in 0..4 {
            let slot = slabs.carve(large).unwrap();
            carved[1].1.push((slot.bottom, slot.top, slot.canary));
        }
        let mut found = carved.clone().map(|(class, _)| (class, Vec::new()));
        slabs.for_each_carved(|slot| {
            let (_, found) = found.iter_mut().find(|(class, _)| *class == slot.class).unwrap();
            found.push((slot.bottom, slot.top, slot.canary));
            // Allowed; the new slot is not visited.
            if slot.class == large {
                slabs.carve(large).unwrap();
            }
        });
        assert_eq!(found, carved);
    }

    #[test]
    fn scarce_addresses_give_smaller_slabs_and_then_a_clear_error() {
        const TEST: &str = concat!(module_path!(), "::scarce_addresses_give_smaller_slabs_and_then_a_clear_error");
        let Some(output) = child::run(TEST) else {
            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
            let limit = pages * PAGE_BYTES as u64 + 40 * MIB as u64;
            // SAFETY: a valid limit, for this process alone.
            let set = unsafe { libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: limit, rlim_max: limit }) };
            assert_eq!(set, 0);
            let slabs = Slabs::new(StackGuard::Auto);
            let mut count = 0;
            let error = loop {
                match slabs.carve(USUAL) {
                    Ok(_) => count += 1,
                    Err(error) => break error,
                }
            };
            // 32 MiB, and some smaller slabs out of what is left.
            assert!((160..208).contains(&count), "{count}");
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            let text = error.to_string();
            assert!(text.contains("a task's stack of 128 KiB, with its guard 204 KiB") && text.contains("RLIMIT_AS"), "{text}");
            return;
        };
        child::assert_passed(&output);
    }

    #[test]
    fn dropping_unmaps() {
        // In a process of its own, where no other test maps something into the same place.
        let Some(output) = child::run(concat!(module_path!(), "::dropping_unmaps")) else {
            let slabs = Slabs::new(StackGuard::Auto);
            let slot = slabs.carve(USUAL).unwrap();
            assert!(readable(slot.bottom));
            drop(slabs);
            assert!(!readable(slot.bottom));
            return;
        };
        child::assert_passed(&output);
    }

    /// Makes the kernel answer this thread's requests for guard markers with `errno`, and do
    /// nothing. A kernel before 6.13 does that, or, with zero, one that reports success for all
    /// advice. Returns false if this is not allowed.
    fn answer_markers_with(errno: libc::c_int) -> bool {
        const MADV_GUARD_INSTALL: u32 = 102;
        let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
        let answer = (libc::BPF_RET | libc::BPF_K) as u16;
        let third_argument = mem::offset_of!(libc::seccomp_data, args) + 2 * size_of::<u64>();
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut filter = [
            step(load, 0, 0, mem::offset_of!(libc::seccomp_data, nr) as u32),
            step(equal, 0, 3, libc::SYS_madvise as u32),
            step(load, 0, 0, third_argument as u32),
            step(equal, 0, 1, MADV_GUARD_INSTALL),
            step(answer, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
            step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: the program is as long as it says, and the kernel copies it.
        unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
        }
    }

    /// If the kernel answers that way, Auto uses another kind of guard, and forced markers are an
    /// error.
    fn auto_does_without_markers(test: &str, errno: libc::c_int) {
        let Some(output) = child::run(test) else {
            if !answer_markers_with(errno) {
                println!("not tested: a seccomp filter is refused here");
                return;
            }
            assert!(with_markers().is_none());
            let slabs = Slabs::new(StackGuard::Auto);
            let slots = [(); 3].map(|()| slabs.carve(USUAL).unwrap());
            guard_faults(&slabs, slots[1]);
            assert!(mappings(&slabs) >= 6, "two for each guard");
            return;
        };
        child::assert_passed(&output);
    }

    #[test]
    fn without_markers_auto_takes_mprotect_and_forced_markers_fail() {
        auto_does_without_markers(
            concat!(module_path!(), "::without_markers_auto_takes_mprotect_and_forced_markers_fail"),
            libc::EINVAL,
        );
    }

    #[test]
    fn markers_that_guard_nothing_are_found_out() {
        auto_does_without_markers(concat!(module_path!(), "::markers_that_guard_nothing_are_found_out"), 0);
    }
}
