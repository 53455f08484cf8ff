//! What the primitives of `sync` promise.

mod barrier;
mod cancel;
mod cancel_meets_gift;
mod condvar;
mod hundreds;
mod mutex;
mod mutex_races;
mod notify;
mod once;
mod rwlock;
mod semaphore;
mod shown;
