//! A flood of jobs, met by a task for each and by a pool behind a bounded queue.
//!
//! The problem: 5,000 jobs come at once, each with 16 KiB of input, and each needs one of the 64 connections to a database.
//!
//! The wrong way: a task for each, because tasks are cheap. They are; what they hold is not. All inputs are in memory at once, and the
//! last job is done long after whoever sent it has given up. It takes no less time in all: the connections are what it waits for.
//!
//! Here is a pool of 64 workers with room for 64 more jobs. Whoever brings one more waits until there is room, and takes no other in
//! meanwhile: the flood is held back where it comes from. (`try_submit` would turn it away.)
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin worker_pool
//! ```

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use greenloom::pool::WorkerPool;
use greenloom::sync::Semaphore;
use greenloom::{sleep, spawn};

const JOBS: usize = 5_000;
const INPUT_BYTES: usize = 16 * 1024;
const CONNECTIONS: usize = 64;
const QUERY: Duration = Duration::from_millis(2);

static DATABASE: Semaphore = Semaphore::new(CONNECTIONS);
static IN_MEMORY: AtomicUsize = AtomicUsize::new(0);
static MOST_IN_MEMORY: AtomicUsize = AtomicUsize::new(0);

struct Job {
    input: Vec<u8>,
    came: Instant,
}

impl Job {
    fn new() -> Self {
        let now = IN_MEMORY.fetch_add(1, Ordering::Relaxed) + 1;
        MOST_IN_MEMORY.fetch_max(now, Ordering::Relaxed);
        Self { input: vec![1; INPUT_BYTES], came: Instant::now() }
    }

    /// How long whoever sent it has waited.
    fn run(self) -> Duration {
        let _connection = DATABASE.acquire().expect("it is never closed");
        sleep(QUERY);
        assert_eq!(self.input.iter().map(|&byte| usize::from(byte)).sum::<usize>(), INPUT_BYTES);
        self.came.elapsed()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        IN_MEMORY.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The most memory that the process has had at a time, in KiB, where the system tells.
fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.split_whitespace().next()?.parse().ok()
}

fn report(way: &str, flood: impl FnOnce() -> Vec<Duration>) {
    let (start, before) = (Instant::now(), peak_memory());
    MOST_IN_MEMORY.store(0, Ordering::Relaxed);
    let mut latencies = flood();
    latencies.sort();
    let total = start.elapsed().as_millis();
    let memory = peak_memory().zip(before).map_or("?".to_owned(), |(after, before)| (after - before).to_string());
    println!(
        "{way}: {} jobs in {total} ms, {} in memory at most, {memory} KiB more, latency {} ms (median), {} ms (longest)",
        latencies.len(),
        MOST_IN_MEMORY.load(Ordering::Relaxed),
        latencies[latencies.len() / 2].as_millis(),
        latencies[latencies.len() - 1].as_millis(),
    );
}

fn main() {
    greenloom::run(|| {
        // First, since a peak of memory is not forgotten.
        report("pool", || {
            let pool = WorkerPool::new(CONNECTIONS, CONNECTIONS);
            let submit = |job: Job| pool.submit(move || job.run()).expect("the workers live as long as the pool");
            let jobs: Vec<_> = (0..JOBS).map(|_| submit(Job::new())).collect();
            jobs.into_iter().map(|job| job.join().expect("no job panics")).collect()
        });
        report("a task per job", || {
            let start = |job: Job| spawn(move || job.run());
            let tasks: Vec<_> = (0..JOBS).map(|_| start(Job::new())).collect();
            tasks.into_iter().map(|task| task.join().expect("no job panics")).collect()
        });
    });
}
