//! `checkpoint`, `uncancellable`, `Task::cancel`, and what is said of tasks that go on all the same.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenloom::context::{Context, ContextError};
use greenloom::sync::Mutex;
use greenloom::task::Builder;
use greenloom::time::timeout;
use greenloom::{checkpoint, current, park, sleep, spawn, uncancellable, yield_now};
use test_support::{Counter, OnDrop, Slot, in_child, run_on, unless_it_hangs};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_checkpoint_does_nothing_otherwise() {
    run_on(1, || {
        let ran = Counter::default();
        let other = spawn({
            let ran = ran.clone();
            move || ran.add()
        });
        for _ in 0..1000 {
            checkpoint();
        }
        greenloom::no_suspend(checkpoint);
        assert_eq!(ran.get(), 0, "it let another task run");
        other.join().unwrap();
    });
    checkpoint();
}

#[test]
fn a_checkpoint_ends_a_cancelled_loop() {
    for processors in [1, 2] {
        run_on(processors, || {
            let drops = Counter::default();
            let (guard, started) = (drops.on_drop(), Slot::new());
            let task = spawn({
                let started = started.clone();
                move || {
                    let _guard = guard;
                    started.put(());
                    loop {
                        checkpoint();
                    }
                }
            });
            let handle = task.task();
            // By a thread: with one processor, no other task runs meanwhile.
            std::thread::spawn(move || {
                while started.take().is_none() {
                    std::thread::yield_now();
                }
                handle.cancel();
            });
            assert!(task.join().unwrap_err().is_cancelled());
            assert_eq!(drops.get(), 1);
        });
    }
}

#[test]
fn a_checkpoint_ends_a_loop_whose_time_is_up() {
    for processors in [1, 2] {
        run_on(processors, || {
            let start = Instant::now();
            let result = timeout(SHORT, || {
                loop {
                    checkpoint();
                }
            });
            assert!(result.is_err() && start.elapsed() >= SHORT);
        });
    }
    unless_it_hangs(|| {
        assert!(
            timeout(SHORT, || loop {
                checkpoint()
            })
            .is_err()
        )
    });
}

#[test]
fn others_whose_time_comes_while_a_task_holds_the_thread_run_afterwards() {
    run_on(1, || {
        let woken = Counter::default();
        let sleepers: Vec<_> = (0..100)
            .map(|i| {
                let woken = woken.clone();
                spawn(move || {
                    sleep(SHORT + Duration::from_micros(i * 50));
                    woken.add();
                })
            })
            .collect();
        yield_now();
        let result = timeout(Duration::from_millis(30), || {
            loop {
                checkpoint();
            }
        });
        assert!(result.is_err());
        sleepers.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(woken.get(), 100);
    });
}

#[test]
fn a_cancellation_waits_for_the_end_of_an_uncancellable_section() {
    run_on(1, || {
        let (done, after) = (Counter::default(), Counter::default());
        let task = spawn({
            let (done, after) = (done.clone(), after.clone());
            move || {
                uncancellable(|| {
                    park();
                    checkpoint();
                    yield_now();
                    uncancellable(|| sleep(SHORT));
                    sleep(SHORT);
                    done.add();
                });
                yield_now();
                after.add();
            }
        });
        yield_now();
        task.cancel();
        sleep(SHORT);
        assert!(!task.is_finished());
        task.task().unpark();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!((done.get(), after.get()), (1, 0));
    });
}

#[test]
fn a_limit_waits_for_the_end_of_an_uncancellable_section() {
    fn all() {
        let mut steps = 0;
        let result = timeout(SHORT, || {
            uncancellable(|| {
                sleep(SHORT * 3);
                checkpoint();
                steps += 1;
            });
            steps += 1;
            checkpoint();
            steps += 1;
        });
        assert!(result.is_err());
        assert_eq!(steps, 2);
    }
    run_on(1, all);
    unless_it_hangs(all);
}

#[test]
fn a_limit_inside_an_uncancellable_section_is_kept() {
    fn all() {
        let mut inner = 0;
        let result = timeout(Duration::ZERO, || {
            uncancellable(|| {
                // The outer limit is over already, and must not hide this one, nor be taken for it.
                inner += u32::from(timeout(SHORT, || sleep(LONG)).is_err());
                sleep(SHORT);
                inner += u32::from(timeout(SHORT, || timeout(LONG, || sleep(LONG))).is_err());
            });
            yield_now();
            unreachable!();
        });
        assert!(result.is_err());
        assert_eq!(inner, 2);
    }
    run_on(1, all);
    unless_it_hangs(all);
    run_on(1, || {
        let inner = Counter::default();
        let task = spawn({
            let inner = inner.clone();
            move || {
                current().cancel();
                uncancellable(|| {
                    assert!(timeout(SHORT, park).is_err());
                    inner.add();
                });
                park();
            }
        });
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(inner.get(), 1);
    });
}

#[test]
fn an_uncancellable_section_inside_another_ends_with_the_outer_one() {
    fn all() {
        let mut steps = 0;
        let result = timeout(SHORT, || {
            uncancellable(|| {
                uncancellable(|| sleep(SHORT * 2));
                checkpoint();
                steps += 1;
            });
            checkpoint();
            steps += 1;
        });
        assert!(result.is_err());
        assert_eq!(steps, 1);
        // Where nothing looks for the limit afterwards, the value counts.
        assert_eq!(timeout(SHORT, || uncancellable(|| [sleep(SHORT * 2)].len())), Ok(1));
    }
    run_on(1, all);
    unless_it_hangs(all);
}

