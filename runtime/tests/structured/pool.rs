//! Worker pools: what is submitted runs once and in order, what is not says why, and nobody waits for what never comes.

use std::collections::HashSet;
use std::panic::panic_any;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use greenloom::pool::{JobHandle, TrySubmitError, WorkerPool};
use greenloom::{current, park, sleep, spawn, yield_now};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};
use test_support::{Counter, OnDrop, Ticks, run_on, runtime, spin_until, unless_it_hangs, yield_until};

/// A pool of one worker, which is at a job that ends when the flag is set.
fn busy_pool(capacity: usize) -> (WorkerPool, Arc<AtomicBool>, JobHandle<()>) {
    busy_pool_of(1, capacity)
}

/// A pool of so many workers, one of which is at such a job.
fn busy_pool_of(workers: usize, capacity: usize) -> (WorkerPool, Arc<AtomicBool>, JobHandle<()>) {
    let (pool, begun, go) =
        (WorkerPool::new(workers, capacity), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let job = pool.submit({
        let (begun, go) = (begun.clone(), go.clone());
        move || {
            begun.store(true, SeqCst);
            yield_until(|| go.load(SeqCst));
        }
    });
    yield_until(|| begun.load(SeqCst));
    (pool, go, job.unwrap())
}

#[test]
fn every_job_runs_once_and_its_handle_has_its_result() {
    in_tasks(|| {
        for capacity in [0, 1, 7] {
            let (pool, ran) = (WorkerPool::new(3, capacity), Counter::default());
            let jobs: Vec<_> = (0..200)
                .map(|i| {
                    let ran = ran.clone();
                    pool.submit(move || {
                        ran.add();
                        if i % 5 == 0 {
                            yield_now();
                        }
                        i
                    })
                    .unwrap()
                })
                .collect();
            assert!(jobs.into_iter().map(|job| job.join().unwrap()).eq(0..200));
            assert_eq!(ran.get(), 200);
        }
    });
}

#[test]
fn jobs_start_in_the_order_in_which_they_were_submitted() {
    in_tasks(|| {
        let (pool, order) = (WorkerPool::new(1, 4), Arc::new(Mutex::new(Vec::new())));
        for i in 0..100 {
            let order = order.clone();
            let _detached = pool.submit(move || order.lock().unwrap().push(i)).unwrap();
        }
        pool.close();
        assert!(order.lock().unwrap().iter().copied().eq(0..100));
    });
}

#[test]
fn workers_are_spread_over_the_processors() {
    run_on(2, || {
        let (pool, threads) = (WorkerPool::new(2, 0), Arc::new(Mutex::new(HashSet::<ThreadId>::new())));
        // Both workers are at a job at once.
        let jobs: Vec<_> = (0..2)
            .map(|_| {
                let threads = threads.clone();
                let job = move || {
                    threads.lock().unwrap().insert(thread::current().id());
                    yield_until(|| threads.lock().unwrap().len() == 2);
                };
                pool.submit(job).unwrap()
            })
            .collect();
        jobs.into_iter().for_each(|job| job.join().unwrap());
    });
}

/// Says that it runs, and holds its thread until so many do.
fn holds_until(running: &Counter, many: usize) -> impl FnOnce() + Send + 'static {
    let running = running.clone();
    move || {
        running.add();
        spin_until(|| running.get() >= many);
    }
}

#[test]
fn two_jobs_run_side_by_side_while_a_processor_has_nothing_to_do() {
    /// Holds its thread until another one does, too; whether that was soon.
    fn meets(running: &Counter) -> impl FnOnce() -> bool + Send + 'static {
        let running = running.clone();
        move || {
            running.add();
            let ticks = Ticks::start();
            spin_until(|| running.get() == 2 || ticks.count() > 500);
            running.get() == 2
        }
    }
    run_on(2, || {
        for (workers, capacity) in [(2, 0), (2, 16), (3, 0), (4, 16), (8, 0), (16, 16)] {
            let pool = WorkerPool::new(workers, capacity);
            let run_side_by_side = || {
                // By then all workers wait, and the other processor rests, unless the system has held that up.
                sleep(Duration::from_millis(2));
                let running = Counter::default();
                let jobs = [0; 2].map(|_| pool.submit(meets(&running)).unwrap());
                jobs.map(|job| job.join().unwrap()).iter().all(|&met| met)
            };
            assert!((0..20).any(|_| run_side_by_side()), "{workers} workers, capacity {capacity}");
        }
    });
}

