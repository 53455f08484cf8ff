//! The mutex.
//!
//! # The lock word
//!
//! | `LOCKED` | `WAITERS` | `WOKEN` | `HANDOVER` | |
//! |---|---|---|---|---|
//! | 0 | 0 | 0 | 0 | free |
//! | 1 | 0 | 0 | 0 | held; nobody waits |
//! | 1 | 1 | 0 | 0 | held; the unlock must wake the oldest waiter |
//! | 0 | 1 | 0 | 0 | free; the unlocker is about to wake the oldest waiter |
//! | 0 | * | 1 | 0 | free; one waiter has been woken and is about to try. Others may be faster ("barging") |
//! | 1 | * | 1 | 0 | held by a barger; the unlock wakes nobody, because the woken waiter is on its way |
//! | 1 | 1 | 0 | 1 | held; the unlock must give the lock to the oldest waiter |
//! | 0 | 1 | 0 | 1 | nobody may keep it: the unlocker is about to give it to the oldest waiter |
//!
//! Other combinations do not occur: `HANDOVER` needs `WAITERS` and excludes `WOKEN`.
//!
//! # The protocol
//!
//! 1. `WAITERS` says that the queue is not empty. `WAITERS` and `HANDOVER` change only under the
//!    queue's lock, and `WOKEN` is set only under it. `LOCKED` changes without it.
//! 2. Under the queue's lock, a waiter queues itself if the word says `LOCKED` or `HANDOVER` in the
//!    same step that sets `WAITERS`. The next unlock therefore sees `WAITERS`, and no wake is lost.
//! 3. An unlock clears `LOCKED`. If that step saw `WAITERS` without `WOKEN`, the unlocker takes the
//!    queue's lock and looks again. With `HANDOVER`, it sets `LOCKED` on behalf of the oldest
//!    waiter. If the lock is still free, it takes the oldest waiter out, sets `WOKEN` and wakes it.
//!    If somebody has barged in, the barger's unlock does this instead.
//!    A barger takes the lock with one `fetch_or`, whatever else the word says. If it then sees
//!    `HANDOVER`, the lock was meant for another: it unlocks at once, which passes the hand-over
//!    on, and waits. (Reading the word first, and then a `compare_exchange` from what was read,
//!    adds a third RMW to every contended round: `mutex` at two processors takes 8.6 ns that way,
//!    5.0 this way.)
//! 4. Only the woken waiter clears `WOKEN`: in the step that takes the lock, in the step that
//!    queues it again, or when it unwinds. In the last case it passes the wake on.
//! 5. A woken waiter that finds the lock taken again goes to the front of the queue. After
//!    [`PATIENCE`] such losses it sets `HANDOVER`, and is the next owner.
//!
//! So at most one waiter is on its way at any time. Barging makes a contended mutex fast: the lock
//! is not idle while a task waits for its turn on the processor. The hand-over makes it fair. It is
//! Go's starvation mode (`sync/mutex.go`), except that Go counts a millisecond and this mutex
//! counts losses, because no clock is read on a switch here.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, TryLockError, TryLockResult};

use super::poison::{Flag, Made};
use super::value::Value;
use super::{const_fn, shown_as_value};
use crate::prim::Lock;
use crate::prim::atomic::{AtomicU32, Ordering};
use crate::sync::word;
use crate::unwind;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::{List, Node};

const LOCKED: u32 = 1;
const WAITERS: u32 = 1 << 1;
const WOKEN: u32 = 1 << 2;
const HANDOVER: u32 = 1 << 3;

/// How often a woken waiter may find the lock taken before it asks for a hand-over.
///
/// A hand-over keeps the lock idle until the waiter's turn on its processor comes, and each task
/// that tries to lock in the meantime queues up as well. So it should be rare. A model must reach
/// it.
const PATIENCE: u32 = if cfg!(greenloom_loom) { 1 } else { 4 };

/// A mutual exclusion lock that suspends a waiting task and blocks a waiting plain thread. The API
/// is that of [`std::sync::Mutex`].
///
/// Its guard may be held across a suspension. Waiters are served in order, with one exception: a
/// running task or thread may take a free lock ahead of a waiter that has just been woken. A waiter
/// that has lost several times that way is handed the lock.
///
/// A panic while the guard is held poisons the mutex, as in std. Unwinding from a cancellation does
/// not.
///
/// The algorithm is Go's (`sync/mutex.go`), with its own queue.
///
/// ```
/// use greenloom::sync::Mutex;
/// use std::sync::Arc;
///
/// greenloom::run(|| {
///     let count = Arc::new(Mutex::new(0));
///     let tasks: Vec<_> = (0..10)
///         .map(|_| {
///             let count = count.clone();
///             greenloom::spawn(move || *count.lock().unwrap() += 1)
///         })
///         .collect();
///     tasks.into_iter().for_each(|task| task.join().unwrap());
///     assert_eq!(*count.lock().unwrap(), 10);
/// });
/// ```
pub struct Mutex<T: ?Sized> {
    raw: Raw,
    poison: Flag,
    value: Value<T>,
}

