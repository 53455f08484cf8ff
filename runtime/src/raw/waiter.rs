//! Who waits.

use crate::prim::Parker;
use crate::raw::header::TaskPtr;

/// A waiting task, or a waiting OS thread with its parker.
///
/// A word, not a reference count. Rule 2 of [`wait`](crate::wait) explains why what it points to is
/// alive when it is woken.
#[derive(Clone, Copy)]
pub(crate) struct Waiter(*const ());

// SAFETY: it points to a task's header, whose state word any thread may use, or to a parker, which
// is made to be unparked from other threads. Either lives until the code that took the waiter out
// of the primitive has woken it (rule 2 of [`wait`](crate::wait)).
unsafe impl Send for Waiter {}

/// Marks a [`Waiter`] that points to a [`Parker`]; both targets have an alignment above two.
const THREAD: usize = 1;

impl Waiter {
    pub(crate) const NONE: Waiter = Waiter(std::ptr::null());

    pub(crate) fn task(task: TaskPtr) -> Self {
        Self(task.as_ptr().cast_const().cast())
    }

    /// Whether it is a plain thread.
    #[inline(always)]
    pub(crate) fn is_thread(self) -> bool {
        self.0.addr() & THREAD != 0
    }

    pub(crate) fn thread(parker: &Parker) -> Self {
        Self(std::ptr::from_ref(parker).cast::<()>().map_addr(|a| a | THREAD))
    }

    /// What it points to.
    ///
    /// # Safety
    /// It is not [`NONE`](Self::NONE), and has not been woken yet.
    #[inline(always)]
    pub(crate) unsafe fn target(self) -> Target {
        if self.is_thread() {
            Target::Thread(self.0.map_addr(|a| a & !THREAD).cast())
        } else {
            // SAFETY: made by `task`; the task lives until it is woken (rule 2 of `wait`).
            Target::Task(unsafe { TaskPtr::from_raw(self.0.cast_mut().cast()) })
        }
    }
}

/// What a [`Waiter`] points to.
pub(crate) enum Target {
    Task(TaskPtr),
    Thread(*const Parker),
}
