//! Cancellation and panics against the primitives of `sync`: nothing is lost, and only panics poison.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use greenloom::sync::{Barrier, Condvar, LazyLock, Mutex, Notify, Once, RwLock, Semaphore, WaitGroup};
use greenloom::time::timeout;
use greenloom::{spawn, yield_now};
use test_support::{OnDrop, run_on, yield_until};

/// Lets the other tasks of the only processor run until all of them wait.
fn settle() {
    for _ in 0..20 {
        yield_now();
    }
}

#[test]
fn a_cancelled_holder_unlocks_and_does_not_poison() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let lock = Arc::new(RwLock::new(0));
        let holder = spawn({
            let (mutex, lock) = (mutex.clone(), lock.clone());
            move || {
                let _guards = (mutex.lock().unwrap(), lock.write().unwrap());
                greenloom::park();
            }
        });
        settle();
        assert!(mutex.try_lock().is_err());
        holder.cancel();
        assert_eq!(*mutex.lock().unwrap(), 0);
        assert_eq!(*lock.read().unwrap(), 0);
        assert!(holder.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_panic_poisons_also_where_the_holder_had_been_suspended() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let holder = spawn({
            let mutex = mutex.clone();
            move || {
                let _guard = mutex.lock().unwrap();
                yield_now();
                panic!("half done");
            }
        });
        assert!(holder.join().is_err());
        assert!(mutex.lock().is_err() && mutex.is_poisoned());
    });
}

#[test]
fn a_panic_after_a_swallowed_cancellation_poisons() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let task = spawn({
            let mutex = mutex.clone();
            move || {
                let _ = catch_unwind(AssertUnwindSafe(|| {
                    loop {
                        yield_now();
                    }
                }));
                let _guard = mutex.lock().unwrap();
                panic!("half done");
            }
        });
        settle();
        task.cancel();
        assert!(!task.join().unwrap_err().is_cancelled());
        assert!(mutex.is_poisoned());
    });
}

/// Suspends in its destructor until it may end.
struct Lingers(Arc<AtomicBool>);

impl Drop for Lingers {
    fn drop(&mut self) {
        yield_until(|| self.0.load(Ordering::Relaxed));
    }
}

#[test]
fn a_guard_is_not_poisoned_by_another_task_that_is_suspended_while_it_unwinds() {
    for panics in [true, false] {
        run_on(1, move || {
            let (mutex, may_end) = (Arc::new(Mutex::new(0)), Arc::new(AtomicBool::new(false)));
            let guard = mutex.lock().unwrap();
            let unwinds = spawn({
                let may_end = may_end.clone();
                move || {
                    let _lingers = Lingers(may_end);
                    if panics {
                        panic!("slowly");
                    }
                    greenloom::park();
                }
            });
            settle();
            unwinds.cancel();
            settle();
            assert!(std::thread::panicking());
            drop(guard);
            assert!(!mutex.is_poisoned());
            // One made now belongs to nobody who unwinds either.
            drop(mutex.lock().unwrap());
            // And is poisoned by a panic that comes when that is over.
            let task = spawn({
                let mutex = mutex.clone();
                move || {
                    let _guard = mutex.lock().unwrap();
                    greenloom::park();
                    panic!("later");
                }
            });
            settle();
            may_end.store(true, Ordering::Relaxed);
            assert_eq!(unwinds.join().unwrap_err().is_cancelled(), !panics);
            task.task().unpark();
            assert!(task.join().is_err() && mutex.is_poisoned());
        });
    }
}

