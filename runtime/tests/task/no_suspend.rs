//! `no_suspend`: a suspension inside is a panic that says so, and only inside.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use greenloom::context::Context;
use greenloom::time::{interval, sleep, sleep_until, timeout};
use greenloom::{checkpoint, current, no_suspend, park, park_timeout, spawn, uncancellable, yield_now};
use test_support::{run_on, yield_until};

/// The message of the panic that `f` ends in inside of `no_suspend`.
fn refusal<R>(f: impl FnOnce() -> R) -> String {
    let payload = catch_unwind(AssertUnwindSafe(|| no_suspend(f))).err().expect("it suspended");
    *payload.downcast::<String>().expect("a message")
}

#[test]
fn yield_now_inside_panics_and_says_why() {
    run_on(1, || {
        assert_eq!(refusal(yield_now), "a task tried to suspend inside no_suspend: it would be letting others run");
    });
}

#[test]
fn park_inside_panics() {
    run_on(1, || {
        assert_eq!(refusal(park), "a task tried to suspend inside no_suspend: it would be parked");
    });
}

#[test]
fn join_inside_panics_and_detaches_the_task() {
    run_on(1, || {
        let ran = test_support::Counter::default();
        let task = spawn({
            let ran = ran.clone();
            move || ran.add()
        });
        let sentence = "a task tried to suspend inside no_suspend: it would be waiting for another task to end";
        assert_eq!(refusal(|| task.join()), sentence);
        yield_until(|| ran.get() == 1);
    });
}

#[test]
fn waits_for_time_inside_panic() {
    const LONG: Duration = Duration::from_secs(3600);
    run_on(1, || {
        let sentence = "a task tried to suspend inside no_suspend: it would be ";
        assert_eq!(refusal(|| sleep_until(Instant::now() + LONG)), format!("{sentence}sleeping"));
        assert_eq!(refusal(|| sleep(Duration::ZERO)), format!("{sentence}letting others run"));
        assert_eq!(refusal(|| park_timeout(LONG)), format!("{sentence}parked"));
        assert_eq!(refusal(|| timeout(LONG, park)), format!("{sentence}parked"));
        let second_tick = || {
            let mut clock = interval(LONG);
            clock.tick();
            clock.tick()
        };
        assert_eq!(refusal(second_tick), format!("{sentence}sleeping"));
    });
}

#[test]
fn limits_and_contexts_that_need_not_wait_are_allowed_inside() {
    run_on(1, || {
        no_suspend(|| {
            assert_eq!(timeout(Duration::from_secs(3600), || 1), Ok(1));
            interval(Duration::from_millis(1)).tick();
            let (ctx, canceller) = Context::background().with_timeout(Duration::from_secs(3600));
            assert_eq!(ctx.run_until_done(|| 2), Ok(2));
            canceller.cancel();
            assert!(ctx.done().recv().is_err());
        });
    });
}

#[test]
fn a_limit_ends_a_loop_inside_at_its_checkpoint_wherever_it_was_set() {
    fn endless() {
        loop {
            checkpoint();
        }
    }
    run_on(1, || {
        let limit = Duration::from_millis(2);
        assert!(no_suspend(|| timeout(Duration::ZERO, checkpoint)).is_err());
        assert!(no_suspend(|| timeout(limit, endless)).is_err());
        assert!(timeout(limit, || no_suspend(endless)).is_err());
        assert!(timeout(limit, || no_suspend(|| uncancellable(|| no_suspend(checkpoint)))).is_ok());
        // Suspensions are allowed again.
        yield_now();
    });
}

#[test]
fn running_another_runtime_inside_panics() {
    run_on(1, || {
        let sentence = "a task tried to suspend inside no_suspend: it would be running another runtime";
        let other = test_support::runtime(1);
        assert_eq!(refusal(|| other.run(|| ())), sentence);
    });
}

#[test]
fn what_does_not_suspend_is_allowed_inside() {
    run_on(1, || {
        let task = no_suspend(|| {
            let task = spawn(|| 5);
            task.task().unpark();
            assert!(!task.is_finished());
            assert!(current().name().is_none());
            drop(spawn(|| ()));
            task
        });
        assert_eq!(task.join().unwrap(), 5);
    });
}

#[test]
fn it_gives_the_result_of_what_it_runs() {
    run_on(1, || assert_eq!(no_suspend(|| 7), 7));
}

#[test]
fn it_nests() {
    run_on(1, || {
        no_suspend(|| {
            no_suspend(|| ());
            // The inner one's end has not ended the outer one.
            refusal(yield_now);
            assert!(catch_unwind(yield_now).is_err());
        });
        yield_now();
    });
}

#[test]
fn afterwards_suspensions_are_allowed_again_also_after_a_panic() {
    run_on(1, || {
        let payload = catch_unwind(|| no_suspend(|| panic!("my own"))).unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"my own"));
        refusal(park);
        yield_now();
        spawn(|| ()).join().unwrap();
    });
}

#[test]
fn it_binds_only_the_task_that_is_inside() {
    run_on(1, || {
        // A task that is cut short inside leaves its stack to the next one, which may suspend.
        for _ in 0..100 {
            let inside = spawn(|| no_suspend(|| panic!("cut short")));
            assert!(inside.join().unwrap_err().is_panic());
            spawn(yield_now).join().unwrap();
        }
    });
}

#[test]
fn on_a_plain_thread_it_only_runs_the_closure() {
    assert_eq!(
        no_suspend(|| {
            yield_now();
            std::thread::current().unpark();
            park();
            1
        }),
        1
    );
}

#[test]
fn a_runtime_inside_is_a_panic_and_no_abort() {
    run_on(1, || {
        let panicked = catch_unwind(|| no_suspend(|| greenloom::run(park)));
        assert!(panicked.is_err());
        // The task may suspend again.
        yield_now();
    });
}
