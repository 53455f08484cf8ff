//! What the tests share: watchdogs, waiting without clocks, counters of drops, children.

pub mod contexts;
pub mod everywhere;
pub mod flavour;
pub mod selecting;
pub mod waiting;

use std::io::Read;
use std::panic::resume_unwind;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the tests of channels are about.
pub use greenloom::channel;
use greenloom::{Runtime, RuntimeBuilder, Task};

/// Far more than any test here takes: it only ever ends a test that hangs.
const WATCHDOG: Duration = Duration::from_secs(300);

/// Runs `body` on a thread of its own, and fails if it does not come back.
#[track_caller]
pub fn unless_it_hangs<T, F>(body: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let result = Slot::new();
    let place = result.clone();
    watch(Box::new(move || place.put(body())));
    result.take().expect("it has returned")
}

/// What [`unless_it_hangs`] is for all closures alike: a thread's machinery is long, and there are a thousand of them.
#[track_caller]
fn watch(body: Box<dyn FnOnce() + Send>) {
    let (done, wait) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        // Nobody listens any more if the watchdog has barked.
        let _ = done.send(());
    });
    if let Err(RecvTimeoutError::Timeout) = wait.recv_timeout(WATCHDOG) {
        panic!("hangs: not done after {WATCHDOG:?}");
    }
    thread.join().unwrap_or_else(|payload| resume_unwind(payload))
}

/// A runtime with so many processors.
pub fn runtime(processors: usize) -> Runtime {
    Runtime::builder().processors(processors).build().unwrap()
}

/// Runs `root` in a runtime of its own with so many processors, and waits for the end of both.
///
/// It has no spare machines, which take over where the system holds one up: what runs beside what, and on one processor the order, is
/// certain.
#[track_caller]
pub fn run_on<T, F>(processors: usize, root: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    run_in(Runtime::builder().processors(processors).max_machines(processors), root)
}

/// The same with spare machines, for what takes place when the monitor sees that one is held.
#[track_caller]
pub fn run_with_spares<T, F>(processors: usize, root: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    run_in(Runtime::builder().processors(processors), root)
}

#[track_caller]
fn run_in<T, F>(builder: RuntimeBuilder, root: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let result = Slot::new();
    let place = result.clone();
    let root: Box<dyn FnOnce() + Send> = Box::new(move || place.put(root()));
    watch(Box::new(move || builder.build().unwrap().run(root)));
    result.take().expect("it has returned")
}

/// Lets others run until `condition` holds. In a task or on a thread.
pub fn yield_until(condition: impl Fn() -> bool) {
    while !condition() {
        greenloom::yield_now();
    }
}

/// Holds the thread until `condition` holds.
pub fn spin_until(condition: impl Fn() -> bool) {
    while !condition() {
        std::hint::spin_loop();
    }
}

/// Parks, as often as it takes, until `condition` holds.
pub fn park_until(condition: impl Fn() -> bool) {
    while !condition() {
        greenloom::park();
    }
}

/// Counts the naps of a plain thread, of a millisecond each: a clock that a slow machine slows down.
pub struct Ticks {
    count: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Ticks {
    pub fn start() -> Self {
        let ticks = Self { count: Arc::default(), stop: Arc::default() };
        let (count, stop) = (ticks.count.clone(), ticks.stop.clone());
        std::thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        ticks
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

impl Drop for Ticks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// Counts.
#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicUsize>);

impl Counter {
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Something that counts when it is dropped.
    pub fn on_drop(&self) -> CountsDrop {
        CountsDrop(self.clone())
    }
}

#[derive(Debug)]
pub struct CountsDrop(Counter);

impl Drop for CountsDrop {
    fn drop(&mut self) {
        self.0.add();
    }
}

impl std::fmt::Debug for Counter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// Runs a closure when it is dropped.
pub struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> OnDrop<F> {
    pub fn new(f: F) -> Self {
        Self(Some(f))
    }
}

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(f) = self.0.take() {
            f();
        }
    }
}

/// A place where a task leaves something for others to find.
pub struct Slot<T>(Arc<Mutex<Option<T>>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Slot<T> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&self, value: T) {
        *self.0.lock().unwrap_or_else(|e| e.into_inner()) = Some(value);
    }

    pub fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(|e| e.into_inner()).take()
    }

    /// Waits for it, letting others run.
    pub fn wait(&self) -> T {
        loop {
            if let Some(value) = self.take() {
                return value;
            }
            greenloom::yield_now();
        }
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// A task says who it is, so that others can unpark it.
pub type Caller = Slot<Task>;

/// What became of a child process.
pub struct Child {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

const IN_CHILD: &str = "GREENLOOM_TEST_IN_CHILD";

/// What a child prints before it runs the body: another test than the caller's would not.
const BEGUN: &str = "(the child begins)";

/// Runs a closure in a child process, and tells what became of it; in the child, this does not return.
///
/// The child is this very test program, told to run only the test of this name: that test calls this, and finds the variable set. The
/// test is in the module that calls.
#[macro_export]
macro_rules! in_child {
    ($test:expr, $body:expr $(,)?) => {
        $crate::in_child_with!(&[], $test, $body)
    };
}

/// As [`in_child!`], with these variables in the environment of the child.
#[macro_export]
macro_rules! in_child_with {
    ($environment:expr, $test:expr, $body:expr $(,)?) => {
        $crate::run_in_child($environment, &$crate::test_path(module_path!(), $test), $body)
    };
}

/// How the harness calls the test of this name in this module.
#[doc(hidden)]
pub fn test_path(module: &str, test: &str) -> String {
    match module.split_once("::") {
        Some((_program, module)) => format!("{module}::{test}"),
        None => test.to_owned(),
    }
}

#[doc(hidden)]
#[track_caller]
pub fn run_in_child(environment: &[(&str, &str)], test: &str, body: impl FnOnce()) -> Child {
    if std::env::var(IN_CHILD).is_ok_and(|name| name == test) {
        // SAFETY: sets a limit of this process. A child that is meant to abort leaves no core file.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 }) };
        println!("{BEGUN}");
        body();
        // Not by a return: threads that are left must not matter, and the harness must not add to the output.
        std::process::exit(0);
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1", "--include-ignored"])
        .env(IN_CHILD, test)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).map(|_| text)
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    // The pipes end when the child does; so the watchdog waits for them.
    let (done, wait) = mpsc::channel();
    let texts = std::thread::spawn(move || {
        let texts = (stdout.join().unwrap().unwrap(), stderr.join().unwrap().unwrap());
        let _ = done.send(());
        texts
    });
    let in_time = wait.recv_timeout(WATCHDOG).is_ok();
    if !in_time {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    let (stdout, stderr) = texts.join().unwrap();
    assert!(in_time, "the child hangs; it said:\n{stdout}\n{stderr}");
    assert!(stdout.contains(BEGUN), "{test} is not the name of the test that calls this:\n{stdout}\n{stderr}");
    Child { status, stdout, stderr }
}

impl Child {
    /// The child ended well, and never said otherwise.
    #[track_caller]
    pub fn assert_success(&self) {
        assert!(self.status.success(), "{}:\n{}\n{}", self.status, self.stdout, self.stderr);
    }

    /// The child aborted.
    #[track_caller]
    pub fn assert_aborted(&self) {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(self.status.signal(), Some(libc::SIGABRT), "{}:\n{}\n{}", self.status, self.stdout, self.stderr);
    }

    /// The child said this on stderr.
    #[track_caller]
    pub fn assert_said(&self, text: &str) {
        assert!(self.stderr.contains(text), "not said: {text:?}, but:\n{}", self.stderr);
    }
}
