//! The primitives, each alone in a loop, in a task on one processor: what a change to one of them
//! costs or saves. The rows of the main job say what that means to a program.
//!
//! ```console
//! $ cargo bench -p greenloom-bench --bench primitives
//! ```

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use greenloom::channel::{bounded, unbounded};
use greenloom::sync::Mutex;
use greenloom::{Runtime, select, spawn, yield_now};

/// A loop of so many turns, and what it took.
type Primitive = fn(u64) -> Duration;

const PRIMITIVES: [(&str, Primitive); 8] = [
    ("channel/bounded(128), send and recv", buffered),
    ("channel/unbounded, send and recv", unbounded_queue),
    ("channel/bounded(0), there and back", rendezvous),
    ("select/2 ready arms", select_ready),
    ("mutex/lock and unlock", mutex),
    ("task/yield", yield_alone),
    ("task/yield of two", yield_pair),
    ("task/spawn and join", spawn_join),
];

fn primitives(criterion: &mut Criterion) {
    let runtime = Runtime::builder().processors(1).build().expect("a runtime of one processor");
    for (name, turns) in PRIMITIVES {
        criterion.bench_function(name, |bencher| bencher.iter_custom(|count| runtime.run(move || turns(count))));
    }
}

fn time(turns: u64, mut turn: impl FnMut(u64)) -> Duration {
    let start = Instant::now();
    for i in 0..turns {
        turn(i);
    }
    start.elapsed()
}

fn buffered(turns: u64) -> Duration {
    let (sender, receiver) = bounded(128);
    time(turns, |i| {
        sender.send(i).unwrap();
        assert_eq!(receiver.recv(), Ok(i));
    })
}

fn unbounded_queue(turns: u64) -> Duration {
    let (sender, receiver) = unbounded();
    time(turns, |i| {
        sender.send(i).unwrap();
        assert_eq!(receiver.recv(), Ok(i));
    })
}

fn rendezvous(turns: u64) -> Duration {
    let (there, requests) = bounded(0);
    let (answers, back) = bounded(0);
    let echo = spawn(move || requests.iter().for_each(|value| answers.send(value).unwrap()));
    let took = time(turns, |i| {
        there.send(i).unwrap();
        assert_eq!(back.recv(), Ok(i));
    });
    drop(there);
    echo.join().unwrap();
    took
}

/// Both arms are ready in each turn: one value goes in where one has come out.
fn select_ready(turns: u64) -> Duration {
    let ((first, a), (second, b)) = (bounded(1), bounded(1));
    first.send(0).unwrap();
    second.send(0).unwrap();
    time(turns, |i| {
        select! {
            recv(a) -> value => {
                value.unwrap();
                first.send(i).unwrap();
            }
            recv(b) -> value => {
                value.unwrap();
                second.send(i).unwrap();
            }
        }
    })
}

fn mutex(turns: u64) -> Duration {
    let counter = Mutex::new(0);
    let took = time(turns, |_| *counter.lock().unwrap() += 1);
    assert_eq!(*counter.lock().unwrap(), turns);
    took
}

/// Nobody else is ready.
fn yield_alone(turns: u64) -> Duration {
    time(turns, |_| yield_now())
}

fn yield_pair(turns: u64) -> Duration {
    let other = spawn(move || (0..turns).for_each(|_| yield_now()));
    let took = time(turns, |_| yield_now());
    other.join().unwrap();
    took
}

fn spawn_join(turns: u64) -> Duration {
    time(turns, |i| assert_eq!(spawn(move || i).join().unwrap(), i))
}

criterion_group!(benches, primitives);
criterion_main!(benches);
