//! What channels promise: each capacity, errors, iterators, timers, and every form of select.

mod beyond;
mod bounded;
mod errors;
mod everywhere;
mod iter;
mod promises;
mod random;
mod select;
mod select_forms;
mod select_macro;
mod select_races;
mod select_ready;
mod timers;
mod unbounded;
mod zero;
