//! The primitives of `sync` under every schedule: plain threads of the model as waiters, and tasks of a runtime with one machine.

use crate::common::{Data, model};
use greenloom::sync::{Barrier, Condvar, Mutex, Notify, Once, OnceLock, RwLock, RwLockWriteGuard, Semaphore, WaitGroup};
use greenloom::{Runtime, yield_now};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use loom::thread;

fn runtime() -> Runtime {
    Runtime::builder().processors(1).build().unwrap()
}

#[test]
fn a_mutex_excludes_and_wakes() {
    model(3, || {
        let mutex = Arc::new(Mutex::new(0));
        let add = {
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        };
        let other = thread::spawn(add.clone());
        add();
        other.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 2);
    });
}

#[test]
fn a_mutex_with_three_contenders_and_a_barger_hands_over() {
    model(2, || {
        let mutex = Arc::new(Mutex::new(0));
        let add = {
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        };
        let others = [thread::spawn(add.clone()), thread::spawn(add.clone())];
        // Whoever was woken by the first unlock may lose to one of these.
        add();
        add();
        add();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(*mutex.try_lock().unwrap(), 5);
    });
}

/// An unlock that comes late to the queue: others have taken the lock meanwhile, and asked for it to be handed over.
#[test]
fn a_late_unlock_gives_nothing_away_that_is_taken() {
    model(3, || {
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let waiter = {
            let mutex = mutex.clone();
            thread::spawn(move || *mutex.lock().unwrap() += 1)
        };
        // Lets the waiter wait.
        thread::yield_now();
        let barger = {
            let mutex = mutex.clone();
            thread::spawn(move || {
                for _ in 0..2 {
                    let mut guard = mutex.lock().unwrap();
                    *guard += 1;
                    thread::yield_now();
                    *guard += 1;
                }
            })
        };
        drop(guard);
        waiter.join().unwrap();
        barger.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 5);
    });
}

#[test]
fn a_mutex_between_a_task_and_a_thread() {
    model(2, || {
        let runtime = runtime();
        let mutex = Arc::new(Mutex::new(0));
        let task = runtime.spawn({
            let mutex = mutex.clone();
            move || {
                let mut guard = mutex.lock().unwrap();
                yield_now();
                *guard += 1;
            }
        });
        *mutex.lock().unwrap() += 1;
        task.join().unwrap();
        assert_eq!(*mutex.try_lock().unwrap(), 2);
    });
}

#[test]
fn an_unlock_against_the_cancellation_of_the_waiter() {
    model(2, || {
        let runtime = runtime();
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let task = runtime.spawn({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        });
        let unlocks_and_locks_again = {
            drop(guard);
            let mutex = mutex.clone();
            thread::spawn(move || *mutex.lock().unwrap() += 1)
        };
        task.cancel();
        unlocks_and_locks_again.join().unwrap();
        let ran = task.join().is_ok();
        assert_eq!(*mutex.try_lock().expect("free again"), 1 + usize::from(ran));
        assert!(!mutex.is_poisoned());
    });
}

/// A waiter that has been woken, loses to a barger, and is cancelled before it tries again; another waits behind it.
#[test]
fn a_cancelled_waiter_passes_its_wake_on() {
    model(1, || {
        let runtime = runtime();
        let mutex = Arc::new(Mutex::new(0));
        let guard = mutex.lock().unwrap();
        let task = runtime.spawn({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        });
        let waiter = thread::spawn({
            let mutex = mutex.clone();
            move || *mutex.lock().unwrap() += 1
        });
        // Lets both wait.
        thread::yield_now();
        drop(guard);
        let guard = mutex.lock().unwrap();
        task.cancel();
        drop(guard);
        waiter.join().unwrap();
        let ran = task.join().is_ok();
        assert_eq!(*mutex.try_lock().expect("free again"), 1 + usize::from(ran));
    });
}

#[test]
fn a_rwlock_with_readers_and_a_writer() {
    model(2, || {
        let lock = Arc::new(RwLock::new(0));
        let writer = {
            let lock = lock.clone();
            thread::spawn(move || *lock.write().unwrap() += 1)
        };
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || assert!(*lock.read().unwrap() <= 2))
        };
        *lock.write().unwrap() += 1;
        assert!(*lock.read().unwrap() >= 1);
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!(*lock.try_write().unwrap(), 2);
    });
}

