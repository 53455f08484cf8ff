//! Hooks at switches: when they are called, what they keep, what they may do.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use greenloom::channel::{self, Sender};
use greenloom::sync::Semaphore;
use greenloom::task::Builder;
use greenloom::{Runtime, SwitchHook, Task, park, sleep, spawn, yield_now};
use test_support::{Counter, OnDrop, in_child, unless_it_hangs};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Start,
    Enter,
    Leave,
    End,
}

use Event::{End, Enter, Leave, Start};

/// Writes down all of its calls; its slot is the task's number.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<(ThreadId, u64, Event)>>>);

impl Log {
    fn note(&self, task: u64, event: Event) {
        self.0.lock().unwrap().push((thread::current().id(), task, event));
    }

    fn take(&self) -> Vec<(ThreadId, u64, Event)> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl SwitchHook for Log {
    type Slot = u64;

    fn start(&self, task: &Task) -> u64 {
        self.note(task.id(), Start);
        task.id()
    }

    fn enter(&self, task: &Task, slot: &mut u64) {
        assert_eq!(task.id(), *slot);
        self.note(*slot, Enter);
    }

    fn leave(&self, task: &Task, slot: &mut u64) {
        assert_eq!(task.id(), *slot);
        self.note(*slot, Leave);
    }

    fn end(&self, task: &Task, slot: u64) {
        assert_eq!(task.id(), slot);
        self.note(slot, End);
    }
}

/// Runs `root` with the hook on so many processors, and ends the runtime.
fn run_with<H: SwitchHook>(processors: usize, hook: H, root: impl FnOnce() + Send + 'static) {
    unless_it_hangs(move || {
        let runtime = Runtime::builder().processors(processors).on_switch(hook).build().unwrap();
        runtime.run(root);
        assert!(runtime.shutdown(Duration::from_secs(50)).is_clean());
    });
}

/// Tasks that end in each way, and suspend in many.
fn mixture() {
    let (tx, rx) = channel::bounded(0);
    let mut tasks: Vec<_> = (0..50)
        .map(|i| {
            let tx = tx.clone();
            spawn(move || match i % 5 {
                0 => park(),
                1 => tx.send(i).unwrap(),
                2 => (0..i).for_each(|_| yield_now()),
                3 => {
                    let _suspends = OnDrop::new(yield_now);
                    std::panic::resume_unwind(Box::new(()));
                }
                _ => sleep(Duration::from_millis(1)),
            })
        })
        .collect();
    // Cancelled before it starts, if nobody has stolen it.
    tasks.push(spawn(park));
    drop(tx);
    yield_now();
    tasks.iter().for_each(|task| task.task().unpark());
    assert_eq!(rx.iter().count(), 10);
    tasks.iter().for_each(|task| task.cancel());
    for (i, task) in tasks.into_iter().enumerate() {
        assert!(task.join().is_ok() || i % 5 == 3 || i % 5 == 0 || i % 5 == 4 || i % 5 == 2);
    }
}

#[test]
fn each_task_is_started_entered_and_left_by_turns_and_ended_on_one_thread() {
    for processors in [1, 2, 4] {
        let log = Log::default();
        run_with(processors, log.clone(), mixture);
        let log = log.take();
        let mut tasks: HashMap<u64, Vec<(ThreadId, Event)>> = HashMap::new();
        let mut inside: HashMap<ThreadId, u64> = HashMap::new();
        for (thread, task, event) in log {
            tasks.entry(task).or_default().push((thread, event));
            match event {
                Enter => assert_eq!(inside.insert(thread, task), None),
                Leave => assert_eq!(inside.remove(&thread), Some(task)),
                Start | End => assert!(!inside.contains_key(&thread)),
            }
        }
        assert!(inside.is_empty());
        // The root, too.
        assert_eq!(tasks.len(), 52);
        for events in tasks.values() {
            assert!(events.iter().all(|(thread, _)| *thread == events[0].0), "{events:?}");
            let events: Vec<_> = events.iter().map(|(_, event)| *event).collect();
            let (runs, ends) = events[1..].as_chunks::<2>();
            assert!(events[0] == Start && *ends == [End] && !runs.is_empty(), "{events:?}");
            assert!(runs.iter().all(|run| *run == [Enter, Leave]), "{events:?}");
        }
    }
}

#[test]
fn a_task_that_has_no_stack_is_entered_and_ended_like_others() {
    in_child!("a_task_that_has_no_stack_is_entered_and_ended_like_others", || {
        let log = Log::default();
        run_with(1, log.clone(), || {
            // Room for little more than there is now, and for none of these stacks.
            let pages: u64 = std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').next().unwrap().parse().unwrap();
            let limit = pages * 4096 + (64 << 20);
            // SAFETY: a valid limit, for this process alone.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: limit, rlim_max: limit }) }, 0);
            let large = || Builder::new().stack_size(1 << 30).spawn(yield_now).unwrap();
            let tasks: Vec<_> = (0..10).map(|_| large()).collect();
            assert!(tasks.into_iter().all(|task| task.join().is_err()));
        });
        let mut tasks: HashMap<u64, Vec<Event>> = HashMap::new();
        log.take().into_iter().for_each(|(_, task, event)| tasks.entry(task).or_default().push(event));
        assert_eq!(tasks.len(), 11);
        for events in tasks.values() {
            assert!(events.starts_with(&[Start, Enter]) && events.ends_with(&[Leave, End]), "{events:?}");
            assert_eq!(events.iter().filter(|event| matches!(event, Start | End)).count(), 2, "{events:?}");
        }
    })
    .assert_success();
}

#[test]
fn several_hooks_nest() {
    #[derive(Clone)]
    struct Named(&'static str, Arc<Mutex<Vec<String>>>);
    impl Named {
        fn note(&self, what: &str) {
            self.1.lock().unwrap().push(format!("{} {what}", self.0));
        }
    }
    impl SwitchHook for Named {
        type Slot = &'static str;
        fn start(&self, _: &Task) -> &'static str {
            self.note("start");
            self.0
        }
        fn enter(&self, _: &Task, slot: &mut &'static str) {
            assert_eq!(*slot, self.0);
            self.note("enter");
        }
        fn leave(&self, _: &Task, slot: &mut &'static str) {
            assert_eq!(*slot, self.0);
            self.note("leave");
        }
        fn end(&self, _: &Task, slot: &'static str) {
            assert_eq!(slot, self.0);
            self.note("end");
        }
    }
    let log = Arc::new(Mutex::new(Vec::new()));
    let builder = Runtime::builder().processors(1).on_switch(Named("outer", log.clone())).on_switch(Named("inner", log.clone()));
    let runtime = builder.build().unwrap();
    runtime.run(yield_now);
    assert!(runtime.shutdown(Duration::from_secs(50)).is_clean());
    let runs = ["outer enter", "inner enter", "inner leave", "outer leave"];
    let all = ["outer start", "outer enter", "inner start", "inner enter", "inner leave", "outer leave"];
    let all: Vec<_> = all.into_iter().chain(runs).chain(["inner end", "outer end"]).collect();
    assert_eq!(*log.lock().unwrap(), all);
}

thread_local! {
    /// What some library keeps for each thread.
    static CONTEXT: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

/// Makes it each task's own. The slot is not Send.
struct OwnContext;

impl SwitchHook for OwnContext {
    type Slot = Rc<RefCell<Vec<u64>>>;

    fn start(&self, _: &Task) -> Self::Slot {
        Rc::default()
    }

    fn enter(&self, _: &Task, slot: &mut Self::Slot) {
        CONTEXT.with(|context| context.swap(slot));
    }

    fn leave(&self, _: &Task, slot: &mut Self::Slot) {
        CONTEXT.with(|context| context.swap(slot));
    }
}

#[test]
fn what_a_hook_swaps_is_each_tasks_own_across_every_kind_of_suspension() {
    /// Enters the context with `mark`, waits, and finds it as it was.
    fn within(mark: u64, wait: impl FnOnce()) {
        let entered = CONTEXT.with_borrow_mut(|context| {
            context.push(mark);
            context.clone()
        });
        // Also where the wait unwinds.
        let _leaves = OnDrop::new(move || CONTEXT.with_borrow_mut(|context| assert_eq!(context.pop(), Some(mark))));
        wait();
        assert_eq!(CONTEXT.with_borrow(Vec::clone), entered);
    }
    fn wait_for_ever() {
        let (_tx, rx) = channel::bounded::<()>(0);
        let _ = rx.recv();
    }
    for processors in [1, 2, 4] {
        run_with(processors, OwnContext, || {
            let permits = Arc::new(Semaphore::new(1));
            let tasks: Vec<_> = (0..40)
                .map(|i| {
                    let permits = permits.clone();
                    spawn(move || {
                        assert!(CONTEXT.with_borrow(Vec::is_empty));
                        within(i, || {
                            within(100 + i, yield_now);
                            within(200 + i, || drop(permits.acquire()));
                            within(300 + i, || spawn(|| assert!(CONTEXT.with_borrow(Vec::is_empty))).join().unwrap());
                            within(400 + i, || sleep(Duration::from_micros(100)));
                            let limit = Duration::from_micros(100);
                            within(500 + i, || {
                                assert!(greenloom::time::timeout(limit, || within(600 + i, wait_for_ever)).is_err())
                            });
                            within(700 + i, park);
                        });
                        assert!(CONTEXT.with_borrow(Vec::is_empty));
                    })
                })
                .collect();
            yield_now();
            for (i, task) in tasks.into_iter().enumerate() {
                if i % 2 == 0 {
                    task.task().unpark();
                    task.join().unwrap();
                } else {
                    task.cancel();
                    assert!(task.join().unwrap_err().is_cancelled());
                }
            }
        });
    }
}

#[test]
fn a_slot_is_dropped_once_on_its_tasks_thread_and_not_where_the_task_does_not_end() {
    struct Counts(Counter, Counter);
    struct Counted(ThreadId, Counter, #[expect(dead_code, reason = "to be dropped")] test_support::CountsDrop);
    impl Drop for Counted {
        fn drop(&mut self) {
            assert_eq!(thread::current().id(), self.0);
            self.1.add();
        }
    }
    impl SwitchHook for Counts {
        type Slot = Counted;
        fn start(&self, _: &Task) -> Counted {
            Counted(thread::current().id(), self.0.clone(), self.1.on_drop())
        }
        fn enter(&self, _: &Task, _: &mut Counted) {}
        fn leave(&self, _: &Task, _: &mut Counted) {}
    }
    let (drops, inner) = (Counter::default(), Counter::default());
    run_with(2, Counts(drops.clone(), inner.clone()), || {
        let tasks: Vec<_> = (0..100).map(|_| spawn(yield_now)).collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
    assert_eq!((drops.get(), inner.get()), (101, 101));

    let left = Counter::default();
    let runtime = Runtime::builder().processors(1).on_switch(Counts(left.clone(), inner)).build().unwrap();
    runtime.run(|| {
        let task = spawn(|| {
            let _stays = OnDrop::new(park);
            park();
        });
        yield_now();
        drop(task);
    });
    assert_eq!(runtime.shutdown(Duration::ZERO).leftover().len(), 1);
    // The root's.
    assert!(left.get() <= 1);
}

#[test]
fn a_hook_may_do_what_does_not_wait() {
    struct Busy {
        told: Sender<u64>,
        spawned: Cell<bool>,
    }
    // SAFETY: used on one thread, since there is one processor.
    unsafe impl Sync for Busy {}
    impl SwitchHook for Busy {
        type Slot = Option<Task>;
        fn start(&self, task: &Task) -> Option<Task> {
            let _ = self.told.try_send(task.id());
            (!self.spawned.replace(true)).then(|| spawn(park).task())
        }
        fn enter(&self, _: &Task, _: &mut Option<Task>) {}
        fn leave(&self, task: &Task, slot: &mut Option<Task>) {
            // Itself, before its suspension is complete; and the one that it has spawned.
            task.unpark();
            slot.take().into_iter().for_each(|task| task.unpark());
        }
    }
    let (told, tasks) = channel::unbounded();
    run_with(1, Busy { told, spawned: Cell::new(false) }, || {
        park();
        spawn(park).join().unwrap();
    });
    assert_eq!(tasks.iter().count(), 3);
}

#[test]
fn each_runtime_has_its_own_hooks() {
    let (outer, inner) = (Log::default(), Log::default());
    let (ours, theirs) = (outer.clone(), inner.clone());
    run_with(1, outer.clone(), move || {
        run_with(1, inner.clone(), yield_now);
        assert_eq!(inner.take().len(), 6);
        greenloom::run(yield_now);
        assert!(inner.take().is_empty());
    });
    assert!(ours.take().len() >= 6);
    assert!(theirs.take().is_empty());
}

/// A hook that does something at one of its calls.
struct At(Event, fn());

/// Does it when it is dropped.
struct AtDrop(Option<fn()>);

impl Drop for AtDrop {
    fn drop(&mut self) {
        if let Some(then) = self.0 {
            then();
        }
    }
}

impl At {
    fn is(&self, event: Event) {
        if self.0 == event {
            (self.1)();
        }
    }
}

impl SwitchHook for At {
    type Slot = AtDrop;
    fn start(&self, _: &Task) -> AtDrop {
        self.is(Start);
        AtDrop((self.0 == End).then_some(self.1))
    }
    fn enter(&self, _: &Task, _: &mut AtDrop) {
        self.is(Enter);
    }
    fn leave(&self, _: &Task, _: &mut AtDrop) {
        self.is(Leave);
    }
}

/// The process of a runtime whose hook does this aborts, and says why.
fn aborts(test: &str, event: Event, what: fn(), says: &str) {
    let child = in_child!(test, || {
        let builder = Runtime::builder().processors(1).on_switch(At(event, what));
        // To print a backtrace may take long.
        let runtime = builder.shutdown_grace(Duration::from_secs(50)).build().unwrap();
        runtime.run(yield_now);
        drop(runtime);
    });
    child.assert_said(says);
    child.assert_said(concat!("greenloom: fatal error: the hook ", module_path!(), "::At panicked when task "));
    child.assert_aborted();
}

macro_rules! aborting {
    ($($name:ident: $event:expr, $what:expr, $says:expr;)*) => {
        $(#[test] fn $name() { aborts(stringify!($name), $event, $what, $says); })*
    };
}

aborting! {
    a_hook_that_panics_at_a_start_ends_the_process: Start, || panic!("no luck"), "no luck";
    a_hook_that_panics_at_an_enter_ends_the_process: Enter, || panic!("no luck"), "no luck";
    a_hook_that_panics_at_a_leave_ends_the_process: Leave, || panic!("no luck"), "no luck";
    a_slot_that_panics_when_it_is_dropped_ends_the_process: End, || panic!("no luck"), "no luck";
    a_hook_that_yields_ends_the_process: Enter, yield_now, "a hook at switches tried to wait: its thread would be letting others run";
    a_hook_that_parks_ends_the_process: Leave, park, "tried to wait: its thread would be parked";
    a_hook_that_parks_for_a_time_ends_the_process: Leave, || greenloom::park_timeout(Duration::from_secs(1)), "would be parked";
    a_hook_that_sleeps_ends_the_process: Start, || sleep(Duration::from_secs(1)), "would be sleeping";
    a_hook_that_waits_for_a_message_ends_the_process: Leave, || _ = channel::bounded::<()>(0).1.recv(), "hook";
    a_hook_that_joins_ends_the_process: Enter, || _ = spawn(park).join(), "would be waiting for another task to end";
    a_slot_that_waits_when_it_is_dropped_ends_the_process: End, park, "would be parked";
}
