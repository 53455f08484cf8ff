//! `task_local!`: every task, and every plain thread, has its own value, whatever else its thread runs.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use greenloom::{park, spawn, task_local, yield_now};
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::waiting::{cancel_and_join, in_tasks, spawn_begun};
use test_support::{Counter, CountsDrop, run_on};

task_local! {
    static DEPTH: Cell<u32> = Cell::new(0);
    static WORDS: RefCell<Vec<u32>> = RefCell::new(vec![1]);
    /// Is made in the count of who looks first.
    static FIRST: u32 = DEPTH.replace(DEPTH.get() + 1);
    static HELD: RefCell<Vec<CountsDrop>> = RefCell::default();
    static LIMIT: u32 = 10;
    static USER: String;
}

// One to each.

#[test]
fn everyone_begins_with_the_first_value_and_keeps_their_own() {
    everywhere(|| {
        DEPTH.set(100);
        let party = |i: u32| {
            go(move || {
                assert_eq!(DEPTH.get(), 0, "is not inherited");
                for n in 0..20 {
                    DEPTH.set(DEPTH.get() + i);
                    if n % 3 == 0 {
                        yield_now();
                    }
                }
                breathe();
                DEPTH.get()
            })
        };
        assert_eq!(join_all((0..8).map(party).collect::<Vec<_>>()), (0..8).map(|i| i * 20).collect::<Vec<_>>());
        assert_eq!(DEPTH.get(), 100);
    });
}

#[test]
fn a_value_is_made_when_it_is_first_looked_at_and_once() {
    everywhere(|| {
        let party = |_| {
            go(|| {
                DEPTH.set(7);
                yield_now();
                assert_eq!(FIRST.with(|first| *first), 7);
                assert_eq!(FIRST.with(|first| *first), 7);
                DEPTH.get()
            })
        };
        assert_eq!(join_all((0..4).map(party).collect::<Vec<_>>()), [8; 4]);
    });
}

#[test]
fn a_reference_is_good_across_a_suspension() {
    everywhere(|| {
        let party = |i| {
            go(move || {
                WORDS.with(|words| {
                    words.borrow_mut().push(i);
                    let words = words.borrow();
                    (0..5).for_each(|_| yield_now());
                    words.clone()
                })
            })
        };
        for (i, words) in join_all((0..6).map(party).collect::<Vec<_>>()).into_iter().enumerate() {
            assert_eq!(words, [1, i as u32]);
        }
    });
}

#[test]
fn a_stack_that_is_used_again_begins_anew() {
    run_on(1, || {
        for _ in 0..100 {
            spawn(|| assert_eq!(DEPTH.replace(1), 0)).join().unwrap();
        }
    });
}

// Its end.

fn hold(counter: &Counter) {
    HELD.with(|held| held.borrow_mut().push(counter.on_drop()));
}

#[test]
fn a_value_goes_with_its_owner() {
    everywhere(|| {
        let counter = Counter::default();
        let party = {
            let counter = counter.clone();
            go(move || {
                hold(&counter);
                hold(&counter);
                yield_now();
                assert_eq!(counter.get(), 0);
            })
        };
        party.join();
        // A thread's goes after what its joiner waits for.
        test_support::yield_until(|| counter.get() == 2);
    });
}

#[test]
fn a_value_goes_before_the_join_returns_however_the_task_ended() {
    in_tasks(|| {
        let counter = Counter::default();
        let ended = {
            let counter = counter.clone();
            spawn(move || hold(&counter))
        };
        ended.join().unwrap();
        assert_eq!(counter.get(), 1);
        let panicked = {
            let counter = counter.clone();
            spawn(move || {
                hold(&counter);
                panic!("no");
            })
        };
        assert!(panicked.join().unwrap_err().is_panic());
        assert_eq!(counter.get(), 2);
        let cancelled = {
            let counter = counter.clone();
            spawn_begun(move || {
                hold(&counter);
                park();
            })
        };
        cancel_and_join(cancelled);
        assert_eq!(counter.get(), 3);
    });
}

// Scopes.

