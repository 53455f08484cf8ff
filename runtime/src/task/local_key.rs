//! Task-locals: values that each task has for itself.
//!
//! They are kept in the stack's record as long as the task lives: a list of values, each with the
//! address of its key. A task that uses none only checks a null pointer when it ends. On a plain
//! thread the same list is a thread-local.
//!
//! A value is counted, not borrowed: a caller inside `with` keeps it alive. It stays alive even if
//! meanwhile the value is replaced, or its scope ends, elsewhere on the same stack or on a stack of
//! the user's own that was switched away from in the middle.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::Deref;
use std::ptr::null;
use std::rc::Rc;

use crate::raw::locals::{Locals, Slot};
use crate::scheduler::local;
use crate::unwind::catch_and_forget;
use crate::unwind::{self, Section, SectionKind};

/// Declares values that each task has for itself, in the manner of [`std::thread_local!`]. Each
/// becomes a static [`LocalKey`].
///
/// With an initialiser, a task's value is made when the task first uses it. Without one, a task has
/// a value only inside [`LocalKey::scope`], or once it has been [set](ValueKey::set). A plain
/// thread has values of its own, as a task has.
///
/// Unlike a `thread_local!`, which all tasks of a thread share, it can be relied on across a
/// suspension. Tasks do not inherit values. Values need not be `Send`: a task stays on its thread.
///
/// Values are dropped at the end of their task, on its stack and before
/// [`join`](crate::JoinHandle::join) returns, newest first; in a detached task, after its result.
/// Their destructors may wait, even in a cancelled task, and run to their end. A panic in one is
/// reported by the panic hook, and affects nothing else.
///
/// ```
/// use std::cell::Cell;
///
/// greenloom::task_local! {
///     /// How deep this task is.
///     static DEPTH: Cell<u32> = Cell::new(0);
///     static USER: String;
/// }
///
/// greenloom::run(|| {
///     DEPTH.set(DEPTH.get() + 1);
///     let other = greenloom::spawn(|| DEPTH.get());
///     assert_eq!((DEPTH.get(), other.join().unwrap()), (1, 0));
///
///     USER.scope("ada".into(), || USER.with(|name| assert_eq!(name, "ada")));
///     assert!(USER.try_with(|_| ()).is_err());
/// });
/// ```
#[macro_export]
macro_rules! task_local {
    () => {};
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty = $init:expr $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::task::LocalKey<$type> = {
            fn init() -> $type {
                $init
            }
            $crate::task::LocalKey::__new(::core::stringify!($name), ::core::option::Option::Some(init))
        };
        $($crate::task_local! { $($rest)* })?
    };
    ($(#[$attribute:meta])* $visibility:vis static $name:ident: $type:ty $(; $($rest:tt)*)?) => {
        $(#[$attribute])*
        $visibility static $name: $crate::task::LocalKey<$type> =
            $crate::task::LocalKey::__new(::core::stringify!($name), ::core::option::Option::None);
        $($crate::task_local! { $($rest)* })?
    };
}

/// A value that each task has for itself; see [`task_local!`](crate::task_local).
///
/// It offers what std's and tokio's keys do. The methods for `Cell` and `RefCell` act on what is in
/// the cell. For other types, [`get`](ValueKey::get) and [`set`](ValueKey::set) are those of
/// [`ValueKey`], to which it dereferences.
///
/// ```
/// greenloom::task_local! { static LIMIT: u32 = 10; }
/// LIMIT.scope(20, || assert_eq!(LIMIT.get(), 20));
/// assert_eq!(LIMIT.get(), 10);
/// ```
pub struct LocalKey<T: 'static>(ValueKey<T>);

/// What a [`LocalKey`] offers for values that are not cells.
///
/// ```
/// greenloom::task_local! { static LIMIT: u32 = 10; }
/// LIMIT.set(20);
/// assert_eq!(LIMIT.get(), 20);
/// ```
pub struct ValueKey<T: 'static> {
    name: &'static str,
    init: Option<fn() -> T>,
}

/// Why a task-local has no value.
///
/// ```
/// greenloom::task_local! { static USER: String; }
/// let error = USER.try_with(|_| ()).unwrap_err();
/// assert_eq!(error.to_string(), "a task-local without an initialiser has no value outside of `scope`");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccessError {
    dropped: bool,
}

impl fmt::Display for AccessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.dropped {
            "the task-local has been dropped, since its task or thread is ending"
        } else {
            "a task-local without an initialiser has no value outside of `scope`"
        })
    }
}

