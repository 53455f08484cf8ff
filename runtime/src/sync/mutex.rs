//! The mutex.
//!
//! # The lock word
//!
//! | `LOCKED` | `WAITERS` | `WOKEN` | `HANDOVER` | |
//! |---|---|---|---|---|
//! | 0 | 0 | 0 | 0 | free |
//! | 1 | 0 | 0 | 0 | held; nobody waits |
//! | 1 | 1 | 0 | 0 | held; the unlock must wake the oldest waiter |
//! | 0 | 1 | 0 | 0 | free; whoever unlocked is about to wake the oldest waiter |
//! | 0 | * | 1 | 0 | free; one waiter has been woken and is about to try. Others may be faster ("barging") |
//! | 1 | * | 1 | 0 | held by a barger; the unlock wakes nobody, since the woken one is on its way |
//! | 1 | 1 | 0 | 1 | held; the unlock must give the lock to the oldest waiter |
//! | 0 | 1 | 0 | 1 | nobody may keep it: whoever unlocked is about to give it to the oldest waiter |
//!
//! Other combinations do not occur: `HANDOVER` needs `WAITERS`, and excludes `WOKEN`.
//!
//! # The protocol
//!
//! 1. `WAITERS` says that the queue is not empty. It, `HANDOVER` and the setting of `WOKEN` change under the queue's lock only; `LOCKED`
//!    changes without it.
//! 2. A waiter queues itself if, under the queue's lock, the word says `LOCKED` or `HANDOVER` in the same step that sets
//!    `WAITERS`. So the unlock that follows sees `WAITERS`, and no wake is lost.
//! 3. An unlock clears `LOCKED`, and if that step saw `WAITERS` without `WOKEN`, takes the queue's lock and looks again: with
//!    `HANDOVER` it sets `LOCKED` on behalf of the oldest waiter; if the lock is still free, it takes the oldest waiter out, sets
//!    `WOKEN` and wakes it; if somebody has barged in, that one's unlock will do so.
//!    A barger takes the lock with one `fetch_or`, whatever else the word says. Only where it then sees `HANDOVER`, the lock was not for
//!    it: it unlocks at once, which passes the hand-over on, and waits. (A look at the word before, and a `compare_exchange` from what
//!    was seen, is a third RMW of every contended round: `mutex` at two processors 8.6 ns that way, 5.0 this way.)
//! 4. The woken waiter alone clears `WOKEN`: in the step that takes the lock, or in the one that queues it again, or when it unwinds,
//!    and then it passes the wake on.
//! 5. A waiter that was woken and found the lock taken again goes to the front of the queue. After [`PATIENCE`] such losses it
//!    sets `HANDOVER`, and is the next owner.
//!
//! So one waiter at most is on its way at any time. Barging is what makes a contended mutex fast: the lock is not kept idle
//! while a task waits for its turn on the processor. The hand-over is what makes it fair: Go's starvation mode (`sync/mutex.go`),
//! which counts a millisecond where this one counts losses, since no clock is read on a switch here.

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
use crate::unwind;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::{List, Node};

const LOCKED: u32 = 1;
const WAITERS: u32 = 1 << 1;
const WOKEN: u32 = 1 << 2;
const HANDOVER: u32 = 1 << 3;

/// How often a woken waiter may find the lock taken before it asks for it to be handed over.
///
/// A hand-over keeps the lock idle until the waiter's turn on its processor has come, and each task that meets it there queues up
/// as well; so it should be rare. In a model it must be reached.
const PATIENCE: u32 = if cfg!(greenloom_loom) { 1 } else { 4 };

/// A mutual exclusion lock that suspends the task that waits for it, and blocks a plain thread: [`std::sync::Mutex`]'s shape.
///
/// Its guard may be held across a suspension. Waiters are served in order, except that whoever runs may take a free lock
/// ahead of a waiter that has just been woken; one that has lost several times that way is handed the lock.
///
/// Poisoned by a panic while the guard is held, as std's; not by the unwinding of a cancellation.
///
/// The algorithm is Go's (`sync/mutex.go`) with a queue of its own.
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

// SAFETY: the lock gives the value to one holder at a time, on whatever thread.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}

/// Access to what a [`Mutex`] protects; unlocks it when dropped.
///
/// It may be held across a suspension. It stays on its thread, as std's does.
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
        /// A mutex around `value`, unlocked.
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
    /// If the mutex is poisoned; the value is in the error.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::Mutex::new(1).into_inner().unwrap(), 1);
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        self.poison.wrap(self.value.into_inner())
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, when it is free.
    ///
    /// Suspends the task as long as another has the lock; blocks a plain thread. Never returns to a task that has the lock already.
    ///
    /// # Errors
    /// If the mutex is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, without the lock.
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

    /// Takes the lock if it is free. Does not wait; a failure may [give way](crate#what-suspends).
    ///
    /// # Errors
    /// If the lock is taken, or the mutex is poisoned; in the latter case the guard is in the error.
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

    /// As [`try_lock`](Self::try_lock), without giving way.
    #[inline]
    fn attempt(&self) -> TryLockResult<MutexGuard<'_, T>> {
        if !self.raw.word.try_lock() {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(MutexGuard::new(self))?)
    }

    /// Whether a panic has ended a holder. A hint, unless the caller has the lock. Never waits.
    ///
    /// ```
    /// assert!(!greenloom::sync::Mutex::new(1).is_poisoned());
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Forgets that a panic has ended a holder. Never waits.
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

    /// The value; nobody else can have the lock. Never waits.
    ///
    /// # Errors
    /// If the mutex is poisoned; the reference is in the error.
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
        // In quotes, unlike what `RwLock` says, in std as well.
        super::debug_lock(f, "Mutex", self.attempt(), &"<locked>", self.is_poisoned())
    }
}

