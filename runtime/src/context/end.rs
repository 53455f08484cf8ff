//! How a node ends, and what happens then.

use std::panic::Location;

use crate::channel::{self, Receiver, Sender};
use crate::context::ContextError;
use crate::context::clock;
use crate::context::node::{Cause, LIVE, Node, NodeRef};
use crate::prim::atomic::Ordering;
use crate::prim::untracked::Arc;
use crate::prim::{Lock, sync, thread};
use crate::raw::cancel_scope::{self, CancelScope, Due};
use crate::scheduler::wake::make_runnable;
use crate::scheduler::{Shared, local};
use crate::sys::stderr::say;
use crate::task::{Placement, spawn_on};
use crate::unwind::{self, ScopeCancelled, in_cancel_scope};
use crate::wait;

/// Added to one of the states below: the node's channel is still to be disconnected. A caller that
/// asks for the state does that first.
pub(super) const ENDING: u8 = 0x80;
/// Another such flag: something below the node may still have to be ended. Cleared by the caller
/// that finds the node's list empty.
pub(super) const BELOW: u8 = 0x40;
const CANCELLED: u8 = 1;
const EXCEEDED: u8 = 2;

fn encode(why: ContextError) -> u8 {
    match why {
        ContextError::Cancelled => CANCELLED,
        ContextError::DeadlineExceeded => EXCEEDED,
    }
}

pub(super) fn decode(state: u8) -> Option<ContextError> {
    match state & !(ENDING | BELOW) {
        LIVE => None,
        CANCELLED => Some(ContextError::Cancelled),
        _ => Some(ContextError::DeadlineExceeded),
    }
}

impl From<ContextError> for cancel_scope::Cause {
    fn from(why: ContextError) -> Self {
        match why {
            ContextError::Cancelled => Self::Cancellation,
            ContextError::DeadlineExceeded => Self::Time,
        }
    }
}

/// What happens when a node ends.
pub(super) enum OnEnd {
    Nothing,
    /// A function starts. As long as it waits, its node has a reference that belongs to nobody,
    /// unless the node has no parent, and so nothing to wait for.
    Start(Box<Function>),
    /// A task or a thread unwinds to this cancel scope, whose frame withdraws it before the frame
    /// ends.
    Cancel(*const CancelScope),
}

/// A function that waits, and where it is to run.
pub(super) struct Function {
    body: Box<dyn FnOnce() + Send>,
    runtime: Option<sync::Arc<Shared>>,
    site: &'static Location<'static>,
}

/// The channel that is disconnected when the node ends.
pub(super) struct Done {
    receiver: Receiver<()>,
    sender: Lock<Option<Sender<()>>>,
    /// Models watch every access to it, since it is made by one of those that ask for it.
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
}

/// What was found when a node was marked.
struct Marked {
    /// It has children, which have to be ended.
    children: bool,
    /// Another caller had ended it, with a cause other than the one given here.
    other_cause: bool,
}

impl NodeRef {
    /// A function that starts when `parent` ends.
    #[track_caller]
    pub(super) fn function(parent: Option<NodeRef>, body: Box<dyn FnOnce() + Send>) -> NodeRef {
        let runtime = local::machine().map(|machine| machine.shared.clone());
        let function = Function { body, runtime, site: Location::caller() };
        let node = Self::new(parent, None, false, OnEnd::Start(Box::new(function)));
        if node.parent.is_some() {
            // The waiting function's reference.
            std::mem::forget(node.clone());
            node.join_parent();
        }
        node
    }

    /// Runs `f`. If `parent` ends meanwhile, that ends `f`.
    ///
    /// # Panics
    /// If `f` panics. In a build with `panic = "abort"`.
    #[track_caller]
    pub(super) fn run<T>(parent: NodeRef, f: impl FnOnce() -> T) -> Result<T, ScopeCancelled> {
        let Some(running) = unwind::running() else { return Ok(f()) };
        let due = Due { moment: parent.deadline(), by_itself: false };
        let node = Self::new(Some(parent), None, false, OnEnd::Nothing);
        let arm = |scope: &CancelScope| {
            node.inner.lock().on_end = OnEnd::Cancel(scope);
            node.join_parent();
        };
        let disarm = |_: &CancelScope| _ = node.withdraw();
        wait::leave_scope(in_cancel_scope(running, due, arm, disarm, f))
    }

