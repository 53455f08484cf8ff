//! What is left of a runtime in a forked process.
//!
//! `fork` copies the memory of a process and one of its threads. So a runtime of the parent's is
//! all there in the child: queues, stacks, tasks in the middle of their work. But none of its
//! threads are. Nothing of it may go on in the child, where it would do again what the parent does.
//! Code that relies on it would wait forever.
//!
//! 1. Each process has a number, from the same sequence as those of tasks and runtimes (see
//!    [`prim::process`](crate::prim::process)). What has a smaller number was made in a process
//!    that this one was forked from.
//! 2. Code that runs something in such a runtime, or that waits for it or for one of its tasks on a
//!    plain thread, checks this and reports it instead of waiting. Dropping the runtime does
//!    nothing.
//! 3. A task that forks finds itself on the child's only thread. There it is no longer a task, only
//!    the end of a stack: it may compute, start threads, `exec` and exit. If it would be suspended,
//!    the process aborts with a message. The process also aborts if the task ends, so that its
//!    machine does not go on to other tasks. The task does not unwind: its destructors belong to
//!    the parent. Neither check costs the parent anything: the first is one that
//!    [`no_suspend`](crate::no_suspend) needs anyway, the second one that the machine makes when
//!    its thread unwinds. A switch hook that forks may also `exec` and exit; if it would return,
//!    the process aborts.
//! 4. What belongs to the process, the clock of contexts, is made anew by each process.

use crate::prim::process;
use crate::raw::machine::{self, machine};
use crate::raw::outside;
use crate::raw::reason::Reason;
use crate::sys::stderr::say;

/// Why a runtime does nothing.
pub(crate) const ELSEWHERE: &str =
    "the runtime belongs to the process that this one was forked from, and so do its threads; build a new Runtime here";

/// What a task that forked may do.
const MAY: &str = "in a process that was forked by a task, that task can neither be suspended nor end, since all that would go on is the \
                   parent's: call exec or _exit, or build a new Runtime on a new thread";

/// Sets up what must happen in processes that are forked from this one.
pub(crate) fn watch() {
    process::watch_forks(begin_child);
}

/// Runs in a child that has just been forked, on its only thread, which may be a machine of the
/// parent's.
fn begin_child() {
    outside::forget();
    if let Some(machine) = machine()
        && let Some(record) = machine.record()
    {
        // Never allowed again.
        record.forbid_suspension();
        // When its task switches away, which can only be at its end, the machine checks this, as it
        // does when a task unwinds.
        machine.panics.note_somebody();
    }
}

/// Called when a task of the parent's would be suspended.
#[cold]
pub(crate) fn refuse_to_suspend(reason: Reason) -> ! {
    say(format_args!("greenloom: fatal error: {MAY}; it would be {}", reason.describe()));
    std::process::abort();
}

/// Called when a task would be run in a runtime of the parent's, whose locks other threads may have
/// held.
///
/// # Panics
/// Unless the caller is a task of the parent's, which must not unwind: then the process aborts.
#[cold]
#[track_caller]
pub(crate) fn refuse_to_run() -> ! {
    if machine::record().is_some_and(|record| !process::made_here(record.id())) {
        refuse_to_suspend(Reason::Join);
    }
    panic!("greenloom: cannot spawn a task: {ELSEWHERE}")
}

/// Called when a task of the parent's has ended.
#[cold]
pub(crate) fn refuse_to_go_on() -> ! {
    say(format_args!("greenloom: fatal error: {MAY}; it has ended"));
    std::process::abort();
}

/// Called when a switch hook has forked and returns: the machine would go on to the parent's task.
#[cold]
pub(crate) fn refuse_to_leave_hook() -> ! {
    say(format_args!(
        "greenloom: fatal error: in a process that was forked by a hook at switches, that hook cannot return, since all that would go on is \
         the parent's: call exec or _exit"
    ));
    std::process::abort();
}

/// Called when a plain thread would wait for the parent's tasks, with a frame that they might use
/// if they were here.
#[cold]
pub(crate) fn refuse_to_wait() -> ! {
    say(format_args!("greenloom: fatal error: a scope waits for its tasks, but {ELSEWHERE}"));
    std::process::abort();
}
