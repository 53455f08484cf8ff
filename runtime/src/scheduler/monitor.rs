//! The monitor: one thread per runtime that sees to what no machine can see to itself.
//!
//! Each tick, a millisecond where somebody could be helped by it and ten otherwise (one processor, and no timers):
//!
//! - it advances the time slice every [`SLICE`](super::SLICE);
//! - while a processor sleeps, it wakes it for fresh tasks that wait elsewhere: the upper bound of their wait;
//! - it tells a machine whose timers are late, which then sees to them before its next task, and fires those of a machine that has run
//!   the same task since the last tick: a limit of that task's own time may be among them;
//! - a machine that has run the same task since the last tick is *busy*: what waits in its inbox or its next slot and is not bound
//!   to it goes to the injector;
//! - one that has done so for [`STUCK`] is *stuck* (an endless loop, or the kernel blocks it): if it then loops over attempts that
//!   fail, it [gives way](crate::wait::give_way), and as long as that happens there, a loop need not be old to do so; if work waits and
//!   no machine is free for it, a spare one is started; if another one is awake but busy, the fresh tasks behind the stuck one
//!   move to the injector, [`LENT`] each tick, where every machine looks at every 61st pick at the latest;
//! - memory of idle stacks goes back to the system every [`TRIM`].
//!
//! It sleeps when all machines do, having looked for a [deadlock](super::deadlock), and ends a runtime whose grace period is over.
//!
//! Where it was itself kept from running for long, the tasks will have been, too: that time does not count, neither against one that
//! holds its machine, nor as a part of the grace period, nor for a deadlock.

use std::io;
use std::time::{Duration, Instant};

use crate::prim::deque::Steal;
use crate::prim::sync::Arc;
use crate::prim::untracked::Ordering;
use crate::prim::{self, say, thread};
use crate::report::LISTED;
use crate::scheduler::deadlock::Watch;
use crate::scheduler::inbox::Posted;
use crate::scheduler::local::make_runnable;
use crate::scheduler::processor::Processor;
use crate::scheduler::{Phase, Shared, start_machine};
use crate::task::TaskPtr;
use crate::task::error::JoinError;

const TICK: Duration = Duration::from_millis(1);
const LAZY_TICK: Duration = Duration::from_millis(10);
const STUCK: Duration = Duration::from_millis(10);
/// When a stuck task that keeps others waiting is named on stderr.
const NAMED: Duration = Duration::from_secs(1);
const TRIM: Duration = Duration::from_secs(1);
/// When the monitor wakes so late, it did not run itself: the process was stopped, or the machine slept.
const PAUSE: Duration = Duration::from_millis(100);
/// How long all machines sleep before the monitor does: waking it costs a system call.
const LINGER: Duration = Duration::from_millis(20);
/// Fresh tasks that leave a stuck machine's deque each tick, where nobody is free to steal them. Not all at once: fork and join
/// keeps the large parts of its work there, and a leaf of more than [`STUCK`] is nothing unusual.
const LENT: usize = 64;

struct Monitor {
    shared: Arc<Shared>,
    watched: Vec<Watched>,
    now: Instant,
    /// The number of the time slice that the machines were told of last.
    slice: u32,
    trimmed: Instant,
    /// Since when all machines sleep.
    quiet_since: Option<Instant>,
    /// When the grace period ends.
    deadline: Option<Instant>,
    deadlock: Watch,
}

/// What the monitor remembers of a processor.
struct Watched {
    runs: u32,
    since: Instant,
    /// How often tasks have given way there.
    given_way: u32,
    /// The last task that was named for holding its machine.
    named: u64,
}

pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = shared.clone();
    thread::start(format!("{}-monitor", shared.config.thread_name), move || Monitor::new(shared).run())
}

