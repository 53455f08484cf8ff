//! Deadlock: every task waits, a caller of `run` waits for them, and nothing is left that could
//! wake a task.
//!
//! The monitor looks for one when all machines have slept for a while, so a runtime that works pays
//! nothing.
//!
//! **Why there is no false alarm.** A parked task is woken by a running task, a timer, the clock
//! thread, or a thread that is not ours. The monitor does this:
//!
//! 1. It notes how many tasks have been resumed so far.
//! 2. It sees that all machines sleep, and that there is no timer, no mail and no injected work.
//! 3. It counts the threads of the process.
//! 4. It sees again that all machines sleep, with no task resumed in between.
//!
//! If the count contains only machines, the monitor, the clock thread (with nothing pending) and
//! callers whose roots have not ended, then at that moment no thread can have been about to wake a
//! machine or to start a thread. (Such a caller does nothing but wait. One with a limit around it
//! is not counted.) A machine that is awake is counted as awake until it sleeps, and a thread that
//! wakes a machine counts it as awake before the thread itself sleeps or ends.
//!
//! If there are other threads, one of them may be about to wake a task, and nobody can know. The
//! same holds if a signal may come for which the user has installed a handler. In these cases a
//! warning is printed to stderr, once, after [`PATIENCE`]; from then on the monitor checks less and
//! less often whether those threads have gone. The harness of a test always has other threads, but
//! a test is ended after [`PATIENCE_OF_TESTS`] all the same. Tasks that wait for another runtime
//! are left in peace. An ended runtime may have left machines behind, with tasks that would not
//! end. These machines do nothing any more, and do not count.
//!
//! **Why none is overlooked.** The monitor sleeps without limit only if it finds no root, or if it
//! finds something that wakes a machine, and with it the monitor, when it goes by. Two things do
//! not wake a machine, so the monitor looks at them again after a while: a deadline of a context,
//! which may end without waking a task; and a caller that has spawned a root, or is about to, and
//! is not yet in the list of waiting callers. Such a caller is counted from before the spawn until
//! it is in the list. So a monitor either sees the caller in one of the two, or looks before the
//! spawn, which wakes a machine.
//!
//! **How `run` panics.** Its root is cancelled, so that destructors run, and the verdict is left
//! beside the root for the caller to panic with. If no root can be woken this way (it waits in a
//! destructor, say, for another of these tasks), nothing can ever happen in this process: it is
//! aborted with a message.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::prim::process;
use crate::prim::untracked::{Arc, Mutex, Ordering};
use crate::raw::header::TaskPtr;
use crate::raw::outside;
use crate::raw::reason::Reason;
use crate::raw::report::LISTED_IN_A_MESSAGE;
use crate::scheduler::report::OnDeadlock;
use crate::scheduler::wake::make_runnable;
use crate::scheduler::{Phase, Shared, local};
use crate::sys::stderr::say;
use crate::unwind;

/// How long all tasks wait before a deadlock is reported, if other threads might wake one.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same in a test. Its harness always has another thread, and a test that hangs forever tells
/// nothing.
const PATIENCE_OF_TESTS: Duration = Duration::from_secs(4);

/// The longest pause between two looks while deadlines are pending.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How soon the monitor looks again if a caller is about to wait for a root.
const A_MOMENT: Duration = Duration::from_millis(1);

/// The root tasks that callers wait for in a runtime, and what the callers are to panic with.
#[derive(Default)]
pub(crate) struct Roots(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    of: HashMap<TaskPtr, Root>,
    /// Callers whose root may have started and is not in the map yet.
    coming: usize,
}

/// A caller that spawns a root and will wait for it.
#[must_use = "it counts for as long as it lives"]
pub(crate) struct Coming<'a>(&'a Roots);

impl Drop for Coming<'_> {
    fn drop(&mut self) {
        self.0.lock().coming -= 1;
    }
}

/// A root that its caller waits for. It must be dropped before the root's join handle, and so
/// before the task.
pub(crate) struct Entry<'a> {
    roots: &'a Roots,
    task: TaskPtr,
}

impl Entry<'_> {
    /// What the caller must panic with, if the root was in a deadlock.
    pub(crate) fn verdict(self) -> Option<Arc<str>> {
        self.roots.lock().of.get(&self.task).and_then(|root| root.verdict.clone())
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.roots.lock().of.remove(&self.task);
    }
}

