//! Tasks that work on one thing together. The first error of a task in a [`Group`] is the error of
//! the group. When the first service of [`run_all`] returns, the others are asked to stop.
//!
//! A group owns what it works on. It outlives the frame that started it, and may be dropped at any
//! time. If tasks borrow from that frame, use [`scope`](crate::scope()).

use std::error::Error;
use std::fmt;
use std::io;
use std::mem::forget;
use std::panic::{Location, RefUnwindSafe, UnwindSafe, resume_unwind};
use std::sync::PoisonError;

use crate::channel::{self, Receiver, Sender};
use crate::context::{Canceller, Context};
use crate::prim::Lock;
use crate::prim::sync::Arc;
use crate::structured::scope::scope;
use crate::sync::{Mutex, Semaphore};
use crate::task::tracker::TaskTracker;
use crate::task::{Builder, spawn};
use crate::unwind::uncancellable;

/// Tasks that may fail and are waited for together, like Go's `errgroup.Group`.
///
/// A task of the group returns `Ok(())` or an error. When all tasks have ended,
/// [`wait`](Self::wait) returns the first error. With a [context](Self::with_context), that error
/// also tells the other tasks to give up.
///
/// **Dropping a group** cancels its tasks (see [`JoinHandle::cancel`](crate::JoinHandle::cancel))
/// and its context, and does not wait for them. After [`wait`](Self::wait) there are none.
///
/// ```
/// use greenloom::group::Group;
///
/// greenloom::run(|| {
///     let group = Group::new();
///     for word in ["1", "2", "three"] {
///         group.spawn(move || word.parse::<i32>().map(drop));
///     }
///     assert_eq!(group.wait().unwrap_err().to_string(), "invalid digit found in string");
/// });
/// ```
pub struct Group<E> {
    inner: Arc<Inner<E>>,
}

struct Inner<E> {
    tracker: TaskTracker,
    /// The first error since the last `wait`.
    error: Lock<Option<E>>,
    limit: Lock<Option<Limit>>,
    context: Option<Cancels<E>>,
    /// Held by the caller that waits for the tasks.
    waits: Mutex<()>,
}

/// How many tasks there may be at a time.
#[derive(Clone)]
struct Limit {
    tasks: usize,
    slots: Arc<Semaphore>,
}

/// The context of a group, and how an error becomes its cause.
struct Cancels<E> {
    canceller: Canceller,
    cause: fn(&E) -> Box<dyn Error + Send + Sync>,
}

impl<E> UnwindSafe for Group<E> {}
impl<E> RefUnwindSafe for Group<E> {}

impl<E> Group<E>
where
    E: Into<Box<dyn Error + Send + Sync>> + Clone + Send + 'static,
{
    /// A group with a context, derived from `parent`. The context is cancelled by the first error,
    /// which becomes its [cause](Context::cause). It is also cancelled by a task that panics, when
    /// [`wait`](Self::wait) returns, and when the group is dropped.
    ///
    /// The error is both the cause and the result of `wait`, so it must be `Clone`. If yours is
    /// not, wrap it in a [`std::sync::Arc`]. The error may be a text.
    ///
    /// Never waits.
    ///
    /// ```
    /// use greenloom::context::Context;
    /// use greenloom::group::Group;
    /// use std::fmt;
    ///
    /// #[derive(Clone, Debug, PartialEq)]
    /// struct NoLuck;
    ///
    /// impl fmt::Display for NoLuck {
    ///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    ///         f.write_str("no luck")
    ///     }
    /// }
    ///
    /// impl std::error::Error for NoLuck {}
    ///
    /// greenloom::run(|| {
    ///     let (group, ctx) = Group::with_context(&Context::background());
    ///     let other = ctx.clone();
    ///     group.spawn(move || {
    ///         let _ = other.done().recv();
    ///         Ok(())
    ///     });
    ///     group.spawn(|| Err(NoLuck));
    ///     assert_eq!(group.wait(), Err(NoLuck));
    ///     assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&NoLuck));
    /// });
    /// ```
    pub fn with_context(parent: &Context) -> (Self, Context) {
        let (context, canceller) = parent.with_cancel();
        let cancels = Cancels { canceller, cause: |error: &E| error.clone().into() };
        (Self::with(Some(cancels)), context)
    }
}

