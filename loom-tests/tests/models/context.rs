//! Contexts under every schedule: plain threads of the model, and tasks of a runtime with one machine. Deadlines come when one of the
//! threads says so, as their clock would.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use crate::common::{Data, model};
use greenloom::context::{Context, ContextError};
use greenloom::models::clock_ends_contexts;
use greenloom::{Runtime, yield_now};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

fn runtime() -> Runtime {
    Runtime::builder().processors(1).build().unwrap()
}

/// Counts its drops.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        // What was done before is seen by whoever has counted it.
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counted")
    }
}

impl Error for Counted {}

#[test]
fn a_cancellation_meets_a_derivation() {
    model(4, || {
        let (parent, canceller) = Context::background().with_cancel();
        let derives = thread::spawn(move || {
            let (child, childs) = parent.with_cancel();
            childs.disarm();
            child
        });
        canceller.cancel_with("from above");
        let child = derives.join().unwrap();
        assert_eq!(child.err(), Some(ContextError::Cancelled));
        assert_eq!(child.cause().unwrap().to_string(), "from above");
    });
}

#[test]
fn a_cancellation_meets_the_end_of_children() {
    model(3, || {
        let drops = Arc::new(AtomicUsize::new(0));
        let (parent, canceller) = Context::background().with_cancel();
        let (first, firsts) = parent.with_cancel();
        let (second, seconds) = parent.with_cancel();
        let (third, thirds) = second.with_cancel();
        let cause = Counted(drops.clone());
        let ends = thread::spawn(move || {
            firsts.cancel_with(cause);
            drop((first, firsts));
        });
        let leaves = thread::spawn(move || {
            seconds.disarm();
            thirds.disarm();
            drop((second, third));
        });
        canceller.cancel();
        ends.join().unwrap();
        leaves.join().unwrap();
        assert_eq!(drops.load(Ordering::Relaxed), 1);
        assert!(parent.err().is_some());
    });
}

#[test]
fn a_child_is_dropped_and_another_one_derived_while_the_parent_is_cancelled() {
    model(3, || {
        let (parent, canceller) = Context::background().with_cancel();
        let (child, childs) = parent.with_cancel();
        childs.disarm();
        let drops = thread::spawn(move || drop(child));
        let derives = thread::spawn(move || parent.with_cancel());
        canceller.cancel();
        drops.join().unwrap();
        let (late, _canceller) = derives.join().unwrap();
        assert!(late.err().is_some());
    });
}

#[test]
fn two_cancel_at_once_above_and_below() {
    model(3, || {
        let (parent, parents) = Context::background().with_cancel();
        let (child, childs) = parent.with_cancel();
        let (grandchild, _grandchilds) = child.with_cancel();
        let below = thread::spawn(move || childs.cancel_with("below"));
        parents.cancel_with("above");
        below.join().unwrap();
        let causes = [&parent, &child, &grandchild].map(|ctx| ctx.cause().unwrap().to_string());
        assert_eq!(causes[0], "above");
        // Whoever ends the grandchild, its cause is its parent's.
        assert!(causes[1] == "above" || causes[1] == "below");
        assert_eq!(causes[1], causes[2]);
    });
}

#[test]
fn whoever_has_cancelled_finds_all_below_done_though_another_one_ends_a_part() {
    model(3, || {
        let (parent, parents) = Context::background().with_cancel();
        let (child, childs) = parent.with_cancel();
        let (grandchild, _grandchilds) = child.with_cancel();
        let below = thread::spawn(move || childs.cancel());
        parents.cancel();
        assert!(grandchild.err().is_some() && child.err().is_some());
        below.join().unwrap();
    });
}

#[test]
fn whoever_has_cancelled_finds_what_waits_for_done_woken() {
    model(2, || {
        let (parent, parents) = Context::background().with_cancel();
        let (child, childs) = parent.with_cancel();
        let done = child.done().clone();
        let below = thread::spawn(move || childs.cancel());
        parents.cancel();
        assert!(done.try_recv().unwrap_err().is_disconnected());
        below.join().unwrap();
    });
}

#[test]
fn two_cancel_the_same_and_each_finds_all_below_done() {
    model(3, || {
        let (parent, canceller) = Context::background().with_cancel();
        let (child, _childs) = parent.with_cancel();
        let canceller = Arc::new(canceller);
        let other = thread::spawn({
            let (canceller, child) = (canceller.clone(), child.clone());
            move || {
                canceller.cancel();
                assert!(child.err().is_some());
            }
        });
        canceller.cancel();
        assert!(child.err().is_some());
        other.join().unwrap();
    });
}

#[test]
fn err_and_done_say_the_same() {
    model(2, || {
        let (ctx, canceller) = Context::background().with_cancel();
        let done = ctx.done().clone();
        let before = Arc::new(Data::new());
        let asks_for_err = {
            let (ctx, done, before) = (ctx.clone(), done.clone(), before.clone());
            thread::spawn(move || {
                if ctx.err().is_some() {
                    assert_eq!(before.get(), 1);
                    assert!(done.try_recv().unwrap_err().is_disconnected());
                }
            })
        };
        let asks_for_done = {
            let before = before.clone();
            thread::spawn(move || {
                if done.try_recv().unwrap_err().is_disconnected() {
                    assert_eq!(before.get(), 1);
                    assert!(ctx.err().is_some());
                }
            })
        };
        before.add();
        canceller.cancel();
        asks_for_err.join().unwrap();
        asks_for_done.join().unwrap();
    });
}

