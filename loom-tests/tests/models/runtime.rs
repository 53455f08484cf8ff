//! The whole runtime, started, used and ended inside the model: real coroutines, the real worker loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::model;
use greenloom::task::{Builder, Placement};
use greenloom::{Runtime, park, spawn, yield_now};
use loom::sync::mpsc;
use loom::thread;

fn runtime(processors: usize) -> Runtime {
    Runtime::builder().processors(processors).build().unwrap()
}

#[test]
fn one_machine_starts_and_ends() {
    model(3, || drop(runtime(1)));
}

#[test]
fn one_machine_runs_a_task() {
    model(3, || assert_eq!(runtime(1).run(|| 42), 42));
}

#[test]
fn one_machine_spawns_yields_and_joins() {
    model(2, || {
        let sum = runtime(1).run(|| {
            let a = spawn(|| {
                yield_now();
                1
            });
            let b = spawn(|| 2);
            a.join().unwrap() + b.join().unwrap()
        });
        assert_eq!(sum, 3);
    });
}

#[test]
fn a_foreign_thread_wakes_a_parked_task() {
    model(2, || {
        let runtime = runtime(1);
        let task = runtime.spawn(park);
        task.task().unpark();
        task.join().unwrap();
    });
}

#[test]
fn a_parked_task_is_cancelled_from_outside() {
    model(2, || {
        let runtime = runtime(1);
        let task = runtime.spawn(park);
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_cancel_meets_the_end_of_its_task() {
    model(2, || {
        let runtime = runtime(1);
        let task = runtime.spawn(|| 1);
        task.cancel();
        // Before the start it is cancelled; after it, there is no suspension point to notice.
        assert!(task.join().map_or_else(|e| e.is_cancelled(), |one| one == 1));
    });
}

#[test]
fn a_late_spawn_meets_the_end_of_the_runtime() {
    model(2, || {
        let runtime = runtime(1);
        let handle = runtime.handle();
        let (ran, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let guard = OnDrop({
            let dropped = dropped.clone();
            move || _ = dropped.fetch_add(1, Ordering::Relaxed)
        });
        let late = thread::spawn({
            let ran = ran.clone();
            move || {
                let task = handle.spawn(move || {
                    let _guard = guard;
                    ran.store(true, Ordering::Relaxed);
                });
                task.join()
            }
        });
        assert!(runtime.shutdown(Duration::from_secs(1)).is_clean());
        // Whatever happened to it, its handle says so, and its closure is gone.
        match late.join().unwrap() {
            Ok(()) => assert!(ran.load(Ordering::Relaxed)),
            Err(error) => assert!(error.is_cancelled() && !ran.load(Ordering::Relaxed)),
        }
        assert_eq!(dropped.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_parked_task_unwinds_when_its_runtime_ends() {
    model(2, || {
        let runtime = runtime(1);
        let task = runtime.spawn(park);
        drop(runtime);
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

/// Runs a closure when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_cancelled_joiner_does_not_take_an_end_for_another() {
    model(2, || {
        let runtime = runtime(1);
        let (task, first) = runtime.run(|| {
            let first = spawn(park);
            let first_task = first.task();
            let task = spawn(move || {
                let mut second = Some(spawn(|| {
                    park();
                    yield_now();
                    yield_now();
                }));
                // A wake of the first join that is still under way must not end this one.
                let _last = OnDrop(move || {
                    let second = second.take().unwrap();
                    second.task().unpark();
                    second.join().unwrap();
                });
                first.join().unwrap();
                yield_now();
            });
            (task, first_task)
        });
        first.unpark();
        task.cancel();
        // It may have ended before; or not have started.
        assert!(task.join().map_or_else(|e| e.is_cancelled(), |()| true));
    });
}

#[test]
fn a_task_that_waits_in_a_destructor_and_one_that_is_cancelled_meanwhile_both_unwind() {
    model(1, || {
        let runtime = runtime(1);
        let (first, second) = runtime.run(|| {
            let second = spawn(park);
            let first = spawn(|| {
                let _waits = OnDrop(park);
                park();
            });
            yield_now();
            first.cancel();
            (first, second)
        });
        second.cancel();
        // The destructor waits for this.
        first.task().unpark();
        assert!(first.join().unwrap_err().is_cancelled());
        assert!(second.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn two_machines_run_a_task() {
    model(1, || assert_eq!(runtime(2).run(|| 42), 42));
}

#[test]
fn two_machines_spawn_steal_and_join() {
    model(0, || {
        let sum = runtime(2).run(|| {
            let a = spawn(|| 1);
            let b = spawn(|| 2);
            a.join().unwrap() + b.join().unwrap()
        });
        assert_eq!(sum, 3);
    });
}

/// More than half a million executions, even with no forced switch.
#[test]
#[ignore = "takes half an hour: cargo test -p greenloom-loom-tests -- --ignored"]
fn a_search_that_mail_overtakes_is_handed_on() {
    model(0, || {
        let runtime = runtime(2);
        let (done, wait) = mpsc::channel();
        // Once it is woken, it holds its thread until the other task has run.
        let holder = runtime.run(|| {
            let holder = move || {
                park();
                wait.recv().unwrap();
            };
            Builder::new().placement(Placement::On(0)).spawn(holder).unwrap()
        });
        // Both machines fall asleep.
        thread::yield_now();
        let other = runtime.spawn(move || done.send(()).unwrap());
        holder.task().unpark();
        other.join().unwrap();
        holder.join().unwrap();
    });
}
