//! A task in memory: one allocation, with a header that does not know the closure's type.
//!
//! User code runs when a closure or a result is dropped. When that is, and on which stack, is told
//! where tasks end, in the scheduler.

use std::alloc::Layout;
use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;

use crate::prim::cell::UnsafeCell;
use crate::prim::untracked::Arc;
use crate::raw::error::JoinError;
use crate::raw::record::Record;
use crate::raw::state::{State, TransitionByDrop};
use crate::raw::task_slab::SlabCache;
use crate::raw::waiter::Waiter;
use crate::stack::Class;

/// What every task has. Who may touch which field:
///
/// 1. `state`: anyone, through its transitions. `vtable`, `site`, `id` and `extra` never change
///    after the spawn.
/// 2. `home`, `record`: written by the machine that starts the task (or binds it, before that);
///    read by that machine, and by the thread that cleared `PARKED`, which happens after the start.
/// 3. `link`: the thread that queues the task in an inbox, until the inbox's owner has taken it
///    out; then, while the task is fresh, the thread that has taken it from its queue.
/// 4. `joiner`: the join handle's owner while `JOINER` is not set; afterwards the completing task.
/// 5. The closure and the result: the running task, until `COMPLETE` is set; then the join handle's
///    owner.
#[repr(C)]
pub(crate) struct Header {
    state: State,
    vtable: &'static Vtable,
    site: &'static Location<'static>,
    id: u64,
    home: UnsafeCell<*const ()>,
    record: UnsafeCell<*const Record>,
    link: UnsafeCell<*mut Header>,
    joiner: UnsafeCell<Waiter>,
    extra: Option<Box<Extra>>,
}

/// What only few tasks have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) class: Option<Class>,
    /// Placed with [`Placement::On`](crate::task::Placement::On): it is never moved.
    pub(crate) pinned: bool,
    /// The root of a `run`, whose caller resumes the panic.
    pub(crate) root: bool,
}

/// The operations that know the types of the closure and the result.
struct Vtable {
    run: unsafe fn(TaskPtr) -> Option<Payload>,
    drop_closure: unsafe fn(TaskPtr),
    set_error: unsafe fn(TaskPtr, JoinError),
    drop_result: unsafe fn(TaskPtr),
    take_result: unsafe fn(TaskPtr, *mut ()),
    free: unsafe fn(TaskPtr, Option<&SlabCache>),
}

/// What an unwinding carries.
pub(crate) type Payload = Box<dyn Any + Send>;

/// A task's header, with the room for its closure and later its result.
#[repr(C)]
struct TaskCell<F, T> {
    header: Header,
    content: UnsafeCell<Content<F, T>>,
}

union Content<F, T> {
    closure: ManuallyDrop<F>,
    result: ManuallyDrop<Result<T, JoinError>>,
}

