//! A task in memory: one allocation, with a header that does not know the closure's type.
//!
//! # Who drops what, and where
//!
//! Code of users runs where the runtime drops something for them. A destructor may do anything: wait, say, to tell a partner that
//! this goes. So each place has an answer to three questions. *Put off* means that neither the cancellation of the task whose stack
//! it is, nor a limit around, ends the destructor half way ([`drop_whole`], [`catch_and_forget`]); in an unwinding that is so
//! anyway.
//!
//! | what | on which stack | whose cancellation | may it wait |
//! |---|---|---|---|
//! | what a task's closure owns, when it returns | the task's | the task's, as in all its code | yes |
//! | the same, when it unwinds | the task's | put off: it unwinds | yes |
//! | a closure that never runs: cancelled before its start, or its runtime ends | the task's | put off | yes |
//! | the same, of a task for which there is no stack | the one that its machine keeps for that, as a task | put off | yes |
//! | the same, of a task that no queue took, because its runtime is ending, say, or that is left in one when it has ended | whoever finds that out: its spawner, the monitor, a machine that ends | put off | in a task, yes; else it blocks the thread |
//! | a result without a handle, a payload that nobody takes | the task's, after the closure | put off | yes |
//! | a task's `task_local!` values | the task's, after the result | put off | yes |
//! | a result that goes with its handle | that of the handle's owner | the owner's, as of any value it drops | as the owner |
//! | a result of a scope's child, an error of a group's member, that somebody else's panic supersedes | the child's, the member's; or that of whoever waits | put off | yes |
//! | a closure of a scope's or group's task that begins after they were cancelled | the task's | put off | yes |
//! | jobs in the queue of a pool that is dropped, results that nobody waits for | a worker's | put off | yes |
//! | what [`on_panic`](crate::RuntimeBuilder::on_panic)'s hook owns and does | the panicked task's | put off | yes |
//! | the values of a plain thread's `task_local!` | the thread's, at its end | it has none | it blocks the thread |

use std::alloc::Layout;
use std::any::Any;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::ptr::NonNull;

use crate::prim::cell::UnsafeCell;
use crate::prim::thread::Unwinding;
use crate::prim::untracked::Arc;
use crate::report;
use crate::scheduler::Shared;
use crate::scheduler::local;
use crate::scheduler::processor::Processor;
use crate::stack::Class;
use crate::stack::record::Record;
use crate::task::bound::Bound;
use crate::task::cancel::uncancellable;
use crate::task::cells::CellCache;
use crate::task::error::JoinError;
use crate::task::interrupt;
use crate::task::local_key;
use crate::task::state::{State, TransitionByDrop, TransitionToComplete};
use crate::wait::Waiter;

/// What every task has. Who may touch which field:
///
/// 1. `state` is anyone's, through its transitions. `vtable`, `site`, `id` and `extra` never change after the spawn.
/// 2. `home`, `record`: written by the machine that starts the task (or binds it, before that), read by that machine, and by
///    whoever cleared `PARKED`, which happens after the start.
/// 3. `link`: whoever queues the task in an inbox, until the inbox's owner has taken it out; then, while the task is fresh, whoever
///    has taken it from its queue.
/// 4. `joiner`: the join handle's owner while `JOINER` is not set; afterwards the completing task.
/// 5. The closure and the result: the running task, until `COMPLETE` is set; then the join handle's owner.
#[repr(C)]
pub(crate) struct Header {
    state: State,
    vtable: &'static Vtable,
    site: &'static Location<'static>,
    id: u64,
    home: UnsafeCell<*const Processor>,
    record: UnsafeCell<*const Record>,
    link: UnsafeCell<*mut Header>,
    joiner: UnsafeCell<Waiter>,
    extra: Option<Box<Extra>>,
}

/// What few tasks have.
#[derive(Default)]
pub(crate) struct Extra {
    pub(crate) name: Option<Arc<str>>,
    pub(crate) class: Option<Class>,
    /// Placed with [`Placement::On`](crate::task::Placement::On): nobody moves it.
    pub(crate) pinned: bool,
    /// The root of a `run`, whose caller goes on with the panic.
    pub(crate) root: bool,
}

/// The operations that know the closure's and the result's type.
struct Vtable {
    run: unsafe fn(TaskPtr),
    fail: unsafe fn(TaskPtr, JoinError, Option<&Shared>),
    drop_result: unsafe fn(TaskPtr),
    take_result: unsafe fn(TaskPtr, *mut ()),
    free: unsafe fn(TaskPtr, Option<&CellCache>),
}

