//! Spawning and joining: results, panics, detaching; from tasks and from plain threads.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;

use greenloom::task::{Builder, Placement};
use greenloom::{Handle, JoinHandle, current, spawn, yield_now};
use test_support::{Counter, run_on, runtime, unless_it_hangs, yield_until};

#[test]
fn join_gives_what_the_task_returned() {
    let text = run_on(2, || spawn(|| "a".repeat(3)).join().unwrap());
    assert_eq!(text, "aaa");
}

#[test]
fn results_and_closures_of_every_size_and_alignment_arrive_whole() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[repr(align(256))]
    struct Aligned(u8);

    fn check<T: Copy + PartialEq + std::fmt::Debug + Send + 'static>(value: T) {
        // The closure holds the value, the task's memory its copy; neither fits the other's alignment by accident.
        let result = spawn(move || {
            yield_now();
            assert_eq!((&raw const value).addr() % align_of::<T>(), 0, "the closure lies askew");
            value
        });
        assert_eq!(result.join().unwrap(), value);
    }
    run_on(1, || {
        check(());
        check(7_u8);
        check([3_u64; 2]);
        check([4_u64; 14]);
        check([5_u64; 15]);
        check([6_u8; 5000]);
        check(u128::MAX);
        check(Aligned(8));
    });
}

#[test]
fn a_result_may_be_larger_than_its_closure_and_the_other_way_round() {
    run_on(1, || {
        assert_eq!(spawn(|| [9_u8; 3000]).join().unwrap(), [9; 3000]);
        let large = [1_u8; 3000];
        assert_eq!(spawn(move || large.iter().map(|&b| u32::from(b)).sum::<u32>()).join().unwrap(), 3000);
    });
}

#[test]
fn a_panic_comes_out_of_join_as_an_error_with_its_payload() {
    run_on(1, || {
        let error = spawn(|| std::panic::panic_any(41_i32)).join().unwrap_err();
        assert!(error.is_panic() && !error.is_cancelled());
        assert_eq!(*error.into_panic().downcast::<i32>().unwrap(), 41);

        let number = greenloom::current().id();
        let error = spawn(move || panic!("formatted: {number}")).join().unwrap_err();
        assert_eq!(*error.try_into_panic().unwrap().downcast::<String>().unwrap(), format!("formatted: {number}"));
    });
}

#[test]
fn join_errors_read_as_sentences() {
    run_on(1, || {
        let say = |error: &dyn std::error::Error| error.to_string();
        assert_eq!(say(&spawn(|| panic!("plain")).join().unwrap_err()), "task panicked: plain");
        // Not a constant, which would be formatted when this is compiled.
        let number = std::hint::black_box(1);
        assert_eq!(say(&spawn(move || panic!("number {number}")).join().unwrap_err()), "task panicked: number 1");
        assert_eq!(say(&spawn(|| std::panic::panic_any(1)).join().unwrap_err()), "task panicked");
        let cancelled = spawn(|| ());
        cancelled.cancel();
        let error = cancelled.join().unwrap_err();
        assert_eq!(say(&error), "task was cancelled");
        assert_eq!(format!("{error:?}"), "JoinError(task was cancelled)");
    });
}

#[test]
fn a_cancelled_task_has_no_panic_to_give() {
    run_on(1, || {
        let cancelled = || {
            let task = spawn(|| ());
            task.cancel();
            task.join().unwrap_err()
        };
        let error = cancelled();
        assert!(error.is_cancelled() && !error.is_panic());
        assert!(error.try_into_panic().unwrap_err().is_cancelled());
        let asked = spawn(move || cancelled().into_panic()).join().unwrap_err();
        assert!(asked.to_string().contains("it was cancelled"), "{asked}");
    });
}

#[test]
fn a_task_whose_handle_was_dropped_runs_all_the_same() {
    let runtime = runtime(1);
    let (done, wait) = channel();
    unless_it_hangs(move || {
        runtime.run(move || {
            drop(spawn(move || {
                yield_now();
                done.send(5).unwrap();
            }));
        });
        // The runtime is still there: only its root has returned.
        assert_eq!(wait.recv(), Ok(5));
    });
}

#[test]
fn a_plain_thread_spawns_and_joins() {
    unless_it_hangs(|| {
        let runtime = runtime(2);
        let tasks: Vec<_> = (0..1000_u64).map(|i| runtime.spawn(move || i)).collect();
        let threads: Vec<_> = tasks.into_iter().map(|task| std::thread::spawn(|| task.join().unwrap())).collect();
        let sum: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(sum, 999 * 1000 / 2);
    });
}

#[test]
fn a_plain_thread_waits_for_a_task_that_ends_later() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let task = runtime.spawn(|| {
            greenloom::park();
            "late"
        });
        let waker = task.task();
        let joiner = std::thread::spawn(|| task.join().unwrap());
        waker.unpark();
        assert_eq!(joiner.join().unwrap(), "late");
    });
}

#[test]
fn many_threads_spawn_through_one_handle_at_once() {
    let sum: usize = run_on(2, || {
        let handle = Handle::current();
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let handle = handle.clone();
                std::thread::spawn(move || (0..2000).map(|_| handle.spawn(|| 1)).collect::<Vec<JoinHandle<usize>>>())
            })
            .collect();
        // These joins block the thread of this task: what other threads spawn must run on the other one meanwhile.
        let tasks: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).sum()
    });
    assert_eq!(sum, 8000);
}

#[test]
fn thousands_of_tasks_are_joined_in_the_order_of_their_spawning() {
    run_on(2, || {
        let tasks: Vec<_> = (0..5000).map(|i| spawn(move || i)).collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), i);
        }
    });
}

