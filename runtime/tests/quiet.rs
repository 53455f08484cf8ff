//! A runtime in which nothing happens does nothing: none of its threads wakes up, whatever happened before.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use greenloom::time::timeout;
use greenloom::{Runtime, channel, park, sleep, spawn, yield_now};
use test_support::{Counter, spin_until, yield_until};

const HOUR: Duration = Duration::from_secs(3600);

/// Longer than any pause that a thread makes between two looks.
const WINDOW: Duration = Duration::from_millis(2500);

/// How often the threads of this name have been switched away from, and what they are called.
fn switches(name: &str) -> (u64, Vec<String>) {
    let mut names = Vec::new();
    let mut sum = 0;
    for entry in fs::read_dir("/proc/self/task").unwrap() {
        let path = entry.unwrap().path();
        // A thread of another test may have ended.
        let (Ok(comm), Ok(status)) = (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("status"))) else {
            continue;
        };
        let Some(number) = comm.trim_end().strip_prefix(name).and_then(|rest| rest.strip_prefix('-')) else { continue };
        names.push(number.to_owned());
        let counts = status.lines().filter_map(|line| line.split_once("ctxt_switches:"));
        sum += counts.map(|(_, count)| count.trim().parse::<u64>().unwrap()).sum::<u64>();
    }
    names.sort();
    (sum, names)
}

/// Comes to rest some time, with a thread for each processor and the monitor's: whoever looks now and then does so ever more seldom, or no more.
fn comes_to_rest(name: &str, processors: usize) {
    let began = Instant::now();
    let mut last = switches(name);
    loop {
        thread::sleep(WINDOW);
        let now = switches(name);
        if now.0 == last.0 {
            let machines = now.1.iter().filter(|number| number.parse::<usize>().is_ok_and(|number| number < processors)).count();
            assert!(machines == processors && now.1.contains(&"monitor".to_owned()), "{name}: {:?}", now.1);
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(50), "{name}: {} switches in {WINDOW:?}", now.0 - last.0);
        last = now;
    }
}

fn runtime(name: &str, processors: usize) -> Runtime {
    Runtime::builder().thread_name(name).processors(processors).build().unwrap()
}

#[test]
fn unused() {
    let runtime = runtime("unused", 2);
    comes_to_rest("unused", 2);
    assert_eq!(runtime.run(|| 1), 1);
    comes_to_rest("unused", 2);
}

#[test]
fn with_tasks_that_wait() {
    let runtime = runtime("waiting", 3);
    let tasks = runtime.run(|| {
        let (s, r) = channel::bounded::<()>(0);
        let tasks = [spawn(park), spawn(|| sleep(HOUR)), spawn(|| _ = timeout(HOUR, park)), spawn(move || _ = r.recv())];
        (0..10).for_each(|_| yield_now());
        (s, tasks)
    });
    comes_to_rest("waiting", 3);
    drop(tasks);
}

#[test]
fn after_timers_that_fired_and_timers_that_did_not() {
    let runtime = runtime("timers", 1);
    runtime.run(|| {
        for i in 0..50 {
            sleep(Duration::from_micros(10 * i));
            assert!(timeout(Duration::from_micros(10 * i), park).is_err());
            assert_eq!(timeout(Duration::from_millis(100 * i), || i), Ok(i));
        }
    });
    comes_to_rest("timers", 1);
}

#[test]
fn after_a_spare_was_needed() {
    let runtime = runtime("spares", 1);
    let release = Arc::new(AtomicBool::new(false));
    let begun = Counter::default();
    let holder = runtime.spawn({
        let (release, begun) = (release.clone(), begun.clone());
        move || {
            begun.add();
            spin_until(|| release.load(SeqCst));
        }
    });
    yield_until(|| begun.get() == 1);
    // It stays there.
    let waits = Counter::default();
    let waiting = runtime.spawn({
        let waits = waits.clone();
        move || {
            waits.add();
            park();
        }
    });
    yield_until(|| waits.get() == 1);
    release.store(true, SeqCst);
    holder.join().unwrap();
    comes_to_rest("spares", 1);
    waiting.task().unpark();
    waiting.join().unwrap();
}

#[test]
fn after_many_stacks_were_used() {
    let runtime = runtime("stacks", 2);
    let tasks: Vec<_> = (0..3000).map(|_| runtime.spawn(park)).collect();
    for task in tasks {
        task.task().unpark();
        task.join().unwrap();
    }
    comes_to_rest("stacks", 2);
}
