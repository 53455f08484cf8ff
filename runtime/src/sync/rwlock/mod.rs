//! The reader-writer lock.
//!
//! # The lock word
//!
//! | `WRITER` | readers | `WAITING` | |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | 1 | 0 | 0 | held by a writer; nobody waits |
//! | 0 | n | 0 | held by n readers; nobody waits |
//! | 1 | 0 | 1 | held by a writer, who will hand it over |
//! | 0 | n | 1 | held by readers, the last of whom will hand it over; a writer waits |
//! | 0 | 0 | 1 | the last reader is gone and about to hand it over |
//!
//! 1. `WAITING` says that somebody is in a queue. It changes under the queues' lock only, and while it is set nobody takes the lock
//!    without that.
//! 2. A waiter queues itself if, under the queues' lock, the word says that it cannot have the lock, in the same step that sets
//!    `WAITING`. So the unlock that follows sees `WAITING` and takes the queues' lock to hand over.
//! 3. A writer hands over to all the readers that wait, or if there are none, to the oldest writer. The last reader hands over to the oldest
//!    writer. A reader that comes while a writer waits, waits.
//! 4. Whoever is woken has the lock.
//!
//! So the phases alternate: a reader waits for one writer at most, and a writer for one phase of readers for each writer ahead
//! of it (phase-fair, after Brandenburg and Anderson, "Spin-Based Reader-Writer Synchronization for Multiprocessor Real-Time Systems",
//! 2010). Neither can starve the other.

use std::fmt;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::ptr::NonNull;
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};

use super::const_fn;
use super::crowd::{Crowd, Member, Released};
use super::poison::{Flag, Made};
use super::value::Value;
use crate::prim::Lock;
use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::wait::list::{List, Node};
use crate::wait::{self, Reason, Waiter};

const WRITER: usize = 1;
const WAITING: usize = 1 << 1;
const READER: usize = 1 << 2;
const MOST: usize = usize::MAX / 2;

/// A lock that many may have for reading or one for writing: [`std::sync::RwLock`]'s shape. It suspends the task that waits for it, and
/// blocks a plain thread.
///
/// Its guards may be held across a suspension. Readers and writers take turns, so that neither starve: who comes to read while
/// a writer waits, waits until that one is done. A task that reads already and reads again may therefore wait for ever.
///
/// Poisoned by a panic while a guard for writing is held, as std's; not by the unwinding of a cancellation.
///
/// ```
/// use greenloom::sync::RwLock;
///
/// let lock = RwLock::new(5);
/// {
///     let (one, other) = (lock.read().unwrap(), lock.read().unwrap());
///     assert_eq!(*one + *other, 10);
/// }
/// *lock.write().unwrap() += 1;
/// assert_eq!(*lock.read().unwrap(), 6);
/// ```
pub struct RwLock<T: ?Sized> {
    raw: Raw,
    poison: Flag,
    value: Value<T>,
}

// SAFETY: the lock gives the value to one writer at a time, on whatever thread.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}
// SAFETY: as above, or to several readers, on several threads.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}

impl<T: ?Sized> UnwindSafe for RwLock<T> {}
impl<T: ?Sized> RefUnwindSafe for RwLock<T> {}

/// Shared access to what an [`RwLock`] protects, until it is dropped.
///
/// It may be held across a suspension. It stays on its thread, as std's does.
#[must_use = "the lock is given back at once if its guard is not kept"]
#[clippy::has_significant_drop]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    /// Not by way of the lock, which would make the guard invariant in `T`: what only reads may shorten the lifetimes in it.
    value: NonNull<T>,
    raw: &'a Raw,
}

/// Access to what an [`RwLock`] protects, until it is dropped.
///
/// It may be held across a suspension. It stays on its thread, as std's does.
#[must_use = "the lock is given back at once if its guard is not kept"]
#[clippy::has_significant_drop]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    made: Made,
    _not_send: PhantomData<*const ()>,
}

