//! Scopes: borrowing, who is waited for, whose panic is raised, and what a cancelled scope does.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};

use greenloom::{Scope, ScopedJoinHandle, no_suspend, park, scope, spawn, yield_now};
use test_support::waiting::{in_tasks, let_others_run, spawn_begun};
use test_support::{Counter, OnDrop, Slot, run_on, run_with_spares, runtime, spin_until, unless_it_hangs, yield_until};

/// The panic that `f` ends with.
#[track_caller]
fn caught(f: impl FnOnce()) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it did not panic");
    payload.downcast_ref::<&'static str>().copied().expect("a message")
}

#[test]
fn children_borrow_and_change_what_outlives_the_scope() {
    in_tasks(|| {
        let mut numbers = vec![0; 100];
        let shared = AtomicUsize::new(0);
        scope(|s| {
            for (i, number) in numbers.iter_mut().enumerate() {
                let shared = &shared;
                s.spawn(move || {
                    yield_now();
                    *number = i;
                    shared.fetch_add(1, SeqCst);
                });
            }
        });
        assert!(numbers.into_iter().eq(0..100));
        assert_eq!(shared.into_inner(), 100);
    });
}

#[test]
fn results_and_the_value_of_the_body_are_handed_over() {
    in_tasks(|| {
        let text = String::from("a b c");
        let words: Vec<&str> = scope(|s| {
            let first = s.spawn(|| text.split(' ').next().unwrap());
            let last = s.spawn(|| text.split(' ').next_back().unwrap());
            vec![first.join().unwrap(), last.join().unwrap()]
        });
        assert_eq!(words, ["a", "c"]);
    });
}

#[test]
fn an_empty_scope_returns_at_once() {
    in_tasks(|| assert_eq!(scope(|_| 7), 7));
}

#[test]
fn children_that_nobody_joins_are_waited_for() {
    in_tasks(|| {
        let ended = Counter::default();
        scope(|s| {
            for _ in 0..50 {
                s.spawn(|| {
                    let_others_run();
                    ended.add();
                });
            }
        });
        assert_eq!(ended.get(), 50);
    });
}

#[test]
fn children_spawn_more_children_also_when_the_body_has_returned() {
    in_tasks(|| {
        let ended = Counter::default();
        scope(|s| {
            s.spawn(|| {
                let_others_run();
                s.spawn(|| {
                    let_others_run();
                    s.spawn(|| ended.add());
                    ended.add();
                });
                ended.add();
            });
        });
        assert_eq!(ended.get(), 3);
    });
}

#[test]
fn scopes_nest() {
    fn sum(numbers: &[u64]) -> u64 {
        match numbers {
            [] => 0,
            [one] => *one,
            _ => {
                let (left, right) = numbers.split_at(numbers.len() / 2);
                scope(|s| {
                    let left = s.spawn(|| sum(left));
                    sum(right) + left.join().unwrap()
                })
            }
        }
    }
    in_tasks(|| assert_eq!(sum(&(0..1000).collect::<Vec<_>>()), 499_500));
}

#[test]
fn a_scope_is_shared_passed_on_and_borrows_what_its_caller_borrowed() {
    fn is_shared<T: Send + Sync>(_: &T) {}
    fn grow<'scope>(s: &'scope Scope<'scope, '_>, count: &'scope AtomicUsize, depth: u32) {
        count.fetch_add(1, SeqCst);
        for _ in 0..if depth > 0 { 2 } else { 0 } {
            s.spawn(move || grow(s, count, depth - 1));
        }
    }
    fn doubled(borrowed: &usize) -> usize {
        scope(|s| s.spawn(|| borrowed * 2).join().unwrap())
    }
    in_tasks(|| {
        let count = AtomicUsize::new(0);
        scope(|s| {
            is_shared(s);
            let handle: ScopedJoinHandle<'_, ()> = s.spawn(|| grow(s, &count, 6));
            is_shared(&handle);
        });
        assert_eq!(doubled(&count.into_inner()), 254);
    });
}

#[test]
fn a_handle_tells_whether_its_task_has_ended_and_who_it_is() {
    in_tasks(|| {
        scope(|s| {
            let (child, line) = (s.spawn(park), line!());
            assert!(!child.is_finished());
            let site = child.task().spawned_at().unwrap();
            assert_eq!((site.file(), site.line()), (file!(), line));
            child.task().unpark();
            yield_until(|| child.is_finished());
            child.join().unwrap();
        });
    });
}