impl<E> Group<E>
where
    E: Send + 'static,
{
    /// A group without tasks, limit or context.
    ///
    /// ```
    /// let group = greenloom::group::Group::<std::io::Error>::new();
    /// assert!(group.wait().is_ok());
    /// ```
    pub fn new() -> Self {
        Self::with(None)
    }

    fn with(context: Option<Cancels<E>>) -> Self {
        let inner =
            Inner { tracker: TaskTracker::new(), error: Lock::new(None), limit: Lock::new(None), context, waits: Mutex::new(()) };
        Self { inner: Arc::new(inner) }
    }

    /// Starts a task of the group, in the runtime of the calling task. If the group has a
    /// [limit](Self::set_limit), and as many tasks, it waits for its turn.
    ///
    /// It suspends the calling task in that case; without a limit it never waits. Once the group's
    /// tasks have been cancelled, a new one does not run.
    ///
    /// # Panics
    /// Outside a runtime, if there is no memory for the task, if the limit is zero, and inside
    /// [`no_suspend`](crate::no_suspend) if it has to wait. A panic of the task is raised by
    /// [`wait`](Self::wait).
    ///
    /// # Cancellation
    /// A cancelled caller unwinds from here if it has to wait, and `f` is dropped.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let group = greenloom::group::Group::new();
    ///     group.spawn(|| Err("no luck"));
    ///     assert_eq!(group.wait(), Err("no luck"));
    /// });
    /// ```
    #[track_caller]
    pub fn spawn<F>(&self, f: F)
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        let member = self.member(self.wait_for_slot(), f);
        drop(spawn(move || member.run()));
    }

    /// Waits until the group may have one more task.
    #[track_caller]
    fn wait_for_slot(&self) -> Option<Slot> {
        let limit = self.inner.limit();
        if let Some(Limit { tasks: 0, .. }) = limit {
            panic!("Group::spawn would wait for ever: the limit of the group is zero");
        }
        limit.map(|limit| {
            limit.slots.acquire().expect("it is never closed").forget();
            Slot(limit.slots)
        })
    }

    /// Starts a task of the group if the group has no [limit](Self::set_limit), or fewer tasks.
    /// Returns whether it did; if not, `f` has been dropped. Does not wait, but a refusal may
    /// [give way](crate#what-suspends).
    ///
    /// # Panics
    /// Outside a runtime, and if there is no memory for the task.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let group = greenloom::group::Group::<()>::new();
    ///     group.set_limit(1);
    ///     assert!(group.try_spawn(|| Ok(greenloom::yield_now())));
    ///     assert!(!group.try_spawn(|| unreachable!()));
    ///     group.wait().unwrap();
    /// });
    /// ```
    #[track_caller]
    pub fn try_spawn<F>(&self, f: F) -> bool
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
    {
        let slot = match self.inner.limit() {
            None => None,
            Some(limit) => {
                let Ok(permit) = limit.slots.try_acquire() else { return false };
                permit.forget();
                Some(Slot(limit.slots))
            }
        };
        let member = self.member(slot, f);
        drop(spawn(move || member.run()));
        true
    }

    fn member<F>(&self, slot: Option<Slot>, f: F) -> Member<F, E> {
        self.inner.tracker.enter();
        Member { f, slot, unborn: Unborn(Some(self.inner.clone())) }
    }

    /// Lets at most this many tasks of the group run, or wait to run, at a time. A limit of zero
    /// allows none. Then [`try_spawn`](Self::try_spawn) refuses, and [`spawn`](Self::spawn), which
    /// would wait forever in Go, panics.
    ///
    /// # Panics
    /// If the group has tasks.
    ///
    /// ```
    /// let group = greenloom::group::Group::<()>::new();
    /// group.set_limit(0);
    /// assert!(!group.try_spawn(|| Ok(())));
    /// ```
    #[track_caller]
    pub fn set_limit(&self, tasks: usize) {
        let active = self.inner.tracker.count();
        assert!(active == 0, "Group::set_limit was called while {active} tasks of the group are active");
        let slots = Arc::new(Semaphore::new(tasks.min(Semaphore::MAX_PERMITS)));
        *self.inner.limit.lock() = Some(Limit { tasks, slots });
    }

    /// Waits until all tasks of the group have ended, cancels the group's context, and returns the
    /// first error.
    ///
    /// Suspends the calling task; blocks a plain thread. More tasks may be spawned afterwards, and
    /// waited for again.
    ///
    /// # Errors
    /// The first error that a task has returned since the last `wait`, if one has. Go's `Wait`
    /// returns the same error again; this one gives it away. A task that was cancelled has not
    /// failed.
    ///
    /// # Panics
    /// If a task panicked: with the payload of the first panic, after all tasks have ended. Also
    /// inside [`no_suspend`](crate::no_suspend), if it has to wait; the tasks are then cancelled.
    ///
    /// # Cancellation
    /// A cancelled caller unwinds from here if it has to wait. It cancels the tasks and the
    /// context, and does not wait for them.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let group = greenloom::group::Group::<()>::new();
    ///     group.spawn(|| Ok(()));
    ///     assert!(group.wait().is_ok());
    /// });
    /// ```
    #[track_caller]
    pub fn wait(&self) -> Result<(), E> {
        /// Cancels the group when the caller unwinds.
        struct GiveUp<'a, E>(&'a Inner<E>);
        impl<E> Drop for GiveUp<'_, E> {
            fn drop(&mut self) {
                self.0.cancel();
            }
        }
        let give_up = GiveUp(&self.inner);
        let waits = self.inner.waits.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.tracker.wait();
        forget(give_up);
        let error = self.inner.error.lock().take();
        let panic = self.inner.tracker.take_panic();
        drop(waits);
        self.inner.cancel_context();
        match (panic, error) {
            (Some(payload), error) => {
                // Not dropped by the unwinding, in which its destructor must not panic.
                uncancellable(|| drop(error));
                resume_unwind(payload)
            }
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        }
    }
}

