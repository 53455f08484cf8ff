//! Starting tasks.

use std::io;
use std::panic::Location;

use crate::prim::untracked::Arc;
use crate::raw::fork::ELSEWHERE;
use crate::raw::header::Extra;
use crate::raw::header::TaskPtr;
use crate::scheduler::local::{self, Local};
use crate::scheduler::processor::Ready;
use crate::scheduler::{Shared, placement::Placement};
use crate::stack::Class;
use crate::sys::number::take_ids;
use crate::task::{Handle, JoinHandle, LocalJoinHandle};

const OUTSIDE: &str = "greenloom::spawn was called outside a runtime; call it from a task (inside greenloom::run, say), \
     or use Runtime::spawn or Handle::spawn";

/// Starts a task in the runtime of the calling task.
///
/// Never waits: the task runs when its turn comes, here or on another processor. Of the tasks that
/// have not started, the newest runs first; they take turns with the ready ones. The task is fresh
/// until it starts, and may be stolen. Once it has started it stays on its thread.
///
/// # Panics
/// Outside a runtime, and when there is no memory for the task.
///
/// A panic in `f` stays in the task. The process's panic hook prints the message and location, as
/// for any thread. Then a line on stderr names the task with its number and spawn site, or the
/// runtime's [`on_panic`](crate::RuntimeBuilder::on_panic) hook is called. [`JoinHandle::join`]
/// returns the payload.
///
/// ```
/// greenloom::run(|| {
///     let tasks: Vec<_> = (0..10u64).map(|i| greenloom::spawn(move || i * i)).collect();
///     let sum: u64 = tasks.into_iter().map(|task| task.join().unwrap()).sum();
///     assert_eq!(sum, 285);
/// });
/// ```
#[inline]
#[track_caller]
pub fn spawn<F, T>(f: F) -> JoinHandle<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let Some(local) = local::machine() else { panic!("{OUTSIDE}") };
    // SAFETY: `F` and `T` are Send.
    match unsafe { local.make_task(f, Location::caller(), None) } {
        Ok(task) => {
            local.place(task, Placement::Near);
            // SAFETY: made just now.
            unsafe { JoinHandle::new(task) }
        }
        Err(error) => no_memory(&error),
    }
}

/// Starts a task that stays on this thread from the beginning. Neither its closure nor its result
/// need be `Send`.
///
/// Never waits.
///
/// # Panics
/// Outside a task, and when there is no memory for the task.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// greenloom::run(|| {
///     let count = Rc::new(Cell::new(0));
///     let task = greenloom::spawn_local({
///         let count = count.clone();
///         move || count.set(count.get() + 1)
///     });
///     task.join().unwrap();
///     assert_eq!(count.get(), 1);
/// });
/// ```
#[track_caller]
pub fn spawn_local<F, T>(f: F) -> LocalJoinHandle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let Some((local, _)) = local::running() else {
        panic!("greenloom::spawn_local was called outside a task; call it inside one, inside greenloom::run, say")
    };
    // SAFETY: bound to this thread before anybody else learns of it.
    match unsafe { local.make_task(f, Location::caller(), None) } {
        Ok(task) => {
            // SAFETY: header rule 2: the task is new, and this machine binds it.
            unsafe { task.set_home(local.processor()) };
            local.push_next(Ready { task, bound: true });
            // SAFETY: made just now.
            unsafe { LocalJoinHandle::new(task) }
        }
        Err(error) => no_memory(&error),
    }
}

#[cold]
#[track_caller]
pub(crate) fn no_memory(error: &io::Error) -> ! {
    panic!("greenloom: cannot spawn a task: {error}")
}

/// Starts a task in `shared`, from anywhere.
///
/// # Errors
/// If there is no memory for it.
pub(crate) fn spawn_on<F, T>(
    shared: &Shared,
    f: F,
    site: &'static Location<'static>,
    extra: Option<Box<Extra>>,
    placement: Placement,
) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: `F` and `T` are Send, and borrow nothing.
    unsafe { spawn_unbounded(shared, f, site, extra, placement) }
}

