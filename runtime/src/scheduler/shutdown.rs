//! The end of a runtime.
//!
//! 1. The caller that ends the runtime sets the phase to draining, announces that in the idle word,
//!    and wins every sleeper. A machine checks the phase before it sleeps, and one that sleeps is
//!    woken. A busy one checks it at every 61st pick, and when it runs out of work.
//! 2. A machine that sees the phase cancels its own started tasks. From then on it starts fresh
//!    tasks only to drop their closures. Tasks that another thread spawns from then on are
//!    cancelled at once by that thread: they would otherwise keep the runtime from its end.
//! 3. The last machine to fall asleep, with no task alive and nothing in the injector, closes the
//!    idle word. That fails if anything was announced since. Then it wakes all machines; each
//!    closes its inbox and ends.
//! 4. The monitor joins the machines' threads. So it waits for the destructors of their
//!    thread-locals, as a join of a std thread does. The caller that ends the runtime does not do
//!    this: it may be a task of another runtime, whose machine must not be blocked by a user's
//!    destructor. Then the monitor unmaps all stacks, since a [`Handle`](crate::Handle) may keep
//!    the rest for long. It reports the end, and ends itself. Last of all, the caller that has
//!    waited joins it.
//! 5. If the grace period passes first, the monitor closes the word itself, and names the tasks
//!    that are left. Machines with tasks left park forever, and the stacks stay with them. The
//!    threads of the other machines are joined before the end is reported.

use std::time::Duration;

use crate::prim::atomic::Ordering;
use crate::prim::thread::JoinHandle;
use crate::prim::untracked;
use crate::raw::header::TaskPtr;
use crate::raw::report::{TaskList, TaskReport};
use crate::raw::waiter::Waiter;
use crate::scheduler::idle::Snapshot;
use crate::scheduler::report::OnLeak;
use crate::scheduler::{Phase, Shared, local};

/// Whether the runtime has ended, and who waits for that.
#[derive(Default)]
pub(crate) struct End {
    ended: bool,
    waiters: Vec<Waiter>,
}

/// What is to be reported of tasks at the end.
#[derive(Default)]
pub(crate) struct Remains {
    /// The grace period, if the caller that ends the runtime gives one. The leftovers are then
    /// reported to that caller, and otherwise on stderr.
    pub(crate) asked: Option<Duration>,
    /// Tasks that were alive when the end began, if they are to be named.
    leaks: TaskList,
    /// Tasks that had not ended after the grace period, if the caller asked for them.
    pub(crate) leftover: Vec<TaskReport>,
}

/// The OS threads of a runtime.
#[derive(Default)]
pub(crate) struct Threads {
    /// The threads of its machines, each with the index of its processor.
    pub(crate) machines: Vec<(usize, JoinHandle<()>)>,
    /// The thread of its monitor. `None` if tasks were left behind: then nobody is to wait for it.
    pub(crate) monitor: Option<JoinHandle<()>>,
}

impl Shared {
    /// Tells all tasks to unwind.
    pub(crate) fn begin_shutdown(&self) {
        if self.phase() != Phase::Running {
            return;
        }
        if self.config.on_leak == OnLeak::Report {
            let mut leaks = self.tasks_alive(usize::MAX);
            // A task that ends the runtime it runs in is no leak.
            leaks.tasks.retain(|task| local::running().is_none_or(|(_, record)| record.id() != task.id));
            self.lock_remains().leaks = leaks;
        }
        self.set_phase(Phase::Draining);
        self.idle.announce();
        self.wake_everyone();
        self.monitor.unpark();
    }

    /// Called when a task is dropped before it has started, because the runtime ends.
    pub(crate) fn note_unstarted(&self, task: TaskPtr) {
        if self.config.on_leak == OnLeak::Report {
            self.lock_remains().leaks.push(TaskReport::fresh(task), usize::MAX);
        }
    }

    pub(crate) fn lock_remains(&self) -> impl std::ops::DerefMut<Target = Remains> {
        self.remains.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Wakes every machine that sleeps.
    pub(crate) fn wake_everyone(&self) {
        for processor in self.processors.seated() {
            if processor.inbox.win_sleeper() {
                self.wake_won(processor, false);
            }
        }
    }

    /// Adds a waiter for the moment when all threads have ended, or the grace period has. Returns
    /// false if that moment has passed.
    pub(crate) fn tell_of_end(&self, waiter: Waiter) -> bool {
        let mut end = self.lock_end();
        if !end.ended {
            end.waiters.push(waiter);
        }
        !end.ended
    }

    /// Joins the monitor of a runtime that has ended. The monitor has nothing left to do, and has
    /// run no user code, so this does not block for any length of time.
    pub(crate) fn join_monitor(&self) {
        let monitor = self.lock_threads().monitor.take();
        if let Some(monitor) = monitor {
            let _ = monitor.join();
        }
    }

    pub(crate) fn lock_threads(&self) -> impl std::ops::DerefMut<Target = Threads> {
        self.threads.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn lock_end(&self) -> impl std::ops::DerefMut<Target = End> {
        self.end.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// All machines sleep, as of `seen`, and the caller was the last to fall asleep. Ends the
    /// runtime if nothing is left.
    pub(crate) fn try_close(&self, seen: Snapshot) {
        // What a machine counted before it fell asleep is visible here: the idle word orders it.
        let alive = self.processors.seated().any(|p| p.live.load(untracked::Ordering::Relaxed) > 0);
        if !alive && self.injector.is_empty() && self.idle.close(seen) {
            self.wake_everyone();
        }
    }

    /// The last thing that a machine does.
    pub(crate) fn machine_ended(&self) {
        // AcqRel: a thread that sees that no machine is left sees everything they did.
        if self.machines.fetch_sub(1, Ordering::AcqRel) == 1 {
            #[cfg(not(greenloom_loom))]
            self.monitor.unpark();
            // A model has no monitor.
            #[cfg(greenloom_loom)]
            self.report_end();
        }
    }

    /// One more machine is about to start.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn count_machine(&self) {
        self.machines.fetch_add(1, Ordering::AcqRel);
    }

    /// The machines from `index` on could not be started, so the others end.
    pub(crate) fn never_started(&self, index: usize) {
        for _ in index..self.regular {
            // The machine is counted as asleep for good. No wake finds it, since its inbox says
            // awake; nor is there work that would need one.
            self.idle.fell_asleep(false);
            self.machine_ended();
        }
        self.begin_shutdown();
    }

    /// How many machines have not ended.
    pub(crate) fn machines(&self) -> usize {
        self.machines.load(Ordering::Acquire)
    }

    /// Tells all waiters that the runtime has ended.
    pub(crate) fn report_end(&self) {
        let leaks = std::mem::take(&mut self.lock_remains().leaks);
        leaks.say("still alive when its runtime ended");
        let waiters = {
            let mut end = self.lock_end();
            end.ended = true;
            std::mem::take(&mut end.waiters)
        };
        for waiter in waiters {
            // SAFETY: rule 2 of `wait`: the waiter was taken out of the list, and is woken once.
            unsafe { waiter.wake() };
        }
    }
}
