//! The tree of what ends: a node for each context that can be cancelled, for each function that waits for an end, and for each frame that
//! an end unwinds to.
//!
//! # The problem
//!
//! Whoever ends a node ends all below it, in time linear in their number, whatever the depth and on a small stack. Meanwhile any
//! thread may add children, end them, or drop the last reference to any node; and nothing of a user's may run under a lock.
//!
//! # The protocol
//!
//! 1. A node holds its parent by a reference; a parent has its children in a list without references, linked through the children
//!    under the **parent's** lock. No lock is ever held together with another.
//! 2. A node whose last reference goes takes itself out of its parent's list, and out of the clock's, under that lock each, before its
//!    memory goes. So whoever finds a node in a list, under its lock, may take a reference to it, unless there is none left to add to.
//! 3. [`mark`](Node::mark) ends a single node, under its own lock, once. A parent that has ended takes no more children: whoever
//!    comes to be added finds the end, under the same lock, and ends itself in the same way.
//! 4. Who has marked a node, and nobody else, takes its children out of the list one by one, marks each, and goes down to those that have
//!    children: a walk along the tree, down by the references it takes and up by the parents, which needs no memory of its own.
//! 5. A node that ends by itself leaves its parent's list afterwards. So the walk of a parent may still find it: it has ended, and is left
//!    to whoever marked it.
//! 6. A node that has ended and whose marker has done with it is thus in no list.

use std::cell::Cell;
use std::error::Error;
use std::ops::Deref;
use std::panic::Location;
use std::ptr::{NonNull, null, null_mut};
use std::time::Instant;

use crate::channel::{self, Receiver, Sender};
use crate::context::ContextError;
use crate::prim::atomic::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use crate::prim::untracked::Arc;
use crate::prim::{self, Lock, back_off, say, sync, thread};
use crate::scheduler::{Shared, local};
use crate::task::bound::{Bound, Tripped, bounded};
use crate::task::{Placement, interrupt, spawn_on};
use crate::time::clock;

pub(super) type Cause = Arc<dyn Error + Send + Sync>;

/// `state` of a node that has not ended.
const LIVE: u8 = 0;
/// It ends, and its channel is about to be disconnected: whoever asks waits for that. Added to one of the following.
const ENDING: u8 = 0x80;
const CANCELLED: u8 = 1;
const EXCEEDED: u8 = 2;

fn encode(why: ContextError) -> u8 {
    match why {
        ContextError::Cancelled => CANCELLED,
        ContextError::DeadlineExceeded => EXCEEDED,
    }
}

fn decode(state: u8) -> Option<ContextError> {
    match state {
        LIVE => None,
        CANCELLED => Some(ContextError::Cancelled),
        _ => Some(ContextError::DeadlineExceeded),
    }
}

pub(crate) struct Node {
    references: AtomicUsize,
    /// None if nothing above can end it.
    parent: Option<NodeRef>,
    /// Its place in the parent's list. Under the parent's lock.
    next: Cell<*const Node>,
    previous: Cell<*const Node>,
    linked: Cell<bool>,
    /// Changes under the lock, but for the end of `ENDING`.
    state: AtomicU8,
    /// The deadline is its own, and the clock's to watch.
    timed: bool,
    deadline: Option<Instant>,
    /// Made when somebody asks for it. Set under the lock.
    done: AtomicPtr<Done>,
    inner: Lock<Inner>,
    #[cfg(greenloom_loom)]
    alive: crate::prim::Alive,
}

struct Inner {
    /// The newest child.
    children: *const Node,
    /// What it was cancelled with, if with anything.
    cause: Option<Cause>,
    on_end: OnEnd,
}

/// What happens when a node ends.
enum OnEnd {
    Nothing,
    /// A function starts. As long as it waits, its node has a reference that belongs to nobody; unless it has no parent, and nothing
    /// to wait for.
    Start(Box<Function>),
    /// A task or a thread unwinds to this bound, whose frame withdraws it before it ends.
    Trip(*const Bound),
}

/// A function that waits, with where it is to run.
struct Function {
    body: Box<dyn FnOnce() + Send>,
    runtime: Option<sync::Arc<Shared>>,
    site: &'static Location<'static>,
}

/// The channel that is disconnected when the node ends.
struct Done {
    receiver: Receiver<()>,
    sender: Lock<Option<Sender<()>>>,
}

// SAFETY: what is not atomic never changes or is under a lock, of the node or its parent. The pointers lead to nodes, which any thread
// may use and drop, as it may causes, functions and channels; and to a bound, which any thread may trip.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

/// A reference to a node.
pub(crate) struct NodeRef(NonNull<Node>);

// SAFETY: a node may be used and dropped by any thread.
unsafe impl Send for NodeRef {}
// SAFETY: as above.
unsafe impl Sync for NodeRef {}