impl std::error::Error for AccessError {}

impl<T: 'static> Deref for LocalKey<T> {
    type Target = ValueKey<T>;

    fn deref(&self) -> &ValueKey<T> {
        &self.0
    }
}

impl<T: 'static> LocalKey<T> {
    #[doc(hidden)]
    pub const fn __new(name: &'static str, init: Option<fn() -> T>) -> Self {
        Self(ValueKey { name, init })
    }

    /// Calls `f` with the value of this task, or, on a plain thread, of this thread. The value is
    /// made first if it has an initialiser and has not been used. Never waits by itself; `f` and
    /// the initialiser may suspend.
    ///
    /// # Panics
    /// If there is no value: without an initialiser outside of [`scope`](Self::scope), or after it
    /// has been dropped at the end of its task. If `f` or the initialiser panics.
    ///
    /// ```
    /// greenloom::task_local! { static LIMIT: u32 = 10; }
    /// LIMIT.with(|limit| assert_eq!(*limit, 10));
    /// ```
    #[track_caller]
    pub fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        f(&self.0.expect_value())
    }

    /// Like [`with`](Self::with), but returns an error if there is no value.
    ///
    /// # Errors
    /// Where `with` panics because there is no value.
    ///
    /// # Panics
    /// If `f` or the initialiser does.
    ///
    /// ```
    /// greenloom::task_local! { static USER: String; }
    /// assert!(USER.try_with(|_| ()).is_err());
    /// ```
    pub fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        Ok(f(&*self.0.value()?))
    }

    /// Calls `f`, during which the task has this value. Afterwards, also after an unwinding, the
    /// task has the value it had before. Never waits by itself; `f` may suspend, and other tasks do
    /// not see the value. (The coroutine of another crate must [not be suspended
    /// inside](crate#soundness-what-safe-code-can-rely-on).)
    ///
    /// # Panics
    /// If `f` panics. In the destructors of a plain thread that is ending.
    ///
    /// ```
    /// greenloom::task_local! { static USER: String; }
    /// USER.scope("ada".into(), || USER.with(|name| assert_eq!(name, "ada")));
    /// ```
    #[track_caller]
    pub fn scope<R>(&'static self, value: T, f: impl FnOnce() -> R) -> R {
        struct Restore(*const (), Slot);
        impl Drop for Restore {
            fn drop(&mut self) {
                let before = std::mem::replace(&mut self.1, Slot::Empty);
                // Drops the value of the scope here, outside of the list.
                drop(with_locals(|locals| locals.replace(self.0, before)));
            }
        }
        let value = Slot::Value(Rc::new(value));
        let before = with_locals(|locals| locals.replace(self.0.key(), value));
        let _restore = match before {
            Ok(before) => Restore(self.0.key(), before),
            Err(error) => self.0.refuse(error),
        };
        let _section = unwind::running().map(|running| Section::enter(running.interrupts, SectionKind::Local));
        f()
    }
}