// SAFETY: the lock gives the value to one holder at a time, on any thread.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: the lock gives the value to one holder at a time, on any thread.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// Access to the value that a [`Mutex`] protects. Unlocks the mutex when dropped.
///
/// It may be held across a suspension. It stays on its thread, like std's guard.
#[must_use = "the mutex is unlocked at once if its guard is not kept"]
#[clippy::has_significant_drop]
pub struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    made: Made,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T> Mutex<T> {
    const_fn! {
        /// Creates an unlocked mutex around `value`.
        ///
        /// ```
        /// static TOTAL: greenloom::sync::Mutex<u64> = greenloom::sync::Mutex::new(0);
        /// *TOTAL.lock().unwrap() += 1;
        /// ```
        pub const fn new(value: T) -> Self {
            Self { raw: Raw::new(), poison: Flag::new(), value: Value::new(value) }
        }
    }

    /// Takes the value out. Never waits.
    ///
    /// # Errors
    /// Fails if the mutex is poisoned. The value is in the error.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::Mutex::new(1).into_inner().unwrap(), 1);
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.wrap(self.value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting until it is free.
    ///
    /// Suspends the task while another holds the lock; blocks a plain thread. Never returns to a
    /// task that already holds the lock.
    ///
    /// # Errors
    /// Fails if the mutex is poisoned. The guard is in the error.
    ///
    /// # Panics
    /// Panics inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here, without the lock, if it has to wait.
    ///
    /// ```
    /// let mutex = greenloom::sync::Mutex::new(1);
    /// *mutex.lock().unwrap() += 1;
    /// assert_eq!(*mutex.lock().unwrap(), 2);
    /// ```
    // Inlined for the sake of `Record::suspend`.
    #[inline(always)]
    #[track_caller]
    pub fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        self.raw.lock();
        self.poison.wrap(MutexGuard::new(self))
    }

    /// Takes the lock if it is free. Does not wait, but a failed attempt may [give
    /// way](crate#what-suspends).
    ///
    /// # Errors
    /// Fails if the lock is taken or the mutex is poisoned. If it is poisoned, the guard is in the
    /// error.
    ///
    /// ```
    /// let mutex = greenloom::sync::Mutex::new(1);
    /// let guard = mutex.try_lock().unwrap();
    /// assert!(mutex.try_lock().is_err());
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        let guard = self.attempt();
        if let Err(TryLockError::WouldBlock) = guard {
            wait::yield_if_hogging();
        }
        guard
    }

    /// Like [`try_lock`](Self::try_lock), without giving way.
    #[inline]
    fn attempt(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if !self.raw.word.try_lock() {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(MutexGuard::new(self))?)
    }

    /// Returns whether a holder has panicked. A hint, unless the caller holds the lock. Never
    /// waits.
    ///
    /// ```
    /// assert!(!greenloom::sync::Mutex::new(1).is_poisoned());
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Clears the poison that a panicking holder left. Never waits.
    ///
    /// ```
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    ///
    /// let mutex = greenloom::sync::Mutex::new(1);
    /// let _ = catch_unwind(AssertUnwindSafe(|| {
    ///     let _guard = mutex.lock().unwrap();
    ///     panic!("half done");
    /// }));
    /// assert!(mutex.is_poisoned());
    /// mutex.clear_poison();
    /// assert!(mutex.lock().is_ok());
    /// ```
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// Returns the value mutably. Nobody else can hold the lock. Never waits.
    ///
    /// # Errors
    /// Fails if the mutex is poisoned. The reference is in the error.
    ///
    /// ```
    /// let mut mutex = greenloom::sync::Mutex::new(1);
    /// *mutex.get_mut().unwrap() = 2;
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        self.poison.wrap(self.value.get_mut())
    }
}

