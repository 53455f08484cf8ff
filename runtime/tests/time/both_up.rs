//! A wait that has a time of its own, when that is up, and so is a cancellation or a limit around it, before its task goes on: its thread
//! was busy. A cancellation comes first, always; of two times the earlier.

use std::time::{Duration, Instant};

use greenloom::channel::{Select, after, at, bounded, never, select, tick};
use greenloom::context::{Context, ContextError};
use greenloom::sync::{Condvar, Mutex};
use greenloom::time::{Elapsed, interval_at, sleep_until, timeout, timeout_at};
use greenloom::{Task, park_timeout, sleep, spawn_local, uncancellable, yield_now};
use test_support::{run_on, unless_it_hangs};

const LONG: Duration = Duration::from_secs(3600);

/// What it is called, and the wait.
type Wait<T> = (&'static str, fn(T));

/// Every wait with a time: for so long at most.
const WAITS: [Wait<Duration>; 15] = [
    ("sleep", |time| sleep(time)),
    ("sleep_until", |time| sleep_until(Instant::now() + time)),
    ("park_timeout", |time| park_timeout(time)),
    ("Interval::tick", |time| _ = interval_at(Instant::now() + time, LONG).tick()),
    ("recv_timeout", |time| {
        let (_sender, receiver) = bounded::<()>(0);
        receiver.recv_timeout(time).unwrap_err();
    }),
    ("recv_timeout of never", |time| _ = never::<()>().recv_timeout(time)),
    ("recv_timeout of at", |time| _ = at(Instant::now() + LONG).recv_timeout(time)),
    ("send_timeout", |time| {
        let (sender, _receiver) = bounded(0);
        sender.send_timeout((), time).unwrap_err();
    }),
    ("after", |time| _ = after(time).recv()),
    ("tick", |time| _ = tick(time).recv()),
    ("select! with default", |time| select! { recv(never::<()>()) -> _ => {}, default(time) => {} }),
    ("select! with after", |time| select! { recv(never::<()>()) -> _ => {}, recv(after(time)) -> _ => {} }),
    ("Select::ready_timeout", |time| {
        let never = never::<()>();
        let mut select = Select::new();
        select.recv(&never);
        select.ready_timeout(time).unwrap_err();
    }),
    ("Condvar::wait_timeout", |time| {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        assert!(condvar.wait_timeout(mutex.lock().unwrap(), time).unwrap().1.timed_out());
    }),
    ("Condvar::wait_timeout_while", |time| {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        assert!(condvar.wait_timeout_while(mutex.lock().unwrap(), time, |()| true).unwrap().1.timed_out());
    }),
];

/// Holds the thread.
fn hold_until(moment: Instant) {
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

/// What comes of `body` in a task of this thread, `None` if that is cancelled. Once it waits, `meanwhile` is done, and the thread is held
/// until twice its time has passed.
///
/// On a slow machine it may begin to wait only when its time is up. Then, if the result is not the expected one, it tries again with
/// more time.
#[track_caller]
fn assert_held<T: PartialEq + std::fmt::Debug + 'static>(
    name: &str,
    expected: Option<T>,
    body: impl Fn(Duration) -> T + Copy + 'static,
    meanwhile: fn(&Task),
) {
    let mut time = Duration::from_millis(10);
    loop {
        let task = spawn_local(move || body(time));
        // It begins to wait. What its timer makes ready then goes behind this.
        yield_now();
        meanwhile(&task.task());
        hold_until(Instant::now() + 2 * time);
        let result = task.join().ok();
        if result == expected || time > Duration::from_millis(500) {
            assert_eq!(result, expected, "{name}");
            return;
        }
        time *= 2;
    }
}

#[test]
fn a_cancellation_comes_first() {
    run_on(1, || {
        for (name, wait) in WAITS {
            assert_held(name, None, wait, |task| task.cancel());
        }
    });
}

#[test]
fn a_cancellation_comes_first_also_if_the_time_was_up_before() {
    run_on(1, || {
        for (name, wait) in WAITS {
            assert_held(name, None, wait, |task| {
                // By now the timer has fired, if the monitor sees to it while this thread is held.
                hold_until(Instant::now() + Duration::from_millis(30));
                task.cancel();
            });
        }
    });
}

#[test]
fn of_a_limit_and_a_wait_the_earlier_comes_first() {
    run_on(1, || {
        for (name, wait) in WAITS {
            assert_held(name, Some(true), move |time| timeout(time / 2, || wait(time)).is_err(), |_| ());
            assert_held(name, Some(true), move |time| timeout(time, || wait(time / 2)).is_ok(), |_| ());
            // If several are over, the outermost.
            let nested = move |time| timeout(2 * time, || timeout(time / 2, || wait(time)).is_ok());
            assert_held(name, Some(Err(())), move |time| nested(time / 2).map_err(drop), |_| ());
            let inner = move |time| timeout(LONG, || timeout(time / 2, || wait(time)).is_err());
            assert_held(name, Some(Ok(true)), inner, |_| ());
        }
    });
}

#[test]
fn a_limit_that_is_over_later_than_a_wait_ends_the_next() {
    run_on(1, || {
        for (name, wait) in WAITS {
            let both = move |time: Duration| {
                let mut passed = 0;
                let limited = timeout(time, || {
                    wait(time / 2);
                    passed += 1;
                    wait(LONG);
                    passed += 1;
                });
                (passed, limited.is_err())
            };
            assert_held(name, Some((1, true)), both, |_| ());
        }
    });
}

#[test]
fn of_a_contexts_deadline_and_a_wait_the_earlier_comes_first() {
    run_on(1, || {
        for (name, wait) in WAITS {
            let run = move |limit: Duration, time: Duration| {
                let (ctx, _canceller) = Context::background().with_timeout(limit);
                // Made on the way, and later: the parent's counts.
                let (ctx, _other) = ctx.with_timeout(LONG);
                ctx.run_until_done(|| wait(time))
            };
            assert_held(name, Some(Err(ContextError::DeadlineExceeded)), move |time| run(time / 2, time), |_| ());
            assert_held(name, Some(Ok(())), move |time| run(time, time / 2), |_| ());
        }
    });
}

#[test]
fn the_cancellation_of_a_context_comes_first() {
    run_on(1, || {
        for (name, wait) in WAITS {
            let cancelled = move |time: Duration| {
                let (ctx, canceller) = Context::background().with_timeout(LONG);
                let canceller = spawn_local(move || {
                    // The wait has begun, and its time is up when this thread is let go.
                    hold_until(Instant::now() + 2 * time);
                    canceller.cancel();
                });
                let result = ctx.run_until_done(|| wait(time));
                canceller.join().unwrap();
                result
            };
            assert_held(name, Some(Err(ContextError::Cancelled)), cancelled, |_| ());
        }
    });
}

#[test]
fn neither_counts_where_it_is_put_off() {
    run_on(1, || {
        for (name, wait) in WAITS {
            let shielded = move |time: Duration| timeout(time / 2, || uncancellable(|| wait(time))).is_ok();
            assert_held(name, Some(true), shielded, |_| ());
        }
    });
}

#[test]
fn the_same_on_a_plain_thread() {
    // A thread sleeps too long by more than this.
    const APART: Duration = Duration::from_nanos(200);
    const TIME: Duration = Duration::from_millis(1);
    unless_it_hangs(|| {
        // Those that take a moment, so that both are known exactly.
        let waits: [Wait<Instant>; 4] = [
            ("sleep_until", |moment| sleep_until(moment)),
            ("recv_deadline", |moment| _ = bounded::<()>(0).1.recv_deadline(moment)),
            ("recv_deadline of never", |moment| _ = never::<()>().recv_deadline(moment)),
            ("at", |moment| _ = at(moment).recv()),
        ];
        for (name, wait) in waits {
            // Where the thread was held before it began to wait, there was no wait.
            let most = |what: &dyn Fn() -> Result<(), Elapsed>| (0..9).filter(|_| what().is_ok()).count();
            let limit_first = most(&|| {
                let limit = Instant::now() + TIME;
                timeout_at(limit, || wait(limit + APART))
            });
            let wait_first = most(&|| {
                let time = Instant::now() + TIME;
                timeout_at(time + APART, || wait(time))
            });
            assert!(limit_first < 5 && wait_first > 4, "{name}: {limit_first}, {wait_first} of 9 were not ended");
        }
    });
}
