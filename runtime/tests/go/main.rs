//! What Go promises of channels, select and errgroup, and its classic programs on them.

mod chan;
mod errgroup;
mod powser;
mod select;
mod select_phrasing;
mod sieve;