#[test]
fn a_lock_whose_waiters_and_holders_limits_end_excludes_and_is_free_afterwards() {
    for processors in [1, 2] {
        run_on(processors, || {
            let shared = Arc::new((Mutex::new(()), AtomicUsize::new(0)));
            let tasks: Vec<_> = (0..50)
                .map(|i| {
                    let shared = shared.clone();
                    spawn(move || {
                        let (mutex, inside) = &*shared;
                        for j in 0..20 {
                            let limit = Duration::from_micros((i * 7 + j * 13) % 200);
                            let _ = timeout(limit, || {
                                let _guard = mutex.lock().unwrap();
                                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                                let _leave = OnDrop::new(|| _ = inside.fetch_sub(1, Ordering::SeqCst));
                                yield_now();
                            });
                        }
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.join().unwrap());
            assert!(!shared.0.is_poisoned());
            drop(shared.0.try_lock().unwrap());
        });
    }
}

#[test]
fn cancelled_waiters_leave_the_queues_in_order() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(Vec::new()));
        let guard = mutex.lock().unwrap();
        let waiters: Vec<_> = (0..6)
            .map(|i| {
                let mutex = mutex.clone();
                let task = spawn(move || mutex.lock().unwrap().push(i));
                settle();
                task
            })
            .collect();
        for i in [0, 3, 5] {
            waiters[i].cancel();
        }
        settle();
        drop(guard);
        let cancelled = waiters.into_iter().filter_map(|task| task.join().err()).count();
        assert_eq!(cancelled, 3);
        assert_eq!(*mutex.lock().unwrap(), [1, 2, 4]);
    });
}

#[test]
fn a_woken_waiter_that_is_cancelled_passes_the_wake_on() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let [first, second] = [(); 2].map(|()| {
            let mutex = mutex.clone();
            let task = spawn(move || *mutex.lock().unwrap() += 1);
            settle();
            task
        });
        drop(guard);
        // It has been woken and has not run; the lock is taken ahead of it.
        let guard = mutex.lock().unwrap();
        first.cancel();
        settle();
        drop(guard);
        second.join().unwrap();
        let _ = first.join();
        assert!(mutex.try_lock().is_ok());
    });
}

#[test]
fn a_waiter_that_loses_again_and_again_is_handed_the_lock() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(false));
        let waiter = spawn({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() = true
        });
        let mut rounds = 0;
        loop {
            let guard = mutex.lock().unwrap();
            if *guard {
                break;
            }
            yield_now();
            drop(guard);
            rounds += 1;
            assert!(rounds < 100, "the waiter starves");
        }
        waiter.join().unwrap();
    });
}

