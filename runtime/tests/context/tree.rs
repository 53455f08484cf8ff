//! Contexts above and below each other: who ends with whom, who leaves whom, in whatever order and number.

use std::time::Duration;

use greenloom::context::{Canceller, Context, ContextError};
use greenloom::{spawn, yield_now};
use test_support::Counter;
use test_support::channel::{TryRecvError, never, select};
use test_support::everywhere::{breathe, everywhere, go, join_all, ms};
use test_support::{runtime, unless_it_hangs, yield_until};

const NEVER_HERE: Duration = Duration::from_secs(3600);
const DEEP: usize = 100_000;

#[track_caller]
fn assert_live(ctx: &Context) {
    assert_eq!((ctx.err(), ctx.done().try_recv()), (None, Err(TryRecvError::Empty)));
}

#[track_caller]
fn assert_cancelled(ctx: &Context) {
    assert_eq!((ctx.err(), ctx.done().try_recv()), (Some(ContextError::Cancelled), Err(TryRecvError::Disconnected)));
}

#[test]
fn a_parent_ends_its_children_and_a_child_nobody_else() {
    everywhere(|| {
        let (parent, parents) = Context::background().with_cancel();
        let (left, lefts) = parent.with_cancel();
        let (right, _rights) = parent.with_value(1_u8).with_cancel();
        let (grandchild, _grandchilds) = right.with_timeout(NEVER_HERE);
        lefts.cancel();
        assert_cancelled(&left);
        for ctx in [&parent, &right, &grandchild] {
            assert_live(ctx);
        }
        parents.cancel();
        for ctx in [&parent, &left, &right, &grandchild] {
            assert_cancelled(ctx);
        }
    });
}

#[test]
fn what_is_derived_from_one_that_is_done_is_done_at_once() {
    everywhere(|| {
        let (parent, canceller) = Context::background().with_cancel();
        canceller.cancel_with("because");
        let (a, _a) = parent.with_cancel();
        let (b, _b) = a.with_timeout(NEVER_HERE);
        let (c, _c) = b.with_value("value").with_timeout(Duration::ZERO);
        for ctx in [&a, &b, &c] {
            assert_cancelled(ctx);
            assert_eq!(ctx.cause().unwrap().to_string(), "because");
        }
    });
}

#[test]
fn a_tree_of_many_kinds_ends_at_once() {
    // A choice of each kind at each place, by a small generator.
    everywhere(|| {
        for seed in 1..=5_u64 {
            let mut random = seed;
            let (root, canceller) = Context::background().with_cancel();
            let mut all = vec![root];
            let mut cancellers = Vec::new();
            for i in 0..200_u64 {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let parent = &all[(random >> 33) as usize % all.len()];
                let (ctx, canceller) = match random >> 62 {
                    0 => parent.with_cancel(),
                    1 => parent.with_timeout(NEVER_HERE),
                    2 => parent.with_value(i).with_cancel(),
                    _ => parent.with_cancel().0.with_cancel(),
                };
                all.push(ctx);
                cancellers.push(canceller);
            }
            // The last kind has lost its middle, and so has been cancelled with all below.
            let live: Vec<_> = all.iter().filter(|ctx| ctx.err().is_none()).cloned().collect();
            live.iter().for_each(assert_live);
            canceller.cancel_with("the end");
            for ctx in &live {
                assert_cancelled(ctx);
                assert_eq!(ctx.cause().unwrap().to_string(), "the end");
            }
            all.iter().for_each(assert_cancelled);
        }
    });
}

#[test]
fn the_parent_ends_first_and_the_child_waits_for_both() {
    everywhere(|| {
        let (parent, parents) = Context::background().with_cancel();
        let (child, childs) = parent.with_cancel();
        let waits = go({
            let (parent, child) = (parent.clone(), child.clone());
            move || {
                select! {
                    recv(parent.done()) -> _ => {}
                    recv(child.done()) -> _ => {}
                }
                assert!(child.done().recv().is_err());
                assert_cancelled(&parent);
            }
        });
        breathe();
        parents.cancel();
        waits.join();
        childs.cancel();
        assert_cancelled(&child);
    });
}

