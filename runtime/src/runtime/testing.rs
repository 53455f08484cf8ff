//! A harness for tests of code that starts tasks.

use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::channel;
use crate::prim;
use crate::raw::report::LISTED_IN_A_MESSAGE;
use crate::runtime::{Runtime, RuntimeBuilder};
use crate::scheduler::Shared;
use crate::scheduler::report::OnLeak;

/// How long nothing may happen before live tasks count as leaked.
const QUIET: Duration = Duration::from_millis(400);

/// How long tasks that never come to rest may go on.
const BUSY: Duration = Duration::from_secs(10);

/// The pause between two checks.
const PAUSE: Duration = Duration::from_millis(1);

/// How long leaked tasks have to unwind.
const GRACE: Duration = Duration::from_secs(1);

/// Runs `f` as the root task of a runtime, and fails if tasks are left when it returns, like Go's
/// goleak.
///
/// Tasks that are about to end are given a moment: as long as any of them moves, up to ten seconds,
/// and 400 ms once all have come to rest. Tasks that are alive then are leaked. They are cancelled,
/// so that the next test finds a clean process.
///
/// Blocks a plain OS thread. Inside a task of another runtime it suspends only that task.
///
/// # Panics
/// If tasks are left; the message names each with its spawn site, what it waits for, and for how
/// long. If `f` does, with the same payload; tasks that it leaves are not checked then. If all
/// tasks wait for each other: a test harness always has other threads, which might wake one, so
/// this takes four seconds without any progress. And as [`greenloom::run`](crate::run). A panic of
/// a task that nobody joins is reported on stderr, and does not fail the test.
///
/// # Cancellation
/// As [`greenloom::run`](crate::run).
///
/// ```
/// use greenloom::channel;
///
/// // Passes: the consumer ends when the channel does.
/// greenloom::testing::run(|| {
///     let (tx, rx) = channel::unbounded();
///     drop(greenloom::spawn(move || rx.iter().sum::<u32>()));
///     tx.send(1).unwrap();
/// });
///
/// // Fails: nobody will ever send.
/// let leak = std::panic::catch_unwind(|| {
///     greenloom::testing::run(|| {
///         let (tx, rx) = channel::bounded::<u32>(0);
///         drop(greenloom::spawn(move || rx.recv()));
///         std::mem::forget(tx);
///     });
/// });
/// let message = *leak.unwrap_err().downcast::<String>().unwrap();
/// assert!(message.contains("receiving from a channel"), "{message}");
/// ```
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    run_in(Runtime::builder(), f)
}

/// Like [`run`], in a runtime that `builder` describes; its setting for leaks is ignored.
///
/// # Panics
/// As [`run`].
///
/// ```
/// use greenloom::Runtime;
///
/// let one = greenloom::testing::run_in(Runtime::builder().processors(1), || greenloom::spawn(|| 1).join().unwrap());
/// assert_eq!(one, 1);
/// ```
#[track_caller]
pub fn run_in<F, T>(builder: RuntimeBuilder, f: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let runtime = match builder.on_leak(OnLeak::Ignore).for_a_test().build() {
        Ok(runtime) => runtime,
        Err(error) => panic!("greenloom::testing::run cannot start a runtime: {error}"),
    };
    let site = Location::caller();
    let value = match catch_unwind(AssertUnwindSafe(|| runtime.run_from(f, site))) {
        Ok(value) => value,
        Err(payload) => {
            drop(runtime);
            resume_unwind(payload)
        }
    };
    let shared = runtime.shared();
    if come_to_rest(shared) {
        return value;
    }
    let leaked = shared.tasks_alive(LISTED_IN_A_MESSAGE);
    let report = runtime.shutdown(GRACE);
    let end = if report.is_clean() { String::new() } else { format!("\ncancelled, but {report}") };
    panic!("leaked tasks: {}{leaked}{end}", leaked.len());
}

/// Waits until no task is left (true), or the tasks that are left have shown that they stay
/// (false).
fn come_to_rest(shared: &Shared) -> bool {
    let began = prim::now();
    let mut quiet_since = began;
    let mut runs = shared.runs();
    loop {
        // Fresh tasks are on no stack, but a machine that has some is awake.
        let still = shared.idle.all_asleep();
        if still && shared.tasks_alive(0).len() == 0 {
            return true;
        }
        let now = prim::now();
        if !still || shared.runs() != runs {
            runs = shared.runs();
            quiet_since = now;
        }
        if now - quiet_since >= QUIET || now - began >= BUSY {
            return false;
        }
        let _ = channel::after(PAUSE).recv();
    }
}