#[test]
fn a_context_inside_an_uncancellable_section_is_kept() {
    fn all() {
        let (ctx, _canceller) = Context::background().with_timeout(SHORT);
        // The limit of time is over when the context ends.
        let result = timeout(Duration::ZERO, || uncancellable(|| ctx.run_until_done(|| sleep(LONG))));
        assert_eq!(result, Ok(Err(ContextError::DeadlineExceeded)));
    }
    run_on(1, all);
    unless_it_hangs(all);
}

#[test]
fn a_panic_ends_an_uncancellable_section() {
    run_on(1, || {
        let task = spawn(|| {
            let caught = catch_unwind(|| uncancellable(|| std::panic::resume_unwind(Box::new(()))));
            assert!(caught.is_err());
            current().cancel();
            yield_now();
            unreachable!();
        });
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_task_is_cancelled_by_any_of_its_handles() {
    run_on(1, || {
        let task = spawn(park);
        yield_now();
        task.task().clone().cancel();
        task.task().cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        let ended = spawn(|| 1);
        let handle = ended.task();
        yield_now();
        handle.cancel();
        assert_eq!(ended.join().unwrap(), 1);
        handle.cancel();
    });
    // A plain thread does not mind.
    current().cancel();
    sleep(SHORT);
}

#[test]
fn a_task_that_swallows_its_cancellation_is_named_once() {
    let child = in_child!("a_task_that_swallows_its_cancellation_is_named_once", || {
        run_on(1, || {
            let swallows = Builder::new()
                .name("swallows")
                .spawn(|| {
                    current().cancel();
                    for _ in 0..3000 {
                        let _ = catch_unwind(AssertUnwindSafe(yield_now));
                    }
                })
                .unwrap();
            swallows.join().unwrap();
        });
    });
    child.assert_success();
    child.assert_said("greenloom: task 'swallows' (id");
    child.assert_said("spawned at runtime/tests/task/interrupts.rs:");
    child.assert_said("has been told 1000 times of its cancellation");
    assert_eq!(child.stderr.matches("1000 times").count(), 1, "{}", child.stderr);
}

#[test]
fn a_task_that_swallows_its_limit_is_named_and_one_with_many_limits_is_not() {
    let child = in_child!("a_task_that_swallows_its_limit_is_named_and_one_with_many_limits_is_not", || {
        run_on(1, || {
            let many = Builder::new()
                .name("many")
                .spawn(|| (0..3000).for_each(|_| assert!(timeout(Duration::ZERO, yield_now).is_err())))
                .unwrap();
            many.join().unwrap();
            let swallows = Builder::new()
                .name("swallows")
                .spawn(|| {
                    let result = timeout(Duration::ZERO, || {
                        for _ in 0..3000 {
                            let _ = catch_unwind(AssertUnwindSafe(yield_now));
                        }
                    });
                    assert!(result.is_err());
                })
                .unwrap();
            swallows.join().unwrap();
        });
    });
    child.assert_success();
    child.assert_said("task 'swallows' (id");
    child.assert_said("has been told 1000 times of the end of its time");
    assert!(!child.stderr.contains("'many'"), "{}", child.stderr);
}

#[test]
fn a_cancelled_task_in_its_destructor_may_be_limited_no_more() {
    run_on(1, || {
        let waited = Counter::default();
        let task = spawn({
            let waited = waited.clone();
            move || {
                let _last = OnDrop::new(move || {
                    // Nothing is raised in the middle of an unwinding: the wait comes to its own end.
                    assert_eq!(timeout(Duration::ZERO, || sleep(SHORT)), Ok(()));
                    checkpoint();
                    waited.add();
                });
                park();
            }
        });
        yield_now();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(waited.get(), 1);
    });
}

#[test]
fn a_payload_that_was_kept_does_not_make_a_later_cancellation_poison() {
    run_on(1, || {
        let mutex = Arc::new(Mutex::new(0));
        let task = spawn({
            let mutex = mutex.clone();
            move || {
                let kept = catch_unwind(park).unwrap_err();
                // Dropped in this order, by the second unwinding: the payload of the first, then the guard.
                let _guard = mutex.lock().unwrap();
                let _kept = kept;
                park();
            }
        });
        yield_now();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert!(mutex.lock().is_ok());
    });
}

#[test]
fn a_payload_of_another_task_does_not_make_a_cancellation_poison() {
    run_on(1, || {
        let (mutex, kept) = (Arc::new(Mutex::new(0)), Slot::new());
        // Both have begun, each on a stack of its own, before either unwinds.
        let keeps = spawn({
            let kept = kept.clone();
            move || kept.put(catch_unwind(park).unwrap_err())
        });
        let task = spawn({
            let mutex = mutex.clone();
            move || {
                park();
                let _guard = mutex.lock().unwrap();
                // Dropped before the guard, in the middle of the unwinding.
                let _kept = kept.take().unwrap();
                park();
            }
        });
        yield_now();
        keeps.cancel();
        keeps.join().unwrap();
        task.task().unpark();
        yield_now();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert!(mutex.lock().is_ok());
    });
}