impl<E> Inner<E> {
    fn limit(&self) -> Option<Limit> {
        self.limit.lock().clone()
    }

    /// A task has failed.
    fn fail(&self, error: E) {
        let cause = self.context.as_ref().map(|context| (context.cause)(&error));
        let mut first = self.error.lock();
        let late = if first.is_none() { first.replace(error) } else { Some(error) };
        drop(first);
        if late.is_some() {
            uncancellable(|| drop((late, cause)));
        } else if let (Some(context), Some(cause)) = (&self.context, cause) {
            context.canceller.cancel_with(cause);
        }
    }

    fn cancel_context(&self) {
        if let Some(context) = &self.context {
            context.canceller.cancel();
        }
    }

    fn cancel(&self) {
        self.tracker.cancel();
        self.cancel_context();
    }
}

impl<E> Default for Group<E>
where
    E: Send + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

impl<E> Drop for Group<E> {
    fn drop(&mut self) {
        self.inner.cancel();
    }
}

impl<E> fmt::Debug for Group<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = self.inner.limit().map(|limit| limit.tasks);
        f.debug_struct("Group").field("tasks", &self.inner.tracker.count()).field("limit", &limit).finish()
    }
}

impl Builder {
    /// Starts a task of a group; see [`Group::spawn`]. Waits for a slot first, if the group has a
    /// limit.
    ///
    /// Suspends the task while it waits; blocks a plain thread.
    ///
    /// # Errors
    /// The same as those of [`spawn`](Self::spawn). The task is then not one of the group's.
    ///
    /// # Panics
    /// Outside a runtime, if the group's limit is zero, and inside
    /// [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// The same as [`Group::spawn`].
    ///
    /// ```
    /// use greenloom::{group::Group, task::Builder};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// greenloom::run(|| {
    ///     let group = Group::<String>::new();
    ///     Builder::new().name("member").spawn_in_group(&group, || Ok(()))?;
    ///     group.wait().unwrap();
    ///     Ok(())
    /// })
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_in_group<F, E>(self, group: &Group<E>, f: F) -> io::Result<()>
    where
        F: FnOnce() -> Result<(), E> + Send + 'static,
        E: Send + 'static,
    {
        let member = group.member(group.wait_for_slot(), f);
        self.spawn(move || member.run()).map(drop)
    }
}

