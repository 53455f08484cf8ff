//! Contexts: how one is done and why, deadlines, values, causes. What Go's `context` promises, and what is said here beyond.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use greenloom::context::{AfterFunc, Canceller, Context, ContextError};
use test_support::Counter;
use test_support::channel::{self, Receiver, TryRecvError, select};
use test_support::contexts::{Expected, Reason, assert_cause, assert_done, assert_ends, assert_live};
use test_support::everywhere::{breathe, everywhere, go, join_all, ms, takes_at_least};

const NEVER_HERE: Duration = Duration::from_secs(3600);

use ContextError::{Cancelled, DeadlineExceeded};

#[test]
fn background_is_never_done() {
    everywhere(|| {
        let ctx = Context::background();
        assert_live(&ctx);
        assert_live(&Context::default());
        assert_eq!(ctx.deadline(), None);
        assert!(ctx.done().recv_timeout(ms(2)).unwrap_err().is_timeout());
        assert!(ctx.value::<u32>().is_none());
    });
}

#[test]
fn cancelling_makes_it_done_once_and_for_all() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        assert_live(&ctx);
        canceller.cancel();
        // At once, without waiting for anything.
        assert_done(&ctx, Cancelled);
        canceller.cancel();
        canceller.cancel_with(Reason("again"));
        drop(canceller);
        assert_done(&ctx, Cancelled);
        assert_cause(&ctx, &Expected::Why(Cancelled));
        assert_eq!(ctx.deadline(), None);
    });
}

#[test]
fn clones_are_the_same_context() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let other = ctx.clone();
        assert!(ctx.done().same_channel(other.done()));
        canceller.cancel();
        assert_done(&other, Cancelled);
    });
}

#[test]
fn done_is_the_same_channel_before_and_after() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let before = ctx.done().clone();
        canceller.cancel();
        assert!(ctx.done().same_channel(&before));
        assert!(before.recv().is_err());
        // Asked for only afterwards, it is disconnected from the beginning.
        let (ctx, canceller) = Context::background().with_cancel();
        canceller.cancel();
        assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Disconnected));
    });
}

#[test]
fn everyone_who_waits_for_done_is_woken() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let waiting = (0..12).map(|i| {
            let ctx = ctx.clone();
            go(move || {
                if i % 2 == 0 {
                    assert!(ctx.done().recv().is_err());
                } else {
                    select! {
                        recv(ctx.done()) -> message => assert!(message.is_err()),
                        recv(channel::never::<()>()) -> _ => unreachable!(),
                    }
                }
                // Whoever sees the one sees the other.
                assert_eq!(ctx.err(), Some(Cancelled));
            })
        });
        let waiting = Vec::from_iter(waiting);
        breathe();
        assert!(!waiting.iter().any(|waiter| waiter.is_finished()));
        canceller.cancel();
        join_all(waiting);
    });
}

#[test]
fn err_and_done_say_the_same_at_any_moment() {
    everywhere(|| {
        for _ in 0..50 {
            let (ctx, canceller) = Context::background().with_cancel();
            let looks = go({
                let ctx = ctx.clone();
                move || {
                    while ctx.err().is_none() {
                        greenloom::yield_now();
                    }
                    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Disconnected));
                    assert!(ctx.cause().is_some());
                }
            });
            let _asked_for = ctx.done();
            canceller.cancel();
            looks.join();
        }
    });
}

#[test]
fn dropping_the_canceller_cancels() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        drop(canceller);
        assert_done(&ctx, Cancelled);
        let (ctx, canceller) = Context::background().with_timeout(NEVER_HERE);
        drop(canceller);
        assert_done(&ctx, Cancelled);
        assert_cause(&ctx, &Expected::Why(Cancelled));
    });
}

