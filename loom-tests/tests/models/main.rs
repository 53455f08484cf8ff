//! The runtime and its protocols under every schedule that loom can make.

mod channel;
mod channel_select;
mod common;
mod context;
mod data;
mod parts;
mod protocols;
mod runtime;
mod stacks;
mod structure;
mod sync;
mod time;
