//! `Semaphore`: tokio's promises, blocking, among tasks, threads and both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use greenloom::sync::{Semaphore, TryAcquireError};
use greenloom::{park, spawn, yield_now};
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};
use test_support::{run_on, runtime, unless_it_hangs, yield_until};

// Permits.

#[test]
fn no_more_are_in_than_there_are_permits() {
    everywhere(|| {
        const LIMIT: usize = 3;
        let semaphore = Arc::new(Semaphore::new(LIMIT));
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let parties: Vec<_> = (0..12)
            .map(|_| {
                let (semaphore, inside, most) = (semaphore.clone(), inside.clone(), most.clone());
                go(move || {
                    for _ in 0..30 {
                        let _permit = semaphore.acquire().unwrap();
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        yield_now();
                        inside.fetch_sub(1, SeqCst);
                    }
                })
            })
            .collect();
        join_all(parties);
        assert!((1..=LIMIT).contains(&most.load(SeqCst)), "{most:?} inside at once");
        assert_eq!(semaphore.available_permits(), LIMIT);
    });
}

#[test]
fn as_many_are_in_as_there_are_permits() {
    everywhere(|| {
        let (semaphore, inside) = (Arc::new(Semaphore::new(4)), Arc::new(AtomicUsize::new(0)));
        let parties: Vec<_> = (0..4)
            .map(|_| {
                let (semaphore, inside) = (semaphore.clone(), inside.clone());
                go(move || {
                    let _permit = semaphore.acquire().unwrap();
                    inside.fetch_add(1, SeqCst);
                    yield_until(|| inside.load(SeqCst) == 4);
                })
            })
            .collect();
        join_all(parties);
    });
}

#[test]
fn permits_come_back_when_they_are_dropped() {
    everywhere(|| {
        let semaphore = Semaphore::new(5);
        let one = semaphore.acquire().unwrap();
        let three = semaphore.acquire_many(3).unwrap();
        assert_eq!(semaphore.available_permits(), 1);
        drop(one);
        assert_eq!(semaphore.available_permits(), 2);
        drop(three);
        assert_eq!(semaphore.available_permits(), 5);
        drop(semaphore.acquire_many(0).unwrap());
        assert_eq!(semaphore.available_permits(), 5);
    });
}

#[test]
fn a_forgotten_permit_does_not_come_back() {
    everywhere(|| {
        let semaphore = Semaphore::new(3);
        semaphore.acquire().unwrap().forget();
        assert_eq!(semaphore.available_permits(), 2);
        semaphore.acquire_many(2).unwrap().forget();
        assert!(semaphore.try_acquire().is_err());
        semaphore.add_permits(1);
        assert!(semaphore.try_acquire().is_ok());
    });
}

#[test]
fn permits_can_be_taken_away_as_far_as_they_go() {
    for closed in [false, true] {
        for (size, asked) in (0..4).flat_map(|size| (0..4).map(move |asked| (size, asked))) {
            let semaphore = Semaphore::new(size);
            if closed {
                semaphore.close();
            }
            let gone = semaphore.forget_permits(asked);
            assert_eq!((gone, semaphore.available_permits()), (size.min(asked), size.saturating_sub(asked)));
            assert_eq!(semaphore.is_closed(), closed);
        }
    }
    assert_eq!(Semaphore::new(2).forget_permits(usize::MAX), 2);
}

