//! The clock: deadlines that belong to no frame, those of contexts, in one set for the whole process.
//!
//! One thread, started with the first of them, sleeps until the earliest, and for ever while there is none. It takes what is due out of
//! the set under the lock, and ends it with no lock held. A deadline that is added wakes it only if it is earlier than what it sleeps
//! for; one that is taken back does not, so it may wake once for nothing.
//!
//! A process that is forked has a clock of its own. It does not know of the deadlines that were set before, as the child of a `fork` does not
//! inherit its parent's timers: what they end is the parent's, and functions that wait for it would be called twice.

use std::collections::BTreeSet;
use std::io;
use std::ops::DerefMut;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::context::ContextError;
use crate::context::node::{Node, NodeRef};
use crate::prim::process::PerProcess;
use crate::prim::sync::Mutex;
use crate::prim::{self, Parker, thread};
use crate::scheduler::fork;

/// The most that are ended between two looks at the set.
const BATCH: usize = 64;

static CLOCK: PerProcess<Clock> = PerProcess::new();

struct Clock {
    state: Mutex<State>,
    /// The thread's.
    parker: Parker,
}

struct State {
    /// By deadline; the address tells those of one moment apart.
    due: BTreeSet<(Instant, Watched)>,
    /// Those that the thread has taken out and not yet ended.
    firing: usize,
    thread: Thread,
}

/// A node that takes itself out before its memory goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Watched(*const Node);

// SAFETY: whoever finds it in the set, under the lock, may use it: it is alive. Any thread may use a node.
unsafe impl Send for Watched {}

#[derive(Clone, Copy)]
enum Thread {
    None,
    /// It looks at the set before it sleeps.
    Awake,
    /// `None` is for ever.
    Sleeps(Option<Instant>),
}

fn clock() -> &'static Clock {
    CLOCK.get(|| Clock {
        state: Mutex::new(State { due: BTreeSet::new(), firing: 0, thread: Thread::None }),
        parker: Parker::new(),
    })
}

fn lock() -> impl DerefMut<Target = State> {
    // Nothing that could panic leaves the state half changed.
    clock().state.lock().unwrap_or_else(|e| e.into_inner())
}

fn key(node: &Node, pointer: *const Node) -> (Instant, Watched) {
    (node.deadline().expect("it is watched for its deadline"), Watched(pointer))
}

/// Ends the node when its deadline has come, unless it is forgotten before.
///
/// # Panics
/// If the system has no thread for the clock.
#[track_caller]
pub(crate) fn watch(node: &NodeRef) {
    let key = key(node, node.as_ptr());
    let mut state = lock();
    if let Thread::None = state.thread {
        if let Err(error) = start() {
            drop(state);
            no_thread(&error);
        }
        state.thread = Thread::Awake;
    }
    state.due.insert(key);
    let earlier = match state.thread {
        Thread::Sleeps(until) => until.is_none_or(|until| key.0 < until),
        Thread::Awake | Thread::None => false,
    };
    if earlier {
        state.thread = Thread::Awake;
        drop(state);
        clock().parker.unpark();
    }
}

/// Takes the node out, if it is still watched. Called before its memory goes.
pub(crate) fn forget(node: &Node) {
    lock().due.remove(&key(node, node));
}

/// How many deadlines are still to come, or are just being dealt with.
pub(crate) fn pending() -> usize {
    let state = lock();
    state.due.len() + state.firing
}

/// How many threads the clock has: one, or none before the first deadline.
pub(crate) fn threads() -> usize {
    usize::from(!matches!(lock().thread, Thread::None))
}

fn start() -> io::Result<()> {
    fork::watch();
    thread::start("greenloom-clock".to_owned(), run)
}

#[cold]
#[track_caller]
fn no_thread(error: &io::Error) -> ! {
    panic!("greenloom: cannot start the thread that watches the deadlines of contexts: {error}")
}

fn run() {
    let mut fired = Vec::with_capacity(BATCH);
    loop {
        let sleep = {
            let mut state = lock();
            let now = prim::now();
            while fired.len() < BATCH
                && let Some(first) = state.due.first().filter(|first| first.0 <= now).copied()
            {
                state.due.remove(&first);
                // SAFETY: what is in the set is alive, since it takes itself out, under the lock, before its memory goes.
                fired.extend(unsafe { NodeRef::try_from_list(first.1.0) });
            }
            state.firing = fired.len();
            let sleep = fired.is_empty().then(|| state.due.first().map(|first| first.0));
            state.thread = sleep.map_or(Thread::Awake, Thread::Sleeps);
            sleep
        };
        for node in fired.drain(..) {
            // The last reference to another context may go with it, and a cause with that, whose destructor panics: its own affair.
            let ended = catch_unwind(AssertUnwindSafe(move || node.end(ContextError::DeadlineExceeded, &None)));
            // Its payload may have such a destructor too.
            ended.unwrap_or_else(std::mem::forget);
        }
        match sleep {
            None => {}
            Some(None) => clock().parker.park(),
            Some(Some(until)) => _ = clock().parker.park_until(until),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::context::Context;

    /// The one of these tests that gives the clock a deadline a year away.
    #[test]
    fn deadlines_are_pending_until_they_are_over_or_nobody_has_them() {
        let far = prim::now() + Duration::from_secs(3600 * 24 * 365);
        let far_ones = || lock().due.iter().filter(|(deadline, _)| *deadline >= far).count();
        let contexts: Vec<_> = (0..100).map(|i| Context::background().with_deadline(far + Duration::from_secs(i % 10))).collect();
        assert_eq!((far_ones(), threads()), (100, 1));
        assert!(pending() >= 100);
        for (i, (ctx, canceller)) in contexts.into_iter().enumerate() {
            match i % 3 {
                0 => canceller.cancel(),
                1 => canceller.disarm(),
                _ => drop(canceller),
            }
            drop(ctx);
            assert_eq!(far_ones(), 99 - i);
        }
    }
}