#[test]
fn the_panic_of_a_child_is_raised_with_its_payload_after_all_have_ended() {
    in_tasks(|| {
        let ended = Counter::default();
        let message = caught(|| {
            scope(|s| {
                s.spawn(|| panic_any("oops"));
                for _ in 0..10 {
                    s.spawn(|| {
                        let_others_run();
                        ended.add();
                    });
                }
            });
        });
        // A child's panic does not cancel the others.
        assert_eq!((message, ended.get()), ("oops", 10));
    });
}

#[test]
fn the_first_panic_is_the_one_that_is_raised() {
    in_tasks(|| {
        let message = caught(|| {
            scope(|s| {
                let first = s.spawn(|| panic_any("first"));
                yield_until(|| first.is_finished());
                drop(first);
                s.spawn(|| panic_any("second"));
            });
        });
        assert_eq!(message, "first");
    });
}

#[test]
fn a_panic_that_was_joined_is_not_raised() {
    in_tasks(|| {
        let error = scope(|s| s.spawn(|| panic_any("joined")).join().unwrap_err());
        assert_eq!(error.into_panic().downcast_ref(), Some(&"joined"));
    });
}

#[test]
fn a_panic_whose_handle_is_dropped_late_is_raised() {
    in_tasks(|| {
        let message = caught(|| {
            scope(|s| {
                let child = s.spawn(|| panic_any("unheard"));
                yield_until(|| child.is_finished());
                let _kept = child;
            });
        });
        assert_eq!(message, "unheard");
    });
}

#[test]
fn a_panic_of_the_body_cancels_the_children_and_waits_for_their_destructors() {
    in_tasks(|| {
        let (begun, dropped, ran) = (Counter::default(), Counter::default(), Counter::default());
        let message = caught(|| {
            scope(|s| {
                for _ in 0..40 {
                    s.spawn(|| {
                        let _slow = OnDrop::new(|| {
                            let_others_run();
                            dropped.add();
                        });
                        begun.add();
                        park();
                        ran.add();
                    });
                }
                yield_until(|| begun.get() == 40);
                panic_any("body");
            });
        });
        assert_eq!((message, dropped.get(), ran.get()), ("body", 40, 0));
    });
}

#[test]
fn a_panic_of_the_body_keeps_children_from_starting_and_drops_their_closures() {
    run_on(1, || {
        let (ran, dropped) = (Counter::default(), Counter::default());
        let message = caught(|| {
            scope(|s| {
                for _ in 0..10 {
                    let (ran, guard) = (&ran, dropped.on_drop());
                    s.spawn(move || {
                        let _guard = guard;
                        ran.add();
                    });
                }
                panic_any("body");
            });
        });
        assert_eq!((message, ran.get(), dropped.get()), ("body", 0, 10));
    });
}

#[test]
fn a_cancelled_scope_cancels_what_its_children_spawn_in_their_end() {
    in_tasks(|| {
        let (begun, ran) = (AtomicBool::new(false), Counter::default());
        caught(|| {
            scope(|s| {
                s.spawn(|| {
                    let _late = OnDrop::new(|| drop(s.spawn(|| ran.add())));
                    begun.store(true, SeqCst);
                    park();
                });
                yield_until(|| begun.load(SeqCst));
                panic_any("body");
            });
        });
        assert_eq!(ran.get(), 0);
    });
}

#[test]
fn a_cancelled_child_is_no_panic_of_the_scope() {
    in_tasks(|| {
        scope(|s| {
            let (fresh, parked) = (s.spawn(|| ()), s.spawn(park));
            let_others_run();
            fresh.cancel();
            parked.cancel();
            assert!(parked.join().unwrap_err().is_cancelled());
        });
    });
}

