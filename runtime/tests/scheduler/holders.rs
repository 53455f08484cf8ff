//! Where all processors are held by tasks that do not suspend, spare machines run the others; and what runs there is treated as anywhere.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::Duration;

use greenloom::task::{Builder, Placement};
use greenloom::time::timeout;
use greenloom::{JoinHandle, Runtime, channel, checkpoint, current, park, sleep, spawn, spawn_local, yield_now};
use test_support::{Counter, Slot, in_child, park_until, runtime, spin_until, unless_it_hangs, yield_until};

const SHORT: Duration = Duration::from_millis(2);

/// Longer than all machines must have slept before the monitor does.
const QUIET: Duration = Duration::from_millis(120);

/// All of a runtime's processors, held by a task each until this goes.
struct Held {
    release: Arc<AtomicBool>,
    holders: Vec<JoinHandle<ThreadId>>,
}

impl Held {
    fn new(runtime: &Runtime, processors: usize) -> Self {
        let (release, holding) = (Arc::new(AtomicBool::new(false)), Counter::default());
        let holders = (0..processors)
            .map(|_| {
                let (release, holding) = (release.clone(), holding.clone());
                runtime.spawn(move || {
                    holding.add();
                    spin_until(|| release.load(SeqCst));
                    thread::current().id()
                })
            })
            .collect();
        spin_until(|| holding.get() == processors);
        Self { release, holders }
    }

    /// The threads of the regular processors.
    fn release(self) -> HashSet<ThreadId> {
        self.release.store(true, SeqCst);
        self.holders.into_iter().map(|holder| holder.join().unwrap()).collect()
    }
}

/// Runs `case` in a task on a spare machine, while all processors are held, and waits for its end.
fn on_a_spare(case: fn()) {
    for processors in [1, 2] {
        unless_it_hangs(move || {
            let runtime = runtime(processors);
            let held = Held::new(&runtime, processors);
            let case = runtime.spawn(move || {
                case();
                thread::current().id()
            });
            let thread = case.join().unwrap();
            assert!(!held.release().contains(&thread), "it was no spare");
        });
    }
}

/// Which only the monitor ends.
fn compute_until_time_is_up() {
    let endless = timeout(SHORT, || {
        loop {
            checkpoint();
        }
    });
    assert!(endless.is_err());
}

#[test]
fn a_spare_gives_a_third_its_turn_beside_two_that_wake_each_other_for_ever() {
    on_a_spare(|| {
        let done = Arc::new(AtomicBool::new(false));
        let (left, right) = (Slot::new(), Slot::new());
        let player = |own: Slot<_>, other: Slot<greenloom::Task>| {
            let done = done.clone();
            spawn_local(move || {
                own.put(current());
                let other = other.wait();
                while !done.load(SeqCst) {
                    other.unpark();
                    park();
                }
                other.unpark();
            })
        };
        let players = [player(left.clone(), right.clone()), player(right, left)];
        for _ in 0..5 {
            yield_now();
        }
        done.store(true, SeqCst);
        players.into_iter().for_each(|player| player.join().unwrap());
    });
}

#[test]
fn a_limit_ends_a_loop_on_a_spare() {
    on_a_spare(compute_until_time_is_up);
}

#[test]
fn sleepers_wake_on_a_spare_that_sleeps_and_on_one_that_is_held() {
    on_a_spare(|| {
        let woken = Counter::default();
        let sleeper = |time: Duration| {
            let woken = woken.clone();
            spawn_local(move || {
                sleep(time);
                woken.add();
            })
        };
        // All of the spare's tasks wait.
        sleeper(QUIET).join().unwrap();
        // One of them computes meanwhile.
        let sleepers: Vec<_> = (0..20).map(|i| sleeper(SHORT * i)).collect();
        yield_now();
        assert!(
            timeout(SHORT * 25, || loop {
                checkpoint()
            })
            .is_err()
        );
        sleepers.into_iter().for_each(|sleeper| sleeper.join().unwrap());
        assert_eq!(woken.get(), 21);
    });
}

#[test]
fn what_a_spare_spawns_starts_though_it_is_held_as_well() {
    on_a_spare(|| {
        let started = Counter::default();
        for _ in 0..20 {
            let started = started.clone();
            drop(spawn(move || started.add()));
        }
        spin_until(|| started.get() == 20);
    });
}

#[test]
fn many_tasks_that_started_on_spares_go_on_there() {
    on_a_spare(|| {
        let home = thread::current().id();
        let (s, r) = channel::bounded(0);
        let tasks: Vec<_> = (0..50)
            .map(|i| {
                let s = s.clone();
                spawn_local(move || {
                    yield_now();
                    s.send(i).unwrap();
                    thread::current().id()
                })
            })
            .collect();
        drop(s);
        assert_eq!(r.iter().sum::<i32>(), 49 * 50 / 2);
        assert!(tasks.into_iter().all(|task| task.join().unwrap() == home));
    });
}

/// A task that was started on a spare, and waits there: the processors are free again, and the spare sleeps.
fn left_on_a_spare<T: Send + 'static>(runtime: &Runtime, body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let held = Held::new(runtime, 1);
    let begun = Slot::new();
    let begins = begun.clone();
    let task = runtime.spawn(move || {
        begins.put(thread::current().id());
        body()
    });
    let home = begun.wait();
    assert!(!held.release().contains(&home), "it was no spare");
    // The machine of the processor has other work, and then all is quiet.
    runtime.spawn(yield_now).join().unwrap();
    task
}

