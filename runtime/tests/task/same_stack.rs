//! What a task leaves on its stack for the next: nothing, however it ends.
//!
//! One processor throughout, where the stack of the task that has just ended is the next to be used.

use std::cell::RefCell;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::Arc;
use std::time::Duration;

use greenloom::context::Context;
use greenloom::sync::Mutex;
use greenloom::task::Builder;
use greenloom::time::timeout;
use greenloom::{
    JoinHandle, Runtime, checkpoint, current, no_suspend, park, park_timeout, sleep, spawn, spawn_local, task_local, testing,
    uncancellable, yield_now,
};
use test_support::{Counter, CountsDrop, OnDrop, Slot, in_child, run_on, yield_until};

task_local! {
    static VALUES: RefCell<Vec<CountsDrop>> = RefCell::default();
    static WORD: &'static str;
}

/// Where on its stack the caller is, about.
#[inline(never)]
fn here() -> usize {
    let local = 0_u8;
    (&raw const local).addr()
}

/// The least that lies between two stacks is far more than between two calls.
fn is_same_stack(a: usize, b: usize) -> bool {
    a.abs_diff(b) < 32 * 1024
}

/// A task that ends in an odd way. It says where its stack is; whoever is given the task sees to its end.
type Odd = fn(Slot<usize>) -> Box<dyn FnOnce()>;

fn joins<T: 'static>(task: JoinHandle<T>) -> Box<dyn FnOnce()> {
    Box::new(move || drop(task.join()))
}

/// Lets the task begin, which waits, and then cancels it.
fn cancels<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> Box<dyn FnOnce()> {
    let task = spawn(body);
    Box::new(move || {
        yield_now();
        task.cancel();
        drop(task.join());
    })
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic_any("a bomb");
    }
}

/// Uses a task-local when it is dropped, as the value of another one, say, or as a result that nobody wants.
struct UsesValues(CountsDrop);

impl Drop for UsesValues {
    fn drop(&mut self) {
        let counter = Counter::default();
        VALUES.with_borrow_mut(|values| values.push(std::mem::replace(&mut self.0, counter.on_drop())));
    }
}

