//! Operations that wait if they must: a loop over them that never has to lets others run all the same, when its time slice is over.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use greenloom::channel::{Select, bounded, select, unbounded};
use greenloom::sync::{Barrier, Mutex, Notify, RwLock, Semaphore, WaitGroup};
use greenloom::task::{Builder, Placement};
use greenloom::time::{interval, timeout};
use greenloom::{Handle, checkpoint, current, no_suspend, park, park_timeout, sleep, spawn, spawn_local, yield_now};
use test_support::{Counter, OnDrop, Ticks, run_on, run_with_spares, spin_until, yield_until};

use crate::other::Other;

/// Runs a case in a task, at one processor and at two.
#[track_caller]
fn in_tasks(case: fn()) {
    for processors in [1, 2] {
        run_on(processors, case);
    }
}

/// Holds the thread, the only one, until the monitor has seen that: a spare machine has then started what is fresh.
fn be_noticed() {
    let fresh = Counter::default();
    drop(spawn({
        let fresh = fresh.clone();
        move || fresh.add()
    }));
    spin_until(|| fresh.get() == 1);
}

#[test]
fn a_loop_over_messages_lets_others_run() {
    in_tasks(|| {
        for (s, r) in [bounded(1), unbounded()] {
            Other::ready().wait_repeating(|| {
                s.send(1).unwrap();
                assert_eq!(r.recv(), Ok(1));
            });
            let mut messages = r.iter();
            Other::ready().wait_repeating(|| {
                s.send_timeout(1, Duration::from_secs(3600)).unwrap();
                assert_eq!(messages.next(), Some(1));
            });
            Other::ready().wait_repeating(|| {
                s.send(1).unwrap();
                assert_eq!(r.recv_timeout(Duration::from_secs(3600)), Ok(1));
            });
        }
        let (s, r) = bounded::<()>(1);
        drop(s);
        Other::ready().wait_repeating(|| assert!(r.recv().is_err()));
        let (s, r) = bounded(1);
        drop(r);
        Other::ready().wait_repeating(|| assert!(s.send(()).is_err()));
    });
}

#[test]
fn a_loop_over_places_in_a_channel_lets_others_run() {
    in_tasks(|| {
        let (s, r) = bounded(1);
        Other::ready().wait_repeating(|| {
            s.send(()).unwrap();
            r.try_recv().unwrap();
        });
    });
}

#[test]
fn a_loop_over_selects_lets_others_run() {
    in_tasks(|| {
        let (s, r) = unbounded();
        Other::ready().wait_repeating(|| {
            s.send(1).unwrap();
            select! {
                recv(r) -> one => assert_eq!(one, Ok(1)),
            }
        });
        let mut select = Select::new();
        select.recv(&r);
        Other::ready().wait_repeating(|| {
            s.send(1).unwrap();
            assert_eq!(select.select().recv(&r), Ok(1));
        });
        s.send(1).unwrap();
        Other::ready().wait_repeating(|| assert_eq!(select.ready(), 0));
    });
}

#[test]
fn a_loop_over_free_locks_lets_others_run() {
    in_tasks(|| {
        let mutex = Mutex::new(());
        Other::ready().wait_repeating(|| drop(mutex.lock()));
        let lock = RwLock::new(());
        Other::ready().wait_repeating(|| drop(lock.read()));
        Other::ready().wait_repeating(|| drop(lock.write()));
    });
}

#[test]
fn a_loop_over_permits_and_notifications_lets_others_run() {
    in_tasks(|| {
        let permits = Arc::new(Semaphore::new(2));
        Other::ready().wait_repeating(|| drop(permits.acquire()));
        Other::ready().wait_repeating(|| drop(permits.acquire_many(2)));
        Other::ready().wait_repeating(|| drop(permits.clone().acquire_owned()));
        let notify = Notify::new();
        Other::ready().wait_repeating(|| {
            notify.notify_one();
            notify.notified();
        });
    });
}

#[test]
fn a_loop_over_barriers_and_groups_of_one_lets_others_run() {
    in_tasks(|| {
        let barrier = Barrier::new(1);
        Other::ready().wait_repeating(|| _ = barrier.wait());
        Other::ready().wait_repeating(|| WaitGroup::new().wait());
    });
}

#[test]
fn a_loop_over_ends_and_tokens_that_are_there_lets_others_run() {
    in_tasks(|| {
        let mut ended: Vec<_> = (0..1000).map(|_| spawn(|| ())).collect();
        yield_until(|| ended.iter().all(|task| task.is_finished()));
        let other = Other::ready();
        spin_until_over();
        while !other.has_run() {
            ended.pop().expect("the first join after the slice lets others run").join().unwrap();
        }
        other.task.join().unwrap();
        Other::ready().wait_repeating(|| {
            current().unpark();
            park();
        });
        Other::ready().wait_repeating(|| {
            current().unpark();
            park_timeout(Duration::from_secs(3600));
        });
    });
}

/// Holds the thread for many slices.
fn spin_until_over() {
    let ticks = Ticks::start();
    spin_until(|| ticks.count() > 100);
}

#[test]
fn a_loop_over_limits_that_are_over_at_once_lets_others_run() {
    in_tasks(|| {
        let (_s, r) = bounded::<()>(1);
        Other::ready().wait_repeating(|| assert!(timeout(Duration::ZERO, || r.recv()).is_err()));
        for ends in [yield_now, checkpoint, park] {
            Other::ready().wait_repeating(|| assert!(timeout(Duration::ZERO, ends).is_err()));
        }
    });
}