/// What gathers for one who waits is not to be taken away from it.
#[test]
fn permits_that_are_waited_for_are_not_taken_away() {
    everywhere(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let waiter = {
            let semaphore = semaphore.clone();
            go(move || semaphore.acquire_many(3).unwrap().forget())
        };
        yield_until(|| semaphore.available_permits() == 0);
        assert_eq!(semaphore.forget_permits(2), 0);
        semaphore.add_permits(1);
        waiter.join();
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn permits_can_be_joined_and_parted() {
    let semaphore = Semaphore::new(5);
    let mut some = semaphore.acquire_many(3).unwrap();
    let mut parted = some.split(1).unwrap();
    assert_eq!((some.num_permits(), parted.num_permits(), semaphore.available_permits()), (2, 1, 2));
    assert!(some.split(3).is_none() && some.split(usize::MAX).is_none());
    drop(parted.split(0));
    some.merge(parted);
    some.merge(semaphore.acquire_many(2).unwrap());
    assert_eq!((some.num_permits(), semaphore.available_permits()), (5, 0));
    drop(some.split(5));
    assert_eq!((some.num_permits(), semaphore.available_permits()), (0, 5));
    drop(some);
    assert_eq!(semaphore.available_permits(), 5);
}

#[test]
fn permits_of_two_semaphores_cannot_be_joined() {
    let (one, other) = (Semaphore::new(1), Semaphore::new(1));
    let result = catch_unwind(AssertUnwindSafe(|| one.acquire().unwrap().merge(other.acquire().unwrap())));
    assert!(result.is_err());
    assert_eq!((one.available_permits(), other.available_permits()), (1, 1));
}

#[test]
fn permits_that_are_too_many_for_one_go_back() {
    let all = u32::MAX as usize + 10;
    let semaphore = Semaphore::new(all);
    let result = catch_unwind(AssertUnwindSafe(|| {
        semaphore.acquire_many(u32::MAX).unwrap().merge(semaphore.acquire().unwrap());
    }));
    assert!(result.is_err());
    assert_eq!(semaphore.available_permits(), all);
}

#[test]
fn owned_permits_go_with_those_that_have_them() {
    everywhere(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let inside = Arc::new(AtomicUsize::new(0));
        let party = |_| {
            let permit = semaphore.clone().acquire_owned().unwrap();
            let inside = inside.clone();
            go(move || {
                assert!(inside.fetch_add(1, SeqCst) < 2);
                yield_now();
                inside.fetch_sub(1, SeqCst);
                drop(permit);
            })
        };
        join_all((0..10).map(party).collect::<Vec<_>>());
        assert_eq!((semaphore.available_permits(), Arc::strong_count(&semaphore)), (2, 1));
    });
}

#[test]
fn owned_permits_can_be_forgotten_joined_and_parted() {
    let semaphore = Arc::new(Semaphore::new(5));
    let mut some = semaphore.clone().acquire_many_owned(3).unwrap();
    assert_eq!(semaphore.clone().try_acquire_many_owned(3).unwrap_err(), TryAcquireError::NoPermits);
    some.merge(semaphore.clone().try_acquire_owned().unwrap());
    assert!(some.split(5).is_none());
    let parted = some.split(3).unwrap();
    assert_eq!((some.num_permits(), parted.num_permits(), semaphore.available_permits()), (1, 3, 1));
    assert!(Arc::ptr_eq(parted.semaphore(), &semaphore));
    parted.forget();
    drop(some);
    assert_eq!(semaphore.available_permits(), 2);
    let other = Arc::new(Semaphore::new(1));
    let joined = catch_unwind(AssertUnwindSafe(|| {
        semaphore.clone().acquire_owned().unwrap().merge(other.clone().acquire_owned().unwrap());
    }));
    assert!(joined.is_err());
    assert_eq!((semaphore.available_permits(), other.available_permits()), (2, 1));
    semaphore.close();
    assert!(semaphore.clone().acquire_owned().is_err());
    assert_eq!(semaphore.try_acquire_owned().unwrap_err(), TryAcquireError::Closed);
}

#[test]
fn try_acquire_takes_what_is_there_and_does_not_wait() {
    everywhere(|| {
        let semaphore = Semaphore::new(1);
        let permit = semaphore.try_acquire().unwrap();
        assert!(matches!(semaphore.try_acquire(), Err(TryAcquireError::NoPermits)));
        drop(permit);
        assert!(semaphore.try_acquire().is_ok());
    });
}

#[test]
fn a_waiter_gets_a_permit_that_comes_back() {
    everywhere(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire().unwrap();
        let waiter = {
            let semaphore = semaphore.clone();
            go(move || drop(semaphore.acquire().unwrap()))
        };
        breathe();
        assert!(!waiter.is_finished());
        drop(permit);
        waiter.join();
    });
}

