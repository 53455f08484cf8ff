//! The rows on tokio. The body of each runs in a task, on a worker, not on the main thread.

mod channels;
mod life;
mod tasks;

use anyhow::{Context, bail};
use tokio::task::JoinHandle;

use crate::measure::Measured;
use crate::rows::{self, Plan, Row};

pub fn measure(row: Row, plan: &Plan, procs: u32) -> anyhow::Result<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(procs as usize)
        .enable_time()
        .build()
        .context("building a runtime")?;
    let plan = *plan;
    let body = runtime.spawn(async move { body(row, plan).await });
    runtime.block_on(body)?
}

async fn body(row: Row, Plan { ops, size }: Plan) -> anyhow::Result<Measured> {
    match row {
        Row::Spawn => tasks::spawn_all(ops).await,
        Row::SpawnJoin => tasks::spawn_join(ops).await,
        Row::SpawnChain => tasks::spawn_chain(ops).await,
        Row::Yield | Row::Yield100k => tasks::yields(row.sharers(), ops).await,
        Row::Parked => tasks::parked(ops).await,
        Row::Skynet => tasks::skynet_row(ops).await,
        Row::Fib => tasks::fib_row(size, ops).await,
        Row::Nqueens => tasks::nqueens(size, ops).await,
        Row::Pool => tasks::pool(ops).await,
        Row::Hog => bail!("tokio's workers never come back from an endless loop"),
        Row::Pingpong | Row::PingpongBuf => channels::pingpong(ops).await,
        Row::Ring => channels::ring(ops).await,
        Row::Stream => channels::stream(ops).await,
        Row::Mpmc => channels::mpmc(ops, |value| value, rows::sum_below(ops)).await,
        Row::MpmcWork => channels::mpmc(ops, rows::item, rows::item_sum(ops)).await,
        Row::Select4 => channels::select4(ops).await,
        Row::Select64 => channels::select64(ops).await,
        Row::Mutex => channels::mutex(ops).await,
        Row::Sieve => channels::sieve(ops).await,
        Row::Fanin => channels::fanin(ops).await,
        Row::Sleep | Row::SleepMillion => life::sleep(ops).await,
        Row::SleepWarm => life::sleep_warm(ops).await,
        Row::Timeout => life::timeout(ops).await,
        Row::ContextTree => life::context_tree(ops),
        Row::ScopeSpawn => life::scope_spawn(ops).await,
    }
}

/// The panic of a task of the row is the row's own.
async fn result<T>(handle: JoinHandle<T>) -> T {
    handle.await.unwrap_or_else(|error| panic!("a task of the row failed: {error}"))
}
