//! A tree of a million leaves, a task for each node.
//!
//! The problem: work that falls apart into ever smaller pieces, each of which waits for its own pieces.
//!
//! The wrong way: a thread for each node, which no system has a million of; or a thread pool, whose few threads are soon all waiting
//! for pieces that nobody is left to do.
//!
//! Here waiting costs no thread. A fresh task is a closure; it gets a stack when it first runs, the newest first, so the tree is
//! walked down before it is walked across, and few stacks are in use at a time.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin skynet
//! ```

use std::time::Instant;

const LEAVES: u64 = 1_000_000;
const CHILDREN: u64 = 10;

/// The sum of the numbers of the leaves.
fn skynet(first: u64, leaves: u64) -> u64 {
    if leaves == 1 {
        return first;
    }
    let part = leaves / CHILDREN;
    let children: Vec<_> = (0..CHILDREN).map(|i| greenloom::spawn(move || skynet(first + i * part, part))).collect();
    children.into_iter().map(|child| child.join().expect("no node panics")).sum()
}

fn main() {
    let start = Instant::now();
    let sum = greenloom::run(|| skynet(0, LEAVES));
    println!("{LEAVES} leaves, sum {sum}, in {} ms", start.elapsed().as_millis());
}
