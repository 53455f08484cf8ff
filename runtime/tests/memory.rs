//! Memory: a runtime that goes on needs no more of it the longer it does, however its tasks end; one that has ended keeps none; and what
//! tasks have used of their stacks goes back to the system.
//!
//! One test, since the counts are the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use greenloom::context::Context;
use greenloom::group::Group;
use greenloom::pool::WorkerPool;
use greenloom::task::{Builder, Placement};
use greenloom::time::timeout;
use greenloom::{
    JoinHandle, Runtime, RuntimeBuilder, channel, current, park, scope, sleep, spawn, spawn_local, task_local, yield_now,
};
use test_support::{Counter, CountsDrop, yield_until};

struct Counting;

/// Bytes that are in use, without those of chunks.
static BYTES: AtomicIsize = AtomicIsize::new(0);

/// The blocks that the memory of tasks is cut from. They are kept for tasks to come, so their number is steady only in the long run.
static CHUNKS: AtomicIsize = AtomicIsize::new(0);

fn count(layout: Layout, sign: isize) {
    if layout.align() == 64 * 1024 {
        CHUNKS.fetch_add(sign, Relaxed);
    } else {
        BYTES.fetch_add(sign * layout.size() as isize, Relaxed);
    }
}

// SAFETY: the system's allocator, and a count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout, 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(layout, -1);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Pages of the process: mapped, and in memory.
fn pages() -> [isize; 2] {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let mut fields = statm.split(' ').map(|field| field.parse().unwrap());
    [(); 2].map(|()| fields.next().unwrap())
}

const MIB: isize = 1 << 20;
const PAGE: isize = 4096;

/// Fails unless it comes true some time: what ends does so a little after it was heard of.
fn comes_true(what: &str, condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(40), "{what}: {}", state());
        thread::sleep(Duration::from_millis(5));
    }
}

task_local! {
    static VALUES: RefCell<Vec<CountsDrop>> = RefCell::default();
}

