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
    /// It has ended without having run, on the stack that is reserved for that.
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

// SAFETY: the slab has armed a guard below `bottom` (or the scheduler checks a canary there, where
// the system offers nothing better; see `guard`). A slot holds far more than the minimum, and the
// base is aligned to the record's 16 bytes.
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
/// `slot` never changes. `id`, `site`, `name`, `reason`, `parked_in` and `home` are labels. Any
/// thread of the runtime may read them while it keeps heads from being given back
/// ([`StackPool::keep_heads`](super::stacks::StackPool::keep_heads)); the owner's thread may read
/// them at any time. Everything else belongs to the thread that runs the stack or, while the stack
/// is free, to its owner.
#[repr(C, align(16))]
pub(crate) struct Record {
    // A switch touches only two cache lines: from the two words under the record, where the
    // coroutine keeps its way back, up to `parked_in`. The second line begins with `task`.
    /// Holds the coroutine, once `has_coroutine` says so.
    coroutine: UnsafeCell<MaybeUninit<ManuallyDrop<Switcher>>>,
    yielder: Cell<*const Yielder<(), Suspend>>,
    task: Cell<*mut Header>,
    /// The end of the stack at the last suspension. What a resumption touches first lies around it.
    frame: Cell<*const u8>,
    slot: Slot,
    no_suspend: Cell<u32>,
    reason: AtomicU8,
    has_coroutine: Cell<bool>,
    /// Whether `name` holds one.
    named: Cell<bool>,
    /// The number of the time slice in which the task was last parked.
    parked_in: AtomicU32,
    /// The index of the processor that runs the stack's task, plus one. Zero means none, and memory
    /// that was given back reads as zero.
    home: AtomicU32,
    /// What `task_local!` keeps for the task, if it does.
    locals: Cell<*const Locals>,
    /// What switch hooks keep for the task between two of their calls; from a Box.
    slots: Cell<*mut ()>,
    /// What may end the task's code early, and what defers that.
    interrupts: Interrupts,
    /// Where the frames of tasks begin.
    base: Cell<*const u8>,
    /// The task's number; zero while the stack is free.
    id: AtomicU64,
    site: AtomicPtr<Location<'static>>,
    name: Mutex<Option<Arc<str>>>,
}

/// Bytes under a slot's top that are set aside for the record. Sixteen less than a whole number of
/// cache lines, since what lies directly under the record is touched together with its first
/// fields.
pub(crate) const RECORD_BYTES: usize = (size_of::<Record>() + 16).next_multiple_of(64) - 16;

const _: () = assert!(RECORD_BYTES <= HEAD_BYTES);

/// Where the record's second cache line begins.
const SECOND_LINE: usize = std::mem::offset_of!(Record, task);

// With corosensei's feature `sanitizer`, which any crate of a build may turn on, a coroutine is
// larger, and a switch is slower anyway.
#[cfg(not(greenloom_loom))]
const _: () = assert!(
    size_of::<Switcher>() > 5 * size_of::<usize>()
        || SECOND_LINE == 48 && std::mem::offset_of!(Record, home) <= SECOND_LINE + 64 && RECORD_BYTES <= 256 - 16
);

/// A stack: the address of its record. Owned by a cache, a pool, or the task it is bound to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct StackPtr(NonNull<Record>);

// SAFETY: a free stack is plain memory; the scheduler keeps a bound one on its thread.
unsafe impl Send for StackPtr {}

