//! Attempts that fail instead of waiting: a loop over them gives way to the other tasks of its machine, once the monitor has seen
//! it hold that.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenloom::channel::{Select, TryRecvError, TrySendError, after, at, bounded, never, select, select_biased, unbounded};
use greenloom::group::Group;
use greenloom::pool::WorkerPool;
use greenloom::sync::{Mutex, RwLock, Semaphore};
use greenloom::time::timeout;
use greenloom::{current, no_suspend, park, park_timeout, scope, spawn, spawn_local, yield_now};
use test_support::{Counter, OnDrop, run_with_spares, yield_until};

use crate::other::Other;

/// Runs a case in a task, at one processor and at two.
#[track_caller]
fn in_tasks(case: fn()) {
    for processors in [1, 2] {
        run_with_spares(processors, case);
    }
}

/// Returns when the monitor has seen this task hold its machine, the only one: a spare one has then started what is fresh. The
/// caller must not suspend.
fn be_noticed() {
    be_noticed_after(|| ());
}

/// The same; meanwhile runs `first`, when the last task has been spawned.
fn be_noticed_after(first: impl FnOnce()) {
    let fresh = Counter::default();
    drop(spawn({
        let fresh = fresh.clone();
        move || fresh.add()
    }));
    first();
    test_support::spin_until(|| fresh.get() == 1);
}

/// As many failures as a loop must have to be told from a lone attempt.
fn often(attempt: impl FnMut()) {
    std::iter::repeat_with(attempt).take(64).for_each(drop);
}

#[test]
fn a_loop_over_try_recv_lets_others_run() {
    in_tasks(|| {
        let (_s, r) = unbounded::<()>();
        Other::ready().wait_repeating(|| assert_eq!(r.try_recv(), Err(TryRecvError::Empty)));
        let (_s, r) = bounded::<()>(0);
        Other::ready().wait_repeating(|| assert_eq!(r.try_recv(), Err(TryRecvError::Empty)));
        let (_, r) = bounded::<()>(1);
        Other::ready().wait_repeating(|| assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected)));
        let r = after(Duration::from_secs(3600));
        Other::ready().wait_repeating(|| assert_eq!(r.try_recv(), Err(TryRecvError::Empty)));
        let r = never::<()>();
        Other::ready().wait_repeating(|| assert_eq!(r.try_recv(), Err(TryRecvError::Empty)));
    });
}

#[test]
fn a_loop_over_try_iter_lets_others_run() {
    in_tasks(|| {
        let (_s, r) = unbounded::<()>();
        Other::ready().wait_repeating(|| assert_eq!(r.try_iter().count(), 0));
    });
}

#[test]
fn a_loop_over_try_send_lets_others_run_and_keeps_its_message() {
    in_tasks(|| {
        let mut message = Some(Box::new(1));
        let (s, r) = bounded(0);
        Other::ready().wait_repeating(|| match s.try_send(message.take().unwrap()) {
            Err(TrySendError::Full(back)) => message = Some(back),
            other => panic!("{other:?}"),
        });
        drop(r);
        Other::ready().wait_repeating(|| match s.try_send(message.take().unwrap()) {
            Err(TrySendError::Disconnected(back)) => message = Some(back),
            other => panic!("{other:?}"),
        });
        assert_eq!(message, Some(Box::new(1)));
        let (s, _r) = bounded(1);
        s.send(1).unwrap();
        Other::ready().wait_repeating(|| assert_eq!(s.try_send(2), Err(TrySendError::Full(2))));
    });
}

#[test]
fn a_loop_over_a_select_with_default_lets_others_run() {
    in_tasks(|| {
        let (s, r) = bounded::<()>(0);
        Other::ready().wait_repeating(|| {
            select! {
                recv(r) -> _ => unreachable!(),
                send(s, ()) -> _ => unreachable!(),
                default => {}
            }
        });
        Other::ready().wait_repeating(|| {
            select_biased! {
                recv(r) -> _ => unreachable!(),
                default => {}
            }
        });
        let far = at(Instant::now() + Duration::from_secs(3600));
        let mut select = Select::new();
        select.recv(&r);
        select.recv(&far);
        Other::ready().wait_repeating(|| assert!(select.try_select().is_err()));
        Other::ready().wait_repeating(|| assert!(select.try_ready().is_err()));
    });
}