#[test]
fn a_job_does_not_wait_for_its_submitter_while_a_processor_has_nothing_to_do() {
    run_on(2, || {
        let pool = WorkerPool::new(4, 4);
        for _ in 0..20 {
            sleep(Duration::from_millis(2));
            let ran = Counter::default();
            let job = pool.submit(holds_until(&ran, 1)).unwrap();
            spin_until(|| ran.get() == 1);
            job.join().unwrap();
        }
    });
}

#[test]
fn short_jobs_do_not_wait_behind_one_that_holds_its_thread() {
    for (workers, capacity) in [(2, 16), (4, 16), (8, 0)] {
        unless_it_hangs(move || {
            let runtime = runtime(2);
            let pool = WorkerPool::new_in(&runtime.handle(), workers, capacity);
            let running = Counter::default();
            let long = pool.submit(holds_until(&running, 2)).unwrap();
            for i in 0..200 {
                assert_eq!(pool.submit(move || i).unwrap().join().unwrap(), i);
            }
            running.add();
            long.join().unwrap();
        });
    }
}

#[test]
fn no_more_jobs_run_at_once_than_there_are_workers() {
    in_tasks(|| {
        let (pool, running, most) = (WorkerPool::new(3, 2), Counter::default(), Arc::new(Mutex::new(0)));
        let ended = Counter::default();
        for _ in 0..50 {
            let (running, ended, most) = (running.clone(), ended.clone(), most.clone());
            let job = move || {
                let _end = ended.on_drop();
                running.add();
                let now = running.get() - ended.get();
                let mut most = most.lock().unwrap();
                *most = now.max(*most);
                drop(most);
                let_others_run();
            };
            let _detached = pool.submit(job).unwrap();
        }
        pool.close();
        let most = *most.lock().unwrap();
        assert!((1..=3).contains(&most), "{most}");
    });
}

#[test]
fn a_full_pool_refuses_and_gives_the_job_back() {
    in_tasks(|| {
        let (pool, go, first) = busy_pool(1);
        let second = pool.try_submit(|| 2).unwrap();
        let word = String::from("kept");
        match pool.try_submit(move || word) {
            Err(TrySubmitError::Full(job)) => assert_eq!(job(), "kept"),
            other => panic!("{other:?}"),
        }
        go.store(true, SeqCst);
        first.join().unwrap();
        assert_eq!(second.join().unwrap(), 2);
    });
}

#[test]
fn a_pool_has_as_much_room_as_ever_after_many_jobs() {
    in_tasks(|| {
        for capacity in [0, 3] {
            let pool = WorkerPool::new(2, capacity);
            for round in 0..50 {
                let jobs: Vec<_> = (0..round % 7).map(|_| pool.submit(let_others_run).unwrap()).collect();
                jobs.into_iter().for_each(|job| job.join().unwrap());
            }
            let (begun, go) = (Counter::default(), Arc::new(AtomicBool::new(false)));
            let job = || {
                let (begun, go) = (begun.clone(), go.clone());
                move || {
                    begun.add();
                    yield_until(|| go.load(SeqCst));
                }
            };
            let running: Vec<_> = (0..2).map(|_| pool.submit(job()).unwrap()).collect();
            yield_until(|| begun.get() == 2);
            let queued: Vec<_> = std::iter::from_fn(|| pool.try_submit(job()).ok()).collect();
            assert_eq!(queued.len(), capacity);
            go.store(true, SeqCst);
            running.into_iter().chain(queued).for_each(|job| job.join().unwrap());
        }
    });
}

