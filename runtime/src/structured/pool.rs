//! A fixed number of tasks that run the jobs of a bounded queue.
//!
//! The queue is a channel of boxed jobs. Each job holds the sender of a channel for its one result.
//! What becomes of that sender tells all that can happen to a job. If the sender is used, the job
//! has ended. If it is dropped, the job will never end: the pool was dropped, the worker was
//! cancelled, or the runtime ended.
//!
//! Workers do not wait in that channel. The channel would give each job to the worker that has
//! waited longest, whatever happens on that worker's processor. So workers wait in a crew, which
//! calls the one that can begin soonest. The channel has no limit. Instead there is a permit for
//! each free place in the queue and for each worker that waits, and every submission takes one.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};

use crate::channel::{self, Receiver, SendError, Sender, TryRecvError};
use crate::prim::sync::Arc;
use crate::scheduler::{local, placement::Placement};
use crate::sync::{Semaphore, TryAcquireError, WaitGroup};
use crate::task::{Builder, Handle, JoinError, JoinHandle};
use crate::unwind::catch_and_forget;
use crate::wait;

use crate::structured::crew::{Crew, Ended};

/// Tasks that run submitted jobs, behind a queue of limited size.
///
/// Use it for work that arrives faster than it can be done. With a task for each job, jobs would
/// pile up unnoticed; here the submitter is held up, or refused. If jobs mostly wait,
/// [`spawn`](crate::spawn) them instead: tasks are cheap.
///
/// A job runs in a worker's task. A job that cancels its own task ends the worker with it.
///
/// The workers are spread over the processors and stay there. While a job blocks its thread (in the
/// kernel, say), no other worker of that processor runs, and no spare thread takes over. Tasks of
/// [`spawn`](crate::spawn) that have not started are taken over.
///
/// The workers are named `pool worker 0` and so on. Jobs start in the order in which they were
/// submitted, each as soon as a worker is free that has its turn. A worker on a processor that has
/// nothing to do is called first. A job that panics affects only its handle.
///
/// Dropping the pool cancels it: its workers unwind from the jobs they are at, and queued jobs are
/// dropped. The handles of both report [`is_cancelled`](JoinError::is_cancelled). Nothing waits for
/// that. To let the jobs end, [`close`](Self::close) the pool.
///
/// ```
/// use greenloom::pool::WorkerPool;
///
/// greenloom::run(|| {
///     let pool = WorkerPool::new(4, 16);
///     let jobs: Vec<_> = (0..100u64).map(|i| pool.submit(move || i * i).unwrap()).collect();
///     let sum: u64 = jobs.into_iter().map(|job| job.join().unwrap()).sum();
///     assert_eq!(sum, 328_350);
///     pool.close();
/// });
/// ```
pub struct WorkerPool {
    /// `None` once the pool has been closed.
    jobs: Option<Sender<Box<dyn Run>>>,
    queue: Arc<Queue>,
    workers: Vec<JoinHandle<()>>,
    /// Each worker has a handle to it.
    ended: WaitGroup,
}

impl UnwindSafe for WorkerPool {}
impl RefUnwindSafe for WorkerPool {}

