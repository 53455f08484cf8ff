//! Limits of time: `timeout`, `timeout_at`.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenloom::sync::{Barrier, Condvar, Mutex, Notify, Once, RwLock, Semaphore};
use greenloom::time::{sleep, timeout, timeout_at};
use greenloom::{channel, park, spawn, spawn_local, yield_now};
use test_support::{Counter, OnDrop, run_on, unless_it_hangs};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

/// Runs `body` in a task of a runtime with one processor.
fn in_a_task<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    run_on(1, body)
}

#[test]
fn what_is_done_in_time_is_returned() {
    in_a_task(|| assert_eq!(timeout(LONG, || 42), Ok(42)));
}

#[test]
fn a_wait_ends_when_time_is_up() {
    in_a_task(|| {
        let start = Instant::now();
        assert!(timeout(SHORT, park).is_err());
        assert!(start.elapsed() >= SHORT);
    });
}

#[test]
fn destructors_run_once() {
    in_a_task(|| {
        let drops = Counter::default();
        let guard = drops.on_drop();
        let result = timeout(SHORT, || {
            let _guard = guard;
            sleep(LONG);
        });
        assert!(result.is_err());
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn the_task_goes_on_after_it() {
    in_a_task(|| {
        for _ in 0..3 {
            assert!(timeout(SHORT, park).is_err());
            yield_now();
            assert_eq!(timeout(LONG, || spawn(|| 1).join().unwrap()), Ok(1));
        }
    });
}

#[test]
fn the_earlier_of_two_limits_wins_whichever_is_outside() {
    in_a_task(|| {
        assert_eq!(timeout(LONG, || timeout(SHORT, park).is_err()), Ok(true));
        assert!(timeout(SHORT, || timeout(LONG, park)).is_err());
    });
}

#[test]
fn of_two_limits_that_are_over_the_outer_ends() {
    in_a_task(|| {
        let result = timeout(Duration::ZERO, || timeout(Duration::ZERO, park));
        assert!(result.is_err());
    });
}

#[test]
fn a_swallowed_limit_comes_again_and_the_result_is_elapsed() {
    in_a_task(|| {
        let mut raised = 0;
        let result = timeout(SHORT, || {
            for _ in 0..5 {
                let caught = catch_unwind(AssertUnwindSafe(park));
                raised += usize::from(caught.is_err());
            }
            7
        });
        assert!(result.is_err());
        assert_eq!(raised, 5);
        yield_now();
    });
}

#[test]
fn a_limit_of_zero_lets_the_code_run_to_its_first_suspension() {
    in_a_task(|| {
        let mut steps = 0;
        let result = timeout(Duration::ZERO, || {
            steps += 1;
            yield_now();
            steps += 1;
        });
        assert!(result.is_err());
        assert_eq!(steps, 1);
        assert_eq!(timeout(Duration::ZERO, || 5), Ok(5));
    });
}

#[test]
fn a_plain_thread_has_limits_too() {
    unless_it_hangs(|| {
        let (_sender, receiver) = channel::bounded::<()>(0);
        let drops = Counter::default();
        let start = Instant::now();
        let result = timeout(SHORT, || {
            let _guard = drops.on_drop();
            timeout(LONG, || receiver.recv())
        });
        assert!(result.is_err() && start.elapsed() >= SHORT);
        assert_eq!(drops.get(), 1);
        assert!(timeout(SHORT, || sleep(LONG)).is_err());
        assert!(
            timeout(SHORT, || loop {
                park()
            })
            .is_err()
        );
        assert!(timeout_at(Instant::now(), yield_now).is_err());
        assert_eq!(timeout(LONG, || 3), Ok(3));
        sleep(SHORT);
    });
}

#[test]
fn a_cancellation_passes_through_limits() {
    in_a_task(|| {
        let drops = Counter::default();
        let counted = drops.clone();
        let task = spawn(move || {
            let _outside = counted.on_drop();
            let _ = timeout(LONG, || {
                let _inside = counted.on_drop();
                park();
            });
        });
        yield_now();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(drops.get(), 2);
    });
}

#[test]
fn a_panic_passes_through_limits() {
    in_a_task(|| {
        let task = spawn(|| timeout(LONG, || -> () { resume_unwind(Box::new(7)) }).is_err());
        assert_eq!(task.join().unwrap_err().into_panic().downcast_ref(), Some(&7));
    });
}

#[test]
fn destructors_may_suspend_while_a_limit_unwinds() {
    in_a_task(|| {
        let mut waited = false;
        let result = timeout(SHORT, || {
            let _waits = OnDrop::new(|| {
                sleep(SHORT);
                waited = true;
            });
            park();
        });
        assert!(result.is_err() && waited);
    });
}

#[test]
fn every_kind_of_wait_ends() {
    fn ends(name: &str, wait: impl FnOnce()) {
        let drops = Counter::default();
        let result = timeout(SHORT, || {
            let _guard = drops.on_drop();
            wait();
        });
        assert!(result.is_err(), "{name}");
        assert_eq!(drops.get(), 1, "{name}");
    }
    fn all() {
        let (sender, receiver) = channel::bounded::<i32>(0);
        ends("recv", || _ = receiver.recv());
        ends("recv_timeout", || _ = receiver.recv_timeout(LONG));
        ends("send", || sender.send(1).unwrap());
        ends("after", || _ = channel::after(LONG).recv());
        ends("select!", || {
            channel::select! {
                recv(receiver) -> _ => {}
                recv(channel::never::<()>()) -> _ => {}
            }
        });
        let mutex = Arc::new(Mutex::new(0));
        let (lock, unlock) = channel::bounded::<()>(0);
        let holder = std::thread::spawn({
            let mutex = mutex.clone();
            move || {
                let _guard = mutex.lock().unwrap();
                lock.send(()).unwrap();
                let _ = lock.send(());
            }
        });
        unlock.recv().unwrap();
        ends("Mutex::lock", || drop(mutex.lock()));
        unlock.recv().unwrap();
        holder.join().unwrap();
        let condvar = Condvar::new();
        ends("Condvar::wait", || drop(condvar.wait(mutex.lock().unwrap())));
        assert!(!mutex.is_poisoned());
        let lock = RwLock::new(0);
        let reader = lock.read().unwrap();
        ends("RwLock::write", || drop(lock.write()));
        drop(reader);
        ends("Semaphore::acquire", || drop(Semaphore::new(0).acquire()));
        ends("Notify::notified", || Notify::new().notified());
        ends("Barrier::wait", || _ = Barrier::new(2).wait());
        ends("sleep", || sleep(LONG));
        ends("park", || {
            loop {
                park();
            }
        });
        ends("park_timeout", || {
            loop {
                greenloom::park_timeout(LONG);
            }
        });
        ends("yield_now", || {
            loop {
                yield_now();
            }
        });
    }
    in_a_task(all);
    unless_it_hangs(all);
}

#[test]
fn a_join_ends_and_its_task_goes_on() {
    in_a_task(|| {
        let (sender, receiver) = channel::bounded::<()>(1);
        let sum = Counter::default();
        let task = spawn({
            let sum = sum.clone();
            move || {
                receiver.recv().unwrap();
                sum.add();
            }
        });
        assert!(timeout(SHORT, || task.join()).is_err());
        sender.send(()).unwrap();
        while sum.get() == 0 {
            yield_now();
        }
    });
}

#[test]
fn local_tasks_and_what_is_not_send_may_be_limited() {
    in_a_task(|| {
        let seen = spawn_local(|| {
            let shared = Rc::new(RefCell::new(0));
            let inside = shared.clone();
            let result = timeout(SHORT, move || {
                *inside.borrow_mut() += 1;
                park();
            });
            assert!(result.is_err());
            assert_eq!(Rc::strong_count(&shared), 1);
            shared.take()
        });
        assert_eq!(seen.join().unwrap(), 1);
    });
}

#[test]
fn limits_may_lie_deep_inside_each_other() {
    fn nested(depth: u32, drops: &Counter) {
        let _guard = drops.on_drop();
        if depth == 0 {
            sleep(LONG);
        } else {
            // The frame is inside the one that ends, so this never returns.
            let _ = timeout(LONG, || nested(depth - 1, drops));
            unreachable!();
        }
    }
    in_a_task(|| {
        let drops = Counter::default();
        assert!(timeout(SHORT, || nested(50, &drops)).is_err());
        assert_eq!(drops.get(), 51);
        yield_now();
    });
}

#[test]
fn an_inner_limit_leaves_the_outer_in_force() {
    in_a_task(|| {
        let inner = Counter::default();
        let start = Instant::now();
        let result = timeout(Duration::from_millis(20), || {
            loop {
                assert!(timeout(SHORT, park).is_err());
                inner.add();
            }
        });
        assert!(result.is_err() && start.elapsed() >= Duration::from_millis(20));
        assert!(inner.get() < 11);
    });
}

#[test]
fn a_limit_that_is_too_long_to_be_said_is_none() {
    for on_thread in [false, true] {
        let body = || assert_eq!(timeout(Duration::MAX, || timeout(SHORT, park).is_err()), Ok(true));
        if on_thread { unless_it_hangs(body) } else { in_a_task(body) }
    }
    in_a_task(|| assert_eq!(timeout(Duration::from_secs(u64::MAX / 8), || sleep(SHORT)), Ok(())));
}

#[test]
fn a_moment_that_has_passed_is_a_limit_of_zero() {
    in_a_task(|| {
        let past = Instant::now() - SHORT;
        assert!(timeout_at(past, yield_now).is_err());
        assert_eq!(timeout_at(past, || 1), Ok(1));
    });
}

#[test]
fn what_ends_too_late_but_ends_counts() {
    in_a_task(|| {
        let result = timeout(SHORT, || {
            let start = Instant::now();
            while start.elapsed() < SHORT * 5 {}
            3
        });
        assert_eq!(result, Ok(3));
        // Nothing is left of it.
        yield_now();
        sleep(SHORT);
    });
}

#[test]
fn a_cancellation_comes_before_a_limit() {
    in_a_task(|| {
        let after = Counter::default();
        let task = spawn({
            let after = after.clone();
            move || {
                greenloom::current().cancel();
                let _ = timeout(Duration::ZERO, yield_now);
                after.add();
            }
        });
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(after.get(), 0);
    });
}

#[test]
fn locks_of_ours_are_not_poisoned_and_those_of_std_are() {
    fn all() {
        let (ours, theirs) = (Mutex::new(0), std::sync::Mutex::new(0));
        let result = timeout(SHORT, || {
            let _ours = ours.lock().unwrap();
            let _theirs = theirs.lock().unwrap();
            sleep(LONG);
        });
        assert!(result.is_err());
        assert!(!ours.is_poisoned() && theirs.is_poisoned());
        let once = Once::new();
        assert!(timeout(SHORT, || once.call_once(|| sleep(LONG))).is_err());
        let mut ran = false;
        once.call_once(|| ran = true);
        assert!(ran);
    }
    in_a_task(all);
    unless_it_hangs(all);
}

#[test]
fn a_panic_of_a_destructor_that_the_limit_runs_is_a_panic() {
    in_a_task(|| {
        let task = spawn(|| {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                timeout(SHORT, || {
                    // Caught, and then another: what arrives is the second.
                    let _ = catch_unwind(AssertUnwindSafe(park));
                    resume_unwind(Box::new("second"));
                })
            }));
            yield_now();
            *caught.unwrap_err().downcast::<&str>().unwrap()
        });
        assert_eq!(task.join().unwrap(), "second");
    });
}