#[test]
fn a_sleeping_spare_is_woken_for_its_tasks_whoever_wakes_them() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let flag = Arc::new(AtomicBool::new(false));
        let waits = || {
            let flag = flag.clone();
            left_on_a_spare(&runtime, move || park_until(|| flag.load(SeqCst)))
        };
        for by_a_task in [false, true] {
            let (task, other) = (waits(), waits());
            thread::sleep(QUIET);
            flag.store(true, SeqCst);
            if by_a_task {
                let handle = task.task();
                runtime.run(move || handle.unpark());
            } else {
                task.task().unpark();
            }
            task.join().unwrap();
            flag.store(false, SeqCst);
            other.cancel();
            assert!(other.join().unwrap_err().is_cancelled());
        }
        let sleeper = left_on_a_spare(&runtime, || sleep(QUIET * 2));
        sleeper.join().unwrap();
    });
}

#[test]
fn tasks_that_wait_on_spares_are_cancelled_when_their_runtime_ends() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let dropped = Counter::default();
        let tasks: Vec<_> = (0..3)
            .map(|_| {
                let guard = dropped.on_drop();
                left_on_a_spare(&runtime, move || {
                    let _guard = guard;
                    park();
                })
            })
            .collect();
        let report = runtime.shutdown(Duration::from_secs(600));
        assert!(report.is_clean(), "{report}");
        assert_eq!(dropped.get(), 3);
        tasks.into_iter().for_each(|task| assert!(task.join().unwrap_err().is_cancelled()));
    });
}

#[test]
fn spares_that_have_nothing_to_do_are_used_again() {
    unless_it_hangs(|| {
        const EPISODES: usize = 12;
        let runtime = runtime(1);
        let mut spares = HashSet::new();
        for _ in 0..EPISODES {
            let held = Held::new(&runtime, 1);
            let thread = runtime.spawn(|| thread::current().id()).join().unwrap();
            assert!(!held.release().contains(&thread));
            spares.insert(thread);
        }
        // One would do; a second one may have been started because the first was late.
        assert!(spares.len() <= 3, "{} machines for {EPISODES} episodes of one held processor", spares.len());
    });
}

/// Nobody but the monitor ends these, and it sleeps when all machines have for a while.
#[test]
fn whatever_wakes_a_machine_wakes_the_monitor() {
    unless_it_hangs(|| {
        let runtime = runtime(2);
        let wait_for_quiet = || thread::sleep(QUIET);
        // A task from outside, for anyone and for one processor.
        wait_for_quiet();
        runtime.spawn(compute_until_time_is_up).join().unwrap();
        let spawner = runtime.spawn(|| {
            let (s, r) = channel::bounded::<Placement>(0);
            let task = spawn(move || {
                for placement in r.iter() {
                    Builder::new().placement(placement).spawn(compute_until_time_is_up).unwrap().join().unwrap();
                }
            });
            (s, task)
        });
        let (s, task) = spawner.join().unwrap();
        for placement in [Placement::On(0), Placement::On(1), Placement::Spread, Placement::Near] {
            wait_for_quiet();
            s.send(placement).unwrap();
        }
        drop(s);
        task.join().unwrap();
        // A wake by a thread, a cancellation, and a timer.
        let parked = runtime.spawn(|| {
            park();
            compute_until_time_is_up();
        });
        wait_for_quiet();
        parked.task().unpark();
        parked.join().unwrap();
        let waits = runtime.spawn(park);
        let handle = waits.task();
        let joins = runtime.spawn(move || {
            assert!(waits.join().unwrap_err().is_cancelled());
            compute_until_time_is_up();
        });
        wait_for_quiet();
        handle.cancel();
        joins.join().unwrap();
        let slept = runtime.spawn(|| {
            sleep(QUIET);
            compute_until_time_is_up();
        });
        slept.join().unwrap();
    });
    unless_it_hangs(|| {
        let runtime = runtime(1);
        // The same on a spare, by a wake and by a timer.
        let parked = left_on_a_spare(&runtime, || {
            park();
            compute_until_time_is_up();
        });
        thread::sleep(QUIET);
        parked.task().unpark();
        parked.join().unwrap();
        left_on_a_spare(&runtime, || {
            sleep(QUIET);
            compute_until_time_is_up();
        })
        .join()
        .unwrap();
    });
}

#[test]
fn who_holds_a_thread_for_a_second_is_named_once_if_it_keeps_others_waiting() {
    let child = in_child!("who_holds_a_thread_for_a_second_is_named_once_if_it_keeps_others_waiting", || {
        const LONG: Duration = Duration::from_millis(1600);
        let runtime = runtime(2);
        // The root ends, and is in nobody's way.
        let (holders, waiting) = runtime.run(|| {
            let on = |name: &'static str, index| Builder::new().name(name).placement(Placement::On(index));
            let begun = Counter::default();
            let waiting = [(); 2].map(|()| {
                let begun = begun.clone();
                let task = on("waiting", 0).spawn(move || {
                    begun.add();
                    park();
                });
                task.unwrap()
            });
            let holder = on("holder", 0).spawn(move || {
                yield_until(|| begun.get() == 2);
                thread::sleep(LONG);
            });
            // Alone on its machine.
            let harmless = on("harmless", 1).spawn(|| thread::sleep(LONG));
            ([holder.unwrap(), harmless.unwrap()], waiting)
        });
        holders.into_iter().for_each(|task| task.join().unwrap());
        for task in waiting {
            task.task().unpark();
            task.join().unwrap();
        }
    });
    child.assert_success();
    let lines: Vec<&str> = child.stderr.lines().filter(|line| line.contains("has held its thread for ")).collect();
    let [line] = lines[..] else { panic!("{}", child.stderr) };
    assert!(line.starts_with("greenloom: task 'holder' (id ") && line.contains("spawned at "), "{line}");
    assert!(line.contains(", running or ready to run, has held its thread for "), "{line}");
    assert!(line.ends_with(" ms without suspending; 2 tasks that started there cannot run"), "{line}");
}
