//! Where fresh tasks start: soon, although their spawner goes on computing; spread over the processors; exactly where one says.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use greenloom::task::{Builder, Placement};
use greenloom::{JoinHandle, park, spawn, yield_now};
use test_support::{run_on, spin_until, yield_until};

#[test]
fn a_fresh_task_starts_while_its_spawner_computes() {
    run_on(2, || {
        let started = Arc::new(AtomicBool::new(false));
        let child = spawn({
            let started = started.clone();
            move || started.store(true, SeqCst)
        });
        // Only the child ends this, and this thread does not run it.
        spin_until(|| started.load(SeqCst));
        child.join().unwrap();
    });
}

#[test]
fn every_one_of_several_fresh_tasks_starts_while_the_spawner_computes() {
    run_on(2, || {
        for round in 1..=20 {
            let started = Arc::new(AtomicUsize::new(0));
            for _ in 0..round {
                let started = started.clone();
                drop(spawn(move || started.fetch_add(1, SeqCst)));
            }
            spin_until(|| started.load(SeqCst) == round);
        }
    });
}

#[test]
fn a_task_that_a_busy_processor_was_given_is_run_by_an_idle_one() {
    // The busy processor's inbox holds a spread task; it never looks.
    // The spawner stays on the other processor.
    let body = || {
        let started = Arc::new(AtomicUsize::new(0));
        let held = Arc::new(AtomicBool::new(false));
        let release = Arc::new(AtomicBool::new(false));
        let holder = Builder::new().placement(Placement::On(1)).spawn({
            let (held, release) = (held.clone(), release.clone());
            move || {
                held.store(true, SeqCst);
                spin_until(|| release.load(SeqCst));
            }
        });
        yield_until(|| held.load(SeqCst));
        for _ in 0..4 {
            let started = started.clone();
            drop(Builder::new().placement(Placement::Spread).spawn(move || started.fetch_add(1, SeqCst)).unwrap());
        }
        yield_until(|| started.load(SeqCst) == 4);
        release.store(true, SeqCst);
        holder.unwrap().join().unwrap();
    };
    run_on(2, move || Builder::new().placement(Placement::On(0)).spawn(body).unwrap().join().unwrap());
}

/// The threads that started these workers, one after another: each is at work before the next is spawned, so that none lies in a
/// queue for a thief. The workers stay, by `wait`, until all of them have started. Their spawner never lets its thread idle.
fn workers(count: usize, placement: Placement, wait: fn(&AtomicBool)) -> HashSet<ThreadId> {
    let threads = Arc::new(Mutex::new(Vec::new()));
    let release = Arc::new(AtomicBool::new(false));
    let workers: Vec<JoinHandle<()>> = (0..count)
        .map(|i| {
            let (threads, release) = (threads.clone(), release.clone());
            let started = threads.clone();
            let worker = Builder::new().placement(placement).spawn(move || {
                threads.lock().unwrap().push(thread::current().id());
                wait(&release);
            });
            yield_until(|| started.lock().unwrap().len() > i);
            worker.unwrap()
        })
        .collect();
    release.store(true, SeqCst);
    for worker in workers {
        worker.task().unpark();
        worker.join().unwrap();
    }
    let threads = threads.lock().unwrap();
    threads.iter().copied().collect()
}

fn parked(release: &AtomicBool) {
    while !release.load(SeqCst) {
        park();
    }
}

fn yielding(release: &AtomicBool) {
    yield_until(|| release.load(SeqCst));
}

#[test]
fn a_few_workers_by_spread_run_on_every_processor() {
    assert_eq!(run_on(2, || workers(4, Placement::Spread, yielding)).len(), 2);
}

#[test]
fn sixteen_workers_by_spread_run_on_every_processor() {
    assert_eq!(run_on(2, || workers(16, Placement::Spread, parked)).len(), 2);
    assert_eq!(run_on(3, || workers(16, Placement::Spread, yielding)).len(), 3);
}

#[test]
fn workers_that_pile_up_on_their_spawners_processor_overflow_to_the_others() {
    assert_eq!(run_on(2, || workers(64, Placement::Near, parked)).len(), 2);
    assert_eq!(run_on(4, || workers(200, Placement::Near, parked)).len(), 4);
}

