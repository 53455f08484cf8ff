//! What a task is: its memory, its state, and its stack with what belongs to it. Nothing here
//! decides which task runs.
//!
//! - [`header`]: a task in memory; [`state`]: its life in one word; [`task_slab`]: where the memory
//!   comes from; [`error`]: what a join may return.
//! - [`record`]: the head of a stack; [`stacks`]: free stacks; [`locals`]: a task's own values.
//! - [`interrupts`]: what may end a task's code early, such as a [`cancel_scope`], and what defers
//!   that.
//! - [`waiter`]: who waits; [`reason`]: why; [`report`]: how a task is described.
//! - [`machine`]: what the code on a machine's thread finds there.
//! - [`fork`], [`outside`]: the process.

pub(crate) mod cancel_scope;
pub(crate) mod error;
pub(crate) mod fork;
pub(crate) mod header;
pub(crate) mod interrupts;
pub(crate) mod locals;
pub(crate) mod machine;
pub(crate) mod outside;
pub(crate) mod reason;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod stacks;
pub(crate) mod state;
pub(crate) mod task_slab;
pub(crate) mod waiter;