#[test]
fn thousands_of_tasks_are_joined_in_reverse() {
    run_on(2, || {
        let tasks: Vec<_> = (0..5000).map(|i| spawn(move || i)).collect();
        for (i, task) in tasks.into_iter().enumerate().rev() {
            assert_eq!(task.join().unwrap(), i);
        }
    });
}

#[test]
fn each_task_of_a_long_chain_joins_the_next() {
    fn chain(length: u32) -> u32 {
        if length == 0 { 0 } else { spawn(move || chain(length - 1)).join().unwrap() + 1 }
    }
    assert_eq!(run_on(2, || chain(5000)), 5000);
}

#[test]
fn join_of_a_task_that_has_ended_does_not_suspend() {
    run_on(1, || {
        let task = spawn(|| 3);
        yield_until(|| task.is_finished());
        assert_eq!(greenloom::no_suspend(|| task.join().unwrap()), 3);
    });
}

#[test]
fn is_finished_tells_the_end_and_nothing_earlier() {
    run_on(1, || {
        let begun = Arc::new(AtomicBool::new(false));
        let task = spawn({
            let begun = begun.clone();
            move || {
                begun.store(true, SeqCst);
                greenloom::park();
            }
        });
        assert!(!task.is_finished());
        yield_until(|| begun.load(SeqCst));
        assert!(!task.is_finished());
        task.task().unpark();
        yield_until(|| task.is_finished());
        task.join().unwrap();
    });
}

#[test]
fn a_handle_may_be_joined_by_another_task_than_the_spawner() {
    let value = run_on(2, || {
        let task = spawn(|| 11);
        spawn(move || task.join().unwrap() + 1).join().unwrap()
    });
    assert_eq!(value, 12);
}

#[test]
fn a_task_knows_its_name_its_spawn_site_and_a_number_of_its_own() {
    run_on(2, || {
        let line = line!() + 1;
        let task = greenloom::task::Builder::new().name("the name").spawn(greenloom::current).unwrap();
        let outside = task.task();
        let inside = task.join().unwrap();
        for seen in [&outside, &inside] {
            assert_eq!(seen.name(), Some("the name"));
            let site = seen.spawned_at().unwrap();
            assert_eq!((site.file(), site.line()), (file!(), line));
        }
        assert_eq!(inside.id(), outside.id());

        let plain = spawn(greenloom::current).join().unwrap();
        assert_eq!(plain.name(), None);

        let ids: HashSet<u64> = (0..10_000).map(|_| spawn(|| greenloom::current().id())).map(|t| t.join().unwrap()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(!ids.contains(&outside.id()));
    });
}

#[test]
fn every_way_to_spawn_keeps_the_callers_line() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let site = |task: greenloom::Task| task.spawned_at().unwrap().line();
        let line = line!();
        assert_eq!(site(runtime.spawn(greenloom::current).join().unwrap()), line + 1);
        assert_eq!(site(runtime.handle().spawn(greenloom::current).join().unwrap()), line + 2);
        assert_eq!(site(runtime.run(greenloom::current)), line + 3);
        assert_eq!(site(runtime.run(|| spawn(greenloom::current).join().unwrap())), line + 4);
        assert_eq!(site(runtime.run(|| greenloom::spawn_local(greenloom::current).join().unwrap())), line + 5);
        assert_eq!(site(greenloom::run(greenloom::current)), line + 6);
    });
}

#[test]
fn detached_tasks_all_run_before_the_root_sees_their_count() {
    run_on(2, || {
        let ran = Counter::default();
        for _ in 0..5000 {
            let ran = ran.clone();
            drop(spawn(move || ran.add()));
        }
        yield_until(|| ran.get() == 5000);
    });
}

#[test]
fn a_joined_task_happened_before_its_join_returned() {
    run_on(2, || {
        let written = Arc::new(AtomicUsize::new(0));
        for round in 0..2000 {
            let written = written.clone();
            // Relaxed on purpose: the join alone orders these.
            let task = spawn({
                let written = written.clone();
                move || written.store(round, std::sync::atomic::Ordering::Relaxed)
            });
            task.join().unwrap();
            assert_eq!(written.load(std::sync::atomic::Ordering::Relaxed), round);
        }
    });
}

#[test]
fn handles_may_be_used_inside_catch_unwind() {
    fn check<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    check::<greenloom::JoinHandle<std::cell::Cell<u8>>>();
    check::<greenloom::Task>();
    check::<greenloom::Runtime>();
    check::<greenloom::Handle>();
    check::<greenloom::group::Group<std::cell::Cell<u8>>>();
    check::<greenloom::pool::WorkerPool>();
    check::<greenloom::context::Context>();
}

#[test]
fn many_tasks_have_numbers_of_their_own_wherever_they_are_spawned() {
    const EACH: usize = 10_000;
    let spawn_many = || (0..EACH).map(|_| spawn(|| current().id()).join().unwrap()).collect::<Vec<u64>>();
    let ids: Vec<u64> = run_on(2, move || {
        let on = |index| Builder::new().placement(Placement::On(index));
        let mut ids = vec![current().id()];
        for spawner in [0, 1].map(|index| on(index).spawn(spawn_many).unwrap()) {
            ids.extend(spawner.join().unwrap());
        }
        let handle = Handle::current();
        let threads = [(); 2].map(|()| {
            let handle = handle.clone();
            std::thread::spawn(move || {
                let mut ids: Vec<u64> = (0..100).map(|_| handle.spawn(|| current().id()).join().unwrap()).collect();
                ids.push(current().id());
                ids
            })
        });
        threads.into_iter().for_each(|thread| ids.extend(thread.join().unwrap()));
        ids
    });
    assert!(!ids.contains(&0));
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
}
