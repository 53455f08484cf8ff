//! How values of `task_local!` live and end.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenloom::{JoinHandle, channel, spawn, task_local, yield_now};
use test_support::{Counter, CountsDrop, run_on};

task_local! {
    static COUNT: Cell<u32> = Cell::new(0);
    static LOG: RefCell<Vec<&'static str>> = RefCell::default();
    static SHARED: Rc<u32> = Rc::new(7);
    static USER: String;
    static PLAIN: u32 = const { 5 };
}

#[test]
fn each_task_has_its_own_also_across_suspensions() {
    run_on(1, || {
        let tasks: Vec<_> = (0..10)
            .map(|i| {
                spawn(move || {
                    for _ in 0..i {
                        COUNT.set(COUNT.get() + 1);
                        LOG.with_borrow_mut(|log| log.push("step"));
                        yield_now();
                    }
                    (COUNT.get(), LOG.take().len(), *SHARED.get())
                })
            })
            .collect();
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.join().unwrap(), (i as u32, i, 7));
        }
        assert_eq!(COUNT.get(), 0);
    });
}

#[test]
fn a_thread_has_its_own_too() {
    COUNT.set(3);
    assert_eq!(std::thread::spawn(|| COUNT.replace(1) + PLAIN.get()).join().unwrap(), 5);
    assert_eq!(run_on(1, || COUNT.get()), 0);
    assert_eq!(COUNT.take(), 3);
}

#[test]
fn scopes_nest_and_end_with_an_unwinding() {
    run_on(1, || {
        assert!(USER.try_with(|_| ()).is_err());
        USER.scope("outer".into(), || {
            let caught = catch_unwind(AssertUnwindSafe(|| {
                USER.scope("inner".into(), || {
                    yield_now();
                    assert_eq!(USER.get(), "inner");
                    panic!("out");
                })
            }));
            assert!(caught.is_err());
            assert_eq!(USER.get(), "outer");
            assert!(spawn(|| USER.try_with(|_| ()).is_err()).join().unwrap());
        });
        let without = catch_unwind(|| USER.get()).unwrap_err();
        let message = without.downcast_ref::<String>().unwrap();
        assert_eq!(message, "cannot use `USER`: a task-local without an initialiser has no value outside of `scope`");
    });
}

#[test]
fn a_value_that_is_replaced_while_it_is_used_lives_on() {
    run_on(1, || {
        USER.set("first".into());
        USER.with(|user| {
            USER.set("second".into());
            assert_eq!((user.as_str(), USER.get().as_str()), ("first", "second"));
        });
    });
}

/// Says where it is dropped.
struct Tells(&'static str, Arc<AtomicUsize>, Rc<RefCell<Vec<&'static str>>>);

impl Drop for Tells {
    fn drop(&mut self) {
        yield_now();
        self.1.fetch_add(1, Ordering::Relaxed);
        self.2.borrow_mut().push(self.0);
        // Gone, and others are not.
        match self.0 {
            "second" => {
                assert!(SECOND.try_with(|_| ()).is_err());
                FIRST.with(|first| assert_eq!(first.borrow().as_ref().unwrap().0, "first"));
            }
            "panics" => panic!("a destructor's own"),
            _ => {
                LATE.with(|late| late.1.fetch_add(1, Ordering::Relaxed));
            }
        }
    }
}

thread_local! {
    static DROPS: Arc<AtomicUsize> = Arc::default();
}

task_local! {
    static FIRST: RefCell<Option<Tells>> = RefCell::default();
    static SECOND: RefCell<Option<Tells>> = RefCell::default();
    static THIRD: RefCell<Option<Tells>> = RefCell::default();
    static LATE: (u8, Arc<AtomicUsize>) = (0, DROPS.with(Arc::clone));
}