impl<'a, T: ?Sized> MutexGuard<'a, T> {
    /// The caller has taken the lock, and gives it to the guard.
    #[inline(always)]
    fn new(mutex: &'a Mutex<T>) -> Self {
        mutex.value.announce_write();
        Self { mutex, made: Flag::enter(), _not_send: PhantomData }
    }

    /// Whose guard it is.
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.mutex
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard has the lock, and with it the value.
        unsafe { &*self.mutex.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard has the lock, and with it the value.
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

/// What the waiter who asks under the queue's lock is to do.
#[must_use]
#[derive(PartialEq)]
enum TransitionToWaiting {
    /// Go on: the lock is its own.
    Taken,
    /// Join the queue.
    Wait,
}

/// What whoever unlocked is to do with the oldest waiter.
#[must_use]
enum TransitionByUnlock {
    /// Take it out and wake it: the lock is its own.
    HandOver,
    /// Take it out and wake it: it may try.
    Wake,
    /// Leave it: somebody else will see to it.
    Leave,
}

/// What an attempt to seize the lock came to.
#[must_use]
enum Seized {
    Yes,
    /// Somebody has it.
    No,
    /// It is the caller's, but was to be handed over: it must unlock.
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

    /// Takes the lock, whoever waits.
    #[inline(always)]
    fn seize(&self) -> Seized {
        // Acquire: pairs with the Release of `unlock`.
        if self.0.fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
            Seized::No
        } else if self.0.load(Ordering::Relaxed) & HANDOVER != 0 {
            // It may also have been asked for since, of this holder; then this is only early.
            Seized::MeantForAnother
        } else {
            Seized::Yes
        }
    }

    /// Applies `step` until it sticks.
    ///
    /// AcqRel: whoever takes the lock sees what its last holder did (pairs with `unlock`), also where it takes it on behalf of
    /// another, to whom the wake passes it on.
    #[inline(always)]
    fn change<R>(&self, mut step: impl FnMut(u32) -> (u32, R)) -> R {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let (next, answer) = step(seen);
            if next == seen {
                return answer;
            }
            match self.0.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return answer,
                Err(now) => seen = now,
            }
        }
    }

    /// Takes the lock if it is free, ahead of those who wait, unless it is being handed over.
    fn try_lock(&self) -> bool {
        self.change(|s| if s & (LOCKED | HANDOVER) == 0 { (s | LOCKED, true) } else { (s, false) })
    }

    /// Takes the lock, or says that somebody waits. With `woken` the caller is the one that `WOKEN` speaks of.
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

    /// A waiter has left the queue; what of it is no longer true.
    fn withdraw(&self, last: bool, hand_over: bool) {
        let gone = if last { WAITERS } else { 0 } | if hand_over { HANDOVER } else { 0 };
        self.change(|s| (s & !gone, ()));
    }

    /// The woken waiter will not try.
    fn forget_woken(&self) {
        self.change(|s| (s & !WOKEN, ()));
    }

    /// Gives the lock up; whether somebody must be woken.
    #[inline(always)]
    fn unlock(&self) -> bool {
        // Release: pairs with the Acquire of whoever takes the lock next.
        let before = self.0.fetch_sub(LOCKED, Ordering::Release);
        before & (WAITERS | WOKEN) == WAITERS
    }

    /// Decides about the oldest waiter; `last` if there is no other.
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

/// What a waiter is to the lock.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// In the queue, or not yet.
    Waits,
    /// At the front of the queue, and the lock will be handed over to it.
    Demands,
    /// `WOKEN` speaks of it.
    Woken,
    /// It has the lock.
    Owns,
}

/// What the queue keeps for a waiter. Written under the queue's lock, or by its owner outside of the queue.
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
        // The holder may have gone just now, which spares the queue's lock.
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

    /// Step 3 of the protocol, after the lock was given up.
    #[cold]
    fn wake_oldest(&self) {
        let queue = self.queue.lock();
        // SAFETY: under the queue's lock, of which the waiter is all that is used afterwards.
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
        // SAFETY: taken out of the queue just now.
        unsafe { waiter.wake() };
    }
}

/// A waiter's way to the lock.
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
        // SAFETY: under the queue's lock; the node is in no list, and stays where it is as long as it is in one: the wait ends when
        // it was taken out.
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
        // SAFETY: under the queue's lock; in this list or in none.
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
        // Unwinding: the wake was not for nothing.
        if self.node.data().role.get() == Role::Woken {
            self.pass_on();
        }
    }
}