impl StackPtr {
    /// Writes the head of a slot that is new, or whose memory was given back.
    ///
    /// Writes all but the atomic labels. Other threads may be reading one of these, the task's
    /// number, at this moment. In such memory it is zero, as in any free stack. Other threads
    /// read more only after they find a number, which [`bind`](Record::bind) stores.
    ///
    /// # Safety
    /// The caller owns the slot, which has no head and is mapped for as long as the stack is used.
    /// Nobody reads a head that it had before: the thread that gave that back has waited for its
    /// readers.
    pub(crate) unsafe fn create(slot: Slot) -> StackPtr {
        let record = (slot.top - RECORD_BYTES) as *mut Record;
        // SAFETY: the caller owns the memory, and its top is aligned to 64 bytes.
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

    /// The stack of this slot, if its head has been written and not been given back since.
    ///
    /// # Safety
    /// The slot is mapped for as long as the result is used, and its head is not given back
    /// meanwhile.
    pub(crate) unsafe fn of_slot(slot: Slot) -> Option<StackPtr> {
        let record = (slot.top - RECORD_BYTES) as *mut Record;
        // SAFETY: the slot is mapped, as `# Safety` demands. The id is an atomic, and reads as zero
        // where the page was given back.
        let id = unsafe { (*record).id.load(Ordering::Acquire) };
        if id == 0 { None } else { NonNull::new(record).map(StackPtr) }
    }

    pub(crate) fn record<'a>(self) -> &'a Record {
        // SAFETY: a stack that is owned or running is mapped, and its record was written when it
        // was created.
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

    /// Checks whether the task overran a stack that has no other guard, and aborts if so.
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
        // SAFETY: set by `bind`. The task lives until its body has run to its end, and this is not
        // called after that.
        unsafe { TaskPtr::from_raw(self.task.get()) }
    }

    /// Binds the stack to a fresh task. A new stack also gets a coroutine, which runs `body`.
    ///
    /// # Safety
    /// The caller has taken both stack and task, and runs on the thread that will run them.
    #[inline]
    pub(crate) unsafe fn bind(&self, task: TaskPtr, home: u32, body: Body) {
        self.task.set(task.as_ptr());
        self.home.store(home + 1, Ordering::Relaxed);
        self.site.store(std::ptr::from_ref(task.site()).cast_mut(), Ordering::Relaxed);
        self.reason.store(Reason::Ready as u8, Ordering::Relaxed);
        // Release: pairs with the readers' Acquire of the id; the labels above belong to it.
        self.id.store(task.id(), Ordering::Release);
        // SAFETY: header rule 2: this machine starts the task.
        unsafe { task.set_record(self) };
        if let Some(name) = task.name() {
            self.set_name(Some(name));
        }
        if !self.has_coroutine.get() {
            self.start_coroutine(body);
        }
    }

    /// The coroutine begins. It stays for as long as the stack.
    #[inline(always)]
    pub(crate) fn begin(&self, yielder: *const Yielder<(), Suspend>) {
        self.yielder.set(yielder);
        self.base.set(stack_pointer());
    }

    /// The task has ended, and its header may be gone: from here on it is in no report.
    #[inline(always)]
    pub(crate) fn end(&self) {
        if self.slot().canary {
            // While its labels are still there for the message.
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
        // SAFETY: the room belongs to this record, and is empty.
        unsafe { (*self.coroutine.get()).write(ManuallyDrop::new(coroutine)) };
        self.has_coroutine.set(true);
    }

    /// Switches to the stack; returns when its task switches away.
    ///
    /// # Safety
    /// A task is bound to the stack, on this thread, and it is the task's turn.
    #[inline(always)]
    pub(crate) unsafe fn resume(&self) -> Suspend {
        // SAFETY: bound stacks have a coroutine, and only this thread resumes it. ManuallyDrop: a
        // coroutine's own drop would force an unwinding through tasks that may suspend in
        // destructors. These coroutines end by the normal loop or never.
        let result = unsafe { (*self.coroutine.get()).assume_init_mut().resume(()) };
        match result {
            CoroutineResult::Yield(how) => how,
            CoroutineResult::Return(()) => unreachable!("the body of a stack never returns"),
        }
    }

    /// Switches from the running task to its worker, regardless of its thread's panics; see
    /// [`suspend`](Self::suspend).
    #[inline(always)]
    pub(crate) fn switch(&self, how: Suspend, reason: Reason) {
        self.reason.store(reason as u8, Ordering::Relaxed);
        self.frame.set(stack_pointer());
        // SAFETY: the coroutine's body set this before any task ran on this stack, and the caller
        // runs on it.
        unsafe { (*self.yielder.get()).suspend(how) };
        self.reason.store(Reason::Ready as u8, Ordering::Relaxed);
    }

    /// Prefetches what a switch to the stack's task will touch.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        prefetch_to_write(std::ptr::from_ref(self).cast::<u8>().wrapping_add(SECOND_LINE));
        // Part of the frame above the end, and what the task's next calls will use below it.
        for line in -2..5 {
            prefetch_to_write(self.frame.get().wrapping_offset(64 * line));
        }
    }

    /// Notes that the task is about to complete, or that it no longer is. This comes before the
    /// completion, so code that has learned of the completion finds the task in no report.
    #[inline]
    pub(crate) fn set_ending(&self, ending: bool) {
        let reason = if ending { Reason::End } else { Reason::Ready };
        self.reason.store(reason as u8, Ordering::Relaxed);
    }

    /// Notes that the machine parks the task in this time slice.
    #[inline]
    pub(crate) fn note_parked(&self, slice: u32) {
        self.parked_in.store(slice, Ordering::Relaxed);
    }

    /// The time slice in which the task was last parked.
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

    /// What hooks keep for the task, if it has been entered; only they know its type.
    pub(crate) fn slots(&self) -> &Cell<*mut ()> {
        &self.slots
    }

    /// What reports say about the stack's task, if it has one, except how long it waits. Callable
    /// from any thread; the parts may be from different moments.
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

    /// The number of the stack's task at this moment; zero if it has none.
    pub(crate) fn id(&self) -> u64 {
        self.id.load(Ordering::Acquire)
    }

    /// The labels, for a signal handler: waits for no lock, and counts no reference.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn with_name<R>(&self, f: impl FnOnce(u64, Option<&str>, Option<&'static Location<'static>>) -> R) -> R {
        let name = self.name.try_lock();
        let name = name.as_ref().ok().and_then(|name| name.as_deref());
        // SAFETY: null, or a `&'static Location` stored by `bind`.
        let site = unsafe { self.site.load(Ordering::Relaxed).cast_const().as_ref() };
        f(self.id.load(Ordering::Acquire), name, site)
    }

    /// Whether the machine of processor `index`, which is the caller, runs the stack's task.
    ///
    /// The record may belong to another machine, which may end its task and give the stack back at
    /// this moment. It then reads as nobody's.
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
