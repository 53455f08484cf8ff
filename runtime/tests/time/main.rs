//! Sleeps, limits of time and intervals.

mod both_up;
mod extremes;
mod interval;
mod sleep;
mod timeout;
mod timeout_of_tasks;
