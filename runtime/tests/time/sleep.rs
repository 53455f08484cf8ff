//! `sleep`, `sleep_until`, `park_timeout`.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use greenloom::channel::{Select, after};
use greenloom::context::Context;
use greenloom::time::{interval_at, sleep_until, timeout};
use greenloom::{current, park, park_timeout, sleep, spawn, yield_now};
use test_support::{Counter, run_on, runtime, spin_until, unless_it_hangs, yield_until};

const SHORT: Duration = Duration::from_millis(3);
const LONG: Duration = Duration::from_secs(3600);

/// In a task, and on a plain thread.
fn everywhere(body: fn()) {
    run_on(1, body);
    unless_it_hangs(body);
}

#[test]
fn a_sleep_is_never_too_short() {
    everywhere(|| {
        for micros in [1, 30, 33, 500, 2_100, 70_000] {
            let limit = Duration::from_micros(micros);
            let start = Instant::now();
            sleep(limit);
            assert!(start.elapsed() >= limit, "{limit:?}");
        }
    });
}

#[test]
fn sleep_until_waits_for_the_moment() {
    everywhere(|| {
        let deadline = Instant::now() + SHORT;
        sleep_until(deadline);
        assert!(Instant::now() >= deadline);
        sleep_until(deadline);
        sleep_until(Instant::now());
    });
}

/// In which order tasks wake that sleep until so many milliseconds after one moment; each is numbered as it comes to its sleep.
fn order_of_waking(millis: impl Fn(usize) -> u64 + Copy + Send + 'static, tasks: usize) -> Vec<usize> {
    // It counts only if all of them sleep before the moment comes; this machine may be slow.
    [20, 200, 2_000, 20_000]
        .into_iter()
        .find_map(|lead| {
            run_on(1, move || {
                let (order, next) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
                let start = Instant::now() + Duration::from_millis(lead);
                let tasks: Vec<_> = (0..tasks)
                    .map(|_| {
                        let (order, next) = (order.clone(), next.clone());
                        spawn(move || {
                            let number = next.fetch_add(1, SeqCst);
                            let in_time = Instant::now() + Duration::from_millis(5) < start;
                            sleep_until(start + Duration::from_millis(millis(number)));
                            order.lock().unwrap().push(number);
                            in_time
                        })
                    })
                    .collect();
                let in_time = tasks.into_iter().all(|task| task.join().unwrap());
                in_time.then(|| std::mem::take(&mut *order.lock().unwrap()))
            })
        })
        .expect("this machine is too slow for any test")
}

#[test]
fn sleepers_end_in_the_order_of_their_deadlines() {
    // Longer than what one level of the timing wheel spans, and shorter.
    const MILLIS: [u64; 8] = [90, 3, 40, 7, 0, 12, 150, 1];
    let order = order_of_waking(|number| MILLIS[number], MILLIS.len());
    assert_eq!(order.into_iter().map(|number| MILLIS[number]).collect::<Vec<_>>(), [0, 1, 3, 7, 12, 40, 90, 150]);
}

#[test]
fn sleepers_of_one_moment_end_in_the_order_in_which_they_came() {
    assert!(order_of_waking(|_| 0, 200).is_sorted());
    assert!(order_of_waking(|_| 130, 200).is_sorted());
}

#[test]
fn a_sleep_of_zero_lets_others_run_and_returns() {
    run_on(1, || {
        let ran = Counter::default();
        let other = spawn({
            let ran = ran.clone();
            move || ran.add()
        });
        while ran.get() == 0 {
            sleep(Duration::ZERO);
        }
        other.join().unwrap();
    });
    unless_it_hangs(|| sleep(Duration::ZERO));
}

#[test]
fn a_sleep_that_is_too_long_to_be_said_is_for_ever() {
    run_on(1, || {
        for limit in [Duration::MAX, Duration::from_secs(u64::MAX / 4)] {
            let task = spawn(move || sleep(limit));
            sleep(SHORT);
            assert!(!task.is_finished());
            task.cancel();
            assert!(task.join().unwrap_err().is_cancelled());
        }
    });
    unless_it_hangs(|| assert!(timeout(SHORT, || sleep(Duration::MAX)).is_err()));
}

#[test]
fn others_run_while_a_task_sleeps() {
    run_on(1, || {
        let slept = Arc::new(AtomicBool::new(false));
        let sleeper = spawn({
            let slept = slept.clone();
            move || {
                sleep(SHORT);
                slept.store(true, SeqCst);
            }
        });
        let mut turns = 0_u64;
        while !slept.load(SeqCst) {
            turns += 1;
            yield_now();
        }
        assert!(turns > 1);
        sleeper.join().unwrap();
    });
}

#[test]
fn a_sleeper_wakes_though_others_are_always_ready() {
    run_on(1, || {
        let done = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..3)
            .map(|_| {
                let done = done.clone();
                spawn(move || {
                    while !done.load(SeqCst) {
                        let start = Instant::now();
                        spin_until(|| start.elapsed() > Duration::from_micros(300));
                        yield_now();
                    }
                })
            })
            .collect();
        for _ in 0..5 {
            sleep(SHORT);
        }
        done.store(true, SeqCst);
        busy.into_iter().for_each(|task| task.join().unwrap());
    });
}

