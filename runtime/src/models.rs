//! Protocols of the crate by themselves, for `loom-tests` to run under every schedule. Each function is one execution.

use std::panic::Location;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::prim::Parker;
use crate::prim::deque::Injector;
use crate::scheduler::idle::Idle;
use crate::scheduler::inbox::{Inbox, Posted};
use crate::scheduler::processor::{NextSlot, Ready};
use crate::task::cells::CellCache;
use crate::task::state::{Park, State, TransitionToParked};
use crate::task::{JoinHandle, TaskPtr};

/// A fresh task with its handle, in no queue.
fn task<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> (TaskPtr, JoinHandle<T>) {
    // SAFETY: closure and result are Send; made just now.
    unsafe {
        let task = TaskPtr::new(f, Location::caller(), 1, None, |layout| CellCache::new().alloc(layout)).unwrap();
        (task, JoinHandle::new(task))
    }
}

/// Runs a task on the calling thread instead of a stack.
fn run(task: TaskPtr) {
    // SAFETY: once, by the only one that has the task; these tasks do not suspend.
    unsafe { task.run(None) };
}

/// What counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Mail for a machine that is falling asleep wakes it, whichever comes first.
pub fn mail_is_never_slept_through() {
    let shared = Arc::new((Inbox::new(), Parker::new()));
    let (task, handle) = task(|| 7);
    let poster = {
        let shared = shared.clone();
        let task = task.as_ptr() as usize;
        thread::spawn(move || {
            // SAFETY: in no queue; given up here.
            let posted = unsafe { shared.0.post(TaskPtr::from_raw(std::ptr::with_exposed_provenance_mut(task))) };
            if posted == Posted::WonSleeper {
                shared.1.unpark();
            }
        })
    };
    loop {
        if let Some(task) = shared.0.take().next() {
            run(task);
            break;
        }
        if shared.0.fall_asleep() {
            shared.1.park();
        }
    }
    poster.join().unwrap();
    assert_eq!(handle.join().unwrap(), 7);
}

/// A machine that falls asleep sees injected work, or the one who announces it sees the sleeper.
pub fn announced_work_finds_a_sleeper_or_is_seen() {
    let shared = Arc::new((Idle::new(1), Inbox::new(), Parker::new(), AtomicUsize::new(0)));
    let announcer = {
        let shared = shared.clone();
        thread::spawn(move || {
            // Relaxed: the idle word orders it, as it orders the injector.
            shared.3.store(1, Ordering::Relaxed);
            if shared.0.announce().wants_searcher() && shared.0.claim_wake() {
                if shared.1.win_sleeper() {
                    shared.0.woke(false);
                    shared.2.unpark();
                } else {
                    shared.0.end_search();
                }
            }
        })
    };
    if shared.1.fall_asleep() {
        shared.0.fell_asleep(false, false);
        let seen = shared.3.load(Ordering::Relaxed) == 1;
        if seen && shared.1.win_sleeper() {
            shared.0.woke(false);
        } else {
            shared.2.park();
        }
    }
    assert_eq!(shared.3.load(Ordering::Relaxed), 1, "awake for nothing");
    announcer.join().unwrap();
}