#[test]
fn an_unwinding_that_was_kept_ends_no_other_limit() {
    in_a_task(|| {
        let mut kept = None;
        let result = timeout(SHORT, || kept = catch_unwind(AssertUnwindSafe(park)).err());
        assert!(result.is_err());
        let payload = kept.unwrap();
        let task = spawn_local(move || {
            let _ = timeout(LONG, || resume_unwind(payload));
            unreachable!("it is nobody's unwinding");
        });
        assert!(task.join().is_err());
    });
}

/// The frame of the second limit is where that of the first was.
#[test]
fn an_unwinding_that_was_kept_does_not_end_a_later_limit_in_the_same_place() {
    in_a_task(|| {
        let mut kept = None;
        for limit in [Duration::ZERO, LONG] {
            let ended = catch_unwind(AssertUnwindSafe(|| {
                timeout(limit, || match kept.take() {
                    None => kept = catch_unwind(yield_now).err(),
                    Some(payload) => resume_unwind(payload),
                })
            }));
            match ended {
                Ok(result) => assert!(result.is_err() && limit.is_zero()),
                Err(_nobodys) => assert_eq!(limit, LONG),
            }
        }
    });
}

#[test]
fn a_limit_ends_while_another_task_is_suspended_in_its_unwinding() {
    in_a_task(|| {
        let (go_on, wait) = channel::bounded::<()>(0);
        let panics = spawn(move || {
            let _waits = OnDrop::new(move || wait.recv().unwrap());
            resume_unwind(Box::new(()));
        });
        yield_now();
        let limited = spawn(|| timeout(SHORT, park).is_err());
        assert!(limited.join().unwrap());
        assert!(!panics.is_finished());
        go_on.send(()).unwrap();
        assert!(panics.join().is_err());
    });
}

