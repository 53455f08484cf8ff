//! Contexts say which work is to stop, when, and why. They are Go's `context`.
//!
//! A [`Context`] is handed down from those who ask for work to those who do it. It is *done* when
//! it is cancelled, when its deadline has passed, or when the context that it was derived from is
//! done. So one cancellation stops a whole tree of work. The work checks its context: it waits for
//! [`done`](Context::done) along with whatever else it waits for, or calls [`err`](Context::err)
//! now and then.
//!
//! ```
//! use std::time::Duration;
//! use greenloom::channel::{bounded, select};
//! use greenloom::context::{Context, ContextError};
//!
//! greenloom::run(|| {
//!     let (ctx, _canceller) = Context::background().with_timeout(Duration::from_millis(20));
//!     let (answers, answer) = bounded::<u64>(1);
//!     let search = greenloom::spawn({
//!         let ctx = ctx.clone();
//!         move || {
//!             select! {
//!                 // What takes too long.
//!                 recv(greenloom::channel::after(Duration::from_secs(60))) -> _ => answers.send(42).unwrap(),
//!                 recv(ctx.done()) -> _ => {}
//!             }
//!         }
//!     });
//!     // The search has ended, and its sender with it.
//!     assert!(answer.recv().is_err());
//!     assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
//!     search.join().unwrap();
//! });
//! ```
//!
//! Code that knows nothing of contexts is ended by [`Context::run_until_done`]: it unwinds from
//! whatever it waits in.
//!
//! Everything here works in tasks and on plain threads alike. Nothing waits: no call suspends the
//! task or blocks the thread.
//!
//! # Coming from Go
//!
//! | Go | here |
//! |---|---|
//! | `context.Background()`, `TODO()` | [`Context::background`] |
//! | `ctx, cancel := context.WithCancel(parent)` | [`let (ctx, canceller) = parent.with_cancel()`](Context::with_cancel) |
//! | `defer cancel()` | dropping the [`Canceller`] |
//! | `cancel()` of `WithCancelCause` | [`Canceller::cancel_with`] |
//! | `WithTimeout`, `WithDeadline` | [`Context::with_timeout`], [`Context::with_deadline`] |
//! | `WithValue(parent, key, v)`, `ctx.Value(key)` | [`Context::with_value`], [`Context::value`]: the type is the key |
//! | `WithoutCancel(parent)` | [`Context::without_cancel`] |
//! | `AfterFunc(ctx, f)` | [`Context::after_func`] |
//! | `<-ctx.Done()` | [`ctx.done().recv()`](Context::done) is an error |
//! | `ctx.Err()`, `Canceled`, `DeadlineExceeded` | [`Context::err`], [`ContextError`] |
//! | `Cause(ctx)` | [`Context::cause`] |
//! | `ctx.Deadline()` | [`Context::deadline`] |

#[cfg_attr(greenloom_loom, path = "clock_model.rs")]
pub(crate) mod clock;
pub(crate) mod end;
pub(crate) mod node;
mod values;

use std::error::Error;
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use crate::channel::{Receiver, never};
use crate::prim;
use crate::prim::untracked::Arc;
use crate::unwind::ScopeCancelled;
use node::NodeRef;
use values::Values;

/// Why a context is done.
///
/// ```
/// use greenloom::context::{Context, ContextError};
///
/// let (ctx, canceller) = Context::background().with_cancel();
/// canceller.cancel();
/// assert_eq!(ctx.err(), Some(ContextError::Cancelled));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContextError {
    /// The context was cancelled, or one that it was derived from.
    Cancelled,
    /// Its deadline has passed.
    DeadlineExceeded,
}

impl fmt::Display for ContextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cancelled => "context cancelled",
            Self::DeadlineExceeded => "context deadline exceeded",
        })
    }
}

impl Error for ContextError {}

