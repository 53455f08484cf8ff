//! Protocols of the crate by themselves, which `loom-tests` runs under every schedule. Each
//! function is one execution.

pub mod data;
mod machines;
mod states;
mod time;

use std::panic::Location;
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};

pub use self::machines::*;
pub use self::states::*;
pub use self::time::*;
use crate::prim;
use crate::raw::header::TaskPtr;
use crate::raw::task_slab::TaskSlab;
use crate::scheduler::wake::make_runnable;
use crate::task::JoinHandle;

/// A fresh task with its handle, in no queue.
fn task<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> (TaskPtr, JoinHandle<T>) {
    // SAFETY: closure and result are Send; the task was made just now.
    unsafe {
        let task = TaskPtr::new(f, Location::caller(), 1, None, |layout| TaskSlab::new(0).alloc(layout)).unwrap();
        (task, JoinHandle::new(task))
    }
}

/// Runs a task on the calling thread instead of a stack.
fn run(task: TaskPtr) {
    // SAFETY: run once, by the only owner of the task; these tasks do not suspend.
    unsafe { task.run(None) };
}

/// Counts its drops.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The time on the model's clock.
pub fn now() -> Instant {
    prim::now()
}

/// Advances the model's clock.
pub fn pass_time(time: Duration) {
    prim::clock::pass(time);
}

/// Ends the contexts whose deadlines have come, as their clock does.
pub fn clock_ends_contexts() {
    crate::context::clock::fire();
}

/// Fires the timers of a runtime's first machine, as the monitor does. The monitor itself is in no
/// model.
pub fn monitor_fires_timers(runtime: &crate::Runtime) {
    runtime.shared().processors.get(0).timers.fire(make_runnable);
}