struct Root {
    caller: Caller,
    verdict: Option<Arc<str>>,
}

/// Who waits for a root.
#[derive(Clone, Copy, PartialEq)]
enum Caller {
    /// A plain thread, which waits until the root has ended.
    Thread,
    /// A plain thread whose wait may end earlier: when a context around it ends, or at this moment.
    InCancelScope(Option<Instant>),
    Task,
}

impl Caller {
    fn this() -> Self {
        if local::machine().is_some() {
            Self::Task
        } else if unwind::is_in_cancel_scope() {
            Self::InCancelScope(unwind::deadline_on_thread())
        } else {
            Self::Thread
        }
    }
}

/// The roots that have not ended.
struct Alive {
    roots: usize,
    /// Roots that block a plain thread, which does nothing but wait.
    threads: usize,
    /// When the first caller reaches its limit.
    limit: Option<Instant>,
    /// Callers that are about to wait for their root.
    coming: usize,
}

impl Roots {
    fn lock(&self) -> impl std::ops::DerefMut<Target = Entries> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// To be called before a root is spawned. The root may park, and all machines may fall asleep,
    /// before its caller reaches [`enter`](Self::enter); a monitor that found no root then would
    /// not look again.
    pub(crate) fn expect(&self) -> Coming<'_> {
        self.lock().coming += 1;
        Coming(self)
    }

    /// The caller, which has the root's join handle, is about to wait for the root.
    pub(crate) fn enter(&self, task: TaskPtr, coming: Coming<'_>) -> Entry<'_> {
        self.lock().of.insert(task, Root { caller: Caller::this(), verdict: None });
        drop(coming);
        Entry { roots: self, task }
    }

    fn alive(&self) -> Alive {
        let roots = self.lock();
        let callers = || roots.of.iter().filter(|(task, _)| !task.state().is_complete()).map(|(_, root)| root.caller);
        let limit = |caller| if let Caller::InCancelScope(limit) = caller { limit } else { None };
        Alive {
            roots: callers().count(),
            threads: callers().filter(|caller| *caller == Caller::Thread).count(),
            limit: callers().filter_map(limit).min(),
            coming: roots.coming,
        }
    }

    /// Cancels the roots. Returns whether that has woken any, or there is none any more.
    fn condemn(&self, verdict: &Arc<str>) -> bool {
        let (mut any, mut woken) = (false, false);
        for (task, root) in self.lock().of.iter_mut().filter(|(task, _)| !task.state().is_complete()) {
            any = true;
            root.verdict = Some(verdict.clone());
            if task.state().cancel() {
                make_runnable(*task);
                woken = true;
            }
        }
        woken || !any
    }
}

/// The monitor's watch for deadlocks.
#[derive(Default)]
pub(crate) struct Watch {
    /// How many tasks had been resumed when all machines were first seen asleep, and when that was.
    still: Option<(u32, Instant)>,
    /// How many tasks had been resumed at the last look at which deadlines were pending, and how long
    /// the pause was after it.
    pending: Option<(u32, Duration)>,
    said: bool,
}

impl Watch {
    /// To be called when nothing could run for a while: all machines may have been asleep for that
    /// reason alone.
    pub(crate) fn begin_anew(&mut self) {
        self.still = None;
    }

