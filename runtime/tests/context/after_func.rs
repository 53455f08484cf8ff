//! `Context::after_func`: a function runs once when a context is done, in a task or thread of its own, unless it is stopped before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use greenloom::context::{Context, ContextError};
use greenloom::spawn;
use test_support::Counter;
use test_support::channel::{TryRecvError, bounded, unbounded};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms};
use test_support::{OnDrop, run_on, runtime, unless_it_hangs, yield_until};

const NEVER_HERE: Duration = Duration::from_secs(3600);

#[test]
fn it_runs_once_after_a_cancellation() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = unbounded();
        let waits = ctx.after_func(move || s.send(()).unwrap());
        breathe();
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        canceller.cancel();
        canceller.cancel();
        assert_eq!(r.recv(), Ok(()));
        // Its sender has gone with it.
        assert!(r.recv().is_err());
        assert!(!waits.stop());
    });
}

#[test]
fn it_runs_after_a_deadline() {
    everywhere(|| {
        let (ctx, _canceller) = Context::background().with_timeout(ms(5));
        let (s, r) = bounded(1);
        ctx.after_func({
            let ctx = ctx.clone();
            move || s.send(ctx.err()).unwrap()
        });
        assert_eq!(r.recv(), Ok(Some(ContextError::DeadlineExceeded)));
    });
}

#[test]
fn it_runs_when_what_is_above_ends() {
    everywhere(|| {
        let (root, canceller) = Context::background().with_cancel();
        let (child, childs) = root.with_value(1_u8).with_cancel();
        childs.disarm();
        let (s, r) = bounded(1);
        child.after_func(move || s.send(()).unwrap());
        // The function keeps its context.
        drop(child);
        breathe();
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        canceller.cancel();
        assert_eq!(r.recv(), Ok(()));
    });
}

#[test]
fn it_runs_at_once_if_the_context_is_done() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        canceller.cancel();
        let (s, r) = bounded(1);
        let started = ctx.after_func(move || s.send(()).unwrap());
        assert_eq!(r.recv(), Ok(()));
        assert!(!started.stop());
    });
}

#[test]
fn one_that_is_stopped_does_not_run_and_is_dropped() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let drops = Counter::default();
        let counted = drops.on_drop();
        let waits = ctx.after_func(move || unreachable!("{counted:?}"));
        assert_eq!(drops.get(), 0);
        assert!(waits.stop());
        assert_eq!(drops.get(), 1);
        assert!(!waits.stop());
        canceller.cancel();
        breathe();
        assert!(!waits.stop());
    });
}

#[test]
fn of_background_it_waits_for_ever_or_for_a_stop() {
    everywhere(|| {
        let drops = Counter::default();
        for ctx in [Context::background(), Context::background().with_value(1_u8).without_cancel()] {
            let counted = drops.on_drop();
            let waits = ctx.after_func(move || unreachable!("{counted:?}"));
            assert!(waits.stop());
            assert!(!waits.stop());
        }
        assert_eq!(drops.get(), 2);
        let counted = drops.on_drop();
        drop(Context::background().after_func(move || unreachable!("{counted:?}")));
        assert_eq!(drops.get(), 3);
    });
}

#[test]
fn dropping_the_handle_changes_nothing() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = bounded(1);
        drop(ctx.after_func(move || s.send(()).unwrap()));
        breathe();
        canceller.cancel();
        assert_eq!(r.recv(), Ok(()));
    });
}

#[test]
fn whoever_cancels_does_not_wait_for_it() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (go_on, may_go_on) = bounded::<()>(0);
        let (s, r) = bounded(1);
        let waits = ctx.after_func(move || {
            assert!(may_go_on.recv().is_err());
            s.send(()).unwrap();
        });
        canceller.cancel();
        // Nor does whoever stops it.
        assert!(!waits.stop());
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        drop(go_on);
        assert_eq!(r.recv(), Ok(()));
    });
}

#[test]
fn several_are_independent_of_each_other() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = unbounded();
        let waiting: Vec<_> = (0..9)
            .map(|i| {
                let s = s.clone();
                ctx.after_func(move || s.send(i).unwrap())
            })
            .collect();
        drop(s);
        assert!(waiting.iter().step_by(3).all(|waits| waits.stop()));
        canceller.cancel();
        let mut ran = Vec::from_iter(r);
        ran.sort_unstable();
        assert_eq!(ran, [1, 2, 4, 5, 7, 8]);
        assert!(!waiting.iter().any(|waits| waits.stop()));
    });
}