impl NodeRef {
    /// A context below `parent`. The deadline is the parent's, or an earlier one, at which the clock ends the node.
    ///
    /// # Panics
    /// If the clock needs a thread, and the system has none.
    #[track_caller]
    pub(super) fn context(parent: Option<NodeRef>, deadline: Option<Instant>) -> NodeRef {
        let inherited = parent.as_ref().and_then(|parent| parent.deadline);
        let own = deadline.filter(|own| inherited.is_none_or(|inherited| *own < inherited));
        let over = own.is_some_and(|own| own <= prim::now());
        let node = Self::new(parent, own.or(inherited), own.is_some() && !over, OnEnd::Nothing);
        if node.timed {
            // Before it has a parent: what the parent does with it follows.
            clock::watch(&node);
        }
        node.join_parent();
        if over {
            node.end(ContextError::DeadlineExceeded, &None);
        }
        node
    }

    /// A function that starts when `parent` ends.
    #[track_caller]
    pub(super) fn function(parent: Option<NodeRef>, body: Box<dyn FnOnce() + Send>) -> NodeRef {
        let runtime = local::machine().map(|machine| machine.shared.clone());
        let function = Function { body, runtime, site: Location::caller() };
        let node = Self::new(parent, None, false, OnEnd::Start(Box::new(function)));
        if node.parent.is_some() {
            // The waiting function's.
            std::mem::forget(node.clone());
            node.join_parent();
        }
        node
    }

    /// Runs `f`; an end of `parent` meanwhile ends it.
    ///
    /// # Panics
    /// If `f` does. In a build with `panic = "abort"`.
    #[track_caller]
    pub(super) fn run<T>(parent: NodeRef, f: impl FnOnce() -> T) -> Result<T, Tripped> {
        let Some(running) = interrupt::current() else { return Ok(f()) };
        let node = Self::new(Some(parent), None, false, OnEnd::Nothing);
        let arm = |bound: &Bound| {
            node.inner.lock().on_end = OnEnd::Trip(bound);
            node.join_parent();
        };
        let disarm = |_: &Bound| _ = node.withdraw();
        bounded(running, None, arm, disarm, f)
    }

    fn new(parent: Option<NodeRef>, deadline: Option<Instant>, timed: bool, on_end: OnEnd) -> NodeRef {
        let node = Box::new(Node {
            references: AtomicUsize::new(1),
            parent,
            next: Cell::new(null()),
            previous: Cell::new(null()),
            linked: Cell::new(false),
            state: AtomicU8::new(LIVE),
            timed,
            deadline,
            done: AtomicPtr::new(null_mut()),
            inner: Lock::new(Inner { children: null(), cause: None, on_end }),
            #[cfg(greenloom_loom)]
            alive: crate::prim::Alive::new(),
        });
        NodeRef(NonNull::from(Box::leak(node)))
    }

    pub(crate) fn as_ptr(&self) -> *const Node {
        self.0.as_ptr()
    }

    /// Takes over a reference that was kept.
    ///
    /// # Safety
    /// The node is alive, and a reference to it belongs to the caller, who gives it up.
    unsafe fn from_raw(node: *const Node) -> NodeRef {
        // SAFETY: the caller's promise.
        NodeRef(unsafe { NonNull::new_unchecked(node.cast_mut()) })
    }

    /// A reference to a node that was found in a list, unless it has none any more.
    ///
    /// # Safety
    /// The node was found under the lock of that list (rule 2), which is still held.
    pub(crate) unsafe fn try_from_list(node: *const Node) -> Option<NodeRef> {
        // SAFETY: the caller's promise; it is alive then.
        let found = unsafe { &*node };
        #[cfg(greenloom_loom)]
        found.alive.touch();
        let add = |references| (references > 0).then_some(references + 1);
        // Relaxed: the lock orders what matters; and where it fails, nothing is touched.
        found.references.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        // SAFETY: just added.
        Some(unsafe { Self::from_raw(node) })
    }

    /// Ends it, with all below it, unless it has ended.
    pub(crate) fn end(&self, why: ContextError, cause: &Option<Cause>) {
        // Relaxed: a look ahead of the lock.
        if self.state.load(Ordering::Relaxed) != LIVE {
            return;
        }
        let Some(children) = self.mark(why, cause) else { return };
        if children == Children::Some {
            self.end_below(why, cause);
        }
        if let Some(parent) = &self.parent {
            parent.unlink(self);
        }
    }

