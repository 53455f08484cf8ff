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

/// A spawned task's result to come. Dropping it detaches the task: it goes on, and its result is dropped when it ends.
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

// SAFETY: made for tasks whose result is Send (spawn requires it); all else goes through the state word.
unsafe impl<T: Send> Send for JoinHandle<T> {}
// SAFETY: by reference it only cancels, looks, and makes task handles.
unsafe impl<T: Send> Sync for JoinHandle<T> {}

/// As [`JoinHandle`], of a task made by [`spawn_local`](crate::spawn_local), whose result need not be `Send`; nor is this.
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
        /// Waits for the task to end, and gives its result.
        ///
        /// Suspends the calling task; on a plain OS thread, blocks the thread. A task that was left behind when its
        /// [`Runtime`](crate::Runtime) ended may never end; a join on it then never returns.
        ///
        /// # Errors
        /// If the task panicked or was cancelled: the [`JoinError`] says which. A panic has been reported by then: by the process's
        /// panic hook, with message and place, and by the runtime, with the task; see
        /// [`on_panic`](crate::RuntimeBuilder::on_panic).
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

        /// Whether the task has ended; then `join` does not wait. Nor does this, but where it has not, the caller may
        /// [give way](crate#what-suspends).
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

        /// Asks the task to end: it unwinds from its next suspension point, or the one it waits in, and runs its destructors;
        /// one that has not started never will, and only drops its closure. `join` then tells so by an error that
        /// [`is_cancelled`](JoinError::is_cancelled).
        ///
        /// Never waits. It has no effect on a task that has ended. One that never suspends is not stopped; nor is one in a loop over
        /// attempts (`try_recv`, `try_lock`, a `select!` with `default`, `is_finished`), though they
        /// [give way](crate#what-suspends): put a [`checkpoint`](crate::checkpoint) into it. In a build with `panic = "abort"`,
        /// which cannot unwind, one that has started goes on, and stderr says so once.
        pub fn cancel(&self) {
            self.raw.task.cancel();
        }
    };
}

// A panic leaves nothing half done in a handle; what it gives, the task has left.
impl<T> UnwindSafe for JoinHandle<T> {}
impl<T> RefUnwindSafe for JoinHandle<T> {}

impl<T> JoinHandle<T> {
    handle_methods!();

    /// The task itself, alive as long as the handle.
    pub(crate) fn raw(&self) -> TaskPtr {
        self.raw.task
    }

    /// # Safety
    /// As [`Raw::new`]; and the result is Send if this handle leaves its thread.
    pub(crate) unsafe fn new(task: TaskPtr) -> Self {
        // SAFETY: the caller's promise.
        Self { raw: unsafe { Raw::new(task) } }
    }
}

impl<T> LocalJoinHandle<T> {
    handle_methods!();

    /// # Safety
    /// As [`Raw::new`]; the task is bound to this thread.
    pub(crate) unsafe fn new(task: TaskPtr) -> Self {
        // SAFETY: the caller's promise.
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
        // SAFETY: complete, and this is the handle, which gives its right and its reference up here.
        unsafe {
            let result = task.take_result::<T>();
            task.drop_ref(local::machine().map(|m| m.cells()));
            result
        }
    }
}

/// Waits until the task is complete, whose join handle the caller has.
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
        // SAFETY: rule 4 of the header: the caller owns the join handle, and JOINER is not set.
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
        /// Gives the reference up even if the result's destructor panics.
        struct Reference(TaskPtr);
        impl Drop for Reference {
            fn drop(&mut self) {
                // SAFETY: the handle's own.
                unsafe { self.0.drop_ref(local::machine().map(|m| m.cells())) };
            }
        }
        let reference = Reference(self.task);
        // SAFETY: complete, and the handle goes without having taken the result.
        unsafe { reference.0.drop_result() };
    }
}