impl WorkerPool {
    /// A pool of this many workers, in the runtime of the calling task, with a queue that has room
    /// for `capacity` jobs. If `capacity` is zero, a job is handed to a worker that waits for one.
    ///
    /// Never waits.
    ///
    /// # Panics
    /// Outside a runtime, if `workers` is zero, and if there is no memory for the workers.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let pool = greenloom::pool::WorkerPool::new(1, 0);
    ///     assert_eq!(pool.submit(|| 1).unwrap().join().unwrap(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn new(workers: usize, capacity: usize) -> Self {
        assert!(
            local::machine().is_some(),
            "WorkerPool::new was called outside a runtime; call it from a task, inside greenloom::run, say, or use WorkerPool::new_in"
        );
        Self::new_in(&Handle::current(), workers, capacity)
    }

    /// Like [`new`](Self::new), but in the handle's runtime, and from anywhere.
    ///
    /// # Panics
    /// If `workers` is zero, and if there is no memory for the workers.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = greenloom::Runtime::builder().build()?;
    /// let pool = greenloom::pool::WorkerPool::new_in(&runtime.handle(), 2, 8);
    /// assert_eq!(pool.submit(|| 6 * 7).unwrap().join().unwrap(), 42);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn new_in(runtime: &Handle, workers: usize, capacity: usize) -> Self {
        assert!(workers > 0, "a worker pool without workers would never run a job");
        let (sender, jobs) = channel::unbounded();
        // A larger number cannot be counted, and is no limit either.
        let room = Semaphore::new(capacity.min(Semaphore::MAX_PERMITS / 2));
        let queue = Arc::new(Queue { room, crew: Crew::new(workers) });
        let mut pool = Self { jobs: Some(sender), queue, workers: Vec::with_capacity(workers), ended: WaitGroup::new() };
        for number in 0..workers {
            let ended = pool.ended.clone();
            let mut worker = Worker { queue: pool.queue.clone(), jobs: jobs.clone(), place: None };
            let worker = move || {
                let _ended = ended;
                worker.work();
                drop(worker);
            };
            let builder = Builder::new().name(format!("pool worker {number}")).placement(Placement::Spread);
            match builder.spawn_in(runtime, worker) {
                Ok(worker) => pool.workers.push(worker),
                Err(error) => panic!("greenloom: cannot spawn a worker: {error}"),
            }
        }
        pool
    }

    /// Queues a job, waiting for room. The handle tells what becomes of the job.
    ///
    /// Suspends the task while the queue is full; blocks a plain thread.
    ///
    /// # Errors
    /// If the workers have ended because their runtime has. The error holds the job.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait. A panic of the job is caught;
    /// see [`JobHandle::join`].
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, and the job is dropped.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let pool = greenloom::pool::WorkerPool::new(2, 2);
    ///     let job = pool.submit(|| "done").unwrap();
    ///     assert_eq!(job.join().unwrap(), "done");
    /// });
    /// ```
    #[track_caller]
    pub fn submit<F, T>(&self, f: F) -> Result<JobHandle<T>, SubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (job, handle) = Job::boxed(f);
        let queued = match self.queue.room.acquire() {
            Ok(permit) => {
                permit.forget();
                self.queue(job)
            }
            Err(_) => Err(job),
        };
        match queued {
            Ok(()) => Ok(handle),
            Err(job) => Err(SubmitError(Job::<F, T>::take_back(job))),
        }
    }

    /// Queues a job if the queue has room, or if it has none but a worker waits. Does not wait, but
    /// a failure may [give way](crate#what-suspends).
    ///
    /// # Errors
    /// If there is neither, or if the workers have ended because their runtime has. The error holds
    /// the job.
    ///
    /// ```
    /// use greenloom::pool::WorkerPool;
    ///
    /// greenloom::run(|| {
    ///     let pool = WorkerPool::new(1, 1);
    ///     let refused = loop {
    ///         if let Err(refused) = pool.try_submit(greenloom::park) {
    ///             break refused;
    ///         }
    ///     };
    ///     assert!(refused.is_full());
    ///     let _job = refused.into_inner();
    /// });
    /// ```
    pub fn try_submit<F, T>(&self, f: F) -> Result<JobHandle<T>, TrySubmitError<F>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (job, handle) = Job::boxed(f);
        let queued = match self.queue.room.try_acquire() {
            Ok(permit) => {
                permit.forget();
                self.queue(job)
            }
            Err(TryAcquireError::Closed) => Err(job),
            Err(TryAcquireError::NoPermits) => return Err(TrySubmitError::Full(Job::<F, T>::take_back(job))),
        };
        match queued {
            Ok(()) => Ok(handle),
            Err(job) => Err(TrySubmitError::Closed(Job::<F, T>::take_back(job))),
        }
    }

    /// Takes no more jobs, and waits until the submitted jobs and the workers have ended.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait; the pool is then dropped.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, and drops the pool, which cancels the
    /// jobs.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicUsize, Ordering};
    ///
    /// greenloom::run(|| {
    ///     let (pool, done) = (greenloom::pool::WorkerPool::new(2, 8), Arc::new(AtomicUsize::new(0)));
    ///     for _ in 0..20 {
    ///         let done = done.clone();
    ///         let _detached = pool.submit(move || done.fetch_add(1, Ordering::Relaxed)).unwrap();
    ///     }
    ///     pool.close();
    ///     assert_eq!(done.load(Ordering::Relaxed), 20);
    /// });
    /// ```
    #[track_caller]
    pub fn close(mut self) {
        self.jobs = None;
        self.queue.crew.call_all();
        std::mem::take(&mut self.ended).wait();
    }

    /// Queues a job for which there is room. Returns it if the workers have ended.
    fn queue(&self, job: Box<dyn Run>) -> Result<(), Box<dyn Run>> {
        let jobs = self.jobs.as_ref().expect("only `close` takes it, with the pool");
        jobs.send(job).map_err(|SendError(job)| job)?;
        self.queue.crew.call();
        Ok(())
    }
}