impl<T> From<T> for Mutex<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // std also puts this in quotes, unlike what `RwLock` prints.
        super::debug_lock(f, "Mutex", self.attempt(), &"<locked>", self.is_poisoned())
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The caller has taken the lock and passes it to the guard.
    #[inline(always)]
    fn new(mutex: &'a Mutex<T>) -> Self {
        mutex.value.announce_write();
        Self { mutex, made: Flag::enter(), _not_send: PhantomData }
    }

    /// The mutex that this guard belongs to.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock, and with it the value.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock, and with it the value.
        unsafe { &mut *self.mutex.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        self.mutex.poison.leave(self.made);
        self.mutex.raw.unlock();
    }
}

shown_as_value!(MutexGuard);

/// What a would-be waiter must do next, as decided under the queue's lock.
#[must_use]
#[derive(PartialEq)]
enum TransitionToWaiting {
    /// Go on: it holds the lock.
    Taken,
    /// Join the queue.
    Wait,
}

/// What the unlocker has to do with the oldest waiter.
#[must_use]
enum TransitionByUnlock {
    /// Take it out and wake it: it holds the lock.
    HandOver,
    /// Take it out and wake it: it may try.
    Wake,
    /// Leave it: somebody else will wake it.
    Leave,
}

/// The result of an attempt to seize the lock.
#[must_use]
enum Seized {
    Yes,
    /// Somebody else holds it.
    No,
    /// The caller holds it, but it was to be handed over: the caller must unlock.
    MeantForAnother,
}

/// The lock word; see the module.
struct Word(AtomicU32);

impl Word {
    const_fn! {
        const fn new() -> Self {
            Self(AtomicU32::new(0))
        }
    }

    /// Takes the lock, even if others wait.
    #[inline(always)]
    fn seize(&self) -> Seized {
        // Acquire: pairs with the Release of `unlock`.
        if self.0.fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
            Seized::No
        } else if self.0.load(Ordering::Relaxed) & HANDOVER != 0 {
            // The hand-over may also have been requested since, from this holder. Then this is only
            // early.
            Seized::MeantForAnother
        } else {
            Seized::Yes
        }
    }

    /// Applies `step` until the exchange succeeds.
    ///
    /// AcqRel: the new holder sees what the last holder did (pairs with `unlock`). If the lock is
    /// taken on behalf of a waiter, the wake passes this on to the waiter.
    #[inline(always)]
    fn change<R>(&self, step: impl FnMut(u32) -> (u32, R)) -> R {
        word::change(&self.0, step)
    }

    /// Takes the lock if it is free, ahead of waiters, unless it is being handed over.
    fn try_lock(&self) -> bool {
        self.change(|s| if s & (LOCKED | HANDOVER) == 0 { (s | LOCKED, true) } else { (s, false) })
    }

    /// Takes the lock, or records that somebody waits. With `woken`, the caller is the waiter that
    /// `WOKEN` refers to.
    fn take_or_wait(&self, woken: bool, hand_over: bool) -> TransitionToWaiting {
        self.change(|s| {
            let seen = if woken { s & !WOKEN } else { s };
            if s & (LOCKED | HANDOVER) == 0 {
                (seen | LOCKED, TransitionToWaiting::Taken)
            } else {
                (seen | WAITERS | if hand_over { HANDOVER } else { 0 }, TransitionToWaiting::Wait)
            }
        })
    }

    /// A waiter has left the queue. Clears the bits that no longer hold.
    fn withdraw(&self, last: bool, hand_over: bool) {
        let gone = if last { WAITERS } else { 0 } | if hand_over { HANDOVER } else { 0 };
        self.change(|s| (s & !gone, ()));
    }

    /// The woken waiter will not try.
    fn forget_woken(&self) {
        self.change(|s| (s & !WOKEN, ()));
    }

    /// Releases the lock. Returns whether a waiter must be woken.
    #[inline(always)]
    fn unlock(&self) -> bool {
        // Release: pairs with the Acquire of the next holder.
        let before = self.0.fetch_sub(LOCKED, Ordering::Release);
        before & (WAITERS | WOKEN) == WAITERS
    }

    /// Decides what happens to the oldest waiter. `last` means that there is no other.
    fn choose(&self, last: bool) -> TransitionByUnlock {
        self.change(|s| {
            let left = if last { s & !WAITERS } else { s };
            if s & LOCKED != 0 {
                (s, TransitionByUnlock::Leave)
            } else if s & HANDOVER != 0 {
                ((left | LOCKED) & !HANDOVER, TransitionByUnlock::HandOver)
            } else if s & WOKEN != 0 {
                (s, TransitionByUnlock::Leave)
            } else {
                (left | WOKEN, TransitionByUnlock::Wake)
            }
        })
    }
}

