//! Raising cancellation: a cancelled task unwinds from its next suspension point.

use crate::prim::untracked::{AtomicBool, Ordering};
use crate::prim::{say, thread};
use crate::scheduler::local;
use crate::task::TaskPtr;
use crate::task::header::Cancelled;

/// Called by the running task at a suspension point: unwinds if it is cancelled.
///
/// Returns whether the suspension must be shielded: the task is cancelled, but unwinding now would abort the process, since this
/// thread is in the middle of an unwinding already. It may be this task's (a destructor suspends) or that of another task which
/// a destructor suspended here; std counts per thread and cannot tell. The machine looks again when that has ended. Or the task is
/// inside [`deferred`].
///
/// In a build with `panic = "abort"` there is no unwinding: cancellation of what has started is refused, that is, shielded for good.
#[inline]
pub(crate) fn raise_or_defer(task: TaskPtr) -> bool {
    if task.state().is_cancelled() { raise_or_defer_slow(task) } else { false }
}

#[cold]
fn raise_or_defer_slow(task: TaskPtr) -> bool {
    if cfg!(panic = "abort") {
        refuse();
        return true;
    }
    let running = local::running();
    if running.is_some_and(|(_, record)| record.defers_cancel()) {
        return true;
    }
    if thread::panicking() {
        if let Some((machine, _)) = running {
            machine.note_deferred_cancel();
        }
        return true;
    }
    if let Some((_, record)) = running {
        record.set_cancelling(true);
    }
    thread::raise(Box::new(Cancelled::new(task.id())))
}

/// Runs `f`, in which this task is not cancelled: that comes at its first suspension point afterwards.
pub(crate) fn deferred<R>(f: impl FnOnce() -> R) -> R {
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            // The same task: it stays on its stack and its thread.
            if let Some((_, record)) = local::running() {
                record.count_defers(-1);
            }
        }
    }
    let Some((_, record)) = local::running() else { return f() };
    record.count_defers(1);
    let _end = End;
    f()
}

/// Whether the running task has raised a cancellation that has not been dealt with. Where something unwinds, this tells why.
pub(crate) fn is_cancelling() -> bool {
    local::running().is_some_and(|(_, record)| record.is_cancelling())
}

/// Why the running code unwinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwinding {
    /// It does not; another task of its thread may be suspended in the middle of an unwinding.
    No,
    /// A panic.
    Panic,
    /// The task is being cancelled.
    Cancellation,
}

/// Whether the running code unwinds, and why.
///
/// std knows only whether the thread does. The machine notes which task was switched away from first while it did; until that has
/// ended, no other task is said to unwind, even if it does. A destructor that suspends during a panic, and a second task that
/// panics on that thread meanwhile: the second poisons nothing. (The other way round, locks would be poisoned that
/// nothing happened to.)
///
/// A task unwinds by cancellation as long as the payload of the cancellation lives: none begins during another unwinding.
#[cold]
pub(crate) fn unwinding() -> Unwinding {
    if !thread::panicking() {
        return Unwinding::No;
    }
    let Some((machine, record)) = local::running() else { return Unwinding::Panic };
    let first = machine.unwinding.get();
    if !first.is_null() && !std::ptr::eq(first, record) {
        Unwinding::No
    } else if record.is_cancelling() {
        Unwinding::Cancellation
    } else {
        Unwinding::Panic
    }
}

/// Says, once, why tasks do not end that were told to.
fn refuse() {
    // Relaxed: a flag that carries no data.
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        say(format_args!(
            "greenloom: this program was built with panic = \"abort\", so tasks cannot unwind: cancellation of tasks that have \
             started is refused, and at the end of a runtime those that do not end by themselves are left behind"
        ));
    }
}
