//! Destructors of what the primitives hold for their users, messages, errors, payloads, values: they run with no lock held, so they may use
//! what let go of them; and they may panic, alone and in pairs.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::sync::Arc;

use greenloom::context::Context;
use greenloom::group::Group;
use greenloom::pool::WorkerPool;
use greenloom::{park, scope, spawn, task_local, yield_now};
use test_support::channel::{Sender, bounded, unbounded};
use test_support::waiting::{cancel_and_join, let_others_run, spawn_begun};
use test_support::{Counter, OnDrop, run_on};

/// Runs the case in a task, on one processor: a lock that is taken twice is a hang.
#[track_caller]
fn alone(case: fn()) {
    run_on(1, case);
}

/// Panics when it is dropped, and counts.
#[derive(Debug)]
struct Bomb(Counter);

impl Drop for Bomb {
    fn drop(&mut self) {
        self.0.add();
        // Without the hook: that a destructor panics is no news here.
        resume_unwind(Box::new("a bomb"));
    }
}

/// What it panics with.
#[track_caller]
fn caught<T>(body: impl FnOnce() -> T) -> Box<dyn Any + Send> {
    match catch_unwind(AssertUnwindSafe(|| drop(body()))) {
        Ok(()) => panic!("it did not panic"),
        Err(payload) => payload,
    }
}

/// A payload that panics when it is dropped must not be.
fn defuse(payload: Box<dyn Any + Send>) {
    std::mem::forget(payload);
}

// They may come back.

/// A message that asks its channel, and sends to it.
enum Message {
    ComesBack(Sender<Message>, Counter),
    Last,
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Message::ComesBack(s, counter) = self {
            assert_eq!(s.len(), 0);
            assert!(s.try_send(Message::Last).unwrap_err().is_disconnected());
            assert!(s.send(Message::Last).is_err());
            drop(s.clone());
            counter.add();
        }
    }
}

#[test]
fn a_message_that_goes_with_the_last_receiver_may_use_its_channel() {
    alone(|| {
        for (s, r) in [bounded(100), unbounded()] {
            let counter = Counter::default();
            for _ in 0..100 {
                s.send(Message::ComesBack(s.clone(), counter.clone())).unwrap();
            }
            drop(r);
            assert_eq!(counter.get(), 100);
        }
    });
}

#[test]
fn an_error_or_a_payload_that_comes_too_late_may_use_its_group() {
    alone(|| {
        let group = Arc::new(Group::<Box<dyn Any + Send>>::new());
        let counter = Counter::default();
        let comes_back = || -> Box<dyn Any + Send> {
            let (group, counter) = (group.clone(), counter.clone());
            Box::new(OnDrop::new(move || {
                let shown = format!("{group:?}");
                assert!(shown.contains("Group"), "{shown}");
                // It fails too, while this waits for it.
                let (failed, fails) = (Counter::default(), counter.clone());
                let tells = failed.clone();
                group.spawn(move || {
                    tells.add();
                    Err(Box::new(OnDrop::new(move || fails.add())))
                });
                while failed.get() == 0 {
                    yield_now();
                }
                let_others_run();
                counter.add();
            }))
        };
        group.spawn(|| Err(Box::new("the first error")));
        let_others_run();
        let late = comes_back();
        group.spawn(move || Err(late));
        group.spawn(|| panic_any("the first panic"));
        let_others_run();
        let late = comes_back();
        group.spawn(move || resume_unwind(late));
        assert_eq!(caught(|| group.wait()).downcast_ref(), Some(&"the first panic"));
        // The two that came late, and what they brought.
        assert_eq!(counter.get(), 4);
        assert!(group.wait().is_ok());
    });
}

#[test]
fn a_cause_or_a_function_that_goes_may_use_its_context() {
    alone(|| {
        let counter = Counter::default();
        let comes_back = |ctx: &Context| {
            let (ctx, counter) = (ctx.clone(), counter.clone());
            OnDrop::new(move || {
                let (child, canceller) = ctx.with_cancel();
                canceller.cancel();
                assert!(child.done().recv().is_err());
                counter.add();
            })
        };
        let (ctx, canceller) = Context::background().with_cancel();
        let stopped = ctx.after_func({
            let comes_back = comes_back(&ctx);
            move || drop(comes_back)
        });
        assert!(stopped.stop());
        assert_eq!(counter.get(), 1);
        // One that finds its context ended starts, and is dropped when it has run.
        let waits = ctx.after_func({
            let comes_back = comes_back(&ctx);
            move || drop(comes_back)
        });
        canceller.cancel();
        let_others_run();
        assert!(!waits.stop());
        assert_eq!(counter.get(), 2);
    });
}

