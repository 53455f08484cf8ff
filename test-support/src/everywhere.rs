//! Runs a case of the channels wherever they must work: among plain threads, among tasks, and between the two.
//!
//! A case is written once. It starts its parties with [`go`], joins them with [`Going::join`], and waits by channels alone, so that
//! it never blocks a machine. Each run is watched: a lost wake ends the program within `LIMIT`, with the case's name.

use std::any::type_name;
use std::collections::HashMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use greenloom::{Handle, Task};

use super::{channel, runtime};

/// How long a case may take in one mode. It takes a fraction of a second; only a hang takes this.
const LIMIT: Duration = Duration::from_secs(120);

/// Who the parties of a case are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Plain threads all.
    Threads,
    /// Tasks of one processor.
    OneProcessor,
    /// Tasks of two processors.
    TwoProcessors,
    /// The case runs in a task; what it starts is a thread, a task, a thread, …
    MixedFromTask,
    /// The case runs on a thread; what it starts is a task, a thread, a task, …
    MixedFromThread,
}

impl Mode {
    pub const ALL: [Mode; 5] =
        [Mode::Threads, Mode::OneProcessor, Mode::TwoProcessors, Mode::MixedFromTask, Mode::MixedFromThread];

    /// Runs the case in this mode, and fails if it does.
    pub fn run<F: Fn() + Copy + Send + 'static>(self, case: F) {
        self.run_within(LIMIT, case);
    }

    /// The same, with a limit to its time of which the end is that of the program.
    pub fn run_within<F: Fn() + Copy + Send + 'static>(self, limit: Duration, case: F) {
        self.perform(limit, type_name::<F>(), Box::new(case));
    }

    /// Not generic: what a case needs to be run is built once.
    fn perform(self, limit: Duration, name: &str, case: Box<dyn FnOnce() + Send>) {
        let (done, wait) = mpsc::channel();
        let host = thread::spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(|| self.host(case)));
            if result.is_err() {
                eprintln!("the case failed in mode {self:?}");
            }
            // Nobody listens any more if the watchdog has barked.
            let _ = done.send(());
            result
        });
        if let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(limit) {
            // Not by eprintln: what that writes is kept from the eye until the test ends.
            let _ = writeln!(std::io::stderr(), "\n{name} hangs in mode {self:?}: not done after {limit:?}");
            std::process::abort();
        }
        host.join().unwrap().unwrap_or_else(|payload| resume_unwind(payload));
    }

    fn host(self, case: Box<dyn FnOnce() + Send>) {
        let in_tasks = |processors, mixing, case| {
            runtime(processors).run(move || Cast::new(Some(Handle::current()), mixing).perform(case));
        };
        match self {
            Mode::Threads => Cast::new(None, Mixing::None).perform(case),
            Mode::OneProcessor => in_tasks(1, Mixing::None, case),
            Mode::TwoProcessors => in_tasks(2, Mixing::None, case),
            Mode::MixedFromTask => in_tasks(1, Mixing::ThreadFirst, case),
            Mode::MixedFromThread => {
                let runtime = runtime(2);
                Cast::new(Some(runtime.handle()), Mixing::TaskFirst).perform(case);
            }
        }
    }
}

/// Runs the case in every mode.
pub fn everywhere<F: Fn() + Copy + Send + 'static>(case: F) {
    for mode in Mode::ALL {
        mode.run(case);
    }
}

/// What the parties of one run share.
struct Cast {
    tasks: Option<Handle>,
    mixing: Mixing,
    started: AtomicUsize,
}

#[derive(Clone, Copy, PartialEq)]
enum Mixing {
    None,
    ThreadFirst,
    TaskFirst,
}

/// Which run a task or a thread belongs to, by its number.
static CASTS: Mutex<Option<HashMap<u64, Arc<Cast>>>> = Mutex::new(None);

fn casts() -> MutexGuard<'static, Option<HashMap<u64, Arc<Cast>>>> {
    CASTS.lock().unwrap_or_else(|e| e.into_inner())
}

impl Cast {
    fn new(tasks: Option<Handle>, mixing: Mixing) -> Arc<Cast> {
        Arc::new(Cast { tasks, mixing, started: AtomicUsize::new(0) })
    }

    /// Runs a party on the calling task or thread.
    fn perform<T>(self: Arc<Self>, part: impl FnOnce() -> T) -> T {
        struct Leave(u64);
        impl Drop for Leave {
            fn drop(&mut self) {
                let cast = casts().as_mut().and_then(|casts| casts.remove(&self.0));
                // Not under the lock: it may be the last reference to a runtime.
                drop(cast);
            }
        }
        let id = greenloom::current().id();
        casts().get_or_insert_default().insert(id, self);
        let _leave = Leave(id);
        part()
    }

