//! `Context::run_until_done`: the end of a context unwinds the code from whatever it waits in.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use greenloom::context::{Context, ContextError};
use greenloom::sync::Mutex;
use greenloom::time::timeout;
use greenloom::{checkpoint, park, park_timeout, sleep, spawn, uncancellable, yield_now};
use test_support::channel::{bounded, unbounded};
use test_support::everywhere::{breathe, everywhere, go, ms, panic_message};
use test_support::{Counter, runtime, unless_it_hangs};

const NEVER_HERE: Duration = Duration::from_secs(3600);

use ContextError::{Cancelled, DeadlineExceeded};

#[test]
fn what_returns_before_the_end_has_its_value() {
    everywhere(|| {
        let (ctx, _canceller) = Context::background().with_timeout(NEVER_HERE);
        for ctx in [Context::background(), ctx] {
            let mut borrowed = 1;
            assert_eq!(
                ctx.run_until_done(|| {
                    breathe();
                    borrowed += 1;
                    "value"
                }),
                Ok("value")
            );
            assert_eq!(borrowed, 2);
        }
    });
}

#[test]
fn a_cancellation_ends_what_waits() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let drops = Counter::default();
        let (tells, begun) = bounded(1);
        let waits = go({
            let (ctx, drops) = (ctx.with_value(1_u8), drops.clone());
            move || {
                let (_s, r) = unbounded::<()>();
                let result = ctx.run_until_done(|| {
                    let _dropped = drops.on_drop();
                    tells.send(()).unwrap();
                    r.recv().unwrap();
                    unreachable!();
                });
                assert_eq!(drops.get(), 1);
                // The caller goes on as before.
                breathe();
                result
            }
        });
        begun.recv().unwrap();
        breathe();
        assert!(!waits.is_finished());
        canceller.cancel();
        assert_eq!(waits.join(), Err::<(), _>(Cancelled));
    });
}

#[test]
fn a_deadline_ends_what_waits() {
    everywhere(|| {
        let (ctx, _canceller) = Context::background().with_timeout(ms(5));
        assert_eq!(ctx.run_until_done(|| sleep(NEVER_HERE)), Err(DeadlineExceeded));
        let (parent, _parents) = Context::background().with_timeout(ms(5));
        let (child, _childs) = parent.with_cancel();
        let mutex = Mutex::new(());
        let guard = mutex.lock().unwrap();
        assert_eq!(child.run_until_done(|| drop(mutex.lock())), Err(DeadlineExceeded));
        drop(guard);
        assert!(!mutex.is_poisoned());
    });
}

#[test]
fn one_that_is_done_runs_nothing() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        canceller.cancel();
        let drops = Counter::default();
        let counted = drops.on_drop();
        assert_eq!(ctx.run_until_done(move || unreachable!("{counted:?}")), Err::<(), _>(Cancelled));
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn an_end_from_within_comes_at_the_next_suspension() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let mut reached = Vec::new();
        let result = ctx.run_until_done(|| {
            canceller.cancel();
            reached.push("the cancellation's end");
            sleep(ms(1));
            reached.push("the sleep's end");
        });
        assert_eq!(result, Err(Cancelled));
        assert_eq!(reached, ["the cancellation's end"]);
        // What does not suspend any more has its value.
        let (ctx, canceller) = Context::background().with_cancel();
        assert_eq!(ctx.run_until_done(|| canceller.cancel()), Ok(()));
        breathe();
    });
}

#[test]
fn a_loop_that_never_waits_is_ended_at_a_checkpoint() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let result = ctx.run_until_done(|| {
            canceller.cancel();
            checkpoint();
            // A plain thread looks where it waits.
            sleep(ms(1));
        });
        assert_eq!(result, Err(Cancelled));
    });
}

#[test]
fn swallowing_it_only_delays_it() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let mut caught = 0;
        let result = ctx.run_until_done(|| {
            canceller.cancel();
            for _ in 0..3 {
                caught += u32::from(catch_unwind(|| sleep(NEVER_HERE)).is_err());
            }
            "a value all the same"
        });
        assert_eq!((result, caught), (Err(Cancelled), 3));
    });
}

#[test]
fn a_cancellation_ends_the_park_of_a_plain_thread() {
    unless_it_hangs(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let (begins, begun) = bounded(1);
        let parks = std::thread::spawn(move || {
            ctx.run_until_done(|| {
                begins.send(()).unwrap();
                loop {
                    park();
                }
            })
        });
        begun.recv().unwrap();
        // It is parked by then, as a rule.
        std::thread::sleep(ms(10));
        canceller.cancel();
        assert_eq!(parks.join().unwrap(), Err::<(), _>(Cancelled));
    });
}

#[test]
fn the_context_that_ends_is_the_one_whose_run_ends() {
    everywhere(|| {
        let (outer, outers) = Context::background().with_cancel();
        let (inner, inners) = Context::background().with_cancel();
        let result = outer.run_until_done(|| {
            let inside = inner.run_until_done(|| {
                inners.cancel();
                sleep(ms(1));
            });
            assert_eq!(inside, Err(Cancelled));
            breathe();
            "the outer one goes on"
        });
        assert_eq!(result, Ok("the outer one goes on"));
        // A context and one below it: the outermost frame ends.
        let (below, _belows) = outer.with_cancel();
        let mut after = false;
        let result = outer.run_until_done(|| {
            let _ = below.run_until_done(|| {
                outers.cancel();
                sleep(ms(1));
            });
            after = true;
        });
        assert_eq!((result, after), (Err(Cancelled), false));
    });
}

