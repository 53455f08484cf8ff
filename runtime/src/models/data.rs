//! Protocols in which one party leaves something for another. If the two are not ordered, the model
//! fails, even if nobody is woken twice or too late.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::{Counted, task};
use crate::prim::Parker;
use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::raw::header::TaskPtr;
use crate::raw::state::{Park, State, TransitionByDrop, TransitionToComplete, TransitionToParked};
use crate::scheduler::inbox::{Inbox, Posted};
use crate::scheduler::processor::{NextSlot, Ready};

/// Stands for what one party does and another must see. An access that is not ordered after those
/// before it fails the model.
struct Data(UnsafeCell<u32>);

// SAFETY: loom reports accesses that are not ordered.
unsafe impl Sync for Data {}

impl Data {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn add(&self) {
        // SAFETY: loom reports accesses that are not ordered.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: loom reports accesses that are not ordered.
        self.0.with(|value| unsafe { *value })
    }
}

/// A task that suspends, and the party that ends the suspension. Each sees what the other did
/// before.
fn suspension_meets(park: Park, ends: fn(&State) -> bool) {
    struct Suspended {
        state: State,
        /// The task's: changed by the task, and by the party that has won it.
        frame: Data,
        /// Changed by the party that ends the wait.
        news: Data,
        queue: Parker,
    }
    let shared = Arc::new(Suspended { state: State::new(), frame: Data::new(), news: Data::new(), queue: Parker::new() });
    let other = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.news.add();
            if ends(&shared.state) {
                shared.frame.add();
                shared.queue.unpark();
            }
        })
    };
    shared.frame.add();
    if shared.state.commit(park, false) == TransitionToParked::Parked {
        shared.queue.park();
    }
    assert_eq!(shared.news.get(), 1);
    shared.frame.add();
    other.join().unwrap();
}

/// A wait and a wake.
pub fn a_wake_carries_what_was_done_before_it() {
    suspension_meets(Park::Wait, State::wake);
}

/// A `park` and its token.
pub fn a_token_carries_what_was_done_before_it() {
    suspension_meets(Park::Token, State::leave_token);
}

/// A wait and a cancellation.
pub fn a_cancellation_carries_what_was_done_before_it() {
    suspension_meets(Park::Wait, State::cancel);
}

/// A wait and its timer.
pub fn a_timer_carries_what_was_done_before_it() {
    suspension_meets(Park::Wait, State::time_up);
}

/// A wait and a cancel scope of its task.
pub fn a_cancelled_scope_carries_what_was_done_before_it() {
    suspension_meets(Park::Wait, State::cancel_scope);
}

/// One of two threads looks whether the other has done something. If so, it sees what the other did
/// before.
fn look_meets(done: fn(&State), sees: fn(&State) -> bool) {
    let shared = Arc::new((State::new(), Data::new()));
    let looks = {
        let shared = shared.clone();
        thread::spawn(move || {
            if sees(&shared.0) {
                assert_eq!(shared.1.get(), 1);
            }
        })
    };
    let does = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.1.add();
            done(&shared.0);
        })
    };
    looks.join().unwrap();
    does.join().unwrap();
}

/// A token that is taken without a wait.
pub fn a_token_that_was_there_carries_what_was_done_before_it() {
    look_meets(|state| _ = state.leave_token(), State::take_token);
}

/// A party that finds the task complete may read its result: by a look, as a joiner, or as one that
/// does not want it.
pub fn a_completion_carries_the_result_to_who_looks() {
    look_meets(|state| _ = state.complete(true), State::is_complete);
}

pub fn a_completion_carries_the_result_to_a_joiner() {
    look_meets(|state| _ = state.complete(true), |state| !state.register_joiner());
}

pub fn a_completion_carries_the_result_to_who_detaches() {
    look_meets(|state| _ = state.complete(true), |state| !state.detach());
}

/// The party that frees the task does so after all that others did with it.
pub fn the_last_reference_goes_behind_all_uses() {
    let shared = Arc::new((State::new(), Data::new(), AtomicUsize::new(0)));
    shared.0.add_ref();
    let drop_one = |shared: &(State, Data, AtomicUsize)| {
        shared.1.get();
        if shared.0.drop_ref() == TransitionByDrop::Free {
            shared.1.add();
            shared.2.fetch_add(1, Ordering::Relaxed);
        }
    };
    let others = [(); 2].map(|()| {
        let shared = shared.clone();
        thread::spawn(move || drop_one(&shared))
    });
    drop_one(&shared);
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(shared.2.load(Ordering::Relaxed), 1);
}

/// The same if the task itself has the last reference.
pub fn a_task_that_frees_itself_does_so_behind_all_uses() {
    let shared = Arc::new((State::new(), Data::new(), AtomicUsize::new(0)));
    assert!(shared.0.detach());
    shared.0.add_ref();
    let free = |shared: &(State, Data, AtomicUsize)| {
        shared.1.add();
        shared.2.fetch_add(1, Ordering::Relaxed);
    };
    let other = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.1.get();
            if shared.0.drop_ref() == TransitionByDrop::Free {
                free(&shared);
            }
        })
    };
    shared.1.get();
    if shared.0.complete(true) == TransitionToComplete::Free {
        free(&shared);
    }
    other.join().unwrap();
    assert_eq!(shared.2.load(Ordering::Relaxed), 1);
}

