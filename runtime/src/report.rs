//! What a runtime tells of its tasks: panics, and who is left at an end or in a deadlock.

use std::any::Any;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::prim::untracked::Arc;
use crate::scheduler::Shared;
use crate::sys::stderr::say;
use crate::task::header::catch_and_forget;
use crate::task::{Task, TaskPtr, error};
use crate::wait::Reason;

/// The most tasks that stderr hears of at once.
pub(crate) const LISTED: usize = 20;

/// The most tasks that the message of a panic lists.
pub(crate) const LISTED_IN_A_MESSAGE: usize = 100;

/// A task as reports name it: who it is, and what it was doing at that moment.
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = greenloom::Runtime::builder().build()?;
/// runtime.run(|| {
///     // Waits in a destructor for what never comes, so that it cannot end.
///     struct Stubborn;
///     impl Drop for Stubborn {
///         fn drop(&mut self) {
///             greenloom::park();
///         }
///     }
///     let task = greenloom::task::Builder::new().name("stubborn").spawn(|| {
///         let _stubborn = Stubborn;
///         greenloom::park();
///     });
///     drop(task);
///     greenloom::yield_now();
/// });
/// let report = runtime.shutdown(Duration::from_millis(10));
/// let task = &report.leftover()[0];
/// assert_eq!((task.name(), task.waiting_for()), (Some("stubborn"), "parked"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TaskReport {
    pub(crate) id: u64,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) site: Option<&'static Location<'static>>,
    pub(crate) reason: Reason,
    pub(crate) waited: Duration,
}

impl TaskReport {
    /// A task that has not started.
    pub(crate) fn fresh(task: TaskPtr) -> Self {
        Self { id: task.id(), name: task.name(), site: Some(task.site()), reason: Reason::Start, waited: Duration::ZERO }
    }

    /// The task's number; see [`Task::id`].
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The task's name, if it has one; see [`Task::name`].
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where the task was spawned; see [`Task::spawned_at`].
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.site
    }

    /// What the task was doing, as it reads in "the task is …": `parked`, say, or `waiting for a lock`.
    pub fn waiting_for(&self) -> &'static str {
        self.reason.describe()
    }

    /// How long the task had been waiting, give or take some 20 ms (no clock is read when a task begins to wait); zero if it was not.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl TaskReport {
    /// Who it is, without what it was doing.
    pub(crate) fn who(&self) -> impl fmt::Display {
        fmt::from_fn(move |f| name_task(f, self.name(), self.id, self.site))
    }
}

impl fmt::Display for TaskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.who().fmt(f)?;
        write!(f, ", {}", self.reason.describe())?;
        if self.waited.is_zero() { Ok(()) } else { write!(f, ", for {:?} so far", self.waited) }
    }
}

pub(crate) fn name_task(
    f: &mut fmt::Formatter<'_>,
    name: Option<&str>,
    id: u64,
    site: Option<&'static Location<'static>>,
) -> fmt::Result {
    match name {
        Some(name) => write!(f, "task '{name}' (id {id}")?,
        None => write!(f, "task {id} (")?,
    }
    if let Some(site) = site {
        write!(f, "{}spawned at {site}", if name.is_some() { ", " } else { "" })?;
    }
    f.write_str(")")
}

/// Some tasks, and how many more there are. Displayed with a line for each, each after a line's end.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskList {
    pub(crate) tasks: Vec<TaskReport>,
    pub(crate) more: usize,
}

impl TaskList {
    pub(crate) fn push(&mut self, task: TaskReport, limit: usize) {
        if self.tasks.len() < limit {
            self.tasks.push(task);
        } else {
            self.more += 1;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.tasks.len() + self.more
    }

    /// Says on stderr what all of them are.
    pub(crate) fn say(&self, what: &str) {
        for task in &self.tasks {
            say(format_args!("greenloom: {what}: {task}"));
        }
        if self.more > 0 {
            say(format_args!("greenloom: … and {} more", self.more));
        }
    }
}

impl fmt::Display for TaskList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for task in &self.tasks {
            write!(f, "\n  {task}")?;
        }
        if self.more > 0 { write!(f, "\n  … and {} more", self.more) } else { Ok(()) }
    }
}

/// What a runtime does about tasks that are alive when it ends; see [`RuntimeBuilder::on_leak`](crate::RuntimeBuilder::on_leak).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLeak {
    /// They are cancelled, and nothing is said unless they do not end within the grace period.
    #[default]
    Ignore,
    /// They are cancelled, and each is named on stderr: name, number, spawn site, what it waited for, and how long.
    Report,
}

/// What a runtime does when all its tasks wait for each other; see
/// [`RuntimeBuilder::on_deadlock`](crate::RuntimeBuilder::on_deadlock).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeadlock {
    /// `run` panics, naming the tasks; but where the process has other threads, which might wake one, it is as `Report`.
    #[default]
    Panic,
    /// Stderr says so, once, naming the tasks.
    Report,
    /// Nothing: `run` waits for ever.
    Ignore,
}

/// What is left of a runtime after [`Runtime::shutdown`](crate::Runtime::shutdown).
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = greenloom::Runtime::builder().build()?;
/// drop(runtime.spawn(greenloom::park));
/// let report = runtime.shutdown(Duration::from_secs(5));
/// assert!(report.is_clean(), "{report}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "the report says which tasks did not end"]
pub struct ShutdownReport {
    leftover: Vec<TaskReport>,
}

