//! A destructor that waits, run by the runtime on behalf of a task that is cancelled: it is run to its end, wherever that is.

use std::cell::RefCell;
use std::mem::forget;
use std::sync::Arc;
use std::time::Duration;

use greenloom::channel::bounded;
use greenloom::context::Context;
use greenloom::group::Group;
use greenloom::pool::WorkerPool;
use greenloom::time::timeout;
use greenloom::{Runtime, current, park, scope, sleep, spawn, yield_now};
use test_support::{Counter, run_on, runtime, unless_it_hangs, yield_until};

/// How many have begun, have come to their end, and have not.
#[derive(Clone, Default)]
struct Goodbyes {
    begun: Counter,
    whole: Counter,
    torn: Counter,
}

impl Goodbyes {
    /// Lets others run until so many are over, and looks how.
    #[track_caller]
    fn assert_whole(&self, count: usize) {
        yield_until(|| self.whole.get() + self.torn.get() == count);
        assert_eq!((self.begun.get(), self.torn.get()), (count, 0), "begun, torn");
    }
}

/// Waits when it is dropped, in a few ways, each of which ends by itself.
struct Goodbye(Goodbyes);

impl Goodbye {
    fn new(counts: &Goodbyes) -> Self {
        Self(counts.clone())
    }
}

impl Drop for Goodbye {
    fn drop(&mut self) {
        self.0.begun.add();
        let torn = self.0.torn.on_drop();
        yield_now();
        sleep(Duration::from_micros(100));
        // Nobody sends.
        let (_sender, receiver) = bounded::<()>(0);
        receiver.recv_timeout(Duration::from_micros(100)).unwrap_err();
        forget(torn);
        self.0.whole.add();
    }
}

/// On one processor and on two; the runtime lives on until the goodbye is over.
fn each(case: fn(Goodbyes)) {
    for processors in [1, 2] {
        run_on(processors, move || {
            let goodbyes = Goodbyes::default();
            case(goodbyes.clone());
            goodbyes.assert_whole(1);
        });
    }
}

greenloom::task_local! { static KEPT: RefCell<Vec<Goodbye>> = RefCell::default(); }

#[test]
fn of_a_closure_that_is_cancelled_while_it_waits() {
    each(|goodbyes| {
        let (goodbye, waiting) = (Goodbye::new(&goodbyes), Counter::default());
        let task = spawn({
            let waiting = waiting.clone();
            move || {
                let _goodbye = &goodbye;
                waiting.add();
                park();
            }
        });
        yield_until(|| waiting.get() == 1);
        task.cancel();
    });
}

#[test]
fn of_a_closure_that_is_cancelled_before_its_start() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        let task = spawn(move || {
            let _goodbye = &goodbye;
            park();
        });
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn of_a_task_local() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        let task = spawn(move || {
            KEPT.with_borrow_mut(|kept| kept.push(goodbye));
            current().cancel();
            park();
        });
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn of_a_result_that_nobody_wants() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        drop(spawn(move || {
            current().cancel();
            goodbye
        }));
    });
}

#[test]
fn of_a_payload_that_nobody_wants() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        drop(spawn(move || {
            current().cancel();
            std::panic::panic_any(goodbye)
        }));
    });
}

#[test]
fn of_a_child_of_a_scope_that_never_starts() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        scope(|s| {
            let child = s.spawn(move || {
                let _goodbye = &goodbye;
                park();
            });
            child.cancel();
        });
    });
}

#[test]
fn of_a_child_that_starts_when_its_scope_has_been_cancelled() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        let owner = spawn(move || {
            scope(|s| {
                s.spawn(move || {
                    let _goodbye = &goodbye;
                    park();
                });
                panic!("ends the scope");
            });
        });
        assert!(owner.join().unwrap_err().is_panic());
    });
}

#[test]
fn of_the_result_of_a_child() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        scope(|s| {
            drop(s.spawn(move || {
                current().cancel();
                goodbye
            }));
        });
    });
}

