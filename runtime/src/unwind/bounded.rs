//! Frames that a task can be unwound to; what lies in them is a [`Bound`].

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::from_ref;

use crate::raw::bound::{Bound, Due};
use crate::raw::header::Payload;
use crate::unwind::payload::Cancelled;
use crate::unwind::running::{Running, Section, SectionKind};

/// What [`bounded`] was ended by.
#[derive(Debug)]
pub(crate) struct Tripped;

/// What came of [`bounded`].
#[must_use]
pub(crate) struct Bounded<T> {
    pub(crate) result: Result<T, Tripped>,
    /// The bound is tripped, if too late to end anything.
    pub(crate) tripped: bool,
}

/// Runs `f`; a trip of the bound ends it.
///
/// `arm` makes the bound known to whoever may trip it; `disarm` takes that back, after which nobody does.
///
/// # Panics
/// If `f` does. In a build with `panic = "abort"`.
#[inline(always)]
#[track_caller]
pub(crate) fn bounded<T>(
    Running { interrupts, task }: Running<'_>,
    due: Due,
    arm: impl FnOnce(&Bound),
    disarm: impl FnOnce(&Bound),
    f: impl FnOnce() -> T,
) -> Bounded<T> {
    if cfg!(panic = "abort") {
        refuse();
    }
    let bound = Bound::new(interrupts, task, due);
    let section = Section::enter(interrupts, SectionKind::Bound);
    arm(&bound);
    interrupts.bound.set(&bound);
    let result = catch_unwind(AssertUnwindSafe(f));
    drop(section);
    disarm(&bound);
    let tripped = bound.leave(interrupts);
    let result = match result {
        Ok(value) if bound.raised.get() == 0 => Ok(value),
        Ok(_swallowed) => Err(Tripped),
        Err(payload) => unwound(payload, &bound),
    };
    Bounded { result, tripped }
}

/// An unwinding has come to the frame of a bound: it ends here if it is the bound's own.
#[cold]
fn unwound<T>(payload: Payload, bound: &Bound) -> Result<T, Tripped> {
    match payload.downcast::<Cancelled>() {
        // An old payload that somebody has kept may have the same address in it.
        Ok(raised) if raised.bound() == from_ref(bound).addr() && bound.raised.get() > 0 => Err(Tripped),
        Ok(raised) => resume_unwind(raised),
        Err(payload) => resume_unwind(payload),
    }
}

#[cold]
#[track_caller]
fn refuse() -> ! {
    panic!(
        "a limit of time, or of a context, ends code by unwinding, which this program cannot: it was built with panic = \"abort\""
    )
}
