//! A value that is made on first access.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::const_fn;
use super::once::{IfCancelled, IfPoisoned, Once};
use super::value::Value;
use crate::unwind;

/// A value that is made on first access. The API is that of [`std::sync::LazyLock`].
///
/// If the task that makes the value is cancelled or reaches a time limit, it is unwound only after
/// the value is made: the closure could not be called a second time.
///
/// ```
/// use greenloom::sync::LazyLock;
///
/// static WORDS: LazyLock<Vec<&str>> = LazyLock::new(|| "made at first use".split(' ').collect());
/// greenloom::run(|| assert_eq!(WORDS.len(), 4));
/// ```
pub struct LazyLock<T, F = fn() -> T> {
    once: Once,
    value: Value<Content<T, F>>,
}

/// The closure until it is called, and the value once `once` is done. In between, and after the
/// closure has panicked, neither.
union Content<T, F> {
    closure: ManuallyDrop<F>,
    value: ManuallyDrop<T>,
}

// SAFETY: it gives shared access to the value. The closure is called once, on one thread.
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}

impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    const_fn! {
        /// Creates a value that `f` will make.
        ///
        /// ```
        /// use greenloom::sync::LazyLock;
        /// static ANSWER: LazyLock<u32> = LazyLock::new(|| 42);
        /// assert_eq!(*ANSWER, 42);
        /// ```
        pub const fn new(f: F) -> Self {
            Self { once: Once::new(), value: Value::new(Content { closure: ManuallyDrop::new(f) }) }
        }
    }

    /// Returns the value, and makes it first if necessary. Dereferencing does the same.
    ///
    /// Suspends the task while another task makes the value; blocks a plain thread. The closure may
    /// suspend. It must not force this value: it would wait for itself.
    ///
    /// # Panics
    /// Panics if the closure does, or has done so before. Panics inside
    /// [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait for another task, but not while it
    /// makes the value itself.
    ///
    /// ```
    /// use greenloom::sync::LazyLock;
    /// assert_eq!(LazyLock::force(&LazyLock::new(|| 42)), &42);
    /// ```
    #[inline]
    #[track_caller]
    pub fn force(this: &Self) -> &T {
        if !this.once.is_completed() {
            this.make();
        }
        this.value.announce_read();
        // SAFETY: done, so the value was written. It is not written again.
        unsafe { &(*this.value.get()).value }
    }

    /// Returns the value mutably, and makes it first if necessary. Nobody else has access.
    /// Dereferencing mutably does the same. Waits for no other task, but the closure may suspend.
    ///
    /// # Panics
    /// Panics if the closure does, or has done so before.
    ///
    /// # Cancellation
    /// None: cancellation waits until the value is made.
    ///
    /// ```
    /// use greenloom::sync::LazyLock;
    ///
    /// let mut words = LazyLock::new(|| vec!["one"]);
    /// LazyLock::force_mut(&mut words).push("two");
    /// assert_eq!(words.len(), 2);
    /// ```
    #[inline]
    #[track_caller]
    pub fn force_mut(this: &mut Self) -> &mut T {
        Self::force(this);
        // SAFETY: done by now, so the value was written.
        unsafe { &mut this.value.get_mut().value }
    }

    #[cold]
    #[track_caller]
    fn make(&self) {
        self.once.call(IfPoisoned::Panic("LazyLock"), IfCancelled::Poison, &mut |_| {
            self.value.announce_write();
            // SAFETY: the caller that runs the initialisation has exclusive access to the content.
            // It is the first: a failed attempt is not followed by another.
            let closure = unsafe { ManuallyDrop::take(&mut (*self.value.get()).closure) };
            let value = unwind::uncancellable(closure);
            // SAFETY: the caller that runs the initialisation has exclusive access to the content.
            unsafe { self.value.get().write(Content { value: ManuallyDrop::new(value) }) };
        });
    }
}

impl<T, F> LazyLock<T, F> {
    /// Returns the value, if it has been made. Never waits.
    ///
    /// ```
    /// use greenloom::sync::LazyLock;
    ///
    /// let answer = LazyLock::new(|| 42);
    /// assert_eq!(LazyLock::get(&answer), None);
    /// LazyLock::force(&answer);
    /// assert_eq!(LazyLock::get(&answer), Some(&42));
    /// ```
    #[inline]
    pub fn get(this: &Self) -> Option<&T> {
        this.once.is_completed().then(|| {
            this.value.announce_read();
            // SAFETY: done, so the value was written. It is not written again while `this` is
            // borrowed.
            unsafe { &*(*this.value.get()).value }
        })
    }

    /// Returns the value mutably, if it has been made. Nobody else has access. Never waits.
    ///
    /// ```
    /// use greenloom::sync::LazyLock;
    ///
    /// let mut answer = LazyLock::new(|| 41);
    /// assert_eq!(LazyLock::get_mut(&mut answer), None);
    /// LazyLock::force(&answer);
    /// *LazyLock::get_mut(&mut answer).unwrap() += 1;
    /// assert_eq!(*answer, 42);
    /// ```
    #[inline]
    pub fn get_mut(this: &mut Self) -> Option<&mut T> {
        // SAFETY: done, so the value was written.
        this.once.is_completed().then(|| unsafe { &mut *this.value.get_mut().value })
    }
}

impl<T, F> Drop for LazyLock<T, F> {
    fn drop(&mut self) {
        let content = self.value.get_mut();
        // SAFETY: `Content` says which field is valid. Nobody else has access.
        unsafe {
            if self.once.is_completed() {
                ManuallyDrop::drop(&mut content.value);
            } else if !self.once.is_poisoned_mut() {
                ManuallyDrop::drop(&mut content.closure);
            }
        }
    }
}

impl<T, F: FnOnce() -> T> Deref for LazyLock<T, F> {
    type Target = T;

    #[inline]
    #[track_caller]
    fn deref(&self) -> &T {
        Self::force(self)
    }
}

impl<T, F: FnOnce() -> T> DerefMut for LazyLock<T, F> {
    #[inline]
    #[track_caller]
    fn deref_mut(&mut self) -> &mut T {
        Self::force_mut(self)
    }
}

impl<T: Default> Default for LazyLock<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("LazyLock");
        match Self::get(self) {
            Some(value) => out.field(value),
            None => out.field(&format_args!("<uninit>")),
        };
        out.finish()
    }
}
