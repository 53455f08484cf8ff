//! The rows of tasks: spawn, join, yield, park, compute.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use greenloom::{Runtime, Task, current, park, sleep, spawn, yield_now};

use super::join;
use crate::measure::{Clock, Measured, memory};
use crate::rows::{self, Board};
use crate::runtimes::check;

/// Counts tasks down to the last, which wakes the one that waits: Go's WaitGroup.
struct Group {
    left: AtomicU64,
    waiter: Task,
}

impl Group {
    /// A group of so many tasks, counted at once: a count per spawn would measure how the counter's line travels between CPUs.
    ///
    /// Leaked, so that a task costs one count and no reference besides, as in Go; the process ends
    /// with its row.
    fn leak(members: u64) -> &'static Self {
        Box::leak(Box::new(Self { left: AtomicU64::new(members), waiter: current() }))
    }

    /// Ordering: AcqRel, so that the waiter sees what all members did.
    fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.waiter.unpark();
        }
    }

    fn wait(&self) {
        while self.left.load(Ordering::Acquire) != 0 {
            park();
        }
    }
}

pub fn spawn_all(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let group = Group::leak(ops);
    for _ in 0..ops {
        drop(spawn(|| group.done()));
    }
    // Returns only when every one of them has counted itself.
    group.wait();
    Ok(clock.stop(ops))
}

pub fn spawn_join(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let mut sum = 0;
    for i in 0..ops {
        sum += join(spawn(move || i));
    }
    let measured = clock.stop(ops);
    check("the sum of all results", sum, ops * (ops - 1) / 2)?;
    Ok(measured)
}

pub fn spawn_chain(ops: u64) -> anyhow::Result<Measured> {
    fn link(left: u64, group: &'static Group) {
        if left == 0 {
            group.done();
        } else {
            drop(spawn(move || link(left - 1, group)));
        }
    }
    let clock = Clock::start();
    let group = Group::leak(1);
    drop(spawn(move || link(ops - 1, group)));
    group.wait();
    Ok(clock.stop(ops))
}

/// All tasks are started and parked before the clock; it covers their release as well.
pub fn yields(tasks: u64, ops: u64) -> anyhow::Result<Measured> {
    let ready = Group::leak(tasks);
    let go = Arc::new(AtomicBool::new(false));
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let go = Arc::clone(&go);
            spawn(move || {
                ready.done();
                park_until(&go);
                let mut done = 0;
                for _ in 0..ops / tasks {
                    yield_now();
                    done += 1;
                }
                done
            })
        })
        .collect();
    ready.wait();
    let clock = Clock::start();
    go.store(true, Ordering::Release);
    for handle in &handles {
        handle.task().unpark();
    }
    let done: u64 = handles.into_iter().map(join).sum();
    let measured = clock.stop(ops);
    check("yields", done, ops)?;
    Ok(measured)
}

fn park_until(flag: &AtomicBool) {
    while !flag.load(Ordering::Acquire) {
        park();
    }
}

