//! The head of a stack.
//!
//! ```text
//! slot  ┌───────────────┐ top (coloured)
//!       │ Record        │ the coroutine's state, the task, labels
//!       ├───────────────┤ where frames begin
//!       │ body()        │
//!       │ the task      │ grows down
//!       │               │
//!       ├───────────────┤ bottom
//!       │ guard         │
//!       └───────────────┘
//! ```

use std::cell::{Cell, UnsafeCell};
use std::mem::{ManuallyDrop, MaybeUninit};
use std::num::NonZeroUsize;
use std::panic::Location;
use std::ptr::{NonNull, null, null_mut};
use std::time::Duration;

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::Stack};

use crate::prim::process;
use crate::prim::untracked::{Arc, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, Mutex, Ordering};
use crate::raw::fork;
use crate::raw::header::Header;
use crate::raw::header::TaskPtr;
use crate::raw::interrupts::Interrupts;
use crate::raw::locals::Locals;
use crate::raw::reason::Reason;
use crate::raw::report::TaskReport;
use crate::stack::slab::Slot;
use crate::stack::{CURE, HEAD_BYTES};
use crate::sys::cpu::{prefetch_to_write, stack_pointer};
use crate::sys::stderr::say;

/// What a task tells its worker when it switches away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suspend {
    /// It has ended; the stack is free.
    Done,
    /// It has ended without a run, on the stack that is reserved for that.
    Refused,
    /// It is ready to go on, after others.
    Yield,
    /// A partner will wake it; cancellation may.
    Wait,
    /// A partner will wake it; cancellation must not.
    WaitShielded,
    /// A token will wake it; cancellation may.
    Park,
    /// A token will wake it; cancellation must not.
    ParkShielded,
}

type Switcher = Coroutine<(), Suspend, (), Frames>;

/// What a stack's coroutine runs: one task after another, and never returns.
pub(crate) type Body = fn(&Yielder<(), Suspend>, StackPtr);

/// The part of a slot where frames go, as corosensei wants to see it.
struct Frames {
    base: NonZeroUsize,
    limit: NonZeroUsize,
}

// SAFETY: the slab has armed a guard below `bottom` (or the scheduler checks a canary there, where the system has no better; see
// `guard`), a slot holds far more than the minimum, and the base is aligned to the record's 16 bytes.
unsafe impl Stack for Frames {
    fn base(&self) -> NonZeroUsize {
        self.base
    }

    fn limit(&self) -> NonZeroUsize {
        self.limit
    }
}

/// The head of a stack; see the module.
///
/// `slot` never changes. `id`, `site`, `name`, `reason`, `parked_in` and `home` are labels, which any thread of the runtime may read that
/// keeps heads from being given back ([`StackPool::keep_heads`](super::pool::StackPool::keep_heads)), and any time the owner's thread. All else is
/// for the thread that runs the stack, or, while it is free, for whoever owns it.
#[repr(C, align(16))]
pub(crate) struct Record {
    // Two lines of the cache, from the two words under the record, where the coroutine keeps its way back, up to `parked_in`: all that a
    // switch touches. The second begins with `task`.
    /// Where the coroutine is kept; it is there once `has_coroutine` says so.
    coroutine: UnsafeCell<MaybeUninit<ManuallyDrop<Switcher>>>,
    yielder: Cell<*const Yielder<(), Suspend>>,
    task: Cell<*mut Header>,
    /// Where the stack ends, as of the last suspension: what a resumption touches first lies around it.
    frame: Cell<*const u8>,
    slot: Slot,
    no_suspend: Cell<u32>,
    reason: AtomicU8,
    has_coroutine: Cell<bool>,
    /// Whether `name` has one.
    named: Cell<bool>,
    /// The number of the time slice in which the task was parked last.
    parked_in: AtomicU32,
    /// The index of the processor that runs the stack's task, plus one: zero, as memory that was given back reads, is nobody.
    home: AtomicU32,
    /// What `task_local!` keeps for the task, if it does.
    locals: Cell<*const Locals>,
    /// What hooks at switches keep for the task, between two of their calls; from a Box.
    slots: Cell<*mut ()>,
    /// What may end the task's code early, and what puts that off.
    interrupts: Interrupts,
    /// Where the frames of tasks begin.
    base: Cell<*const u8>,
    /// The task's number; zero while the stack is free.
    id: AtomicU64,
    site: AtomicPtr<Location<'static>>,
    name: Mutex<Option<Arc<str>>>,
}

