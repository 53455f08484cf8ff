//! Cancellation: in every state a task can be in.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use greenloom::task::{Builder, Placement};
use greenloom::{JoinHandle, current, park, spawn, spawn_local, yield_now};
use test_support::{Counter, OnDrop, Slot, run_on, runtime, spin_until, unless_it_hangs, yield_until};

#[derive(Clone, Default)]
struct Step(Arc<AtomicUsize>);

impl Step {
    fn set(&self, step: usize) {
        self.0.store(step, SeqCst);
    }

    fn get(&self) -> usize {
        self.0.load(SeqCst)
    }

    fn wait_for(&self, step: usize) {
        yield_until(|| self.get() == step);
    }
}

#[track_caller]
fn assert_cancelled<T>(task: JoinHandle<T>) {
    match task.join() {
        Err(error) => assert!(error.is_cancelled(), "{error}"),
        Ok(_) => panic!("it ended well"),
    }
}

#[test]
fn a_fresh_task_never_runs_and_its_closure_is_dropped() {
    run_on(1, || {
        let (ran, dropped) = (Counter::default(), Counter::default());
        let task = spawn({
            let (ran, guard) = (ran.clone(), dropped.on_drop());
            move || {
                let _guard = guard;
                ran.add();
            }
        });
        task.cancel();
        assert_cancelled(task);
        assert_eq!((ran.get(), dropped.get()), (0, 1));
    });
}

#[test]
fn a_fresh_task_with_a_token_never_runs_either() {
    run_on(1, || {
        let task = spawn(|| panic!("ran"));
        task.task().unpark();
        task.cancel();
        assert_cancelled(task);
    });
}

