//! Go's own tests of its channels, select and errgroup.

mod chan;
mod errgroup;
mod powser;
mod select;
mod select_phrasing;
mod sieve;