#[test]
fn the_child_ends_first_and_the_parent_goes_on() {
    everywhere(|| {
        let (parent, parents) = Context::background().with_cancel();
        for _ in 0..100 {
            let (child, childs) = parent.with_cancel();
            childs.cancel();
            assert_cancelled(&child);
            assert_live(&parent);
        }
        parents.cancel();
        assert_cancelled(&parent);
    });
}

#[test]
fn many_cancel_at_once() {
    everywhere(|| {
        let (root, root_canceller) = Context::background().with_cancel();
        let mut all = vec![(root, root_canceller)];
        for i in 1..100 {
            let derived = all[i / 2].0.with_cancel();
            all.push(derived);
        }
        let (contexts, cancellers): (Vec<_>, Vec<_>) = all.into_iter().unzip();
        let cancelling = cancellers.into_iter().map(|canceller| go(move || canceller.cancel()));
        let cancelling = Vec::from_iter(cancelling);
        for ctx in contexts.iter().rev() {
            assert!(ctx.done().recv().is_err());
        }
        join_all(cancelling);
        contexts.iter().for_each(assert_cancelled);
    });
}

#[test]
fn a_thousand_that_wait_in_four_ways_end_together() {
    unless_it_hangs(|| {
        runtime(2).run(|| {
            let (ctx, canceller) = Context::background().with_timeout(NEVER_HERE);
            let begun = Counter::default();
            let tasks: Vec<_> = (0..1000)
                .map(|i| {
                    let (ctx, begun) = (ctx.clone(), begun.clone());
                    spawn(move || {
                        begun.add();
                        match i % 4 {
                            0 => assert!(ctx.done().recv().is_err()),
                            1 => select! {
                                recv(never::<()>()) -> _ => unreachable!(),
                                recv(ctx.done()) -> message => assert!(message.is_err()),
                            },
                            2 => assert_eq!(ctx.run_until_done(|| never::<()>().recv()), Err(ContextError::Cancelled)),
                            _ => {
                                let (child, childs) = ctx.with_cancel();
                                childs.disarm();
                                assert!(child.done().recv().is_err());
                            }
                        }
                        assert_eq!(ctx.err(), Some(ContextError::Cancelled));
                    })
                })
                .collect();
            yield_until(|| begun.get() == 1000);
            assert!(!tasks.iter().any(|task| task.is_finished()));
            canceller.cancel();
            tasks.into_iter().for_each(|task| task.join().unwrap());
        });
    });
}

#[test]
fn whoever_is_woken_by_an_end_may_cancel_what_ends() {
    everywhere(|| {
        let (parent, parents) = Context::background().with_cancel();
        let (child, childs) = parent.with_cancel();
        let interlocked = go({
            let parent = parent.clone();
            move || {
                assert!(parent.done().recv().is_err());
                childs.cancel();
            }
        });
        breathe();
        parents.cancel();
        interlocked.join();
        assert_cancelled(&child);
    });
}

#[test]
fn layers_of_deadlines_and_values_end_together() {
    everywhere(|| {
        let (root, canceller) = Context::background().with_cancel();
        let mut layers = vec![(root, None)];
        for i in 0..40_usize {
            let parent = &layers.last().unwrap().0;
            let (ctx, canceller) = match i % 3 {
                0 => parent.with_cancel(),
                1 => parent.with_timeout(NEVER_HERE - ms(i as u64)),
                _ => parent.with_value(i).with_cancel(),
            };
            layers.push((ctx, Some(canceller)));
        }
        let last = layers.last().unwrap().0.clone();
        assert_live(&last);
        assert_eq!(*last.value::<usize>().unwrap(), 38);
        canceller.cancel();
        for (ctx, _) in &layers {
            assert_cancelled(ctx);
        }
    });
}