#[test]
fn a_cancelled_sleeper_ends_at_once_and_drops_what_it_has() {
    run_on(1, || {
        let drops = Counter::default();
        let tasks: Vec<_> = (0..100)
            .map(|i| {
                let guard = drops.on_drop();
                spawn(move || {
                    let _guard = guard;
                    sleep(LONG + Duration::from_millis(i));
                })
            })
            .collect();
        sleep(SHORT);
        for task in &tasks {
            task.cancel();
        }
        for task in tasks {
            assert!(task.join().unwrap_err().is_cancelled());
        }
        assert_eq!(drops.get(), 100);
    });
}

#[test]
fn sleepers_of_a_runtime_that_ends_are_cancelled() {
    unless_it_hangs(|| {
        let drops = Counter::default();
        let runtime = runtime(2);
        for _ in 0..100 {
            let guard = drops.on_drop();
            drop(runtime.spawn(move || {
                let _guard = guard;
                sleep(LONG);
            }));
        }
        runtime.run(|| sleep(SHORT));
        drop(runtime);
        assert_eq!(drops.get(), 100);
    });
}

#[test]
fn a_hundred_thousand_sleep_at_once() {
    const TASKS: u64 = 100_000;
    let ended = run_on(2, || {
        let ended = Arc::new(AtomicU64::new(0));
        let tasks: Vec<_> = (0..TASKS)
            .map(|i| {
                let ended = ended.clone();
                spawn(move || {
                    sleep(Duration::from_micros(100_000 + i % 1000));
                    ended.fetch_add(1, SeqCst);
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        ended.load(SeqCst)
    });
    assert_eq!(ended, TASKS);
}

#[test]
fn park_timeout_ends_by_time() {
    everywhere(|| {
        let start = Instant::now();
        // A plain thread may wake early, as std says.
        while start.elapsed() < SHORT {
            park_timeout(SHORT);
        }
    });
    run_on(1, || {
        let start = Instant::now();
        park_timeout(SHORT);
        assert!(start.elapsed() >= SHORT);
    });
}

#[test]
fn park_timeout_ends_by_a_token() {
    everywhere(|| {
        current().unpark();
        park_timeout(LONG);
        let me = current();
        let other = std::thread::spawn(move || me.unpark());
        park_timeout(Duration::MAX);
        other.join().unwrap();
    });
}

#[test]
fn a_token_that_comes_too_late_is_for_the_next_park() {
    run_on(1, || {
        park_timeout(SHORT);
        current().unpark();
        park();
        current().unpark();
        park_timeout(Duration::ZERO);
        // That took the token.
        let start = Instant::now();
        park_timeout(SHORT);
        assert!(start.elapsed() >= SHORT);
    });
}

#[test]
fn a_cancelled_task_leaves_park_timeout() {
    run_on(1, || {
        let task = spawn(|| park_timeout(LONG));
        sleep(SHORT);
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn every_wait_for_time_ends_by_a_cancellation() {
    for processors in [1, 2] {
        run_on(processors, || {
            let waits: [(&str, fn()); 8] = [
                ("sleep", || sleep(LONG)),
                ("sleep for ever", || sleep(Duration::MAX)),
                ("sleep_until", || sleep_until(Instant::now() + LONG)),
                ("park_timeout", || park_timeout(LONG)),
                ("after", || _ = after(LONG).recv()),
                ("timeout", || _ = timeout(LONG, park)),
                ("run", || _ = Context::background().with_timeout(LONG).0.run_until_done(park)),
                ("interval", || _ = interval_at(Instant::now() + LONG, SHORT).tick()),
            ];
            for (name, wait) in waits {
                let begun = Arc::new(AtomicBool::new(false));
                let task = spawn({
                    let begun = begun.clone();
                    move || {
                        begun.store(true, SeqCst);
                        wait();
                    }
                });
                yield_until(|| begun.load(SeqCst));
                task.cancel();
                assert!(task.join().is_err_and(|error| error.is_cancelled()), "{name}");
            }
        });
    }
}

#[test]
fn a_destructor_of_a_thread_local_may_use_time() {
    fn use_time() {
        sleep(SHORT);
        park_timeout(SHORT);
        assert_eq!(timeout(LONG, || 1), Ok(1));
        assert!(timeout(SHORT, || sleep(LONG)).is_err());
        let (ctx, _canceller) = Context::background().with_timeout(SHORT);
        assert!(ctx.run_until_done(|| sleep(LONG)).is_err());
        // Of so many that they do not fit into its frame.
        let moments: Vec<_> = (0..64).map(|i| after(if i == 40 { SHORT } else { LONG })).collect();
        let mut select = Select::new();
        for moment in &moments {
            select.recv(moment);
        }
        assert_eq!(select.ready(), 40);
        greenloom::uncancellable(greenloom::checkpoint);
    }
    struct Late(Counter);
    impl Drop for Late {
        fn drop(&mut self) {
            use_time();
            self.0.add();
        }
    }
    thread_local!(static LATE: RefCell<Option<Late>> = const { RefCell::new(None) });
    unless_it_hangs(|| {
        let finished = Counter::default();
        // Destroyed after what this crate keeps for the thread, and before.
        for first in [true, false] {
            let late = Late(finished.clone());
            let thread = std::thread::spawn(move || {
                if first {
                    LATE.set(Some(late));
                    use_time();
                } else {
                    use_time();
                    LATE.set(Some(late));
                }
            });
            thread.join().unwrap();
        }
        assert_eq!(finished.get(), 2);
    });
}

#[test]
#[should_panic(expected = "a task tried to suspend inside no_suspend: it would be sleeping")]
fn a_sleep_inside_no_suspend_panics() {
    run_on(1, || greenloom::no_suspend(|| sleep(SHORT)));
}
