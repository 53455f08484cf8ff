//! The scheduler: processors run tasks; machines drive processors.
//!
//! # The problem
//!
//! Hundreds of thousands of tasks share a few OS threads. A switch may cost nanoseconds, waking a
//! sleeping thread costs tens of microseconds, and a started task must never change its thread. So
//! work must be where it can be run without asking anyone, and it must be spread before it is
//! started. Threads must neither sleep through work nor waste time looking for it.
//!
//! # The protocol
//!
//! 1. A task is *fresh* until a processor gives it a stack. Then it is *started*, and bound to that
//!    processor's machine. Fresh tasks wait in the processor's [deque](local). Others may steal the
//!    oldest there, while the owner takes the newest. Started tasks wait in its ready queue, which
//!    no other thread sees. The task that was made ready last is [next](processor::NextSlot).
//! 2. Other threads leave what they have for a processor (wakes of its tasks, tasks placed there)
//!    in its [inbox]. The inbox's word also says whether the machine sleeps. Work for any
//!    machine goes to the injector.
//! 3. A task that switches away says what it wants ([`Suspend`](crate::raw::record::Suspend)). Only
//!    then does the worker commit it to *parked* in its [state word](crate::raw::state). A wake
//!    before that makes the commit fail, and the task is queued again.
//! 4. A [worker] that finds nothing searches the others for a while, one searcher ramping
//!    up at a time, and then sleeps. The [idle word](idle) keeps count; its module explains why no
//!    wake is lost.
//! 5. The monitor (`monitor`) ticks while any machine is awake. It advances the time slice. It
//!    makes sure that fresh tasks do not wait while a processor sleeps. It notices machines that
//!    are stuck, and lets a spare one take over what is not bound to them. When all machines sleep,
//!    it looks for a [deadlock].
//! 6. At the end (`shutdown`), tasks are told to unwind. When every machine sleeps and no task is
//!    left, the last machine to fall asleep closes the runtime, and each machine ends.
//!
//! # Rejected
//!
//! See `docs/decisions/` for the designs that were tried, with their figures.

pub(crate) mod completion;
pub(crate) mod deadlock;
pub(crate) mod hooks;
pub(crate) mod idle;
pub(crate) mod inbox;
pub(crate) mod local;
#[cfg(not(greenloom_loom))]
pub(crate) mod monitor;
#[cfg(not(greenloom_loom))]
mod overflow;
pub(crate) mod overtime;
pub(crate) mod placement;
pub(crate) mod processor;
pub(crate) mod ready;
pub(crate) mod report;
pub(crate) mod reserve;
pub(crate) mod shutdown;
#[cfg(feature = "tracing")]
mod spans;
pub(crate) mod table;
pub(crate) mod task;
pub(crate) mod timers;
pub(crate) mod tuning;
pub(crate) mod wake;
pub(crate) mod worker;

use std::io;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use crate::prim::atomic::{AtomicU8, AtomicUsize, Ordering};
use crate::prim::deque::{Injector, Steal};
use crate::prim::sync::{Arc, Mutex};
use crate::prim::{self, Parker, process, thread, untracked};
use crate::raw::error::JoinError;
use crate::raw::fork;
use crate::raw::header::TaskPtr;
use crate::raw::reason::Reason;
use crate::raw::report::TaskList;
use crate::raw::stacks::StackPool;
use crate::raw::task_slab::TaskSlab;
use crate::scheduler::deadlock::Roots;
use crate::scheduler::hooks::Hooks;
use crate::scheduler::idle::Idle;
use crate::scheduler::processor::Processor;
use crate::scheduler::report::{OnDeadlock, OnLeak, PanicHook};
use crate::scheduler::shutdown::{End, Remains, Threads};
use crate::scheduler::table::Processors;
use crate::scheduler::tuning::{MIN_TO_STEAL, SLICE};
use crate::stack::Class;
use crate::sys::number::take_ids;
use crate::sys::stderr::say;

