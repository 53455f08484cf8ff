//! A cell that is written once.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::const_fn;
use super::once::{IfCancelled, IfPoisoned, Once};
use super::value::Value;

/// A cell that can be written once, by the first who does: [`std::sync::OnceLock`]'s shape.
///
/// ```
/// use greenloom::sync::OnceLock;
///
/// static NAME: OnceLock<String> = OnceLock::new();
/// greenloom::run(|| {
///     assert_eq!(NAME.get_or_init(|| "first".into()), "first");
///     assert_eq!(NAME.get_or_init(|| "second".into()), "first");
/// });
/// ```
pub struct OnceLock<T> {
    /// Done once the value is there.
    once: Once,
    /// It drops itself: with a `Drop` of its own, the cell could not hold a reference to what ends before it.
    value: Value<Option<T>>,
}

// SAFETY: it gives shared access to the value, and lets one thread put it there that another may take out or drop.
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for OnceLock<T> {}

impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    const_fn! {
        /// An empty cell.
        ///
        /// ```
        /// static NAME: greenloom::sync::OnceLock<String> = greenloom::sync::OnceLock::new();
        /// assert!(NAME.get().is_none());
        /// ```
        pub const fn new() -> Self {
            Self { once: Once::new(), value: Value::new(None) }
        }
    }

    /// The value, if it is there. Never waits.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::OnceLock::from(1).get(), Some(&1));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: done, so the value was written, and is not written again while `self` is borrowed.
        self.once.is_completed().then(|| unsafe { self.value() })
    }

    /// # Safety
    /// The value is there.
    #[inline]
    unsafe fn value(&self) -> &T {
        self.value.announce_read();
        // SAFETY: the caller's promise.
        unsafe { (*self.value.get()).as_ref().unwrap_unchecked() }
    }

    /// The value, if it is there; nobody else has the cell. Never waits.
    ///
    /// ```
    /// let mut cell = greenloom::sync::OnceLock::from(1);
    /// *cell.get_mut().unwrap() = 2;
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Writes the value, if nobody has.
    ///
    /// Suspends the task while another is about to; blocks a plain thread.
    ///
    /// # Errors
    /// If the cell has a value already; the new one is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait.
    ///
    /// ```
    /// let cell = greenloom::sync::OnceLock::new();
    /// assert_eq!(cell.set(1), Ok(()));
    /// assert_eq!(cell.set(2), Err(2));
    /// ```
    #[track_caller]
    pub fn set(&self, value: T) -> Result<(), T> {
        let mut value = Some(value);
        self.get_or_init(|| value.take().expect("runs once"));
        value.map_or(Ok(()), Err)
    }

    /// The value; if there is none, what `f` makes becomes the value.
    ///
    /// Suspends the task while another is about to write it; blocks a plain thread. `f` may suspend. It must not come back here: it
    /// would wait for itself.
    ///
    /// # Panics
    /// If `f` does; the cell is still empty then. Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, or from `f`; the cell is still empty then.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::OnceLock::new().get_or_init(|| 1), &1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn get_or_init<F: FnOnce() -> T>(&self, f: F) -> &T {
        if !self.once.is_completed() {
            self.initialize(f);
        }
        // SAFETY: done by now.
        unsafe { self.value() }
    }

    #[cold]
    #[track_caller]
    fn initialize<F: FnOnce() -> T>(&self, f: F) {
        let mut f = Some(f);
        self.once.call(IfPoisoned::TryAgain, IfCancelled::TryAgain, &mut |_| {
            let value = f.take().expect("runs once")();
            self.value.announce_write();
            // SAFETY: the one who is at it has the cell for itself.
            unsafe { *self.value.get() = Some(value) };
        });
    }

    /// Waits until the value is there.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait.
    ///
    /// ```
    /// let cell = greenloom::sync::OnceLock::new();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| cell.set(1).unwrap());
    ///     assert_eq!(cell.wait(), &1);
    /// });
    /// ```
    #[track_caller]
    pub fn wait(&self) -> &T {
        self.once.wait_force();
        // SAFETY: done by now.
        unsafe { self.value() }
    }

    /// Takes the value out, if it is there. Never waits.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::OnceLock::from(1).into_inner(), Some(1));
    /// ```
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    /// Takes the value out, if it is there, and leaves the cell empty. Never waits.
    ///
    /// ```
    /// let mut cell = greenloom::sync::OnceLock::from(1);
    /// assert_eq!((cell.take(), cell.take()), (Some(1), None));
    /// ```
    pub fn take(&mut self) -> Option<T> {
        let value = self.value.get_mut().take()?;
        self.once.reset();
        Some(value)
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> From<T> for OnceLock<T> {
    fn from(value: T) -> Self {
        let cell = Self::new();
        // A new cell has no value.
        let _ = cell.set(value);
        cell
    }
}

impl<T: Clone> Clone for OnceLock<T> {
    fn clone(&self) -> Self {
        self.get().cloned().map_or_else(Self::new, Self::from)
    }
}

impl<T: PartialEq> PartialEq for OnceLock<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Eq> Eq for OnceLock<T> {}

impl<T: fmt::Debug> fmt::Debug for OnceLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("OnceLock");
        match self.get() {
            Some(value) => out.field(value),
            None => out.field(&format_args!("<uninit>")),
        };
        out.finish()
    }
}
