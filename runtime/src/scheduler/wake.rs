//! Making tasks ready: code that changes a task's state word so that it may run queues the task
//! here.

use crate::raw::header::TaskPtr;
use crate::raw::waiter::{Target, Waiter};
use crate::scheduler::inbox::Posted;
use crate::scheduler::local::machine;
use crate::scheduler::processor::Ready;
use crate::sys::cpu::prefetch_to_write;

/// Queues a started task that the caller has just won by a transition of its state word.
pub(crate) fn make_runnable(task: TaskPtr) {
    // SAFETY: header rule 2: the caller cleared PARKED.
    let home = unsafe { task.home() };
    match machine() {
        Some(local) if std::ptr::eq(local.processor(), home) => local.push_next(Ready { task, bound: true }),
        // SAFETY: the task is in no queue until it is posted. So it has not ended, and its runtime
        // and its processor live. If the post wins the sleeper, the machine waits for our token
        // before it goes on.
        _ => unsafe {
            if (*home).inbox.post(task) == Posted::WonSleeper {
                (*home).shared().wake_won(&*home, false);
            }
        },
    }
}

impl TaskPtr {
    /// Asks the task to unwind.
    pub(crate) fn cancel(self) {
        if self.state().cancel() {
            make_runnable(self);
        }
    }
}

impl Waiter {
    /// Delivers the one wake that this waiter is owed.
    ///
    /// # Safety
    /// The caller took this waiter out of the primitive that it waits in, and calls this once.
    pub(crate) unsafe fn wake(self) {
        // SAFETY: the caller took the waiter out and has not woken it yet, as `# Safety` demands.
        match unsafe { self.target() } {
            // SAFETY: the thread cannot leave `wait_for` before it has consumed the token that this
            // call leaves.
            Target::Thread(parker) => unsafe { (*parker).unpark() },
            // A task in `wait_for` does not end before it is woken. So its header is alive until
            // `wake` has changed its state. If that made it runnable, only this caller may queue
            // it.
            Target::Task(task) => {
                prefetch_to_write(task.as_ptr());
                if task.state().wake() {
                    make_runnable(task);
                }
            }
        }
    }
}
