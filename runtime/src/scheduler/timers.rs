//! The timers of a processor: a hierarchical timing wheel (Varghese and Lauck, 1987; the levels are
//! those of the Linux kernel and of tokio). Its entries lie in the frames of the tasks that wait,
//! or of cancel scopes that time cancels.
//!
//! Time is counted in ticks of [`TICK`]. Level *n* has 64 slots of 64ⁿ ticks each. An entry lies in
//! the level of the highest group of six bits in which its tick differs from now. So inserting it
//! and taking it back costs the same for any length. When time reaches a slot above level 0, its
//! entries move down; in level 0 they fire. Deadlines are rounded up: nothing fires early.
//!
//! The tasks of the machine insert timers and take them back. The machine fires them, or the
//! monitor does while one task holds the machine. All of this happens under the lock, so once a
//! task has taken its entry back, no other thread touches it.

use std::cell::Cell;
use std::ptr::null;
use std::time::{Duration, Instant};

use crate::prim::untracked::{AtomicU64, Ordering};
use crate::prim::{self, Lock};
use crate::raw::cancel_scope::{CancelScope, Cause};
use crate::raw::header::TaskPtr;

/// A tick in nanoseconds: 32.8 µs, about the cost of waking a thread.
const TICK: u64 = 1 << 15;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 8;
/// 292 years from the start.
const LAST: u64 = (1 << (BITS * LEVELS as u32)) - 1;
const NEVER: u64 = u64::MAX;

/// The most timers that fire while the lock is taken once.
const BATCH: usize = 64;

/// A timer, in a frame of the task that it is for. It must not move or end while it is in a wheel.
pub(crate) struct Timer {
    aim: Cell<Aim>,
    tick: Cell<u64>,
    place: Cell<Place>,
    /// Null for the last of a slot.
    next: Cell<*const Timer>,
    /// The last of the slot, for the first one.
    previous: Cell<*const Timer>,
    #[cfg(greenloom_loom)]
    alive: prim::Alive,
}

/// What a timer does.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    /// It is not set.
    Nothing,
    /// Ends the task's current wait.
    Wake(TaskPtr),
    /// Cancels a cancel scope, which lives as long as the timer is in a wheel.
    Cancel(*const CancelScope),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    /// In a wheel, at this place of its slots.
    In(u16),
    Fired,
}

impl Timer {
    #[inline]
    pub(crate) fn new() -> Self {
        Self {
            aim: Cell::new(Aim::Nothing),
            tick: Cell::new(0),
            place: Cell::new(Place::Nowhere),
            next: Cell::new(null()),
            previous: Cell::new(null()),
            #[cfg(greenloom_loom)]
            alive: prim::Alive::new(),
        }
    }

    /// In a model, fails if the timer has ended.
    fn touch(&self) {
        #[cfg(greenloom_loom)]
        self.alive.touch();
    }
}

pub(crate) struct Timers {
    /// Tick zero.
    start: Instant,
    /// The tick at which to look again; `NEVER` if there is no timer. Written under the lock.
    next: AtomicU64,
    wheel: Lock<Wheel>,
}