/// What a task of a group is to run. Fields are dropped in order: a task counts until its closure
/// is gone.
struct Member<F, E> {
    f: F,
    slot: Option<Slot>,
    unborn: Unborn<E>,
}

impl<F, E> Member<F, E>
where
    F: FnOnce() -> Result<(), E>,
{
    fn run(self) {
        let Self { f, slot, unborn } = self;
        let group = unborn.begin();
        let body = || {
            if let Err(error) = f() {
                group.fail(error);
            }
        };
        group.tracker.run(body, |_, ended| {
            if let Err(error) = ended
                && error.is_panic()
            {
                group.tracker.keep_panic(error);
                group.cancel_context();
            }
            // Before a waiter may change the limit.
            drop(slot);
            None
        });
    }
}

/// One of the tasks that a group's limit allows.
struct Slot(Arc<Semaphore>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

/// A task that has not begun.
struct Unborn<E>(Option<Arc<Inner<E>>>);

impl<E> Unborn<E> {
    fn begin(mut self) -> Arc<Inner<E>> {
        self.0.take().expect("a member begins once")
    }
}

impl<E> Drop for Unborn<E> {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.tracker.leave_unborn();
        }
    }
}

/// Runs services that belong together, each in a task of its own. When the first one returns,
/// whatever it returns, the others are asked to stop. When all have ended, returns their results in
/// the order of the services.
///
/// Each service gets a channel that disconnects when the service is to stop. It can look at the
/// channel, or wait for it in [`select!`](crate::channel::select!). How it stops is up to the
/// service, so it can finish what it has begun. A service that ignores the channel holds up all of
/// them. The services may borrow from the caller, as in [`scope`](crate::scope()).
///
/// Suspends the calling task.
///
/// # Panics
/// If a service panics: the others are asked to stop, and when they have stopped, the panic of the
/// first one is raised. If a service is cancelled by anything but the caller's cancellation.
/// Outside a runtime, and inside [`no_suspend`](crate::no_suspend).
///
/// # Cancellation
/// A cancelled caller cancels the services, waits for them, and unwinds; see
/// [`scope`](crate::scope()).
///
/// ```
/// use greenloom::channel::{Receiver, never, select};
/// use greenloom::group::run_all;
///
/// type Service = Box<dyn FnOnce(Receiver<()>) -> Result<(), &'static str> + Send>;
///
/// greenloom::run(|| {
///     let serves: Service = Box::new(|stop| {
///         let requests = never::<u32>();
///         loop {
///             select! {
///                 recv(requests) -> _request => {}
///                 recv(stop) -> _ => return Ok(()),
///             }
///         }
///     });
///     let fails: Service = Box::new(|_stop| Err("the disk is gone"));
///     assert_eq!(run_all([serves, fails]), [Ok(()), Err("the disk is gone")]);
/// });
/// ```
#[track_caller]
pub fn run_all<I, F, E>(services: I) -> Vec<Result<(), E>>
where
    I: IntoIterator<Item = F>,
    F: FnOnce(Receiver<()>) -> Result<(), E> + Send,
    E: Send,
{
    /// Each service has one. The first that is dropped asks all services to stop.
    struct Stop<'a>(&'a Lock<Option<Sender<()>>>);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            let sender = self.0.lock().take();
            drop(sender);
        }
    }
    let site = Location::caller();
    let (sender, stop) = channel::bounded(0);
    let running = &Lock::new(Some(sender));
    let ends: Vec<_> = scope(|s| {
        let start = |service: F| {
            let stop = stop.clone();
            let service = move || {
                let _stop = Stop(running);
                service(stop)
            };
            s.spawn_from(service, site)
        };
        // All are started before the first one is joined.
        let services: Vec<_> = services.into_iter().map(start).collect();
        services.into_iter().map(|service| service.join()).collect()
    });
    let results = ends.into_iter().map(|end| match end.map_err(|error| error.try_into_panic()) {
        Ok(result) => result,
        Err(Ok(payload)) => resume_unwind(payload),
        Err(Err(_)) => panic!("greenloom: a service of run_all was cancelled"),
    });
    results.collect()
}
