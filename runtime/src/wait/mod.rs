//! Waiting: who waits, why, and how one is woken.
//!
//! Every blocking primitive is written against [`Waiter`] alone, so that it works for a task and for a plain OS thread alike:
//!
//! 1. The waiting side publishes its `Waiter` where the partner will find it, under the primitive's own word or lock, and calls
//!    [`block`].
//! 2. Whoever takes the waiter out of there, deciding by that same word or lock, owes it exactly one [`Waiter::wake`].
//! 3. Cancellation never touches the primitive. It wakes the task with [`Woken::Cancelled`]; the task itself then takes its
//!    waiter back. If a partner has it already, the wake is still to come: the task absorbs it with [`absorb`] and returns the
//!    partner's value. So there is one word that decides, and a canceller never looks into a frame.

use crate::prim::Parker;
use crate::scheduler::local;
use crate::stack::record::Suspend;
use crate::task::TaskPtr;
use crate::task::cancel;

/// Why a task is suspended; shown in reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    /// Not suspended: running, or ready to run.
    Ready = 0,
    /// Waits for another task, in `JoinHandle::join` or `run`.
    Join,
    /// In `park()`.
    Park,
    /// In `yield_now()`.
    Yield,
    /// Waits for the end of a runtime.
    Shutdown,
}

impl Reason {
    pub(crate) fn from_u8(raw: u8) -> Self {
        match raw {
            1 => Self::Join,
            2 => Self::Park,
            3 => Self::Yield,
            4 => Self::Shutdown,
            _ => Self::Ready,
        }
    }

    /// As it reads in "task 7 is …".
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::Ready => "running or ready to run",
            Self::Join => "waiting for another task to end",
            Self::Park => "parked",
            Self::Yield => "letting others run",
            Self::Shutdown => "waiting for a runtime to end",
        }
    }
}

/// Somebody who waits: a task, or an OS thread with its parker.
///
/// A word, not a reference count: see rule 2 of the module for why what it points to is alive when it is woken.
#[derive(Clone, Copy)]
pub(crate) struct Waiter(*const ());

/// Marks a [`Waiter`] that points to a [`Parker`]; both kinds are aligned to more than two.
const THREAD: usize = 1;

impl Waiter {
    pub(crate) const NONE: Waiter = Waiter(std::ptr::null());

    fn task(task: TaskPtr) -> Self {
        Self(task.as_ptr().cast_const().cast())
    }

    fn thread(parker: &Parker) -> Self {
        Self(std::ptr::from_ref(parker).cast::<()>().map_addr(|a| a | THREAD))
    }

    /// Delivers the one wake that this waiter is owed.
    ///
    /// # Safety
    /// The caller took this waiter out of the primitive it waits in, and calls this once.
    pub(crate) unsafe fn wake(self) {
        if self.0.addr() & THREAD != 0 {
            let parker: *const Parker = self.0.map_addr(|a| a & !THREAD).cast();
            // SAFETY: the thread cannot leave `block` before it has consumed the token that this call leaves.
            unsafe { (*parker).unpark() };
        } else {
            // SAFETY: a task in `block` does not end before it was woken, so its header is alive until `wake` has changed its
            // state; if that made it runnable, this caller alone may queue it.
            unsafe {
                let task = TaskPtr::from_raw(self.0.cast_mut().cast());
                if task.state().wake() {
                    local::make_runnable(task);
                }
            }
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Woken {
    /// The partner's wake was received.
    ByPartner,
    /// The task was cancelled; the partner's wake, if a partner has the waiter, is still to come.
    Cancelled,
}

/// Publishes the caller (task or thread) through `publish` and waits to be woken.
///
/// `publish` returns false if there is nothing to wait for any more; then this returns at once.
/// A task that is already cancelled unwinds from here before anything is published.
///
/// Suspends a task; blocks a plain thread.
// Inlined for the sake of `Record::suspend`.
#[inline(always)]
pub(crate) fn block(reason: Reason, publish: impl FnOnce(Waiter) -> bool) -> Woken {
    match local::running() {
        Some((_, record)) => {
            let task = record.task();
            let shielded = cancel::raise_or_defer(task);
            record.assert_may_suspend(reason);
            if !publish(Waiter::task(task)) {
                return Woken::ByPartner;
            }
            record.suspend(if shielded { Suspend::WaitShielded } else { Suspend::Wait }, reason);
            if task.state().take_cancel_wake() { Woken::Cancelled } else { Woken::ByPartner }
        }
        None => {
            let parker = Parker::new();
            if publish(Waiter::thread(&parker)) {
                parker.park();
            }
            Woken::ByPartner
        }
    }
}

/// Receives the wake of a partner that took the waiter before the cancelled task could withdraw it.
pub(crate) fn absorb(reason: Reason) {
    let (_, record) = local::running().expect("only a task is cancelled");
    loop {
        record.suspend(Suspend::WaitShielded, reason);
        if !record.task().state().take_cancel_wake() {
            return;
        }
    }
}