/// Panics when it is dropped.
struct Bomb(#[expect(dead_code, reason = "it counts its drop")] CountsDrop);

impl Drop for Bomb {
    fn drop(&mut self) {
        // Not `panic!`, whose message nobody needs.
        std::panic::resume_unwind(Box::new(()));
    }
}

/// A way for a task to be made and to end. What it is given is dropped once by that.
type Way = fn(CountsDrop);

/// Each of another size, some in every class of task memory and some beyond.
fn with_closure_of<const N: usize>(held: CountsDrop) -> JoinHandle<[u8; N]> {
    let bytes = black_box([1; N]);
    spawn(move || {
        let _held = held;
        black_box(bytes)
    })
}

const WAYS: &[(&str, Way)] = &[
    ("joined", |held| assert!(spawn(move || drop(held)).join().is_ok())),
    ("joined after its end", |held| {
        let task = spawn(move || held);
        yield_until(|| task.is_finished());
        drop(task.join());
    }),
    ("detached", |held| drop(spawn(move || drop(held)))),
    ("detached with a result", |held| drop(spawn(move || held))),
    ("detached after its end", |held| {
        let task = spawn(move || held);
        yield_until(|| task.is_finished());
        drop(task);
    }),
    ("large and small", |held| {
        let sizes = Counter::default();
        drop(with_closure_of::<20>(sizes.on_drop()).join());
        drop(with_closure_of::<50>(sizes.on_drop()));
        drop(with_closure_of::<110>(sizes.on_drop()).join());
        drop(with_closure_of::<1000>(sizes.on_drop()));
        drop(with_closure_of::<5000>(held));
    }),
    ("panicked", |held| {
        let task = spawn(move || {
            let _held = held;
            std::panic::resume_unwind(Box::new([0_u64; 10]))
        });
        assert!(task.join().map(|_: ()| ()).unwrap_err().is_panic());
    }),
    ("panicked and detached", |held| drop(spawn(move || panic_any(held)))),
    ("returned what panics, detached", |held| drop(spawn(move || Bomb(held)))),
    ("returned what panics, dropped with its handle", |held| {
        let task = spawn(move || Bomb(held));
        yield_until(|| task.is_finished());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
    }),
    ("panicked with what panics", |held| drop(spawn(move || panic_any(Bomb(held))))),
    ("cancelled fresh, with what panics", |held| {
        let bomb = Bomb(held);
        let task = spawn(move || drop(bomb));
        task.cancel();
        drop(task.join());
    }),
    ("cancelled fresh", |held| {
        let task = spawn(move || drop(held));
        task.cancel();
        drop(task);
    }),
    ("cancelled while it waits", |held| {
        let task = spawn(move || {
            let _held = held;
            park();
        });
        yield_now();
        task.cancel();
        drop(task.join());
    }),
    ("swallowed its cancellation", |held| {
        let task = spawn(move || {
            let _held = held;
            current().cancel();
            catch_unwind(yield_now).is_err()
        });
        assert!(task.join().unwrap());
    }),
    ("left to its end by a joiner that is cancelled", |held| {
        let joins = spawn(move || {
            let slow = spawn(move || {
                yield_now();
                yield_now();
                held
            });
            slow.join()
        });
        yield_now();
        joins.cancel();
        drop(joins.join());
    }),
    ("named, and known to others for longer", |held| {
        let task = Builder::new().name(format!("task {}", current().id())).spawn(move || held).unwrap();
        let (handle, more) = (task.task(), task.task());
        drop(task.join());
        let copy = handle.clone();
        drop((handle, more));
        copy.unpark();
    }),
    ("on another stack", |held| {
        let task = Builder::new().stack_size(40_000).spawn(move || drop(held)).unwrap();
        task.join().unwrap();
    }),
    ("on each processor", |held| {
        let others = Counter::default();
        drop(Builder::new().placement(Placement::On(0)).spawn({
            let held = others.on_drop();
            move || held
        }));
        drop(Builder::new().placement(Placement::On(1)).spawn(move || held));
        drop(Builder::new().placement(Placement::Spread).spawn(yield_now));
    }),
    ("local", |held| {
        drop(spawn_local(move || {
            yield_now();
            held
        }))
    }),
    ("in a scope", |held| {
        scope(|s| {
            s.spawn(|| drop(held));
            drop(s.spawn(yield_now));
        })
    }),
    ("in a group", |held| {
        let group = Group::new();
        group.spawn(move || {
            drop(held);
            Ok::<_, ()>(())
        });
        group.spawn(|| Err(()));
        assert!(group.wait().is_err());
    }),
    ("with values of its own", |held| {
        drop(spawn(move || VALUES.with_borrow_mut(|values| values.push(held))));
    }),
    ("limited", |held| {
        let task = spawn(move || {
            let _held = held;
            timeout(Duration::ZERO, || sleep(Duration::from_secs(3600))).is_err()
        });
        assert!(task.join().unwrap());
    }),
    ("ended by a context", |held| {
        let (context, canceller) = Context::background().with_cancel();
        let task = spawn(move || {
            let _held = held;
            context.run_until_done(park).is_err()
        });
        yield_now();
        canceller.cancel();
        assert!(task.join().unwrap());
    }),
    ("in a select", |held| {
        let (s, r) = channel::bounded(0);
        let task = spawn(move || {
            channel::select! {
                recv(r) -> held => drop(held),
                recv(channel::never::<()>()) -> _ => {}
            }
        });
        s.send(held).unwrap();
        task.join().unwrap();
    }),
];

/// Each way so many times, from a task.
fn in_tasks(round: &'static str, count: usize) {
    for (name, way) in WAYS {
        let dropped = Counter::default();
        for _ in 0..count {
            way(dropped.on_drop());
        }
        let began = Instant::now();
        yield_until(|| {
            assert!(began.elapsed() < Duration::from_secs(40), "{round}, {name}: {} of {count} were dropped", dropped.get());
            dropped.get() == count
        });
    }
}

/// From a plain thread.
fn from_outside(runtime: &Runtime) {
    let dropped = Counter::default();
    for i in 0..64 {
        let held = dropped.on_drop();
        let task = runtime.spawn(move || held);
        match i % 4 {
            0 => drop(task.join()),
            1 => task.cancel(),
            2 => drop(task),
            _ => {
                while !task.is_finished() {
                    thread::yield_now();
                }
            }
        }
    }
    comes_true("spawned from outside", || dropped.get() == 64, || format!("{} were dropped", dropped.get()));
}

fn builder() -> RuntimeBuilder {
    Runtime::builder().processors(2).on_panic(|_| ())
}

/// Runs `round` again and again; after the first few times, it leaves no more than before.
fn settles(what: &str, rounds: usize, round: impl Fn()) {
    /// Less than what one of the ways would leave, if each of its tasks left a word or two.
    const BYTES_MORE: isize = 64 * 1024;
    /// Less than what one of them would leave if it left its tasks.
    const CHUNKS_MORE: isize = 4;
    /// Far less than some stacks of each runtime.
    const PAGES_MORE: isize = 700 * MIB / PAGE;
    (0..5).for_each(|_| round());
    let now = || [BYTES.load(Relaxed), CHUNKS.load(Relaxed), pages()[0]];
    let before = now();
    (0..rounds).for_each(|_| round());
    let more = || {
        let now = now();
        [0, 1, 2].map(|i| now[i] - before[i])
    };
    let few = || more().iter().zip([BYTES_MORE, CHUNKS_MORE, PAGES_MORE]).all(|(more, limit)| *more <= limit);
    comes_true(what, few, || format!("{:?} bytes, chunks and mapped pages more after {rounds} rounds", more()));
}

/// Uses so much of the stack, all at once.
#[inline(never)]
fn dig(bytes: usize) -> usize {
    let frame = black_box([1_u8; 1024]);
    if bytes > frame.len() { dig(bytes - frame.len()) + usize::from(frame[bytes % frame.len()]) } else { 0 }
}

/// Many tasks wait with much of their stacks in use, and end.
fn deep_tasks(runtime: &Runtime) {
    const TASKS: usize = 1500;
    const DEPTH: usize = 50 * 1024;
    let before = pages()[1];
    let began = Counter::default();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let began = began.clone();
            runtime.spawn(move || {
                black_box(dig(DEPTH));
                began.add();
                park();
            })
        })
        .collect();
    comes_true("deep tasks", || began.get() == TASKS, || format!("{} have begun", began.get()));
    let used = pages()[1] - before;
    assert!(used >= (TASKS * DEPTH) as isize / PAGE, "they use only {used} pages: this shows nothing");
    for task in tasks {
        task.task().unpark();
        task.join().unwrap();
    }
    // By a background pass, and the next, while nothing happens; but for what caches keep.
    let more = || pages()[1] - before;
    comes_true("stacks that were used", || more() <= used / 3, || format!("{} of {used} pages are still in memory", more()));
}

#[test]
fn nothing_is_kept_that_nobody_needs() {
    std::panic::set_hook(Box::new(|_| ()));
    let runtime = builder().build().unwrap();
    settles("tasks of one runtime", 10, || {
        runtime.run(|| {
            for index in 0..2 {
                let round = || in_tasks("one runtime", 300);
                Builder::new().placement(Placement::On(index)).spawn(round).unwrap().join().unwrap();
            }
        });
        from_outside(&runtime);
    });
    deep_tasks(&runtime);
    settles("pools", 30, || {
        runtime.run(|| {
            let pool = WorkerPool::new(4, 8);
            (0..64).for_each(|_| drop(pool.submit(|| ())));
        })
    });
    drop(runtime);
    settles("runtimes", 30, || {
        let runtime = builder().build().unwrap();
        runtime.run(|| in_tasks("its own runtime", 10));
        from_outside(&runtime);
        let dropped = Counter::default();
        for _ in 0..64 {
            let held = dropped.on_drop();
            drop(runtime.spawn(move || {
                let _held = held;
                park();
            }));
        }
        let handle = runtime.handle();
        drop(runtime);
        let held = dropped.on_drop();
        drop(handle.spawn(move || held));
        assert_eq!(dropped.get(), 65);
    });
}
