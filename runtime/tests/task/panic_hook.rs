//! A panic hook, or a `Debug` in a panic's message, that waits: the panic's own task is suspended in it, and nobody else notices.
//!
//! Each in a process of its own, whose hook it sets. On one processor, so that all tasks share a thread.

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use greenloom::channel::{Sender, bounded};
use greenloom::sync::Mutex;
use greenloom::time::timeout;
use greenloom::{JoinHandle, park, spawn, yield_now};
use test_support::{Counter, OnDrop, in_child, run_on};

const SHORT: Duration = Duration::from_millis(2);
const SENTENCE: &str = "waits in the panic hook, or in a Debug or Display in a panic's message";

/// A hook that hands over what it hears, to who receives it later.
fn hand_over(sender: Sender<String>) {
    std::panic::set_hook(Box::new(move |info| {
        let what = info.payload().downcast_ref::<&str>().map_or("?", |what| what);
        sender.send(what.to_owned()).unwrap();
    }));
}

/// A hook that says nothing.
fn be_silent() {
    std::panic::set_hook(Box::new(|_| ()));
}

/// This thread's count of panics is zero, and what depends on it works.
#[track_caller]
fn assert_count_is_right() {
    be_silent();
    // std looks at a thread's own count only while some thread of the process panics.
    let ((unwinds, is_unwinding), (go_on, wait)) = (mpsc::channel(), mpsc::channel::<()>());
    let other = std::thread::spawn(move || {
        let _waits = OnDrop::new(|| {
            unwinds.send(()).unwrap();
            wait.recv().unwrap();
        });
        panic!("elsewhere");
    });
    is_unwinding.recv().unwrap();
    assert!(!std::thread::panicking());
    let mutex = StdMutex::new(());
    drop(mutex.lock());
    assert!(!mutex.is_poisoned());
    go_on.send(()).unwrap();
    other.join().unwrap_err();
    // A panic counts as one.
    let poisons = std::panic::catch_unwind(|| {
        let _guard = mutex.lock().unwrap();
        panic!("poisons");
    });
    assert!(poisons.is_err() && mutex.is_poisoned() && !std::thread::panicking());
    // Limits and cancellations come, and destructors may wait.
    assert!(timeout(SHORT, park).is_err());
    let waited = Counter::default();
    let task = spawn({
        let waited = waited.clone();
        move || {
            let _waits = OnDrop::new(|| {
                yield_now();
                waited.add();
            });
            park();
        }
    });
    yield_now();
    task.cancel();
    assert!(task.join().unwrap_err().is_cancelled());
    assert_eq!(waited.get(), 1);
}

#[track_caller]
fn message(task: JoinHandle<()>) -> String {
    task.join().unwrap_err().to_string()
}

#[test]
fn a_hook_may_hand_over_to_a_task_of_its_thread() {
    let child = in_child!("a_hook_may_hand_over_to_a_task_of_its_thread", || {
        let (sender, receiver) = bounded(0);
        hand_over(sender);
        run_on(1, move || {
            let panics = ["a", "b", "c"].map(|what| spawn(move || std::panic::panic_any(what)));
            (0..10).for_each(|_| yield_now());
            let mut heard = [(); 3].map(|()| receiver.recv().unwrap());
            heard.sort();
            assert_eq!(heard, ["a", "b", "c"]);
            assert_eq!(panics.map(message), ["task panicked: a", "task panicked: b", "task panicked: c"]);
            assert_count_is_right();
        });
    });
    child.assert_success();
    assert_eq!(child.stderr.matches(SENTENCE).count(), 1, "{}", child.stderr);
}

#[test]
fn a_hook_may_wait_often() {
    let child = in_child!("a_hook_may_wait_often", || {
        std::panic::set_hook(Box::new(|_| {
            for _ in 0..10 {
                yield_now();
                greenloom::sleep(Duration::from_micros(100));
            }
        }));
        run_on(1, || {
            let panics: Vec<_> = (0..10).map(|_| spawn(|| panic!("often"))).collect();
            panics.into_iter().for_each(|task| assert_eq!(message(task), "task panicked: often"));
            assert_count_is_right();
        });
    });
    child.assert_success();
}

