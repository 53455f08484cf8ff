//! Handles to tasks.

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};

use crate::prim::thread::Thread;
use crate::raw::header::TaskPtr;
use crate::scheduler::local;
use crate::scheduler::wake::make_runnable;

/// A handle to a task, which can name the task and wake it from [`park`](crate::park). If
/// [`current`](crate::current) was called on a plain thread, it is a handle to that thread.
///
/// Cloning is cheap. A handle does not keep the task running, nor does it keep its result.
///
/// ```
/// greenloom::run(|| {
///     let parent = greenloom::current();
///     greenloom::spawn(move || parent.unpark());
///     greenloom::park();
/// });
/// ```
pub struct Task(Kind);

enum Kind {
    Green(TaskPtr),
    Thread(Thread, u64),
}

// SAFETY: a task handle owns one reference. What it offers never changes, or goes through the state
// word (header rule 1).
unsafe impl Send for Task {}
// SAFETY: header rule 1, as for `Send`.
unsafe impl Sync for Task {}

impl UnwindSafe for Task {}
impl RefUnwindSafe for Task {}

impl Task {
    pub(crate) fn thread(thread: Thread, number: u64) -> Task {
        Task(Kind::Thread(thread, number))
    }

    pub(crate) fn of(task: TaskPtr) -> Task {
        task.state().add_ref();
        Task(Kind::Green(task))
    }

    /// The task's number. It is unique in the process and is never used again.
    pub fn id(&self) -> u64 {
        match &self.0 {
            Kind::Green(task) => task.id(),
            Kind::Thread(_, id) => *id,
        }
    }

    /// The name that was given with [`Builder::name`](crate::task::Builder::name), or the thread's
    /// own name.
    pub fn name(&self) -> Option<&str> {
        match &self.0 {
            Kind::Green(task) => task.name_ref(),
            Kind::Thread(thread, _) => thread.name(),
        }
    }

    /// Where the task was spawned. `None` for a plain thread.
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        match &self.0 {
            Kind::Green(task) => Some(task.site()),
            Kind::Thread(..) => None,
        }
    }

    /// Asks the task to end, as [`JoinHandle::cancel`](crate::JoinHandle::cancel) does: the task
    /// unwinds from the suspension point that it waits in, or from its next one.
    ///
    /// Never waits. It has no effect on a task that has ended, nor on a plain thread, which cannot
    /// be cancelled.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let waits = greenloom::spawn(greenloom::park);
    ///     waits.task().cancel();
    ///     assert!(waits.join().unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn cancel(&self) {
        if let Kind::Green(task) = self.0 {
            task.cancel();
        }
    }

    /// Makes the task's current or next [`park`](crate::park) return.
    ///
    /// Never waits. It may be called from any thread or task. It has no effect on a task that has
    /// ended.
    pub fn unpark(&self) {
        match &self.0 {
            Kind::Green(task) => {
                if task.state().leave_token() {
                    make_runnable(*task);
                }
            }
            Kind::Thread(thread, _) => thread.unpark(),
        }
    }
}

impl Clone for Task {
    fn clone(&self) -> Self {
        match &self.0 {
            Kind::Green(task) => Task::of(*task),
            Kind::Thread(thread, id) => Task(Kind::Thread(thread.clone(), *id)),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Kind::Green(task) = self.0 {
            // SAFETY: the handle owns this reference.
            unsafe { task.drop_ref(local::machine().map(|m| m.cells())) };
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Task");
        out.field("id", &self.id()).field("name", &self.name());
        if let Some(site) = self.spawned_at() {
            out.field("spawned_at", &format_args!("{site}"));
        }
        out.finish()
    }
}
