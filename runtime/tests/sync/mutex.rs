//! `Mutex`: std's shape and promises, among tasks, threads and both.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, TryLockError};

use greenloom::sync::Mutex;
use greenloom::{park, spawn, yield_now};
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};
use test_support::{OnDrop, run_on, runtime, unless_it_hangs, yield_until};

/// Panics while it holds the lock.
fn poison<T: Send>(mutex: &Mutex<T>) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _guard = mutex.lock();
        panic!("in the section");
    }));
    assert!(result.is_err());
}

// Exclusion.

#[test]
fn a_guard_excludes_others_also_across_a_suspension() {
    everywhere(|| {
        let counts = Arc::new(Mutex::new((0, 0)));
        let party = |_| {
            let counts = counts.clone();
            go(move || {
                for i in 0..100 {
                    let mut guard = counts.lock().unwrap();
                    let before = guard.0;
                    if i % 4 == 0 {
                        yield_now();
                    }
                    guard.0 = before + 1;
                    drop(guard);
                    counts.lock().unwrap().1 += 1;
                }
            })
        };
        join_all((0..8).map(party).collect::<Vec<_>>());
        assert_eq!(*counts.lock().unwrap(), (800, 800));
    });
}

#[test]
fn a_thousand_tasks_take_turns() {
    in_tasks(|| {
        let count = Arc::new(Mutex::new(0));
        let tasks: Vec<_> = (0..1_000)
            .map(|_| {
                let count = count.clone();
                spawn(move || {
                    let mut count = count.lock().unwrap();
                    let before = *count;
                    yield_now();
                    *count = before + 1;
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(*count.lock().unwrap(), 1_000);
    });
}

#[test]
fn a_held_lock_is_waited_for() {
    everywhere(|| {
        let mutex = Arc::new(Mutex::new(0));
        let mut guard = mutex.lock().unwrap();
        let waiter = {
            let mutex = mutex.clone();
            go(move || *mutex.lock().unwrap())
        };
        breathe();
        assert!(!waiter.is_finished());
        *guard = 1;
        drop(guard);
        assert_eq!(waiter.join(), 1);
    });
}

#[test]
fn try_lock_takes_a_free_lock_and_no_other() {
    everywhere(|| {
        let mutex = Arc::new(Mutex::new(0));
        *mutex.try_lock().unwrap() += 1;
        let guard = mutex.lock().unwrap();
        assert!(matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)), "held by the caller itself");
        let elsewhere = {
            let mutex = mutex.clone();
            go(move || matches!(mutex.try_lock(), Err(TryLockError::WouldBlock)))
        };
        assert!(elsewhere.join(), "held by another");
        drop(guard);
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    });
}

/// Someone takes the lock again as soon as they have given it back. A waiter gets it all the same.
#[test]
fn a_waiter_is_not_starved_by_who_comes_back_at_once() {
    everywhere(|| {
        let mutex = Arc::new(Mutex::new(()));
        let got = Arc::new(AtomicBool::new(false));
        let mut guard = mutex.lock().unwrap();
        let waiter = {
            let (mutex, got) = (mutex.clone(), got.clone());
            go(move || {
                let _guard = mutex.lock().unwrap();
                got.store(true, SeqCst);
            })
        };
        while !got.load(SeqCst) {
            yield_now();
            drop(guard);
            guard = mutex.lock().unwrap();
        }
        drop(guard);
        waiter.join();
    });
}

#[test]
fn a_task_and_a_thread_hand_the_lock_to_each_other() {
    run_on(1, || {
        let turn = Arc::new(Mutex::new(0));
        let other = {
            let turn = turn.clone();
            std::thread::spawn(move || play(&turn, 1))
        };
        play(&turn, 0);
        yield_until(|| other.is_finished());
        other.join().unwrap();
        assert_eq!(*turn.lock().unwrap(), 200);
    });

    fn play(turn: &Mutex<u32>, me: u32) {
        for _ in 0..100 {
            loop {
                let mut turn = turn.lock().unwrap();
                if *turn % 2 == me {
                    *turn += 1;
                    break;
                }
                drop(turn);
                yield_now();
            }
        }
    }
}

// Poisoning.

#[test]
fn a_panic_with_the_guard_poisons() {
    everywhere(|| {
        let mutex = Arc::new(Mutex::new(7));
        assert!(!mutex.is_poisoned());
        let party = {
            let mutex = mutex.clone();
            go(move || poison(&mutex))
        };
        party.join();
        assert!(mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap_err().into_inner(), 7, "the value is still there");
        assert!(matches!(mutex.try_lock(), Err(TryLockError::Poisoned(_))));
        assert!(mutex.is_poisoned(), "looking does not heal it");
        mutex.clear_poison();
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), 7);
    });
}