#[test]
fn a_stop_against_the_end_decides_once() {
    everywhere(|| {
        for i in 0..40_u64 {
            let (ctx, canceller) =
                Context::background().with_timeout(Duration::from_micros(if i % 2 == 0 { i } else { u64::MAX }));
            let (s, r) = bounded(1);
            let drops = Counter::default();
            let counted = drops.on_drop();
            let waits = Arc::new(ctx.after_func(move || {
                s.send(()).unwrap();
                drop(counted);
            }));
            let stops = Vec::from_iter((0..2).map(|_| {
                let waits = waits.clone();
                go(move || waits.stop())
            }));
            canceller.cancel();
            let stopped = join_all(stops).into_iter().filter(|&stopped| stopped).count();
            assert!(stopped <= 1);
            assert_eq!(r.recv().is_err(), stopped == 1);
            insist(|| (drops.get() == 1).then_some(()));
        }
    });
}

#[test]
fn a_panic_stays_in_it() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = bounded::<()>(1);
        ctx.after_func(move || {
            let _s = s;
            std::panic::resume_unwind(Box::new("its own affair"));
        });
        let (s, other) = bounded(1);
        ctx.after_func(move || s.send(()).unwrap());
        canceller.cancel();
        assert!(r.recv().is_err());
        assert_eq!(other.recv(), Ok(()));
    });
}

#[test]
fn it_may_use_its_own_context() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = unbounded();
        ctx.after_func({
            let ctx = ctx.clone();
            move || {
                assert!(ctx.done().recv().is_err());
                let (child, _canceller) = ctx.with_cancel();
                child.after_func(move || s.send(()).unwrap());
            }
        });
        canceller.cancel();
        assert_eq!(r.recv(), Ok(()));
    });
}

#[test]
fn it_runs_in_the_runtime_in_which_it_was_asked_for() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = bounded(1);
        let asked = {
            let ctx = ctx.clone();
            runtime.run(move || {
                ctx.after_func(move || s.send((greenloom::current().spawned_at(), std::thread::current().id())).unwrap());
                std::thread::current().id()
            })
        };
        // From a thread of no runtime.
        canceller.cancel();
        let (site, thread) = r.recv().unwrap();
        assert_eq!(thread, asked);
        assert!(site.unwrap().file().ends_with("context/after_func.rs"));
    });
}

#[test]
fn outside_any_runtime_it_runs_on_a_thread_of_its_own() {
    unless_it_hangs(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = bounded(1);
        ctx.after_func(move || s.send((greenloom::current().spawned_at(), std::thread::current().id())).unwrap());
        let canceller_s = run_on(1, move || {
            canceller.cancel();
            std::thread::current().id()
        });
        let (site, thread) = r.recv().unwrap();
        assert!(site.is_none());
        assert_ne!(thread, canceller_s);
        assert_ne!(thread, std::thread::current().id());
    });
}

#[test]
fn it_does_not_run_in_a_runtime_that_has_ended() {
    unless_it_hangs(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let drops = Counter::default();
        let counted = drops.on_drop();
        run_on(1, {
            let ctx = ctx.clone();
            move || drop(ctx.after_func(move || unreachable!("{counted:?}")))
        });
        assert_eq!(drops.get(), 0);
        canceller.cancel();
        // On a thread of its own.
        yield_until(|| drops.get() == 1);
    });
}

#[test]
fn a_destructor_of_a_cancelled_task_may_ask_for_it_and_end_its_context() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let (ctx, canceller) = Context::background().with_cancel();
        let (s, r) = bounded(1);
        let (tells, begun) = bounded(1);
        let task = runtime.spawn(move || {
            let _asks = OnDrop::new(move || {
                ctx.after_func(move || s.send("ran").unwrap());
                canceller.cancel();
            });
            tells.send(()).unwrap();
            greenloom::park();
        });
        begun.recv().unwrap();
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(r.recv(), Ok("ran"));
    });
}

