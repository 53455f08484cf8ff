//! What is left of a runtime in a process that is forked.
//!
//! `fork` copies the memory of a process, and one of its threads. So a runtime of the parent's is all there in the child: queues, stacks,
//! tasks in the middle of their work; but none of its threads. Nothing of it may go on in the child, where it would do once more what the
//! parent does; and whoever relies on it would wait for ever.
//!
//! 1. Each process has a number, taken from those of tasks and runtimes (see [`prim::process`](crate::prim::process)): what has a smaller
//!    one was made in a process that this one was forked from.
//! 2. Whoever runs something in such a runtime, or waits for it or for one of its tasks on a plain thread, looks at that, and says so
//!    instead of waiting. Its drop does nothing.
//! 3. A task that forks finds itself on the child's only thread. There it is no task any more but the end of a stack: it may compute, start
//!    threads, `exec` and exit. Where it would be suspended the process aborts with a sentence, and also where it ends, lest its machine
//!    go on to others. It does not unwind: its destructors are the parent's. Neither costs the parent anything: the look is what
//!    [`no_suspend`](crate::no_suspend) needs anyhow, and what the machine does where its thread unwinds.
//!    A hook at switches that forks may `exec` and exit too; where it would return, the process aborts.
//! 4. What belongs to the process, the clock of contexts, each process makes for itself.

use crate::prim::process;
use crate::raw::machine::machine;
use crate::raw::outside;
use crate::raw::reason::Reason;
use crate::sys::stderr::say;

/// Why a runtime does nothing.
pub(crate) const ELSEWHERE: &str =
    "the runtime belongs to the process that this one was forked from, and so do its threads; build a new Runtime here";

/// What a task that forked may do.
const MAY: &str = "in a process that was forked by a task, that task can neither be suspended nor end, since all that would go on is the \
                   parent's: call exec or _exit, or build a new Runtime on a new thread";

/// Sees to what follows in processes that are forked from this one.
pub(crate) fn watch() {
    process::watch_forks(begin_child);
}

/// In a child that has just been forked, on its only thread, which may be a machine of the parent's.
fn begin_child() {
    outside::forget();
    if let Some(machine) = machine()
        && let Some(record) = machine.record()
    {
        // Never allowed again.
        record.forbid_suspension();
        // The machine looks when its task switches away, which can only be its end, as it does where one unwinds.
        machine.panics.note_somebody();
    }
}

/// A task of the parent's would be suspended.
#[cold]
pub(crate) fn refuse_to_suspend(reason: Reason) -> ! {
    say(format_args!("greenloom: fatal error: {MAY}; it would be {}", reason.describe()));
    std::process::abort();
}

/// Somebody would run a task in a runtime of the parent's, whose locks other threads may have had.
///
/// # Panics
/// On a plain thread. A task of the parent's must not unwind.
#[cold]
#[track_caller]
pub(crate) fn refuse_to_run() -> ! {
    if machine().is_some() {
        refuse_to_suspend(Reason::Join);
    }
    panic!("greenloom: cannot spawn a task: {ELSEWHERE}")
}

/// A task of the parent's has ended.
#[cold]
pub(crate) fn refuse_to_go_on() -> ! {
    say(format_args!("greenloom: fatal error: {MAY}; it has ended"));
    std::process::abort();
}

/// A hook at switches has forked, and returns: the machine would go on to the parent's task.
#[cold]
pub(crate) fn refuse_to_leave_hook() -> ! {
    say(format_args!(
        "greenloom: fatal error: in a process that was forked by a hook at switches, that hook cannot return, since all that would go on is \
         the parent's: call exec or _exit"
    ));
    std::process::abort();
}

/// A plain thread would wait for the parent's tasks, with a frame that they might use if they were here.
#[cold]
pub(crate) fn refuse_to_wait() -> ! {
    say(format_args!("greenloom: fatal error: a scope waits for its tasks, but {ELSEWHERE}"));
    std::process::abort();
}