#[test]
fn a_notification_is_not_lost_to_a_cancelled_waiter() {
    run_on(1, || {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let woken = Arc::new(AtomicUsize::new(0));
        let tasks = [(); 2].map(|()| {
            let (pair, woken) = (pair.clone(), woken.clone());
            let task = spawn(move || {
                drop(pair.1.wait(pair.0.lock().unwrap()));
                woken.fetch_add(1, Ordering::Relaxed);
            });
            settle();
            task
        });
        let guard = pair.0.lock().unwrap();
        pair.1.notify_one();
        // The first has been notified and waits for the mutex, where it is cancelled.
        settle();
        tasks[0].cancel();
        settle();
        drop(guard);
        let [first, second] = tasks;
        assert!(first.join().unwrap_err().is_cancelled());
        second.join().unwrap();
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn permits_and_notifications_survive_cancelled_waiters() {
    run_on(1, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let permit = semaphore.acquire().unwrap();
        let wants = |n| {
            let semaphore = semaphore.clone();
            let task = spawn(move || semaphore.acquire_many(n).map(|permit| permit.forget()));
            settle();
            task
        };
        let (greedy, modest) = (wants(3), wants(1));
        drop(permit);
        settle();
        assert!(!modest.is_finished(), "overtakes");
        assert!(semaphore.try_acquire().is_err());
        greedy.cancel();
        modest.join().unwrap().unwrap();
        assert_eq!(semaphore.available_permits(), 0);
        let refused = wants(1);
        semaphore.close();
        assert!(refused.join().unwrap().is_err());

        let notify = Arc::new(Notify::new());
        let [first, second] = [(); 2].map(|()| {
            let notify = notify.clone();
            let task = spawn(move || notify.notified());
            settle();
            task
        });
        first.cancel();
        settle();
        notify.notify_one();
        second.join().unwrap();
        notify.notify_waiters();
        notify.notify_one();
        notify.notified();
    });
}

#[test]
fn a_cancelled_writer_lets_readers_in() {
    run_on(1, || {
        let lock = Arc::new(RwLock::new(0));
        let guard = lock.read().unwrap();
        let writer = spawn({
            let lock = lock.clone();
            move || *lock.write().unwrap() += 1
        });
        settle();
        let reader = spawn({
            let lock = lock.clone();
            move || *lock.read().unwrap()
        });
        settle();
        assert!(!reader.is_finished() && lock.try_read().is_err());
        writer.cancel();
        assert_eq!(reader.join().unwrap(), 0);
        drop(guard);
        assert!(lock.try_write().is_ok());
        assert!(writer.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn readers_and_writers_take_turns() {
    run_on(1, || {
        let lock = Arc::new(RwLock::new(Vec::new()));
        let guard = lock.write().unwrap();
        let reads = Arc::new(AtomicUsize::new(0));
        let mut tasks = Vec::new();
        for i in 0..6 {
            let (lock, reads) = (lock.clone(), reads.clone());
            tasks.push(spawn(move || {
                if i % 2 == 0 {
                    lock.write().unwrap().push(reads.load(Ordering::Relaxed));
                } else {
                    let guard = lock.read().unwrap();
                    reads.fetch_add(1, Ordering::Relaxed);
                    yield_now();
                    drop(guard);
                }
            }));
            settle();
        }
        drop(guard);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(*lock.read().unwrap(), [3, 3, 3], "all readers go between the first writer and the rest");
    });
}

#[test]
fn a_cancelled_initialisation_is_tried_again() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    static LAZY: LazyLock<usize> = LazyLock::new(|| {
        settle();
        MADE.fetch_add(1, Ordering::Relaxed) + 1
    });
    run_on(1, || {
        let once = Arc::new(Once::new());
        let first = spawn({
            let once = once.clone();
            move || once.call_once(greenloom::park)
        });
        settle();
        let second = spawn({
            let once = once.clone();
            move || once.call_once(|| ())
        });
        settle();
        assert!(!second.is_finished());
        first.cancel();
        second.join().unwrap();
        assert!(first.join().unwrap_err().is_cancelled() && once.is_completed());

        let maker = spawn(|| {
            let made = *LAZY;
            yield_now();
            made
        });
        yield_now();
        maker.cancel();
        assert_eq!(*LAZY, 1);
        assert!(maker.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_cancelled_arrival_does_not_count() {
    run_on(1, || {
        let barrier = Arc::new(Barrier::new(2));
        let arrive = || {
            let barrier = barrier.clone();
            let task = spawn(move || barrier.wait().is_leader());
            settle();
            task
        };
        let gone = arrive();
        gone.cancel();
        settle();
        let first = arrive();
        assert!(!first.is_finished());
        assert!(barrier.wait().is_leader());
        assert!(!first.join().unwrap());
        assert!(gone.join().unwrap_err().is_cancelled());

        let group = WaitGroup::new();
        let member = group.clone();
        let waits = spawn(move || group.wait());
        settle();
        waits.cancel();
        assert!(waits.join().unwrap_err().is_cancelled());
        let other = member.clone();
        let waits = spawn(move || other.wait());
        settle();
        drop(member);
        waits.join().unwrap();
    });
}

#[test]
fn tasks_and_threads_share_everything() {
    let both = test_support::unless_it_hangs(|| {
        let shared = Arc::new((Mutex::new(0), Semaphore::new(2), RwLock::new(0), Condvar::new()));
        let work = {
            let shared = shared.clone();
            move || {
                for i in 0..500 {
                    let _permit = shared.1.acquire().unwrap();
                    *shared.0.lock().unwrap() += 1;
                    shared.3.notify_one();
                    if i % 7 == 0 {
                        *shared.2.write().unwrap() += 1;
                    } else {
                        let guard = shared.2.read().unwrap();
                        greenloom::yield_now();
                        drop(guard);
                    }
                }
            }
        };
        let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(work.clone())).collect();
        let runtime = test_support::runtime(2);
        let tasks: Vec<_> = (0..8).map(|_| runtime.spawn(work.clone())).collect();
        let all = shared.3.wait_while(shared.0.lock().unwrap(), |count| *count < 6000).map(|count| *count).unwrap();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        tasks.into_iter().for_each(|task| task.join().unwrap());
        all
    });
    assert_eq!(both, 6000);
}