/// Nobody has asked for its channel.
#[test]
fn whoever_sees_the_end_sees_what_was_done_before() {
    model(3, || {
        let (parent, canceller) = Context::background().with_cancel();
        let (child, _canceller) = parent.with_cancel();
        let before = Arc::new(Data::new());
        let asks = [parent, child].map(|ctx| {
            let before = before.clone();
            thread::spawn(move || {
                if ctx.err().is_some() {
                    assert_eq!(before.get(), 1);
                }
            })
        });
        before.add();
        canceller.cancel();
        asks.into_iter().for_each(|asks| asks.join().unwrap());
    });
}

#[test]
fn two_ask_for_done_while_it_ends() {
    model(3, || {
        let (ctx, canceller) = Context::background().with_cancel();
        let before = Arc::new(Data::new());
        let wait = {
            let before = before.clone();
            move || {
                assert!(ctx.done().recv().is_err());
                assert_eq!(before.get(), 1);
            }
        };
        let waits = thread::spawn(wait.clone());
        let cancels = thread::spawn(move || {
            before.add();
            canceller.cancel();
        });
        wait();
        waits.join().unwrap();
        cancels.join().unwrap();
    });
}

#[test]
fn a_task_that_waits_for_done_is_woken() {
    model(2, || {
        let runtime = runtime();
        let (ctx, canceller) = Context::background().with_cancel();
        let task = runtime.spawn(move || {
            assert!(ctx.done().recv().is_err());
            ctx.err()
        });
        canceller.cancel();
        assert_eq!(task.join().unwrap(), Some(ContextError::Cancelled));
    });
}

#[test]
fn a_function_runs_or_is_stopped() {
    model(3, || {
        let ran = Arc::new(AtomicUsize::new(0));
        let drops = Arc::new(AtomicUsize::new(0));
        let (ctx, canceller) = Context::background().with_cancel();
        let waits = ctx.after_func({
            let (ran, counted) = (ran.clone(), Counted(drops.clone()));
            move || {
                ran.fetch_add(1, Ordering::Relaxed);
                drop(counted);
            }
        });
        drop(ctx);
        let stops = thread::spawn(move || usize::from(waits.stop()));
        canceller.cancel();
        drop(canceller);
        let stopped = stops.join().unwrap();
        while drops.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
        assert_eq!(ran.load(Ordering::Relaxed) + stopped, 1);
    });
}

#[test]
fn a_function_is_added_while_its_context_ends() {
    model(3, || {
        let drops = Arc::new(AtomicUsize::new(0));
        let (ctx, canceller) = Context::background().with_cancel();
        let adds = {
            let counted = Counted(drops.clone());
            thread::spawn(move || drop(ctx.after_func(move || drop(counted))))
        };
        canceller.cancel();
        adds.join().unwrap();
        while drops.load(Ordering::Acquire) == 0 {
            thread::yield_now();
        }
    });
}

#[test]
fn an_end_meets_what_it_ends() {
    model(2, || {
        let runtime = runtime();
        let (ctx, canceller) = Context::background().with_cancel();
        let before = Arc::new(Data::new());
        let task = runtime.spawn({
            let before = before.clone();
            move || {
                let result = ctx.run_until_done(yield_now);
                if result.is_err() {
                    assert_eq!(before.get(), 1);
                }
                // Nothing is left of it that would end this.
                yield_now();
                result
            }
        });
        before.add();
        canceller.cancel();
        let result = task.join().unwrap();
        assert!(result == Ok(()) || result == Err(ContextError::Cancelled));
    });
}

#[test]
fn an_end_ends_what_waits_for_ever() {
    model(2, || {
        let runtime = runtime();
        let (ctx, canceller) = Context::background().with_cancel();
        let task = runtime.spawn(move || ctx.run_until_done(|| greenloom::channel::never::<()>().recv()));
        canceller.cancel();
        assert_eq!(task.join().unwrap(), Err(ContextError::Cancelled));
    });
}

/// Far away: it comes when the model says so.
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_deadline_comes_while_its_context_is_derived() {
    model(3, || {
        let (parent, canceller) = Context::background().with_cancel();
        let clock = thread::spawn(clock_ends_contexts);
        let (child, childs) = parent.with_timeout(HOUR);
        childs.disarm();
        let (grandchild, grandchilds) = child.with_timeout(HOUR / 2);
        grandchilds.disarm();
        drop(child);
        drop(grandchild);
        // Whoever has ended and gone is in no list.
        canceller.cancel();
        clock.join().unwrap();
        clock_ends_contexts();
    });
}

#[test]
fn a_deadline_that_is_just_coming_leaves_nothing_below_to_a_cancellation_above() {
    model(3, || {
        let (parent, canceller) = Context::background().with_cancel();
        let (child, childs) = parent.with_timeout(HOUR);
        childs.disarm();
        let (grandchild, grandchilds) = child.with_cancel();
        grandchilds.disarm();
        let clock = thread::spawn(clock_ends_contexts);
        canceller.cancel();
        // One's cause is the other's.
        assert!(grandchild.err().is_some());
        assert_eq!(grandchild.err(), child.err());
        clock.join().unwrap();
    });
}

#[test]
fn a_deadline_meets_a_cancellation_and_the_end_of_what_it_ends() {
    model(3, || {
        let (parent, canceller) = Context::background().with_cancel();
        let [first, second] = [(); 2].map(|()| {
            let (ctx, canceller) = parent.with_timeout(HOUR);
            canceller.disarm();
            ctx
        });
        let clock = thread::spawn(clock_ends_contexts);
        let drops = thread::spawn(move || drop(first));
        canceller.cancel();
        assert!(second.err().is_some());
        drop(second);
        clock.join().unwrap();
        drops.join().unwrap();
        assert_eq!(parent.err(), Some(ContextError::Cancelled));
    });
}
