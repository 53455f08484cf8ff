//! A cell that can be written once.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::const_fn;
use super::once::{IfCancelled, IfPoisoned, Once};
use super::value::Value;

/// A cell that can be written once. The API is that of [`std::sync::OnceLock`].
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
    /// Done once the value is present.
    once: Once,
    /// It drops itself. If the cell implemented `Drop`, it could not hold a reference to something
    /// that ends before it.
    value: Value<Option<T>>,
}

// SAFETY: it gives shared access to the value. One thread may put the value in, and another may
// take it out or drop it.
unsafe impl<T: Sync + Send> Sync for OnceLock<T> {}
// SAFETY: it owns its value.
unsafe impl<T: Send> Send for OnceLock<T> {}

impl<T: RefUnwindSafe + UnwindSafe> RefUnwindSafe for OnceLock<T> {}
impl<T: UnwindSafe> UnwindSafe for OnceLock<T> {}

impl<T> OnceLock<T> {
    const_fn! {
        /// Creates an empty cell.
        ///
        /// ```
        /// static NAME: greenloom::sync::OnceLock<String> = greenloom::sync::OnceLock::new();
        /// assert!(NAME.get().is_none());
        /// ```
        pub const fn new() -> Self {
            Self { once: Once::new(), value: Value::new(None) }
        }
    }

    /// Returns the value, if it is present. Never waits.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::OnceLock::from(1).get(), Some(&1));
    /// ```
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // SAFETY: done, so the value was written. It is not written again while `self` is borrowed.
        self.once.is_completed().then(|| unsafe { self.value() })
    }

    /// # Safety
    /// The value is present.
    #[inline]
    unsafe fn value(&self) -> &T {
        self.value.announce_read();
        // SAFETY: the value is present, as `# Safety` demands.
        unsafe { (*self.value.get()).as_ref().unwrap_unchecked() }
    }

    /// Returns the value, if it is present. Nobody else has access to the cell. Never waits.
    ///
    /// ```
    /// let mut cell = greenloom::sync::OnceLock::from(1);
    /// *cell.get_mut().unwrap() = 2;
    /// ```
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.get_mut().as_mut()
    }

    /// Writes the value, if the cell is empty.
    ///
    /// Suspends the task while another task writes the value; blocks a plain thread.
    ///
    /// # Errors
    /// Fails if the cell already has a value. The new value is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
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

    /// Returns the value. If the cell is empty, the result of `f` becomes the value.
    ///
    /// Suspends the task while another task writes the value; blocks a plain thread. `f` may
    /// suspend. It must not initialise this cell: it would wait for itself.
    ///
    /// # Panics
    /// Panics if `f` does; the cell is then still empty. Panics inside
    /// [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, or from `f`. The cell is then still
    /// empty.
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
        // SAFETY: done by now, so the value is present.
        unsafe { self.value() }
    }

    #[cold]
    #[track_caller]
    fn initialize<F: FnOnce() -> T>(&self, f: F) {
        let mut f = Some(f);
        self.once.call(IfPoisoned::TryAgain, IfCancelled::TryAgain, &mut |_| {
            let value = f.take().expect("runs once")();
            self.value.announce_write();
            // SAFETY: the caller that runs the initialisation has exclusive access to the cell.
            unsafe { *self.value.get() = Some(value) };
        });
    }

    /// Waits until the value is present.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
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
        // SAFETY: done by now, so the value is present.
        unsafe { self.value() }
    }

    /// Takes the value out, if it is present. Never waits.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::OnceLock::from(1).into_inner(), Some(1));
    /// ```
    pub fn into_inner(mut self) -> Option<T> {
        self.take()
    }

    /// Takes the value out, if it is present, and leaves the cell empty. Never waits.
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
