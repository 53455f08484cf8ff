//! Stacks: where they come from, what a stack carries besides frames, and where they go.
//!
//! - [`slab`] carves slots with armed guards out of a few huge mappings; [`guard`] knows the ways to arm one.
//! - [`record`] is the head of every stack: its coroutine, the task that runs on it, and labels for reports.
//! - [`pool`] keeps the free stacks of a runtime, [`pool::StackCache`] those of one processor.
//! - [`class`] knows the sizes of slots.
//! - [`unwinding`] tells from a stack whether its task unwinds.
//! - [`overflow`] turns the fault of an overflow into a message, [`watch`] says whose it was, [`alternate`] is where that runs.
//!
//! A coroutine belongs to its stack, not to a task: its body runs one task after another and suspends in between. So starting a
//! task is a switch and nothing else, and a stack goes back to the cache by a push.

#[cfg(not(greenloom_loom))]
pub(crate) mod alternate;
#[cfg(not(greenloom_loom))]
pub(crate) mod class;
#[cfg(not(greenloom_loom))]
pub(crate) mod guard;
#[cfg(not(greenloom_loom))]
pub(crate) mod overflow;
pub(crate) mod pool;
pub(crate) mod record;
#[cfg_attr(greenloom_loom, path = "slab_model.rs")]
pub(crate) mod slab;
#[cfg_attr(greenloom_loom, path = "unwinding_model.rs")]
pub(crate) mod unwinding;
#[cfg(not(greenloom_loom))]
pub(crate) mod watch;

pub(crate) use slab::Class;

/// What helps against an overflow.
pub(crate) const CURE: &str = "  give it a larger one with task::Builder::stack_size or RuntimeBuilder::stack_size, or recurse less\n  \
     (a call of an everyday crate, a regex or a parser of arguments, takes up to 70 KiB in a release build, and up to 560 without optimisation)";