// They may use task-locals wherever they run, and leave nothing of that to the next task on their stack.

task_local! {
    static MARK: Cell<u32> = Cell::new(0);
    static HELD: Option<test_support::CountsDrop> = None;
}

/// Leaves values behind in the task where it is dropped.
struct Marks(Counter);

impl Drop for Marks {
    fn drop(&mut self) {
        if MARK.try_with(|mark| mark.set(mark.get() + 1)).is_ok() {
            HELD.set(Some(self.0.on_drop()));
        } else {
            self.0.add();
        }
    }
}

#[test]
fn what_destructors_leave_in_task_locals_goes_with_their_task() {
    alone(|| {
        let dropped = Counter::default();
        let mut expected = 0;
        let mut case = |name: &str, count: usize, run: &dyn Fn(&dyn Fn() -> Marks)| {
            run(&|| Marks(dropped.clone()));
            let_others_run();
            for _ in 0..20 {
                let seen = spawn(|| (MARK.get(), HELD.with(Option::is_some))).join().unwrap();
                assert_eq!(seen, (0, false), "{name}");
            }
            expected += count;
            assert_eq!(dropped.get(), expected, "{name}");
        };
        case("a local of the closure", 1, &|marks| {
            let marks = marks();
            spawn(move || drop(marks)).join().unwrap();
        });
        case("the result of a detached task", 1, &|marks| {
            let marks = marks();
            drop(spawn(move || marks));
        });
        case("the result of a task whose handle goes while it runs", 1, &|marks| {
            let marks = marks();
            let task = spawn_begun(move || {
                yield_now();
                marks
            });
            drop(task);
        });
        case("the payload of a detached task", 1, &|marks| {
            let marks = marks();
            drop(spawn(move || resume_unwind(Box::new(marks))));
        });
        case("what a cancelled task has", 1, &|marks| {
            let marks = marks();
            cancel_and_join(spawn_begun(move || {
                let _marks = marks;
                park();
            }));
        });
        case("the closure of a task that is cancelled before it begins", 1, &|marks| {
            let marks = marks();
            cancel_and_join(spawn(move || drop(marks)));
        });
        case("a scoped child's result and closures that never run", 3, &|marks| {
            let (result, late) = (marks(), [marks(), marks()]);
            let unwound = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| {
                    s.spawn(move || result);
                    let_others_run();
                    late.into_iter().for_each(|marks| drop(s.spawn(move || drop(marks))));
                    resume_unwind(Box::new("the body"));
                })
            }));
            assert!(unwound.is_err());
        });
        case("a member's error", 2, &|marks| {
            let errors = [marks(), marks()];
            let group = Group::new();
            errors.into_iter().for_each(|error| group.spawn(move || Err(error)));
            // The one that counts goes in a task of its own.
            spawn(move || drop(group.wait())).join().unwrap();
        });
        case("a job's result, and a job that never runs", 2, &|marks| {
            let (result, queued) = (marks(), marks());
            let pool = WorkerPool::new(1, 4);
            drop(pool.submit(move || result).unwrap());
            let_others_run();
            drop(pool.submit(park).unwrap());
            drop(pool.submit(move || drop(queued)).unwrap());
            let_others_run();
            drop(pool);
        });
    });
}

// They may panic.

#[test]
fn payloads_that_panic_when_they_go_hurt_nobody() {
    alone(|| {
        let counter = Counter::default();
        let panics = |counter: &Counter| {
            let bomb = Bomb(counter.clone());
            move || resume_unwind(Box::new(bomb))
        };
        // The first is raised, the others go.
        let payload = caught(|| {
            scope(|s| (0..4).for_each(|_| drop(s.spawn(panics(&counter)))));
        });
        assert!(payload.is::<Bomb>());
        assert_eq!(counter.get(), 3);
        defuse(payload);
        let group = Group::<()>::new();
        (0..4).for_each(|_| group.spawn(panics(&counter)));
        let payload = caught(|| group.wait());
        assert!(payload.is::<Bomb>());
        assert_eq!(counter.get(), 6);
        defuse(payload);
        // Nobody hears of it: there was no member left.
        group.wait().unwrap();
    });
}