#[test]
fn a_loop_over_ticks_that_were_missed_lets_others_run() {
    in_tasks(|| {
        let mut ticks = interval(Duration::from_nanos(1));
        Other::ready().wait_repeating(|| _ = ticks.tick());
    });
}

#[test]
fn a_receiver_whose_channel_is_never_empty_lets_others_run() {
    run_on(2, || {
        let on = |i| Builder::new().placement(Placement::On(i));
        let (s, r) = bounded(1024);
        let done = Arc::new(AtomicBool::new(false));
        let producer = on(1).spawn(move || while s.send(()).is_ok() {}).unwrap();
        let receiver = on(0).spawn({
            let done = done.clone();
            move || r.iter().take_while(|()| !done.load(SeqCst)).for_each(drop)
        });
        let other = on(0).spawn(move || {
            for _ in 0..3 {
                yield_now();
            }
            done.store(true, SeqCst);
        });
        other.unwrap().join().unwrap();
        receiver.unwrap().join().unwrap();
        producer.join().unwrap();
    });
}

/// Such a task waits in the injector, in no machine's queue.
#[test]
fn a_loop_that_never_waits_lets_a_task_begin_that_a_thread_has_spawned() {
    run_on(1, || {
        let (mutex, begun) = (Mutex::new(()), Counter::default());
        let spawns = std::thread::spawn({
            let (runtime, begun) = (Handle::current(), begun.clone());
            move || drop(runtime.spawn(move || begun.add()))
        });
        spawns.join().unwrap();
        while begun.get() == 0 {
            drop(mutex.lock());
        }
    });
}

/// It is the only one, and no spare machine is to be had.
#[test]
fn a_loop_that_never_waits_lets_a_task_begin() {
    run_on(1, || {
        let (mutex, begun) = (Mutex::new(()), Counter::default());
        drop(spawn({
            let begun = begun.clone();
            move || begun.add()
        }));
        while begun.get() == 0 {
            drop(mutex.lock());
        }
    });
}

/// Not only when a slice is over: a timer that is late ends it. If it did not, each sleep would take a slice, every time.
#[test]
fn sleepers_beside_a_loop_that_never_waits_are_hardly_late() {
    const SLEEPS: usize = 40;
    run_on(1, || {
        let took = || {
            let slept = Arc::new(AtomicUsize::new(0));
            let sleeper = spawn_local({
                let slept = slept.clone();
                move || {
                    for _ in 0..SLEEPS {
                        sleep(Duration::from_millis(1));
                        slept.fetch_add(1, SeqCst);
                    }
                }
            });
            yield_now();
            let (mutex, ticks) = (Mutex::new(()), Ticks::start());
            while slept.load(SeqCst) < SLEEPS {
                drop(mutex.lock());
            }
            sleeper.join().unwrap();
            ticks.count()
        };
        let tries: Vec<usize> = std::iter::repeat_with(took).take(10).take_while(|&ticks| ticks >= 6 * SLEEPS).collect();
        assert!(tries.len() < 10, "{SLEEPS} sleeps of a tick took so many ticks: {tries:?}");
    });
}

#[test]
fn the_first_operation_after_the_slice_lets_others_run() {
    run_with_spares(1, || {
        let (mutex, other) = (Mutex::new(()), Other::ready());
        drop(mutex.lock());
        assert!(!other.has_run());
        be_noticed();
        drop(mutex.lock());
        assert!(other.has_run());
    });
}

#[test]
fn what_never_waits_does_not_let_others_run() {
    run_with_spares(1, || {
        let other = Other::ready();
        be_noticed();
        let (s, r) = unbounded();
        let mutex = Mutex::new(());
        for i in 0..1000 {
            s.send(i).unwrap();
            assert_eq!(r.try_recv(), Ok(i));
            drop(mutex.try_lock().unwrap());
        }
        assert!(!other.has_run());
        other.task.join().unwrap();
    });
}

#[test]
fn inside_no_suspend_nobody_else_runs() {
    run_with_spares(1, || {
        let (mutex, other) = (Mutex::new(()), Other::ready());
        no_suspend(|| {
            be_noticed();
            drop(mutex.lock());
            assert!(!other.has_run());
        });
        drop(mutex.lock());
        assert!(other.has_run());
    });
}

#[test]
fn in_a_destructor_of_an_unwinding_nobody_else_runs() {
    run_with_spares(1, || {
        let (mutex, other) = (Mutex::new(()), Other::ready());
        let unwinds = catch_unwind(AssertUnwindSafe(|| {
            let _locks = OnDrop::new(|| {
                be_noticed();
                drop(mutex.lock());
                assert!(!other.has_run());
            });
            resume_unwind(Box::new("on purpose"));
        }));
        assert!(unwinds.is_err());
        drop(mutex.lock());
        assert!(other.has_run());
    });
}

#[test]
fn nothing_is_raised_where_nothing_is_waited_for() {
    in_tasks(|| {
        let task = spawn_local(|| {
            let (other, (s, r)) = (Other::ready(), bounded(1));
            current().cancel();
            while !other.has_run() {
                s.send(7).unwrap();
                assert_eq!(r.recv(), Ok(7));
            }
            "not cancelled"
        });
        assert_eq!(task.join().unwrap(), "not cancelled");
        let (other, (s, r)) = (Other::ready(), bounded(1));
        let ended = timeout(Duration::ZERO, || {
            while !other.has_run() {
                s.send(7).unwrap();
                assert_eq!(r.recv(), Ok(7));
            }
        });
        assert!(ended.is_ok());
    });
}
