//! Runtimes: building, running and ending them.

mod builder;
pub(crate) mod report;
pub mod testing;

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe, resume_unwind};
use std::time::Duration;

pub use self::builder::RuntimeBuilder;
use crate::prim::sync::Arc;
use crate::prim::thread;
use crate::raw::fork;
use crate::raw::header::Extra;
use crate::runtime::report::ShutdownReport;
use crate::scheduler::placement::Placement;
use crate::scheduler::{Shared, local};
use crate::stack::Class;
use crate::structured::scope::{Scope, scope_in};
use crate::sys::stderr::say;
use crate::task::{Handle, JoinError, JoinHandle, join, spawn_on};
use crate::wait::{self, Reason};

/// Runs `f` as the root task of a runtime with default settings, and returns its result.
///
/// The calling thread waits; it does not become one of the runtime's. When the root task returns,
/// the tasks that are left are cancelled and given a second to unwind, or more as long as some of
/// them keep ending. Tasks that are still there then are named on stderr. When this returns, the
/// runtime's threads have ended, with the destructors of their thread-locals. See [`Runtime`].
///
/// If all tasks wait for a thread outside the runtime for more than a second, a warning of a
/// deadlock is printed to stderr, once; [`RuntimeBuilder::on_deadlock`] can silence that.
///
/// Blocks a plain OS thread. Inside a task of another runtime it suspends only that task.
///
/// # Panics
/// If `f` does, with the same payload: the process's panic hook has printed its message when it
/// happened, and nothing more is printed. If all tasks wait for each other; see
/// [`RuntimeBuilder::on_deadlock`]. If the system has no threads or memory for a runtime; and
/// inside [`no_suspend`](crate::no_suspend).
///
/// # Cancellation
/// A cancelled caller unwinds from here, through the end of the runtime: `f` is cancelled like
/// every other task of it.
///
/// ```
/// let answer = greenloom::run(|| greenloom::spawn(|| 6 * 7).join().unwrap());
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match Runtime::builder().build() {
        Ok(runtime) => runtime.run(f),
        Err(error) => panic!("greenloom::run cannot start a runtime: {error}"),
    }
}

/// An M:N runtime: processors that run tasks, each driven by an OS thread.
///
/// A process may have several runtimes, and a task of one may run another. **Dropping it** ends it:
/// all its tasks are cancelled, their destructors run, and the drop waits for that up to the [grace
/// period](RuntimeBuilder::shutdown_grace). Then it joins the runtime's threads, however long that
/// takes. When the drop returns, what tasks have left in thread-locals has been dropped, as after
/// joining a thread of std's. All stack memory goes back to the system, even if somebody still has
/// a [`Handle`].
///
/// Tasks that are left (they never suspend, say) are named on stderr. Their threads and stacks stay
/// as they are until the process ends, so destructors of those threads' thread-locals do not run. A
/// [`join`](JoinHandle::join) on such a task waits as long as it lives, possibly forever. If the
/// runtime is dropped inside one of its own tasks, it only begins to end, and nothing waits.
///
/// The drop blocks a plain OS thread, and **suspends** a task of another runtime. Inside
/// [`no_suspend`](crate::no_suspend) the drop panics, or, if the task is already unwinding, does
/// not wait. A task that is already cancelled unwinds from the drop without having waited. One that
/// is cancelled while it waits does wait to the end.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = greenloom::Runtime::builder().processors(2).build()?;
/// let task = runtime.spawn(|| "from outside");
/// let inside = runtime.run(|| greenloom::spawn(|| "from inside").join().unwrap());
/// assert_eq!((task.join().unwrap(), inside), ("from outside", "from inside"));
/// # Ok(())
/// # }
/// ```
pub struct Runtime {
    handle: Handle,
}

impl UnwindSafe for Runtime {}
impl RefUnwindSafe for Runtime {}

impl Runtime {
    fn new(shared: Arc<Shared>) -> Runtime {
        Runtime { handle: Handle::new(shared) }
    }

    /// Returns a builder with default settings.
    pub fn builder() -> RuntimeBuilder {
        RuntimeBuilder::default()
    }

