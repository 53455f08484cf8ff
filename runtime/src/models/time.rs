//! Timers, and cancel scopes that are cancelled.

use std::time::Instant;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::models::states::commit;
use crate::models::{run, task};
use crate::prim::{self, Parker};
use crate::raw::cancel_scope::{CancelScope, Cause, Due};
use crate::raw::header::TaskPtr;
use crate::raw::state::{Park, State, TransitionToParked};
use crate::scheduler::timers::{Aim, Timer, Timers};
use crate::unwind::in_cancel_scope;
use crate::unwind::{self, Running};

/// A task's wait with a timer that is due, on a thread of the model instead of a stack.
struct TimedWait {
    task: TaskPtr,
    /// Taken before the wheel was made, so due in any case.
    deadline: Instant,
    timers: Timers,
    /// Where the thread waits to be queued.
    queue: Parker,
    queued: AtomicUsize,
}

// SAFETY: header rule 1: the state word is anyone's; the model keeps the task to its end.
unsafe impl Send for TimedWait {}
// SAFETY: header rule 1: the state word is anyone's; the model keeps the task to its end.
unsafe impl Sync for TimedWait {}

impl TimedWait {
    fn new(task: TaskPtr) -> Arc<Self> {
        Arc::new(Self { task, deadline: prim::now(), timers: Timers::new(), queue: Parker::new(), queued: AtomicUsize::new(0) })
    }

    /// Queues the task, which was won.
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
        // SAFETY: the timer is new, and is taken back below.
        unsafe { self.timers.set(&timer, Aim::Wake(self.task), self.deadline) };
        self.commit(false);
        let fired = self.timers.take_back(&timer);
        self.task.state().forget_time();
        fired
    }

    /// Another thread fires the timer, if it is set by then.
    fn fires(wait: &Arc<Self>) -> thread::JoinHandle<()> {
        let wait = wait.clone();
        thread::spawn(move || _ = wait.timers.fire(|_| wait.push()))
    }
}

/// A timer and a cancellation end a wait at once. The task is queued once, and the timer is not
/// touched after it was taken back.
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

/// A timer and a partner end a wait at once. The one that claims the wait decides. If the partner
/// has claimed it, its wake is absorbed.
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

/// A cancel scope, a canceller and a partner end a wait at once. The task is queued once. If the
/// partner did not queue it, the partner's wake is still there.
pub fn a_scope_a_cancel_and_a_wake_leave_one_wake_to_consume() {
    let state = Arc::new(State::new());
    let spawn = |f: fn(&State) -> bool| {
        let state = state.clone();
        thread::spawn(move || usize::from(f(&state)))
    };
    let others = [spawn(State::cancel_scope), spawn(State::cancel), spawn(State::wake)];
    let queued = commit(&state, Park::Wait, false);
    assert_eq!(queued + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>(), 1);
    assert!(state.is_scope_cancelled() && state.is_cancelled());
    if state.take_abort_wake() {
        // A cancellation that came while the task was not parked may make it look once more.
        while commit(&state, Park::Wait, true) == 1 && state.take_abort_wake() {}
        assert!(!state.take_abort_wake(), "the partner's wake is gone");
    }
}

/// A shielded task is woken by a cancel scope, which may lie inside the shield, but not by a
/// cancellation.
pub fn a_cancelled_scope_wakes_a_shielded_task() {
    let state = Arc::new(State::new());
    let spawn = |f: fn(&State) -> bool| {
        let state = state.clone();
        thread::spawn(move || usize::from(f(&state)))
    };
    let others = [spawn(State::cancel_scope), spawn(State::cancel)];
    let queued = commit(&state, Park::Wait, true);
    assert_eq!(queued + others.into_iter().map(|other| other.join().unwrap()).sum::<usize>(), 1);
    assert!(state.take_abort_wake());
}

/// Two cancel scopes, one inside the other, are cancelled while the inner one's frame ends. The
/// outer one's cancellation is not lost, neither scope is touched after its frame, and nothing of
/// either is left after both.
pub fn a_cancelled_scope_meets_the_end_of_an_inner_one() {
    struct Registered(*const CancelScope);
    // SAFETY: a canceller holds the lock under which the scope is withdrawn.
    unsafe impl Send for Registered {}
    let (task, handle) = task(|| ());
    let registry = Arc::new([(); 2].map(|()| prim::sync::Mutex::new((Registered(std::ptr::null()), false))));
    let cancellers: Vec<_> = (0..2)
        .map(|i| {
            let registry = registry.clone();
            thread::spawn(move || {
                let mut entry = registry[i].lock().unwrap();
                // SAFETY: the scope is registered, and is withdrawn under this lock.
                if let Some(scope) = unsafe { entry.0.0.as_ref() } {
                    assert!(scope.cancel(Cause::Time).is_none(), "the task is not parked");
                    entry.1 = true;
                }
            })
        })
        .collect();
    let arm = |i: usize| {
        let registry = registry.clone();
        move |scope: &CancelScope| registry[i].lock().unwrap().0 = Registered(scope)
    };
    let disarm = |i: usize| {
        let registry = registry.clone();
        move |_: &CancelScope| registry[i].lock().unwrap().0 = Registered(std::ptr::null())
    };
    let running = Running { task: Some(task), ..unwind::running().unwrap() };
    let due = Due { moment: None, by_itself: false };
    let result = in_cancel_scope(running, due, arm(0), disarm(0), || {
        let inner = in_cancel_scope(running, due, arm(1), disarm(1), || ());
        assert!(inner.result.is_ok(), "nothing was raised");
        let cancelled = registry[0].lock().unwrap().1;
        assert!(!cancelled || task.state().is_scope_cancelled(), "the outer scope's trip is lost");
    });
    assert!(result.result.is_ok(), "nothing was raised");
    assert!(!task.state().is_interrupted(), "it is still up");
    cancellers.into_iter().for_each(|canceller| canceller.join().unwrap());
    run(task);
    handle.join().unwrap();
}