impl Drop for WorkerPool {
    fn drop(&mut self) {
        // The workers come first: they drop what they receive from then on.
        self.queue.crew.abandon();
        self.workers.iter().for_each(JoinHandle::cancel);
    }
}

impl fmt::Debug for WorkerPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queued = self.jobs.as_ref().map_or(0, Sender::len);
        f.debug_struct("WorkerPool").field("workers", &self.workers.len()).field("queued", &queued).finish()
    }
}

/// What a pool and its workers share, besides the channel of jobs.
struct Queue {
    /// Jobs that may be queued: as many as the pool has room for, plus one for each worker that
    /// waits.
    room: Semaphore,
    crew: Crew,
}

/// A worker, from before its task starts.
struct Worker {
    queue: Arc<Queue>,
    jobs: Receiver<Box<dyn Run>>,
    /// Its place in the crew, once it has started.
    place: Option<usize>,
}

impl Worker {
    /// Runs jobs until the pool is closed and no job is left, or until the worker is cancelled.
    fn work(&mut self) {
        let place = self.queue.crew.begin();
        self.place = Some(place);
        // The payload says only that the worker was cancelled, and nobody joins it.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            // Checked before, so that it takes no job from the others, and after, since it may have
            // been cancelled meanwhile.
            while !is_cancelled()
                && let Some(job) = self.next(place)
            {
                if is_cancelled() {
                    catch_and_forget(|| drop(job));
                    break;
                }
                job.run();
            }
        }));
    }

    /// Waits for the oldest job and returns it, or `None` if there will be none.
    fn next(&self, place: usize) -> Option<Box<dyn Run>> {
        let room = &self.queue.room;
        match self.jobs.attempt() {
            Ok(job) => {
                room.add_permits(1);
                return Some(job);
            }
            Err(TryRecvError::Disconnected) => return None,
            Err(TryRecvError::Empty) => {}
        }
        let idle = Idle::new(room);
        loop {
            self.queue.crew.wait(place, || self.jobs.has_answer());
            match self.jobs.attempt() {
                Ok(job) => {
                    // Its permit has been used for this job.
                    std::mem::forget(idle);
                    return Some(job);
                }
                Err(TryRecvError::Disconnected) => return None,
                // Another worker was faster.
                Err(TryRecvError::Empty) => {}
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let ended = self.queue.crew.end(self.place);
        if ended == Ended::Last {
            self.queue.room.close();
        }
        let jobs = std::mem::replace(&mut self.jobs, channel::never());
        if ended == Ended::OneOfMany {
            // This worker may have been called for a job that it has not taken.
            self.queue.crew.call();
        } else {
            // Queued jobs never run. They are not dropped in an unwinding: destructors may panic.
            while let Ok(job) = jobs.attempt() {
                catch_and_forget(|| drop(job));
            }
        }
        catch_and_forget(|| drop(jobs));
    }
}

/// A worker that waits, and for which there is a permit.
struct Idle<'a>(&'a Semaphore);

impl<'a> Idle<'a> {
    fn new(room: &'a Semaphore) -> Self {
        room.add_permits(1);
        Self(room)
    }
}

impl Drop for Idle<'_> {
    fn drop(&mut self) {
        // If somebody has just taken the permit, that job goes to another worker or is dropped with
        // the pool.
        self.0.forget_permits(1);
    }
}

/// Whether the calling task has been cancelled.
fn is_cancelled() -> bool {
    local::running().is_some_and(|(_, record)| record.task().state().is_cancelled())
}

/// A job whose types only the job itself knows.
trait Run: Any + Send {
    /// Runs the job and sends the outcome to its handle. Does not panic.
    fn run(self: Box<Self>);
}

struct Job<F, T> {
    f: F,
    result: Sender<Result<T, JoinError>>,
}

impl<F, T> Job<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn boxed(f: F) -> (Box<dyn Run>, JobHandle<T>) {
        let (result, handle) = channel::bounded(1);
        (Box::new(Self { f, result }), JobHandle { result: handle })
    }

    /// The closure of a job of this type.
    fn take_back(job: Box<dyn Run>) -> F {
        let job: Box<dyn Any> = job;
        match job.downcast::<Self>() {
            Ok(job) => job.f,
            Err(_) => unreachable!("a channel gives the message back that it was given"),
        }
    }
}

