//! Hooks at switches: code that keeps the state of a thread in step with the task that runs there.
//!
//! Hooks run on the machine's own stack, between two tasks. Only runtimes that have hooks pay for
//! them: the worker loop exists twice, and one of the two knows nothing of hooks. What the hooks
//! keep for a task hangs on the task's stack, from its first run to its end.

use std::any::{Any, type_name};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;

use crate::prim::untracked::Arc;
use crate::raw::fork;
use crate::raw::record::Record;
use crate::scheduler::local::Local;
use crate::scheduler::task::Task;
use crate::sys::stderr::say;

/// Code that is called whenever a task is switched in or out: see
/// [`RuntimeBuilder::on_switch`](crate::RuntimeBuilder::on_switch).
///
/// A hook is for state that other libraries keep in thread-locals, and that should be separate for
/// each task: the context of a logger, of a tracer or of an allocator. (Keep your own state in a
/// [`task_local!`](crate::task_local).) When a task is suspended, take the thread's value away and
/// keep it in the task's slot. When the task is switched in again, put the value back.
///
/// For each task that starts, on the thread that the task is bound to:
///
/// 1. [`start`](Self::start) is called once and makes the slot;
/// 2. [`enter`](Self::enter) and [`leave`](Self::leave) are called in turn, around each run of the
///    task;
/// 3. [`end`](Self::end) is called after the last `leave`, when the task has ended. The task may
///    have been joined by then.
///
/// These methods run between tasks. `enter` and `end` must find the thread as if no task had ever
/// run there, and so must the tasks before and after. A task that is cancelled before it starts, or
/// for which there is no stack, is started all the same, to drop its closure. If a runtime ends
/// while some tasks have not ended, `end` is never called for those tasks.
///
/// # What a hook may do
///
/// A hook may do anything that does not wait: spawn, unpark and cancel tasks, send to channels that
/// have room, use locks that nobody holds. It **must not suspend**, since no task is running that
/// could be suspended: a wait in a function of this crate panics. (A wait in the kernel, for a lock
/// of std say, blocks all tasks of the thread.) It **must not panic**: after a panic it is unknown
/// which state belongs to which task, so the process aborts with a message that names the hook and
/// the task. Both rules apply to the destructors of slots, too.
///
/// Each hook costs two calls and a few nanoseconds for each switch, and an allocation for each
/// task.
///
/// ```
/// use std::cell::RefCell;
/// use greenloom::{SwitchHook, Task};
///
/// thread_local! {
///     /// What each line of the log begins with; part of a library that knows nothing of tasks.
///     static PREFIX: RefCell<String> = RefCell::default();
/// }
///
/// struct Prefix;
///
/// impl SwitchHook for Prefix {
///     type Slot = String;
///
///     fn start(&self, _task: &Task) -> String {
///         String::new()
///     }
///
///     // The thread's own and the task's change places, and change back.
///     fn enter(&self, _task: &Task, slot: &mut String) {
///         PREFIX.with_borrow_mut(|prefix| std::mem::swap(prefix, slot));
///     }
///
///     fn leave(&self, task: &Task, slot: &mut String) {
///         self.enter(task, slot);
///     }
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = greenloom::Runtime::builder().on_switch(Prefix).build()?;
/// runtime.run(|| {
///     let requests: Vec<_> = (0..10)
///         .map(|i| {
///             greenloom::spawn(move || {
///                 PREFIX.set(format!("request {i}: "));
///                 greenloom::yield_now();
///                 assert_eq!(PREFIX.take(), format!("request {i}: "));
///             })
///         })
///         .collect();
///     requests.into_iter().for_each(|request| request.join().unwrap());
/// });
/// # Ok(())
/// # }
/// ```
pub trait SwitchHook: Send + Sync + 'static {
    /// What the hook keeps for each task, on the task's thread.
    type Slot: 'static;

    /// The task is about to run for the first time.
    fn start(&self, task: &Task) -> Self::Slot;

    /// The task is about to run, for the first time or again.
    fn enter(&self, task: &Task, slot: &mut Self::Slot);

    /// The task has been suspended, or has ended.
    fn leave(&self, task: &Task, slot: &mut Self::Slot);

    /// The task has ended. By default its slot is dropped.
    fn end(&self, task: &Task, slot: Self::Slot) {
        let _ = (task, slot);
    }
}

