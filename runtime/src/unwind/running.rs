//! What may end the running code early, and what defers that. Kept for each task in its stack's
//! record, and for each plain thread.
//!
//! A limit, `uncancellable`, `no_suspend` and a task-local's `scope` each make a note here that
//! holds while their frame runs: a [`Section`]. Nothing guarantees that these frames nest. Another
//! crate's coroutine, which safe code may resume wherever it likes, can be suspended inside one.
//! The rest of the task would then run in that section. Sections would end in another order than
//! they began. A cancel scope in the frame of an abandoned coroutine would outlive its task, and
//! its timer would end whatever has the task's memory by then. So a section that ends must be the
//! innermost one, and on the task or thread that it began on. None may be left when a task ends.
//! Both are checked in every build, since to go on would be undefined behaviour. (A plain thread
//! may leave a section behind: what the section notes leads to memory that is leaked with it.)
//!
//! A [`scope`](crate::scope()) is not a section: it notes nothing. Like std's, it is sound wherever
//! its frame runs or is abandoned, since its tasks are waited for, or borrow what is never freed.
//! The waits themselves suspend the whole task, with any coroutine in it.

use std::fmt;

use crate::prim::thread;
use crate::raw::header::TaskPtr;
use crate::raw::interrupts::Interrupts;
use crate::raw::machine;
use crate::raw::record::Record;
use crate::raw::report::name_task;
use crate::sys::stderr::say;

/// The interrupts of a plain thread; `None` if the thread is ending and has destroyed them. Never
/// inlined, as no access to a thread-local is.
#[allow(clippy::missing_const_for_thread_local, reason = "loom's macro knows no const")]
#[inline(never)]
fn of_thread<'a>() -> Option<&'a Interrupts> {
    crate::prim::thread_local! {
        static INTERRUPTS: Interrupts = Interrupts::new();
    }
    let interrupts = INTERRUPTS.try_with(std::ptr::from_ref).ok()?;
    // SAFETY: std never destroys what needs no drop. Loom destroys it after all code of the thread
    // except destructors of thread-locals, which then get an error here.
    Some(unsafe { &*interrupts })
}

/// The running code: a task, or a plain thread.
#[derive(Clone, Copy)]
pub(crate) struct Running<'a> {
    pub(crate) interrupts: &'a Interrupts,
    /// `None` on a plain thread.
    pub(crate) task: Option<TaskPtr>,
}

/// The code that is running; `None` on a thread that is ending and has destroyed its interrupts.
///
/// Valid for as long as the caller runs.
pub(crate) fn running<'a>() -> Option<Running<'a>> {
    match machine::record() {
        Some(record) => Some(Running::task(record)),
        None => Some(Running { interrupts: of_thread()?, task: None }),
    }
}

/// Whether the caller is inside a frame that may be unwound to.
pub(crate) fn is_in_cancel_scope() -> bool {
    running().is_some_and(|running| !running.interrupts.scope.get().is_null())
}

impl<'a> Running<'a> {
    #[inline(always)]
    pub(crate) fn task(record: &'a Record) -> Self {
        Self { interrupts: record.interrupts(), task: Some(record.task()) }
    }

    /// The number of the task or thread.
    pub(super) fn id(self) -> u64 {
        self.task.map_or_else(thread::number, TaskPtr::id)
    }
}

/// A section of the running code in which something in its [`Interrupts`] is changed; see the
/// module. It ends when this is dropped, before the change is undone.
#[must_use]
pub(crate) struct Section {
    interrupts: *const Interrupts,
    depth: u32,
    kind: SectionKind,
}

impl Section {
    /// Enters a section. `interrupts` are those of the running code.
    #[inline(always)]
    pub(crate) fn enter(interrupts: &Interrupts, kind: SectionKind) -> Self {
        let depth = interrupts.sections.get() + 1;
        interrupts.sections.set(depth);
        Self { interrupts, depth, kind }
    }
}