#[test]
fn others_are_ended_while_a_hook_waits() {
    let child = in_child!("others_are_ended_while_a_hook_waits", || {
        let (sender, receiver) = bounded(0);
        hand_over(sender);
        run_on(1, move || {
            let before = spawn(park);
            yield_now();
            let panics = spawn(|| panic!("a"));
            yield_now();
            let meanwhile = spawn(park);
            yield_now();
            for task in [before, meanwhile] {
                task.cancel();
                assert!(task.join().unwrap_err().is_cancelled());
            }
            assert!(timeout(SHORT, park).is_err());
            assert!(!std::thread::panicking());
            assert_eq!(receiver.recv().unwrap(), "a");
            assert_eq!(message(panics), "task panicked: a");
            assert_count_is_right();
        });
    });
    child.assert_success();
}

#[test]
fn neither_a_limit_nor_a_cancellation_ends_a_hook() {
    let child = in_child!("neither_a_limit_nor_a_cancellation_ends_a_hook", || {
        let (sender, receiver) = bounded(0);
        hand_over(sender);
        run_on(1, move || {
            let cancelled = spawn(|| panic!("cancelled"));
            yield_now();
            cancelled.cancel();
            (0..10).for_each(|_| yield_now());
            assert!(!cancelled.is_finished());
            assert_eq!(receiver.recv().unwrap(), "cancelled");
            assert_eq!(message(cancelled), "task panicked: cancelled");

            // Over while the hook waits; or before the panic, which is no place to end anything.
            let limited = spawn(|| timeout(SHORT, || panic!("limited")).unwrap());
            greenloom::sleep(10 * SHORT);
            assert!(!limited.is_finished());
            assert_eq!(receiver.recv().unwrap(), "limited");
            assert_eq!(message(limited), "task panicked: limited");
            assert_count_is_right();
        });
    });
    child.assert_success();
}

/// Takes a lock to show what is behind it.
struct Locked(Arc<Mutex<u32>>);

impl fmt::Debug for Locked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Locked({})", self.0.lock().unwrap())
    }
}

#[test]
fn a_message_may_wait_for_a_lock() {
    let child = in_child!("a_message_may_wait_for_a_lock", || {
        run_on(1, || {
            let mutex = Arc::new(Mutex::new(1));
            let held = mutex.lock().unwrap();
            let shows = spawn({
                let locked = Locked(mutex.clone());
                move || panic!("{locked:?}")
            });
            yield_now();
            // It waits for the lock by now.
            let other = spawn(|| panic!("meanwhile"));
            assert_eq!(message(other), "task panicked: meanwhile");
            drop(held);
            assert_eq!(message(shows), "task panicked: Locked(1)");
            assert!(!mutex.is_poisoned());
            assert_count_is_right();
        });
    });
    child.assert_success();
    child.assert_said(SENTENCE);
}

#[test]
fn a_hook_that_panics_after_it_has_waited_ends_the_process_as_ever() {
    let child = in_child!("a_hook_that_panics_after_it_has_waited_ends_the_process_as_ever", || {
        std::panic::set_hook(Box::new(|_| {
            yield_now();
            panic!("in the hook");
        }));
        run_on(1, || _ = spawn(|| panic!("a")).join());
    });
    child.assert_aborted();
    child.assert_said("thread panicked while processing panic");
}

#[test]
fn a_hook_may_wait_on_a_plain_thread() {
    let child = in_child!("a_hook_may_wait_on_a_plain_thread", || {
        let (sender, receiver) = bounded(0);
        hand_over(sender);
        let thread = std::thread::spawn(|| panic!("a"));
        assert_eq!(receiver.recv().unwrap(), "a");
        thread.join().unwrap_err();
    });
    child.assert_success();
    assert!(!child.stderr.contains(SENTENCE), "{}", child.stderr);
}
