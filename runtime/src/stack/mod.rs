//! The memory of stacks. Nothing here knows what lies at the head of a stack, or who runs on it.
//!
//! - [`slab`] carves slots with armed guards out of a few huge mappings; [`guard`] knows the ways
//!   to arm one.
//! - [`class`] knows the sizes of slots.
//! - [`overflow`] turns the fault of an overflow into a message; [`alternate`] is the stack on
//!   which it does so.

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

/// The most bytes under the top of a slot that are taken before frames begin. The owner of the
/// stack decides what lies there.
pub(crate) const HEAD_BYTES: usize = 448;

/// The advice in the message for an overflow.
pub(crate) const CURE: &str = "  give it a larger one with task::Builder::stack_size or RuntimeBuilder::stack_size, or recurse less\n  \
     (a call of an everyday crate, a regex or a parser of arguments, takes up to 70 KiB in a release build, and up to 560 without optimisation)";
