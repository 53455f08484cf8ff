//! `Runtime::shutdown`: cancels, waits up to a grace period, and tells what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use greenloom::context::Context;
use greenloom::task::Builder;
use greenloom::time::timeout;
use greenloom::{park, scope, sleep, spawn, sync, uncancellable, yield_now};
use test_support::{Counter, OnDrop, Slot, in_child, run_on, runtime, spin_until, unless_it_hangs, yield_until};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

#[test]
fn tasks_that_unwind_leave_a_clean_report_as_soon_as_they_have() {
    unless_it_hangs(|| {
        let dropped = Counter::default();
        let runtime = runtime(2);
        for _ in 0..100 {
            let guard = dropped.on_drop();
            drop(runtime.spawn(move || {
                let _guard = guard;
                park();
            }));
        }
        let report = runtime.shutdown(LONG);
        assert!(report.is_clean() && report.leftover().is_empty());
        assert_eq!(report.to_string(), "all tasks that had started have ended");
        assert_eq!(dropped.get(), 100);
    });
}

/// Parks for ever when dropped.
fn stubborn() -> OnDrop<impl FnOnce()> {
    OnDrop::new(|| {
        loop {
            park();
        }
    })
}

#[test]
fn what_does_not_end_is_listed_with_name_site_reason_and_time_and_not_on_stderr() {
    let child = in_child!("what_does_not_end_is_listed_with_name_site_reason_and_time_and_not_on_stderr", || {
        let runtime = runtime(2);
        let (begun, line, id) = (Counter::default(), line!() + 4, Slot::new());
        runtime.run({
            let (begun, id) = (begun.clone(), id.clone());
            move || {
                let task = Builder::new().name("stubborn").spawn({
                    let begun = begun.clone();
                    move || {
                        let _stubborn = stubborn();
                        begun.add();
                        park();
                    }
                });
                id.put(task.unwrap().task().id());
                let begun_too = begun.clone();
                drop(spawn(move || {
                    let mutex = sync::Mutex::new(());
                    let _held = mutex.lock().unwrap();
                    let _waits = OnDrop::new(|| drop(mutex.lock()));
                    begun_too.add();
                    park();
                }));
                yield_until(|| begun.get() == 2);
            }
        });
        let report = runtime.shutdown(Duration::from_millis(300));
        let text = report.to_string();
        assert!(!report.is_clean());
        assert_eq!(report.leftover().len(), 2, "{text}");
        let find = |named: bool| report.leftover().iter().find(|task| task.name().is_some() == named).unwrap();
        let task = find(true);
        assert_eq!((task.name(), task.id()), (Some("stubborn"), id.take().unwrap()));
        let site = task.spawned_at().unwrap();
        assert!(site.file() == file!() && site.line() == line, "{site}, not {line}");
        assert_eq!(task.waiting_for(), "parked");
        assert!(task.waited() > Duration::ZERO, "{:?}", task.waited());
        let task = find(false);
        assert_eq!((task.name(), task.waiting_for()), (None, "waiting for a lock"));
        assert!(text.starts_with("tasks that have not ended: 2\n  task "), "{text}");
        assert!(text.contains("waiting for a lock, for ") && text.contains(", parked, for "), "{text}");
    });
    child.assert_success();
    assert_eq!(child.stderr, "");
}