#[test]
fn a_canceller_may_be_forgotten_kept_in_a_value_or_left_to_another_context() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        std::mem::forget(canceller);
        assert_live(&ctx);
        // In a value below its own context, with which it goes.
        let (ctx, canceller) = Context::background().with_cancel();
        let child = ctx.with_value(canceller);
        let clone = child.clone();
        drop(child);
        assert_live(&clone);
        drop(clone);
        assert_done(&ctx, Cancelled);
        // In a function that another's end calls.
        let (first, firsts) = Context::background().with_cancel();
        let (second, seconds) = Context::background().with_cancel();
        first.after_func(move || drop(seconds));
        breathe();
        assert_live(&second);
        firsts.cancel();
        assert_ends(&second, Cancelled);
    });
}

#[test]
fn a_panic_cancels_by_its_unwinding() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let inside = std::panic::catch_unwind(move || {
            let _canceller: Canceller = canceller;
            std::panic::resume_unwind(Box::new(()));
        });
        assert!(inside.is_err());
        assert_done(&ctx, Cancelled);
    });
}

#[test]
fn a_disarmed_context_ends_by_its_deadline_or_from_above() {
    everywhere(|| {
        let (parent, parents) = Context::background().with_cancel();
        let (child, canceller) = parent.with_cancel();
        canceller.disarm();
        assert_live(&child);
        let (timed, canceller) = parent.with_timeout(ms(5));
        canceller.disarm();
        assert_ends(&timed, DeadlineExceeded);
        assert_live(&child);
        parents.cancel();
        assert_done(&child, Cancelled);
        // And where nothing above ends it, never.
        let (ctx, canceller) = Context::background().with_cancel();
        canceller.disarm();
        assert_live(&ctx);
    });
}

#[test]
fn a_timeout_ends_it_and_not_before() {
    everywhere(|| {
        let before = Instant::now();
        let (ctx, canceller) = takes_at_least(ms(10), || {
            let (ctx, canceller) = Context::background().with_timeout(ms(10));
            assert_ends(&ctx, DeadlineExceeded);
            (ctx, canceller)
        });
        assert!(ctx.deadline().unwrap() >= before + ms(10));
        assert!(ctx.deadline().unwrap() <= Instant::now());
        assert_cause(&ctx, &Expected::Why(DeadlineExceeded));
        // Too late: the first counts.
        canceller.cancel_with(Reason("late"));
        assert_done(&ctx, DeadlineExceeded);
        assert_cause(&ctx, &Expected::Why(DeadlineExceeded));
    });
}

#[test]
fn a_deadline_ends_it_and_not_before() {
    everywhere(|| {
        let when = Instant::now() + ms(10);
        let (ctx, _canceller) = Context::background().with_deadline(when);
        assert_eq!(ctx.deadline(), Some(when));
        assert_ends(&ctx, DeadlineExceeded);
        assert!(Instant::now() >= when);
    });
}

#[test]
fn deadlines_end_in_their_order_whatever_that_of_their_making() {
    everywhere(|| {
        let start = Instant::now();
        let contexts: Vec<_> =
            [30, 10, 20, 25, 5, 15].map(|at| Context::background().with_deadline(start + ms(at))).into_iter().collect();
        let waiting = contexts.iter().map(|(ctx, _)| {
            let ctx = ctx.clone();
            go(move || {
                assert_ends(&ctx, DeadlineExceeded);
                assert!(Instant::now() >= ctx.deadline().unwrap());
            })
        });
        join_all(Vec::from_iter(waiting));
    });
}

#[test]
fn a_deadline_in_the_past_ends_it_at_once() {
    everywhere(|| {
        let now = Instant::now();
        for past in [now, now.checked_sub(ms(1000)).unwrap_or(now)] {
            let (ctx, canceller) = Context::background().with_deadline(past);
            assert_done(&ctx, DeadlineExceeded);
            assert_eq!(ctx.deadline(), Some(past));
            canceller.cancel_with(Reason("late"));
            assert_cause(&ctx, &Expected::Why(DeadlineExceeded));
            assert_done(&ctx.with_cancel().0, DeadlineExceeded);
        }
        let (ctx, _canceller) = Context::background().with_timeout(Duration::ZERO);
        assert_done(&ctx, DeadlineExceeded);
    });
}

