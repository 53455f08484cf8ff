//! Groups: Go's errgroup with what Rust adds.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use greenloom::channel::{self, select};
use greenloom::context::{Context, ContextError};
use greenloom::group::Group;
use greenloom::time::timeout;
use greenloom::{park, spawn, yield_now};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};
use test_support::{Counter, OnDrop, run_on, runtime, unless_it_hangs, yield_until};

#[derive(Clone, Debug, PartialEq)]
struct Oops(u32);

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oops {}", self.0)
    }
}

impl std::error::Error for Oops {}

/// The panic that `f` ends with.
#[track_caller]
fn caught(f: impl FnOnce()) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it did not panic");
    payload.downcast_ref::<&'static str>().copied().expect("a message")
}

#[test]
fn a_group_without_tasks_does_not_wait() {
    in_tasks(|| {
        assert_eq!(Group::<Oops>::new().wait(), Ok(()));
        let (group, ctx) = Group::<Oops>::with_context(&Context::background());
        assert_eq!(group.wait(), Ok(()));
        assert_eq!(ctx.err(), Some(ContextError::Cancelled));
    });
    // Nor does it need a runtime.
    assert_eq!(Group::<Oops>::new().wait(), Ok(()));
}

#[test]
fn wait_waits_for_all_also_after_an_error() {
    in_tasks(|| {
        let (group, ended) = (Group::new(), Counter::default());
        for i in 0..20 {
            let ended = ended.clone();
            group.spawn(move || {
                (0..i).for_each(|_| yield_now());
                ended.add();
                if i == 0 { Err(Oops(0)) } else { Ok(()) }
            });
        }
        assert_eq!((group.wait(), ended.get()), (Err(Oops(0)), 20));
    });
}

#[test]
fn the_first_error_in_time_is_the_one_that_counts() {
    in_tasks(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        let first = ctx.clone();
        group.spawn(move || {
            let _ = first.done().recv();
            Err(Oops(2))
        });
        group.spawn(|| Err(Oops(1)));
        assert_eq!(group.wait(), Err(Oops(1)));
        assert_eq!(ctx.cause().unwrap().downcast_ref(), Some(&Oops(1)));
    });
}

#[test]
fn a_group_may_be_used_again_and_its_error_is_given_once() {
    in_tasks(|| {
        let group = Group::new();
        for round in 0..3 {
            group.spawn(move || Err(Oops(round)));
            assert_eq!(group.wait(), Err(Oops(round)));
            assert_eq!(group.wait(), Ok(()));
        }
    });
}

#[test]
fn members_may_spawn_members() {
    in_tasks(|| {
        let (group, ran) = (Arc::new(Group::<Oops>::new()), Counter::default());
        group.spawn({
            let (group, ran) = (group.clone(), ran.clone());
            move || {
                let_others_run();
                group.spawn(move || {
                    let_others_run();
                    ran.add();
                    Ok(())
                });
                Ok(())
            }
        });
        assert_eq!((group.wait(), ran.get()), (Ok(()), 1));
    });
}

#[test]
fn the_context_is_live_until_wait_returns_and_done_afterwards() {
    in_tasks(|| {
        let (group, ctx) = Group::<Oops>::with_context(&Context::background());
        let inside = ctx.clone();
        group.spawn(move || {
            assert_eq!(inside.err(), None);
            Ok(())
        });
        let_others_run();
        assert_eq!(ctx.err(), None);
        assert_eq!(group.wait(), Ok(()));
        assert_eq!(ctx.err(), Some(ContextError::Cancelled));
        assert!(!ctx.cause().is_some_and(|cause| cause.is::<Oops>()));
    });
}

#[test]
fn an_error_cancels_the_context_but_not_the_tasks() {
    in_tasks(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        let finished = Counter::default();
        for _ in 0..5 {
            let (ctx, finished) = (ctx.clone(), finished.clone());
            group.spawn(move || {
                assert!(ctx.done().recv().is_err());
                let_others_run();
                finished.add();
                Ok(())
            });
        }
        group.spawn(|| Err(Oops(7)));
        assert_eq!((group.wait(), finished.get()), (Err(Oops(7)), 5));
    });
}