#[test]
fn a_waiter_learns_of_the_panic() {
    everywhere(|| {
        let mutex = Arc::new(Mutex::new(()));
        let mut waiters = Vec::new();
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _guard = mutex.lock().unwrap();
            for _ in 0..3 {
                let mutex = mutex.clone();
                waiters.push(go(move || mutex.lock().is_err()));
            }
            breathe();
            panic!("in the section");
        }));
        assert!(result.is_err());
        assert_eq!(join_all(waiters), [true; 3]);
    });
}

#[test]
fn a_panic_caught_inside_the_section_does_not_poison() {
    everywhere(|| {
        let mutex = Mutex::new(());
        let guard = mutex.lock().unwrap();
        assert!(catch_unwind(|| panic!("caught")).is_err());
        drop(guard);
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn a_section_run_by_a_destructor_during_a_panic_does_not_poison() {
    everywhere(|| {
        let mutex = Arc::new(Mutex::new(0));
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mutex = mutex.clone();
            let _cleanup = OnDrop::new(move || *mutex.lock().unwrap() += 1);
            panic!("elsewhere");
        }));
        assert!(result.is_err());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

/// A destructor suspends its task in the middle of a panic. The other tasks of that thread are not panicking.
#[test]
fn another_tasks_panic_on_the_same_thread_does_not_poison() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let (panicking, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut guard = mutex.lock().unwrap();
        let other = spawn({
            let (panicking, go_on) = (panicking.clone(), go_on.clone());
            move || {
                let _suspends = OnDrop::new(move || {
                    panicking.store(true, SeqCst);
                    yield_until(|| go_on.load(SeqCst));
                });
                panic!("slowly");
            }
        });
        yield_until(|| panicking.load(SeqCst));
        *guard += 1;
        drop(guard);
        assert!(!mutex.is_poisoned(), "taken before the other's panic, given back during it");
        drop(mutex.lock().unwrap());
        let guard = mutex.lock().unwrap();
        go_on.store(true, SeqCst);
        assert!(other.join().unwrap_err().is_panic());
        drop(guard);
        assert!(!mutex.is_poisoned(), "taken during the other's panic, given back after it");
        poison(&mutex);
        assert!(mutex.is_poisoned());
    });
}

// Cancellation.

#[test]
fn a_cancelled_holder_gives_the_lock_back_and_does_not_poison_it() {
    in_tasks(|| {
        let mutex = Arc::new(Mutex::new(0));
        let holding = Arc::new(AtomicBool::new(false));
        let holder = spawn({
            let (mutex, holding) = (mutex.clone(), holding.clone());
            move || {
                let mut guard = mutex.lock().unwrap();
                *guard = 5;
                holding.store(true, SeqCst);
                loop {
                    park();
                }
            }
        });
        yield_until(|| holding.load(SeqCst));
        let waiter = spawn_begun({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap()
        });
        assert!(mutex.try_lock().is_err());
        cancel_and_join(holder);
        assert_eq!(waiter.join().unwrap(), 5);
        assert!(!mutex.is_poisoned());
        assert_eq!(*mutex.lock().unwrap(), 5);
    });
}

/// Wherever in the queue it stood.
#[test]
fn a_cancelled_waiter_leaves_the_queue() {
    in_tasks(|| {
        for leaves in 0..3 {
            let mutex = Arc::new(Mutex::new(Vec::new()));
            let guard = mutex.lock().unwrap();
            let mut waiters: Vec<_> = (0..3)
                .map(|i| {
                    let mutex = mutex.clone();
                    spawn_begun(move || mutex.lock().unwrap().push(i))
                })
                .collect();
            cancel_and_join(waiters.remove(leaves));
            drop(guard);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            let mut got = mutex.lock().unwrap().clone();
            got.sort_unstable();
            assert_eq!(got, (0..3).filter(|i| *i != leaves).collect::<Vec<_>>());
        }
    });
}

#[test]
fn the_only_waiter_leaves_a_lock_that_can_be_taken() {
    in_tasks(|| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let waiter = spawn_begun({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() = 1
        });
        cancel_and_join(waiter);
        drop(guard);
        assert_eq!(*mutex.try_lock().unwrap(), 0);
    });
}