#[test]
fn a_waiter_for_many_gets_them_as_they_come() {
    everywhere(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let waiter = {
            let semaphore = semaphore.clone();
            go(move || semaphore.acquire_many(4).unwrap().forget())
        };
        for added in [1, 1] {
            breathe();
            assert!(!waiter.is_finished());
            semaphore.add_permits(added);
        }
        breathe();
        assert!(!waiter.is_finished());
        semaphore.add_permits(3);
        waiter.join();
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn added_permits_wake_as_many_as_they_serve() {
    everywhere(|| {
        let (semaphore, got) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let waiters: Vec<_> = (0..6)
            .map(|_| {
                let (semaphore, got) = (semaphore.clone(), got.clone());
                go(move || {
                    semaphore.acquire().unwrap().forget();
                    got.fetch_add(1, SeqCst);
                })
            })
            .collect();
        breathe();
        semaphore.add_permits(4);
        yield_until(|| got.load(SeqCst) == 4);
        breathe();
        assert_eq!(got.load(SeqCst), 4);
        semaphore.add_permits(2);
        join_all(waiters);
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn tasks_and_threads_share_the_permits() {
    run_on(2, || {
        let (semaphore, inside) = (Arc::new(Semaphore::new(1)), Arc::new(AtomicUsize::new(0)));
        let body = |semaphore: Arc<Semaphore>, inside: Arc<AtomicUsize>| {
            for _ in 0..50 {
                let _permit = semaphore.acquire().unwrap();
                assert_eq!(inside.fetch_add(1, SeqCst), 0);
                yield_now();
                inside.fetch_sub(1, SeqCst);
            }
        };
        let task = {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            spawn(move || body(semaphore, inside))
        };
        let thread = {
            let (semaphore, inside) = (semaphore.clone(), inside.clone());
            std::thread::spawn(move || body(semaphore, inside))
        };
        body(semaphore, inside);
        task.join().unwrap();
        yield_until(|| thread.is_finished());
        thread.join().unwrap();
    });
}

// Fairness.

#[test]
fn waiters_are_served_in_the_order_they_came() {
    run_on(1, || {
        let semaphore = Arc::new(Semaphore::new(0));
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiters: Vec<_> = (0..8)
            .map(|i| {
                let (semaphore, order) = (semaphore.clone(), order.clone());
                spawn_begun(move || {
                    let permit = semaphore.acquire_many(1 + i % 3).unwrap();
                    order.lock().unwrap().push(i);
                    permit.forget();
                })
            })
            .collect();
        for _ in 0..(0..8).map(|i| 1 + i % 3).sum() {
            semaphore.add_permits(1);
            let_others_run();
        }
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(*order.lock().unwrap(), (0..8).collect::<Vec<_>>());
        assert_eq!(semaphore.available_permits(), 0);
    });
}

/// Who wants many stands in front; those behind would have enough, but wait their turn.
#[test]
fn who_wants_many_is_not_overtaken() {
    run_on(1, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let many = spawn_begun({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_many(3).unwrap().forget()
        });
        let one = spawn_begun({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().unwrap().forget()
        });
        let_others_run();
        assert!(!one.is_finished(), "overtook");
        semaphore.add_permits(1);
        many.join().unwrap();
        let_others_run();
        assert!(!one.is_finished(), "there is no permit for it");
        semaphore.add_permits(1);
        one.join().unwrap();
    });
}

// Closing.

#[test]
fn closing_wakes_everyone_with_an_error() {
    everywhere(|| {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire().unwrap();
        let waiters: Vec<_> = (1..5)
            .map(|i| {
                let semaphore = semaphore.clone();
                go(move || semaphore.acquire_many(i).is_err())
            })
            .collect();
        breathe();
        assert!(!semaphore.is_closed());
        semaphore.close();
        assert!(semaphore.is_closed());
        assert_eq!(join_all(waiters), [true; 4]);
        drop(permit);
        assert!(semaphore.acquire().is_err());
        assert!(semaphore.acquire_many(1).is_err());
        assert!(matches!(semaphore.try_acquire(), Err(TryAcquireError::Closed)));
        semaphore.close();
        assert!(semaphore.acquire().is_err(), "once closed it stays so");
    });
}

#[test]
fn the_errors_say_what_is_wrong() {
    let semaphore = Semaphore::new(0);
    let no_permits = semaphore.try_acquire().unwrap_err();
    semaphore.close();
    let closed = semaphore.try_acquire().unwrap_err();
    assert_ne!(no_permits, closed);
    assert!(no_permits.to_string().contains("permit"), "{no_permits}");
    assert!(closed.to_string().contains("closed"), "{closed}");
    let error: Box<dyn std::error::Error + Send + Sync> = Box::new(semaphore.acquire().unwrap_err());
    assert!(error.to_string().contains("closed"), "{error}");
}

// Panics and cancellation.

#[test]
fn a_panic_with_a_permit_gives_it_back() {
    everywhere(|| {
        let semaphore = Semaphore::new(1);
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _permit = semaphore.acquire().unwrap();
            panic!("with a permit");
        }));
        assert!(result.is_err());
        assert!(semaphore.try_acquire().is_ok());
    });
}

#[test]
fn a_cancelled_holder_gives_its_permits_back() {
    in_tasks(|| {
        let (semaphore, holding) = (Arc::new(Semaphore::new(2)), Arc::new(AtomicUsize::new(0)));
        let holder = spawn({
            let (semaphore, holding) = (semaphore.clone(), holding.clone());
            move || {
                let _permits = semaphore.acquire_many(2).unwrap();
                holding.fetch_add(1, SeqCst);
                loop {
                    park();
                }
            }
        });
        yield_until(|| holding.load(SeqCst) == 1);
        let waiter = spawn_begun({
            let semaphore = semaphore.clone();
            move || drop(semaphore.acquire().unwrap())
        });
        cancel_and_join(holder);
        waiter.join().unwrap();
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn a_cancelled_waiter_leaves_the_queue() {
    in_tasks(|| {
        for leaves in 0..3 {
            let semaphore = Arc::new(Semaphore::new(0));
            let mut waiters: Vec<_> = (0..3)
                .map(|_| {
                    let semaphore = semaphore.clone();
                    spawn_begun(move || semaphore.acquire().unwrap().forget())
                })
                .collect();
            cancel_and_join(waiters.remove(leaves));
            semaphore.add_permits(2);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!(semaphore.available_permits(), 0);
        }
    });
}

/// What had been put aside for it is there for those behind it, with nobody's help.
#[test]
fn a_cancelled_waiter_for_many_lets_those_behind_it_in() {
    in_tasks(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let many = spawn_begun({
            let semaphore = semaphore.clone();
            move || drop(semaphore.acquire_many(5).unwrap())
        });
        let_others_run();
        let behind = [0, 1].map(|_| {
            let semaphore = semaphore.clone();
            spawn_begun(move || semaphore.acquire().unwrap().forget())
        });
        cancel_and_join(many);
        behind.into_iter().for_each(|waiter| waiter.join().unwrap());
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn a_permit_given_to_a_cancelled_waiter_is_not_lost() {
    in_tasks(|| {
        for round in 0..200 {
            let semaphore = Arc::new(Semaphore::new(0));
            let [first, second] = [0, 1].map(|_| {
                let semaphore = semaphore.clone();
                spawn_begun(move || drop(semaphore.acquire().unwrap()))
            });
            if round % 2 == 0 {
                semaphore.add_permits(1);
                first.cancel();
            } else {
                first.cancel();
                semaphore.add_permits(1);
            }
            let _ = first.join();
            second.join().unwrap();
            assert_eq!(semaphore.available_permits(), 1);
        }
    });
}

#[test]
fn permits_come_back_from_a_runtime_that_ends() {
    unless_it_hangs(|| {
        let semaphore = Arc::new(Semaphore::new(2));
        let inner = semaphore.clone();
        runtime(2).run(move || {
            for _ in 0..6 {
                let semaphore = inner.clone();
                drop(spawn_begun(move || {
                    let _permit = semaphore.acquire().unwrap();
                    park();
                }));
            }
            let_others_run();
        });
        assert_eq!(semaphore.available_permits(), 2);
        drop(semaphore.acquire_many(2).unwrap());
    });
}

// The rest.

static SLOTS: Semaphore = Semaphore::new(2);

#[test]
fn a_semaphore_can_be_a_static() {
    everywhere(|| {
        join_all((0..5).map(|_| go(|| drop(SLOTS.acquire().unwrap()))).collect::<Vec<_>>());
        assert_eq!(SLOTS.available_permits(), 2);
    });
}

#[test]
fn it_can_be_shown() {
    let semaphore = Semaphore::new(17);
    assert!(format!("{semaphore:?}").contains("17"), "{semaphore:?}");
    assert!(format!("{:?}", semaphore.acquire()).contains("Ok"));
}

/// The word says truly that nobody waits any more.
#[test]
fn a_closed_semaphore_counts_what_comes_back_though_many_waited() {
    run_on(1, || {
        for waiters in [1, 2, 32, 33, 70] {
            let semaphore = Arc::new(Semaphore::new(2));
            let permits = semaphore.acquire_many(2).unwrap();
            let waiters: Vec<_> = (0..waiters)
                .map(|_| {
                    let semaphore = semaphore.clone();
                    spawn_begun(move || semaphore.acquire().is_err())
                })
                .collect();
            let_others_run();
            semaphore.close();
            assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
            drop(permits);
            assert_eq!(semaphore.available_permits(), 2);
            assert_eq!(semaphore.forget_permits(1), 1);
            semaphore.add_permits(3);
            assert_eq!(semaphore.available_permits(), 4);
        }
    });
}