    /// Ends the node, unless it has ended, and all nodes below it. When this returns, they have all
    /// ended, no matter who ended them.
    pub(crate) fn end(&self, why: ContextError, cause: &Option<Cause>) {
        if let Some(mut walk) = self.begin_end(why, cause) {
            while !walk.go(usize::MAX) {}
        }
    }

    /// Ends the node, unless it has ended. Returns the walk that is to end the nodes below it, if
    /// there are any.
    pub(crate) fn begin_end(&self, why: ContextError, cause: &Option<Cause>) -> Option<Walk> {
        // Acquire: pairs with the Release in `next_child`. The flag is set with the end, so it
        // cannot be set after this.
        if self.ended().is_some() && self.state.load(Ordering::Acquire) & BELOW == 0 {
            return None;
        }
        if !self.mark(why, cause.clone()).children {
            self.leave_parent();
            return None;
        }
        Some(Walk { next: self.next_child(None), root: self.clone(), here: self.as_ptr(), others: Vec::new() })
    }

    /// Leaves the parent's list (rule 5).
    fn leave_parent(&self) {
        if let Some(parent) = &self.parent {
            parent.unlink(self);
        }
    }

    /// Ends this node alone, unless it has ended.
    fn mark(&self, why: ContextError, cause: Option<Cause>) -> Marked {
        let on_end;
        let woken;
        let has_done;
        let children;
        {
            let mut inner = self.inner.lock();
            children = !inner.children.is_null();
            // Relaxed: it leaves LIVE only under the lock.
            if self.state.load(Ordering::Relaxed) != LIVE {
                let other_cause = inner.cause.as_ref().is_some_and(|own| cause.as_ref().is_none_or(|cause| !is_same(own, cause)));
                drop(inner);
                // The caller that marked it may not have disconnected its channel yet.
                let _ = self.ended();
                return Marked { children, other_cause };
            }
            // The node had no cause, so nothing is dropped.
            inner.cause = cause;
            on_end = std::mem::replace(&mut inner.on_end, OnEnd::Nothing);
            woken = match on_end {
                // SAFETY: its frame has not withdrawn the scope: it needs the lock for that.
                OnEnd::Cancel(scope) => unsafe { (*scope).cancel(why.into()) },
                _ => None,
            };
            // Relaxed: set under the lock.
            has_done = !self.done.load(Ordering::Relaxed).is_null();
            let ending = if has_done { ENDING } else { 0 };
            let below = if children { BELOW } else { 0 };
            // Release: pairs with the Acquire in `ended`.
            self.state.store(encode(why) | ending | below, Ordering::Release);
        }
        if has_done {
            self.disconnect();
            // Release: pairs with the Acquire in `ended`. A caller that sees the end finds the
            // channel disconnected.
            self.state.fetch_and(!ENDING, Ordering::Release);
        }
        if self.timed {
            clock::forget(self);
        }
        if let OnEnd::Start(function) = on_end {
            self.let_go_of_function();
            function.start();
        }
        if let Some(task) = woken {
            make_runnable(task);
        }
        Marked { children, other_cause: false }
    }

    /// Takes back what was to happen when the node ends. Returns true if it had not happened yet.
    pub(super) fn withdraw(&self) -> bool {
        let on_end;
        {
            let mut inner = self.inner.lock();
            on_end = std::mem::replace(&mut inner.on_end, OnEnd::Nothing);
            if let OnEnd::Nothing = on_end {
                return false;
            }
            // Relaxed: nobody asks such a node for its state, and `mark` looks under the lock.
            self.state.store(CANCELLED, Ordering::Relaxed);
        }
        if let Some(parent) = &self.parent {
            parent.unlink(self);
        }
        if let OnEnd::Start(_) = on_end {
            self.let_go_of_function();
        }
        true
    }

    /// Drops the waiting function's reference. The caller, which took the function, has one too.
    fn let_go_of_function(&self) {
        if self.parent.is_some() {
            // SAFETY: the reference was kept when the function began to wait; the function was
            // taken once.
            drop(unsafe { NodeRef::from_raw(self.as_ptr()) });
        }
    }
}

/// Whether both are the same cause.
fn is_same(one: &Cause, other: &Cause) -> bool {
    std::ptr::addr_eq(Arc::as_ptr(one), Arc::as_ptr(other))
}

