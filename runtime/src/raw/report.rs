//! How reports name a task and describe what it is doing.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crate::prim::untracked::Arc;
use crate::raw::header::TaskPtr;
use crate::raw::reason::Reason;
use crate::sys::stderr::say;

/// The most tasks that are listed on stderr at once.
pub(crate) const LISTED: usize = 20;

/// The most tasks that the message of a panic lists.
pub(crate) const LISTED_IN_A_MESSAGE: usize = 100;

/// A task as reports show it: its identity, and what it was doing at that moment.
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

    /// The task's number; see [`Task::id`](crate::Task::id).
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The task's name, if it has one; see [`Task::name`](crate::Task::name).
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Where the task was spawned; see [`Task::spawned_at`](crate::Task::spawned_at).
    pub fn spawned_at(&self) -> Option<&'static Location<'static>> {
        self.site
    }

    /// What the task was doing, worded to follow "the task is …": `parked`, say, or `waiting for a
    /// lock`.
    pub fn waiting_for(&self) -> &'static str {
        self.reason.describe()
    }

    /// How long the task had been waiting, to within some 20 ms, since no clock is read when a task
    /// begins to wait. Zero if it was not waiting.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl TaskReport {
    /// The task's identity, without what it was doing.
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

/// Some tasks, and how many more there are. Displayed with one line for each, each preceded by a
/// newline.
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

    /// Prints all of them to stderr, each prefixed by `what`.
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
