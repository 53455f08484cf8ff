//! Waiting: who waits, why, and how a waiter is woken.
//!
//! Every blocking primitive is written against [`Waiter`] alone, so that it works both for a task
//! and for a plain OS thread:
//!
//! 1. The waiting side publishes its `Waiter` where the partner will find it, under the primitive's
//!    own word or lock, and calls [`wait_for`].
//! 2. A partner that takes the waiter out of there, as decided by that same word or lock, owes it
//!    exactly one [`Waiter::wake`].
//! 3. Cancellation and timers never touch the primitive. They wake the task, and the task then
//!    takes its waiter back itself. If a partner has the waiter already, its wake is still to come:
//!    the task absorbs it and returns the partner's value. So one word decides, and neither a
//!    canceller nor a timer ever looks into a frame.
//!
//! [`wait_for`] is the whole interface. Primitives with queues take them from [`list`], whose nodes
//! lie in the waiters' frames.

pub(crate) mod list;
pub(crate) mod queue;

pub(crate) use crate::raw::reason::Reason;
pub(crate) use crate::raw::waiter::Waiter;

use std::time::Instant;

use crate::prim::{self, Parker};
use crate::raw::header::TaskPtr;
use crate::raw::record::{Record, Suspend};
use crate::scheduler::local::{self, Few, Local};
use crate::scheduler::overtime;
use crate::scheduler::timers::{Aim, Timer};
use crate::unwind::{self, LeftScope, ScopeCancelled, Unwinding, Verdict};

/// The result of a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum WaitOutcome {
    /// A partner has woken the caller, or there was nothing to wait for.
    Done,
    /// The deadline has passed, and the caller has taken its waiter back.
    TimedOut,
}

/// Publishes the caller (task or thread) through `publish` and waits to be woken.
///
/// `publish` returns false if there is nothing to wait for any more. `withdraw` ends a wait that a
/// deadline or a cancellation has aborted: it takes the waiter back. It returns false if a partner
/// has the waiter already; the partner's wake is then received.
///
/// Suspends a task; blocks a plain thread.
///
/// # Cancellation
/// A cancelled task, or one with a cancelled scope, unwinds from here: before anything is
/// published, or after it was withdrawn. If unwinding must be put off, the task keeps its place:
/// nothing is withdrawn, and no wake is lost in between. A plain thread with a scope does the same.
/// If the deadline has passed as well by the time the caller goes on (its thread was busy, say), a
/// cancellation takes precedence, and so does a limit if its time was up before the deadline.
// Inlined for `Record::suspend`.
#[inline(always)]
#[track_caller]
pub(crate) fn wait_for(
    reason: Reason,
    deadline: Option<Instant>,
    mut publish: impl FnMut(Waiter) -> bool,
    mut withdraw: impl FnMut() -> bool,
) -> WaitOutcome {
    let Some((local, record)) = local::running() else { return block_thread(reason, deadline, publish, withdraw) };
    let task = record.task();
    loop {
        let shielded = unwind::raise_or_defer(task);
        record.assert_may_suspend(reason);
        if !publish(Waiter::task(task)) {
            look_at_slice();
            return WaitOutcome::Done;
        }
        let how = if shielded { Suspend::WaitShielded } else { Suspend::Wait };
        let timed_out = suspend_for(local, record, how, reason, deadline);
        if !task.state().take_abort_wake() {
            return WaitOutcome::Done;
        }
        if let Some(waited) = aborted(local, record, reason, deadline, timed_out, &mut withdraw) {
            return waited;
        }
    }
}

/// Suspends the running task, which has published itself. Returns whether the deadline has passed.
#[inline(always)]
fn suspend_for(local: &Local, record: &Record, how: Suspend, reason: Reason, deadline: Option<Instant>) -> bool {
    match deadline {
        None => {
            record.suspend(how, reason);
            false
        }
        Some(deadline) => suspend_until(local, record, how, reason, deadline),
    }
}

/// Called when a deadline, or a pending unwinding, has ended a wait. `None` if the wait is to begin
/// again.
#[cold]
#[inline(never)]
fn aborted(
    local: &Local,
    record: &Record,
    reason: Reason,
    deadline: Option<Instant>,
    mut timed_out: bool,
    withdraw: &mut dyn FnMut() -> bool,
) -> Option<WaitOutcome> {
    let task = record.task();
    loop {
        let how = match unwind::after_wait(task, deadline.filter(|_| timed_out)) {
            Verdict::Raise => {
                timed_out = false;
                break;
            }
            _ if timed_out => break,
            Verdict::PutOff => Suspend::WaitShielded,
            Verdict::Nothing => Suspend::Wait,
        };
        // The task keeps its place.
        timed_out = suspend_for(local, record, how, reason, deadline);
        if !task.state().take_abort_wake() {
            return Some(WaitOutcome::Done);
        }
    }
    if !withdraw() {
        consume_late_wake(record, reason);
        return Some(WaitOutcome::Done);
    }
    if timed_out {
        return Some(WaitOutcome::TimedOut);
    }
    unwind::raise_after_wait(task);
    None
}

/// Lets other tasks run first, if the caller is a task and a few others are ready on its processor:
/// they may be what it is about to wait for. Returns whether it has.
///
/// # Cancellation
/// As in [`wait_for`], with this deadline.
#[inline(always)]
#[track_caller]
pub(crate) fn let_few_run(reason: Reason, deadline: impl FnOnce() -> Option<Instant>) -> bool {
    let Some((local, record)) = local::running() else { return false };
    let since = match local.few_ready() {
        Few::NobodyOrMany => return false,
        Few::Own => None,
        Few::Others => match local.lends_slice() {
            None => return false,
            since => since,
        },
    };
    unwind::raise_or_defer(record.task());
    record.assert_may_suspend(reason);
    record.suspend(Suspend::Yield, reason);
    if let Some(since) = since {
        local.note_lent(since);
    }
    if record.task().state().is_interrupted() {
        raise_unless_over(record.task(), deadline());
    }
    true
}

