//! A task's state word, and those who wake, cancel and join the task.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::models::{Counted, run, task};
use crate::raw::state::{Park, State, TransitionToParked};

/// Commits a suspension. Returns 1 if the task has to be queued again, otherwise 0.
pub(super) fn commit(state: &State, park: Park, shielded: bool) -> usize {
    usize::from(state.commit(park, shielded) == TransitionToParked::Requeue)
}

/// A task is queued by its partner's wake, or was never parked: once in any case.
pub fn a_wake_is_neither_lost_nor_doubled() {
    let state = Arc::new(State::new());
    let waker = {
        let state = state.clone();
        thread::spawn(move || usize::from(state.wake()))
    };
    let queued = commit(&state, Park::Wait, false);
    assert_eq!(queued + waker.join().unwrap(), 1);
}

/// The same for a token. Of two tokens, one wakes the task, and at most the other stays.
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

/// A wait that both a partner and a canceller end is queued once. If the cancellation did it, the
/// partner's wake is still there to be absorbed; otherwise nothing is left.
pub fn cancel_against_wake_leaves_one_wake_to_consume() {
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

/// A thread that joins gets the result, whether it comes before or after the end. The task is freed
/// once (loom reports a leak).
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

/// A handle is dropped while the task ends. One of the two drops the result.
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

/// A joiner withdraws while the task ends. Either it is withdrawn, or the wake comes.
pub fn a_withdrawn_joiner_is_not_woken() {
    let state = Arc::new(State::new());
    assert!(state.register_joiner());
    let ends = {
        let state = state.clone();
        thread::spawn(move || state.complete(false) == crate::raw::state::TransitionToComplete::WakeJoiner)
    };
    let withdrawn = state.withdraw_joiner();
    assert_ne!(withdrawn, ends.join().unwrap());
}
