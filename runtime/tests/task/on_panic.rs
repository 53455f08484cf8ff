//! A panic that ends a task is reported once: to the runtime's hook, or on stderr with the task's name, number and spawn site.

use std::any::Any;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, panic_any};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenloom::channel::Receiver;
use greenloom::group::{Group, run_all};
use greenloom::pool::WorkerPool;
use greenloom::task::Builder;
use greenloom::{Runtime, TaskPanic, current, park, sleep, spawn, spawn_local, yield_now};
use test_support::{Counter, OnDrop, in_child, runtime, unless_it_hangs, yield_until};

/// What a hook has heard of a panic.
#[derive(Debug, PartialEq)]
struct Heard {
    id: u64,
    name: Option<String>,
    line: u32,
    message: Option<String>,
}

impl Heard {
    fn of(panic: &TaskPanic<'_>) -> Self {
        let task = panic.task();
        Self {
            id: task.id(),
            name: task.name().map(str::to_owned),
            line: task.spawned_at().map_or(0, Location::line),
            message: panic.message().map(str::to_owned),
        }
    }
}

/// A runtime of one processor, and what its hook hears.
fn listening() -> (Runtime, Arc<Mutex<Vec<Heard>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let hook = {
        let log = log.clone();
        move |panic: &TaskPanic<'_>| log.lock().unwrap().push(Heard::of(panic))
    };
    (Runtime::builder().processors(1).on_panic(hook).build().unwrap(), log)
}

#[test]
fn the_hook_hears_once_who_panicked_before_the_joiner_does() {
    unless_it_hangs(|| {
        let (runtime, log) = listening();
        let (id, line) = runtime.run({
            let log = log.clone();
            move || {
                let line = line!() + 1;
                let task = Builder::new().name("parser").spawn(|| panic!("no luck: {}", current().id())).unwrap();
                let id = task.task().id();
                let payload = task.join().unwrap_err().into_panic();
                assert_eq!(log.lock().unwrap().len(), 1, "the joiner went on before the report");
                assert_eq!(*payload.downcast_ref::<String>().unwrap(), format!("no luck: {id}"));
                (id, line)
            }
        });
        drop(runtime);
        let heard = Heard { id, name: Some("parser".to_owned()), line, message: Some(format!("no luck: {id}")) };
        assert_eq!(*log.lock().unwrap(), [heard]);
    });
}

#[test]
fn the_hook_sees_a_payload_that_is_no_message_and_the_joiner_gets_it() {
    unless_it_hangs(|| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let hook = {
            let seen = seen.clone();
            move |panic: &TaskPanic<'_>| {
                let payload: &(dyn Any + Send) = panic.payload();
                seen.lock().unwrap().push((payload.downcast_ref::<u32>().copied(), panic.message().is_none()));
            }
        };
        let runtime = Runtime::builder().processors(1).on_panic(hook).build().unwrap();
        let payload = runtime.spawn(|| panic_any(7_u32)).join().unwrap_err().into_panic();
        assert_eq!(*payload.downcast::<u32>().unwrap(), 7);
        assert_eq!(*seen.lock().unwrap(), [(Some(7), true)]);
    });
}

#[test]
fn local_detached_and_root_tasks_are_heard_of_as_well() {
    unless_it_hangs(|| {
        let (runtime, log) = listening();
        runtime.run({
            let log = log.clone();
            move || {
                assert!(spawn_local(|| panic!("local")).join().is_err());
                drop(spawn(|| panic!("detached")));
                yield_until(|| log.lock().unwrap().len() == 2);
            }
        });
        assert!(catch_unwind(AssertUnwindSafe(|| runtime.run(|| panic!("root")))).is_err());
        let messages: Vec<_> = log.lock().unwrap().iter().map(|heard| heard.message.clone().unwrap()).collect();
        assert_eq!(messages, ["local", "detached", "root"]);
    });
}

