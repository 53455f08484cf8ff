//! What the system and the standard library provide, in the shape that the crate needs: the seam
//! for other platforms. Nothing here knows of tasks.
//!
//! - [`parker`]: putting a thread to sleep; [`lock`]: sections of a few instructions; [`thread`]:
//!   starting threads, and what each has.
//! - [`process`]: forks, threads, signals; numbers that are unique in the process.
//! - [`panic_count`]: std's count of the panics of a thread.
//! - [`cpu`]: hints, and the stack pointer; [`stderr`]: messages.
//!
//! What a model must see has a stand-in in [`prim`](crate::prim). The rest of the crate uses it by
//! its names there.

#[cfg(test)]
pub(crate) mod child;
pub(crate) mod cpu;
#[cfg(not(greenloom_loom))]
pub(crate) mod lock;
pub(crate) mod number;
#[cfg(not(greenloom_loom))]
pub(crate) mod panic_count;
#[cfg(not(greenloom_loom))]
pub(crate) mod parker;
#[cfg(not(greenloom_loom))]
pub(crate) mod process;
pub(crate) mod stderr;
#[cfg(not(greenloom_loom))]
pub(crate) mod thread;
