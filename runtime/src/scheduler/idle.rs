//! How many machines are awake and how many search: one word for the whole runtime.
//!
//! | field | bits | counts |
//! |---|---|---|
//! | awake | 13 | regular machines that are not asleep |
//! | spares | 13 | spare machines that are not asleep |
//! | searching | 12 | machines that look for work of others, and wakes under way to make one do so |
//! | `MONITOR` | 1 | the monitor sleeps, because all machines did |
//! | `CLOSED` | 1 | the runtime has ended: nobody looks at the injector any more |
//! | epoch | 24 | announcements of work in the injector, and machines that were counted awake |
//!
//! Regular machines that are not awake are *sleepers*: work for any machine may wake them. Only the
//! monitor wakes spares for such work.
//!
//! # States of a machine
//!
//! 1. *Awake*: it runs tasks, or has none and looks around.
//! 2. *Searching*: it is awake, and counted as a searcher. It looks for work of others
//!    ([`start_search`](Idle::start_search)).
//! 3. *Asleep*: its [inbox](super::inbox) says so. The machine writes that there itself, then
//!    counts itself asleep here ([`fell_asleep`](Idle::fell_asleep)), then looks for work once
//!    more, and only then parks its thread.
//! 4. *Won*: a thread has changed its inbox's word, and no other thread can. The winner counts the
//!    machine awake ([`woke`](Idle::woke)) and unparks it.
//!
//! A machine may be won between the two steps of falling asleep. Then it is counted awake again
//! before it is counted asleep, and the count is one too large for that moment. No field ever goes
//! below zero, so none borrows from its neighbour: a machine is counted asleep once for each time
//! that it was counted awake, and a search is ended once for each time that one was begun.
//!
//! # Why no work is slept through
//!
//! Work in the injector is announced by a read-modify-write of this word, after the work was pushed
//! ([`announce`](Idle::announce)). All changes of the word are in one order, and each sees what was
//! done before the earlier ones. So there are these cases:
//!
//! - *The announcer sees a sleeper, and no search.* It claims a search
//!   ([`wake_searcher`](Idle::wake_searcher)). At most one announcer does. It wins a sleeper, which
//!   then holds the search. Or no sleeper is left to be won, and the search ends.
//! - *The announcer sees a search.* It leaves the work to that search. **A search that ends, for
//!   whatever reason, goes through [`end_search`](Idle::end_search)**: the last one looks for work
//!   after it has ended, and hands on what it finds. The reasons are that the search has found
//!   something, that it has found nothing, that other work (mail, a timer) came first, or that no
//!   sleeper could be won.
//! - *The announcer sees no sleeper.* A machine that falls asleep later looks for work after that.
//!   If it finds work, it stays awake. If it cannot, because it has meanwhile been won, perhaps for
//!   other work, it hands on: it wakes another machine to search. A machine that was counted awake
//!   too early hides a sleeper from the announcer, but it is one of those that look later.
//!
//! Work in a processor's own queues needs no such care, since its owner is awake. There a plain
//! read of this word decides, and the monitor makes up for a rare miss within a tick.
//!
//! `models.rs` has a model of this: `work_left_to_a_search_that_mail_overtakes_is_handed_on`.

use crate::prim::atomic::{AtomicU64, Ordering};

const FIELD: u64 = (1 << 13) - 1;
const AWAKE: u64 = 1;
const SPARE: u64 = 1 << 13;
const SEARCHING: u64 = 1 << 26;
const MONITOR: u64 = 1 << 38;
const CLOSED: u64 = 1 << 39;
const EPOCH: u64 = 1 << 40;

/// The most machines that can be counted, when each may be counted twice.
pub(crate) const MOST_MACHINES: usize = (FIELD / 2) as usize;

/// The word at some moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot {
    word: u64,
    /// How many regular machines there are.
    regular: u64,
}

impl Snapshot {
    fn regular_awake(self) -> u64 {
        self.word & FIELD
    }

    fn spares_awake(self) -> u64 {
        (self.word / SPARE) & FIELD
    }

    /// How many machines can be woken by work for any machine. A few less than there are, while
    /// some are counted twice.
    #[inline]
    pub(crate) fn sleepers(self) -> u64 {
        self.regular.saturating_sub(self.regular_awake())
    }

    pub(crate) fn searching(self) -> u64 {
        (self.word / SEARCHING) & (FIELD >> 1)
    }

    /// Machines that are not asleep, spares included.
    pub(crate) fn awake(self) -> u64 {
        self.regular_awake() + self.spares_awake()
    }

    pub(crate) fn monitor_sleeps(self) -> bool {
        self.word & MONITOR != 0
    }

    pub(crate) fn is_closed(self) -> bool {
        self.word & CLOSED != 0
    }

    /// Whether a machine could be woken to search, and none searches yet: one searcher ramps up at
    /// a time.
    #[inline]
    pub(crate) fn wants_searcher(self) -> bool {
        self.sleepers() > 0 && self.searching() == 0
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("sleepers", &self.sleepers())
            .field("spares_awake", &self.spares_awake())
            .field("searching", &self.searching())
            .field("awake", &self.awake())
            .field("monitor_sleeps", &self.monitor_sleeps())
            .field("closed", &self.is_closed())
            .finish()
    }
}

pub(crate) struct Idle {
    word: AtomicU64,
    /// How many regular machines there are.
    regular: u64,
}

