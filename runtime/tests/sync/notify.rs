//! `Notify`: tokio's promises, blocking, among tasks, threads and both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use greenloom::sync::Notify;
use greenloom::yield_now;
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::run_on;
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};

#[test]
fn a_waiter_is_woken() {
    everywhere(|| {
        let notify = Arc::new(Notify::new());
        let waiter = {
            let notify = notify.clone();
            go(move || notify.notified())
        };
        breathe();
        assert!(!waiter.is_finished());
        notify.notify_one();
        waiter.join();
    });
}

#[test]
fn one_notification_is_kept_for_who_comes_later_and_no_second() {
    everywhere(|| {
        let notify = Arc::new(Notify::new());
        notify.notify_one();
        notify.notify_one();
        notify.notified();
        let waiter = {
            let notify = notify.clone();
            go(move || notify.notified())
        };
        breathe();
        assert!(!waiter.is_finished(), "two were kept");
        notify.notify_one();
        waiter.join();
    });
}

#[test]
fn notify_one_wakes_the_one_that_has_waited_longest() {
    run_on(1, || {
        let notify = Arc::new(Notify::new());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..5)
            .map(|i| {
                let (notify, order) = (notify.clone(), order.clone());
                spawn_begun(move || {
                    notify.notified();
                    order.lock().unwrap().push(i);
                })
            })
            .collect();
        for n in 0..5 {
            assert_eq!(*order.lock().unwrap(), (0..n).collect::<Vec<_>>());
            notify.notify_one();
            let_others_run();
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

#[test]
fn notify_last_wakes_the_one_that_came_last() {
    run_on(1, || {
        let notify = Arc::new(Notify::new());
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let waiters = [0, 1, 2, 3].map(|i| {
            let (notify, order) = (notify.clone(), order.clone());
            spawn_begun(move || {
                notify.notified();
                order.lock().unwrap().push(i);
            })
        });
        let notify_in_turn = [Notify::notify_last, Notify::notify_one, Notify::notify_last, Notify::notify_last];
        for notify_next in notify_in_turn {
            notify_next(&notify);
            let_others_run();
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(*order.lock().unwrap(), [3, 0, 2, 1]);
        // Nobody waits: one is kept, whoever it was for.
        notify.notify_last();
        notify.notify_one();
        notify.notified();
        let late = spawn_begun({
            let notify = notify.clone();
            move || notify.notified()
        });
        let_others_run();
        assert!(!late.is_finished(), "two were kept");
        notify.notify_last();
        late.join().unwrap();
    });
}

#[test]
fn notify_last_wakes_threads_and_tasks() {
    everywhere(|| {
        let notify = Arc::new(Notify::new());
        let waiter = {
            let notify = notify.clone();
            go(move || notify.notified())
        };
        breathe();
        notify.notify_last();
        waiter.join();
    });
}

#[test]
fn notifications_to_those_who_wait_are_not_merged() {
    run_on(1, || {
        let notify = Arc::new(Notify::new());
        let waiters = [0, 1, 2].map(|_| {
            let notify = notify.clone();
            spawn_begun(move || notify.notified())
        });
        (0..3).for_each(|_| notify.notify_one());
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        let late = spawn_begun(move || notify.notified());
        let_others_run();
        assert!(!late.is_finished(), "all three were used up");
    });
}

#[test]
fn notify_waiters_wakes_those_who_wait_and_keeps_nothing() {
    run_on(1, || {
        let notify = Arc::new(Notify::new());
        let wait = || {
            let notify = notify.clone();
            spawn_begun(move || notify.notified())
        };
        let waiters = [0, 1, 2, 3].map(|_| wait());
        notify.notify_waiters();
        let late = wait();
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        let_others_run();
        assert!(!late.is_finished(), "it came after the notification");
        notify.notify_one();
        late.join().unwrap();
    });
    everywhere(|| {
        let notify = Arc::new(Notify::new());
        notify.notify_waiters();
        let waiter = {
            let notify = notify.clone();
            go(move || notify.notified())
        };
        breathe();
        assert!(!waiter.is_finished(), "nobody waited");
        notify.notify_one();
        waiter.join();
    });
}

#[test]
fn notify_waiters_leaves_a_kept_notification_alone() {
    everywhere(|| {
        let notify = Notify::new();
        notify.notify_one();
        notify.notify_waiters();
        notify.notified();
    });
}

#[test]
fn a_woken_waiter_does_not_use_a_kept_notification_up() {
    run_on(1, || {
        let notify = Arc::new(Notify::new());
        let waiter = spawn_begun({
            let notify = notify.clone();
            move || notify.notified()
        });
        notify.notify_waiters();
        notify.notify_one();
        waiter.join().unwrap();
        notify.notified();
    });
}

#[test]
fn a_crowd_is_woken_wherever_it_waits() {
    everywhere(|| {
        let (notify, woken) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..8)
            .map(|_| {
                let (notify, woken) = (notify.clone(), woken.clone());
                go(move || {
                    notify.notified();
                    woken.fetch_add(1, SeqCst);
                })
            })
            .collect();
        while woken.load(SeqCst) < 8 {
            notify.notify_waiters();
            yield_now();
        }
        join_all(waiters);
    });
}

/// A flag, and a notification after each change: the way it is meant to be used. If one were lost the two would stop.
#[test]
fn two_parties_notify_each_other_without_end() {
    everywhere(|| {
        let shared = Arc::new((AtomicUsize::new(0), [Notify::new(), Notify::new()]));
        let parties = [0, 1].map(|me| {
            let shared = shared.clone();
            go(move || {
                let (turn, notify) = &*shared;
                for round in 0..200 {
                    while turn.load(SeqCst) != 2 * round + me {
                        notify[me].notified();
                    }
                    turn.fetch_add(1, SeqCst);
                    notify[1 - me].notify_one();
                }
            })
        });
        join_all(parties);
        assert_eq!(shared.0.load(SeqCst), 400);
    });
}

// Cancellation.

#[test]
fn a_cancelled_waiter_leaves_the_queue() {
    in_tasks(|| {
        for leaves in 0..3 {
            let notify = Arc::new(Notify::new());
            let mut waiters: Vec<_> = (0..3)
                .map(|_| {
                    let notify = notify.clone();
                    spawn_begun(move || notify.notified())
                })
                .collect();
            cancel_and_join(waiters.remove(leaves));
            let_others_run();
            notify.notify_one();
            let_others_run();
            notify.notify_one();
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        }
    });
}

/// Whoever was faster: the first is woken by the notification, or the second is, or it is kept.
#[test]
fn a_notification_given_to_a_cancelled_waiter_is_not_lost() {
    in_tasks(|| {
        for round in 0..200 {
            let notify = Arc::new(Notify::new());
            let woken = Arc::new(AtomicBool::new(false));
            let first = spawn_begun({
                let (notify, woken) = (notify.clone(), woken.clone());
                move || {
                    notify.notified();
                    woken.store(true, SeqCst);
                }
            });
            let second = spawn_begun({
                let notify = notify.clone();
                move || notify.notified()
            });
            if round % 2 == 0 {
                notify.notify_one();
                first.cancel();
            } else {
                first.cancel();
                notify.notify_one();
            }
            let _ = first.join();
            if woken.load(SeqCst) {
                notify.notify_one();
            }
            second.join().unwrap();
        }
    });
}

// The rest.

static READY: Notify = Notify::new();

#[test]
fn it_can_be_a_static_and_be_shown() {
    everywhere(|| {
        let waiter = go(|| READY.notified());
        READY.notify_one();
        waiter.join();
    });
    assert!(format!("{:?}", Notify::default()).starts_with("Notify"));
}

/// It orders memory: what was written before the notification is seen after it.
#[test]
fn what_was_written_before_is_seen_after() {
    everywhere(|| {
        let shared = Arc::new((Notify::new(), AtomicUsize::new(0)));
        let reader = {
            let shared = shared.clone();
            go(move || {
                shared.0.notified();
                shared.1.load(std::sync::atomic::Ordering::Relaxed)
            })
        };
        shared.1.store(7, std::sync::atomic::Ordering::Relaxed);
        shared.0.notify_one();
        assert_eq!(reader.join(), 7);
    });
}