/// Tasks that are sent on one by one go in runs, but only as long as there are fewer where they go.
#[test]
fn a_group_does_not_follow_an_old_run_to_a_processor_that_has_more() {
    let body = || {
        let here = thread::current().id();
        let park_until = |release: &Arc<AtomicBool>| {
            let (place, release) = (Arc::new(Mutex::new(None)), release.clone());
            let task = spawn({
                let place = place.clone();
                move || {
                    *place.lock().unwrap() = Some(thread::current().id());
                    parked(&release);
                }
            });
            // Started, here or there, before the next is spawned.
            yield_until(|| place.lock().unwrap().is_some());
            let elsewhere = *place.lock().unwrap() != Some(here);
            (task, elsewhere)
        };
        let end = |tasks: Vec<JoinHandle<()>>, release: &AtomicBool| {
            release.store(true, SeqCst);
            for task in tasks {
                task.task().unpark();
                task.join().unwrap();
            }
        };

        // So many that a run begins; then they are gone.
        let release = Arc::default();
        let (mut tasks, mut in_a_row) = (Vec::new(), 0);
        while in_a_row < 3 {
            let (task, elsewhere) = park_until(&release);
            tasks.push(task);
            in_a_row = if elsewhere { in_a_row + 1 } else { 0 };
        }
        end(tasks, &release);

        let release = Arc::new(AtomicBool::new(false));
        let crowd = (0..500).map(|_| {
            let release = release.clone();
            Builder::new().placement(Placement::On(1)).spawn(move || parked(&release)).unwrap()
        });
        let mut tasks: Vec<_> = crowd.collect();
        let mut elsewhere = 0;
        for _ in 0..60 {
            let (task, is_elsewhere) = park_until(&release);
            tasks.push(task);
            elsewhere += usize::from(is_elsewhere);
        }
        end(tasks, &release);
        elsewhere
    };
    let elsewhere = run_on(2, move || Builder::new().placement(Placement::On(0)).spawn(body).unwrap().join().unwrap());
    // Not none: an idle thief may have come before the spawner had its turn.
    assert!(elsewhere < 30, "{elsewhere} of 60 went to a processor with 500");
}

#[test]
fn a_pool_spawned_in_one_go_runs_on_every_processor() {
    let threads = run_on(2, || {
        let threads = Arc::new(Mutex::new(HashSet::new()));
        let workers: Vec<_> = (0..64)
            .map(|_| {
                let threads = threads.clone();
                spawn(move || {
                    threads.lock().unwrap().insert(thread::current().id());
                    park();
                })
            })
            .collect();
        // The root keeps its own thread busy, so that what was placed elsewhere stays there.
        yield_until(|| threads.lock().unwrap().len() == 2);
        workers.iter().for_each(|worker| worker.task().unpark());
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        threads.lock().unwrap().len()
    });
    assert_eq!(threads, 2);
}

#[test]
fn on_means_one_and_the_same_thread_for_each_number() {
    run_on(3, || {
        let mut threads: HashMap<usize, HashSet<ThreadId>> = HashMap::new();
        let tasks: Vec<_> = (0..600)
            .map(|i| {
                let task = Builder::new().placement(Placement::On(i % 3)).spawn(|| {
                    let began = thread::current().id();
                    yield_now();
                    (began, thread::current().id())
                });
                (i % 3, task.unwrap())
            })
            .collect();
        for (index, task) in tasks {
            let (began, ended) = task.join().unwrap();
            threads.entry(index).or_default().extend([began, ended]);
        }
        assert!(threads.values().all(|set| set.len() == 1), "{threads:?}");
        let all: HashSet<_> = threads.values().flatten().collect();
        assert_eq!(all.len(), 3, "{threads:?}");
    });
}

/// Also when the monitor has come to the help of what else is there.
#[test]
fn a_task_on_a_busy_processor_waits_for_it() {
    run_on(2, || {
        let (held, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let ran = Arc::new(AtomicUsize::new(0));
        // On the other processor than the root's, by trying both: the root's own thread is spoken for.
        let home = thread::current().id();
        let other = (0..2).find(|&i| {
            let task = Builder::new().placement(Placement::On(i)).spawn(|| thread::current().id()).unwrap();
            task.join().unwrap() != home
        });
        let on = || Builder::new().placement(Placement::On(other.unwrap()));
        let holder = on().spawn({
            let (held, release) = (held.clone(), release.clone());
            move || {
                held.store(true, SeqCst);
                spin_until(|| release.load(SeqCst));
                thread::current().id()
            }
        });
        yield_until(|| held.load(SeqCst));
        let bound = |count: usize| -> Vec<_> {
            let bind = |_| {
                let (ran, release) = (ran.clone(), release.clone());
                let task = on().spawn(move || {
                    assert!(release.load(SeqCst), "ran while its processor was held: elsewhere");
                    ran.fetch_add(1, SeqCst);
                    thread::current().id()
                });
                task.unwrap()
            };
            (0..count).map(bind).collect()
        };
        // Before, between and behind others that may be moved: half of these come to the processor that is held, and run nevertheless.
        let mut waiting = bound(3);
        for _ in 0..2 {
            let moved: Vec<_> =
                (0..4).map(|_| Builder::new().placement(Placement::Spread).spawn(|| thread::current().id()).unwrap()).collect();
            waiting.extend(bound(3));
            yield_until(|| moved.iter().all(JoinHandle::is_finished));
        }
        // A spare, or this processor, would have taken them, were they free to be taken.
        for _ in 0..100 {
            spawn(|| ()).join().unwrap();
        }
        assert_eq!(ran.load(SeqCst), 0);
        release.store(true, SeqCst);
        let there = holder.unwrap().join().unwrap();
        assert!(waiting.into_iter().all(|task| task.join().unwrap() == there));
    });
}

#[test]
fn on_a_processor_that_is_not_there_is_an_error() {
    run_on(2, || {
        let error = Builder::new().placement(Placement::On(2)).spawn(|| ()).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        assert_eq!(error.to_string(), "placement On(2): the runtime has 2 processors, numbered from 0");
        assert!(Builder::new().placement(Placement::On(usize::MAX)).spawn(|| ()).is_err());
    });
}
