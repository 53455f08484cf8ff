//! While a task is suspended in the middle of its unwinding, because a destructor of it waits: it and the others on its thread.
//!
//! One processor throughout, so that all of them share a thread, and what a test sees after a yield is settled.

use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use greenloom::channel::{never, select};
use greenloom::context::Context;
use greenloom::group::Group;
use greenloom::sync::Mutex;
use greenloom::time::timeout;
use greenloom::{JoinHandle, current, park, sleep, spawn, yield_now};
use test_support::{Counter, OnDrop, Slot, run_on, yield_until};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

/// A task that is in the middle of its unwinding until it is released.
struct Unwinding {
    task: JoinHandle<()>,
    phase: Arc<AtomicUsize>,
}

/// The steps of [`Unwinding`]'s destructor.
const STARTED: usize = 1;
const IN_DESTRUCTOR: usize = 2;
const RELEASED: usize = 3;
const DONE: usize = 4;
const BY_ITSELF: usize = 5;

impl Unwinding {
    /// By a cancellation, or by a panic of its own.
    fn new(by_panic: bool) -> Self {
        let phase = Arc::new(AtomicUsize::new(0));
        let task = spawn({
            let phase = phase.clone();
            move || {
                let _guard = OnDrop::new(|| {
                    phase.store(IN_DESTRUCTOR, SeqCst);
                    // Once, not in a loop: it must not return before the token comes.
                    park();
                    // No assertion here: a panic would end all the tests.
                    let woken = phase.load(SeqCst) == RELEASED;
                    phase.store(if woken { DONE } else { BY_ITSELF }, SeqCst);
                });
                phase.store(STARTED, SeqCst);
                assert!(!by_panic, "unwinds");
                park();
            }
        });
        if !by_panic {
            yield_until(|| phase.load(SeqCst) == STARTED);
            task.cancel();
        }
        yield_until(|| phase.load(SeqCst) == IN_DESTRUCTOR);
        Self { task, phase }
    }

    #[track_caller]
    fn assert_suspended(&self) {
        some_yields();
        assert_eq!(self.phase.load(SeqCst), IN_DESTRUCTOR, "{BY_ITSELF} is: park returned by itself");
    }

    #[track_caller]
    fn release(self) -> greenloom::JoinError {
        assert_eq!(self.phase.swap(RELEASED, SeqCst), IN_DESTRUCTOR);
        self.task.task().unpark();
        let error = self.task.join().unwrap_err();
        assert_eq!(self.phase.load(SeqCst), DONE);
        error
    }
}

/// Enough that everything ready on the one processor has run.
fn some_yields() {
    for _ in 0..200 {
        yield_now();
    }
}

#[test]
fn a_destructor_may_wait_while_its_task_unwinds() {
    run_on(1, || {
        let unwinding = Unwinding::new(false);
        unwinding.assert_suspended();
        assert!(unwinding.release().is_cancelled());
    });
}

#[test]
fn a_destructor_may_spawn_join_and_yield_while_its_task_unwinds() {
    run_on(1, || {
        let (parked, sum) = (Counter::default(), Slot::new());
        let task = spawn({
            let (parked, sum) = (parked.clone(), sum.clone());
            move || {
                let _guard = OnDrop::new(|| {
                    let children: Vec<_> = (0..20)
                        .map(|i| {
                            spawn(move || {
                                yield_now();
                                i
                            })
                        })
                        .collect();
                    yield_now();
                    sum.put(children.into_iter().map(|child| child.join().unwrap()).sum::<i32>());
                });
                parked.add();
                park();
            }
        });
        yield_until(|| parked.get() == 1);
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(sum.take(), Some(190));
    });
}

#[test]
fn cancelling_it_again_does_not_disturb_its_destructor() {
    run_on(1, || {
        let unwinding = Unwinding::new(false);
        unwinding.task.cancel();
        unwinding.assert_suspended();
        assert!(unwinding.release().is_cancelled());
    });
}

#[test]
fn cancelling_a_task_that_unwinds_from_its_own_panic_does_not_disturb_its_destructor() {
    run_on(1, || {
        let unwinding = Unwinding::new(true);
        unwinding.task.cancel();
        unwinding.assert_suspended();
        let error = unwinding.release();
        assert!(error.is_panic(), "the panic came first: {error}");
    });
}

