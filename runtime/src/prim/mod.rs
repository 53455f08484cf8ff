//! The seam for verification: the only place that names std's atomics, cells, locks, threads and clock.
//!
//! A plain build takes them from std ([`real`]); under `cfg(greenloom_loom)` the same names are loom's ([`model`]), so that the
//! scheduler's real code runs inside the model checker. Nothing here decides anything: it is vocabulary.
//!
//! [`Lock`] is the lock for sections of a few instructions: waiting lists, channels, timers.
//!
//! [`untracked`] is std's in both builds. It holds counters and labels that other threads may read at any time but that no
//! protocol depends on; tracking them would only multiply the states a model has to visit.

#[cfg(not(greenloom_loom))]
mod real;
#[cfg(not(greenloom_loom))]
pub(crate) use real::*;

#[cfg(greenloom_loom)]
mod model;
#[cfg(greenloom_loom)]
pub(crate) use model::*;

/// Counters and labels that no protocol depends on: std's atomics in both builds. [`Arc`](untracked::Arc) is for names.
pub(crate) mod untracked {
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
    pub(crate) use std::sync::{Arc, Mutex, OnceLock, RwLock};
}

/// Writes a line to stderr, past std's lock: a suspended or stuck task may hold that. What cannot be written is lost.
pub(crate) fn say(line: std::fmt::Arguments<'_>) {
    let line = format!("{line}\n");
    // SAFETY: the buffer is readable for its length.
    unsafe { libc::write(libc::STDERR_FILENO, line.as_ptr().cast(), line.len()) };
}

/// Asks the CPU to fetch the line at this address, if it is one, so that it can be written. The seam for other architectures.
///
/// For writing: a line that another CPU has changed comes as a shared copy if it is read first, and must be asked for again at the first write,
/// which takes as long once more. (CPUs that do not know the instruction take it for none, but for the first 64-bit Pentium 4s.)
#[inline(always)]
pub(crate) fn prefetch_to_write<T>(address: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint, which never faults.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) address, options(readonly, nostack, preserves_flags));
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = address;
}

/// Where the caller's stack ends, or an address nearby; for hints alone. The seam for other architectures.
#[inline(always)]
pub(crate) fn stack_pointer() -> *const u8 {
    let address: *const u8;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: reads a register.
    unsafe {
        std::arch::asm!("mov {}, rsp", out(reg) address, options(nomem, nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        let here = 0u8;
        address = &raw const here;
    }
    address
}

/// Process-wide unique numbers for tasks, taken in blocks so that spawning touches no shared line.
///
/// Returns the first of `count` numbers; zero is never handed out.
pub(crate) fn take_ids(count: u64) -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    // Relaxed: uniqueness comes from the RMW alone.
    NEXT.fetch_add(count, std::sync::atomic::Ordering::Relaxed)
}

/// The next number of a generator that is not zero: xorshift64 (Marsaglia, 2003).
#[inline]
pub(crate) fn next_random(state: &std::cell::Cell<u64>) -> u64 {
    let mut x = state.get();
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    state.set(x);
    x
}
