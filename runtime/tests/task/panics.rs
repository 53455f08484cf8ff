//! A panic hurts nobody but its task.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use greenloom::{park, spawn, spawn_local, yield_now};
use test_support::{Counter, OnDrop, run_on, runtime, unless_it_hangs, yield_until};

#[test]
fn the_tasks_around_a_panicking_one_go_on() {
    run_on(2, || {
        let tasks: Vec<_> = (0..1000)
            .map(|i| {
                spawn(move || {
                    yield_now();
                    assert!(i % 10 != 0, "every tenth");
                    i
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            match task.join() {
                Ok(value) => assert_eq!((value, i % 10 != 0), (i, true)),
                Err(error) => assert!(i % 10 == 0 && error.is_panic()),
            }
        }
    });
}

#[test]
fn a_panic_in_the_root_comes_out_of_run_with_its_payload() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let payload = catch_unwind(AssertUnwindSafe(|| runtime.run(|| panic_any(vec![1, 2])))).unwrap_err();
        assert_eq!(*payload.downcast::<Vec<i32>>().unwrap(), [1, 2]);
        // And the runtime is as good as before.
        assert_eq!(runtime.run(|| 3), 3);
    });
}

#[test]
fn a_panic_in_the_root_of_the_free_run_comes_out_and_ends_its_runtime() {
    unless_it_hangs(|| {
        let ended = Counter::default();
        let guard = ended.on_drop();
        let payload = catch_unwind(AssertUnwindSafe(|| {
            greenloom::run(|| {
                drop(spawn(move || {
                    let _guard = guard;
                    park();
                }));
                yield_now();
                panic_any("the payload");
            })
        }));
        assert_eq!(payload.unwrap_err().downcast_ref::<&str>(), Some(&"the payload"));
        assert_eq!(ended.get(), 1);
    });
}

#[test]
fn a_panic_that_nobody_joins_is_dropped_with_its_payload() {
    run_on(1, || {
        let dropped = Counter::default();
        let payload = dropped.on_drop();
        drop(spawn(move || panic_any(payload)));
        yield_until(|| dropped.get() == 1);
    });
}

#[test]
fn a_task_may_catch_its_own_panic_suspend_and_go_on() {
    run_on(1, || {
        let task = spawn(|| {
            for _ in 0..10 {
                assert!(catch_unwind(|| panic!("caught")).is_err());
                yield_now();
            }
            "went on"
        });
        assert_eq!(task.join().unwrap(), "went on");
    });
}

#[test]
fn destructors_run_while_a_panic_unwinds_and_may_suspend() {
    run_on(1, || {
        let steps = Arc::new(std::sync::Mutex::new(Vec::new()));
        let child = spawn(park);
        let waker = child.task();
        let task = spawn({
            let steps = steps.clone();
            move || {
                let _last = OnDrop::new(|| steps.lock().unwrap().push("joined"));
                let _join = OnDrop::new(|| {
                    steps.lock().unwrap().push("joins");
                    child.join().unwrap();
                });
                let _yield = OnDrop::new(yield_now);
                panic!("unwinds");
            }
        });
        yield_until(|| steps.lock().unwrap_or_else(|e| e.into_inner()).contains(&"joins"));
        assert!(!task.is_finished());
        waker.unpark();
        assert!(task.join().unwrap_err().is_panic());
        assert_eq!(*steps.lock().unwrap_or_else(|e| e.into_inner()), ["joins", "joined"]);
    });
}

struct PanicsOnDrop(Counter);

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        self.0.add();
        panic!("in a destructor");
    }
}

#[test]
fn a_result_whose_destructor_panics_hurts_nobody_when_its_task_is_detached() {
    run_on(1, || {
        let dropped = Counter::default();
        for round in 1..=10 {
            let bomb = PanicsOnDrop(dropped.clone());
            drop(spawn(move || bomb));
            yield_until(|| dropped.get() == round);
            assert_eq!(spawn(|| 1).join().unwrap(), 1);
        }
    });
}

#[test]
fn a_result_whose_destructor_panics_panics_in_who_drops_the_handle() {
    run_on(1, || {
        let dropped = Counter::default();
        let bomb = PanicsOnDrop(dropped.clone());
        let task = spawn(move || bomb);
        yield_until(|| task.is_finished());
        let payload = catch_unwind(AssertUnwindSafe(|| drop(task))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"in a destructor"));
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_payload_whose_destructor_panics_hurts_nobody() {
    run_on(1, || {
        let dropped = Counter::default();
        let bomb = PanicsOnDrop(dropped.clone());
        drop(spawn(move || panic_any(bomb)));
        yield_until(|| dropped.get() == 1);
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_destructor_that_panics_with_a_payload_that_panics_hurts_nobody() {
    struct Outer(Counter);
    impl Drop for Outer {
        fn drop(&mut self) {
            panic_any(PanicsOnDrop(self.0.clone()));
        }
    }
    run_on(1, || {
        let dropped = Counter::default();
        let bomb = Outer(dropped.clone());
        drop(spawn(move || bomb));
        // The payload may be forgotten, but it must not take the machine with it.
        for _ in 0..10 {
            yield_now();
        }
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_closure_whose_destructor_panics_at_cancellation_is_a_panic_of_that_task() {
    run_on(1, || {
        let dropped = Counter::default();
        let bomb = PanicsOnDrop(dropped.clone());
        let task = spawn(move || drop(bomb));
        task.cancel();
        let error = task.join().unwrap_err();
        assert_eq!(error.to_string(), "task panicked: in a destructor");
        assert_eq!(dropped.get(), 1);
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_panic_in_a_local_task_stays_there() {
    run_on(1, || {
        assert!(spawn_local(|| panic!("local")).join().unwrap_err().is_panic());
        assert_eq!(spawn_local(|| 2).join().unwrap(), 2);
    });
}

#[test]
fn a_mutex_is_poisoned_by_its_own_tasks_panic_only() {
    run_on(1, || {
        let mutex = Arc::new(std::sync::Mutex::new(0));
        let begun = Arc::new(AtomicBool::new(false));
        // This one holds the lock across the other's panic, which happens on the same thread.
        let holder = spawn({
            let (mutex, begun) = (mutex.clone(), begun.clone());
            move || {
                let mut guard = mutex.lock().unwrap();
                begun.store(true, SeqCst);
                park();
                *guard = 1;
            }
        });
        yield_until(|| begun.load(SeqCst));
        assert!(spawn(|| panic!("beside it")).join().is_err());
        holder.task().unpark();
        holder.join().unwrap();
        assert_eq!(*mutex.lock().unwrap(), 1);
    });
}
