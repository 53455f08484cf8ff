//! `Once`, `OnceLock` and `LazyLock`: std's shapes and promises, among tasks, threads and both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use greenloom::sync::{LazyLock, Once, OnceLock};
use greenloom::{park, yield_now};
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};
use test_support::{Counter, yield_until};

fn panics<T>(body: impl FnOnce() -> T) -> bool {
    catch_unwind(AssertUnwindSafe(body)).is_err()
}

/// What it panics with.
fn message<T>(body: impl FnOnce() -> T) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| drop(body()))).unwrap_err();
    payload.downcast::<String>().map_or_else(|_| String::new(), |message| *message)
}

// Once.

#[test]
fn once_runs_one_closure_and_the_others_wait_for_its_end() {
    everywhere(|| {
        let once = Arc::new(Once::new());
        let (runs, done) = (Counter::default(), Arc::new(AtomicBool::new(false)));
        assert!(!once.is_completed());
        let contenders: Vec<_> = (0..8)
            .map(|_| {
                let (once, runs, done) = (once.clone(), runs.clone(), done.clone());
                go(move || {
                    once.call_once(|| {
                        runs.add();
                        (0..5).for_each(|_| yield_now());
                        breathe();
                        done.store(true, SeqCst);
                    });
                    assert!(done.load(SeqCst), "did not wait");
                })
            })
            .collect();
        join_all(contenders);
        assert!(once.is_completed());
        once.call_once(|| unreachable!());
        once.call_once_force(|_| unreachable!());
        assert_eq!(runs.get(), 1);
    });
}

#[test]
fn once_is_poisoned_by_a_panic_and_healed_by_force() {
    everywhere(|| {
        let once = Arc::new(Once::new());
        let party = {
            let once = once.clone();
            go(move || panics(|| once.call_once(|| panic!("no"))))
        };
        assert!(party.join());
        assert!(!once.is_completed());
        assert!(panics(|| once.call_once(|| unreachable!())), "poisoned");
        assert!(panics(|| once.call_once_force(|state| {
            assert!(state.is_poisoned());
            panic!("again")
        })));
        let mut ran = false;
        once.call_once_force(|state| {
            assert!(state.is_poisoned());
            ran = true;
        });
        assert!(ran && once.is_completed());
        once.call_once(|| unreachable!());
    });
}

#[test]
fn once_tells_those_that_waited_of_the_panic() {
    everywhere(|| {
        let (once, inside) = (Arc::new(Once::new()), Arc::new(AtomicBool::new(false)));
        let first = {
            let (once, inside) = (once.clone(), inside.clone());
            go(move || {
                panics(|| {
                    once.call_once(|| {
                        inside.store(true, SeqCst);
                        breathe();
                        panic!("no");
                    });
                })
            })
        };
        yield_until(|| inside.load(SeqCst));
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let once = once.clone();
                go(move || panics(|| once.call_once(|| unreachable!())))
            })
            .collect();
        assert!(first.join());
        assert_eq!(join_all(waiters), [true; 3]);
    });
}

#[test]
fn once_can_be_waited_for_without_a_closure() {
    everywhere(|| {
        let once = Arc::new(Once::new());
        let done = Arc::new(AtomicBool::new(false));
        let waiter = {
            let (once, done) = (once.clone(), done.clone());
            go(move || {
                once.wait();
                assert!(done.load(SeqCst), "did not wait");
            })
        };
        breathe();
        assert!(!waiter.is_finished());
        once.call_once(|| done.store(true, SeqCst));
        waiter.join();
        once.wait();
    });
}

#[test]
fn once_is_not_poisoned_by_cancellation() {
    in_tasks(|| {
        let once = Arc::new(Once::new());
        let first = spawn_begun({
            let once = once.clone();
            move || once.call_once(park)
        });
        let_others_run();
        let second = spawn_begun({
            let once = once.clone();
            move || once.call_once(yield_now)
        });
        let_others_run();
        assert!(!second.is_finished());
        cancel_and_join(first);
        second.join().unwrap();
        assert!(once.is_completed());
    });
}

#[test]
fn a_cancelled_contender_leaves_the_others_waiting() {
    in_tasks(|| {
        let (once, go_on) = (Arc::new(Once::new()), Arc::new(AtomicBool::new(false)));
        let first = spawn_begun({
            let (once, go_on) = (once.clone(), go_on.clone());
            move || once.call_once(|| yield_until(|| go_on.load(SeqCst)))
        });
        let_others_run();
        let [second, third] = [0, 1].map(|_| {
            let once = once.clone();
            spawn_begun(move || once.call_once(|| unreachable!()))
        });
        cancel_and_join(second);
        assert!(!third.is_finished());
        go_on.store(true, SeqCst);
        third.join().unwrap();
        first.join().unwrap();
    });
}