#[test]
fn a_loop_over_locks_that_are_taken_lets_others_run() {
    in_tasks(|| {
        let mutex = Mutex::new(());
        let guard = mutex.lock().unwrap();
        Other::ready().wait_repeating(|| assert!(mutex.try_lock().is_err()));
        drop(guard);
        let lock = RwLock::new(());
        let guard = lock.write().unwrap();
        Other::ready().wait_repeating(|| assert!(lock.try_read().is_err()));
        Other::ready().wait_repeating(|| assert!(lock.try_write().is_err()));
        drop(guard);
    });
}

#[test]
fn a_loop_over_permits_that_are_out_lets_others_run() {
    in_tasks(|| {
        let permits = Arc::new(Semaphore::new(0));
        Other::ready().wait_repeating(|| assert!(permits.try_acquire().is_err()));
        Other::ready().wait_repeating(|| assert!(permits.try_acquire_many(2).is_err()));
        Other::ready().wait_repeating(|| assert!(permits.clone().try_acquire_owned().is_err()));
        Other::ready().wait_repeating(|| assert!(permits.clone().try_acquire_many_owned(2).is_err()));
        permits.close();
        Other::ready().wait_repeating(|| assert!(permits.try_acquire().is_err()));
    });
}

#[test]
fn a_loop_over_is_finished_lets_others_run() {
    in_tasks(|| {
        let task = spawn(park);
        Other::ready().wait_repeating(|| assert!(!task.is_finished()));
        task.cancel();
        let task = spawn_local(park);
        Other::ready().wait_repeating(|| assert!(!task.is_finished()));
        task.cancel();
        scope(|s| {
            let task = s.spawn(park);
            Other::ready().wait_repeating(|| assert!(!task.is_finished()));
            task.cancel();
        });
    });
}

#[test]
fn a_loop_over_a_full_pool_or_group_lets_others_run() {
    in_tasks(|| {
        let pool = WorkerPool::new(1, 1);
        let mut jobs = Vec::new();
        // Some are taken at first.
        Other::ready().wait_repeating(|| jobs.extend(pool.try_submit(park)));
        let group = Group::<()>::new();
        group.set_limit(1);
        group.spawn(|| {
            park();
            Ok(())
        });
        Other::ready().wait_repeating(|| assert!(!group.try_spawn(|| unreachable!())));
    });
}

#[test]
fn a_loop_over_a_park_without_time_lets_others_run() {
    in_tasks(|| Other::ready().wait_repeating(|| park_timeout(Duration::ZERO)));
}

#[test]
fn two_loops_over_attempts_and_a_sleeper_take_turns() {
    in_tasks(|| {
        let (s1, r1) = unbounded();
        let (s2, r2) = bounded(1);
        let tries = spawn_local(move || {
            while r1.try_recv().is_err() {}
            s2.try_send(()).unwrap();
        });
        let sleeps = spawn_local(move || {
            greenloom::sleep(Duration::from_millis(1));
            s1.send(()).unwrap();
        });
        while r2.try_recv().is_err() {}
        tries.join().unwrap();
        sleeps.join().unwrap();
    });
}

/// Not each turn of such loops is left to the monitor's ticks, which would make minutes of this.
#[test]
fn two_that_talk_by_attempts_alone_take_turns_without_the_monitor() {
    in_tasks(|| {
        const MESSAGES: usize = 100_000;
        let (s, r) = bounded(1);
        let sender = spawn_local(move || (0..MESSAGES).for_each(|n| while s.try_send(n).is_err() {}));
        let mut expected = 0;
        while expected < MESSAGES {
            if let Ok(n) = r.try_recv() {
                assert_eq!(n, expected);
                expected += 1;
            }
        }
        sender.join().unwrap();
    });
}

#[test]
fn what_a_task_has_made_ready_itself_goes_before_it() {
    run_with_spares(1, || {
        let ran = Counter::default();
        let waits = spawn_local({
            let ran = ran.clone();
            move || {
                park();
                ran.add();
            }
        });
        yield_now();
        be_noticed_after(|| waits.task().unpark());
        let (_s, r) = unbounded::<()>();
        often(|| assert!(r.try_recv().is_err()));
        assert_eq!(ran.get(), 1);
        waits.join().unwrap();
    });
}

