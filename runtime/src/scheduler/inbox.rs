//! What other threads leave for a processor, and whether its machine sleeps, in one word.
//!
//! | word | means |
//! |---|---|
//! | 0 | awake, nothing here |
//! | 1 | the machine sleeps, or is about to; nothing here |
//! | 2 | the machine has ended |
//! | else | awake (or being woken), and these tasks are here, newest first |
//!
//! Mail and sleep share the word, so no order of two accesses can lose a wake: a machine cannot
//! fall asleep if there is mail, and leaving mail for a sleeper is what wakes it. The thread that
//! changes the word away from 1 (to leave mail, or because there is work for any machine) has won
//! the sleeper, and no other thread has. It must count the sleeper awake and unpark it.

use std::ptr::{null_mut, without_provenance_mut};

use crate::prim::atomic::{AtomicPtr, Ordering};
use crate::raw::header::Header;
use crate::raw::header::TaskPtr;
use crate::sys::cpu::prefetch_to_write;

const AWAKE: *mut Header = null_mut();
const ASLEEP: *mut Header = without_provenance_mut(1);
const CLOSED: *mut Header = without_provenance_mut(2);

fn is_mail(word: *mut Header) -> bool {
    word.addr() > 2
}

pub(crate) struct Inbox(AtomicPtr<Header>);

/// What leaving a task in an inbox did.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Posted {
    /// The machine is awake and will find it.
    Queued,
    /// The caller has won the sleeping machine, and must wake it.
    WonSleeper,
    /// The machine has ended; the task is still the caller's.
    Refused,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self(AtomicPtr::new(AWAKE))
    }

    /// Leaves a task. May be called by any thread.
    ///
    /// # Safety
    /// The caller owns the task (it is in no other queue) and gives it up, unless it is refused.
    pub(crate) unsafe fn post(&self, task: TaskPtr) -> Posted {
        prefetch_to_write(self);
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if seen == CLOSED {
                return Posted::Refused;
            }
            // SAFETY: header rule 3: the task is the caller's until the exchange succeeds.
            unsafe { task.set_link(if is_mail(seen) { seen } else { null_mut() }) };
            // Release: pairs with the Acquire in `take`, and publishes the task and its link.
            // Acquire: a thread that wins a sleeper sees what the sleeper did before it slept.
            match self.0.compare_exchange(seen, task.as_ptr(), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if seen == ASLEEP => return Posted::WonSleeper,
                Ok(_) => return Posted::Queued,
                Err(now) => seen = now,
            }
        }
    }

    /// Whether there is mail. A plain look, by the owner.
    pub(crate) fn has_mail(&self) -> bool {
        is_mail(self.0.load(Ordering::Relaxed))
    }

    /// Takes all mail, oldest first. Called by the owner, or by the monitor when the owner is
    /// stuck.
    pub(crate) fn take(&self) -> Mail {
        let mut seen = self.0.load(Ordering::Relaxed);
        while is_mail(seen) {
            // Not a swap: a thief's swap could overwrite the owner's `ASLEEP`. Acquire: pairs with
            // `post`.
            match self.0.compare_exchange(seen, AWAKE, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Mail::oldest_first(seen),
                Err(now) => seen = now,
            }
        }
        Mail(null_mut())
    }

    /// The owner goes to sleep. Returns false if there is mail.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.0.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Wins the owner if it sleeps. May be called by any thread, the owner included.
    pub(crate) fn win_sleeper(&self) -> bool {
        self.0.compare_exchange(ASLEEP, AWAKE, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The owner ends. Returns false if there is mail.
    pub(crate) fn close(&self) -> bool {
        self.0.compare_exchange(AWAKE, CLOSED, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Tasks taken out of an inbox.
pub(crate) struct Mail(*mut Header);

impl Mail {
    fn oldest_first(mut newest: *mut Header) -> Mail {
        let mut oldest = null_mut();
        while !newest.is_null() {
            // SAFETY: header rule 3: the list was taken as a whole, and is ours.
            unsafe {
                let task = TaskPtr::from_raw(newest);
                prefetch_to_write(newest);
                newest = task.link();
                task.set_link(oldest);
                oldest = task.as_ptr();
            }
        }
        Mail(oldest)
    }
}

impl Iterator for Mail {
    type Item = TaskPtr;

    fn next(&mut self) -> Option<TaskPtr> {
        if self.0.is_null() {
            return None;
        }
        // SAFETY: header rule 3: the list is ours. A task that was handed out is not touched again.
        unsafe {
            let task = TaskPtr::from_raw(self.0);
            self.0 = task.link();
            // Nobody uses its link now. In a fresh task, a link would say that the task was sent.
            task.set_link(null_mut());
            Some(task)
        }
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use super::*;
    use crate::raw::task_slab::TaskSlab;

    fn task(id: u64) -> TaskPtr {
        let alloc = |layout| TaskSlab::new(0).alloc(layout);
        // SAFETY: the task never runs, and is leaked.
        unsafe { TaskPtr::new(|| (), std::panic::Location::caller(), id, None, alloc) }.unwrap()
    }

    fn post(inbox: &Inbox, task: TaskPtr) -> Posted {
        // SAFETY: the task is in no queue.
        unsafe { inbox.post(task) }
    }

    #[test]
    fn mail_comes_in_its_order_and_leaves_no_trace_on_the_tasks() {
        let inbox = Inbox::new();
        for count in 0..5 {
            let tasks: Vec<TaskPtr> = (0..count).map(task).collect();
            for &task in &tasks {
                assert_eq!(post(&inbox, task), Posted::Queued);
            }
            assert_eq!(inbox.has_mail(), count > 0);
            assert!(count == 0 || !inbox.fall_asleep() && !inbox.close() && !inbox.win_sleeper());
            assert_eq!(inbox.take().collect::<Vec<_>>(), tasks);
            assert!(!inbox.has_mail() && inbox.take().next().is_none());
            // SAFETY: header rule 3: the tasks are ours again.
            assert!(tasks.iter().all(|task| unsafe { !task.was_sent() }));
        }
    }

    #[test]
    fn who_sleeps_is_won_by_the_first_who_wants_it() {
        let inbox = Inbox::new();
        assert!(!inbox.win_sleeper(), "it is awake");
        assert!(inbox.fall_asleep());
        assert!(!inbox.has_mail() && inbox.take().next().is_none());
        assert!(!inbox.fall_asleep() && !inbox.close(), "whoever sleeps does nothing");
        assert!(inbox.win_sleeper() && !inbox.win_sleeper());
        assert!(inbox.fall_asleep());
        let tasks = [task(1), task(2)];
        assert_eq!(tasks.map(|task| post(&inbox, task)), [Posted::WonSleeper, Posted::Queued]);
        assert_eq!(inbox.take().collect::<Vec<_>>(), tasks);
    }

    #[test]
    fn who_has_ended_takes_nothing_and_never_sleeps_again() {
        let inbox = Inbox::new();
        assert!(inbox.close());
        assert_eq!(post(&inbox, task(1)), Posted::Refused);
        assert!(!inbox.has_mail() && !inbox.fall_asleep() && !inbox.win_sleeper() && !inbox.close());
        assert!(inbox.take().next().is_none());
    }
}