impl<F, T> Run for Job<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn run(self: Box<Self>) {
        let Self { f, result } = *self;
        let outcome = catch_unwind(AssertUnwindSafe(f)).map_err(|payload| match local::running() {
            // The worker goes on, but reports name it.
            Some((_, record)) => record.task().ended_by(payload, None),
            None => JoinError::from_payload(payload),
        });
        // There is room. If nobody listens, the outcome is dropped, which runs user code.
        catch_and_forget(|| drop(result.try_send(outcome)));
    }
}

/// A handle to the result of a job in a [`WorkerPool`]. Dropping it leaves the job to the pool, and
/// nobody gets the result.
#[must_use = "dropping the handle detaches the job; join it to see it end"]
pub struct JobHandle<T> {
    result: Receiver<Result<T, JoinError>>,
}

impl<T> JobHandle<T> {
    /// Waits for the job to end, and returns its result.
    ///
    /// Suspends the task; blocks a plain thread.
    ///
    /// # Errors
    /// If the job panicked, or was cancelled with its pool. The [`JoinError`] says which.
    ///
    /// # Panics
    /// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
    ///
    /// # Cancellation
    /// A cancelled task unwinds from here if it has to wait, and the job goes on.
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let pool = greenloom::pool::WorkerPool::new(1, 1);
    ///     let job = pool.submit(|| panic!("no luck")).unwrap();
    ///     assert!(job.join().unwrap_err().is_panic());
    ///     // The worker goes on.
    ///     assert_eq!(pool.submit(|| 1).unwrap().join().unwrap(), 1);
    /// });
    /// ```
    #[track_caller]
    pub fn join(self) -> Result<T, JoinError> {
        self.result.recv().unwrap_or_else(|_| Err(JoinError::cancelled()))
    }

    /// Whether the job has ended or will never begin. If so, `join` does not wait. This does not
    /// wait either, but if the job has not ended, the caller may [give way](crate#what-suspends).
    ///
    /// ```
    /// greenloom::run(|| {
    ///     let pool = greenloom::pool::WorkerPool::new(1, 1);
    ///     let job = pool.submit(|| 1).unwrap();
    ///     pool.close();
    ///     assert!(job.is_finished());
    /// });
    /// ```
    pub fn is_finished(&self) -> bool {
        let finished = self.has_ended();
        if !finished {
            wait::yield_if_hogging();
        }
        finished
    }

    /// Also true without a result, if the job was dropped with its pool.
    fn has_ended(&self) -> bool {
        self.result.has_answer()
    }
}

impl<T> fmt::Debug for JobHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle").field("finished", &self.has_ended()).finish()
    }
}

/// Why a pool did not take a job: its workers have ended. Holds the job.
///
/// ```
/// use greenloom::pool::{SubmitError, WorkerPool};
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = greenloom::Runtime::builder().build()?;
/// let pool = WorkerPool::new_in(&runtime.handle(), 1, 1);
/// drop(runtime);
/// let SubmitError(job) = pool.submit(|| 7).unwrap_err();
/// assert_eq!(job(), 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SubmitError<F>(pub F);

/// Why a pool did not take a job at once. Holds the job.
///
/// ```
/// use greenloom::pool::{TrySubmitError, WorkerPool};
///
/// greenloom::run(|| {
///     let pool = WorkerPool::new(1, 0);
///     // The worker may not wait for a job yet.
///     while let Err(TrySubmitError::Full(_)) = pool.try_submit(|| ()) {
///         greenloom::yield_now();
///     }
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TrySubmitError<F> {
    /// There was no room.
    Full(F),
    /// The workers have ended.
    Closed(F),
}

impl<F> SubmitError<F> {
    /// The job.
    pub fn into_inner(self) -> F {
        self.0
    }
}

impl<F> TrySubmitError<F> {
    /// The job.
    pub fn into_inner(self) -> F {
        match self {
            Self::Full(job) | Self::Closed(job) => job,
        }
    }

    /// Whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Whether the workers have ended.
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SubmitError(..)")
    }
}

impl<F> fmt::Debug for TrySubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "Full(..)" } else { "Closed(..)" })
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the workers of the pool have ended")
    }
}

impl<F> fmt::Display for TrySubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_full() { "the queue of the pool is full" } else { "the workers of the pool have ended" })
    }
}

impl<F> std::error::Error for SubmitError<F> {}

impl<F> std::error::Error for TrySubmitError<F> {}