#[test]
fn a_job_that_cancels_its_own_task_ends_one_worker_and_leaves_the_queue_to_the_others() {
    in_tasks(|| {
        let (pool, go, running) = busy_pool_of(2, 4);
        let ends = || {
            current().cancel();
            yield_now();
        };
        let ends_one = pool.submit(ends).unwrap();
        let queued: Vec<_> = (0..3).map(|i| pool.submit(move || i).unwrap()).collect();
        assert!(ends_one.join().unwrap_err().is_cancelled());
        go.store(true, SeqCst);
        running.join().unwrap();
        assert!(queued.into_iter().map(|job| job.join().unwrap()).eq(0..3));
        let ends_the_last = pool.submit(ends).unwrap();
        assert!(ends_the_last.join().unwrap_err().is_cancelled());
        yield_until(|| pool.try_submit(|| ()).is_err_and(|error| error.is_closed()));
        assert_eq!(pool.submit(|| 5).unwrap_err().into_inner()(), 5);
    });
}

#[test]
fn submit_waits_for_room() {
    in_tasks(|| {
        let (pool, go, first) = busy_pool(1);
        let pool = Arc::new(pool);
        let _queued = pool.submit(|| ()).unwrap();
        let submitted = Arc::new(AtomicBool::new(false));
        let task = spawn_begun({
            let (pool, submitted) = (pool.clone(), submitted.clone());
            move || {
                let job = pool.submit(|| 3).unwrap();
                submitted.store(true, SeqCst);
                job.join().unwrap()
            }
        });
        let_others_run();
        assert!(!submitted.load(SeqCst));
        go.store(true, SeqCst);
        assert_eq!(task.join().unwrap(), 3);
        first.join().unwrap();
    });
}

#[test]
fn a_cancelled_submit_drops_the_job() {
    in_tasks(|| {
        let (pool, go, _first) = busy_pool(1);
        let (pool, dropped) = (Arc::new(pool), Counter::default());
        let queued = pool.submit(|| 2).unwrap();
        let task = spawn_begun({
            let (pool, guard) = (pool.clone(), dropped.on_drop());
            move || drop(pool.submit(move || drop(guard)))
        });
        let_others_run();
        cancel_and_join(task);
        assert_eq!(dropped.get(), 1);
        go.store(true, SeqCst);
        assert_eq!(queued.join().unwrap(), 2);
    });
}

#[test]
fn a_job_that_panics_tells_its_handle_and_spares_its_worker() {
    in_tasks(|| {
        let pool = WorkerPool::new(1, 4);
        let jobs: Vec<_> = (0..10).map(|i| pool.submit(move || if i % 2 == 0 { panic_any(i) } else { i }).unwrap()).collect();
        for (i, job) in (0..).zip(jobs) {
            match job.join() {
                Ok(value) => assert!(value == i && i % 2 == 1),
                Err(error) => assert_eq!(error.into_panic().downcast_ref(), Some(&i)),
            }
        }
        pool.close();
    });
}

#[test]
fn close_waits_for_all_that_was_submitted() {
    in_tasks(|| {
        let (pool, ran) = (WorkerPool::new(2, 20), Counter::default());
        for _ in 0..20 {
            let ran = ran.clone();
            let job = move || {
                let_others_run();
                ran.add();
            };
            let _detached = pool.submit(job).unwrap();
        }
        pool.close();
        assert_eq!(ran.get(), 20);
    });
}

