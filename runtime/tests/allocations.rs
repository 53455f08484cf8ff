//! Waiting allocates nothing: its nodes lie in the waiters' frames.
//!
//! One test, since the count is the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenloom::sync::{Barrier, Condvar, Mutex, Notify, RwLock, Semaphore};
use greenloom::{Runtime, spawn, yield_now};

struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, and a count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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
                    f();
                }
                gate.0.fetch_add(1, Ordering::Relaxed);
                while gate.0.load(Ordering::Relaxed) < 2 {
                    yield_now();
                }
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                for _ in 0..ROUNDS {
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
}