impl<F, T> TaskCell<F, T>
where
    F: FnOnce() -> T,
{
    const VTABLE: Vtable = Vtable {
        run: Self::run,
        drop_closure: Self::drop_closure,
        set_error: Self::set_error,
        drop_result: Self::drop_result,
        take_result: Self::take_result,
        free: Self::free,
    };

    fn content(task: TaskPtr) -> *const UnsafeCell<Content<F, T>> {
        // SAFETY: the vtable, and so this function's type parameters, came with the cell that
        // `task` points to.
        unsafe { &raw const (*task.0.as_ptr().cast::<Self>()).content }
    }

    /// # Safety
    /// As [`TaskPtr::run_closure`].
    unsafe fn run(task: TaskPtr) -> Option<Payload> {
        // SAFETY: rule 5: the running task owns the closure, and this takes it once.
        let closure = unsafe { (*Self::content(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).closure)) };
        match catch_unwind(AssertUnwindSafe(closure)) {
            Ok(result) => {
                // SAFETY: rule 5; the closure is gone, so its room is free.
                unsafe { (*Self::content(task)).with_mut(|p| (&raw mut (*p).result).write(ManuallyDrop::new(Ok(result)))) };
                None
            }
            Err(payload) => Some(payload),
        }
    }

    /// # Safety
    /// As [`TaskPtr::drop_closure`].
    unsafe fn drop_closure(task: TaskPtr) {
        // SAFETY: rule 5: the caller owns the closure, and drops it once.
        drop(unsafe { (*Self::content(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).closure)) });
    }

    /// # Safety
    /// As [`TaskPtr::set_error`].
    unsafe fn set_error(task: TaskPtr, error: JoinError) {
        // SAFETY: rule 5: the closure is gone, so its room is free.
        unsafe { (*Self::content(task)).with_mut(|p| (&raw mut (*p).result).write(ManuallyDrop::new(Err(error)))) };
    }

    /// # Safety
    /// Rule 5, and the result has not been taken.
    unsafe fn drop_result(task: TaskPtr) {
        // SAFETY: rule 5, and the result has not been taken, as `# Safety` demands.
        let result = unsafe { (*Self::content(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).result)) };
        drop(result);
    }

    /// # Safety
    /// Rule 5; `out` is room for a `Result<T, JoinError>`, and the result has not been taken.
    unsafe fn take_result(task: TaskPtr, out: *mut ()) {
        // SAFETY: rule 5; `out` has room and the result has not been taken, as `# Safety` demands.
        unsafe {
            let result = (*Self::content(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).result));
            out.cast::<Result<T, JoinError>>().write(result);
        }
    }

    /// # Safety
    /// The last reference is gone, and with it the closure and the result.
    unsafe fn free(task: TaskPtr, cells: Option<&SlabCache>) {
        // SAFETY: the last reference is gone, so nobody else knows the cell. The content has been
        // taken, so only the header has anything to drop.
        unsafe {
            let cell = task.0.as_ptr().cast::<Self>();
            (&raw mut (*cell).header).drop_in_place();
            // Loom's cells have something to drop; a union drops nothing that it held.
            (&raw mut (*cell).content).drop_in_place();
            SlabCache::free(cells, cell.cast(), Layout::new::<Self>());
        }
    }
}

/// A pointer to a task. It does not count as a reference: the queues and stacks that hold it share
/// the scheduler's reference.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TaskPtr(NonNull<Header>);

// SAFETY: the header's rules say which thread may touch what.
unsafe impl Send for TaskPtr {}

impl TaskPtr {
    /// Makes a fresh task in memory from `alloc`, which is [`SlabCache::alloc`] of some cache.
    /// `None` if there is no memory; `f` is dropped then.
    ///
    /// # Safety
    /// `F` and `T` move to the threads that run and join the task. Unless both are `Send`, the
    /// caller binds the task to this thread.
    pub(crate) unsafe fn new<F, T>(
        f: F,
        site: &'static Location<'static>,
        id: u64,
        extra: Option<Box<Extra>>,
        alloc: impl FnOnce(Layout) -> *mut u8,
    ) -> Option<TaskPtr>
    where
        F: FnOnce() -> T,
    {
        let cell = NonNull::new(alloc(Layout::new::<TaskCell<F, T>>()))?.cast::<TaskCell<F, T>>();
        // SAFETY: the room is new, large enough and aligned.
        unsafe {
            (&raw mut (*cell.as_ptr()).header).write(Header {
                state: State::new(),
                vtable: &TaskCell::<F, T>::VTABLE,
                site,
                id,
                home: UnsafeCell::new(std::ptr::null()),
                record: UnsafeCell::new(std::ptr::null()),
                link: UnsafeCell::new(std::ptr::null_mut()),
                joiner: UnsafeCell::new(Waiter::NONE),
                extra,
            });
            (&raw mut (*cell.as_ptr()).content).write(UnsafeCell::new(Content { closure: ManuallyDrop::new(f) }));
        }
        Some(TaskPtr(cell.cast()))
    }

