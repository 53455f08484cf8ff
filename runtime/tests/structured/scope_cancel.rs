//! Scopes whose caller is cancelled, or out of time.

use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenloom::context::{Context, ContextError};
use greenloom::time::timeout;
use greenloom::{park, scope, spawn, uncancellable, yield_now};
use test_support::waiting::{in_tasks, let_others_run, spawn_begun};
use test_support::{Counter, OnDrop, run_on, runtime, unless_it_hangs, yield_until};

/// Cancels a task that is in a scope with a parked child, and sees that both end and nothing of the child outlives the scope.
fn cancelled_in(body: fn(&AtomicBool)) {
    let (order, begun) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
    let task = spawn({
        let (order, begun) = (order.clone(), begun.clone());
        move || {
            let frame = OnDrop::new(|| order.lock().unwrap().push("frame"));
            scope(|s| {
                s.spawn(|| {
                    let _borrows = (&frame, OnDrop::new(|| order.lock().unwrap().push("child")));
                    let _slow = OnDrop::new(let_others_run);
                    begun.store(true, SeqCst);
                    park();
                });
                body(&begun);
            });
            unreachable!("it was cancelled");
        }
    });
    yield_until(|| begun.load(SeqCst));
    let_others_run();
    task.cancel();
    assert!(task.join().unwrap_err().is_cancelled());
    assert_eq!(*order.lock().unwrap(), ["child", "frame"]);
}

#[test]
fn a_caller_that_is_cancelled_in_the_body_cancels_the_children_waits_and_unwinds() {
    in_tasks(|| cancelled_in(|_| park()));
}

#[test]
fn a_caller_that_is_cancelled_while_it_waits_cancels_the_children_waits_and_unwinds() {
    in_tasks(|| cancelled_in(|_| ()));
}

/// A scope that only a limit of time ends, in a task or on a plain thread.
fn limited(in_scope: impl FnOnce(&Counter)) {
    let dropped = Counter::default();
    let result = timeout(Duration::from_millis(5), || in_scope(&dropped));
    assert!(result.is_err());
    assert_eq!(dropped.get(), 1);
}

/// Waits for the limit in the body, if that is asked for, and else in the scope.
fn parked_child<'scope>(s: &'scope greenloom::Scope<'scope, '_>, dropped: &'scope Counter, in_body: bool) {
    // It goes with the closure, too, where the time is up before the child has begun.
    let slow = OnDrop::new(|| {
        let_others_run();
        dropped.add();
    });
    s.spawn(move || {
        let _slow = slow;
        park();
        unreachable!();
    });
    if in_body {
        greenloom::channel::never::<()>().recv().unwrap();
    }
}

#[test]
fn a_limit_of_time_around_a_scope_cancels_its_children_waits_and_ends_there() {
    for in_body in [false, true] {
        for processors in [1, 2] {
            run_on(processors, move || limited(|dropped| scope(|s| parked_child(s, dropped, in_body))));
        }
        unless_it_hangs(move || {
            let runtime = runtime(1);
            limited(|dropped| runtime.scope(|s| parked_child(s, dropped, in_body)));
        });
    }
}

#[test]
fn the_end_of_a_context_reaches_scopes_inside_scopes() {
    in_tasks(|| {
        let dropped = Counter::default();
        let (ctx, canceller) = Context::background().with_cancel();
        let result = ctx.run_until_done(|| {
            scope(|outer| {
                outer.spawn(|| {
                    let _outer = dropped.on_drop();
                    scope(|inner| {
                        inner.spawn(|| {
                            let _inner = dropped.on_drop();
                            canceller.cancel();
                            park();
                            unreachable!();
                        });
                    });
                });
            });
        });
        assert_eq!((result, dropped.get()), (Err(ContextError::Cancelled), 2));
    });
}

#[test]
fn a_child_finishes_its_uncancellable_section_before_the_scope_ends() {
    in_tasks(|| {
        let finished = Counter::default();
        let (ctx, canceller) = Context::background().with_cancel();
        let result = ctx.run_until_done(|| {
            scope(|s| {
                s.spawn(|| {
                    uncancellable(|| {
                        canceller.cancel();
                        let_others_run();
                        finished.add();
                    });
                });
            });
        });
        assert_eq!((result, finished.get()), (Err(ContextError::Cancelled), 1));
    });
}

#[test]
fn an_uncancellable_scope_is_left_alone() {
    in_tasks(|| {
        let finished = Counter::default();
        let task = spawn_begun({
            let finished = finished.clone();
            move || {
                uncancellable(|| {
                    scope(|s| {
                        s.spawn(|| {
                            let_others_run();
                            finished.add();
                        });
                    });
                });
                yield_now();
            }
        });
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(finished.get(), 1);
    });
}

#[test]
fn the_panic_of_a_child_outranks_the_cancellation_of_the_caller() {
    in_tasks(|| {
        let task = spawn_begun(|| {
            scope(|s| {
                s.spawn(|| panic_any("child"));
                park();
            });
        });
        let_others_run();
        yield_until(|| !task.is_finished());
        task.cancel();
        let error = task.join().unwrap_err();
        // It may have been cancelled before the child ran.
        assert!(error.is_cancelled() || error.into_panic().downcast_ref() == Some(&"child"));
    });
}
