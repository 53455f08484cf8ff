//! Contexts: how they end and why, what they carry, and what runs under them.

mod after_func;
mod causes;
mod done;
mod run;
mod tree;
