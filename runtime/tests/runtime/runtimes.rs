//! Several runtimes in a process, one inside another, dropped here and there.

use std::collections::HashSet;
use std::panic::{catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;

use greenloom::group::Group;
use greenloom::{Handle, Runtime, current, park, spawn, yield_now};
use test_support::{Counter, OnDrop, Slot, run_on, runtime, unless_it_hangs, yield_until};

#[test]
fn several_runtimes_run_side_by_side_on_threads_of_their_own() {
    unless_it_hangs(|| {
        let runtimes: Vec<Runtime> = (0..4).map(|_| runtime(1)).collect();
        let tasks: Vec<_> = runtimes.iter().map(|r| r.spawn(|| spawn(|| thread::current().id()).join().unwrap())).collect();
        let threads: HashSet<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
        assert_eq!(threads.len(), 4);
    });
}

#[test]
fn a_task_joins_a_task_of_another_runtime() {
    unless_it_hangs(|| {
        let (left, right) = (runtime(1), runtime(1));
        let task = right.spawn(|| {
            yield_now();
            3
        });
        assert_eq!(left.run(move || task.join().unwrap()), 3);
    });
}

#[test]
fn run_inside_a_task_suspends_that_task_alone() {
    run_on(1, || {
        let (inside, release) = (Arc::new(AtomicBool::new(false)), Slot::new());
        let nested = spawn({
            let (inside, release) = (inside.clone(), release.clone());
            move || {
                greenloom::run(move || {
                    release.put(current());
                    inside.store(true, SeqCst);
                    park();
                    "from the inner one"
                })
            }
        });
        // This shares its only processor with the task that waits for the other runtime.
        yield_until(|| inside.load(SeqCst));
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        assert!(!nested.is_finished());
        release.wait().unpark();
        assert_eq!(nested.join().unwrap(), "from the inner one");
    });
}

#[test]
fn scopes_of_two_runtimes_inside_each_other_take_tasks_of_both() {
    unless_it_hangs(|| {
        let (left, right) = (runtime(1), runtime(1));
        let threads = [&left, &right].map(|runtime| runtime.run(|| thread::current().id()));
        let seen = Mutex::new(Vec::new());
        let note = |what| seen.lock().unwrap().push((what, thread::current().id()));
        left.scope(|outer| {
            right.scope(|inner| {
                outer.spawn(|| note("of the outer"));
                inner.spawn(|| {
                    outer.spawn(|| note("of the outer, by one of the inner"));
                    note("of the inner");
                });
            });
        });
        let mut seen = seen.into_inner().unwrap();
        seen.sort_unstable_by_key(|&(what, _)| what);
        let expected =
            [("of the inner", threads[1]), ("of the outer", threads[0]), ("of the outer, by one of the inner", threads[0])];
        assert_eq!(seen, expected);
    });
}

#[test]
fn a_group_has_members_in_two_runtimes_and_outlives_both() {
    unless_it_hangs(|| {
        let (left, right) = (runtime(1), runtime(1));
        let group = Arc::new(Group::<u8>::new());
        for (runtime, result) in [(&left, Ok(())), (&right, Err(3))] {
            let group = group.clone();
            runtime.run(move || {
                group.spawn(move || {
                    yield_now();
                    result
                });
            });
        }
        assert_eq!(group.wait(), Err(3));
        // A member that its runtime's end cancels has not failed.
        for runtime in [left, right] {
            let members = group.clone();
            runtime.run(move || {
                members.spawn(|| {
                    park();
                    unreachable!()
                });
            });
            drop(runtime);
        }
        assert_eq!(group.wait(), Ok(()));
    });
}

#[test]
fn runtimes_nest_several_deep() {
    fn nest(depth: u32) -> u32 {
        if depth == 0 { 0 } else { runtime(1).run(move || nest(depth - 1)) + 1 }
    }
    assert_eq!(run_on(1, || nest(5)), 5);
}

#[test]
fn a_runtimes_own_task_may_run_another_root_in_it() {
    unless_it_hangs(|| {
        let outer = Arc::new(runtime(1));
        let inner = outer.clone();
        assert_eq!(outer.run(move || inner.run(|| 4)), 4);
        assert_eq!(outer.run(|| 5), 5);
    });
}

#[test]
fn a_nested_panic_comes_out_of_the_nested_run() {
    run_on(1, || {
        let payload = catch_unwind(|| greenloom::run(|| panic_any(9))).unwrap_err();
        assert_eq!(*payload.downcast::<i32>().unwrap(), 9);
        yield_now();
    });
}

#[test]
fn the_runtime_of_a_task_is_the_one_it_was_spawned_in() {
    unless_it_hangs(|| {
        let (left, right) = (runtime(1), runtime(1));
        let here = left.run(|| thread::current().id());
        let handle = left.handle();
        let there = right.run(move || {
            let home = thread::current().id();
            // By handle, it goes to the other runtime, and what it spawns stays there.
            let task = handle.spawn(|| (thread::current().id(), spawn(|| thread::current().id()).join().unwrap()));
            let ids = task.join().unwrap();
            assert_eq!(thread::current().id(), home);
            assert_eq!(Handle::current().spawn(|| thread::current().id()).join().unwrap(), home);
            ids
        });
        assert_eq!(there, (here, here));
    });
}

#[test]
fn other_tasks_go_on_when_a_root_returns() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let task = runtime.run(|| {
            spawn(|| {
                park();
                6
            })
        });
        assert!(!task.is_finished());
        task.task().unpark();
        assert_eq!(task.join().unwrap(), 6);
    });
}