    /// Looks for a deadlock; to be called while all machines sleep. Returns when to look again,
    /// should they still sleep then.
    pub(crate) fn look(&mut self, shared: &Shared, now: Instant) -> Option<Instant> {
        if shared.config.on_deadlock == OnDeadlock::Ignore {
            return None;
        }
        let alive = shared.roots.alive();
        let runs = shared.runs();
        // Neither of these wakes a machine, and with it the monitor, when it has gone by.
        if alive.coming > 0 {
            self.still = None;
            return Some(now + A_MOMENT);
        }
        if alive.roots > 0 && outside::pending() > 0 {
            self.still = None;
            let pause = match self.pending {
                Some((before, pause)) if before == runs => (2 * pause).min(LONGEST_PAUSE),
                _ => PATIENCE,
            };
            self.pending = Some((runs, pause));
            return Some(now + pause);
        }
        if alive.roots == 0 || !shared.is_still() {
            return None;
        }
        let since = match self.still {
            Some((before, since)) if before == runs => since,
            _ => now,
        };
        self.still = Some((runs, since));
        if let Some(limit) = alive.limit.filter(|limit| *limit > now) {
            // This is as good as a timer: that caller goes on by then, and may wake somebody.
            self.still = None;
            return Some(limit);
        }
        // The monitor is one of ours.
        let ours = shared.machines() + 1 + outside::threads() + alive.threads;
        let asleep = now - since;
        let nobody_else = || process::count_threads().is_some_and(|all| all <= ours) && !process::handles_signals();
        let alone = nobody_else() || (shared.config.testing && asleep >= PATIENCE_OF_TESTS);
        // The longer all have slept, the less often.
        let again = Some(if asleep < PATIENCE { since + PATIENCE } else { now + asleep });
        if !alone && (self.said || asleep < PATIENCE) {
            return again;
        }
        // Nothing has moved since the first look: everything counted in between belongs to one
        // moment.
        if !shared.is_still() || shared.runs() != runs {
            return again;
        }
        if shared.waits_for_another_runtime() {
            return None;
        }
        let tasks = shared.tasks_alive(LISTED_IN_A_MESSAGE);
        if !alone {
            self.said = true;
            say(format_args!(
                "greenloom: all tasks are asleep - deadlock! (unless a thread outside the runtime is at work, or a signal will come: \
                 all have waited for a second, and only such a thread or a signal's handler can wake one; \
                 RuntimeBuilder::on_deadlock can silence this){tasks}"
            ));
            return again;
        }
        let verdict: Arc<str> = format!("all tasks are asleep - deadlock!{tasks}").into();
        if shared.config.on_deadlock == OnDeadlock::Report {
            if !self.said {
                say(format_args!("greenloom: {verdict}"));
            }
            self.said = true;
        } else if cfg!(panic = "abort") || !shared.roots.condemn(&verdict) {
            say(format_args!("greenloom: fatal error: {verdict}"));
            std::process::abort();
        }
        None
    }
}

impl Shared {
    /// Whether all machines sleep, and no work or timer that the runtime knows of will wake one.
    fn is_still(&self) -> bool {
        // The clock first: a task that it has woken is in an inbox by the time that nothing is
        // pending.
        outside::pending() == 0
            && self.idle.all_asleep()
            && self.phase() == Phase::Running
            && self.injector.is_empty()
            && self.processors.seated().all(|p| p.timers.is_empty() && !p.inbox.has_mail())
    }

    /// How many tasks have been resumed so far.
    pub(crate) fn runs(&self) -> u32 {
        // Relaxed: a reader that has seen a machine asleep sees what it counted before it slept.
        self.processors.seated().fold(0, |sum, p| sum.wrapping_add(p.runs.load(Ordering::Relaxed)))
    }

    /// Whether a task waits for another runtime, whose tasks may be busy.
    fn waits_for_another_runtime(&self) -> bool {
        let mut any = false;
        self.stacks.for_each_bound(|record| {
            any |= record.report().is_some_and(|task| matches!(task.reason, Reason::Run | Reason::Shutdown));
        });
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::join;
    use crate::{Runtime, channel, park, prim};

    #[test]
    fn the_monitor_looks_again_while_the_caller_of_a_root_is_still_coming() {
        let runtime = Runtime::builder().processors(1).build().unwrap();
        let shared = runtime.shared();
        let now = prim::now();
        let coming = shared.roots.expect();
        let mut watch = Watch::default();
        assert!(watch.look(shared, now).is_some_and(|again| again > now));
        drop(coming);
        assert_eq!(watch.look(shared, now), None);
    }

    #[test]
    fn a_deadlock_is_found_whose_root_has_waited_long_before_its_caller_does() {
        let runtime = Runtime::builder().processors(1).for_a_test().build().unwrap();
        let shared = runtime.shared();
        let coming = shared.roots.expect();
        let root = runtime.spawn(park);
        // Long enough for the monitor to look, and to find no root.
        channel::after(Duration::from_millis(200)).recv().unwrap();
        let entry = shared.roots.enter(root.raw(), coming);
        join::wait_until_complete(root.raw(), Reason::Join);
        assert!(entry.verdict().is_some_and(|verdict| verdict.contains("deadlock")));
        assert!(root.join().unwrap_err().is_cancelled());
    }
}
