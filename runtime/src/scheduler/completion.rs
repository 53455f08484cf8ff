//! How a task ends: its closure has run, or never will; its values are dropped; its result is kept
//! or dropped; its joiner is woken.
//!
//! # Who drops what, and where
//!
//! When the runtime drops something for the user, it runs the user's code. A destructor may do
//! anything: it may wait, say, to tell a partner that this value is going away. So each place
//! answers three questions. *Put off* means that nothing ends the destructor halfway: neither the
//! cancellation of the task whose stack it is, nor a limit around it ([`whole`],
//! [`catch_and_forget`]). During an unwinding that holds in any case.
//!
//! | what | on which stack | whose cancellation | may it wait |
//! |---|---|---|---|
//! | what a task's closure owns, when it returns | the task's | the task's, as in all its code | yes |
//! | the same, when it unwinds | the task's | put off: it is unwinding | yes |
//! | a closure that never runs: cancelled before its start, or its runtime ends | the task's | put off | yes |
//! | the same, for a task that gets no stack | the one that its machine reserves for this, as a task | put off | yes |
//! | the same, for a task that no queue took (because its runtime is ending, say), or that is left in a queue when the runtime has ended | that of the finder: the spawner, the monitor, or a machine that ends | put off | in a task, yes; otherwise it blocks the thread |
//! | a result without a handle, a payload that nobody takes | the task's, after the closure | put off | yes |
//! | a task's `task_local!` values | the task's, after the result | put off | yes |
//! | a result that is dropped with its handle | that of the handle's owner | the owner's, as for any value it drops | as for the owner |
//! | a result of a scope's child, or an error of a group's member, that another panic supersedes | the child's or the member's; or the waiter's | put off | yes |
//! | the closure of a scope's or group's task that begins after they were cancelled | the task's | put off | yes |
//! | jobs in the queue of a pool that is dropped, results that nobody waits for | a worker's | put off | yes |
//! | what the hook of [`on_panic`](crate::RuntimeBuilder::on_panic) owns and does | the panicked task's | put off | yes |
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
    /// Runs the task to its end: closure, result, its task-locals, completion, the joiner's wake,
    /// the scheduler's reference.
    ///
    /// # Safety
    /// The caller took the fresh task from its queue, and calls this once, on the task's own stack.
    /// The task may be gone afterwards.
    #[inline]
    pub(crate) unsafe fn run(self, cells: Option<&SlabCache>) {
        if self.state().is_cancelled() {
            // SAFETY: the caller took the fresh task from its queue, as `# Safety` demands.
            unsafe { self.end_unrun(JoinError::cancelled(), None) };
        } else {
            // SAFETY: header rule 5: the fresh task's closure is the caller's. It left no result,
            // so the room for one is free.
            unsafe {
                if let Some(payload) = self.run_closure() {
                    self.set_error(self.ended_by(payload, None));
                }
            }
        }
        // SAFETY: the result was written above.
        unsafe { self.finish(cells) };
    }

    /// Turns the payload of an unwinding that has ended the task into an error. A panic is reported
    /// here, before anybody learns of the end: to `shared`, or to the runtime of the machine that
    /// this thread is.
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
    /// The caller took the fresh task from its queue, or could not put it into one. It is a machine
    /// between two tasks, the monitor, or the spawner, which may be a task. The closure is dropped
    /// on the caller's stack, which runs user code that may do anything. So the caller holds no
    /// lock and has nothing half done. The task may be gone afterwards.
    pub(crate) unsafe fn fail(self, error: JoinError, shared: &Shared) {
        // SAFETY: the caller owns the fresh task, as `# Safety` demands; the first call writes the
        // result.
        unsafe {
            self.end_unrun(error, Some(shared));
            self.finish(None);
        }
    }

    /// Drops the closure, and leaves this error as the result, or the panic of the closure's
    /// destructors.
    ///
    /// # Safety
    /// The caller took the fresh task from its queue, or could not put it into one, and calls this
    /// once.
    #[cold]
    unsafe fn end_unrun(self, error: JoinError, shared: Option<&Shared>) {
        // SAFETY: header rule 5: a fresh task's closure is the caller's.
        let dropped = whole(|| unsafe { self.drop_closure() });
        let error = dropped.map_or_else(|payload| self.ended_by(payload, shared), |()| error);
        // SAFETY: header rule 5: the closure is gone.
        unsafe { self.set_error(error) };
    }

    /// # Safety
    /// The result has been written by this caller, who holds the scheduler's reference.
    unsafe fn finish(self, cells: Option<&SlabCache>) {
        let mut dropped = false;
        if !self.state().has_handle() {
            // SAFETY: header rule 5: no handle is left, so the result is this task's.
            catch_and_forget(|| unsafe { self.drop_result() });
            dropped = true;
        }
        // SAFETY: header rule 2: null, or written before the task started, and the task runs here.
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
                    // SAFETY: that was the last reference. Nobody was left to read the result, so
                    // it has been dropped.
                    unsafe { self.free(cells) };
                    return;
                }
                TransitionToComplete::WakeJoiner => {
                    // SAFETY: header rule 4: the completing task reads the joiner after JOINER is
                    // set. The joiner waits for this one wake.
                    unsafe { self.joiner().wake() };
                    return;
                }
                TransitionToComplete::DropResult => {
                    if let Some(record) = record {
                        record.set_ending(false);
                    }
                    // SAFETY: header rule 5: the handle was dropped in the meantime.
                    catch_and_forget(|| unsafe { self.drop_result() });
                    // The result's destructor may have used some.
                    end_locals(record);
                    dropped = true;
                }
            }
        }
    }
}

/// Drops the `task_local!` values of the running task at its end. A task that never ran has no
/// record.
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
    // SAFETY: the locals were made for this task, which runs here, and are freed only here. The
    // pointer stays while the values are dropped, since they may use each other.
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
        // SAFETY: the machine bound a fresh task to this stack and resumed it. A task stays on its
        // thread, so the machine and its cache outlive the call.
        unsafe { task.run(local::machine().map(|m| m.cells())) };
        record.end();
        yielder.suspend(Suspend::Done);
    }
}

/// The same for a reserved stack (see [`Reserve`](super::reserve::Reserve)): it ends one task after
/// another without running them.
pub(crate) fn body_of_reserve(yielder: &Yielder<(), Suspend>, stack: StackPtr) {
    let record = stack.record();
    record.begin(yielder);
    loop {
        let local = local::machine().expect("only its machine resumes it");
        // SAFETY: the machine took the fresh task from its queue, bound it to this stack and
        // resumed it.
        unsafe { local.end_refused(record.task()) };
        record.end();
        yielder.suspend(Suspend::Refused);
    }
}