/// Bytes under a slot's top that are set aside for the record. Sixteen less than whole lines of the
/// cache, since what lies directly under the record is touched together with its first fields.
pub(crate) const RECORD_BYTES: usize = (size_of::<Record>() + 16).next_multiple_of(64) - 16;

const _: () = assert!(RECORD_BYTES <= HEAD_BYTES);

/// Where the record's second line of the cache begins.
const SECOND_LINE: usize = std::mem::offset_of!(Record, task);

// With corosensei's feature `sanitizer`, which any crate of a build may turn on, a coroutine is larger, and a switch slower anyway.
#[cfg(not(greenloom_loom))]
const _: () = assert!(
    size_of::<Switcher>() > 5 * size_of::<usize>()
        || SECOND_LINE == 48 && std::mem::offset_of!(Record, home) <= SECOND_LINE + 64 && RECORD_BYTES <= 256 - 16
);

/// A stack: the address of its record. Owned by a cache, a pool, or the task it is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StackPtr(NonNull<Record>);

// SAFETY: a free stack is plain memory; a bound one stays on its thread by the scheduler's rule.
unsafe impl Send for StackPtr {}

impl StackPtr {
    /// Writes the head of a slot that is new, or whose memory was given back.
    ///
    /// All but the atomic labels, one of which, the task's number, other threads may be reading at this moment: such memory is zero, and so
    /// are a free stack's. They read more only where they find a number, after [`bind`](Record::bind).
    ///
    /// # Safety
    /// The caller owns the slot, which has no head and is mapped for as long as the stack is used. Nobody reads in a head that it had
    /// before: whoever gave that back has waited for those who did.
    pub(crate) unsafe fn create(slot: Slot) -> StackPtr {
        let record = (slot.top - RECORD_BYTES) as *mut Record;
        // SAFETY: the memory is the caller's, and its top is aligned to 64 bytes.
        unsafe {
            (&raw mut (*record).has_coroutine).write(Cell::new(false));
            (&raw mut (*record).named).write(Cell::new(false));
            (&raw mut (*record).yielder).write(Cell::new(null()));
            (&raw mut (*record).task).write(Cell::new(null_mut()));
            (&raw mut (*record).frame).write(Cell::new(null()));
            (&raw mut (*record).slot).write(slot);
            (&raw mut (*record).no_suspend).write(Cell::new(0));
            (&raw mut (*record).base).write(Cell::new(null()));
            (&raw mut (*record).interrupts).write(Interrupts::new());
            (&raw mut (*record).locals).write(Cell::new(null()));
            (&raw mut (*record).slots).write(Cell::new(null_mut()));
            (&raw mut (*record).name).write(Mutex::new(None));
            StackPtr(NonNull::new_unchecked(record))
        }
    }

    /// The stack whose slot this is, if its head has been written and not been given back since.
    ///
    /// # Safety
    /// The slot is mapped for as long as the result is used, and its head is not given back meanwhile.
    pub(crate) unsafe fn of_slot(slot: Slot) -> Option<StackPtr> {
        let record = (slot.top - RECORD_BYTES) as *mut Record;
        // SAFETY: mapped memory; the id is an atomic, and reads as zero where the page was given back.
        let id = unsafe { (*record).id.load(Ordering::Acquire) };
        if id == 0 { None } else { NonNull::new(record).map(StackPtr) }
    }

    pub(crate) fn record<'a>(self) -> &'a Record {
        // SAFETY: a stack that somebody owns or runs on is mapped, and its record was written when it was created.
        unsafe { self.0.as_ref() }
    }
}

impl Record {
    #[inline(always)]
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// The stack whose head this is.
    #[inline(always)]
    pub(crate) fn stack(&self) -> StackPtr {
        StackPtr(NonNull::from(self))
    }

    /// Looks whether the task overran a stack that has no other guard, and aborts if so.
    #[cold]
    pub(crate) fn check_canary(&self) {
        // SAFETY: the slot is mapped, and its canary was written when it was carved.
        if unsafe { self.slot.canary_intact() } {
            return;
        }
        let end =
            format_args!("overflowed its stack of {} KiB; memory below it may be damaged", self.slot.class.stack_bytes() / 1024);
        match self.report() {
            Some(task) => say(format_args!("greenloom: {task}, {end}")),
            None => say(format_args!("greenloom: a task {end}")),
        }
        say(format_args!("{CURE}"));
        std::process::abort();
    }