/// A task's header with the room for its closure, later its result.
#[repr(C)]
struct TaskCell<F, T> {
    header: Header,
    payload: UnsafeCell<Payload<F, T>>,
}

union Payload<F, T> {
    closure: ManuallyDrop<F>,
    result: ManuallyDrop<Result<T, JoinError>>,
}

impl<F, T> TaskCell<F, T>
where
    F: FnOnce() -> T,
{
    const VTABLE: Vtable = Vtable {
        run: Self::run,
        fail: Self::fail,
        drop_result: Self::drop_result,
        take_result: Self::take_result,
        free: Self::free,
    };

    fn payload(task: TaskPtr) -> *const UnsafeCell<Payload<F, T>> {
        // SAFETY: the vtable, and so this function's type parameters, came with the cell that `task` points to.
        unsafe { &raw const (*task.0.as_ptr().cast::<Self>()).payload }
    }

    /// Runs the closure and leaves its result.
    ///
    /// # Safety
    /// On the task's own stack, once, instead of `fail`.
    unsafe fn run(task: TaskPtr) {
        // SAFETY: rule 5: the running task owns the closure, and this takes it once.
        let closure = unsafe { (*Self::payload(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).closure)) };
        let result = if task.state().is_cancelled() {
            drop_whole(closure).map_err(|p| task.ended_by(p, None)).and(Err(JoinError::cancelled()))
        } else {
            catch_unwind(AssertUnwindSafe(closure)).map_err(|p| task.ended_by(p, None))
        };
        // SAFETY: rule 5; the closure is gone, its room is free.
        unsafe { (*Self::payload(task)).with_mut(|p| (&raw mut (*p).result).write(ManuallyDrop::new(result))) };
    }

    /// Ends the task without running it.
    ///
    /// # Safety
    /// As [`TaskPtr::fail`], once, instead of `run`.
    unsafe fn fail(task: TaskPtr, error: JoinError, shared: Option<&Shared>) {
        // SAFETY: rule 5: a fresh task's closure belongs to whoever took the task from its queue.
        unsafe {
            let closure = (*Self::payload(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).closure));
            let dropped = drop_whole(closure).map_err(|p| task.ended_by(p, shared));
            let result = dropped.and(Err(error));
            (*Self::payload(task)).with_mut(|p| (&raw mut (*p).result).write(ManuallyDrop::new(result)));
        }
    }

    /// # Safety
    /// Rule 5, and the result has not been taken.
    unsafe fn drop_result(task: TaskPtr) {
        // SAFETY: the caller's promise.
        let result = unsafe { (*Self::payload(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).result)) };
        drop(result);
    }

    /// # Safety
    /// Rule 5; `out` is room for a `Result<T, JoinError>`, and the result has not been taken.
    unsafe fn take_result(task: TaskPtr, out: *mut ()) {
        // SAFETY: the caller's promise.
        unsafe {
            let result = (*Self::payload(task)).with_mut(|p| ManuallyDrop::take(&mut (*p).result));
            out.cast::<Result<T, JoinError>>().write(result);
        }
    }

    /// # Safety
    /// The last reference is gone, and with it closure and result.
    unsafe fn free(task: TaskPtr, cells: Option<&CellCache>) {
        // SAFETY: nobody else knows the cell; the payload has been taken, so only the header has anything to drop.
        unsafe {
            let cell = task.0.as_ptr().cast::<Self>();
            (&raw mut (*cell).header).drop_in_place();
            // Loom's cells have something to drop; a union drops nothing that was in it.
            (&raw mut (*cell).payload).drop_in_place();
            CellCache::free(cells, cell.cast(), Layout::new::<Self>());
        }
    }
}

/// A pointer to a task, by itself not a reference: the queues and stacks that hold it share the scheduler's one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct TaskPtr(NonNull<Header>);

// SAFETY: the header's rules say who may touch what from where.
unsafe impl Send for TaskPtr {}

impl TaskPtr {
    /// Makes a fresh task in memory from `alloc`, which is [`CellCache::alloc`] of some cache. `None` if there is none; `f` is
    /// dropped then.
    ///
    /// # Safety
    /// `F` and `T` go to whatever thread runs and joins the task: unless both are `Send`, the caller binds it to this thread.
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
        // SAFETY: the room is new, and large and aligned enough.
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
            (&raw mut (*cell.as_ptr()).payload).write(UnsafeCell::new(Payload { closure: ManuallyDrop::new(f) }));
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
        // SAFETY: whoever holds a TaskPtr shares a reference to the task (see the type), so the header is alive. All its fields
        // are shared cells or never change.
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

