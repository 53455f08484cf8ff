//! How every model is run.

use std::backtrace::Backtrace;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs `f` under every schedule with at most `preemptions` forced switches, and asserts that there was more than one.
///
/// A failing model ends its process: loom's complaint is a panic, and in a task it would be caught as the task's own.
pub fn model(preemptions: usize, f: impl Fn() + Send + Sync + 'static) {
    let name = std::thread::current().name().unwrap_or("a model").to_owned();
    let executions = Arc::new(AtomicUsize::new(0));
    std::panic::set_hook({
        let executions = executions.clone();
        let name = name.clone();
        Box::new(move |info| {
            // Not `eprintln!`, whose output the test harness would keep, and lose.
            let trace =
                if std::env::var_os("RUST_BACKTRACE").is_some() { Backtrace::force_capture().to_string() } else { String::new() };
            let nth = executions.load(Ordering::Relaxed);
            let _ = writeln!(std::io::stderr(), "\n{name} fails in execution {nth}: {info}\n{trace}");
            std::process::abort();
        })
    });
    let preemptions = std::env::var("BOUND").map_or(preemptions, |b| b.parse().unwrap());
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    let begun = std::time::Instant::now();
    let count = executions.clone();
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        f();
    });
    let _ = std::panic::take_hook();
    let executions = executions.load(Ordering::Relaxed);
    let _ = writeln!(std::io::stderr(), "{name}: {executions} executions at bound {preemptions}, {:.1?}", begun.elapsed());
    assert!(executions > 1, "the model explored one execution only");
}