#[test]
fn a_cancelled_close_cancels_the_jobs() {
    in_tasks(|| {
        let (pool, _go, running) = busy_pool(4);
        let queued = pool.submit(|| ()).unwrap();
        let task = spawn_begun(move || pool.close());
        let_others_run();
        cancel_and_join(task);
        assert!(running.join().unwrap_err().is_cancelled());
        assert!(queued.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn dropping_a_pool_cancels_what_runs_and_drops_what_is_queued() {
    in_tasks(|| {
        let (pool, begun, unwound, dropped) =
            (WorkerPool::new(2, 10), Counter::default(), Counter::default(), Counter::default());
        let running: Vec<_> = (0..2)
            .map(|_| {
                let (begun, guard) = (begun.clone(), unwound.on_drop());
                let job = move || {
                    let _guard = guard;
                    begun.add();
                    park();
                };
                pool.submit(job).unwrap()
            })
            .collect();
        yield_until(|| begun.get() == 2);
        let queued: Vec<_> = (0..10)
            .map(|_| {
                let guard = dropped.on_drop();
                pool.submit(move || drop::<test_support::CountsDrop>(guard)).unwrap()
            })
            .collect();
        drop(pool);
        for job in running.into_iter().chain(queued) {
            assert!(job.join().unwrap_err().is_cancelled());
        }
        yield_until(|| dropped.get() == 10);
        assert_eq!(unwound.get(), 2);
    });
}

#[test]
fn what_is_queued_does_not_wait_for_a_worker_that_unwinds_when_the_pool_is_dropped() {
    in_tasks(|| {
        let (pool, begun, go) = (WorkerPool::new(2, 1), Counter::default(), Arc::new(AtomicBool::new(false)));
        let job = |begun: Counter, goodbye: Box<dyn FnOnce() + Send>| {
            move || {
                let _goodbye = OnDrop::new(goodbye);
                begun.add();
                park();
            }
        };
        let long: Box<dyn FnOnce() + Send> = Box::new({
            let go = go.clone();
            move || yield_until(|| go.load(SeqCst))
        });
        let running = [long, Box::new(|| ())].map(|goodbye| pool.submit(job(begun.clone(), goodbye)).unwrap());
        yield_until(|| begun.get() == 2);
        let queued = pool.submit(|| ()).unwrap();
        drop(pool);
        assert!(queued.join().unwrap_err().is_cancelled());
        assert!(!running[0].is_finished());
        go.store(true, SeqCst);
        running.into_iter().for_each(|job| assert!(job.join().unwrap_err().is_cancelled()));
    });
}

#[test]
fn a_queued_job_whose_destructor_panics_hurts_nobody() {
    in_tasks(|| {
        let (pool, _go, running) = busy_pool(4);
        let jobs: Vec<_> = (0..3)
            .map(|_| {
                let guard = OnDrop::new(|| panic!("a destructor"));
                pool.submit(move || drop(guard)).unwrap()
            })
            .collect();
        drop(pool);
        assert!(running.join().unwrap_err().is_cancelled());
        jobs.into_iter().for_each(|job| assert!(job.join().unwrap_err().is_cancelled()));
    });
}

#[test]
fn results_that_nobody_joins_are_dropped_once() {
    in_tasks(|| {
        let (pool, dropped) = (WorkerPool::new(2, 4), Counter::default());
        for i in 0..20 {
            let result = dropped.clone();
            let job = pool.submit(move || result.on_drop()).unwrap();
            if i % 2 == 0 {
                let_others_run();
            }
            drop(job);
        }
        pool.close();
        assert_eq!(dropped.get(), 20);
    });
}

#[test]
fn a_handle_tells_whether_its_job_has_ended() {
    in_tasks(|| {
        let (pool, go, running) = busy_pool(4);
        let (next, panics) = (pool.submit(|| 1).unwrap(), pool.submit(|| panic!("no luck")).unwrap());
        assert!(!running.is_finished() && !next.is_finished() && format!("{next:?}").contains("false"));
        go.store(true, SeqCst);
        pool.close();
        assert!(running.is_finished() && next.is_finished() && panics.is_finished());
        assert!(panics.join().unwrap_err().is_panic() && format!("{next:?}").contains("true"));
        let (pool, _go, running) = busy_pool(4);
        let queued = pool.submit(|| ()).unwrap();
        assert!(!running.is_finished() && !queued.is_finished());
        drop(pool);
        yield_until(|| running.is_finished() && queued.is_finished());
        assert!(queued.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn a_result_outlives_its_pool() {
    in_tasks(|| {
        let pool = WorkerPool::new(1, 1);
        let job = pool.submit(|| vec![1, 2]).unwrap();
        pool.close();
        assert_eq!(job.join().unwrap(), [1, 2]);
    });
}

#[test]
fn many_submit_to_a_pool_without_a_queue() {
    in_tasks(|| {
        let (pool, ran) = (Arc::new(WorkerPool::new(2, 0)), Counter::default());
        let submitters: Vec<_> = (0..20)
            .map(|i| {
                let (pool, ran) = (pool.clone(), ran.clone());
                spawn(move || {
                    let job = move || {
                        ran.add();
                        i
                    };
                    pool.submit(job).unwrap().join().unwrap()
                })
            })
            .collect();
        assert_eq!(submitters.into_iter().map(|submitter| submitter.join().unwrap()).sum::<usize>(), 190);
        assert_eq!(ran.get(), 20);
    });
}

#[test]
fn jobs_may_submit_and_join_jobs() {
    in_tasks(|| {
        let pool = Arc::new(WorkerPool::new(2, 4));
        let job = pool.submit({
            let pool = pool.clone();
            move || pool.submit(|| 20).unwrap().join().unwrap() + 1
        });
        assert_eq!(job.unwrap().join().unwrap(), 21);
    });
}

#[test]
fn where_the_runtime_has_ended_handles_do_not_hang_and_jobs_come_back() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let pool = WorkerPool::new_in(&runtime.handle(), 1, 3);
        let running = pool.submit(park).unwrap();
        let queued = pool.submit(|| ()).unwrap();
        drop(runtime);
        assert!(running.join().unwrap_err().is_cancelled());
        assert!(queued.join().unwrap_err().is_cancelled());
        assert_eq!(pool.submit(|| 5).unwrap_err().into_inner()(), 5);
        assert!(pool.try_submit(|| 5).unwrap_err().is_closed());
        pool.close();
    });
}

#[test]
fn who_waits_for_room_has_its_job_back_when_the_runtime_ends() {
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let pool = Arc::new(WorkerPool::new_in(&runtime.handle(), 1, 0));
        let _running = pool.submit(park).unwrap();
        // One more may have been taken by the worker before it began.
        let threads: Vec<_> = (0..3)
            .map(|i| {
                let pool = pool.clone();
                thread::spawn(move || pool.submit(move || i).map_err(|error| error.into_inner()()).err())
            })
            .collect();
        drop(runtime);
        for (i, thread) in (0..).zip(threads) {
            assert!(thread.join().unwrap().is_none_or(|back| back == i));
        }
    });
}

#[test]
fn plain_threads_submit_join_and_close() {
    unless_it_hangs(|| {
        let runtime = runtime(2);
        let pool = WorkerPool::new_in(&runtime.handle(), 2, 1);
        let jobs: Vec<_> = (0..50).map(|i| pool.submit(move || i).unwrap()).collect();
        assert!(jobs.into_iter().map(|job| job.join().unwrap()).eq(0..50));
        pool.close();
    });
}

#[test]
#[should_panic(expected = "without workers")]
fn a_pool_without_workers_is_refused() {
    run_on(1, || drop(WorkerPool::new(0, 1)));
}

#[test]
#[should_panic(expected = "outside a runtime")]
fn outside_a_runtime_a_pool_is_refused() {
    drop(WorkerPool::new(1, 1));
}

#[test]
fn submitters_and_a_drop_meet_in_any_order() {
    in_tasks(|| {
        for seed in 0..200 {
            let (dropped, pool) = (Counter::default(), WorkerPool::new(1 + seed % 3, seed % 4));
            let jobs: Vec<_> = (0..seed % 7)
                .filter_map(|i| {
                    let guard = dropped.on_drop();
                    let job = move || {
                        let _guard = guard;
                        (0..i).for_each(|_| yield_now());
                    };
                    pool.try_submit(job).ok()
                })
                .collect();
            (0..seed % 5).for_each(|_| yield_now());
            let closer = spawn(move || if seed % 2 == 0 { pool.close() } else { drop(pool) });
            for job in jobs {
                assert!(job.join().map_or_else(|error| error.is_cancelled() && seed % 2 == 1, |()| true));
            }
            closer.join().unwrap();
            yield_until(|| dropped.get() == seed % 7);
        }
    });
}
