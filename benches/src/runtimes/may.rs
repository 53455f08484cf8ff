//! The rows on may. The body of each runs in a coroutine.
//!
//! Its channels have no bound: a producer never waits, whatever capacity the row says. So they are
//! spared most of the switches that the other runtimes do.

use std::mem;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use may::coroutine::{JoinHandle, yield_now};
use may::sync::{Barrier, Mutex, mpmc, mpsc, spsc};
use may::{cqueue, go};

use super::check;
use crate::measure::{Clock, Measured};
use crate::rows::{self, Plan, Row};

const CLOSED: &str = "a channel closed early";

pub fn measure(row: Row, plan: &Plan, procs: u32) -> anyhow::Result<Measured> {
    may::config().set_workers(procs as usize);
    let ops = plan.ops;
    let body = go!(move || body(row, ops));
    body.join().map_err(|_| anyhow!("the row panicked"))?
}

fn body(row: Row, ops: u64) -> anyhow::Result<Measured> {
    match row {
        Row::SpawnJoin => spawn_join(ops),
        Row::SpawnChain => spawn_chain(ops),
        Row::Yield => yields(row.sharers(), ops),
        Row::Pool => pool(ops),
        Row::Pingpong | Row::PingpongBuf => pingpong(ops),
        Row::Ring => ring(ops),
        Row::Stream => stream(ops),
        Row::Mpmc => many_to_many(ops, |value| value, rows::sum_below(ops)),
        Row::MpmcWork => many_to_many(ops, rows::item, rows::item_sum(ops)),
        Row::Select4 | Row::Select64 => select(row.sharers(), ops),
        Row::Mutex => mutex(ops),
        Row::Fanin => fanin(ops),
        Row::Timeout => timeout(ops),
        row => bail!("may has no row {row}"),
    }
}

fn join<T>(handle: JoinHandle<T>) -> T {
    handle.join().unwrap_or_else(|_| panic!("a coroutine of the row failed"))
}

fn spawn_join(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let mut sum = 0;
    for i in 0..ops {
        sum += join(go!(move || i));
    }
    let measured = clock.stop(ops);
    check("the sum of all results", sum, rows::sum_below(ops))?;
    Ok(measured)
}

fn spawn_chain(ops: u64) -> anyhow::Result<Measured> {
    fn link(left: u64, done: spsc::Sender<u64>) {
        if left == 0 {
            done.send(left).expect(CLOSED);
        } else {
            go!(move || link(left - 1, done));
        }
    }
    let clock = Clock::start();
    let (done, last) = spsc::channel();
    go!(move || link(ops - 1, done));
    let left = last.recv()?;
    let measured = clock.stop(ops);
    check("links left", left, 0)?;
    Ok(measured)
}

/// All coroutines are started before the clock; it covers their release as well.
fn yields(tasks: u64, ops: u64) -> anyhow::Result<Measured> {
    let (ready, all_ready) = mpsc::channel();
    let start = Arc::new(Barrier::new(tasks as usize + 1));
    let handles: Vec<_> = (0..tasks)
        .map(|_| {
            let (ready, start) = (ready.clone(), Arc::clone(&start));
            go!(move || {
                ready.send(()).expect(CLOSED);
                start.wait();
                let mut done = 0;
                for _ in 0..ops / tasks {
                    yield_now();
                    done += 1;
                }
                done
            })
        })
        .collect();
    for _ in 0..tasks {
        all_ready.recv()?;
    }
    let clock = Clock::start();
    start.wait();
    let done: u64 = handles.into_iter().map(join).sum();
    let measured = clock.stop(ops);
    check("yields", done, ops)?;
    Ok(measured)
}

fn pool(ops: u64) -> anyhow::Result<Measured> {
    let wanted = rows::job_sum(ops);
    let clock = Clock::start();
    let (jobs, queue) = mpmc::channel();
    let workers: Vec<_> = (0..rows::POOL_WORKERS).map(|_| consumer(queue.clone(), rows::job)).collect();
    for id in 0..ops {
        jobs.send(id)?;
    }
    drop(jobs);
    let sum = workers.into_iter().map(join).fold(0, u64::wrapping_add);
    let measured = clock.stop(ops);
    check("the sum of all jobs", sum, wanted)?;
    Ok(measured)
}

/// A coroutine that sums up what `consume` makes of the values.
fn consumer(values: mpmc::Receiver<u64>, consume: impl Fn(u64) -> u64 + Send + 'static) -> JoinHandle<u64> {
    go!(move || {
        let mut sum = 0u64;
        while let Ok(value) = values.recv() {
            sum = sum.wrapping_add(consume(value));
        }
        sum
    })
}

