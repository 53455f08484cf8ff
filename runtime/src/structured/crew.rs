//! The workers of a pool, and which of them is called for a job.
//!
//! 1. A job belongs to nobody until a worker takes it out of the queue, the oldest first. Calling a
//!    worker only wakes it. If it has to wait for its turn on its processor, a worker that becomes
//!    free earlier takes the job.
//! 2. A worker waits only if it finds, under the crew's lock, that there is no job. A caller that
//!    has queued a job takes that lock afterwards, and calls a worker that waits. So the worker
//!    either sees the job or is seen.
//! 3. Workers stay on their processors. The worker to call is on a processor that has nothing to do
//!    and for which no worker has been called yet. If there is none, it is on the processor where
//!    the fewest workers are at a job. Of the workers on one processor, it is the one that has
//!    waited least: its stack is still in the caches.

use crate::prim::Lock;
use crate::scheduler::processor::Home;
use crate::wait;
use crate::wait::Reason;
use crate::wait::list::{List, Node, Wakes};

pub(super) struct Crew(Lock<Inner>);

struct Inner {
    /// One for each processor on which workers have started.
    places: Vec<Place>,
    /// Workers that have not ended, whether they have begun or not.
    left: usize,
    /// The queued jobs will never run.
    abandoned: bool,
}

/// The workers on one processor.
struct Place {
    home: Home,
    waiting: List<()>,
    /// Workers that have been called and have not had their turn since.
    called: usize,
    /// Workers that do not wait, including those that have been called.
    active: usize,
}

impl Place {
    /// A worker of the place with the least value is called. On a tie, it is not on the caller's
    /// processor, since the caller runs there.
    fn busyness(&self, caller: Home) -> (bool, usize, bool) {
        // SAFETY: a worker that began on this processor waits here, so it has not ended.
        let is_free = self.called == 0 && unsafe { self.home.is_resting() };
        (!is_free, self.active, self.home == caller)
    }

    /// Takes out one of its waiting workers, which will not wait any more.
    fn call(&mut self) -> Option<&Node<()>> {
        // SAFETY: the crew's lock is held, and the caller uses the node under it and owes the
        // worker a wake.
        let worker = unsafe { self.waiting.pop_front() }?;
        self.called += 1;
        self.active += 1;
        Some(worker)
    }
}

impl Crew {
    /// A crew of this many workers, none of which has begun.
    pub(super) fn new(workers: usize) -> Self {
        // No allocation under the lock.
        Self(Lock::new(Inner { places: Vec::with_capacity(workers), left: workers, abandoned: false }))
    }

    /// The calling task begins as a worker. Returns its place.
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

    /// A worker ends. A worker without a place has never begun.
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

    /// Waits, in a worker, until the worker is called or `has_job` says that it need not wait.
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
                // SAFETY: the lock is held. The node is in no list. It does not move while it is in
                // one: the wait ends once the node has been taken out.
                unsafe { place.waiting.push_front(&node, waiter) };
            }
            queued
        };
        let withdraw = || {
            let place = &mut self.0.lock().places[place];
            // SAFETY: the lock is held, and the node is in this list or in none.
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
            // SAFETY: `Place::call` has just taken it out of the list.
            unsafe { worker.wake() };
        }
    }

    /// No more jobs come: calls all workers.
    pub(super) fn call_all(&self) {
        let mut wakes = Wakes::new();
        let mut inner = self.0.lock();
        for place in &mut inner.places {
            while let Some(worker) = place.call() {
                // SAFETY: `Place::call` has just taken it out of the list, and the lock is held.
                unsafe { wakes.add(worker) };
            }
        }
    }

    /// The queued jobs will not run: the first worker that ends drops them.
    pub(super) fn abandon(&self) {
        self.0.lock().abandoned = true;
    }
}

/// Which worker has ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Last,
    /// Nobody will run the queued jobs.
    Abandoned,
    /// Other workers go on.
    OneOfMany,
}
