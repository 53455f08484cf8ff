//! Who waits.

use crate::prim::Parker;
use crate::raw::header::TaskPtr;

/// Somebody who waits: a task, or an OS thread with its parker.
///
/// A word, not a reference count: see rule 2 of [`wait`](crate::wait) for why what it points to is alive when it is woken.
#[derive(Clone, Copy)]
pub(crate) struct Waiter(*const ());

// SAFETY: it leads to a task's header, whose state word is anyone's, or to a parker, which is made to be unparked from elsewhere; and
// either lives until whoever took the waiter out of the primitive has woken it (rule 2 of [`wait`](crate::wait)).
unsafe impl Send for Waiter {}

/// Marks a [`Waiter`] that points to a [`Parker`]; both kinds are aligned to more than two.
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

    /// Whom it leads to.
    ///
    /// # Safety
    /// It is not [`NONE`](Self::NONE), and has not been woken yet.
    #[inline(always)]
    pub(crate) unsafe fn target(self) -> Target {
        if self.is_thread() {
            Target::Thread(self.0.map_addr(|a| a & !THREAD).cast())
        } else {
            // SAFETY: made by `task`, which lives until it was woken (rule 2 of `wait`).
            Target::Task(unsafe { TaskPtr::from_raw(self.0.cast_mut().cast()) })
        }
    }
}

/// Whom a [`Waiter`] leads to.
pub(crate) enum Target {
    Task(TaskPtr),
    Thread(*const Parker),
}
