//! Concurrency is dealing with many things at once; parallelism is doing them at once.
//!
//! The problem: a program is slow, and somebody asks for more.
//!
//! The wrong way: more threads for work that waits, as if waiting needed a CPU; more tasks for work that computes, as if tasks were
//! CPUs.
//!
//! Here are both kinds of work, as the same number of tasks, on one processor and on as many as there are CPUs. Waiting takes no
//! longer on one: all the tasks wait at once. Computing takes as long as there is to compute, by the number of processors.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin concurrency_is_not_parallelism
//! ```

use std::thread;
use std::time::{Duration, Instant};

use greenloom::Runtime;

const TASKS: u64 = 16;
const WAIT: Duration = Duration::from_millis(50);
const STEPS: u64 = 5_000_000;

/// Steps that each need the one before.
fn compute(seed: u64) -> u64 {
    (0..STEPS).fold(seed, |x, step| (x ^ (x >> 29)).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(step))
}

fn wait(seed: u64) -> u64 {
    greenloom::sleep(WAIT);
    seed
}

/// What the tasks come to, and how long they take together.
fn timed(processors: usize, work: fn(u64) -> u64) -> (Vec<u64>, Duration) {
    let runtime = Runtime::builder().processors(processors).build().expect("a runtime");
    runtime.run(move || {
        let start = Instant::now();
        let tasks: Vec<_> = (0..TASKS).map(|seed| greenloom::spawn(move || work(seed))).collect();
        let results = tasks.into_iter().map(|task| task.join().expect("no task panics")).collect();
        (results, start.elapsed())
    })
}

fn main() {
    let cpus = thread::available_parallelism().map_or(1, |cpus| cpus.get());
    println!("{TASKS} tasks       at 1 processor   at {cpus}");
    for (name, work) in [("waiting", wait as fn(u64) -> u64), ("computing", compute)] {
        let (alone, one) = timed(1, work);
        let (together, all) = timed(cpus, work);
        assert_eq!(alone, together, "how many processors there are changes the time and nothing else");
        println!("{name:<14}{:>11} ms{:>9} ms", one.as_millis(), all.as_millis());
    }
}
