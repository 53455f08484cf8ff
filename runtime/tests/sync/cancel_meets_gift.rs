//! A task is cancelled, and given what it waits for, before it has gone on: it does not return with that, and the next gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use greenloom::context::Context;
use greenloom::sync::{Barrier, Condvar, Mutex, Notify, Once, RwLock, Semaphore, WaitGroup};
use greenloom::time::timeout;
use greenloom::{JoinHandle, channel, uncancellable};
use test_support::waiting::{let_others_run, spawn_begun};
use test_support::{OnDrop, run_on};

/// On one processor nobody goes on before the case suspends: what it does in a row, those who wait see together.
fn at_once(case: fn()) {
    run_on(1, case);
}

#[track_caller]
fn assert_cancelled<T>(task: JoinHandle<T>) {
    match task.join() {
        Err(error) => assert!(error.is_cancelled(), "{error}"),
        Ok(_) => panic!("it returned with what it was given"),
    }
}

/// Giving back happens in an unwinding, where a panic would end the process.
#[test]
fn permits_that_find_no_room_are_forgotten() {
    at_once(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let wants = spawn_begun({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().unwrap().forget()
        });
        wants.cancel();
        semaphore.add_permits(1);
        semaphore.add_permits(Semaphore::MAX_PERMITS);
        assert_cancelled(wants);
        assert_eq!(semaphore.available_permits(), Semaphore::MAX_PERMITS);
    });
}

#[test]
fn permits_go_to_the_next() {
    at_once(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let wants = |n| {
            let semaphore = semaphore.clone();
            spawn_begun(move || semaphore.acquire_many(n).unwrap().forget())
        };
        let (many, one, another) = (wants(3), wants(1), wants(1));
        many.cancel();
        semaphore.add_permits(3);
        assert_cancelled(many);
        one.join().unwrap();
        another.join().unwrap();
        assert_eq!(semaphore.available_permits(), 1);
        let owned = spawn_begun({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_many_owned(2)
        });
        owned.cancel();
        semaphore.add_permits(1);
        assert_cancelled(owned);
        assert_eq!(semaphore.available_permits(), 2);
    });
}

/// Which of the two came first makes no difference, as long as the waiter has not gone on.
#[test]
fn permits_go_to_the_next_also_where_the_cancellation_comes_second() {
    at_once(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let task = spawn_begun({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().unwrap().forget()
        });
        semaphore.add_permits(1);
        task.cancel();
        assert_cancelled(task);
        assert_eq!(semaphore.available_permits(), 1);
    });
}

#[test]
fn a_refusal_is_told_to_a_cancelled_waiter() {
    at_once(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let task = spawn_begun({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().is_err()
        });
        task.cancel();
        semaphore.close();
        assert!(task.join().unwrap());
    });
}

#[test]
fn permits_go_to_the_next_where_a_context_has_ended() {
    at_once(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let (context, canceller) = Context::background().with_cancel();
        let bounded = spawn_begun({
            let semaphore = semaphore.clone();
            move || context.run_until_done(|| semaphore.acquire().unwrap().forget())
        });
        let next = spawn_begun({
            let semaphore = semaphore.clone();
            move || semaphore.acquire().unwrap().forget()
        });
        canceller.cancel();
        semaphore.add_permits(1);
        assert!(bounded.join().unwrap().is_err());
        next.join().unwrap();
        assert_eq!(semaphore.available_permits(), 0);
    });
}

#[test]
fn a_mutex_that_is_handed_over_goes_to_the_next() {
    at_once(|| {
        let mutex = Arc::new(Mutex::new(0));
        let mut guard = mutex.lock().unwrap();
        let [first, second] = [(); 2].map(|()| {
            let mutex = mutex.clone();
            spawn_begun(move || *mutex.lock().unwrap() += 1)
        });
        // It loses until it asks for the lock to be handed over, and has it before it goes on.
        loop {
            drop(guard);
            guard = match mutex.try_lock() {
                Ok(guard) => guard,
                Err(_) => break,
            };
            let_others_run();
        }
        first.cancel();
        assert_cancelled(first);
        second.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 1);
    });
}

#[test]
fn a_lock_for_reading_or_writing_goes_to_the_next() {
    at_once(|| {
        let lock = Arc::new(RwLock::new(0));
        let guard = lock.read().unwrap();
        let [first, second] = [(); 2].map(|()| {
            let lock = lock.clone();
            spawn_begun(move || *lock.write().unwrap() += 1)
        });
        let reader = spawn_begun({
            let lock = lock.clone();
            move || *lock.read().unwrap()
        });
        first.cancel();
        drop(guard);
        reader.cancel();
        assert_cancelled(first);
        second.join().unwrap();
        assert_cancelled(reader);
        let guard = lock.write().unwrap();
        assert_eq!(*guard, 1);
        let reader = spawn_begun({
            let lock = lock.clone();
            move || *lock.read().unwrap()
        });
        reader.cancel();
        drop(guard);
        assert_cancelled(reader);
        assert!(lock.try_write().is_ok() && !lock.is_poisoned());
    });
}