impl Monitor {
    fn new(shared: Arc<Shared>) -> Self {
        let now = prim::now();
        let watched = shared.processors.iter().map(|_| Watched { runs: 0, since: now, given_way: 0, named: 0 }).collect();
        Self { shared, watched, now, slice: 0, trimmed: now, quiet_since: None, deadline: None, deadlock: Watch::default() }
    }

    fn run(mut self) {
        loop {
            let until = self.pause();
            self.wake(until, prim::now());
            if self.shared.has_ended() {
                return;
            }
            if self.shared.phase() == Phase::Draining {
                let grace = || self.shared.lock_remains().asked.unwrap_or(self.shared.config.grace);
                let end = *self.deadline.get_or_insert_with(|| self.now.checked_add(grace()).unwrap_or(far(self.now)));
                if self.now >= end {
                    return self.abandon();
                }
            }
            let slice = self.shared.note_slice(self.now);
            if std::mem::replace(&mut self.slice, slice) != slice {
                self.shared.processors.iter().for_each(begin_slice);
            }
            if self.now - self.trimmed >= TRIM {
                self.trimmed = self.now;
                self.shared.stacks.trim();
            }
            self.tick();
        }
    }

    /// Goes on at this moment; it was to wake at `until` at the latest.
    fn wake(&mut self, until: Option<Instant>, now: Instant) {
        self.now = now;
        let late = until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        if late >= PAUSE {
            self.watched.iter_mut().for_each(|watched| watched.since = now);
            self.deadline = self.deadline.map(|end| end.checked_add(late).unwrap_or(end));
            self.deadlock.begin_anew();
        }
    }

    /// Waits for the next tick, or, when all machines sleep, for one of them. Until when at the latest, unless for ever.
    fn pause(&mut self) -> Option<Instant> {
        let shared = &self.shared;
        let idle = shared.idle.peek();
        if idle.awake() > 0 || shared.phase() != Phase::Running {
            self.quiet_since = None;
            let lazy =
                shared.regular == 1 && shared.seated.load(Ordering::Relaxed) == 1 && shared.processors[0].timers.is_empty();
            let next = self.now + if lazy { LAZY_TICK } else { TICK };
            let next = self.deadline.map_or(next, |end| end.min(next));
            shared.monitor.park_until(next);
            return Some(next);
        }
        let quiet = self.now - *self.quiet_since.get_or_insert(self.now);
        let next = if quiet < LINGER {
            Some(self.now + LAZY_TICK)
        } else if idle.monitor_sleeps() || shared.idle.monitor_sleeps() {
            // Long enough for two passes: the first marks what is idle, the second gives it back.
            let trim = (quiet < 3 * TRIM).then(|| self.now + TRIM);
            trim.into_iter().chain(self.deadlock.look(shared, self.now)).min()
        } else {
            // A machine is awake again.
            Some(self.now)
        };
        match next {
            Some(next) => _ = shared.monitor.park_until(next),
            None => shared.monitor.park(),
        }
        next
    }

    fn tick(&mut self) {
        let shared = self.shared.clone();
        let seated = shared.seated.load(Ordering::Relaxed);
        let sleepers = shared.idle.peek().sleepers() > 0;
        let mut stuck = 0;
        let mut waiting = !shared.injector.is_empty();
        for processor in &shared.processors[..seated] {
            let held = self.held_for(processor);
            if held >= STUCK {
                processor.ask_to_give_way(self.watched[processor.index as usize].runs);
                stuck += 1;
                self.name_holder(processor, held);
            }
            if processor.timers.is_due(self.now) {
                if !held.is_zero() {
                    // The tasks go to its inbox.
                    processor.timers.fire(make_runnable);
                }
                begin_slice(processor);
            }
            if held >= STUCK || (sleepers && !held.is_zero()) {
                rescue(&shared, processor);
            }
            waiting |= !processor.stealer.is_empty() || !shared.injector.is_empty();
        }
        if !waiting {
            return;
        }
        let idle = shared.idle.peek();
        if idle.wants_searcher() {
            shared.wake_searcher();
        } else if stuck > 0 && stuck == idle.awake() {
            self.call_spare();
        } else if stuck > 0 && idle.searching() == 0 {
            // The others are busy and never steal; but each looks at the injector now and then.
            for processor in &shared.processors[..seated] {
                if self.now - self.watched[processor.index as usize].since >= STUCK {
                    lend(&shared, processor);
                }
            }
        }
    }

