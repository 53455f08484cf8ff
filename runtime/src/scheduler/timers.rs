//! The timers of a processor: a hierarchical timing wheel (Varghese and Lauck, 1987; the levels are those of the Linux kernel and of
//! tokio) whose entries lie in the frames of those who wait, or of bounds that time trips.
//!
//! Time is counted in ticks of [`TICK`]. Level *n* has 64 slots of 64ⁿ ticks each; an entry lies in the level of the highest group of
//! six bits in which its tick differs from now, so that inserting it and taking it back costs the same for any length. When time
//! reaches a slot above level 0, its entries move down; in level 0 they fire. Deadlines are rounded up: nothing fires early.
//!
//! Who may do what: the tasks of the machine insert and take back; the machine fires, or, while one task holds it, the monitor. All
//! under the lock, so that the entry of a task that has taken it back is certainly not touched any more.

use std::cell::Cell;
use std::ptr::null;
use std::time::{Duration, Instant};

use crate::prim::untracked::{AtomicU64, Ordering};
use crate::prim::{self, Lock};
use crate::task::TaskPtr;
use crate::task::bound::{Bound, Cause};

/// A tick in nanoseconds: 32.8 µs, the order of what waking a thread costs.
const TICK: u64 = 1 << 15;
const BITS: u32 = 6;
const SLOTS: usize = 1 << BITS;
const LEVELS: usize = 8;
/// 292 years from the start.
const LAST: u64 = (1 << (BITS * LEVELS as u32)) - 1;
const NEVER: u64 = u64::MAX;

/// The most timers that fire under one taking of the lock.
const BATCH: usize = 64;

/// A timer, in a frame of the task that it is for. It may not move or end while it is in a wheel.
pub(crate) struct Timer {
    aim: Cell<Aim>,
    tick: Cell<u64>,
    place: Cell<Place>,
    /// Null for the last of a slot.
    next: Cell<*const Timer>,
    /// The last, for the first of a slot.
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
    /// Trips a bound, which lives as long as the timer is in a wheel.
    Trip(*const Bound),
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

    /// In a model, fails if it has ended.
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

// SAFETY: the wheel's pointers lead to timers whose owners take them back, under the lock, before they end.
unsafe impl Send for Timers {}
// SAFETY: as above.
unsafe impl Sync for Timers {}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { start: prim::now(), next: AtomicU64::new(NEVER), wheel: Lock::new(Wheel::new()) }
    }

    /// Nanoseconds from the start to a moment.
    #[inline]
    fn nanos(&self, moment: Instant) -> u64 {
        let since = moment.saturating_duration_since(self.start);
        since.as_secs().saturating_mul(1_000_000_000).saturating_add(u64::from(since.subsec_nanos())).min(LAST * TICK)
    }

    /// Sets a timer: it does what it is to at `deadline`, or soon after.
    ///
    /// # Safety
    /// The timer is in no wheel. It stays where it is until [`take_back`](Self::take_back) was called on it, and what it aims at
    /// as long.
    #[inline]
    pub(crate) unsafe fn set(&self, timer: &Timer, aim: Aim, deadline: Instant) {
        timer.aim.set(aim);
        timer.tick.set(self.nanos(deadline).div_ceil(TICK));
        let mut wheel = self.wheel.lock();
        // SAFETY: the caller's promise.
        let look = unsafe { wheel.insert(timer) };
        if look < self.next.load(Ordering::Relaxed) {
            self.next.store(look, Ordering::Relaxed);
        }
    }

    /// Takes a timer back; true if it has fired.
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

    /// Whether there are any; a plain look.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.next.load(Ordering::Relaxed) == NEVER
    }

    /// Whether there is something to do by this moment; a plain look.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.next().is_some_and(|next| next <= now)
    }

    /// Fires what is due; `queue` gets the tasks that were parked. Whether there were such.
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
                    // SAFETY: it was in the wheel, so its owner has not taken it back yet: timer and aim last until the lock is
                    // free.
                    let task = match unsafe { (*timer).aim.get() } {
                        Aim::Wake(task) => task.state().time_up().then_some(task),
                        // SAFETY: as above.
                        Aim::Trip(bound) => unsafe { (*bound).trip(Cause::Time) },
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
    /// All before this tick has fired.
    now: u64,
    /// How many timers there are.
    count: usize,
    /// Which slots of a level have timers.
    occupied: [u64; LEVELS],
    /// The oldest timer of each slot, level by level; behind them of those that are due: they were when they were set, or a slot of
    /// level 0 held them when its time came. Empty until there is a timer.
    slots: Vec<*const Timer>,
}

/// The place of what is due.
const DUE: usize = LEVELS * SLOTS;

impl Wheel {
    const fn new() -> Self {
        Self { now: 0, count: 0, occupied: [0; LEVELS], slots: Vec::new() }
    }

    /// Puts a timer where it belongs, and tells when that place is to be looked at.
    ///
    /// # Safety
    /// The timer is in no wheel, and stays alive and where it is as long as it is in this one.
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
        // SAFETY: whatever is in the wheel is alive.
        match unsafe { first.as_ref() } {
            None => {
                timer.previous.set(timer);
                *first = timer;
            }
            Some(first) => {
                let last = first.previous.replace(timer);
                timer.previous.set(last);
                // SAFETY: as above.
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
            // SAFETY: whatever is in the wheel is alive.
            unsafe { (*previous).next.set(next) };
        }
        // Who follows it, or, if it was the last, the first, which knows the last.
        let behind = if next.is_null() { *first } else { next };
        // SAFETY: as above.
        unsafe { (*behind).previous.set(previous) };
    }

    /// The first of those that are due.
    fn due(&self) -> *const Timer {
        self.slots.last().copied().unwrap_or(null())
    }

    /// The next slot with timers, and its first tick.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        // What lies in a lower level comes before all of a higher one.
        let level = self.occupied.iter().position(|&slots| slots != 0)?;
        let shift = level as u32 * BITS;
        let here = (self.now >> shift) as usize % SLOTS;
        // No timer lies in a slot before the present one: it would differ from now in a higher group of bits.
        let slot = here + (self.occupied[level] >> here).trailing_zeros() as usize;
        let block = self.now & !((1 << (shift + BITS)) - 1);
        Some((level, slot, block + ((slot as u64) << shift)))
    }

    /// When something is to be done next.
    fn next(&self) -> u64 {
        if !self.due().is_null() { 0 } else { self.next_slot().map_or(NEVER, |(_, _, tick)| tick) }
    }

    /// Takes out one timer that is due at tick `now`.
    fn pop_due(&mut self, now: u64) -> Option<*const Timer> {
        loop {
            // SAFETY: whatever is in the wheel is alive.
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
            // SAFETY: as above.
            while let Some(entry) = unsafe { timer.as_ref() } {
                timer = entry.next.get();
                self.count -= 1;
                // SAFETY: in no list any more.
                let _ = unsafe { self.insert(entry) };
            }
        }
    }
}
