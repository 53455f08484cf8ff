//! What a runtime reports of its tasks: panics; and the settings for tasks that are left over or in
//! a deadlock.

use std::any::Any;
use std::fmt;

use crate::prim::untracked::Arc;
use crate::raw::error;
use crate::raw::header::TaskPtr;
use crate::raw::report::name_task;
use crate::scheduler::Shared;
use crate::scheduler::task::Task;
use crate::sys::stderr::say;
use crate::unwind::catch_and_forget;

/// What a runtime does about tasks that are alive when it ends; see
/// [`RuntimeBuilder::on_leak`](crate::RuntimeBuilder::on_leak).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLeak {
    /// The tasks are cancelled. Nothing is reported unless they do not end within the grace period.
    #[default]
    Ignore,
    /// The tasks are cancelled, and each is named on stderr: name, number, spawn site, what it
    /// waited for, and how long.
    Report,
}

/// What a runtime does when all its tasks wait for each other; see
/// [`RuntimeBuilder::on_deadlock`](crate::RuntimeBuilder::on_deadlock).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeadlock {
    /// `run` panics with a message that names the tasks. If the process has other threads, which
    /// might wake a task, this is the same as `Report`.
    #[default]
    Panic,
    /// A report that names the tasks is printed to stderr, once.
    Report,
    /// Nothing is done: `run` waits forever.
    Ignore,
}

/// A task's panic, as it is passed to a hook; see
/// [`RuntimeBuilder::on_panic`](crate::RuntimeBuilder::on_panic).
///
/// Displayed as `task 'parser' (id 7, spawned at src/main.rs:5:9) panicked: no luck`.
pub struct TaskPanic<'a> {
    task: Task,
    payload: &'a (dyn Any + Send),
}

impl TaskPanic<'_> {
    /// The task: its name, number and spawn site. For a caller that joins it, the task has not
    /// ended yet.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The value that the task panicked with. Joining the task returns it.
    pub fn payload(&self) -> &(dyn Any + Send) {
        self.payload
    }

    /// The message of the panic, if the payload is a message.
    pub fn message(&self) -> Option<&str> {
        error::message(self.payload)
    }
}

impl fmt::Display for TaskPanic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        name_task(f, self.task.name(), self.task.id(), self.task.spawned_at())?;
        f.write_str(" panicked")?;
        self.message().map_or(Ok(()), |message| write!(f, ": {message}"))
    }
}

impl fmt::Debug for TaskPanic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskPanic").field("task", &self.task).field("message", &self.message()).finish_non_exhaustive()
    }
}

type Hook = dyn Fn(&TaskPanic<'_>) + Send + Sync;

/// What a runtime was told to do about panics.
#[derive(Clone)]
pub(crate) struct PanicHook(Arc<Hook>);

impl PanicHook {
    pub(crate) fn new(hook: impl Fn(&TaskPanic<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }
}

impl fmt::Debug for PanicHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PanicHook")
    }
}

/// Reports a panic that ends a task, or that comes from dropping its closure: to the runtime's
/// hook, or else on stderr.
///
/// Called on the task's stack, or where a task that never runs is ended. The hook's code is the
/// user's and may do anything.
#[cold]
pub(crate) fn panicked(task: TaskPtr, payload: &(dyn Any + Send), shared: Option<&Shared>) {
    let panic = TaskPanic { task: Task::of(task), payload };
    let mut heard = false;
    if let Some(hook) = shared.and_then(|shared| shared.config.on_panic.as_ref()) {
        catch_and_forget(|| {
            (hook.0)(&panic);
            heard = true;
        });
    }
    // The caller of `run` resumes the panic of its root.
    let raised_again = task.is_root() && task.state().has_handle();
    if !heard && !raised_again {
        say(format_args!("greenloom: {panic}"));
    }
}
