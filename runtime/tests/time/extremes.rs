//! Moments and spans of time at the end of what can be said: none overflows, none fires, none keeps another from firing.

use std::time::{Duration, Instant};

use greenloom::channel::{after, at, bounded, tick};
use greenloom::context::Context;
use greenloom::time::{Elapsed, interval, sleep, sleep_until, timeout, timeout_at};
use greenloom::{park, park_timeout};
use test_support::{run_on, unless_it_hangs};

const SHORT: Duration = Duration::from_millis(2);

/// In a task, and on a plain thread.
fn everywhere(case: fn()) {
    run_on(1, case);
    run_on(2, case);
    unless_it_hangs(case);
}

/// A thread's `park` returns now and then without a token.
fn forever() {
    loop {
        park();
    }
}

/// It waits until a limit ends it.
#[track_caller]
fn assert_waits<T>(what: &str, wait: impl FnOnce() -> T) {
    let result: Result<(), Elapsed> = timeout(SHORT, || drop(wait()));
    assert!(result.is_err(), "{what}");
}

/// The last moment that can be said.
fn end_of_time() -> Instant {
    let mut last = Instant::now();
    let mut step = Duration::from_secs(1 << 62);
    while step > Duration::ZERO {
        match last.checked_add(step) {
            Some(later) => last = later,
            None => step /= 2,
        }
    }
    last
}

/// Moments that nobody lives to see, at and beyond the ends of the numbers that one might count them by.
fn far_moments() -> Vec<Instant> {
    let (now, end) = (Instant::now(), end_of_time());
    let seconds = [1 << 30, 1 << 33, 1 << 34, 1 << 35, 1 << 40, 1 << 60].map(Duration::from_secs);
    let nanos = [i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX / 2, u64::MAX].map(Duration::from_nanos);
    let spans = seconds.into_iter().chain(nanos);
    spans.filter_map(|span| now.checked_add(span)).chain([end - Duration::from_nanos(1), end]).collect()
}

#[test]
fn a_far_moment_is_a_limit_that_never_fires() {
    everywhere(|| {
        for moment in far_moments() {
            assert_eq!(timeout_at(moment, || 1), Ok(1));
            assert_eq!(timeout_at(moment, || sleep(SHORT)), Ok(()));
            assert_waits("timeout_at", || timeout_at(moment, forever));
        }
    });
}

#[test]
fn a_far_moment_is_waited_for_and_hinders_no_earlier_one() {
    everywhere(|| {
        for moment in far_moments() {
            assert_waits("sleep_until", || sleep_until(moment));
            assert_waits("at", || at(moment).recv());
            let (_sender, receiver) = bounded::<()>(0);
            assert_waits("recv_deadline", || receiver.recv_deadline(moment));
        }
    });
}

#[test]
fn a_context_with_a_far_deadline_is_live() {
    everywhere(|| {
        for moment in far_moments() {
            let (ctx, _canceller) = Context::background().with_deadline(moment);
            assert_eq!((ctx.err(), ctx.deadline()), (None, Some(moment)));
            assert_waits("run", || ctx.run_until_done(forever));
        }
    });
}

#[test]
fn the_longest_duration_is_waited_for_wherever_one_is_taken() {
    everywhere(|| {
        assert_waits("sleep", || sleep(Duration::MAX));
        assert_waits("park_timeout", || {
            loop {
                park_timeout(Duration::MAX);
            }
        });
        assert_waits("timeout", || timeout(Duration::MAX, forever));
        assert_waits("after", || after(Duration::MAX).recv());
        assert_waits("tick", || tick(Duration::MAX).recv());
        let (sender, receiver) = bounded::<()>(0);
        assert_waits("recv_timeout", || receiver.recv_timeout(Duration::MAX));
        assert_waits("send_timeout", || sender.send_timeout((), Duration::MAX));
        let (ctx, _canceller) = Context::background().with_timeout(Duration::MAX);
        assert!(ctx.err().is_none() && ctx.deadline().is_some());
        assert_waits("run", || ctx.run_until_done(forever));
    });
}

#[test]
fn an_interval_of_the_longest_duration_ticks_once_and_may_be_reset() {
    everywhere(|| {
        let mut clock = interval(Duration::MAX);
        clock.tick();
        assert_waits("the second tick", || clock.tick());
        let mut clock = interval(SHORT);
        clock.reset_after(Duration::MAX);
        assert_waits("a tick that was put off", || clock.tick());
        clock.reset_immediately();
        clock.tick();
    });
}
