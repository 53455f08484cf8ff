//! Tasks that may borrow from the frame that started them, because the frame does not end before
//! they have.
//!
//! Why that is sound: the scope's [`TaskTracker`] counts a child from before it is spawned until
//! its closure, its result and its payload are gone. [`scope`] returns, or unwinds, only when
//! nothing is counted.
//!
//! - A child that never runs drops its closure, and then its [`Unborn`], which takes it out of the
//!   count.
//! - A child that runs and has no handle when `f` has ended drops its result and leaves the count.
//!   If it has a handle, it leaves an [`Ended`] as the result of its task. The `Ended` takes it out
//!   of the count when dropped: by the handle's owner, or, if the handle is dropped at that moment,
//!   by the completing task. Handles live in the body or in other children. So they are gone before
//!   the count falls to zero (or leaked: then the scope waits forever, as std's does).
//! - No unwinding may cut the wait short. So the body runs under `catch_unwind`, and what it
//!   unwinds with is raised again after the wait. A cancellation or time limit that meets the wait
//!   itself ends only its first, unshielded part.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};

use crate::raw::fork;
use crate::raw::header::{Extra, TaskPtr};
use crate::scheduler::placement::Placement;
use crate::scheduler::task::Task;
use crate::scheduler::{Shared, local};
use crate::task::spawn::{no_memory, spawn_unbounded};
use crate::task::tracker::TaskTracker;
use crate::task::{Builder, Handle, JoinError, JoinHandle};
use crate::unwind::uncancellable;
use crate::unwind::{Cancelled, drop_whole};
use crate::wait::Reason;

const OUTSIDE: &str = "greenloom::scope was called outside a runtime; call it from a task (inside greenloom::run, say), or use \
     Runtime::scope";

/// Starts tasks that may borrow from the caller's frame, and waits for them, like
/// [`std::thread::scope`] but with tasks.
///
/// It returns when `f` has returned and all tasks spawned through the [`Scope`] have ended,
/// including those spawned by other such tasks.
///
/// Suspends the calling task until then. To wait on a plain OS thread, see
/// [`Runtime::scope`](crate::Runtime::scope).
///
/// # Panics
/// If `f` panics, or if a task panics and nobody has joined it: with the payload of the first such
/// panic, after all tasks have ended. A panic of `f` cancels the tasks; a panic of a task does not
/// cancel the others.
///
/// Outside a runtime. Also inside [`no_suspend`](crate::no_suspend), before `f` is called, since it
/// could not wait.
///
/// # Cancellation
/// If the caller is cancelled, or a time limit around it is over, while it runs `f` or while it
/// waits, all tasks of the scope are cancelled. The caller waits for them, however long they take,
/// and then unwinds. (If a task panicked, it unwinds with that panic.)
///
/// Tasks that are left behind when their runtime ends never end. Then the scope does not end
/// either, and the caller's frame stays too.
///
/// ```
/// greenloom::run(|| {
///     let numbers = vec![1, 2, 3];
///     let mut seen = 0;
///     let sum = greenloom::scope(|s| {
///         let sum = s.spawn(|| numbers.iter().sum::<i32>());
///         s.spawn(|| seen = numbers.len());
///         sum.join().unwrap()
///     });
///     assert_eq!((sum, seen), (6, 3));
/// });
/// ```
///
/// A task may not borrow from `f`'s own frame, which ends first:
///
/// ```compile_fail,E0373
/// greenloom::run(|| {
///     greenloom::scope(|s| {
///         let local = 1;
///         s.spawn(|| assert_eq!(local, 1));
///     });
/// });
/// ```
///
/// A handle, or the scope itself, may not outlive the scope:
///
/// ```compile_fail
/// greenloom::run(|| {
///     let handle = greenloom::scope(|s| s.spawn(|| 1));
///     handle.join();
/// });
/// ```
///
/// ```compile_fail
/// greenloom::run(|| {
///     let mut escaped = None;
///     greenloom::scope(|s| escaped = Some(s));
/// });
/// ```
#[track_caller]
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    let Some(local) = local::machine() else { panic!("{OUTSIDE}") };
    scope_in(&local.shared, f)
}

