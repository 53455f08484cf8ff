//! Tasks that somebody answers for: those of a scope, those of a group. They are counted, waited
//! for, and cancelled together.
//!
//! 1. A task is counted from before it is spawned ([`enter`](TaskTracker::enter)) until nothing of
//!    it is left that the others could miss: closure, result, payload
//!    ([`leave`](TaskTracker::leave)).
//! 2. While it runs, a node in its frame lists it ([`run`](TaskTracker::run)), so that it can be
//!    cancelled. A task that begins after the others have been cancelled is cancelled too. Nothing
//!    is allocated.
//! 3. One lock orders all that. The last task to leave touches the tracker for the last time when
//!    it releases the lock. A waiter may have published itself before: then that task wakes it, and
//!    it goes on without reading the tracker. Or it takes the lock afterwards, and sees that nobody
//!    is left. So the tracker may lie in the frame of the waiter.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::prim::{Lock, LockGuard};
use crate::raw::header::TaskPtr;
use crate::scheduler::local;
use crate::scheduler::wake::make_runnable;
use crate::sys::stderr::say;
use crate::task::JoinError;
use crate::unwind;
use crate::unwind::{catch_and_forget, drop_whole};
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::{List, Node};

pub(crate) struct TaskTracker {
    inner: Lock<Inner>,
    /// Models check rule 3: each touch reads a cell that the end writes.
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
}

struct Inner {
    /// Tasks that have entered and not left.
    count: usize,
    /// All have been cancelled; those to come are cancelled as well.
    cancelled: bool,
    /// Those that run. The ones already told to end are behind the others.
    running: List<Running>,
    /// The waiter, until all have left.
    waiter: Option<Waiter>,
    /// The first panic that nobody else was told of.
    panic: Option<Box<dyn Any + Send>>,
}

/// What the list keeps for a task.
struct Running {
    task: TaskPtr,
    told: Cell<bool>,
}

/// The number of tasks that are cancelled while the lock is held once.
const AT_ONCE: usize = 16;

impl TaskTracker {
    pub(crate) fn new() -> Self {
        Self {
            inner: Lock::new(Inner { count: 0, cancelled: false, running: List::new(), waiter: None, panic: None }),
            #[cfg(greenloom_loom)]
            alive: crate::prim::Alive::new(),
        }
    }