#[test]
fn others_on_the_thread_go_on_as_ever() {
    run_on(1, || {
        for by_panic in [false, true] {
            let unwinding = Unwinding::new(by_panic);
            assert_eq!(
                spawn(|| {
                    yield_now();
                    1
                })
                .join()
                .unwrap(),
                1
            );
            let parked = spawn(park);
            yield_now();
            parked.task().unpark();
            parked.join().unwrap();
            assert!(catch_unwind(|| panic!("caught")).is_err());
            assert_eq!(spawn(|| panic!("reported")).join().unwrap_err().to_string(), "task panicked: reported");
            unwinding.assert_suspended();
            unwinding.release();
        }
    });
}

#[test]
fn a_task_that_panics_meanwhile_runs_its_destructors() {
    run_on(1, || {
        let unwinding = Unwinding::new(false);
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let task = spawn(move || {
            let _guard = guard;
            yield_now();
            panic!("on top");
        });
        assert!(task.join().unwrap_err().is_panic());
        assert_eq!(dropped.get(), 1);
        unwinding.assert_suspended();
        unwinding.release();
    });
}

/// A task that waits by `wait`, and what it has passed.
fn waiter(wait: impl FnOnce() + Send + 'static) -> (JoinHandle<()>, Counter, Counter) {
    let (started, passed) = (Counter::default(), Counter::default());
    let task = spawn({
        let (started, passed) = (started.clone(), passed.clone());
        move || {
            started.add();
            wait();
            passed.add();
        }
    });
    yield_until(|| started.get() == 1);
    (task, started, passed)
}

#[test]
fn one_that_waited_before_is_cancelled_at_once() {
    run_on(1, || {
        let child = spawn(park);
        let waker = child.task();
        let (joining, _, passed) = waiter(move || child.join().unwrap());
        let (parked, _, also_passed) = waiter(park);
        for by_panic in [false, true] {
            let unwinding = Unwinding::new(by_panic);
            let cancelled = if by_panic { &joining } else { &parked };
            cancelled.cancel();
            yield_until(|| cancelled.is_finished());
            unwinding.assert_suspended();
            unwinding.release();
        }
        assert!(joining.join().unwrap_err().is_cancelled() && parked.join().unwrap_err().is_cancelled());
        assert_eq!(passed.get() + also_passed.get(), 0);
        waker.unpark();
    });
}

/// A service and its stop: the most usual destructor that waits.
#[test]
fn a_destructor_joins_a_task_of_its_thread_that_it_has_cancelled() {
    run_on(1, || {
        for by_panic in [false, true] {
            let owner = spawn(move || {
                let service = spawn(park);
                yield_now();
                let _stop = OnDrop::new(|| {
                    service.cancel();
                    assert!(service.join().unwrap_err().is_cancelled());
                });
                assert!(!by_panic, "unwinds");
                park();
            });
            (0..3).for_each(|_| yield_now());
            owner.cancel();
            assert_eq!(owner.join().unwrap_err().is_panic(), by_panic);
        }
    });
}

/// The same for a group, whose members end by their context.
#[test]
fn a_destructor_waits_for_a_group_of_its_thread_that_it_has_told_to_end() {
    run_on(1, || {
        for by_panic in [false, true] {
            let begun = Counter::default();
            let beginner = begun.clone();
            let owner = spawn(move || {
                let (ctx, canceller) = Context::background().with_cancel();
                let group = Group::<()>::new();
                for _ in 0..3 {
                    let ctx = ctx.clone();
                    group.spawn(move || {
                        assert!(ctx.run_until_done(park).is_err());
                        Ok(())
                    });
                }
                yield_now();
                let _stop = OnDrop::new(|| {
                    canceller.cancel();
                    assert_eq!(group.wait(), Ok(()));
                });
                beginner.add();
                assert!(!by_panic, "unwinds");
                park();
            });
            yield_until(|| begun.get() == 1);
            owner.cancel();
            assert_eq!(owner.join().unwrap_err().is_panic(), by_panic);
        }
    });
}

#[test]
fn destructors_that_wait_do_so_together() {
    run_on(1, || {
        let (waiting, together) = (Counter::default(), Counter::default());
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let (waiting, together) = (waiting.clone(), together.clone());
                spawn(move || {
                    let _guard = OnDrop::new(|| {
                        waiting.add();
                        yield_until(|| waiting.get() == 20);
                        together.add();
                    });
                    park();
                })
            })
            .collect();
        (0..60).for_each(|_| yield_now());
        tasks.iter().for_each(JoinHandle::cancel);
        for task in tasks {
            assert!(task.join().unwrap_err().is_cancelled());
        }
        assert_eq!(together.get(), 20);
    });
}

