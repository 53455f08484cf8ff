//! Limits inside each other, cancellations and messages at random: every destructor runs once, every task ends.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::run_on;
use greenloom::channel::{self, Receiver, Sender};
use greenloom::sync::Mutex;
use greenloom::time::timeout;
use greenloom::{checkpoint, park_timeout, sleep, spawn, uncancellable, yield_now};

/// Counts what was made and what was dropped.
#[derive(Clone, Default)]
struct Balance(Arc<(AtomicUsize, AtomicUsize)>);

struct Guard(Balance);

impl Balance {
    fn guard(&self) -> Guard {
        self.0.0.fetch_add(1, SeqCst);
        Guard(self.clone())
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.1.fetch_add(1, SeqCst);
    }
}

#[derive(Clone)]
struct World {
    balance: Balance,
    sender: Sender<Guard>,
    receiver: Receiver<Guard>,
    mutex: Arc<Mutex<u64>>,
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

    fn micros(&mut self) -> Duration {
        Duration::from_micros(self.below(150))
    }
}

fn act(world: &World, random: &mut Random, depth: u32) {
    let _guard = world.balance.guard();
    for _ in 0..1 + random.below(4) {
        match random.below(if depth == 0 { 7 } else { 11 }) {
            0 => yield_now(),
            1 => sleep(random.micros()),
            2 => _ = world.sender.send_timeout(world.balance.guard(), random.micros()),
            3 => _ = world.receiver.recv_timeout(random.micros()),
            4 => {
                let mut count = world.mutex.lock().unwrap();
                yield_now();
                *count += 1;
            }
            5 => park_timeout(random.micros()),
            6 => checkpoint(),
            7 => uncancellable(|| act(world, random, depth - 1)),
            8 => _ = catch_unwind(AssertUnwindSafe(|| act(world, random, depth - 1))),
            _ => {
                if timeout(random.micros(), || act(world, random, depth - 1)).is_err() {
                    world.elapsed.fetch_add(1, SeqCst);
                }
            }
        }
    }
}

#[test]
fn every_destructor_runs_once_whatever_ends_what() {
    for seed in 1..=12_u64 {
        let processors = 1 + seed as usize % 2;
        let (made, dropped) = run_on(processors, move || {
            let balance = Balance::default();
            {
                let (sender, receiver) = channel::bounded(seed as usize % 3);
                let world = World { balance: balance.clone(), sender, receiver, mutex: Arc::default(), elapsed: Arc::default() };
                let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let tasks: Vec<_> = (0..200)
                    .map(|_| {
                        let (world, mut random) = (world.clone(), Random(1 + random.below(u64::MAX - 1)));
                        spawn(move || {
                            for _ in 0..5 {
                                act(&world, &mut random, 4);
                            }
                        })
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
                assert!(world.elapsed.load(SeqCst) > 10);
            }
            (balance.0.0.load(SeqCst), balance.0.1.load(SeqCst))
        });
        assert!(made > 1000);
        assert_eq!(made, dropped, "seed {seed}");
    }
}