#[test]
fn a_lock_that_comes_after_a_cancellation_is_not_taken() {
    model(2, || {
        let runtime = runtime();
        let lock = Arc::new(RwLock::new(0));
        let guard = lock.read().unwrap();
        let task = runtime.spawn({
            let lock = lock.clone();
            move || *lock.write().unwrap() += 1
        });
        // Readers are let in until a writer waits.
        while lock.try_read().is_ok() {
            thread::yield_now();
        }
        task.cancel();
        drop(guard);
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(*lock.try_write().expect("free again"), 0);
    });
}

#[test]
fn a_cancelled_writer_lets_the_readers_in() {
    model(1, || {
        let runtime = runtime();
        let lock = Arc::new(RwLock::new(0));
        let guard = lock.read().unwrap();
        let writer = runtime.spawn({
            let lock = lock.clone();
            move || *lock.write().unwrap() += 1
        });
        let reader = {
            let lock = lock.clone();
            thread::spawn(move || *lock.read().unwrap())
        };
        writer.cancel();
        // The writer may be gone or not; the reader must not need this guard to go if it is.
        let gone = writer.is_finished();
        if gone {
            reader.join().unwrap();
            drop(guard);
        } else {
            drop(guard);
            reader.join().unwrap();
        }
        let ran = writer.join().is_ok();
        assert_eq!(*lock.try_write().expect("free again"), usize::from(ran));
    });
}

/// A writer becomes a reader while another writer and a reader come.
#[test]
fn a_writer_becomes_a_reader() {
    model(2, || {
        let shared = Arc::new((RwLock::new(0), Data::new()));
        let mut writing = shared.0.write().unwrap();
        let writer = {
            let shared = shared.clone();
            thread::spawn(move || {
                let mut writing = shared.0.write().unwrap();
                *writing += 1;
                shared.1.add();
            })
        };
        let reader = {
            let shared = shared.clone();
            thread::spawn(move || {
                let reading = shared.0.read().unwrap();
                assert!(*reading >= 1 && shared.1.get() >= 1);
            })
        };
        *writing += 1;
        shared.1.add();
        let reading = RwLockWriteGuard::downgrade(writing);
        assert_eq!((*reading, shared.1.get()), (1, 1));
        drop(reading);
        writer.join().unwrap();
        reader.join().unwrap();
        assert_eq!((*shared.0.try_write().unwrap(), shared.1.get()), (2, 2));
    });
}

/// The last reader comes late to the queues: the writer that waited is gone, and others have the lock.
#[test]
fn a_late_reader_gives_nothing_away_that_is_taken() {
    model(1, || {
        let runtime = runtime();
        let lock = Arc::new(RwLock::new(0));
        let guard = lock.read().unwrap();
        let writer = runtime.spawn({
            let lock = lock.clone();
            move || drop(lock.write().unwrap())
        });
        // Lets the writer wait.
        thread::yield_now();
        let other = {
            let lock = lock.clone();
            thread::spawn(move || {
                writer.cancel();
                let _ = writer.join();
                let mut guard = lock.write().unwrap();
                *guard += 1;
                thread::yield_now();
                *guard += 1;
            })
        };
        drop(guard);
        *lock.write().unwrap() += 1;
        other.join().unwrap();
        assert_eq!(*lock.try_write().unwrap(), 3);
    });
}

#[test]
fn a_condvar_notifies_who_waits() {
    model(3, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let setter = {
            let shared = shared.clone();
            thread::spawn(move || {
                *shared.0.lock().unwrap() = true;
                shared.1.notify_one();
            })
        };
        drop(shared.1.wait_while(shared.0.lock().unwrap(), |ready| !*ready).unwrap());
        setter.join().unwrap();
    });
}

#[test]
fn a_condvar_notifies_all() {
    model(2, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let wait = {
            let shared = shared.clone();
            move || drop(shared.1.wait_while(shared.0.lock().unwrap(), |ready| !*ready).unwrap())
        };
        let waiter = thread::spawn(wait.clone());
        let setter = {
            let shared = shared.clone();
            thread::spawn(move || {
                *shared.0.lock().unwrap() = true;
                shared.1.notify_all();
            })
        };
        wait();
        waiter.join().unwrap();
        setter.join().unwrap();
    });
}

