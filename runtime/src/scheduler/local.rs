//! A processor, as its own machine sees it: queues without locks, caches, counters.
//!
//! The tasks that run on the machine reach it through the thread-local. Its worker loop reaches it
//! directly. Both are on the same thread, and neither keeps a borrow across a switch.

use std::cell::Cell;
use std::io;
use std::panic::Location;
use std::time::Instant;

use crate::prim;
use crate::prim::deque::{Steal, Worker};
use crate::prim::sync::Arc;
use crate::prim::untracked::Ordering;
use crate::raw::header::Extra;
use crate::raw::header::TaskPtr;
use crate::raw::machine::Machine;
use crate::raw::reason::Reason;
use crate::raw::record::Record;
use crate::raw::stacks::StackCache;
use crate::raw::task_slab::SlabCache;
use crate::scheduler::Shared;
use crate::scheduler::placement::Run;
use crate::scheduler::processor::{Processor, Ready};
use crate::scheduler::ready::ReadyQueue;
use crate::scheduler::reserve::Reserve;
use crate::scheduler::tuning::SLICE;
use crate::scheduler::tuning::{FAIR_EVERY, FEW, IDS, MIN_TO_STEAL, SEARCH_ROUNDS};
use crate::stack::slab::Slot;
use crate::sys::number::{next_random, take_ids};

#[repr(C)]
pub(crate) struct Local {
    /// First, since the thread-local points to it; see [`machine`].
    pub(crate) machine: Machine,
    pub(crate) shared: Arc<Shared>,
    processor: *const Processor,
    /// Started tasks that are ready, and fresh ones that are bound here, oldest first.
    ready: ReadyQueue,
    /// Fresh tasks that others may steal. The owner takes the newest.
    pub(crate) fresh: Worker<TaskPtr>,
    /// How many there are in `fresh`, or more, since thieves do not update this.
    stealable: Cell<usize>,
    /// How many picks are left until the next fair one.
    until_fair: Cell<u32>,
    fresh_first: Cell<bool>,
    /// Since the last fair pick, all picks have been of the next slot.
    chain_only: Cell<bool>,
    aged_first: Cell<bool>,
    aging: Cell<Aging>,
    /// The number of the processor's slice when the running chain began.
    slice: Cell<u32>,
    /// See [`lends_slice`](Self::lends_slice).
    lends_from: Cell<Option<Instant>>,
    live: Cell<u32>,
    /// From this many live tasks on, look whether other processors have fewer; see `placement`.
    pub(crate) look_around_at: Cell<u32>,
    pub(crate) run: Cell<Run>,
    next_id: Cell<u64>,
    end_id: Cell<u64>,
    cells: SlabCache,
    pub(crate) stacks: StackCache,
    pub(crate) reserve: Reserve,
    /// A hook at switches is running, between two tasks.
    pub(crate) in_hook: Cell<bool>,
    /// Its tasks have been told that the runtime shuts down.
    pub(crate) draining: Cell<bool>,
    /// How many rounds a search may spin. A search that finds nothing halves it.
    pub(crate) patience: Cell<u32>,
    random: Cell<u64>,
    /// Where the next `Spread` task goes.
    pub(crate) next_spread: Cell<usize>,
}

// The thread-local leads to the one as well as to the other.
const _: () = assert!(std::mem::offset_of!(Local, machine) == 0);

/// See [`Local::few_ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Few {
    /// There are none, or there are many.
    NobodyOrMany,
    /// The running chain has made them all ready: they share its time slice.
    Own,
    /// There are others too.
    Others,
}

/// The age of the fresh tasks, in time slices.
#[derive(Clone, Copy, Default)]
struct Aging {
    /// The slice of the last look.
    slice: u32,
    /// How many were in the deque then.
    len: usize,
    /// How many of those were there a slice before, and have not since been taken for their age.
    aged: usize,
}

/// The machine that this thread is, if it is one.
///
/// The result is valid as long as the caller runs on this thread: a machine does not end while a
/// task is on it.
#[inline]
pub(crate) fn machine<'a>() -> Option<&'a Local> {
    let local: *const Local = crate::prim::local::get().cast();
    // SAFETY: set by the machine for as long as its `Local` lives. Nothing that calls this can run
    // on this thread for longer, since started tasks stay on their thread.
    unsafe { local.as_ref() }
}

