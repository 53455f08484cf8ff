//! Tasks: how they are made, joined, named, woken and cancelled. The usual functions are
//! re-exported at the root of the crate.
//!
//! A task is one allocation: a header and the room for its closure, which later holds the result. A
//! state word tracks its life.

pub(crate) mod handle;
pub(crate) mod join;
pub(crate) mod local_key;
pub(crate) mod spawn;
pub(crate) mod tracker;

use std::time::Duration;

pub use crate::raw::error::JoinError;
pub use crate::scheduler::placement::Placement;
pub use crate::unwind::{checkpoint, uncancellable};
pub use handle::Handle;
pub use join::{JoinHandle, LocalJoinHandle};
pub use local_key::{AccessError, LocalKey, ValueKey};
pub(crate) use spawn::spawn_on;
pub use spawn::{Builder, spawn, spawn_local};

use crate::prim::{self, thread};
use crate::raw::record::{Record, Suspend};
use crate::scheduler::local;
use crate::scheduler::task::Task;
use crate::unwind::{self, Section, SectionKind, Verdict};
use crate::wait::{self, Reason};

/// The task that runs this code. On a plain OS thread, a handle to that thread, with a number of
/// its own.
///
/// Never waits.
///
/// ```
/// greenloom::run(|| assert!(greenloom::current().name().is_none()));
/// ```
pub fn current() -> Task {
    if let Some((_, record)) = local::running() {
        return Task::of(record.task());
    }
    Task::thread(thread::current(), thread::number())
}

/// Waits until somebody calls [`Task::unpark`] on this task. Returns at once if somebody has done
/// so since the last `park`.
///
/// Suspends the task. On a plain OS thread it is [`std::thread::park`], which blocks the thread.
/// (After a time limit has ended a `park` there, the next one may return at once.)
///
/// Unlike there, a task's `park` does not return spuriously. But anyone may leave a token, so check
/// your condition again.
///
/// # Panics
/// Inside [`no_suspend`].
///
/// # Cancellation
/// A cancelled task unwinds from here, also while it waits.
///
/// ```
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use std::sync::Arc;
///
/// greenloom::run(|| {
///     let ready = Arc::new(AtomicBool::new(false));
///     let waiter = greenloom::spawn({
///         let ready = ready.clone();
///         move || {
///             while !ready.load(Ordering::Acquire) {
///                 greenloom::park();
///             }
///         }
///     });
///     ready.store(true, Ordering::Release);
///     waiter.task().unpark();
///     waiter.join().unwrap();
/// });
/// ```
#[inline(always)]
#[track_caller]
pub fn park() {
    let Some((_, record)) = local::running() else {
        return park_thread(None);
    };
    let task = record.task();
    loop {
        let shielded = unwind::raise_or_defer(task);
        record.assert_may_suspend(Reason::Park);
        if task.state().take_token() {
            return wait::look_at_slice();
        }
        record.suspend(if shielded { Suspend::ParkShielded } else { Suspend::Park }, Reason::Park);
        if !task.state().take_abort_wake() {
            return;
        }
        // The task is to unwind: it does so now, or waits on if it must not unwind here.
        unwind::raise_after_wait(task);
    }
}

/// Like [`park`], but for no longer than `limit`. The caller cannot tell whether somebody has
/// called [`Task::unpark`] or time is up.
///
/// Suspends the task. On a plain OS thread it is [`std::thread::park_timeout`], which blocks the
/// thread. A duration that cannot be represented waits forever. A duration of zero only takes the
/// token, if there is one, and otherwise may [give way](crate#what-suspends).
///
/// # Panics
/// Inside [`no_suspend`].
///
/// # Cancellation
/// A cancelled task unwinds from here, also while it waits.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// greenloom::run(|| {
///     let start = Instant::now();
///     greenloom::park_timeout(Duration::from_millis(2));
///     assert!(start.elapsed() >= Duration::from_millis(2));
/// });
/// ```
#[inline(always)]
#[track_caller]
pub fn park_timeout(limit: Duration) {
    let Some((local, record)) = local::running() else {
        return park_thread(Some(limit));
    };
    let task = record.task();
    let deadline = prim::now().checked_add(limit);
    loop {
        let shielded = unwind::raise_or_defer(task);
        record.assert_may_suspend(Reason::Park);
        if task.state().take_token() {
            return wait::look_at_slice();
        }
        if limit.is_zero() {
            return wait::yield_if_hogging();
        }
        let how = if shielded { Suspend::ParkShielded } else { Suspend::Park };
        let timed_out = match deadline {
            None => {
                record.suspend(how, Reason::Park);
                false
            }
            Some(deadline) => wait::suspend_until(local, record, how, Reason::Park, deadline),
        };
        if !task.state().take_abort_wake() {
            return;
        }
        if timed_out && unwind::after_wait(task, deadline) != Verdict::Raise {
            return;
        }
        // The task is to unwind: it does so now, or waits on if it must not unwind here.
        unwind::raise_after_wait(task);
    }
}