#[test]
fn cancellation_and_panics_that_the_task_catches_are_not_heard_of() {
    unless_it_hangs(|| {
        let (runtime, log) = listening();
        runtime.run(|| {
            let waiting = spawn(park);
            let fresh = spawn(|| ());
            yield_now();
            waiting.cancel();
            fresh.cancel();
            drop((waiting.join(), fresh.join()));
            let catches = spawn(|| catch_unwind(|| panic!("caught")).is_err());
            assert!(catches.join().unwrap());
        });
        drop(runtime.spawn(park));
        drop(runtime);
        assert_eq!(*log.lock().unwrap(), []);
    });
}

#[test]
fn a_closure_that_panics_when_it_is_dropped_unstarted_is_heard_of() {
    unless_it_hangs(|| {
        let (runtime, log) = listening();
        runtime.run(|| {
            let bomb = OnDrop::new(|| panic!("bomb"));
            let task = spawn(move || drop(bomb));
            task.cancel();
            assert!(task.join().unwrap_err().is_panic());
        });
        // The runtime is gone when this one is dropped: by the thread that spawns it.
        let handle = runtime.handle();
        drop(runtime);
        let bomb = OnDrop::new(|| panic!("late bomb"));
        assert!(handle.spawn(move || drop(bomb)).join().unwrap_err().is_panic());
        let messages: Vec<_> = log.lock().unwrap().iter().map(|heard| heard.message.clone().unwrap()).collect();
        assert_eq!(messages, ["bomb", "late bomb"]);
    });
}

#[test]
fn a_hook_that_panics_takes_nothing_down_and_the_task_is_named_after_all() {
    let child = in_child!("a_hook_that_panics_takes_nothing_down_and_the_task_is_named_after_all", || {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("a payload that panics when dropped");
            }
        }
        let runtime = Runtime::builder().processors(1).on_panic(|_| panic_any(Bomb)).build().unwrap();
        for _ in 0..3 {
            let payload = runtime.spawn(|| panic_any("mine")).join().unwrap_err().into_panic();
            assert_eq!(*payload.downcast::<&str>().unwrap(), "mine");
        }
        assert_eq!(runtime.run(|| spawn(|| 4).join().unwrap()), 4);
    });
    child.assert_success();
    assert_eq!(child.stderr.matches("panicked: mine").count(), 3, "{}", child.stderr);
}

#[test]
fn a_hook_that_waits_comes_to_its_end_though_its_runtime_ends() {
    unless_it_hangs(|| {
        let [begun, ended] = [(); 2].map(|()| Counter::default());
        let hook = {
            let (begun, ended) = (begun.clone(), ended.clone());
            move |_: &TaskPanic<'_>| {
                begun.add();
                yield_now();
                sleep(Duration::from_millis(1));
                ended.add();
            }
        };
        let runtime = Runtime::builder().processors(1).on_panic(hook).build().unwrap();
        let task = runtime.spawn(|| panic!("waits in the hook"));
        yield_until(|| begun.get() == 1);
        drop(runtime);
        assert_eq!(ended.get(), 1);
        assert!(task.join().unwrap_err().is_panic());
    });
}

#[test]
fn without_a_hook_stderr_names_the_task_once() {
    let child = in_child!("without_a_hook_stderr_names_the_task_once", || {
        let runtime = runtime(1);
        runtime.run(|| {
            let line = line!() + 1;
            let named = Builder::new().name("parser").spawn(|| panic!("first")).unwrap();
            println!("named {} {}:{line}:", named.task().id(), file!());
            assert!(named.join().is_err());
            let unnamed = spawn(|| panic!("second"));
            println!("unnamed {}", unnamed.task().id());
            assert!(unnamed.join().is_err());
        });
    });
    child.assert_success();
    let find = |prefix: &str| {
        let line = child.stdout.lines().find_map(|line| line.split_once(prefix)).expect("printed by the child");
        line.1.trim().to_owned()
    };
    let named = find("unnamed ");
    child.assert_said(&format!("greenloom: task {named} (spawned at "));
    let (id, place) = child.stdout.lines().find_map(|line| line.split_once("named ")?.1.split_once(' ')).unwrap();
    child.assert_said(&format!("greenloom: task 'parser' (id {id}, spawned at {place}"));
    for message in ["first", "second"] {
        // The process's own hook, and ours.
        assert_eq!(child.stderr.matches(message).count(), 2, "{}", child.stderr);
        assert_eq!(child.stderr.matches(&format!("panicked: {message}")).count(), 1, "{}", child.stderr);
    }
}