/// Two announce work for a sleeper that a third has just won for something else: one may leave its work to the other's claim,
/// which finds no sleeper. Somebody sees the work all the same.
pub fn work_left_to_a_claim_that_finds_no_sleeper_is_seen() {
    struct Machine {
        idle: Idle,
        inbox: Inbox,
        parker: Parker,
        injector: Injector<()>,
        /// Read by the machine after its token, as in the runtime.
        granted: std::sync::atomic::AtomicBool,
    }
    impl Machine {
        fn win(&self, search: bool) -> bool {
            let won = self.inbox.win_sleeper();
            // Either may be interrupted here for long; said so, it costs the model no forced switch.
            thread::yield_now();
            if won {
                self.granted.store(search, Ordering::Relaxed);
                self.idle.woke(false);
                self.parker.unpark();
            }
            won
        }

        fn announce(&self) {
            self.injector.push(());
            if self.idle.announce().wants_searcher() {
                self.idle.wake_searcher(|| self.win(true), || !self.injector.is_empty());
            }
        }

        fn fall_asleep(&self) {
            assert!(self.inbox.fall_asleep(), "there is no mail");
            self.idle.fell_asleep(false, false);
        }

        /// What the machine does from its sleep on, until it has had both pieces of work.
        fn run(&self) {
            let mut work = 0;
            loop {
                if !self.injector.is_empty() && self.inbox.win_sleeper() {
                    self.idle.woke(false);
                } else {
                    self.parker.park();
                }
                let searching = self.granted.swap(false, Ordering::Relaxed);
                while self.injector.steal().success().is_some() {
                    work += 1;
                }
                if searching {
                    self.idle.end_search();
                }
                if work == 2 {
                    return;
                }
                self.fall_asleep();
            }
        }
    }
    let machine = Arc::new(Machine {
        idle: Idle::new(1),
        inbox: Inbox::new(),
        parker: Parker::new(),
        injector: Injector::new(),
        granted: false.into(),
    });
    machine.fall_asleep();
    let others: [fn(&Machine); 3] = [|m| _ = m.win(false), Machine::announce, Machine::announce];
    let others = others.map(|act| {
        let machine = machine.clone();
        thread::spawn(move || act(&machine))
    });
    machine.run();
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// A fresh task in the next slot goes to its owner or to the monitor, once.
pub fn the_next_slot_gives_a_task_once() {
    let slot = Arc::new(NextSlot::new());
    let (first, first_handle) = task(|| 1);
    let (second, second_handle) = task(|| 2);
    assert!(slot.put(Ready { task: first, bound: false }).is_none());
    let monitor = {
        let slot = slot.clone();
        thread::spawn(move || slot.rescue().map(run).is_some())
    };
    let displaced = slot.put(Ready { task: second, bound: false });
    let taken = slot.take();
    let ours = [displaced, taken].into_iter().flatten().map(|ready| run(ready.task)).count();
    let theirs = usize::from(monitor.join().unwrap());
    assert_eq!(ours + theirs, 2);
    assert_eq!(first_handle.join().unwrap() + second_handle.join().unwrap(), 3);
}

/// Commits a suspension; counts it if the task is to be queued again.
fn commit(state: &State, park: Park, shielded: bool) -> usize {
    usize::from(state.commit(park, shielded) == TransitionToParked::Requeue)
}

/// A parked task is queued by its partner's wake, or was never parked: once in any case.
pub fn a_wake_is_neither_lost_nor_doubled() {
    let state = Arc::new(State::new());
    let waker = {
        let state = state.clone();
        thread::spawn(move || usize::from(state.wake()))
    };
    let queued = commit(&state, Park::Wait, false);
    assert_eq!(queued + waker.join().unwrap(), 1);
}

/// The same for a token; of two, one wakes and the other stays at most.
pub fn a_token_is_neither_lost_nor_doubled() {
    let state = Arc::new(State::new());
    let unparkers: Vec<_> = (0..2)
        .map(|_| {
            let state = state.clone();
            thread::spawn(move || usize::from(state.leave_token()))
        })
        .collect();
    let queued = commit(&state, Park::Token, false);
    let woken: usize = unparkers.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(queued + woken, 1);
    state.take_token();
    assert!(!state.take_token());
}

/// A wait that both a partner and a canceller end is queued once; if cancellation did it, the partner's wake is still there to be
/// absorbed, and if not, nothing is.
pub fn cancel_against_wake_leaves_one_to_absorb() {
    let state = Arc::new(State::new());
    let spawn = |f: fn(&State) -> bool| {
        let state = state.clone();
        thread::spawn(move || usize::from(f(&state)))
    };
    let (waker, canceller) = (spawn(State::wake), spawn(State::cancel));
    let queued = commit(&state, Park::Wait, false);
    assert_eq!(queued + waker.join().unwrap() + canceller.join().unwrap(), 1);
    let absorbed = if state.take_abort_wake() { commit(&state, Park::Wait, true) } else { 1 };
    assert_eq!(absorbed, 1, "the partner's wake is gone");
    // Nothing is left over: a further wait would really wait.
    assert_eq!(state.commit(Park::Wait, true), TransitionToParked::Parked);
}

/// Two cancellations queue a task once.
pub fn a_task_is_cancelled_once() {
    let state = Arc::new(State::new());
    let cancellers: Vec<_> = (0..2)
        .map(|_| {
            let state = state.clone();
            thread::spawn(move || usize::from(state.cancel()))
        })
        .collect();
    let queued = commit(&state, Park::Wait, false);
    assert_eq!(queued + cancellers.into_iter().map(|t| t.join().unwrap()).sum::<usize>(), 1);
    assert!(state.take_abort_wake() && state.is_cancelled());
}

/// A thread that joins gets the result, whether it comes before or after the end; the task is freed once (loom sees a leak).
pub fn a_join_meets_the_end() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (task, handle) = task({
        let counted = Counted(drops.clone());
        move || counted
    });
    let joiner = thread::spawn(move || drop(handle.join().unwrap()));
    run(task);
    joiner.join().unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

/// A handle that is dropped while the task ends: one of the two drops the result.
pub fn a_detach_meets_the_end() {
    let drops = Arc::new(AtomicUsize::new(0));
    let (task, handle) = task({
        let counted = Counted(drops.clone());
        move || counted
    });
    let extra = handle.task();
    let dropper = thread::spawn(move || drop(handle));
    let other = thread::spawn(move || drop(extra));
    run(task);
    dropper.join().unwrap();
    other.join().unwrap();
    assert_eq!(drops.load(Ordering::Relaxed), 1);
}

/// Withdrawing from a join against the end: either it is withdrawn, or the wake comes.
pub fn a_withdrawn_joiner_is_not_woken() {
    let state = Arc::new(State::new());
    assert!(state.register_joiner());
    let ends = {
        let state = state.clone();
        thread::spawn(move || state.complete(false) == crate::task::state::TransitionToComplete::WakeJoiner)
    };
    let withdrawn = state.withdraw_joiner();
    assert_ne!(withdrawn, ends.join().unwrap());
}
