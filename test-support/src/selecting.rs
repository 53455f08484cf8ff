//! What tests of selects share.

use super::channel::{Receiver, RecvError, Select};

pub const CAPACITIES: [Option<usize>; 4] = [Some(0), Some(1), Some(4), None];

/// The counts are about equal, as those of a fair choice are: no count is under half the average.
#[track_caller]
pub fn assert_fair(hits: &[usize]) {
    let average = hits.iter().sum::<usize>() / hits.len();
    assert!(hits.iter().all(|&hits| hits >= average / 2), "{hits:?}");
}

/// Receives from whichever of them has something first.
pub fn recv_any<T>(receivers: &[Receiver<T>]) -> (usize, Result<T, RecvError>) {
    let mut select = Select::new();
    for r in receivers {
        select.recv(r);
    }
    let operation = select.select();
    let index = operation.index();
    (index, operation.recv(&receivers[index]))
}