#[test]
fn a_notification_that_comes_after_a_cancellation_is_not_taken() {
    model(2, || {
        let runtime = runtime();
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let wait = |shared: Arc<(Mutex<i32>, Condvar)>| {
            let mut waiting = shared.0.lock().unwrap();
            *waiting += 1;
            drop(shared.1.wait(waiting).unwrap());
        };
        let task = runtime.spawn({
            let shared = shared.clone();
            move || wait(shared)
        });
        while *shared.0.lock().unwrap() == 0 {
            thread::yield_now();
        }
        let next = thread::spawn({
            let shared = shared.clone();
            move || wait(shared)
        });
        while *shared.0.lock().unwrap() == 1 {
            thread::yield_now();
        }
        task.cancel();
        shared.1.notify_one();
        assert!(task.join().unwrap_err().is_cancelled());
        next.join().unwrap();
    });
}

/// A task and a thread wait for a token each; the task is cancelled. One token is enough for the thread.
#[test]
fn a_notification_is_not_lost_to_a_cancelled_task() {
    model(1, || {
        let runtime = runtime();
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        let take = {
            let shared = shared.clone();
            move || {
                let mut tokens = shared.1.wait_while(shared.0.lock().unwrap(), |tokens| *tokens == 0).unwrap();
                *tokens -= 1;
            }
        };
        let task = runtime.spawn(take.clone());
        let thread = thread::spawn(take);
        // Lets both wait, and then, where the task has been notified, lets it wait for the mutex.
        thread::yield_now();
        let mut tokens = shared.0.lock().unwrap();
        *tokens += 1;
        shared.1.notify_one();
        thread::yield_now();
        task.cancel();
        drop(tokens);
        if task.join().is_ok() {
            *shared.0.lock().unwrap() += 1;
            shared.1.notify_one();
        }
        thread.join().unwrap();
    });
}

#[test]
fn a_semaphore_between_threads() {
    model(2, || {
        let shared = Arc::new((Semaphore::new(1), Data::new()));
        let enter = {
            let shared = shared.clone();
            move || {
                let _permit = shared.0.acquire().unwrap();
                shared.1.add();
            }
        };
        let others = [thread::spawn(enter.clone()), thread::spawn(enter.clone())];
        enter();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!((shared.0.available_permits(), shared.1.get()), (1, 3));
    });
}

#[test]
fn a_permit_is_not_lost_to_a_cancelled_task() {
    model(1, || {
        let runtime = runtime();
        let shared = Arc::new((Semaphore::new(0), Data::new()));
        let take = {
            let shared = shared.clone();
            move || {
                shared.0.acquire().unwrap().forget();
                assert_eq!(shared.1.get(), 1);
            }
        };
        let task = runtime.spawn(take.clone());
        let adder = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.add();
                shared.0.add_permits(1);
            })
        };
        task.cancel();
        adder.join().unwrap();
        if task.join().is_err() {
            take();
        }
        assert_eq!(shared.0.available_permits(), 0);
    });
}

/// The permits come after the cancellation, wherever the waiter is on its way to sleep or from there.
#[test]
fn permits_that_come_after_a_cancellation_are_not_taken() {
    model(2, || {
        let runtime = runtime();
        let semaphore = Arc::new(Semaphore::new(1));
        let task = runtime.spawn({
            let semaphore = semaphore.clone();
            move || semaphore.acquire_many(2).unwrap().forget()
        });
        // It gathers the one that there is as soon as it waits.
        while semaphore.available_permits() > 0 {
            thread::yield_now();
        }
        task.cancel();
        semaphore.add_permits(1);
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(semaphore.available_permits(), 2);
    });
}

#[test]
fn a_closing_semaphore_refuses_who_waits() {
    model(3, || {
        let shared = Arc::new((Semaphore::new(0), Data::new()));
        // Who only looks is started first, and so runs last: loom does not go back to a load that comes before an exchange.
        let looks = {
            let shared = shared.clone();
            thread::spawn(move || {
                if shared.0.is_closed() {
                    assert_eq!(shared.1.get(), 1);
                }
            })
        };
        let waits = {
            let shared = shared.clone();
            thread::spawn(move || assert!(shared.0.acquire().is_err()))
        };
        shared.1.add();
        shared.0.close();
        looks.join().unwrap();
        waits.join().unwrap();
    });
}