    /// The task that this stack runs.
    #[inline(always)]
    pub(crate) fn task(&self) -> TaskPtr {
        debug_assert!(!self.task.get().is_null());
        // SAFETY: set by `bind`; the task lives until its body has run to its end, and nobody asks after that.
        unsafe { TaskPtr::from_raw(self.task.get()) }
    }

    /// Gives the stack to a fresh task; one that is new, a coroutine, too, which runs `body`.
    ///
    /// # Safety
    /// The caller took both stack and task, and runs on the thread that will run them.
    #[inline]
    pub(crate) unsafe fn bind(&self, task: TaskPtr, home: u32, body: Body) {
        self.task.set(task.as_ptr());
        self.home.store(home + 1, Ordering::Relaxed);
        self.site.store(std::ptr::from_ref(task.site()).cast_mut(), Ordering::Relaxed);
        self.reason.store(Reason::Ready as u8, Ordering::Relaxed);
        // Release: pairs with the readers' Acquire of the id; the labels above belong to it.
        self.id.store(task.id(), Ordering::Release);
        // SAFETY: the caller's promise (rule 2 of the header).
        unsafe { task.set_record(self) };
        if let Some(name) = task.name() {
            self.set_name(Some(name));
        }
        if !self.has_coroutine.get() {
            self.start_coroutine(body);
        }
    }

    /// The coroutine begins, and stays for as long as the stack.
    #[inline(always)]
    pub(crate) fn begin(&self, yielder: *const Yielder<(), Suspend>) {
        self.yielder.set(yielder);
        self.base.set(stack_pointer());
    }

    /// The task has ended, and its header may be gone: from here on it is in no report.
    #[inline(always)]
    pub(crate) fn end(&self) {
        if self.slot().canary {
            // While its labels are still there.
            self.check_canary();
        }
        if self.named.get() {
            self.set_name(None);
        }
        self.no_suspend.set(0);
        self.interrupts.reset();
        debug_assert!(self.locals.get().is_null());
        self.id.store(0, Ordering::Release);
        self.task.set(null_mut());
    }

    #[cold]
    fn set_name(&self, name: Option<Arc<str>>) {
        self.named.set(name.is_some());
        *self.name.lock().unwrap_or_else(|e| e.into_inner()) = name;
    }

    /// Makes the coroutine of a new stack.
    #[cold]
    pub(crate) fn start_coroutine(&self, body: Body) {
        let base = NonZeroUsize::new(std::ptr::from_ref(self).addr()).expect("a reference is not null");
        let limit = NonZeroUsize::new(self.slot.bottom).expect("a slot is not at address zero");
        let record = self.stack();
        let coroutine = Switcher::with_stack(Frames { base, limit }, move |yielder, ()| body(yielder, record));
        // SAFETY: the room is this record's own, and empty.
        unsafe { (*self.coroutine.get()).write(ManuallyDrop::new(coroutine)) };
        self.has_coroutine.set(true);
    }

    /// Switches to the stack, until its task switches away.
    ///
    /// # Safety
    /// A task is bound, on this thread, and it is its turn.
    #[inline(always)]
    pub(crate) unsafe fn resume(&self) -> Suspend {
        // SAFETY: bound stacks have a coroutine, and only this thread resumes it. ManuallyDrop: a coroutine's own drop would
        // force an unwinding through tasks that may suspend in destructors; ours end by the normal loop or never.
        let result = unsafe { (*self.coroutine.get()).assume_init_mut().resume(()) };
        match result {
            CoroutineResult::Yield(how) => how,
            CoroutineResult::Return(()) => unreachable!("the body of a stack never returns"),
        }
    }

    /// Switches from the running task to its worker, whatever its thread's panics are; see [`suspend`](Self::suspend).
    #[inline(always)]
    pub(crate) fn switch(&self, how: Suspend, reason: Reason) {
        self.reason.store(reason as u8, Ordering::Relaxed);
        self.frame.set(stack_pointer());
        // SAFETY: set by the coroutine's body before any task ran on this stack; the caller runs on it.
        unsafe { (*self.yielder.get()).suspend(how) };
        self.reason.store(Reason::Ready as u8, Ordering::Relaxed);
    }