#[test]
fn a_child_keeps_what_is_above_it() {
    everywhere(|| {
        let (root, canceller) = Context::background().with_cancel();
        let (child, _child) = {
            let (middle, middles) = root.with_cancel();
            middles.disarm();
            middle.with_cancel()
        };
        drop(root);
        assert_live(&child);
        canceller.cancel();
        assert_cancelled(&child);
    });
}

#[test]
fn a_context_may_be_dropped_before_its_deadline() {
    everywhere(|| {
        for _ in 0..50 {
            let (ctx, canceller) = Context::background().with_timeout(Duration::from_micros(50));
            canceller.disarm();
            drop(ctx);
        }
        let (ctx, canceller) = Context::background().with_timeout(ms(2));
        canceller.disarm();
        let (child, _child) = ctx.with_cancel();
        drop(ctx);
        assert!(child.done().recv().is_err());
        assert_eq!(child.err(), Some(ContextError::DeadlineExceeded));
    });
}

/// A chain of contexts, each derived from the one before.
fn chain(length: usize, first: Context) -> Vec<(Context, Canceller)> {
    let mut chain = vec![first.with_cancel()];
    for _ in 1..length {
        let next = chain.last().unwrap().0.with_cancel();
        chain.push(next);
    }
    chain
}

#[test]
fn a_deep_chain_is_cancelled_from_its_top_on_a_task_s_stack() {
    unless_it_hangs(|| {
        runtime(1).run(|| {
            let (root, canceller) = Context::background().with_cancel();
            let chain = chain(DEEP, root);
            canceller.cancel_with("from the top");
            assert!(chain.iter().all(|(ctx, _)| ctx.err() == Some(ContextError::Cancelled)));
            assert_eq!(chain.last().unwrap().0.cause().unwrap().to_string(), "from the top");
        });
    });
}

#[test]
fn a_deep_chain_is_dropped_by_its_last_on_a_task_s_stack() {
    unless_it_hangs(|| {
        runtime(1).run(|| {
            for disarmed in [false, true] {
                let mut last = Context::background();
                for i in 0..DEEP {
                    let (ctx, canceller) = last.with_value(i).with_cancel();
                    last = ctx;
                    if disarmed {
                        canceller.disarm();
                    } else {
                        drop(canceller);
                    }
                }
                assert_eq!(last.err().is_none(), disarmed);
                assert_eq!(*last.value::<usize>().unwrap(), DEEP - 1);
                drop(last);
            }
        });
    });
}

#[test]
fn a_wide_tree_ends_whole() {
    unless_it_hangs(|| {
        runtime(2).run(|| {
            let (root, canceller) = Context::background().with_cancel();
            let mut all = vec![root.with_cancel()];
            for i in 1..DEEP {
                let next = all[i / 10].0.with_cancel();
                all.push(next);
            }
            canceller.cancel();
            assert!(all.iter().all(|(ctx, _)| ctx.err().is_some()));
        });
    });
}

#[test]
fn derivations_cancellations_and_drops_meet_on_two_processors() {
    unless_it_hangs(|| {
        runtime(2).run(|| {
            let values = Counter::default();
            let causes = Counter::default();
            let mut made = 0;
            for round in 0..200_u64 {
                let (root, canceller) = Context::background().with_cancel();
                made += 4;
                let tasks: Vec<_> = (0..4_u64)
                    .map(|i| {
                        let root = root.with_value(values.on_drop());
                        spawn(move || {
                            for j in 0..20 {
                                let (middle, middles) = root.with_cancel();
                                let (low, lows) = middle.with_timeout(Duration::from_micros((round * i + j) % 97));
                                let (lowest, canceller) = low.with_cancel();
                                match (round + i + j) % 4 {
                                    0 => middles.cancel(),
                                    1 => lows.disarm(),
                                    2 => canceller.disarm(),
                                    _ => yield_now(),
                                }
                                drop(middles);
                                assert!(lowest.err().is_some() && middle.err().is_some());
                            }
                        })
                    })
                    .collect();
                yield_now();
                canceller.cancel_with(Cause(causes.on_drop()));
                assert!(root.cause().unwrap().is::<Cause>());
                tasks.into_iter().for_each(|task| task.join().unwrap());
            }
            assert_eq!(values.get(), made);
            // The clock may hold one that it has just ended.
            yield_until(|| causes.get() == 200);
        });
    });
}

