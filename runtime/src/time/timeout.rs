//! Time limits.

use std::time::{Duration, Instant};
use std::{error, fmt, io};

use crate::prim;
use crate::raw::cancel_scope::{CancelScope, Cause, Due};
use crate::scheduler::local;
use crate::scheduler::timers::{Aim, Timer};
use crate::unwind::{self, Running, ScopeCancelled, in_cancel_scope};
use crate::wait;

/// The time of a [`timeout`] was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl error::Error for Elapsed {}

impl From<Elapsed> for io::Error {
    fn from(_: Elapsed) -> io::Error {
        io::ErrorKind::TimedOut.into()
    }
}

/// Runs `f`, but for no longer than `limit`. When time is up, `f` unwinds to here from its next
/// suspension point, or from the one it is waiting in.
///
/// This holds for everything that suspends inside, here or in any library that `f` calls.
/// Destructors run, and may suspend. Of nested limits, the one that is over first ends what is
/// inside it; if several are over, the outermost does. The task itself goes on after it.
///
/// - Code that never suspends is not ended; a [`checkpoint`](crate::checkpoint) in it helps. Nor is
///   a loop over attempts (`try_recv`, `try_lock`, a `select!` with `default`, `is_finished`),
///   though they [give way](crate#what-suspends): put a `checkpoint` into it. If `f` returns before
///   it notices that time is up, its value counts.
/// - A limit of zero lets `f` run to its first suspension point. A limit that cannot be represented
///   is no limit.
/// - A value that a partner handed over before is returned by the suspension point; the limit comes
///   at the next one.
/// - Catching the unwinding delays it to the next suspension point; the result is still `Elapsed`.
/// - It poisons std locks that `f` holds, and a `LazyLock` whose initialiser it ends, as any panic
///   does (but not those of [`sync`](crate::sync)). It aborts the process if it has to cross
///   `extern "C"`.
/// - A task that `f` has started goes on. But a [`scope`](crate::scope()) in `f`, or
///   [`run_all`](crate::group::run_all), cancels its tasks and waits until they have ended, however
///   long that takes.
/// - It is deferred inside [`uncancellable`](crate::uncancellable), and while the task is already
///   unwinding. A limit in a destructor that runs during unwinding has no effect (use
///   [`send_timeout`](crate::channel::Sender::send_timeout) or
///   [`recv_timeout`](crate::channel::Receiver::recv_timeout) there).
/// - If a wait inside has a deadline of its own, and both have passed when the task can go on, the
///   earlier one counts.
/// - The coroutine of another crate must not be suspended inside a limit that it has entered
///   itself. If the limit, or its task, ends out of order, [the process
///   ends](crate#soundness-what-safe-code-can-rely-on).
///
/// A limit that is not reached costs one reading of the clock and two short locks, and allocates
/// nothing.
///
/// Neither suspends nor blocks by itself. On a plain OS thread, the limit ends waits for something
/// of this crate; it does not end what blocks in the kernel.
///
/// # Errors
/// [`Elapsed`] if the limit has ended something of `f`.
///
/// # Panics
/// If `f` panics, and always in a build with `panic = "abort"`, which cannot unwind.
///
/// # Cancellation
/// Not a suspension point. A cancelled task unwinds through it.
///
/// ```
/// use std::time::Duration;
/// use greenloom::channel;
/// use greenloom::time::timeout;
///
/// greenloom::run(|| {
///     let (_sender, receiver) = channel::unbounded::<u32>();
///     // Nobody sends.
///     assert!(timeout(Duration::from_millis(2), || receiver.recv()).is_err());
///     assert_eq!(timeout(Duration::from_secs(60), || 42), Ok(42));
/// });
/// ```
#[inline]
#[track_caller]
pub fn timeout<T>(limit: Duration, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let now = prim::now();
    limited(now, now.checked_add(limit), f)
}

/// Like [`timeout`], but takes the moment when time is up.
///
/// # Errors
/// [`Elapsed`] if the limit has ended something of `f`.
///
/// # Panics
/// If `f` panics, and always in a build with `panic = "abort"`, which cannot unwind.
///
/// # Cancellation
/// Not a suspension point. A cancelled task unwinds through it.
///
/// ```
/// use std::time::{Duration, Instant};
/// use greenloom::time::{sleep, timeout_at};
///
/// greenloom::run(|| {
///     let deadline = Instant::now() + Duration::from_millis(2);
///     assert!(timeout_at(deadline, || sleep(Duration::from_secs(60))).is_err());
///     assert!(Instant::now() >= deadline);
/// });
/// ```
#[inline]
#[track_caller]
pub fn timeout_at<T>(deadline: Instant, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    limited(prim::now(), Some(deadline), f)
}

#[inline(always)]
#[track_caller]
fn limited<T>(now: Instant, deadline: Option<Instant>, f: impl FnOnce() -> T) -> Result<T, Elapsed> {
    let Some(deadline) = deadline else { return Ok(f()) };
    let in_cancel_scope = match local::running() {
        Some((local, record)) => {
            let timers = &local.processor().timers;
            let timer = Timer::new();
            let arm = |scope: &CancelScope| {
                if deadline <= now {
                    let woken = scope.cancel(Cause::Time);
                    debug_assert!(woken.is_none(), "the task runs");
                } else {
                    // SAFETY: the timer is new, and `disarm` takes it back before its frame and the
                    // scope's end. The wheel is the same: the task stays on its machine.
                    unsafe { timers.set(&timer, Aim::Cancel(scope), deadline) };
                }
            };
            let disarm = |_: &CancelScope| _ = timers.take_back(&timer);
            in_cancel_scope(Running::task(record), Due { moment: Some(deadline), by_itself: false }, arm, disarm, f)
        }
        None => {
            let Some(thread) = unwind::running() else { return Ok(f()) };
            in_cancel_scope(thread, Due { moment: Some(deadline), by_itself: true }, |_| (), |_| (), f)
        }
    };
    wait::leave_scope(in_cancel_scope).map_err(|ScopeCancelled| Elapsed(()))
}
