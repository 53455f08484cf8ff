//! A builder's tasks in a runtime, a scope or a group that is named.

use std::io;
use std::io::ErrorKind::InvalidInput;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use greenloom::group::Group;
use greenloom::task::{Builder, Placement};
use greenloom::{Handle, Runtime, current, scope, spawn};
use test_support::waiting::{in_tasks, let_others_run};
use test_support::{Counter, unless_it_hangs};

fn named() -> Builder {
    Builder::new().name("named").stack_size(64 * 1024)
}

/// No runtime has such a stack, nor so many processors.
fn impossible() -> [Builder; 2] {
    [Builder::new().stack_size(1 << 40), Builder::new().placement(Placement::On(1000))]
}

fn assert_invalid<T>(result: io::Result<T>) {
    assert_eq!(result.err().expect("it cannot be").kind(), InvalidInput);
}

fn is_named() -> bool {
    current().name() == Some("named")
}

#[test]
fn a_task_for_another_runtime_runs_there_from_a_thread_and_from_a_task() {
    unless_it_hangs(|| {
        let runtime = Runtime::builder().processors(1).thread_name("other").build().unwrap();
        let handle = runtime.handle();
        let there = || (is_named(), std::thread::current().name().unwrap().starts_with("other"));
        assert_eq!(named().spawn_in(&handle, there).unwrap().join().unwrap(), (true, true));
        let from_a_task = greenloom::run(move || named().spawn_in(&handle, there).unwrap().join().unwrap());
        assert_eq!(from_a_task, (true, true));
        for builder in impossible() {
            assert_invalid(builder.spawn_in(&runtime.handle(), || ()));
        }
    });
}

#[test]
fn a_task_for_a_runtime_that_has_ended_is_cancelled_and_drops_its_closure() {
    unless_it_hangs(|| {
        let runtime = Runtime::builder().processors(1).build().unwrap();
        let handle = runtime.handle();
        drop(runtime);
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let task = named().spawn_in(&handle, move || drop(guard)).unwrap();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn the_task_of_a_scope_borrows_and_is_waited_for() {
    in_tasks(|| {
        let count = AtomicUsize::new(0);
        scope(|s| {
            let ran = named().spawn_scoped(s, || {
                let_others_run();
                count.fetch_add(1, SeqCst);
                is_named()
            });
            assert!(ran.unwrap().join().unwrap());
            drop(named().spawn_scoped(s, || {
                let_others_run();
                count.fetch_add(1, SeqCst)
            }));
        });
        assert_eq!(count.into_inner(), 2);
    });
}

#[test]
fn a_task_that_a_scope_cannot_have_is_refused_and_its_closure_dropped() {
    in_tasks(|| {
        let dropped = Counter::default();
        scope(|s| {
            for builder in impossible() {
                let guard = dropped.on_drop();
                assert_invalid(builder.spawn_scoped(s, move || drop(guard)));
            }
        });
        assert_eq!(dropped.get(), 2);
    });
}

#[test]
fn the_task_of_a_group_is_one_of_its_tasks() {
    in_tasks(|| {
        let group = Group::new();
        group.set_limit(1);
        named().spawn_in_group(&group, || if is_named() { Err("named") } else { Ok(()) }).unwrap();
        assert_eq!(group.wait(), Err("named"));
    });
}

#[test]
fn a_task_that_a_group_cannot_have_is_not_counted_and_gives_its_slot_back() {
    in_tasks(|| {
        let group = Group::<()>::new();
        group.set_limit(1);
        for builder in impossible() {
            assert_invalid(builder.spawn_in_group(&group, || Ok(())));
        }
        // The only slot is free, and nobody is waited for.
        assert!(group.try_spawn(|| Ok(())));
        assert_eq!(group.wait(), Ok(()));
    });
}

#[test]
fn a_handles_scope_is_in_the_handles_runtime_whoever_asks() {
    unless_it_hangs(|| {
        let runtime = Runtime::builder().processors(1).thread_name("other").build().unwrap();
        let handle = runtime.handle();
        let there = |handle: &Handle| {
            let word = String::from("borrowed");
            handle.scope(|s| {
                let task = s.spawn(|| (word.len(), std::thread::current().name().unwrap().starts_with("other")));
                task.join().unwrap()
            })
        };
        assert_eq!(there(&handle), (8, true));
        assert_eq!(greenloom::run(move || there(&handle)), (8, true));
    });
}

#[test]
fn the_current_runtime_is_that_of_the_task_or_none() {
    assert!(Handle::try_current().is_none());
    unless_it_hangs(|| {
        greenloom::run(|| {
            let here = Handle::try_current().expect("a task has a runtime");
            let other = here.spawn(|| current().id());
            assert_ne!(other.join().unwrap(), current().id());
            assert!(spawn(|| Handle::try_current().is_some()).join().unwrap());
        });
    });
}
