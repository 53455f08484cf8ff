//! The part of a processor that other threads may touch.

use std::ptr::null_mut;

use crossbeam_utils::CachePadded;

use crate::prim::Parker;
use crate::prim::atomic::{AtomicPtr, Ordering};
use crate::prim::deque::{Stealer, Worker};
use crate::prim::sync::Mutex;
use crate::prim::untracked;
use crate::raw::header::Header;
use crate::raw::header::TaskPtr;
use crate::raw::record::Record;
use crate::scheduler::Shared;
use crate::scheduler::inbox::Inbox;
use crate::scheduler::local;
use crate::scheduler::timers::Timers;

/// This many failed attempts count as a loop. A few may follow long work, for instance under a std
/// lock, and a task must not be suspended while it holds one.
const ATTEMPTS: u32 = 64;

/// The right to run tasks. What only its machine may touch is in [`Local`](super::local::Local).
pub(crate) struct Processor {
    pub(crate) index: u32,
    /// The runtime that it is part of. Set before its machine starts.
    shared: untracked::AtomicPtr<Shared>,
    /// A spare runs only while the monitor wants it to or tasks are bound to it. Only the monitor
    /// wakes it to search.
    pub(crate) spare: bool,
    pub(crate) inbox: CachePadded<Inbox>,
    pub(crate) parker: Parker,
    pub(crate) next: NextSlot,
    pub(crate) stealer: Stealer<TaskPtr>,
    /// The timers of its own tasks.
    pub(crate) timers: Timers,
    /// The number of the current time slice. The monitor advances it, and also does so when a timer
    /// is late.
    pub(crate) slice: untracked::AtomicU32,
    /// The owner's end of the deque, until the machine starts.
    seat: Mutex<Option<Worker<TaskPtr>>>,
    /// Set by a thread that wins the sleeping machine for work that any machine may do, before it
    /// unparks the machine. The machine then holds the search that was counted for it.
    pub(crate) search_granted: untracked::AtomicU32,
    /// The stack that is running; null between two tasks.
    pub(crate) running: untracked::AtomicPtr<Record>,
    /// How many tasks have been resumed so far. The monitor uses it to see whether the machine
    /// moves.
    pub(crate) runs: untracked::AtomicU32,
    /// The last run, by that count, that the monitor has seen hold the machine; see
    /// [`asks_to_give_way`](Self::asks_to_give_way).
    held_run: untracked::AtomicU32,
    /// How often a task has given way here. The monitor uses it to see whether a task loops over
    /// attempts.
    pub(crate) given_way: untracked::AtomicU32,
    /// The monitor has recently seen tasks loop over attempts here. They need not hold the machine
    /// for long again.
    pub(crate) attempts_loop: untracked::AtomicBool,
    /// How many attempts have failed of a task that is to give way if there are many, and the run
    /// in which they were counted.
    attempts: untracked::AtomicU32,
    attempts_run: untracked::AtomicU32,
    /// Started tasks that have not ended.
    pub(crate) live: untracked::AtomicU32,
    /// Not zero while the machine has nothing to run: it is starting, looking around, sleeping, or
    /// being woken.
    pub(crate) resting: untracked::AtomicU32,
    /// Fresh tasks in the inbox, and some that are about to be there. They are counted before they
    /// are left, and subtracted after they are taken out.
    pub(crate) placed: untracked::AtomicU32,
}

impl TaskPtr {
    /// The processor that the task is bound to; null while it is not bound.
    ///
    /// # Safety
    /// Header rule 2.
    #[inline]
    pub(crate) unsafe fn home(self) -> *const Processor {
        // SAFETY: header rule 2, as `# Safety` demands.
        unsafe { self.raw_home() }.cast()
    }

    /// # Safety
    /// Header rule 2.
    #[inline]
    pub(crate) unsafe fn set_home(self, home: *const Processor) {
        // SAFETY: header rule 2, as `# Safety` demands.
        unsafe { self.set_raw_home(home.cast()) };
    }
}

impl Processor {
    pub(crate) fn new(index: u32, spare: bool) -> Self {
        let worker = Worker::new_lifo();
        Self {
            index,
            shared: untracked::AtomicPtr::new(null_mut()),
            spare,
            inbox: CachePadded::new(Inbox::new()),
            parker: Parker::new(),
            next: NextSlot::new(),
            stealer: worker.stealer(),
            timers: Timers::new(),
            slice: untracked::AtomicU32::new(0),
            seat: Mutex::new(Some(worker)),
            search_granted: untracked::AtomicU32::new(0),
            running: untracked::AtomicPtr::new(null_mut()),
            runs: untracked::AtomicU32::new(0),
            held_run: untracked::AtomicU32::new(0),
            given_way: untracked::AtomicU32::new(0),
            attempts_loop: untracked::AtomicBool::new(false),
            attempts: untracked::AtomicU32::new(0),
            attempts_run: untracked::AtomicU32::new(0),
            live: untracked::AtomicU32::new(0),
            resting: untracked::AtomicU32::new(1),
            placed: untracked::AtomicU32::new(0),
        }
    }

