//! Initialisation that happens once.
//!
//! | state | meaning | next |
//! |---|---|---|
//! | `NEW` | nobody has tried, or the last attempt was cancelled | `RUNNING` |
//! | `POISONED` | the last attempt panicked | `RUNNING`, by a caller that tries again after a panic |
//! | `RUNNING` | one caller runs the initialisation; the others are in the queue | any other |
//! | `DONE` | final | |
//!
//! The state changes under the queue's lock. A caller that reads it without the lock relies on
//! `DONE` only.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};

use super::const_fn;
use crate::prim::Lock;
use crate::prim::atomic::{AtomicU8, Ordering};
use crate::unwind;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::Node;
use crate::wait::queue::{Queued, WaitQueue};

const NAME: &str = "Once";

const NEW: u8 = 0;
const POISONED: u8 = 1;
const RUNNING: u8 = 2;
const DONE: u8 = 3;

/// Runs an initialisation once, no matter how many callers ask for it. The API is that of
/// [`std::sync::Once`].
///
/// An initialisation that panics poisons it. One whose task is cancelled does not, and the next
/// caller tries again.
///
/// ```
/// use greenloom::sync::Once;
///
/// static START: Once = Once::new();
/// greenloom::run(|| {
///     START.call_once(|| println!("printed once"));
///     START.call_once(|| unreachable!());
/// });
/// ```
pub struct Once {
    state: AtomicU8,
    queue: Lock<WaitQueue<()>>,
}

/// The state that [`Once::call_once_force`] passes to an initialisation.
///
/// ```
/// greenloom::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
/// ```
pub struct OnceState {
    poisoned: bool,
}

impl OnceState {
    /// Whether the attempt before this one panicked.
    ///
    /// ```
    /// greenloom::sync::Once::new().call_once_force(|state| assert!(!state.is_poisoned()));
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}

impl fmt::Debug for OnceState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnceState").field("poisoned", &self.is_poisoned()).finish()
    }
}

/// What a caller does if the initialisation is poisoned.
#[derive(Clone, Copy)]
pub(super) enum IfPoisoned {
    /// Panic with std's message, naming this type.
    Panic(&'static str),
    TryAgain,
}

/// What happens to the state if the task that runs the initialisation is cancelled.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum IfCancelled {
    TryAgain,
    /// Another attempt is not possible.
    Poison,
}

/// What a caller has to do.
#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Wait,
    Run { poisoned: bool },
    Refuse,
    Leave,
}

impl Once {
    const_fn! {
        /// Creates a `Once` whose initialisation has not run.
        ///
        /// ```
        /// static START: greenloom::sync::Once = greenloom::sync::Once::new();
        /// assert!(!START.is_completed());
        /// ```
        pub const fn new() -> Self {
            Self { state: AtomicU8::new(NEW), queue: Lock::new(WaitQueue::new()) }
        }
    }