    fn of_caller() -> Arc<Cast> {
        let id = greenloom::current().id();
        casts().as_ref().and_then(|casts| casts.get(&id).cloned()).expect("go is for cases, and for what they start")
    }

    /// Where the next party runs: in a task of this runtime, or on a thread.
    fn next_place(&self) -> Option<&Handle> {
        let even = self.started.fetch_add(1, SeqCst).is_multiple_of(2);
        self.tasks.as_ref().filter(|_| match self.mixing {
            Mixing::None => true,
            Mixing::ThreadFirst => !even,
            Mixing::TaskFirst => even,
        })
    }
}

/// A party that runs.
#[must_use = "join it: a case is over when all its parties are"]
pub struct Going<T>(Kind<T>);

enum Kind<T> {
    Thread(thread::JoinHandle<T>, Arc<Ended>),
    Task(greenloom::JoinHandle<T>),
}

/// Starts a party of the case: a thread or a task, as the mode has it.
pub fn go<T, F>(part: F) -> Going<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    start(Box::new(part))
}

/// The same for all closures with this result.
fn start<T: Send + 'static>(part: Box<dyn FnOnce() -> T + Send>) -> Going<T> {
    let cast = Cast::of_caller();
    let party = {
        let cast = cast.clone();
        move || cast.perform(part)
    };
    Going(match cast.next_place() {
        Some(handle) => Kind::Task(handle.spawn(party)),
        None => {
            let ended = Arc::new(Ended::default());
            let end = End(ended.clone());
            let thread = thread::spawn(move || {
                let _end = end;
                party()
            });
            Kind::Thread(thread, ended)
        }
    })
}

impl<T> Going<T> {
    /// Waits for the end without blocking a machine. A panic goes on in the caller.
    #[track_caller]
    pub fn join(self) -> T {
        let result = match self.0 {
            Kind::Thread(thread, ended) => {
                ended.wait();
                thread.join()
            }
            Kind::Task(task) => task.join().map_err(|error| error.into_panic()),
        };
        result.unwrap_or_else(|payload| resume_unwind(payload))
    }

    /// Whether it has come to its end.
    pub fn is_finished(&self) -> bool {
        match &self.0 {
            Kind::Thread(_, ended) => ended.over.load(SeqCst),
            Kind::Task(task) => task.is_finished(),
        }
    }
}

/// Joins them all, and gives their results in order.
#[track_caller]
pub fn join_all<T>(parties: impl IntoIterator<Item = Going<T>>) -> Vec<T> {
    parties.into_iter().map(Going::join).collect()
}

/// A thread tells a task of its end: std's join would block the machine.
#[derive(Default)]
struct Ended {
    over: AtomicBool,
    joiner: Mutex<Option<Task>>,
}

impl Ended {
    fn wait(&self) {
        *self.joiner.lock().unwrap() = Some(greenloom::current());
        while !self.over.load(SeqCst) {
            greenloom::park();
        }
    }
}

struct End(Arc<Ended>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.over.store(true, SeqCst);
        // The joiner's place is filled before it looks: either this sees the joiner, or the joiner sees the end.
        if let Some(joiner) = self.0.joiner.lock().unwrap().take() {
            joiner.unpark();
        }
    }
}

/// So many milliseconds.
pub const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// Lets others run for a while, so that they come to where they wait. Nothing may depend on whether they have.
pub fn breathe() {
    pause(ms(2));
}

/// Waits so long, and suspends only the caller.
pub fn pause(time: Duration) {
    channel::after(time).recv().unwrap();
}

/// Tries until it works, letting others run.
pub fn insist<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        greenloom::yield_now();
    }
}

/// Runs it, and asserts that it took at least so long.
#[track_caller]
pub fn takes_at_least<T>(time: Duration, body: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = body();
    let elapsed = start.elapsed();
    assert!(elapsed >= time, "took only {elapsed:?} of {time:?}");
    result
}

/// Runs it, and gives the sentence that it panics with.
#[track_caller]
pub fn panic_message<T>(body: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(body()))) else { panic!("it did not panic") };
    match payload.downcast::<String>() {
        Ok(message) => *message,
        Err(payload) => (*payload.downcast_ref::<&str>().expect("panics with a sentence")).to_owned(),
    }
}