#[test]
fn a_ready_task_unwinds_from_its_next_suspension() {
    run_on(1, || {
        let (step, dropped) = (Step::default(), Counter::default());
        let task = spawn({
            let (step, guard) = (step.clone(), dropped.on_drop());
            move || {
                let _guard = guard;
                step.set(1);
                loop {
                    yield_now();
                }
            }
        });
        step.wait_for(1);
        task.cancel();
        assert_cancelled(task);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_parked_task_unwinds_from_there() {
    run_on(1, || {
        let (step, dropped) = (Step::default(), Counter::default());
        let task = spawn({
            let (step, guard) = (step.clone(), dropped.on_drop());
            move || {
                let _guard = guard;
                step.set(1);
                park();
                step.set(2);
            }
        });
        step.wait_for(1);
        task.cancel();
        assert_cancelled(task);
        assert_eq!((step.get(), dropped.get()), (1, 1));
    });
}

#[test]
fn a_task_with_a_token_unwinds_instead_of_taking_it() {
    run_on(1, || {
        let step = Step::default();
        let task = spawn({
            let step = step.clone();
            move || {
                step.set(1);
                yield_now();
                park();
                step.set(2);
            }
        });
        step.wait_for(1);
        task.cancel();
        task.task().unpark();
        assert_cancelled(task);
        assert_eq!(step.get(), 1);
    });
}

#[test]
fn a_joining_task_unwinds_and_detaches_what_it_joined() {
    run_on(1, || {
        let (step, ended, dropped) = (Step::default(), Counter::default(), Counter::default());
        let waker = Slot::new();
        let joiner = spawn({
            let (step, ended, result, waker) = (step.clone(), ended.clone(), dropped.on_drop(), waker.clone());
            move || {
                let child = spawn(move || {
                    park();
                    ended.add();
                    result
                });
                waker.put(child.task());
                step.set(1);
                drop(child.join());
                step.set(2);
            }
        });
        step.wait_for(1);
        joiner.cancel();
        assert_cancelled(joiner);
        assert_eq!((step.get(), ended.get()), (1, 0));
        // The child goes on, and its result has nobody but itself.
        waker.wait().unpark();
        yield_until(|| ended.get() == 1 && dropped.get() == 1);
    });
}

#[test]
fn a_task_that_has_ended_keeps_its_result() {
    run_on(1, || {
        let task = spawn(|| 5);
        yield_until(|| task.is_finished());
        task.cancel();
        assert_eq!(task.join().unwrap(), 5);
    });
}

#[test]
fn a_task_that_has_panicked_keeps_its_payload() {
    run_on(1, || {
        let task = spawn(|| panic!("first"));
        yield_until(|| task.is_finished());
        task.cancel();
        assert_eq!(task.join().unwrap_err().to_string(), "task panicked: first");
    });
}

#[test]
fn a_running_task_is_not_stopped_but_unwinds_when_it_suspends() {
    run_on(2, || {
        let (step, cancelled) = (Step::default(), Arc::new(AtomicBool::new(false)));
        let task = spawn({
            let (step, cancelled) = (step.clone(), cancelled.clone());
            move || {
                step.set(1);
                spin_until(|| cancelled.load(SeqCst));
                step.set(2);
                yield_now();
                step.set(3);
            }
        });
        // Not by yielding: that could run it here, and then nobody would cancel it.
        spin_until(|| step.get() == 1);
        task.cancel();
        cancelled.store(true, SeqCst);
        assert_cancelled(task);
        assert_eq!(step.get(), 2);
    });
}

#[test]
fn a_cancelled_task_that_never_suspends_returns_its_value() {
    run_on(2, || {
        let (step, cancelled) = (Step::default(), Arc::new(AtomicBool::new(false)));
        let task = spawn({
            let (step, cancelled) = (step.clone(), cancelled.clone());
            move || {
                step.set(1);
                spin_until(|| cancelled.load(SeqCst));
                6
            }
        });
        spin_until(|| step.get() == 1);
        task.cancel();
        cancelled.store(true, SeqCst);
        assert_eq!(task.join().unwrap(), 6);
    });
}

#[test]
fn cancelling_twice_is_cancelling_once() {
    run_on(1, || {
        let step = Step::default();
        let task = spawn({
            let step = step.clone();
            move || {
                let _end = OnDrop::new(|| step.set(step.get() + 10));
                step.set(1);
                park();
            }
        });
        step.wait_for(1);
        task.cancel();
        task.cancel();
        yield_now();
        task.cancel();
        assert_cancelled(task);
        assert_eq!(step.get(), 11);
    });
}

#[test]
fn a_plain_thread_cancels_a_task_of_a_sleeping_runtime() {
    unless_it_hangs(|| {
        let runtime = runtime(2);
        let parked = Step::default();
        let task = runtime.spawn({
            let parked = parked.clone();
            move || {
                parked.set(1);
                park();
            }
        });
        parked.wait_for(1);
        task.cancel();
        assert_cancelled(task);
    });
}

#[test]
fn a_local_task_is_cancelled_like_any_other() {
    run_on(1, || {
        let dropped = Counter::default();
        let (fresh, parked) = (dropped.on_drop(), dropped.on_drop());
        let step = Step::default();
        let parked = spawn_local({
            let step = step.clone();
            move || {
                let _guard = parked;
                step.set(1);
                park();
            }
        });
        step.wait_for(1);
        let fresh = spawn_local(move || drop(fresh));
        parked.cancel();
        fresh.cancel();
        assert!(parked.join().unwrap_err().is_cancelled());
        assert!(fresh.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 2);
    });
}

#[test]
fn destructors_run_from_the_innermost_out() {
    run_on(1, || {
        let order = Arc::new(Mutex::new(Vec::new()));
        let step = Step::default();
        let task = spawn({
            let (order, step) = (order.clone(), step.clone());
            move || {
                fn inner(order: &Mutex<Vec<u32>>, step: &Step) {
                    let _a = OnDrop::new(|| order.lock().unwrap().push(1));
                    step.set(1);
                    park();
                }
                let _c = OnDrop::new(|| order.lock().unwrap().push(3));
                let _b = OnDrop::new(|| order.lock().unwrap().push(2));
                inner(&order, &step);
            }
        });
        step.wait_for(1);
        task.cancel();
        assert_cancelled(task);
        assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
    });
}

#[test]
fn swallowed_it_comes_again_at_every_later_suspension() {
    run_on(1, || {
        let (step, caught) = (Step::default(), Counter::default());
        let task = spawn({
            let (step, caught) = (step.clone(), caught.clone());
            move || {
                step.set(1);
                let suspensions: [fn(); 3] = [park, yield_now, || _ = spawn(park).join()];
                for suspend in suspensions {
                    assert!(catch_unwind(suspend).is_err(), "it went through");
                    caught.add();
                }
                park();
            }
        });
        step.wait_for(1);
        task.cancel();
        assert_cancelled(task);
        assert_eq!(caught.get(), 3);
    });
}

#[test]
fn swallowed_for_good_the_task_returns_its_value() {
    run_on(1, || {
        let step = Step::default();
        let task = spawn({
            let step = step.clone();
            move || {
                step.set(1);
                assert!(catch_unwind(park).is_err());
                7
            }
        });
        step.wait_for(1);
        task.cancel();
        assert_eq!(task.join().unwrap(), 7);
    });
}

#[test]
fn a_panic_while_it_unwinds_from_a_caught_cancellation_is_a_panic() {
    run_on(1, || {
        let step = Step::default();
        let task = spawn({
            let step = step.clone();
            move || {
                step.set(1);
                drop(catch_unwind(park));
                panic!("of its own");
            }
        });
        step.wait_for(1);
        task.cancel();
        assert!(task.join().unwrap_err().is_panic());
    });
}

#[test]
fn a_token_that_came_first_is_received_and_cancellation_comes_next() {
    run_on(1, || {
        let step = Step::default();
        let task = spawn({
            let step = step.clone();
            move || {
                step.set(1);
                park();
                step.set(2);
                yield_now();
                step.set(3);
            }
        });
        step.wait_for(1);
        // One processor, no suspension in between: the wake is under way when cancellation comes.
        task.task().unpark();
        task.cancel();
        assert_cancelled(task);
        assert_eq!(step.get(), 2);
    });
}

#[test]
fn a_result_that_came_first_is_received_and_cancellation_comes_next() {
    run_on(2, || {
        let home = std::thread::current().id();
        let on = |index| Builder::new().placement(Placement::On(index));
        let other = (0..2).find(|&i| on(i).spawn(|| std::thread::current().id()).unwrap().join().unwrap() != home).unwrap();
        let go = Arc::new(AtomicBool::new(false));
        let child = on(other).spawn({
            let go = go.clone();
            move || {
                spin_until(|| go.load(SeqCst));
                "the result"
            }
        });
        let (joining, got) = (Step::default(), Slot::new());
        let joiner = on(1 - other).spawn({
            let (joining, got, child) = (joining.clone(), got.clone(), child.unwrap());
            move || {
                joining.set(1);
                got.put(child.join().unwrap());
                park();
            }
        });
        // It shares this thread, so it waits in join as soon as this goes on.
        joining.wait_for(1);
        // Queued behind the child, on its thread: when this has run, the child has ended, and its wake is in our inbox.
        let after = Step::default();
        drop(on(other).spawn({
            let after = after.clone();
            move || after.set(1)
        }));
        go.store(true, SeqCst);
        spin_until(|| after.get() == 1);
        let joiner = joiner.unwrap();
        joiner.cancel();
        assert_cancelled(joiner);
        assert_eq!(got.take(), Some("the result"));
    });
}

#[test]
fn what_a_cancelled_task_spawned_goes_on() {
    run_on(1, || {
        let (step, child) = (Step::default(), Slot::new());
        let parent = spawn({
            let (step, child) = (step.clone(), child.clone());
            move || {
                child.put(spawn(|| {
                    yield_now();
                    8
                }));
                step.set(1);
                park();
            }
        });
        step.wait_for(1);
        parent.cancel();
        assert_cancelled(parent);
        assert_eq!(child.wait().join().unwrap(), 8);
    });
}

#[test]
fn a_task_may_cancel_itself() {
    run_on(1, || {
        let own: Slot<JoinHandle<()>> = Slot::new();
        let step = Step::default();
        let task = spawn({
            let (own, step) = (own.clone(), step.clone());
            move || {
                let me = own.wait();
                me.cancel();
                step.set(1);
                own.put(me);
                yield_now();
                step.set(2);
            }
        });
        own.put(task);
        step.wait_for(1);
        assert_cancelled(own.wait());
        assert_eq!(step.get(), 1);
    });
}

#[test]
fn hundreds_are_cancelled_from_all_sides_at_once() {
    run_on(2, || {
        let (dropped, parked) = (Counter::default(), Counter::default());
        let tasks: Vec<_> = (0..600)
            .map(|i| {
                let (guard, parked) = (dropped.on_drop(), parked.clone());
                spawn(move || {
                    let _guard = guard;
                    parked.add();
                    if i % 2 == 0 { park() } else { yield_until(|| false) }
                })
            })
            .collect();
        yield_until(|| parked.get() > 300);
        let tasks = Arc::new(tasks);
        let cancellers: Vec<_> = (0..3)
            .map(|_| {
                let tasks = tasks.clone();
                std::thread::spawn(move || tasks.iter().for_each(JoinHandle::cancel))
            })
            .collect();
        cancellers.into_iter().for_each(|thread| thread.join().unwrap());
        Arc::into_inner(tasks).unwrap().into_iter().for_each(assert_cancelled);
        assert_eq!(dropped.get(), 600);
    });
}

#[test]
fn cancellation_passes_the_panic_hook_by() {
    // In a child: the hook is the whole process's.
    let child = test_support::in_child!("cancellation_passes_the_panic_hook_by", || {
        std::panic::set_hook(Box::new(|_| eprintln!("the hook was called")));
        run_on(1, || {
            let step = Step::default();
            let task = spawn({
                let step = step.clone();
                move || {
                    step.set(1);
                    park();
                }
            });
            step.wait_for(1);
            task.cancel();
            assert!(catch_unwind(AssertUnwindSafe(|| assert_cancelled(task))).is_ok());
            drop(current());
        });
    });
    child.assert_success();
    assert!(!child.stderr.contains("the hook was called"), "{}", child.stderr);
}
