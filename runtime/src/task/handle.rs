//! Handles to runtimes.

use std::fmt;
use std::panic::{Location, RefUnwindSafe, UnwindSafe};

use crate::prim::sync::Arc;
use crate::scheduler::placement::Placement;
use crate::scheduler::{Shared, local};
use crate::task::{JoinHandle, spawn_on};

/// Starts tasks in a runtime, from any thread or task.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let runtime = greenloom::Runtime::builder().build()?;
/// let handle = runtime.handle();
/// let thread = std::thread::spawn(move || handle.spawn(|| 6 * 7).join().unwrap());
/// assert_eq!(thread.join().unwrap(), 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl UnwindSafe for Handle {}
impl RefUnwindSafe for Handle {}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// The runtime of the calling task.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn current() -> Handle {
        match Handle::try_current() {
            Some(handle) => handle,
            None => panic!("Handle::current was called outside a runtime; call it from a task, or use Runtime::handle"),
        }
    }

    /// Like [`current`](Self::current), but returns `None` outside a runtime.
    ///
    /// ```
    /// use greenloom::Handle;
    ///
    /// assert!(Handle::try_current().is_none());
    /// assert!(greenloom::run(|| Handle::try_current().is_some()));
    /// ```
    pub fn try_current() -> Option<Handle> {
        local::machine().map(|local| Handle::new(local.shared.clone()))
    }

    /// Starts a task in the handle's runtime. Never waits.
    ///
    /// If the runtime is ending or has ended, the task never runs, and its join handle says that it
    /// was cancelled. Its closure is then dropped by this call.
    ///
    /// # Panics
    /// When there is no memory for the task.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match spawn_on(&self.shared, f, Location::caller(), None, Placement::Near) {
            Ok(handle) => handle,
            Err(error) => panic!("greenloom: cannot spawn a task: {error}"),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("processors", &self.shared.regular).finish_non_exhaustive()
    }
}
