//! The clock keeps the deadlines that belong to no frame, which are those of contexts, in one set
//! for the whole process.
//!
//! One thread is started with the first deadline. It sleeps until the earliest one, or forever if
//! there is none. It takes due nodes out of the set under the lock, and ends them with no lock
//! held. Adding a deadline wakes the thread only if it is earlier than the one that the thread
//! sleeps for. Removing a deadline does not wake it, so it may wake once for nothing.
//!
//! Nothing keeps the thread from the next deadline for long. The nodes below a context are ended in
//! pieces of [`PIECE`], and the thread looks at the set between the pieces. User code (the
//! destructors of causes) is left to a separate thread.
//!
//! A forked process has a clock of its own. It does not know the deadlines that were set before,
//! just as the child of a `fork` does not inherit its parent's timers. What they end belongs to the
//! parent, and functions that wait for it would be called twice.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use crate::context::ContextError;
use crate::context::end::Walk;
use crate::context::node::{Node, NodeRef};
use crate::prim::process::PerProcess;
use crate::prim::sync::{Mutex, MutexGuard};
use crate::prim::{self, Parker, thread};
use crate::raw::{fork, outside};

/// The most nodes that are ended between two looks at the set.
const BATCH: usize = 64;

/// The most nodes that are ended below each of them between two looks: some 0.2 ms.
const PIECE: usize = 512;

static CLOCK: PerProcess<Clock> = PerProcess::new();

struct Clock {
    state: Mutex<State>,
    /// The clock thread's.
    parker: Parker,
}

struct State {
    /// Ordered by deadline. The address tells apart nodes with the same deadline.
    due: BTreeSet<(Instant, Watched)>,
    /// Nodes that the thread has taken out and has not yet ended together with all nodes below
    /// them.
    firing: usize,
    thread: Thread,
}

/// A node that takes itself out of the set before its memory is freed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Watched(*const Node);

// SAFETY: a node that is found in the set, under the lock, is alive and may be used. Any thread may
// use a node.
unsafe impl Send for Watched {}

#[derive(Clone, Copy)]
enum Thread {
    None,
    /// It looks at the set before it sleeps.
    Awake,
    /// `None` means forever.
    Sleeps(Option<Instant>),
}

fn clock() -> &'static Clock {
    CLOCK.get(|| Clock {
        state: Mutex::new(State { due: BTreeSet::new(), firing: 0, thread: Thread::None }),
        parker: Parker::new(),
    })
}

fn lock() -> Locked {
    // Nothing that could panic leaves the state half changed.
    Locked(clock().state.lock().unwrap_or_else(|e| e.into_inner()))
}

/// Before it is unlocked, records how much there is to do.
struct Locked(MutexGuard<'static, State>);

impl Deref for Locked {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Locked {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        outside::set_pending(self.0.due.len() + self.0.firing);
    }
}

fn key(node: &Node, pointer: *const Node) -> (Instant, Watched) {
    (node.deadline().expect("it is watched for its deadline"), Watched(pointer))
}

/// Ends the node when its deadline passes, unless the node is forgotten before.
///
/// # Panics
/// If the system cannot start a thread for the clock.
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

/// Takes the node out of the set, if it is still watched. Called before its memory is freed.
pub(crate) fn forget(node: &Node) {
    lock().due.remove(&key(node, node));
}

fn start() -> io::Result<()> {
    fork::watch();
    thread::start("greenloom-clock".to_owned(), run)?;
    // Afterwards: a thread that is counted and not there would stand for one that may wake a task.
    outside::count_thread();
    Ok(())
}

#[cold]
#[track_caller]
fn no_thread(error: &io::Error) -> ! {
    panic!("greenloom: cannot start the thread that watches the deadlines of contexts: {error}")
}

fn run() {
    let mut fired = Vec::with_capacity(BATCH);
    let mut walks: VecDeque<Walk> = VecDeque::new();
    loop {
        let sleep = {
            let mut state = lock();
            let now = prim::now();
            while fired.len() < BATCH
                && let Some(first) = state.due.first().filter(|first| first.0 <= now).copied()
            {
                state.due.remove(&first);
                // SAFETY: a node in the set is alive: it takes itself out, under the lock, before
                // its memory is freed.
                fired.extend(unsafe { NodeRef::try_from_list(first.1.0) });
            }
            state.firing = fired.len() + walks.len();
            let sleep = (state.firing == 0).then(|| state.due.first().map(|first| first.0));
            state.thread = sleep.map_or(Thread::Awake, Thread::Sleeps);
            sleep
        };
        let mut done = Vec::new();
        let old = walks.pop_front();
        for node in fired.drain(..) {
            // End one piece of what is below it at once: mostly that is all.
            let walk = caught(|| node.begin_end(ContextError::DeadlineExceeded, &None)).flatten();
            done.push(node);
            walks.extend(walk.and_then(|walk| go_on(walk, &mut done)));
        }
        walks.extend(old.and_then(|walk| go_on(walk, &mut done)));
        let last: Vec<_> = done.into_iter().filter_map(NodeRef::drop_unless_last).collect();
        if !last.is_empty() {
            drop_elsewhere(last);
        }
        match sleep {
            None => {}
            Some(None) => clock().parker.park(),
            Some(Some(until)) => _ = clock().parker.park_until(until),
        }
    }
}

/// Ends a piece of what is below a node. Returns what is left of the walk, if anything; otherwise
/// adds the nodes that it has finished with to `done`.
fn go_on(mut walk: Walk, done: &mut Vec<NodeRef>) -> Option<Walk> {
    if caught(|| walk.go(PIECE)) != Some(true) {
        return Some(walk);
    }
    done.extend(walk.into_rest());
    None
}

/// Drops the last references to nodes, and with them references to other contexts and to causes.
/// Their destructors are user code: they may wait, and panic.
fn drop_elsewhere(nodes: Vec<NodeRef>) {
    let drop_all = || nodes.into_iter().for_each(|node| _ = caught(|| drop(node)));
    // If no thread can be started, they are dropped here after all, with the closure.
    caught(|| thread::start_plain("greenloom-contexts".to_owned(), drop_all).is_ok());
}

/// Runs `f`, which may run a user's destructor. A panic goes no further than here.
fn caught<T>(f: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(value) => Some(value),
        Err(payload) => {
            // The payload may have such a destructor too.
            std::mem::forget(payload);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::panic_any;
    use std::time::Duration;

    use super::*;
    use crate::context::Context;

    #[test]
    fn a_panic_whose_payload_panics_when_it_is_dropped_is_caught() {
        struct Panics;
        impl Drop for Panics {
            fn drop(&mut self) {
                panic!("the clock's thread would end");
            }
        }
        assert!(caught(|| panic_any(Panics)).is_none());
    }

    /// The only one of these tests that gives the clock a deadline a year away.
    #[test]
    fn deadlines_are_pending_until_they_are_over_or_nobody_has_them() {
        let far = prim::now() + Duration::from_secs(3600 * 24 * 365);
        let far_ones = || lock().due.iter().filter(|(deadline, _)| *deadline >= far).count();
        let contexts: Vec<_> = (0..100).map(|i| Context::background().with_deadline(far + Duration::from_secs(i % 10))).collect();
        assert_eq!((far_ones(), outside::threads()), (100, 1));
        assert!(outside::pending() >= 100);
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
