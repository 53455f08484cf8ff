//! The rows of tasks: spawn, join, yield, park, compute.

// An async fn that spawns its own kind cannot be seen to be Send; `impl Future + Send` says it.
#![expect(clippy::manual_async_fn)]

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Barrier, Notify, oneshot};
use tokio::task::yield_now;

use super::result;
use crate::measure::{Clock, Measured, memory};
use crate::rows::{self, Board};
use crate::runtimes::check;

/// Waits by a count, as the other runtimes do: leaked, so that a task costs one count and no reference besides.
pub async fn spawn_all(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let left: &'static AtomicU64 = Box::leak(Box::new(AtomicU64::new(ops)));
    let all_done: &'static Notify = Box::leak(Box::default());
    for _ in 0..ops {
        tokio::spawn(async {
            if left.fetch_sub(1, Ordering::AcqRel) == 1 {
                all_done.notify_one();
            }
        });
    }
    all_done.notified().await;
    let measured = clock.stop(ops);
    check("tasks left", left.load(Ordering::Acquire), 0)?;
    Ok(measured)
}

pub async fn spawn_join(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let mut sum = 0;
    for i in 0..ops {
        sum += tokio::spawn(async move { i }).await?;
    }
    let measured = clock.stop(ops);
    check("the sum of all results", sum, ops * (ops - 1) / 2)?;
    Ok(measured)
}

pub async fn spawn_chain(ops: u64) -> anyhow::Result<Measured> {
    fn link(left: u64, done: oneshot::Sender<u64>) -> impl Future<Output = ()> + Send {
        async move {
            if left == 0 {
                // The receiver waits as long as the chain lives.
                let _ = done.send(left);
            } else {
                tokio::spawn(link(left - 1, done));
            }
        }
    }
    let clock = Clock::start();
    let (done, last) = oneshot::channel();
    tokio::spawn(link(ops - 1, done));
    let left = last.await?;
    let measured = clock.stop(ops);
    check("links left", left, 0)?;
    Ok(measured)
}

/// All tasks are started and waiting before the clock; it covers their release as well.
pub async fn yields(tasks: u64, ops: u64) -> anyhow::Result<Measured> {
    let ready = Arc::new(Barrier::new(tasks as usize + 1));
    let go = Arc::new(Notify::new());
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let (ready, go) = (Arc::clone(&ready), Arc::clone(&go));
            tokio::spawn(async move {
                let go = go.notified();
                ready.wait().await;
                go.await;
                let mut done = 0;
                for _ in 0..ops / tasks {
                    yield_now().await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    ready.wait().await;
    let clock = Clock::start();
    go.notify_waiters();
    let mut done: u64 = 0;
    for handle in handles {
        done += handle.await?;
    }
    let measured = clock.stop(ops);
    check("yields", done, ops)?;
    Ok(measured)
}

pub async fn parked(ops: u64) -> anyhow::Result<Measured> {
    let before = memory()?;
    let clock = Clock::start();
    let started = Arc::new(AtomicU64::new(0));
    let all_started = Arc::new(Notify::new());
    let release = Arc::new(Notify::new());
    let finished = Arc::new(AtomicU64::new(0));
    let handles: Vec<_> = (0..ops)
        .map(|_| {
            let (started, all_started) = (Arc::clone(&started), Arc::clone(&all_started));
            let (release, finished) = (Arc::clone(&release), Arc::clone(&finished));
            tokio::spawn(async move {
                // Made before it counts itself: it gets the notification from here on.
                let release = release.notified();
                if started.fetch_add(1, Ordering::AcqRel) + 1 == ops {
                    all_started.notify_one();
                }
                release.await;
                finished.fetch_add(1, Ordering::Relaxed);
            })
        })
        .collect();
    all_started.notified().await;
    // The last to start have counted, and may still be on their way into `await`.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let bytes = memory()?.saturating_sub(before);
    check("tasks finished before their release", finished.load(Ordering::Relaxed), 0)?;
    release.notify_waiters();
    for handle in handles {
        handle.await?;
    }
    let mut measured = clock.stop(ops);
    check("tasks finished after it", finished.load(Ordering::Relaxed), ops)?;
    measured.bytes_per_task = Some(bytes as f64 / ops as f64);
    Ok(measured)
}

pub async fn skynet_row(leaves: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let sum = tokio::spawn(skynet(0, leaves)).await?;
    let measured = clock.stop(leaves);
    check("the sum of the leaves", sum, rows::sum_below(leaves))?;
    Ok(measured)
}

fn skynet(first: u64, leaves: u64) -> impl Future<Output = u64> + Send {
    async move {
        if leaves == 1 {
            return first;
        }
        let part = leaves / rows::SKYNET_CHILDREN;
        let children: [_; rows::SKYNET_CHILDREN as usize] =
            std::array::from_fn(|i| tokio::spawn(skynet(first + i as u64 * part, part)));
        let mut sum = 0;
        for child in children {
            sum += result(child).await;
        }
        sum
    }
}

pub async fn fib_row(n: u64, tasks: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let found = tokio::spawn(fib(n)).await?;
    let measured = clock.stop(tasks);
    check("the Fibonacci number", found, rows::fib(n))?;
    Ok(measured)
}

fn fib(n: u64) -> impl Future<Output = u64> + Send {
    async move {
        if n < 2 {
            return n;
        }
        let first = tokio::spawn(fib(n - 1));
        // Boxed: a future cannot hold one of its own kind in itself.
        let second: Pin<Box<dyn Future<Output = u64> + Send>> = Box::pin(fib(n - 2));
        let second = second.await;
        result(first).await + second
    }
}

pub async fn nqueens(n: u64, tasks: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let solutions = queens(Board::new(n)).await;
    let measured = clock.stop(tasks);
    check("the number of solutions", solutions, rows::queens_solutions(n))?;
    Ok(measured)
}

fn queens(board: Board) -> impl Future<Output = u64> + Send {
    async move {
        if !board.forks() {
            return board.count();
        }
        let tasks: Vec<_> = board.next().map(|next| tokio::spawn(queens(next))).collect();
        let mut solutions = 0;
        for task in tasks {
            solutions += result(task).await;
        }
        solutions
    }
}

/// On async-channel: tokio's own has one receiver, and 16 workers that share it behind its mutex take
/// turns on one thread.
pub async fn pool(ops: u64) -> anyhow::Result<Measured> {
    let wanted = rows::job_sum(ops);
    let clock = Clock::start();
    let (jobs, queue) = async_channel::bounded(rows::POOL_QUEUE);
    let workers: Vec<_> = (0..rows::POOL_WORKERS)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut sum = 0u64;
                while let Ok(id) = queue.recv().await {
                    sum = sum.wrapping_add(rows::job(id));
                }
                sum
            })
        })
        .collect();
    for id in 0..ops {
        jobs.send(id).await?;
    }
    drop(jobs);
    let mut sum = 0u64;
    for worker in workers {
        sum = sum.wrapping_add(worker.await?);
    }
    let measured = clock.stop(ops);
    check("the sum of all jobs", sum, wanted)?;
    Ok(measured)
}
