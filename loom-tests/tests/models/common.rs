//! How every model is run, and what its parties leave for each other.

use std::backtrace::Backtrace;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};

use loom::cell::UnsafeCell;

/// Set for the process of a single model.
const ALONE: &str = "GREENLOOM_MODEL_ALONE";

/// Runs `f` under every schedule with at most `preemptions` forced switches, and asserts that there was more than one.
///
/// Each model has a process of its own. A failing model ends it: loom's complaint is a panic, and in a task it would be caught as the
/// task's own. The others go on.
pub fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    if std::env::var_os(ALONE).is_none() {
        run_alone(std::thread::current().name().expect("the harness names the thread after the test"));
        return;
    }
    fail_loudly();
    let executions = Arc::new(AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        f();
    });
    let executions = executions.load(Ordering::Relaxed);
    println!("{executions} executions at bound {preemptions}");
    assert!(executions > 1, "the model explored one execution only");
}

/// Runs the test of this name in a process of its own.
fn run_alone(test: &str) {
    let program = std::env::current_exe().unwrap();
    let output =
        Command::new(program).args(["--exact", test, "--include-ignored", "--nocapture"]).env(ALONE, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}:\n{said}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    let executions = said.lines().find(|line| line.contains(" executions at bound "));
    println!("{}", executions.unwrap_or_else(|| panic!("{test} is not the name of the test that runs this model:\n{said}")));
}

fn fail_loudly() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            // How loom's own coroutines are unwound when a model's thread is given up; no failure.
            if info.location().is_some_and(|l| l.file().contains("generator-")) {
                return;
            }
            // All threads of a model share the thread of its test.
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("a model");
            // Not `eprintln!`, whose output the test harness would keep, and lose.
            let _ = writeln!(std::io::stderr(), "\n{name} fails: {info}\n{}", Backtrace::capture());
            std::process::abort();
        }));
    });
}

/// What one party does that another must see: an access that is not ordered behind those before it fails the model.
pub struct Data(UnsafeCell<u32>);

// SAFETY: loom reports what is not ordered.
unsafe impl Sync for Data {}

impl Data {
    pub fn new() -> Self {
        Self(UnsafeCell::new(0))
    }

    pub fn add(&self) {
        // SAFETY: loom's cell; see above.
        self.0.with_mut(|value| unsafe { *value += 1 });
    }

    pub fn get(&self) -> u32 {
        // SAFETY: as above.
        self.0.with(|value| unsafe { *value })
    }
}
