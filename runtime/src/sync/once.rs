//! Initialisation that happens once.
//!
//! | state | means | next |
//! |---|---|---|
//! | `NEW` | nobody has tried, or who tried was cancelled | `RUNNING` |
//! | `POISONED` | who tried last panicked | `RUNNING`, by those who do not mind |
//! | `RUNNING` | one is at it; the others are in the queue | any other |
//! | `DONE` | for good | |
//!
//! The state changes under the queue's lock. Who looks without it trusts `DONE` alone.

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

/// Runs an initialisation once, however many ask for it: [`std::sync::Once`]'s shape.
///
/// An initialisation that panics poisons it; one whose task is cancelled does not, and the next caller tries again.
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

/// What an initialisation that was started by [`Once::call_once_force`] may want to know.
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

/// What a caller does who finds the initialisation poisoned.
#[derive(Clone, Copy)]
pub(super) enum IfPoisoned {
    /// With std's sentence about the type of this name.
    Panic(&'static str),
    TryAgain,
}

/// What becomes of the state if the task of the initialisation is cancelled.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum IfCancelled {
    TryAgain,
    /// There is nothing left to try again with.
    Poison,
}

/// What a caller is to do.
#[derive(Clone, Copy, PartialEq)]
enum Entry {
    Wait,
    Run { poisoned: bool },
    Refuse,
    Leave,
}

impl Once {
    const_fn! {
        /// With the initialisation still to come.
        ///
        /// ```
        /// static START: greenloom::sync::Once = greenloom::sync::Once::new();
        /// assert!(!START.is_completed());
        /// ```
        pub const fn new() -> Self {
            Self { state: AtomicU8::new(NEW), queue: Lock::new(WaitQueue::new()) }
        }
    }

    /// Runs `f` if it is the first to ask; otherwise waits until the first has done.
    ///
    /// Suspends the task while another is at it; blocks a plain thread. `f` may suspend. It must not come back here: it would wait
    /// for itself.
    ///
    /// # Panics
    /// If `f` does, or an earlier one did. Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, or from `f`; the next caller then tries again.
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

    /// As [`call_once`](Self::call_once), but tries again after an attempt that panicked; `f` is told.
    ///
    /// Suspends the task while another is at it; blocks a plain thread.
    ///
    /// # Panics
    /// If `f` does. Inside [`no_suspend`](crate::no_suspend), if it has to wait.
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

    /// Whether an initialisation has been completed. Never waits.
    ///
    /// ```
    /// assert!(!greenloom::sync::Once::new().is_completed());
    /// ```
    #[inline(always)]
    pub fn is_completed(&self) -> bool {
        // Acquire: pairs with the Release in `leave`; what the initialisation did is seen.
        self.state.load(Ordering::Acquire) == DONE
    }

    /// Waits until an initialisation has been completed, by whomever.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// If it is poisoned, or is while the caller waits. Inside [`no_suspend`](crate::no_suspend), if it has to wait.
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

    /// As [`wait`](Self::wait), but waits on where it is poisoned.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
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
        // Who waits does not run anything: a state that invites to is one to wait in.
        self.enter(if_poisoned, |_| Entry::Wait);
    }

    /// The slow half of `call_once` and its kin: runs `f` once, or not at all.
    #[cold]
    #[track_caller]
    pub(super) fn call(&self, if_poisoned: IfPoisoned, if_cancelled: IfCancelled, f: &mut dyn FnMut(&OnceState)) {
        if let Entry::Run { poisoned } = self.enter(if_poisoned, |poisoned| Entry::Run { poisoned }) {
            let attempt = Attempt { once: self, if_cancelled };
            f(&OnceState { poisoned });
            attempt.done();
        }
    }

    /// Waits as long as there is reason to; what then is to be done. `invited` says what a caller does where nobody is at it.
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
                // Relaxed: the lock orders it, and who looks without the lock only looks for DONE.
                (Entry::Run { .. }, _) => self.state.store(RUNNING, Ordering::Relaxed),
                // SAFETY: under the queue's lock; the node is in no list, and stays where it is as long as it is in one: the wait ends
                // when it was taken out.
                (Entry::Wait, Some((node, waiter))) => unsafe { queue.push(node, waiter) },
                _ => {}
            }
            entry
        };
        // First without waiting: who need not wait is not cancelled here.
        let mut entry = look(None);
        while entry == Entry::Wait {
            let node = Queued::node(());
            let publish = |waiter| {
                entry = look(Some((&node, waiter)));
                entry == Entry::Wait
            };
            // SAFETY: under the queue's lock; pushed before.
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

    /// The one who is at it ends.
    fn leave(&self, state: u8) {
        let mut queue = self.queue.lock();
        // Release: pairs with the Acquire in `is_completed`.
        self.state.store(state, Ordering::Release);
        let released = queue.release_all();
        drop(queue);
        drop(released);
    }

    /// Begins anew; nobody else has it.
    pub(super) fn reset(&mut self) {
        *self = Self::new();
    }

    /// Whether an attempt has panicked; nobody else has it.
    pub(super) fn is_poisoned_mut(&mut self) -> bool {
        // Relaxed: nobody else has it.
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

/// The one who is at it.
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