    #[inline(always)]
    fn lock(&self) -> LockGuard<'_, Inner> {
        #[cfg(greenloom_loom)]
        self.alive.touch();
        self.inner.lock()
    }

    /// Counts a task that is about to be spawned.
    #[inline]
    pub(crate) fn enter(&self) {
        self.lock().count += 1;
    }

    /// A task is gone, with all that it had. The last one wakes the waiter; `self` may be gone
    /// then.
    #[inline]
    pub(crate) fn leave(&self) {
        Self::count_out(self.lock());
    }

    #[inline]
    fn count_out(mut inner: LockGuard<'_, Inner>) {
        inner.count -= 1;
        let waiter = if inner.count == 0 { inner.waiter.take() } else { None };
        drop(inner);
        if let Some(waiter) = waiter {
            // SAFETY: the waiter was taken out under the lock, so it is woken once.
            unsafe { waiter.wake() };
        }
    }

    /// [`leave`](Self::leave) of a task that never ran, called by the destructor of its closure.
    pub(crate) fn leave_unborn(&self) {
        // There are four reasons. It was cancelled; its spawner is told that it was not placed; its
        // runtime has ended; or there was no stack, which only a joiner learns.
        if let Some((local, record)) = local::running()
            && local.refuses(record)
        {
            let what = "greenloom: a task could not start, because there is no stack for it";
            self.keep_panic(JoinError::panicked(Box::new(what)));
        }
        self.leave();
    }

    /// The number of tasks that have entered and not left.
    pub(crate) fn count(&self) -> usize {
        self.lock().count
    }

    /// Runs `f` in the calling task, which must have entered. The task is cancelled with the
    /// others, and its panic is caught. If they have been cancelled already, `f` is only dropped.
    ///
    /// `take_result` gets the result. If it gives the result back, the task is still counted.
    /// Otherwise the result is gone, and the task leaves.
    #[inline]
    pub(crate) fn run<T>(
        &self,
        f: impl FnOnce() -> T,
        take_result: impl FnOnce(TaskPtr, Result<T, JoinError>) -> Option<Result<T, JoinError>>,
    ) -> Option<Result<T, JoinError>> {
        /// Ends the task's listing, however it ends.
        struct Listed<'a> {
            tracker: &'a TaskTracker,
            node: Node<Running>,
            leaves: bool,
        }
        impl Drop for Listed<'_> {
            #[inline]
            fn drop(&mut self) {
                let inner = self.tracker.lock();
                // SAFETY: under the lock. The node is in this list or in none: only its owner takes
                // it out for good.
                unsafe { inner.running.remove(&self.node) };
                if self.leaves {
                    TaskTracker::count_out(inner);
                }
            }
        }
        let Some((_, record)) = local::running() else { unreachable!("a task runs on a stack") };
        let task = record.task();
        let mut listed = Listed { tracker: self, node: Node::new(Running { task, told: Cell::new(false) }), leaves: true };
        let inner = self.lock();
        let result = if inner.cancelled {
            drop(inner);
            // Only sets the mark: the task runs, so there is nothing to queue.
            let _ = task.state().cancel();
            drop_whole(f).map_err(|p| task.ended_by(p, None)).and(Err(JoinError::cancelled()))
        } else {
            // SAFETY: under the lock; the node is new, and stays where it is until it is taken out,
            // before its frame ends.
            unsafe { inner.running.push_back(&listed.node, Waiter::NONE) };
            drop(inner);
            catch_unwind(AssertUnwindSafe(f)).map_err(|p| task.ended_by(p, None))
        };
        let kept = take_result(task, result);
        listed.leaves = kept.is_none();
        kept
    }

    /// Keeps the error for [`take_panic`](Self::take_panic), if it is a panic and the first one.
    pub(crate) fn keep_panic(&self, error: JoinError) {
        let Ok(payload) = error.try_into_panic() else { return };
        let mut inner = self.lock();
        let late = if inner.panic.is_none() { inner.panic.replace(payload) } else { Some(payload) };
        drop(inner);
        // Dropped here, before the task leaves: it is the user's value.
        catch_and_forget(|| drop(late));
    }

    /// The panic that was kept.
    pub(crate) fn take_panic(&self) -> Option<Box<dyn Any + Send>> {
        self.lock().panic.take()
    }

    /// Cancels all tasks: those that run, and those that have yet to begin. Never waits.
    pub(crate) fn cancel(&self) {
        let mut all_told = false;
        while !all_told {
            let mut woken = [None; AT_ONCE];
            let mut inner = self.lock();
            inner.cancelled = true;
            for woken in &mut woken {
                // SAFETY: under the lock, and used only under it.
                match unsafe { inner.running.front() } {
                    Some(node) if !node.data().told.replace(true) => {
                        let task = node.data().task;
                        // SAFETY: under the lock, so its owner cannot take it out meanwhile.
                        unsafe {
                            inner.running.remove(node);
                            inner.running.push_back(node, Waiter::NONE);
                        }
                        // The task is on its stack here: it cannot end before it has taken its node
                        // out.
                        *woken = task.state().cancel().then_some(task);
                    }
                    _ => {
                        all_told = true;
                        break;
                    }
                }
            }
            drop(inner);
            // `cancel` gave these tasks to the caller to queue, so they are alive until they are
            // queued.
            woken.into_iter().flatten().for_each(make_runnable);
        }
    }

    /// Waits until all have left. Only one may wait at a time.
    ///
    /// Suspends a task; blocks a plain thread.
    ///
    /// # Cancellation
    /// A cancelled task, or one whose time is up, unwinds from here if it has to wait.
    #[inline(always)]
    #[track_caller]
    pub(crate) fn wait(&self) {
        if self.count() == 0 {
            return;
        }
        let publish = |waiter| {
            let mut inner = self.lock();
            let must_wait = inner.count > 0;
            if must_wait {
                debug_assert!(inner.waiter.is_none());
                inner.waiter = Some(waiter);
            }
            must_wait
        };
        let _ = wait::wait_for(Reason::Join, None, publish, || self.lock().waiter.take().is_some());
    }

    /// Like [`wait`](Self::wait), but unconditionally: a cancelled task waits too, or one whose
    /// time is up.
    pub(crate) fn wait_to_the_end(&self) {
        /// An unwinding would end a frame that others use.
        struct Abort;
        impl Drop for Abort {
            fn drop(&mut self) {
                say(format_args!(
                    "greenloom: a wait that must not be left was left, which is a bug in greenloom: the process ends"
                ));
                std::process::abort();
            }
        }
        let abort = Abort;
        unwind::uncancellable(|| self.wait());
        std::mem::forget(abort);
    }
}
