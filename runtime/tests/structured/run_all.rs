//! Services that end together.

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};

use greenloom::channel::Receiver;
use greenloom::group::run_all;
use greenloom::{current, park};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};
use test_support::{Counter, OnDrop, run_on};

#[derive(Debug, PartialEq)]
struct Oops(u32);

/// The panic that `f` ends with.
#[track_caller]
fn caught(f: impl FnOnce()) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it did not panic");
    payload.downcast_ref::<&'static str>().copied().expect("a message")
}

type Service<'a> = Box<dyn FnOnce(Receiver<()>) -> Result<(), Oops> + Send + 'a>;

#[test]
fn the_first_service_to_return_stops_the_others_and_all_results_are_kept_in_order() {
    in_tasks(|| {
        for first in 0..3 {
            let stopped = Counter::default();
            let services = (0..3).map(|i| -> Service<'_> {
                let stopped = &stopped;
                Box::new(move |stop| {
                    if i == first {
                        let_others_run();
                        return Err(Oops(i));
                    }
                    assert!(stop.recv().is_err());
                    let_others_run();
                    stopped.add();
                    if i == 2 { Ok(()) } else { Err(Oops(10 + i)) }
                })
            });
            let results = run_all(services);
            assert_eq!(stopped.get(), 2);
            let expected = (0..3).map(|i| match i {
                _ if i == first => Err(Oops(i)),
                2 => Ok(()),
                _ => Err(Oops(10 + i)),
            });
            assert!(results.into_iter().eq(expected));
        }
    });
}

#[test]
fn a_service_that_ends_well_stops_the_others_too() {
    in_tasks(|| {
        let ends: Service<'_> = Box::new(|_| Ok(()));
        let serves: Service<'_> = Box::new(|stop| {
            let _ = stop.recv();
            Ok(())
        });
        assert_eq!(run_all([serves, ends]), [Ok(()), Ok(())]);
    });
}

#[test]
fn a_service_that_panics_stops_the_others_and_its_panic_is_raised_when_they_have() {
    in_tasks(|| {
        let stopped = Counter::default();
        let fails: Service<'_> = Box::new(|_| panic_any("a service"));
        let serves: Service<'_> = Box::new(|stop| {
            let _ = stop.recv();
            let_others_run();
            stopped.add();
            Ok(())
        });
        assert_eq!(caught(|| drop(run_all([fails, serves]))), "a service");
        assert_eq!(stopped.get(), 1);
    });
}

#[test]
fn an_iterator_that_panics_half_way_cancels_the_services_that_it_has_given() {
    in_tasks(|| {
        let services = (0..3).map(|i| {
            if i == 2 {
                panic_any("the iterator");
            }
            |stop: Receiver<()>| -> Result<(), Oops> {
                let _ = stop.recv();
                Ok(())
            }
        });
        assert_eq!(caught(|| drop(run_all(services))), "the iterator");
    });
}

#[test]
#[should_panic(expected = "outside a runtime")]
fn outside_a_runtime_services_are_refused() {
    run_all([|_: Receiver<()>| Ok::<(), Oops>(())]);
}

#[test]
fn no_services_have_no_results() {
    run_on(1, || assert!(run_all(Vec::<Service<'_>>::new()).is_empty()));
}

#[test]
fn a_cancelled_caller_cancels_its_services_and_waits_for_them() {
    in_tasks(|| {
        let unwound = Counter::default();
        let task = spawn_begun({
            let unwound = unwound.clone();
            move || {
                let services = (0..3).map(|_| {
                    |_stop: Receiver<()>| -> Result<(), Oops> {
                        let _end = OnDrop::new(|| {
                            let_others_run();
                            unwound.add();
                        });
                        park();
                        unreachable!()
                    }
                });
                run_all(services)
            }
        });
        (0..100).for_each(|_| let_others_run());
        cancel_and_join(task);
        // Those that had not begun never did.
        assert!(unwound.get() <= 3);
        let after = unwound.get();
        let_others_run();
        assert_eq!(unwound.get(), after);
    });
}

#[test]
fn services_are_spawned_where_run_all_is_called() {
    in_tasks(|| {
        let service = |_stop: Receiver<()>| match current().spawned_at() {
            Some(site) => Err((site.file(), site.line())),
            None => Ok(()),
        };
        let (sites, line) = (run_all([service, service]), line!());
        assert_eq!(sites, [Err((file!(), line)); 2]);
    });
}