#[test]
fn a_poisoned_one_panics_with_stds_sentence() {
    let once = Once::new();
    assert!(panics(|| once.call_once(|| panic!("not yet"))));
    assert_eq!(message(|| once.call_once(|| ())), "Once instance has previously been poisoned");
    assert_eq!(message(|| once.wait()), "Once instance has previously been poisoned");
    let lazy: LazyLock<u32> = LazyLock::new(|| panic!("never made"));
    assert!(panics(|| *lazy));
    assert_eq!(message(|| *lazy), "LazyLock instance has previously been poisoned");
}

static START: Once = Once::new();
static STARTED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn once_can_be_a_static() {
    everywhere(|| {
        let start = || START.call_once(|| assert_eq!(STARTED.fetch_add(1, SeqCst), 0));
        join_all((0..4).map(|_| go(start)).collect::<Vec<_>>());
        assert_eq!(STARTED.load(SeqCst), 1);
    });
    assert!(format!("{START:?}").starts_with("Once"));
}

// OnceLock.

#[test]
fn once_lock_is_set_once() {
    let cell = OnceLock::new();
    assert_eq!(cell.get(), None);
    assert_eq!(cell.set(1), Ok(()));
    assert_eq!(cell.set(2), Err(2));
    assert_eq!((cell.get(), cell.get_or_init(|| unreachable!())), (Some(&1), &1));
}

#[test]
fn once_lock_is_initialised_by_one_of_those_that_race() {
    everywhere(|| {
        let (cell, runs) = (Arc::new(OnceLock::new()), Counter::default());
        let contenders: Vec<_> = (0..8)
            .map(|i| {
                let (cell, runs) = (cell.clone(), runs.clone());
                go(move || {
                    *cell.get_or_init(|| {
                        runs.add();
                        breathe();
                        i
                    })
                })
            })
            .collect();
        let got = join_all(contenders);
        assert_eq!((got, runs.get()), (vec![*cell.get().unwrap(); 8], 1));
    });
}

#[test]
fn once_lock_is_empty_until_its_value_is_there() {
    everywhere(|| {
        let (cell, inside) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let setter = {
            let (cell, inside) = (cell.clone(), inside.clone());
            go(move || {
                *cell.get_or_init(|| {
                    inside.store(true, SeqCst);
                    breathe();
                    1
                })
            })
        };
        yield_until(|| inside.load(SeqCst));
        let waiter = {
            let cell = cell.clone();
            go(move || *cell.wait())
        };
        assert!(matches!(cell.get(), None | Some(1)));
        assert_eq!(cell.set(2), Err(2), "waits for the one that came first");
        assert_eq!((setter.join(), waiter.join()), (1, 1));
    });
}

#[test]
fn once_lock_can_be_tried_again_after_a_panic() {
    everywhere(|| {
        let cell = OnceLock::new();
        assert!(panics(|| cell.get_or_init(|| panic!("no"))));
        assert_eq!(cell.get(), None);
        assert_eq!(*cell.get_or_init(|| 2), 2);
    });
}

#[test]
fn once_lock_can_be_tried_again_after_a_cancellation() {
    in_tasks(|| {
        let cell = Arc::new(OnceLock::new());
        let first = spawn_begun({
            let cell = cell.clone();
            move || {
                *cell.get_or_init(|| {
                    park();
                    1
                })
            }
        });
        let_others_run();
        let second = spawn_begun({
            let cell = cell.clone();
            move || *cell.get_or_init(|| 2)
        });
        let_others_run();
        assert!(!second.is_finished());
        cancel_and_join(first);
        assert_eq!(second.join().unwrap(), 2);
    });
}

#[test]
fn once_lock_gives_its_value_up_to_its_owner() {
    let counter = Counter::default();
    let mut cell = OnceLock::from(counter.on_drop());
    assert!(cell.get_mut().is_some());
    drop(cell.take());
    assert_eq!((cell.get().is_some(), counter.get()), (false, 1));
    assert!(cell.set(counter.on_drop()).is_ok());
    drop(cell.into_inner());
    assert_eq!(counter.get(), 2);
    drop(OnceLock::from(counter.on_drop()));
    assert_eq!(counter.get(), 3);
    assert!(OnceLock::<u8>::default().into_inner().is_none());
}

#[test]
fn once_lock_may_outlive_what_its_value_borrows() {
    let cell = OnceLock::new();
    {
        let short = String::from("short");
        cell.set(&short).unwrap();
        assert_eq!(cell.get().map(|s| s.len()), Some(5));
    }
}

static NAME: OnceLock<String> = OnceLock::new();