#[test]
fn a_notification_for_one_goes_to_the_next() {
    at_once(|| {
        let notify = Arc::new(Notify::new());
        let waiter = || {
            let notify = notify.clone();
            spawn_begun(move || notify.notified())
        };
        let (first, second) = (waiter(), waiter());
        first.cancel();
        notify.notify_one();
        assert_cancelled(first);
        second.join().unwrap();
        // One for the last goes to the one that is the last then.
        let (first, second, last) = (waiter(), waiter(), waiter());
        last.cancel();
        notify.notify_last();
        assert_cancelled(last);
        second.join().unwrap();
        assert!(!first.is_finished());
        notify.notify_one();
        first.join().unwrap();
        // Where nobody waits, it is kept.
        let third = waiter();
        third.cancel();
        notify.notify_one();
        assert_cancelled(third);
        notify.notified();
        // One for all is for those who waited then.
        let fourth = waiter();
        fourth.cancel();
        notify.notify_waiters();
        assert_cancelled(fourth);
        assert!(timeout(Duration::ZERO, || notify.notified()).is_err());
    });
}

#[test]
fn a_condition_is_told_to_the_next() {
    at_once(|| {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let waiter = || {
            let pair = pair.clone();
            spawn_begun(move || drop(pair.1.wait(pair.0.lock().unwrap())))
        };
        let with_limit = || {
            let pair = pair.clone();
            spawn_begun(move || drop(pair.1.wait_timeout(pair.0.lock().unwrap(), Duration::from_secs(60))))
        };
        let (first, second, third) = (waiter(), with_limit(), waiter());
        first.cancel();
        second.cancel();
        pair.1.notify_one();
        assert_cancelled(first);
        assert_cancelled(second);
        third.join().unwrap();
        assert!(pair.0.try_lock().is_ok());
    });
}

#[test]
fn what_cannot_be_given_back_is_kept_and_the_task_ends_at_its_next_suspension() {
    at_once(|| {
        let returned = [(); 4].map(|()| Arc::new(AtomicBool::new(false)));
        let waiter = |i: usize, wait: Box<dyn FnOnce() + Send>| {
            let returned = returned[i].clone();
            spawn_begun(move || {
                wait();
                returned.store(true, SeqCst);
                greenloom::park();
            })
        };
        let (sender, receiver) = channel::bounded(0);
        let barrier = Arc::new(Barrier::new(2));
        let group = WaitGroup::new();
        let once = Arc::new(Once::new());
        let waiters = [
            waiter(0, Box::new(move || assert_eq!(receiver.recv(), Ok(1)))),
            waiter(1, {
                let barrier = barrier.clone();
                Box::new(move || _ = barrier.wait())
            }),
            waiter(2, {
                let group = group.clone();
                Box::new(move || group.wait())
            }),
            waiter(3, {
                let once = once.clone();
                Box::new(move || once.wait())
            }),
        ];
        waiters.iter().for_each(JoinHandle::cancel);
        sender.send(1).unwrap();
        assert!(barrier.wait().is_leader());
        drop(group);
        once.call_once(|| ());
        waiters.into_iter().for_each(assert_cancelled);
        assert!(returned.iter().all(|returned| returned.load(SeqCst)));
    });
}

#[test]
fn where_cancellation_is_put_off_the_permit_is_kept() {
    at_once(|| {
        let semaphore = Arc::new(Semaphore::new(0));
        let had_it = Arc::new(AtomicBool::new(false));
        let shielded = spawn_begun({
            let (semaphore, had_it) = (semaphore.clone(), had_it.clone());
            move || {
                uncancellable(|| {
                    let _permit = semaphore.acquire().unwrap();
                    had_it.store(true, SeqCst);
                });
                greenloom::yield_now();
            }
        });
        shielded.cancel();
        semaphore.add_permits(1);
        assert_cancelled(shielded);
        assert!(had_it.load(SeqCst));
        assert_eq!(semaphore.available_permits(), 1);

        // So it is in a destructor that runs because of an unwinding.
        had_it.store(false, SeqCst);
        let unwinding = spawn_begun({
            let (semaphore, had_it) = (semaphore.clone(), had_it.clone());
            move || {
                let _last = OnDrop::new(move || {
                    let _permits = semaphore.acquire_many(2).unwrap();
                    had_it.store(true, SeqCst);
                });
                panic!("on the way out");
            }
        });
        unwinding.cancel();
        let_others_run();
        semaphore.add_permits(1);
        assert!(unwinding.join().unwrap_err().is_panic());
        assert!(had_it.load(SeqCst));
        assert_eq!(semaphore.available_permits(), 2);
    });
}
