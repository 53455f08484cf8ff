//! How a task ends: its closure has run, or never will; its values are dropped, its result is left or dropped, whoever joins it is woken.
//!
//! # Who drops what, and where
//!
//! Code of users runs where the runtime drops something for them. A destructor may do anything: wait, say, to tell a partner that
//! this goes. So each place has an answer to three questions. *Put off* means that neither the cancellation of the task whose stack
//! it is, nor a limit around, ends the destructor half way ([`whole`], [`catch_and_forget`]); in an unwinding that is so
//! anyway.
//!
//! | what | on which stack | whose cancellation | may it wait |
//! |---|---|---|---|
//! | what a task's closure owns, when it returns | the task's | the task's, as in all its code | yes |
//! | the same, when it unwinds | the task's | put off: it unwinds | yes |
//! | a closure that never runs: cancelled before its start, or its runtime ends | the task's | put off | yes |
//! | the same, of a task for which there is no stack | the one that its machine keeps for that, as a task | put off | yes |
//! | the same, of a task that no queue took, because its runtime is ending, say, or that is left in one when it has ended | whoever finds that out: its spawner, the monitor, a machine that ends | put off | in a task, yes; else it blocks the thread |
//! | a result without a handle, a payload that nobody takes | the task's, after the closure | put off | yes |
//! | a task's `task_local!` values | the task's, after the result | put off | yes |
//! | a result that goes with its handle | that of the handle's owner | the owner's, as of any value it drops | as the owner |
//! | a result of a scope's child, an error of a group's member, that somebody else's panic supersedes | the child's, the member's; or that of whoever waits | put off | yes |
//! | a closure of a scope's or group's task that begins after they were cancelled | the task's | put off | yes |
//! | jobs in the queue of a pool that is dropped, results that nobody waits for | a worker's | put off | yes |
//! | what [`on_panic`](crate::RuntimeBuilder::on_panic)'s hook owns and does | the panicked task's | put off | yes |
//! | the values of a plain thread's `task_local!` | the thread's, at its end | it has none | it blocks the thread |

use corosensei::Yielder;

use crate::raw::error::JoinError;
use crate::raw::header::{Payload, TaskPtr};
use crate::raw::locals::Locals;
use crate::raw::record::{Record, StackPtr, Suspend};
use crate::raw::state::TransitionToComplete;
use crate::raw::task_slab::SlabCache;
use crate::scheduler::{Shared, local, report};
use crate::unwind::{self, Cancelled, catch_and_forget, whole};

impl TaskPtr {
    /// Runs the task to its end: closure, result, its task-locals, completion, the joiner's wake, the scheduler's reference.
    ///
    /// # Safety
    /// On the task's own stack, once, by whoever took the fresh task from its queue. The task may be gone afterwards.
    #[inline]
    pub(crate) unsafe fn run(self, cells: Option<&SlabCache>) {
        if self.state().is_cancelled() {
            // SAFETY: the caller's promise.
            unsafe { self.end_unrun(JoinError::cancelled(), None) };
        } else {
            // SAFETY: the caller's promise; without a result, its room is free.
            unsafe {
                if let Some(payload) = self.run_closure() {
                    self.set_error(self.ended_by(payload, None));
                }
            }
        }
        // SAFETY: the result has been written here.
        unsafe { self.finish(cells) };
    }

    /// What an unwinding means that has ended the task. A panic is reported here, before anybody hears of the end: to `shared`, or to
    /// the runtime of the machine that this thread is.
    #[cold]
    pub(crate) fn ended_by(self, payload: Payload, shared: Option<&Shared>) -> JoinError {
        if !payload.is::<Cancelled>() {
            report::panicked(self, &*payload, shared.or_else(|| local::machine().map(|local| &*local.shared)));
        }
        JoinError::from_payload(payload)
    }

    /// Ends a task of `shared` that cannot be started, or never will be.
    ///
    /// # Safety
    /// By whoever took the fresh task from its queue, or did not get it into one: a machine between two tasks, the monitor, or
    /// whoever spawned it, be that a task. The closure is dropped on the caller's stack, by code of the user's that may do anything;
    /// so the caller holds no lock and has nothing half done. The task may be gone afterwards.
    pub(crate) unsafe fn fail(self, error: JoinError, shared: &Shared) {
        // SAFETY: the caller's promise; the result is written by the first.
        unsafe {
            self.end_unrun(error, Some(shared));
            self.finish(None);
        }
    }

