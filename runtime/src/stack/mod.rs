//! The memory of stacks. What lies at the head of one, and who runs on it, is not known here.
//!
//! - [`slab`] carves slots with armed guards out of a few huge mappings; [`guard`] knows the ways to arm one.
//! - [`class`] knows the sizes of slots.
//! - [`overflow`] turns the fault of an overflow into a message; [`alternate`] is the stack that it does so on.

#[cfg(not(greenloom_loom))]
pub(crate) mod alternate;
#[cfg(not(greenloom_loom))]
pub(crate) mod class;
#[cfg(not(greenloom_loom))]
pub(crate) mod guard;
#[cfg(not(greenloom_loom))]
pub(crate) mod overflow;
#[cfg_attr(greenloom_loom, path = "slab_model.rs")]
pub(crate) mod slab;

pub(crate) use slab::Class;

/// The most bytes under the top of a slot that are taken before frames begin: what lies there is the business of whoever has the stack.
pub(crate) const HEAD_BYTES: usize = 448;

/// What helps against an overflow.
pub(crate) const CURE: &str = "  give it a larger one with task::Builder::stack_size or RuntimeBuilder::stack_size, or recurse less\n  \
     (a call of an everyday crate, a regex or a parser of arguments, takes up to 70 KiB in a release build, and up to 560 without optimisation)";