#[test]
fn a_limit_inside_a_destructor_does_not_end_an_unwinding_task() {
    in_a_task(|| {
        let (sender, receiver) = channel::bounded::<()>(0);
        let task = spawn(move || {
            let _waits = OnDrop::new(move || assert_eq!(timeout(SHORT, || receiver.recv()), Ok(Ok(()))));
            resume_unwind(Box::new(()));
        });
        sleep(SHORT * 3);
        sender.send(()).unwrap();
        assert!(task.join().is_err());
    });
}

#[test]
fn no_message_is_lost_to_a_limit() {
    const MESSAGES: u64 = 3_000;
    fn receive_all(capacity: usize) {
        let (sender, receiver) = channel::bounded(capacity);
        let sending = spawn(move || {
            for message in 0..MESSAGES {
                if message % 3 == 0 {
                    sleep(Duration::from_micros(message % 70));
                }
                sender.send(message).unwrap();
            }
        });
        let mut expected = 0;
        let mut ended = 0;
        while expected < MESSAGES {
            match timeout(Duration::from_micros(expected % 53), || receiver.recv()) {
                Ok(message) => {
                    assert_eq!(message, Ok(expected));
                    expected += 1;
                }
                Err(_) => ended += 1,
            }
        }
        assert!(ended > 0);
        sending.join().unwrap();
    }
    for (processors, capacity) in [(1, 0), (2, 0), (2, 3)] {
        run_on(processors, move || receive_all(capacity));
    }
}

