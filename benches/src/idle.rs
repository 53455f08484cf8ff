//! What a runtime uses whose tasks all sleep: CPU time over some seconds of wall time, and memory.
//!
//! No row: the time is given, and what is measured is near nothing, so there is no ratio to anything.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use greenloom::{Runtime, sleep, spawn};
use serde::Serialize;

use crate::cli::IdleArgs;
use crate::measure::{Clock, memory};

/// Longer than anyone watches.
const SLEEP: Duration = Duration::from_secs(24 * 3_600);
/// After which everything is as it stays: idle threads are done with searching and the last sleepers sleep.
const SETTLE: Duration = Duration::from_secs(1);
/// A million tasks take their time to unwind.
const GRACE: Duration = Duration::from_secs(120);

/// The line that `idle` prints.
#[derive(Serialize)]
struct Idle {
    tasks: u64,
    procs: u32,
    wall_ns: u64,
    /// Of all threads of the process.
    cpu_ns: u64,
    /// The CPU time of the wall time.
    cpu_share: f64,
    bytes_per_task: u64,
}

/// Counts a task that ends, however it does.
struct Ended(Arc<AtomicU64>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub fn run(args: &IdleArgs) -> anyhow::Result<ExitCode> {
    println!("{}", serde_json::to_string(&measure(args)?)?);
    Ok(ExitCode::SUCCESS)
}

fn measure(&IdleArgs { tasks, procs, seconds }: &IdleArgs) -> anyhow::Result<Idle> {
    let runtime = Runtime::builder().processors(procs as usize).shutdown_grace(GRACE).build().context("building a runtime")?;
    let before = memory()?;
    let started = Arc::new(AtomicU64::new(0));
    let ended = Arc::new(AtomicU64::new(0));
    runtime.run({
        let (started, ended) = (Arc::clone(&started), Arc::clone(&ended));
        move || {
            for _ in 0..tasks {
                let (started, ended) = (Arc::clone(&started), Ended(Arc::clone(&ended)));
                drop(spawn(move || {
                    let _ended = ended;
                    started.fetch_add(1, Ordering::Relaxed);
                    sleep(SLEEP);
                }));
            }
            while started.load(Ordering::Relaxed) != tasks {
                sleep(Duration::from_millis(1));
            }
        }
    });
    thread::sleep(SETTLE);
    let bytes = memory()?.saturating_sub(before);
    let clock = Clock::start();
    thread::sleep(Duration::from_secs(seconds));
    let (wall, cpu) = clock.read();
    let early = ended.load(Ordering::Relaxed);
    drop(runtime);
    let ended = ended.load(Ordering::Relaxed);
    if early != 0 || ended != tasks {
        bail!("wrong result: of {tasks} sleepers {early} woke early, and {ended} had ended when their runtime had");
    }
    Ok(Idle {
        tasks,
        procs,
        wall_ns: wall.as_nanos() as u64,
        cpu_ns: cpu.as_nanos() as u64,
        cpu_share: cpu.as_secs_f64() / wall.as_secs_f64(),
        bytes_per_task: bytes / tasks,
    })
}
