//! Tasks that are alive when their runtime ends are named, if that was asked for.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use greenloom::task::Builder;
use greenloom::{OnLeak, Runtime, channel, current, park, spawn, yield_now};
use test_support::{Counter, in_child, yield_until};

const LEAKED: &str = "greenloom: still alive when its runtime ended: ";

fn reporting(processors: usize) -> Runtime {
    Runtime::builder().processors(processors).on_leak(OnLeak::Report).build().unwrap()
}

#[test]
fn each_leaked_task_is_named_with_what_it_waits_for() {
    let child = in_child!("each_leaked_task_is_named_with_what_it_waits_for", || {
        let runtime = reporting(2);
        runtime.run(|| {
            let begun = Counter::default();
            let beginner = begun.clone();
            let line = line!() + 1;
            let named = Builder::new().name("reader").spawn(move || {
                let (_tx, rx) = channel::bounded::<()>(0);
                beginner.add();
                rx.recv()
            });
            println!("[{} {}:{line}:]", named.as_ref().unwrap().task().id(), file!());
            drop(named);
            let beginner = begun.clone();
            drop(spawn(move || {
                beginner.add();
                park();
            }));
            yield_until(|| begun.get() == 2);
            // Both have come to rest: nobody else runs here.
            std::thread::sleep(std::time::Duration::from_millis(100));
        });
        drop(runtime);
    });
    child.assert_success();
    let line = child.stdout.lines().find_map(|line| line.split_once('[')?.1.strip_suffix(']')).unwrap();
    let (id, place) = line.split_once(' ').unwrap();
    let reader = child.stderr.lines().find(|line| line.contains("'reader'")).expect("named");
    assert!(reader.starts_with(&format!("{LEAKED}task 'reader' (id {id}, spawned at {place}")), "{reader}");
    assert!(reader.contains("receiving from a channel, for ") && reader.ends_with("s so far"), "{reader}");
    assert_eq!(child.stderr.matches(LEAKED).count(), 2, "{}", child.stderr);
    assert_eq!(child.stderr.matches(", parked, for ").count(), 1, "{}", child.stderr);
}

#[test]
fn a_leaked_task_that_never_started_is_named_too() {
    let child = in_child!("a_leaked_task_that_never_started_is_named_too", || {
        let runtime = reporting(1);
        runtime.run(|| drop(Builder::new().name("late").spawn(park).unwrap()));
        drop(runtime);
    });
    child.assert_success();
    assert_eq!(child.stderr.matches(LEAKED).count(), 1, "{}", child.stderr);
    child.assert_said("task 'late'");
}

#[test]
fn what_has_ended_is_no_leak_however_it_ended() {
    // A task's stack is given back some time after its joiner goes on: seeing it there must not make a leak of it.
    let child = in_child!("what_has_ended_is_no_leak_however_it_ended", || {
        for _ in 0..500 {
            let runtime = reporting(2);
            runtime.run(|| {
                let cancelled = spawn(park);
                let tasks: Vec<_> = (0..20).map(|_| spawn(yield_now)).collect();
                tasks.into_iter().for_each(|task| task.join().unwrap());
                cancelled.cancel();
                assert!(cancelled.join().is_err());
            });
            let outside = runtime.spawn(|| ());
            outside.join().unwrap();
            drop(runtime);
        }
    });
    child.assert_success();
    assert_eq!(child.stderr, "");
}

#[test]
fn by_default_leaks_are_cancelled_and_nothing_is_said() {
    let child = in_child!("by_default_leaks_are_cancelled_and_nothing_is_said", || {
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let runtime = Runtime::builder().processors(1).build().unwrap();
        runtime.run(move || {
            drop(spawn(move || {
                let _guard = guard;
                park();
            }));
        });
        drop(runtime);
        assert_eq!(dropped.get(), 1);
    });
    child.assert_success();
    assert_eq!(child.stderr, "");
}

#[test]
fn the_task_that_ends_its_runtime_is_no_leak_of_it() {
    let child = in_child!("the_task_that_ends_its_runtime_is_no_leak_of_it", || {
        let ended = std::sync::Arc::new(AtomicU64::new(0));
        let runtime = reporting(1);
        let handle = runtime.handle();
        let task = handle.spawn({
            let ended = ended.clone();
            move || {
                drop(runtime);
                ended.store(current().id(), SeqCst);
            }
        });
        drop(task.join());
        assert_ne!(ended.load(SeqCst), 0);
    });
    child.assert_success();
    assert_eq!(child.stderr, "");
}
