//! The monitor: one thread per runtime that does what no machine can do for itself.
//!
//! A tick comes every millisecond if that could help somebody, and every ten milliseconds otherwise
//! (one processor, and no timers). In each tick:
//!
//! - the monitor advances the time slice every [`SLICE`];
//! - while a processor sleeps, it wakes that processor for fresh tasks that wait elsewhere: this is
//!   the upper bound of their wait;
//! - it tells a machine whose timers are late, and the machine then fires them before its next
//!   task. If a machine has run the same task since the last tick, the monitor fires its timers
//!   itself: a limit of that task's own time may be among them;
//! - a run is over [its time](super::overtime) if it has lasted for a time slice, or for a tick
//!   while a timer of its machine is late. The task then lets others run at the next point where it
//!   might wait. If it loops over attempts that fail, it lets others run there (it
//!   [gives way](crate::wait::yield_if_hogging)). As long as that happens, such a loop need not be
//!   old to do so;
//! - a machine that has run the same task since the last tick is *busy*: tasks in its inbox or its
//!   next slot that are not bound to it go to the injector;
//! - a machine that has done so for [`STUCK`] is *stuck* (an endless loop, or the kernel blocks
//!   it). If work waits and no machine is free for it, a spare one is started. If another machine
//!   is awake but busy, the fresh tasks behind the stuck one move to the injector, [`LENT`] each
//!   tick. Every machine looks at the injector at every 61st pick at the latest;
//! - memory of idle stacks goes back to the system: a pass begins every [`TRIM`], and each tick
//!   does a piece of it.
//!
//! The monitor sleeps when all machines do, after it has looked for a [deadlock](super::deadlock).
//! It ends a runtime whose grace period is over, and reports the end; see
//! [`shutdown`](super::shutdown).
//!
//! If the monitor itself was kept from running for long, the tasks probably were, too. So that time
//! does not count: not against a task that holds its machine, not as a part of the grace period,
//! and not for a deadlock.

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
/// Used if there is one processor, and none of its timers has been late for a while ([`LINGER`]).
const LAZY_TICK: Duration = Duration::from_millis(10);
const STUCK: Duration = Duration::from_millis(10);
/// After this time a stuck task that keeps others waiting is named on stderr.
const NAMED: Duration = Duration::from_secs(1);
/// How many tasks are named at most for holding all machines.
const NAMED_HOLDERS: usize = 8;
const TRIM: Duration = Duration::from_secs(1);
/// If the monitor wakes this late, it was not running: the process was stopped, or the computer
/// slept.
const PAUSE: Duration = Duration::from_millis(100);
/// How long all machines sleep before the monitor does. Until then it ticks, since waking it costs
/// the waker a system call.
const LINGER: Duration = Duration::from_millis(20);
/// How often a grace period is extended by its own length, as long as tasks end in it.
const EXTENSIONS: u32 = 60;
/// How many fresh tasks leave a stuck machine's deque each tick, if no machine is free to steal
/// them. They do not leave all at once: fork and join keeps the large parts of its work there, and
/// a leaf that takes more than [`STUCK`] is nothing unusual.
const LENT: usize = 64;

struct Monitor {
    shared: Arc<Shared>,
    watched: Vec<Watched>,
    now: Instant,
    /// The number of the time slice that the machines were told of last.
    slice: u32,
    /// When a timer was last late.
    late: Option<Instant>,
    /// When the last pass over the idle stacks began, and whether it goes on.
    trimmed: Instant,
    trimming: bool,
    /// Since when all machines sleep.
    quiet_since: Option<Instant>,
    grace: Option<Grace>,
    deadlock: Watch,
    overtime: overtime::Seen,
    /// It has been reported that all machines are held.
    said_held: bool,
}

/// The time that tasks have to unwind.
struct Grace {
    period: Duration,
    /// How often it may still be extended by the period.
    extensions: u32,
    end: Instant,
    /// The number of tasks that had not ended when the grace period began, or was last extended.
    unfinished: usize,
}

impl Grace {
    fn new(period: Duration, extensions: u32, now: Instant, unfinished: usize) -> Self {
        Self { period, extensions, end: after(now, period), unfinished }
    }

    /// Whether the grace period is over. It is extended instead if tasks have ended in it and
    /// extensions are left.
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

    /// The monitor goes on at this moment. It was to wake at `until` at the latest.
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

    /// Waits for the next tick, or, when all machines sleep, for one of them to wake. Returns until
    /// when at the latest; `None` means forever.
    fn pause(&mut self) -> Option<Instant> {
        let shared = &self.shared;
        let idle = shared.idle.peek();
        if idle.awake() > 0 || shared.phase() != Phase::Running {
            self.quiet_since = None;
            // A task that sleeps beside one that holds the machine has mostly not set its next
            // timer yet when the last one is fired.
            let calm = self.late.is_none_or(|late| self.now - late >= LINGER) && shared.processors.get(0).timers.is_empty();
            let lazy = shared.processors.seated_count() == 1 && calm && !self.trimming;
            let next = self.now + if lazy { LAZY_TICK } else { TICK };
            let next = self.grace.as_ref().map_or(next, |grace| grace.end.min(next));
            shared.monitor.park_until(next);
            return Some(next);
        }
        let quiet = self.now - *self.quiet_since.get_or_insert(self.now);
        let next = if self.trimming || quiet < LINGER {
            // Not longer: a machine that wakes meanwhile does not wake the monitor, and may leave a
            // fresh task beside a machine that sleeps.
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

    /// Gives some memory of idle stacks back to the system.
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
            // Tasks that were taken from it a tick ago wait in the injector, perhaps for this very
            // machine.
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
            // The other machines are busy and never steal, but each looks at the injector now and
            // then.
            for processor in shared.processors.seated() {
                if self.now - self.watched[processor.index as usize].since >= STUCK {
                    lend(&shared, processor);
                }
            }
        }
    }