/// How far a runtime is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    Running = 0,
    /// Every task is told to unwind; the grace period runs.
    Draining,
    /// The grace period is over: machines with tasks left park forever.
    Abandoned,
}

/// What a runtime was built with.
pub(crate) struct Config {
    pub(crate) processors: usize,
    /// The most OS threads that run tasks: processors and spares.
    pub(crate) max_machines: usize,
    pub(crate) class: Class,
    pub(crate) pin_to_cores: bool,
    pub(crate) thread_name: String,
    pub(crate) grace: Duration,
    pub(crate) on_panic: Option<PanicHook>,
    pub(crate) on_switch: Hooks,
    pub(crate) on_leak: OnLeak,
    pub(crate) on_deadlock: OnDeadlock,
    /// Made by `testing`.
    pub(crate) testing: bool,
}

/// Everything that the machines of a runtime share.
pub(crate) struct Shared {
    /// From the sequence that tasks and processes take their numbers from; see [`fork`].
    number: u64,
    pub(crate) processors: Processors,
    /// How many processors the user asked for.
    pub(crate) regular: usize,
    pub(crate) idle: CachePadded<Idle>,
    pub(crate) injector: Injector<TaskPtr>,
    pub(crate) stacks: StackPool,
    /// The size of a stack, unless a task asks for another.
    pub(crate) class: Class,
    phase: AtomicU8,
    /// When time slice zero began.
    started: Instant,
    /// The number of the current time slice. The monitor keeps it up to date while it is awake; so
    /// does a thread that wakes the monitor.
    pub(crate) slice: untracked::AtomicU32,
    pub(crate) next_spread: untracked::AtomicU32,
    /// Memory for tasks that are spawned by threads other than its machines.
    pub(crate) cells: TaskSlab,
    pub(crate) config: Config,
    /// Machines that have not ended.
    machines: AtomicUsize,
    pub(crate) threads: untracked::Mutex<Threads>,
    /// The root tasks that a caller of `run` waits for.
    pub(crate) roots: Roots,
    pub(crate) end: Mutex<End>,
    /// What to report at the end.
    pub(crate) remains: untracked::Mutex<Remains>,
    /// Where the monitor sleeps.
    pub(crate) monitor: Parker,
}

/// Why a runtime did not start.
pub(crate) struct NotStarted {
    pub(crate) error: io::Error,
    /// What had started by then, and is now ending.
    pub(crate) ending: Option<Arc<Shared>>,
}

impl Shared {
    /// Makes the processors. No machine drives them yet.
    fn new(config: Config, stacks: StackPool) -> Arc<Shared> {
        let regular = config.processors;
        // In models there is no monitor, and only the monitor makes spares.
        let spares = if cfg!(greenloom_loom) { 0 } else { config.max_machines - regular };
        let number = take_ids(1);
        let shared = Arc::new(Shared {
            number,
            processors: Processors::new(regular, spares),
            regular,
            idle: CachePadded::new(Idle::new(regular as u64)),
            injector: Injector::new(),
            stacks,
            class: config.class,
            phase: AtomicU8::new(Phase::Running as u8),
            started: prim::now(),
            slice: untracked::AtomicU32::new(0),
            next_spread: untracked::AtomicU32::new(0),
            cells: TaskSlab::new(number),
            config,
            machines: AtomicUsize::new(regular),
            threads: untracked::Mutex::default(),
            roots: Roots::default(),
            end: Mutex::new(End::default()),
            remains: untracked::Mutex::new(Remains::default()),
            monitor: Parker::new(),
        });
        shared.processors.attach(&raw const *shared);
        shared
    }