// SAFETY: the wheel's pointers lead to timers whose owners take them back, under the lock, before
// they end.
unsafe impl Send for Timers {}
// SAFETY: as for `Send`: owners take their timers back, under the lock, before they end.
unsafe impl Sync for Timers {}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { start: prim::now(), next: AtomicU64::new(NEVER), wheel: Lock::new(Wheel::new()) }
    }

    /// Nanoseconds from the start to a given moment.
    #[inline]
    fn nanos(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.start);
        since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos())).min(LAST * TICK)
    }

    /// Sets a timer: it does what `aim` says at `deadline`, or soon after.
    ///
    /// # Safety
    /// The timer is in no wheel. It stays where it is until [`take_back`](Self::take_back) was
    /// called on it. What it aims at does so too.
    #[inline]
    pub(crate) unsafe fn set(&self, timer: &Timer, aim: Aim, deadline: Instant) {
        timer.aim.set(aim);
        timer.tick.set(self.nanos(deadline).div_ceil(TICK));
        let mut wheel = self.wheel.lock();
        // SAFETY: the timer is in no wheel and stays where it is, as `# Safety` demands.
        let look = unsafe { wheel.insert(timer) };
        if look < self.next.load(Ordering::Relaxed) {
            self.next.store(look, Ordering::Relaxed);
        }
    }

    /// Takes a timer back. Returns true if it has fired.
    #[inline]
    pub(crate) fn take_back(&self, timer: &Timer) -> bool {
        let mut wheel = self.wheel.lock();
        let fired = timer.place.get() == Place::Fired;
        if !fired {
            wheel.remove(timer);
            if wheel.count == 0 {
                self.next.store(NEVER, Ordering::Relaxed);
            }
        }
        fired
    }

    /// When to call [`fire`](Self::fire) next, if ever.
    pub(crate) fn next(&self) -> Option<Instant> {
        let tick = self.next.load(Ordering::Relaxed);
        (tick != NEVER).then(|| self.start + Duration::from_nanos(tick * TICK))
    }

    /// Whether there are no timers; a plain look.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.next.load(Ordering::Relaxed) == NEVER
    }

    /// Whether there is something to do by this moment; a plain look.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    /// Fires what is due. `queue` gets the tasks that were parked. Returns whether there were any.
    pub(crate) fn fire(&self, mut queue: impl FnMut(TaskPtr)) -> bool {
        let now = self.nanos(prim::now()) / TICK;
        let mut any = false;
        while self.next.load(Ordering::Relaxed) <= now {
            let mut won = [None; BATCH];
            let mut count = 0;
            {
                let mut wheel = self.wheel.lock();
                while count < BATCH
                    && let Some(timer) = wheel.pop_due(now)
                {
                    // SAFETY: the timer was in the wheel, so its owner has not taken it back yet.
                    // Timer and aim last until the lock is free.
                    let task = match unsafe { (*timer).aim.get() } {
                        Aim::Wake(task) => task.state().time_up().then_some(task),
                        // SAFETY: the timer's aim lasts until the lock is free.
                        Aim::Cancel(scope) => unsafe { (*scope).cancel(Cause::Time) },
                        Aim::Nothing => None,
                    };
                    if task.is_some() {
                        won[count] = task;
                        count += 1;
                    }
                }
                self.next.store(wheel.next(), Ordering::Relaxed);
            }
            any |= count > 0;
            won.into_iter().flatten().for_each(&mut queue);
        }
        any
    }
}

struct Wheel {
    /// Everything before this tick has fired.
    now: u64,
    /// How many timers there are.
    count: usize,
    /// Which slots of a level have timers.
    occupied: [u64; LEVELS],
    /// The oldest timer of each slot, level by level, and after them the oldest of those that are
    /// due: they were due when they were set, or a slot of level 0 held them when its time came.
    /// Empty until there is a timer.
    slots: Vec<*const Timer>,
}

/// The place of the timers that are due.
const DUE: usize = LEVELS * SLOTS;

impl Wheel {
    const fn new() -> Self {
        Self { now: 0, count: 0, occupied: [0; LEVELS], slots: Vec::new() }
    }

    /// Puts a timer where it belongs, and returns when to look at that place.
    ///
    /// # Safety
    /// The timer is in no wheel. It stays alive and where it is as long as it is in this one.
    #[inline]
    unsafe fn insert(&mut self, timer: &Timer) -> u64 {
        if self.slots.is_empty() {
            self.make_slots();
        }
        self.count += 1;
        let tick = timer.tick.get();
        let (place, look) = if tick <= self.now {
            (DUE, 0)
        } else {
            let level = (63 - (tick ^ self.now).leading_zeros()) / BITS;
            let group = tick >> (level * BITS);
            let slot = group as usize % SLOTS;
            self.occupied[level as usize] |= 1 << slot;
            (level as usize * SLOTS + slot, group << (level * BITS))
        };
        timer.place.set(Place::In(place as u16));
        timer.next.set(null());
        let first = &mut self.slots[place];
        // SAFETY: everything in the wheel is alive.
        match unsafe { first.as_ref() } {
            None => {
                timer.previous.set(timer);
                *first = timer;
            }
            Some(first) => {
                let last = first.previous.replace(timer);
                timer.previous.set(last);
                // SAFETY: everything in the wheel is alive.
                unsafe { (*last).next.set(timer) };
            }
        }
        look
    }

    #[cold]
    fn make_slots(&mut self) {
        self.slots.resize(DUE + 1, null());
    }

    #[inline]
    fn remove(&mut self, timer: &Timer) {
        timer.touch();
        let Place::In(place) = timer.place.replace(Place::Nowhere) else { return };
        self.count -= 1;
        let place = usize::from(place);
        let (previous, next) = (timer.previous.get(), timer.next.get());
        let first = &mut self.slots[place];
        if std::ptr::eq(*first, timer) {
            *first = next;
            if next.is_null() {
                if place != DUE {
                    self.occupied[place / SLOTS] &= !(1 << (place % SLOTS));
                }
                return;
            }
        } else {
            // SAFETY: everything in the wheel is alive.
            unsafe { (*previous).next.set(next) };
        }
        // The timer that follows this one. If this was the last, then the first, which points to
        // the last.
        let behind = if next.is_null() { *first } else { next };
        // SAFETY: everything in the wheel is alive.
        unsafe { (*behind).previous.set(previous) };
    }