/// A child of a node that has ended, and how it is to be ended: as its parent was.
pub(super) struct Child {
    pub(super) node: NodeRef,
    pub(super) why: ContextError,
    pub(super) cause: Option<Cause>,
}

/// Ends all nodes below a node that has been marked (rule 4). This may be done in pieces.
#[must_use = "who has marked a node must end what is below it"]
pub(crate) struct Walk {
    root: NodeRef,
    /// The nodes from here up to the root are the walk's path. The walk has a reference to each.
    here: *const Node,
    /// The next child of the node here. If there is none, that node is done.
    next: Option<Child>,
    /// Nodes that others have ended, with causes that are not their parents'. They may run a user's
    /// destructor when they are dropped, so they are dropped last.
    others: Vec<NodeRef>,
}

impl Walk {
    /// Ends at most this many nodes. Returns whether the walk is complete.
    pub(crate) fn go(&mut self, mut most: usize) -> bool {
        while most > 0 {
            if let Some(child) = self.next.take() {
                most -= 1;
                self.go_down(child);
            } else if self.here == self.root.as_ptr() {
                self.root.leave_parent();
                return true;
            } else {
                self.go_up();
            }
        }
        false
    }

    /// Ends a child of the node here, and goes on with the nodes below it.
    fn go_down(&mut self, Child { node, why, cause }: Child) {
        self.here = node.as_ptr();
        // The path's reference is kept before anything else is done: a marked node is not released
        // while it is in a list (rule 6).
        let child = std::mem::ManuallyDrop::new(node);
        let Marked { children, other_cause } = child.mark(why, cause);
        if other_cause {
            self.others.push(NodeRef::clone(&child));
        }
        if children {
            self.next = child.next_child(None);
        } else {
            self.go_up();
        }
    }

    /// Goes back to the parent: all nodes below the node here have ended.
    fn go_up(&mut self) {
        // SAFETY: `go_down` kept this reference for the path.
        let child = unsafe { NodeRef::from_raw(self.here) };
        let parent = child.parent.as_ref().expect("it was found in its parent's list");
        self.here = parent.as_ptr();
        self.next = parent.next_child(Some(&child));
    }

    /// The nodes that may run a user's destructor when they are dropped.
    pub(crate) fn into_rest(self) -> Vec<NodeRef> {
        let Walk { root, mut others, .. } = self;
        others.push(root);
        others
    }
}

impl Node {
    /// Why the node has ended, if it has. Its channel is disconnected then.
    pub(super) fn ended(&self) -> Option<ContextError> {
        // Acquire: pairs with the Release in `mark`. What was done before the end is visible.
        let state = self.state.load(Ordering::Acquire);
        if state & ENDING != 0 {
            self.disconnect();
        }
        decode(state)
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        let why = self.ended()?;
        let cause = self.inner.lock().cause.clone();
        Some(cause.unwrap_or_else(|| Arc::new(why)))
    }

    /// Disconnects the node's channel, which has been made.
    fn disconnect(&self) {
        // Relaxed: the caller has seen an end that came after the channel was made.
        let done = self.done.load(Ordering::Relaxed);
        // SAFETY: the channel has been made, and lives as long as the node.
        unsafe { (*done).disconnect() };
    }

    /// The channel that is disconnected when the node ends.
    pub(super) fn done(&self) -> &Receiver<()> {
        // Acquire: pairs with the Release in `make_done`.
        let mut done = self.done.load(Ordering::Acquire);
        if done.is_null() {
            done = self.make_done();
        }
        // SAFETY: the channel lives as long as the node.
        let done = unsafe { &*done };
        #[cfg(greenloom_loom)]
        done.alive.touch();
        &done.receiver
    }

    #[cold]
    fn make_done(&self) -> *mut Done {
        loop {
            let ended = self.ended().is_some();
            let (sender, receiver) = channel::bounded(0);
            let new = Box::new(Done {
                receiver,
                sender: Lock::new(Some(sender)),
                #[cfg(greenloom_loom)]
                alive: crate::prim::Alive::new(),
            });
            if ended {
                new.disconnect();
            }
            let _inner = self.inner.lock();
            // Relaxed: set under the lock.
            let there = self.done.load(Ordering::Relaxed);
            if !there.is_null() {
                return there;
            }
            if ended || self.state.load(Ordering::Relaxed) == LIVE {
                let new = Box::into_raw(new);
                // Release: pairs with the Acquire in `done`.
                self.done.store(new, Ordering::Release);
                return new;
            }
            // The node has ended meanwhile, and nobody would disconnect this channel.
        }
    }
}