#[test]
fn a_scope_gives_a_value_for_a_while() {
    everywhere(|| {
        DEPTH.set(1);
        let result = DEPTH.scope(Cell::new(10), || {
            assert_eq!(DEPTH.get(), 10);
            yield_now();
            DEPTH.set(11);
            DEPTH.scope(Cell::new(20), || {
                yield_now();
                assert_eq!(DEPTH.get(), 20);
            });
            DEPTH.get()
        });
        assert_eq!((result, DEPTH.get()), (11, 1));
    });
}

#[test]
fn scopes_of_tasks_that_take_turns_do_not_mix() {
    everywhere(|| {
        fn nest(depth: u32, me: u32) {
            DEPTH.scope(Cell::new(me * 100 + depth), || {
                yield_now();
                if depth < 10 {
                    nest(depth + 1, me);
                }
                yield_now();
                assert_eq!(DEPTH.get(), me * 100 + depth);
            });
        }
        join_all((1..6).map(|me| go(move || nest(0, me))).collect::<Vec<_>>());
        assert_eq!(DEPTH.get(), 0);
    });
}

#[test]
fn a_panic_ends_a_scope() {
    everywhere(|| {
        DEPTH.set(1);
        let result = catch_unwind(AssertUnwindSafe(|| DEPTH.scope(Cell::new(2), || panic!("out of it"))));
        assert!(result.is_err());
        assert_eq!(DEPTH.get(), 1);
    });
}

#[test]
fn a_cancelled_task_drops_the_values_of_its_scopes() {
    in_tasks(|| {
        let counter = Counter::default();
        let task = {
            let (outer, inner) = (counter.on_drop(), counter.on_drop());
            spawn_begun(move || HELD.scope(RefCell::new(vec![outer]), || HELD.scope(RefCell::new(vec![inner]), park)))
        };
        cancel_and_join(task);
        assert_eq!(counter.get(), 2);
    });
}

#[test]
fn a_value_that_is_no_cell_can_be_set_and_copied_as_well() {
    everywhere(|| {
        assert_eq!(LIMIT.get(), 10);
        LIMIT.set(20);
        let party = go(|| LIMIT.get());
        assert_eq!((party.join(), LIMIT.get()), (10, 20));
        assert_eq!(LIMIT.scope(30, || LIMIT.get()), 30);
        assert_eq!(LIMIT.get(), 20);
    });
}

#[test]
fn a_key_without_a_first_value_has_one_in_its_scopes_only() {
    everywhere(|| {
        assert!(USER.try_with(|_| ()).is_err() && USER.try_get().is_err());
        assert!(catch_unwind(|| USER.with(String::len)).is_err());
        USER.scope("ada".into(), || {
            yield_now();
            let party = go(|| USER.try_with(String::clone).ok());
            assert_eq!(party.join(), None, "is not inherited");
            assert_eq!((USER.get(), USER.try_get()), ("ada".into(), Ok("ada".into())));
            assert_eq!(USER.scope("grace".into(), || USER.with(String::len)), 5);
            assert_eq!(USER.get(), "ada");
        });
        assert!(USER.try_with(|_| ()).is_err());
        USER.set("edsger".into());
        assert_eq!(USER.get(), "edsger");
    });
}

/// It keeps what it sees, also if the value is replaced meanwhile.
#[test]
fn who_is_inside_with_keeps_the_value() {
    everywhere(|| {
        LIMIT.set(1);
        LIMIT.with(|limit| {
            LIMIT.set(2);
            yield_now();
            assert_eq!((*limit, LIMIT.get()), (1, 2));
        });
    });
}

/// Both are on their way out; whichever is left may be used, and the other says that it has gone.
#[test]
fn a_destructor_may_look_at_other_values() {
    struct Looks(Counter);
    impl Drop for Looks {
        fn drop(&mut self) {
            assert!(LOOKS.try_with(|_| ()).is_err(), "it has gone itself");
            assert_eq!(DEPTH.get(), 3, "it was there first, and goes last");
            yield_now();
            self.0.add();
        }
    }
    task_local! { static LOOKS: Looks; }
    in_tasks(|| {
        let looked = Counter::default();
        let tasks = [0, 1].map(|_| {
            let looked = looked.clone();
            spawn(move || {
                DEPTH.set(3);
                LOOKS.set(Looks(looked));
            })
        });
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert_eq!(looked.get(), 2);
    });
}