    /// Drops the closure, and leaves this error, or what the closure's destructors have panicked with.
    ///
    /// # Safety
    /// By whoever took the fresh task from its queue, or did not get it into one; once.
    #[cold]
    unsafe fn end_unrun(self, error: JoinError, shared: Option<&Shared>) {
        // SAFETY: rule 5 of the header: a fresh task's closure is the caller's.
        let dropped = whole(|| unsafe { self.drop_closure() });
        let error = dropped.map_or_else(|payload| self.ended_by(payload, shared), |()| error);
        // SAFETY: rule 5 of the header: the closure is gone.
        unsafe { self.set_error(error) };
    }

    /// # Safety
    /// The result has been written, by this caller, who holds the scheduler's reference.
    unsafe fn finish(self, cells: Option<&SlabCache>) {
        let mut dropped = false;
        if !self.state().has_handle() {
            // SAFETY: no handle is left, so the result is this task's (rule 5 of the header).
            catch_and_forget(|| unsafe { self.drop_result() });
            dropped = true;
        }
        // SAFETY: rule 2 of the header: written before the task started, which runs here, or null.
        let record = unsafe { self.record().as_ref() };
        end_locals(record);
        loop {
            if let Some(record) = record {
                // Before the completion: afterwards nobody may touch what a section has noted.
                if record.interrupts().is_in_section() {
                    unwind::ended_in_section(record);
                }
                record.set_ending(true);
            }
            match self.state().complete(dropped) {
                TransitionToComplete::Done => return,
                TransitionToComplete::Free => {
                    // SAFETY: that was the last reference, and nobody was left to read the result, so it has been dropped.
                    unsafe { self.free(cells) };
                    return;
                }
                TransitionToComplete::WakeJoiner => {
                    // SAFETY: rule 4 of the header: the completing task reads the cell after JOINER; the joiner waits for this one wake.
                    unsafe { self.joiner().wake() };
                    return;
                }
                TransitionToComplete::DropResult => {
                    if let Some(record) = record {
                        record.set_ending(false);
                    }
                    // SAFETY: rule 5 of the header: the handle went in the meantime.
                    catch_and_forget(|| unsafe { self.drop_result() });
                    // Its destructor may have used some.
                    end_locals(record);
                    dropped = true;
                }
            }
        }
    }
}

/// Drops the values that the running task has by `task_local!`, at its end; one that never ran has no record.
#[inline]
fn end_locals(record: Option<&Record>) {
    if let Some(record) = record
        && !record.locals().is_null()
    {
        drop_locals(record);
    }
}

#[cold]
fn drop_locals(record: &Record) {
    let locals = record.locals();
    // SAFETY: made for this task, which is the one that runs here, and freed here alone. The pointer stays while the values are dropped,
    // which may use each other.
    unsafe {
        (*locals).take_all(|value| catch_and_forget(|| drop(value)));
        record.set_locals(std::ptr::null());
        Locals::free(locals);
    }
}

/// What the coroutine of a stack runs: one task after another.
pub(crate) fn body(yielder: &Yielder<(), Suspend>, stack: StackPtr) {
    let record = stack.record();
    record.begin(yielder);
    loop {
        let task = record.task();
        // SAFETY: the machine bound a fresh task to this stack and resumed it. A task stays on its thread, so the machine, and
        // its cache, outlive the call.
        unsafe { task.run(local::machine().map(|m| m.cells())) };
        record.end();
        yielder.suspend(Suspend::Done);
    }
}

/// The same of a stack that is reserved (see [`Reserve`](super::reserve::Reserve)): it ends one task after another without a run.
pub(crate) fn body_of_reserve(yielder: &Yielder<(), Suspend>, stack: StackPtr) {
    let record = stack.record();
    record.begin(yielder);
    loop {
        let local = local::machine().expect("only its machine resumes it");
        // SAFETY: the machine took the task from its queue, fresh, bound it to this stack and resumed it.
        unsafe { local.end_refused(record.task()) };
        record.end();
        yielder.suspend(Suspend::Refused);
    }
}