    /// Runs `f` as a task of this runtime and waits for its result. Other tasks go on when it
    /// returns.
    ///
    /// `f` has a stack of 8 MiB, as a program's `main` usually has. It has the runtime's
    /// [`stack_size`](RuntimeBuilder::stack_size) if that is larger, or if a limit (`ulimit -v`)
    /// leaves no addresses for more.
    ///
    /// Blocks a plain OS thread; suspends a task, whether of this runtime or of another.
    ///
    /// # Panics
    /// If `f` does, with the same payload: the process's panic hook has printed its message when it
    /// happened, and nothing more is printed. If all tasks of the runtime wait for each other; see
    /// [`RuntimeBuilder::on_deadlock`]. If there is no memory for the task. If the task is
    /// cancelled, by itself or because the runtime is being dropped elsewhere; and inside
    /// [`no_suspend`](crate::no_suspend).
    ///
    /// # Cancellation
    /// A cancelled caller unwinds from here; `f` goes on, detached.
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.run_from(f, Location::caller())
    }

    /// [`run`](Self::run), with this location as the spawn site.
    #[track_caller]
    pub(crate) fn run_from<F, T>(&self, f: F, site: &'static Location<'static>) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let shared = self.shared();
        let extra = Box::new(Extra { root: true, class: Some(Class::ROOT.max(shared.class)), ..Extra::default() });
        if shared.is_elsewhere() {
            fork::refuse_to_run();
        }
        let coming = shared.roots.expect();
        let root = match spawn_on(shared, f, site, Some(extra), Placement::Near) {
            Ok(root) => root,
            Err(error) => panic!("greenloom: cannot spawn a task: {error}"),
        };
        let elsewhere = local::machine().is_some_and(|local| !Arc::ptr_eq(&local.shared, shared));
        let entry = shared.roots.enter(root.raw(), coming);
        join::wait_until_complete(root.raw(), if elsewhere { Reason::Run } else { Reason::Join });
        let verdict = entry.verdict();
        let ended = root.join().map_err(JoinError::try_into_panic);
        if let (Some(verdict), Ok(_) | Err(Ok(_))) = (&verdict, &ended) {
            // Something has caught or deferred the cancellation.
            say(format_args!("greenloom: {verdict}"));
        }
        match (ended, verdict) {
            (Ok(value), _) => value,
            (Err(Ok(payload)), _) => resume_unwind(payload),
            (Err(Err(_)), Some(verdict)) => panic!("{verdict}"),
            (Err(Err(_)), None) => {
                panic!("greenloom: the task of Runtime::run was cancelled: by somebody, or because its runtime is shutting down")
            }
        }
    }

    /// Starts a task in this runtime, from anywhere. Never waits.
    ///
    /// # Panics
    /// When there is no memory for the task.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.handle.spawn(f)
    }

    /// [`scope`](crate::scope()) with its tasks in this runtime, from anywhere.
    ///
    /// Blocks a plain OS thread until all have ended; suspends a task, whether of this runtime or
    /// of another. It is not reported if its tasks wait for each other: that is found only where
    /// somebody waits in [`run`](Self::run).
    ///
    /// # Panics
    /// As [`scope`](crate::scope()), but not outside a runtime.
    ///
    /// # Cancellation
    /// As [`scope`](crate::scope()).
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = greenloom::Runtime::builder().build()?;
    /// let mut squares = [1, 2, 3];
    /// runtime.scope(|s| {
    ///     for number in &mut squares {
    ///         s.spawn(|| *number *= *number);
    ///     }
    /// });
    /// assert_eq!(squares, [1, 4, 9]);
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

    /// Ends the runtime, as dropping it does, and reports which tasks have not ended. They are
    /// cancelled, and have until `grace` is over.
    ///
    /// The report replaces what the drop would print to stderr. Tasks that have not started never
    /// will, and are not in the report.
    ///
    /// Blocks a plain OS thread, up to `grace` and no longer than it takes. Inside a task of
    /// another runtime it suspends only that task. `grace` is exact: unlike that of a drop, it is
    /// not extended while tasks end. The time that destructors of the threads' thread-locals take
    /// comes on top.
    ///
    /// # Panics
    /// In one of the runtime's own tasks, which would wait for its own end; the runtime is dropped
    /// there, and so begins to end. And inside [`no_suspend`](crate::no_suspend).
    ///
    /// # Cancellation
    /// As dropping: a caller that is already cancelled unwinds from here; one that is cancelled
    /// while it waits does wait to the end.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = greenloom::Runtime::builder().build()?;
    /// let task = runtime.spawn(greenloom::park);
    /// let report = runtime.shutdown(Duration::from_secs(5));
    /// for task in report.leftover() {
    ///     eprintln!("does not end: {} since {:?}: {task}", task.waiting_for(), task.waited());
    /// }
    /// assert!(report.is_clean() && task.join().unwrap_err().is_cancelled());
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn shutdown(self, grace: Duration) -> ShutdownReport {
        let shared = self.shared().clone();
        shared.assert_here();
        if local::machine().is_some_and(|local| Arc::ptr_eq(&local.shared, &shared)) {
            panic!(
                "Runtime::shutdown was called in a task of the runtime itself, which would wait for its own end; drop it there"
            );
        }
        shared.lock_remains().asked = Some(grace);
        drop(self);
        let leftover = std::mem::take(&mut shared.lock_remains().leftover);
        ShutdownReport::new(leftover)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// A handle that starts tasks from anywhere. It does not keep the runtime from ending.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let shared = self.shared();
        if shared.is_elsewhere() {
            return;
        }
        shared.begin_shutdown();
        match local::machine().filter(|local| Arc::ptr_eq(&local.shared, shared)) {
            Some(local) => _ = local.notice_phase(),
            // Another panic would abort the process.
            None if thread::panicking() && !local::may_suspend() => {}
            None => wait_for_end(shared),
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime").field("processors", &self.shared().regular).finish_non_exhaustive()
    }
}

