//! Where a fresh task starts, and therefore stays.
//!
//! A task is bound to the machine that starts it, and a machine starts its newest task first. So a
//! processor that spawns a pool of workers would start them all before another one wakes up. Hence:
//!
//! - `Near`, the default: the spawner's own queue, where others may steal it. A processor that is
//!   about to start one more task compares its live tasks with those of another. It is clearly
//!   ahead if it has more than [`SLACK`] above one that has nothing to do, or twice as many and
//!   [`SLACK_BUSY`] more above one that works. Then it sends half of its lead, oldest first, to
//!   that one's inbox. Groups up to `SLACK` stay together.
//! - `Spread`: one processor after another, and no thief may take it. If thieves could take the
//!   workers of a pool that was spread, all of them might end up on one processor. The monitor may
//!   move such a task on while it is still in the inbox of a machine that is stuck.
//! - `On(i)`: that processor, and no thief may take it.

use crate::prim::untracked::Ordering;
use crate::raw::error::JoinError;
use crate::raw::header::TaskPtr;
use crate::scheduler::inbox::Posted;
use crate::scheduler::local::Local;
use crate::scheduler::processor::{Processor, Ready};
use crate::scheduler::tuning::MIN_TO_STEAL;
use crate::scheduler::{Phase, Shared};

/// Which processor a new task starts on; see
/// [`Builder::placement`](crate::task::Builder::placement).
///
/// A task stays on the processor that starts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// On the processor that spawns it, newest first, unless another processor takes it before it
    /// has started. That may be one that is idle and finds that this one does not get to the task,
    /// or one that has far fewer tasks. So a spawner that waits next usually gets its child on its
    /// own thread. This is the default. It is right for tasks that talk to their spawner, and for
    /// dividing work. A task that computes for long, or blocks its thread, is better placed with
    /// `Spread`.
    #[default]
    Near,
    /// On one processor after another. This is right for a pool of workers. The task is bound to
    /// its processor before it has started. Once the processor has taken it out of its inbox,
    /// neither an idle processor nor a spare thread takes it over, however long other tasks hold
    /// the thread. A task that is placed on its spawner's processor is never in an inbox.
    Spread,
    /// On the processor with this number, counted from zero, whatever else happens there.
    On(usize),
}

/// How many live tasks a processor may be ahead of an idle one.
const SLACK: u32 = MIN_TO_STEAL as u32;

/// The same for one that works, in addition to twice that one's tasks.
const SLACK_BUSY: u32 = 256;

/// The maximum number of tasks sent at once.
const PARCEL: u32 = 64;

/// How many tasks are sent one by one, as they are spawned, to the same processor.
const RUN: u32 = 64;

/// A run of tasks that follow each other to another processor. Tasks that are spawned in a row
/// often talk in a row, for instance a chain that is built while it runs. Such a chain should not
/// cross to another processor at each link.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run {
    target: usize,
    left: u32,
}

impl Local {
    /// Queues a new task.
    #[inline]
    pub(crate) fn place(&self, task: TaskPtr, placement: Placement) {
        match placement {
            Placement::Near => self.push_next(Ready { task, bound: false }),
            Placement::Spread => {
                let target = self.next_spread.get();
                self.next_spread.set((target + 1) % self.shared.regular);
                self.place_on(task, target);
            }
            Placement::On(index) => self.place_on(task, index),
        }
    }

    fn place_on(&self, task: TaskPtr, index: usize) {
        let target = self.shared.processors.get(index);
        // SAFETY: header rule 2: the task is new and ours.
        unsafe { task.set_home(target) };
        if std::ptr::eq(target, self.processor()) { self.push_ready(task) } else { self.shared.send(task, target) }
    }

    /// Shares tasks with a processor that has clearly fewer, when this one is about to start `task`
    /// and has many live ones. Returns true if `task` went there.
    #[cold]
    pub(crate) fn place_elsewhere(&self, task: TaskPtr) -> bool {
        // SAFETY: header rules 2 and 3: the task is fresh, and taken from our queue. One that has a
        // home was placed here.
        let stays = unsafe { !task.home().is_null() || task.was_sent() };
        let live = self.live();
        let run = self.run.get();
        if run.left > 0 && !stays {
            let target = self.shared.processors.get(run.target);
            // The target may overtake this processor by a whole run, since this one was ahead by
            // less when the run began. It may not overtake it by more.
            if load(target) < live + RUN {
                self.run.set(Run { left: run.left - 1, ..run });
                self.shared.send(task, target);
                return true;
            }
            // The reason for the run is gone.
            self.run.set(Run::default());
        }
        let regular = self.shared.processors.regular();
        let target = regular.iter().filter(|p| !std::ptr::eq(*p, self.processor())).min_by_key(|p| load(p));
        let Some(target) = target else {
            self.look_around_at.set(u32::MAX);
            return false;
        };
        // Read once, since other machines change it all the time: `live` is compared with it, and
        // then it is subtracted.
        let load = load(target);
        let level = load + if target.resting.load(Ordering::Relaxed) != 0 { SLACK } else { load + SLACK_BUSY };
        if live <= level {
            // Not now. Look again when there are that many.
            self.look_around_at.set(level + 1);
            return false;
        }
        let queued = self.fresh.len() as u32;
        let parcel = ((live + queued - load) / 2).min(PARCEL);
        for _ in 0..parcel {
            match self.steal_oldest(self.processor()) {
                Some(oldest) => self.shared.send(oldest, target),
                None => break,
            }
        }
        if queued > 0 || stays {
            return false;
        }
        self.run.set(Run { target: target.index as usize, left: RUN - 1 });
        self.look_around_at.set(0);
        self.shared.send(task, target);
        true
    }
}

/// What a processor has, including what is in its mail.
fn load(processor: &Processor) -> u32 {
    processor.live.load(Ordering::Relaxed) + processor.placed.load(Ordering::Relaxed)
}

impl Shared {
    /// Queues a new task of a thread that is not a machine of this runtime. Cancels it if the
    /// runtime is ending.
    pub(crate) fn place(&self, task: TaskPtr, placement: Placement) {
        if self.phase() != Phase::Running {
            // Cancelled here, not on a machine: otherwise threads that never stop spawning would
            // keep the runtime from ending.
            // SAFETY: the task is fresh, and in no queue. It is the spawner's, who holds no lock of
            // the runtime.
            return unsafe { task.fail(JoinError::cancelled(), self) };
        }
        match placement {
            Placement::Near => self.inject(task),
            Placement::Spread => {
                let turn = self.next_spread.fetch_add(1, Ordering::Relaxed) as usize;
                self.place_on(task, turn % self.regular);
            }
            Placement::On(index) => self.place_on(task, index),
        }
    }

    fn place_on(&self, task: TaskPtr, index: usize) {
        let target = self.processors.get(index);
        // SAFETY: header rule 2: the task is new and ours.
        unsafe { task.set_home(target) };
        self.send(task, target);
    }

    /// Leaves a fresh task in a processor's inbox.
    pub(crate) fn send(&self, task: TaskPtr, target: &Processor) {
        target.placed.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the callers own the task.
        match unsafe { target.inbox.post(task) } {
            Posted::Queued => {}
            Posted::WonSleeper => self.wake_won(target, false),
            // SAFETY: the task was refused, so it is still ours, and it is fresh.
            Posted::Refused => unsafe { task.fail(JoinError::cancelled(), self) },
        }
    }
}
