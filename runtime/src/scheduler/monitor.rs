//! The monitor: one thread per runtime that sees to what no machine can see to itself.
//!
//! Each tick, a millisecond where somebody could be helped by it and ten otherwise (one processor, and no timers):
//!
//! - it advances the time slice every [`SLICE`](super::SLICE);
//! - while a processor sleeps, it wakes it for fresh tasks that wait elsewhere: the upper bound of their wait;
//! - it tells a machine whose timers are late, which then sees to them before its next task, and fires those of a machine that has run
//!   the same task since the last tick: a limit of that task's own time may be among them;
//! - a run that has lasted for a time slice, or for a tick while a timer of its machine is late, is over [its time](super::overtime): the task lets
//!   others run where it next might wait, or, if it loops over attempts that fail, there (it [gives way](crate::wait::yield_if_hogging); as long as
//!   that happens, such a loop need not be old to do so);
//! - a machine that has run the same task since the last tick is *busy*: what waits in its inbox or its next slot and is not bound
//!   to it goes to the injector;
//! - one that has done so for [`STUCK`] is *stuck* (an endless loop, or the kernel blocks it): if work waits and no machine is free for
//!   it, a spare one is started; if another one is awake but busy, the fresh tasks behind the stuck one move to the injector, [`LENT`]
//!   each tick, where every machine looks at every 61st pick at the latest;
//! - memory of idle stacks goes back to the system: every [`TRIM`] a pass begins, of which each tick does a piece.
//!
//! It sleeps when all machines do, having looked for a [deadlock](super::deadlock), ends a runtime whose grace period is over, and tells
//! of the end; see [`shutdown`](super::shutdown).
//!
//! Where it was itself kept from running for long, the tasks will have been, too: that time does not count, neither against one that
//! holds its machine, nor as a part of the grace period, nor for a deadlock.

use std::io;
use std::time::{Duration, Instant};

use crate::prim::deque::Steal;
use crate::prim::sync::Arc;
use crate::prim::untracked::Ordering;
use crate::prim::{self, thread};
use crate::raw::error::JoinError;
use crate::raw::header::TaskPtr;
use crate::raw::report::{LISTED, TaskList};
use crate::scheduler::deadlock::Watch;
use crate::scheduler::inbox::Posted;
use crate::scheduler::overtime;
use crate::scheduler::processor::Processor;
use crate::scheduler::tuning::SLICE;
use crate::scheduler::wake::make_runnable;
use crate::scheduler::{Phase, Shared, start_machine};
use crate::sys::stderr::say;

const TICK: Duration = Duration::from_millis(1);
/// Where there is one processor, and none of its timers was late for so long ([`LINGER`]).
const LAZY_TICK: Duration = Duration::from_millis(10);
const STUCK: Duration = Duration::from_millis(10);
/// When a stuck task that keeps others waiting is named on stderr.
const NAMED: Duration = Duration::from_secs(1);
/// The most tasks that are named for holding all machines.
const NAMED_HOLDERS: usize = 8;
const TRIM: Duration = Duration::from_secs(1);
/// When the monitor wakes so late, it did not run itself: the process was stopped, or the machine slept.
const PAUSE: Duration = Duration::from_millis(100);
/// How long all machines sleep before the monitor does. Until then it ticks, since waking it costs whoever does so a system call.
const LINGER: Duration = Duration::from_millis(20);
/// How often a grace period is extended by its own length, as long as tasks end in it.
const EXTENSIONS: u32 = 60;
/// Fresh tasks that leave a stuck machine's deque each tick, where nobody is free to steal them. Not all at once: fork and join
/// keeps the large parts of its work there, and a leaf of more than [`STUCK`] is nothing unusual.
const LENT: usize = 64;

struct Monitor {
    shared: Arc<Shared>,
    watched: Vec<Watched>,
    now: Instant,
    /// The number of the time slice that the machines were told of last.
    slice: u32,
    /// When a timer was late last.
    late: Option<Instant>,
    /// When the last pass over the idle stacks began, and whether it goes on.
    trimmed: Instant,
    trimming: bool,
    /// Since when all machines sleep.
    quiet_since: Option<Instant>,
    grace: Option<Grace>,
    deadlock: Watch,
    overtime: overtime::Seen,
    /// It has been said that all machines are held.
    said_held: bool,
}