/// Like [`spawn_on`], whatever the closure borrows.
///
/// # Safety
/// `F` and `T` are `Send`. What they borrow lives until the closure, and what it returned, have
/// been dropped.
#[inline]
pub(crate) unsafe fn spawn_unbounded<F, T>(
    shared: &Shared,
    f: F,
    site: &'static Location<'static>,
    extra: Option<Box<Extra>>,
    placement: Placement,
) -> io::Result<JoinHandle<T>>
where
    F: FnOnce() -> T,
{
    let here = local::machine().filter(|local| std::ptr::eq::<Shared>(&*local.shared, shared));
    let task = match here {
        // SAFETY: `F` and `T` are Send, as `# Safety` demands.
        Some(local) => unsafe { local.make_task(f, site, extra) }?,
        None if shared.is_elsewhere() => return Err(io::Error::other(ELSEWHERE)),
        // SAFETY: `F` and `T` are Send, as `# Safety` demands.
        None => unsafe { TaskPtr::new(f, site, take_ids(1), extra, |layout| shared.cells.alloc(layout)) }
            .ok_or(io::ErrorKind::OutOfMemory)?,
    };
    // SAFETY: made just now. This comes before it is placed: afterwards it may run and end at any
    // time.
    let handle = unsafe { JoinHandle::new(task) };
    match here {
        Some(local) => Local::place(local, task, placement),
        None => shared.place(task, placement),
    }
    Ok(handle)
}

/// Starts a task with more than a closure: a name, a stack of another size, a place.
///
/// ```
/// use greenloom::task::{Builder, Placement};
///
/// # fn main() -> std::io::Result<()> {
/// greenloom::run(|| {
///     let worker = Builder::new().name("parser").stack_size(512 * 1024).placement(Placement::Spread).spawn(|| {
///         assert_eq!(greenloom::current().name(), Some("parser"));
///     })?;
///     worker.join().unwrap();
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until spawn is called"]
pub struct Builder {
    name: Option<Arc<str>>,
    stack_size: Option<usize>,
    placement: Placement,
}

impl Builder {
    /// A task with no name, the runtime's stack size, and a place near its spawner.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the task, for reports and for [`Task::name`](crate::Task::name).
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Gives the task a stack of at least this many bytes: from 16 KiB to 1 GiB, rounded up to a
    /// power of two. Memory is used as it is touched. Without this the stack has the [runtime's
    /// size](crate::RuntimeBuilder::stack_size).
    ///
    /// Unoptimised builds copy a message of several KiB a few times on the stack. If messages are
    /// larger than some 4 KiB, give more to tasks that you have given small stacks, or box the
    /// messages.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Sets where the task starts, and so where it stays; see [`Placement`].
    pub fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// Starts the task in the runtime of the calling task. Never waits.
    ///
    /// # Errors
    /// If the stack size is out of range, [`Placement::On`] names a processor that the runtime does
    /// not have, or there is no memory for the task. If there is no memory for its stack when it
    /// starts, [`JoinHandle::join`] returns an error.
    ///
    /// # Panics
    /// Outside a runtime.
    #[track_caller]
    pub fn spawn<F, T>(self, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let Some(local) = local::machine() else {
            panic!(
                "greenloom::task::Builder::spawn was called outside a runtime; call it from a task, inside greenloom::run, say"
            )
        };
        self.spawn_from(&local.shared, f, Location::caller())
    }

    /// Like [`spawn`](Self::spawn), but in the handle's runtime, from anywhere.
    ///
    /// If the runtime is ending or has ended, the task never runs, and its join handle says that it
    /// was cancelled.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    ///
    /// ```
    /// use greenloom::task::Builder;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = greenloom::Runtime::builder().build()?;
    /// let task = Builder::new().name("answer").spawn_in(&runtime.handle(), || 42)?;
    /// assert_eq!(task.join().unwrap(), 42);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn spawn_in<F, T>(self, runtime: &Handle, f: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.spawn_from(runtime.shared(), f, Location::caller())
    }

    fn spawn_from<F, T>(self, shared: &Shared, f: F, site: &'static Location<'static>) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (extra, placement) = self.resolve(shared)?;
        spawn_on(shared, f, site, extra, placement)
    }

    /// What a task in this runtime is spawned with.
    ///
    /// # Errors
    /// If the stack size is out of range, or the runtime has no such processor.
    pub(crate) fn resolve(self, shared: &Shared) -> io::Result<(Option<Box<Extra>>, Placement)> {
        let class = self.stack_size.map(Class::for_stack).transpose()?;
        if let Placement::On(index) = self.placement
            && index >= shared.regular
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("placement On({index}): the runtime has {} processors, numbered from 0", shared.regular),
            ));
        }
        let pinned = matches!(self.placement, Placement::On(_));
        let extra = (self.name.is_some() || class.is_some() || pinned)
            .then(|| Box::new(Extra { name: self.name, class, pinned, root: false }));
        Ok((extra, self.placement))
    }
}
