//! Spare machines: they come when all others are held, run what is started there as any machine does, sleep when they are not needed, and
//! there are as many as the builder allows. And the monitor, which calls them, is awake whenever a machine is.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use greenloom::task::Builder;
use greenloom::time::timeout;
use greenloom::{Runtime, checkpoint, park, sleep, spawn, spawn_local, yield_now};
use test_support::{Counter, Ticks, in_child, run_with_spares, spin_until, unless_it_hangs, yield_until};

/// Runs `host` in a task on a spare machine, while another task holds the only regular one.
#[track_caller]
fn on_a_spare<T: Send + 'static>(host: impl FnOnce() -> T + Send + 'static) -> T {
    run_with_spares(1, || hold_while_a_spare_runs(host))
}

/// The same, held by the caller.
fn hold_while_a_spare_runs<T: Send + 'static>(host: impl FnOnce() -> T + Send + 'static) -> T {
    let here = thread::current().id();
    let (tell, wait) = mpsc::channel();
    drop(spawn(move || {
        assert_ne!(thread::current().id(), here);
        tell.send(host()).unwrap();
    }));
    // Blocks the thread; the sender goes if the host panics.
    wait.recv().expect("the host panics")
}

/// Starts tasks that block their threads until the result is dropped.
fn block(tasks: usize) -> Vec<mpsc::Sender<()>> {
    let block = |_| {
        let (go, wait) = mpsc::channel::<()>();
        drop(spawn(move || assert!(wait.recv().is_err())));
        go
    };
    (0..tasks).map(block).collect()
}

#[test]
fn a_task_that_ends_what_many_others_block_for_is_started() {
    for processors in [1, 2] {
        run_with_spares(processors, || {
            let blockers = block(30);
            // Behind all of them: newest first here, oldest first for all others.
            let ends = hold_while_a_spare_runs(move || {
                drop(blockers);
                7
            });
            assert_eq!(ends, 7);
        });
    }
}

#[test]
fn a_fresh_task_is_started_behind_many_that_block() {
    unless_it_hangs(|| {
        let runtime = Runtime::builder().processors(2).build().unwrap();
        let blocked = Counter::default();
        let senders: Vec<_> = (0..20)
            .map(|_| {
                let (go, wait) = mpsc::channel::<()>();
                let blocked = blocked.clone();
                drop(runtime.spawn(move || {
                    blocked.add();
                    assert!(wait.recv().is_err());
                }));
                go
            })
            .collect();
        yield_until(|| blocked.get() == 20);
        runtime.spawn(move || drop(senders)).join().unwrap();
    });
}

#[test]
fn a_chain_on_a_spare_is_cut_when_its_slice_ends() {
    on_a_spare(|| {
        let done = Counter::default();
        let (a, b) = (test_support::Caller::new(), test_support::Caller::new());
        for (own, other) in [(a.clone(), b.clone()), (b, a)] {
            let done = done.clone();
            drop(spawn_local(move || {
                own.put(greenloom::current());
                let other = other.wait();
                while done.get() == 0 {
                    other.unpark();
                    park();
                }
                other.unpark();
            }));
        }
        for _ in 0..5 {
            yield_now();
        }
        done.add();
    });
}

#[test]
fn a_loop_that_never_waits_lets_others_run_on_a_spare() {
    on_a_spare(|| {
        let done = Counter::default();
        let other = spawn_local({
            let done = done.clone();
            move || {
                yield_now();
                done.add();
            }
        });
        let mutex = greenloom::sync::Mutex::new(());
        while done.get() == 0 {
            drop(mutex.lock());
        }
        other.join().unwrap();
    });
}

#[test]
fn limits_and_sleeps_end_on_a_spare() {
    on_a_spare(|| {
        sleep(Duration::from_millis(1));
        assert!(timeout(Duration::from_millis(1), park).is_err());
        // While the task holds the machine, and so with the monitor's help.
        let computes = || {
            loop {
                checkpoint();
            }
        };
        assert!(timeout(Duration::from_millis(1), computes).is_err());
        let (asleep, awake) = (Counter::default(), Counter::default());
        drop(spawn_local({
            let (asleep, awake) = (asleep.clone(), awake.clone());
            move || {
                asleep.add();
                sleep(Duration::from_millis(1));
                awake.add();
            }
        }));
        yield_until(|| asleep.get() == 1);
        let mutex = greenloom::sync::Mutex::new(());
        while awake.get() == 0 {
            drop(mutex.lock());
        }
    });
}

#[test]
fn a_task_on_a_spare_is_woken_and_cancelled_from_elsewhere() {
    run_with_spares(1, || {
        let here = thread::current().id();
        let (begun, unwound) = (Counter::default(), Counter::default());
        let task = hold_while_a_spare_runs({
            let (begun, guard) = (begun.clone(), unwound.on_drop());
            move || {
                let task = spawn({
                    let begun = begun.clone();
                    move || {
                        let _guard = guard;
                        assert_ne!(thread::current().id(), here);
                        begun.add();
                        park();
                        begun.add();
                        park();
                    }
                });
                yield_until(|| begun.get() == 1);
                task
            }
        });
        task.task().unpark();
        yield_until(|| begun.get() == 2);
        assert_eq!(unwound.get(), 0);
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(unwound.get(), 1);
    });
}