    /// The stack that was asked for, if another than the runtime's.
    #[inline]
    pub(crate) fn class(self) -> Option<Class> {
        self.header().extra.as_ref()?.class
    }

    /// Asks the task to unwind.
    pub(crate) fn cancel(self) {
        if self.state().cancel() {
            local::make_runnable(self);
        }
    }

    pub(crate) fn is_pinned(self) -> bool {
        self.header().extra.as_ref().is_some_and(|extra| extra.pinned)
    }

    pub(crate) fn is_root(self) -> bool {
        self.header().extra.as_ref().is_some_and(|extra| extra.root)
    }

    /// # Safety
    /// Rule 2.
    #[inline]
    pub(crate) unsafe fn home(self) -> *const Processor {
        // SAFETY: rule 2.
        self.header().home.with(|p| unsafe { *p })
    }

    /// # Safety
    /// Rule 2.
    #[inline]
    pub(crate) unsafe fn set_home(self, home: *const Processor) {
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

    /// Fetches what a switch to the task touches.
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

    /// Notes that the task has come by way of an inbox.
    ///
    /// # Safety
    /// Rule 3, by the inbox's owner.
    pub(crate) unsafe fn note_sent(self) {
        // SAFETY: rule 3.
        unsafe { self.set_link(std::ptr::dangling_mut()) };
    }

    /// Whether a fresh task has come by way of an inbox. Unless a thief has taken it since, it is where it was sent to; a hint.
    ///
    /// # Safety
    /// By whoever took the task from its queue.
    pub(crate) unsafe fn was_sent(self) -> bool {
        // SAFETY: the caller's promise, and rule 3.
        unsafe { !self.link().is_null() }
    }

    /// # Safety
    /// Rule 4.
    #[inline]
    pub(crate) unsafe fn set_joiner(self, waiter: Waiter) {
        // SAFETY: rule 4.
        self.header().joiner.with_mut(|p| unsafe { *p = waiter });
    }

    /// Runs the task to its end: closure, result, its task-locals, completion, the joiner's wake, the scheduler's reference.
    ///
    /// # Safety
    /// On the task's own stack, once, by whoever took the fresh task from its queue. The task may be gone afterwards.
    #[inline]
    pub(crate) unsafe fn run(self, cells: Option<&CellCache>) {
        // SAFETY: the caller's promise.
        unsafe {
            (self.header().vtable.run)(self);
            self.finish(cells);
        }
    }

    /// What an unwinding means that has ended the task. A panic is reported here, before anybody hears of the end: to `shared`, or to
    /// the runtime of the machine that this thread is.
    #[cold]
    pub(crate) fn ended_by(self, payload: Box<dyn Any + Send>, shared: Option<&Shared>) -> JoinError {
        if !payload.is::<Cancelled>() {
            report::panicked(self, &*payload, shared.or_else(|| local::machine().map(|local| &*local.shared)));
        }
        JoinError::from_payload(payload)
    }

    /// Ends a task of `shared` that cannot be started, or never will be.
    ///
    /// # Safety
    /// By whoever took the fresh task from its queue, or did not get it into one: a machine between two tasks, the monitor, or
    /// whoever spawned it, be that a task. The closure is dropped on the caller's stack, by code of the user's that may do anything;
    /// so the caller holds no lock and has nothing half done. The task may be gone afterwards.
    pub(crate) unsafe fn fail(self, error: JoinError, shared: &Shared) {
        // SAFETY: the caller's promise.
        unsafe {
            (self.header().vtable.fail)(self, error, Some(shared));
            self.finish(None);
        }
    }

    /// # Safety
    /// The result has been written, by this caller, who holds the scheduler's reference.
    unsafe fn finish(self, cells: Option<&CellCache>) {
        let mut dropped = false;
        if !self.state().has_handle() {
            // SAFETY: no handle is left, so the result is this task's (rule 5).
            catch_and_forget(|| unsafe { (self.header().vtable.drop_result)(self) });
            dropped = true;
        }
        // SAFETY: rule 2: written before the task started, which runs here, or null.
        let record = unsafe { self.record().as_ref() };
        end_locals(record);
        loop {
            if let Some(record) = record {
                // Before the completion: afterwards nobody may touch what a section has noted.
                if record.interrupts().is_in_section() {
                    interrupt::ended_in_section(record);
                }
                record.set_ending(true);
            }
            match self.state().complete(dropped) {
                TransitionToComplete::Done => return,
                TransitionToComplete::Free => {
                    // SAFETY: that was the last reference, and nobody was left to read the result, so it has been dropped.
                    unsafe { self.free(cells) };
                    return;
                }
                TransitionToComplete::WakeJoiner => {
                    // SAFETY: rule 4: the completing task reads the cell after JOINER; the joiner waits for this one wake.
                    unsafe { self.header().joiner.with(|p| *p).wake() };
                    return;
                }
                TransitionToComplete::DropResult => {
                    if let Some(record) = record {
                        record.set_ending(false);
                    }
                    // SAFETY: as above; the handle went in the meantime.
                    catch_and_forget(|| unsafe { (self.header().vtable.drop_result)(self) });
                    // Its destructor may have used some.
                    end_locals(record);
                    dropped = true;
                }
            }
        }
    }

    /// Takes the result of a completed task.
    ///
    /// # Safety
    /// The task is complete, `T` is its result's type, and the caller is the join handle's owner, who calls this or
    /// [`drop_result`](Self::drop_result) once.
    pub(crate) unsafe fn take_result<T>(self) -> Result<T, JoinError> {
        let mut out = std::mem::MaybeUninit::<Result<T, JoinError>>::uninit();
        // SAFETY: the caller's promise; `take_result` writes all of `out`.
        unsafe {
            (self.header().vtable.take_result)(self, out.as_mut_ptr().cast());
            out.assume_init()
        }
    }

    /// # Safety
    /// As [`take_result`](Self::take_result).
    pub(crate) unsafe fn drop_result(self) {
        // SAFETY: the caller's promise.
        unsafe { (self.header().vtable.drop_result)(self) };
    }

    /// Gives a reference up.
    ///
    /// # Safety
    /// The caller has one, and does not use it afterwards.
    #[inline]
    pub(crate) unsafe fn drop_ref(self, cells: Option<&CellCache>) {
        match self.state().drop_ref() {
            TransitionByDrop::Alive => {}
            // SAFETY: it was the last; closure and result go before the references that guard them.
            TransitionByDrop::Free => unsafe { self.free(cells) },
        }
    }

    unsafe fn free(self, cells: Option<&CellCache>) {
        // SAFETY: the callers': the last reference is gone.
        unsafe { (self.header().vtable.free)(self, cells) };
    }
}

/// Drops the values that the running task has by `task_local!`, at its end; one that never ran has no record.
#[inline]
fn end_locals(record: Option<&Record>) {
    if let Some(record) = record
        && !record.locals().is_null()
    {
        local_key::drop_task_values(record);
    }
}

/// Drops what the runtime drops for the user: whole, though the task may be cancelled, and with its panic caught.
pub(crate) fn drop_whole<T>(value: T) -> Result<(), Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| uncancellable(|| drop(value))))
}