/// Says when work is to stop, and carries values that belong to a request.
///
/// Cloning is cheap and gives another handle to the same context. Deriving a context costs an
/// allocation, and unlinking it from its parent is O(1).
///
/// ```
/// use greenloom::context::Context;
///
/// struct User(&'static str);
///
/// let request = Context::background().with_value(User("ada"));
/// let (work, canceller) = request.with_cancel();
/// assert_eq!(work.value::<User>().unwrap().0, "ada");
/// drop(canceller);
/// assert!(work.err().is_some() && request.err().is_none());
/// ```
#[derive(Clone, Default)]
pub struct Context {
    /// The node that can end it, if anything can.
    node: Option<NodeRef>,
    values: Values,
}

impl Context {
    /// The root of all other contexts. It is never done, and has no deadline and no values.
    ///
    /// ```
    /// let ctx = greenloom::context::Context::background();
    /// assert!(ctx.err().is_none() && ctx.deadline().is_none());
    /// ```
    pub const fn background() -> Context {
        Context { node: None, values: Values::NONE }
    }

    /// A context that is done when it is cancelled, or when this one is.
    ///
    /// Dropping the [`Canceller`] cancels it, so bind it to a name, not to `_`.
    ///
    /// ```
    /// use greenloom::context::Context;
    ///
    /// let (parent, canceller) = Context::background().with_cancel();
    /// let (child, _canceller) = parent.with_cancel();
    /// canceller.cancel();
    /// assert!(child.err().is_some());
    /// ```
    pub fn with_cancel(&self) -> (Context, Canceller) {
        self.derive(None)
    }

    /// A context that is done after this time, or earlier if it is cancelled or this context is
    /// done.
    ///
    /// A time that is too long to be added to the current time is shortened until it can be added.
    /// With a timeout of zero, the context is done at once.
    ///
    /// # Panics
    /// If this is the first deadline in the process, and the system cannot start a thread for the
    /// clock.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenloom::context::{Context, ContextError};
    ///
    /// let (ctx, _canceller) = Context::background().with_timeout(Duration::from_millis(5));
    /// assert!(ctx.done().recv().is_err());
    /// assert_eq!(ctx.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    #[track_caller]
    pub fn with_timeout(&self, timeout: Duration) -> (Context, Canceller) {
        let now = prim::now();
        let shorter = std::iter::successors(Some(timeout), |longer| Some(*longer / 2));
        let deadline = shorter.into_iter().find_map(|timeout| now.checked_add(timeout));
        self.derive(deadline)
    }

    /// A context that is done at this moment, or earlier if it is cancelled or this context is
    /// done.
    ///
    /// If this context has an earlier deadline, the earlier one applies. If the moment is past, the
    /// context is done at once.
    ///
    /// # Panics
    /// If this is the first deadline in the process, and the system cannot start a thread for the
    /// clock.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use greenloom::context::{Context, ContextError};
    ///
    /// let soon = Instant::now() + Duration::from_secs(1);
    /// let (ctx, _canceller) = Context::background().with_deadline(soon);
    /// let (later, _canceller) = ctx.with_deadline(soon + Duration::from_secs(1));
    /// assert_eq!(later.deadline(), Some(soon));
    ///
    /// let (late, _canceller) = ctx.with_deadline(Instant::now());
    /// assert_eq!(late.err(), Some(ContextError::DeadlineExceeded));
    /// ```
    #[track_caller]
    pub fn with_deadline(&self, deadline: Instant) -> (Context, Canceller) {
        self.derive(Some(deadline))
    }

    #[track_caller]
    fn derive(&self, deadline: Option<Instant>) -> (Context, Canceller) {
        let node = NodeRef::context(self.node.clone(), deadline);
        let canceller = Canceller { node: Some(node.clone()) };
        (Context { node: Some(node), values: self.values.clone() }, canceller)
    }