    /// Makes the processors and starts their machines.
    pub(crate) fn start(config: Config, stacks: StackPool) -> Result<Arc<Shared>, NotStarted> {
        fork::watch();
        let shared = Shared::new(config, stacks);
        #[cfg(not(greenloom_loom))]
        monitor::start(&shared).map_err(|error| NotStarted { error, ending: None })?;
        for index in 0..shared.regular {
            if let Err(error) = start_machine(&shared, index) {
                shared.never_started(index);
                return Err(NotStarted { error, ending: Some(shared) });
            }
        }
        Ok(shared)
    }

    /// Whether the runtime's threads are in another process.
    #[inline]
    pub(crate) fn is_elsewhere(&self) -> bool {
        !process::made_here(self.number)
    }

    #[track_caller]
    pub(crate) fn assert_here(&self) {
        assert!(!self.is_elsewhere(), "greenloom: {}", fork::ELSEWHERE);
    }

    pub(crate) fn phase(&self) -> Phase {
        // Acquire: pairs with `set_phase`.
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Abandoned,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// Queues a fresh task for any machine. Cancels it if the runtime has ended.
    pub(crate) fn inject(&self, task: TaskPtr) {
        if !self.push_injected(task) {
            self.cancel_injected();
        }
    }

    /// Queues a fresh task for any machine. Returns false if the runtime has ended: the caller must
    /// then make sure that the task is cancelled.
    #[must_use]
    pub(crate) fn push_injected(&self, task: TaskPtr) -> bool {
        self.injector.push(task);
        let seen = self.idle.announce();
        if seen.is_closed() {
            return false;
        }
        if seen.wants_searcher() {
            self.wake_searcher();
        }
        true
    }

    /// The runtime has ended: a thread that finds tasks in the injector cancels them.
    pub(crate) fn cancel_injected(&self) {
        loop {
            match self.injector.steal() {
                // SAFETY: the task is fresh and taken from its queue, as `fail` demands.
                Steal::Success(task) => unsafe { task.fail(JoinError::cancelled(), self) },
                Steal::Empty => return,
                Steal::Retry => {}
            }
        }
    }

    /// Wakes a sleeping machine to search, unless a search is already under way.
    pub(crate) fn wake_searcher(&self) {
        self.idle.wake_searcher(|| self.win_searcher(), || !self.injector.is_empty());
    }

    /// Wins a sleeping machine and wakes it with a search that is already counted. Returns false if
    /// no sleeping machine can be won.
    fn win_searcher(&self) -> bool {
        let won = self.processors.regular().iter().find(|processor| processor.inbox.win_sleeper());
        won.inspect(|processor| self.wake_won(processor, true)).is_some()
    }

    /// Wakes a machine that the caller has won. With `search`, it is woken for work that any
    /// machine may do, and the search is already counted.
    pub(crate) fn wake_won(&self, processor: &Processor, search: bool) {
        if search {
            // Relaxed: published by the token.
            processor.search_granted.store(1, untracked::Ordering::Relaxed);
        }
        self.count_awake(processor);
        processor.parker.unpark();
    }

    /// Counts a machine that the caller has won as awake.
    pub(crate) fn count_awake(&self, processor: &Processor) {
        if self.idle.woke(processor.spare) {
            // While the monitor slept, nothing counted slices.
            self.note_slice(prim::now());
            self.monitor.unpark();
        }
    }

    /// Makes a machine that has nothing to do a searcher, if it may be one. At most half of the
    /// machines search, and none where there is no other to steal from. A spare searches only when
    /// the monitor wants it to.
    pub(crate) fn start_search<'a>(&'a self, searcher: &'a Processor) -> Option<Search<'a>> {
        let may = !searcher.spare && self.regular > 1 && self.idle.start_search((self.regular as u64 / 2).max(1));
        may.then(|| Search { shared: self, searcher })
    }

    /// The search that the waker of this machine has counted for it.
    pub(crate) fn granted_search<'a>(&'a self, searcher: &'a Processor) -> Search<'a> {
        Search { shared: self, searcher }
    }

    /// Whether there is work that a machine other than `except` could do, and that is worth waking
    /// it for.
    pub(crate) fn has_work(&self, except: &Processor) -> bool {
        !self.injector.is_empty() || self.processors.others(except, 0).any(|p| p.stealer.len() >= MIN_TO_STEAL)
    }

    /// Whether a machine that has just fallen asleep must stay awake: there is injected work, or
    /// the runtime's phase has changed.
    pub(crate) fn must_stay_awake(&self, draining: bool) -> bool {
        !self.injector.is_empty() || (!draining && self.phase() != Phase::Running)
    }

    /// Brings the number of the time slice up to date, and returns it.
    pub(crate) fn note_slice(&self, now: Instant) -> u32 {
        let slice = self.slice_at(now);
        // All machines read it at each pick: do not store it needlessly.
        if self.slice.load(untracked::Ordering::Relaxed) != slice {
            self.slice.store(slice, untracked::Ordering::Relaxed);
        }
        slice
    }

    /// The number of the time slice at a given moment. The numbers start again after 497 days.
    fn slice_at(&self, now: Instant) -> u32 {
        (now.saturating_duration_since(self.started).as_millis() / SLICE.as_millis()) as u32
    }

    /// The tasks that have started and not ended, `limit` of them named. May be called from any
    /// thread; running tasks may come and go meanwhile.
    pub(crate) fn tasks_alive(&self, limit: usize) -> TaskList {
        let now = self.slice_at(prim::now());
        let mut list = TaskList::default();
        self.stacks.for_each_bound(|record| {
            // If the id has changed, the parts belong to two tasks, the first of which has ended.
            if let Some(mut task) = record.report()
                && task.reason != Reason::End
                && task.id == record.id()
            {
                if task.reason != Reason::Ready {
                    task.waited = SLICE * now.wrapping_sub(record.parked_in());
                }
                list.push(task, limit);
            }
        });
        list
    }

    /// About how many tasks have not ended, including the fresh ones in queues.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn unfinished(&self) -> usize {
        let of = |p: &Processor| p.live.load(untracked::Ordering::Relaxed) as usize + p.stealer.len();
        self.injector.len() + self.processors.seated().map(of).sum::<usize>()
    }
}