// SAFETY: a shared guard gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: a shared guard gives shared access to the value.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<T> RwLock<T> {
    const_fn! {
        /// A lock around `value`, free.
        ///
        /// ```
        /// static LIMIT: greenloom::sync::RwLock<u64> = greenloom::sync::RwLock::new(10);
        /// assert_eq!(*LIMIT.read().unwrap(), 10);
        /// ```
        pub const fn new(value: T) -> Self {
            Self { raw: Raw::new(), poison: Flag::new(), value: Value::new(value) }
        }
    }

    /// Takes the value out. Never waits.
    ///
    /// # Errors
    /// If the lock is poisoned; the value is in the error.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::RwLock::new(1).into_inner().unwrap(), 1);
    /// ```
    pub fn into_inner(self) -> LockResult<T> {
        let poisoned = self.poison.get();
        let value = self.value.into_inner();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Takes the lock for reading, when no writer has it or waits for it.
    ///
    /// Suspends the task until then; blocks a plain thread.
    ///
    /// # Errors
    /// If the lock is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait. If there are more readers than can be counted.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, without the lock.
    ///
    /// ```
    /// assert_eq!(*greenloom::sync::RwLock::new(1).read().unwrap(), 1);
    /// ```
    #[inline]
    #[track_caller]
    pub fn read(&self) -> LockResult<RwLockReadGuard<'_, T>> {
        if !self.raw.word.try_read() {
            self.raw.read_contended();
        }
        self.poison.wrap(RwLockReadGuard::new(self))
    }

    /// Takes the lock for reading if no writer has it or waits for it. Does not wait; a failure may [give
    /// way](crate#what-suspends).
    ///
    /// # Errors
    /// If one does, or the lock is poisoned; in the latter case the guard is in the error.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// let guard = lock.write().unwrap();
    /// assert!(lock.try_read().is_err());
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn try_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        let guard = self.attempt_read();
        if let Err(TryLockError::WouldBlock) = guard {
            wait::give_way();
        }
        guard
    }

    /// As [`try_read`](Self::try_read), without giving way.
    #[inline]
    fn attempt_read(&self) -> TryLockResult<RwLockReadGuard<'_, T>> {
        if !self.raw.word.try_read() {
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(RwLockReadGuard::new(self))?)
    }

    /// Takes the lock for writing, when it is free and the caller's turn.
    ///
    /// Suspends the task until then; blocks a plain thread. Never returns to a task that has the lock already.
    ///
    /// # Errors
    /// If the lock is poisoned; the guard is in the error.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, without the lock.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// *lock.write().unwrap() = 2;
    /// ```
    #[inline]
    #[track_caller]
    pub fn write(&self) -> LockResult<RwLockWriteGuard<'_, T>> {
        if !self.raw.word.try_write() {
            self.raw.write_contended();
        }
        self.poison.wrap(RwLockWriteGuard::new(self))
    }

    /// Takes the lock for writing if it is free. Does not wait; a failure may [give way](crate#what-suspends).
    ///
    /// # Errors
    /// If it is not, or the lock is poisoned; in the latter case the guard is in the error.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// let guard = lock.read().unwrap();
    /// assert!(lock.try_write().is_err());
    /// # drop(guard);
    /// ```
    #[inline]
    pub fn try_write(&self) -> TryLockResult<RwLockWriteGuard<'_, T>> {
        if !self.raw.word.try_write() {
            wait::give_way();
            return Err(TryLockError::WouldBlock);
        }
        Ok(self.poison.wrap(RwLockWriteGuard::new(self))?)
    }

    /// Whether a panic has ended a writer. A hint, unless the caller has the lock. Never waits.
    ///
    /// ```
    /// assert!(!greenloom::sync::RwLock::new(1).is_poisoned());
    /// ```
    pub fn is_poisoned(&self) -> bool {
        self.poison.get()
    }

    /// Forgets that a panic has ended a writer. Never waits.
    ///
    /// ```
    /// let lock = greenloom::sync::RwLock::new(1);
    /// lock.clear_poison();
    /// assert!(lock.write().is_ok());
    /// ```
    pub fn clear_poison(&self) {
        self.poison.clear();
    }

    /// The value; nobody else can have the lock. Never waits.
    ///
    /// # Errors
    /// If the lock is poisoned; the reference is in the error.
    ///
    /// ```
    /// let mut lock = greenloom::sync::RwLock::new(1);
    /// *lock.get_mut().unwrap() = 2;
    /// ```
    pub fn get_mut(&mut self) -> LockResult<&mut T> {
        let poisoned = self.poison.get();
        let value = self.value.get_mut();
        if poisoned { Err(PoisonError::new(value)) } else { Ok(value) }
    }
}

impl<T> From<T> for RwLock<T> {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::debug_lock(f, "RwLock", self.attempt_read(), self.is_poisoned())
    }
}

