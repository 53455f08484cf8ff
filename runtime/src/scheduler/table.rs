//! The processors of a runtime: those that the user asked for, and spares, which are made when they
//! are needed.

use crate::prim::untracked::{AtomicUsize, OnceLock, Ordering};
use crate::scheduler::Shared;
use crate::scheduler::processor::Processor;

/// Processors do not move until the runtime is dropped: tasks, timers and other threads point to
/// them.
pub(crate) struct Processors {
    regular: Box<[Processor]>,
    /// Filled from the front, by the monitor only.
    spares: Box<[OnceLock<Box<Processor>>]>,
    /// How many have a machine: all regular ones and the first few spares.
    seated: AtomicUsize,
}

impl Processors {
    /// Makes this many regular processors, and room for spares.
    pub(crate) fn new(regular: usize, spares: usize) -> Self {
        Self {
            regular: (0..regular).map(|index| Processor::new(index as u32, false)).collect(),
            spares: (0..spares).map(|_| OnceLock::new()).collect(),
            seated: AtomicUsize::new(regular),
        }
    }

    /// Tells the regular processors which runtime they are part of.
    pub(crate) fn attach(&self, shared: *const Shared) {
        self.regular.iter().for_each(|processor| processor.attach(shared));
    }

    /// The processors that the user asked for.
    #[inline]
    pub(crate) fn regular(&self) -> &[Processor] {
        &self.regular
    }

    /// The processor with this number. It is a regular one or a spare that has been made.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> &Processor {
        match self.regular.get(index) {
            Some(processor) => processor,
            None => self.spares[index - self.regular.len()].get().expect("a spare is made before anybody hears of it"),
        }
    }

    /// How many processors have a machine.
    #[inline]
    pub(crate) fn seated_count(&self) -> usize {
        // Acquire: pairs with `seat_spare`. The spares that are counted have been made.
        self.seated.load(Ordering::Acquire)
    }

    /// The processors that have a machine.
    pub(crate) fn seated(&self) -> impl Iterator<Item = &Processor> {
        (0..self.seated_count()).map(|index| self.get(index))
    }

    /// The spares that have a machine.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn seated_spares(&self) -> impl Iterator<Item = &Processor> {
        self.seated().skip(self.regular.len())
    }

    /// The processors that have a machine, except for one, beginning at any of them.
    pub(crate) fn others<'a>(&'a self, except: &'a Processor, first: usize) -> impl Iterator<Item = &'a Processor> {
        let seated = self.seated_count();
        (0..seated).map(move |i| self.get((first + i) % seated)).filter(move |p| !std::ptr::eq(*p, except))
    }

    /// Makes the next spare, whose machine is about to be started, and returns its number. `None`
    /// if there is no room. Called by the monitor.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn seat_spare(&self, shared: *const Shared) -> Option<usize> {
        let index = self.seated_count();
        let place = self.spares.get(index - self.regular.len())?;
        // It may already be there: its machine could not be started last time.
        place.get_or_init(|| {
            let spare = Processor::new(index as u32, true);
            spare.attach(shared);
            Box::new(spare)
        });
        self.seated.store(index + 1, Ordering::Release);
        Some(index)
    }

    /// Notes that the machine of the newest spare could not be started. Called by the monitor.
    #[cfg(not(greenloom_loom))]
    pub(crate) fn unseat(&self, index: usize) {
        debug_assert_eq!(index + 1, self.seated_count());
        self.seated.store(index, Ordering::Release);
    }
}
