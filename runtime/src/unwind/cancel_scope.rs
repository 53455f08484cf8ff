//! Frames that a task can be unwound to; each holds a [`CancelScope`].

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::from_ref;

use crate::raw::cancel_scope::{CancelScope, Due};
use crate::raw::header::Payload;
use crate::unwind::payload::Cancelled;
use crate::unwind::running::{Running, Section, SectionKind};

/// What [`in_cancel_scope`] was ended by.
#[derive(Debug)]
pub(crate) struct ScopeCancelled;

/// The outcome of [`in_cancel_scope`].
#[must_use]
pub(crate) struct LeftScope<T> {
    pub(crate) result: Result<T, ScopeCancelled>,
    /// Whether the scope was cancelled, even if too late to end anything.
    pub(crate) cancelled: bool,
}

/// Runs `f`; cancelling the scope ends it.
///
/// `arm` makes the scope known to those who may cancel it. `disarm` takes that back; afterwards
/// nobody cancels it.
///
/// # Panics
/// If `f` panics. In a build with `panic = "abort"`.
#[inline(always)]
#[track_caller]
pub(crate) fn in_cancel_scope<T>(
    Running { interrupts, task }: Running<'_>,
    due: Due,
    arm: impl FnOnce(&CancelScope),
    disarm: impl FnOnce(&CancelScope),
    f: impl FnOnce() -> T,
) -> LeftScope<T> {
    if cfg!(panic = "abort") {
        refuse();
    }
    let scope = CancelScope::new(interrupts, task, due);
    let section = Section::enter(interrupts, SectionKind::CancelScope);
    arm(&scope);
    interrupts.scope.set(&scope);
    let result = catch_unwind(AssertUnwindSafe(f));
    drop(section);
    disarm(&scope);
    let cancelled = scope.leave(interrupts);
    let result = match result {
        Ok(value) if scope.raised.get() == 0 => Ok(value),
        Ok(_swallowed) => Err(ScopeCancelled),
        Err(payload) => unwound(payload, &scope),
    };
    LeftScope { result, cancelled }
}

/// An unwinding has reached the frame of a cancel scope: it ends here if it is the scope's own.
#[cold]
fn unwound<T>(payload: Payload, scope: &CancelScope) -> Result<T, ScopeCancelled> {
    match payload.downcast::<Cancelled>() {
        // An old payload that somebody has kept may hold the same address.
        Ok(raised) if raised.scope() == from_ref(scope).addr() && scope.raised.get() > 0 => Err(ScopeCancelled),
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