    pub(crate) fn attach(&self, shared: *const Shared) {
        self.shared.store(shared.cast_mut(), untracked::Ordering::Relaxed);
    }

    /// # Safety
    /// The processor is attached to a runtime, and alive.
    pub(crate) unsafe fn shared<'a>(&self) -> &'a Shared {
        // SAFETY: a processor lives inside its runtime. Relaxed: the caller found the processor
        // after the start.
        unsafe { &*self.shared.load(untracked::Ordering::Relaxed) }
    }

    /// Marks this run, if it is still running, as having held the machine for its time slice.
    /// Called by the monitor.
    pub(crate) fn ask_to_give_way(&self, run: u32) {
        self.held_run.store(run, untracked::Ordering::Relaxed);
    }

    /// Whether other tasks may be waiting for this machine. A guess, since most of its queues are
    /// private to it.
    pub(crate) fn may_have_others(&self) -> bool {
        self.live.load(untracked::Ordering::Relaxed) > 1 || self.inbox.has_mail() || !self.stealer.is_empty()
    }

    /// Whether the running task is to let others run before it goes on. Called by that task.
    pub(crate) fn is_over_time(&self) -> bool {
        self.held_run.load(untracked::Ordering::Relaxed) == self.runs.load(untracked::Ordering::Relaxed)
    }

    /// Whether the running task, an attempt of which has failed, is to give way. Called by that
    /// task.
    ///
    /// Two conditions must hold. The task was seen to hold the machine, or loops over attempts were
    /// seen here lately. And it is such a loop, since many attempts have failed in this run.
    ///
    /// Any switch changes the count of runs, which by itself voids an earlier answer.
    #[inline]
    pub(crate) fn asks_to_give_way(&self) -> bool {
        let run = self.runs.load(untracked::Ordering::Relaxed);
        let suspected = self.held_run.load(untracked::Ordering::Relaxed) == run;
        (suspected || self.attempts_loop.load(untracked::Ordering::Relaxed)) && self.has_tried_often(run)
    }

    #[cold]
    fn has_tried_often(&self, run: u32) -> bool {
        let here = self.attempts_run.load(untracked::Ordering::Relaxed) == run;
        self.attempts_run.store(run, untracked::Ordering::Relaxed);
        let attempts = if here { self.attempts.load(untracked::Ordering::Relaxed) + 1 } else { 1 };
        self.attempts.store(attempts % ATTEMPTS, untracked::Ordering::Relaxed);
        attempts == ATTEMPTS
    }

    /// Notes that a task gives way. Called by the owner.
    pub(crate) fn note_given_way(&self) {
        let times = self.given_way.load(untracked::Ordering::Relaxed);
        self.given_way.store(times.wrapping_add(1), untracked::Ordering::Relaxed);
    }

    /// Takes the owner's end of the deque. `None` if a machine has it.
    pub(crate) fn take_seat(&self) -> Option<Worker<TaskPtr>> {
        self.seat.lock().unwrap_or_else(|e| e.into_inner()).take()
    }
}

/// A processor, for a caller that only wants to know whether it has something to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Home(*const Processor);

// SAFETY: only a counter of the processor is touched, and any thread may read it.
unsafe impl Send for Home {}

impl Home {
    /// The processor of the calling task.
    pub(crate) fn of_the_caller() -> Self {
        Self(local::machine().map_or(std::ptr::null(), |local| std::ptr::from_ref(local.processor())))
    }

    /// Whether the processor has nothing to do.
    ///
    /// # Safety
    /// A task that called [`of_the_caller`](Self::of_the_caller) there has not ended.
    pub(crate) unsafe fn is_resting(self) -> bool {
        // SAFETY: a processor lives as long as its tasks, one of which has not ended, as `# Safety`
        // demands.
        unsafe { self.0.as_ref() }.is_some_and(|processor| processor.resting.load(untracked::Ordering::Relaxed) != 0)
    }
}

/// The task that runs next: the one that the running task has just made ready.
///
/// The owner puts and takes tasks. The monitor may also take a fresh task, when the owner is stuck.
/// So a task that is bound to the machine is marked, and moved with plain loads and stores. A fresh
/// task is taken with read-modify-writes.
pub(crate) struct NextSlot(AtomicPtr<Header>);

/// Marks a bound task in the slot. The alignment of headers is greater than two.
const BOUND: usize = 1;

/// A task, and whether it is bound to its machine (started, or placed).
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) task: TaskPtr,
    pub(crate) bound: bool,
}

fn pack(ready: Ready) -> *mut Header {
    if ready.bound { ready.task.as_ptr().map_addr(|a| a | BOUND) } else { ready.task.as_ptr() }
}

fn unpack(word: *mut Header) -> Option<Ready> {
    if word.is_null() {
        return None;
    }
    // SAFETY: only `pack` makes these words.
    let task = unsafe { TaskPtr::from_raw(word.map_addr(|a| a & !BOUND)) };
    Some(Ready { task, bound: word.addr() & BOUND != 0 })
}

