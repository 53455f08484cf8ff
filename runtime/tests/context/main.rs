//! Contexts.

mod after_func;
mod causes;
mod done;
mod run;
mod tree;
