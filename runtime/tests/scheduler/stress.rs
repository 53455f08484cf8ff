//! Everything at once, at random: thousands of tasks that spawn, wait, end and are ended in every way. Nothing is lost.
//!
//! Seeds are fixed, so what each task does is too; on two processors, and beside plain threads, the order is not.

use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::atomic::{AtomicIsize, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use greenloom::task::{Builder, Placement};
use greenloom::{Handle, JoinError, JoinHandle, Runtime, current, park, spawn, spawn_local, yield_now};
use test_support::{Counter, OnDrop, spin_until, unless_it_hangs};

const OPERATIONS: isize = 20_000;

/// Three things for each operation at most: closure, result or payload, and those of a helper.
const ENTRIES: usize = 8 * OPERATIONS as usize;

/// All closures, results and payloads, and how often each was dropped.
struct Ledger {
    made: AtomicUsize,
    dropped: AtomicUsize,
    drops: Vec<AtomicU8>,
}

/// What goes with a closure, a result or a payload.
struct Entry {
    ledger: Arc<Ledger>,
    number: usize,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.drops[self.number].fetch_add(1, SeqCst);
        self.ledger.dropped.fetch_add(1, SeqCst);
    }
}

impl Ledger {
    fn entry(self: &Arc<Self>) -> Entry {
        Entry { ledger: self.clone(), number: self.made.fetch_add(1, SeqCst) }
    }

    fn is_settled(&self) -> bool {
        self.made.load(SeqCst) == self.dropped.load(SeqCst)
    }