/// Called at the start of each operation that may wait (`recv`, `send`, `lock`, `acquire` and their
/// like): if the time slice of this run is over, other tasks run first. Otherwise a loop over such
/// operations that never has to wait would hold its machine forever.
///
/// It raises nothing: what comes next may not have to wait. It does not suspend inside
/// `no_suspend`, nor during an unwinding. On a plain thread it does nothing.
#[inline(always)]
pub(crate) fn look_at_slice() {
    look_at_slice_if(|| true);
}

/// The same, for an operation that in some cases never waits. Such an operation is not expected to
/// suspend in these cases, and std locks are often held across it.
#[inline(always)]
pub(crate) fn look_at_slice_if(may_wait: impl FnOnce() -> bool) {
    if overtime::is_any() {
        std::hint::cold_path();
        if may_wait() {
            end_overtime();
        }
    }
}

#[cold]
#[inline(never)]
fn end_overtime() {
    if let Some((local, record)) = local::running()
        && local.processor().is_over_time()
    {
        let_others_go_first(local, record);
    }
}

#[cold]
fn raise_unless_over(task: TaskPtr, deadline: Option<Instant>) {
    let now = prim::now();
    if unwind::after_wait(task, deadline.filter(|&deadline| deadline <= now)) == Verdict::Raise {
        unwind::raise_after_wait(task);
    }
}

/// Leaves a frame that could be unwound to. If its scope is cancelled and the time slice is over,
/// other tasks run first. A loop over limits that are over before anything has to wait is a loop
/// over operations that never wait.
#[inline(always)]
pub(crate) fn leave_scope<T>(LeftScope { result, cancelled }: LeftScope<T>) -> Result<T, ScopeCancelled> {
    if cancelled {
        std::hint::cold_path();
        look_at_slice();
    }
    result
}

/// Called at the end of each attempt that has failed instead of waiting (`try_recv` and its like).
/// It lets other tasks run, if the monitor has seen this task hold its machine and many attempts
/// have failed since. Otherwise a loop over attempts would hold the machine forever.
///
/// It raises nothing: the caller gets the result it has, for instance with the message that was not
/// sent. It does not suspend inside `no_suspend`, nor during an unwinding. On a plain thread it
/// does nothing.
#[inline]
pub(crate) fn yield_if_hogging() {
    if let Some((local, record)) = local::running()
        && local.processor().asks_to_give_way()
        && let_others_go_first(local, record)
    {
        local.processor().note_given_way();
    }
}

/// Suspends the running task behind all other tasks of its machine, if it may be suspended.
#[cold]
#[inline(never)]
fn let_others_go_first(local: &Local, record: &Record) -> bool {
    let may = record.may_suspend() && unwind::unwinding() == Unwinding::No;
    if may {
        local.make_way();
        record.suspend(Suspend::Yield, Reason::Yield);
    }
    may
}

/// Suspends the running task, which has published itself, with a timer. Returns whether the timer
/// has fired.
#[inline(always)]
pub(crate) fn suspend_until(local: &Local, record: &Record, how: Suspend, reason: Reason, deadline: Instant) -> bool {
    let timers = &local.processor().timers;
    let timer = Timer::new();
    // SAFETY: the timer is new. It is taken back below, before the frame can end: a suspension does
    // not unwind.
    unsafe { timers.set(&timer, Aim::Wake(record.task()), deadline) };
    record.suspend(how, reason);
    let fired = timers.take_back(&timer);
    record.task().state().forget_time();
    fired
}

#[cold]
#[track_caller]
fn block_thread(
    reason: Reason,
    deadline: Option<Instant>,
    mut publish: impl FnMut(Waiter) -> bool,
    mut withdraw: impl FnMut() -> bool,
) -> WaitOutcome {
    loop {
        unwind::raise_on_thread();
        local::assert_may_block(reason);
        let parker = Parker::new();
        if !publish(Waiter::thread(&parker)) {
            return WaitOutcome::Done;
        }
        let timed_out = loop {
            let look = unwind::next_look_on_thread();
            let Some(first) = deadline.into_iter().chain(look).min() else {
                parker.park();
                return WaitOutcome::Done;
            };
            if parker.park_until(first) {
                return WaitOutcome::Done;
            }
            let now = prim::now();
            let time_up = deadline.filter(|&deadline| deadline <= now);
            if unwind::is_over_on_thread(now, time_up) {
                break false;
            }
            if time_up.is_some() {
                break true;
            }
        };
        if !withdraw() {
            // The partner that has the waiter wakes it.
            parker.park();
            return WaitOutcome::Done;
        }
        if timed_out {
            return WaitOutcome::TimedOut;
        }
    }
}

/// Receives the wake of a partner that took the waiter before the aborted task could withdraw it.
#[cold]
fn consume_late_wake(record: &Record, reason: Reason) {
    loop {
        record.suspend(Suspend::WaitShielded, reason);
        if !record.task().state().take_abort_wake() {
            return;
        }
    }
}

/// Waits until the deadline has passed, or forever if there is none.
///
/// Suspends a task; blocks a plain thread.
///
/// # Cancellation
/// A cancelled task unwinds from here.
#[inline(always)]
#[track_caller]
pub(crate) fn sleep_until(reason: Reason, deadline: Option<Instant>) {
    while wait_for(reason, deadline, |_| true, || true) != WaitOutcome::TimedOut {}
}