/// On a plain thread, which goes on as soon as nobody is counted. (The model of this is in `loom-tests`.)
#[test]
fn a_child_cancelled_before_its_start_drops_its_closure_before_the_scope_returns() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        for children in [1, 20] {
            // Until no child has begun, which a spare might do where the monitor has seen the only processor held.
            loop {
                let (dropped, began, returned) = (Counter::default(), Counter::default(), AtomicBool::new(false));
                let (holds, let_go) = (Slot::new(), Arc::new(AtomicBool::new(false)));
                let holder = runtime.spawn({
                    let (holds, let_go) = (holds.clone(), let_go.clone());
                    move || {
                        holds.put(());
                        spin_until(|| let_go.load(SeqCst));
                    }
                });
                holds.wait();
                runtime.scope(|s| {
                    for _ in 0..children {
                        let borrows = OnDrop::new(|| {
                            // Time enough for a scope that does not wait for this.
                            std::thread::sleep(std::time::Duration::from_millis(1));
                            assert!(!returned.load(SeqCst));
                            dropped.add();
                        });
                        let child = s.spawn(|| {
                            began.add();
                            drop(borrows);
                        });
                        child.cancel();
                    }
                    let_go.store(true, SeqCst);
                });
                returned.store(true, SeqCst);
                assert_eq!(dropped.get(), children);
                holder.join().unwrap();
                if began.get() == 0 {
                    break;
                }
            }
        }
    });
}

#[test]
fn results_that_nobody_takes_are_dropped_once_before_the_scope_returns() {
    in_tasks(|| {
        let dropped = Counter::default();
        scope(|s| {
            drop(s.spawn(|| dropped.on_drop()));
            let kept = s.spawn(|| dropped.on_drop());
            yield_until(|| kept.is_finished());
            let _unjoined = s.spawn(|| dropped.on_drop());
            drop(kept.join().unwrap());
        });
        assert_eq!(dropped.get(), 3);
    });
}

#[test]
fn the_destructor_of_a_result_may_use_what_it_borrows() {
    in_tasks(|| {
        for seed in 0..200 {
            let slot = Mutex::new(0);
            scope(|s| {
                let handle = s.spawn(|| {
                    (0..seed % 3).for_each(|_| yield_now());
                    OnDrop::new(|| *slot.lock().unwrap() += 1)
                });
                (0..seed % 5).for_each(|_| yield_now());
                drop(handle);
            });
            assert_eq!(slot.into_inner().unwrap(), 1);
        }
    });
}

#[test]
fn a_panic_in_the_destructor_of_a_result_is_raised() {
    in_tasks(|| {
        let message = caught(|| scope(|s| drop(s.spawn(|| OnDrop::new(|| panic_any("result"))))));
        assert_eq!(message, "result");
    });
}

