//! Spawning, cancellations, limits inside each other, contexts, scopes and messages at random: every destructor runs once, and
//! every task ends.
//!
//! `GREENLOOM_SOAK=10000000 cargo test --release -p greenloom --test soak` performs so many operations instead of a few.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use greenloom::channel::{self, Receiver, Sender};
use greenloom::context::Context;
use greenloom::sync::Mutex;
use greenloom::time::timeout;
use greenloom::{Runtime, checkpoint, park_timeout, scope, select, sleep, spawn, uncancellable, yield_now};

/// Counts what was made and what was dropped.
#[derive(Clone, Default)]
struct Balance(Arc<(AtomicUsize, AtomicUsize)>);

struct Guard(Balance);

impl Balance {
    fn guard(&self) -> Guard {
        self.0.0.fetch_add(1, Relaxed);
        Guard(self.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.1.fetch_add(1, Relaxed);
    }
}

#[derive(Clone)]
struct World {
    balance: Balance,
    sender: Sender<Guard>,
    receiver: Receiver<Guard>,
    mutex: Arc<Mutex<u64>>,
    operations: Arc<AtomicUsize>,
    elapsed: Arc<AtomicUsize>,
}

/// xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn fork(&mut self) -> Random {
        Random(1 + self.below(u64::MAX - 1))
    }

    fn micros(&mut self) -> Duration {
        Duration::from_micros(self.below(150))
    }
}

fn act(world: &World, random: &mut Random, depth: u32) {
    let _guard = world.balance.guard();
    for _ in 0..1 + random.below(4) {
        world.operations.fetch_add(1, Relaxed);
        match random.below(if depth == 0 { 9 } else { 16 }) {
            0 => yield_now(),
            1 => sleep(random.micros()),
            2 => _ = world.sender.send_timeout(world.balance.guard(), random.micros()),
            3 => _ = world.receiver.recv_timeout(random.micros()),
            4 => _ = world.sender.try_send(world.balance.guard()),
            5 => {
                let mut count = world.mutex.lock().unwrap();
                yield_now();
                *count += 1;
            }
            6 => park_timeout(random.micros()),
            7 => checkpoint(),
            8 => {
                select! {
                    recv(world.receiver) -> guard => drop(guard),
                    send(world.sender, world.balance.guard()) -> sent => drop(sent),
                    default(random.micros()) => {}
                }
            }
            9 => uncancellable(|| act(world, random, depth - 1)),
            10 => _ = catch_unwind(AssertUnwindSafe(|| act(world, random, depth - 1))),
            11 => {
                let (world, mut fork, ending) = (world.clone(), random.fork(), random.below(3));
                let child = spawn(move || act(&world, &mut fork, depth - 1));
                match ending {
                    0 => _ = child.join(),
                    1 => child.cancel(),
                    _ => drop(child),
                }
            }
            12 => scope(|s| {
                let (mut one, mut two) = (random.fork(), random.fork());
                s.spawn(move || act(world, &mut one, depth - 1));
                let handle = s.spawn(move || act(world, &mut two, depth - 1));
                if random.below(2) == 0 {
                    handle.cancel();
                }
            }),
            13 => {
                let (context, canceller) = Context::background().with_timeout(random.micros());
                let guard = world.balance.guard();
                let after = context.after_func(move || drop(guard));
                let _ = context.run_until_done(|| act(world, random, depth - 1));
                if random.below(2) == 0 {
                    after.stop();
                }
                drop(canceller);
            }
            _ => {
                if timeout(random.micros(), || act(world, random, depth - 1)).is_err() {
                    world.elapsed.fetch_add(1, Relaxed);
                }
            }
        }
    }
}

/// Runs waves of tasks until so many operations have been begun; some are cancelled from outside.
fn soak(world: &World, mut random: Random, operations: usize) {
    while world.operations.load(Relaxed) < operations {
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (world, mut random) = (world.clone(), random.fork());
                spawn(move || act(&world, &mut random, 4))
            })
            .collect();
        for task in &tasks {
            if random.below(3) == 0 {
                sleep(random.micros());
                task.cancel();
            }
        }
        for task in tasks {
            if let Err(error) = task.join() {
                assert!(error.is_cancelled(), "{error}");
            }
        }
    }
}

#[test]
fn every_destructor_runs_once_whatever_ends_what() {
    const SEEDS: usize = 8;
    let asked = std::env::var("GREENLOOM_SOAK").map(|n| n.parse().expect("GREENLOOM_SOAK is a number of operations"));
    let operations = asked.unwrap_or(100_000) / SEEDS;
    for seed in 1..=SEEDS {
        let balance = Balance::default();
        let (sender, receiver) = channel::bounded(seed % 3);
        let elapsed = Arc::default();
        let world = World {
            balance: balance.clone(),
            sender,
            receiver,
            mutex: Arc::default(),
            operations: Arc::default(),
            elapsed: Arc::clone(&elapsed),
        };
        let random = Random((seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let runtime = Runtime::builder().processors(1 + seed % 2).build().unwrap();
        runtime.run(move || soak(&world, random, operations));
        let report = runtime.shutdown(Duration::from_secs(60));
        assert!(report.is_clean(), "seed {seed}: {report}");
        let made = balance.0.0.load(Relaxed);
        // The clock's thread may just have let go of a context, whose function it has not dropped yet.
        let patience = Instant::now() + Duration::from_secs(60);
        while balance.0.1.load(Relaxed) != made && Instant::now() < patience {
            thread::yield_now();
        }
        assert_eq!(made, balance.0.1.load(Relaxed), "seed {seed}");
        assert!(made > operations / 4 && elapsed.load(Relaxed) > 10, "seed {seed}: {made} made");
    }
}
