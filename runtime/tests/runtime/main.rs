//! How runtimes are made, what limits them, and how they end.

mod everyday;
mod fork;
mod limits;
mod runtimes;
mod shutdown;
mod shutdown_report;
mod switch_hooks;
