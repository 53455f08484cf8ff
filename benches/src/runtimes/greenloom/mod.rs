//! The rows on greenloom.

mod channels;
mod life;
mod tasks;

use anyhow::Context;
use greenloom::{JoinHandle, Runtime};

use crate::measure::Measured;
use crate::rows::{Plan, Row};

pub fn measure(row: Row, plan: &Plan, procs: u32) -> anyhow::Result<Measured> {
    let runtime = Runtime::builder().processors(procs as usize).build().context("building a runtime")?;
    let Plan { ops, size } = *plan;
    match row {
        Row::Spawn => runtime.run(move || tasks::spawn_all(ops)),
        Row::SpawnJoin => runtime.run(move || tasks::spawn_join(ops)),
        Row::SpawnChain => runtime.run(move || tasks::spawn_chain(ops)),
        Row::Yield | Row::Yield100k => runtime.run(move || tasks::yields(row.sharers(), ops)),
        Row::Parked => runtime.run(move || tasks::parked(ops)),
        Row::Skynet => runtime.run(move || tasks::skynet_row(ops)),
        Row::Fib => runtime.run(move || tasks::fib_row(size, ops)),
        Row::Nqueens => runtime.run(move || tasks::nqueens(size, ops)),
        Row::Pool => runtime.run(move || channels::pool(ops)),
        Row::Hog => tasks::hog(&runtime, ops, procs),
        Row::Pingpong => runtime.run(move || channels::pingpong(ops, 0)),
        Row::PingpongBuf => runtime.run(move || channels::pingpong(ops, 1)),
        Row::Ring => runtime.run(move || channels::ring(ops)),
        Row::Stream => runtime.run(move || channels::stream(ops)),
        Row::Mpmc => runtime.run(move || channels::mpmc(ops)),
        Row::MpmcWork => runtime.run(move || channels::mpmc_work(ops)),
        Row::Select4 => runtime.run(move || channels::select4(ops)),
        Row::Select64 => runtime.run(move || channels::select64(ops)),
        Row::Mutex => runtime.run(move || channels::mutex(ops)),
        Row::Sieve => runtime.run(move || channels::sieve(ops)),
        Row::Fanin => runtime.run(move || channels::fanin(ops)),
        Row::Sleep | Row::SleepMillion => runtime.run(move || life::sleep(ops)),
        Row::SleepWarm => runtime.run(move || life::sleep_warm(ops)),
        Row::Timeout => runtime.run(move || life::timeout(ops)),
        Row::ContextTree => runtime.run(move || life::context_tree(ops)),
        Row::ScopeSpawn => runtime.run(move || life::scope_spawn(ops)),
    }
}

fn join<T>(handle: JoinHandle<T>) -> T {
    handle.join().unwrap_or_else(|error| panic!("a task of the row failed: {error}"))
}