#[test]
fn a_timeout_beyond_the_clock_is_shortened() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_timeout(Duration::MAX);
        assert!(ctx.deadline().unwrap() > Instant::now() + NEVER_HERE);
        assert_live(&ctx);
        let (child, _child) = ctx.with_timeout(Duration::MAX);
        let (sooner, _sooner) = child.with_timeout(ms(2));
        assert_ends(&sooner, DeadlineExceeded);
        assert_live(&child);
        canceller.cancel();
        assert_done(&child, Cancelled);
    });
}

#[test]
fn the_earlier_deadline_is_the_one() {
    everywhere(|| {
        let soon = Instant::now() + ms(10);
        let (parent, _parent) = Context::background().with_deadline(soon);
        let (later, _later) = parent.with_deadline(soon + NEVER_HERE);
        let (same, _same) = parent.with_deadline(soon);
        let (none, _none) = parent.with_cancel();
        for ctx in [&later, &same, &none] {
            assert_eq!(ctx.deadline(), Some(soon));
            assert_ends(ctx, DeadlineExceeded);
        }
        let (parent, _parent) = Context::background().with_timeout(NEVER_HERE);
        let (earlier, _earlier) = parent.with_timeout(ms(2));
        assert!(earlier.deadline() < parent.deadline());
        assert_ends(&earlier, DeadlineExceeded);
        assert_live(&parent);
    });
}

#[test]
fn cancelling_comes_before_a_deadline_that_is_far() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_timeout(NEVER_HERE);
        let waits = go({
            let ctx = ctx.clone();
            move || assert_ends(&ctx, Cancelled)
        });
        breathe();
        canceller.cancel();
        waits.join();
        assert!(ctx.deadline().is_some());
    });
}

#[test]
fn a_deadline_against_a_cancellation_leaves_one_reason() {
    everywhere(|| {
        for i in 0..40 {
            let (ctx, canceller) = Context::background().with_timeout(Duration::from_micros(i * 10));
            canceller.cancel_with(Reason("first"));
            let why = ctx.err().unwrap();
            assert_eq!(ctx.err(), Some(why));
            let expected = if why == Cancelled { Expected::Reason("first") } else { Expected::Why(why) };
            assert_cause(&ctx, &expected);
        }
    });
}

#[test]
fn values_are_found_by_their_type_the_nearest_first() {
    everywhere(|| {
        #[derive(PartialEq, Debug)]
        struct One(i32);
        #[derive(PartialEq, Debug)]
        struct Two(i32);
        let a = Context::background().with_value(One(1));
        let b = a.with_value(Two(2));
        let (c, _c) = b.with_cancel();
        let d = c.with_value(One(3));
        let e = d.without_cancel();
        let values = |ctx: &Context| (ctx.value::<One>().map(|v| v.0), ctx.value::<Two>().map(|v| v.0));
        assert_eq!(values(&Context::background()), (None, None));
        assert_eq!(values(&a), (Some(1), None));
        assert_eq!(values(&b), (Some(1), Some(2)));
        assert_eq!(values(&c), (Some(1), Some(2)));
        assert_eq!(values(&d), (Some(3), Some(2)));
        assert_eq!(values(&e), (Some(3), Some(2)));
        assert!(d.value::<i32>().is_none());
        // An Arc is a type of its own.
        let f = d.with_value(Arc::new(One(4)));
        assert_eq!(values(&f), (Some(3), Some(2)));
        assert_eq!(**f.value::<Arc<One>>().unwrap(), One(4));
    });
}

#[test]
fn a_value_is_as_cancelled_as_what_it_is_added_to() {
    everywhere(|| {
        let (parent, canceller) = Context::background().with_timeout(NEVER_HERE);
        let ctx = parent.with_value(1_u8);
        assert_eq!(ctx.deadline(), parent.deadline());
        assert!(ctx.done().same_channel(parent.done()));
        let (child, _child) = ctx.with_cancel();
        canceller.cancel_with(Reason("enough"));
        for ctx in [&ctx, &child] {
            assert_done(ctx, Cancelled);
            assert_cause(ctx, &Expected::Reason("enough"));
            assert_eq!(*ctx.value::<u8>().unwrap(), 1);
        }
    });
}

