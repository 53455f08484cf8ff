//! Protocols of the crate by themselves, for `loom-tests` to run under every schedule. Each function is one execution.

pub mod data;

use std::panic::Location;
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::prim::deque::Injector;
use crate::prim::{self, Parker};
use crate::scheduler::idle::Idle;
use crate::scheduler::inbox::{Inbox, Posted};
use crate::scheduler::local::make_runnable;
use crate::scheduler::processor::{NextSlot, Ready};
use crate::scheduler::timers::{Aim, Timer, Timers};
use crate::task::bound::{Bound, Cause, Due, bounded};
use crate::task::cells::SharedCells;
use crate::task::interrupt::{self, Running};
use crate::task::state::{Park, State, TransitionToParked};
use crate::task::{JoinHandle, TaskPtr};

/// A fresh task with its handle, in no queue.
fn task<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> (TaskPtr, JoinHandle<T>) {
    // SAFETY: closure and result are Send; made just now.
    unsafe {
        let task = TaskPtr::new(f, Location::caller(), 1, None, |layout| SharedCells::new(0).alloc(layout)).unwrap();
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
            if shared.0.announce().wants_searcher() {
                let win = || {
                    let won = shared.1.win_sleeper();
                    if won {
                        shared.0.woke(false);
                        shared.2.unpark();
                    }
                    won
                };
                // One machine: whoever won it, itself that is, sees the work.
                shared.0.wake_searcher(win, || false);
            }
        })
    };
    if shared.1.fall_asleep() {
        shared.0.fell_asleep(false);
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
            self.idle.fell_asleep(false);
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
                    self.idle.end_search(|| false, || false);
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

/// Two machines: one sleeps; the other one's search has found nothing, and it falls asleep. One thread announces work for anyone,
/// another leaves mail for the searcher, which then runs that for as long as it takes. In the end the work is taken, or
/// somebody is awake for it. (That no count goes below zero is asserted in `idle`.)
pub fn work_left_to_a_search_that_mail_overtakes_is_handed_on() {
    struct Machines {
        idle: Idle,
        searcher: (Inbox, Parker),
        sleeper: Inbox,
        injector: Injector<()>,
        /// The searcher was woken to search once more; read by it after its token, as in the runtime.
        granted: std::sync::atomic::AtomicBool,
    }
    impl Machines {
        fn has_work(&self) -> bool {
            !self.injector.is_empty()
        }

        /// As `Shared::win_searcher`.
        fn win(&self) -> bool {
            if self.sleeper.win_sleeper() {
                self.idle.woke(false);
                return true;
            }
            let won = self.searcher.0.win_sleeper();
            if won {
                self.granted.store(true, Ordering::Relaxed);
                self.idle.woke(false);
                self.searcher.1.unpark();
            }
            won
        }

        fn wake_searcher(&self) {
            self.idle.wake_searcher(|| self.win(), || self.has_work());
        }

        fn end_search(&self) {
            self.idle.end_search(|| self.win(), || self.has_work());
        }

        /// As `Local::rest` and `Local::sleep`, from the end of a search on. True if the machine looks for work next, since it has no mail.
        fn fall_asleep(&self) -> bool {
            self.end_search();
            if !self.searcher.0.fall_asleep() {
                return false;
            }
            self.idle.fell_asleep(false);
            if self.has_work() {
                if self.searcher.0.win_sleeper() {
                    self.idle.woke(false);
                    return self.searcher.0.take().next().is_none();
                }
                self.wake_searcher();
            }
            self.searcher.1.park();
            let granted = self.granted.swap(false, Ordering::Relaxed);
            let mail = self.searcher.0.take().next();
            if granted {
                self.end_search();
            }
            mail.is_none()
        }
    }
    let machines = Arc::new(Machines {
        idle: Idle::new(2),
        searcher: (Inbox::new(), Parker::new()),
        sleeper: Inbox::new(),
        injector: Injector::new(),
        granted: false.into(),
    });
    assert!(machines.sleeper.fall_asleep());
    machines.idle.fell_asleep(false);
    assert!(machines.idle.start_search(1));
    let (mail, handle) = task(|| ());
    let announcer = {
        let machines = machines.clone();
        thread::spawn(move || {
            machines.injector.push(());
            if machines.idle.announce().wants_searcher() {
                machines.wake_searcher();
            }
        })
    };
    let poster = {
        let machines = machines.clone();
        let mail = mail.as_ptr() as usize;
        thread::spawn(move || {
            // SAFETY: in no queue; given up here.
            let posted = unsafe { machines.searcher.0.post(TaskPtr::from_raw(std::ptr::with_exposed_provenance_mut(mail))) };
            if posted == Posted::WonSleeper {
                machines.idle.woke(false);
                machines.searcher.1.unpark();
            }
        })
    };
    let looks_next = machines.fall_asleep();
    announcer.join().unwrap();
    poster.join().unwrap();
    let sleeps_on = machines.sleeper.win_sleeper();
    assert!(!sleeps_on || looks_next || !machines.has_work(), "work, a machine that sleeps, and nobody who looks");
    run(mail);
    handle.join().unwrap();
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

/// What the model's clock says.
pub fn now() -> Instant {
    prim::now()
}

/// Puts the model's clock forward.
pub fn pass_time(time: Duration) {
    prim::clock::pass(time);
}

/// Ends the contexts that have deadlines, as their clock does when those have come.
pub fn clock_ends_contexts() {
    crate::time::clock::fire();
}

/// Fires the timers of a runtime's first machine, as the monitor does, which is in no model.
pub fn monitor_fires_timers(runtime: &crate::Runtime) {
    runtime.shared().processors.get(0).timers.fire(make_runnable);
}

/// A task's wait with a timer that is due, on a thread of the model instead of a stack.
struct TimedWait {
    task: TaskPtr,
    /// From before there was a wheel, so due in any case.
    deadline: Instant,
    timers: Timers,
    /// Where the thread waits to be queued.
    queue: Parker,
    queued: AtomicUsize,
}

// SAFETY: the task's state word is anyone's, and the model keeps the task to its end.
unsafe impl Send for TimedWait {}
// SAFETY: as above.
unsafe impl Sync for TimedWait {}

impl TimedWait {
    fn new(task: TaskPtr) -> Arc<Self> {
        Arc::new(Self { task, deadline: prim::now(), timers: Timers::new(), queue: Parker::new(), queued: AtomicUsize::new(0) })
    }

    /// The task was won.
    fn push(&self) {
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.queue.unpark();
    }

    fn commit(&self, shielded: bool) {
        match self.task.state().commit(Park::Wait, shielded) {
            TransitionToParked::Parked => self.queue.park(),
            TransitionToParked::Requeue => _ = self.queued.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Waits; true if the timer has fired.
    fn wait(&self) -> bool {
        let timer = Timer::new();
        // SAFETY: new, and taken back below.
        unsafe { self.timers.set(&timer, Aim::Wake(self.task), self.deadline) };
        self.commit(false);
        let fired = self.timers.take_back(&timer);
        self.task.state().forget_time();
        fired
    }

    /// Somebody fires the timer, if it is set by then.
    fn fires(wait: &Arc<Self>) -> thread::JoinHandle<()> {
        let wait = wait.clone();
        thread::spawn(move || _ = wait.timers.fire(|_| wait.push()))
    }
}

/// A wait that a timer and a cancellation end at once: the task is queued once, and the timer is not touched after it was taken back.
pub fn a_timer_meets_a_cancellation() {
    let (task, handle) = task(|| ());
    let wait = TimedWait::new(task);
    let firer = TimedWait::fires(&wait);
    let canceller = {
        let wait = wait.clone();
        thread::spawn(move || {
            if wait.task.state().cancel() {
                wait.push();
            }
        })
    };
    wait.wait();
    assert!(task.state().take_abort_wake(), "nobody but a partner wakes without it");
    firer.join().unwrap();
    canceller.join().unwrap();
    assert_eq!(wait.queued.load(Ordering::Relaxed), 1);
    // Nothing is left over: a further wait would really wait.
    assert_eq!(task.state().commit(Park::Wait, true), TransitionToParked::Parked);
    assert!(task.state().wake());
    run(task);
    assert!(handle.join().is_err());
}

/// A wait that a timer and a partner end at once: the one who claims it decides, and the wake of a partner that has is absorbed.
pub fn a_timer_meets_a_partner() {
    let (task, handle) = task(|| ());
    let wait = TimedWait::new(task);
    let claim = Arc::new(AtomicUsize::new(0));
    let firer = TimedWait::fires(&wait);
    let partner = {
        let (wait, claim) = (wait.clone(), claim.clone());
        thread::spawn(move || {
            let won = claim.compare_exchange(0, 1, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if won && wait.task.state().wake() {
                wait.push();
            }
            won
        })
    };
    let fired = wait.wait();
    let mut withdrawn = false;
    if task.state().take_abort_wake() {
        assert!(fired);
        withdrawn = claim.compare_exchange(0, 2, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !withdrawn {
            loop {
                wait.commit(true);
                if !task.state().take_abort_wake() {
                    break;
                }
            }
        }
    }
    firer.join().unwrap();
    assert_ne!(partner.join().unwrap(), withdrawn);
    // Nothing is left over: a further wait would really wait.
    assert_eq!(task.state().commit(Park::Wait, true), TransitionToParked::Parked);
    assert!(task.state().wake());
    run(task);
    handle.join().unwrap();
}

/// A wait that a bound, a canceller and a partner end at once is queued once; the partner's wake is still there if it did not do so.
pub fn a_trip_against_a_cancel_and_a_wake_leaves_one_to_absorb() {
    let state = Arc::new(State::new());
    let spawn = |f: fn(&State) -> bool| {
        let state = state.clone();
        thread::spawn(move || usize::from(f(&state)))
    };
    let others = [spawn(State::trip), spawn(State::cancel), spawn(State::wake)];
    let queued = commit(&state, Park::Wait, false);
    assert_eq!(queued + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>(), 1);
    assert!(state.is_bound_up() && state.is_cancelled());
    if state.take_abort_wake() {
        // A trip that came while the task was not parked may have it look once more.
        while commit(&state, Park::Wait, true) == 1 && state.take_abort_wake() {}
        assert!(!state.take_abort_wake(), "the partner's wake is gone");
    }
}

/// A shielded task is woken by a bound, which may lie inside what shields it, and not by a cancellation.
pub fn a_trip_wakes_a_shielded_task() {
    let state = Arc::new(State::new());
    let spawn = |f: fn(&State) -> bool| {
        let state = state.clone();
        thread::spawn(move || usize::from(f(&state)))
    };
    let others = [spawn(State::trip), spawn(State::cancel)];
    let queued = commit(&state, Park::Wait, true);
    assert_eq!(queued + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>(), 1);
    assert!(state.take_abort_wake());
}

/// Two bounds, one inside the other, are tripped while the inner one's frame ends: the outer's trip is not lost by that, neither bound
/// is touched after its frame, and nothing is left of either behind both.
pub fn a_trip_meets_the_end_of_an_inner_bound() {
    struct Registered(*const Bound);
    // SAFETY: whoever trips the bound holds the lock under which it is withdrawn.
    unsafe impl Send for Registered {}
    let (task, handle) = task(|| ());
    let registry = Arc::new([(); 2].map(|()| prim::sync::Mutex::new((Registered(std::ptr::null()), false))));
    let trippers: Vec<_> = (0..2)
        .map(|i| {
            let registry = registry.clone();
            thread::spawn(move || {
                let mut entry = registry[i].lock().unwrap();
                // SAFETY: registered, and withdrawn under this lock.
                if let Some(bound) = unsafe { entry.0.0.as_ref() } {
                    assert!(bound.trip(Cause::Time).is_none(), "the task is not parked");
                    entry.1 = true;
                }
            })
        })
        .collect();
    let arm = |i: usize| {
        let registry = registry.clone();
        move |bound: &Bound| registry[i].lock().unwrap().0 = Registered(bound)
    };
    let disarm = |i: usize| {
        let registry = registry.clone();
        move |_: &Bound| registry[i].lock().unwrap().0 = Registered(std::ptr::null())
    };
    let running = Running { task: Some(task), ..interrupt::current().unwrap() };
    let due = Due { moment: None, by_itself: false };
    let result = bounded(running, due, arm(0), disarm(0), || {
        let inner = bounded(running, due, arm(1), disarm(1), || ());
        assert!(inner.is_ok(), "nothing was raised");
        let tripped = registry[0].lock().unwrap().1;
        assert!(!tripped || task.state().is_bound_up(), "the outer bound's trip is lost");
    });
    assert!(result.is_ok(), "nothing was raised");
    assert!(!task.state().is_interrupted(), "it is still up");
    trippers.into_iter().for_each(|tripper| tripper.join().unwrap());
    run(task);
    handle.join().unwrap();
}