#[test]
fn the_end_of_the_parent_reaches_the_members() {
    in_tasks(|| {
        let (parent, canceller) = Context::background().with_cancel();
        let (group, ctx) = Group::with_context(&parent);
        group.spawn(move || {
            let _ = ctx.done().recv();
            Err(Oops(3))
        });
        canceller.cancel();
        assert_eq!(group.wait(), Err(Oops(3)));
    });
}

#[test]
fn a_limit_is_never_exceeded() {
    in_tasks(|| {
        for limit in [1, 2, 10] {
            let (group, active, most) = (Group::<Oops>::new(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            group.set_limit(limit);
            for i in 0..60 {
                let (active, most) = (active.clone(), most.clone());
                group.spawn(move || {
                    most.fetch_max(active.fetch_add(1, SeqCst) + 1, SeqCst);
                    (0..i % 5).for_each(|_| yield_now());
                    active.fetch_sub(1, SeqCst);
                    Ok(())
                });
            }
            group.wait().unwrap();
            let most = most.load(SeqCst);
            assert!((1..=limit).contains(&most), "{most} at once, of {limit}");
        }
    });
}

#[test]
fn spawn_waits_for_a_slot() {
    in_tasks(|| {
        let (group, go, started) = (Arc::new(Group::<Oops>::new()), Arc::new(AtomicBool::new(false)), Counter::default());
        group.set_limit(1);
        group.spawn({
            let go = go.clone();
            move || {
                yield_until(|| go.load(SeqCst));
                Ok(())
            }
        });
        let spawner = spawn_begun({
            let (group, started) = (group.clone(), started.clone());
            move || {
                group.spawn(|| Ok(()));
                started.add();
            }
        });
        let_others_run();
        assert_eq!(started.get(), 0);
        go.store(true, SeqCst);
        spawner.join().unwrap();
        assert_eq!((group.wait(), started.get()), (Ok(()), 1));
    });
}

#[test]
fn a_spawn_that_is_cancelled_while_it_waits_drops_its_closure_and_takes_no_slot() {
    in_tasks(|| {
        let (group, go, dropped) = (Arc::new(Group::<Oops>::new()), Arc::new(AtomicBool::new(false)), Counter::default());
        group.set_limit(1);
        group.spawn({
            let go = go.clone();
            move || {
                yield_until(|| go.load(SeqCst));
                Ok(())
            }
        });
        let spawner = spawn_begun({
            let (group, guard) = (group.clone(), dropped.on_drop());
            move || {
                group.spawn(move || {
                    drop(guard);
                    Ok(())
                });
            }
        });
        let_others_run();
        cancel_and_join(spawner);
        assert_eq!(dropped.get(), 1);
        go.store(true, SeqCst);
        group.wait().unwrap();
        assert!(group.try_spawn(|| Ok(())));
        group.wait().unwrap();
    });
}

#[test]
fn try_spawn_refuses_at_the_limit_and_takes_a_slot_that_is_given_back() {
    in_tasks(|| {
        let (group, go) = (Group::<Oops>::new(), Arc::new(AtomicBool::new(false)));
        group.set_limit(3);
        let wait = || {
            let go = go.clone();
            move || {
                yield_until(|| go.load(SeqCst));
                Ok(())
            }
        };
        assert!(group.try_spawn(wait()) && group.try_spawn(wait()));
        group.spawn(wait());
        let refused = Counter::default();
        let guard = refused.on_drop();
        assert!(!group.try_spawn(move || {
            drop(guard);
            unreachable!()
        }));
        assert_eq!(refused.get(), 1);
        go.store(true, SeqCst);
        group.wait().unwrap();
        // Right after `wait` all slots are free.
        assert!((0..3).all(|_| group.try_spawn(|| Ok(()))));
        group.wait().unwrap();
    });
}

#[test]
fn without_a_limit_try_spawn_never_refuses() {
    in_tasks(|| {
        let group = Group::<Oops>::new();
        assert!((0..100).all(|_| group.try_spawn(|| Ok(()))));
        group.wait().unwrap();
    });
}

#[test]
fn a_limit_of_zero_refuses_and_says_so_instead_of_waiting_for_ever() {
    in_tasks(|| {
        let group = Group::<Oops>::new();
        group.set_limit(0);
        assert!(!group.try_spawn(|| unreachable!()));
        assert!(caught(|| group.spawn(|| unreachable!())).contains("limit of the group is zero"));
        group.wait().unwrap();
        group.set_limit(usize::MAX);
        group.spawn(|| Err(Oops(1)));
        assert_eq!(group.wait(), Err(Oops(1)));
    });
}

#[test]
fn the_limit_may_not_change_while_there_are_tasks() {
    in_tasks(|| {
        let (group, go) = (Group::<Oops>::new(), Arc::new(AtomicBool::new(false)));
        group.spawn({
            let go = go.clone();
            move || {
                yield_until(|| go.load(SeqCst));
                Ok(())
            }
        });
        let refused = catch_unwind(AssertUnwindSafe(|| group.set_limit(2))).unwrap_err();
        assert!(refused.downcast_ref::<String>().unwrap().contains("while 1 tasks"));
        go.store(true, SeqCst);
        group.wait().unwrap();
        group.set_limit(2);
    });
}

#[test]
fn a_panic_is_raised_by_wait_after_all_have_ended_and_cancels_the_context() {
    in_tasks(|| {
        let (group, ctx) = Group::<Oops>::with_context(&Context::background());
        let ended = Counter::default();
        group.spawn({
            let (ctx, ended) = (ctx.clone(), ended.clone());
            move || {
                assert!(ctx.done().recv().is_err());
                let_others_run();
                ended.add();
                Err(Oops(1))
            }
        });
        group.spawn(|| panic_any("a member"));
        assert_eq!(caught(|| drop(group.wait())), "a member");
        assert_eq!(ended.get(), 1);
    });
}

#[test]
fn dropping_a_group_cancels_its_members_and_its_context() {
    in_tasks(|| {
        let (group, ctx) = Group::<Oops>::with_context(&Context::background());
        let (begun, dropped) = (Counter::default(), Counter::default());
        for _ in 0..40 {
            let (begun, guard) = (begun.clone(), dropped.on_drop());
            group.spawn(move || {
                let _guard = guard;
                begun.add();
                park();
                unreachable!()
            });
        }
        yield_until(|| begun.get() > 20);
        drop(group);
        assert_eq!(ctx.err(), Some(ContextError::Cancelled));
        yield_until(|| dropped.get() == 40);
    });
}

#[test]
fn a_cancelled_waiter_cancels_the_members() {
    in_tasks(|| {
        let (group, ctx) = Group::<Oops>::with_context(&Context::background());
        let (group, dropped) = (Arc::new(group), Counter::default());
        let guard = dropped.on_drop();
        group.spawn(move || {
            let _guard = guard;
            park();
            unreachable!()
        });
        let waiter = spawn_begun({
            let group = group.clone();
            move || group.wait()
        });
        let_others_run();
        cancel_and_join(waiter);
        assert!(ctx.err().is_some());
        yield_until(|| dropped.get() == 1);
        // What comes later does not run.
        group.spawn(|| unreachable!());
        assert_eq!(group.wait(), Ok(()));
    });
}

#[test]
fn an_error_from_before_is_given_to_who_waits_after_one_whose_time_was_up() {
    in_tasks(|| {
        let (group, ctx) = Group::with_context(&Context::background());
        group.spawn(|| Err(Oops(2)));
        for _ in 0..3 {
            group.spawn(|| {
                park();
                unreachable!()
            });
        }
        assert!(ctx.done().recv().is_err());
        assert!(timeout(Duration::from_millis(2), || group.wait()).is_err());
        assert_eq!(group.wait(), Err(Oops(2)));
        assert_eq!(group.wait(), Ok(()));
    });
}

#[test]
fn outside_a_runtime_a_member_is_refused_and_its_slot_given_back() {
    let (group, dropped) = (Group::<Oops>::new(), Counter::default());
    group.set_limit(1);
    for i in 0..6 {
        let guard = dropped.on_drop();
        let member = move || {
            drop(guard);
            Ok(())
        };
        let refused =
            catch_unwind(AssertUnwindSafe(|| if i % 2 == 0 { group.spawn(member) } else { _ = group.try_spawn(member) }));
        assert!(refused.unwrap_err().downcast_ref::<String>().unwrap().contains("outside a runtime"));
    }
    assert_eq!((dropped.get(), group.wait()), (6, Ok(())));
    // There is nobody in it.
    group.set_limit(2);
}

#[test]
fn several_may_wait_and_one_gets_the_error() {
    in_tasks(|| {
        let (group, go) = (Arc::new(Group::new()), Arc::new(AtomicBool::new(false)));
        group.spawn({
            let go = go.clone();
            move || {
                yield_until(|| go.load(SeqCst));
                Err(Oops(1))
            }
        });
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let group = group.clone();
                spawn_begun(move || group.wait())
            })
            .collect();
        let_others_run();
        go.store(true, SeqCst);
        let errors = waiters.into_iter().filter_map(|waiter| waiter.join().unwrap().err()).count();
        assert_eq!(errors, 1);
    });
}