/// The lock is given back and its next holder cancelled at one moment: whoever of the two was faster, others get it.
#[test]
fn a_lock_given_to_a_cancelled_waiter_is_not_lost() {
    in_tasks(|| {
        for round in 0..200 {
            let mutex = Arc::new(Mutex::new(0));
            let guard = mutex.lock().unwrap();
            let waiters = [0, 1].map(|_| {
                let mutex = mutex.clone();
                spawn_begun(move || *mutex.lock().unwrap() += 1)
            });
            let [first, second] = waiters;
            if round % 2 == 0 {
                drop(guard);
                first.cancel();
            } else {
                first.cancel();
                drop(guard);
            }
            let got = first.join().is_ok();
            second.join().unwrap();
            assert_eq!(*mutex.lock().unwrap(), if got { 2 } else { 1 });
        }
    });
}

#[test]
fn a_lock_outlives_a_runtime_whose_tasks_held_it_and_waited_for_it() {
    unless_it_hangs(|| {
        let mutex = Arc::new(Mutex::new(0));
        let held = mutex.clone();
        runtime(2).run(move || {
            let holding = Arc::new(AtomicBool::new(false));
            drop(spawn({
                let (mutex, holding) = (held.clone(), holding.clone());
                move || {
                    let _guard = mutex.lock().unwrap();
                    holding.store(true, SeqCst);
                    park();
                }
            }));
            yield_until(|| holding.load(SeqCst));
            for _ in 0..10 {
                let mutex = held.clone();
                drop(spawn_begun(move || *mutex.lock().unwrap() += 1));
            }
            let_others_run();
        });
        assert!(!mutex.is_poisoned());
        // How many of the waiters got in when the holder went is open.
        assert!(*mutex.lock().unwrap() <= 10);
    });
}

/// A destructor that is run by cancellation may wait for a lock.
#[test]
fn a_cancelled_task_can_still_lock_in_its_destructors() {
    in_tasks(|| {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let task = spawn_begun({
            let mutex = mutex.clone();
            move || {
                let _cleanup = OnDrop::new(move || *mutex.lock().unwrap() += 1);
                park();
            }
        });
        task.cancel();
        let_others_run();
        drop(guard);
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}

// The value, and the rest of std's shape.

static COUNT: Mutex<u32> = Mutex::new(0);

#[test]
fn a_lock_can_be_a_static() {
    everywhere(|| {
        let before = *COUNT.lock().unwrap();
        let parties: Vec<_> = (0..4).map(|_| go(|| *COUNT.lock().unwrap() += 1)).collect();
        join_all(parties);
        assert_eq!(*COUNT.lock().unwrap(), before + 4);
    });
}

#[test]
fn the_value_can_be_reached_without_locking() {
    let mut mutex = Mutex::new(String::from("a"));
    mutex.get_mut().unwrap().push('b');
    assert_eq!(mutex.into_inner().unwrap(), "ab");
    let mut mutex = Mutex::new(1);
    poison(&mutex);
    **mutex.get_mut().as_mut().unwrap_err().get_mut() = 2;
    assert_eq!(mutex.into_inner().unwrap_err().into_inner(), 2);
}

#[test]
fn the_value_is_dropped_once() {
    let counter = test_support::Counter::default();
    drop(Mutex::new(counter.on_drop()));
    assert_eq!(counter.get(), 1);
    let inner = Mutex::new(counter.on_drop()).into_inner().unwrap();
    assert_eq!(counter.get(), 1);
    drop(inner);
    assert_eq!(counter.get(), 2);
}

#[test]
fn a_lock_may_hold_what_has_no_size() {
    let slice: &Mutex<[i32]> = &Mutex::new([1, 2, 3]);
    slice.lock().unwrap().reverse();
    assert_eq!(*slice.lock().unwrap(), [3, 2, 1]);
    let any: Box<Mutex<dyn Any>> = Box::new(Mutex::new(1_u8));
    assert!(any.lock().unwrap().is::<u8>());
}

#[test]
fn it_is_made_from_a_value_or_from_nothing() {
    assert_eq!(*Mutex::from(3).lock().unwrap(), 3);
    assert_eq!(*Mutex::<u8>::default().lock().unwrap(), 0);
}

#[test]
fn it_is_shared_if_its_value_can_be_sent() {
    fn shared<T: Send + Sync>() {}
    shared::<Mutex<Cell<u8>>>();
}

#[test]
fn it_shows_its_value_unless_it_is_locked() {
    let mutex = Mutex::new(42);
    let shown = format!("{mutex:?}");
    assert!(shown.starts_with("Mutex") && shown.contains("42"), "{shown}");
    let guard = mutex.lock().unwrap();
    let shown = format!("{mutex:?}");
    assert!(shown.contains("locked") && !shown.contains("42"), "{shown}");
    assert_eq!((format!("{guard:?}"), format!("{guard}")), ("42".into(), "42".into()));
    drop(guard);
    poison(&mutex);
    let shown = format!("{mutex:?}");
    assert!(shown.contains("42") && shown.contains("poisoned: true"), "{shown}");
}
