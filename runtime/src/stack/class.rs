//! The sizes of stacks, and of the slots that hold them.

use std::{fmt, io};

use super::guard::PAGE_BYTES;

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * KIB;
pub(super) const GIB: usize = 1024 * MIB;

/// The smallest size of a stack: a signal frame with AVX-512 state alone nearly fills a page.
pub(super) const MIN_STACK_BYTES: usize = 1 << Class::MIN;
const MAX_STACK_BYTES: usize = 1 << Class::MAX;

/// The size of a stack: a power of two, from 16 KiB (2^14) to 1 GiB (2^30).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(pub(super) u8);

impl Class {
    const MIN: u8 = 14;
    const MAX: u8 = 30;

    /// The size for a task that asks for none: 128 KiB, or 1 MiB if the crate was built with debug
    /// assertions, since frames of unoptimised code are five to ten times as large.
    ///
    /// 128 KiB is twice what everyday crates use in a release build. The next larger class would
    /// take a parked task beyond 4,700 bytes: its share of a page table grows with its slot, from
    /// 408 to 648 bytes.
    pub(crate) const DEFAULT: Class = Class(if cfg!(debug_assertions) { 20 } else { 17 });

    /// The minimum for the root task of a `run`, in every build: 8 MiB, which is what Linux gives a
    /// program's `main`.
    pub(crate) const ROOT: Class = Class(23);

    /// The number of classes.
    pub(crate) const COUNT: usize = (Class::MAX - Class::MIN) as usize + 1;

    /// The smallest class whose stacks have at least `bytes`.
    ///
    /// Addresses cost nothing; memory is only used where the stack is touched.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `bytes` is less than 16 KiB or more than 1 GiB.
    pub(crate) fn for_stack(bytes: usize) -> io::Result<Class> {
        let invalid = |text: String| Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        if bytes < MIN_STACK_BYTES {
            return invalid(format!(
                "a stack of {bytes} bytes is too small: it needs at least {}, since a signal handler may run on it",
                Size(MIN_STACK_BYTES)
            ));
        }
        if bytes > MAX_STACK_BYTES {
            return invalid(format!(
                "a stack of {bytes} bytes is too large: at most {} are possible; move large data to the heap",
                Size(MAX_STACK_BYTES)
            ));
        }
        Ok(Class(bytes.next_power_of_two().ilog2() as u8))
    }

    /// The larger of the two.
    pub(crate) fn max(self, other: Class) -> Class {
        if self.0 < other.0 { other } else { self }
    }

    /// The bytes of its stack that a task may use, whatever the slot's colour.
    pub(crate) const fn stack_bytes(self) -> usize {
        1 << self.0
    }

    /// The size of the guard below the stack: a quarter of the stack, at least 64 KiB and at most 1
    /// MiB, plus two pages.
    ///
    /// Rust probes its frames page by page, so one page would do for Rust alone. C code is often
    /// compiled without probes. A frame of which only the low end is written then steps over a
    /// guard that is smaller than the frame. glibc takes up to 64 KiB for a buffer in a frame; the
    /// kernel keeps 1 MiB free below the stack of `main`. The two pages are for the rest of such a
    /// frame.
    pub(super) const fn guard_bytes(self) -> usize {
        let quarter = self.stack_bytes() / 4;
        let bytes = if quarter < 64 * KIB {
            64 * KIB
        } else if quarter > MIB {
            MIB
        } else {
            quarter
        };
        bytes + 2 * PAGE_BYTES
    }

    /// The distance from one slot to the next: guard, stack, and the top page with record and
    /// colour. An odd number of pages.
    pub(super) const fn stride(self) -> usize {
        self.guard_bytes() + self.stack_bytes() + PAGE_BYTES
    }

    /// A dense index, less than [`Class::COUNT`].
    pub(crate) const fn index(self) -> usize {
        (self.0 - Class::MIN) as usize
    }
}

/// A number of bytes for an error message, in the largest unit that divides it.
pub(super) struct Size(pub(super) usize);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, name) = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")]
            .into_iter()
            .find(|(unit, _)| self.0.is_multiple_of(*unit))
            .unwrap_or((1, "bytes"));
        write!(f, "{} {name}", self.0 / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> impl Iterator<Item = Class> {
        (Class::MIN..=Class::MAX).map(Class)
    }

    #[test]
    fn a_stack_gets_at_least_the_bytes_asked_for_and_less_than_twice_as_many() {
        for bytes in [16 * KIB, 16 * KIB + 1, 40 * KIB, 64 * KIB, 100_000, 128 * KIB, MIB, GIB - 1, GIB] {
            let class = Class::for_stack(bytes).unwrap();
            assert!((bytes..2 * bytes).contains(&class.stack_bytes()), "{bytes}: {class:?}");
        }
        let default = if cfg!(debug_assertions) { MIB } else { 128 * KIB };
        assert_eq!(Class::DEFAULT.stack_bytes(), default);
        assert_eq!(Class::DEFAULT.max(Class::ROOT).stack_bytes(), 8 * MIB);
        assert_eq!(Class(24).max(Class::ROOT), Class(24));
    }

    #[test]
    fn a_guard_is_a_quarter_of_its_stack_within_limits_and_strides_are_odd() {
        for class in classes() {
            let (stack, guard) = (class.stack_bytes(), class.guard_bytes());
            assert!(guard > 64 * KIB && guard > (stack / 4).min(MIB) && guard <= MIB + 8 * KIB, "{class:?}: {guard}");
            assert_eq!((guard + stack) % PAGE_BYTES, 0);
            assert!(!(class.stride() / PAGE_BYTES).is_multiple_of(2), "{class:?}");
        }
    }

    #[test]
    fn impossible_stack_sizes_are_refused_with_the_limits() {
        for (bytes, limit) in [(0, "16 KiB"), (16 * KIB - 1, "16 KiB"), (GIB + 1, "1 GiB"), (usize::MAX, "1 GiB")] {
            let error = Class::for_stack(bytes).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert!(error.to_string().contains(limit), "{error}");
        }
    }

    #[test]
    fn class_indices_are_dense() {
        assert_eq!(classes().map(Class::index).collect::<Vec<_>>(), (0..Class::COUNT).collect::<Vec<_>>());
    }
}