/// A hook whose slot type is erased.
trait AnyHook: Send + Sync {
    fn name(&self) -> &'static str;
    fn start(&self, task: &Task) -> Box<dyn Any>;
    fn enter(&self, task: &Task, slot: &mut dyn Any);
    fn leave(&self, task: &Task, slot: &mut dyn Any);
    fn end(&self, task: &Task, slot: Box<dyn Any>);
}

const OWN: &str = "a hook is given its own slots";

impl<H: SwitchHook> AnyHook for H {
    fn name(&self) -> &'static str {
        type_name::<H>()
    }

    fn start(&self, task: &Task) -> Box<dyn Any> {
        Box::new(H::start(self, task))
    }

    fn enter(&self, task: &Task, slot: &mut dyn Any) {
        H::enter(self, task, slot.downcast_mut().expect(OWN));
    }

    fn leave(&self, task: &Task, slot: &mut dyn Any) {
        H::leave(self, task, slot.downcast_mut().expect(OWN));
    }

    fn end(&self, task: &Task, slot: Box<dyn Any>) {
        H::end(self, task, *slot.downcast().expect(OWN));
    }
}

/// The hooks of a runtime. The first to enter is the last to leave.
#[derive(Clone)]
pub(crate) struct Hooks(Vec<Arc<dyn AnyHook>>);

impl Default for Hooks {
    fn default() -> Self {
        Self(vec![
            #[cfg(feature = "tracing")]
            Arc::new(crate::scheduler::spans::Spans),
        ])
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|hook| hook.name())).finish()
    }
}

/// What the hooks keep for a task, in the order of the hooks.
struct Slots {
    task: Task,
    slots: Vec<Box<dyn Any>>,
}

impl Record {
    fn take_slots(&self) -> Option<Box<Slots>> {
        let slots: *mut Slots = self.slots().replace(null_mut()).cast();
        // SAFETY: the pointer is null, or was left by `put_slots` and is taken once.
        (!slots.is_null()).then(|| unsafe { Box::from_raw(slots) })
    }

    fn put_slots(&self, slots: Box<Slots>) {
        self.slots().set(Box::into_raw(slots).cast());
    }
}

impl Hooks {
    pub(crate) fn add(&mut self, hook: impl SwitchHook) {
        self.0.push(Arc::new(hook));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The machine is about to resume the stack's task.
    pub(crate) fn enter(&self, machine: &Local, record: &Record) {
        let mut slots = record.take_slots().unwrap_or_else(|| {
            let task = Task::of(record.task());
            Box::new(Slots { task, slots: Vec::with_capacity(self.0.len()) })
        });
        let Slots { task, slots: of } = &mut *slots;
        for (i, hook) in self.0.iter().enumerate() {
            guarded(machine, &**hook, task, || {
                if i == of.len() {
                    of.push(hook.start(task));
                }
                hook.enter(task, &mut *of[i]);
            });
        }
        record.put_slots(slots);
    }

    /// The stack's task has switched away; if `ended`, for good.
    pub(crate) fn leave(&self, machine: &Local, record: &Record, ended: bool) {
        let mut slots = record.take_slots().expect("the task was entered");
        let Slots { task, slots: of } = &mut *slots;
        for (hook, slot) in self.0.iter().zip(&mut *of).rev() {
            guarded(machine, &**hook, task, || hook.leave(task, &mut **slot));
        }
        if !ended {
            return record.put_slots(slots);
        }
        for hook in self.0.iter().rev() {
            let slot = of.pop().expect("each hook has a slot");
            guarded(machine, &**hook, task, || hook.end(task, slot));
        }
    }
}

/// Calls a hook. Nothing can wait in it.
fn guarded(machine: &Local, hook: &dyn AnyHook, task: &Task, call: impl FnOnce()) {
    if machine.shared.is_elsewhere() {
        // The task forked and has ended in the child.
        fork::refuse_to_go_on();
    }
    machine.in_hook.set(true);
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        say(format_args!(
            "greenloom: fatal error: the hook {} panicked when task {} was switched in or out: nobody knows any more what of this \
             thread belongs to which task. A hook must neither panic nor wait; see greenloom::SwitchHook",
            hook.name(),
            task.id(),
        ));
        std::process::abort();
    }
    if machine.shared.is_elsewhere() {
        fork::refuse_to_leave_hook();
    }
    machine.in_hook.set(false);
}
