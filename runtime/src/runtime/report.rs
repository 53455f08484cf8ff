//! The report on a runtime that has ended.

use std::fmt;

use crate::raw::report::TaskReport;

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

    /// The tasks that had started and did not end within the grace period, as they were when it was
    /// over.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::reason::Reason;

    fn parked() -> TaskReport {
        TaskReport { id: 7, name: None, site: None, reason: Reason::Park, waited: std::time::Duration::ZERO }
    }

    #[test]
    fn what_is_left_of_a_runtime_is_counted_and_listed() {
        let clean = ShutdownReport::new(Vec::new());
        assert!(clean.is_clean() && clean.leftover().is_empty());
        assert_eq!(clean.to_string(), "all tasks that had started have ended");
        let left = ShutdownReport::new(vec![parked(); 2]);
        assert!(!left.is_clean() && left.leftover().len() == 2);
        assert_eq!(left.to_string(), "tasks that have not ended: 2\n  task 7 (), parked\n  task 7 (), parked");
    }
}
