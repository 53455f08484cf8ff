//! The rows of channels and locks.

use std::io;
use std::mem;
use std::sync::Arc;

use greenloom::channel::{Receiver, Select, Sender, bounded};
use greenloom::sync::Mutex;
use greenloom::task::{self, Placement};
use greenloom::{JoinHandle, select, spawn};

use super::join;
use crate::measure::{Clock, Measured};
use crate::rows;
use crate::runtimes::check;

const RENDEZVOUS: usize = 0;
const CLOSED: &str = "a channel closed early";

pub fn pingpong(ops: u64, capacity: usize) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (there, requests) = bounded(capacity);
    let (answers, back) = bounded(capacity);
    let echo = spawn(move || {
        for value in requests {
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

/// The root is one of the tasks.
pub fn ring(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (first, mut last) = bounded(RENDEZVOUS);
    let tasks: Vec<_> = (1..rows::RING_TASKS)
        .map(|_| {
            let (output, next) = bounded(RENDEZVOUS);
            let input = mem::replace(&mut last, next);
            spawn(move || {
                for token in input {
                    output.send(token + 1).expect(CLOSED);
                }
            })
        })
        .collect();
    let mut token = 0;
    for _ in 0..ops / rows::RING_TASKS {
        first.send(token)?;
        token = last.recv()? + 1;
    }
    let measured = clock.stop(ops);
    // Each task ends when the one before it does.
    drop(first);
    tasks.into_iter().for_each(join);
    check("hops of the token", token, ops)?;
    Ok(measured)
}

pub fn stream(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = bounded(rows::QUEUE_CAPACITY);
    let producer = produce(sender, 0, ops);
    let sum = receiver.iter().sum();
    let measured = clock.stop(ops);
    join(producer);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

/// A task that sends the values from `first` on.
fn produce(sender: Sender<u64>, first: u64, count: u64) -> JoinHandle<()> {
    spawn(move || (first..first + count).for_each(|value| sender.send(value).expect(CLOSED)))
}

pub fn mpmc(ops: u64) -> anyhow::Result<Measured> {
    many_to_many(ops, task::Builder::new, |value| value, rows::sum_below(ops))
}

/// The consumers are a pool of workers, and placed as one: what has started stays where it is, and by
/// default that is beside who spawned it.
pub fn mpmc_work(ops: u64) -> anyhow::Result<Measured> {
    let worker = || task::Builder::new().placement(Placement::Spread);
    many_to_many(ops, worker, rows::item, rows::item_sum(ops))
}

fn many_to_many(
    ops: u64,
    builder: impl Fn() -> task::Builder,
    consume: impl Fn(u64) -> u64 + Copy + Send + 'static,
    wanted: u64,
) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = bounded(rows::QUEUE_CAPACITY);
    let share = ops / rows::MPMC_SIDE;
    let mut producers = Vec::new();
    let mut consumers = Vec::new();
    for i in 0..rows::MPMC_SIDE {
        producers.push(produce(sender.clone(), i * share, share));
        consumers.push(consumer(builder(), receiver.clone(), consume)?);
    }
    drop(sender);
    let sum = consumers.into_iter().map(join).fold(0, u64::wrapping_add);
    let measured = clock.stop(ops);
    producers.into_iter().for_each(join);
    check("the sum of the values", sum, wanted)?;
    Ok(measured)
}

/// A task that sums up what `consume` makes of the values.
fn consumer(
    builder: task::Builder,
    values: Receiver<u64>,
    consume: impl Fn(u64) -> u64 + Send + 'static,
) -> io::Result<JoinHandle<u64>> {
    builder.spawn(move || values.iter().fold(0u64, |sum, value| sum.wrapping_add(consume(value))))
}

/// The channels of a select, with a producer on each that sends an equal share of the values.
struct Sources {
    receivers: Vec<Receiver<u64>>,
    /// They outlast the select: an arm whose channel has closed would never stop being ready.
    senders: Vec<Sender<u64>>,
    producers: Vec<JoinHandle<()>>,
}

impl Sources {
    fn new(ops: u64, count: u64) -> Self {
        let share = ops / count;
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| bounded(RENDEZVOUS)).unzip();
        let producers = (0..).zip(&senders).map(|(i, sender)| produce(sender.clone(), i * share, share)).collect();
        Self { receivers, senders, producers }
    }

    fn end(self) {
        drop(self.senders);
        self.producers.into_iter().for_each(join);
    }
}

pub fn select4(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let sources = Sources::new(ops, rows::FEW_ARMS);
    let [a, b, c, d] = &sources.receivers[..] else { unreachable!("as many as there are arms") };
    let mut sum = 0;
    for _ in 0..ops {
        sum += select! {
            recv(a) -> value => value?,
            recv(b) -> value => value?,
            recv(c) -> value => value?,
            recv(d) -> value => value?,
        };
    }
    let measured = clock.stop(ops);
    sources.end();
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

/// With so many arms the select is built from a list, once.
pub fn select64(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let sources = Sources::new(ops, rows::MANY_ARMS);
    let mut select = Select::new();
    for receiver in &sources.receivers {
        select.recv(receiver);
    }
    let mut sum = 0;
    for _ in 0..ops {
        let operation = select.select();
        let receiver = &sources.receivers[operation.index()];
        sum += operation.recv(receiver)?;
    }
    let measured = clock.stop(ops);
    drop(select);
    sources.end();
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

pub fn mutex(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let counter = Arc::new(Mutex::new(0));
    let tasks: Vec<_> = (0..rows::MUTEX_TASKS)
        .map(|_| {
            let counter = Arc::clone(&counter);
            spawn(move || {
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

pub fn sieve(primes: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (naturals, mut last) = bounded(RENDEZVOUS);
    // Ends when nobody receives any more, and so does each filter.
    let mut tasks = vec![spawn(move || while_sent(&naturals, 2..))];
    let mut prime = 0;
    for _ in 0..primes {
        prime = last.recv()?;
        let (output, next) = bounded(RENDEZVOUS);
        let input = mem::replace(&mut last, next);
        tasks.push(spawn(move || while_sent(&output, input.iter().filter(|n| n % prime != 0))));
    }
    let measured = clock.stop(primes);
    drop(last);
    tasks.into_iter().for_each(join);
    check("the last prime", prime, rows::nth_prime(primes))?;
    Ok(measured)
}

fn while_sent(sender: &Sender<u64>, values: impl Iterator<Item = u64>) {
    for value in values {
        if sender.send(value).is_err() {
            break;
        }
    }
}

pub fn fanin(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (sender, receiver) = bounded(RENDEZVOUS);
    let share = ops / rows::FANIN_PRODUCERS;
    let producers: Vec<_> = (0..rows::FANIN_PRODUCERS).map(|i| produce(sender.clone(), i * share, share)).collect();
    drop(sender);
    let sum = receiver.iter().sum();
    let measured = clock.stop(ops);
    producers.into_iter().for_each(join);
    check("the sum of the values", sum, rows::sum_below(ops))?;
    Ok(measured)
}

pub fn pool(ops: u64) -> anyhow::Result<Measured> {
    let wanted = rows::job_sum(ops);
    let clock = Clock::start();
    let (jobs, queue) = bounded(rows::POOL_QUEUE);
    let workers = (0..rows::POOL_WORKERS)
        .map(|_| consumer(task::Builder::new().placement(Placement::Spread), queue.clone(), rows::job))
        .collect::<io::Result<Vec<_>>>()?;
    for id in 0..ops {
        jobs.send(id)?;
    }
    drop(jobs);
    let sum = workers.into_iter().map(join).fold(0, u64::wrapping_add);
    let measured = clock.stop(ops);
    check("the sum of all jobs", sum, wanted)?;
    Ok(measured)
}