/// The time that tasks have to unwind.
struct Grace {
    period: Duration,
    /// How often it may still be extended by that.
    extensions: u32,
    end: Instant,
    /// The tasks that had not ended when it began, or was extended last.
    unfinished: usize,
}

impl Grace {
    fn new(period: Duration, extensions: u32, now: Instant, unfinished: usize) -> Self {
        Self { period, extensions, end: after(now, period), unfinished }
    }

    /// Whether it is over; it is extended instead if tasks have ended in it, and may do so further.
    fn is_over(&mut self, now: Instant, unfinished: impl FnOnce() -> usize) -> bool {
        if now < self.end {
            return false;
        }
        let before = std::mem::replace(&mut self.unfinished, unfinished());
        if self.extensions == 0 || self.unfinished >= before {
            return true;
        }
        self.extensions -= 1;
        self.end = after(now, self.period);
        false
    }
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
    let monitor = {
        let shared = shared.clone();
        move || Monitor::new(shared).run()
    };
    let thread = thread::start(format!("{}-monitor", shared.config.thread_name), monitor)?;
    shared.lock_threads().monitor = Some(thread);
    Ok(())
}

impl Monitor {
    fn new(shared: Arc<Shared>) -> Self {
        let now = prim::now();
        Self {
            shared,
            watched: Vec::new(),
            now,
            slice: 0,
            late: None,
            trimmed: now,
            trimming: false,
            quiet_since: None,
            grace: None,
            deadlock: Watch::default(),
            overtime: overtime::Seen::default(),
            said_held: false,
        }
    }

    fn run(mut self) {
        loop {
            let until = self.pause();
            self.wake(until, prim::now());
            if self.shared.machines() == 0 {
                return self.finish();
            }
            if self.shared.phase() == Phase::Draining && self.grace_is_over() {
                return self.abandon();
            }
            let slice = self.shared.note_slice(self.now);
            if std::mem::replace(&mut self.slice, slice) != slice {
                self.shared.processors.seated().for_each(begin_slice);
            }
            self.tick();
            self.trim();
        }
    }

