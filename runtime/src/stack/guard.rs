//! The guard below a stack, which stops an overflow from running into the neighbouring slot.
//!
//! The lowest part of a slot is never used. Its size is
//! [`Class::guard_bytes`](super::class::Class::guard_bytes). An access to it must end the program
//! with a clear report instead of corrupting another task. There are three ways to achieve that:
//!
//! - **Marker.** `madvise(MADV_GUARD_INSTALL)`, from Linux 6.13 on, writes a marker into the page
//!   table. An access faults, yet the mapping stays whole, so a million guards cost no mappings at
//!   all. The marker needs a page-table page, which the top of the same stack needs anyway (see
//!   [`super::slab`]). It survives `MADV_DONTNEED`, so a slot is armed once in its life. That takes
//!   some 1 µs, plus 40 ns for each page of the guard. `madvise` gives advice, and a system may
//!   report success for advice that it does not know (qemu's user mode does). So the first marker
//!   is tested, by making the kernel read there. `mprotect` is not advice, and its result is
//!   trusted.
//! - **Mprotect.** `mprotect(PROT_NONE)` works on every kernel, but splits the mapping that it lies
//!   in: each guard adds two mappings (itself, and what is cut off above it). A process may have
//!   `vm.max_map_count` mappings, 65,530 by default. The allocator, the loader and other threads
//!   need some as well; at the limit *their* `mmap` fails too. We therefore stop at half of the
//!   limit, 16,382 guards by default.
//! - **Canary.** A pattern in the lowest usable bytes, which the scheduler checks at each
//!   suspension. It costs one resident page per stack, and reveals an overflow only after the fact.
//!   The unused guard below it is room in which an overflow damages nothing but the pattern. A
//!   frame with a large buffer that it does not write may step over the pattern unnoticed.
//!
//! No guard stops a frame that is larger than the guard, is not probed, and is first touched beyond
//! it. Only C code or assembly has such frames. `-fstack-clash-protection` gives C code probes.

use std::{io, ptr};

use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::sys::stderr;

/// The page size: x86-64 has only this one for ordinary mappings.
pub(crate) const PAGE_BYTES: usize = 4096;

/// Whether the system's pages are those that stacks are laid out for.
///
/// # Errors
/// If they are not: guards would not lie where they should.
pub(crate) fn check_page_size() -> io::Result<()> {
    // SAFETY: asks for a constant of the system.
    check_pages_of(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
}

fn check_pages_of(bytes: libc::c_long) -> io::Result<()> {
    if usize::try_from(bytes) == Ok(PAGE_BYTES) {
        return Ok(());
    }
    let why = format!("greenloom lays its stacks out for pages of {PAGE_BYTES} bytes, and those of this system have {bytes}");
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// `MADV_GUARD_INSTALL` of Linux 6.13, which the `libc` crate does not name yet.
const MADV_GUARD_INSTALL: libc::c_int = 102;

/// The number of mappings that an `mprotect`ed guard adds to the process.
const MAPPINGS_PER_GUARD: usize = 2;

/// Linux's default for `vm.max_map_count`, used if `/proc` cannot be read.
const DEFAULT_MAX_MAP_COUNT: usize = 65_530;

/// One cache line, because it is read at each suspension.
const CANARY_WORDS: usize = 8;
const CANARY: [u64; CANARY_WORDS] = [0x6772_6565_6e6c_6f6f; CANARY_WORDS];

/// How the guard below each task's stack is made.
///
/// The guard is a quarter of the stack in size, but at least 64 KiB and at most 1 MiB, plus 8 KiB.
/// It costs addresses, but no memory. Rust's frames cannot step over it, since they are probed page
/// by page. A frame of C code or assembly can step over it, unnoticed, if the frame is larger than
/// the guard, is compiled without probes (`-fstack-clash-protection` adds them), and is first
/// touched at its low end.
///
/// The default, [`Auto`](StackGuard::Auto), takes the best guard that the running kernel supports.
/// The others are for tests and for unusual systems, and are used exactly as chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum StackGuard {
    /// [`Marker`](StackGuard::Marker) if the kernel has it, otherwise
    /// [`Mprotect`](StackGuard::Mprotect), which falls back to canaries, after a warning, when
    /// mappings run out.
    #[default]
    Auto,
    /// Guard markers (`MADV_GUARD_INSTALL`): an overflow faults, and no number of stacks exhausts
    /// `vm.max_map_count`.
    ///
    /// Needs Linux 6.13, and memory that is not locked by `mlockall`. Otherwise getting a stack is
    /// an error.
    Marker,
    /// Inaccessible pages (`mprotect(PROT_NONE)`): an overflow faults, on every kernel.
    ///
    /// Each guard takes two of the `vm.max_map_count` mappings. Once the guards of the process hold
    /// half of these, a warning is printed, and further stacks are protected as with
    /// [`Canary`](StackGuard::Canary).
    Mprotect,
    /// A pattern at the low end of the stack, checked whenever the task suspends.
    ///
    /// **Not sound**: an overflow is found late, when it may already have damaged other memory, or
    /// not at all if it leaves the pattern alone. Each stack keeps one more page in memory than
    /// with the other guards.
    Canary,
}

/// The protection that a slot actually got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// An access to the guard faults.
    Hardware,
    /// Only the pattern at the low end reveals an overflow.
    Canary,
}

