//! Raising an unwinding. A cancelled task unwinds to its end from its next suspension point. A task
//! with a cancelled scope unwinds to that scope's frame. Cancellation comes before cancel scopes,
//! and the outermost scope before the others.
//!
//! Nothing is raised in a destructor that an unwinding of the same task runs, nor in the panic hook
//! that runs before an unwinding. Both are looked for only if std's count says that the thread is
//! panicking. Whether the panic is another task's shows on this task's stack; see
//! [`cleanup`](crate::unwind::cleanup). So a task that is suspended in a destructor does not keep
//! other tasks from ending. Nothing has to be caught up on when it goes on: what defers an
//! unwinding belongs to the task alone, and cannot change while the task is suspended.

use std::time::Instant;

use crate::prim::untracked::{AtomicBool, Ordering};
use crate::prim::{self, thread};
use crate::raw::cancel_scope::CancelScope;
use crate::raw::header::TaskPtr;
use crate::raw::interrupts::Interrupts;
use crate::raw::machine::{self, machine};
use crate::sys::stderr::say;
use crate::unwind::payload::Cancelled;
use crate::unwind::running::{Running, running};

/// After so many raises, a task that catches them and goes on is named on stderr.
const SWALLOWED: u32 = 1000;

/// Called by the running task at a suspension point: unwinds if the task is cancelled, or a cancel
/// scope around it is.
///
/// Returns whether the suspension must be shielded from cancellation, which is so if the task
/// should unwind but may not. Either it is inside `uncancellable`, or it is unwinding already (a
/// destructor suspends), and an unwinding that leaves the destructor would end the process.
///
/// In a build with `panic = "abort"` there is no unwinding. Cancellation of a task that has started
/// is refused: the task is shielded for good.
#[inline(always)]
pub(crate) fn raise_or_defer(task: TaskPtr) -> bool {
    if task.state().is_interrupted() { raise_or_defer_slow(task) } else { false }
}

/// Called by the running task as soon as its suspension was ended for an unwinding: raises the
/// unwinding, unless it has to be deferred.
#[cold]
#[inline(never)]
pub(crate) fn raise_after_wait(task: TaskPtr) {
    // Deferred: the suspension that follows is shielded.
    let _ = raise_or_defer_slow(task);
}

/// Like `raise_after_wait`, but only returns what is to be done, so that a waiter can keep its
/// place in a queue. If the time of the wait is up too, since `time_up`, the earlier event counts:
/// a cancellation always does, and a limit does if its time was up before.
#[cold]
#[inline(never)]
pub(crate) fn after_wait(task: TaskPtr, time_up: Option<Instant>) -> Verdict {
    judge(task, time_up).0
}

#[cold]
#[inline(never)]
fn raise_or_defer_slow(task: TaskPtr) -> bool {
    let (verdict, to) = judge(task, None);
    let (Verdict::Raise, Some(record)) = (verdict, machine::record()) else { return verdict == Verdict::PutOff };
    let interrupts = record.interrupts();
    if interrupts.count(to) {
        let what = if to.is_some() { "the end of its time" } else { "its cancellation" };
        match record.report() {
            Some(task) => report(task, what),
            None => report(format_args!("task {}", task.id()), what),
        }
    }
    interrupts.raise(to, task.id())
}

/// What to do about a task that is interrupted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not interrupted, or not any more.
    Nothing,
    /// It may not unwind now, or its wait was over before: shield its next suspension.
    PutOff,
    /// Unwind it.
    Raise,
}

/// What the running task is to do, and the scope that it is to unwind to; `None` for the task's
/// end.
fn judge<'a>(task: TaskPtr, time_up: Option<Instant>) -> (Verdict, Option<&'a CancelScope>) {
    if !task.state().is_interrupted() {
        return (Verdict::Nothing, None);
    }
    if cfg!(panic = "abort") {
        refuse();
        return (Verdict::PutOff, None);
    }
    let Some(machine) = machine() else { return (Verdict::PutOff, None) };
    let Some(record) = machine.record() else { return (Verdict::PutOff, None) };
    let interrupts = record.interrupts();
    let to = if task.state().is_cancelled() && interrupts.uncancellable.get() == 0 {
        None
    } else if !task.state().is_scope_cancelled() {
        return (Verdict::PutOff, None);
    } else {
        match interrupts.outermost_cancelled(time_up) {
            None => return (Verdict::PutOff, None),
            scope => scope,
        }
    };
    if thread::panicking() && (is_cancelling() || machine.panics.forbid_unwinding_of(record)) {
        return (Verdict::PutOff, None);
    }
    (Verdict::Raise, to)
}

/// Like `raise_or_defer`, on a plain thread, which has only cancel scopes.
#[cold]
pub(crate) fn raise_on_thread() {
    let Some(interrupts) = scopes_on_thread() else { return };
    let over = interrupts.outermost_over(prim::now(), None);
    if over.is_none() {
        return;
    }
    if interrupts.count(over) {
        report(format_args!("thread {:?}", thread::current().name().unwrap_or("without a name")), "the end of its time");
    }
    interrupts.raise(over, thread::number())
}

/// When a plain thread that waits must call [`is_over_on_thread`]; `None` if it need not.
#[cold]
pub(crate) fn next_look_on_thread() -> Option<Instant> {
    scopes_on_thread()?.next_look(prim::now())
}

/// When the next scope of the thread cancels itself.
#[cold]
pub(crate) fn deadline_on_thread() -> Option<Instant> {
    scopes_on_thread()?.next_deadline()
}