    /// Rule 4.
    fn end_below(&self, why: ContextError, cause: &Option<Cause>) {
        // Those that others have ended, and whose causes are not ours: they may run a user's destructor when they go, so that is last.
        let mut others = Vec::new();
        let mut here = self.as_ptr();
        loop {
            // SAFETY: `self` is alive, and so is what is on the path below it, by the references that going down has kept.
            let node = unsafe { &*here };
            if let Some(child) = node.pop_child() {
                match child.mark(why, cause) {
                    None => others.push(child),
                    Some(Children::None) => {}
                    Some(Children::Some) => {
                        here = child.as_ptr();
                        std::mem::forget(child);
                    }
                }
            } else if here == self.as_ptr() {
                return;
            } else {
                // SAFETY: kept on the way down.
                let child = unsafe { NodeRef::from_raw(here) };
                here = child.parent.as_ref().expect("it was found in its parent's list").as_ptr();
            }
        }
    }

    /// Ends this node alone; `None` if it has ended.
    fn mark(&self, why: ContextError, cause: &Option<Cause>) -> Option<Children> {
        let state = encode(why);
        let on_end;
        let woken;
        let done;
        let children;
        {
            let mut inner = self.inner.lock();
            // Relaxed: it changes from LIVE under the lock alone.
            if self.state.load(Ordering::Relaxed) != LIVE {
                return None;
            }
            // It had none, so nothing is dropped.
            inner.cause = cause.clone();
            on_end = std::mem::replace(&mut inner.on_end, OnEnd::Nothing);
            woken = match on_end {
                // SAFETY: its frame has not withdrawn it, for which it needs the lock.
                OnEnd::Trip(bound) => unsafe { (*bound).trip() },
                _ => None,
            };
            children = if inner.children.is_null() { Children::None } else { Children::Some };
            // Relaxed: set under the lock.
            done = self.done.load(Ordering::Relaxed);
            // Release: pairs with the Acquire in `ended`.
            self.state.store(if done.is_null() { state } else { state | ENDING }, Ordering::Release);
        }
        // SAFETY: it lives as long as the node.
        if let Some(done) = unsafe { done.as_ref() } {
            done.disconnect();
            // Release: pairs with the Acquire in `ended`; whoever sees the end finds the channel disconnected.
            self.state.store(state, Ordering::Release);
        }
        if self.timed {
            clock::forget(self);
        }
        if let OnEnd::Start(function) = on_end {
            self.let_go_of_function();
            function.start();
        }
        if let Some(task) = woken {
            local::make_runnable(task);
        }
        Some(children)
    }

