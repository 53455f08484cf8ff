//! The loop of a machine: pick a task, run it until it switches away, and do what it asked for.
//! When there is no task, search, then sleep.

use std::time::Duration;

use crate::prim::sync::Arc;
use crate::prim::untracked::Ordering;
use crate::prim::{self, local as thread_local, search_pause, thread};
use crate::raw::fork;
use crate::raw::header::TaskPtr;
use crate::raw::record::{Record, Suspend};
use crate::raw::state::{Park, TransitionToParked};
use crate::scheduler::completion::body;
use crate::scheduler::local::Local;
use crate::scheduler::processor::Processor;
use crate::scheduler::tuning::MIN_TO_STEAL;
use crate::scheduler::tuning::{LEAST_SEARCH_ROUNDS, SEARCH_ROUNDS};
use crate::scheduler::{Phase, Shared};
use crate::stack::slab::Slot;

/// A machine that is woken this soon would have done better to stay awake: a whole search takes
/// half of this, waking a third.
const SHORT_SLEEP: Duration = Duration::from_micros(100);

/// A short queue is stolen from only if its owner has not moved for this many rounds of a search,
/// some 40 µs. The first tasks of a runtime take long to start, since everything that they touch is
/// touched for the first time.
const POLITE_ROUNDS: u32 = 120;

/// How many other processors a round looks at in a few hundred nanoseconds. Where there are more, a
/// search has fewer rounds. Otherwise one would take a millisecond with 1,024 processors, and all
/// machines search when they start.
const LOOKS: usize = 16;

/// Drives processor `index` until the runtime ends. `reserved` is a slot set aside for a stack.
pub(crate) fn machine(shared: Arc<Shared>, index: usize, reserved: Slot) {
    let Some(fresh) = shared.processors.get(index).take_seat() else { return };
    let local = Local::new(shared.clone(), index, fresh, reserved);
    thread_local::set((&raw const local).cast());
    if local.shared.config.on_switch.is_empty() {
        local.work::<false>();
    } else {
        local.work::<true>();
    }
    thread_local::set(std::ptr::null());
    drop(local);
    shared.machine_ended();
}

/// What an idle machine does next.
enum Rest {
    Run(TaskPtr),
    Again,
    /// The machine was woken to search, and its search is already counted.
    Search,
    End,
}

impl Local {
    fn work<const HOOKED: bool>(&self) {
        loop {
            if let Some(task) = self.pick() {
                self.run::<HOOKED>(task);
                continue;
            }
            let resting = &self.processor().resting;
            resting.store(1, Ordering::Relaxed);
            let mut rest = self.rest(false);
            while let Rest::Search = rest {
                rest = self.rest(true);
            }
            resting.store(0, Ordering::Relaxed);
            match rest {
                Rest::Run(task) => self.run::<HOOKED>(task),
                Rest::Again | Rest::Search => {}
                Rest::End => return,
            }
        }
    }