    /// Fetches what a switch to the stack's task will touch.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch_to_write(std::ptr::from_ref(self).cast::<u8>().wrapping_add(SECOND_LINE));
        // Some of the frame above the end, and below it what the task's next calls will use.
        for line in -2..5 {
            prefetch_to_write(self.frame.get().wrapping_offset(64 * line));
        }
    }

    /// The task is about to complete, or is not any more: whoever has learned of a completion finds the task in no report, since this
    /// comes before it.
    #[inline]
    pub(crate) fn set_ending(&self, ending: bool) {
        let reason = if ending { Reason::End } else { Reason::Ready };
        self.reason.store(reason as u8, Ordering::Relaxed);
    }

    /// The machine parks the task, in this time slice.
    #[inline]
    pub(crate) fn note_parked(&self, slice: u32) {
        self.parked_in.store(slice, Ordering::Relaxed);
    }

    /// The time slice in which the task was parked last.
    pub(crate) fn parked_in(&self) -> u32 {
        self.parked_in.load(Ordering::Relaxed)
    }

    /// Panics inside `no_suspend`.
    #[inline]
    #[track_caller]
    pub(crate) fn assert_may_suspend(&self, reason: Reason) {
        if self.no_suspend.get() != 0 {
            refuse_to_suspend(self, reason);
        }
    }

    /// The frames of tasks lie below this.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn base(&self) -> usize {
        self.base.get().addr()
    }

    pub(crate) fn may_suspend(&self) -> bool {
        self.no_suspend.get() == 0
    }

    pub(crate) fn forbid_suspension(&self) {
        self.no_suspend.set(self.no_suspend.get() + 1);
    }

    pub(crate) fn allow_suspension(&self) {
        self.no_suspend.set(self.no_suspend.get() - 1);
    }

    #[inline(always)]
    pub(crate) fn interrupts(&self) -> &Interrupts {
        &self.interrupts
    }

    /// What `task_local!` keeps for the task; null if it keeps nothing.
    #[inline(always)]
    pub(crate) fn locals(&self) -> *const Locals {
        self.locals.get()
    }

    pub(crate) fn set_locals(&self, locals: *const Locals) {
        self.locals.set(locals);
    }

    /// What hooks keep for the task, if it has been entered; its type is theirs.
    pub(crate) fn slots(&self) -> &Cell<*mut ()> {
        &self.slots
    }

    /// What reports say about the stack's task, if it has one, but for how long it waits. From any thread; the parts may be of
    /// different moments.
    pub(crate) fn report(&self) -> Option<TaskReport> {
        // Acquire: pairs with the Release in `bind`.
        let id = self.id.load(Ordering::Acquire);
        if id == 0 {
            return None;
        }
        let site = self.site.load(Ordering::Relaxed).cast_const();
        Some(TaskReport {
            id,
            name: self.name.lock().unwrap_or_else(|e| e.into_inner()).clone(),
            // SAFETY: null, or a `&'static Location` stored by `bind`.
            site: unsafe { site.as_ref() },
            reason: Reason::from_u8(self.reason.load(Ordering::Acquire)),
            waited: Duration::ZERO,
        })
    }

    /// The number of the stack's task, zero if it has none, as of now.
    pub(crate) fn id(&self) -> u64 {
        self.id.load(Ordering::Acquire)
    }

    /// The labels, for a signal handler: without waiting for a lock, and without counting a reference.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn with_name<R>(&self, f: impl FnOnce(u64, Option<&str>, Option<&'static Location<'static>>) -> R) -> R {
        let name = self.name.try_lock();
        let name = name.as_ref().ok().and_then(|name| name.as_deref());
        // SAFETY: null, or a `&'static Location` stored by `bind`.
        let site = unsafe { self.site.load(Ordering::Relaxed).cast_const().as_ref() };
        f(self.id.load(Ordering::Acquire), name, site)
    }

    /// Whether the machine of processor `index`, which asks, runs the stack's task.
    ///
    /// The record may be another's, who ends its task and gives the stack back at this moment: then it reads as nobody's.
    pub(crate) fn is_at_home_on(&self, index: u32) -> bool {
        self.home.load(Ordering::Relaxed) == index + 1
    }
}

#[cold]
#[track_caller]
fn refuse_to_suspend(record: &Record, reason: Reason) -> ! {
    if !process::made_here(record.id()) {
        fork::refuse_to_suspend(reason);
    }
    panic!("a task tried to suspend inside no_suspend: it would be {}", reason.describe())
}
