//! Tasks that have come to where they wait, and what becomes of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use greenloom::{JoinHandle, spawn, yield_now};

use crate::{run_on, yield_until};

/// Spawns a task, and lets it begin. On one processor it has then come to its first suspension.
pub fn spawn_begun<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let begun = Arc::new(AtomicBool::new(false));
    let task = spawn({
        let begun = begun.clone();
        move || {
            begun.store(true, SeqCst);
            body()
        }
    });
    yield_until(|| begun.load(SeqCst));
    task
}

/// Runs the case in a task, at one processor and at two.
#[track_caller]
pub fn in_tasks(case: fn()) {
    for processors in [1, 2] {
        run_on(processors, case);
    }
}

/// Lets everyone run that can, several times over.
pub fn let_others_run() {
    (0..20).for_each(|_| yield_now());
}

/// Cancels the task, and sees it end so.
#[track_caller]
pub fn cancel_and_join<T>(task: JoinHandle<T>) {
    task.cancel();
    match task.join() {
        Err(error) => assert!(error.is_cancelled(), "{error}"),
        Ok(_) => panic!("it did not wait"),
    }
}
