//! The feature `tracing`: each task has its own spans and its own default dispatcher.
//!
//! Subscribers keep a stack of entered spans for each *thread*, and a new span's parent is at its
//! top. Without this hook, a task that is suspended in a span leaves the span there for the others.
//! Two spans that overlap become each other's ancestors for good: the registry of
//! `tracing-subscriber` never closes them, and in the end overflows a stack.
//!
//! When a task is switched out, its spans are exited, innermost first. When the task goes on, they
//! are entered again. `tracing`'s own `Instrumented` does the same around each poll of a future.
//! The subscriber knows which spans are entered: the current span is exited until there is none. So
//! this works for guards and for `#[instrument]`, with each subscriber that knows its current span,
//! and needs no layer of ours.
//!
//! # Default dispatchers
//!
//! `set_default` swaps the thread's default with the value that its guard keeps, and the end of the
//! guard swaps back. An empty default (the process's own is then used) is such a value, too. So if
//! a task has a default of its own, its guard keeps the thread's empty one. Nothing here could make
//! the thread's default empty again: guards only move values. That takes the guard of another
//! thread, one of [`SPARES`], which brings its empty default with it. When the task goes on, the
//! empty default is left in a new guard.

use std::cell::{Cell, RefCell};
use std::mem;
use std::ptr;

use tracing_core::dispatcher::{self, DefaultGuard, Dispatch};
use tracing_core::span::Id;

use crate::prim::{thread, thread_local};
use crate::scheduler::hooks::SwitchHook;
use crate::scheduler::task::Task;

/// No code nests spans as deep as this. A subscriber whose current span does not change when it is
/// exited must not hold the thread.
const DEEP: usize = 4096;

/// The hook.
pub(crate) struct Spans;

/// The spans that a task has entered, kept while it is switched out.
#[derive(Default)]
pub(crate) struct Entered {
    /// Innermost first; each has a reference of its own.
    spans: Vec<(Dispatch, Id)>,
    /// A guard whose end gives the thread the default that the task has set.
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
        // First the spans of the task's own default, then those of the process's.
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
        // Spans of guards that were forgotten.
        for (dispatch, id) in mem::take(&mut entered.spans) {
            dispatch.try_close(id);
        }
        // The end of this guard would give the task's default to the thread.
        mem::forget(entered.default.take());
    }
}

/// Exits all spans that the thread has entered.
fn exit_all(dispatch: &Dispatch, spans: &mut Vec<(Dispatch, Id)>) {
    while spans.len() < DEEP
        && let Some(id) = dispatch.current_span().id()
    {
        // The code that entered it may have given its own reference away.
        let id = dispatch.clone_span(id);
        dispatch.exit(&id);
        spans.push((dispatch.clone(), id));
    }
}

thread_local! {
    /// Where the thread keeps its own default; null if that is not known.
    static PLACE: Cell<*const Dispatch> = const { Cell::new(ptr::null()) };
    /// Guards whose end leaves the thread without a default of its own.
    static SPARES: RefCell<Vec<DefaultGuard>> = const { RefCell::new(Vec::new()) };
}

/// Where the thread keeps its own default. The address tells that default from the process's.
fn place_of_default() -> *const Dispatch {
    if PLACE.get().is_null() && dispatcher::get_current(|_| ()).is_some() {
        let _guard = dispatcher::set_default(&Dispatch::none());
        PLACE.set(dispatcher::get_default(ptr::from_ref));
    }
    PLACE.get()
}

/// Takes the thread's own default away, so that the process's is used; [`give_back`] undoes this.
/// `None` if no thread can be started.
fn take_away() -> Option<DefaultGuard> {
    let spare = SPARES.with_borrow_mut(Vec::pop);
    let empty = spare.or_else(|| thread::elsewhere(|| dispatcher::set_default(&Dispatch::none())))?;
    let default = dispatcher::set_default(&Dispatch::none());
    drop(empty);
    Some(default)
}

/// Gives a default of its own to the thread, which has none.
fn give_back(default: DefaultGuard) {
    let empty = dispatcher::set_default(&Dispatch::none());
    SPARES.with_borrow_mut(|spares| spares.push(empty));
    drop(default);
}
