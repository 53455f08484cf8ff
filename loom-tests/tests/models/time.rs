//! Limits of time in the whole runtime: one machine, a foreign thread that does the monitor's part, and a clock that it puts forward.

use std::time::Duration;

use crate::common::model;
use greenloom::models::{monitor_fires_timers, now, pass_time};
use greenloom::time::{timeout, timeout_at};
use greenloom::{Runtime, park};

/// Far more than an execution takes.
const HOUR: Duration = Duration::from_secs(3600);

fn runtime() -> Runtime {
    Runtime::builder().processors(1).build().unwrap()
}

/// Time passes, and the monitor notices.
fn pass(runtime: &Runtime, time: Duration) {
    pass_time(time);
    monitor_fires_timers(runtime);
}

#[test]
fn a_limit_meets_an_unpark() {
    model(2, || {
        let runtime = runtime();
        let task = runtime.spawn(|| {
            if timeout(HOUR, park).is_err() {
                // The token is still there, or to come.
                park();
            }
        });
        pass(&runtime, 2 * HOUR);
        task.task().unpark();
        task.join().unwrap();
    });
}

#[test]
fn a_limit_meets_a_cancellation() {
    model(2, || {
        let runtime = runtime();
        let task = runtime.spawn(|| {
            let _ = timeout(HOUR, park);
            park();
        });
        pass(&runtime, 2 * HOUR);
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn an_outer_limit_follows_an_inner_one() {
    model(2, || {
        let runtime = runtime();
        let start = now();
        let task = runtime.spawn(move || {
            timeout_at(start + 2 * HOUR, || {
                assert!(timeout_at(start + HOUR, park).is_err());
                park();
            })
        });
        pass(&runtime, HOUR + HOUR / 2);
        pass(&runtime, HOUR);
        assert!(task.join().unwrap().is_err());
    });
}