#[test]
fn a_meeting_as_time_is_up_has_happened_for_both_or_for_neither() {
    run_on(2, || {
        for round in 0..300 {
            let (sender, receiver) = channel::bounded(0);
            let moment = Duration::from_micros(round * 3);
            let sending = spawn(move || {
                sleep(moment);
                sender.send(round).is_ok()
            });
            let got = timeout(moment, || receiver.recv());
            drop(receiver);
            assert_eq!(sending.join().unwrap(), got == Ok(Ok(round)), "{got:?}");
        }
    });
}

#[test]
fn limits_leave_the_token_of_park_alone() {
    in_a_task(|| {
        let me = greenloom::current();
        me.unpark();
        assert_eq!(timeout(LONG, park), Ok(()));
        assert!(timeout(SHORT, park).is_err());
        // The limit that ended a `park` has left no token behind.
        let start = Instant::now();
        greenloom::park_timeout(SHORT);
        assert!(start.elapsed() >= SHORT);
        // Nor does one that is over take the token that comes.
        let result = timeout(Duration::ZERO, || {
            me.unpark();
            park();
        });
        assert!(result.is_err());
        assert_eq!(timeout(LONG, park), Ok(()));
    });
}

#[test]
fn an_elapsed_limit_reads_as_tokios() {
    let elapsed = in_a_task(|| timeout(Duration::ZERO, yield_now).unwrap_err());
    assert_eq!(elapsed.to_string(), "deadline has elapsed");
    assert_eq!(std::io::Error::from(elapsed).kind(), std::io::ErrorKind::TimedOut);
}

/// More than fire under one holding of a lock.
#[test]
fn hundreds_of_limits_and_sleeps_that_are_over_at_one_moment_all_end() {
    run_on(1, || {
        let moment = Instant::now() + Duration::from_millis(30);
        let tasks: Vec<_> = (0..300)
            .map(|number| {
                spawn(move || match number % 3 {
                    0 => timeout_at(moment, park).is_err(),
                    1 => {
                        greenloom::time::sleep_until(moment);
                        true
                    }
                    // Taken back before.
                    _ => timeout_at(moment, yield_now).is_ok(),
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert!(task.join().unwrap() || number % 3 == 2, "{number}");
        }
    });
}