    /// # Safety
    /// `raw` came from [`as_ptr`](Self::as_ptr) of a task that still lives.
    pub(crate) unsafe fn from_raw(raw: *mut Header) -> TaskPtr {
        // SAFETY: `as_ptr` never gives null.
        TaskPtr(unsafe { NonNull::new_unchecked(raw) })
    }

    pub(crate) fn as_ptr(self) -> *mut Header {
        self.0.as_ptr()
    }

    #[inline(always)]
    fn header<'a>(self) -> &'a Header {
        // SAFETY: the holder of a TaskPtr shares a reference to the task (see the type), so the
        // header is alive. All its fields are shared cells or never change.
        unsafe { self.0.as_ref() }
    }

    #[inline(always)]
    pub(crate) fn state<'a>(self) -> &'a State {
        &self.header().state
    }

    pub(crate) fn site(self) -> &'static Location<'static> {
        self.header().site
    }

    pub(crate) fn id(self) -> u64 {
        self.header().id
    }

    pub(crate) fn name(self) -> Option<Arc<str>> {
        self.header().extra.as_ref()?.name.clone()
    }

    /// The name, borrowed for as long as the caller holds the task.
    pub(crate) fn name_ref<'a>(self) -> Option<&'a str> {
        self.header().extra.as_ref()?.name.as_deref()
    }

    /// The stack class that was asked for, if it differs from the runtime's.
    #[inline]
    pub(crate) fn class(self) -> Option<Class> {
        self.header().extra.as_ref()?.class
    }

    pub(crate) fn is_pinned(self) -> bool {
        self.header().extra.as_ref().is_some_and(|extra| extra.pinned)
    }

    pub(crate) fn is_root(self) -> bool {
        self.header().extra.as_ref().is_some_and(|extra| extra.root)
    }

    /// The scheduler's pointer to where the task is bound; null while it is not bound.
    ///
    /// # Safety
    /// Rule 2.
    #[inline]
    pub(crate) unsafe fn raw_home(self) -> *const () {
        // SAFETY: rule 2.
        self.header().home.with(|p| unsafe { *p })
    }

    /// # Safety
    /// Rule 2.
    #[inline]
    pub(crate) unsafe fn set_raw_home(self, home: *const ()) {
        // SAFETY: rule 2.
        self.header().home.with_mut(|p| unsafe { *p = home });
    }

    /// The stack record; null while the task is fresh.
    ///
    /// # Safety
    /// Rule 2.
    #[inline]
    pub(crate) unsafe fn record(self) -> *const Record {
        // SAFETY: rule 2.
        self.header().record.with(|p| unsafe { *p })
    }

    /// # Safety
    /// Rule 2.
    #[inline]
    pub(crate) unsafe fn set_record(self, record: *const Record) {
        // SAFETY: rule 2.
        self.header().record.with_mut(|p| unsafe { *p = record });
    }

    /// Prefetches what a switch to the task touches.
    ///
    /// # Safety
    /// Rule 2.
    #[inline(always)]
    pub(crate) unsafe fn prefetch_stack(self) {
        // SAFETY: rule 2; a record is mapped as long as its task lives.
        if let Some(record) = unsafe { self.record().as_ref() } {
            record.prefetch();
        }
    }

    /// # Safety
    /// Rule 3.
    pub(crate) unsafe fn link(self) -> *mut Header {
        // SAFETY: rule 3.
        self.header().link.with(|p| unsafe { *p })
    }

    /// # Safety
    /// Rule 3.
    pub(crate) unsafe fn set_link(self, next: *mut Header) {
        // SAFETY: rule 3.
        self.header().link.with_mut(|p| unsafe { *p = next });
    }

    /// Notes that the task came through an inbox.
    ///
    /// # Safety
    /// Rule 3, by the inbox's owner.
    pub(crate) unsafe fn note_sent(self) {
        // SAFETY: rule 3.
        unsafe { self.set_link(std::ptr::dangling_mut()) };
    }