#[test]
fn a_task_that_never_suspends_is_running() {
    unless_it_hangs(|| {
        let (spinning, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let runtime = runtime(1);
        let task = runtime.spawn({
            let (spinning, stop) = (spinning.clone(), stop.clone());
            move || {
                spinning.store(true, SeqCst);
                spin_until(|| stop.load(SeqCst));
            }
        });
        yield_until(|| spinning.load(SeqCst));
        let began = Instant::now();
        let report = runtime.shutdown(Duration::from_millis(50));
        assert!(began.elapsed() >= Duration::from_millis(50));
        assert_eq!(report.leftover().len(), 1);
        assert_eq!(report.leftover()[0].waiting_for(), "running or ready to run");
        assert_eq!(report.leftover()[0].waited(), Duration::ZERO);
        stop.store(true, SeqCst);
        drop(task.join());
    });
}

#[test]
fn a_grace_of_zero_and_one_of_ages_are_kept() {
    unless_it_hangs(|| {
        assert!(runtime(1).shutdown(Duration::ZERO).is_clean(), "there was nobody");
        let runtime_of_many = runtime(2);
        let tasks: Vec<_> = (0..10).map(|_| runtime_of_many.spawn(park)).collect();
        assert!(runtime_of_many.shutdown(Duration::MAX).is_clean());
        tasks.into_iter().for_each(|task| assert!(task.join().unwrap_err().is_cancelled()));
        for grace in [0, 1, 30].map(Duration::from_millis) {
            let runtime = runtime(2);
            let asleep = Counter::default();
            let sleeper = asleep.clone();
            let _left = runtime.spawn(move || {
                uncancellable(|| {
                    sleeper.add();
                    sleep(Duration::MAX);
                });
            });
            yield_until(|| asleep.get() == 1);
            let began = Instant::now();
            let report = runtime.shutdown(grace);
            assert!(began.elapsed() >= grace);
            assert_eq!(report.leftover().len(), 1, "{report}");
        }
    });
}

#[test]
fn a_destructor_that_does_not_end_holds_up_no_other_task() {
    // Each time with a longer grace, until the others have had their time, however slow this machine is.
    let leftover_of = |grace: Duration, stubborn_first: bool| {
        unless_it_hangs(move || {
            let (begun, runtime) = (Counter::default(), runtime(1));
            for i in 0..6 {
                let begun = begun.clone();
                drop(runtime.spawn(move || {
                    let _stubborn = (i == if stubborn_first { 0 } else { 5 }).then(stubborn);
                    begun.add();
                    park();
                }));
            }
            yield_until(|| begun.get() == 6);
            runtime.shutdown(grace).leftover().len()
        })
    };
    for stubborn_first in [true, false] {
        let graces = [50, 500, 5_000, 30_000].map(Duration::from_millis);
        assert!(graces.into_iter().any(|grace| leftover_of(grace, stubborn_first) == 1), "stubborn first: {stubborn_first}");
    }
}

#[test]
fn limits_and_contexts_that_end_meanwhile_leave_a_clean_report() {
    const TASKS: u64 = 200;
    unless_it_hangs(|| {
        for round in 0..20 {
            let (runtime, dropped) = (runtime(2), Counter::default());
            let (ctx, _canceller) = Context::background().with_timeout(Duration::from_millis(2));
            for i in 0..TASKS {
                let (ctx, guard) = (ctx.clone(), dropped.on_drop());
                drop(runtime.spawn(move || {
                    let _guard = guard;
                    match i % 4 {
                        0 => drop(ctx.run_until_done(park)),
                        1 => drop(timeout(Duration::from_micros(i * 20), park)),
                        2 => {
                            ctx.after_func(|| ());
                            park();
                        }
                        _ => scope(|s| {
                            s.spawn(|| ctx.run_until_done(park).is_ok());
                            s.spawn(park);
                        }),
                    }
                }));
            }
            std::thread::sleep(Duration::from_micros(150 * round));
            let report = runtime.shutdown(LONG);
            assert!(report.is_clean(), "{report}");
            assert_eq!(dropped.get() as u64, TASKS);
        }
    });
}

#[test]
fn in_a_task_of_another_runtime_it_suspends_that_task_alone() {
    run_on(1, || {
        let inner = runtime(1);
        let task = inner.spawn(park);
        let others = Counter::default();
        drop(spawn({
            let others = others.clone();
            move || others.add()
        }));
        assert!(inner.shutdown(LONG).is_clean());
        assert!(task.join().unwrap_err().is_cancelled());
        yield_now();
        assert_eq!(others.get(), 1);
    });
}

#[test]
fn in_a_task_of_its_own_it_panics_and_the_runtime_ends() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let (handle, waiting) = (runtime.handle(), runtime.spawn(park));
        let error = handle.spawn(move || runtime.shutdown(LONG).is_clean()).join().unwrap_err();
        assert!(error.to_string().contains("its own end"), "{error}");
        assert!(waiting.join().unwrap_err().is_cancelled());
    });
}
