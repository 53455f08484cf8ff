//! Raising an unwinding: a cancelled task unwinds to its end from its next suspension point, and one with a cancelled bound to the
//! scope's frame. Cancellation comes first; of cancel scopes, the outermost.
//!
//! Not in a destructor that an unwinding of the same task runs, nor in the panic hook before it. Both are looked for only where the
//! thread has a panic, by std's count; that it is another task's is seen from this one's stack, see
//! [`unwinding`](crate::unwind::cleanup). So one that is suspended in a destructor keeps no other from ending, and there is nothing to
//! be made up for when it goes on: what puts an unwinding off is the task's own, and cannot change while it is suspended.

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

/// When a task that catches what is raised, and goes on, is named on stderr.
const SWALLOWED: u32 = 1000;

/// Called by the running task at a suspension point: unwinds if it is cancelled, or a cancel scope is cancelled.
///
/// Returns whether the suspension must be shielded from cancellation: the task is to unwind, but may not. It is inside
/// [`uncancellable`], or it unwinds already (a destructor suspends), and an unwinding that leaves the destructor would end the
/// process.
///
/// In a build with `panic = "abort"` there is no unwinding: cancellation of what has started is refused, that is, shielded for good.
#[inline(always)]
pub(crate) fn raise_or_defer(task: TaskPtr) -> bool {
    if task.state().is_interrupted() { raise_or_defer_slow(task) } else { false }
}

/// Called by the running task as soon as its suspension was ended for an unwinding: raises it, unless it has to be put off.
#[cold]
#[inline(never)]
pub(crate) fn raise_after_wait(task: TaskPtr) {
    // Put off: the suspension that follows is shielded.
    let _ = raise_or_defer_slow(task);
}

/// The same, but only says what is to be done; so whoever waits can keep its place in a queue. If the time of the wait is up too, since
/// `time_up`, the earlier counts: a cancellation always does, a limit if its time was up before.
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

/// What is to be done about a task that is interrupted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is not, or not any more.
    Nothing,
    /// It may not unwind now, or its wait was over before: its next suspension is shielded.
    PutOff,
    /// It unwinds.
    Raise,
}

/// What the running task is to do, and the scope that it is to unwind to; its end, if there is none.
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

/// As `raise_or_defer`, on a plain thread, which has nothing but cancel scopes.
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

/// When a plain thread that waits is to ask [`is_over_on_thread`]; `None` if it need not.
#[cold]
pub(crate) fn next_look_on_thread() -> Option<Instant> {
    scopes_on_thread()?.next_look(prim::now())
}

/// When the next scope of the thread cancels by itself.
#[cold]
pub(crate) fn deadline_on_thread() -> Option<Instant> {
    scopes_on_thread()?.next_deadline()
}

/// Whether the thread has to unwind by this moment. If the time of its wait is up too, since `time_up`, see [`after_wait`].
#[cold]
pub(crate) fn is_over_on_thread(now: Instant, time_up: Option<Instant>) -> bool {
    scopes_on_thread().is_some_and(|interrupts| interrupts.outermost_over(now, time_up).is_some())
}

/// A plain thread's, if it has cancel scopes, and an unwinding may be raised.
fn scopes_on_thread<'a>() -> Option<&'a Interrupts> {
    let Running { interrupts, .. } = running()?;
    (!interrupts.scope.get().is_null() && !thread::panicking()).then_some(interrupts)
}

impl Interrupts {
    /// Counts that an unwinding is raised; whether it has been so often that it should be said.
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

/// Unwinds if the task is cancelled, or the time of a [`timeout`](crate::time::timeout) around is up; does nothing else.
///
/// For loops that compute for long and never wait, which nothing could end otherwise. It costs one load, lets no other task run, and
/// may be called inside [`no_suspend`](crate::no_suspend). That time is up is noticed by the runtime's monitor while a task holds
/// its thread, some milliseconds late. On a plain OS thread, which cannot be cancelled, it looks at the clock if there is a limit.
///
/// # Cancellation
/// This is what it is for; but not inside [`uncancellable`], nor in a destructor that runs because of an unwinding.
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

/// As [`checkpoint`], for one who has waited and been given what can be given back, a lock or a permit: if it unwinds, `give_back`
/// sees to that.
///
/// Which of the two came first is not asked: the waiter knows of neither before it goes on, and to unwind then is sooner than at
/// its next suspension.
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

/// Whether an unwinding that the running code has raised, for its cancellation or a cancel scope, has not been dealt with. Where something
/// unwinds, this tells why.
pub(crate) fn is_cancelling() -> bool {
    running().is_some_and(|running| running.interrupts.unwinding.get() != 0)
}

/// Why the running code unwinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unwinding {
    /// It does not; another task of its thread may be suspended in the middle of an unwinding.
    No,
    /// A panic.
    Panic,
    /// It is cancelled, or its time is up.
    Cancellation,
}

/// Whether the running code unwinds, and why.
///
/// A task unwinds by cancellation, or to a cancel scope, as long as the payload lives. Of panics std knows only whether the thread has one. The
/// machine notes which task was suspended first while it had; until that has ended, no other task is said to unwind by a panic,
/// even if it does. (Its stack would tell, see `stack::unwinding`, but that takes long, and locks ask here.) A destructor that
/// suspends during a panic, and a second task that panics on that thread meanwhile: the second poisons nothing. (The other way
/// round, locks would be poisoned that nothing happened to.)
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

/// Says, once, why tasks do not end that were told to.
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