    /// Takes back what was to happen at its end; true if that had still to come.
    pub(super) fn withdraw(&self) -> bool {
        let on_end;
        {
            let mut inner = self.inner.lock();
            on_end = std::mem::replace(&mut inner.on_end, OnEnd::Nothing);
            if let OnEnd::Nothing = on_end {
                return false;
            }
            // Relaxed: nobody asks such a node; its marker looks under the lock.
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

    /// The waiting function's reference goes. The caller, who took the function, has one too.
    fn let_go_of_function(&self) {
        if self.parent.is_some() {
            // SAFETY: kept when the function began to wait, and the function was taken once.
            drop(unsafe { NodeRef::from_raw(self.as_ptr()) });
        }
    }

    /// Adds it to its parent's list, or ends it if the parent has ended.
    fn join_parent(&self) {
        let Some(parent) = &self.parent else { return };
        let inherited = {
            let mut inner = parent.inner.lock();
            // Relaxed: it changes under the lock.
            let state = parent.state.load(Ordering::Relaxed) & !ENDING;
            match decode(state) {
                None => {
                    inner.link(self);
                    None
                }
                Some(why) => Some((why, inner.cause.clone())),
            }
        };
        match inherited {
            Some((why, cause)) => self.end(why, &cause),
            // The clock has ended it before there was a list to leave. If it does so from now on, it finds the list.
            // Relaxed: the parent's lock, where it looked whether this was linked, orders it.
            None if self.state.load(Ordering::Relaxed) != LIVE => parent.unlink(self),
            None => {}
        }
    }
}

impl Deref for NodeRef {
    type Target = Node;

    fn deref(&self) -> &Node {
        // SAFETY: alive as long as there is a reference.
        unsafe { self.0.as_ref() }
    }
}

impl Clone for NodeRef {
    fn clone(&self) -> Self {
        // Relaxed: made from an existing reference.
        if self.references.fetch_add(1, Ordering::Relaxed) > isize::MAX as usize {
            std::process::abort();
        }
        NodeRef(self.0)
    }
}

impl Drop for NodeRef {
    /// Frees the node with its last reference, and then all above it of which that was the last: a loop, since chains may be long.
    fn drop(&mut self) {
        let mut node = self.0;
        loop {
            // SAFETY: this reference keeps it alive.
            let last = unsafe { node.as_ref() };
            // AcqRel: what was done through any reference is done before the end.
            if last.references.fetch_sub(1, Ordering::AcqRel) != 1 {
                return;
            }
            last.leave_lists();
            // SAFETY: nobody finds it any more; it was made by a box.
            let mut boxed = unsafe { Box::from_raw(node.as_ptr()) };
            let parent = boxed.parent.take();
            // A cause or a function may go with it, whose destructor may do anything: panic, say, and then the parent is let go by that.
            drop(boxed);
            let Some(parent) = parent else { return };
            node = parent.0;
            std::mem::forget(parent);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let done = self.done.load(Ordering::Relaxed);
        if !done.is_null() {
            // SAFETY: made by a box, and this is the last who knows it.
            drop(unsafe { Box::from_raw(done) });
        }
    }
}

impl Node {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Before its memory goes. What has ended is in no list (rule 6).
    fn leave_lists(&self) {
        // Relaxed: whoever ended it had a reference, and the last one has gone.
        if self.state.load(Ordering::Relaxed) != LIVE {
            return;
        }
        if self.timed {
            clock::forget(self);
        }
        if let Some(parent) = &self.parent {
            parent.unlink(self);
        }
    }

    // How a node ends.

    /// Why it has ended, if it has. Then its channel is disconnected.
    pub(super) fn ended(&self) -> Option<ContextError> {
        loop {
            // Acquire: pairs with the Release in `mark`; what was done before the end is seen.
            let state = self.state.load(Ordering::Acquire);
            if state & ENDING == 0 {
                return decode(state);
            }
            // The other thread is at `disconnect`.
            back_off();
        }
    }

    pub(super) fn cause(&self) -> Option<Cause> {
        let why = self.ended()?;
        let cause = self.inner.lock().cause.clone();
        Some(cause.unwrap_or_else(|| Arc::new(why)))
    }

    /// What is disconnected when the node ends.
    pub(super) fn done(&self) -> &Receiver<()> {
        // Acquire: pairs with the Release in `make_done`.
        let mut done = self.done.load(Ordering::Acquire);
        if done.is_null() {
            done = self.make_done();
        }
        // SAFETY: it lives as long as the node.
        unsafe { &(*done).receiver }
    }

    #[cold]
    fn make_done(&self) -> *mut Done {
        loop {
            let ended = self.ended().is_some();
            let (sender, receiver) = channel::bounded(0);
            let new = Box::new(Done { receiver, sender: Lock::new(Some(sender)) });
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
            // It has ended meanwhile, and nobody would disconnect this one.
        }
    }

    // Its children.

    /// Takes a child out of its list, if it is in it.
    fn unlink(&self, child: &Node) {
        self.inner.lock().unlink(child);
    }

    /// Takes out a child that is not about to be freed.
    fn pop_child(&self) -> Option<NodeRef> {
        let mut inner = self.inner.lock();
        loop {
            let first = inner.children;
            // SAFETY: what is in the list is alive (rule 2).
            inner.unlink(unsafe { first.as_ref() }?);
            // SAFETY: the lock is still held.
            if let Some(child) = unsafe { NodeRef::try_from_list(first) } {
                return Some(child);
            }
        }
    }
}

#[derive(PartialEq)]
enum Children {
    None,
    Some,
}

impl Inner {
    fn link(&mut self, child: &NodeRef) {
        let old = std::mem::replace(&mut self.children, child.as_ptr());
        child.next.set(old);
        child.linked.set(true);
        // SAFETY: what is in the list is alive (rule 2).
        if let Some(old) = unsafe { old.as_ref() } {
            old.previous.set(child.as_ptr());
        }
    }

    fn unlink(&mut self, child: &Node) {
        if !child.linked.replace(false) {
            return;
        }
        let (previous, next) = (child.previous.replace(null()), child.next.replace(null()));
        // SAFETY: its neighbours are in the list, and alive (rule 2).
        unsafe {
            match previous.as_ref() {
                Some(previous) => previous.next.set(next),
                None => self.children = next,
            }
            if let Some(next) = next.as_ref() {
                next.previous.set(previous);
            }
        }
    }
}

impl Done {
    /// Wakes whoever waits. With no lock held but the sender's own.
    fn disconnect(&self) {
        let sender = self.sender.lock().take();
        drop(sender);
    }
}

impl Function {
    /// Runs it in a task of the runtime that it came from, or on a thread of its own.
    fn start(self) {
        let Function { body, runtime, site } = self;
        let started = match runtime {
            Some(runtime) => spawn_on(&runtime, body, site, None, Placement::Near).map(drop),
            None => thread::start_plain("greenloom-after-func".to_owned(), body),
        };
        if let Err(error) = started {
            say(format_args!("greenloom: the function of after_func at {site} cannot be started: {error}"));
        }
    }
}