    /// Goes on at this moment; it was to wake at `until` at the latest.
    fn wake(&mut self, until: Option<Instant>, now: Instant) {
        self.now = now;
        let late = until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until));
        if late >= PAUSE {
            self.watched.iter_mut().for_each(|watched| watched.since = now);
            if let Some(grace) = &mut self.grace {
                grace.end = after(grace.end, late);
            }
            self.deadlock.begin_anew();
        }
    }

    /// Waits for the next tick, or, when all machines sleep, for one of them. Until when at the latest, unless for ever.
    fn pause(&mut self) -> Option<Instant> {
        let shared = &self.shared;
        let idle = shared.idle.peek();
        if idle.awake() > 0 || shared.phase() != Phase::Running {
            self.quiet_since = None;
            // What sleeps beside a task that holds the machine has mostly not set its next timer yet when the last one has been fired.
            let calm = self.late.is_none_or(|late| self.now - late >= LINGER) && shared.processors.get(0).timers.is_empty();
            let lazy = shared.processors.seated_count() == 1 && calm && !self.trimming;
            let next = self.now + if lazy { LAZY_TICK } else { TICK };
            let next = self.grace.as_ref().map_or(next, |grace| grace.end.min(next));
            shared.monitor.park_until(next);
            return Some(next);
        }
        let quiet = self.now - *self.quiet_since.get_or_insert(self.now);
        let next = if self.trimming || quiet < LINGER {
            // Not longer: a machine that wakes meanwhile does not wake the monitor, and may leave a fresh task beside one that sleeps.
            Some(self.now + TICK)
        } else if idle.monitor_sleeps() || shared.idle.monitor_sleeps() {
            let trim = shared.stacks.is_warm().then(|| self.trimmed + TRIM);
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

    /// Whether the tasks that are told to unwind have had their time.
    fn grace_is_over(&mut self) -> bool {
        let (shared, now) = (&self.shared, self.now);
        let grace = self.grace.get_or_insert_with(|| match shared.lock_remains().asked {
            Some(asked) => Grace::new(asked, 0, now, shared.unfinished()),
            None => Grace::new(shared.config.grace, EXTENSIONS, now, shared.unfinished()),
        });
        grace.is_over(now, || shared.unfinished())
    }

    /// Gives some memory of idle stacks back.
    fn trim(&mut self) {
        if !self.trimming && self.now - self.trimmed >= TRIM {
            self.trimmed = self.now;
            self.shared.stacks.begin_trim();
            self.trimming = true;
        }
        self.trimming = self.trimming && self.shared.stacks.trim_piece();
    }

    fn tick(&mut self) {
        let shared = self.shared.clone();
        let seated = shared.processors.seated_count();
        self.watch(seated);
        let sleepers = shared.idle.peek().sleepers() > 0;
        let (mut stuck, mut overtime) = (0, false);
        let mut waiting = !shared.injector.is_empty();
        for processor in shared.processors.seated() {
            let held = self.held_for(processor);
            let late = processor.timers.is_due(self.now);
            if held >= SLICE || (late && !held.is_zero()) {
                processor.ask_to_give_way(self.watched[processor.index as usize].runs);
            }
            // What was taken from it a tick ago waits in the injector, perhaps for this very machine.
            overtime |= !held.is_zero() && processor.is_over_time() && (processor.may_have_others() || waiting);
            if held >= STUCK {
                stuck += 1;
                self.name_holder(processor, held);
            }
            if late {
                self.late = Some(self.now);
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
        self.overtime.set(overtime);
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
            for processor in shared.processors.seated() {
                if self.now - self.watched[processor.index as usize].since >= STUCK {
                    lend(&shared, processor);
                }
            }
        }
    }

    /// Remembers so many processors from now on.
    fn watch(&mut self, seated: usize) {
        self.watched.resize_with(seated.max(self.watched.len()), || Watched { runs: 0, since: self.now, given_way: 0, named: 0 });
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
        let heads = self.shared.stacks.keep_heads();
        // SAFETY: a record is mapped as long as the runtime lives, and is not given back while `heads` lives.
        let task = unsafe { processor.running.load(Ordering::Relaxed).as_ref() }.and_then(|record| record.report());
        drop(heads);
        if let Some(task) = task
            && self.watched[processor.index as usize].named != task.id
        {
            self.watched[processor.index as usize].named = task.id;
            let others = if others == 1 { "a task" } else { &*format!("{others} tasks") };
            say(format_args!(
                "greenloom: {task}, has held its thread for {} ms without suspending; {others} that started there cannot run",
                held.as_millis()
            ));
        }
    }

    /// Makes a spare machine search: one that sleeps, or a new one.
    fn call_spare(&mut self) {
        let shared = &self.shared;
        for spare in shared.processors.seated_spares() {
            if spare.inbox.win_sleeper() {
                let counted = shared.idle.start_search(u64::MAX);
                debug_assert!(counted);
                shared.wake_won(spare, true);
                return;
            }
        }
        if !shared.idle.add_machine() {
            return;
        }
        // Before the start: a shutdown wins the sleepers among the seated ones. Whoever sees the new machine asleep in the idle word sees
        // this, which came before the start; whoever does not has announced the end before the machine slept.
        let Some(index) = shared.processors.seat_spare(&raw const **shared) else {
            discount_spare(shared);
            return self.say_that_all_are_held();
        };
        shared.count_machine();
        if start_machine(shared, index).is_err() {
            // No thread to be had; the next tick tries again.
            shared.processors.unseat(index);
            discount_spare(shared);
            shared.machine_ended();
        }
    }

    /// Says on stderr, once, that there are no more machines to be had, and which tasks hold them.
    fn say_that_all_are_held(&mut self) {
        if std::mem::replace(&mut self.said_held, true) {
            return;
        }
        let mut holders = TaskList::default();
        let heads = self.shared.stacks.keep_heads();
        for processor in self.shared.processors.seated() {
            // SAFETY: a record is mapped as long as the runtime lives, and is not given back while `heads` lives.
            if let Some(record) = unsafe { processor.running.load(Ordering::Relaxed).as_ref() } {
                record.report().into_iter().for_each(|task| holders.push(task, NAMED_HOLDERS));
            }
        }
        drop(heads);
        let names: Vec<_> = holders.tasks.iter().map(|task| task.who().to_string()).collect();
        let more = if holders.more > 0 { format!(" and {} more", holders.more) } else { String::new() };
        say(format_args!(
            "greenloom: tasks that do not suspend hold all {} threads of the runtime, and RuntimeBuilder::max_machines allows no more: \
             tasks that have not started wait until one of them ends or suspends. Held by {}{more}",
            self.shared.processors.seated_count(),
            names.join("; "),
        ));
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

    /// All machines have ended, and no task is left.
    fn finish(&self) {
        self.join_machines();
        // SAFETY: no task is left, and no machine; and nobody looks for tasks any more but this thread.
        unsafe { self.shared.stacks.unmap() };
        self.shared.report_end();
    }

    /// Waits for the ends of the machines' threads, destructors of their thread-locals included, but for those with tasks left.
    fn join_machines(&self) {
        let threads = std::mem::take(&mut self.shared.lock_threads().machines);
        for (index, thread) in threads {
            loop {
                if self.shared.machines() == 0 || thread.is_finished() {
                    let _ = thread.join();
                    break;
                }
                if self.shared.processors.get(index).live.load(Ordering::Relaxed) > 0 {
                    break;
                }
                // It is on its way to its end.
                self.shared.monitor.park_until(prim::now() + TICK);
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
        self.join_machines();
        // Whoever waits for the end goes on now, and not for this thread: the closures that are dropped below run code of the user's, which
        // may block.
        drop(shared.lock_threads().monitor.take());
        shared.report_end();
        shared.cancel_injected();
        for processor in shared.processors.seated() {
            self.cancel_unstarted(processor);
        }
    }
}

fn begin_slice(processor: &Processor) {
    processor.slice.fetch_add(1, Ordering::Relaxed);
}

/// A spare machine that has been counted awake will not come to be.
fn discount_spare(shared: &Shared) {
    let seen = shared.idle.fell_asleep(true);
    if seen.awake() == 0 && shared.phase() != Phase::Running {
        // The others may have fallen asleep meanwhile, and each has left the end of the runtime to this one.
        shared.try_close(seen);
    }
}

/// Queues a fresh task for anyone, from this thread. If the runtime has ended meanwhile its closure is dropped, which is code of the user's
/// and may wait: not here, where the end is told, but on a thread of its own.
fn inject(shared: &Arc<Shared>, task: TaskPtr) {
    if shared.push_injected(task) {
        return;
    }
    let elsewhere = shared.clone();
    let name = format!("{}-unstarted", shared.config.thread_name);
    if thread::start_plain(name, move || elsewhere.cancel_injected()).is_err() {
        shared.cancel_injected();
    }
}

/// Moves the oldest fresh tasks of a stuck machine to the injector.
fn lend(shared: &Arc<Shared>, processor: &Processor) {
    let mut left = LENT;
    while left > 0 {
        match processor.stealer.steal() {
            Steal::Success(task) => {
                inject(shared, task);
                left -= 1;
            }
            Steal::Retry => {}
            Steal::Empty => return,
        }
    }
}

/// A moment so much later, or one that does not come.
fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now + Duration::from_secs(60 * 60 * 24 * 365 * 30))
}

/// Takes what is not bound to a busy machine out of its next slot and its inbox.
fn rescue(shared: &Arc<Shared>, processor: &Processor) {
    if let Some(task) = processor.next.rescue() {
        inject(shared, task);
    }
    if processor.placed.load(Ordering::Relaxed) == 0 {
        // All that is there are wakes of the machine's own tasks. There may be a hundred thousand, at each tick.
        return;
    }
    for task in processor.inbox.take() {
        // SAFETY: taken out of the inbox, so ours (rule 2 of the header).
        let movable = unsafe { task.record().is_null() } && !task.is_pinned();
        if movable {
            processor.placed.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: as above.
            unsafe { task.set_home(std::ptr::null()) };
            inject(shared, task);
        } else {
            post_back(shared, processor, task);
        }
    }
}

/// Leaves a task that was taken out of a processor's inbox there again: it is bound to that machine, which may have fallen asleep
/// over the empty inbox.
fn post_back(shared: &Arc<Shared>, processor: &Processor, task: TaskPtr) {
    // SAFETY: taken out of the inbox by the caller, who gives it up.
    match unsafe { processor.inbox.post(task) } {
        Posted::Queued => {}
        Posted::WonSleeper => shared.wake_won(processor, false),
        // Fresh, since a machine with a started task does not end.
        Posted::Refused => inject(shared, task),
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use crate::prim::untracked::AtomicBool;
    use crate::raw::header::Extra;
    use crate::raw::task_slab::TaskSlab;
    use crate::{Runtime, yield_now};

    /// A runtime of one processor that nobody drives.
    fn idle_runtime() -> Arc<Shared> {
        let (config, stacks) = Runtime::builder().processors(1).describe().unwrap();
        Shared::new(config, stacks)
    }

    #[test]
    fn a_spare_that_is_not_to_be_had_does_not_keep_a_runtime_from_its_end() {
        let shared = idle_runtime();
        shared.set_phase(Phase::Draining);
        assert!(shared.idle.add_machine());
        // Meanwhile the only machine falls asleep, which is not the last.
        assert!(shared.processors.get(0).inbox.fall_asleep());
        assert_eq!(shared.idle.fell_asleep(false).awake(), 1);
        discount_spare(&shared);
        assert!(shared.idle.peek().is_closed());
    }

    #[test]
    fn what_is_not_bound_to_a_held_machine_leaves_its_inbox_and_its_count() {
        let shared = idle_runtime();
        let processor = shared.processors.get(0);
        let task = |id, pinned: bool| {
            let extra = pinned.then(|| Box::new(Extra { pinned, ..Extra::default() }));
            // SAFETY: never run, and leaked.
            unsafe { TaskPtr::new(|| (), Location::caller(), id, extra, |layout| TaskSlab::new(0).alloc(layout)) }.unwrap()
        };
        for (id, pinned) in [(1, false), (2, true), (3, false)] {
            shared.send(task(id, pinned), processor);
        }
        assert_eq!(processor.placed.load(Ordering::Relaxed), 3);
        rescue(&shared, processor);
        let injected = std::iter::from_fn(|| shared.injector.steal().success());
        assert_eq!(injected.map(TaskPtr::id).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(processor.placed.load(Ordering::Relaxed), 1);
        assert_eq!(processor.inbox.take().map(TaskPtr::id).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_grace_period_is_extended_as_long_as_tasks_end_and_not_for_ever() {
        let (began, period) = (prim::now(), Duration::from_secs(1));
        let mut left = 1_000_000;
        let mut grace = Grace::new(period, EXTENSIONS, began, left);
        let mut look = |time: f64, left| grace.is_over(began + period.mul_f64(time), || left);
        assert!(!look(0.9, left));
        for time in 1..=EXTENSIONS {
            left -= 1;
            assert!(!look(f64::from(time), left), "after {time} periods");
        }
        assert!(look(f64::from(EXTENSIONS + 1), left - 1), "for ever");
    }

    #[test]
    fn a_grace_period_in_which_no_task_ends_is_over() {
        let (began, period) = (prim::now(), Duration::from_secs(1));
        let mut grace = Grace::new(period, EXTENSIONS, began, 3);
        assert!(!grace.is_over(began + period, || 2));
        // What destructors spawn is no progress.
        assert!(!grace.is_over(began + period.mul_f64(1.9), || 2));
        assert!(grace.is_over(began + period * 2, || 2));
        let mut none = Grace::new(Duration::ZERO, EXTENSIONS, began, 3);
        assert!(none.is_over(began, || 3));
        let mut exact = Grace::new(period, 0, began, 3);
        assert!(exact.is_over(began + period, || 1));
    }

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
        let processor = shared.processors.get(0);
        while processor.running.load(Ordering::Relaxed).is_null() {
            yield_now();
        }
        // Another one, whose clock is this test's.
        let mut monitor = Monitor::new(shared.clone());
        monitor.watch(1);
        assert_eq!(monitor.held_for(processor), Duration::ZERO);
        let mut at = monitor.now;
        let mut wake = |late: Duration| {
            let until = at + TICK;
            at = until + late;
            monitor.grace = Some(Grace::new(Duration::ZERO, 0, at, 0));
            monitor.wake(Some(until), at);
            (monitor.held_for(processor), monitor.grace.as_ref().unwrap().end - at)
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
