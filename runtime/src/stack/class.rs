//! The sizes of slots.

use std::{fmt, io};

use super::guard::{GUARD_BYTES, PAGE_BYTES};
use super::slab::{MAX_COLOUR, RECORD_BYTES};

pub(super) const KIB: usize = 1024;
pub(super) const MIB: usize = 1024 * KIB;
pub(super) const GIB: usize = 1024 * MIB;

/// The least that a stack may be: a signal frame with AVX-512 state alone nearly fills a page.
pub(super) const MIN_STACK_BYTES: usize = 16 * KIB;
const MAX_STACK_BYTES: usize = GIB;

/// A slot size: the power of two, from 64 KiB (2^16) to 2 GiB (2^31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(pub(super) u8);

impl Class {
    const MIN: u8 = 16;
    const MAX: u8 = 31;

    /// Slots of 128 KiB.
    pub(crate) const DEFAULT: Class = Class(17);

    /// How many classes there are.
    pub(crate) const COUNT: usize = (Class::MAX - Class::MIN) as usize + 1;

    /// What a slot holds besides the stack, with the largest colour.
    const OVERHEAD: usize = GUARD_BYTES + MAX_COLOUR + RECORD_BYTES;

    /// The smallest class whose slots have at least `bytes` of stack.
    ///
    /// Guard, colour and record come on top of `bytes`, so a size that is itself a power of two
    /// takes the class above it: 64 KiB of stack are in a slot of 128 KiB, and 128 KiB in one of
    /// 256 KiB. Addresses cost nothing; memory is only used where the stack is touched.
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
        let slot = (bytes + Class::OVERHEAD).next_power_of_two();
        Ok(Class((slot.ilog2() as u8).max(Class::MIN)))
    }

    /// The size of a slot: guard, stack, record and colour.
    pub(crate) const fn slot_bytes(self) -> usize {
        1 << self.0
    }

    /// From one slot to the next: an odd number of pages.
    pub(super) const fn stride(self) -> usize {
        self.slot_bytes() + PAGE_BYTES
    }

    /// The stack that each slot of this class has at least, whatever its colour.
    pub(crate) const fn usable_bytes(self) -> usize {
        self.slot_bytes() - Class::OVERHEAD
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
    fn a_stack_gets_at_least_the_bytes_asked_for() {
        for bytes in [16 * KIB, 40 * KIB, 64 * KIB, 100_000, 128 * KIB, MIB, GIB - 1, GIB] {
            let class = Class::for_stack(bytes).unwrap();
            assert!(class.usable_bytes() >= bytes, "{bytes}: {class:?}");
            let smaller = class.slot_bytes() / 2;
            assert!(smaller < 64 * KIB || smaller < bytes + Class::OVERHEAD, "{bytes}: {class:?} is too large");
        }
        for class in classes() {
            if class.usable_bytes() <= MAX_STACK_BYTES {
                assert_eq!(Class::for_stack(class.usable_bytes()).unwrap(), class);
                assert_eq!(Class::for_stack(class.usable_bytes() + 1).unwrap().index(), class.index() + 1);
            }
        }
        assert_eq!(Class::DEFAULT.slot_bytes(), 128 * KIB);
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
