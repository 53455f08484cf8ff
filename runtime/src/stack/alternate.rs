//! A thread's alternate signal stack, for the handler that reports overflows (see
//! [`super::overflow`]).

use std::marker::PhantomData;
use std::ptr;

use super::guard::PAGE_BYTES;

/// A thread's alternate signal stack. Dropping it puts the previous one back.
#[must_use = "dropping it removes the alternate stack"]
pub(crate) struct AltStack {
    ours: Option<OurStack>,
    /// `!Send`: an alternate stack belongs to the thread that set it.
    _thread: PhantomData<*mut ()>,
}

struct OurStack {
    /// A page that stays inaccessible, then the stack.
    mapping: *mut libc::c_void,
    bytes: usize,
    previous: libc::stack_t,
}

/// Gives signal handlers on this thread a stack of their own, large enough for the CPU's largest
/// signal frame and for our handler.
///
/// std gives its threads one, but it may be as small as 8 KiB. If there is no memory for a larger
/// one, the existing one stays, and an overflow may then end in a plain `SIGSEGV`.
pub(crate) fn ensure_alternate_stack() -> AltStack {
    /// What our handler and one that we chain to may use: the minimum, and a comfortable size.
    const HANDLER: usize = 12 * 1024;
    const HANDLER_COMFORTABLE: usize = 32 * 1024;
    const MIN_NEW: usize = 64 * 1024;

    let frame = signal_frame_bytes();
    let previous = current_alternate_stack();
    let enough = previous.ss_flags & libc::SS_DISABLE == 0 && previous.ss_size >= frame + HANDLER;
    let ours = if enough {
        None
    } else {
        OurStack::set((frame + HANDLER_COMFORTABLE).max(MIN_NEW).next_multiple_of(PAGE_BYTES), previous)
    };
    AltStack { ours, _thread: PhantomData }
}

/// The bytes that the kernel may write for a signal's handler. Async-signal-safe.
pub(crate) fn signal_frame_bytes() -> usize {
    /// Not in the `libc` crate for this target.
    const AT_MINSIGSTKSZ: libc::c_ulong = 51;
    /// A frame without AVX-512 and AMX, for kernels that do not report the size (before 5.14).
    const USUAL_FRAME: usize = 4 * 1024;
    // SAFETY: reads a number, which the C library has from the start; a missing entry is 0.
    (unsafe { libc::getauxval(AT_MINSIGSTKSZ) } as usize).max(USUAL_FRAME)
}

fn current_alternate_stack() -> libc::stack_t {
    let mut current = libc::stack_t { ss_sp: ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
    // SAFETY: only queries; `current` is valid for writes.
    unsafe { libc::sigaltstack(ptr::null(), &mut current) };
    current
}

impl OurStack {
    /// Maps a stack of `size` bytes and makes it this thread's. Returns `None` if either step is
    /// refused.
    fn set(size: usize, previous: libc::stack_t) -> Option<OurStack> {
        let bytes = size + PAGE_BYTES;
        // SAFETY: a new private mapping at an address of the kernel's choice touches no existing
        // memory.
        let mapping =
            unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) };
        if mapping == libc::MAP_FAILED {
            return None;
        }
        // SAFETY: the mapping is one page longer than `size`. The alternate stack is used for
        // nothing else, and stays mapped until `AltStack::drop` has taken it out of use.
        let set = unsafe {
            let stack = libc::stack_t { ss_sp: mapping.byte_add(PAGE_BYTES), ss_flags: 0, ss_size: size };
            libc::mprotect(stack.ss_sp, size, libc::PROT_READ | libc::PROT_WRITE) == 0
                && libc::sigaltstack(&stack, ptr::null_mut()) == 0
        };
        if !set {
            // SAFETY: our mapping, and not in use.
            unsafe { libc::munmap(mapping, bytes) };
            return None;
        }
        Some(OurStack { mapping, bytes, previous })
    }
}

impl Drop for AltStack {
    fn drop(&mut self) {
        let Some(ours) = &self.ours else { return };
        // SAFETY: we are on the thread that set it (`!Send`) and not in a handler, so nothing runs
        // on our stack. The previous stack is still valid: the code that set it up outlives this
        // scope.
        unsafe {
            if libc::sigaltstack(&ours.previous, ptr::null_mut()) == 0 {
                libc::munmap(ours.mapping, ours.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_alternate_stack_is_replaced_and_put_back() {
        let on_a_thread_of_its_own = || {
            let mut small = vec![0_u8; 8 * 1024];
            let stack = libc::stack_t { ss_sp: small.as_mut_ptr().cast(), ss_flags: 0, ss_size: small.len() };
            let stds = current_alternate_stack();
            // SAFETY: `small` outlives its use, and no handler runs on this thread meanwhile.
            assert_eq!(unsafe { libc::sigaltstack(&stack, ptr::null_mut()) }, 0);

            let outer = ensure_alternate_stack();
            let during = current_alternate_stack();
            assert_ne!(during.ss_sp, stack.ss_sp);
            assert!(during.ss_size >= 64 * 1024);
            let inner = ensure_alternate_stack();
            assert_eq!(current_alternate_stack().ss_sp, during.ss_sp, "one that is large enough stays");
            drop(inner);
            assert_eq!(current_alternate_stack().ss_sp, during.ss_sp);
            drop(outer);
            assert_eq!(current_alternate_stack().ss_sp, stack.ss_sp);

            // SAFETY: std's own stack, unchanged.
            assert_eq!(unsafe { libc::sigaltstack(&stds, ptr::null_mut()) }, 0);
        };
        std::thread::spawn(on_a_thread_of_its_own).join().unwrap();
    }
}
