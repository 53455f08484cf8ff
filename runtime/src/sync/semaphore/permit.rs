//! Permits that have been acquired.

use super::{Semaphore, TOO_MANY};
use crate::prim::untracked::Arc;

const OTHERS: &str = "permits of another semaphore cannot be joined to these";

/// Permits of a [`Semaphore`]. They go back to it when this is dropped.
///
/// ```
/// let semaphore = greenloom::sync::Semaphore::new(3);
/// let permit = semaphore.acquire_many(2).unwrap();
/// assert_eq!((permit.num_permits(), semaphore.available_permits()), (2, 1));
/// ```
#[must_use = "the permits go back at once if they are not kept"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct SemaphorePermit<'a> {
    semaphore: &'a Semaphore,
    permits: u32,
}

/// Permits of a shared [`Semaphore`]. They go back to it when this is dropped. They keep the
/// semaphore alive, and may be moved into a task.
///
/// ```
/// use greenloom::sync::Semaphore;
/// use std::sync::Arc;
///
/// greenloom::run(|| {
///     let at_once = Arc::new(Semaphore::new(2));
///     for _ in 0..10 {
///         // Not more than two of them at a time.
///         let permit = at_once.clone().acquire_owned().unwrap();
///         greenloom::spawn(move || {
///             greenloom::yield_now();
///             drop(permit);
///         });
///     }
///     drop(at_once.acquire_many(2).unwrap());
/// });
/// ```
#[must_use = "the permits go back at once if they are not kept"]
#[clippy::has_significant_drop]
#[derive(Debug)]
pub struct OwnedSemaphorePermit {
    semaphore: Arc<Semaphore>,
    permits: u32,
}

impl<'a> SemaphorePermit<'a> {
    /// The caller has taken the permits and passes them on.
    #[inline(always)]
    pub(super) fn new(semaphore: &'a Semaphore, permits: u32) -> Self {
        Self { semaphore, permits }
    }

    /// Forgets the permits: they never go back. The semaphore has that many fewer, until some are
    /// [added](Semaphore::add_permits).
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(1);
    /// semaphore.acquire().unwrap().forget();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn forget(mut self) {
        self.permits = 0;
    }

    /// Merges other permits of the same semaphore into these. Never waits.
    ///
    /// # Panics
    /// Panics if `other` belongs to another semaphore, or if the sum cannot be counted. The permits
    /// of `other` then go back.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(3);
    /// let mut permits = semaphore.acquire().unwrap();
    /// permits.merge(semaphore.acquire_many(2).unwrap());
    /// assert_eq!((permits.num_permits(), semaphore.available_permits()), (3, 0));
    /// ```
    #[track_caller]
    pub fn merge(&mut self, mut other: Self) {
        assert!(std::ptr::eq(self.semaphore, other.semaphore), "{OTHERS}");
        self.permits = self.permits.checked_add(other.permits).expect(TOO_MANY);
        other.permits = 0;
    }

    /// Splits `n` permits off, if there are that many. Never waits.
    ///
    /// ```
    /// let semaphore = greenloom::sync::Semaphore::new(3);
    /// let mut permits = semaphore.acquire_many(3).unwrap();
    /// drop(permits.split(1));
    /// assert_eq!((permits.num_permits(), semaphore.available_permits()), (2, 1));
    /// assert!(permits.split(3).is_none());
    /// ```
    pub fn split(&mut self, n: usize) -> Option<Self> {
        let permits = u32::try_from(n).ok()?;
        self.permits = self.permits.checked_sub(permits)?;
        Some(Self { semaphore: self.semaphore, permits })
    }

    /// Returns the number of permits.
    ///
    /// ```
    /// assert_eq!(greenloom::sync::Semaphore::new(1).acquire().unwrap().num_permits(), 1);
    /// ```
    pub fn num_permits(&self) -> usize {
        self.permits as usize
    }
}

impl Drop for SemaphorePermit<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.give_back(self.permits);
        }
    }
}

impl OwnedSemaphorePermit {
    /// Like [`SemaphorePermit::new`].
    #[inline(always)]
    pub(super) fn new(semaphore: Arc<Semaphore>, permits: u32) -> Self {
        Self { semaphore, permits }
    }

    /// Forgets the permits, like [`SemaphorePermit::forget`].
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(1));
    /// semaphore.clone().acquire_owned().unwrap().forget();
    /// assert_eq!(semaphore.available_permits(), 0);
    /// ```
    pub fn forget(mut self) {
        self.permits = 0;
    }

    /// Merges other permits of the same semaphore into these, like [`SemaphorePermit::merge`].
    /// Never waits.
    ///
    /// # Panics
    /// Panics if `other` belongs to another semaphore, or if the sum cannot be counted. The permits
    /// of `other` then go back.
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(3));
    /// let mut permits = semaphore.clone().acquire_owned().unwrap();
    /// permits.merge(semaphore.acquire_many_owned(2).unwrap());
    /// assert_eq!(permits.num_permits(), 3);
    /// ```
    #[track_caller]
    pub fn merge(&mut self, mut other: Self) {
        assert!(Arc::ptr_eq(&self.semaphore, &other.semaphore), "{OTHERS}");
        self.permits = self.permits.checked_add(other.permits).expect(TOO_MANY);
        other.permits = 0;
    }

    /// Splits `n` permits off, if there are that many, like [`SemaphorePermit::split`]. Never
    /// waits.
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(3));
    /// let mut permits = semaphore.acquire_many_owned(3).unwrap();
    /// assert_eq!(permits.split(1).unwrap().num_permits(), 1);
    /// assert_eq!(permits.num_permits(), 2);
    /// ```
    pub fn split(&mut self, n: usize) -> Option<Self> {
        let permits = u32::try_from(n).ok()?;
        self.permits = self.permits.checked_sub(permits)?;
        Some(Self { semaphore: self.semaphore.clone(), permits })
    }

    /// Returns the semaphore that these permits belong to.
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(2));
    /// let permit = semaphore.acquire_owned().unwrap();
    /// assert_eq!(permit.semaphore().available_permits(), 1);
    /// ```
    pub fn semaphore(&self) -> &Arc<Semaphore> {
        &self.semaphore
    }

    /// Returns the number of permits.
    ///
    /// ```
    /// let semaphore = std::sync::Arc::new(greenloom::sync::Semaphore::new(1));
    /// assert_eq!(semaphore.acquire_owned().unwrap().num_permits(), 1);
    /// ```
    pub fn num_permits(&self) -> usize {
        self.permits as usize
    }
}

impl Drop for OwnedSemaphorePermit {
    fn drop(&mut self) {
        if self.permits > 0 {
            self.semaphore.give_back(self.permits);
        }
    }
}
