//! Hints to the CPU, and its stack pointer: the seam for other architectures.

/// Asks the CPU to fetch the cache line at this address so that it can be written. The address need
/// not be valid.
///
/// If a line that another CPU has changed is read first, it comes as a shared copy. The first write
/// must then ask for it again, which takes as long once more. (CPUs that do not know the
/// instruction ignore it, except for the first 64-bit Pentium 4s.)
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

/// The end of the caller's stack, or an address nearby; for hints only.
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