#[test]
fn a_plain_thread_waits_for_a_group() {
    unless_it_hangs(|| {
        let runtime = runtime(2);
        let group = runtime.run(|| {
            let group = Group::new();
            group.spawn(|| {
                let_others_run();
                Err(Oops(4))
            });
            group
        });
        assert_eq!(group.wait(), Err(Oops(4)));
    });
}

#[test]
fn errors_that_nobody_gets_are_dropped_once() {
    in_tasks(|| {
        let dropped = Counter::default();
        let group = Group::new();
        for _ in 0..10 {
            let dropped = dropped.clone();
            group.spawn(move || Err(dropped.on_drop()));
        }
        let first = group.wait();
        assert_eq!(dropped.get(), 9);
        drop(first);
        group.spawn({
            let dropped = dropped.clone();
            move || Err(dropped.on_drop())
        });
        drop(group);
        yield_until(|| dropped.get() >= 10);
    });
}

#[test]
fn a_pipeline_of_stages_ends_as_a_whole() {
    in_tasks(|| {
        let (group, ctx) = Group::<Oops>::with_context(&Context::background());
        let (numbers, input) = channel::bounded(0);
        let (squares, output) = channel::bounded(0);
        group.spawn({
            let ctx = ctx.clone();
            move || {
                for i in 0..100u64 {
                    select! {
                        send(numbers, i) -> sent => sent.unwrap(),
                        recv(ctx.done()) -> _ => return Ok(()),
                    }
                }
                Ok(())
            }
        });
        for _ in 0..4 {
            let (input, squares) = (input.clone(), squares.clone());
            group.spawn(move || {
                for i in &input {
                    squares.send(i * i).unwrap();
                }
                Ok(())
            });
        }
        drop((input, squares));
        let sum: u64 = output.iter().sum();
        assert_eq!((group.wait(), sum), (Ok(()), 328_350));
    });
}