    /// How long the processor has been running one task, as far as the ticks tell.
    fn held_for(&mut self, processor: &Processor) -> Duration {
        let watched = &mut self.watched[processor.index as usize];
        let runs = processor.runs.load(Ordering::Relaxed);
        if watched.runs != runs || processor.running.load(Ordering::Relaxed).is_null() {
            watched.runs = runs;
            watched.since = self.now;
            let given_way = processor.given_way.load(Ordering::Relaxed);
            processor.attempts_loop.store(watched.given_way != given_way, Ordering::Relaxed);
            watched.given_way = given_way;
        }
        self.now - watched.since
    }

    /// Says on stderr which task keeps others from running, once per task.
    fn name_holder(&mut self, processor: &Processor, held: Duration) {
        let others = processor.live.load(Ordering::Relaxed).saturating_sub(1);
        if held < NAMED || others == 0 {
            return;
        }
        // SAFETY: a record is mapped as long as the runtime lives.
        let task = unsafe { processor.running.load(Ordering::Relaxed).as_ref() }.and_then(|record| record.report());
        if let Some(task) = task
            && self.watched[processor.index as usize].named != task.id
        {
            self.watched[processor.index as usize].named = task.id;
            say(format_args!(
                "greenloom: {task}, has held its thread for {} ms without suspending; {others} tasks that started there cannot run",
                held.as_millis()
            ));
        }
    }

    /// Makes a spare machine search: one that sleeps, or a new one.
    fn call_spare(&self) {
        let shared = &self.shared;
        let seated = shared.seated.load(Ordering::Relaxed);
        for spare in &shared.processors[shared.regular..seated] {
            if spare.inbox.win_sleeper() {
                let counted = shared.idle.start_search(u64::MAX);
                debug_assert!(counted);
                shared.wake_won(spare, true);
                return;
            }
        }
        if seated == shared.processors.len() || !shared.idle.add_machine() {
            return;
        }
        shared.count_machine();
        // Before the start: a shutdown wins the sleepers among the seated ones. Relaxed: whoever sees the new machine asleep in the
        // idle word sees this, which came before the start; whoever does not has announced the end before the machine slept.
        shared.seated.store(seated + 1, Ordering::Relaxed);
        if start_machine(shared, seated).is_err() {
            // No thread to be had; the next tick tries again.
            shared.seated.store(seated, Ordering::Relaxed);
            shared.idle.fell_asleep(false, true);
            shared.machine_ended();
        }
    }

    /// Cancels the fresh tasks that a machine will not start any more, as far as others can reach them.
    fn cancel_unstarted(&self, processor: &Processor) {
        let cancel = |task: TaskPtr| {
            // SAFETY: taken from its queue, and fresh.
            unsafe { task.fail(JoinError::cancelled(), &self.shared) };
        };
        processor.next.rescue().into_iter().for_each(cancel);
        loop {
            match processor.stealer.steal() {
                Steal::Success(task) => cancel(task),
                Steal::Retry => {}
                Steal::Empty => break,
            }
        }
        for task in processor.inbox.take() {
            // SAFETY: taken out of the inbox, so ours (rule 2 of the header).
            if unsafe { task.record().is_null() } {
                cancel(task);
            } else {
                post_back(&self.shared, processor, task);
            }
        }
    }