#[test]
fn dropping_a_runtime_waits_for_its_tasks_to_unwind() {
    unless_it_hangs(|| {
        let dropped = Counter::default();
        let runtime = runtime(2);
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let guard = dropped.on_drop();
                runtime.spawn(move || {
                    let _guard = guard;
                    park();
                })
            })
            .collect();
        drop(runtime);
        assert_eq!(dropped.get(), 100);
        for task in tasks {
            assert!(task.is_finished());
            assert!(task.join().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_handle_that_outlives_its_runtime_gives_cancelled_tasks() {
    unless_it_hangs(|| {
        let handle = runtime(1).handle();
        let dropped = Counter::default();
        for _ in 0..100 {
            let guard = dropped.on_drop();
            let task = handle.spawn(move || drop(guard));
            assert!(task.is_finished());
            assert!(task.join().unwrap_err().is_cancelled());
        }
        drop(handle.spawn(|| panic!("ran")));
        assert_eq!(dropped.get(), 100);
        // The same from a task of a runtime that lives.
        assert!(runtime(1).run(move || handle.spawn(|| ()).join().unwrap_err().is_cancelled()));
    });
}

#[test]
fn a_runtime_dropped_inside_its_own_task_begins_to_end_and_nothing_waits() {
    unless_it_hangs(|| {
        let (dropped, sibling) = (Counter::default(), Counter::default());
        let runtime = runtime(1);
        let handle = runtime.handle();
        let guard = sibling.on_drop();
        drop(handle.spawn(move || {
            let _guard = guard;
            park();
        }));
        let (after, ended) = (dropped.clone(), dropped.on_drop());
        let task = handle.spawn(move || {
            let _ended = ended;
            drop(runtime);
            after.add();
            // From here on it is cancelled like the others.
            park();
        });
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 2);
        // A plain thread waits for the rest by what it can see of it.
        yield_until(|| sibling.get() == 1);
        yield_until(|| handle.spawn(|| ()).join().is_err_and(|e| e.is_cancelled()));
    });
}

#[test]
fn a_runtime_dropped_inside_its_own_task_may_still_see_it_return() {
    unless_it_hangs(|| {
        let runtime = runtime(2);
        let handle = runtime.handle();
        let task = handle.spawn(move || {
            drop(runtime);
            "no suspension since"
        });
        assert_eq!(task.join().unwrap(), "no suspension since");
    });
}

#[test]
fn a_runtime_dropped_inside_another_ones_task_suspends_that_task_alone() {
    run_on(1, || {
        let (in_destructor, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let inner = runtime(1);
        let begun = Arc::new(AtomicBool::new(false));
        drop(inner.spawn({
            let (in_destructor, release, begun) = (in_destructor.clone(), release.clone(), begun.clone());
            move || {
                let _guard = OnDrop::new(|| {
                    in_destructor.store(true, SeqCst);
                    yield_until(|| release.load(SeqCst));
                });
                begun.store(true, SeqCst);
                park();
            }
        }));
        yield_until(|| begun.load(SeqCst));
        let dropper = spawn(move || drop(inner));
        yield_until(|| in_destructor.load(SeqCst));
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
        assert!(!dropper.is_finished(), "it did not wait");
        release.store(true, SeqCst);
        dropper.join().unwrap();
    });
}

#[test]
fn a_task_that_is_cancelled_in_a_nested_run_ends_the_inner_runtime_first() {
    run_on(1, || {
        let (inside, inner_dropped, still_waiting) = (Counter::default(), Counter::default(), Slot::new());
        let nested = spawn({
            let (inside, guard, inner_dropped) = (inside.clone(), inner_dropped.on_drop(), inner_dropped.clone());
            let still_waiting = still_waiting.clone();
            move || {
                // Dropped after the runtime that `run` holds.
                let _outer = OnDrop::new(move || still_waiting.put(inner_dropped.get()));
                greenloom::run(move || {
                    let _guard = guard;
                    inside.add();
                    park();
                });
            }
        });
        yield_until(|| inside.get() == 1);
        nested.cancel();
        assert!(nested.join().unwrap_err().is_cancelled());
        assert_eq!(still_waiting.take(), Some(1), "the inner task was still there");
    });
}

#[test]
fn what_a_cancelled_task_runs_in_a_runtime_goes_on() {
    run_on(1, || {
        let inner = Arc::new(runtime(1));
        let (root, went_on) = (Slot::new(), Counter::default());
        let caller = spawn({
            let (inner, root, went_on) = (inner.clone(), root.clone(), went_on.clone());
            move || {
                inner.run(move || {
                    root.put(current());
                    park();
                    went_on.add();
                })
            }
        });
        let root = root.wait();
        caller.cancel();
        assert!(caller.join().unwrap_err().is_cancelled());
        assert_eq!(went_on.get(), 0);
        root.unpark();
        yield_until(|| went_on.get() == 1);
    });
}

#[test]
fn an_unused_runtime_comes_and_goes() {
    unless_it_hangs(|| {
        for processors in [1, 2, 8] {
            for _ in 0..20 {
                drop(runtime(processors));
            }
        }
    });
}

#[test]
fn runtimes_that_end_leave_no_threads_behind() {
    // In a child, where nobody else has threads.
    let child = test_support::in_child!("runtimes_that_end_leave_no_threads_behind", || {
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        for _ in 0..50 {
            let runtime = runtime(4);
            assert_eq!(runtime.run(|| spawn(|| 1).join().unwrap()), 1);
            drop(runtime);
            // The kernel counts a thread for a moment longer than somebody has to wait who joins it.
            yield_until(|| threads() == before);
        }
    });
    child.assert_success();
}
