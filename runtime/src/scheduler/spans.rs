//! The feature `tracing`: each task has its own spans and its own default dispatcher.
//!
//! Subscribers keep a stack of entered spans for each *thread*; a new span's parent is on its top. Without this hook a task that is
//! suspended in a span leaves it there for the others, and two that overlap become each other's ancestors for good: the registry of
//! `tracing-subscriber` never closes them, and in the end overflows a stack.
//!
//! Where a task is switched away, its spans are exited, innermost first, and where it goes on they are entered again: what
//! `tracing`'s own `Instrumented` does around each poll of a future. What they are, the subscriber knows: the current span is exited
//! until there is none. So this works for guards and for `#[instrument]`, with each subscriber that knows its current span, and needs
//! no layer of ours.
//!
//! # Default dispatchers
//!
//! `set_default` swaps the thread's default with what its guard keeps, and the guard's end swaps back; an empty default (the process's own
//! is then used) is such a value, too. A task that has a default of its own thus has the thread's emptiness in its guard, and nothing here
//! could make the thread's default empty again: guards only move values. So that needs the guard of another thread, one of
//! [`SPARES`], which brings its emptiness with it; and when the task goes on, that is left in a new guard.

use std::cell::{Cell, RefCell};
use std::mem;
use std::ptr;

use tracing_core::dispatcher::{self, DefaultGuard, Dispatch};
use tracing_core::span::Id;

use crate::prim::{thread, thread_local};
use crate::scheduler::hooks::SwitchHook;
use crate::scheduler::task::Task;

/// So deep nobody nests spans: a subscriber whose current span does not change when it is exited must not hold the thread.
const DEEP: usize = 4096;

/// The hook.
pub(crate) struct Spans;

/// What a task has entered while it is switched away.
#[derive(Default)]
pub(crate) struct Entered {
    /// Innermost first, each with a reference of its own.
    spans: Vec<(Dispatch, Id)>,
    /// Whose end gives the thread the default that the task has set.
    default: Option<DefaultGuard>,
}

impl SwitchHook for Spans {
    type Slot = Entered;

    fn start(&self, _: &Task) -> Entered {
        Entered::default()
    }

    fn enter(&self, _: &Task, entered: &mut Entered) {
        if let Some(default) = entered.default.take() {
            give_back(default);
        }
        for (dispatch, id) in entered.spans.drain(..).rev() {
            dispatch.enter(&id);
            dispatch.try_close(id);
        }
    }

    fn leave(&self, _: &Task, entered: &mut Entered) {
        if !dispatcher::has_been_set() {
            return;
        }
        let place = place_of_default();
        // Those of the task's own default, then those of the process's.
        loop {
            let (dispatch, own) = dispatcher::get_default(|dispatch| (dispatch.clone(), ptr::eq(dispatch, place)));
            exit_all(&dispatch, &mut entered.spans);
            if !own {
                return;
            }
            entered.default = take_away();
            if entered.default.is_none() {
                return;
            }
        }
    }

    fn end(&self, _: &Task, mut entered: Entered) {
        // Of guards that were forgotten.
        for (dispatch, id) in mem::take(&mut entered.spans) {
            dispatch.try_close(id);
        }
        // Its end would give the task's default to the thread.
        mem::forget(entered.default.take());
    }
}

/// Exits what the thread has entered.
fn exit_all(dispatch: &Dispatch, spans: &mut Vec<(Dispatch, Id)>) {
    while spans.len() < DEEP
        && let Some(id) = dispatch.current_span().id()
    {
        // Whoever entered it may have given its own reference away.
        let id = dispatch.clone_span(id);
        dispatch.exit(&id);
        spans.push((dispatch.clone(), id));
    }
}

thread_local! {
    /// Where the thread keeps a default of its own; null if that is not known.
    static PLACE: Cell<*const Dispatch> = const { Cell::new(ptr::null()) };
    /// Guards that leave the thread without a default of its own.
    static SPARES: RefCell<Vec<DefaultGuard>> = const { RefCell::new(Vec::new()) };
}

/// Where the thread keeps a default of its own: what tells such a one from the process's.
fn place_of_default() -> *const Dispatch {
    if PLACE.get().is_null() && dispatcher::get_current(|_| ()).is_some() {
        let _guard = dispatcher::set_default(&Dispatch::none());
        PLACE.set(dispatcher::get_default(ptr::from_ref));
    }
    PLACE.get()
}

/// Takes the thread's own default away, so that the process's counts; for [`give_back`]. `None` if there is no thread to be had.
fn take_away() -> Option<DefaultGuard> {
    let spare = SPARES.with_borrow_mut(Vec::pop);
    let empty = spare.or_else(|| thread::elsewhere(|| dispatcher::set_default(&Dispatch::none())))?;
    let default = dispatcher::set_default(&Dispatch::none());
    drop(empty);
    Some(default)
}

/// Gives the thread, which has none, a default of its own.
fn give_back(default: DefaultGuard) {
    let empty = dispatcher::set_default(&Dispatch::none());
    SPARES.with_borrow_mut(|spares| spares.push(empty));
    drop(default);
}