impl<T: 'static> ValueKey<T> {
    /// Its address distinguishes it from other keys: they are statics, and none is of size zero.
    fn key(&'static self) -> *const () {
        std::ptr::from_ref(self).cast()
    }

    #[track_caller]
    fn expect_value(&'static self) -> Rc<T> {
        match self.value() {
            Ok(value) => value,
            Err(error) => self.refuse(error),
        }
    }

    #[cold]
    #[track_caller]
    fn refuse(&self, error: AccessError) -> ! {
        panic!("cannot use `{}`: {error}", self.name)
    }

    fn value(&'static self) -> Result<Rc<T>, AccessError> {
        if let Some(value) = self.existing()? {
            return Ok(value);
        }
        let init = self.init.ok_or(AccessError { dropped: false })?;
        // No list is borrowed meanwhile: the initialiser may use other task-locals, and suspend.
        let value = Rc::new(init());
        self.put(value.clone())?;
        Ok(value)
    }

    /// The value, if there already is one.
    fn existing(&'static self) -> Result<Option<Rc<T>>, AccessError> {
        match with_locals(|locals| locals.get(self.key()))? {
            // It has another type only if a key was not made by the macro, and shares its address
            // with another constant.
            Slot::Value(value) => Ok(value.downcast::<T>().ok()),
            Slot::Empty => Ok(None),
            Slot::Dropped => Err(AccessError { dropped: true }),
        }
    }

    fn put(&'static self, value: Rc<T>) -> Result<(), AccessError> {
        match with_locals(|locals| locals.get(self.key()))? {
            Slot::Dropped => Err(AccessError { dropped: true }),
            _ => {
                // Drops what was there before, outside of the list.
                drop(with_locals(|locals| locals.replace(self.key(), Slot::Value(value)))?);
                Ok(())
            }
        }
    }

    /// Replaces the value of this task. A caller inside `with` keeps the old one until it returns.
    /// Never waits.
    ///
    /// # Panics
    /// If the value has been dropped at the end of its task.
    ///
    /// ```
    /// greenloom::task_local! { static USER: String; }
    /// USER.set("ada".into());
    /// USER.with(|name| assert_eq!(name, "ada"));
    /// ```
    #[track_caller]
    pub fn set(&'static self, value: T) {
        if let Err(error) = self.put(Rc::new(value)) {
            self.refuse(error);
        }
    }

    /// A clone of the value. Never waits by itself; the initialiser may suspend.
    ///
    /// # Panics
    /// As [`LocalKey::with`].
    ///
    /// ```
    /// greenloom::task_local! { static LIMIT: u32 = 10; }
    /// assert_eq!(LIMIT.get(), 10);
    /// ```
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Clone,
    {
        T::clone(&self.expect_value())
    }

    /// Like [`get`](Self::get), but returns an error if there is no value.
    ///
    /// # Errors
    /// Where [`LocalKey::with`] panics because there is no value.
    ///
    /// # Panics
    /// If the initialiser or the clone does.
    ///
    /// ```
    /// greenloom::task_local! { static USER: String; }
    /// assert!(USER.try_get().is_err());
    /// USER.scope("ada".into(), || assert_eq!(USER.try_get().unwrap(), "ada"));
    /// ```
    pub fn try_get(&'static self) -> Result<T, AccessError>
    where
        T: Clone,
    {
        Ok(T::clone(&*self.value()?))
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Sets what is in the cell. The initialiser, if there is one, need not run for that. Never
    /// waits.
    ///
    /// # Panics
    /// If the value has been dropped at the end of its task.
    ///
    /// ```
    /// use std::cell::Cell;
    /// greenloom::task_local! { static DEPTH: Cell<u32> = Cell::new(0); }
    /// DEPTH.set(1);
    /// assert_eq!(DEPTH.get(), 1);
    /// ```
    #[track_caller]
    pub fn set(&'static self, value: T) {
        match self.0.existing() {
            Ok(Some(cell)) => cell.set(value),
            Ok(None) => self.0.set(Cell::new(value)),
            Err(error) => self.0.refuse(error),
        }
    }

    /// A copy of what is in the cell. Never waits by itself; the initialiser may suspend.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    ///
    /// ```
    /// use std::cell::Cell;
    /// greenloom::task_local! { static DEPTH: Cell<u32> = Cell::new(0); }
    /// assert_eq!(DEPTH.get(), 0);
    /// ```
    #[track_caller]
    pub fn get(&'static self) -> T
    where
        T: Copy,
    {
        self.with(Cell::get)
    }

    /// Takes what is in the cell, and leaves the default. Never waits by itself; the initialiser
    /// may suspend.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    ///
    /// ```
    /// use std::cell::Cell;
    /// greenloom::task_local! { static DEPTH: Cell<u32> = Cell::new(2); }
    /// assert_eq!((DEPTH.take(), DEPTH.get()), (2, 0));
    /// ```
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(Cell::take)
    }

    /// Sets what is in the cell, and returns what was. Never waits by itself; the initialiser may
    /// suspend.
    ///
    /// # Panics
    /// As [`with`](Self::with).
    ///
    /// ```
    /// use std::cell::Cell;
    /// greenloom::task_local! { static DEPTH: Cell<u32> = Cell::new(2); }
    /// assert_eq!(DEPTH.replace(3), 2);
    /// ```
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> LocalKey<RefCell<T>> {
    /// Calls `f` with what is in the cell, borrowed. Never waits by itself; `f` and the initialiser
    /// may suspend.
    ///
    /// # Panics
    /// If the cell is borrowed mutably, and as [`with`](Self::with).
    ///
    /// ```
    /// use std::cell::RefCell;
    /// greenloom::task_local! { static LINES: RefCell<Vec<u8>> = RefCell::default(); }
    /// LINES.with_borrow(|lines| assert!(lines.is_empty()));
    /// ```
    #[track_caller]
    pub fn with_borrow<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.with(|cell| f(&cell.borrow()))
    }

    /// Calls `f` with what is in the cell, borrowed mutably. Never waits by itself; `f` and the
    /// initialiser may suspend.
    ///
    /// # Panics
    /// If the cell is borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// use std::cell::RefCell;
    /// greenloom::task_local! { static LINES: RefCell<Vec<u8>> = RefCell::default(); }
    /// LINES.with_borrow_mut(|lines| lines.push(1));
    /// ```
    #[track_caller]
    pub fn with_borrow_mut<R>(&'static self, f: impl FnOnce(&mut T) -> R) -> R {
        self.with(|cell| f(&mut cell.borrow_mut()))
    }

    /// Sets what is in the cell. The initialiser, if there is one, need not run for that. Never
    /// waits.
    ///
    /// # Panics
    /// If the cell is borrowed, or has been dropped at the end of its task.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// greenloom::task_local! { static LINES: RefCell<Vec<u8>> = RefCell::default(); }
    /// LINES.set(vec![1]);
    /// ```
    #[track_caller]
    pub fn set(&'static self, value: T) {
        match self.0.existing() {
            Ok(Some(cell)) => drop(cell.replace(value)),
            Ok(None) => self.0.set(RefCell::new(value)),
            Err(error) => self.0.refuse(error),
        }
    }

    /// Takes what is in the cell, and leaves the default. Never waits by itself; the initialiser
    /// may suspend.
    ///
    /// # Panics
    /// If the cell is borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// use std::cell::RefCell;
    /// greenloom::task_local! { static LINES: RefCell<Vec<u8>> = RefCell::new(vec![1]); }
    /// assert_eq!(LINES.take(), [1]);
    /// ```
    #[track_caller]
    pub fn take(&'static self) -> T
    where
        T: Default,
    {
        self.with(RefCell::take)
    }

    /// Sets what is in the cell, and returns what was. Never waits by itself; the initialiser may
    /// suspend.
    ///
    /// # Panics
    /// If the cell is borrowed, and as [`with`](Self::with).
    ///
    /// ```
    /// use std::cell::RefCell;
    /// greenloom::task_local! { static LINES: RefCell<Vec<u8>> = RefCell::new(vec![1]); }
    /// assert_eq!(LINES.replace(vec![]), [1]);
    /// ```
    #[track_caller]
    pub fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: 'static> fmt::Debug for LocalKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalKey").field("name", &self.0.name).finish_non_exhaustive()
    }
}

impl<T: 'static> fmt::Debug for ValueKey<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValueKey").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Calls `f`, which must not run user code, with the list of the running task, or otherwise of this
/// thread.
fn with_locals<R>(f: impl FnOnce(&Locals) -> R) -> Result<R, AccessError> {
    let locals = match local::running() {
        Some((_, record)) => {
            if record.locals().is_null() {
                record.set_locals(Locals::new());
            }
            record.locals()
        }
        None => thread_locals().ok_or(AccessError { dropped: true })?,
    };
    // SAFETY: the list is freed at the end of the task or thread, which comes after `f` returns.
    Ok(f(unsafe { &*locals }))
}

/// The list of this plain thread; `None` once the thread has dropped it.
// Never inlined, like all accesses to thread-locals: see `prim::local`.
#[inline(never)]
#[allow(clippy::missing_const_for_thread_local, reason = "loom's macro knows no const")]
fn thread_locals() -> Option<*const Locals> {
    /// Ends the list with the thread.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            let _ = LIST.try_with(|list| {
                let locals = list.get();
                if !locals.is_null() {
                    // SAFETY: made below, and freed only here. The pointer stays while the values
                    // are dropped, which may use each other.
                    unsafe {
                        (*locals).take_all(|value| catch_and_forget(|| drop(value)));
                        list.set(null());
                        Locals::free(locals);
                    }
                }
            });
        }
    }
    crate::prim::thread_local! {
        // Two variables, so that the list can be reached while its values are dropped.
        static LIST: Cell<*const Locals> = Cell::new(null());
        static END: End = End;
    }
    LIST.try_with(|list| {
        if list.get().is_null() && END.try_with(|_| ()).is_ok() {
            list.set(Locals::new());
        }
        (!list.get().is_null()).then_some(list.get())
    })
    .ok()
    .flatten()
}
