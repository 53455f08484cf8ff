//! `Condvar`: std's shape and promises, among tasks, threads and both; and a notification is not lost on a cancelled waiter.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use greenloom::sync::{Condvar, Mutex};
use test_support::everywhere::{breathe, everywhere, go, join_all, ms, takes_at_least};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};
use test_support::{run_on, yield_until};

const LONG: Duration = Duration::from_secs(60);

/// A queue that its takers wait for.
#[derive(Default)]
struct Queue {
    items: Mutex<VecDeque<u32>>,
    filled: Condvar,
    emptied: Condvar,
    taken: AtomicUsize,
}

impl Queue {
    fn put(&self, item: u32, room: usize) {
        let mut items = self.emptied.wait_while(self.items.lock().unwrap(), |items| items.len() == room).unwrap();
        items.push_back(item);
        self.filled.notify_one();
    }

    fn take(&self) -> u32 {
        let mut items = self.items.lock().unwrap();
        loop {
            if let Some(item) = items.pop_front() {
                self.taken.fetch_add(1, SeqCst);
                self.emptied.notify_one();
                return item;
            }
            items = self.filled.wait(items).unwrap();
        }
    }
}

// Waiting and notifying.

/// One notification to an item, and one to a place: if one were lost, someone would wait for ever.
#[test]
fn no_notification_is_lost() {
    everywhere(|| {
        for room in [1, 3] {
            let queue = Arc::new(Queue::default());
            let producers: Vec<_> = (0..4)
                .map(|producer| {
                    let queue = queue.clone();
                    go(move || (0..60).for_each(|i| queue.put(producer * 60 + i, room)))
                })
                .collect();
            let consumers: Vec<_> = (0..3)
                .map(|_| {
                    let queue = queue.clone();
                    go(move || (0..80).map(|_| queue.take()).collect::<Vec<_>>())
                })
                .collect();
            join_all(producers);
            let mut all: Vec<_> = join_all(consumers).concat();
            all.sort_unstable();
            assert_eq!(all, (0..240).collect::<Vec<_>>());
        }
    });
}

#[test]
fn a_waiter_gives_the_lock_up_and_has_it_back_afterwards() {
    everywhere(|| {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let waiter = {
            let pair = pair.clone();
            go(move || {
                let mut guard = pair.0.lock().unwrap();
                *guard = 1;
                while *guard == 1 {
                    guard = pair.1.wait(guard).unwrap();
                }
                assert!(pair.0.try_lock().is_err(), "does not hold the lock");
                *guard
            })
        };
        // The waiter holds the lock from 1 on until it waits.
        yield_until(|| *pair.0.lock().unwrap() == 1);
        *pair.0.lock().unwrap() = 2;
        pair.1.notify_one();
        assert_eq!(waiter.join(), 2);
    });
}

#[test]
fn notify_all_wakes_everyone() {
    everywhere(|| {
        let gate = Arc::new((Mutex::new((0, false)), Condvar::new()));
        let waiters: Vec<_> = (0..10)
            .map(|_| {
                let gate = gate.clone();
                go(move || {
                    let mut guard = gate.0.lock().unwrap();
                    guard.0 += 1;
                    drop(gate.1.wait_while(guard, |(_, open)| !*open).unwrap());
                })
            })
            .collect();
        // Whoever has counted gives the lock up by waiting.
        yield_until(|| gate.0.lock().unwrap().0 == 10);
        gate.0.lock().unwrap().1 = true;
        gate.1.notify_all();
        join_all(waiters);
    });
}