#[derive(Debug)]
struct Cause(#[allow(dead_code, reason = "dropped")] test_support::CountsDrop);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("counted")
    }
}

impl std::error::Error for Cause {}

#[test]
fn destructors_of_values_and_causes_may_use_contexts() {
    everywhere(|| {
        /// Derives, cancels and waits when it goes.
        #[derive(Debug)]
        struct Busy(Context);
        impl Drop for Busy {
            fn drop(&mut self) {
                let (ctx, canceller) = self.0.with_cancel();
                canceller.cancel();
                assert!(ctx.err().is_some());
                breathe();
            }
        }
        impl std::fmt::Display for Busy {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("busy")
            }
        }
        impl std::error::Error for Busy {}
        let (root, canceller) = Context::background().with_cancel();
        let (child, childs) = root.with_value(Busy(root.clone())).with_cancel();
        childs.cancel_with(Busy(root.clone()));
        childs.cancel_with(Busy(root.clone()));
        drop((child, childs));
        canceller.cancel_with(Busy(Context::background()));
        assert_cancelled(&root);
    });
}

/// A context whose deadline comes soon, and has not come while these were made below it.
fn soon_over(parent: &Context, children: usize) -> (Context, Canceller, Vec<(Context, Canceller)>) {
    let mut limit = ms(100);
    loop {
        let (top, canceller) = parent.with_timeout(limit);
        let children: Vec<_> = (0..children).map(|_| top.with_cancel()).collect();
        if top.err().is_none() {
            return (top, canceller, children);
        }
        limit *= 2;
    }
}

#[test]
fn a_deadline_that_comes_while_a_large_tree_ends_does_not_wait_for_that() {
    unless_it_hangs(|| {
        let overtaken = || {
            let (root, _roots, children) = soon_over(&Context::background(), DEEP);
            // Those that came last end first.
            let (oldest, _) = &children[0];
            while root.err().is_none() {
                std::thread::yield_now();
            }
            let (other, _others) = Context::background().with_timeout(Duration::from_millis(1));
            while other.err().is_none() {
                std::thread::yield_now();
            }
            oldest.err().is_none()
        };
        // This thread may not be there in time to see it; not each time.
        assert!((0..20).any(|_| overtaken()));
    });
}

#[test]
fn whoever_cancels_finds_all_done_that_a_deadline_is_just_ending() {
    unless_it_hangs(|| {
        for from_above in [true, false] {
            let (root, roots) = Context::background().with_cancel();
            let (middle, middles, below) = soon_over(&root, DEEP / 2);
            while middle.err().is_none() {
                std::thread::yield_now();
            }
            if from_above {
                roots.cancel()
            } else {
                middles.cancel()
            }
            assert!(below.iter().all(|(ctx, _)| ctx.err() == Some(ContextError::DeadlineExceeded)));
        }
    });
}

/// The clock ends what is below a context in pieces.
#[test]
fn a_deadline_ends_a_tree_that_is_larger_than_a_piece() {
    test_support::run_on(1, || {
        let (top, _canceller) = Context::background().with_timeout(Duration::from_millis(20));
        let mut below = Vec::new();
        for number in 0..1_300 {
            let (child, canceller) = top.with_cancel();
            if number % 10 == 0 {
                below.push(child.with_value(number).with_cancel());
            }
            below.push((child, canceller));
        }
        for (ctx, _) in &below {
            assert!(ctx.done().recv().is_err());
            assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
        }
    });
}