impl<'a, T: ?Sized> RwLockReadGuard<'a, T> {
    /// The caller has taken the lock for reading, and gives it to the guard.
    #[inline(always)]
    fn new(lock: &'a RwLock<T>) -> Self {
        lock.value.announce_read();
        // SAFETY: the address of a cell, which is not null.
        let value = unsafe { NonNull::new_unchecked(lock.value.get()) };
        Self { value, raw: &lock.raw }
    }
}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// The caller has taken the lock for writing, and gives it to the guard.
    #[inline(always)]
    fn new(lock: &'a RwLock<T>) -> Self {
        lock.value.announce_write();
        Self { lock, made: Flag::enter(), _not_send: PhantomData }
    }

    /// Makes a guard for reading of one for writing; no other writer has the lock in between. Never waits.
    ///
    /// Readers that wait are let in as well, a writer that waits is next after them.
    ///
    /// ```
    /// use greenloom::sync::{RwLock, RwLockWriteGuard};
    ///
    /// let lock = RwLock::new(1);
    /// let mut writing = lock.write().unwrap();
    /// *writing = 2;
    /// let reading = RwLockWriteGuard::downgrade(writing);
    /// assert_eq!(*reading, 2);
    /// assert!(lock.try_read().is_ok() && lock.try_write().is_err());
    /// ```
    pub fn downgrade(s: Self) -> RwLockReadGuard<'a, T> {
        // It does not give the lock up, and does not poison it.
        let lock = ManuallyDrop::new(s).lock;
        if !lock.raw.word.downgrade() {
            lock.raw.downgrade_among_waiters();
        }
        RwLockReadGuard::new(lock)
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard has the lock for reading: nobody writes. It borrows the lock, and so the value is there.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard has the lock for writing, and with it the value.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard has the lock for writing, and with it the value.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        if self.raw.word.unlock_read() {
            self.raw.hand_over_after_readers();
        }
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.lock.poison.leave(self.made);
        if !self.lock.raw.word.unlock_write() {
            self.lock.raw.hand_over_after_writer();
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockReadGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display> fmt::Display for RwLockWriteGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// The lock word; see the module.
struct Word(AtomicUsize);

impl Word {
    const_fn! {
        const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }
    }

    /// Applies `step` until it sticks.
    ///
    /// AcqRel: whoever takes the lock sees what its last holders did (pairs with `unlock_read` and `unlock_write`), also where it
    /// takes it on behalf of others, to whom the wake passes it on.
    #[inline(always)]
    fn change<R>(&self, mut step: impl FnMut(usize) -> (usize, R)) -> R {
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

    #[inline(always)]
    fn try_read(&self) -> bool {
        self.change(|s| if s & (WRITER | WAITING) == 0 { (Self::with_readers(s, 1), true) } else { (s, false) })
    }

    #[inline(always)]
    fn try_write(&self) -> bool {
        // Acquire: pairs with the unlocks.
        self.0.compare_exchange(0, WRITER, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn with_readers(s: usize, more: usize) -> usize {
        assert!(s < MOST, "too many readers");
        s + more * READER
    }

    /// Under the queues' lock: takes the lock for reading, or says that somebody waits; whether it was taken.
    fn read_or_wait(&self, writers_wait: bool) -> bool {
        self.change(|s| if s & WRITER == 0 && !writers_wait { (Self::with_readers(s, 1), true) } else { (s | WAITING, false) })
    }

    /// Under the queues' lock: takes the lock for writing, or says that somebody waits; whether it was taken.
    fn write_or_wait(&self) -> bool {
        self.change(|s| if s == 0 { (WRITER, true) } else { (s | WAITING, false) })
    }

    /// Gives the lock up after reading; whether the caller has to hand it over.
    #[inline(always)]
    fn unlock_read(&self) -> bool {
        // Release: pairs with the Acquire of the next writer, or of whoever takes the lock on its behalf.
        self.0.fetch_sub(READER, Ordering::Release) == READER | WAITING
    }

    /// Gives the lock up after writing; false if it must be handed over.
    #[inline(always)]
    fn unlock_write(&self) -> bool {
        // Release: pairs with the Acquire of whoever is next.
        self.0.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Makes the writer a reader; false if others wait, who must be let in.
    #[inline(always)]
    fn downgrade(&self) -> bool {
        // Release: pairs with the Acquire of the readers that join.
        self.0.compare_exchange(WRITER, READER, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Under the queues' lock: whether the last reader has left the lock to be handed over.
    fn is_left(&self) -> bool {
        // Relaxed: while it says so, nobody changes it without the queues' lock.
        self.0.load(Ordering::Relaxed) == WAITING
    }

    /// Under the queues' lock, by the one who hands over: gives the lock to so many readers, or to a writer.
    fn give(&self, readers: usize, more_wait: bool) {
        let holders = if readers == 0 { WRITER } else { Self::with_readers(0, readers) };
        self.change(|_| (holders | if more_wait { WAITING } else { 0 }, ()));
    }

    /// Under the queues' lock, after a waiter has left: lets the readers in, if they waited for that one; else says whether anybody
    /// still waits. Whether the readers are in.
    fn settle(&self, readers: usize, writers_wait: bool) -> bool {
        self.change(|s| {
            if s & WRITER == 0 && !writers_wait {
                (Self::with_readers(s & !WAITING, readers), true)
            } else if readers > 0 || writers_wait {
                (s | WAITING, false)
            } else {
                (s & !WAITING, false)
            }
        })
    }
}

/// Those who wait. All who wait for the lock have it when they are woken.
struct Queues {
    readers: Crowd<()>,
    writers: List<()>,
}

/// The lock without its value.
struct Raw {
    word: Word,
    queues: Lock<Queues>,
}

// Guards for reading have a share of it, and the lock itself is safe whatever `T` is.
impl UnwindSafe for Raw {}
impl RefUnwindSafe for Raw {}

impl Raw {
    const_fn! {
        const fn new() -> Self {
            Self { word: Word::new(), queues: Lock::new(Queues { readers: Crowd::new(), writers: List::new() }) }
        }
    }

    #[cold]
    #[track_caller]
    fn read_contended(&self) {
        let node = Member::node(());
        let _ = wait::wait_for(Reason::Lock, None, |waiter| self.publish_reader(&node, waiter), || self.withdraw_reader(&node));
    }

    #[cold]
    #[track_caller]
    fn write_contended(&self) {
        let node = Node::new(());
        let _ = wait::wait_for(Reason::Lock, None, |waiter| self.publish_writer(&node, waiter), || self.withdraw_writer(&node));
    }

    fn publish_reader(&self, node: &Node<Member<()>>, waiter: Waiter) -> bool {
        let mut queues = self.queues.lock();
        if self.word.read_or_wait(!queues.writers.is_empty()) {
            return false;
        }
        // SAFETY: under the queues' lock; the node is in no list, and stays where it is as long as it is in one: the wait ends when
        // it was taken out.
        unsafe { queues.readers.push(node, waiter) };
        true
    }

    fn publish_writer(&self, node: &Node<()>, waiter: Waiter) -> bool {
        let queues = self.queues.lock();
        if self.word.write_or_wait() {
            return false;
        }
        // SAFETY: as in `publish_reader`.
        unsafe { queues.writers.push_back(node, waiter) };
        true
    }

    fn withdraw_reader(&self, node: &Node<Member<()>>) -> bool {
        let mut queues = self.queues.lock();
        // SAFETY: under the queues' lock; pushed before.
        let withdrawn = unsafe { queues.readers.withdraw(node) };
        let released = if withdrawn { self.settle(&mut queues) } else { Released::none() };
        drop(queues);
        drop(released);
        withdrawn
    }

    fn withdraw_writer(&self, node: &Node<()>) -> bool {
        let mut queues = self.queues.lock();
        // SAFETY: under the queues' lock; in this list or in none.
        let withdrawn = unsafe { queues.writers.remove(node) };
        let released = if withdrawn { self.settle(&mut queues) } else { Released::none() };
        drop(queues);
        drop(released);
        withdrawn
    }

    /// After a waiter has left: releases the readers who waited for it alone.
    fn settle(&self, queues: &mut Queues) -> Released<()> {
        let admitted = self.word.settle(queues.readers.len(), !queues.writers.is_empty());
        if admitted { queues.readers.release_all() } else { Released::none() }
    }

    #[cold]
    fn hand_over_after_writer(&self) {
        let mut queues = self.queues.lock();
        let readers = queues.readers.len();
        if readers > 0 {
            self.word.give(readers, !queues.writers.is_empty());
            let released = queues.readers.release_all();
            drop(queues);
            drop(released);
        } else if queues.writers.is_empty() {
            // Whoever waited has left, and the word no longer says that anybody does.
            let unlocked = self.word.unlock_write();
            debug_assert!(unlocked);
        } else {
            let writer = self.give_to_writer(&queues);
            drop(queues);
            // SAFETY: taken out of the queue just now.
            unsafe { writer.wake() };
        }
    }

    /// The writer goes on as one of the readers to whom it hands over.
    #[cold]
    fn downgrade_among_waiters(&self) {
        let mut queues = self.queues.lock();
        self.word.give(queues.readers.len() + 1, !queues.writers.is_empty());
        let released = queues.readers.release_all();
        drop(queues);
        drop(released);
    }

    #[cold]
    fn hand_over_after_readers(&self) {
        let queues = self.queues.lock();
        // Whoever waited may have left, and others have come.
        if self.word.is_left() {
            let writer = self.give_to_writer(&queues);
            drop(queues);
            // SAFETY: taken out of the queue just now.
            unsafe { writer.wake() };
        }
    }

    /// Gives the lock to the oldest writer, under the queues' lock; the caller owes it a wake.
    fn give_to_writer(&self, queues: &Queues) -> Waiter {
        // SAFETY: under the queues' lock, of which the waiter is all that is used afterwards.
        let writer = unsafe { queues.writers.pop_front() }.expect("readers alone wait for nothing but a writer");
        self.word.give(0, !queues.writers.is_empty() || !queues.readers.is_empty());
        writer.waiter()
    }
}
