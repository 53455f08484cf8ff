//! `park`, `unpark` and their token.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use greenloom::{current, park, spawn, yield_now};
use test_support::{Slot, park_until, run_on, runtime, unless_it_hangs, yield_until};

#[test]
fn a_token_left_before_is_taken_by_the_next_park() {
    run_on(1, || {
        current().unpark();
        // There is nobody else who could wake it.
        park();
    });
}

#[test]
fn a_token_left_before_a_task_starts_is_taken_by_its_first_park() {
    run_on(1, || {
        let task = spawn(park);
        task.task().unpark();
        task.join().unwrap();
    });
}

#[test]
fn a_token_left_later_wakes_the_task() {
    run_on(1, || {
        let parking = Arc::new(AtomicBool::new(false));
        let task = spawn({
            let parking = parking.clone();
            move || {
                parking.store(true, SeqCst);
                park();
            }
        });
        yield_until(|| parking.load(SeqCst));
        task.task().unpark();
        task.join().unwrap();
    });
}

#[test]
fn tokens_do_not_pile_up() {
    run_on(1, || {
        let passed = Arc::new(AtomicUsize::new(0));
        let task = spawn({
            let passed = passed.clone();
            move || {
                for _ in 0..3 {
                    current().unpark();
                }
                park();
                passed.store(1, SeqCst);
                park();
                passed.store(2, SeqCst);
            }
        });
        // One processor: had the second park returned at once, nobody would have seen the 1.
        yield_until(|| passed.load(SeqCst) > 0);
        assert_eq!(passed.load(SeqCst), 1);
        for _ in 0..100 {
            yield_now();
        }
        assert_eq!(passed.load(SeqCst), 1, "park returned by itself");
        task.task().unpark();
        task.join().unwrap();
        assert_eq!(passed.load(SeqCst), 2);
    });
}

#[test]
fn a_token_does_not_end_a_join_and_is_kept_for_the_next_park() {
    run_on(1, || {
        let child = spawn(park);
        let waker = child.task();
        let (joining, joined) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let joiner = spawn({
            let (joining, joined) = (joining.clone(), joined.clone());
            move || {
                joining.store(true, SeqCst);
                child.join().unwrap();
                joined.store(true, SeqCst);
                park();
            }
        });
        yield_until(|| joining.load(SeqCst));
        joiner.task().unpark();
        for _ in 0..100 {
            yield_now();
        }
        assert!(!joined.load(SeqCst));
        waker.unpark();
        joiner.join().unwrap();
    });
}

#[test]
fn yielding_leaves_the_token_alone() {
    run_on(1, || {
        current().unpark();
        yield_now();
        spawn(|| ()).join().unwrap();
        park();
    });
}

#[test]
fn plain_threads_wake_a_task_and_no_wake_is_lost() {
    run_on(2, || {
        let turn = Arc::new(AtomicUsize::new(0));
        let task = current();
        let thread = std::thread::spawn({
            let turn = turn.clone();
            move || {
                for round in 0..2000 {
                    while turn.load(SeqCst) != 2 * round + 1 {
                        std::thread::park();
                    }
                    turn.store(2 * round + 2, SeqCst);
                    task.unpark();
                }
            }
        });
        for round in 0..2000 {
            turn.store(2 * round + 1, SeqCst);
            thread.thread().unpark();
            park_until(|| turn.load(SeqCst) == 2 * round + 2);
        }
        thread.join().unwrap();
    });
}

#[test]
fn tasks_of_two_runtimes_wake_each_other() {
    unless_it_hangs(|| {
        let (left, right) = (runtime(1), runtime(1));
        let turn = Arc::new(AtomicUsize::new(0));
        let (who_left, who_right) = (Slot::new(), Slot::new());
        let player = |side: usize, own: Slot<_>, other: Slot<greenloom::Task>| {
            let turn = turn.clone();
            move || {
                own.put(current());
                let other = other.wait();
                for round in 0..2000 {
                    park_until(|| turn.load(SeqCst) == 2 * round + side);
                    turn.store(2 * round + side + 1, SeqCst);
                    other.unpark();
                }
            }
        };
        let a = left.spawn(player(0, who_left.clone(), who_right.clone()));
        let b = right.spawn(player(1, who_right, who_left));
        a.join().unwrap();
        b.join().unwrap();
    });
}

#[test]
fn tasks_on_different_threads_wake_each_other_and_no_wake_is_lost() {
    use greenloom::task::{Builder, Placement};
    run_on(2, || {
        let turn = Arc::new(AtomicUsize::new(0));
        let (who_0, who_1) = (Slot::new(), Slot::new());
        let player = |side: usize, own: Slot<_>, other: Slot<greenloom::Task>| {
            let turn = turn.clone();
            let play = move || {
                own.put(current());
                let other = other.wait();
                for round in 0..5000 {
                    park_until(|| turn.load(SeqCst) == 2 * round + side);
                    turn.store(2 * round + side + 1, SeqCst);
                    other.unpark();
                }
            };
            Builder::new().placement(Placement::On(side)).spawn(play).unwrap()
        };
        let players = [player(0, who_0.clone(), who_1.clone()), player(1, who_1, who_0)];
        players.into_iter().for_each(|player| player.join().unwrap());
    });
}

#[test]
fn a_task_that_has_ended_does_not_mind_being_unparked() {
    unless_it_hangs(|| {
        let ended = {
            let runtime = runtime(1);
            let task = runtime.spawn(current).join().unwrap();
            task.unpark();
            task
        };
        // Its runtime is gone too.
        ended.unpark();
        assert!(ended.name().is_none());
    });
}

#[test]
fn on_a_plain_thread_park_yield_and_current_are_the_threads_own() {
    unless_it_hangs(|| {
        let thread = std::thread::Builder::new().name("plain".into());
        let plain = thread.spawn(|| {
            yield_now();
            let me = current();
            assert_eq!(me.name(), Some("plain"));
            assert!(me.spawned_at().is_none());
            assert_eq!(me.id(), current().id());
            me.unpark();
            park();
            // std's token and ours are the same one.
            std::thread::current().unpark();
            park();
            me
        });
        let (here, there) = (current(), plain.unwrap().join().unwrap());
        assert_ne!(here.id(), there.id());
        there.unpark();
    });
}

#[test]
fn a_task_wakes_a_plain_thread_that_parks() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let me = current();
        let woken = Arc::new(AtomicBool::new(false));
        let task = runtime.spawn({
            let woken = woken.clone();
            move || {
                woken.store(true, SeqCst);
                me.unpark();
            }
        });
        park_until(|| woken.load(SeqCst));
        task.join().unwrap();
    });
}

#[test]
fn a_thousand_parked_tasks_are_woken_each_by_its_own_handle() {
    run_on(2, || {
        let woken = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..1000)
            .map(|_| {
                let woken = woken.clone();
                spawn(move || {
                    park();
                    woken.fetch_add(1, SeqCst);
                })
            })
            .collect();
        // Every other one; the rest must go on sleeping, however long the woken ones are waited for.
        for task in tasks.iter().step_by(2) {
            task.task().unpark();
        }
        yield_until(|| woken.load(SeqCst) == 500);
        for (i, task) in tasks.iter().enumerate() {
            assert!(i % 2 == 0 || !task.is_finished(), "task {i} woke up");
        }
        for (i, task) in tasks.into_iter().enumerate() {
            if i % 2 == 1 {
                task.task().unpark();
            }
            task.join().unwrap();
        }
        assert_eq!(woken.load(SeqCst), 1000);
    });
}
