//! The workers of a pool, and which of them is called for a job.
//!
//! 1. A job is nobody's until a worker takes it out of the queue, the oldest first. Calling a worker only wakes it. If it has to wait for
//!    its turn on its processor, whoever becomes free before takes the job.
//! 2. A worker waits only if it finds, under the crew's lock, that there is no job. Whoever has queued one takes that lock afterwards, and
//!    calls a worker that waits. So the worker sees the job, or is seen.
//! 3. Workers stay on their processors. The one to be called is on a processor that has nothing to do, and for which nobody has been
//!    called yet; if there is none, where the fewest are at a job. On one processor it is the one that has waited least, whose stack is
//!    in the caches still.

use crate::prim::Lock;
use crate::scheduler::processor::Home;
use crate::wait;
use crate::wait::Reason;
use crate::wait::list::{List, Node, Wakes};

pub(super) struct Crew(Lock<Inner>);

struct Inner {
    /// One for each processor on which workers have started.
    places: Vec<Place>,
    /// Workers that have not ended, begun or not.
    left: usize,
    /// What is queued will never run.
    abandoned: bool,
}

/// The workers on one processor.
struct Place {
    home: Home,
    waiting: List<()>,
    /// Workers that have been called, and have not had their turn since.
    called: usize,
    /// Workers that do not wait, those that have been called among them.
    active: usize,
}

impl Place {
    /// The least one's worker is called. Where one is as good as the other, it is not the processor of the caller, who runs there.
    fn busyness(&self, caller: Home) -> (bool, usize, bool) {
        // SAFETY: a worker waits here, so it has not ended.
        let is_free = self.called == 0 && unsafe { self.home.is_resting() };
        (!is_free, self.active, self.home == caller)
    }

    /// One of its workers that waits will not wait any more.
    fn call(&mut self) -> Option<&Node<()>> {
        // SAFETY: under the crew's lock, under which the caller uses it; it owes the worker a wake.
        let worker = unsafe { self.waiting.pop_front() }?;
        self.called += 1;
        self.active += 1;
        Some(worker)
    }
}

impl Crew {
    /// Of so many workers, none of which has begun.
    pub(super) fn new(workers: usize) -> Self {
        // No allocation under the lock.
        Self(Lock::new(Inner { places: Vec::with_capacity(workers), left: workers, abandoned: false }))
    }

    /// The calling task begins as a worker, and is told its place.
    pub(super) fn begin(&self) -> usize {
        let home = Home::of_the_caller();
        let places = &mut self.0.lock().places;
        let known = places.iter().position(|place| place.home == home);
        let index = known.unwrap_or_else(|| {
            places.push(Place { home, waiting: List::new(), called: 0, active: 0 });
            places.len() - 1
        });
        places[index].active += 1;
        index
    }

    /// A worker ends; without a place it has never begun.
    pub(super) fn end(&self, place: Option<usize>) -> Ended {
        let mut inner = self.0.lock();
        if let Some(place) = place {
            inner.places[place].active -= 1;
        }
        inner.left -= 1;
        if inner.left == 0 {
            Ended::Last
        } else if inner.abandoned {
            Ended::Abandoned
        } else {
            Ended::OneOfMany
        }
    }

    /// Waits, in a worker, until it is called, or `has_job` says that it need not.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here.
    pub(super) fn wait(&self, place: usize, has_job: impl Fn() -> bool) {
        let node = Node::new(());
        let mut queued = false;
        let publish = |waiter| {
            let mut inner = self.0.lock();
            queued = !has_job();
            if queued {
                let place = &mut inner.places[place];
                place.active -= 1;
                // SAFETY: under the lock; the node is in no list, and stays where it is as long as it is in one: the wait ends
                // when it was taken out.
                unsafe { place.waiting.push_front(&node, waiter) };
            }
            queued
        };
        let withdraw = || {
            let place = &mut self.0.lock().places[place];
            // SAFETY: under the lock; in this list, or in none.
            let withdrawn = unsafe { place.waiting.remove(&node) };
            place.active += usize::from(withdrawn);
            withdrawn
        };
        let _ = wait::wait_for(Reason::Receive, None, publish, withdraw);
        if queued {
            self.0.lock().places[place].called -= 1;
        }
    }

    /// A job has been queued: calls a worker, if one waits.
    pub(super) fn call(&self) {
        let here = Home::of_the_caller();
        let mut inner = self.0.lock();
        let waiting = inner.places.iter_mut().filter(|place| !place.waiting.is_empty());
        let called = waiting.min_by_key(|place| place.busyness(here)).and_then(Place::call).map(Node::waiter);
        drop(inner);
        if let Some(worker) = called {
            // SAFETY: taken out of the list just now.
            unsafe { worker.wake() };
        }
    }

    /// No more jobs come: calls all workers.
    pub(super) fn call_all(&self) {
        let mut wakes = Wakes::new();
        let mut inner = self.0.lock();
        for place in &mut inner.places {
            while let Some(worker) = place.call() {
                // SAFETY: taken out of the list just now, and the lock is held.
                unsafe { wakes.add(worker) };
            }
        }
    }

    /// What is queued will not run: the first worker that ends drops it.
    pub(super) fn abandon(&self) {
        self.0.lock().abandoned = true;
    }
}

/// Which worker has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Last,
    /// Nobody will run what is queued.
    Abandoned,
    /// Others go on.
    OneOfMany,
}
