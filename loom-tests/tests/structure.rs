//! Scopes and groups: the last of the tasks that somebody answers for, against whoever waits for it.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use common::model;
use greenloom::group::Group;
use greenloom::{Runtime, park, scope, yield_now};
use loom::cell::UnsafeCell;

fn runtime() -> Runtime {
    Runtime::builder().processors(1).build().unwrap()
}

/// Borrowed by children, and watched by loom: an access that is not ordered before the next one of the owner fails the model.
struct Frame(UnsafeCell<u32>);

// SAFETY: loom reports what is not ordered.
unsafe impl Sync for Frame {}

impl Frame {
    fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    fn add(&self) {
        // SAFETY: loom's cell; see above.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    fn get(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|value| unsafe { *value })
    }
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
        let group = runtime.run(|| {
            let group = Group::new();
            group.spawn(|| Err(7));
            group
        });
        assert_eq!(group.wait(), Err(7));
    });
}
