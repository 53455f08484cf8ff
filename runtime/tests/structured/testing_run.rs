//! `testing::run` fails a test that leaks tasks, and leaves none behind.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::time::Duration;

use greenloom::group::Group;
use greenloom::pool::WorkerPool;
use greenloom::sync::Mutex;
use greenloom::task::Builder;
use greenloom::{Runtime, channel, park, sleep, spawn, testing, yield_now};
use test_support::{Counter, OnDrop, in_child, run_on, unless_it_hangs, yield_until};

/// What `testing::run` of this complains of.
fn complaint(f: impl FnOnce() + Send + 'static) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| testing::run(f))).expect_err("there are leaks");
    *payload.downcast::<String>().unwrap()
}

#[test]
fn a_body_that_leaves_no_task_passes_and_gives_its_value() {
    unless_it_hangs(|| {
        for _ in 0..100 {
            assert_eq!(testing::run(|| spawn(|| 20).join().unwrap() + 1), 21);
        }
    });
}

#[test]
fn tasks_that_are_about_to_end_are_waited_for() {
    unless_it_hangs(|| {
        let ended = Counter::default();
        testing::run({
            let ended = ended.clone();
            move || {
                // Ready, not started, and asleep for a while.
                for i in 0..30 {
                    let ended = ended.clone();
                    drop(spawn(move || {
                        match i % 3 {
                            0 => (0..1000).for_each(|_| yield_now()),
                            1 => _ = channel::after(Duration::from_millis(50)).recv(),
                            _ => std::thread::sleep(Duration::from_millis(1)),
                        }
                        ended.add();
                    }));
                }
            }
        });
        assert_eq!(ended.get(), 30);
    });
}

#[test]
fn leaked_tasks_are_named_and_cancelled() {
    unless_it_hangs(|| {
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let line = line!() + 2;
        let text = complaint(move || {
            let reader = Builder::new().name("reader").spawn(move || {
                let _guard = guard;
                let (_tx, rx) = channel::bounded::<()>(1);
                rx.recv()
            });
            drop((reader, spawn(park)));
        });
        assert_eq!(dropped.get(), 1);
        assert!(text.starts_with("leaked tasks: 2\n  task "), "{text}");
        assert!(text.contains("task 'reader' (id ") && text.contains(&format!("{}:{line}:", file!())), "{text}");
        assert!(text.contains("receiving from a channel, for ") && text.contains("parked, for "), "{text}");
        assert!(!text.contains("cancelled, but"), "{text}");
    });
}

#[test]
fn each_way_to_wait_for_ever_is_a_leak_and_is_told() {
    unless_it_hangs(|| {
        let text = complaint(|| {
            let (sender, receiver) = channel::bounded::<()>(0);
            let (other_sender, other_receiver) = channel::bounded::<()>(0);
            let mutex = Arc::new(Mutex::new(()));
            std::mem::forget((sender, other_receiver, mutex.clone().lock().unwrap()));
            drop(spawn(move || receiver.recv()));
            drop(spawn(move || other_sender.send(())));
            drop(spawn(move || drop(mutex.lock())));
            drop(spawn(|| {
                channel::select! {
                    recv(channel::never::<()>()) -> _ => {}
                    recv(channel::never::<u8>()) -> _ => {}
                }
            }));
            drop(spawn(|| sleep(Duration::from_secs(3600))));
            drop(spawn(|| spawn(park).join()));
        });
        assert!(text.starts_with("leaked tasks: 7\n"), "{text}");
        for reason in [
            "receiving from a channel",
            "sending to a channel",
            "waiting for a lock",
            "selecting among channels",
            "sleeping",
            "waiting for another task to end",
            "parked",
        ] {
            assert_eq!(text.matches(&format!("{reason}, for ")).count(), 1, "{reason}: {text}");
        }
        assert_eq!(text.matches(&format!("spawned at {}:", file!())).count(), 7, "{text}");
    });
}

#[test]
fn a_pool_or_a_group_leaks_its_tasks_if_it_is_forgotten_and_not_if_it_is_dropped() {
    unless_it_hangs(|| {
        fn group() -> Group<()> {
            let group = Group::new();
            group.spawn(|| {
                park();
                Ok(())
            });
            group
        }
        testing::run(|| drop((WorkerPool::new(1, 1), group())));
        let text = complaint(|| std::mem::forget((WorkerPool::new(2, 1), group())));
        assert!(text.starts_with("leaked tasks: 3\n"), "{text}");
    });
}

#[test]
fn the_complaint_comes_from_the_line_of_the_test() {
    let child = in_child!("the_complaint_comes_from_the_line_of_the_test", || {
        println!("[{}:{}:]", file!(), line!() + 1);
        drop(catch_unwind(|| testing::run(|| drop(spawn(park)))));
    });
    child.assert_success();
    let place = child.stdout.lines().find_map(|line| line.split_once('[')?.1.strip_suffix(']')).unwrap();
    child.assert_said(place);
}

#[test]
fn a_leaked_task_that_does_not_unwind_is_named_as_such() {
    unless_it_hangs(|| {
        let text = complaint(|| {
            drop(spawn(|| {
                let _stubborn = OnDrop::new(|| {
                    loop {
                        park();
                    }
                });
                park();
            }));
        });
        assert!(text.contains("\ncancelled, but tasks that have not ended: 1\n"), "{text}");
    });
}

#[test]
fn a_panic_of_the_body_comes_out_and_not_its_leaks() {
    unless_it_hangs(|| {
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let body = move || {
            let begun = Counter::default();
            let beginner = begun.clone();
            drop(spawn(move || {
                let _guard = guard;
                beginner.add();
                park();
            }));
            yield_until(|| begun.get() == 1);
            panic_any(5_u8);
        };
        let payload = catch_unwind(AssertUnwindSafe(|| testing::run(body))).unwrap_err();
        assert_eq!(*payload.downcast::<u8>().unwrap(), 5);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn the_runtime_may_be_described() {
    unless_it_hangs(|| {
        let builder = Runtime::builder().processors(1).thread_name("mine");
        let name = testing::run_in(builder, || std::thread::current().name().map(str::to_owned));
        assert_eq!(name.as_deref(), Some("mine-0"));
    });
}

#[test]
fn it_works_inside_a_task() {
    run_on(1, || {
        testing::run(|| spawn(|| ()).join().unwrap());
        let text = complaint(|| drop(spawn(park)));
        assert!(text.starts_with("leaked tasks: 1"), "{text}");
    });
}

/// Though the harness has other threads, one of which might wake it as far as anybody knows.
#[test]
fn a_deadlock_fails_the_test() {
    let failed = catch_unwind(|| testing::run(park)).unwrap_err();
    let message = failed.downcast_ref::<String>().unwrap();
    assert!(message.starts_with("all tasks are asleep - deadlock!") && message.contains("parked"), "{message}");
    assert!(message.contains(file!()), "{message}");
}
