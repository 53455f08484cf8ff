//! Where a fresh task starts, and so where it stays.
//!
//! A task is bound to the machine that starts it, newest first; left alone, a processor that spawns a pool of workers would start
//! them all before anybody else wakes up. Hence:
//!
//! - `Near`, the default: the spawner's own queue, where others may steal it. When a processor is about to start one more task
//!   and owns clearly more live ones than another (more than [`SLACK`] above one that has nothing to do, or twice as many and
//!   [`SLACK_BUSY`] more above one that works), it sends half of what it is ahead, oldest first, to that one's inbox. Groups up
//!   to `SLACK` stay together.
//! - `Spread`: one processor after another, and no thief: of a pool that was spread and left to thieves, all workers may end up on
//!   one processor. The monitor may move it on while it is still in the inbox of a machine that is stuck.
//! - `On(i)`: that processor, and no thief.

use crate::prim::untracked::Ordering;
use crate::raw::error::JoinError;
use crate::raw::header::TaskPtr;
use crate::scheduler::inbox::Posted;
use crate::scheduler::local::Local;
use crate::scheduler::processor::{Processor, Ready};
use crate::scheduler::tuning::MIN_TO_STEAL;
use crate::scheduler::{Phase, Shared};

/// Which processor a new task starts on; see [`Builder::placement`](crate::task::Builder::placement).
///
/// A task stays on the processor that starts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// On the processor that spawns it, newest first, unless another one takes it before it has started: one that is idle and finds
    /// that this one does not get to it, or one that has far fewer tasks. A spawner that waits next therefore usually gets its child on its
    /// own thread. The default: right for tasks that talk to their spawner, and for dividing work; a task that computes for long, or
    /// blocks its thread, is better placed with `Spread`.
    #[default]
    Near,
    /// On one processor after another: right for a pool of workers. Such a task is bound to its processor before it has started. Once
    /// that has taken it out of its inbox, neither an idle processor nor a spare thread takes it over, however long others hold the thread;
    /// one that is placed on its spawner's processor is never in an inbox.
    Spread,
    /// On the processor of this number, counted from zero, whatever else happens there.
    On(usize),
}

/// Live tasks that a processor may be ahead of an idle one.
const SLACK: u32 = MIN_TO_STEAL as u32;

/// The same towards one that works, above twice as many.
const SLACK_BUSY: u32 = 256;

/// The most tasks sent at a time.
const PARCEL: u32 = 64;

/// Tasks that are sent one by one, as they are spawned, to the same processor.
const RUN: u32 = 64;

/// A run of tasks that follow each other to another processor: what is spawned in a row often talks in a row, a chain that is built
/// while it runs for instance, and should not cross to another processor at each link.
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
        // SAFETY: the task is new and ours (rule 2 of the header).
        unsafe { task.set_home(target) };
        if std::ptr::eq(target, self.processor()) { self.push_ready(task) } else { self.shared.send(task, target) }
    }

    /// About to start `task` with many live ones: shares with a processor that has clearly fewer. True if `task` went there.
    #[cold]
    pub(crate) fn place_elsewhere(&self, task: TaskPtr) -> bool {
        // SAFETY: fresh, and taken from our queue (rules 2 and 3 of the header); one that has a home was placed here.
        let stays = unsafe { !task.home().is_null() || task.was_sent() };
        let live = self.live();
        let run = self.run.get();
        if run.left > 0 && !stays {
            let target = self.shared.processors.get(run.target);
            // A whole run may overtake this processor, which was ahead by less when it began; but no more than that.
            if load(target) < live + RUN {
                self.run.set(Run { left: run.left - 1, ..run });
                self.shared.send(task, target);
                return true;
            }
            // The reason for it is gone.
            self.run.set(Run::default());
        }
        let regular = self.shared.processors.regular();
        let target = regular.iter().filter(|p| !std::ptr::eq(*p, self.processor())).min_by_key(|p| load(p));
        let Some(target) = target else {
            self.look_around_at.set(u32::MAX);
            return false;
        };
        // Read once: what comes of it is subtracted from below, and other machines change it all the time.
        let load = load(target);
        let level = load + if target.resting.load(Ordering::Relaxed) != 0 { SLACK } else { load + SLACK_BUSY };
        if live <= level {
            // Not now; look again when there are so many.
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

/// What a processor has, or will have when it has read its mail.
fn load(processor: &Processor) -> u32 {
    processor.live.load(Ordering::Relaxed) + processor.placed.load(Ordering::Relaxed)
}

impl Shared {
    /// Queues a new task of a thread that is no machine of this runtime; cancels it if the runtime is ending.
    pub(crate) fn place(&self, task: TaskPtr, placement: Placement) {
        if self.phase() != Phase::Running {
            // Here, not on a machine: threads that never stop spawning would keep the runtime from its end.
            // SAFETY: fresh, and in no queue: it is the spawner's, who holds no lock of the runtime.
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
        // SAFETY: the task is new and ours (rule 2 of the header).
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
            // SAFETY: refused, so still ours, and fresh.
            Posted::Refused => unsafe { task.fail(JoinError::cancelled(), self) },
        }
    }
}