#[test]
fn members_errors_limits_and_a_drop_meet_in_any_order() {
    in_tasks(|| {
        for seed in 0..150usize {
            let (group, ctx) = Group::with_context(&Context::background());
            let alive = Arc::new(Mutex::new(0));
            if seed % 3 == 0 {
                group.set_limit(1 + seed % 4);
            }
            let group = Arc::new(group);
            let spawner = spawn({
                let (group, ctx, alive) = (group.clone(), ctx.clone(), alive.clone());
                move || {
                    for i in 0..seed % 11 {
                        *alive.lock().unwrap() += 1;
                        let gone = OnDrop::new({
                            let alive = alive.clone();
                            move || *alive.lock().unwrap() -= 1
                        });
                        let ctx = ctx.clone();
                        group.spawn(move || {
                            let _gone = gone;
                            (0..i % 4).for_each(|_| yield_now());
                            match (seed + i) % 7 {
                                0 => Err(Oops(0)),
                                1 if seed % 2 == 0 => {
                                    let _ = ctx.done().recv();
                                    Ok(())
                                }
                                _ => Ok(()),
                            }
                        });
                    }
                }
            });
            (0..seed % 6).for_each(|_| yield_now());
            if seed % 2 == 0 {
                // Nothing else ends those that wait for the context.
                spawner.cancel();
                let _ = spawner.join();
                drop(group);
            } else {
                spawner.join().unwrap();
                let _ = group.wait();
                assert_eq!(*alive.lock().unwrap(), 0);
            }
            yield_until(|| *alive.lock().unwrap() == 0);
        }
    });
}

#[test]
fn the_error_of_a_group_with_a_context_may_be_a_text() {
    run_on(1, || {
        let (group, ctx) = Group::with_context(&Context::background());
        group.spawn(|| Err(String::from("no room")));
        assert_eq!(group.wait().unwrap_err(), "no room");
        assert_eq!(ctx.cause().unwrap().to_string(), "no room");
    });
}
