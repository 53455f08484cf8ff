//! Who holds its thread and keeps others waiting is named on stderr; nobody else is.

use std::io::{BufRead, BufReader};
use std::os::fd::FromRawFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use greenloom::task::Builder;
use greenloom::{park, spawn, yield_now};
use test_support::{in_child, run_on, spin_until, yield_until};

/// What is said on this process's stderr from now on, line by line.
fn overhear() -> impl Iterator<Item = String> {
    let mut ends = [0; 2];
    // SAFETY: makes two descriptors, which are the caller's alone; one takes stderr's place, the other becomes the file's.
    let read = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        assert!(libc::dup2(ends[1], libc::STDERR_FILENO) >= 0);
        std::fs::File::from_raw_fd(ends[0])
    };
    BufReader::new(read).lines().map(Result::unwrap)
}

#[test]
fn a_task_that_holds_its_thread_is_named_if_others_wait_for_it() {
    let child = in_child!("a_task_that_holds_its_thread_is_named_if_others_wait_for_it", || {
        let mut said = overhear();
        run_on(1, move || {
            let others = [spawn(park), spawn(park)];
            yield_now();
            let named = Arc::new(AtomicBool::new(false));
            let holder = Builder::new().name("holder").spawn({
                let named = named.clone();
                move || spin_until(|| named.load(SeqCst))
            });
            std::thread::spawn(move || {
                println!("{}", said.find(|line| line.contains("has held its thread for ")).unwrap());
                named.store(true, SeqCst);
            });
            holder.unwrap().join().unwrap();
            others.iter().for_each(|task| task.task().unpark());
        });
    });
    child.assert_success();
    let line = child.stdout.lines().find(|line| line.contains("holder")).unwrap_or_default();
    assert!(line.contains("greenloom: task 'holder' (id ") && line.contains("3 tasks that started there cannot run"), "{line}");
}

#[test]
fn a_task_is_not_named_for_a_time_in_which_the_process_was_stopped() {
    let child = in_child!("a_task_is_not_named_for_a_time_in_which_the_process_was_stopped", || {
        run_on(1, || {
            let other = spawn(park);
            let ended = Arc::new(AtomicBool::new(false));
            std::thread::spawn({
                let ended = ended.clone();
                move || {
                    let stop = "kill -STOP $PPID && sleep 1.3; kill -CONT $PPID";
                    let status = Command::new("sh").args(["-c", stop]).status();
                    // Time for the monitor to look.
                    std::thread::sleep(Duration::from_millis(100));
                    ended.store(true, SeqCst);
                    assert!(status.unwrap().success());
                }
            });
            // Some work for each turn.
            yield_until(|| {
                let began = Instant::now();
                spin_until(|| began.elapsed() > Duration::from_millis(5));
                ended.load(SeqCst)
            });
            other.task().unpark();
        });
    });
    child.assert_success();
    assert!(!child.stderr.contains("has held its thread"), "{}", child.stderr);
}
