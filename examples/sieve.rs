//! The sieve of primes as a pipeline that grows while it runs.
//!
//! The problem: each stage is a loop that waits for its input and for room in its output, and how many stages there are is known only
//! at the end.
//!
//! The wrong way: a thread for each stage, which ends at some thousands of them and switches in the kernel for each number; or all
//! stages in one loop, each turned inside out into a state that is called back.
//!
//! Here a stage is a task, and says what it does in the order in which it does it. It ends when it has nobody to send to, and so do
//! all before it: each `join` below returns.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin sieve 2000
//! ```

use greenloom::JoinHandle;
use greenloom::channel::{Receiver, bounded};

/// The first number that each stage lets through is a prime; the next stage takes out its multiples.
fn sieve(count: usize) -> Vec<u32> {
    let (first, mut numbers) = generator();
    let mut stages = vec![first];
    let mut primes = Vec::with_capacity(count);
    for _ in 0..count {
        let prime = numbers.recv().expect("the generator goes on as long as somebody receives");
        primes.push(prime);
        let (stage, rest) = filter(prime, numbers);
        stages.push(stage);
        numbers = rest;
    }
    // Nobody wants more: the last stage sees it, then the one before it, up to the generator.
    drop(numbers);
    for stage in stages {
        stage.join().expect("no stage panics");
    }
    primes
}

fn generator() -> (JoinHandle<()>, Receiver<u32>) {
    let (sender, receiver) = bounded(0);
    let task = greenloom::spawn(move || {
        for number in 2.. {
            if sender.send(number).is_err() {
                break;
            }
        }
    });
    (task, receiver)
}

fn filter(prime: u32, input: Receiver<u32>) -> (JoinHandle<()>, Receiver<u32>) {
    let (sender, receiver) = bounded(0);
    let task = greenloom::spawn(move || {
        for number in input {
            if number % prime != 0 && sender.send(number).is_err() {
                break;
            }
        }
    });
    (task, receiver)
}

fn main() {
    let count = std::env::args().nth(1).map_or(100, |count| count.parse().expect("a number of primes"));
    let primes = greenloom::run(move || sieve(count));
    println!("{primes:?}");
}