    /// Runs `f` if this is the first call. Otherwise waits until the first call is done.
    ///
    /// Suspends the task while another runs the initialisation; blocks a plain thread. `f` may
    /// suspend. It must not call this `Once` again: it would wait for itself.
    ///
    /// # Panics
    /// Panics if `f` does, or if an earlier one did. Panics inside
    /// [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, or from `f`. The next caller then
    /// tries again.
    ///
    /// ```
    /// let once = greenloom::sync::Once::new();
    /// once.call_once(|| ());
    /// assert!(once.is_completed());
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once<F: FnOnce()>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(IfPoisoned::Panic(NAME), IfCancelled::TryAgain, &mut |_| f.take().expect("runs once")());
        }
    }

    /// Like [`call_once`](Self::call_once), but tries again if an earlier attempt panicked. `f` is
    /// told whether one did.
    ///
    /// Suspends the task while another runs the initialisation; blocks a plain thread.
    ///
    /// # Panics
    /// Panics if `f` does. Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// As [`call_once`](Self::call_once).
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    ///
    /// let once = greenloom::sync::Once::new();
    /// let _ = catch_unwind(AssertUnwindSafe(|| once.call_once(|| panic!("not yet"))));
    /// once.call_once_force(|state| assert!(state.is_poisoned()));
    /// assert!(once.is_completed());
    /// ```
    #[inline]
    #[track_caller]
    pub fn call_once_force<F: FnOnce(&OnceState)>(&self, f: F) {
        if !self.is_completed() {
            let mut f = Some(f);
            self.call(IfPoisoned::TryAgain, IfCancelled::TryAgain, &mut |state| f.take().expect("runs once")(state));
        }
    }

    /// Returns whether an initialisation has completed. Never waits.
    ///
    /// ```
    /// assert!(!greenloom::sync::Once::new().is_completed());
    /// ```
    #[inline(always)]
    pub fn is_completed(&self) -> bool {
        // Acquire: pairs with the Release in `leave`, so that the initialisation's effects are
        // visible.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Waits until any caller has completed an initialisation.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Panics if it is poisoned, or becomes poisoned while the caller waits. Panics inside
    /// [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait.
    ///
    /// ```
    /// let once = greenloom::sync::Once::new();
    /// std::thread::scope(|s| {
    ///     s.spawn(|| once.call_once(|| ()));
    ///     once.wait();
    /// });
    /// ```
    #[track_caller]
    pub fn wait(&self) {
        self.wait_if(IfPoisoned::Panic(NAME));
    }

    /// Like [`wait`](Self::wait), but keeps waiting if it is poisoned.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait.
    ///
    /// ```
    /// let once = greenloom::sync::Once::new();
    /// once.call_once(|| ());
    /// once.wait_force();
    /// ```
    #[track_caller]
    pub fn wait_force(&self) {
        self.wait_if(IfPoisoned::TryAgain);
    }

    #[track_caller]
    fn wait_if(&self, if_poisoned: IfPoisoned) {
        // A waiter runs nothing. In a state where a caller could run the initialisation, it waits.
        self.enter(if_poisoned, |_| Entry::Wait);
    }

    /// The slow path of `call_once` and similar methods. Runs `f` once, or not at all.
    #[cold]
    #[track_caller]
    pub(super) fn call(&self, if_poisoned: IfPoisoned, if_cancelled: IfCancelled, f: &mut dyn FnMut(&OnceState)) {
        if let Entry::Run { poisoned } = self.enter(if_poisoned, |poisoned| Entry::Run { poisoned }) {
            let attempt = Attempt { once: self, if_cancelled };
            f(&OnceState { poisoned });
            attempt.done();
        }
    }

    /// Waits as long as necessary, and returns what has to be done then. `invited` says what the
    /// caller does if nobody runs the initialisation.
    #[track_caller]
    fn enter(&self, if_poisoned: IfPoisoned, invited: impl Fn(bool) -> Entry) -> Entry {
        let look = |waiter: Option<(&Node<Queued<()>>, Waiter)>| {
            let mut queue = self.queue.lock();
            // Relaxed: the lock orders it.
            let entry = match self.state.load(Ordering::Relaxed) {
                DONE => Entry::Leave,
                RUNNING => Entry::Wait,
                POISONED if matches!(if_poisoned, IfPoisoned::Panic(_)) => Entry::Refuse,
                state => invited(state == POISONED),
            };
            match (entry, waiter) {
                // Relaxed: the lock orders it, and a reader without the lock looks only for DONE.
                (Entry::Run { .. }, _) => self.state.store(RUNNING, Ordering::Relaxed),
                // SAFETY: rules 1 and 2 of `wait::list`: the queue is locked; the node is in no
                // list, and it does not move while it is in one, because the wait lasts until it is
                // taken out.
                (Entry::Wait, Some((node, waiter))) => unsafe { queue.push(node, waiter) },
                _ => {}
            }
            entry
        };
        // The first look does not wait: a caller that need not wait is not cancelled here.
        let mut entry = look(None);
        while entry == Entry::Wait {
            let node = Queued::node(());
            let publish = |waiter| {
                entry = look(Some((&node, waiter)));
                entry == Entry::Wait
            };
            // SAFETY: rule 1 of `wait::list`: the queue is locked. The node was pushed to it.
            let _ = wait::wait_for(Reason::Sync, None, publish, || unsafe { self.queue.lock().withdraw(&node) });
            if entry == Entry::Wait {
                entry = look(None);
            }
        }
        if let (Entry::Refuse, IfPoisoned::Panic(name)) = (entry, if_poisoned) {
            panic!("{name} instance has previously been poisoned");
        }
        entry
    }

    /// Ends the attempt that is running.
    fn leave(&self, state: u8) {
        let mut queue = self.queue.lock();
        // Release: pairs with the Acquire in `is_completed`.
        self.state.store(state, Ordering::Release);
        let released = queue.release_all();
        drop(queue);
        drop(released);
    }

    /// Starts over. Nobody else has access.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Returns whether an attempt has panicked. Nobody else has access.
    pub(super) fn is_poisoned_mut(&mut self) -> bool {
        // Relaxed: nobody else has access.
        self.state.load(Ordering::Relaxed) == POISONED
    }
}

impl Default for Once {
    fn default() -> Self {
        Self::new()
    }
}

impl UnwindSafe for Once {}
impl RefUnwindSafe for Once {}

impl fmt::Debug for Once {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Once").finish_non_exhaustive()
    }
}

/// The attempt that is running.
struct Attempt<'a> {
    once: &'a Once,
    if_cancelled: IfCancelled,
}

impl Attempt<'_> {
    fn done(self) {
        self.once.leave(DONE);
        std::mem::forget(self);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let again = self.if_cancelled == IfCancelled::TryAgain && unwind::is_cancelling();
        self.once.leave(if again { NEW } else { POISONED });
    }
}
