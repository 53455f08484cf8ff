//! Tasks that an owner is responsible for: scopes, groups, pools of workers.

mod crew;
pub mod group;
pub mod pool;
pub(crate) mod scope;
