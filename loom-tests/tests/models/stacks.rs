//! Stacks of loom's threads, kept from one execution for the next.
//!
//! loom starts its threads anew in each execution, of which a model has up to a million, and `generator` maps a stack for each thread.
//! Two thirds of the time of the models were the kernel's, for that. So this program takes the place of libc's `mmap` and `munmap`: a
//! stack that is given back is kept, with its guard, and is what the next one is made of. What it holds does not matter to
//! `generator`, which reads nothing that it has not written.
//!
//! One thing is lost: a reference into the frame of a thread that has ended no longer faults. What loom watches, it still reports.

use std::ffi::{c_int, c_long, c_void};
use std::sync::{Mutex, MutexGuard};

struct Stack {
    address: usize,
    length: usize,
    is_free: bool,
}

/// All that were ever mapped: as many as there are threads in the largest execution.
static STACKS: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

fn stacks() -> MutexGuard<'static, Vec<Stack>> {
    STACKS.lock().unwrap_or_else(|e| e.into_inner())
}

/// libc's, but for stacks.
///
/// # Safety
///
/// The caller keeps libc's contract.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: libc::off_t,
) -> *mut c_void {
    // As `generator` asks for them, and nobody else.
    let is_stack = address.is_null()
        && protection == libc::PROT_READ | libc::PROT_WRITE
        && flags == libc::MAP_PRIVATE | libc::MAP_ANON | libc::MAP_STACK
        && file == -1;
    if is_stack && let Some(kept) = stacks().iter_mut().find(|stack| stack.is_free && stack.length == length) {
        kept.is_free = false;
        return kept.address as *mut c_void;
    }
    let (protection, flags, file) = (c_long::from(protection), c_long::from(flags), c_long::from(file));
    // SAFETY: what the caller has promised to libc.
    let mapped = unsafe { libc::syscall(libc::SYS_mmap, address, length, protection, flags, file, offset) };
    if is_stack && mapped != -1 {
        stacks().push(Stack { address: mapped as usize, length, is_free: false });
    }
    mapped as *mut c_void
}

/// libc's, but for stacks.
///
/// # Safety
///
/// The caller keeps libc's contract. A stack that is given back is not used any more, as if it were not mapped.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(address: *mut c_void, length: usize) -> c_int {
    let is_this = |stack: &&mut Stack| stack.address == address as usize && stack.length == length;
    if let Some(stack) = stacks().iter_mut().find(is_this) {
        stack.is_free = true;
        return 0;
    }
    // SAFETY: what the caller has promised to libc.
    unsafe { libc::syscall(libc::SYS_munmap, address, length) as c_int }
}
