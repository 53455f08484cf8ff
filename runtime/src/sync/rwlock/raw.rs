//! The reader-writer lock without its value.
//!
//! # The lock word
//!
//! | `WRITER` | readers | `WAITING` | |
//! |---|---|---|---|
//! | 0 | 0 | 0 | free |
//! | 1 | 0 | 0 | held by a writer; nobody waits |
//! | 0 | n | 0 | held by n readers; nobody waits |
//! | 1 | 0 | 1 | held by a writer, which will hand it over |
//! | 0 | n | 1 | held by n readers, the last of which will hand it over; a writer waits |
//! | 0 | 0 | 1 | the last reader has left and is about to hand it over |
//!
//! 1. `WAITING` says that a queue is not empty. It changes only under the queues' lock. While it is
//!    set, nobody takes the lock without the queues' lock.
//! 2. Under the queues' lock, a waiter queues itself if the word says that it cannot have the lock,
//!    in the same step that sets `WAITING`. The next unlock therefore sees `WAITING` and takes the
//!    queues' lock to hand over.
//! 3. A writer hands over to all waiting readers, or to the oldest writer if no reader waits. The
//!    last reader hands over to the oldest writer. A reader that arrives while a writer waits has
//!    to wait.
//! 4. A waiter that is woken holds the lock.
//!
//! So the phases alternate. A reader waits for at most one writer. A writer waits for one phase of
//! readers for each writer ahead of it. Neither can starve the other. (Phase-fair, after
//! Brandenburg and Anderson, "Spin-Based Reader-Writer Synchronization for Multiprocessor Real-Time
//! Systems", 2010.)

use std::panic::{RefUnwindSafe, UnwindSafe};

use crate::prim::Lock;
use crate::prim::atomic::{AtomicUsize, Ordering};
use crate::sync::const_fn;
use crate::sync::word;
use crate::unwind;
use crate::wait;
use crate::wait::Reason;
use crate::wait::Waiter;
use crate::wait::list::{List, Node};
use crate::wait::queue::{Queued, Released, WaitQueue};

const WRITER: usize = 1;
const WAITING: usize = 1 << 1;
const READER: usize = 1 << 2;
const MOST: usize = usize::MAX / 2;

/// The lock word; see the module.
struct Word(AtomicUsize);

impl Word {
    const_fn! {
        const fn new() -> Self {
            Self(AtomicUsize::new(0))
        }
    }

