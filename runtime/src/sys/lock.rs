//! A lock for sections of some ten instructions, in which no user code runs and nothing waits.

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a thread looks at a lock that is taken before it gives its CPU away.
const SPINS: u32 = 20;
/// The longest pause between two looks, in spins: far longer than a section takes. A look takes the
/// cache line from the holder, who is working on the data beside the lock. If two processors use
/// one channel in every operation, it is better that they take turns of some microseconds (`mpmc`
/// at two processors: 13 ns an operation; with pauses of 32 spins 18, and with 2,048 no less than
/// 13).
const LONGEST_PAUSE: u32 = 512;
/// Half of the first pause: some 0.8 µs in all. `mpmc` at two processors takes 17.5 without it, 12
/// with it, and 11 with twice as much. But `fanin`, whose tasks wait for each other across
/// processors, loses from four times as much on.
const FIRST_PAUSE: u32 = 16;
/// How often it gives its CPU away before it sleeps. By then the holder has certainly lost its CPU.
const YIELDS: u32 = 16;
const NAP: Duration = Duration::from_micros(50);

/// A spin lock that soon gives up spinning.
///
/// Why not a futex: its release is a read-modify-write, to learn of sleepers, while the release of
/// this lock is a store. Channels take such a lock for each operation, and the read-modify-write
/// would be a fifth of that time. The price is paid if the holder loses its CPU inside the section:
/// a waiter then looks again now and then, instead of being woken. Nothing here depends on who is
/// first.
#[repr(C)]
pub(crate) struct Lock<T> {
    taken: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached by one thread at a time, through the guard.
unsafe impl<T: Send> Send for Lock<T> {}
// SAFETY: the value is reached by one thread at a time, through the guard.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self { taken: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline(always)]
    pub(crate) fn lock(&self) -> LockGuard<'_, T> {
        // Acquire: pairs with the Release of the guard's drop, so that what the last holder wrote
        // is seen.
        if self.taken.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            self.lock_contended();
        }
        LockGuard { lock: self }
    }

    #[cold]
    fn lock_contended(&self) {
        let mut looks = 0;
        loop {
            if !self.taken.swap(true, Ordering::Acquire) {
                return;
            }
            looks += 1;
            if looks < SPINS {
                for _ in 0..(FIRST_PAUSE << looks.min(9)).min(LONGEST_PAUSE) {
                    std::hint::spin_loop();
                }
            } else if looks < SPINS + YIELDS {
                std::thread::yield_now();
            } else {
                std::thread::sleep(NAP);
            }
        }
    }
}

pub(crate) struct LockGuard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for LockGuard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: the guard is the only one.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for LockGuard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard is the only one.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for LockGuard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the next holder.
        self.lock.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_lock_excludes_and_lets_go_also_under_contention_and_unwinding() {
        let lock = std::sync::Arc::new(super::Lock::new(0_u64));
        let threads = [(); 4].map(|()| {
            let lock = lock.clone();
            std::thread::spawn(move || {
                for i in 0..2000 {
                    let mut value = lock.lock();
                    let seen = *value;
                    if i % 100 == 0 {
                        // Waiters give their CPU away meanwhile.
                        std::thread::yield_now();
                    }
                    *value = seen + 1;
                }
            })
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _held = lock.lock();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panics.is_err());
        assert_eq!(*lock.lock(), 8000);
    }
}