#[test]
fn a_value_goes_with_the_last_that_has_it() {
    everywhere(|| {
        let drops = Counter::default();
        let a = Context::background().with_value(drops.on_drop());
        let (b, canceller) = a.with_cancel();
        let got = b.value::<test_support::CountsDrop>();
        let c = b.without_cancel();
        drop((a, b, canceller));
        assert_eq!(drops.get(), 0);
        drop(c);
        assert_eq!(drops.get(), 0);
        drop(got);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn without_cancel_keeps_values_alone() {
    everywhere(|| {
        let (parent, canceller) = Context::background().with_value(7_u8).with_timeout(NEVER_HERE);
        let ctx = parent.without_cancel();
        assert_eq!(ctx.deadline(), None);
        canceller.cancel_with(Reason("gone"));
        for ctx in [&ctx, &parent.without_cancel()] {
            assert_live(ctx);
            assert_eq!(*ctx.value::<u8>().unwrap(), 7);
        }
        // And begins a tree of its own.
        let (child, canceller) = ctx.with_cancel();
        assert_live(&child);
        canceller.cancel();
        assert_done(&child, Cancelled);
    });
}

#[test]
fn it_is_shown_with_what_it_is() {
    let ctx = Context::background();
    assert_eq!(format!("{ctx:?}"), "Context { values: [] }");
    let (ctx, canceller) = ctx.with_value(1_u8).with_value("text").with_cancel();
    assert_eq!(format!("{ctx:?}"), r#"Context { err: None, values: ["&str", "u8"] }"#);
    canceller.cancel();
    assert_eq!(format!("{ctx:?}"), r#"Context { err: Some(Cancelled), values: ["&str", "u8"] }"#);
    let (ctx, canceller) = Context::background().with_timeout(NEVER_HERE);
    assert!(format!("{ctx:?}").contains("deadline: Instant"));
    assert_eq!(format!("{canceller:?}"), "Canceller { .. }");
    assert_eq!(format!("{:?}", ctx.after_func(|| ())), "AfterFunc { .. }");
    assert_eq!(format!("{Cancelled} {DeadlineExceeded}"), "context cancelled context deadline exceeded");
}

#[test]
fn its_functions_have_the_types_that_users_write_down() {
    let background: fn() -> Context = Context::background;
    let root = background();
    let (ctx, canceller): (Context, Canceller) = root.with_cancel();
    let (_timed, disarmed): (Context, Canceller) = ctx.with_timeout(NEVER_HERE);
    let (_until, dropped): (Context, Canceller) = ctx.with_deadline(Instant::now());
    Canceller::disarm(disarmed);
    drop(dropped);
    let _: Option<Arc<u8>> = ctx.with_value(1_u8).value::<u8>();
    let waits: AfterFunc = ctx.without_cancel().after_func(|| ());
    let _: bool = waits.stop();
    let _: &Receiver<()> = ctx.done();
    let _: Option<ContextError> = ctx.err();
    let _: Option<Arc<dyn Error + Send + Sync>> = ctx.cause();
    let _: Option<Instant> = ctx.deadline();
    let _: Result<u8, ContextError> = ctx.run_until_done(|| 1);
    // By a shared reference each, with whatever is or becomes an error.
    Canceller::cancel_with(&canceller, Reason("an error"));
    Canceller::cancel_with(&canceller, "a text");
    Canceller::cancel_with(&canceller, String::from("a text"));
    Canceller::cancel_with(&canceller, Box::new(Reason("a box")));
    Canceller::cancel_with(&canceller, ctx.cause().unwrap());
    Canceller::cancel(&canceller);
    assert_cause(&ctx, &Expected::Reason("an error"));
}

#[test]
fn it_may_be_used_from_any_thread_and_across_unwinding() {
    fn check<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe + 'static>() {}
    check::<Context>();
    check::<Canceller>();
    check::<greenloom::context::AfterFunc>();
}
