//! Why a task has no result.

use std::any::Any;
use std::fmt;

/// Why [`JoinHandle::join`](crate::JoinHandle::join) has no result to return: the task panicked, or
/// it was cancelled.
///
/// ```
/// greenloom::run(|| {
///     let error = greenloom::spawn(|| panic!("no luck")).join().unwrap_err();
///     assert!(error.is_panic());
///     assert_eq!(error.to_string(), "task panicked: no luck");
/// });
/// ```
// Boxed: the result of a task that returns nothing is then one word, and every task is smaller.
pub struct JoinError(Box<Cause>);

enum Cause {
    Cancelled,
    Panicked(Box<dyn Any + Send>),
}

impl JoinError {
    pub(crate) fn cancelled() -> Self {
        Self(Box::new(Cause::Cancelled))
    }

    pub(crate) fn panicked(payload: Box<dyn Any + Send>) -> Self {
        Self(Box::new(Cause::Panicked(payload)))
    }

    /// Whether the task panicked.
    pub fn is_panic(&self) -> bool {
        matches!(*self.0, Cause::Panicked(_))
    }

    /// Whether the task was cancelled: by [`JoinHandle::cancel`](crate::JoinHandle::cancel) or
    /// [`Task::cancel`](crate::Task::cancel), by the scope, group or pool that it belongs to, or
    /// because its runtime shut down.
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.0, Cause::Cancelled)
    }

    /// Returns the panic's payload, to inspect or to pass to [`std::panic::resume_unwind`].
    ///
    /// # Panics
    /// If the task was cancelled; see [`try_into_panic`](Self::try_into_panic).
    #[track_caller]
    pub fn into_panic(self) -> Box<dyn Any + Send> {
        match self.try_into_panic() {
            Ok(payload) => payload,
            Err(_) => panic!("JoinError::into_panic: the task did not panic, it was cancelled"),
        }
    }

    /// Returns the panic's payload, or the error itself if the task was cancelled.
    ///
    /// # Errors
    /// `self`, if the task was cancelled.
    pub fn try_into_panic(self) -> Result<Box<dyn Any + Send>, JoinError> {
        match *self.0 {
            Cause::Panicked(payload) => Ok(payload),
            Cause::Cancelled => Err(JoinError::cancelled()),
        }
    }

    /// The message of a panic, if it has one.
    fn message(&self) -> Option<&str> {
        let Cause::Panicked(payload) = &*self.0 else { return None };
        message(&**payload)
    }
}

/// The message of a panic, if its payload is a string.
pub(crate) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    payload.downcast_ref::<&'static str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str))
}

// SAFETY: the payload is only Send. `&JoinError` reaches it in one way: `message` reads it if it is
// a `&'static str` or a `String`, and both are Sync.
unsafe impl Sync for JoinError {}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&*self.0, self.message()) {
            (Cause::Cancelled, _) => f.write_str("task was cancelled"),
            (Cause::Panicked(_), Some(message)) => write!(f, "task panicked: {message}"),
            (Cause::Panicked(_), None) => f.write_str("task panicked"),
        }
    }
}

impl fmt::Debug for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinError({self})")
    }
}

impl std::error::Error for JoinError {}