/// The monitor may take a fresh task out as soon as it is put into an empty slot, or into one from
/// which a task was taken.
pub fn the_next_slot_carries_what_was_done_before() {
    let shared = Arc::new((NextSlot::new(), [Data::new(), Data::new()]));
    let (drops, tasks) = (Arc::new(AtomicUsize::new(0)), [(); 2]);
    let tasks = tasks.map(|()| {
        let counted = Counted(drops.clone());
        task(move || drop(counted))
    });
    let index_of = {
        let first = tasks[0].0.as_ptr().addr();
        move |task: TaskPtr| usize::from(task.as_ptr().addr() != first)
    };
    let monitor = {
        let shared = shared.clone();
        thread::spawn(move || {
            let Some(task) = shared.0.rescue() else { return 0 };
            shared.1[index_of(task)].add();
            super::run(task);
            1
        })
    };
    let mut ours = 0;
    for (i, (task, _)) in tasks.iter().enumerate() {
        shared.1[i].add();
        assert!(shared.0.put(Ready { task: *task, bound: false }).is_none());
        if let Some(ready) = shared.0.take() {
            shared.1[i].add();
            super::run(ready.task);
            ours += 1;
        }
    }
    assert_eq!(ours + monitor.join().unwrap(), 2);
    tasks.into_iter().for_each(|(_, handle)| handle.join().unwrap());
}

/// A task that is bound to the machine stays in its slot, even if the monitor asks.
pub fn the_next_slot_keeps_what_is_bound() {
    let shared = Arc::new((NextSlot::new(), Data::new()));
    let (task, handle) = task(|| 7);
    let monitor = {
        let shared = shared.clone();
        thread::spawn(move || assert!(shared.0.rescue().is_none()))
    };
    assert!(shared.0.put(Ready { task, bound: true }).is_none());
    let ready = shared.0.take().expect("it stays");
    assert!(ready.bound && ready.task == task);
    super::run(task);
    monitor.join().unwrap();
    assert_eq!(handle.join().unwrap(), 7);
}

fn post(inbox: &Inbox, parker: &Parker, task: usize) -> Posted {
    // SAFETY: the task is in no queue, and is given up here.
    let posted = unsafe { inbox.post(TaskPtr::from_raw(std::ptr::with_exposed_provenance_mut(task))) };
    if posted == Posted::WonSleeper {
        parker.unpark();
    }
    posted
}

/// Mail carries what its sender did. The party that wins a sleeper sees what the sleeper did
/// before.
pub fn mail_and_sleep_carry_what_was_done_before() {
    let shared = Arc::new((Inbox::new(), Parker::new(), Data::new(), Data::new()));
    let (task, handle) = task(|| ());
    let task_at = task.as_ptr().expose_provenance();
    let poster = {
        let shared = shared.clone();
        thread::spawn(move || {
            shared.2.add();
            // SAFETY: the task is in no queue, and is given up here.
            let posted = unsafe { shared.0.post(TaskPtr::from_raw(std::ptr::with_exposed_provenance_mut(task_at))) };
            if posted == Posted::WonSleeper {
                shared.3.add();
                shared.1.unpark();
            }
        })
    };
    shared.3.add();
    while let None = shared.0.take().next() {
        if shared.0.fall_asleep() {
            shared.1.park();
        }
    }
    assert_eq!(shared.2.get(), 1);
    shared.3.add();
    super::run(task);
    poster.join().unwrap();
    handle.join().unwrap();
}

/// One of two parties wins a sleeper, and sees what the sleeper did before.
pub fn a_sleeper_is_won_once() {
    let shared = Arc::new((Inbox::new(), Parker::new(), Data::new(), AtomicUsize::new(0)));
    shared.2.add();
    assert!(shared.0.fall_asleep());
    let others = [(); 2].map(|()| {
        let shared = shared.clone();
        thread::spawn(move || {
            if shared.0.win_sleeper() {
                shared.2.add();
                shared.3.fetch_add(1, Ordering::Relaxed);
                shared.1.unpark();
            }
        })
    });
    shared.1.park();
    shared.2.add();
    others.into_iter().for_each(|other| other.join().unwrap());
    assert_eq!(shared.3.load(Ordering::Relaxed), 1);
}

/// The monitor takes the mail of a machine that it believed stuck, and leaves it there again, while
/// the machine falls asleep.
pub fn mail_that_the_monitor_has_looked_at_wakes_its_machine() {
    let shared = Arc::new((Inbox::new(), Parker::new()));
    let (task, handle) = task(|| 7);
    let task_at = task.as_ptr().expose_provenance();
    let poster = {
        let shared = shared.clone();
        thread::spawn(move || _ = post(&shared.0, &shared.1, task_at))
    };
    let monitor = {
        let shared = shared.clone();
        thread::spawn(move || {
            for task in shared.0.take() {
                let _ = post(&shared.0, &shared.1, task.as_ptr().expose_provenance());
            }
        })
    };
    loop {
        if let Some(task) = shared.0.take().next() {
            super::run(task);
            break;
        }
        if shared.0.fall_asleep() {
            shared.1.park();
        }
    }
    poster.join().unwrap();
    monitor.join().unwrap();
    assert_eq!(handle.join().unwrap(), 7);
}

/// Mail for a machine that ends is refused, or keeps it from ending.
pub fn mail_meets_the_end_of_its_machine() {
    let shared = Arc::new((Inbox::new(), Parker::new()));
    let (task, handle) = task(|| 7);
    let task_at = task.as_ptr().expose_provenance();
    let poster = {
        let shared = shared.clone();
        thread::spawn(move || post(&shared.0, &shared.1, task_at) == Posted::Refused)
    };
    let closed = shared.0.close();
    let refused = poster.join().unwrap();
    assert_eq!(closed, refused);
    let mail: Vec<TaskPtr> = shared.0.take().collect();
    assert_eq!(mail.len(), usize::from(!refused));
    super::run(task);
    assert_eq!(handle.join().unwrap(), 7);
}
