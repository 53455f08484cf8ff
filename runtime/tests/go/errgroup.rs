//! What Go promises of its errgroup, by its documentation and its own tests, kept by ours.
//!
//! One thing is otherwise: an error is given once, to one of those who wait, and need not be one that can be copied.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use greenloom::channel::{Receiver, TryRecvError, bounded};
use greenloom::context::{Context, ContextError};
use greenloom::group::Group;
use greenloom::yield_now;
use test_support::waiting::in_tasks;

#[derive(Clone, Debug, PartialEq)]
struct Doomed(usize);

impl fmt::Display for Doomed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("doomed")
    }
}

impl std::error::Error for Doomed {}

#[test]
fn the_context_ends_with_the_first_error_or_with_the_wait() {
    const FAILS: bool = true;
    in_tasks(|| {
        for members in [&[] as &[bool], &[false], &[FAILS], &[FAILS, false], &[FAILS, false, FAILS]] {
            let (group, ctx) = Group::with_context(&Context::background());
            for (i, &fails) in members.iter().enumerate() {
                let ctx = ctx.clone();
                group.spawn(move || {
                    if i > 0 {
                        // After the first one, which fails.
                        assert!(ctx.done().recv().is_err());
                    }
                    if fails { Err(Doomed(i)) } else { Ok(()) }
                });
            }
            let expected = members.contains(&FAILS).then_some(Doomed(0));
            assert_eq!(group.wait().err(), expected);
            assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(ctx.err(), Some(ContextError::Cancelled));
            let cause = ctx.cause().unwrap();
            match &expected {
                Some(doomed) => assert_eq!(cause.downcast_ref(), Some(doomed)),
                None => assert_eq!(cause.downcast_ref(), Some(&ContextError::Cancelled)),
            }
        }
    });
}

#[test]
fn as_many_as_the_limit_says_are_taken_and_no_more_in_each_round() {
    /// A member that runs until the channel is closed.
    fn member(stop: &Receiver<()>) -> impl FnOnce() -> Result<(), ()> + Send + 'static {
        let stop = stop.clone();
        move || {
            let _ = stop.recv();
            Ok(())
        }
    }
    in_tasks(|| {
        let group = Group::<()>::new();
        for limit in [42, 1, 7] {
            group.set_limit(limit);
            for _ in 0..2 {
                let (stops, stop) = bounded::<()>(0);
                assert!((0..limit).all(|_| group.try_spawn(member(&stop))));
                assert!(!group.try_spawn(member(&stop)));
                drop(stops);
                assert_eq!(group.wait(), Ok(()));
            }
        }
        group.set_limit(usize::MAX);
        assert!((0..100).all(|_| group.try_spawn(|| Ok(()))));
        assert_eq!(group.wait(), Ok(()));
    });
}

#[test]
fn a_thousand_members_never_are_more_at_once_than_the_limit() {
    const LIMIT: usize = 10;
    in_tasks(|| {
        let group = Group::new();
        group.set_limit(LIMIT);
        let active = Arc::new(AtomicUsize::new(0));
        for _ in 0..1000 {
            let active = active.clone();
            group.spawn(move || {
                let now = active.fetch_add(1, SeqCst) + 1;
                yield_now();
                active.fetch_sub(1, SeqCst);
                if now > LIMIT { Err(now) } else { Ok(()) }
            });
        }
        assert_eq!(group.wait(), Ok(()));
    });
}
