//! The end of a runtime: everything is told to unwind, given its time, and what remains is named.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use greenloom::task::{Builder, Placement};
use greenloom::{Handle, Runtime, current, park, spawn, yield_now};
use test_support::{Counter, OnDrop, Slot, in_child, park_until, runtime, spin_until, unless_it_hangs, yield_until};

#[test]
fn when_the_free_run_returns_every_other_task_has_unwound() {
    unless_it_hangs(|| {
        let (begun, dropped) = (Counter::default(), Counter::default());
        let guards: Vec<_> = (0..400).map(|_| dropped.on_drop()).collect();
        greenloom::run(move || {
            for (i, guard) in guards.into_iter().enumerate() {
                let begun = begun.clone();
                drop(spawn(move || {
                    let _guard = guard;
                    begun.add();
                    match i % 3 {
                        0 => park(),
                        1 => yield_until(|| false),
                        _ => drop(spawn(park).join()),
                    }
                }));
            }
            yield_until(|| begun.get() > 200);
        });
        assert_eq!(dropped.get(), 400);
    });
}

#[test]
fn destructors_that_wait_are_waited_for() {
    unless_it_hangs(|| {
        let done = Counter::default();
        let runtime = runtime(2);
        runtime.run({
            let done = done.clone();
            move || {
                let begun = Counter::default();
                for i in 0..100 {
                    let (begun, done) = (begun.clone(), done.clone());
                    let partner = spawn(park);
                    drop(spawn(move || {
                        let waker = partner.task();
                        let _guard = OnDrop::new(|| {
                            if i % 2 == 0 {
                                (0..10).for_each(|_| yield_now());
                            }
                            waker.unpark();
                            // It ends well or is cancelled, as it happens; but it ends.
                            drop(partner.join());
                            done.add();
                        });
                        begun.add();
                        park();
                    }));
                }
                yield_until(|| begun.get() == 100);
            }
        });
        drop(runtime);
        assert_eq!(done.get(), 100);
    });
}

#[test]
fn a_task_in_a_destructor_is_woken_by_another_that_unwinds() {
    unless_it_hangs(|| {
        let order = Arc::new(Mutex::new(Vec::new()));
        let runtime = Runtime::builder().processors(2).shutdown_grace(Duration::from_secs(50)).build().unwrap();
        runtime.run({
            let order = order.clone();
            move || {
                let (begun, left) = (Counter::default(), Arc::new(AtomicBool::new(false)));
                let waiting = Builder::new().placement(Placement::On(0)).spawn({
                    let (order, begun, left) = (order.clone(), begun.clone(), left.clone());
                    move || {
                        let _guard = OnDrop::new(|| {
                            park_until(|| left.load(SeqCst));
                            order.lock().unwrap().push("woken");
                        });
                        begun.add();
                        park();
                    }
                });
                let waiting = waiting.unwrap();
                let waker = waiting.task();
                drop(waiting);
                // On another thread: on the same one its own unwinding would be put off until the first has ended.
                drop(Builder::new().placement(Placement::On(1)).spawn({
                    let begun = begun.clone();
                    move || {
                        let _guard = OnDrop::new(|| {
                            order.lock().unwrap().push("wakes");
                            left.store(true, SeqCst);
                            waker.unpark();
                        });
                        begun.add();
                        park();
                    }
                }));
                yield_until(|| begun.get() == 2);
            }
        });
        drop(runtime);
        assert_eq!(*order.lock().unwrap(), ["wakes", "woken"]);
    });
}

/// Tasks whose destructors spawn and join when their runtime ends; how many of those joined were cancelled, and how many had run.
fn spawned_by_destructors_at_the_end(processors: usize) -> (usize, usize) {
    unless_it_hangs(move || {
        let (cancelled, returned, closures) = (Counter::default(), Counter::default(), Counter::default());
        let runtime = runtime(processors);
        runtime.run({
            let (cancelled, returned, closures) = (cancelled.clone(), returned.clone(), closures.clone());
            move || {
                let begun = Counter::default();
                for i in 0..100 {
                    let (begun, closures) = (begun.clone(), closures.clone());
                    let (cancelled, returned) = (cancelled.clone(), returned.clone());
                    drop(spawn(move || {
                        let _guard = OnDrop::new(|| {
                            // Of every kind; one is waited for, the other is not.
                            let guard = closures.on_drop();
                            let task = match i % 3 {
                                0 => spawn(move || drop(guard)),
                                1 => Builder::new().placement(Placement::Spread).spawn(move || drop(guard)).unwrap(),
                                _ => Handle::current().spawn(move || drop(guard)),
                            };
                            match task.join() {
                                Ok(()) => returned.add(),
                                Err(error) if error.is_cancelled() => cancelled.add(),
                                Err(_) => {}
                            }
                            let guard = closures.on_drop();
                            drop(greenloom::spawn_local(move || drop(guard)));
                        });
                        begun.add();
                        park();
                    }));
                }
                yield_until(|| begun.get() == 100);
            }
        });
        drop(runtime);
        assert_eq!(closures.get(), 200);
        (cancelled.get(), returned.get())
    })
}