    /// Applies `step` until the exchange succeeds.
    ///
    /// AcqRel: the new holder sees what the last holders did (pairs with `unlock_read` and
    /// `unlock_write`). If the lock is taken on behalf of waiters, the wake passes this on to them.
    #[inline(always)]
    fn change<R>(&self, step: impl FnMut(usize) -> (usize, R)) -> R {
        word::change(&self.0, step)
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

    /// Under the queues' lock: takes the lock for reading, or records that somebody waits. Returns
    /// whether the lock was taken.
    fn read_or_wait(&self, writers_wait: bool) -> bool {
        self.change(|s| if s & WRITER == 0 && !writers_wait { (Self::with_readers(s, 1), true) } else { (s | WAITING, false) })
    }

    /// Under the queues' lock: takes the lock for writing, or records that somebody waits. Returns
    /// whether the lock was taken.
    fn write_or_wait(&self) -> bool {
        self.change(|s| if s == 0 { (WRITER, true) } else { (s | WAITING, false) })
    }

    /// Releases the lock after reading. Returns whether the caller has to hand it over.
    #[inline(always)]
    fn unlock_read(&self) -> bool {
        // Release: pairs with the Acquire of the next writer, or of the one that takes the lock on
        // its behalf.
        self.0.fetch_sub(READER, Ordering::Release) == READER | WAITING
    }

    /// Releases the lock after writing. Returns false if it must be handed over.
    #[inline(always)]
    fn unlock_write(&self) -> bool {
        // Release: pairs with the Acquire of the next holder.
        self.0.compare_exchange(WRITER, 0, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Turns the writer into a reader. Returns false if there are waiters, which must be let in.
    #[inline(always)]
    fn downgrade(&self) -> bool {
        // Release: pairs with the Acquire of the readers that join.
        self.0.compare_exchange(WRITER, READER, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Under the queues' lock: returns whether the last reader has left the lock to be handed over.
    fn is_left(&self) -> bool {
        // Relaxed: while this holds, nobody changes the word without the queues' lock.
        self.0.load(Ordering::Relaxed) == WAITING
    }

    /// Under the queues' lock, by the caller that hands over: gives the lock to `readers` readers,
    /// or to a writer if that is 0.
    fn give(&self, readers: usize, more_wait: bool) {
        let holders = if readers == 0 { WRITER } else { Self::with_readers(0, readers) };
        self.change(|_| (holders | if more_wait { WAITING } else { 0 }, ()));
    }

    /// Under the queues' lock, after a waiter has left: lets the readers in if they waited only for
    /// that one. Otherwise records whether anybody still waits. Returns whether the readers were
    /// let in.
    fn admit(&self, readers: usize, writers_wait: bool) -> bool {
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

/// The waiters. Every one of them holds the lock when it is woken.
struct Queues {
    readers: WaitQueue<()>,
    writers: List<()>,
}

/// The lock without its value.
pub(super) struct Raw {
    word: Word,
    queues: Lock<Queues>,
}

// Guards for reading share a reference to it. The lock itself is unwind safe for every `T`.
impl UnwindSafe for Raw {}
impl RefUnwindSafe for Raw {}

impl Raw {
    const_fn! {
        pub(super) const fn new() -> Self {
            Self { word: Word::new(), queues: Lock::new(Queues { readers: WaitQueue::new(), writers: List::new() }) }
        }
    }

    /// Takes the lock for reading, waiting until no writer holds it or waits for it.
    #[inline(always)]
    #[track_caller]
    pub(super) fn read(&self) {
        wait::look_at_slice();
        if !self.word.try_read() {
            self.read_contended();
        }
    }

    /// Takes the lock for reading if no writer holds it or waits for it.
    #[inline(always)]
    pub(super) fn try_read(&self) -> bool {
        self.word.try_read()
    }

    /// Takes the lock for writing, waiting until it is free and it is the caller's turn.
    #[inline(always)]
    #[track_caller]
    pub(super) fn write(&self) {
        wait::look_at_slice();
        if !self.word.try_write() {
            self.write_contended();
        }
    }

    /// Takes the lock for writing if it is free.
    #[inline(always)]
    pub(super) fn try_write(&self) -> bool {
        self.word.try_write()
    }

    /// Releases the lock after reading.
    #[inline(always)]
    pub(super) fn unlock_read(&self) {
        if self.word.unlock_read() {
            self.hand_over_after_readers();
        }
    }

    /// Releases the lock after writing.
    #[inline(always)]
    pub(super) fn unlock_write(&self) {
        if !self.word.unlock_write() {
            self.hand_over_after_writer();
        }
    }

    /// Turns the writer into a reader.
    #[inline(always)]
    pub(super) fn downgrade(&self) {
        if !self.word.downgrade() {
            self.downgrade_among_waiters();
        }
    }

    #[cold]
    #[track_caller]
    fn read_contended(&self) {
        let node = Queued::node(());
        let _ = wait::wait_for(Reason::Lock, None, |waiter| self.publish_reader(&node, waiter), || self.withdraw_reader(&node));
        unwind::checkpoint_with(|| self.unlock_read());
    }

    #[cold]
    #[track_caller]
    fn write_contended(&self) {
        let node = Node::new(());
        let _ = wait::wait_for(Reason::Lock, None, |waiter| self.publish_writer(&node, waiter), || self.withdraw_writer(&node));
        unwind::checkpoint_with(|| self.unlock_write());
    }

    fn publish_reader(&self, node: &Node<Queued<()>>, waiter: Waiter) -> bool {
        let mut queues = self.queues.lock();
        if self.word.read_or_wait(!queues.writers.is_empty()) {
            return false;
        }
        // SAFETY: rules 1 and 2 of `wait::list`: the queues are locked; the node is in no list, and
        // it does not move while it is in one, because the wait lasts until it is taken out.
        unsafe { queues.readers.push(node, waiter) };
        true
    }

    fn publish_writer(&self, node: &Node<()>, waiter: Waiter) -> bool {
        let queues = self.queues.lock();
        if self.word.write_or_wait() {
            return false;
        }
        // SAFETY: rules 1 and 2 of `wait::list`, as in `publish_reader`.
        unsafe { queues.writers.push_back(node, waiter) };
        true
    }

    fn withdraw_reader(&self, node: &Node<Queued<()>>) -> bool {
        let mut queues = self.queues.lock();
        // SAFETY: rule 1 of `wait::list`: the queues are locked. The node was pushed to this queue.
        let withdrawn = unsafe { queues.readers.withdraw(node) };
        let released = if withdrawn { self.admit(&mut queues) } else { Released::none() };
        drop(queues);
        drop(released);
        withdrawn
    }

    fn withdraw_writer(&self, node: &Node<()>) -> bool {
        let mut queues = self.queues.lock();
        // SAFETY: rule 1 of `wait::list`: the queues are locked. The node is in this list or in
        // none.
        let withdrawn = unsafe { queues.writers.remove(node) };
        let released = if withdrawn { self.admit(&mut queues) } else { Released::none() };
        drop(queues);
        drop(released);
        withdrawn
    }

    /// After a waiter has left: releases the readers that waited only for that one.
    fn admit(&self, queues: &mut Queues) -> Released<()> {
        let admitted = self.word.admit(queues.readers.len(), !queues.writers.is_empty());
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
            // The waiters have left, and the word no longer says that anybody waits.
            let unlocked = self.word.unlock_write();
            debug_assert!(unlocked);
        } else {
            let writer = self.give_to_writer(&queues);
            drop(queues);
            // SAFETY: rule 2 of `wait`: taken out of the queue just now, so it is owed one wake.
            unsafe { writer.wake() };
        }
    }

    /// The writer goes on as one of the readers that it hands over to.
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
        // The waiters may have left, and others may have come.
        if self.word.is_left() {
            let writer = self.give_to_writer(&queues);
            drop(queues);
            // SAFETY: rule 2 of `wait`: taken out of the queue just now, so it is owed one wake.
            unsafe { writer.wake() };
        }
    }

    /// Gives the lock to the oldest writer, under the queues' lock. The caller owes the writer a
    /// wake.
    fn give_to_writer(&self, queues: &Queues) -> Waiter {
        // SAFETY: rules 1 and 3 of `wait::list`: the queues are locked; after they are unlocked,
        // only the waiter is used.
        let writer = unsafe { queues.writers.pop_front() }.expect("readers alone wait for nothing but a writer");
        self.word.give(0, !queues.writers.is_empty() || !queues.readers.is_empty());
        writer.waiter()
    }
}
