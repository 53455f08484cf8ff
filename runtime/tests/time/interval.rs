//! `interval`, `interval_at`, `Interval`.

use std::time::{Duration, Instant};

use greenloom::time::{Interval, MissedTickBehavior, interval, interval_at, timeout};
use greenloom::{sleep, spawn};
use test_support::{run_on, unless_it_hangs};

const PERIOD: Duration = Duration::from_millis(4);
const LONG: Duration = Duration::from_secs(3600);

/// In a task, and on a plain thread.
fn everywhere(body: fn()) {
    run_on(1, body);
    unless_it_hangs(body);
}

/// A clock that began some periods ago, and has not been looked at since.
fn late(periods: u32, half: bool, behavior: MissedTickBehavior) -> (Instant, Interval) {
    let period = Duration::from_secs(60);
    let start = Instant::now() - period * periods - if half { period / 2 } else { Duration::ZERO };
    let mut clock = interval_at(start, period);
    clock.set_missed_tick_behavior(behavior);
    (start, clock)
}

#[test]
fn the_first_tick_is_at_once_and_the_others_a_period_apart() {
    everywhere(|| {
        let start = Instant::now();
        let mut clock = interval(PERIOD);
        let first = clock.tick();
        assert!(first >= start);
        for n in 1..5 {
            let due = clock.tick();
            assert_eq!(due, first + PERIOD * n);
            assert!(Instant::now() >= due);
        }
    });
}

#[test]
fn an_interval_begins_when_it_is_told_to() {
    everywhere(|| {
        let start = Instant::now() + PERIOD;
        let mut clock = interval_at(start, PERIOD);
        assert_eq!(clock.tick(), start);
        assert!(Instant::now() >= start);
        assert_eq!(clock.tick(), start + PERIOD);
    });
}

#[test]
#[should_panic(expected = "the period of an interval must not be zero")]
fn a_period_of_zero_panics() {
    interval(Duration::ZERO);
}

#[test]
fn missed_ticks_come_in_a_burst() {
    let (start, mut clock) = late(3, true, MissedTickBehavior::Burst);
    for n in 0..4 {
        assert_eq!(clock.tick(), start + clock.period() * n);
    }
    assert!(timeout(Duration::ZERO, || clock.tick()).is_err());
}

#[test]
fn missed_ticks_delay_the_next() {
    let (start, mut clock) = late(3, true, MissedTickBehavior::Delay);
    let before = Instant::now();
    assert_eq!(clock.tick(), start);
    // The next is a whole period away: not due, whatever this machine does in a minute.
    assert!(timeout(Duration::ZERO, || clock.tick()).is_err());
    let mut clock = interval_at(before - PERIOD * 10, PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    clock.tick();
    assert!(clock.tick() >= before + PERIOD);
}

#[test]
fn missed_ticks_are_left_out() {
    let start = Instant::now() - PERIOD * 10 - PERIOD / 2;
    let mut clock = interval_at(start, PERIOD);
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let before = Instant::now();
    assert_eq!(clock.tick(), start);
    let next = clock.tick();
    assert!(next > before);
    assert_eq!((next - start).as_nanos() % PERIOD.as_nanos(), 0);
}

#[test]
fn a_tick_that_is_hardly_late_is_not_missed() {
    // Less than the tolerance, unless the machine stops here for long: then a later attempt shows it.
    let on_time = |behavior| {
        let start = Instant::now() - Duration::from_millis(1);
        let mut clock = interval_at(start, Duration::from_millis(200));
        clock.set_missed_tick_behavior(behavior);
        clock.tick();
        clock.tick() == start + Duration::from_millis(200)
    };
    for behavior in [MissedTickBehavior::Delay, MissedTickBehavior::Skip] {
        assert!((0..100).any(|_| on_time(behavior)), "{behavior:?}");
    }
}

#[test]
fn resets_move_the_next_tick() {
    everywhere(|| {
        let mut clock = interval(PERIOD);
        clock.tick();
        let now = Instant::now();
        clock.reset();
        assert!(clock.tick() >= now + PERIOD);
        let deadline = Instant::now() + PERIOD * 2;
        clock.reset_at(deadline);
        assert_eq!(clock.tick(), deadline);
        assert_eq!(clock.tick(), deadline + PERIOD);
        let now = Instant::now();
        clock.reset_after(PERIOD / 2);
        assert!(clock.tick() >= now + PERIOD / 2);
        let now = Instant::now();
        clock.reset_immediately();
        let due = clock.tick();
        assert!(due >= now && due <= Instant::now());
        assert_eq!(clock.period(), PERIOD);
    });
}

#[test]
fn a_tick_that_is_too_far_away_to_be_said_never_comes() {
    everywhere(|| {
        let mut clock = interval(Duration::MAX);
        clock.tick();
        assert!(timeout(PERIOD, || clock.tick()).is_err());
        clock.reset_after(Duration::MAX);
        assert!(timeout(PERIOD, || clock.tick()).is_err());
        clock.reset_immediately();
        clock.tick();
    });
}

#[test]
fn a_tick_whose_wait_was_ended_is_not_lost() {
    everywhere(|| {
        let start = Instant::now() + PERIOD * 3;
        let mut clock = interval_at(start, LONG);
        assert!(timeout(PERIOD, || clock.tick()).is_err());
        assert_eq!(clock.tick(), start);
    });
}

#[test]
fn a_clock_that_always_ticks_can_be_cancelled() {
    run_on(1, || {
        let task = spawn(|| {
            let mut clock = interval_at(Instant::now() - LONG, Duration::from_nanos(1));
            loop {
                clock.tick();
            }
        });
        // Its ticks are due for an hour and never let others run; so from another thread.
        let handle = task.task();
        std::thread::spawn(move || {
            std::thread::sleep(PERIOD);
            handle.cancel();
        });
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn others_run_between_ticks() {
    run_on(1, || {
        let clock = spawn(|| {
            let mut clock = interval(PERIOD);
            (0..3).map(|_| clock.tick()).last()
        });
        let mut turns = 0;
        while !clock.is_finished() {
            turns += 1;
            sleep(Duration::ZERO);
        }
        assert!(turns > 3);
        assert!(clock.join().unwrap().is_some());
    });
}
