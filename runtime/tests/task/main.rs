//! What one does with a task, and what it may do: join, park, cancel, panic, keep values of its own.

mod cancel;
mod cancel_unwinding;
mod destructors;
mod drops;
mod goodbyes;
mod interrupt_orders;
mod interrupts;
mod no_suspend;
mod on_panic;
mod panic_hook;
mod panics;
mod park;
mod same_stack;
mod sections;
mod spawn_join;
mod task_local;
mod task_values;
