//! Who runs what where: fresh tasks get to other threads, started ones stay on theirs.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};

use greenloom::task::{Builder, Placement};
use greenloom::{JoinHandle, current, park, spawn, spawn_local, yield_now};
use test_support::{Slot, run_on, spin_until, yield_until};

/// Tasks that hold their threads until all of them run can only end on as many threads.
fn all_at_once(tasks: usize) {
    let running = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<JoinHandle<ThreadId>> = (0..tasks)
        .map(|_| {
            let running = running.clone();
            spawn(move || {
                running.fetch_add(1, SeqCst);
                spin_until(|| running.load(SeqCst) == tasks);
                thread::current().id()
            })
        })
        .collect();
    let count = tasks.len();
    let threads: HashSet<ThreadId> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
    assert_eq!(threads.len(), count);
}

#[test]
fn two_fresh_tasks_run_on_two_processors_at_once() {
    run_on(2, || all_at_once(2));
}

#[test]
fn four_fresh_tasks_run_on_four_processors_at_once() {
    run_on(4, || all_at_once(4));
}

#[test]
fn a_crowd_of_fresh_tasks_is_worked_off_by_several_threads() {
    let threads = run_on(2, || {
        let both = Arc::new(std::sync::Mutex::new(HashSet::new()));
        // Each round is a crowd of short tasks. The spawner goes on until it has seen two threads at them.
        while both.lock().unwrap().len() < 2 {
            let tasks: Vec<_> = (0..256)
                .map(|_| {
                    let both = both.clone();
                    spawn(move || both.lock().unwrap().insert(thread::current().id()))
                })
                .collect();
            tasks.into_iter().for_each(|task| _ = task.join().unwrap());
        }
        both.lock().unwrap().len()
    });
    assert_eq!(threads, 2);
}

#[test]
fn what_a_plain_thread_spawns_runs_on_every_processor() {
    test_support::unless_it_hangs(|| {
        let runtime = test_support::runtime(2);
        let running = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let running = running.clone();
                runtime.spawn(move || {
                    running.fetch_add(1, SeqCst);
                    spin_until(|| running.load(SeqCst) == 2);
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

/// Suspends in every way there is, with fresh tasks about for thieves, and looks at the thread each time.
fn stay_put(rounds: usize) -> ThreadId {
    let home = thread::current().id();
    for round in 0..rounds {
        match round % 4 {
            0 => yield_now(),
            1 => spawn(|| ()).join().unwrap(),
            2 => {
                // Woken from wherever the child runs, stolen or not.
                let me = current();
                let woken = Arc::new(AtomicBool::new(false));
                let waker = spawn({
                    let woken = woken.clone();
                    move || {
                        woken.store(true, SeqCst);
                        me.unpark();
                    }
                });
                test_support::park_until(|| woken.load(SeqCst));
                drop(waker);
            }
            _ => {
                let children: Vec<_> = (0..12).map(|i| spawn(move || i)).collect();
                children.into_iter().for_each(|child| _ = child.join().unwrap());
            }
        }
        assert_eq!(thread::current().id(), home, "moved in round {round}");
    }
    home
}

#[test]
fn a_started_task_never_changes_its_thread() {
    let threads: HashSet<ThreadId> = run_on(4, || {
        let tasks: Vec<_> =
            (0..64).map(|_| Builder::new().placement(Placement::Spread).spawn(|| stay_put(200)).unwrap()).collect();
        tasks.into_iter().map(|task| task.join().unwrap()).collect()
    });
    assert!(threads.len() > 1, "all of them on one thread: this test shows nothing");
}

#[test]
fn a_task_woken_by_foreign_threads_stays_on_its_thread() {
    run_on(2, || {
        let stop = Arc::new(AtomicBool::new(false));
        let wakers: Vec<_> = (0..2)
            .map(|_| {
                let (me, stop) = (current(), stop.clone());
                thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        me.unpark();
                    }
                })
            })
            .collect();
        let home = thread::current().id();
        for _ in 0..5000 {
            park();
            assert_eq!(thread::current().id(), home);
        }
        stop.store(true, SeqCst);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
    });
}

#[test]
fn local_tasks_share_what_is_not_send() {
    run_on(2, || {
        let count = Rc::new(Cell::new(0));
        let tasks: Vec<_> = (0..100)
            .map(|i| {
                let count = count.clone();
                spawn_local(move || {
                    yield_now();
                    count.set(count.get() + i);
                    Rc::new(i)
                })
            })
            .collect();
        let results: i32 = tasks.into_iter().map(|task| *task.join().unwrap()).sum();
        assert_eq!((count.get(), results), (4950, 4950));
        assert_eq!(Rc::strong_count(&count), 1, "a closure is left");
    });
}

#[test]
fn local_tasks_start_and_stay_on_their_spawners_thread() {
    run_on(4, || {
        let home = thread::current().id();
        let tasks: Vec<_> = (0..200)
            .map(|_| {
                spawn_local(move || {
                    let began = thread::current().id();
                    let ended = stay_put(20);
                    (began, ended)
                })
            })
            .collect();
        // The others starve for work meanwhile, and may have none of this.
        let held = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let held = held.clone();
            drop(spawn(move || held.fetch_add(1, SeqCst)));
        }
        spin_until(|| held.load(SeqCst) == 3);
        for task in tasks {
            assert_eq!(task.join().unwrap(), (home, home));
        }
    });
}

#[test]
fn a_local_task_spawns_local_tasks_and_fresh_ones() {
    run_on(2, || {
        let shared = Rc::new(Cell::new(1));
        let outer = spawn_local({
            let shared = shared.clone();
            move || {
                let inner = spawn_local({
                    let shared = shared.clone();
                    move || shared.set(shared.get() * 2)
                });
                let fresh = spawn(|| 20).join().unwrap();
                inner.join().unwrap();
                shared.set(shared.get() + fresh);
            }
        });
        outer.join().unwrap();
        assert_eq!(shared.get(), 22);
    });
}

#[test]
fn a_woken_local_task_goes_on_at_home() {
    run_on(2, || {
        let home = thread::current().id();
        let who = Slot::new();
        let woken = Rc::new(Cell::new(false));
        let task = spawn_local({
            let (who, woken) = (who.clone(), woken.clone());
            move || {
                who.put(current());
                park();
                woken.set(true);
                thread::current().id()
            }
        });
        let waker = who.wait();
        thread::spawn(move || waker.unpark()).join().unwrap();
        yield_until(|| woken.get());
        assert_eq!(task.join().unwrap(), home);
    });
}