/// Ways to wait, each without an end of its own.
fn waits() -> [(&'static str, fn()); 8] {
    [
        ("park", park),
        ("join", || spawn(park).join().unwrap()),
        ("yield_now", || yield_until(|| false)),
        ("sleep", || sleep(LONG)),
        ("recv", || _ = never::<()>().recv()),
        ("select", || select! { recv(never::<()>()) -> _ => {}, default(LONG) => {} }),
        ("lock", || {
            let mutex = Mutex::new(());
            let _held = mutex.lock().unwrap();
            drop(mutex.lock());
        }),
        ("scope", || greenloom::scope(|s| _ = s.spawn(park))),
    ]
}

#[test]
fn one_that_began_to_wait_meanwhile_is_cancelled_at_once() {
    run_on(1, || {
        for by_panic in [false, true] {
            for (name, wait) in waits() {
                let unwinding = Unwinding::new(by_panic);
                let (task, _, passed) = waiter(wait);
                some_yields();
                task.cancel();
                yield_until(|| task.is_finished());
                assert!(task.join().unwrap_err().is_cancelled(), "{name}");
                assert_eq!(passed.get(), 0, "{name}");
                unwinding.assert_suspended();
                unwinding.release();
            }
        }
    });
}

#[test]
fn one_that_waits_only_after_it_was_cancelled_ends_at_once() {
    run_on(1, || {
        for (name, wait) in waits() {
            let unwinding = Unwinding::new(false);
            let task = spawn(move || {
                current().cancel();
                wait();
            });
            yield_until(|| task.is_finished());
            assert!(task.join().unwrap_err().is_cancelled(), "{name}");
            unwinding.assert_suspended();
            unwinding.release();
        }
    });
}

#[test]
fn a_limit_that_began_meanwhile_ends_what_is_in_it() {
    run_on(1, || {
        for (name, wait) in waits() {
            let unwinding = Unwinding::new(false);
            assert!(timeout(SHORT, wait).is_err(), "{name}");
            unwinding.assert_suspended();
            unwinding.release();
        }
    });
}

#[test]
fn a_task_stuck_in_a_destructor_keeps_no_other_from_ending() {
    run_on(1, || {
        let stuck = Unwinding::new(false);
        for _ in 0..3 {
            assert!(timeout(SHORT, park).is_err());
            let (task, ..) = waiter(park);
            task.cancel();
            assert!(task.join().unwrap_err().is_cancelled());
            let (ctx, canceller) = Context::background().with_cancel();
            let (bounded, ..) = waiter(move || assert!(ctx.run_until_done(park).is_err()));
            canceller.cancel();
            bounded.join().unwrap();
        }
        stuck.release();
    });
}

/// A task that panics while another is suspended in its unwinding, and waits by `wait` in a destructor; cancelled then.
fn panics_and_waits(wait: impl FnOnce(&dyn Fn()) + Send + 'static) {
    run_on(1, move || {
        let first = Unwinding::new(false);
        let (waiting, released, torn) = (Counter::default(), Counter::default(), Counter::default());
        let second = spawn({
            let (waiting, released, torn) = (waiting.clone(), released.clone(), torn.clone());
            move || {
                wait(&|| {
                    let torn = torn.on_drop();
                    waiting.add();
                    yield_until(|| released.get() == 1);
                    std::mem::forget(torn);
                });
            }
        });
        yield_until(|| waiting.get() == 1);
        second.cancel();
        some_yields();
        assert_eq!((torn.get(), second.is_finished()), (0, false));
        released.add();
        assert!(second.join().unwrap_err().is_panic());
        assert_eq!(torn.get(), 0);
        first.assert_suspended();
        first.release();
    });
}

#[test]
fn one_that_panics_meanwhile_waits_to_the_end_of_its_destructor() {
    panics_and_waits(|wait| {
        let _guard = OnDrop::new(wait);
        panic!("unwinds");
    });
    panics_and_waits(|wait| {
        let _guard = OnDrop::new(wait);
        std::panic::resume_unwind(Box::new("unwinds"));
    });
}

#[test]
fn so_it_does_however_the_destructor_is_called() {
    panics_and_waits(|wait| {
        let guards = vec![Box::new(OnDrop::new(wait))];
        let closure = move || {
            let _guards = &guards;
            panic!("unwinds");
        };
        closure();
    });
    // With what would catch an unwinding between the two.
    panics_and_waits(|wait| {
        let _guard = OnDrop::new(|| _ = catch_unwind(std::panic::AssertUnwindSafe(wait)));
        panic!("unwinds");
    });
    // A level further out.
    panics_and_waits(|wait| {
        let _guard = OnDrop::new(|| {
            let inner = OnDrop::new(wait);
            drop(inner);
        });
        panic!("unwinds");
    });
}

#[test]
fn one_that_has_caught_its_panic_meanwhile_is_cancelled_at_once() {
    run_on(1, || {
        let unwinding = Unwinding::new(false);
        let (task, _, passed) = waiter(|| {
            let caught = catch_unwind(|| {
                let _guard = OnDrop::new(yield_now);
                panic!("caught");
            });
            assert!(caught.is_err());
            park();
        });
        some_yields();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(passed.get(), 0);
        unwinding.assert_suspended();
        unwinding.release();
    });
}

/// An unwinding may not leave it: that would end the process.
extern "C" fn callback() {
    park();
}

#[test]
fn a_callback_of_another_language_is_not_ended_meanwhile() {
    run_on(1, || {
        let unwinding = Unwinding::new(false);
        let returned = Counter::default();
        let (task, _, passed) = waiter({
            let returned = returned.clone();
            move || {
                callback();
                returned.add();
                park();
            }
        });
        some_yields();
        task.cancel();
        some_yields();
        assert!(!task.is_finished());
        task.task().unpark();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!((returned.get(), passed.get()), (1, 0));
        unwinding.release();
    });
}

#[test]
fn a_destructor_that_joins_gets_the_result_though_it_is_cancelled_again() {
    run_on(1, || {
        let child = spawn(|| {
            park();
            6
        });
        let (waker, result) = (child.task(), Slot::new());
        let (task, ..) = waiter({
            let result = result.clone();
            move || {
                let _guard = OnDrop::new(|| result.put(child.join().unwrap()));
                park();
            }
        });
        task.cancel();
        some_yields();
        task.cancel();
        some_yields();
        waker.unpark();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(result.take(), Some(6));
    });
}

#[test]
fn cancelling_a_fresh_one_meanwhile_drops_its_closure() {
    run_on(1, || {
        let unwinding = Unwinding::new(false);
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let task = spawn(move || {
            let _guard = guard;
            panic!("ran");
        });
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 1);
        unwinding.release();
    });
}