#[test]
fn notify_one_wakes_one_at_a_time() {
    run_on(1, || {
        let (pair, woken) = (Arc::new((Mutex::new(()), Condvar::new())), Arc::new(AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                let (pair, woken) = (pair.clone(), woken.clone());
                spawn_begun(move || {
                    drop(pair.1.wait(pair.0.lock().unwrap()).unwrap());
                    woken.fetch_add(1, SeqCst);
                })
            })
            .collect();
        for n in 0..5 {
            let_others_run();
            assert_eq!(woken.load(SeqCst), n);
            pair.1.notify_one();
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn a_notification_that_nobody_waits_for_is_not_kept() {
    everywhere(|| {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        condvar.notify_one();
        condvar.notify_all();
        takes_at_least(ms(5), || {
            let (_guard, result) = condvar.wait_timeout_while(mutex.lock().unwrap(), ms(5), |()| true).unwrap();
            assert!(result.timed_out());
        });
    });
}

#[test]
fn one_condvar_serves_tasks_and_threads_together() {
    run_on(2, || {
        let gate = Arc::new((Mutex::new((0, false)), Condvar::new()));
        let wait = |gate: &(Mutex<(u32, bool)>, Condvar)| {
            let mut guard = gate.0.lock().unwrap();
            guard.0 += 1;
            drop(gate.1.wait_while(guard, |(_, open)| !*open).unwrap());
        };
        let tasks = [0, 1, 2].map(|_| {
            let gate = gate.clone();
            greenloom::spawn(move || wait(&gate))
        });
        let threads = [0, 1, 2].map(|_| {
            let gate = gate.clone();
            std::thread::spawn(move || wait(&gate))
        });
        yield_until(|| gate.0.lock().unwrap().0 == 6);
        gate.0.lock().unwrap().1 = true;
        gate.1.notify_all();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        for thread in threads {
            yield_until(|| thread.is_finished());
            thread.join().unwrap();
        }
    });
}

// With a condition, and with a limit.

#[test]
fn wait_while_does_not_wait_for_what_is_so_already() {
    everywhere(|| {
        let (mutex, condvar) = (Mutex::new(3), Condvar::new());
        let mut asked = 0;
        let guard = condvar
            .wait_while(mutex.lock().unwrap(), |value| {
                asked += 1;
                *value != 3
            })
            .unwrap();
        assert_eq!((*guard, asked), (3, 1));
        let (guard, result) = condvar.wait_timeout_while(guard, Duration::ZERO, |value| *value != 3).unwrap();
        assert!(!result.timed_out());
        drop(guard);
    });
}

#[test]
fn a_wait_with_a_limit_takes_it_and_says_so() {
    everywhere(|| {
        let (mutex, condvar) = (Mutex::new(0), Condvar::new());
        takes_at_least(ms(5), || {
            let (guard, result) = condvar.wait_timeout_while(mutex.lock().unwrap(), ms(5), |value| *value == 0).unwrap();
            assert!(result.timed_out());
            assert!(mutex.try_lock().is_err(), "does not hold the lock");
            drop(guard);
        });
        // Without a condition it may come back early, but then says nothing of time.
        let mut limit = false;
        while !limit {
            let (_guard, result) = condvar.wait_timeout(mutex.lock().unwrap(), ms(1)).unwrap();
            limit = result.timed_out();
        }
        assert!(mutex.try_lock().is_ok());
    });
}

#[test]
fn a_wait_with_a_limit_may_be_notified_before() {
    everywhere(|| {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let waiter = {
            let pair = pair.clone();
            go(move || {
                let guard = pair.0.lock().unwrap();
                let (guard, result) = pair.1.wait_timeout_while(guard, LONG, |ready| !*ready).unwrap();
                *guard && !result.timed_out()
            })
        };
        breathe();
        *pair.0.lock().unwrap() = true;
        pair.1.notify_one();
        assert!(waiter.join());
    });
}

/// Limits and notifications at one moment: every item is taken, by someone who was notified or whose limit had come.
/// The limit is one of the wait for a notification, not for the lock.
#[test]
fn a_notified_wait_whose_limit_is_over_when_it_has_the_lock_again_has_been_notified() {
    run_on(1, || {
        let limit = ms(30);
        // Until the notification has come in time, on whatever machine this is.
        loop {
            let shared = Arc::new((Mutex::new(()), Condvar::new()));
            let begun = Instant::now();
            let waiter = spawn_begun({
                let shared = shared.clone();
                move || shared.1.wait_timeout(shared.0.lock().unwrap(), limit).unwrap().1.timed_out()
            });
            let guard = shared.0.lock().unwrap();
            shared.1.notify_one();
            let in_time = begun.elapsed() < limit / 2;
            greenloom::sleep(2 * limit);
            drop(guard);
            let timed_out = waiter.join().unwrap();
            if in_time {
                assert!(!timed_out);
                return;
            }
        }
    });
}

/// Notifications that do not make the condition true do not prolong it.
#[test]
fn the_limit_of_a_condition_is_one_for_all_its_waits() {
    run_on(1, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let begun = Instant::now();
        let waiter = spawn_begun({
            let shared = shared.clone();
            move || shared.1.wait_timeout_while(shared.0.lock().unwrap(), ms(40), |ready| !*ready).unwrap().1.timed_out()
        });
        while !waiter.is_finished() {
            shared.1.notify_one();
            greenloom::sleep(ms(1));
            assert!(begun.elapsed() < LONG, "each notification begins it anew");
        }
        assert!(waiter.join().unwrap());
    });
}

#[test]
fn limits_lose_no_notification() {
    everywhere(|| {
        let queue = Arc::new(Queue::default());
        let impatient: Vec<_> = (0..3)
            .map(|_| {
                let queue = queue.clone();
                go(move || {
                    let mut taken = 0;
                    let mut items = queue.items.lock().unwrap();
                    loop {
                        match items.pop_front() {
                            Some(u32::MAX) => return taken,
                            Some(_) => taken += 1,
                            None => items = queue.filled.wait_timeout(items, Duration::from_micros(200)).unwrap().0,
                        }
                    }
                })
            })
            .collect();
        for i in 0..50 {
            breathe();
            queue.items.lock().unwrap().push_back(i);
            queue.filled.notify_one();
        }
        queue.items.lock().unwrap().extend([u32::MAX; 3]);
        queue.filled.notify_all();
        assert_eq!(join_all(impatient).into_iter().sum::<u32>(), 50);
    });
}

// Poisoning and cancellation.

#[test]
fn a_waiter_learns_that_the_lock_was_poisoned() {
    everywhere(|| {
        let pair = Arc::new((Mutex::new(false), Condvar::new()));
        let waiter = {
            let pair = pair.clone();
            go(move || match pair.1.wait_while(pair.0.lock().unwrap(), |ready| !*ready) {
                Ok(_) => panic!("not told"),
                Err(error) => *error.into_inner(),
            })
        };
        breathe();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut guard = pair.0.lock().unwrap();
            *guard = true;
            panic!("in the section");
        }));
        assert!(result.is_err());
        pair.1.notify_all();
        // A waiter that came late finds the lock poisoned before it waits; that is the same to it.
        assert!(catch_unwind(AssertUnwindSafe(|| waiter.join())).unwrap_or(true));
    });
}