    /// Keeps a record of this many processors from now on.
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

    /// Reports on stderr which task keeps others from running, once per task.
    fn name_holder(&mut self, processor: &Processor, held: Duration) {
        let others = processor.live.load(Ordering::Relaxed).saturating_sub(1);
        if held < NAMED || others == 0 {
            return;
        }
        let heads = self.shared.stacks.keep_heads();
        // SAFETY: a record is mapped as long as the runtime lives, and is not given back while
        // `heads` lives.
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
        // Before the start, since a shutdown wins the sleepers among the seated ones. A thread that
        // sees the new machine asleep in the idle word sees this seat, which came before the start.
        // A thread that does not see it asleep has announced the end before the machine slept.
        let Some(index) = shared.processors.seat_spare(&raw const **shared) else {
            discount_spare(shared);
            return self.say_that_all_are_held();
        };
        shared.count_machine();
        if start_machine(shared, index).is_err() {
            // No thread can be started; the next tick tries again.
            shared.processors.unseat(index);
            discount_spare(shared);
            shared.machine_ended();
        }
    }

    /// Reports on stderr, once, that no more machines are available, and which tasks hold them.
    fn say_that_all_are_held(&mut self) {
        if std::mem::replace(&mut self.said_held, true) {
            return;
        }
        let mut holders = TaskList::default();
        let heads = self.shared.stacks.keep_heads();
        for processor in self.shared.processors.seated() {
            // SAFETY: a record is mapped as long as the runtime lives, and is not given back while
            // `heads` lives.
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

    /// Cancels the fresh tasks that a machine will not start any more, as far as others can reach
    /// them.
    fn cancel_unstarted(&self, processor: &Processor) {
        let cancel = |task: TaskPtr| {
            // SAFETY: the task was taken from its queue, and is fresh.
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
            // SAFETY: header rule 2: the task was taken out of the inbox, so it is ours.
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
        // SAFETY: no task and no machine is left. Only this thread still looks for tasks.
        unsafe { self.shared.stacks.unmap() };
        self.shared.report_end();
    }

    /// Waits until the machines' threads have ended, including the destructors of their
    /// thread-locals, except for machines with tasks left.
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
                // The thread is about to end.
                self.shared.monitor.park_until(prim::now() + TICK);
            }
        }
    }

    /// The grace period is over: ends the runtime while tasks are left.
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
        // A caller that waits for the end goes on now, and does not wait for this thread: the
        // closures that are dropped below run user code, which may block.
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

/// A spare machine that has been counted as awake will not be started.
fn discount_spare(shared: &Shared) {
    let seen = shared.idle.fell_asleep(true);
    if seen.awake() == 0 && shared.phase() != Phase::Running {
        // The others may have fallen asleep meanwhile, each leaving the end of the runtime to this
        // machine.
        shared.try_close(seen);
    }
}

/// Queues a fresh task for any machine, from this thread. If the runtime has ended meanwhile, the
/// task's closure is dropped. That runs user code, which may wait. So it does not happen
/// here, where the end is reported, but on a thread of its own.
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

/// The moment that is `time` after `now`, or one that never comes.
fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now + Duration::from_secs(60 * 60 * 24 * 365 * 30))
}

/// Takes the tasks that are not bound to a busy machine out of its next slot and its inbox.
fn rescue(shared: &Arc<Shared>, processor: &Processor) {
    if let Some(task) = processor.next.rescue() {
        inject(shared, task);
    }
    if processor.placed.load(Ordering::Relaxed) == 0 {
        // The inbox holds only wakes of the machine's own tasks. There may be a hundred thousand,
        // at each tick.
        return;
    }
    for task in processor.inbox.take() {
        // SAFETY: header rule 2: the task was taken out of the inbox, so it is ours.
        let movable = unsafe { task.record().is_null() } && !task.is_pinned();
        if movable {
            processor.placed.fetch_sub(1, Ordering::Relaxed);
            // SAFETY: header rule 2: the task is ours, and fresh.
            unsafe { task.set_home(std::ptr::null()) };
            inject(shared, task);
        } else {
            post_back(shared, processor, task);
        }
    }
}

/// Puts a task that was taken out of a processor's inbox back there: it is bound to that machine,
/// which may have fallen asleep because it found the inbox empty.
fn post_back(shared: &Arc<Shared>, processor: &Processor, task: TaskPtr) {
    // SAFETY: header rule 3: the caller took the task out of the inbox, and gives it up.
    match unsafe { processor.inbox.post(task) } {
        Posted::Queued => {}
        Posted::WonSleeper => shared.wake_won(processor, false),
        // The task is fresh, since a machine with a started task does not end.
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

    /// A runtime with one processor that no machine drives.
    fn idle_runtime() -> Arc<Shared> {
        let (config, stacks) = Runtime::builder().processors(1).describe().unwrap();
        Shared::new(config, stacks)
    }

    #[test]
    fn a_spare_that_is_not_to_be_had_does_not_keep_a_runtime_from_its_end() {
        let shared = idle_runtime();
        shared.set_phase(Phase::Draining);
        assert!(shared.idle.add_machine());
        // Meanwhile the only machine falls asleep. It is not the last one.
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
            // SAFETY: the task never runs, and is leaked.
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
        // Tasks that destructors spawn are no progress.
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
        // Another monitor, whose clock is set by this test.
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