    /// Whether a fresh task came through an inbox. Unless a thief has taken it since, it is where
    /// it was sent. This is a hint.
    ///
    /// # Safety
    /// The caller took the task from its queue.
    pub(crate) unsafe fn was_sent(self) -> bool {
        // SAFETY: rule 3: the caller took the task from its queue.
        unsafe { !self.link().is_null() }
    }

    /// # Safety
    /// Rule 4.
    #[inline]
    pub(crate) unsafe fn set_joiner(self, waiter: Waiter) {
        // SAFETY: rule 4: the caller may write the joiner.
        self.header().joiner.with_mut(|p| unsafe { *p = waiter });
    }

    /// The waiter that joins the task.
    ///
    /// # Safety
    /// Rule 4, by the completing task.
    pub(crate) unsafe fn joiner(self) -> Waiter {
        // SAFETY: rule 4: the completing task reads the joiner.
        self.header().joiner.with(|p| unsafe { *p })
    }

    /// Runs the closure and stores its result. If it unwinds, returns the payload and stores no
    /// result.
    ///
    /// # Safety
    /// Rule 5: on the task's own stack, and once, instead of [`drop_closure`](Self::drop_closure).
    #[inline]
    pub(crate) unsafe fn run_closure(self) -> Option<Payload> {
        // SAFETY: rule 5: on the task's own stack, once.
        unsafe { (self.header().vtable.run)(self) }
    }

    /// Drops the closure, whose destructors are user code.
    ///
    /// # Safety
    /// Rule 5: a fresh task's closure belongs to the code that took the task from its queue. Called
    /// once.
    pub(crate) unsafe fn drop_closure(self) {
        // SAFETY: rule 5: the caller took the fresh task from its queue, and calls this once.
        unsafe { (self.header().vtable.drop_closure)(self) };
    }

    /// Stores an error in place of a result.
    ///
    /// # Safety
    /// Rule 5: the closure is gone, and there is no result.
    pub(crate) unsafe fn set_error(self, error: JoinError) {
        // SAFETY: rule 5: the closure is gone, and there is no result.
        unsafe { (self.header().vtable.set_error)(self, error) };
    }

    /// Takes the result of a completed task.
    ///
    /// # Safety
    /// The task is complete, `T` is its result's type, and the caller is the join handle's owner,
    /// who calls this or [`drop_result`](Self::drop_result) once.
    pub(crate) unsafe fn take_result<T>(self) -> Result<T, JoinError> {
        let mut out = std::mem::MaybeUninit::<Result<T, JoinError>>::uninit();
        // SAFETY: rule 5: the join handle's owner takes the result once. `take_result` writes all
        // of `out`.
        unsafe {
            (self.header().vtable.take_result)(self, out.as_mut_ptr().cast());
            out.assume_init()
        }
    }

    /// # Safety
    /// As [`take_result`](Self::take_result).
    pub(crate) unsafe fn drop_result(self) {
        // SAFETY: rule 5: the join handle's owner drops the result once.
        unsafe { (self.header().vtable.drop_result)(self) };
    }

    /// Gives up a reference.
    ///
    /// # Safety
    /// The caller has one, and does not use it afterwards.
    #[inline]
    pub(crate) unsafe fn drop_ref(self, cells: Option<&SlabCache>) {
        match self.state().drop_ref() {
            TransitionByDrop::Alive => {}
            // SAFETY: it was the last reference; closure and result go before the references that
            // guard them.
            TransitionByDrop::Free => unsafe { self.free(cells) },
        }
    }

    /// # Safety
    /// The last reference is gone, and with it the closure and the result.
    pub(crate) unsafe fn free(self, cells: Option<&SlabCache>) {
        // SAFETY: the last reference is gone, as `# Safety` demands.
        unsafe { (self.header().vtable.free)(self, cells) };
    }
}