#[test]
fn a_root_whose_caller_goes_on_with_its_panic_is_not_named() {
    let child = in_child!("a_root_whose_caller_goes_on_with_its_panic_is_not_named", || {
        assert!(catch_unwind(|| greenloom::run(|| panic!("of the root"))).is_err());
        let runtime = runtime(1);
        assert!(catch_unwind(AssertUnwindSafe(|| runtime.run(|| panic!("of the root")))).is_err());
    });
    child.assert_success();
    // By the process's own hook, once each.
    assert_eq!(child.stderr.matches("of the root").count(), 2, "{}", child.stderr);
    assert!(!child.stderr.contains("greenloom: "), "{}", child.stderr);
}

#[test]
fn the_hook_hears_once_of_tasks_that_others_answer_for() {
    unless_it_hangs(|| {
        let (runtime, log) = listening();
        let line = runtime.run(|| {
            let raised = catch_unwind(AssertUnwindSafe(|| {
                greenloom::scope(|s| {
                    s.spawn(|| panic!("of a scope"));
                });
            }));
            assert_eq!(*raised.unwrap_err().downcast_ref::<&str>().unwrap(), "of a scope");
            let group = Group::<()>::new();
            group.spawn(|| panic!("of a group"));
            assert!(catch_unwind(AssertUnwindSafe(|| group.wait())).is_err());
            let line = line!() + 1;
            let pool = WorkerPool::new(1, 1);
            let job = pool.submit(|| panic!("of a pool")).unwrap();
            assert!(job.join().unwrap_err().is_panic());
            assert_eq!(pool.submit(|| 1).unwrap().join().unwrap(), 1);
            pool.close();
            line
        });
        drop(runtime);
        let log = log.lock().unwrap();
        let messages: Vec<_> = log.iter().map(|heard| heard.message.as_deref().unwrap()).collect();
        assert_eq!(messages, ["of a scope", "of a group", "of a pool"]);
        assert_eq!((log[2].name.as_deref(), log[2].line), (Some("pool worker 0"), line));
    });
}

#[test]
fn without_a_hook_stderr_names_tasks_that_others_answer_for() {
    let child = in_child!("without_a_hook_stderr_names_tasks_that_others_answer_for", || {
        runtime(1).run(|| {
            assert!(greenloom::scope(|s| s.spawn(|| panic!("of a scope")).join()).is_err());
            let group = Group::<()>::new();
            group.spawn(|| panic!("of a group"));
            assert!(catch_unwind(AssertUnwindSafe(|| group.wait())).is_err());
            let pool = WorkerPool::new(1, 1);
            assert!(pool.submit(|| panic!("of a pool")).unwrap().join().is_err());
            pool.close();
            let service = |_stop: Receiver<()>| -> Result<(), ()> { panic!("of a service") };
            assert!(catch_unwind(AssertUnwindSafe(|| run_all([service]))).is_err());
        });
    });
    child.assert_success();
    for what in ["a scope", "a group", "a pool", "a service"] {
        let named = |line: &&str| line.starts_with("greenloom: task ") && line.ends_with(&format!("panicked: of {what}"));
        assert_eq!(child.stderr.lines().filter(named).count(), 1, "{what}: {}", child.stderr);
    }
}
