//! Causes of a context's end: whose is whose, which one counts, and how long it lives.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use greenloom::context::{Canceller, Context, ContextError};
use test_support::Counter;
use test_support::contexts::{Expected, Reason, assert_cause, assert_done, assert_live};
use test_support::everywhere::{everywhere, ms, pause};

const NEVER_HERE: Duration = Duration::from_secs(3600);

use ContextError::{Cancelled, DeadlineExceeded};

#[test]
fn a_cause_goes_with_the_last_context_that_has_it() {
    everywhere(|| {
        #[derive(Debug)]
        struct Counted(#[allow(dead_code, reason = "dropped")] test_support::CountsDrop);
        impl fmt::Display for Counted {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("counted")
            }
        }
        impl Error for Counted {}
        let (first, second) = (Counter::default(), Counter::default());
        let (ctx, canceller) = Context::background().with_cancel();
        let (child, childs) = ctx.with_cancel();
        canceller.cancel_with(Counted(first.on_drop()));
        canceller.cancel_with(Counted(second.on_drop()));
        assert_eq!((first.get(), second.get()), (0, 1));
        drop((ctx, canceller, childs));
        assert_eq!(first.get(), 0);
        assert!(child.cause().unwrap().is::<Counted>());
        drop(child);
        assert_eq!(first.get(), 1);
    });
}

#[test]
fn a_cause_may_be_an_error_a_text_or_the_cause_of_another() {
    everywhere(|| {
        let with = |cause: Box<dyn Error + Send + Sync>| {
            let (ctx, canceller) = Context::background().with_cancel();
            canceller.cancel_with(cause);
            ctx
        };
        assert_eq!(with("text".into()).cause().unwrap().to_string(), "text");
        let ctx = with(Box::new(Reason("boxed")));
        assert_cause(&ctx, &Expected::Reason("boxed"));
        let (other, canceller) = Context::background().with_cancel();
        canceller.cancel_with(ctx.cause().unwrap());
        assert_cause(&other, &Expected::Reason("boxed"));
        assert!(Arc::ptr_eq(&other.cause().unwrap(), &ctx.cause().unwrap()));
    });
}