#[test]
fn two_may_be_in_the_middle_of_unwinding_and_end_in_either_order() {
    run_on(1, || {
        for by_panic in [false, true] {
            for newest_first in [false, true] {
                let first = Unwinding::new(false);
                let second = Unwinding::new(by_panic);
                let (one, other) = if newest_first { (second, first) } else { (first, second) };
                let mutex = Mutex::new(());
                let guard = mutex.lock().unwrap();
                one.release();
                other.assert_suspended();
                drop(guard);
                assert!(!mutex.is_poisoned(), "neither panic was this task's");
                let (parked, _, passed) = waiter(park);
                parked.cancel();
                assert!(parked.join().unwrap_err().is_cancelled());
                assert_eq!(passed.get(), 0);
                other.release();
                assert!(!std::thread::panicking(), "the thread's count is wrong");
            }
        }
    });
}

#[test]
fn those_that_are_cancelled_meanwhile_may_wait_in_their_destructors_too() {
    run_on(1, || {
        let unwinding = Unwinding::new(false);
        let done = Counter::default();
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                let done = done.clone();
                waiter(move || {
                    let _guard = OnDrop::new(|| {
                        yield_now();
                        spawn(yield_now).join().unwrap();
                        done.add();
                    });
                    park();
                })
                .0
            })
            .collect();
        tasks.iter().for_each(JoinHandle::cancel);
        for task in tasks {
            assert!(task.join().unwrap_err().is_cancelled());
        }
        assert_eq!(done.get(), 20);
        unwinding.assert_suspended();
        unwinding.release();
    });
}

#[test]
fn the_current_task_is_still_itself_in_its_destructors() {
    run_on(1, || {
        let seen = Slot::new();
        let (task, ..) = waiter({
            let seen = seen.clone();
            move || {
                let _guard = OnDrop::new(|| {
                    yield_now();
                    seen.put(current().id());
                });
                park();
            }
        });
        let id = task.task().id();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(seen.take(), Some(id));
    });
}