/// Arms the guards of one runtime.
///
/// It goes from better to worse and never back: after the first slot with a canary, all further
/// slots have canaries.
pub(crate) struct Guards {
    way: Way,
    /// The mappings that this value has taken from [`MAPPINGS`]; returned on drop. Drop it after
    /// the memory is unmapped.
    mappings: usize,
}

#[derive(Clone, Copy)]
enum Way {
    Marker { or_mprotect: bool, tried: bool },
    Mprotect { max_mappings: usize },
    Canary,
}

/// The mappings that the guards of all runtimes of this process hold. A static, because the
/// kernel's limit is per process. The count protects no other memory, so every access to it is
/// relaxed.
static MAPPINGS: AtomicUsize = AtomicUsize::new(0);

/// How often the warning about canaries was due. It is printed the first time. Relaxed as well.
static WARNINGS: AtomicUsize = AtomicUsize::new(0);

impl Guards {
    pub(crate) fn new(guard: StackGuard) -> Guards {
        let way = match guard {
            StackGuard::Auto => Way::Marker { or_mprotect: true, tried: false },
            StackGuard::Marker => Way::Marker { or_mprotect: false, tried: false },
            StackGuard::Mprotect => Way::mprotect(),
            StackGuard::Canary => Way::Canary,
        };
        Guards { way, mappings: 0 }
    }

    /// Arms the guard that begins at `guard` and is `bytes` long. Returns how it was armed.
    ///
    /// # Errors
    ///
    /// If markers are forced and the kernel has none, or if the kernel is out of memory for page
    /// tables. The slot is then unchanged, and arming it may be tried again.
    ///
    /// # Safety
    ///
    /// The bytes from `guard` on, and the page that follows them, are page-aligned, mapped
    /// readable and writable, private and anonymous, never touched so far, and used by nobody else.
    pub(crate) unsafe fn arm(&mut self, guard: *mut u8, bytes: usize) -> io::Result<Armed> {
        loop {
            match self.way {
                Way::Marker { or_mprotect, tried } => {
                    // SAFETY: the caller owns the range, as `# Safety` demands. It is unused, so it
                    // may lose its contents and become inaccessible.
                    let result = unsafe { libc::madvise(guard.cast(), bytes, MADV_GUARD_INSTALL) };
                    let error = if result != 0 {
                        io::Error::last_os_error()
                    } else if tried || !readable(guard) {
                        self.way = Way::Marker { or_mprotect, tried: true };
                        return Ok(Armed::Hardware);
                    } else {
                        io::Error::new(io::ErrorKind::Unsupported, "done, but the guard can be read")
                    };
                    // An older kernel returns EINVAL; so does a newer one for locked memory. A
                    // seccomp filter may return EPERM or ENOSYS.
                    let refused = matches!(error.raw_os_error(), None | Some(libc::EINVAL | libc::EPERM | libc::ENOSYS));
                    match (refused, or_mprotect) {
                        (true, true) => self.way = Way::mprotect(),
                        (true, false) => return Err(markers_refused(&error)),
                        (false, _) => return Err(out_of_memory(&error)),
                    }
                }
                Way::Mprotect { max_mappings } => {
                    if take_mappings(&MAPPINGS, max_mappings) {
                        // SAFETY: the caller owns the range, as `# Safety` demands, and it is
                        // unused.
                        if unsafe { libc::mprotect(guard.cast(), bytes, libc::PROT_NONE) } == 0 {
                            self.mappings += MAPPINGS_PER_GUARD;
                            return Ok(Armed::Hardware);
                        }
                        let error = io::Error::last_os_error();
                        MAPPINGS.fetch_sub(MAPPINGS_PER_GUARD, Ordering::Relaxed);
                        // ENOMEM: others have taken so many mappings that the limit was reached
                        // before our half.
                        if error.raw_os_error() != Some(libc::ENOMEM) {
                            return Err(error);
                        }
                    }
                    warn_of_canaries(max_mappings);
                    self.way = Way::Canary;
                }
                Way::Canary => {
                    // SAFETY: the page above the guard is writable and unused, as `# Safety`
                    // demands.
                    unsafe { write_canary(guard.add(bytes)) };
                    return Ok(Armed::Canary);
                }
            }
        }
    }
}

impl Drop for Guards {
    fn drop(&mut self) {
        MAPPINGS.fetch_sub(self.mappings, Ordering::Relaxed);
    }
}