/// Whether the thread has to unwind at `now`. If the time of its wait is up too, since `time_up`,
/// see [`after_wait`].
#[cold]
pub(crate) fn is_over_on_thread(now: Instant, time_up: Option<Instant>) -> bool {
    scopes_on_thread().is_some_and(|interrupts| interrupts.outermost_over(now, time_up).is_some())
}

/// The interrupts of a plain thread, if it has cancel scopes and an unwinding may be raised.
fn scopes_on_thread<'a>() -> Option<&'a Interrupts> {
    let Running { interrupts, .. } = running()?;
    (!interrupts.scope.get().is_null() && !thread::panicking()).then_some(interrupts)
}

impl Interrupts {
    /// Counts a raised unwinding; true if there have been so many that a warning is due.
    fn count(&self, to: Option<&CancelScope>) -> bool {
        let count = to.map_or(&self.cancellations, |scope| &scope.raised);
        count.set(count.get().saturating_add(1));
        count.get() >= SWALLOWED && !self.reported.replace(true)
    }

    fn raise(&self, to: Option<&CancelScope>, id: u64) -> ! {
        let serial = self.raises.get().wrapping_add(1).max(1);
        self.raises.set(serial);
        self.unwinding.set(serial);
        thread::raise(Box::new(Cancelled::new(id, serial, to)))
    }
}

fn report(who: impl std::fmt::Display, what: &str) {
    say(format_args!(
        "greenloom: {who}, has been told {SWALLOWED} times of {what}, and something has caught the unwinding each time: what catches \
         panics in a task has to let it go on in the end"
    ));
}

/// Unwinds if the task is cancelled, or if the time of a [`timeout`](crate::time::timeout) around
/// the call is up. Otherwise it does nothing.
///
/// Use it in loops that compute for long and never wait, since nothing else could end them. It
/// costs one load, lets no other task run, and may be called inside
/// [`no_suspend`](crate::no_suspend). While a task occupies its thread, the runtime's monitor
/// notices that time is up, some milliseconds late. A plain OS thread cannot be cancelled; there,
/// this reads the clock if there is a limit.
///
/// # Cancellation
/// This call is a cancellation point, except inside [`uncancellable`](crate::uncancellable) and in a
/// destructor that runs because of an unwinding.
///
/// ```
/// use std::time::Duration;
///
/// greenloom::run(|| {
///     let endless = greenloom::time::timeout(Duration::from_millis(1), || {
///         loop {
///             greenloom::checkpoint();
///         }
///     });
///     assert!(endless.is_err());
/// });
/// ```
#[inline]
pub fn checkpoint() {
    match machine::record() {
        Some(record) => _ = raise_or_defer(record.task()),
        None => raise_on_thread(),
    }
}

/// Like [`checkpoint`], for a caller that has waited for and received something that it can give
/// back, such as a lock or a permit. If this unwinds, `give_back` runs.
///
/// It does not matter whether the cancellation or what was waited for came first. The waiter knows
/// of neither before it goes on, and unwinding here is sooner than at its next suspension.
#[inline(always)]
pub(crate) fn checkpoint_with(give_back: impl FnOnce()) {
    struct GiveBack<F: FnOnce()>(Option<F>);
    impl<F: FnOnce()> Drop for GiveBack<F> {
        fn drop(&mut self) {
            if let Some(give_back) = self.0.take() {
                give_back();
            }
        }
    }
    let mut unwinding = GiveBack(Some(give_back));
    checkpoint();
    unwinding.0 = None;
}

/// Whether the running code has raised an unwinding, for its cancellation or a cancel scope, that
/// has not been dealt with. During an unwinding, this tells its cause.
pub(crate) fn is_cancelling() -> bool {
    running().is_some_and(|running| running.interrupts.unwinding.get() != 0)
}

/// Why the running code unwinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwinding {
    /// It does not unwind; another task of its thread may be suspended in the middle of an
    /// unwinding.
    No,
    /// A panic.
    Panic,
    /// It is cancelled, or its time is up.
    Cancellation,
}

/// Whether the running code unwinds, and why.
///
/// A task unwinds by cancellation, or to a cancel scope, for as long as the payload lives. For
/// panics, std only knows whether the thread has one. The machine notes which task was first
/// suspended while panicking. Until that task has ended, no other task counts as unwinding by a
/// panic, even if it does. (Its stack would tell, see `unwind::cleanup`, but reading it takes long,
/// and locks ask here.) Suppose a destructor suspends during a panic, and meanwhile a second task
/// panics on that thread: the second task poisons nothing. (Otherwise, locks would be poisoned
/// although nothing happened to them.)
#[cold]
pub(crate) fn unwinding() -> Unwinding {
    if !thread::panicking() {
        return Unwinding::No;
    }
    if is_cancelling() {
        return Unwinding::Cancellation;
    }
    match machine().and_then(|machine| Some((machine, machine.record()?))) {
        Some((machine, record)) if !machine.panics.are_of(record) => Unwinding::No,
        _ => Unwinding::Panic,
    }
}

/// Prints, once, why tasks that were cancelled do not end.
fn refuse() {
    // Relaxed: a flag that carries no data.
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        say(format_args!(
            "greenloom: this program was built with panic = \"abort\", so tasks cannot unwind: cancellation of tasks that have \
             started is refused, and at the end of a runtime those that do not end by themselves are left behind"
        ));
    }
}