#[test]
fn a_cancelled_waiter_leaves_and_does_not_poison() {
    in_tasks(|| {
        let pair = Arc::new((Mutex::new(0), Condvar::new()));
        let wait = |pair: Arc<(Mutex<i32>, Condvar)>| {
            move || {
                let mut guard = pair.0.lock().unwrap();
                while *guard == 0 {
                    guard = pair.1.wait(guard).unwrap();
                }
                *guard -= 1;
            }
        };
        let [first, second, third] = [0, 1, 2].map(|_| spawn_begun(wait(pair.clone())));
        cancel_and_join(second);
        for waiter in [first, third] {
            *pair.0.lock().unwrap() += 1;
            // Wakes either: it is as good as the other.
            pair.1.notify_all();
            let_others_run();
            drop(waiter);
        }
        yield_until(|| *pair.0.lock().unwrap() == 0);
        assert!(!pair.0.is_poisoned());
    });
}

/// The first of two waiters is cancelled around the time of the only notification. An item does not lie there while someone waits.
fn notify_and_cancel(order: fn(&Queue, &dyn Fn())) {
    in_tasks_with(order, |order| {
        for _ in 0..100 {
            let queue = Arc::new(Queue::default());
            let [first, second] = [0, 1].map(|_| {
                let queue = queue.clone();
                spawn_begun(move || queue.take())
            });
            // So that both wait, also on two processors.
            let_others_run();
            order(&queue, &|| first.cancel());
            let _ = first.join();
            if queue.taken.load(SeqCst) == 1 && !second.is_finished() && queue.items.lock().unwrap().is_empty() {
                // The first took it before it ended: the second waits for one of its own.
                queue.put(2, usize::MAX);
            }
            assert!([1, 2].contains(&second.join().unwrap()));
            assert!(!queue.items.is_poisoned());
        }
    });
}

fn in_tasks_with<A: Copy + Send + 'static>(argument: A, case: fn(A)) {
    for processors in [1, 2] {
        run_on(processors, move || case(argument));
    }
}

#[test]
fn a_waiter_cancelled_after_its_notification_does_not_take_it_along() {
    notify_and_cancel(|queue, cancel| {
        queue.put(1, usize::MAX);
        cancel();
    });
}

#[test]
fn a_waiter_cancelled_before_the_notification_does_not_take_it_along() {
    notify_and_cancel(|queue, cancel| {
        cancel();
        queue.put(1, usize::MAX);
    });
}

#[test]
fn a_waiter_cancelled_while_it_waits_for_the_lock_again_does_not_take_the_notification_along() {
    notify_and_cancel(|queue, cancel| {
        let mut items = queue.items.lock().unwrap();
        items.push_back(1);
        queue.filled.notify_one();
        let_others_run();
        cancel();
        let_others_run();
        drop(items);
    });
}

#[test]
fn a_waiter_cancelled_by_who_holds_the_lock_waits_no_more() {
    in_tasks(|| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let waiter = spawn_begun({
            let pair = pair.clone();
            move || {
                let _guard = pair.1.wait_while(pair.0.lock().unwrap(), |()| true);
            }
        });
        let_others_run();
        let guard = pair.0.lock().unwrap();
        waiter.cancel();
        let_others_run();
        drop(guard);
        assert!(waiter.join().unwrap_err().is_cancelled());
        assert!(pair.0.try_lock().is_ok());
    });
}

// The rest of std's shape.

static READY: (Mutex<bool>, Condvar) = (Mutex::new(false), Condvar::new());

#[test]
fn a_condvar_can_be_a_static() {
    everywhere(|| {
        *READY.0.lock().unwrap() = false;
        let waiter = go(|| *READY.1.wait_while(READY.0.lock().unwrap(), |ready| !*ready).unwrap());
        *READY.0.lock().unwrap() = true;
        READY.1.notify_all();
        assert!(waiter.join());
    });
}

#[test]
fn it_can_be_shown_and_made_from_nothing() {
    assert!(format!("{:?}", Condvar::default()).starts_with("Condvar"));
}
