//! Waiting for a task's result, or not.

use std::fmt;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::prim::process;
use crate::raw::fork;
use crate::raw::header::TaskPtr;
use crate::scheduler::local;
use crate::scheduler::task::Task;
use crate::task::JoinError;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;

/// An owned permission to join a spawned task. Dropping it detaches the task: the task goes on, and
/// its result is dropped when it ends.
///
/// ```
/// let sum = greenloom::run(|| {
///     let half = greenloom::spawn(|| 20 + 1);
///     half.join().unwrap() * 2
/// });
/// assert_eq!(sum, 42);
/// ```
#[must_use = "dropping a join handle detaches the task; join it to see it end"]
pub struct JoinHandle<T> {
    raw: Raw<T>,
}

// SAFETY: made for tasks whose result is Send (spawn requires it); everything else goes through the
// state word.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: by reference it only cancels, checks, and makes task handles.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

/// Like [`JoinHandle`], for a task made by [`spawn_local`](crate::spawn_local). Its result need not
/// be `Send`, and neither is this handle.
///
/// ```
/// greenloom::run(|| {
///     let task = greenloom::spawn_local(|| std::rc::Rc::new(1));
///     assert_eq!(*task.join().unwrap(), 1);
/// });
/// ```
///
/// ```compile_fail
/// fn assert_send<T: Send>() {}
/// assert_send::<greenloom::LocalJoinHandle<()>>();
/// ```
#[must_use = "dropping a join handle detaches the task; join it to see it end"]
pub struct LocalJoinHandle<T> {
    raw: Raw<T>,
    // The result may not leave the thread.
    _local: PhantomData<*const ()>,
}

macro_rules! handle_methods {
    () => {
        /// Waits for the task to end, and returns its result.
        ///
        /// Suspends the calling task; on a plain OS thread, blocks the thread. A task that was left
        /// behind when its [`Runtime`](crate::Runtime) ended may never end. A join on it then never
        /// returns.
        ///
        /// # Errors
        /// If the task panicked or was cancelled; the [`JoinError`] says which. A panic has been
        /// reported by then: by the process's panic hook, with message and location, and by the
        /// runtime, with the task; see [`on_panic`](crate::RuntimeBuilder::on_panic).
        ///
        /// # Panics
        /// Inside [`no_suspend`](crate::no_suspend), unless the task has ended.
        ///
        /// # Cancellation
        /// A cancelled caller unwinds from here; the task that it waited for is then detached.
        #[inline(always)]
        #[track_caller]
        pub fn join(self) -> Result<T, JoinError> {
            self.raw.join()
        }

        /// Whether the task has ended. If it has, `join` does not wait. This never waits either,
        /// but if the task has not ended, the caller may [give way](crate#what-suspends).
        pub fn is_finished(&self) -> bool {
            let finished = self.raw.is_finished();
            if !finished {
                wait::yield_if_hogging();
            }
            finished
        }

        /// A handle to the task itself, to name it or to unpark it.
        pub fn task(&self) -> Task {
            Task::of(self.raw.task)
        }

        /// Asks the task to end: it unwinds from its next suspension point, or from the one it is
        /// waiting in, and runs its destructors. A task that has not started never will; its
        /// closure is only dropped. `join` then returns an error that
        /// [`is_cancelled`](JoinError::is_cancelled).
        ///
        /// Never waits. It has no effect on a task that has ended. A task that never suspends is
        /// not stopped. Nor is one in a loop over attempts (`try_recv`, `try_lock`, a `select!`
        /// with `default`, `is_finished`), though they [give way](crate#what-suspends): put a
        /// [`checkpoint`](crate::checkpoint) into it. In a build with `panic = "abort"`, which
        /// cannot unwind, a task that has started goes on, and a warning is printed to stderr once.
        pub fn cancel(&self) {
            self.raw.task.cancel();
        }
    };
}

// A panic leaves nothing half done in a handle; the task has left what the handle returns.
impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    handle_methods!();

    /// The task itself, alive as long as the handle.
    pub(crate) fn raw(&self) -> TaskPtr {
        self.raw.task
    }

    /// # Safety
    /// As [`Raw::new`]. The result is Send if this handle leaves its thread.
    pub(crate) unsafe fn new(task: TaskPtr) -> Self {
        // SAFETY: the caller upholds `Raw::new`'s contract, as `# Safety` demands.
        Self { raw: unsafe { Raw::new(task) } }
    }
}

impl<T> LocalJoinHandle<T> {
    handle_methods!();

    /// # Safety
    /// As [`Raw::new`]. The task is bound to this thread.
    pub(crate) unsafe fn new(task: TaskPtr) -> Self {
        // SAFETY: the caller upholds `Raw::new`'s contract, as `# Safety` demands.
        Self { raw: unsafe { Raw::new(task) }, _local: PhantomData }
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("task", &self.task()).field("finished", &self.raw.is_finished()).finish()
    }
}

impl<T> fmt::Debug for LocalJoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalJoinHandle").field("task", &self.task()).field("finished", &self.raw.is_finished()).finish()
    }
}

/// The join handle's reference, and its right to the result.
struct Raw<T> {
    task: TaskPtr,
    _result: PhantomData<T>,
}

impl<T> Raw<T> {
    /// # Safety
    /// The task was made just now, its result is a `T`, and nobody else has taken its handle.
    unsafe fn new(task: TaskPtr) -> Self {
        Self { task, _result: PhantomData }
    }

    fn is_finished(&self) -> bool {
        self.task.state().is_complete()
    }

    #[inline(always)]
    #[track_caller]
    fn join(self) -> Result<T, JoinError> {
        wait_until_complete(self.task, Reason::Join);
        let task = self.task;
        std::mem::forget(self);
        // SAFETY: header rule 5: complete, and this is the join handle, which gives up its right
        // and its reference here.
        unsafe {
            let result = task.take_result::<T>();
            task.drop_ref(local::machine().map(|m| m.cells()));
            result
        }
    }
}

/// Waits until the task is complete. The caller has its join handle.
#[inline(always)]
#[track_caller]
pub(crate) fn wait_until_complete(task: TaskPtr, reason: Reason) {
    if task.state().is_complete() {
        return wait::look_at_slice();
    }
    let publish = |waiter: Waiter| {
        if waiter.is_thread() {
            assert!(process::made_here(task.id()), "greenloom: a thread waits for a task, but {}", fork::ELSEWHERE);
        }
        // SAFETY: header rule 4: the caller owns the join handle, and JOINER is not set.
        unsafe { task.set_joiner(waiter) };
        task.state().register_joiner()
    };
    let _ = wait::wait_for(reason, None, publish, || task.state().withdraw_joiner());
    debug_assert!(task.state().is_complete(), "a joiner had a wake that was not meant for it");
}

impl<T> Drop for Raw<T> {
    fn drop(&mut self) {
        if self.task.state().detach() {
            return;
        }
        /// Gives up the reference even if the result's destructor panics.
        struct Reference(TaskPtr);
        impl Drop for Reference {
            fn drop(&mut self) {
                // SAFETY: the handle's own reference, given up once.
                unsafe { self.0.drop_ref(local::machine().map(|m| m.cells())) };
            }
        }
        let reference = Reference(self.task);
        // SAFETY: header rule 5: complete, and the handle is dropped without having taken the
        // result.
        unsafe { reference.0.drop_result() };
    }
}
