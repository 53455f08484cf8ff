//! Limits, `uncancellable`, `no_suspend` and task-locals' scopes, in the coroutines of another crate: those that nest are fine, and those
//! that do not end the process before anything is undefined.

use std::cell::RefCell;
use std::mem::forget;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::time::Duration;

use corosensei::stack::Stack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use greenloom::context::Context;
use greenloom::time::timeout;
use greenloom::{no_suspend, spawn, spawn_local, uncancellable};
use test_support::{in_child, run_on, unless_it_hangs};

const LONG: Duration = Duration::from_secs(3600);

greenloom::task_local! { static NAME: &'static str = "nobody"; }

/// A coroutine's stack.
struct Memory(Vec<u128>);

// SAFETY: the tests go nowhere near its end, and a vector's memory stays where it is.
unsafe impl Stack for Memory {
    fn base(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.as_ptr_range().end.addr()).unwrap()
    }

    fn limit(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.as_ptr().addr()).unwrap()
    }
}

type Routine = Coroutine<(), (), (), Memory>;

fn routine(f: impl FnOnce(&Yielder<(), ()>) + 'static) -> Routine {
    Coroutine::with_stack(Memory(vec![0; 1 << 13]), move |yielder, ()| f(yielder))
}

/// A kind of section, around a function.
type Section = fn(&mut dyn FnMut());

/// A coroutine that is suspended inside a section of its own.
fn suspended_inside(section: Section) -> Routine {
    let mut routine = routine(move |yielder| section(&mut || yielder.suspend(())));
    assert!(matches!(routine.resume(()), CoroutineResult::Yield(())));
    routine
}

fn in_limit(f: &mut dyn FnMut()) {
    timeout(LONG, f).unwrap();
}

fn in_context(f: &mut dyn FnMut()) {
    let (ctx, _canceller) = Context::background().with_cancel();
    ctx.run_until_done(f).unwrap();
}

fn in_uncancellable(f: &mut dyn FnMut()) {
    uncancellable(f);
}

fn in_no_suspend(f: &mut dyn FnMut()) {
    no_suspend(f);
}

fn in_scope(f: &mut dyn FnMut()) {
    NAME.scope("somebody", f);
}

const SECTIONS: [Section; 5] = [in_limit, in_context, in_uncancellable, in_no_suspend, in_scope];

#[test]
fn coroutines_that_leave_what_they_enter_are_fine() {
    fn nested() {
        for inner in SECTIONS {
            for outer in SECTIONS {
                let mut routine = routine(move |yielder| {
                    for _ in 0..3 {
                        inner(&mut || in_limit(&mut || ()));
                        yielder.suspend(());
                    }
                });
                outer(&mut || _ = routine.resume(()));
                in_limit(&mut || outer(&mut || _ = routine.resume(())));
                routine.resume(());
                assert!(matches!(routine.resume(()), CoroutineResult::Return(())));
            }
        }
        assert_eq!(NAME.get(), "nobody");
    }
    run_on(1, nested);
    unless_it_hangs(nested);
}

#[test]
fn coroutines_may_be_suspended_inside_a_section_that_ends_as_it_began() {
    run_on(1, || {
        for section in SECTIONS {
            let mut routine = suspended_inside(section);
            SECTIONS.iter().for_each(|section| section(&mut || ()));
            assert!(matches!(routine.resume(()), CoroutineResult::Return(())));
        }
        assert_eq!(NAME.get(), "nobody");
    });
}

/// The process ends, and says who did what.
#[track_caller]
fn aborts(test: &str, said: [&str; 2], body: impl FnOnce()) {
    let child = in_child!(test, body);
    child.assert_aborted();
    said.iter().for_each(|said| child.assert_said(said));
    child.assert_said("A coroutine of another crate must not be suspended inside");
}

const OUT_OF_ORDER: &str = "has ended before what began inside it, or elsewhere than it began";

macro_rules! each_kind {
    ($($kind:ident: $section:ident, $name:literal;)*) => {$(
        mod $kind {
            use super::*;

            #[test]
            fn left_behind_by_its_task_ends_the_process() {
                let test = concat!(stringify!($kind), "::left_behind_by_its_task_ends_the_process");
                aborts(test, ["it has ended, but a coroutine that it has left behind is inside", $name], || {
                    run_on(1, || spawn(|| forget(suspended_inside($section))).join().unwrap());
                });
            }

            #[test]
            fn that_ends_before_one_inside_ends_the_process() {
                let test = concat!(stringify!($kind), "::that_ends_before_one_inside_ends_the_process");
                aborts(test, [OUT_OF_ORDER, $name], || {
                    run_on(1, || {
                        let mut first = suspended_inside($section);
                        let second = suspended_inside(in_limit);
                        first.resume(());
                        forget(second);
                    });
                });
            }
        }
    )*};
}

each_kind! {
    a_limit: in_limit, "a limit (`timeout` or `Context::run_until_done`)";
    a_context: in_context, "a limit (`timeout` or `Context::run_until_done`)";
    an_uncancellable_section: in_uncancellable, "`uncancellable`";
    a_section_without_suspension: in_no_suspend, "`no_suspend`";
    a_scope_of_a_task_local: in_scope, "the `scope` of a task-local";
}

/// (One that is suspended inside `no_suspend` keeps its task from waiting for another.)
macro_rules! each_that_waits {
    ($($test:ident: $section:ident, $name:literal;)*) => {$(
        #[test]
        fn $test() {
            aborts(stringify!($test), [OUT_OF_ORDER, $name], || {
                run_on(1, || {
                    let routine = Rc::new(RefCell::new(suspended_inside($section)));
                    spawn_local(move || _ = routine.borrow_mut().resume(())).join().unwrap();
                });
            });
        }
    )*};
}

each_that_waits! {
    a_limit_that_ends_in_another_task_ends_the_process: in_limit, "a limit (`timeout` or `Context::run_until_done`)";
    a_context_that_ends_in_another_task_ends_the_process: in_context, "a limit (`timeout` or `Context::run_until_done`)";
    uncancellable_that_ends_in_another_task_ends_the_process: in_uncancellable, "`uncancellable`";
    a_scope_that_ends_in_another_task_ends_the_process: in_scope, "the `scope` of a task-local";
}

#[test]
fn a_limit_of_a_plain_thread_that_ends_before_one_inside_ends_the_process() {
    let test = "a_limit_of_a_plain_thread_that_ends_before_one_inside_ends_the_process";
    aborts(test, [OUT_OF_ORDER, "a limit (`timeout` or `Context::run_until_done`)"], || {
        let mut first = suspended_inside(in_limit);
        let second = suspended_inside(in_limit);
        first.resume(());
        forget(second);
    });
}