#[test]
fn when_it_is_over_nothing_is_kept() {
    everywhere(|| {
        #[derive(Debug)]
        struct Cause(#[allow(dead_code, reason = "dropped")] test_support::CountsDrop);
        impl std::fmt::Display for Cause {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("counted")
            }
        }
        impl std::error::Error for Cause {}
        // What keeps a function's node keeps the context, and with it the cause.
        let causes = Counter::default();
        let (ctx, canceller) = Context::background().with_cancel();
        let stopped = ctx.after_func(|| ());
        assert!(stopped.stop());
        ctx.after_func(|| ());
        canceller.cancel_with(Cause(causes.on_drop()));
        ctx.after_func(|| ());
        drop((ctx, canceller));
        assert_eq!(causes.get(), 0);
        drop(stopped);
        assert_eq!(causes.get(), 1);
    });
}

/// A condition variable whose wait ends with a context: the use that Go's documentation makes of it.
#[test]
fn it_ends_a_wait_for_a_condition() {
    everywhere(|| {
        use greenloom::sync::{Condvar, Mutex};
        let shared = Arc::new((Mutex::new(()), Condvar::new()));
        let (ctx, _canceller) = Context::background().with_timeout(ms(5));
        let waiting = Vec::from_iter((0..4).map(|_| {
            let (shared, ctx) = (shared.clone(), ctx.clone());
            go(move || {
                let waits = ctx.after_func({
                    let shared = shared.clone();
                    move || {
                        let _guard = shared.0.lock().unwrap();
                        shared.1.notify_all();
                    }
                });
                let mut guard = shared.0.lock().unwrap();
                while ctx.err().is_none() {
                    guard = shared.1.wait(guard).unwrap();
                }
                drop(guard);
                // It may be another's function that has woken this one.
                waits.stop();
            })
        }));
        join_all(waiting);
    });
}

#[test]
fn functions_come_and_go_while_their_context_ends() {
    unless_it_hangs(|| {
        runtime(2).run(|| {
            let ran = Arc::new(AtomicU64::new(0));
            let drops = Counter::default();
            let (mut made, mut stopped) = (0, 0);
            for round in 0..200 {
                let (ctx, canceller) = Context::background().with_timeout(if round % 3 == 0 { ms(0) } else { NEVER_HERE });
                let tasks: Vec<_> = (0..4)
                    .map(|i| {
                        let (ctx, ran, drops) = (ctx.clone(), ran.clone(), drops.clone());
                        spawn(move || {
                            let mut stopped = 0;
                            for j in 0..10 {
                                let counted = drops.on_drop();
                                let ran = ran.clone();
                                let waits = ctx.after_func(move || {
                                    ran.fetch_add(1, SeqCst);
                                    drop(counted);
                                });
                                if (i + j) % 2 == 0 {
                                    stopped += u64::from(waits.stop());
                                }
                            }
                            stopped
                        })
                    })
                    .collect();
                made += 40;
                canceller.cancel();
                stopped += tasks.into_iter().map(|task| task.join().unwrap()).sum::<u64>();
            }
            insist(|| (ran.load(SeqCst) + stopped == made).then_some(()));
            insist(|| (drops.get() as u64 == made).then_some(()));
        });
    });
}

/// Its destructor waits for another deadline, which the clock must be free to bring.
#[test]
fn a_function_whose_runtime_has_ended_is_not_dropped_on_the_clock() {
    unless_it_hangs(|| {
        let (later, _later) = Context::background().with_timeout(Duration::from_millis(60));
        let waits = OnDrop::new({
            let later = later.clone();
            move || _ = later.done().recv()
        });
        let (ctx, _canceller) = greenloom::run(move || {
            let (ctx, canceller) = Context::background().with_timeout(Duration::from_millis(30));
            let _ = ctx.after_func(move || drop(waits));
            (ctx, canceller)
        });
        assert!(ctx.done().recv().is_err());
        assert!(later.done().recv().is_err());
    });
}

/// Its destructor waits for what is to end after it.
#[test]
fn a_function_whose_runtime_has_ended_is_not_dropped_in_the_middle_of_an_end() {
    unless_it_hangs(|| {
        let (parent, canceller) = Context::background().with_cancel();
        // What came first ends last.
        let (first, _firsts) = parent.with_cancel();
        let (s, r) = bounded(1);
        let waits = OnDrop::new(move || s.send(first.done().recv()).unwrap());
        greenloom::run({
            let parent = parent.clone();
            move || _ = parent.after_func(move || drop(waits))
        });
        greenloom::run(move || canceller.cancel());
        assert!(r.recv().unwrap().is_err());
    });
}