#[test]
fn an_error_a_value_or_a_result_that_panics_when_it_goes_does_not_meet_another_panic() {
    alone(|| {
        let counter = Counter::default();
        // The value of a scope, and its child's panic.
        drop(caught(|| {
            scope(|s| {
                s.spawn(|| panic_any("a child"));
                Bomb(counter.clone())
            })
        }));
        assert_eq!(counter.get(), 1);
        // The error of a group, and a member's panic.
        let group = Group::new();
        let bomb = Bomb(counter.clone());
        group.spawn(move || Err(bomb));
        group.spawn(|| panic_any("a member"));
        drop(caught(|| group.wait()));
        assert_eq!(counter.get(), 2);
        // Errors that come too late: the members end, and one that panics so is the group's.
        let bombs = [(); 3].map(|()| Bomb(counter.clone()));
        let group = Group::new();
        bombs.into_iter().for_each(|bomb| group.spawn(move || Err(bomb)));
        let payload = caught(|| group.wait());
        assert_eq!(payload.downcast_ref(), Some(&"a bomb"));
        assert_eq!(counter.get(), 5);
        // Results that nobody takes; the first is raised.
        let payload = caught(|| {
            scope(|s| {
                for _ in 0..3 {
                    let bomb = Bomb(counter.clone());
                    s.spawn(move || bomb);
                }
            });
        });
        assert_eq!(payload.downcast_ref(), Some(&"a bomb"));
        assert_eq!(counter.get(), 8);
    });
}

#[test]
fn a_worker_outlives_results_payloads_and_jobs_that_panic_when_they_go() {
    alone(|| {
        let counter = Counter::default();
        let pool = WorkerPool::new(1, 8);
        for _ in 0..3 {
            let (result, payload, closure) = (Bomb(counter.clone()), Bomb(counter.clone()), Bomb(counter.clone()));
            drop(pool.submit(move || result).unwrap());
            drop(pool.submit(move || resume_unwind(Box::new(payload))).unwrap());
            drop(pool.submit(move || drop(closure)).unwrap());
        }
        assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
        assert_eq!(counter.get(), 9);
        // Those that never run go one by one.
        let running = pool.submit(park).unwrap();
        let queued: Vec<_> = (0..5)
            .map(|_| {
                let bomb = Bomb(counter.clone());
                pool.submit(move || drop(bomb)).unwrap()
            })
            .collect();
        let_others_run();
        drop(pool);
        assert!(running.join().unwrap_err().is_cancelled());
        assert!(queued.into_iter().all(|job| job.join().unwrap_err().is_cancelled()));
        assert_eq!(counter.get(), 14);
    });
}

task_local! {
    static FIRST: Bomb;
    static SECOND: Bomb;
    static LAST: test_support::CountsDrop;
}

#[test]
fn values_of_a_task_that_panic_when_they_go_hurt_nobody() {
    alone(|| {
        let counter = Counter::default();
        let uses = |counter: Counter| {
            move || {
                LAST.set(counter.on_drop());
                FIRST.set(Bomb(counter.clone()));
                SECOND.set(Bomb(counter));
            }
        };
        spawn(uses(counter.clone())).join().unwrap();
        assert_eq!(counter.get(), 3);
        drop(spawn(uses(counter.clone())));
        let_others_run();
        assert_eq!(counter.get(), 6);
        let task = spawn_begun({
            let uses = uses(counter.clone());
            move || {
                uses();
                park();
            }
        });
        cancel_and_join(task);
        assert_eq!(counter.get(), 9);
        std::thread::spawn(uses(counter.clone())).join().unwrap();
        assert_eq!(counter.get(), 12);
    });
}

/// The unwinding of a cancellation, and of a limit, may meet panics of destructors that are caught there.
#[test]
fn causes_that_panic_when_they_go_do_so_in_who_drops_them() {
    #[derive(Debug)]
    struct Cause(#[allow(dead_code, reason = "dropped")] Bomb);
    impl std::fmt::Display for Cause {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a bomb")
        }
    }
    impl std::error::Error for Cause {}
    alone(|| {
        let counter = Counter::default();
        let cause = || Cause(Bomb(counter.clone()));
        let (parent, canceller) = Context::background().with_cancel();
        let children: Vec<_> = (0..3).map(|_| parent.with_cancel()).collect();
        children.iter().for_each(|(_, canceller)| canceller.cancel_with(cause()));
        canceller.cancel_with(cause());
        // Too late.
        drop(caught(|| canceller.cancel_with(cause())));
        assert_eq!(counter.get(), 1);
        for (child, canceller) in children {
            assert_eq!(child.cause().unwrap().to_string(), "a bomb");
            drop(canceller);
            drop(caught(move || drop(child)));
        }
        assert_eq!(counter.get(), 4);
        drop(canceller);
        drop(caught(move || drop(parent)));
        assert_eq!(counter.get(), 5);
    });
}