/// Waits until all threads of a runtime have ended, or the grace period has. Suspends a task;
/// blocks a plain thread.
fn wait_for_end(shared: &Shared) {
    // Never withdrawn: the wait is bounded by the grace period, and the caller that ends a runtime
    // must not leave its machines behind.
    let _ = wait::wait_for(Reason::Shutdown, None, |waiter| shared.tell_of_end(waiter), || false);
    shared.join_monitor();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::report::TaskReport;
    use crate::{channel, park};

    /// How long a report says that a task has waited, after it has been woken from a long sleep of
    /// the whole runtime and waits again; and how long that wait is at most.
    fn waited_after_a_quiet_time() -> (Duration, Duration) {
        let runtime = Runtime::builder().processors(1).build().unwrap();
        let task = runtime.spawn(|| {
            loop {
                park();
            }
        });
        let report = || runtime.shared().tasks_alive(1).tasks.pop();
        let parks = |report: &TaskReport| report.reason == Reason::Park;
        let parked = || {
            loop {
                if let Some(report) = report().filter(parks) {
                    return report;
                }
            }
        };
        parked();
        // Long enough for all threads of the runtime to fall asleep. Then nobody counts time
        // slices.
        channel::after(Duration::from_millis(500)).recv().unwrap();
        let runs = runtime.shared().runs();
        let woken = crate::prim::now();
        task.task().unpark();
        while runtime.shared().runs() == runs {
            std::hint::spin_loop();
        }
        (parked().waited, woken.elapsed())
    }

    #[test]
    fn a_quiet_time_of_the_whole_runtime_is_not_taken_for_a_wait() {
        // On a busy machine the monitor may not have come to rest in time, or the task not to its
        // second wait; but not every time.
        let told: Vec<_> = (0..5).map(|_| waited_after_a_quiet_time()).collect();
        let wrong = |(waited, at_most): &&(Duration, Duration)| *waited > *at_most + Duration::from_millis(20);
        assert!(told.iter().filter(wrong).count() < 3, "{told:?}");
    }
}
