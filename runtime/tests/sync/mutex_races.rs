//! Lost races for a `Mutex`, and what comes on top of them: leavers, a lock that is to be handed over, cancellations.
//!
//! On one processor a waiter that was woken tries only when the one that woke it lets it run: until then anybody may be faster. So
//! every race is lost for certain.

use std::sync::Arc;

use greenloom::JoinHandle;
use greenloom::sync::Mutex;
use test_support::run_on;
use test_support::waiting::{let_others_run, spawn_begun};

/// Waiters that say in which order they had the lock.
struct Queue {
    mutex: Arc<Mutex<Vec<usize>>>,
    tasks: Vec<Option<JoinHandle<()>>>,
}

impl Queue {
    /// So many, behind a guard that the caller has.
    fn behind(mutex: &Arc<Mutex<Vec<usize>>>, waiters: usize) -> Self {
        let mut queue = Self { mutex: mutex.clone(), tasks: Vec::new() };
        (0..waiters).for_each(|_| queue.come());
        queue
    }

    /// One more.
    fn come(&mut self) {
        let (mutex, number) = (self.mutex.clone(), self.tasks.len());
        self.tasks.push(Some(spawn_begun(move || mutex.lock().unwrap().push(number))));
    }

    /// It is cancelled, and gone before those run that were woken before.
    fn tell_to_leave(&mut self, number: usize) -> JoinHandle<()> {
        let task = self.tasks[number].take().unwrap();
        task.cancel();
        task
    }

    /// All that are left have had the lock, in this order.
    #[track_caller]
    fn assert_order(self, order: &[usize]) {
        self.tasks.into_iter().flatten().for_each(|task| task.join().unwrap());
        assert_eq!(*self.mutex.try_lock().unwrap(), order);
    }
}

#[test]
fn who_loses_a_race_stays_before_those_behind_it() {
    run_on(1, || {
        for losses in 1..8 {
            let mutex = Arc::new(Mutex::new(Vec::new()));
            let mut guard = mutex.lock().unwrap();
            let mut queue = Queue::behind(&mutex, 3);
            for _ in 0..losses {
                drop(guard);
                // Faster than the one that was woken; unless that was lost too often, and then behind all of them.
                guard = mutex.lock().unwrap();
                if !guard.is_empty() {
                    break;
                }
                let_others_run();
            }
            queue.come();
            drop(guard);
            queue.assert_order(&[0, 1, 2, 3]);
        }
    });
}

/// The lists of those who wait are changed at their heads while the head is away.
#[test]
fn who_loses_a_race_finds_its_place_though_others_have_left_meanwhile() {
    run_on(1, || {
        // Which of those behind leave, before the loser is back and after that.
        for (before, after) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            let mutex = Arc::new(Mutex::new(Vec::new()));
            let guard = mutex.lock().unwrap();
            let mut queue = Queue::behind(&mutex, 4);
            drop(guard);
            let guard = mutex.try_lock().unwrap();
            // Made ready last, the leaver runs before the one that was woken.
            let first_leaver = queue.tell_to_leave(before);
            let_others_run();
            let second_leaver = queue.tell_to_leave(after);
            let_others_run();
            queue.come();
            for leaver in [first_leaver, second_leaver] {
                assert!(leaver.join().unwrap_err().is_cancelled());
            }
            drop(guard);
            let left: Vec<_> = (0..5).filter(|number| ![before, after].contains(number)).collect();
            queue.assert_order(&left);
        }
    });
}

#[test]
fn the_only_waiter_loses_a_race_and_others_come_behind_it() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let guard = mutex.lock().unwrap();
        let mut queue = Queue::behind(&mutex, 1);
        drop(guard);
        let guard = mutex.lock().unwrap();
        let_others_run();
        queue.come();
        queue.come();
        drop(guard);
        queue.assert_order(&[0, 1, 2]);
    });
}

/// One that has lost so often that the lock is to be handed over to it, and leaves; or the one behind it does.
#[test]
fn a_lock_that_is_to_be_handed_over_is_so_whoever_leaves() {
    run_on(1, || {
        for leaver in [0, 1] {
            let mutex = Arc::new(Mutex::new(Vec::new()));
            let mut guard = mutex.lock().unwrap();
            let mut queue = Queue::behind(&mutex, 3);
            for _ in 0..4 {
                drop(guard);
                guard = mutex.try_lock().expect("nobody has asked for it yet");
                let_others_run();
            }
            let task = queue.tell_to_leave(leaver);
            assert!(task.join().unwrap_err().is_cancelled());
            drop(guard);
            // The first has it by now, if it is there; or else the second is only woken.
            assert_eq!(mutex.try_lock().is_ok(), leaver == 0);
            let left: Vec<_> = (0..3).filter(|number| *number != leaver).collect();
            queue.assert_order(&left);
            assert!(mutex.try_lock().is_ok());
        }
        // There is nobody else.
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let mut guard = mutex.lock().unwrap();
        let mut queue = Queue::behind(&mutex, 1);
        for _ in 0..4 {
            drop(guard);
            guard = mutex.try_lock().unwrap();
            let_others_run();
        }
        assert!(queue.tell_to_leave(0).join().unwrap_err().is_cancelled());
        drop(guard);
        assert!(mutex.try_lock().is_ok());
        queue.come();
        queue.assert_order(&[1]);
    });
}

/// Who has been woken is cancelled before it tries: the next is woken, and the lock is free in between.
#[test]
fn woken_ones_that_are_cancelled_one_after_the_other_pass_the_wake_to_the_last() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let guard = mutex.lock().unwrap();
        let mut queue = Queue::behind(&mutex, 4);
        drop(guard);
        // The first is on its way; each that is passed the wake is cancelled already.
        let leavers = [0, 1, 2].map(|number| queue.tell_to_leave(number));
        for leaver in leavers {
            assert!(leaver.join().unwrap_err().is_cancelled());
        }
        queue.assert_order(&[3]);
    });
}