#[test]
fn causes_are_inherited_and_the_first_one_counts() {
    type Make = fn() -> (Context, Vec<Canceller>);
    let table: &[(&str, Make, Option<ContextError>, Expected)] = &[
        ("background", || (Context::background(), vec![]), None, Expected::None),
        ("values", || (Context::background().with_value(1_u8), vec![]), None, Expected::None),
        (
            "live",
            || {
                let (ctx, c) = Context::background().with_cancel();
                (ctx, vec![c])
            },
            None,
            Expected::None,
        ),
        (
            "cancelled without a cause",
            || {
                let (ctx, c) = Context::background().with_cancel();
                c.cancel();
                (ctx, vec![c])
            },
            Some(Cancelled),
            Expected::Why(Cancelled),
        ),
        (
            "cancelled with one",
            || {
                let (ctx, c) = Context::background().with_cancel();
                c.cancel_with(Reason("a"));
                (ctx, vec![c])
            },
            Some(Cancelled),
            Expected::Reason("a"),
        ),
        (
            "cancelled twice",
            || {
                let (ctx, c) = Context::background().with_cancel();
                c.cancel();
                c.cancel_with(Reason("b"));
                (ctx, vec![c])
            },
            Some(Cancelled),
            Expected::Why(Cancelled),
        ),
        (
            "the parent first",
            || {
                let (parent, p) = Context::background().with_cancel();
                let (ctx, c) = parent.with_cancel();
                p.cancel_with(Reason("parent"));
                c.cancel_with(Reason("child"));
                (ctx, vec![p, c])
            },
            Some(Cancelled),
            Expected::Reason("parent"),
        ),
        (
            "the parent first and without a cause",
            || {
                let (parent, p) = Context::background().with_cancel();
                let (ctx, c) = parent.with_cancel();
                p.cancel();
                c.cancel_with(Reason("child"));
                (ctx, vec![p, c])
            },
            Some(Cancelled),
            Expected::Why(Cancelled),
        ),
        (
            "a value of one that is done",
            || {
                let (parent, p) = Context::background().with_cancel();
                p.cancel_with(Reason("parent"));
                (parent.with_value(1_u8), vec![p])
            },
            Some(Cancelled),
            Expected::Reason("parent"),
        ),
        (
            "the child first",
            || {
                let (parent, p) = Context::background().with_cancel();
                let (ctx, c) = parent.with_cancel();
                c.cancel_with(Reason("child"));
                p.cancel_with(Reason("parent"));
                assert_cause(&parent, &Expected::Reason("parent"));
                (ctx, vec![p, c])
            },
            Some(Cancelled),
            Expected::Reason("child"),
        ),
        (
            "the child alone",
            || {
                let (parent, p) = Context::background().with_cancel();
                let (_, c) = parent.with_cancel();
                c.cancel_with(Reason("child"));
                (parent, vec![p])
            },
            None,
            Expected::None,
        ),
        (
            "a deadline below a cause",
            || {
                let (parent, p) = Context::background().with_cancel();
                let (ctx, c) = parent.with_timeout(NEVER_HERE);
                p.cancel_with(Reason("parent"));
                (ctx, vec![p, c])
            },
            Some(Cancelled),
            Expected::Reason("parent"),
        ),
        (
            "below a deadline that has passed",
            || {
                let (parent, p) = Context::background().with_timeout(Duration::ZERO);
                let (ctx, c) = parent.with_cancel();
                c.cancel_with(Reason("late"));
                (ctx, vec![p, c])
            },
            Some(DeadlineExceeded),
            Expected::Why(DeadlineExceeded),
        ),
        (
            "a deadline in the past below a cause",
            || {
                let (parent, p) = Context::background().with_cancel();
                p.cancel_with(Reason("parent"));
                let (ctx, c) = parent.with_timeout(Duration::ZERO);
                (ctx, vec![p, c])
            },
            Some(Cancelled),
            Expected::Reason("parent"),
        ),
        (
            "two below, derived afterwards",
            || {
                let (parent, p) = Context::background().with_cancel();
                p.cancel_with(Reason("top"));
                let (middle, m) = parent.with_value("value").with_cancel();
                let (ctx, c) = middle.with_timeout(NEVER_HERE);
                (ctx, vec![p, m, c])
            },
            Some(Cancelled),
            Expected::Reason("top"),
        ),
        (
            "without cancel",
            || {
                let (parent, p) = Context::background().with_cancel();
                p.cancel_with(Reason("parent"));
                (parent.without_cancel(), vec![p])
            },
            None,
            Expected::None,
        ),
        (
            "cancelled below one without",
            || {
                let (parent, p) = Context::background().with_cancel();
                let (ctx, c) = parent.without_cancel().with_cancel();
                p.cancel_with(Reason("parent"));
                c.cancel_with(Reason("child"));
                (ctx, vec![p, c])
            },
            Some(Cancelled),
            Expected::Reason("child"),
        ),
    ];
    for (name, make, err, cause) in table {
        println!("{name}");
        let (ctx, _cancellers) = make();
        assert_eq!(ctx.err(), *err);
        assert_cause(&ctx, cause);
        match err {
            Some(why) => assert_done(&ctx, *why),
            None => assert_live(&ctx),
        }
    }
}

#[test]
fn a_deadline_that_comes_after_a_cause_changes_nothing() {
    everywhere(|| {
        let (parent, canceller) = Context::background().with_timeout(NEVER_HERE);
        let (ctx, _childs) = parent.with_timeout(ms(20));
        canceller.cancel_with(Reason("early"));
        // On a machine that was stopped meanwhile, the deadline may have been first.
        let why = ctx.err().unwrap();
        pause(ms(25));
        assert_done(&ctx, why);
        let expected = if why == Cancelled { Expected::Reason("early") } else { Expected::Why(DeadlineExceeded) };
        assert_cause(&ctx, &expected);
        assert_cause(&parent, &Expected::Reason("early"));
    });
}