    /// This context with a value. If there are several of one type, the last one counts.
    ///
    /// Use it for what belongs to a request and crosses interfaces that do not know of it. Give the
    /// value a type of your own that nobody else uses. The value lives as long as a context that
    /// has it.
    ///
    /// ```
    /// use greenloom::context::Context;
    ///
    /// struct RequestId(u64);
    ///
    /// let ctx = Context::background().with_value(RequestId(7));
    /// assert_eq!(ctx.value::<RequestId>().unwrap().0, 7);
    /// ```
    pub fn with_value<T: Send + Sync + 'static>(&self, value: T) -> Context {
        Context { node: self.node.clone(), values: self.values.with(value) }
    }

    /// The value of this type, if the context or one that it was derived from has one. The search
    /// looks at one value after the other, the newest first.
    ///
    /// ```
    /// let ctx = greenloom::context::Context::background().with_value(1_u8).with_value("one").with_value(2_u8);
    /// assert_eq!(*ctx.value::<u8>().unwrap(), 2);
    /// assert_eq!(*ctx.value::<&str>().unwrap(), "one");
    /// assert!(ctx.value::<u16>().is_none());
    /// ```
    pub fn value<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.values.get()
    }

    /// A context with the values of this one that is never done. Use it for work that must be
    /// finished even if the request is given up.
    ///
    /// ```
    /// let (ctx, canceller) = greenloom::context::Context::background().with_value(1_u8).with_cancel();
    /// let cleanup = ctx.without_cancel();
    /// canceller.cancel();
    /// assert!(cleanup.err().is_none());
    /// assert_eq!(*cleanup.value::<u8>().unwrap(), 1);
    /// ```
    pub fn without_cancel(&self) -> Context {
        Context { node: None, values: self.values.clone() }
    }

    /// Arranges for `f` to run when this context is done, or at once if it is done already.
    ///
    /// `f` runs in a task of its own, in the runtime in which this is called. Outside any runtime,
    /// it runs on a thread of its own, which is started when the context is done. A panic of `f`
    /// does not spread. `f` does not run if that runtime has ended by then, or if the context can
    /// never be done because everything that could end it is gone.
    ///
    /// Several functions of one context are independent of each other and start in no particular
    /// order. A function that waits keeps the context alive, whether or not the [`AfterFunc`] is
    /// dropped.
    ///
    /// ```
    /// use greenloom::channel::bounded;
    /// use greenloom::context::Context;
    ///
    /// let (ctx, canceller) = Context::background().with_cancel();
    /// let (s, r) = bounded(1);
    /// let stopped = ctx.after_func(|| unreachable!());
    /// ctx.after_func(move || s.send("cleaned up").unwrap());
    /// assert!(stopped.stop());
    /// canceller.cancel();
    /// assert_eq!(r.recv(), Ok("cleaned up"));
    /// ```
    #[track_caller]
    pub fn after_func<F: FnOnce() + Send + 'static>(&self, f: F) -> AfterFunc {
        AfterFunc { node: NodeRef::function(self.node.clone(), Box::new(f)) }
    }

    /// Runs `f` until it returns or this context is done. When the context is done, `f` unwinds to
    /// here from the suspension point it waits in, or from its next one. If the context is done
    /// already, `f` is dropped and does not run.
    ///
    /// This is to a context what [`timeout`](crate::time::timeout) is to a time limit, and all that
    /// is said there holds here. It applies to everything that suspends inside, in any library that
    /// `f` calls. Destructors run, and may suspend. Code that never suspends is not ended, unless
    /// it contains a [`checkpoint`](crate::checkpoint). Code that catches the unwinding only delays
    /// it. If `f` returns before it notices the end, its value counts.
    ///
    /// Allocates once. It neither suspends nor blocks by itself. On a plain OS thread, `f` notices
    /// the end where it waits for something of this crate, within some ten milliseconds.
    ///
    /// # Errors
    /// Why the context is done, if that ended any part of `f` or kept it from running.
    ///
    /// # Panics
    /// If `f` panics. Also in a build with `panic = "abort"`, which cannot unwind.
    ///
    /// # Cancellation
    /// Not a suspension point. A cancelled task unwinds through it.
    ///
    /// ```
    /// use std::time::Duration;
    /// use greenloom::context::{Context, ContextError};
    /// use greenloom::sleep;
    ///
    /// greenloom::run(|| {
    ///     let (ctx, canceller) = Context::background().with_cancel();
    ///     let task = greenloom::spawn({
    ///         let ctx = ctx.clone();
    ///         // Knows nothing of contexts inside.
    ///         move || ctx.run_until_done(|| sleep(Duration::from_secs(60)))
    ///     });
    ///     canceller.cancel();
    ///     assert_eq!(task.join().unwrap(), Err(ContextError::Cancelled));
    ///     assert_eq!(Context::background().run_until_done(|| 42), Ok(42));
    /// });
    /// ```
    #[track_caller]
    pub fn run_until_done<F: FnOnce() -> T, T>(&self, f: F) -> Result<T, ContextError> {
        let Some(node) = &self.node else { return Ok(f()) };
        if let Some(why) = node.ended() {
            return Err(why);
        }
        NodeRef::run(node.clone(), f).map_err(|ScopeCancelled| node.ended().expect("its end has cancelled the scope"))
    }

    /// The former name of [`run_until_done`](Self::run_until_done).
    ///
    /// # Errors
    /// The same as [`run_until_done`](Self::run_until_done).
    #[doc(hidden)]
    #[deprecated(note = "it is called `run_until_done`")]
    #[track_caller]
    pub fn run<F: FnOnce() -> T, T>(&self, f: F) -> Result<T, ContextError> {
        self.run_until_done(f)
    }

    /// A channel that is disconnected when the context is done, and delivers nothing before. Use it
    /// in [`select!`](crate::select!), or wait for it alone.
    ///
    /// ```
    /// use greenloom::channel::{TryRecvError, bounded, select};
    /// use greenloom::context::Context;
    ///
    /// let (ctx, canceller) = Context::background().with_cancel();
    /// let (_s, work) = bounded::<()>(0);
    /// assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
    /// canceller.cancel();
    /// select! {
    ///     recv(work) -> _ => unreachable!(),
    ///     recv(ctx.done()) -> _ => {}
    /// }
    /// ```
    pub fn done(&self) -> &Receiver<()> {
        static NEVER: Receiver<()> = never();
        match &self.node {
            Some(node) => node.done(),
            None => &NEVER,
        }
    }

    /// Why the context is done, if it is.
    ///
    /// It becomes `Some` when [`done`](Self::done) is disconnected, and not before.
    ///
    /// ```
    /// let (ctx, canceller) = greenloom::context::Context::background().with_cancel();
    /// assert!(ctx.err().is_none());
    /// canceller.cancel();
    /// assert_eq!(ctx.err().unwrap().to_string(), "context cancelled");
    /// ```
    pub fn err(&self) -> Option<ContextError> {
        self.node.as_ref()?.ended()
    }

    /// Why the context is done, in more detail than [`err`](Self::err). This is what the first
    /// [`cancel_with`](Canceller::cancel_with) gave, to this context or to one above it. Otherwise
    /// it is the [`ContextError`].
    ///
    /// ```
    /// use greenloom::context::{Context, ContextError};
    ///
    /// let (ctx, canceller) = Context::background().with_cancel();
    /// let (child, _canceller) = ctx.with_cancel();
    /// canceller.cancel_with("no more room");
    /// assert_eq!(child.err(), Some(ContextError::Cancelled));
    /// assert_eq!(child.cause().unwrap().to_string(), "no more room");
    /// ```
    pub fn cause(&self) -> Option<Arc<dyn Error + Send + Sync>> {
        self.node.as_ref()?.cause()
    }

    /// The latest time at which the context will be done, if that is known.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use greenloom::context::Context;
    ///
    /// let before = Instant::now();
    /// let (ctx, _canceller) = Context::background().with_timeout(Duration::from_secs(3));
    /// assert!(ctx.deadline().unwrap() >= before + Duration::from_secs(3));
    /// ```
    pub fn deadline(&self) -> Option<Instant> {
        self.node.as_ref()?.deadline()
    }
}