impl Drop for Section {
    /// The section's frame ends. If this is not the innermost section of the running code, the
    /// process aborts.
    #[inline(always)]
    fn drop(&mut self) {
        // None: only in a model, whose threads lose their interrupts when they end.
        let Some(Running { interrupts, .. }) = running() else { return };
        if !std::ptr::eq(interrupts, self.interrupts) || interrupts.sections.get() != self.depth {
            left_out_of_order(self.kind);
        }
        interrupts.sections.set(self.depth - 1);
    }
}

/// Runs `f` with cancellation deferred: neither the task's cancellation nor a
/// [`timeout`](crate::time::timeout) around this call ends anything inside `f`. They take effect at
/// the first suspension point afterwards.
///
/// Use it for code that waits but must not stop halfway, such as telling a partner that this task
/// is ending. A limit of time that begins inside `f` still applies. On a plain OS thread, this
/// defers the limits of time around the call.
///
/// # Panics
/// If `f` panics.
///
/// ```
/// use std::time::Duration;
/// use greenloom::time::{sleep, timeout};
///
/// greenloom::run(|| {
///     let mut done = false;
///     let result = timeout(Duration::from_millis(1), || {
///         greenloom::uncancellable(|| {
///             sleep(Duration::from_millis(5));
///             done = true;
///         });
///         sleep(Duration::from_secs(60));
///     });
///     assert!(done && result.is_err());
/// });
/// ```
pub fn uncancellable<R>(f: impl FnOnce() -> R) -> R {
    struct End<'a>(&'a Interrupts);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.uncancellable.set(self.0.uncancellable.get() - 1);
        }
    }
    let Some(Running { interrupts, .. }) = running() else { return f() };
    interrupts.uncancellable.set(interrupts.uncancellable.get() + 1);
    let _end = End(interrupts);
    let _section = Section::enter(interrupts, SectionKind::Uncancellable);
    f()
}

/// The kinds of [`Section`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum SectionKind {
    CancelScope,
    Uncancellable,
    NoSuspend,
    Local,
}

impl fmt::Display for SectionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CancelScope => "a limit (`timeout` or `Context::run_until_done`)",
            Self::Uncancellable => "`uncancellable`",
            Self::NoSuspend => "`no_suspend`",
            Self::Local => "the `scope` of a task-local",
        })
    }
}

const CURE: &str = "A coroutine of another crate must not be suspended inside a limit, `uncancellable`, `no_suspend` or the `scope` of \
     a task-local that it has entered itself: it must leave them first. To go on would be undefined behaviour, so the process ends";

#[cold]
#[inline(never)]
fn left_out_of_order(kind: SectionKind) -> ! {
    let who = Who(machine::record());
    say(format_args!("greenloom: {who}: {kind} has ended before what began inside it, or elsewhere than it began. {CURE}"));
    std::process::abort();
}

/// A task ends inside a section, because it has left a suspended coroutine behind in one.
#[cold]
#[inline(never)]
pub(crate) fn ended_in_section(record: &Record) -> ! {
    let interrupts = record.interrupts();
    let kind = if !interrupts.scope.get().is_null() {
        SectionKind::CancelScope
    } else if interrupts.uncancellable.get() != 0 {
        SectionKind::Uncancellable
    } else if record.may_suspend() {
        SectionKind::Local
    } else {
        SectionKind::NoSuspend
    };
    say(format_args!(
        "greenloom: {}: it has ended, but a coroutine that it has left behind is inside {kind}. {CURE}",
        Who(Some(record))
    ));
    std::process::abort();
}

/// How messages name the task on this stack, or the plain thread if there is none.
pub(crate) struct Who<'a>(pub(crate) Option<&'a Record>);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(record) => {
                let task = record.task();
                name_task(f, task.name_ref(), task.id(), Some(task.site()))
            }
            None => write!(f, "thread {:?}", thread::current().name().unwrap_or("without a name")),
        }
    }
}