const ENDS: &[(&str, Odd)] = &[
    ("returns", |at| joins(spawn(move || at.put(here())))),
    ("has a name", |at| joins(Builder::new().name("the one before").spawn(move || at.put(here())).unwrap())),
    ("panics", |at| {
        joins(spawn(move || {
            at.put(here());
            panic!("odd")
        }))
    }),
    ("panics with what panics, and nobody joins it", |at| {
        drop(spawn(move || {
            at.put(here());
            panic_any(Bomb)
        }));
        Box::new(|| (0..3).for_each(|_| yield_now()))
    }),
    ("returns what panics, and nobody joins it", |at| {
        drop(spawn(move || {
            at.put(here());
            Bomb
        }));
        Box::new(|| (0..3).for_each(|_| yield_now()))
    }),
    ("panics inside everything", |at| {
        joins(spawn(move || {
            at.put(here());
            let (context, _canceller) = Context::background().with_cancel();
            WORD.scope("inner", || {
                context.run_until_done(|| {
                    uncancellable(|| {
                        timeout(Duration::from_secs(3600), || no_suspend(|| no_suspend(|| panic!("deep inside")))).unwrap()
                    })
                })
            })
            .unwrap();
        }))
    }),
    ("is cancelled fresh", |at| {
        let odd = OnDrop::new(move || at.put(here()));
        let task = spawn(move || drop(odd));
        task.cancel();
        joins(task)
    }),
    ("is cancelled while it parks", |at| {
        cancels(move || {
            at.put(here());
            park();
        })
    }),
    ("is cancelled inside limits, and keeps what it caught", |at| {
        cancels(move || {
            at.put(here());
            let _ = catch_unwind(AssertUnwindSafe(|| timeout(Duration::from_secs(3600), || sleep(Duration::from_secs(1800)))))
                .map_err(forget);
        })
    }),
    ("leaves what it caught to others", |at| {
        let kept = Slot::new();
        let keeps = kept.clone();
        let task = spawn(move || {
            at.put(here());
            keeps.put(catch_unwind(park).unwrap_err());
        });
        Box::new(move || {
            yield_now();
            task.cancel();
            drop(task.join());
            forget(kept.take());
        })
    }),
    ("swallows its cancellation all its life", |at| {
        joins(spawn(move || {
            at.put(here());
            current().cancel();
            for _ in 0..10 {
                let _ = catch_unwind(yield_now);
            }
        }))
    }),
    ("swallows the end of its time", |at| {
        joins(spawn(move || {
            at.put(here());
            let _ = timeout(Duration::ZERO, || catch_unwind(yield_now).map_err(forget));
        }))
    }),
    ("ends as its time is up and its end is due", |at| {
        joins(spawn(move || {
            at.put(here());
            let _ = timeout(Duration::ZERO, || {
                current().cancel();
                uncancellable(|| sleep(Duration::from_micros(50)));
            });
        }))
    }),
    ("has a token left", |at| {
        joins(spawn(move || {
            at.put(here());
            current().unpark();
        }))
    }),
    ("panics in a destructor that had suspended", |at| {
        joins(spawn(move || {
            let _last = OnDrop::new(|| {
                at.put(here());
                yield_now();
            });
            panic!("odd");
        }))
    }),
    ("has values whose destructors panic", |at| {
        task_local! { static BOMB: RefCell<Option<Bomb>> = RefCell::new(None); }
        joins(spawn(move || {
            at.put(here());
            BOMB.set(Some(Bomb));
            VALUES.with_borrow_mut(|values| values.push(Counter::default().on_drop()));
        }))
    }),
    ("is local and cancelled", |at| {
        let task = spawn_local(move || {
            at.put(here());
            park();
        });
        Box::new(move || {
            yield_now();
            task.cancel();
            drop(task.join());
        })
    }),
];

/// Whether a lock that is held by who ends so is poisoned.
fn poisons(ends: impl FnOnce()) -> bool {
    let mutex = Mutex::new(());
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let _held = mutex.lock();
        ends();
    }));
    mutex.is_poisoned()
}

/// Finds nothing of another task.
fn finds_all_clean() {
    assert_eq!(current().name(), None);
    assert!(WORD.try_with(|_| ()).is_err(), "a value");
    assert_eq!(VALUES.with_borrow(Vec::len), 0, "values");
    // Nothing ends it early.
    checkpoint();
    yield_now();
    sleep(Duration::from_micros(50));
    // No token was left: only time ends this.
    let began = std::time::Instant::now();
    park_timeout(Duration::from_millis(1));
    assert!(began.elapsed() >= Duration::from_millis(1), "a token");
    // What is to end it does.
    assert!(timeout(Duration::ZERO, yield_now).is_err(), "limits do not end it");
    assert_eq!(timeout(Duration::from_secs(3600), || 5), Ok(5));
    assert!(poisons(|| panic!("it is no cancellation")), "a panic does not poison");
    assert!(!poisons(|| ()));
    current().cancel();
    assert!(!poisons(yield_now), "a cancellation poisons");
    let ended = catch_unwind(yield_now);
    assert!(ended.is_err(), "a cancellation does not end it");
}

