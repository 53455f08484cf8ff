//! Closures, results and payloads are dropped exactly once, and where a destructor may rely on who it runs as.

use std::sync::{Arc, Mutex};

use greenloom::channel::{Sender, bounded, unbounded};
use greenloom::{JoinHandle, Runtime, current, park, spawn, spawn_local, yield_now};
use test_support::{Counter, CountsDrop, Slot, run_on, runtime, unless_it_hangs, yield_until};

/// What is dropped on each path.
#[derive(Clone, Default)]
struct Ledger {
    closure: Counter,
    result: Counter,
    payload: Counter,
}

/// How a task ends by itself.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Returns,
    Panics,
}

impl Ledger {
    /// A task that holds something in its closure, waits by `wait`, and ends with a result or a payload.
    fn task(&self, end: End, wait: impl FnOnce() + Send + 'static) -> impl FnOnce() -> CountsDrop + Send + 'static {
        let (held, result, payload) = (self.closure.on_drop(), self.result.on_drop(), self.payload.on_drop());
        move || {
            let _held = held;
            wait();
            match end {
                End::Returns => {
                    drop(payload);
                    result
                }
                End::Panics => std::panic::panic_any(payload),
            }
        }
    }

    /// All three were made once, so all three are dropped once, however the task ends.
    fn all(&self) -> [usize; 3] {
        [self.closure.get(), self.result.get(), self.payload.get()]
    }
}

const ENDS: [End; 2] = [End::Returns, End::Panics];

#[test]
fn joined_after_the_end() {
    run_on(1, || {
        for end in ENDS {
            let ledger = Ledger::default();
            let task = spawn(ledger.task(end, yield_now));
            yield_until(|| task.is_finished());
            let outcome = task.join();
            // The result, or the payload, is the joiner's now.
            assert_eq!(ledger.all(), if end == End::Returns { [1, 0, 1] } else { [1, 1, 0] });
            drop(outcome);
            assert_eq!(ledger.all(), [1, 1, 1]);
        }
    });
}

#[test]
fn joined_before_the_end() {
    run_on(2, || {
        for end in ENDS {
            let ledger = Ledger::default();
            drop(spawn(ledger.task(end, yield_now)).join());
            assert_eq!(ledger.all(), [1, 1, 1]);
        }
    });
}

#[test]
fn detached_before_the_end() {
    run_on(1, || {
        for end in ENDS {
            let ledger = Ledger::default();
            drop(spawn(ledger.task(end, yield_now)));
            assert_eq!(ledger.all(), [0, 0, 0]);
            yield_until(|| ledger.all() == [1, 1, 1]);
        }
    });
}

#[test]
fn detached_after_the_end() {
    run_on(1, || {
        for end in ENDS {
            let ledger = Ledger::default();
            let task = spawn(ledger.task(end, yield_now));
            yield_until(|| task.is_finished());
            assert_ne!(ledger.all(), [1, 1, 1], "nobody has asked for the result yet");
            drop(task);
            assert_eq!(ledger.all(), [1, 1, 1]);
        }
    });
}

#[test]
fn a_task_handle_keeps_neither_closure_nor_result() {
    run_on(1, || {
        let ledger = Ledger::default();
        let task = spawn(ledger.task(End::Returns, yield_now));
        let name = task.task();
        drop(task);
        yield_until(|| ledger.all() == [1, 1, 1]);
        name.unpark();
    });
}

#[test]
fn a_joiner_that_is_cancelled_leaves_the_result_to_the_task() {
    run_on(1, || {
        let ledger = Ledger::default();
        let child = spawn(ledger.task(End::Returns, park));
        let (waker, joining) = (child.task(), Counter::default());
        let joiner = spawn({
            let joining = joining.clone();
            move || {
                joining.add();
                drop(child.join());
            }
        });
        yield_until(|| joining.get() == 1);
        joiner.cancel();
        assert!(joiner.join().is_err());
        assert_eq!(ledger.all(), [0, 0, 0]);
        waker.unpark();
        yield_until(|| ledger.all() == [1, 1, 1]);
    });
}

/// Cancels a task in some state, with its handle joined or dropped; all is dropped once.
fn cancelled(get_there: fn(&Ledger) -> JoinHandle<CountsDrop>) {
    run_on(1, move || {
        let ledger = Ledger::default();
        let task = get_there(&ledger);
        task.cancel();
        assert!(task.join().unwrap_err().is_cancelled());
        assert_eq!(ledger.all(), [1, 1, 1]);

        let ledger = Ledger::default();
        let task = get_there(&ledger);
        task.cancel();
        drop(task);
        yield_until(|| ledger.all() == [1, 1, 1]);
    });
}

#[test]
fn cancelled_fresh() {
    cancelled(|ledger| spawn(ledger.task(End::Returns, || ())));
}

fn started(ledger: &Ledger, wait: fn()) -> JoinHandle<CountsDrop> {
    let begun = Counter::default();
    let task = spawn(ledger.task(End::Returns, {
        let begun = begun.clone();
        move || {
            begun.add();
            wait();
        }
    }));
    yield_until(|| begun.get() == 1);
    task
}

#[test]
fn cancelled_parked() {
    cancelled(|ledger| started(ledger, park));
}

#[test]
fn cancelled_ready() {
    cancelled(|ledger| started(ledger, || yield_until(|| false)));
}

#[test]
fn cancelled_in_join() {
    cancelled(|ledger| started(ledger, || drop(spawn(park).join())));
}

/// Drops the runtime over a task in some state.
fn shut_down(get_there: impl Fn(&Runtime, &Ledger) -> JoinHandle<CountsDrop> + Send + 'static) {
    unless_it_hangs(move || {
        for keep_handle in [true, false] {
            let ledger = Ledger::default();
            let runtime = runtime(1);
            let task = get_there(&runtime, &ledger);
            let task = keep_handle.then_some(task);
            drop(runtime);
            assert_eq!(ledger.all(), [1, 1, 1], "the handle was kept: {keep_handle}");
            if let Some(task) = task {
                assert!(task.join().unwrap_err().is_cancelled());
            }
            assert_eq!(ledger.all(), [1, 1, 1]);
        }
    });
}

#[test]
fn shut_down_parked() {
    shut_down(|runtime, ledger| {
        let ledger = ledger.clone();
        runtime.run(move || started(&ledger, park))
    });
}

#[test]
fn shut_down_ready() {
    shut_down(|runtime, ledger| {
        let ledger = ledger.clone();
        runtime.run(move || started(&ledger, || yield_until(|| false)))
    });
}

#[test]
fn shut_down_in_join() {
    shut_down(|runtime, ledger| {
        let ledger = ledger.clone();
        runtime.run(move || started(&ledger, || drop(spawn(park).join())))
    });
}

#[test]
fn shut_down_fresh() {
    const TASKS: usize = 1000;
    unless_it_hangs(|| {
        let ledger = Ledger::default();
        let (runtime, tasks) = (runtime(1), Slot::new());
        let root = runtime.handle().spawn({
            let (ledger, tasks) = (ledger.clone(), tasks.clone());
            move || {
                // On its only processor, so that none of them has run when the end begins.
                tasks.put((0..TASKS).map(|_| spawn(ledger.task(End::Returns, || ()))).collect::<Vec<_>>());
                drop(runtime);
            }
        });
        root.join().unwrap();
        // A few may still run before the processor has noticed.
        let cancelled =
            tasks.take().unwrap().into_iter().filter_map(|task| task.join().err()).filter(|e| e.is_cancelled()).count();
        assert!(cancelled > TASKS / 2, "only {cancelled} were cancelled");
        assert_eq!(ledger.all(), [TASKS; 3]);
    });
}

#[test]
fn shut_down_after_the_end_with_the_result_unread() {
    unless_it_hangs(|| {
        let ledger = Ledger::default();
        let runtime = runtime(1);
        let task = runtime.spawn(ledger.task(End::Returns, yield_now));
        yield_until(|| task.is_finished());
        drop(runtime);
        assert_eq!(ledger.result.get(), 0);
        let result = task.join().unwrap();
        assert_eq!(ledger.result.get(), 0);
        drop(result);
        assert_eq!(ledger.all(), [1, 1, 1]);
    });
}

#[test]
fn thousands_on_every_path_at_once() {
    unless_it_hangs(|| {
        let ledger = Ledger::default();
        let runtime = runtime(2);
        let handle = runtime.handle();
        runtime.run({
            let ledger = ledger.clone();
            move || {
                let mut kept = Vec::new();
                for i in 0..6000 {
                    let end = ENDS[i % 2];
                    let wait: fn() = [|| (), yield_now, park][i / 2 % 3];
                    let task = spawn(ledger.task(end, wait));
                    match i / 6 % 5 {
                        0 => drop(task),
                        1 => task.cancel(),
                        2 => task.task().unpark(),
                        3 => kept.push(task),
                        _ => {
                            task.cancel();
                            drop(task.join());
                        }
                    }
                }
                kept.into_iter().skip(500).for_each(|task| task.cancel());
            }
        });
        drop(runtime);
        assert_eq!(ledger.all(), [6000; 3]);
        // Those after the end, too.
        for _ in 0..10 {
            drop(handle.spawn(ledger.task(End::Returns, || ())));
        }
        assert_eq!(ledger.all(), [6010; 3]);
    });
}

/// Notes as whom it is dropped.
struct Notes(Arc<Mutex<Vec<(&'static str, u64)>>>, &'static str);

impl Drop for Notes {
    fn drop(&mut self) {
        self.0.lock().unwrap().push((self.1, current().id()));
    }
}

#[test]
fn closures_and_unread_results_are_dropped_by_their_task_itself() {
    run_on(1, || {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let (closure, result) = (Notes(notes.clone(), "closure"), Notes(notes.clone(), "result"));
        let task = spawn(move || {
            let _closure = closure;
            yield_now();
            result
        });
        let id = task.task().id();
        drop(task);
        yield_until(|| notes.lock().unwrap().len() == 2);
        assert_eq!(*notes.lock().unwrap(), [("closure", id), ("result", id)]);
    });
}

#[test]
fn unread_payloads_are_dropped_by_their_task_itself() {
    run_on(1, || {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let payload = Notes(notes.clone(), "payload");
        let task = spawn(move || std::panic::panic_any(payload));
        let id = task.task().id();
        drop(task);
        yield_until(|| notes.lock().unwrap().len() == 1);
        assert_eq!(*notes.lock().unwrap(), [("payload", id)]);
    });
}

#[test]
fn the_closure_of_a_task_cancelled_fresh_is_dropped_by_that_task_and_may_suspend() {
    struct Suspends {
        _notes: Notes,
    }
    impl Drop for Suspends {
        fn drop(&mut self) {
            yield_now();
        }
    }
    run_on(1, || {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let closure = Suspends { _notes: Notes(notes.clone(), "closure") };
        let task = spawn(move || {
            let _closure = &closure;
            panic!("ran");
        });
        let id = task.task().id();
        task.cancel();
        drop(task.join());
        assert_eq!(*notes.lock().unwrap(), [("closure", id)]);
    });
}

#[test]
fn a_result_dropped_with_its_handle_is_dropped_by_who_drops_that() {
    run_on(1, || {
        let notes = Arc::new(Mutex::new(Vec::new()));
        let result = Notes(notes.clone(), "result");
        let task = spawn(move || result);
        yield_until(|| task.is_finished());
        let dropper = spawn(move || drop(task));
        let id = dropper.task().id();
        dropper.join().unwrap();
        assert_eq!(*notes.lock().unwrap(), [("result", id)]);
    });
}

#[test]
fn a_result_whose_handle_goes_at_the_very_end_is_dropped_by_somebody_who_is_there() {
    // The handle is dropped while its task completes. Whoever of the two drops the result, its destructor may ask who it runs as.
    const ROUNDS: usize = 100_000;
    unless_it_hangs(|| {
        let runtime = runtime(1);
        let notes = Arc::new(Mutex::new(Vec::new()));
        let me = current().id();
        let mut own = Vec::new();
        for round in 0..ROUNDS {
            let result = Notes(notes.clone(), "result");
            let begun = Counter::default();
            let task = runtime.spawn({
                let begun = begun.clone();
                move || {
                    begun.add();
                    result
                }
            });
            own.push(task.task().id());
            // The moments after the task has said so, one after another.
            test_support::spin_until(|| begun.get() == 1);
            for _ in 0..round % 64 {
                std::hint::spin_loop();
            }
            drop(task);
        }
        yield_until(|| notes.lock().unwrap().len() == ROUNDS);
        for (id, (_, by)) in own.into_iter().zip(notes.lock().unwrap().iter()) {
            assert!(*by == id || *by == me, "task {id}'s result was dropped by {by}");
        }
    });
}

#[test]
fn local_closures_and_results_are_dropped_on_their_thread() {
    run_on(2, || {
        let dropped_on = Arc::new(Mutex::new(Vec::new()));
        struct NotesThread(Arc<Mutex<Vec<std::thread::ThreadId>>>);
        impl Drop for NotesThread {
            fn drop(&mut self) {
                self.0.lock().unwrap().push(std::thread::current().id());
            }
        }
        for cancel in [false, true] {
            let (closure, result) = (NotesThread(dropped_on.clone()), NotesThread(dropped_on.clone()));
            let task = spawn_local(move || {
                let _closure = closure;
                yield_now();
                result
            });
            if cancel {
                task.cancel();
            }
            drop(task);
        }
        yield_until(|| dropped_on.lock().unwrap().len() == 4);
        assert!(dropped_on.lock().unwrap().iter().all(|&id| id == std::thread::current().id()));
    });
}

/// A message that asks its channel when it is dropped.
struct Asks {
    sender: Sender<Asks>,
    dropped: Counter,
}

impl Drop for Asks {
    fn drop(&mut self) {
        assert!(self.sender.is_empty());
        self.dropped.add();
    }
}

#[test]
fn what_is_left_in_a_channel_may_use_it_when_it_is_dropped_with_the_last_receiver() {
    let dropped = Counter::default();
    for (sender, receiver) in [bounded(3), unbounded()] {
        for _ in 0..3 {
            sender.send(Asks { sender: sender.clone(), dropped: dropped.clone() }).unwrap();
        }
        unless_it_hangs(move || drop(receiver));
    }
    assert_eq!(dropped.get(), 6);
}