impl Idle {
    /// All `regular` machines are awake.
    pub(crate) fn new(regular: u64) -> Self {
        debug_assert!(regular <= MOST_MACHINES as u64);
        Self { word: AtomicU64::new(regular * AWAKE), regular }
    }

    #[inline]
    fn at(&self, word: u64) -> Snapshot {
        Snapshot { word, regular: self.regular }
    }

    /// A plain look, for decisions that may be wrong now and then.
    #[inline]
    pub(crate) fn peek(&self) -> Snapshot {
        self.at(self.word.load(Ordering::Relaxed))
    }

    /// Whether all machines sleep.
    pub(crate) fn all_asleep(&self) -> bool {
        // Acquire: pairs with `fell_asleep`, so that what the machines did before they slept is
        // seen.
        self.at(self.word.load(Ordering::Acquire)).awake() == 0
    }

    /// Adds to the word; returns what it was before. AcqRel: every change of this word is one of
    /// the pair in the module's argument.
    fn add(&self, what: u64) -> Snapshot {
        self.at(self.word.fetch_add(what, Ordering::AcqRel))
    }

    /// Subtracts from the word; returns what it was before.
    fn take(&self, what: u64) -> Snapshot {
        self.at(self.word.fetch_sub(what, Ordering::AcqRel))
    }

    /// Changes the word if `allowed`.
    fn change_if(&self, change: impl Fn(u64) -> u64, allowed: impl Fn(Snapshot) -> bool) -> bool {
        let mut seen = self.word.load(Ordering::Relaxed);
        loop {
            if !allowed(self.at(seen)) {
                return false;
            }
            match self.word.compare_exchange(seen, change(seen), Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
    }

    /// Announces that work has been pushed to the injector.
    pub(crate) fn announce(&self) -> Snapshot {
        self.add(EPOCH)
    }

    /// The caller starts to search, if fewer than `limit` machines do.
    pub(crate) fn start_search(&self, limit: u64) -> bool {
        self.change_if(|word| word + SEARCHING, |s| s.searching() < limit)
    }

    /// The caller wants to wake a sleeper and make it search. Returns false if there is none, or a
    /// machine already searches.
    pub(crate) fn claim_wake(&self) -> bool {
        self.change_if(|word| word + SEARCHING, Snapshot::wants_searcher)
    }

    /// Wakes a sleeper to search, unless a machine already searches. `win` wakes one with the
    /// search that is counted here, if it can win one.
    pub(crate) fn wake_searcher(&self, win: impl Fn() -> bool, has_work: impl Fn() -> bool) {
        if self.claim_wake() && !win() {
            // Other threads have won all sleepers in the meantime.
            self.end_search(win, has_work);
        }
    }

    /// Ends a search: one of a machine, or one that was claimed for a sleeper when none was left.
    /// Announcers may have left their work to it. So the last one looks for work, and hands it on
    /// to a sleeper, as [`wake_searcher`](Self::wake_searcher) does.
    pub(crate) fn end_search(&self, win: impl Fn() -> bool, has_work: impl Fn() -> bool) {
        loop {
            let before = self.take(SEARCHING);
            debug_assert!(before.searching() > 0, "a search ended that had not begun");
            if before.searching() > 1 || !has_work() || !self.claim_wake() || win() {
                return;
            }
            // A winner has not yet counted its sleeper awake, and may be preempted just there.
            crate::prim::back_off();
        }
    }

    /// A machine, whose inbox already says so, has fallen asleep. Returns the word afterwards.
    pub(crate) fn fell_asleep(&self, spare: bool) -> Snapshot {
        let one = if spare { SPARE } else { AWAKE };
        let before = self.take(one);
        let awake = if spare { before.spares_awake() } else { before.regular_awake() };
        debug_assert!(awake > 0, "a machine fell asleep that was not counted awake");
        self.at(before.word - one)
    }

    /// Counts a sleeper awake. Called by the thread that won it. Returns true if the monitor sleeps
    /// and must be woken too.
    pub(crate) fn woke(&self, spare: bool) -> bool {
        let before = self.add(if spare { SPARE } else { AWAKE } + EPOCH);
        before.monitor_sleeps() && self.change_if(|word| word - MONITOR, Snapshot::monitor_sleeps)
    }

    /// Adds one more machine, a spare that is being made. Returns false if the runtime has ended.
    pub(crate) fn add_machine(&self) -> bool {
        self.change_if(|word| word.wrapping_add(SPARE + EPOCH), |s| !s.is_closed())
    }

    /// The monitor goes to sleep, if all machines sleep.
    pub(crate) fn monitor_sleeps(&self) -> bool {
        self.change_if(|word| word + MONITOR, |s| s.awake() == 0 && !s.monitor_sleeps())
    }

    /// Ends the runtime if all machines sleep, and since `seen` none was awake and no work was
    /// announced.
    ///
    /// A search may have ended since, or may still be counted. The latter is one that was claimed
    /// for a sleeper, when no sleeper could be won, since it had woken by itself and done the work.
    /// The thread that claimed it has nothing to hand on, and wakes no machine.
    pub(crate) fn close(&self, seen: Snapshot) -> bool {
        let same = |s: Snapshot| (s.word ^ seen.word) < EPOCH && s.awake() == 0;
        self.change_if(|word| word + CLOSED, |s| same(s) && !s.is_closed())
    }

    /// Ends the runtime, whatever is left. Called by the monitor, after the grace period.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn close_by_force(&self) {
        self.change_if(|word| word + CLOSED, |s| !s.is_closed());
    }
}
