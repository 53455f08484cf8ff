//! How many machines sleep, search and are awake: one word for the whole runtime.
//!
//! | field | bits | counts |
//! |---|---|---|
//! | sleepers | 12 | sleeping machines that work for anyone may wake (spares are not counted) |
//! | searching | 12 | machines that look for work of others, and wakes under way to make one do so |
//! | awake | 12 | machines that are not asleep, spares included |
//! | `MONITOR` | 1 | the monitor sleeps, because all machines did |
//! | `CLOSED` | 1 | the runtime has ended: nobody looks at the injector any more |
//! | epoch | 26 | announcements of work in the injector |
//!
//! **Why no wake is lost.** Work in the injector is announced by a read-modify-write of this word after it was pushed; a machine
//! falls asleep by a read-modify-write of this word and looks at the injector once more afterwards. The two are ordered: either
//! the machine sees the work, or the announcer sees the sleeper. An announcer that sees somebody searching leaves it to that one,
//! who, when its search ends, changes this word and looks again. Work in a processor's own queues needs no such care: its owner
//! is awake; there a plain read of this word decides, and the monitor mends the rare miss within a tick.

use crate::prim::atomic::{AtomicU64, Ordering};

const FIELD: u64 = (1 << 12) - 1;
const SLEEPER: u64 = 1;
const SEARCHING: u64 = 1 << 12;
const AWAKE: u64 = 1 << 24;
const MONITOR: u64 = 1 << 36;
const CLOSED: u64 = 1 << 37;
const EPOCH: u64 = 1 << 38;

/// The word at some moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Snapshot(u64);

impl Snapshot {
    pub(crate) fn sleepers(self) -> u64 {
        self.0 & FIELD
    }

    pub(crate) fn searching(self) -> u64 {
        (self.0 / SEARCHING) & FIELD
    }

    pub(crate) fn awake(self) -> u64 {
        (self.0 / AWAKE) & FIELD
    }

    pub(crate) fn monitor_sleeps(self) -> bool {
        self.0 & MONITOR != 0
    }

    pub(crate) fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    /// Whether somebody could be woken to search, and nobody searches yet: one searcher ramps up at a time.
    #[inline]
    pub(crate) fn wants_searcher(self) -> bool {
        self.sleepers() > 0 && self.searching() == 0
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("sleepers", &self.sleepers())
            .field("searching", &self.searching())
            .field("awake", &self.awake())
            .field("monitor_sleeps", &self.monitor_sleeps())
            .field("closed", &self.is_closed())
            .finish()
    }
}

pub(crate) struct Idle(AtomicU64);

impl Idle {
    /// All of `machines` awake.
    pub(crate) fn new(machines: u64) -> Self {
        Self(AtomicU64::new(machines * AWAKE))
    }

    /// A plain look, for decisions that may be wrong now and then.
    #[inline]
    pub(crate) fn peek(&self) -> Snapshot {
        Snapshot(self.0.load(Ordering::Relaxed))
    }

    /// Whether all machines sleep.
    pub(crate) fn all_asleep(&self) -> bool {
        // Acquire: pairs with `fell_asleep`; what the machines did before they slept is seen.
        Snapshot(self.0.load(Ordering::Acquire)).awake() == 0
    }

    /// Adds `plus` and takes `minus` away; the word before. AcqRel: every change of this word is one of the pair in the module's
    /// argument.
    fn shift(&self, plus: u64, minus: u64) -> Snapshot {
        Snapshot(self.0.fetch_add(plus.wrapping_sub(minus), Ordering::AcqRel))
    }

    /// Changes the word if `allowed`.
    fn shift_if(&self, plus: u64, minus: u64, allowed: impl Fn(Snapshot) -> bool) -> Result<(), Snapshot> {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            if !allowed(Snapshot(seen)) {
                return Err(Snapshot(seen));
            }
            match self.0.compare_exchange(seen, (seen + plus) - minus, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => seen = now,
            }
        }
    }

    /// Work has been pushed to the injector.
    pub(crate) fn announce(&self) -> Snapshot {
        self.shift(EPOCH, 0)
    }

    /// The caller starts to search, if fewer than `limit` do.
    pub(crate) fn start_search(&self, limit: u64) -> bool {
        self.shift_if(SEARCHING, 0, |s| s.searching() < limit).is_ok()
    }

    /// The caller wants to wake a sleeper and make it search; false if there is none, or somebody searches already.
    pub(crate) fn claim_wake(&self) -> bool {
        self.shift_if(SEARCHING, 0, Snapshot::wants_searcher).is_ok()
    }

    /// Wakes a sleeper to search, unless somebody searches already: `win` wakes one with the search that is counted here, if it
    /// can win one.
    pub(crate) fn wake_searcher(&self, win: impl Fn() -> bool, has_work: impl Fn() -> bool) {
        while self.claim_wake() {
            if win() {
                return;
            }
            // All sleepers were won by others in the meantime. An announcer may have left its work to the search that was
            // claimed here, so this must look once more.
            if !self.end_search() || !has_work() {
                return;
            }
            // A winner has not counted its sleeper awake yet, and may be preempted just there.
            crate::prim::back_off();
        }
    }

    /// A search, or a claim that found no sleeper, ends. True if it was the last: then the caller must look for work once more,
    /// and wake the next if there is some.
    pub(crate) fn end_search(&self) -> bool {
        self.shift(0, SEARCHING).searching() == 1
    }

    /// A machine has fallen asleep, ending its search if it searched; the word afterwards.
    pub(crate) fn fell_asleep(&self, searching: bool, spare: bool) -> Snapshot {
        let plus = if spare { 0 } else { SLEEPER };
        let minus = AWAKE + if searching { SEARCHING } else { 0 };
        let before = self.shift(plus, minus);
        debug_assert!(before.awake() > 0, "a machine fell asleep that was not counted awake");
        Snapshot(before.0.wrapping_add(plus.wrapping_sub(minus)))
    }

    /// Whoever won a sleeper counts it awake. True if the monitor sleeps and must be woken too.
    pub(crate) fn woke(&self, spare: bool) -> bool {
        let before = self.shift(AWAKE, if spare { 0 } else { SLEEPER });
        before.monitor_sleeps() && self.shift_if(0, MONITOR, Snapshot::monitor_sleeps).is_ok()
    }

    /// One more machine, made now. False if the runtime has ended.
    pub(crate) fn add_machine(&self) -> bool {
        self.shift_if(AWAKE, 0, |s| !s.is_closed()).is_ok()
    }

    /// The monitor goes to sleep, if all machines do.
    pub(crate) fn monitor_sleeps(&self) -> bool {
        self.shift_if(MONITOR, 0, |s| s.awake() == 0 && !s.monitor_sleeps()).is_ok()
    }

    /// Ends the runtime, if all machines sleep and no work was announced since `seen`.
    pub(crate) fn close(&self, seen: Snapshot) -> bool {
        let same = |s: Snapshot| (s.0 ^ seen.0) & !MONITOR == 0 && s.awake() == 0;
        self.shift_if(CLOSED, 0, |s| same(s) && !s.is_closed()).is_ok()
    }

    /// Ends the runtime, whatever is left. By the monitor, after the grace period.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn close_by_force(&self) {
        let _ = self.shift_if(CLOSED, 0, |s| !s.is_closed());
    }
}