impl Done {
    /// Wakes all waiters. The sender is dropped under its lock, so that a second caller returns
    /// after that.
    fn disconnect(&self) {
        #[cfg(greenloom_loom)]
        self.alive.touch();
        *self.sender.lock() = None;
    }
}

impl Function {
    /// Runs the function in a task of the runtime that it came from, or on a thread of its own.
    fn start(self) {
        let Function { body, runtime, site } = self;
        let mut unstarted = Unstarted { body: Some(body), starter: running_task() };
        let body = move || {
            if let Some(body) = unstarted.body.take() {
                body();
            }
        };
        let started = match runtime {
            Some(runtime) => spawn_on(&runtime, body, site, None, Placement::Near).map(drop),
            None => thread::start_plain("greenloom-after-func".to_owned(), body).map(drop),
        };
        if let Err(error) = started {
            say(format_args!("greenloom: the function of after_func at {site} cannot be started: {error}"));
        }
    }
}

/// A function that has been told to start and has not begun. If it never begins, because its
/// runtime has ended, it is dropped. That is user code and may wait. So it happens neither on the
/// clock's thread nor in the middle of the end of a tree, but on a thread of its own, unless the
/// function has got as far as its own task.
struct Unstarted {
    body: Option<Box<dyn FnOnce() + Send>>,
    /// The task that told it to start, if it was a task.
    starter: Option<u64>,
}

/// The number of the running task.
fn running_task() -> Option<u64> {
    local::running().map(|(_, record)| record.task().id())
}

impl Drop for Unstarted {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        let here = running_task();
        if here.is_none() || here == self.starter {
            // If no thread can be started, it is dropped here after all.
            let _ = thread::start_plain("greenloom-after-func".to_owned(), move || drop(body));
        }
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use std::fmt;

    use super::*;
    use crate::context::Context;
    use crate::prim::untracked::AtomicBool;

    fn node(ctx: &Context) -> &NodeRef {
        ctx.node.as_ref().expect("it can end")
    }

    /// Contexts below and beside each other: five below the first, in two levels.
    fn tree() -> Vec<Context> {
        let (root, canceller) = Context::background().with_cancel();
        canceller.disarm();
        let mut all = vec![root];
        for parent in [0, 0, 1, 1, 2] {
            let (child, canceller) = all[parent].with_cancel();
            canceller.disarm();
            all.push(child);
        }
        all
    }

    #[test]
    fn an_end_in_pieces_ends_everything() {
        for piece in 1..=6 {
            let all = tree();
            let ended = || all.iter().filter(|ctx| ctx.err().is_some()).count();
            let mut walk = node(&all[0]).begin_end(ContextError::Cancelled, &None).unwrap();
            assert_eq!(ended(), 1);
            let mut before = 1;
            while !walk.go(piece) {
                assert_eq!(ended(), before + piece);
                before = ended();
            }
            assert_eq!(ended(), 6);
            assert!(node(&all[0]).begin_end(ContextError::Cancelled, &None).is_none());
        }
    }

    #[derive(Debug)]
    struct Flagged(Arc<AtomicBool>);

    impl fmt::Display for Flagged {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("flagged")
        }
    }

    impl std::error::Error for Flagged {}

    impl Drop for Flagged {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_cause_of_another_ones_end_goes_with_the_rest_of_a_walk_and_not_before() {
        let dropped = Arc::new(AtomicBool::new(false));
        let cause: Option<Cause> = Some(Arc::new(Flagged(dropped.clone())));
        let mut all = tree();
        // Somebody has ended it, and is about to take it out of its parent's list.
        assert!(!node(&all[5]).mark(ContextError::Cancelled, cause).children);
        let mut walk = node(&all[0]).begin_end(ContextError::DeadlineExceeded, &None).unwrap();
        assert!(walk.go(usize::MAX));
        all.clear();
        assert!(!dropped.load(Ordering::Relaxed));
        let last: Vec<NodeRef> = walk.into_rest().into_iter().filter_map(NodeRef::drop_unless_last).collect();
        assert!(!last.is_empty() && !dropped.load(Ordering::Relaxed));
        drop(last);
        assert!(dropped.load(Ordering::Relaxed));
    }
}
