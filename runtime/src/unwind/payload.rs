//! What an unwinding carries, and how to run user code that must come to its end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::prim::thread::Unwinding;
use crate::raw::cancel_scope::CancelScope;
use crate::raw::error::JoinError;
use crate::raw::header::Payload;
use crate::unwind::running::{running, uncancellable};

/// The payload of an unwinding that is raised for a cancellation or a cancel scope. Private, so
/// that nobody else can raise or recognise it.
pub(crate) struct Cancelled {
    /// The number of the task, or thread, that raised it.
    id: u64,
    /// Which of its unwindings this is.
    serial: u32,
    /// The address of the scope; zero for a cancellation.
    scope: usize,
    _unwinding: Unwinding,
}

impl Cancelled {
    pub(super) fn new(id: u64, serial: u32, scope: Option<&CancelScope>) -> Self {
        Self { id, serial, scope: scope.map_or(0, |scope| std::ptr::from_ref(scope).addr()), _unwinding: Unwinding::begin() }
    }

    pub(super) fn scope(&self) -> usize {
        self.scope
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        // A task that caught the payload may have moved it anywhere. If it is not dropped in its
        // own task, that task counts as unwinding by cancellation until it ends.
        if let Some(running) = running()
            && running.id() == self.id
            && running.interrupts.unwinding.get() == self.serial
        {
            running.interrupts.unwinding.set(0);
        }
    }
}

impl JoinError {
    pub(crate) fn from_payload(payload: Payload) -> JoinError {
        if payload.is::<Cancelled>() { JoinError::cancelled() } else { JoinError::panicked(payload) }
    }
}

/// Runs `f`, which drops something for the user, to its end even if the task is cancelled. Its
/// panic is caught.
pub(crate) fn whole(f: impl FnOnce()) -> Result<(), Payload> {
    catch_unwind(AssertUnwindSafe(|| uncancellable(f)))
}

/// Drops, as [`whole`], a value that the runtime drops for the user.
pub(crate) fn drop_whole<T>(value: T) -> Result<(), Payload> {
    whole(|| drop(value))
}

/// Runs user code, as [`whole`], when nobody is left to receive its panic: the panic hook has
/// already reported it. A payload that panics when it is dropped is leaked.
pub(crate) fn catch_and_forget(f: impl FnOnce()) {
    if let Err(payload) = whole(f)
        && let Err(second) = drop_whole(payload)
    {
        std::mem::forget(second);
    }
}
