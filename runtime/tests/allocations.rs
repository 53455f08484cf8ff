//! Waiting allocates nothing: its nodes lie in the waiters' frames, and what a channel or a large select keeps is made once.
//!
//! One test, since the count is the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::array::from_fn;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenloom::channel::{Receiver, Select, bounded, select, unbounded};
use greenloom::sync::{Barrier, Condvar, Mutex, Notify, RwLock, Semaphore};
use greenloom::time::{interval, timeout};
use greenloom::{Runtime, park_timeout, sleep, spawn, yield_now};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Only what the machines allocate is counted, and not what the monitor does, which starts another one if this one is kept from
    /// running.
    static RUNS_TASKS: Cell<bool> = const { Cell::new(false) };
}

/// Not inlined: the thread is another one after a suspension, perhaps.
#[inline(never)]
fn note_machine() {
    RUNS_TASKS.set(true);
}

// SAFETY: the system's allocator, and a count; the thread's variable is a constant at first and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if RUNS_TASKS.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 200;

/// Allocations while two tasks take turns at `a` and `b`, each `ROUNDS` times, after some rounds to warm up.
fn while_taking_turns(name: &str, a: impl Fn() + Send + 'static, b: impl Fn() + Send + 'static) {
    let runtime = Runtime::builder().processors(1).build().unwrap();
    let counted = runtime.run(move || {
        let gate = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let play = |f: Box<dyn Fn() + Send>| {
            let gate = gate.clone();
            move || {
                for _ in 0..20 {
                    note_machine();
                    f();
                }
                // The first timer makes the wheel; an interval that is late may not have set one yet.
                sleep(Duration::from_micros(1));
                gate.0.fetch_add(1, Ordering::Relaxed);
                while gate.0.load(Ordering::Relaxed) < 2 {
                    yield_now();
                }
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                for _ in 0..ROUNDS {
                    note_machine();
                    f();
                }
                let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
                // Nobody ends, which might allocate, before both have counted.
                gate.1.fetch_add(1, Ordering::Relaxed);
                while gate.1.load(Ordering::Relaxed) < 2 {
                    yield_now();
                }
                counted
            }
        };
        let tasks = [spawn(play(Box::new(a))), spawn(play(Box::new(b)))];
        tasks.map(|task| task.join().unwrap())
    });
    assert_eq!(counted, [0, 0], "{name} allocates");
}

/// The same of the same for both.
fn while_both<T: Send + Sync + 'static>(name: &str, shared: T, f: fn(&T)) {
    let shared = Arc::new(shared);
    let other = shared.clone();
    while_taking_turns(name, move || f(&shared), move || f(&other));
}

/// The same of a party that sends to one of several channels of this capacity, each in its turn, and then waits for an answer, and
/// one that waits for any of them with `receive`, and answers.
fn while_asking<const N: usize>(
    name: &str,
    capacity: Option<usize>,
    receive: impl Fn(&[Receiver<usize>; N]) -> usize + Send + 'static,
) {
    let open = || capacity.map_or_else(unbounded, bounded);
    let channels: [_; N] = from_fn(|_| open());
    let questions = channels.each_ref().map(|(s, _)| s.clone());
    let asked = channels.map(|(_, r)| r);
    let (answer, answered) = open();
    let turn = AtomicUsize::new(0);
    while_taking_turns(
        name,
        move || {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            questions[turn % N].send(turn).unwrap();
            assert_eq!(answered.recv(), Ok(turn));
        },
        move || answer.send(receive(&asked)).unwrap(),
    );
}