#[test]
fn values_are_dropped_once_newest_first_before_the_join() {
    run_on(1, || {
        let drops = Arc::new(AtomicUsize::new(0));
        let task = greenloom::spawn_local({
            let drops = drops.clone();
            move || {
                let order = Rc::new(RefCell::new(Vec::new()));
                FIRST.set(Some(Tells("first", drops.clone(), order.clone())));
                SECOND.set(Some(Tells("second", drops.clone(), order.clone())));
                THIRD.set(Some(Tells("panics", drops, order.clone())));
                order
            }
        });
        let order = task.join().unwrap();
        assert_eq!(*order.borrow(), ["panics", "second", "first"]);
        assert_eq!(drops.load(Ordering::Relaxed), 3);
        assert_eq!(DROPS.with(|drops| drops.load(Ordering::Relaxed)), 1, "made by a destructor");
    });
}

#[test]
fn values_of_a_cancelled_task_are_dropped() {
    static HOLDS: AtomicUsize = AtomicUsize::new(0);
    run_on(1, || {
        let value = Arc::new(());
        let task = spawn({
            let value = value.clone();
            move || {
                task_local! { static HELD: Option<Arc<()>> = None; }
                HELD.set(Some(value));
                HOLDS.fetch_add(1, Ordering::Relaxed);
                greenloom::park();
            }
        });
        while HOLDS.load(Ordering::Relaxed) == 0 {
            yield_now();
        }
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(Arc::strong_count(&value), 1);
    });
}

/// A result that uses a task-local when it is dropped.
struct Counts(Arc<AtomicUsize>);

impl Drop for Counts {
    fn drop(&mut self) {
        COUNT.set(COUNT.get() + 1);
        self.0.fetch_add(COUNT.get() as usize, Ordering::Relaxed);
    }
}

#[test]
fn the_result_of_a_detached_task_is_dropped_before_its_values() {
    run_on(1, || {
        let seen = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let before = seen.load(Ordering::Relaxed);
            let counts = Counts(seen.clone());
            drop(spawn(move || {
                COUNT.set(COUNT.get() + 10);
                counts
            }));
            test_support::yield_until(|| seen.load(Ordering::Relaxed) > before);
            assert_eq!(seen.load(Ordering::Relaxed), before + 11, "of this task alone, and still there");
        }
    });
}

/// Its destructor makes a value of the task that it is dropped in, and counts.
struct Makes(Option<CountsDrop>, Counter);

impl Drop for Makes {
    fn drop(&mut self) {
        MADE.set(self.0.take());
        self.1.add();
    }
}

task_local! {
    static MADE: Option<CountsDrop> = None;
    static OWN_HANDLE: RefCell<Option<JoinHandle<Makes>>> = RefCell::default();
}

/// The handle is there when the task looks whether somebody wants its result, and gone when it is complete.
#[test]
fn what_a_result_makes_is_dropped_also_where_the_handle_goes_with_a_value_of_its_own_task() {
    run_on(1, || {
        let (made, ended) = (Counter::default(), Counter::default());
        let (give, take) = channel::bounded(1);
        let makes = Makes(Some(made.on_drop()), ended.clone());
        let task = spawn(move || {
            OWN_HANDLE.set(take.recv().ok());
            makes
        });
        give.send(task).unwrap();
        test_support::yield_until(|| ended.get() == 1);
        assert_eq!(made.get(), 1);
    });
}

/// The first makes the second when it is dropped, the second the third, and panics.
struct Link(u8, Counter);

impl Drop for Link {
    fn drop(&mut self) {
        let next = Some(Link(self.0 + 1, self.1.clone()));
        self.1.add();
        match self.0 {
            1 => SECOND_LINK.set(next),
            2 => {
                THIRD_LINK.set(next);
                panic!("a destructor's own");
            }
            _ => std::mem::forget(next),
        }
    }
}

task_local! {
    static FIRST_LINK: Option<Link> = None;
    static SECOND_LINK: Option<Link> = None;
    static THIRD_LINK: Option<Link> = None;
}

#[test]
fn what_destructors_make_is_dropped_however_long_that_goes_on_and_their_panics_are_their_own() {
    run_on(1, || {
        let dropped = Counter::default();
        let link = Link(1, dropped.clone());
        spawn(move || FIRST_LINK.set(Some(link))).join().unwrap();
        assert_eq!(dropped.get(), 3);
    });
}
