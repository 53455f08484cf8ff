//! The rows of time, cancellation and structure. Contexts are the cancellation tokens of tokio-util.

use std::time::Instant;

use anyhow::Context;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::channels::LEAST_CAPACITY;
use super::result;
use crate::measure::{Clock, Measured};
use crate::rows;
use crate::runtimes::check;

const CLOSED: &str = "a channel closed early";

pub async fn sleep(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let early = sleepers(ops).await;
    let measured = clock.stop(ops);
    check("sleepers that woke early", early, 0)?;
    Ok(measured)
}

pub async fn sleep_warm(ops: u64) -> anyhow::Result<Measured> {
    check("sleepers that woke early", sleepers(ops).await, 0)?;
    sleep(ops).await
}

/// How many of the watched ones woke early.
async fn sleepers(count: u64) -> u64 {
    let tasks: Vec<_> = (0..count)
        .map(|id| {
            let nap = rows::nap(id, count);
            tokio::spawn(async move {
                let start = rows::is_watched(id).then(Instant::now);
                time::sleep(nap).await;
                u64::from(start.is_some_and(|start| start.elapsed() < nap))
            })
        })
        .collect();
    let mut early = 0;
    for task in tasks {
        early += result(task).await;
    }
    early
}

pub async fn timeout(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (there, mut requests) = mpsc::channel(LEAST_CAPACITY);
    let (answers, mut back) = mpsc::channel(LEAST_CAPACITY);
    let echo = tokio::spawn(async move {
        while let Some(value) = requests.recv().await {
            answers.send(value + 1).await.expect(CLOSED);
        }
    });
    let mut sum = 0;
    for value in 0..ops {
        let round_trip = async {
            there.send(value).await?;
            back.recv().await.context(CLOSED)
        };
        sum += time::timeout(rows::TIMEOUT, round_trip).await??;
    }
    let measured = clock.stop(ops);
    drop(there);
    result(echo).await;
    check("the sum of the answers", sum, rows::sum_below(ops + 1))?;
    Ok(measured)
}

/// The clock covers the cancellation alone.
pub fn context_tree(nodes: u64) -> anyhow::Result<Measured> {
    let mut tree = Vec::with_capacity(nodes as usize);
    tree.push(CancellationToken::new());
    for node in 1..nodes {
        let parent: &CancellationToken = &tree[((node - 1) / rows::CONTEXT_CHILDREN) as usize];
        tree.push(parent.child_token());
    }
    let clock = Clock::start();
    tree[0].cancel();
    let measured = clock.stop(nodes);
    let cancelled = tree.iter().filter(|token| token.is_cancelled()).count();
    check("cancelled nodes", cancelled as u64, nodes)?;
    Ok(measured)
}

/// Its set of tasks is what comes near a scope: nothing is borrowed, and each result is handed over.
pub async fn scope_spawn(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let mut tasks = JoinSet::new();
    for i in 1..=ops {
        tasks.spawn(async move { i });
    }
    let mut sum = 0;
    while let Some(i) = tasks.join_next().await {
        sum += i?;
    }
    let measured = clock.stop(ops);
    check("the sum of the results", sum, rows::sum_below(ops + 1))?;
    Ok(measured)
}