#[test]
fn a_join_that_is_cancelled_leaves_the_child_to_the_scope() {
    in_tasks(|| {
        let dropped = Counter::default();
        let task = spawn_begun({
            let guard = dropped.on_drop();
            move || {
                scope(|s| {
                    s.spawn(|| {
                        let _borrow = &guard;
                        park();
                    })
                    .join()
                })
            }
        });
        let_others_run();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_handle_may_be_joined_by_another_child() {
    in_tasks(|| {
        let seen = scope(|s| {
            let one = s.spawn(|| 1);
            s.spawn(move || one.join().unwrap() + 1).join().unwrap()
        });
        assert_eq!(seen, 2);
    });
}

#[test]
fn a_scope_works_in_a_destructor_that_runs_because_of_a_panic() {
    in_tasks(|| {
        let ended = Counter::default();
        let message = caught(|| {
            let _scoped = OnDrop::new(|| {
                scope(|s| {
                    for _ in 0..10 {
                        s.spawn(|| {
                            let_others_run();
                            ended.add();
                        });
                    }
                });
                assert_eq!(ended.get(), 10);
            });
            panic_any("outer");
        });
        assert_eq!((message, ended.get()), ("outer", 10));
    });
}

#[test]
fn a_scope_in_a_destructor_of_a_cancelled_task_waits_for_its_children() {
    in_tasks(|| {
        let ended = Counter::default();
        let task = spawn_begun({
            let ended = ended.clone();
            move || {
                let _scoped = OnDrop::new(|| {
                    scope(|s| {
                        s.spawn(|| {
                            let_others_run();
                            ended.add();
                        });
                    });
                });
                park();
            }
        });
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(ended.get(), 1);
    });
}

#[test]
fn inside_no_suspend_a_scope_is_refused_before_its_body_runs() {
    in_tasks(|| {
        let ran = AtomicBool::new(false);
        let refused = catch_unwind(AssertUnwindSafe(|| no_suspend(|| scope(|_| ran.store(true, SeqCst)))));
        assert!(refused.is_err() && !ran.into_inner());
    });
}

#[test]
fn outside_a_runtime_a_scope_is_refused_with_a_sentence() {
    let payload = catch_unwind(|| scope(|_| ())).unwrap_err();
    assert!(payload.downcast_ref::<String>().unwrap().contains("outside a runtime"));
}

#[test]
fn a_plain_thread_waits_for_children_in_a_runtime() {
    unless_it_hangs(|| {
        let runtime = runtime(2);
        let mut numbers = [1, 2, 3];
        let sum = runtime.scope(|s| {
            for number in &mut numbers {
                s.spawn(|| {
                    let_others_run();
                    *number *= 2;
                });
            }
            s.spawn(|| 5).join().unwrap()
        });
        assert_eq!((numbers, sum), ([2, 4, 6], 5));
        let message = caught(|| {
            runtime.scope(|s| {
                s.spawn(park);
                panic_any("thread");
            });
        });
        assert_eq!(message, "thread");
    });
}

#[test]
fn a_plain_thread_inside_a_scope_spawns_through_it() {
    for processors in [1, 2] {
        // The scope of threads holds the machine.
        run_with_spares(processors, || {
            let seen = scope(|s| std::thread::scope(|threads| threads.spawn(|| s.spawn(|| 3).join().unwrap()).join().unwrap()));
            assert_eq!(seen, 3);
        });
    }
}

#[test]
fn a_runtime_that_ends_cancels_a_scope_and_its_children() {
    unless_it_hangs(|| {
        let (begun, dropped) = (Counter::default(), Counter::default());
        let runtime = runtime(2);
        let task = runtime.spawn({
            let (begun, dropped) = (begun.clone(), dropped.clone());
            move || {
                let frame = dropped.on_drop();
                scope(|s| {
                    for _ in 0..10 {
                        s.spawn(|| {
                            let _borrows = (&frame, dropped.on_drop());
                            begun.add();
                            park();
                        });
                    }
                });
                // The children may all have been ended before this task was told to.
                park();
            }
        });
        yield_until(|| begun.get() == 10);
        drop(runtime);
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 11);
    });
}

#[test]
fn a_scope_is_not_left_by_a_runtime_whose_grace_is_over() {
    let child = test_support::in_child!("a_scope_is_not_left_by_a_runtime_whose_grace_is_over", || {
        let (begun, wait) = mpsc::channel();
        let runtime =
            greenloom::Runtime::builder().processors(2).shutdown_grace(std::time::Duration::from_millis(10)).build().unwrap();
        let _root = runtime.spawn(move || {
            let frame = OnDrop::new(|| println!("the frame has gone"));
            scope(|s| {
                s.spawn(|| {
                    let _borrow = &frame;
                    begun.send(()).unwrap();
                    loop {
                        std::hint::spin_loop();
                    }
                });
            });
        });
        wait.recv().unwrap();
        drop(runtime);
        println!("the runtime has ended");
    });
    child.assert_success();
    assert!(child.stdout.contains("the runtime has ended") && !child.stdout.contains("the frame has gone"), "{}", child.stdout);
}

#[test]
fn scopes_end_whatever_meets_what() {
    fn grow(seed: u64, depth: u32, count: &AtomicUsize) {
        scope(|s| {
            for i in 0..3 {
                let seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(i + 1);
                count.fetch_add(1, SeqCst);
                let gone = OnDrop::new(|| _ = count.fetch_sub(1, SeqCst));
                let handle = s.spawn(move || {
                    let _gone = gone;
                    (0..seed >> 62).for_each(|_| yield_now());
                    if depth > 0 {
                        grow(seed, depth - 1, count);
                    }
                    assert!(seed >> 59 != 7, "unlucky");
                    if seed >> 60 == 3 {
                        park()
                    }
                });
                match seed >> 33 & 3 {
                    0 => drop(handle),
                    1 => handle.cancel(),
                    2 => _ = (handle.cancel(), handle.join()),
                    _ if seed >> 60 == 3 => handle.task().unpark(),
                    _ => _ = handle.join(),
                }
                // What is parked ends by this.
                assert!(seed >> 60 != 3, "unlucky");
            }
        });
    }
    in_tasks(|| {
        for seed in 0..60 {
            let count = Arc::new(AtomicUsize::new(0));
            let task = spawn({
                let count = count.clone();
                move || grow(seed, 3, &count)
            });
            if seed % 3 == 0 {
                (0..seed).for_each(|_| yield_now());
                task.cancel();
            }
            let _ = task.join();
            assert_eq!(count.load(SeqCst), 0);
        }
    });
}
