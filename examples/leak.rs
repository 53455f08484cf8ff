//! A task that waits for ever, and how it is found.
//!
//! The problem: "never start a goroutine without knowing when it will stop." Nothing enforces that. A task that is stuck makes no
//! sound; it keeps what it holds, and one more is added with each request.
//!
//! The wrong way, here: a worker that ends when its queue does, and may put a job back into the queue. For that it has a sender of its
//! own, so the queue never ends. In production such a leak shows as memory, weeks later.
//!
//! Here a test shows it: `testing::run` fails if tasks are left, and names them. (A runtime built with `on_leak(OnLeak::Report)` names
//! them at its end.) The right way is that a sender lives no longer than a job that may need it: each job brings its own.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin leak
//! ```

use std::panic::catch_unwind;

use greenloom::channel::{Receiver, Sender, unbounded};
use greenloom::testing;

struct Job<Queue> {
    attempts: u32,
    queue: Queue,
}

impl<Queue> Job<Queue> {
    /// Each is done at the second attempt.
    fn is_done(&mut self) -> bool {
        self.attempts += 1;
        self.attempts == 2
    }
}

/// Has a sender as long as it runs, and runs as long as there is a sender.
fn stuck_worker(jobs: Receiver<Job<()>>, back: Sender<Job<()>>) {
    for mut job in jobs {
        if !job.is_done() {
            back.send(job).expect("its receiver is here");
        }
    }
}

/// Sends each job back by the job's own sender.
struct Back(Sender<Job<Back>>);

fn worker(jobs: Receiver<Job<Back>>) {
    for mut job in jobs {
        if !job.is_done() {
            let back = job.queue.0.clone();
            back.send(job).expect("its receiver is here");
        }
    }
}

fn leaks() {
    let (queue, jobs) = unbounded();
    let back = queue.clone();
    drop(greenloom::spawn(move || stuck_worker(jobs, back)));
    for _ in 0..3 {
        queue.send(Job { attempts: 0, queue: () }).expect("the worker is there");
    }
}

fn ends() {
    let (queue, jobs) = unbounded();
    drop(greenloom::spawn(move || worker(jobs)));
    for _ in 0..3 {
        queue.send(Job { attempts: 0, queue: Back(queue.clone()) }).expect("the worker is there");
    }
}

fn main() {
    let failed = catch_unwind(|| testing::run(leaks)).expect_err("the worker is left");
    println!("the wrong way: {}", failed.downcast_ref::<String>().expect("a message"));
    testing::run(ends);
    println!("the right way: nothing is left");
}