impl NextSlot {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(null_mut()))
    }

    /// Puts a task here, and returns the one that was here before. Called by the owner.
    #[inline]
    pub(crate) fn put(&self, ready: Ready) -> Option<Ready> {
        let old = self.0.load(Ordering::Relaxed);
        if old.is_null() || old.addr() & BOUND != 0 {
            // Only the owner changes an empty slot or takes a bound task. Release: pairs with the
            // Acquire in `rescue`.
            self.0.store(pack(ready), Ordering::Release);
            unpack(old)
        } else {
            // AcqRel: `rescue` may take the old one at the same time.
            unpack(self.0.swap(pack(ready), Ordering::AcqRel))
        }
    }

    /// Called by the owner.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Takes the task. Called by the owner.
    #[inline]
    pub(crate) fn take(&self) -> Option<Ready> {
        let old = self.0.load(Ordering::Relaxed);
        if old.is_null() {
            None
        } else if old.addr() & BOUND != 0 {
            self.0.store(null_mut(), Ordering::Relaxed);
            unpack(old)
        } else {
            unpack(self.0.swap(null_mut(), Ordering::AcqRel))
        }
    }

    /// Takes a fresh task out of a stuck owner's slot. Called by the monitor.
    pub(crate) fn rescue(&self) -> Option<TaskPtr> {
        let seen = self.0.load(Ordering::Relaxed);
        if seen.is_null() || seen.addr() & BOUND != 0 {
            return None;
        }
        // Acquire: pairs with the Release in `put`. The owner may meanwhile have put another task
        // with the same address here. Then that one is taken. It does not matter which task it is,
        // only that it is fresh, and the word says so.
        self.0.compare_exchange(seen, null_mut(), Ordering::AcqRel, Ordering::Relaxed).ok().and_then(unpack).map(|r| r.task)
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use super::*;
    use crate::raw::task_slab::TaskSlab;

    fn task() -> TaskPtr {
        let alloc = |layout| TaskSlab::new(0).alloc(layout);
        // SAFETY: the task never runs, and is leaked.
        unsafe { TaskPtr::new(|| (), std::panic::Location::caller(), 1, None, alloc) }.unwrap()
    }

    fn parts(ready: Option<Ready>) -> Option<(TaskPtr, bool)> {
        ready.map(|ready| (ready.task, ready.bound))
    }

    #[test]
    fn the_next_slot_gives_back_what_was_put_into_it() {
        for (first_bound, second_bound) in [(false, false), (false, true), (true, false), (true, true)] {
            let (slot, first, second) = (NextSlot::new(), task(), task());
            assert!(slot.is_empty() && slot.take().is_none() && slot.rescue().is_none());
            assert!(slot.put(Ready { task: first, bound: first_bound }).is_none());
            assert!(!slot.is_empty());
            let displaced = slot.put(Ready { task: second, bound: second_bound });
            assert_eq!(parts(displaced), Some((first, first_bound)));
            // A bound task stays with the owner.
            let rescued = slot.rescue();
            assert_eq!(rescued, (!second_bound).then_some(second));
            assert_eq!(parts(slot.take()), second_bound.then_some((second, true)));
            assert!(slot.is_empty() && slot.take().is_none());
        }
    }

    /// After how many failed attempts the running task is asked to give way. `None` if some
    /// thousand do not suffice.
    fn failures_until_asked(processor: &Processor) -> Option<usize> {
        (1..5000).find(|_| processor.asks_to_give_way())
    }

    #[test]
    fn the_64th_failure_of_a_run_that_holds_the_machine_gives_way() {
        let processor = Processor::new(0, false);
        let runs = |run| processor.runs.store(run, untracked::Ordering::Relaxed);
        runs(1);
        assert_eq!(failures_until_asked(&processor), None);
        processor.ask_to_give_way(1);
        assert_eq!(failures_until_asked(&processor), Some(64));
        assert_eq!(failures_until_asked(&processor), Some(64), "and again as many");
        // Any switch voids it, and what was counted.
        (0..40).for_each(|_| assert!(!processor.asks_to_give_way()));
        runs(2);
        assert_eq!(failures_until_asked(&processor), None);
        processor.ask_to_give_way(2);
        assert_eq!(failures_until_asked(&processor), Some(64));
    }

    #[test]
    fn where_loops_over_attempts_were_seen_none_need_be_old() {
        let processor = Processor::new(0, false);
        processor.attempts_loop.store(true, untracked::Ordering::Relaxed);
        for run in 1..4 {
            processor.runs.store(run, untracked::Ordering::Relaxed);
            (0..63).for_each(|_| assert!(!processor.asks_to_give_way()));
        }
        assert!(processor.asks_to_give_way(), "the 64th of the last run");
        processor.attempts_loop.store(false, untracked::Ordering::Relaxed);
        assert_eq!(failures_until_asked(&processor), None);
    }

    #[test]
    fn a_seat_is_taken_once() {
        let processor = Processor::new(0, false);
        assert!(processor.take_seat().is_some() && processor.take_seat().is_none());
    }
}
