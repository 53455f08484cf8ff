//! Scopes and groups: the last of the tasks that somebody answers for, against whoever waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::common::{Data as Frame, model};
use greenloom::group::Group;
use greenloom::{Runtime, park, scope, yield_now};
use loom::sync::Arc;

fn runtime() -> Runtime {
    Runtime::builder().processors(1).build().unwrap()
}

/// Borrows the frame to its end.
struct AddsOnDrop<'a>(&'a Frame);

impl Drop for AddsOnDrop<'_> {
    fn drop(&mut self) {
        self.0.add();
    }
}

#[test]
fn the_last_of_two_children_meets_a_thread_that_waits() {
    model(3, || {
        let runtime = runtime();
        let frame = Frame::new();
        runtime.scope(|s| {
            s.spawn(|| s.spawn(|| frame.add()));
        });
        assert_eq!(frame.get(), 1);
    });
}

#[test]
fn the_handle_of_a_result_that_borrows_goes_while_its_child_ends() {
    model(3, || {
        let runtime = runtime();
        let frame = Frame::new();
        runtime.scope(|s| drop(s.spawn(|| AddsOnDrop(&frame))));
        assert_eq!(frame.get(), 1);
    });
}

/// It never runs; its closure borrows to its end.
#[test]
fn the_closure_of_a_child_that_is_cancelled_fresh_goes_before_the_scope_returns() {
    model(2, || {
        let runtime = runtime();
        let frame = Frame::new();
        runtime.scope(|s| {
            let end = AddsOnDrop(&frame);
            s.spawn(move || drop(end)).cancel();
        });
        assert_eq!(frame.get(), 1);
    });
}

#[test]
fn a_body_that_unwinds_cancels_its_child_and_waits_for_it() {
    model(2, || {
        let runtime = runtime();
        let frame = Frame::new();
        let unwound = catch_unwind(AssertUnwindSafe(|| {
            runtime.scope(|s| {
                let end = AddsOnDrop(&frame);
                s.spawn(move || {
                    let _end = end;
                    park();
                });
                // Without the hook, by which a model fails.
                resume_unwind(Box::new("the body"));
            })
        }));
        assert!(unwound.is_err());
        assert_eq!(frame.get(), 1);
    });
}

#[test]
fn a_caller_that_is_cancelled_waits_for_its_child() {
    model(2, || {
        let runtime = runtime();
        let task = runtime.spawn(|| {
            let frame = Frame::new();
            scope(|s| {
                s.spawn(|| {
                    let _end = AddsOnDrop(&frame);
                    yield_now();
                });
            });
            assert!(frame.get() == 1, "the child ended before the scope");
        });
        task.cancel();
        assert!(task.join().map_or_else(|error| error.is_cancelled(), |()| true));
    });
}

#[test]
fn the_last_child_on_another_machine_meets_a_task_that_is_cancelled_while_it_waits() {
    model(1, || {
        let (waits, works) = (runtime(), runtime());
        let task = waits.spawn(move || {
            let frame = Frame::new();
            works.scope(|s| {
                let end = AddsOnDrop(&frame);
                s.spawn(move || drop(end));
            });
            // Not by a drop in the middle of the model: the end of a runtime is another one's affair.
            (frame.get(), works)
        });
        task.cancel();
        match task.join() {
            Ok((count, works)) => {
                assert_eq!(count, 1);
                drop(works);
            }
            Err(error) => assert!(error.is_cancelled()),
        }
    });
}

#[test]
fn the_last_member_of_a_group_meets_a_thread_that_waits() {
    model(2, || {
        let runtime = runtime();
        let frame = Arc::new(Frame::new());
        let group = runtime.run({
            let frame = frame.clone();
            || {
                let group = Group::new();
                group.spawn(move || {
                    frame.add();
                    Err(7)
                });
                group
            }
        });
        assert_eq!(group.wait(), Err(7));
        assert_eq!(frame.get(), 1);
    });
}