impl UnwindSafe for Context {}
impl RefUnwindSafe for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Context");
        if let Some(node) = &self.node {
            out.field("err", &node.ended());
            if let Some(deadline) = node.deadline() {
                out.field("deadline", &deadline);
            }
        }
        out.field("values", &self.values).finish()
    }
}

/// Cancels a context, by [`cancel`](Self::cancel) or when it is dropped.
///
/// ```
/// let (ctx, canceller) = greenloom::context::Context::background().with_cancel();
/// drop(canceller);
/// assert!(ctx.err().is_some());
/// ```
#[must_use = "dropping it cancels the context"]
pub struct Canceller {
    /// None once disarmed.
    node: Option<NodeRef>,
}

impl Canceller {
    /// Cancels the context and all contexts derived from it. A context that is done already stays
    /// as it is.
    ///
    /// When this returns, they are all done, even if another thread or a deadline is ending the
    /// same context or one below it at this moment. The call does as much of that work itself as is
    /// needed, and waits for nobody.
    ///
    /// ```
    /// let (ctx, canceller) = greenloom::context::Context::background().with_cancel();
    /// canceller.cancel();
    /// assert!(ctx.done().recv().is_err());
    /// ```
    pub fn cancel(&self) {
        self.end(None);
    }

    /// Like [`cancel`](Self::cancel), but also says why: with an error, or a text. See
    /// [`Context::cause`].
    ///
    /// The [cause](Context::cause) of another context is passed on unchanged.
    ///
    /// ```
    /// use greenloom::context::Context;
    ///
    /// let (ctx, canceller) = Context::background().with_cancel();
    /// canceller.cancel_with(std::io::Error::other("the disk is gone"));
    /// canceller.cancel_with("too late to be heard");
    /// assert!(ctx.cause().unwrap().is::<std::io::Error>());
    /// ```
    pub fn cancel_with(&self, cause: impl Into<Box<dyn Error + Send + Sync>>) {
        let cause = match cause.into().downcast::<Arc<dyn Error + Send + Sync>>() {
            Ok(passed_on) => *passed_on,
            Err(own) => own.into(),
        };
        self.end(Some(cause));
    }