impl ShutdownReport {
    pub(crate) fn new(leftover: Vec<TaskReport>) -> Self {
        Self { leftover }
    }

    /// Whether every task has ended.
    pub fn is_clean(&self) -> bool {
        self.leftover.is_empty()
    }

    /// The tasks that had started and did not end within the grace period, as they were when it was over.
    pub fn leftover(&self) -> &[TaskReport] {
        &self.leftover
    }
}

impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_clean() {
            return f.write_str("all tasks that had started have ended");
        }
        write!(f, "tasks that have not ended: {}", self.leftover.len())?;
        self.leftover.iter().try_for_each(|task| write!(f, "\n  {task}"))
    }
}

/// A task's panic, as a hook hears of it; see [`RuntimeBuilder::on_panic`](crate::RuntimeBuilder::on_panic).
///
/// Displayed as `task 'parser' (id 7, spawned at src/main.rs:5:9) panicked: no luck`.
pub struct TaskPanic<'a> {
    task: Task,
    payload: &'a (dyn Any + Send),
}

impl TaskPanic<'_> {
    /// The task: its name, number and spawn site. It has not ended yet for those who join it.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// What it panicked with; whoever joins the task gets it.
    pub fn payload(&self) -> &(dyn Any + Send) {
        self.payload
    }

    /// The message of the panic, if the payload is one.
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

/// Reports a panic that ends a task, or that the dropping of its closure ended in: to the runtime's hook, else on stderr.
///
/// On the task's stack, or where a task is ended that never runs; the code of the hook is the user's and may do anything.
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
    // The caller of `run` goes on with the panic of its root.
    let raised_again = task.is_root() && task.state().has_handle();
    if !heard && !raised_again {
        say(format_args!("greenloom: {panic}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Runtime, channel, park};

    /// How long a task is said to have waited that has just been woken from a long sleep of the whole runtime and waits again; and how
    /// long that wait is at most.
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
        // Long enough for all threads of the runtime to fall asleep; then nobody counts time slices.
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
        // On a busy machine the monitor may not have come to its rest in time, or the task not to its second; not each time.
        let told: Vec<_> = (0..5).map(|_| waited_after_a_quiet_time()).collect();
        let wrong = |(waited, at_most): &&(Duration, Duration)| *waited > *at_most + Duration::from_millis(20);
        assert!(told.iter().filter(wrong).count() < 3, "{told:?}");
    }

    fn told(name: Option<&str>, site: Option<&'static Location<'static>>, reason: Reason, waited: Duration) -> TaskReport {
        TaskReport { id: 7, name: name.map(Arc::from), site, reason, waited }
    }

    #[test]
    fn a_task_is_told_by_name_number_site_reason_and_time() {
        let here = Location::caller();
        let waited = Duration::from_millis(40);
        for (task, text) in [
            (told(None, None, Reason::Ready, Duration::ZERO), "task 7 (), running or ready to run".to_owned()),
            (told(None, Some(here), Reason::Park, waited), format!("task 7 (spawned at {here}), parked, for 40ms so far")),
            (told(Some("a"), None, Reason::Lock, waited), "task 'a' (id 7), waiting for a lock, for 40ms so far".to_owned()),
            (
                told(Some("a"), Some(here), Reason::Start, Duration::ZERO),
                format!("task 'a' (id 7, spawned at {here}), not started"),
            ),
        ] {
            assert_eq!(task.to_string(), text);
            assert_eq!((task.id(), task.name(), task.spawned_at()), (7, task.name.as_deref(), task.site));
            assert_eq!((task.waiting_for(), task.waited()), (task.reason.describe(), task.waited));
        }
    }

    #[test]
    fn a_list_names_so_many_and_counts_the_rest() {
        let task = || told(None, None, Reason::Park, Duration::ZERO);
        let text = |tasks, limit| {
            let mut list = TaskList::default();
            (0..tasks).for_each(|_| list.push(task(), limit));
            assert_eq!(list.len(), tasks);
            list.to_string()
        };
        let line = "\n  task 7 (), parked";
        assert_eq!(text(0, 2), "");
        assert_eq!(text(2, 2), line.repeat(2));
        assert_eq!(text(3, 2), line.repeat(2) + "\n  … and 1 more");
        assert_eq!(text(5, 2), line.repeat(2) + "\n  … and 3 more");
        assert_eq!(text(1, 0), "\n  … and 1 more");
        assert_eq!(text(5, usize::MAX), line.repeat(5));
    }

    #[test]
    fn what_is_left_of_a_runtime_is_counted_and_listed() {
        let clean = ShutdownReport::new(Vec::new());
        assert!(clean.is_clean() && clean.leftover().is_empty());
        assert_eq!(clean.to_string(), "all tasks that had started have ended");
        let left = ShutdownReport::new(vec![told(None, None, Reason::Park, Duration::ZERO); 2]);
        assert!(!left.is_clean() && left.leftover().len() == 2);
        assert_eq!(left.to_string(), "tasks that have not ended: 2\n  task 7 (), parked\n  task 7 (), parked");
    }

    #[test]
    fn every_reason_is_kept_and_reads_as_itself() {
        let mut texts = std::collections::HashSet::new();
        for raw in 0..=Reason::End as u8 {
            let reason = Reason::from_u8(raw);
            assert_eq!(reason as u8, raw);
            assert!(texts.insert(reason.describe()), "{reason:?} reads as another one");
        }
        assert_eq!(Reason::from_u8(Reason::End as u8 + 1), Reason::Ready);
    }
}