/// Runs code of the user's whole that has nobody to tell if it panics: the panic hook has spoken. A payload that panics when it is
/// dropped is leaked.
pub(crate) fn catch_and_forget(f: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| uncancellable(f)))
        && let Err(second) = drop_whole(payload)
    {
        std::mem::forget(second);
    }
}

/// The payload of a cancellation's unwinding, or of one to a bound: private, so that nobody else can raise or recognise it.
pub(crate) struct Cancelled {
    /// The number of the task, or thread, that raised it.
    id: u64,
    /// Which of its unwindings this is.
    serial: u32,
    /// The address of the bound; zero for a cancellation.
    bound: usize,
    _unwinding: Unwinding,
}

impl Cancelled {
    pub(crate) fn new(id: u64, serial: u32, bound: Option<&Bound>) -> Self {
        Self { id, serial, bound: bound.map_or(0, |bound| std::ptr::from_ref(bound).addr()), _unwinding: Unwinding::begin() }
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound
    }
}

impl Drop for Cancelled {
    fn drop(&mut self) {
        // Whoever caught it may have taken it anywhere; where it does not end in its own task, that is taken to unwind by
        // cancellation until it ends.
        if let Some(running) = interrupt::current()
            && running.id() == self.id
            && running.interrupts.unwinding.get() == self.serial
        {
            running.interrupts.unwinding.set(0);
        }
    }
}

impl JoinError {
    pub(crate) fn from_payload(payload: Box<dyn Any + Send>) -> JoinError {
        if payload.is::<Cancelled>() { JoinError::cancelled() } else { JoinError::panicked(payload) }
    }
}
