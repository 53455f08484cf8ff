//! The rows of channels and locks, on tokio's own `mpsc` where one receiver is enough.
//!
//! It has no rendezvous: where the row says capacity 0, the channel here holds one value, the
//! least it can.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::Poll;

use anyhow::Context;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use super::result;
use crate::measure::{Clock, Measured};
use crate::rows;
use crate::runtimes::check;

/// In the place of capacity 0.
pub const LEAST_CAPACITY: usize = 1;
const CLOSED: &str = "a channel closed early";

pub async fn pingpong(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (there, mut requests) = mpsc::channel(LEAST_CAPACITY);
    let (answers, mut back) = mpsc::channel(LEAST_CAPACITY);
    let echo = tokio::spawn(async move {
        while let Some(value) = requests.recv().await {
            answers.send(value + 1).await.expect(CLOSED);
        }
    });
    let mut sum = 0;
    for value in 0..ops {
        there.send(value).await?;
        sum += back.recv().await.context(CLOSED)?;
    }
    let measured = clock.stop(ops);
    drop(there);
    result(echo).await;
    check("the sum of the answers", sum, rows::sum_below(ops + 1))?;
    Ok(measured)
}

pub async fn ring(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (first, mut last) = mpsc::channel(LEAST_CAPACITY);
    for _ in 1..rows::RING_TASKS {
        let (output, next) = mpsc::channel(LEAST_CAPACITY);
        let mut input = mem::replace(&mut last, next);
        tokio::spawn(async move {
            while let Some(token) = input.recv().await {
                output.send(token + 1).await.expect(CLOSED);
            }
        });
    }
    let mut token = 0;
    for _ in 0..ops / rows::RING_TASKS {
        first.send(token).await?;
        token = last.recv().await.context(CLOSED)? + 1;
    }
    let measured = clock.stop(ops);
    check("hops of the token", token, ops)?;
    Ok(measured)
}

pub async fn stream(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = mpsc::channel(rows::QUEUE_CAPACITY);
    let producer = produce(sender, 0, ops);
    let sum = sum_of(receiver).await;
    let measured = clock.stop(ops);
    result(producer).await;
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

/// A task that sends the values from `first` on.
fn produce(sender: mpsc::Sender<u64>, first: u64, count: u64) -> JoinHandle<()> {
    tokio::spawn(async move {
        for value in first..first + count {
            sender.send(value).await.expect(CLOSED);
        }
    })
}

async fn sum_of(mut receiver: mpsc::Receiver<u64>) -> u64 {
    let mut sum = 0;
    while let Some(value) = receiver.recv().await {
        sum += value;
    }
    sum
}

/// On async-channel: tokio's own has one receiver.
pub async fn mpmc(ops: u64, consume: impl Fn(u64) -> u64 + Copy + Send + 'static, wanted: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = async_channel::bounded(rows::QUEUE_CAPACITY);
    let share = ops / rows::MPMC_SIDE;
    let mut consumers = Vec::new();
    for i in 0..rows::MPMC_SIDE {
        let sender = sender.clone();
        tokio::spawn(async move {
            for value in i * share..(i + 1) * share {
                sender.send(value).await.expect(CLOSED);
            }
        });
        let receiver = receiver.clone();
        consumers.push(tokio::spawn(async move {
            let mut sum = 0u64;
            while let Ok(value) = receiver.recv().await {
                sum = sum.wrapping_add(consume(value));
            }
            sum
        }));
    }
    drop(sender);
    let mut sum = 0u64;
    for consumer in consumers {
        sum = sum.wrapping_add(consumer.await?);
    }
    let measured = clock.stop(ops);
    check("the sum of the values", sum, wanted)?;
    Ok(measured)
}

/// The receivers of so many producers with an equal share of the values.
fn producers(ops: u64, count: u64) -> impl Iterator<Item = mpsc::Receiver<u64>> {
    let share = ops / count;
    (0..count).map(move |i| {
        let (sender, receiver) = mpsc::channel(LEAST_CAPACITY);
        produce(sender, i * share, share);
        receiver
    })
}

pub async fn select4(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let mut receivers: Vec<_> = producers(ops, rows::FEW_ARMS).collect();
    let [a, b, c, d] = &mut receivers[..] else { unreachable!("as many as there are arms") };
    let mut sum = 0;
    for _ in 0..ops {
        // An arm whose producer has ended is out of the select.
        sum += tokio::select! {
            Some(value) = a.recv() => value,
            Some(value) = b.recv() => value,
            Some(value) = c.recv() => value,
            Some(value) = d.recv() => value,
        };
    }
    let measured = clock.stop(ops);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

/// Polls the receivers in turn, each time from the one after the last that had a value. A stream of
/// streams (futures' `select_all`) is level with that at one processor and slower at two.
pub async fn select64(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let mut receivers: Vec<_> = producers(ops, rows::MANY_ARMS).collect();
    let mut first = 0;
    let mut sum = 0;
    for _ in 0..ops {
        sum += poll_fn(|context| {
            for arm in (first..receivers.len()).chain(0..first) {
                // An arm whose producer has ended is passed over.
                if let Poll::Ready(Some(value)) = receivers[arm].poll_recv(context) {
                    first = (arm + 1) % receivers.len();
                    return Poll::Ready(value);
                }
            }
            Poll::Pending
        })
        .await;
    }
    let measured = clock.stop(ops);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

/// tokio's own mutex, which suspends the task as those of the other runtimes do.
pub async fn mutex(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let counter = Arc::new(Mutex::new(0));
    let tasks: Vec<_> = (0..rows::MUTEX_TASKS)
        .map(|_| {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                for _ in 0..ops / rows::MUTEX_TASKS {
                    *counter.lock().await += 1;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    let measured = clock.stop(ops);
    check("the count", *counter.lock().await, ops)?;
    Ok(measured)
}

pub async fn sieve(primes: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (naturals, mut last) = mpsc::channel(LEAST_CAPACITY);
    tokio::spawn(async move {
        let mut n = 2;
        // Until the filters are gone.
        while naturals.send(n).await.is_ok() {
            n += 1;
        }
    });
    let mut prime = 0;
    for _ in 0..primes {
        prime = last.recv().await.context(CLOSED)?;
        let (output, next) = mpsc::channel(LEAST_CAPACITY);
        let mut input = mem::replace(&mut last, next);
        tokio::spawn(async move {
            while let Some(n) = input.recv().await {
                if n % prime != 0 && output.send(n).await.is_err() {
                    break;
                }
            }
        });
    }
    let measured = clock.stop(primes);
    check("the last prime", prime, rows::nth_prime(primes))?;
    Ok(measured)
}

pub async fn fanin(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = mpsc::channel(LEAST_CAPACITY);
    let share = ops / rows::FANIN_PRODUCERS;
    for i in 0..rows::FANIN_PRODUCERS {
        produce(sender.clone(), i * share, share);
    }
    drop(sender);
    let sum = sum_of(receiver).await;
    let measured = clock.stop(ops);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}