/// Like [`scope`], but with the tasks in `shared`, and from anywhere.
#[track_caller]
pub(crate) fn scope_in<'env, F, T>(shared: &Shared, f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    if let Some((_, record)) = local::running() {
        // Checked now: once there are children to wait for, it is too late for a panic.
        record.assert_may_suspend(Reason::Join);
    }
    let scope = Scope { tracker: TaskTracker::new(), shared, _scope: PhantomData, _env: PhantomData };
    let mut value = None;
    let body = catch_unwind(AssertUnwindSafe(|| {
        value = Some(f(&scope));
        scope.assert_here();
        scope.tracker.wait();
    }));
    let tracker = &scope.tracker;
    let cancellation = match body {
        Ok(()) => None,
        Err(payload) => {
            let cancellation = if payload.is::<Cancelled>() {
                Some(payload)
            } else {
                tracker.keep_panic(JoinError::panicked(payload));
                None
            };
            tracker.cancel();
            scope.assert_here();
            tracker.wait_to_the_end();
            cancellation
        }
    };
    match (tracker.take_panic().or(cancellation), value) {
        (None, Some(value)) => value,
        (Some(payload), value) => {
            // Not dropped by the unwinding, in which its destructor must not panic.
            uncancellable(|| drop(value));
            resume_unwind(payload)
        }
        (None, None) => unreachable!("the body has returned or unwound"),
    }
}

/// A scope to spawn tasks in; see [`scope`].
pub struct Scope<'scope, 'env: 'scope> {
    tracker: TaskTracker,
    shared: &'scope Shared,
    // Invariant, as in std: a shorter 'scope would let a task borrow from the body, and a longer
    // 'env would make no sense.
    _scope: PhantomData<&'scope mut &'scope ()>,
    _env: PhantomData<&'env mut &'env ()>,
}

impl<'scope, 'env> Scope<'scope, 'env> {
    /// Called before a wait. In a process that was forked meanwhile, nobody would end the wait.
    fn assert_here(&self) {
        if self.shared.is_elsewhere() && self.tracker.count() > 0 {
            fork::refuse_to_wait();
        }
    }

    /// Starts a task that may borrow anything that outlives the scope. The task may itself spawn
    /// through the scope.
    ///
    /// Never waits; see [`spawn`](crate::spawn). Once the scope's tasks have been cancelled, a new
    /// one does not run.
    ///
    /// # Panics
    /// If there is no memory for the task. If the task panics and nobody joins it, [`scope`]
    /// panics.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let word = String::from("borrowed");
    ///     greenloom::scope(|s| {
    ///         s.spawn(|| s.spawn(|| assert_eq!(word, "borrowed")).join().unwrap());
    ///     });
    /// });
    /// ```
    #[inline]
    #[track_caller]
    pub fn spawn<F, T>(&'scope self, f: F) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.spawn_from(f, Location::caller())
    }

    /// Like [`spawn`](Self::spawn), on behalf of the given place.
    #[inline]
    #[track_caller]
    pub(crate) fn spawn_from<F, T>(&'scope self, f: F, site: &'static Location<'static>) -> ScopedJoinHandle<'scope, T>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        match self.start(f, site, None, Placement::Near) {
            Ok(child) => child,
            Err(error) => no_memory(&error),
        }
    }

    #[inline]
    fn start<F, T>(
        &'scope self,
        f: F,
        site: &'static Location<'static>,
        extra: Option<Box<Extra>>,
        placement: Placement,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        self.tracker.enter();
        let child = Child { f, unborn: Unborn(&self.tracker) };
        // SAFETY: `F` and `T` are Send. What they borrow outlives the scope, which waits until the
        // child, or the `Ended` that it leaves, has been dropped (see the module docs).
        let inner = unsafe { spawn_unbounded(self.shared, move || child.run(), site, extra, placement) }?;
        Ok(ScopedJoinHandle { inner })
    }
}

impl Builder {
    /// Starts a task of a scope, which may borrow; see [`Scope::spawn`].
    ///
    /// # Errors
    /// The same as [`spawn`](Self::spawn).
    ///
    /// ```
    /// use greenloom::task::Builder;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// greenloom::run(|| {
    ///     let text = String::from("borrowed");
    ///     greenloom::scope(|s| {
    ///         let reader = Builder::new().name("reader").spawn_scoped(s, || text.len())?;
    ///         assert_eq!(reader.join().unwrap(), 8);
    ///         Ok(())
    ///     })
    /// })
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_scoped<'scope, F, T>(self, scope: &'scope Scope<'scope, '_>, f: F) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let (extra, placement) = self.resolve(scope.shared)?;
        scope.start(f, Location::caller(), extra, placement)
    }
}