#[test]
fn what_destructors_spawn_at_the_end_is_cancelled_and_not_lost() {
    assert_eq!(spawned_by_destructors_at_the_end(1), (100, 0));
}

#[test]
fn what_destructors_spawn_at_the_end_for_another_machine_is_not_lost() {
    // The other machine may start such a task before it has seen that the runtime ends.
    let (cancelled, returned) = spawned_by_destructors_at_the_end(2);
    assert_eq!(cancelled + returned, 100);
}

#[test]
fn what_plain_threads_spawn_at_the_end_either_runs_or_is_cancelled() {
    unless_it_hangs(|| {
        for _ in 0..50 {
            let runtime = runtime(2);
            let spawned = Counter::default();
            let threads: Vec<_> = (0..2)
                .map(|_| {
                    let (handle, spawned) = (runtime.handle(), spawned.clone());
                    thread::spawn(move || {
                        let (mut count, closures) = (0, Counter::default());
                        // Goes on until it has seen the end for certain.
                        let mut refused = 0;
                        while refused < 100 {
                            let guard = closures.on_drop();
                            let task = handle.spawn(move || drop(guard));
                            spawned.add();
                            count += 1;
                            refused += u32::from(task.join().is_err_and(|e| e.is_cancelled()));
                        }
                        assert_eq!(closures.get(), count);
                    })
                })
                .collect();
            yield_until(|| spawned.get() > 50);
            drop(runtime);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    });
}

#[test]
fn threads_that_never_stop_spawning_do_not_keep_a_runtime_from_its_end() {
    unless_it_hangs(|| {
        for _ in 0..20 {
            let runtime = runtime(2);
            let stop = Arc::new(AtomicBool::new(false));
            let stops = OnDrop::new({
                let stop = stop.clone();
                move || stop.store(true, SeqCst)
            });
            let spawners = [(); 2].map(|()| {
                let (handle, stop, spawned) = (runtime.handle(), stop.clone(), Counter::default());
                let count = spawned.clone();
                let thread = thread::spawn(move || {
                    while !stop.load(SeqCst) {
                        // It runs, or is cancelled.
                        drop(handle.spawn(|| ()).join());
                        count.add();
                    }
                });
                (thread, spawned)
            });
            yield_until(|| spawners.iter().all(|(_, spawned)| spawned.get() > 10));
            // The grace is longer than the watchdog waits: its end is not what ends the runtime.
            assert!(runtime.shutdown(Duration::from_secs(1_000)).is_clean());
            drop(stops);
            spawners.into_iter().for_each(|(thread, _)| thread.join().unwrap());
        }
    });
}

/// A runtime that does not wait long.
fn impatient(processors: usize) -> Runtime {
    Runtime::builder().processors(processors).shutdown_grace(Duration::from_millis(50)).build().unwrap()
}

#[test]
fn a_task_that_never_suspends_is_named_and_left_behind() {
    let child = in_child!("a_task_that_never_suspends_is_named_and_left_behind", || {
        let runtime = impatient(2);
        let spinning = Arc::new(AtomicU64::new(0));
        runtime.run({
            let spinning = spinning.clone();
            move || {
                let line = line!() + 1;
                let task = Builder::new().name("stubborn").spawn(move || {
                    spinning.store(current().id(), SeqCst);
                    loop {
                        std::hint::spin_loop();
                    }
                });
                println!("spawned at {}:{line}", file!());
                drop(task.unwrap());
            }
        });
        yield_until(|| spinning.load(SeqCst) != 0);
        drop(runtime);
        println!("the id is {}", spinning.load(SeqCst));
    });
    // The task still spins when the child exits, which is not held up by it.
    child.assert_success();
    let find = |prefix: &str| {
        let line = child.stdout.lines().find_map(|line| line.split_once(prefix)).expect("printed by the child");
        line.1.trim().to_owned()
    };
    child.assert_said("greenloom: still there after the grace period of 50ms: task 'stubborn'");
    child.assert_said(&format!("(id {}, spawned at {}:", find("the id is "), find("spawned at ")));
    child.assert_said("running or ready to run");
}

#[test]
fn a_task_that_unwinds_in_time_is_not_named() {
    let child = in_child!("a_task_that_unwinds_in_time_is_not_named", || {
        let runtime = Runtime::builder().processors(1).shutdown_grace(Duration::from_secs(50)).build().unwrap();
        runtime.run(|| {
            drop(spawn(park));
            yield_now();
        });
        drop(runtime);
    });
    child.assert_success();
    assert_eq!(child.stderr, "");
}

#[test]
fn many_leftovers_are_counted_not_listed() {
    let child = in_child!("many_leftovers_are_counted_not_listed", || {
        let runtime = impatient(1);
        runtime.run(|| {
            let begun = Counter::default();
            for _ in 0..30 {
                let begun = begun.clone();
                drop(spawn(move || {
                    let _guard = OnDrop::new(|| {
                        loop {
                            park();
                        }
                    });
                    begun.add();
                    park();
                }));
            }
            yield_until(|| begun.get() == 30);
        });
        drop(runtime);
    });
    child.assert_success();
    assert_eq!(child.stderr.matches("still there").count(), 20, "{}", child.stderr);
    child.assert_said("parked");
    child.assert_said("… and 10 more");
}

#[test]
fn a_task_left_in_a_destructor_keeps_its_stack_and_may_be_unparked() {
    let child = in_child!("a_task_left_in_a_destructor_keeps_its_stack_and_may_be_unparked", || {
        let (task, address) = (Slot::new(), Slot::new());
        let handle = {
            let runtime = impatient(2);
            runtime.run({
                let (task, address) = (task.clone(), address.clone());
                move || {
                    let begun = Counter::default();
                    drop(spawn({
                        let begun = begun.clone();
                        move || {
                            let on_the_stack = AtomicUsize::new(7);
                            // What a scope or a blocking call would do: somebody else has a reference into this frame.
                            address.put((&raw const on_the_stack).expose_provenance());
                            task.put(current());
                            let _guard = OnDrop::new(|| {
                                loop {
                                    park();
                                }
                            });
                            begun.add();
                            park();
                        }
                    }));
                    yield_until(|| begun.get() == 1);
                }
            });
            runtime.handle()
        };
        drop(handle);
        // Whatever threads of the runtime are on their way out, they are gone soon: at most the left one and a few stay.
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let mut last = usize::MAX;
        for _ in 0..10_000 {
            let now = threads();
            if now < last {
                last = now;
            }
            thread::yield_now();
        }
        let on_the_stack: *const AtomicUsize = std::ptr::with_exposed_provenance(address.take().unwrap());
        // SAFETY: the task has not ended, so its frame is alive.
        assert_eq!(unsafe { (*on_the_stack).load(SeqCst) }, 7);
        let task = task.take().unwrap();
        for _ in 0..1000 {
            task.unpark();
        }
        // SAFETY: as above.
        assert_eq!(unsafe { (*on_the_stack).load(SeqCst) }, 7);
    });
    child.assert_success();
    child.assert_said("still there after the grace period");
}

#[test]
fn fresh_tasks_behind_one_that_never_suspends_are_cancelled() {
    let child = in_child!("fresh_tasks_behind_one_that_never_suspends_are_cancelled", || {
        for grace in [Duration::ZERO, Duration::from_millis(100)] {
            let runtime = Runtime::builder().processors(1).shutdown_grace(grace).build().unwrap();
            let (spinning, closures) = (Arc::new(AtomicBool::new(false)), Counter::default());
            let (tasks, handle) = (Slot::new(), runtime.handle());
            drop(handle.spawn({
                let (spinning, closures, tasks) = (spinning.clone(), closures.clone(), tasks.clone());
                move || {
                    let fresh = |i: usize| {
                        let guard = closures.on_drop();
                        let placement = if i.is_multiple_of(2) { Placement::Near } else { Placement::On(0) };
                        Builder::new().placement(placement).spawn(move || drop(guard)).unwrap()
                    };
                    tasks.put((0..10).map(fresh).collect::<Vec<_>>());
                    spinning.store(true, SeqCst);
                    loop {
                        std::hint::spin_loop();
                    }
                }
            }));
            yield_until(|| spinning.load(SeqCst));
            drop(runtime);
            // Those that any processor may run; the others are bound to the thread that is lost.
            for (i, task) in tasks.take().unwrap().into_iter().enumerate() {
                if i % 2 == 0 {
                    // A spare may have run it, too.
                    drop(task.join());
                }
            }
            assert!(closures.get() >= 5);
        }
    });
    child.assert_success();
}

#[test]
fn a_leftover_that_holds_stderr_does_not_hold_up_the_end() {
    let child = in_child!("a_leftover_that_holds_stderr_does_not_hold_up_the_end", || {
        let runtime = impatient(1);
        let holding = Arc::new(AtomicBool::new(false));
        drop(runtime.spawn({
            let holding = holding.clone();
            move || {
                let _lock = std::io::stderr().lock();
                holding.store(true, SeqCst);
                loop {
                    std::hint::spin_loop();
                }
            }
        }));
        yield_until(|| holding.load(SeqCst));
        drop(runtime);
        println!("ended");
    });
    child.assert_success();
    assert!(child.stdout.contains("ended"));
    child.assert_said("still there after the grace period");
}

#[test]
fn a_leftover_is_no_trouble_when_nobody_reads_stderr() {
    let child = in_child!("a_leftover_is_no_trouble_when_nobody_reads_stderr", || {
        let mut pipe = [0; 2];
        // SAFETY: plain descriptors of this process: stderr becomes a pipe whose reading end is closed.
        unsafe {
            assert_eq!(libc::pipe(pipe.as_mut_ptr()), 0);
            libc::dup2(pipe[1], libc::STDERR_FILENO);
            libc::close(pipe[0]);
            libc::close(pipe[1]);
        }
        let runtime = impatient(1);
        let spinning = Arc::new(AtomicBool::new(false));
        drop(runtime.spawn({
            let spinning = spinning.clone();
            move || {
                spinning.store(true, SeqCst);
                loop {
                    std::hint::spin_loop();
                }
            }
        }));
        yield_until(|| spinning.load(SeqCst));
        drop(runtime);
        println!("ended");
    });
    child.assert_success();
    assert!(child.stdout.contains("ended"));
}

#[test]
fn a_task_that_comes_to_its_senses_after_the_grace_still_unwinds() {
    let child = in_child!("a_task_that_comes_to_its_senses_after_the_grace_still_unwinds", || {
        let runtime = impatient(1);
        let (spinning, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let dropped = Counter::default();
        let task = runtime.spawn({
            let (spinning, stop, guard) = (spinning.clone(), stop.clone(), dropped.on_drop());
            move || {
                let _guard = guard;
                spinning.store(true, SeqCst);
                while !stop.load(SeqCst) {
                    std::hint::spin_loop();
                }
                yield_now();
                yield_now();
            }
        });
        yield_until(|| spinning.load(SeqCst));
        drop(runtime);
        assert!(!task.is_finished());
        stop.store(true, SeqCst);
        unless_it_hangs(move || drop(task.join()));
        assert_eq!(dropped.get(), 1);
    });
    child.assert_success();
}

#[test]
fn a_grace_period_of_ages_is_as_good_as_any() {
    unless_it_hangs(|| {
        let runtime = Runtime::builder().processors(1).shutdown_grace(Duration::MAX).build().unwrap();
        let task = runtime.spawn(park);
        drop(runtime);
        assert!(task.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_closure_that_blocks_when_it_is_dropped_does_not_hold_up_the_end() {
    unless_it_hangs(|| {
        let (begun, release) = (Counter::default(), Arc::new(AtomicBool::new(false)));
        let runtime = impatient(2);
        let on_zero = || Builder::new().placement(Placement::On(0));
        let holder = runtime.run({
            let (begun, release) = (begun.clone(), release.clone());
            let holder = move || {
                begun.add();
                spin_until(|| release.load(SeqCst));
            };
            move || on_zero().spawn(holder).unwrap()
        });
        spin_until(|| begun.get() == 1);
        // Nobody else may start this one, and processor 0 does not get to it.
        let blocks = OnDrop::new(move || drop(holder.join()));
        let unstarted = runtime.run(move || on_zero().spawn(move || drop(blocks)).unwrap());
        drop(runtime);
        // The destructor waits for a task that is left behind; the end did not.
        assert!(!unstarted.is_finished());
        release.store(true, SeqCst);
        assert!(unstarted.join().unwrap_err().is_cancelled());
    });
}
