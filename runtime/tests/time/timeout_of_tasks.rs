//! Limits of time around what waits for other tasks: joins, scopes, groups, pools, services, runtimes.

use std::time::{Duration, Instant};

use greenloom::channel::{Receiver, never};
use greenloom::context::{Context, ContextError};
use greenloom::group::{Group, run_all};
use greenloom::pool::WorkerPool;
use greenloom::sync::WaitGroup;
use greenloom::time::timeout;
use greenloom::{park, scope, spawn};
use test_support::waiting::in_tasks;
use test_support::{Counter, runtime, unless_it_hangs, yield_until};

const SHORT: Duration = Duration::from_millis(5);

/// Waits for ever; a thread's `park` returns now and then without a token.
fn forever() {
    never::<()>().recv().unwrap();
}

/// Time ends it, and not before its time.
#[track_caller]
fn assert_ends<T>(wait: impl FnOnce() -> T) {
    let start = Instant::now();
    assert!(timeout(SHORT, || drop(wait())).is_err());
    assert!(start.elapsed() >= SHORT);
}

#[test]
fn a_join_ends_and_the_task_may_still_be_cancelled() {
    in_tasks(|| {
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let task = spawn(move || {
            let _guard = guard;
            forever();
        });
        let handle = task.task();
        assert_ends(|| task.join());
        assert_eq!(dropped.get(), 0);
        handle.cancel();
        yield_until(|| dropped.get() == 1);
    });
}

#[test]
fn scopes_inside_a_scope_end_from_the_inside_out() {
    in_tasks(|| {
        let dropped = Counter::default();
        assert_ends(|| {
            scope(|outer| {
                for _ in 0..3 {
                    let guard = dropped.on_drop();
                    outer.spawn(move || {
                        let _guard = guard;
                        scope(|inner| drop(inner.spawn(forever)));
                    });
                }
                forever();
            })
        });
        assert_eq!(dropped.get(), 3);
    });
}

#[test]
fn a_limit_that_a_task_of_a_scope_sets_itself_is_no_affair_of_the_others() {
    in_tasks(|| {
        let (dropped, went_on) = (Counter::default(), Counter::default());
        let (ctx, _canceller) = Context::background().with_cancel();
        let result = ctx.run_until_done(|| {
            scope(|outer| {
                let limited = outer.spawn(|| {
                    let inside = timeout(SHORT, || {
                        scope(|inner| {
                            for _ in 0..5 {
                                let guard = dropped.on_drop();
                                inner.spawn(move || {
                                    let _guard = guard;
                                    forever();
                                });
                            }
                        });
                    });
                    inside.is_err()
                });
                let other = outer.spawn(|| went_on.add());
                let ended = limited.join().unwrap();
                other.join().unwrap();
                ended
            })
        });
        assert_eq!((result, dropped.get(), went_on.get()), (Ok(true), 5, 1));
    });
}

#[test]
fn waits_for_a_group_end_and_so_do_its_members() {
    in_tasks(|| {
        let dropped = Counter::default();
        let group = Group::<()>::new();
        let guard = dropped.on_drop();
        group.spawn(move || {
            let _guard = guard;
            forever();
            Ok(())
        });
        assert_ends(|| group.wait());
        assert_eq!(group.wait(), Ok(()));
        assert_eq!(dropped.get(), 1);
        let waits = WaitGroup::new();
        let _other = waits.clone();
        assert_ends(|| waits.wait());
    });
}

#[test]
fn services_are_cancelled_and_not_only_told() {
    in_tasks(|| {
        let dropped = Counter::default();
        assert_ends(|| {
            run_all((0..3).map(|i| {
                let guard = dropped.on_drop();
                move |stop: Receiver<()>| -> Result<(), ()> {
                    let _guard = guard;
                    if i == 0 {
                        forever();
                    }
                    let _ = stop.recv();
                    Ok(())
                }
            }))
        });
        assert_eq!(dropped.get(), 3);
    });
}

#[test]
fn a_submission_a_job_and_the_close_of_a_pool_end() {
    in_tasks(|| {
        let pool = WorkerPool::new(1, 0);
        let busy = pool.submit(forever).unwrap();
        assert_ends(|| pool.submit(|| ()).is_ok());
        assert_ends(|| busy.join());
        assert_ends(|| pool.close());
    });
}

#[test]
fn a_runtime_inside_a_task_ends() {
    in_tasks(|| {
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        let inner = runtime(1);
        assert_ends(|| {
            inner.run(move || {
                let _guard = guard;
                forever();
            })
        });
        drop(inner);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_plain_thread_s_waits_for_tasks_end_too() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let task = runtime.spawn(forever);
        assert_ends(|| task.join());
        assert_ends(|| runtime.run(forever));
        assert_ends(|| runtime.scope(|s| drop(s.spawn(forever))));
        let pool = WorkerPool::new_in(&runtime.handle(), 1, 1);
        let job = pool.submit(park).unwrap();
        assert_ends(|| job.join());
        assert_ends(|| pool.close());
        let (ctx, _canceller) = Context::background().with_timeout(SHORT);
        assert_eq!(ctx.run_until_done(|| runtime.run(forever)), Err(ContextError::DeadlineExceeded));
        assert_eq!(runtime.run(|| 1), 1);
    });
}