    fn end(&self, cause: Option<node::Cause>) {
        if let Some(node) = &self.node {
            node.end(ContextError::Cancelled, &cause);
        }
    }

    /// Gives up cancelling: the context lives until its deadline, or until the context that it was
    /// derived from is done. If there is neither, a function that
    /// [`after_func`](Context::after_func) keeps for it is kept forever, unless it is stopped.
    ///
    /// ```
    /// let (parent, _canceller) = greenloom::context::Context::background().with_cancel();
    /// let (ctx, canceller) = parent.with_cancel();
    /// canceller.disarm();
    /// assert!(ctx.err().is_none());
    /// ```
    pub fn disarm(mut self) {
        self.node = None;
    }
}

impl Drop for Canceller {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl UnwindSafe for Canceller {}
impl RefUnwindSafe for Canceller {}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Canceller { .. }")
    }
}

/// A function that waits for a context to be done; see [`Context::after_func`]. Dropping this has
/// no effect on the function.
///
/// ```
/// let (ctx, _canceller) = greenloom::context::Context::background().with_cancel();
/// let waits = ctx.after_func(|| unreachable!());
/// assert!(waits.stop());
/// ```
pub struct AfterFunc {
    node: NodeRef,
}

impl AfterFunc {
    /// Keeps the function from running. Returns true if this call did so, and false if the function
    /// has been started or was stopped before.
    ///
    /// Does not wait for a function that is running. A function that is stopped is dropped here.
    ///
    /// ```
    /// let (ctx, canceller) = greenloom::context::Context::background().with_cancel();
    /// let runs = ctx.after_func(|| ());
    /// canceller.cancel();
    /// assert!(!runs.stop());
    /// ```
    pub fn stop(&self) -> bool {
        self.node.withdraw()
    }
}

impl UnwindSafe for AfterFunc {}
impl RefUnwindSafe for AfterFunc {}

impl fmt::Debug for AfterFunc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("AfterFunc { .. }")
    }
}
