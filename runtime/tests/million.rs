//! A million tasks in one runtime, with default settings of the system. Alone in its binary, for the sake of memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use greenloom::{Runtime, park, spawn, yield_now};

#[test]
fn a_million_started_tasks_are_parked_at_once_and_all_end() {
    const TASKS: u64 = 1_000_000;
    // The usual size of a release build: a million of a debug build's would need some 3 GB more, for page tables.
    let runtime = Runtime::builder().processors(2).stack_size(128 << 10).build().unwrap();
    let ended = runtime.run(|| {
        let (started, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let go = Arc::new(AtomicBool::new(false));
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let (started, ended, go) = (started.clone(), ended.clone(), go.clone());
                spawn(move || {
                    started.fetch_add(1, SeqCst);
                    while !go.load(SeqCst) {
                        park();
                    }
                    ended.fetch_add(1, SeqCst);
                })
            })
            .collect();
        while started.load(SeqCst) < TASKS {
            yield_now();
        }
        assert_eq!(ended.load(SeqCst), 0);
        go.store(true, SeqCst);
        for task in &tasks {
            task.task().unpark();
        }
        tasks.into_iter().for_each(|task| task.join().unwrap());
        ended.load(SeqCst)
    });
    assert_eq!(ended, TASKS);
}