#[test]
fn notify_one_against_who_is_about_to_wait() {
    model(3, || {
        let shared = Arc::new((Notify::new(), Data::new()));
        let notifier = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.add();
                shared.0.notify_one();
            })
        };
        shared.0.notified();
        assert_eq!(shared.1.get(), 1);
        notifier.join().unwrap();
    });
}

/// Two notifications that are kept as one tell of what both notifiers have done.
#[test]
fn two_notifications_that_may_become_one_tell_of_both() {
    model(2, || {
        let shared = Arc::new((Notify::new(), [AtomicUsize::new(0), AtomicUsize::new(0)]));
        let notifiers = [0, 1].map(|i| {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1[i].store(1, Relaxed);
                shared.0.notify_one();
            })
        });
        while shared.1.iter().any(|done| done.load(Relaxed) == 0) {
            shared.0.notified();
        }
        notifiers.into_iter().for_each(|notifier| notifier.join().unwrap());
    });
}

/// Of two that wait on one machine the second is cancelled while both are being woken.
#[test]
fn notify_waiters_against_a_cancellation() {
    model(1, || {
        let runtime = runtime();
        let shared = Arc::new((Notify::new(), AtomicUsize::new(0)));
        let tasks = [(); 2].map(|()| {
            let shared = shared.clone();
            runtime.spawn(move || {
                shared.1.fetch_add(1, Relaxed);
                shared.0.notified();
            })
        });
        while shared.1.load(Relaxed) < 2 {
            thread::yield_now();
        }
        let [first, second] = tasks;
        // It runs, if it wants to take itself out, while the others are woken.
        second.cancel();
        shared.0.notify_waiters();
        first.join().unwrap();
        assert!(second.join().map_or_else(|error| error.is_cancelled(), |()| true));
    });
}

#[test]
fn notify_one_against_a_cancellation() {
    model(2, || {
        let runtime = runtime();
        let shared = Arc::new((Notify::new(), Data::new()));
        let wait = {
            let shared = shared.clone();
            move || {
                shared.0.notified();
                assert_eq!(shared.1.get(), 1);
            }
        };
        let task = runtime.spawn(wait.clone());
        let notifier = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.1.add();
                shared.0.notify_one();
            })
        };
        task.cancel();
        notifier.join().unwrap();
        if task.join().is_err() {
            // Kept for whoever comes next.
            wait();
        }
    });
}

#[test]
fn once_with_two_callers() {
    model(3, || {
        let shared = Arc::new((Once::new(), OnceLock::new(), Data::new()));
        let call = {
            let shared = shared.clone();
            move || {
                shared.0.call_once(|| {
                    assert!(shared.1.set(1).is_ok(), "runs twice");
                    shared.2.add();
                });
                assert_eq!((*shared.1.get().unwrap(), shared.2.get()), (1, 1));
            }
        };
        let other = thread::spawn(call.clone());
        let looker = {
            let shared = shared.clone();
            thread::spawn(move || {
                if shared.0.is_completed() {
                    assert_eq!(shared.2.get(), 1);
                }
            })
        };
        call();
        other.join().unwrap();
        looker.join().unwrap();
    });
}

#[test]
fn a_barrier_for_two() {
    model(3, || {
        let shared = Arc::new((Barrier::new(2), [Data::new(), Data::new()]));
        let meet = {
            let shared = shared.clone();
            move |i: usize| {
                shared.1[i].add();
                let leads = shared.0.wait().is_leader();
                assert_eq!(shared.1[1 - i].get(), 1);
                leads
            }
        };
        let other = {
            let meet = meet.clone();
            thread::spawn(move || meet(1))
        };
        let leads = meet(0);
        assert_ne!(leads, other.join().unwrap());
    });
}

#[test]
fn a_wait_group_with_two_members() {
    model(3, || {
        let group = WaitGroup::new();
        let work = Arc::new([Data::new(), Data::new()]);
        let others = [0, 1].map(|i| {
            let (member, work) = (group.clone(), work.clone());
            thread::spawn(move || {
                work[i].add();
                drop(member);
            })
        });
        group.wait();
        assert_eq!((work[0].get(), work[1].get()), (1, 1));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}