    /// The first of the timers that are due.
    fn due(&self) -> *const Timer {
        self.slots.last().copied().unwrap_or(null())
    }

    /// The next slot with timers, and its first tick.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        // What lies in a lower level comes before everything in a higher one.
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let shift = level as u32 * BITS;
        let here = (self.now >> shift) as usize % SLOTS;
        // No timer lies in a slot before the present one: it would differ from now in a higher
        // group of bits.
        let slot = here + (self.occupied[level] >> here).trailing_zeros() as usize;
        let block = self.now & !((1 << (shift + BITS)) - 1);
        Some((level, slot, block + ((slot as u64) << shift)))
    }

    /// When there is something to do next.
    fn next(&self) -> u64 {
        if !self.due().is_null() { 0 } else { self.next_slot().map_or(NEVER, |(_, _, tick)| tick) }
    }

    /// Takes out one timer that is due at tick `now`.
    fn pop_due(&mut self, now: u64) -> Option<*const Timer> {
        loop {
            // SAFETY: everything in the wheel is alive.
            if let Some(timer) = unsafe { self.due().as_ref() } {
                self.remove(timer);
                timer.place.set(Place::Fired);
                return Some(timer);
            }
            let Some((level, slot, tick)) = self.next_slot().filter(|&(_, _, tick)| tick <= now) else {
                self.now = self.now.max(now);
                return None;
            };
            self.now = tick;
            let mut timer = std::mem::replace(&mut self.slots[level * SLOTS + slot], null());
            self.occupied[level] &= !(1 << slot);
            // SAFETY: everything in the wheel is alive.
            while let Some(entry) = unsafe { timer.as_ref() } {
                timer = entry.next.get();
                self.count -= 1;
                // SAFETY: the entry is in no list any more.
                let _ = unsafe { self.insert(entry) };
            }
        }
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::raw::task_slab::TaskSlab;
    use crate::sys::number::next_random;

    /// What a wheel must do, in a simple form: entries by the tick from which on they are due, then
    /// in the order in which they came.
    #[derive(Default)]
    struct Reference {
        now: u64,
        entries: BTreeMap<(u64, usize), usize>,
        inserted: usize,
    }

    /// A wheel beside the reference, and timers that move between the two and nowhere.
    struct Pair {
        timers: Vec<Timer>,
        /// Where in the reference a timer is.
        keys: Vec<Option<(u64, usize)>>,
        wheel: Wheel,
        reference: Reference,
    }

    impl Pair {
        fn new(timers: usize) -> Self {
            Self {
                timers: (0..timers).map(|_| Timer::new()).collect(),
                keys: vec![None; timers],
                wheel: Wheel::new(),
                reference: Reference::default(),
            }
        }

        fn insert(&mut self, i: usize, tick: u64) {
            let timer = &self.timers[i];
            timer.tick.set(tick);
            // SAFETY: the timer is in no wheel, and the timers do not move.
            let look = unsafe { self.wheel.insert(timer) };
            let reference = &mut self.reference;
            assert!(look <= tick, "{tick}: looked at in {look}");
            let key = (tick.max(reference.now), reference.inserted);
            reference.inserted += 1;
            reference.entries.insert(key, i);
            self.keys[i] = Some(key);
            self.check();
        }

        fn remove(&mut self, i: usize) {
            self.wheel.remove(&self.timers[i]);
            let key = self.keys[i].take().unwrap();
            self.reference.entries.remove(&key);
            assert!(self.timers[i].place.get() == Place::Nowhere);
            self.check();
        }

        /// Takes out what is due at `now`, `limit` of them at most.
        fn pop_due(&mut self, now: u64, limit: usize) {
            for _ in 0..limit {
                let popped = self.wheel.pop_due(now).map(|timer| {
                    let i = self.timers.iter().position(|t| std::ptr::eq(t, timer)).unwrap();
                    assert!(self.timers[i].place.get() == Place::Fired);
                    i
                });
                let first = self.reference.entries.first_key_value().filter(|((tick, _), _)| *tick <= now);
                let (key, expected) = first.map(|(&key, &i)| (key, i)).unzip();
                assert_eq!(popped, expected, "at {now}");
                let Some(key) = key else {
                    self.reference.now = self.reference.now.max(now);
                    break;
                };
                self.reference.now = self.reference.now.max(key.0);
                self.reference.entries.remove(&key);
                self.keys[expected.unwrap()] = None;
                self.check();
            }
            self.check();
        }

        /// The wheel looks again in time, and not too often. A look that finds nothing due is one
        /// at a slot of some level.
        fn check(&self) {
            let next = self.wheel.next();
            assert_eq!((self.wheel.now, self.wheel.count), (self.reference.now, self.reference.entries.len()));
            let Some((&(first, _), _)) = self.reference.entries.first_key_value() else {
                return assert_eq!(next, NEVER);
            };
            assert!(next <= first, "looks again in {next}, though {first} is due");
            assert_eq!(next == 0, first <= self.wheel.now, "looks in {next}, and {first} is the first");
            if next > 0 {
                assert!(next > self.wheel.now, "looks at {next} again and again");
            }
        }

        /// Lets time pass to each moment with something to do, until nothing is left. Returns how
        /// often.
        fn run_out(&mut self) -> usize {
            let mut looks = 0;
            while self.wheel.next() != NEVER {
                let next = self.wheel.next().max(self.wheel.now);
                self.pop_due(next, usize::MAX);
                looks += 1;
            }
            assert!(self.reference.entries.is_empty());
            looks
        }
    }

    /// The first and the last ticks of slots of every level, and the ticks beside them.
    fn boundaries() -> Vec<u64> {
        let mut ticks: Vec<u64> = (0..=BITS * LEVELS as u32)
            .step_by(BITS as usize)
            .flat_map(|shift| [1, 2, 3, 63].map(move |slots: u64| slots.saturating_mul(1 << shift)))
            .flat_map(|tick| [tick.saturating_sub(1), tick, tick + 1])
            .filter(|&tick| tick <= LAST)
            .collect();
        ticks.push(LAST);
        ticks.sort_unstable();
        ticks.dedup();
        ticks
    }

    #[test]
    fn timers_at_the_boundaries_of_all_levels_fire_in_their_order_from_wherever_now_is() {
        let ticks = boundaries();
        for &now in &ticks {
            let mut pair = Pair::new(2 * ticks.len());
            pair.pop_due(now, usize::MAX);
            // Backwards, and each moment twice.
            for (i, &tick) in ticks.iter().rev().chain(&ticks).enumerate() {
                pair.insert(i, tick);
            }
            let looks = pair.run_out();
            assert!(looks <= ticks.len() * LEVELS, "{looks} looks");
        }
    }

    #[test]
    fn a_far_timer_is_looked_at_once_for_each_level() {
        for tick in boundaries() {
            let mut pair = Pair::new(1);
            pair.insert(0, tick);
            let looks = pair.run_out();
            assert!(looks <= LEVELS, "{tick}: {looks} looks");
        }
    }

    #[test]
    fn whatever_is_set_and_taken_back_the_rest_fires_in_order() {
        const TIMERS: usize = 60;
        let random = Cell::new(0x1234_5678_9abc_def1);
        let below = |limit: u64| next_random(&random) % limit;
        for round in 0..300 {
            let mut pair = Pair::new(TIMERS);
            // This way many share a slot in some rounds, and the levels differ in others.
            let spread = 6 * (1 + round % 7);
            for _ in 0..200 {
                let i = below(TIMERS as u64) as usize;
                let away = below(1 << (1 + below(spread)));
                match (below(8), pair.keys[i]) {
                    (0..4, None) => pair.insert(i, (pair.reference.now + away).min(LAST)),
                    (4, None) => pair.insert(i, pair.reference.now.saturating_sub(away)),
                    (0..3, Some(_)) => pair.remove(i),
                    (5, _) => pair.pop_due((pair.reference.now + away / 4).min(LAST), below(5) as usize),
                    (6, _) => pair.pop_due((pair.reference.now + away / 4).min(LAST), usize::MAX),
                    _ => {}
                }
            }
            pair.run_out();
        }
    }

    fn task() -> TaskPtr {
        let alloc = |layout| TaskSlab::new(0).alloc(layout);
        // SAFETY: the task never runs, and is leaked.
        unsafe { TaskPtr::new(|| (), std::panic::Location::caller(), 1, None, alloc) }.unwrap()
    }

    #[test]
    fn a_deadline_is_rounded_up_to_a_tick_and_to_the_last_one() {
        let timers = Timers::new();
        let tick = |deadline: Instant| {
            let timer = Timer::new();
            // SAFETY: the timer is new, and taken back.
            unsafe { timers.set(&timer, Aim::Nothing, deadline) };
            let tick = timer.tick.get();
            timers.take_back(&timer);
            tick
        };
        let at = |nanos: u64| timers.start + Duration::from_nanos(nanos);
        assert_eq!(tick(at(0)), 0);
        assert_eq!(tick(at(1)), 1);
        assert_eq!(tick(at(TICK)), 1);
        assert_eq!(tick(at(TICK + 1)), 2);
        assert_eq!(tick(timers.start - Duration::from_secs(1)), 0, "before the wheel's beginning");
        assert_eq!(tick(at(LAST * TICK) - Duration::from_nanos(1)), LAST);
        assert_eq!(tick(at(LAST * TICK) + Duration::from_secs(1)), LAST);
        assert_eq!(tick(timers.start + Duration::from_secs(1 << 40)), LAST, "beyond what 64 bits of nanoseconds hold");
    }

    #[test]
    fn the_next_look_follows_what_is_set_and_taken_back() {
        let timers = Timers::new();
        let [far, near, due] = [(); 3].map(|()| Timer::new());
        let set = |timer: &Timer, ticks: u64| {
            // SAFETY: the timer is new, and taken back below.
            unsafe { timers.set(timer, Aim::Nothing, timers.start + Duration::from_nanos(ticks * TICK)) };
        };
        let ticks = |ticks: u64| Some(timers.start + Duration::from_nanos(ticks * TICK));
        assert!(timers.is_empty() && timers.next().is_none());
        set(&far, 1 << 40);
        assert_eq!(timers.next(), ticks(1 << 40));
        set(&near, 1 << 30);
        assert_eq!(timers.next(), ticks(1 << 30));
        let moment = |ticks: u64| timers.start + Duration::from_nanos(ticks * TICK);
        assert!(timers.is_due(moment(1 << 30)) && !timers.is_due(moment(1 << 30) - Duration::from_nanos(1)));
        set(&due, 0);
        assert!(timers.is_due(timers.start));
        assert!(!timers.take_back(&due) && !timers.take_back(&near));
        assert!(!timers.is_empty(), "there is one more");
        assert!(!timers.take_back(&far));
        assert!(timers.is_empty() && timers.next().is_none());
    }

    #[test]
    fn all_that_are_due_fire_in_one_go_in_their_order_and_tell_who_sleeps() {
        const TIMERS: usize = 3 * BATCH + 7;
        let timers = Timers::new();
        let entries: Vec<(TaskPtr, Timer)> = (0..TIMERS).map(|_| (task(), Timer::new())).collect();
        let later = Timer::new();
        let asleep = |i: usize| i % 3 != 1;
        for (i, (task, timer)) in entries.iter().enumerate() {
            // SAFETY: the timer is new, and taken back below.
            unsafe { timers.set(timer, Aim::Wake(*task), timers.start) };
            if asleep(i) {
                let _ = task.state().commit(crate::raw::state::Park::Wait, false);
            }
        }
        // SAFETY: the timer is new, and taken back below.
        unsafe { timers.set(&later, Aim::Wake(task()), timers.start + Duration::from_secs(3600)) };
        let mut woken = Vec::new();
        assert!(timers.fire(|task| woken.push(task)));
        let expected = (0..TIMERS).filter(|&i| asleep(i)).map(|i| entries[i].0);
        assert_eq!(woken, expected.collect::<Vec<_>>());
        assert!(!timers.fire(|_| panic!("fired twice")), "nobody was woken");
        assert!(!timers.is_empty() && !timers.is_due(prim::now()));
        for (task, timer) in &entries {
            assert!(timers.take_back(timer), "it has fired");
            // A task that did not sleep finds the mark.
            task.state().forget_time();
        }
        assert!(!timers.take_back(&later));
        assert!(timers.is_empty());
    }

    #[test]
    fn who_does_not_sleep_is_marked_and_not_queued() {
        let (timers, task, timer) = (Timers::new(), task(), Timer::new());
        // SAFETY: the timer is new, and taken back below.
        unsafe { timers.set(&timer, Aim::Wake(task), timers.start) };
        assert!(!timers.fire(|_| panic!("it does not sleep")));
        assert!(timers.is_empty(), "it is not in the wheel any more");
        assert!(timers.take_back(&timer));
        let commit = task.state().commit(crate::raw::state::Park::Wait, false);
        assert_eq!(commit, crate::raw::state::TransitionToParked::Requeue);
        assert!(task.state().take_abort_wake());
    }
}