    /// Runs a task until it switches away. `HOOKED` if the runtime has hooks for that.
    #[inline]
    fn run<const HOOKED: bool>(&self, task: TaskPtr) {
        // SAFETY: header rule 2: the task was taken from a queue of this machine, so it is ours.
        let record = match unsafe { task.record().as_ref() } {
            Some(record) => record,
            None => match self.start(task) {
                Some(record) => record,
                None => return,
            },
        };
        if HOOKED {
            self.shared.config.on_switch.enter(self, record);
        }
        let processor = self.processor();
        processor.running.store(std::ptr::from_ref(record).cast_mut(), Ordering::Relaxed);
        processor.runs.store(processor.runs.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // SAFETY: the task is bound to this thread. It came from a queue, so it is its turn.
        let how = unsafe { record.resume() };
        processor.running.store(std::ptr::null_mut(), Ordering::Relaxed);
        if record.slot().canary {
            record.check_canary();
        }
        if HOOKED {
            self.shared.config.on_switch.leave(self, record, matches!(how, Suspend::Done | Suspend::Refused));
        }
        // The two usual requests come before the others: compares are predicted better than a jump
        // through a table.
        if how == Suspend::Yield {
            self.push_ready(task);
        } else if how == Suspend::Done {
            self.stop(record);
        } else {
            match how {
                Suspend::Wait => self.park(task, record, Park::Wait, false),
                Suspend::WaitShielded => self.park(task, record, Park::Wait, true),
                Suspend::Park => self.park(task, record, Park::Token, false),
                Suspend::ParkShielded => self.park(task, record, Park::Token, true),
                Suspend::Refused => self.stop_refused(record),
                Suspend::Yield | Suspend::Done => unreachable!(),
            }
        }
        if self.machine.panics.are_noted() {
            self.look_at_panics(record, how);
        }
    }

    /// Gives a fresh task a stack. `None` if the task went to another processor, or has to wait for
    /// a stack.
    #[inline(always)]
    fn start(&self, task: TaskPtr) -> Option<&Record> {
        if self.live() >= self.look_around_at.get() && self.place_elsewhere(task) {
            return None;
        }
        let class = task.class().unwrap_or(self.shared.class);
        let stack = self.stacks.take(&self.shared.stacks, class).or_else(|error| {
            // Where addresses are scarce, the root of a `run` makes do with what other tasks get.
            if task.is_root() { self.stacks.take(&self.shared.stacks, self.shared.class) } else { Err(error) }
        });
        let stack = match stack {
            Ok(stack) => stack,
            Err(error) => self.refuse(task, error)?,
        };
        if self.shared.phase() != Phase::Running {
            // The runtime is shutting down, whether or not this machine has noticed. The closure is
            // dropped on a stack, without being run.
            let _ = task.state().cancel();
            self.shared.note_unstarted(task);
        }
        self.set_live(self.live() + 1);
        let record = stack.record();
        // SAFETY: both were just taken, on this machine.
        unsafe {
            task.set_home(self.processor());
            record.bind(task, self.processor().index, body);
        }
        Some(record)
    }

    #[inline(always)]
    fn stop(&self, record: &Record) {
        self.set_live(self.live() - 1);
        self.stacks.give(&self.shared.stacks, record.stack());
    }

    #[inline]
    fn park(&self, task: TaskPtr, record: &Record, park: Park, shielded: bool) {
        // For reports: the slice's number, instead of a clock.
        record.note_parked(self.shared.slice.load(Ordering::Relaxed));
        match task.state().commit(park, shielded) {
            TransitionToParked::Parked => {}
            TransitionToParked::Requeue => self.push_ready(task),
        }
    }

    /// Called after a switch away from a task, while a task that unwinds is noted.
    #[cold]
    fn look_at_panics(&self, record: &Record, how: Suspend) {
        if self.shared.is_elsewhere() {
            fork::refuse_to_go_on();
        }
        self.machine.panics.forget_first(record, matches!(how, Suspend::Done | Suspend::Refused));
    }

    /// There is nothing to run: looks at the inbox and at the others, and sleeps. With `granted`, a
    /// search is already counted for this machine.
    #[cold]
    fn rest(&self, granted: bool) -> Rest {
        let mut search = granted.then(|| self.shared.granted_search(self.processor()));
        if self.take_mail() || self.fire_timers() || self.notice_phase() || self.retry_refused() {
            // What has arrived may run for long. Another machine must look for the work that this
            // one was woken for.
            return Rest::Again;
        }
        if self.shared.phase() == Phase::Abandoned {
            drop(search);
            if self.live() > 0 {
                // Tasks that would not end are bound to this thread. So it stays, with their
                // stacks.
                self.cancel_refused();
                thread::stay_for_ever();
            }
            return self.end();
        }
        if granted {
            // Another thread saw work: it is worth a whole search.
            self.patience.set(SEARCH_ROUNDS);
        } else {
            search = self.shared.start_search(self.processor());
        }
        let found = if search.is_some() { self.search() } else { self.linger() };
        let found = found.or_else(|| self.take_injected());
        drop(search);
        found.map_or_else(|| self.sleep(), Rest::Run)
    }

    /// Looks for work of others, for at most `patience` rounds.
    fn search(&self) -> Option<TaskPtr> {
        let shared = &*self.shared;
        let seated = shared.processors.seated_count();
        let first = self.random_below(seated);
        let longer = (seated / LOOKS).max(1) as u32;
        let (polite, most) = (POLITE_ROUNDS / longer, self.patience.get().div_ceil(longer));
        let patience = if shared.regular == 1 && !self.processor().spare { 1 } else { most };
        // A victim with a short queue, its count of runs, and the round since when it has not
        // moved.
        let mut watched: (u32, u32, u32) = (u32::MAX, 0, 0);
        for round in 0..patience {
            if let Some(task) = self.take_injected() {
                return Some(task);
            }
            for victim in shared.processors.others(self.processor(), first) {
                let len = victim.stealer.len();
                if len == 0 {
                    continue;
                }
                // A short queue is left alone while its owner moves. Its tasks are about to start
                // where they are, and to talk to each other. Talking between two machines costs ten
                // times as much.
                let runs = victim.runs.load(Ordering::Relaxed);
                if (victim.index, runs) != (watched.0, watched.1) && len < MIN_TO_STEAL {
                    watched = (victim.index, runs, round);
                }
                if (len >= MIN_TO_STEAL || round - watched.2 >= polite)
                    && let Some(task) = self.steal_some(victim, len)
                {
                    self.patience.set(SEARCH_ROUNDS);
                    return Some(task);
                }
            }
            if self.take_mail() {
                // The search did not find this. But the sender did not have to wake this machine,
                // so staying awake pays.
                self.patience.set(SEARCH_ROUNDS);
                return self.pick();
            }
            search_pause(|| self.processor().inbox.has_mail());
        }
        self.lose_patience();
        None
    }

    /// Waits a while for mail, where others already search. Two machines whose tasks talk to each
    /// other are idle by turns, and waking one takes longer than what it then does.
    fn linger(&self) -> Option<TaskPtr> {
        if self.shared.regular == 1 {
            return None;
        }
        for _ in 0..self.patience.get() {
            search_pause(|| self.processor().inbox.has_mail());
            if self.take_mail() {
                self.patience.set(SEARCH_ROUNDS);
                return self.pick();
            }
            if !self.shared.injector.is_empty() {
                return None;
            }
        }
        self.lose_patience();
        None
    }

    /// Notes that it did not pay to stay awake.
    fn lose_patience(&self) {
        self.patience.set((self.patience.get() / 2).max(LEAST_SEARCH_ROUNDS));
    }

    /// Steals one task where there are few (in fork and join each is a large part of the work), and
    /// a batch where there are many.
    fn steal_some(&self, victim: &Processor, len: usize) -> Option<TaskPtr> {
        if len < 4 * MIN_TO_STEAL {
            return self.steal_oldest(victim);
        }
        let task = victim.stealer.steal_batch_and_pop(&self.fresh).success();
        self.recount_fresh();
        task
    }

    /// Sleeps until there is mail, or work for any machine; see `idle` for why no wake is lost.
    fn sleep(&self) -> Rest {
        let processor = self.processor();
        let shared = &*self.shared;
        self.stacks.release(&shared.stacks);
        if !processor.inbox.fall_asleep() {
            return Rest::Again;
        }
        let seen = shared.idle.fell_asleep(processor.spare);
        if shared.must_stay_awake(self.draining.get()) {
            if processor.inbox.win_sleeper() {
                shared.count_awake(processor);
                return Rest::Again;
            }
            // Another thread was faster, perhaps with mail, which may run for long.
            shared.wake_searcher();
        }
        if seen.is_closed() && processor.inbox.win_sleeper() {
            // The runtime ended while this processor was working off its last mail. The machine is
            // counted awake, since it may fall asleep once more.
            shared.count_awake(processor);
            return self.end();
        }
        if seen.awake() == 0 && self.draining.get() {
            shared.try_close(seen);
        }
        let since = prim::now();
        if !self.park_until_timer() {
            return Rest::Again;
        }
        if prim::now() - since < SHORT_SLEEP {
            self.patience.set(SEARCH_ROUNDS);
        }
        if shared.idle.peek().is_closed() {
            return self.end();
        }
        // Relaxed: the thread that granted the search did so before the token. Read at once: what
        // is picked next may run for long, and while this search is counted no other machine is
        // woken to search.
        if processor.search_granted.swap(0, Ordering::Relaxed) != 0 { Rest::Search } else { Rest::Again }
    }

    /// Parks until another thread has won this machine, or a timer is due. Returns false only if a
    /// timer is due and no other thread has won it.
    fn park_until_timer(&self) -> bool {
        let processor = self.processor();
        let Some(next) = processor.timers.next() else {
            processor.parker.park();
            return true;
        };
        if processor.parker.park_until(next) {
            return true;
        }
        if processor.inbox.win_sleeper() {
            self.shared.count_awake(processor);
            return false;
        }
        // Another thread was faster: the token comes.
        processor.parker.park();
        true
    }

    /// The runtime has ended. The machine ends too, unless there is mail, or a task that was left
    /// behind is bound to it.
    fn end(&self) -> Rest {
        if self.live() == 0 && self.processor().inbox.close() { Rest::End } else { Rest::Again }
    }

    /// Cancels the machine's tasks when the runtime has begun to shut down. Returns true if that is
    /// news.
    #[cold]
    pub(crate) fn notice_phase(&self) -> bool {
        if self.draining.get() || self.shared.phase() == Phase::Running {
            return false;
        }
        self.draining.set(true);
        self.for_each_own(|task| {
            if task.state().cancel() {
                self.push_ready(task);
            }
        });
        true
    }
}