/// Parks a plain thread until a token or a limit comes, or a cancel scope is cancelled (which
/// leaves a token).
#[cold]
#[track_caller]
fn park_thread(limit: Option<Duration>) {
    unwind::raise_on_thread();
    local::assert_may_block(Reason::Park);
    let deadline = limit.and_then(|limit| prim::now().checked_add(limit));
    match deadline.into_iter().chain(unwind::deadline_on_thread()).min() {
        Some(first) => thread::park_timeout(first.saturating_duration_since(prim::now())),
        None => thread::park(),
    }
    let now = prim::now();
    if unwind::is_over_on_thread(now, deadline.filter(|&deadline| deadline <= now)) {
        // A token that came at this moment must not be lost. At worst a later park wakes for
        // nothing, as std's may.
        thread::current().unpark();
        unwind::raise_on_thread();
    }
}

/// Lets others run: the task goes to the end of its processor's queue of ready tasks. Ready tasks
/// take turns with those that have not started yet.
///
/// Suspends the task. On a plain OS thread it is [`std::thread::yield_now`].
///
/// # Panics
/// Inside [`no_suspend`].
///
/// # Cancellation
/// A cancelled task unwinds from here.
///
/// ```
/// greenloom::run(|| {
///     let other = greenloom::spawn(|| ());
///     while !other.is_finished() {
///         greenloom::yield_now();
///     }
/// });
/// ```
#[inline(always)]
#[track_caller]
pub fn yield_now() {
    let Some((_, record)) = local::running() else {
        unwind::raise_on_thread();
        local::assert_may_block(Reason::Yield);
        return thread::yield_now();
    };
    unwind::raise_or_defer(record.task());
    record.assert_may_suspend(Reason::Yield);
    record.suspend(Suspend::Yield, Reason::Yield);
}

/// Runs `f`, during which this task must not suspend: a suspension panics instead.
///
/// For code that assumes that nothing else runs on its thread in between: a borrowed thread-local,
/// a reentrant lock. Above all it is for scoped thread-locals, and for accesses that may run a
/// `thread_local!` initialiser which waits; a suspension there would be [undefined
/// behaviour](crate#soundness-what-safe-code-can-rely-on). On a plain OS thread it only runs `f`.
///
/// # Panics
/// If `f` panics, or tries to suspend the task. A suspension in a destructor that runs because `f`
/// unwinds aborts the process, as any panic there does.
///
/// ```
/// thread_local! { static DEPTH: std::cell::Cell<u32> = const { std::cell::Cell::new(0) } }
///
/// greenloom::run(|| {
///     greenloom::no_suspend(|| {
///         DEPTH.set(DEPTH.get() + 1);
///         // No other task runs on this thread here, so nobody sees the counter changed.
///         DEPTH.set(DEPTH.get() - 1);
///     });
/// });
/// ```
pub fn no_suspend<R>(f: impl FnOnce() -> R) -> R {
    struct Allow<'a>(&'a Record);
    impl Drop for Allow<'_> {
        fn drop(&mut self) {
            self.0.allow_suspension();
        }
    }
    let Some((_, record)) = local::running() else { return f() };
    record.forbid_suspension();
    let _allow = Allow(record);
    let _section = Section::enter(record.interrupts(), SectionKind::NoSuspend);
    f()
}
