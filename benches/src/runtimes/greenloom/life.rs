//! The rows of time, cancellation and structure.

use std::time::Instant;

use greenloom::channel::bounded;
use greenloom::context::{Context, ContextError};
use greenloom::{scope, spawn, time};

use super::join;
use crate::measure::{Clock, Measured};
use crate::rows;
use crate::runtimes::check;

pub fn sleep(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let early = sleepers(ops);
    let measured = clock.stop(ops);
    check("sleepers that woke early", early, 0)?;
    Ok(measured)
}

/// The stacks of the first time are there for the second.
pub fn sleep_warm(ops: u64) -> anyhow::Result<Measured> {
    check("sleepers that woke early", sleepers(ops), 0)?;
    sleep(ops)
}

/// How many of the watched ones woke early.
fn sleepers(count: u64) -> u64 {
    let tasks: Vec<_> = (0..count)
        .map(|id| {
            let nap = rows::nap(id, count);
            spawn(move || {
                let start = rows::is_watched(id).then(Instant::now);
                time::sleep(nap);
                u64::from(start.is_some_and(|start| start.elapsed() < nap))
            })
        })
        .collect();
    tasks.into_iter().map(join).sum()
}

pub fn timeout(ops: u64) -> anyhow::Result<Measured> {
    let clock = Clock::start();
    let (there, requests) = bounded(0);
    let (answers, back) = bounded(0);
    let echo = spawn(move || {
        for value in requests {
            answers.send(value + 1).expect("a channel closed early");
        }
    });
    let mut sum = 0;
    for value in 0..ops {
        sum += time::timeout(rows::TIMEOUT, || -> anyhow::Result<u64> {
            there.send(value)?;
            Ok(back.recv()?)
        })??;
    }
    let measured = clock.stop(ops);
    drop(there);
    join(echo);
    check("the sum of the answers", sum, rows::sum_below(ops + 1))?;
    Ok(measured)
}

/// The clock covers the cancellation alone.
pub fn context_tree(nodes: u64) -> anyhow::Result<Measured> {
    let mut tree = Vec::with_capacity(nodes as usize);
    tree.push(Context::background().with_cancel());
    for node in 1..nodes {
        let (parent, _) = &tree[((node - 1) / rows::CONTEXT_CHILDREN) as usize];
        tree.push(parent.with_cancel());
    }
    let clock = Clock::start();
    tree[0].1.cancel();
    let measured = clock.stop(nodes);
    let cancelled = tree.iter().filter(|(ctx, _)| ctx.err() == Some(ContextError::Cancelled)).count();
    check("cancelled nodes", cancelled as u64, nodes)?;
    Ok(measured)
}

pub fn scope_spawn(ops: u64) -> anyhow::Result<Measured> {
    let mut results = vec![0; ops as usize];
    let clock = Clock::start();
    scope(|s| {
        for (i, result) in (1..).zip(&mut results) {
            s.spawn(move || *result = i);
        }
    });
    let measured = clock.stop(ops);
    check("the sum of the results", results.iter().sum(), rows::sum_below(ops + 1))?;
    Ok(measured)
}