/// The machine, and the running task's stack, if a task runs on this thread.
#[inline]
pub(crate) fn running<'a>() -> Option<(&'a Local, &'a Record)> {
    let local = machine()?;
    Some((local, local.machine.record()?))
}

/// A random number other than zero, from the generator of the processor or of the plain thread.
pub(crate) fn random() -> u64 {
    match machine() {
        Some(local) => next_random(&local.random),
        None => crate::prim::thread::random(),
    }
}

/// False if a task runs on this thread that is inside `no_suspend`.
pub(crate) fn may_suspend() -> bool {
    running().is_none_or(|(_, record)| record.may_suspend())
}

/// Panics in a hook at switches. No task runs there, and a wait would block the machine.
#[track_caller]
pub(crate) fn assert_may_block(reason: Reason) {
    if machine().is_some_and(|local| local.in_hook.get()) {
        panic!("a hook at switches tried to wait: its thread would be {}", reason.describe());
    }
}

impl Local {
    pub(crate) fn new(shared: Arc<Shared>, index: usize, fresh: Worker<TaskPtr>, reserved: Slot) -> Self {
        let processor: *const Processor = shared.processors.get(index);
        Self {
            // SAFETY: `running` lies in the processor, which is part of `shared`. The stacks there
            // are mapped as long as the runtime lives.
            machine: unsafe { Machine::new(&raw const (*processor).running) },
            stacks: StackCache::new(shared.class),
            reserve: Reserve::new(reserved),
            cells: shared.cells.cache(),
            shared,
            processor,
            ready: ReadyQueue::new(),
            fresh,
            stealable: Cell::new(0),
            until_fair: Cell::new(FAIR_EVERY),
            fresh_first: Cell::new(false),
            chain_only: Cell::new(false),
            aged_first: Cell::new(false),
            aging: Cell::default(),
            slice: Cell::new(0),
            lends_from: Cell::new(None),
            live: Cell::new(0),
            look_around_at: Cell::new(0),
            run: Cell::default(),
            next_id: Cell::new(0),
            end_id: Cell::new(0),
            in_hook: Cell::new(false),
            draining: Cell::new(false),
            patience: Cell::new(SEARCH_ROUNDS),
            random: Cell::new(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index as u64 + 1)),
            next_spread: Cell::new(index),
        }
    }

    #[inline(always)]
    pub(crate) fn processor(&self) -> &Processor {
        // SAFETY: points into `shared`.
        unsafe { &*self.processor }
    }

    pub(crate) fn cells(&self) -> &SlabCache {
        &self.cells
    }

    #[inline]
    pub(crate) fn take_id(&self) -> u64 {
        if self.next_id.get() == self.end_id.get() {
            let first = take_ids(IDS);
            self.next_id.set(first);
            self.end_id.set(first + IDS);
        }
        self.next_id.replace(self.next_id.get() + 1)
    }

    /// A small random number. The generator is seeded with the processor's index.
    pub(crate) fn random_below(&self, limit: usize) -> usize {
        (next_random(&self.random) % limit as u64) as usize
    }

    /// Makes a fresh task. It is not queued yet.
    ///
    /// # Safety
    /// As [`TaskPtr::new`].
    #[inline]
    pub(crate) unsafe fn make_task<F, T>(
        &self,
        f: F,
        site: &'static Location<'static>,
        extra: Option<Box<Extra>>,
    ) -> io::Result<TaskPtr>
    where
        F: FnOnce() -> T,
    {
        // SAFETY: as `TaskPtr::new` demands, by this function's `# Safety`.
        let task = unsafe { TaskPtr::new(f, site, self.take_id(), extra, |layout| self.cells.alloc(layout)) };
        task.ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))
    }

    /// The running task has made this one ready: it is next. The task that was next before goes to
    /// its queue.
    #[inline(always)]
    pub(crate) fn push_next(&self, ready: Ready) {
        if let Some(old) = self.processor().next.put(ready) {
            self.push(old);
        }
    }

    /// Queues a task behind others of its kind.
    #[inline]
    pub(crate) fn push(&self, ready: Ready) {
        if ready.bound {
            self.push_ready(ready.task);
        } else {
            self.push_fresh(ready.task);
        }
    }

    /// Queues a task that is bound here.
    #[inline]
    pub(crate) fn push_ready(&self, task: TaskPtr) {
        self.ready.push(task);
    }

    /// Queues a fresh task where others may steal it.
    #[inline]
    pub(crate) fn push_fresh(&self, task: TaskPtr) {
        self.fresh.push(task);
        let stealable = self.stealable.get() + 1;
        self.stealable.set(stealable);
        if stealable >= MIN_TO_STEAL && self.shared.idle.peek().wants_searcher() {
            self.call_thief();
        }
    }

    #[cold]
    fn call_thief(&self) {
        let stealable = self.fresh.len();
        self.stealable.set(stealable);
        if stealable >= MIN_TO_STEAL {
            self.shared.wake_searcher();
        }
    }

    /// The next task to run, if the processor has one of its own. The order is: the next slot, then
    /// ready and fresh tasks by turns. Every so often it is a task that this order would starve.
    #[inline(always)]
    pub(crate) fn pick(&self) -> Option<TaskPtr> {
        let until_fair = self.until_fair.get() - 1;
        self.until_fair.set(until_fair);
        if until_fair == 0
            && let Some(task) = self.pick_neglected()
        {
            self.ready.begin_chain();
            return Some(task);
        }
        let slice = self.processor().slice.load(Ordering::Relaxed);
        if let Some(ready) = self.processor().next.take() {
            // A chain of tasks that make each other ready lives on one time slice. Then it queues
            // like any other task.
            if slice == self.slice.get() {
                return Some(ready.task);
            }
            self.push(ready);
        }
        self.chain_only.set(false);
        if self.slice.replace(slice) != slice {
            // A timer is late, or the monitor has fired it. Where tasks run for long, the next fair
            // pick may be far away.
            self.take_mail();
            self.fire_timers();
        }
        self.ready.begin_chain();
        let fresh_first = self.fresh_first.get();
        self.fresh_first.set(!fresh_first);
        if fresh_first { self.pop_fresh().or_else(|| self.pop_ready()) } else { self.pop_ready().or_else(|| self.pop_fresh()) }
    }

    /// The running task gives way, and will be queued behind everything that is here.
    pub(crate) fn make_way(&self) {
        let processor = self.processor();
        // What others have left here counts too. The task may be asked to give way for its sake,
        // for instance for a timer that the monitor has fired.
        self.take_mail();
        self.fire_timers();
        // What the task has made ready counts too: a chain whose slice has ended is queued last,
        // and so behind it.
        if let Some(next) = processor.next.take() {
            self.push(next);
        }
        // Such turns may be long. So what the usual order neglects is not left until there have
        // been many. It gets only every other turn, so that the rest is not neglected instead.
        self.until_fair.set(self.until_fair.get().min(2));
    }

    /// Tells whose tasks are ready here besides the running one, if they are so few that its turn
    /// comes again soon.
    pub(crate) fn few_ready(&self) -> Few {
        let waiting = self.ready.len();
        let others = self.ready.is_owed_a_turn() || self.stealable.get() > 0;
        if waiting + self.stealable.get() >= FEW || (waiting == 0 && !others && self.processor().next.is_empty()) {
            return Few::NobodyOrMany;
        }
        if others { Few::Others } else { Few::Own }
    }

    /// Returns the time if the running task may let [others](Few::Others) go first although it
    /// could keep its time slice.
    ///
    /// The others then use up the slice. A chain with short turns would get one of them for each
    /// long turn of another. So after such a yield, no task on this processor yields this way again
    /// for half the time that the yield took, or for a slice if that is less, since a chain may not
    /// go on for longer. A chain with short turns then has a third of the time, unless the turns of
    /// the others last for more than two slices.
    #[cold]
    #[inline(never)]
    pub(crate) fn lends_slice(&self) -> Option<Instant> {
        let now = prim::measured_now()?;
        self.lends_from.get().is_none_or(|from| from <= now).then_some(now)
    }

    /// Notes that a task has let others go first since then.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_lent(&self, since: Instant) {
        if let Some(now) = prim::measured_now() {
            self.lends_from.set(Some(now + ((now - since) / 2).min(SLICE)));
        }
    }

    #[inline]
    fn pop_ready(&self) -> Option<TaskPtr> {
        self.ready.pop()
    }

    #[inline]
    fn pop_fresh(&self) -> Option<TaskPtr> {
        if self.stealable.get() == 0 {
            return None;
        }
        let task = self.fresh.pop();
        self.stealable.set(if task.is_some() { self.stealable.get().saturating_sub(1) } else { 0 });
        task
    }

    /// Looks at the injector, the inbox and the oldest fresh task.
    #[cold]
    fn pick_neglected(&self) -> Option<TaskPtr> {
        self.until_fair.set(FAIR_EVERY);
        self.look_around_at.set(MIN_TO_STEAL as u32);
        self.notice_phase();
        self.take_mail();
        self.fire_timers();
        self.retry_refused();
        let aged_first = !self.aged_first.get();
        self.aged_first.set(aged_first);
        let old = if aged_first {
            self.take_aged().or_else(|| self.take_injected())
        } else {
            self.take_injected().or_else(|| self.take_aged())
        };
        // A pair of tasks that talk may do so for its slice. Meanwhile, what the pair or its parent
        // has spawned begins: it may belong to the same group, and a thief would take it away for
        // good. The newest is taken. It is next in line anyway, so fork and join is not affected.
        let chain_only = self.chain_only.replace(true);
        old.or_else(|| if chain_only { self.pop_fresh() } else { None })
    }

    /// The oldest fresh task, if it was here for a whole time slice.
    ///
    /// Age is required. In fork and join the oldest task is the largest part of the work, and
    /// starting it early only multiplies the stacks in use.
    fn take_aged(&self) -> Option<TaskPtr> {
        let slice = self.shared.slice.load(Ordering::Relaxed);
        let mut aging = self.aging.get();
        if slice != aging.slice {
            let len = self.fresh.len();
            aging = Aging { slice, aged: aging.len.min(len), len };
        }
        let task = if aging.aged > 0 { self.steal_oldest(self.processor()) } else { None };
        self.aging.set(Aging { aged: aging.aged.saturating_sub(1), ..aging });
        task
    }

    /// Moves the mail into the queues. Returns whether there was any.
    pub(crate) fn take_mail(&self) -> bool {
        let (mut any, mut fresh) = (false, 0);
        for task in self.processor().inbox.take() {
            any = true;
            // SAFETY: header rule 2: the task was taken out of the inbox.
            fresh += u32::from(unsafe { task.record().is_null() });
            // SAFETY: header rule 2: taken out of the inbox. A fresh task without a home is
            // unbound.
            let bound = unsafe { !task.home().is_null() };
            if !bound {
                // SAFETY: header rule 3: the task was taken out of the inbox.
                unsafe { task.note_sent() };
            }
            self.push(Ready { task, bound });
        }
        if fresh > 0 {
            self.processor().placed.fetch_sub(fresh, Ordering::Relaxed);
        }
        any
    }

    /// Queues the tasks whose timers are due. Returns whether there were any.
    pub(crate) fn fire_timers(&self) -> bool {
        let timers = &self.processor().timers;
        !timers.is_empty() && timers.fire(|task| self.push_ready(task))
    }

    /// Called when a thief has put tasks into the deque.
    pub(crate) fn recount_fresh(&self) {
        self.stealable.set(self.fresh.len());
    }

    /// Takes one task from the injector.
    pub(crate) fn take_injected(&self) -> Option<TaskPtr> {
        loop {
            match self.shared.injector.steal() {
                Steal::Success(task) => return Some(task),
                Steal::Empty => return None,
                Steal::Retry => {}
            }
        }
    }

    /// Takes the oldest fresh task of a processor, which may be this one.
    pub(crate) fn steal_oldest(&self, victim: &Processor) -> Option<TaskPtr> {
        loop {
            match victim.stealer.steal() {
                Steal::Success(task) => return Some(task),
                Steal::Empty => return None,
                Steal::Retry => std::hint::spin_loop(),
            }
        }
    }

    pub(crate) fn live(&self) -> u32 {
        self.live.get()
    }

    #[inline]
    pub(crate) fn set_live(&self, live: u32) {
        self.live.set(live);
        self.processor().live.store(live, Ordering::Relaxed);
    }

    /// Calls `f` with every started task of this processor that has not ended.
    pub(crate) fn for_each_own(&self, mut f: impl FnMut(TaskPtr)) {
        let mut left = self.live.get();
        self.shared.stacks.for_each_bound(|record| {
            if left > 0 && record.is_at_home_on(self.processor().index) {
                left -= 1;
                f(record.task());
            }
        });
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests;