impl Way {
    fn mprotect() -> Way {
        let max_map_count = std::fs::read_to_string("/proc/sys/vm/max_map_count")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(DEFAULT_MAX_MAP_COUNT);
        Way::Mprotect { max_mappings: max_map_count / 2 }
    }
}

/// Whether the word at `address` can be read. It is zero if it is mapped. The kernel finds out
/// without a signal.
///
/// False if the kernel does not tell.
pub(super) fn readable(address: *const u8) -> bool {
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel checks the address and compares the word with 1. If they were equal, it
    // would wait for no time at all. Unlike `write`, this needs no descriptor.
    let result = unsafe {
        libc::syscall(libc::SYS_futex, address, libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG, 1_u32, &raw const no_time)
    };
    result == -1 && matches!(io::Error::last_os_error().raw_os_error(), Some(libc::EAGAIN | libc::ETIMEDOUT))
}

/// Takes the mappings for one guard out of `max`, or none if too few are left.
fn take_mappings(taken: &AtomicUsize, max: usize) -> bool {
    let before = taken.fetch_add(MAPPINGS_PER_GUARD, Ordering::Relaxed);
    let granted = before.saturating_add(MAPPINGS_PER_GUARD) <= max;
    if !granted {
        taken.fetch_sub(MAPPINGS_PER_GUARD, Ordering::Relaxed);
    }
    granted
}

/// Writes the pattern to the lowest usable bytes of a stack.
///
/// # Safety
///
/// The page that begins at `bottom` is mapped, writable and used by nobody else.
unsafe fn write_canary(bottom: *mut u8) {
    // SAFETY: in bounds and exclusive, as `# Safety` demands; aligned because a page is.
    unsafe { ptr::write(bottom.cast(), CANARY) };
}

/// Whether the pattern that [`Guards::arm`] wrote at `bottom` is still there.
///
/// # Safety
///
/// `bottom` is the lowest usable byte of a mapped slot, and nobody writes to the page it begins.
pub(crate) unsafe fn canary_intact(bottom: *const u8) -> bool {
    // SAFETY: mapped and not written to, as `# Safety` demands; aligned because a page is.
    unsafe { ptr::read(bottom.cast::<[u64; CANARY_WORDS]>()) == CANARY }
}

/// Prints the warning, once per process.
///
/// It goes straight to the descriptor: a suspended task may hold the lock of `std::io::stderr`, and
/// waiting for it here would stop every thread that needs a stack.
fn warn_of_canaries(max_mappings: usize) {
    if WARNINGS.fetch_add(1, Ordering::Relaxed) > 0 {
        return;
    }
    let text = format!(
        "greenloom: no mappings are left for stack guards: they may take half of vm.max_map_count, which is \
         {max_mappings}, and each takes {MAPPINGS_PER_GUARD}.\n  Further stacks are only checked for overflow \
         when their task suspends. Raise vm.max_map_count, or use Linux 6.13 or later, whose guards need no \
         mappings.\n"
    );
    stderr::write(text.as_bytes());
}

fn markers_refused(error: &io::Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::Unsupported,
        format!(
            "StackGuard::Marker needs Linux 6.13 or later and memory that is not locked by mlockall: \
             madvise(MADV_GUARD_INSTALL) said: {error}. StackGuard::Auto works on every kernel"
        ),
    )
}

fn out_of_memory(error: &io::Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        format!(
            "cannot arm the guard of a task's stack: {error}. A page table may be over the limit of the \
             memory cgroup (memory.max)"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_pages_than_stacks_are_laid_out_for_are_refused_with_a_sentence() {
        check_page_size().unwrap();
        for bytes in [0, -1, 16 << 10, 64 << 10] {
            let error = check_pages_of(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
            assert!(error.to_string().ends_with(&format!("those of this system have {bytes}")), "{error}");
        }
    }

    #[test]
    fn mappings_are_granted_up_to_the_share_and_again_when_returned() {
        let taken = AtomicUsize::new(0);
        assert!(take_mappings(&taken, 5));
        assert!(take_mappings(&taken, 5));
        assert!(!take_mappings(&taken, 5), "a third guard would need six of five");
        taken.fetch_sub(MAPPINGS_PER_GUARD, Ordering::Relaxed);
        assert!(take_mappings(&taken, 5));
    }

    #[test]
    fn a_changed_byte_of_the_pattern_is_noticed() {
        let mut page = [[0_u64; CANARY_WORDS]; 2];
        let bottom: *mut u8 = page.as_mut_ptr().cast();
        // SAFETY: the array is ours, aligned for u64, and longer than the pattern.
        unsafe {
            assert!(!canary_intact(bottom), "zeroes are not the pattern");
            write_canary(bottom);
            assert!(canary_intact(bottom));
            *bottom.add(size_of_val(&CANARY) - 1) ^= 1;
            assert!(!canary_intact(bottom));
        }
    }
}
