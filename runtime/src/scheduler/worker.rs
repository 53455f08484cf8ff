//! The loop of a machine: pick a task, run it until it switches away, see to what it wanted; search and sleep when there is none.

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

/// A machine that was woken so soon had better stayed awake: a whole search takes half of this, waking a third.
const SHORT_SLEEP: Duration = Duration::from_micros(100);

/// Rounds of a search, some 40 µs, in which its owner must not have moved before a short queue is robbed too. The first tasks of a
/// runtime take long to start, since all that they touch is touched for the first time.
const POLITE_ROUNDS: u32 = 120;

/// Others that a round looks at in a few hundred nanoseconds. Where there are more, a search has fewer rounds: with 1,024 processors one
/// would take a millisecond, and all machines search when they start.
const LOOKS: usize = 16;

/// Drives processor `index` until the runtime ends, with a slot set aside for a stack.
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

/// What an idle machine is to do next.
enum Rest {
    Run(TaskPtr),
    Again,
    /// It was woken to search, and its search is counted already.
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

    /// Runs a task until it switches away; `HOOKED` if the runtime has hooks for that.
    #[inline]
    fn run<const HOOKED: bool>(&self, task: TaskPtr) {
        // SAFETY: taken from a queue of this machine, so it is ours (rule 2 of the header).
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
        // SAFETY: bound on this thread; it came from a queue, so it is its turn.
        let how = unsafe { record.resume() };
        processor.running.store(std::ptr::null_mut(), Ordering::Relaxed);
        if record.slot().canary {
            record.check_canary();
        }
        if HOOKED {
            self.shared.config.on_switch.leave(self, record, matches!(how, Suspend::Done | Suspend::Refused));
        }
        // The two usual wishes ahead of the others: compares are predicted better than a jump through a table.
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

    /// Gives a fresh task a stack. `None` if it went to another processor, or has to wait for a stack.
    #[inline(always)]
    fn start(&self, task: TaskPtr) -> Option<&Record> {
        if self.live() >= self.look_around_at.get() && self.place_elsewhere(task) {
            return None;
        }
        let class = task.class().unwrap_or(self.shared.class);
        let stack = self.stacks.take(&self.shared.stacks, class).or_else(|error| {
            // Where addresses are scarce, the root of a `run` does with what other tasks get.
            if task.is_root() { self.stacks.take(&self.shared.stacks, self.shared.class) } else { Err(error) }
        });
        let stack = match stack {
            Ok(stack) => stack,
            Err(error) => self.refuse(task, error)?,
        };
        if self.shared.phase() != Phase::Running {
            // The runtime shuts down, whether this machine has noticed or not: the closure is dropped, on a stack, without a run.
            let _ = task.state().cancel();
            self.shared.note_unstarted(task);
        }
        self.set_live(self.live() + 1);
        let record = stack.record();
        // SAFETY: both were taken just now, on this machine.
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
        // For reports: the slice's number instead of a clock.
        record.note_parked(self.shared.slice.load(Ordering::Relaxed));
        match task.state().commit(park, shielded) {
            TransitionToParked::Parked => {}
            TransitionToParked::Requeue => self.push_ready(task),
        }
    }

    /// After a switch away from a task, while one is noted that unwinds.
    #[cold]
    fn look_at_panics(&self, record: &Record, how: Suspend) {
        if self.shared.is_elsewhere() {
            fork::refuse_to_go_on();
        }
        self.machine.panics.forget_first(record, matches!(how, Suspend::Done | Suspend::Refused));
    }

    /// There is nothing to run: look at the inbox, at the others, and sleep. With `granted`, a search is counted already for this
    /// machine.
    #[cold]
    fn rest(&self, granted: bool) -> Rest {
        let mut search = granted.then(|| self.shared.granted_search(self.processor()));
        if self.take_mail() || self.fire_timers() || self.notice_phase() || self.retry_refused() {
            // What has arrived may run for long: another machine must look for the work that this one was woken for.
            return Rest::Again;
        }
        if self.shared.phase() == Phase::Abandoned {
            drop(search);
            if self.live() > 0 {
                // Tasks that would not end are bound to this thread: it stays, with their stacks.
                self.cancel_refused();
                thread::stay_for_ever();
            }
            return self.end();
        }
        if granted {
            // Somebody saw work: it is worth a whole search.
            self.patience.set(SEARCH_ROUNDS);
        } else {
            search = self.shared.start_search(self.processor());
        }
        let found = if search.is_some() { self.search() } else { self.linger() };
        let found = found.or_else(|| self.take_injected());
        drop(search);
        found.map_or_else(|| self.sleep(), Rest::Run)
    }

    /// Looks for work of others: at most `patience` rounds.
    fn search(&self) -> Option<TaskPtr> {
        let shared = &*self.shared;
        let seated = shared.processors.seated_count();
        let first = self.random_below(seated);
        let longer = (seated / LOOKS).max(1) as u32;
        let (polite, most) = (POLITE_ROUNDS / longer, self.patience.get().div_ceil(longer));
        let patience = if shared.regular == 1 && !self.processor().spare { 1 } else { most };
        // A victim with a short queue, how far it was, and since when.
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
                // A short queue is left alone while its owner moves: its tasks are about to start where they are, and to talk to each
                // other, which between two machines costs ten times as much.
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
                // Not the search's merit; but whoever sent it was spared waking this machine, so staying awake pays.
                self.patience.set(SEARCH_ROUNDS);
                return self.pick();
            }
            search_pause(|| self.processor().inbox.has_mail());
        }
        self.lose_patience();
        None
    }

    /// Waits a while for mail, where others search already: two machines whose tasks talk to each other are idle by turns, and
    /// waking one from its sleep takes longer than what it then does.
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

    /// Staying awake was in vain.
    fn lose_patience(&self) {
        self.patience.set((self.patience.get() / 2).max(LEAST_SEARCH_ROUNDS));
    }

    /// Steals one task where there are few (in fork and join each is a large part of the work), a batch where there are many.
    fn steal_some(&self, victim: &Processor, len: usize) -> Option<TaskPtr> {
        if len < 4 * MIN_TO_STEAL {
            return self.steal_oldest(victim);
        }
        let task = victim.stealer.steal_batch_and_pop(&self.fresh).success();
        self.recount_fresh();
        task
    }

    /// Sleeps until there is mail, or work for anyone; see `idle` for why no wake is lost.
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
            // Somebody was faster, perhaps with mail, which may run for long.
            shared.wake_searcher();
        }
        if seen.is_closed() && processor.inbox.win_sleeper() {
            // The runtime ended while the last mail of this processor was worked off. Counted: it may fall asleep once more.
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
        // Relaxed: whoever granted it did so before the token. Read at once: what is picked next may run for long, and as long as
        // this search is counted nobody else is woken to search.
        if processor.search_granted.swap(0, Ordering::Relaxed) != 0 { Rest::Search } else { Rest::Again }
    }

    /// Parks until somebody has won this machine, which is then true, or a timer is due and nobody has.
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
        // Somebody was faster: the token comes.
        processor.parker.park();
        true
    }

    /// The runtime has ended: the machine does too, unless there is mail, or a task that was left behind is bound to it.
    fn end(&self) -> Rest {
        if self.live() == 0 && self.processor().inbox.close() { Rest::End } else { Rest::Again }
    }

    /// Cancels the machine's tasks when the runtime has begun to shut down; true if that is news.
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