/// A search that is counted for a machine. Announcers leave their work to it. So when it ends, for
/// whatever reason, it looks for work and hands it on.
pub(crate) struct Search<'a> {
    shared: &'a Shared,
    searcher: &'a Processor,
}

impl Drop for Search<'_> {
    fn drop(&mut self) {
        self.shared.idle.end_search(|| self.shared.win_searcher(), || self.shared.has_work(self.searcher));
    }
}

/// Starts the OS thread that drives processor `index`, which is already counted awake.
pub(crate) fn start_machine(shared: &Arc<Shared>, index: usize) -> io::Result<()> {
    let name = format!("{}-{index}", shared.config.thread_name);
    let reserved = shared.stacks.set_aside(shared.class)?;
    let machine = {
        let shared = shared.clone();
        move || {
            if shared.config.pin_to_cores && !thread::stay_on_core(index) {
                say_that_threads_are_not_pinned();
            }
            #[cfg(not(greenloom_loom))]
            let _reports = overflow::reports_of_this_thread();
            worker::machine(shared, index, reserved);
        }
    };
    let thread = thread::start(name, machine)?;
    shared.lock_threads().machines.push((index, thread));
    Ok(())
}

/// Says so, once.
#[cold]
fn say_that_threads_are_not_pinned() {
    // Relaxed: a flag that carries no data.
    static SAID: untracked::AtomicBool = untracked::AtomicBool::new(false);
    if !SAID.swap(true, untracked::Ordering::Relaxed) {
        say(format_args!(
            "greenloom: the threads of a runtime cannot be pinned to cores, and go on unpinned: the system refuses, or does not \
             say which cores there are"
        ));
    }
}