#[test]
fn a_context_that_runs_inside_itself_ends_both_runs() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let mut after = false;
        let result = ctx.run_until_done(|| {
            let _ = ctx.run_until_done(|| {
                canceller.cancel();
                sleep(NEVER_HERE);
            });
            after = true;
        });
        assert_eq!((result, after), (Err(Cancelled), false));
    });
}

#[test]
fn the_end_of_a_child_alone_ends_the_child_s_run() {
    everywhere(|| {
        let (parent, _parents) = Context::background().with_cancel();
        let (child, childs) = parent.with_cancel();
        let result = parent.run_until_done(|| {
            let inside = child.run_until_done(|| {
                childs.cancel_with("its own");
                sleep(NEVER_HERE);
            });
            breathe();
            inside
        });
        assert_eq!(result, Ok(Err(Cancelled)));
        assert_eq!(child.cause().unwrap().to_string(), "its own");
    });
}

#[test]
fn limits_of_time_and_contexts_nest() {
    everywhere(|| {
        let (ctx, _canceller) = Context::background().with_timeout(ms(5));
        assert!(timeout(NEVER_HERE, || ctx.run_until_done(|| sleep(NEVER_HERE))) == Ok(Err(DeadlineExceeded)));
        let (ctx, _canceller) = Context::background().with_timeout(NEVER_HERE);
        assert!(timeout(ms(5), || ctx.run_until_done(|| sleep(NEVER_HERE))).is_err());
        assert!(ctx.run_until_done(|| timeout(ms(5), || sleep(NEVER_HERE))).unwrap().is_err());
    });
}

#[test]
fn a_section_that_is_uncancellable_is_finished_first() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let mut finished = false;
        let result = ctx.run_until_done(|| {
            uncancellable(|| {
                canceller.cancel();
                breathe();
                finished = true;
            });
            sleep(NEVER_HERE);
        });
        assert_eq!((result, finished), (Err(Cancelled), true));
    });
}

#[test]
fn a_panic_is_the_caller_s() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let result = catch_unwind(AssertUnwindSafe(|| ctx.run_until_done(|| resume_unwind(Box::new("mine")))));
        assert_eq!(*result.map(|_: Result<(), _>| ()).unwrap_err().downcast::<&str>().unwrap(), "mine");
        // The frame has gone; nothing is left of it.
        canceller.cancel();
        breathe();
        let (ctx, canceller) = Context::background().with_cancel();
        let message = panic_message(|| {
            ctx.run_until_done(|| {
                canceller.cancel();
                std::panic::panic_any("a panic although it is to end");
            })
        });
        assert_eq!(message, "a panic although it is to end");
        breathe();
    });
}

#[test]
fn a_cancelled_task_unwinds_through_it() {
    unless_it_hangs(|| {
        for processors in [1, 2] {
            runtime(processors).run(|| {
                let (ctx, _canceller) = Context::background().with_cancel();
                let (tells, begun) = bounded(1);
                let task = spawn(move || {
                    let _ = ctx.run_until_done(|| {
                        tells.send(()).unwrap();
                        sleep(NEVER_HERE);
                    });
                    unreachable!();
                });
                begun.recv().unwrap();
                task.cancel();
                assert!(task.join().unwrap_err().is_cancelled());
            });
        }
    });
}

#[test]
fn one_end_ends_all_that_run_in_it() {
    everywhere(|| {
        let (ctx, canceller) = Context::background().with_cancel();
        let running = Vec::from_iter((0..8).map(|i| {
            let (ctx, childs) = ctx.with_cancel();
            childs.disarm();
            go(move || {
                let result = ctx.run_until_done(|| {
                    if i % 2 == 0 {
                        sleep(NEVER_HERE);
                    } else {
                        loop {
                            yield_now();
                        }
                    }
                });
                result.unwrap_err()
            })
        }));
        breathe();
        canceller.cancel();
        for running in running {
            assert_eq!(running.join(), Cancelled);
        }
    });
}

#[test]
fn ends_and_returns_meet_on_two_processors() {
    unless_it_hangs(|| {
        runtime(2).run(|| {
            let (dropped, made) = (Counter::default(), 400);
            let (mut values, mut ends) = (0, 0);
            for round in 0..made {
                let (ctx, canceller) = Context::background().with_cancel();
                let task = spawn({
                    let dropped = dropped.clone();
                    move || {
                        let result = ctx.run_until_done(|| {
                            let _dropped = dropped.on_drop();
                            for _ in 0..round % 7 {
                                yield_now();
                            }
                        });
                        // Nothing is left that would end this.
                        for _ in 0..3 {
                            yield_now();
                        }
                        sleep(Duration::from_micros(1));
                        result
                    }
                });
                for _ in 0..round % 5 {
                    yield_now();
                }
                canceller.cancel();
                match task.join().unwrap() {
                    Ok(()) => values += 1,
                    Err(why) => {
                        assert_eq!(why, Cancelled);
                        ends += 1;
                    }
                }
            }
            assert_eq!(values + ends, made);
            println!("{values} returned, {ends} were ended, {} ran", dropped.get());
            assert!(dropped.get() >= values && dropped.get() <= made);
        });
    });
}

#[test]
fn a_plain_thread_parks_for_its_whole_time_inside_a_context() {
    unless_it_hangs(|| {
        let (ctx, _canceller) = Context::background().with_cancel();
        // Longer than a waiting thread lets pass between two looks at its bounds.
        let nap = Duration::from_millis(50);
        let began = Instant::now();
        ctx.run_until_done(|| park_timeout(nap)).unwrap();
        assert!(began.elapsed() >= nap);
        // Nor has it left a token.
        let began = Instant::now();
        park_timeout(nap);
        assert!(began.elapsed() >= nap);
    });
}