#[test]
fn the_next_task_finds_nothing_of_one_that_ended_oddly() {
    run_on(1, || {
        for (name, odd) in ENDS {
            let at = Slot::new();
            odd(at.clone())();
            let before = at.take().unwrap();
            let next = spawn(move || {
                assert!(is_same_stack(before, here()), "it is on another stack: this shows nothing");
                finds_all_clean();
            });
            next.join().unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    });
}

#[test]
fn what_a_task_has_swallowed_is_not_counted_against_the_next() {
    let child = in_child!("what_a_task_has_swallowed_is_not_counted_against_the_next", || {
        fn swallows(times: usize) -> impl FnOnce() -> usize {
            move || {
                current().cancel();
                (0..times).for_each(|_| assert!(catch_unwind(yield_now).is_err()));
                here()
            }
        }
        run_on(1, || {
            let before = spawn(swallows(990)).join().unwrap();
            let patient = Builder::new().name("patient").spawn(swallows(990)).unwrap();
            assert!(is_same_stack(before, patient.join().unwrap()));
            // One that was named does not keep the next from it.
            for name in ["first", "second"] {
                Builder::new().name(name).spawn(swallows(1000)).unwrap().join().unwrap();
            }
        });
    });
    child.assert_success();
    for (name, times) in [("'patient'", 0), ("'first'", 1), ("'second'", 1)] {
        assert_eq!(child.stderr.matches(name).count(), times, "{name}: {}", child.stderr);
    }
}

/// A task whose handle goes at the last moment, by a destructor of its own values, drops its result itself; what that leaves goes too.
#[test]
fn values_that_a_last_destructor_makes_are_dropped_and_not_inherited() {
    type Last = Option<OnDrop<Box<dyn FnOnce()>>>;
    task_local! { static LAST: RefCell<Last> = RefCell::new(None); }
    run_on(1, || {
        let (dropped, at, handle) = (Counter::default(), Slot::new(), Slot::<JoinHandle<UsesValues>>::new());
        let task = spawn({
            let (result, at, handle) = (UsesValues(dropped.on_drop()), at.clone(), handle.clone());
            move || {
                at.put(here());
                let detach: Box<dyn FnOnce()> = Box::new(move || drop(handle.take().unwrap()));
                LAST.set(Some(OnDrop::new(detach)));
                result
            }
        });
        handle.put(task);
        yield_until(|| dropped.get() == 1);
        let before = at.take().unwrap();
        spawn(move || {
            assert!(is_same_stack(before, here()));
            finds_all_clean();
        })
        .join()
        .unwrap();
    });
}

/// std knows only that the thread unwinds. A task on the stack of one that did, and has ended, is not taken for it.
#[test]
fn a_task_on_the_stack_of_one_that_unwound_is_not_said_to_unwind() {
    run_on(1, || {
        let unwinds = |releases: Arc<Counter>, at: Slot<usize>| {
            spawn(move || {
                let _waits = OnDrop::new(move || {
                    at.put(here());
                    yield_until(|| releases.get() == 1);
                });
                panic!("unwinds");
            })
        };
        let releases = [(); 2].map(|()| Arc::new(Counter::default()));
        let (first_at, second_at) = (Slot::new(), Slot::new());
        let first = unwinds(releases[0].clone(), first_at.clone());
        let before = first_at.wait();
        let second = unwinds(releases[1].clone(), second_at.clone());
        second_at.wait();
        releases[0].add();
        assert!(first.join().unwrap_err().is_panic());
        let mutex = Arc::new(Mutex::new(()));
        let next = spawn({
            let mutex = mutex.clone();
            move || {
                assert!(is_same_stack(before, here()));
                let held = mutex.lock();
                yield_now();
                drop(held);
            }
        });
        next.join().unwrap();
        assert!(!mutex.is_poisoned(), "by one to which nothing has happened");
        releases[1].add();
        assert!(second.join().unwrap_err().is_panic());
    });
}

#[test]
fn a_task_without_a_name_is_not_reported_under_that_of_the_last() {
    let leaked = catch_unwind(|| {
        let builder = Runtime::builder().processors(1).max_machines(1);
        testing::run_in(builder, || {
            let named = Builder::new().name("the last").spawn(here).unwrap().join().unwrap();
            let stack = Slot::new();
            drop(spawn({
                let stack = stack.clone();
                move || {
                    stack.put(here());
                    park();
                }
            }));
            yield_now();
            assert!(is_same_stack(named, stack.take().unwrap()));
        });
    });
    let message = *leaked.unwrap_err().downcast::<String>().unwrap();
    assert!(message.starts_with("leaked tasks: 1") && !message.contains("the last"), "{message}");
}