#[test]
fn of_the_value_of_a_scope_in_which_a_child_panics() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        let owner = spawn(move || {
            scope(|s| {
                s.spawn(|| panic!("no luck"));
                current().cancel();
                goodbye
            })
        });
        let _ = owner.join();
    });
}

#[test]
fn of_a_member_of_a_group_that_is_dropped() {
    each(|goodbyes| {
        let group = Group::<()>::new();
        let goodbye = Goodbye::new(&goodbyes);
        group.spawn(move || {
            let _goodbye = &goodbye;
            park();
            Ok(())
        });
        drop(group);
    });
}

/// An error of a group's member, with what it owns.
#[derive(Clone)]
struct Failed(Arc<Option<Goodbye>>);

impl std::fmt::Debug for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Failed")
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failed {}

#[test]
fn of_the_second_error_of_a_group() {
    each(|goodbyes| {
        let (group, ctx) = Group::<Failed>::with_context(&Context::background());
        let second = Failed(Arc::new(Some(Goodbye::new(&goodbyes))));
        group.spawn(move || {
            // When the first has failed.
            ctx.done().recv().unwrap_err();
            current().cancel();
            Err(second)
        });
        group.spawn(|| Err(Failed(Arc::new(None))));
        assert!(group.wait().is_err_and(|first| first.0.is_none()));
    });
}

#[test]
fn of_jobs_of_a_pool_that_is_dropped() {
    for processors in [1, 2] {
        run_on(processors, || {
            let goodbyes = Goodbyes::default();
            let (pool, begun) = (WorkerPool::new(1, 4), Counter::default());
            for _ in 0..3 {
                let (goodbye, begun) = (Goodbye::new(&goodbyes), begun.clone());
                drop(pool.submit(move || {
                    let _goodbye = &goodbye;
                    begun.add();
                    park();
                }));
            }
            yield_until(|| begun.get() == 1);
            drop(pool);
            goodbyes.assert_whole(3);
        });
    }
}

#[test]
fn of_the_result_of_a_job_that_nobody_wants() {
    each(|goodbyes| {
        let pool = WorkerPool::new(1, 1);
        let goodbye = Goodbye::new(&goodbyes);
        drop(pool.submit(move || {
            current().cancel();
            goodbye
        }));
        yield_until(|| goodbyes.begun.get() == 1);
    });
}

#[test]
fn of_what_a_frame_inside_a_limit_owns() {
    each(|goodbyes| {
        let goodbye = Goodbye::new(&goodbyes);
        let limited = timeout(Duration::ZERO, || {
            let _goodbye = goodbye;
            park();
        });
        assert!(limited.is_err());
    });
}

#[test]
fn of_tasks_that_a_runtime_ends() {
    unless_it_hangs(|| {
        for processors in [1, 2] {
            let goodbyes = Goodbyes::default();
            let runtime = runtime(processors);
            let inner = goodbyes.clone();
            runtime.run(move || {
                // Some have started when it ends, others have not.
                for _ in 0..100 {
                    let goodbye = Goodbye::new(&inner);
                    drop(spawn(move || {
                        let _goodbye = goodbye;
                        park();
                    }));
                }
            });
            // Those that never start are not waited for, beyond the grace; they end with the machines.
            assert!(runtime.shutdown(Duration::from_secs(30)).is_clean());
            goodbyes.assert_whole(100);
        }
    });
}

#[test]
fn of_a_hook_that_is_told_of_a_panic() {
    unless_it_hangs(|| {
        let goodbyes = Goodbyes::default();
        let hook = {
            let goodbyes = goodbyes.clone();
            move |_: &greenloom::TaskPanic<'_>| drop(Goodbye::new(&goodbyes))
        };
        let runtime = Runtime::builder().processors(1).on_panic(hook).build().unwrap();
        runtime.run(move || {
            drop(spawn(|| {
                current().cancel();
                panic!("no luck");
            }));
            goodbyes.assert_whole(1);
        });
    });
}