fn pingpong(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (there, requests) = spsc::channel();
    let (answers, back) = spsc::channel();
    let echo = go!(move || {
        while let Ok(value) = requests.recv() {
            answers.send(value + 1).expect(CLOSED);
        }
    });
    let mut sum = 0;
    for value in 0..ops {
        there.send(value)?;
        sum += back.recv()?;
    }
    let measured = clock.stop(ops);
    drop(there);
    join(echo);
    check("the sum of the answers", sum, rows::sum_below(ops + 1))?;
    Ok(measured)
}

fn ring(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (first, mut last) = spsc::channel();
    for _ in 1..rows::RING_TASKS {
        let (output, next) = spsc::channel();
        let input = mem::replace(&mut last, next);
        go!(move || {
            while let Ok(token) = input.recv() {
                output.send(token + 1).expect(CLOSED);
            }
        });
    }
    let mut token = 0;
    for _ in 0..ops / rows::RING_TASKS {
        first.send(token)?;
        token = last.recv()? + 1;
    }
    let measured = clock.stop(ops);
    check("hops of the token", token, ops)?;
    Ok(measured)
}

fn stream(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = spsc::channel();
    let producer = go!(move || (0..ops).for_each(|value| sender.send(value).expect(CLOSED)));
    let mut sum = 0;
    while let Ok(value) = receiver.recv() {
        sum += value;
    }
    let measured = clock.stop(ops);
    join(producer);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

fn many_to_many(ops: u64, consume: impl Fn(u64) -> u64 + Copy + Send + 'static, wanted: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = mpmc::channel();
    let share = ops / rows::MPMC_SIDE;
    let mut consumers = Vec::new();
    for i in 0..rows::MPMC_SIDE {
        let sender = sender.clone();
        go!(move || (i * share..(i + 1) * share).for_each(|value| sender.send(value).expect(CLOSED)));
        consumers.push(consumer(receiver.clone(), consume));
    }
    drop(sender);
    let sum = consumers.into_iter().map(join).fold(0, u64::wrapping_add);
    let measured = clock.stop(ops);
    check("the sum of the values", sum, wanted)?;
    Ok(measured)
}

/// In its own idiom: a coroutine for each arm waits at that arm's channel all the time, and hands what
/// it gets to the queue that the selecting one polls. Its `select!` makes and cancels those coroutines
/// each time, and can lose what a cancelled one has received.
fn select(arms: u64, ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let share = ops / arms;
    // Senders that outlast the select: an arm whose channel has closed would never stop being ready.
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..arms).map(|_| mpsc::channel()).unzip();
    for (i, sender) in (0..arms).zip(&senders) {
        let sender = sender.clone();
        go!(move || (i * share..(i + 1) * share).for_each(|value| sender.send(value).expect(CLOSED)));
    }
    let sum = cqueue::scope(|queue| {
        for (arm, receiver) in receivers.into_iter().enumerate() {
            go!(queue, arm, move |event| {
                while let Ok(value) = receiver.recv() {
                    event.send(value as usize);
                }
            });
        }
        (0..ops).try_fold(0, |sum, _| queue.poll(None).map(|event| sum + event.extra as u64))
    });
    let measured = clock.stop(ops);
    let sum = sum.map_err(|error| anyhow!("polling: {error:?}"))?;
    drop(senders);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

fn mutex(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let counter = Arc::new(Mutex::new(0));
    let tasks: Vec<_> = (0..rows::MUTEX_TASKS)
        .map(|_| {
            let counter = Arc::clone(&counter);
            go!(move || {
                for _ in 0..ops / rows::MUTEX_TASKS {
                    *counter.lock().expect("no holder panics") += 1;
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(join);
    let measured = clock.stop(ops);
    check("the count", *counter.lock().expect("no holder panics"), ops)?;
    Ok(measured)
}

fn fanin(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = mpsc::channel();
    let share = ops / rows::FANIN_PRODUCERS;
    for i in 0..rows::FANIN_PRODUCERS {
        let sender = sender.clone();
        go!(move || (i * share..(i + 1) * share).for_each(|value| sender.send(value).expect(CLOSED)));
    }
    drop(sender);
    let mut sum = 0;
    while let Ok(value) = receiver.recv() {
        sum += value;
    }
    let measured = clock.stop(ops);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

/// Its limit is on the receive: a send never waits here, and nothing else takes one.
fn timeout(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (there, requests) = mpsc::channel();
    let (answers, back) = mpsc::channel();
    let echo = go!(move || {
        while let Ok(value) = requests.recv() {
            answers.send(value + 1).expect(CLOSED);
        }
    });
    let mut sum = 0;
    for value in 0..ops {
        there.send(value)?;
        sum += back.recv_timeout(rows::TIMEOUT)?;
    }
    let measured = clock.stop(ops);
    drop(there);
    join(echo);
    check("the sum of the answers", sum, rows::sum_below(ops + 1))?;
    Ok(measured)
}