    /// The grace period is over: ends the runtime under the tasks that are left.
    fn abandon(&self) {
        let shared = &self.shared;
        shared.set_phase(Phase::Abandoned);
        shared.idle.close_by_force();
        if shared.lock_remains().asked.is_some() {
            let leftover = shared.tasks_alive(usize::MAX).tasks;
            shared.lock_remains().leftover = leftover;
        } else {
            let what = format!("still there after the grace period of {:?}", shared.config.grace);
            shared.tasks_alive(LISTED).say(&what);
        }
        shared.wake_everyone();
        // Whoever waits for the end goes on now: the closures that are dropped below run code of the user's, which may block.
        shared.report_end();
        shared.cancel_injected();
        for processor in &shared.processors[..shared.seated.load(Ordering::Relaxed)] {
            self.cancel_unstarted(processor);
        }
    }
}

fn begin_slice(processor: &Processor) {
    processor.slice.fetch_add(1, Ordering::Relaxed);
}

/// Moves the oldest fresh tasks of a stuck machine to the injector.
fn lend(shared: &Shared, processor: &Processor) {
    let mut left = LENT;
    while left > 0 {
        match processor.stealer.steal() {
            Steal::Success(task) => {
                shared.inject(task);
                left -= 1;
            }
            Steal::Retry => {}
            Steal::Empty => return,
        }
    }
}

/// A moment that does not come.
fn far(now: Instant) -> Instant {
    now + Duration::from_secs(60 * 60 * 24 * 365 * 30)
}

/// Takes what is not bound to a busy machine out of its next slot and its inbox.
fn rescue(shared: &Shared, processor: &Processor) {
    if let Some(task) = processor.next.rescue() {
        shared.inject(task);
    }
    for task in processor.inbox.take() {
        // SAFETY: taken out of the inbox, so ours (rule 2 of the header).
        let movable = unsafe { task.record().is_null() } && !task.is_pinned();
        if movable {
            // SAFETY: as above.
            unsafe { task.set_home(std::ptr::null()) };
            shared.inject(task);
        } else {
            post_back(shared, processor, task);
        }
    }
}

/// Leaves a task that was taken out of a processor's inbox there again: it is bound to that machine, which may have fallen asleep
/// over the empty inbox.
fn post_back(shared: &Shared, processor: &Processor, task: TaskPtr) {
    // SAFETY: taken out of the inbox by the caller, who gives it up.
    match unsafe { processor.inbox.post(task) } {
        Posted::Queued => {}
        Posted::WonSleeper => shared.wake_won(processor, false),
        // SAFETY: still ours; and fresh, since a machine with a started task does not end.
        Posted::Refused => unsafe { task.fail(JoinError::cancelled(), shared) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prim::untracked::AtomicBool;
    use crate::{Runtime, yield_now};

    #[test]
    fn time_in_which_the_monitor_did_not_run_does_not_count() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let runtime = Runtime::builder().processors(1).build().unwrap();
        let hog = runtime.spawn(|| {
            while !STOP.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        let shared = runtime.shared().clone();
        let processor = &shared.processors[0];
        while processor.running.load(Ordering::Relaxed).is_null() {
            yield_now();
        }
        // Another one, whose clock is this test's.
        let mut monitor = Monitor::new(shared.clone());
        assert_eq!(monitor.held_for(processor), Duration::ZERO);
        let mut at = monitor.now;
        let mut wake = |late: Duration| {
            let until = at + TICK;
            at = until + late;
            monitor.deadline = Some(at);
            monitor.wake(Some(until), at);
            (monitor.held_for(processor), monitor.deadline.unwrap() - at)
        };
        assert_eq!(wake(Duration::ZERO), (TICK, Duration::ZERO));
        // Others have had the CPU for a while.
        assert_eq!(wake(PAUSE / 2), (2 * TICK + PAUSE / 2, Duration::ZERO));
        let stopped = Duration::from_secs(3);
        assert_eq!(wake(stopped), (Duration::ZERO, stopped));
        assert_eq!(wake(Duration::ZERO), (TICK, Duration::ZERO));
        STOP.store(true, Ordering::Relaxed);
        hog.join().unwrap();
    }
}