impl Handle {
    /// Like [`scope`], but with its tasks in this runtime, and from anywhere.
    ///
    /// # Panics
    /// The same as [`scope`], except that it does not panic outside a runtime.
    ///
    /// # Cancellation
    /// The same as [`scope`].
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = greenloom::Runtime::builder().build()?;
    /// let words = ["a", "bc"];
    /// let lengths = runtime.handle().scope(|s| words.map(|word| s.spawn(move || word.len())).map(|task| task.join().unwrap()));
    /// assert_eq!(lengths, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn scope<'env, F, T>(&self, f: F) -> T
    where
        F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
    {
        scope_in(self.shared(), f)
    }
}

impl fmt::Debug for Scope<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("tasks", &self.tracker.count()).finish_non_exhaustive()
    }
}

/// What a child's task runs.
struct Child<'scope, F> {
    // Before `unborn`: fields are dropped in this order.
    f: F,
    unborn: Unborn<'scope>,
}

impl<'scope, F> Child<'scope, F> {
    #[inline]
    fn run<T>(self) -> Ended<'scope, T>
    where
        F: FnOnce() -> T,
    {
        let Self { f, unborn } = self;
        let tracker = unborn.begin();
        let take_result = |task: TaskPtr, outcome| {
            if task.state().has_handle() {
                return Some(outcome);
            }
            discard(outcome, tracker);
            None
        };
        Ended(tracker.run(f, take_result).map(|outcome| (outcome, tracker)))
    }
}

/// Held by the closure of a child that has not begun.
struct Unborn<'scope>(&'scope TaskTracker);

impl<'scope> Unborn<'scope> {
    #[inline]
    fn begin(self) -> &'scope TaskTracker {
        let tracker = self.0;
        forget(self);
        tracker
    }
}

impl Drop for Unborn<'_> {
    fn drop(&mut self) {
        self.0.leave_unborn();
    }
}

/// What a child leaves: its outcome. The child is counted until the outcome is gone.
struct Ended<'scope, T>(Option<(Result<T, JoinError>, &'scope TaskTracker)>);

impl<T> Ended<'_, T> {
    fn take(mut self) -> Option<Result<T, JoinError>> {
        let (outcome, tracker) = self.0.take()?;
        tracker.leave();
        Some(outcome)
    }
}

impl<T> Drop for Ended<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if let Some((outcome, tracker)) = self.0.take() {
            discard(outcome, tracker);
            tracker.leave();
        }
    }
}

/// Drops an outcome that nobody takes. A panic is kept for the scope.
fn discard<T>(outcome: Result<T, JoinError>, tracker: &TaskTracker) {
    let dropped = outcome.and_then(|value| drop_whole(value).map_err(JoinError::from_payload));
    if let Err(error) = dropped {
        tracker.keep_panic(error);
    }
}

/// A handle to the result of a scoped task; see [`Scope::spawn`]. Dropping it leaves the task to
/// the scope, which waits for it.
///
/// Leaking it (with [`std::mem::forget`], say) leaks the result, and the scope waits for that
/// forever, as std's does.
pub struct ScopedJoinHandle<'scope, T> {
    inner: JoinHandle<Ended<'scope, T>>,
}

impl<T> ScopedJoinHandle<'_, T> {
    /// Waits for the task to end, and returns its result.
    ///
    /// Suspends the calling task; on a plain OS thread, blocks the thread.
    ///
    /// # Errors
    /// If the task panicked or was cancelled. The [`JoinError`] says which. A panic that is
    /// returned here does not end the scope.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), unless the task has ended.
    ///
    /// # Cancellation
    /// A cancelled caller unwinds from here. The task is left to the scope, which waits for it.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let error = greenloom::scope(|s| s.spawn(|| panic!("no luck")).join().unwrap_err());
    ///     assert!(error.is_panic());
    /// });
    /// ```
    #[inline(always)]
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.inner.join().and_then(|ended| ended.take().unwrap_or_else(|| Err(JoinError::cancelled())))
    }

    /// Whether the task has ended. If so, `join` does not wait. This does not wait either, but if
    /// the task has not ended, the caller may [give way](crate#what-suspends).
    pub fn is_finished(&self) -> bool {
        self.inner.is_finished()
    }

    /// A handle to the task itself, to name it or to unpark it.
    pub fn task(&self) -> Task {
        self.inner.task()
    }

    /// Asks the task to end; see [`JoinHandle::cancel`]. Never waits. The scope does not panic
    /// because a task was cancelled.
    pub fn cancel(&self) {
        self.inner.cancel();
    }
}

impl<T> fmt::Debug for ScopedJoinHandle<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScopedJoinHandle")
            .field("task", &self.task())
            .field("finished", &self.inner.raw().state().is_complete())
            .finish()
    }
}
