//! Five philosophers at a table, a fork between each two of them.
//!
//! The problem: each needs the forks on both sides of the plate. When all have taken the one on their left, nobody ever gets the one
//! on the right.
//!
//! The wrong way: to hope. Among threads such a program stands still, without a word, and only sometimes.
//!
//! Here the runtime sees that every task waits and nothing can wake one: `run` panics, with a list of who waits for what, and where each
//! was spawned. The right way is an order in which forks are taken, the same for all: the lower number first.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin deadlock
//! ```

use std::panic::catch_unwind;
use std::sync::Arc;

use greenloom::sync::{Barrier, Mutex};
use greenloom::{Runtime, task, yield_now};

const NAMES: [&str; 5] = ["Plato", "Hypatia", "Zeno", "Diotima", "Thales"];
const DINNERS: u32 = 100;

struct Table {
    /// How many dinners each has been used for.
    forks: [Mutex<u32>; NAMES.len()],
    /// Nobody begins before all are there.
    seated: Barrier,
}

impl Table {
    fn dine(&self, first: usize, second: usize) {
        for _ in 0..DINNERS {
            self.seated.wait();
            let mut first = self.forks[first].lock().expect("no philosopher panics");
            // A word with the neighbours.
            yield_now();
            let mut second = self.forks[second].lock().expect("no philosopher panics");
            *first += 1;
            *second += 1;
        }
    }
}

/// The uses of all forks. `take` says in which order someone takes them, of those on the left and on the right.
fn evening(take: fn(usize, usize) -> (usize, usize)) -> u32 {
    // One processor, so that it happens at the first dinner; with more it takes some luck.
    let runtime = Runtime::builder().processors(1).build().expect("a runtime");
    runtime.run(move || {
        let table = Arc::new(Table { forks: Default::default(), seated: Barrier::new(NAMES.len()) });
        let seat = |(left, name): (usize, &str)| {
            let (first, second) = take(left, (left + 1) % NAMES.len());
            let table = Arc::clone(&table);
            task::Builder::new().name(name).spawn(move || table.dine(first, second)).expect("room for a task")
        };
        let philosophers: Vec<_> = NAMES.into_iter().enumerate().map(seat).collect();
        for philosopher in philosophers {
            philosopher.join().expect("no philosopher panics");
        }
        table.forks.iter().map(|fork| *fork.lock().expect("no philosopher panics")).sum()
    })
}

fn main() {
    let panicked = catch_unwind(|| evening(|left, right| (left, right))).expect_err("they wait for each other");
    println!("left first: {}", panicked.downcast_ref::<String>().expect("a message"));
    println!("lower first: {} uses of forks", evening(|left, right| (left.min(right), left.max(right))));
}
