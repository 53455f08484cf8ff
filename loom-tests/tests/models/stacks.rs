//! Stacks of loom's threads, kept from one execution for the next.
//!
//! loom starts its threads anew in each execution, of which a model has up to a million, and `generator` maps a stack for each thread.
//! Of the models' time, two thirds were the kernel's for that. So this program takes the place of libc's `mmap` and `munmap`: a stack that
//! is given back is kept, with its guard, and is what the next one is made of. What it holds does not matter to `generator`, which
//! reads nothing that it has not written.

use std::ffi::{c_int, c_long, c_void};
use std::sync::Mutex;

struct Stack {
    address: usize,
    length: usize,
    is_free: bool,
}

/// All that were ever mapped: as many as there are threads in the largest execution.
static STACKS: Mutex<Vec<Stack>> = Mutex::new(Vec::new());

/// libc's, but for stacks.
///
/// # Safety
///
/// libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    address: *mut c_void,
    length: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    let is_stack = flags & libc::MAP_STACK != 0;
    if is_stack && let Some(kept) = STACKS.lock().unwrap().iter_mut().find(|stack| stack.is_free && stack.length == length) {
        kept.is_free = false;
        return kept.address as *mut c_void;
    }
    // SAFETY: what the caller has promised to libc.
    let mapped = unsafe { libc::syscall(libc::SYS_mmap, address, length, protection, flags, file, offset) };
    if is_stack && mapped != -1 {
        STACKS.lock().unwrap().push(Stack { address: mapped as usize, length, is_free: false });
    }
    mapped as *mut c_void
}

/// libc's, but for stacks.
///
/// # Safety
///
/// libc's.
#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(address: *mut c_void, length: usize) -> c_int {
    let mut stacks = STACKS.lock().unwrap();
    if let Some(stack) = stacks.iter_mut().find(|stack| stack.address == address as usize && stack.length == length) {
        stack.is_free = true;
        return 0;
    }
    // SAFETY: what the caller has promised to libc.
    let result: c_long = unsafe { libc::syscall(libc::SYS_munmap, address, length) };
    result as c_int
}