#[test]
fn once_lock_can_be_a_static() {
    everywhere(|| {
        let parties: Vec<_> = (0..4).map(|_| go(|| NAME.get_or_init(|| "loom".to_string()).as_str())).collect();
        assert_eq!(join_all(parties), ["loom"; 4]);
    });
}

#[test]
fn once_lock_is_shown_compared_and_cloned_by_its_value() {
    let (empty, full) = (OnceLock::new(), OnceLock::from(42));
    assert!(format!("{full:?}").contains("42"));
    assert!(format!("{empty:?}").contains("uninit"));
    assert_eq!(full.clone(), full);
    assert_ne!(full, empty);
}

// LazyLock.

#[test]
fn lazy_lock_is_made_by_the_first_that_looks() {
    everywhere(|| {
        let runs = Counter::default();
        let lazy = Arc::new(LazyLock::new({
            let runs = runs.clone();
            move || {
                runs.add();
                breathe();
                vec![1, 2, 3]
            }
        }));
        assert_eq!(runs.get(), 0, "nobody has looked yet");
        assert!(format!("{lazy:?}").contains("uninit"));
        let parties: Vec<_> = (0..8)
            .map(|i| {
                let lazy = lazy.clone();
                go(move || if i % 2 == 0 { lazy.len() } else { LazyLock::force(&lazy).len() })
            })
            .collect();
        assert_eq!((join_all(parties), runs.get()), (vec![3; 8], 1));
        assert!(format!("{lazy:?}").contains("[1, 2, 3]"));
    });
}

#[test]
fn lazy_lock_is_poisoned_by_a_panic() {
    everywhere(|| {
        let runs = Counter::default();
        let lazy: LazyLock<u32, _> = LazyLock::new(|| {
            runs.add();
            panic!("no")
        });
        for _ in 0..3 {
            assert!(panics(|| *lazy));
        }
        assert_eq!(runs.get(), 1, "its closure is used up");
    });
}

/// The closure could not be called again.
#[test]
fn cancellation_of_who_makes_a_lazy_lock_waits_until_it_is_made() {
    in_tasks(|| {
        let go_on = Arc::new(AtomicBool::new(false));
        let lazy = Arc::new(LazyLock::new({
            let go_on = go_on.clone();
            move || {
                yield_until(|| go_on.load(SeqCst));
                1
            }
        }));
        let [first, second, third] = [0, 1, 2].map(|_| {
            let lazy = lazy.clone();
            let task = spawn_begun(move || {
                LazyLock::force(&lazy);
                park();
            });
            let_others_run();
            task
        });
        first.cancel();
        cancel_and_join(second);
        let_others_run();
        assert!(!first.is_finished(), "the value is not there yet");
        go_on.store(true, SeqCst);
        assert!(first.join().unwrap_err().is_cancelled(), "waits no more");
        third.task().unpark();
        third.join().unwrap();
        assert_eq!(**lazy, 1);
    });
}

#[test]
fn lazy_lock_gives_its_value_to_change_to_its_owner() {
    let mut lazy = LazyLock::new(|| String::from("a"));
    assert!(LazyLock::get(&lazy).is_none() && LazyLock::get_mut(&mut lazy).is_none());
    LazyLock::force_mut(&mut lazy).push('b');
    lazy.push('c');
    LazyLock::get_mut(&mut lazy).unwrap().push('d');
    assert_eq!((LazyLock::get(&lazy).unwrap().as_str(), lazy.as_str()), ("abcd", "abcd"));
}

#[test]
fn lazy_lock_that_panicked_has_no_value_for_its_owner_either() {
    let mut lazy: LazyLock<u32> = LazyLock::new(|| panic!("never made"));
    assert!(panics(|| LazyLock::force_mut(&mut lazy)));
    assert!(panics(|| *lazy += 1));
    assert!(LazyLock::get(&lazy).is_none() && LazyLock::get_mut(&mut lazy).is_none());
}

#[test]
fn lazy_lock_drops_its_value_or_its_closure_once() {
    let counter = Counter::default();
    let unused = LazyLock::new({
        let guard = counter.on_drop();
        move || guard
    });
    drop(unused);
    assert_eq!(counter.get(), 1);
    let used = LazyLock::new({
        let guard = counter.on_drop();
        move || guard
    });
    LazyLock::force(&used);
    assert_eq!(counter.get(), 1);
    drop(used);
    assert_eq!(counter.get(), 2);
}

static SQUARES: LazyLock<Vec<u32>> = LazyLock::new(|| (0..10).map(|n| n * n).collect());

#[test]
fn lazy_lock_can_be_a_static() {
    everywhere(|| {
        assert_eq!(join_all((0..4).map(|i| go(move || SQUARES[i])).collect::<Vec<_>>()), [0, 1, 4, 9]);
    });
    assert_eq!(*LazyLock::<u8>::default(), 0);
}