    #[track_caller]
    fn assert_settled(&self) {
        let drops = self.drops[..self.made.load(SeqCst)].iter().map(|drops| drops.load(SeqCst));
        let wrong: Vec<_> = drops.enumerate().filter(|(_, drops)| *drops != 1).take(10).collect();
        assert!(wrong.is_empty(), "not dropped once, as (entry, drops): {wrong:?}");
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// What a task may do next, each with its weight.
const CHOICES: &[(Operation, usize)] = &[
    (Operation::Spawn, 24),
    (Operation::SpawnElsewhere, 4),
    (Operation::SpawnLocal, 8),
    (Operation::SpawnFromThread, 1),
    (Operation::Yield, 16),
    (Operation::Park, 12),
    (Operation::ParkForThread, 1),
    (Operation::UnparkChild, 6),
    (Operation::Join, 12),
    (Operation::Detach, 4),
    (Operation::Cancel, 6),
    (Operation::Guard, 3),
    (Operation::Panic, 3),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Spawn,
    SpawnElsewhere,
    SpawnLocal,
    SpawnFromThread,
    Yield,
    Park,
    ParkForThread,
    UnparkChild,
    Join,
    Detach,
    Cancel,
    /// From now on a destructor of the task suspends.
    Guard,
    Panic,
}

impl Operation {
    fn random(random: &mut Random) -> Operation {
        let mut at = random.below(CHOICES.iter().map(|(_, weight)| weight).sum());
        for &(operation, weight) in CHOICES {
            if at < weight {
                return operation;
            }
            at -= weight;
        }
        unreachable!("below the sum of the weights")
    }
}

struct World {
    ledger: Arc<Ledger>,
    processors: usize,
    /// Operations that are left.
    left: AtomicIsize,
    done: Vec<Counter>,
    returned: Counter,
    panicked: Counter,
    cancelled: Counter,
    /// Tasks that ended as none of them does.
    wrong: Mutex<Vec<String>>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl World {
    fn new(processors: usize) -> Arc<World> {
        let drops = (0..ENTRIES).map(|_| AtomicU8::new(0)).collect();
        Arc::new(World {
            ledger: Arc::new(Ledger { made: AtomicUsize::new(0), dropped: AtomicUsize::new(0), drops }),
            processors,
            left: AtomicIsize::new(OPERATIONS),
            done: CHOICES.iter().map(|_| Counter::default()).collect(),
            returned: Counter::default(),
            panicked: Counter::default(),
            cancelled: Counter::default(),
            wrong: Mutex::default(),
            threads: Mutex::default(),
        })
    }

    /// The closure of a task, and with it an entry; another one is its result.
    fn task(self: &Arc<Self>, seed: u64) -> impl FnOnce() -> Entry + Send + 'static {
        let (world, entry) = (self.clone(), self.ledger.entry());
        move || {
            let _entry = entry;
            let mut random = Random(seed);
            let operations = 1 + random.below(20);
            live(&world, &mut random, operations);
            world.ledger.entry()
        }
    }

    /// A task has ended: its result or payload goes.
    fn settle<T>(&self, result: Result<T, JoinError>) {
        match result {
            Ok(_) => self.returned.add(),
            Err(error) => match error.try_into_panic() {
                Err(_) => self.cancelled.add(),
                Ok(payload) if payload.is::<Entry>() => self.panicked.add(),
                Ok(payload) => {
                    let what =
                        payload.downcast_ref::<String>().cloned().or(payload.downcast_ref::<&str>().map(|s| s.to_string()));
                    self.wrong.lock().unwrap_or_else(|e| e.into_inner()).push(what.unwrap_or_default());
                }
            },
        }
    }

    /// On a plain thread, which the end of the test waits for.
    fn on_a_thread(&self, f: impl FnOnce() + Send + 'static) {
        let thread = thread::spawn(f);
        self.threads.lock().unwrap_or_else(|e| e.into_inner()).push(thread);
    }

    #[track_caller]
    fn join_threads(&self) {
        loop {
            let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(|e| e.into_inner()));
            if threads.is_empty() {
                return;
            }
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }

    #[track_caller]
    fn assert_all_happened(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(wrong.is_empty(), "tasks panicked by themselves: {wrong:?}");
        for ((operation, _), done) in CHOICES.iter().zip(&self.done) {
            assert!(done.get() > 0, "{operation:?} was never done");
        }
        let ends = [self.returned.get(), self.panicked.get(), self.cancelled.get()];
        assert!(ends.iter().all(|&end| end > 0), "returned, panicked, cancelled: {ends:?}");
    }
}

/// So many random operations, as long as there are some left.
fn live(world: &Arc<World>, random: &mut Random, operations: usize) {
    let mut children: Vec<JoinHandle<Entry>> = Vec::new();
    // Dropped first, so that a destructor suspends before the children are detached.
    let mut guards: Vec<OnDrop<fn()>> = Vec::new();
    for _ in 0..operations {
        if world.left.fetch_sub(1, SeqCst) <= 0 {
            break;
        }
        let operation = Operation::random(random);
        let child = |random: &mut Random, children: &Vec<_>| (!children.is_empty()).then(|| random.below(children.len()));
        match operation {
            Operation::Spawn => children.push(spawn(world.task(random.next()))),
            Operation::SpawnElsewhere => {
                let builder = Builder::new().name("elsewhere").stack_size((16 << 10) << random.below(6));
                let on = random.below(world.processors + 1);
                let placement = if on < world.processors { Placement::On(on) } else { Placement::Spread };
                children.push(builder.placement(placement).spawn(world.task(random.next())).unwrap());
            }
            Operation::SpawnLocal => {
                let entry = Rc::new(world.ledger.entry());
                let task = spawn_local({
                    let (entry, yields) = (entry.clone(), random.below(3));
                    move || {
                        (0..yields).for_each(|_| yield_now());
                        entry
                    }
                });
                match random.below(3) {
                    0 => drop(task),
                    1 => task.cancel(),
                    _ => world.settle(task.join()),
                }
            }
            Operation::SpawnFromThread => {
                let (here, task, then) = (Handle::current(), world.task(random.next()), random.below(3));
                let world_there = world.clone();
                world.on_a_thread(move || {
                    let task = here.spawn(task);
                    match then {
                        0 => return,
                        1 => task.cancel(),
                        _ => {}
                    }
                    world_there.settle(task.join());
                });
            }
            Operation::Yield => yield_now(),
            Operation::Park => {
                let (me, entry) = (current(), world.ledger.entry());
                drop(spawn(move || {
                    me.unpark();
                    entry
                }));
                // A token that somebody left before does as well.
                park();
            }
            Operation::ParkForThread => {
                let me = current();
                world.on_a_thread(move || me.unpark());
                park();
            }
            Operation::UnparkChild => {
                let Some(i) = child(random, &children) else { continue };
                children[i].task().unpark();
            }
            Operation::Join => {
                let Some(i) = child(random, &children) else { continue };
                world.settle(children.swap_remove(i).join());
            }
            Operation::Detach => {
                let Some(i) = child(random, &children) else { continue };
                drop(children.swap_remove(i));
            }
            Operation::Cancel => {
                let Some(i) = child(random, &children) else { continue };
                children[i].cancel();
            }
            Operation::Guard => guards.push(OnDrop::new(yield_now)),
            // No hook says anything about it.
            Operation::Panic if operations < usize::MAX => {
                world.done[operation as usize].add();
                resume_unwind(Box::new(world.ledger.entry()));
            }
            Operation::Panic => continue,
        }
        world.done[operation as usize].add();
    }
    drop(guards);
    for child in children {
        if random.below(2) == 0 {
            world.settle(child.join());
        }
    }
}

/// The first task: goes on as long as there are operations left, and does not panic.
fn root(world: Arc<World>, seed: u64) -> impl FnOnce() -> Entry + Send + 'static {
    let entry = world.ledger.entry();
    move || {
        let _entry = entry;
        live(&world, &mut Random(seed), usize::MAX);
        world.ledger.entry()
    }
}

/// Its grace period is longer than any test.
fn runtime(processors: usize) -> Runtime {
    Runtime::builder().processors(processors).shutdown_grace(Duration::from_secs(600)).build().unwrap()
}

#[test]
fn a_random_mix_of_everything_ends_by_itself_and_leaves_nothing() {
    unless_it_hangs(|| {
        for (seed, processors) in [(1, 1), (2, 2), (3, 1), (4, 2), (5, 2)] {
            let world = World::new(processors);
            let runtime = runtime(processors);
            drop(runtime.run(root(world.clone(), seed)));
            // Detached tasks may still be on their way, and plain threads with them. Nobody cancels them.
            world.join_threads();
            while !world.ledger.is_settled() {
                world.join_threads();
                thread::yield_now();
            }
            world.ledger.assert_settled();
            drop(runtime);
            world.ledger.assert_settled();
            world.assert_all_happened();
        }
    });
}

#[test]
fn a_random_mix_of_everything_is_ended_by_its_runtime_and_leaves_nothing() {
    unless_it_hangs(|| {
        for (seed, processors) in [(6, 1), (7, 2), (8, 1), (9, 2)] {
            let world = World::new(processors);
            let runtime = runtime(processors);
            let root = runtime.spawn(root(world.clone(), seed));
            let before_the_end = OPERATIONS / 4;
            spin_until(|| {
                thread::yield_now();
                world.left.load(SeqCst) < before_the_end
            });
            drop(runtime);
            // Threads may still spawn, and are told that it is too late.
            world.join_threads();
            drop(root.join());
            world.ledger.assert_settled();
            world.assert_all_happened();
        }
    });
}