pub fn parked(ops: u64) -> anyhow::Result<Measured> {
    let before = memory()?;
    let clock = Clock::start();
    let started = Group::leak(ops);
    let release = Arc::new(AtomicBool::new(false));
    let finished = Arc::new(AtomicU64::new(0));
    let handles: Vec<_> = (0..ops)
        .map(|_| {
            let (release, finished) = (Arc::clone(&release), Arc::clone(&finished));
            spawn(move || {
                started.done();
                park_until(&release);
                finished.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    started.wait();
    // The last to start have counted, and may still be on their way into `park`.
    thread::sleep(Duration::from_millis(5));
    let bytes = memory()?.saturating_sub(before);
    check("tasks finished before their release", finished.load(Ordering::Relaxed), 0)?;
    release.store(true, Ordering::Release);
    for handle in &handles {
        handle.task().unpark();
    }
    handles.into_iter().for_each(join);
    let mut measured = clock.stop(ops);
    check("tasks finished after it", finished.load(Ordering::Relaxed), ops)?;
    measured.bytes_per_task = Some(bytes as f64 / ops as f64);
    Ok(measured)
}

pub fn skynet_row(leaves: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let sum = join(spawn(move || skynet(0, leaves)));
    let measured = clock.stop(leaves);
    check("the sum of the leaves", sum, rows::sum_below(leaves))?;
    Ok(measured)
}

fn skynet(first: u64, leaves: u64) -> u64 {
    if leaves == 1 {
        return first;
    }
    let part = leaves / rows::SKYNET_CHILDREN;
    let children: [_; rows::SKYNET_CHILDREN as usize] =
        std::array::from_fn(|i| spawn(move || skynet(first + i as u64 * part, part)));
    children.into_iter().map(join).sum()
}

pub fn fib_row(n: u64, tasks: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let result = join(spawn(move || fib(n)));
    let measured = clock.stop(tasks);
    check("the Fibonacci number", result, rows::fib(n))?;
    Ok(measured)
}

fn fib(n: u64) -> u64 {
    if n < 2 {
        return n;
    }
    let first = spawn(move || fib(n - 1));
    let second = fib(n - 2);
    join(first) + second
}

pub fn nqueens(n: u64, tasks: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let solutions = queens(Board::new(n));
    let measured = clock.stop(tasks);
    check("the number of solutions", solutions, rows::queens_solutions(n))?;
    Ok(measured)
}

fn queens(board: Board) -> u64 {
    if !board.forks() {
        return board.count();
    }
    let tasks: Vec<_> = board.next().map(|next| spawn(move || queens(next))).collect();
    tasks.into_iter().map(join).sum()
}

const TICK: Duration = Duration::from_millis(1);
/// What a ticker may take to start and to tick before the row gives it up.
const HOG_LIMIT: Duration = Duration::from_secs(60);

/// A 1 ms ticker beside endless loops.
///
/// Other than in Go, which takes a processor away from a running goroutine, a started task stays
/// with its thread, so a ticker bound to the thread of an endless loop would wait for that loop's
/// end. What the monitor can do is to give tasks that have not started to a spare processor. So the
/// loops start first, and the ticker is spawned beside them, from outside.
pub fn hog(runtime: &Runtime, ops: u64, procs: u32) -> anyhow::Result<Measured> {
    let hogs = rows::HOGS_PER_PROCESSOR * u64::from(procs);
    let stop = Arc::new(AtomicBool::new(false));
    let running = Arc::new(AtomicU64::new(0));
    let clock = Clock::start();
    for seed in 0..hogs {
        let (stop, running) = (Arc::clone(&stop), Arc::clone(&running));
        drop(runtime.spawn(move || {
            running.fetch_add(1, Ordering::Relaxed);
            let mut x = seed;
            while !stop.load(Ordering::Relaxed) {
                x = black_box(rows::mix(x, 1000));
            }
        }));
    }
    let lateness = late_ticks(runtime, ops, || running.load(Ordering::Relaxed) == hogs);
    // Whatever came of it: the runtime's end would wait for the loops.
    stop.store(true, Ordering::Relaxed);
    let lateness =
        lateness.with_context(|| format!("{} of {hogs} endless loops were running", running.load(Ordering::Relaxed)))?;
    let mut measured = clock.stop(ops);
    measured.ns_per_op = lateness.as_nanos() as f64 / ops as f64;
    Ok(measured)
}

/// The summed lateness of `ops` ticks of a task that is spawned once all hogs are running.
fn late_ticks(runtime: &Runtime, ops: u64, hogs_running: impl Fn() -> bool) -> anyhow::Result<Duration> {
    let deadline = Instant::now() + HOG_LIMIT;
    while !hogs_running() {
        if Instant::now() > deadline {
            bail!("not every endless loop started within {} s", HOG_LIMIT.as_secs());
        }
        thread::sleep(TICK);
    }
    let ticks = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = mpsc::channel();
    let counted = Arc::clone(&ticks);
    drop(runtime.spawn(move || {
        let mut late = Duration::ZERO;
        for _ in 0..ops {
            let start = Instant::now();
            sleep(TICK);
            late += start.elapsed().saturating_sub(TICK);
            counted.fetch_add(1, Ordering::Relaxed);
        }
        // Nobody receives it once the row has given up.
        let _ = sender.send(late);
    }));
    receiver.recv_timeout(HOG_LIMIT).map_err(|_| {
        let ticks = ticks.load(Ordering::Relaxed);
        anyhow::anyhow!("the ticker did {ticks} of {ops} ticks within {} s", HOG_LIMIT.as_secs())
    })
}
