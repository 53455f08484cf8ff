//! A value that is made when it is first asked for.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::const_fn;
use super::once::{IfCancelled, IfPoisoned, Once};
use super::value::Value;
use crate::task::cancel;

/// A value that is made when it is first asked for: [`std::sync::LazyLock`]'s shape.
///
/// Cancellation of the task that makes the value waits until it is made: the closure could not be called again.
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

/// The closure until it is called, and the value once `once` is done; in between, and if the closure has panicked, neither.
union Content<T, F> {
    closure: ManuallyDrop<F>,
    value: ManuallyDrop<T>,
}

// SAFETY: it gives shared access to the value; the closure is called once, on one thread.
unsafe impl<T: Sync + Send, F: Send> Sync for LazyLock<T, F> {}

impl<T: RefUnwindSafe + UnwindSafe, F: UnwindSafe> RefUnwindSafe for LazyLock<T, F> {}
impl<T: UnwindSafe, F: UnwindSafe> UnwindSafe for LazyLock<T, F> {}

impl<T, F: FnOnce() -> T> LazyLock<T, F> {
    const_fn! {
        /// A value that `f` will make.
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

    /// The value, which is made if it is not there. Dereferencing does the same.
    ///
    /// Suspends the task while another makes it; blocks a plain thread. The closure may suspend. It must not come back here: it
    /// would wait for itself.
    ///
    /// # Panics
    /// If the closure does, or has. Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait for another; not while it makes the value itself.
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
        // SAFETY: done, so the value was written, and is not written again.
        unsafe { &(*this.value.get()).value }
    }

    #[cold]
    #[track_caller]
    fn make(&self) {
        self.once.call(IfPoisoned::Panic, IfCancelled::Poison, &mut |_| {
            self.value.announce_write();
            // SAFETY: the one who is at it has the content for itself, and nobody was before: after an attempt that failed there is
            // no second.
            let closure = unsafe { ManuallyDrop::take(&mut (*self.value.get()).closure) };
            let value = cancel::uncancellable(closure);
            // SAFETY: as above.
            unsafe { self.value.get().write(Content { value: ManuallyDrop::new(value) }) };
        });
    }
}

impl<T, F> Drop for LazyLock<T, F> {
    fn drop(&mut self) {
        let content = self.value.get_mut();
        // SAFETY: see `Content`; nobody else has it.
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

impl<T: Default> Default for LazyLock<T> {
    fn default() -> Self {
        Self::new(T::default)
    }
}

impl<T: fmt::Debug, F> fmt::Debug for LazyLock<T, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_tuple("LazyLock");
        if self.once.is_completed() {
            // SAFETY: done, so the value was written, and is not written again.
            out.field(unsafe { &*(*self.value.get()).value });
        } else {
            out.field(&format_args!("<uninit>"));
        }
        out.finish()
    }
}
