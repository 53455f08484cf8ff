//! Who runs when and where.

mod fairness;
mod give_way;
mod hogs;
mod holders;
mod other;
mod overtime;
mod pinning;
mod placement;
mod spares;
mod stealing;
mod stress;
