//! Hints to the CPU, and its stack pointer: the seam for other architectures.

/// Asks the CPU to fetch the line at this address, if it is one, so that it can be written.
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

/// Where the caller's stack ends, or an address nearby; for hints alone.
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