#[test]
fn tasks_on_a_spare_unwind_when_the_runtime_ends() {
    let unwound = Counter::default();
    on_a_spare({
        let unwound = unwound.clone();
        move || {
            let begun = Counter::default();
            for _ in 0..3 {
                let (begun, guard) = (begun.clone(), unwound.on_drop());
                drop(spawn_local(move || {
                    let _guard = guard;
                    begun.add();
                    park();
                }));
            }
            yield_until(|| begun.get() == 3);
        }
    });
    assert_eq!(unwound.get(), 3);
}

#[test]
fn a_spare_that_was_not_needed_any_more_is_called_again() {
    run_with_spares(1, || {
        let threads = Arc::new(Mutex::new(HashSet::<ThreadId>::new()));
        for _ in 0..5 {
            let threads = threads.clone();
            hold_while_a_spare_runs(move || threads.lock().unwrap().insert(thread::current().id()));
            // It has nothing to do, and falls asleep.
            sleep(Duration::from_millis(1));
        }
        assert_eq!(threads.lock().unwrap().len(), 1);
    });
}

/// Each way to wake a machine wakes the monitor too, which then sees the machine held, and a fresh task behind.
#[test]
fn the_monitor_wakes_with_the_first_machine() {
    /// Long enough for the monitor to fall asleep, as a rule; if it has not, nothing is shown.
    const REST: Duration = Duration::from_millis(60);
    unless_it_hangs(|| {
        let runtime = Runtime::builder().processors(1).build().unwrap();
        // A timer.
        runtime.run(|| {
            sleep(REST);
            hold_while_a_spare_runs(|| ());
        });
        // A task for anyone.
        thread::sleep(REST);
        runtime.run(|| hold_while_a_spare_runs(|| ()));
        // Mail.
        let parked = runtime.spawn(|| {
            park();
            hold_while_a_spare_runs(|| ());
        });
        thread::sleep(REST);
        parked.task().unpark();
        parked.join().unwrap();
        // A fresh task for one machine.
        thread::sleep(REST);
        let pool = greenloom::pool::WorkerPool::new_in(&runtime.handle(), 1, 1);
        pool.submit(|| hold_while_a_spare_runs(|| ())).unwrap().join().unwrap();
    });
}

/// The monitor looks each millisecond, also when all machines have just been asleep for a moment.
#[test]
fn a_fresh_task_beside_a_sleeping_processor_soon_starts_after_a_short_rest() {
    run_with_spares(2, || {
        let ticks = Ticks::start();
        let median = || {
            let mut waits: Vec<_> = (0..41)
                .map(|_| {
                    sleep(Duration::from_millis(3));
                    let begun = Counter::default();
                    let spawned = ticks.count();
                    drop(spawn({
                        let begun = begun.clone();
                        move || begun.add()
                    }));
                    spin_until(|| begun.get() == 1);
                    ticks.count() - spawned
                })
                .collect();
            waits.sort_unstable();
            waits[20]
        };
        // The monitor may be short of CPU time for a while, as all threads are where many programs run.
        assert!((0..4).any(|_| median() <= 4), "it is late by most of a lazy monitor's pause");
    });
}

#[test]
fn where_no_more_machines_are_allowed_stderr_names_who_holds_them() {
    let child = in_child!("where_no_more_machines_are_allowed_stderr_names_who_holds_them", || {
        let (read, write) = std::io::pipe().unwrap();
        // SAFETY: both are open.
        assert!(unsafe { libc::dup2(write.as_raw_fd(), 2) } == 2);
        let runtime = Runtime::builder().processors(1).max_machines(2).build().unwrap();
        let (go, wait) = (0..2).map(|_| mpsc::channel::<()>()).unzip::<_, _, Vec<_>, Vec<_>>();
        let blocked = Counter::default();
        runtime.run({
            let blocked = blocked.clone();
            move || {
                for (name, wait) in ["first holder", "second holder"].into_iter().zip(wait) {
                    let blocked = blocked.clone();
                    let holds = move || {
                        blocked.add();
                        assert!(wait.recv().is_err());
                    };
                    drop(Builder::new().name(name).spawn(holds).unwrap());
                }
            }
        });
        yield_until(|| blocked.get() == 2);
        let third = runtime.spawn(|| 3);
        let (mut line, mut more) = (String::new(), String::new());
        let fd = read.as_raw_fd();
        let mut read = BufReader::new(read);
        read.read_line(&mut line).unwrap();
        assert!(!third.is_finished());
        print!("{line}");
        // Once: not at each of the monitor's looks.
        thread::sleep(Duration::from_millis(50));
        // SAFETY: it is open.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_NONBLOCK) }, 0);
        let _ = read.read_to_string(&mut more);
        assert!(!more.contains("hold all"), "{more}");
        drop(go);
        assert_eq!(third.join().unwrap(), 3);
    });
    assert!(child.status.success(), "{}", child.stderr);
    let line = &child.stdout;
    assert!(line.contains("hold all 2 threads") && line.contains("'first holder'") && line.contains("'second holder'"), "{line}");
}

#[test]
fn a_runtime_has_at_least_as_many_machines_as_processors() {
    for machines in [0, 1, 4096] {
        let error = Runtime::builder().processors(2).max_machines(machines).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("max_machines is {machines}")), "{error}");
    }
    unless_it_hangs(|| {
        let runtime = Runtime::builder().processors(2).max_machines(2).build().unwrap();
        assert_eq!(runtime.run(|| spawn(|| 1).join().unwrap()), 1);
    });
}
