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
/// a destructor suspended here; std counts per thread and cannot tell. The machine looks again when that has ended.
///
/// In a build with `panic = "abort"` there is no unwinding: cancellation of what has started is refused, that is, shielded for good.
#[inline]
pub(crate) fn raise_or_defer(task: TaskPtr) -> bool {
    if task.state().is_cancelled() { raise_or_defer_slow() } else { false }
}

#[cold]
fn raise_or_defer_slow() -> bool {
    if cfg!(panic = "abort") {
        refuse();
        return true;
    }
    if thread::panicking() {
        if let Some((machine, _)) = local::running() {
            machine.note_deferred_cancel();
        }
        return true;
    }
    thread::raise(Box::new(Cancelled::new()))
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