/// The job of a worker, say, under the std lock that its queue is behind: the next worker of the thread would wait for that for ever.
#[test]
fn a_few_attempts_after_long_work_do_not_give_way() {
    run_with_spares(1, || {
        let (_s, r) = unbounded::<()>();
        let other = Other::ready();
        be_noticed();
        for _ in 0..10 {
            assert!(r.try_recv().is_err());
        }
        assert!(!other.has_run());
        other.task.join().unwrap();
    });
}

#[test]
fn one_attempt_beside_a_loop_over_attempts_does_not_give_way() {
    in_tasks(|| {
        let (_s, r) = unbounded::<()>();
        let (inside, rounds) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(0)));
        let tries_once = spawn_local({
            let (r, inside, rounds) = (r.clone(), inside.clone(), rounds.clone());
            move || {
                while rounds.get() < 50_000 {
                    inside.set(true);
                    assert!(r.try_recv().is_err());
                    inside.set(false);
                    rounds.set(rounds.get() + 1);
                    yield_now();
                }
            }
        });
        while rounds.get() < 50_000 {
            assert!(r.try_recv().is_err());
            assert!(!inside.get(), "suspended in its attempt");
        }
        tries_once.join().unwrap();
    });
}

#[test]
fn inside_no_suspend_an_attempt_does_not_give_way() {
    run_with_spares(1, || {
        let (_s, r) = unbounded::<()>();
        let mutex = Mutex::new(());
        let _guard = mutex.lock().unwrap();
        let other = Other::ready();
        no_suspend(|| {
            be_noticed();
            often(|| assert!(r.try_recv().is_err() && mutex.try_lock().is_err()));
            assert!(!other.has_run());
        });
        often(|| assert!(r.try_recv().is_err()));
        assert!(other.has_run());
    });
}

#[test]
fn an_attempt_in_a_destructor_of_an_unwinding_does_not_give_way() {
    run_with_spares(1, || {
        let (_s, r) = unbounded::<()>();
        let other = Other::ready();
        let unwinds = catch_unwind(AssertUnwindSafe(|| {
            let _tries = OnDrop::new(|| {
                be_noticed();
                often(|| assert!(r.try_recv().is_err()));
                assert!(!other.has_run());
            });
            resume_unwind(Box::new("on purpose"));
        }));
        assert!(unwinds.is_err());
        often(|| assert!(r.try_recv().is_err()));
        assert!(other.has_run());
    });
}

#[test]
fn an_attempt_gives_way_to_a_task_that_is_suspended_in_a_destructor_of_its_unwinding() {
    in_tasks(|| {
        let (begun, ended) = (Counter::default(), Counter::default());
        let unwinds = spawn_local({
            let (begun, ended) = (begun.clone(), ended.clone());
            move || {
                let _suspends = OnDrop::new(move || {
                    begun.add();
                    yield_now();
                    ended.add();
                });
                current().cancel();
                yield_now();
            }
        });
        yield_until(|| begun.get() == 1);
        let (_s, r) = unbounded::<()>();
        while ended.get() == 0 {
            assert!(r.try_recv().is_err());
        }
        assert!(unwinds.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_cancelled_task_that_gives_way_gets_its_answer() {
    in_tasks(|| {
        let task = spawn_local(|| {
            let (other, (s, _r)) = (Other::ready(), bounded(0));
            current().cancel();
            while !other.has_run() {
                assert_eq!(s.try_send(7), Err(TrySendError::Full(7)));
            }
            "not cancelled"
        });
        assert_eq!(task.join().unwrap(), "not cancelled");
    });
}

#[test]
fn a_task_whose_time_is_up_gives_way_and_gets_its_answer() {
    in_tasks(|| {
        let (other, (s, _r)) = (Other::ready(), bounded(0));
        let tried = timeout(Duration::ZERO, || {
            while !other.has_run() {
                assert_eq!(s.try_send(7), Err(TrySendError::Full(7)));
            }
        });
        assert!(tried.is_ok());
    });
}