/// The state of a waiter.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// In the queue, or not yet in it.
    Waits,
    /// At the front of the queue, and the lock will be handed over to it.
    Demands,
    /// `WOKEN` refers to it.
    Woken,
    /// It holds the lock.
    Owns,
}

/// What the queue keeps for a waiter. Written under the queue's lock, or by its owner while it is
/// not in the queue.
struct Place {
    role: Cell<Role>,
    losses: Cell<u32>,
}

/// The mutex without its value.
struct Raw {
    word: Word,
    queue: Lock<List<Place>>,
}

impl Raw {
    const_fn! {
        const fn new() -> Self {
            Self { word: Word::new(), queue: Lock::new(List::new()) }
        }
    }

    #[inline(always)]
    #[track_caller]
    fn lock(&self) {
        wait::look_at_slice();
        match self.word.seize() {
            Seized::Yes => return,
            Seized::No => {}
            Seized::MeantForAnother => self.unlock(),
        }
        self.lock_contended();
    }

    #[inline(always)]
    #[track_caller]
    fn lock_contended(&self) {
        std::hint::cold_path();
        // The holder may just have left. This saves taking the queue's lock.
        if self.word.try_lock() {
            return;
        }
        let turn = Turn::new(self);
        while !turn.owns() {
            let _ = wait::wait_for(Reason::Lock, None, |waiter| turn.publish(waiter), || turn.withdraw());
        }
        unwind::checkpoint_with(|| self.unlock());
    }

    #[inline(always)]
    fn unlock(&self) {
        if self.word.unlock() {
            self.wake_oldest();
        }
    }

    /// Step 3 of the protocol, after the lock has been released.
    #[cold]
    fn wake_oldest(&self) {
        let queue = self.queue.lock();
        // SAFETY: rules 1 and 3 of `wait::list`: the queue is locked; after it is unlocked, only
        // the waiter is used.
        let waiter = unsafe {
            let Some(oldest) = queue.front() else { return };
            let role = match self.word.choose(queue.iter().nth(1).is_none()) {
                TransitionByUnlock::HandOver => Role::Owns,
                TransitionByUnlock::Wake => Role::Woken,
                TransitionByUnlock::Leave => return,
            };
            queue.remove(oldest);
            oldest.data().role.set(role);
            oldest.waiter()
        };
        drop(queue);
        // SAFETY: rule 2 of `wait`: taken out of the queue just now, so it is owed one wake.
        unsafe { waiter.wake() };
    }
}

/// A waiter on its way to the lock.
struct Turn<'a> {
    raw: &'a Raw,
    node: Node<Place>,
}

impl<'a> Turn<'a> {
    #[inline(always)]
    fn new(raw: &'a Raw) -> Self {
        Self { raw, node: Node::new(Place { role: Cell::new(Role::Waits), losses: Cell::new(0) }) }
    }

    #[inline(always)]
    fn owns(&self) -> bool {
        self.node.data().role.get() == Role::Owns
    }

    /// Takes the lock, or joins the queue.
    #[inline(never)]
    fn publish(&self, waiter: Waiter) -> bool {
        let queue = self.raw.queue.lock();
        let place = self.node.data();
        let woken = place.role.get() == Role::Woken;
        let losses = place.losses.get() + u32::from(woken);
        let hand_over = woken && losses >= PATIENCE;
        if self.raw.word.take_or_wait(woken, hand_over) == TransitionToWaiting::Taken {
            place.role.set(Role::Owns);
            return false;
        }
        place.losses.set(losses);
        place.role.set(if hand_over { Role::Demands } else { Role::Waits });
        // SAFETY: rules 1 and 2 of `wait::list`: the queue is locked; the node is in no list, and
        // it does not move while it is in one, because the wait lasts until it is taken out.
        unsafe {
            if woken {
                queue.push_front(&self.node, waiter);
            } else {
                queue.push_back(&self.node, waiter);
            }
        }
        true
    }

    #[cold]
    fn withdraw(&self) -> bool {
        let queue = self.raw.queue.lock();
        // SAFETY: rule 1 of `wait::list`: the queue is locked. The node is in this list or in none.
        if !unsafe { queue.remove(&self.node) } {
            return false;
        }
        let demanded = self.node.data().role.replace(Role::Waits) == Role::Demands;
        self.raw.word.withdraw(queue.is_empty(), demanded);
        true
    }

    #[cold]
    fn pass_on(&self) {
        self.raw.word.forget_woken();
        self.raw.wake_oldest();
    }
}

impl Drop for Turn<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        // Unwinding: the wake must not be lost.
        if self.node.data().role.get() == Role::Woken {
            self.pass_on();
        }
    }
}
