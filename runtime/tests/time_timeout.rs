//! Limits of time: `timeout`, `timeout_at`.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::{Counter, OnDrop, runtime, within_a_minute};
use greenloom::time::{sleep, timeout, timeout_at};
use greenloom::{channel, park, spawn, yield_now};

const SHORT: Duration = Duration::from_millis(2);
const LONG: Duration = Duration::from_secs(3600);

/// Runs `body` in a task of a runtime with one processor.
fn in_a_task<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    within_a_minute(|| runtime(1).run(body))
}

#[test]
fn what_is_done_in_time_is_returned() {
    in_a_task(|| assert_eq!(timeout(LONG, || 42), Ok(42)));
}

#[test]
fn a_wait_ends_when_time_is_up() {
    in_a_task(|| {
        let start = Instant::now();
        assert!(timeout(SHORT, park).is_err());
        assert!(start.elapsed() >= SHORT);
    });
}

#[test]
fn destructors_run_once() {
    in_a_task(|| {
        let drops = Counter::default();
        let guard = drops.on_drop();
        let result = timeout(SHORT, || {
            let _guard = guard;
            sleep(LONG);
        });
        assert!(result.is_err());
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn the_task_goes_on_after_it() {
    in_a_task(|| {
        for _ in 0..3 {
            assert!(timeout(SHORT, park).is_err());
            yield_now();
            assert_eq!(timeout(LONG, || spawn(|| 1).join().unwrap()), Ok(1));
        }
    });
}

#[test]
fn the_earlier_of_two_limits_wins_whichever_is_outside() {
    in_a_task(|| {
        assert_eq!(timeout(LONG, || timeout(SHORT, park).is_err()), Ok(true));
        assert!(timeout(SHORT, || timeout(LONG, park)).is_err());
    });
}

#[test]
fn of_two_limits_that_are_over_the_outer_ends() {
    in_a_task(|| {
        let result = timeout(Duration::ZERO, || timeout(Duration::ZERO, park));
        assert!(result.is_err());
    });
}

#[test]
fn a_swallowed_limit_comes_again_and_the_result_is_elapsed() {
    in_a_task(|| {
        let mut raised = 0;
        let result = timeout(SHORT, || {
            for _ in 0..5 {
                let caught = catch_unwind(AssertUnwindSafe(park));
                raised += usize::from(caught.is_err());
            }
            7
        });
        assert!(result.is_err());
        assert_eq!(raised, 5);
        yield_now();
    });
}

#[test]
fn a_limit_of_zero_lets_the_code_run_to_its_first_suspension() {
    in_a_task(|| {
        let mut steps = 0;
        let result = timeout(Duration::ZERO, || {
            steps += 1;
            yield_now();
            steps += 1;
        });
        assert!(result.is_err());
        assert_eq!(steps, 1);
        assert_eq!(timeout(Duration::ZERO, || 5), Ok(5));
    });
}

#[test]
fn a_plain_thread_has_limits_too() {
    within_a_minute(|| {
        let (_sender, receiver) = channel::bounded::<()>(0);
        let drops = Counter::default();
        let start = Instant::now();
        let result = timeout(SHORT, || {
            let _guard = drops.on_drop();
            timeout(LONG, || receiver.recv())
        });
        assert!(result.is_err() && start.elapsed() >= SHORT);
        assert_eq!(drops.get(), 1);
        assert!(timeout(SHORT, || sleep(LONG)).is_err());
        assert!(
            timeout(SHORT, || loop {
                park()
            })
            .is_err()
        );
        assert!(timeout_at(Instant::now(), yield_now).is_err());
        assert_eq!(timeout(LONG, || 3), Ok(3));
        sleep(SHORT);
    });
}

#[test]
fn a_cancellation_passes_through_limits() {
    in_a_task(|| {
        let drops = Counter::default();
        let counted = drops.clone();
        let task = spawn(move || {
            let _outside = counted.on_drop();
            let _ = timeout(LONG, || {
                let _inside = counted.on_drop();
                park();
            });
        });
        yield_now();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(drops.get(), 2);
    });
}

#[test]
fn a_panic_passes_through_limits() {
    in_a_task(|| {
        let task = spawn(|| timeout(LONG, || -> () { std::panic::resume_unwind(Box::new(7)) }).is_err());
        assert_eq!(task.join().unwrap_err().into_panic().downcast_ref(), Some(&7));
    });
}

#[test]
fn destructors_may_suspend_while_a_limit_unwinds() {
    in_a_task(|| {
        let mut waited = false;
        let result = timeout(SHORT, || {
            let _waits = OnDrop::new(|| {
                sleep(SHORT);
                waited = true;
            });
            park();
        });
        assert!(result.is_err() && waited);
    });
}
