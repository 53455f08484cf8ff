//! Raising cancellation: a cancelled task unwinds from its next suspension point.

use crate::prim::thread;
use crate::scheduler::local;
use crate::task::TaskPtr;
use crate::task::header::Cancelled;

/// Called by the running task at a suspension point: unwinds if it is cancelled.
///
/// Returns whether the suspension must be shielded: the task is cancelled, but unwinding now would abort the process, since this
/// thread is in the middle of an unwinding already. It may be this task's (a destructor suspends) or that of another task which
/// a destructor suspended here; std counts per thread and cannot tell. The machine looks again when that has ended.
#[inline]
pub(crate) fn raise_or_defer(task: TaskPtr) -> bool {
    if task.state().is_cancelled() { raise_or_defer_slow() } else { false }
}

#[cold]
fn raise_or_defer_slow() -> bool {
    if thread::panicking() {
        if let Some((machine, _)) = local::running() {
            machine.note_deferred_cancel();
        }
        return true;
    }
    thread::raise(Box::new(Cancelled::new()))
}