#[test]
fn contended_waits_allocate_nothing() {
    while_both("Mutex::lock", Mutex::new(0), |mutex| {
        let mut guard = mutex.lock().unwrap();
        yield_now();
        *guard += 1;
    });
    while_both("RwLock", RwLock::new(0), |lock| {
        let guard = lock.read().unwrap();
        yield_now();
        drop(guard);
        let mut guard = lock.write().unwrap();
        yield_now();
        *guard += 1;
    });
    while_both("Semaphore::acquire", Semaphore::new(1), |semaphore| {
        let _permit = semaphore.acquire().unwrap();
        yield_now();
    });
    while_both("Barrier::wait", Barrier::new(2), |barrier| {
        barrier.wait();
    });
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let turn = |mine: bool| {
        let pair = pair.clone();
        move || {
            let mut turn = pair.1.wait_while(pair.0.lock().unwrap(), |turn| *turn != mine).unwrap();
            *turn = !mine;
            pair.1.notify_one();
        }
    };
    while_taking_turns("Condvar::wait", turn(false), turn(true));
    let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let back = (pong.clone(), ping.clone());
    while_taking_turns(
        "Notify::notified",
        move || {
            ping.notify_one();
            pong.notified();
        },
        move || {
            back.1.notified();
            back.0.notify_one();
        },
    );
    channels();
    time();
}

fn time() {
    const LONG: Duration = Duration::from_secs(600);
    while_both("sleep", (), |()| sleep(Duration::from_micros(20)));
    while_both("park_timeout", (), |()| park_timeout(Duration::from_micros(20)));
    while_both("a limit that is not reached", (), |()| timeout(LONG, yield_now).unwrap());
    while_both("a limit that is not noticed", (), |()| timeout(Duration::ZERO, || ()).unwrap());
    for capacity in [Some(0), Some(1), None] {
        while_asking::<1>("recv under a limit", capacity, |[r]| timeout(LONG, || r.recv().unwrap()).unwrap());
    }
    let clocks = [(); 2].map(|()| std::sync::Mutex::new(interval(Duration::from_micros(20))));
    let [a, b] = clocks;
    while_taking_turns("an interval", move || _ = a.lock().unwrap().tick(), move || _ = b.lock().unwrap().tick());
}

fn channels() {
    let (s, r) = bounded(0);
    while_taking_turns("a rendezvous", move || s.send(1).unwrap(), move || assert_eq!(r.recv(), Ok(1)));
    for (name, capacity) in [
        ("bounded(0), to and fro,", Some(0)),
        ("bounded(1), to and fro,", Some(1)),
        ("bounded(16), to and fro,", Some(16)),
        ("unbounded, to and fro,", None),
    ] {
        while_asking::<1>(name, capacity, |[r]| r.recv().unwrap());
    }
    for capacity in [Some(0), Some(1), None] {
        while_asking::<1>("recv_timeout", capacity, |[r]| r.recv_timeout(Duration::from_secs(600)).unwrap());
        while_asking::<2>("select! of two arms", capacity, |[r1, r2]| {
            select! {
                recv(r1) -> message => message.unwrap(),
                recv(r2) -> message => message.unwrap(),
            }
        });
        while_asking::<4>("select! of four arms", capacity, |[r1, r2, r3, r4]| {
            select! {
                recv(r1) -> message => message.unwrap(),
                recv(r2) -> message => message.unwrap(),
                recv(r3) -> message => message.unwrap(),
                recv(r4) -> message => message.unwrap(),
            }
        });
    }
    // One that is built once.
    let channels: [_; 64] = from_fn(|_| bounded(1));
    let receivers: &'static [_; 64] = Box::leak(Box::new(channels.each_ref().map(|(_, r)| r.clone())));
    let senders = channels.map(|(s, _)| s);
    let (answer, answered) = bounded(1);
    let mut select = Select::new();
    for receiver in receivers {
        select.recv(receiver);
    }
    let (turn, select) = (AtomicUsize::new(0), std::sync::Mutex::new(select));
    while_taking_turns(
        "a Select of 64 operations",
        move || {
            let turn = turn.fetch_add(1, Ordering::Relaxed);
            senders[turn % 64].send(turn).unwrap();
            assert_eq!(answered.recv(), Ok(turn));
        },
        move || {
            // Nobody else locks it.
            let operation = select.lock().unwrap().select();
            let receiver = &receivers[operation.index()];
            answer.send(operation.recv(receiver).unwrap()).unwrap();
        },
    );
}
