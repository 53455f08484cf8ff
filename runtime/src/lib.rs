//! greenloom: Go's scheduler as a crate.
mod prim;
mod runtime;
mod scheduler;
mod stack;
pub mod task;
mod wait;

pub use runtime::{Handle, Runtime, RuntimeBuilder, run};
#[cfg(not(greenloom_loom))]
pub use stack::guard::StackGuard;
pub use task::{JoinError, JoinHandle, LocalJoinHandle, Task, current, no_suspend, park, spawn, spawn_local, yield_now};
