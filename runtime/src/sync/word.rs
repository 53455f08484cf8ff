//! Changing the word of a primitive step by step.

use crate::prim::atomic::{AtomicU32, AtomicUsize, Ordering};

/// An atomic that a primitive keeps its state in.
pub(super) trait Word {
    type Value: Copy + PartialEq;

    fn read(&self) -> Self::Value;

    /// AcqRel; may fail for no reason.
    fn replace(&self, seen: Self::Value, next: Self::Value) -> Result<Self::Value, Self::Value>;
}

macro_rules! words {
    ($($word:ty: $value:ty),*) => {$(
        impl Word for $word {
            type Value = $value;

            #[inline(always)]
            fn read(&self) -> $value {
                self.load(Ordering::Relaxed)
            }

            #[inline(always)]
            fn replace(&self, seen: $value, next: $value) -> Result<$value, $value> {
                self.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed)
            }
        }
    )*};
}

words!(AtomicU32: u32, AtomicUsize: usize);

/// Changes the word as `step` says, and returns what else `step` says. If `step` leaves the word as
/// it is, nothing is written, and nothing is ordered.
///
/// AcqRel otherwise: whoever changes the word sees what was done before the changes that led to the
/// value it saw.
#[inline(always)]
pub(super) fn change<W: Word, R>(word: &W, mut step: impl FnMut(W::Value) -> (W::Value, R)) -> R {
    let mut seen = word.read();
    loop {
        let (next, answer) = step(seen);
        if next == seen {
            return answer;
        }
        match word.replace(seen, next) {
            Ok(_) => return answer,
            Err(now) => seen = now,
        }
    }
}
