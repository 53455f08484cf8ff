//! The rows, written for each runtime.

mod corosensei;
pub mod go;
mod greenloom;
#[cfg(feature = "peers")]
mod may;
pub mod process;
#[cfg(feature = "peers")]
mod tokio;

use std::fmt;

use anyhow::bail;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::measure::Measured;
use crate::rows::{Plan, Row};

/// A runtime that has rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RuntimeName {
    Greenloom,
    Go,
    Tokio,
    May,
    /// Bare coroutines, resumed in turn: the floor under a yield
    Corosensei,
}

/// A runtime to compare greenloom with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    /// Built here, if there is a `go`
    Go,
    /// Its channels hold 1 value where the row says capacity 0, the least they can
    Tokio,
    /// Its channels are unbounded, whatever the row says; some 32,000 coroutines are its limit
    May,
    /// Bare coroutines, row `yield` alone
    Corosensei,
}

/// One run of one row: the line that `one` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    pub row: String,
    pub runtime: String,
    pub procs: u32,
    pub ops: u64,
    pub ns_per_op: f64,
    pub cpu_ns_per_op: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_task: Option<f64>,
    pub samples: Vec<f64>,
}

impl Peer {
    pub fn runtime(self) -> RuntimeName {
        match self {
            Peer::Go => RuntimeName::Go,
            Peer::Tokio => RuntimeName::Tokio,
            Peer::May => RuntimeName::May,
            Peer::Corosensei => RuntimeName::Corosensei,
        }
    }
}

impl RuntimeName {
    pub fn name(self) -> &'static str {
        match self {
            RuntimeName::Greenloom => "greenloom",
            RuntimeName::Go => "go",
            RuntimeName::Tokio => "tokio",
            RuntimeName::May => "may",
            RuntimeName::Corosensei => "corosensei",
        }
    }

    /// # Errors
    ///
    /// Why this runtime does not have that row.
    pub fn supports(self, row: Row) -> Result<(), &'static str> {
        match (self, row) {
            (RuntimeName::Tokio | RuntimeName::May, Row::Hog) => Err("its workers never come back from an endless loop"),
            (RuntimeName::May, row) => may_supports(row),
            (RuntimeName::Corosensei, row) if row != Row::Yield => Err("it has no scheduler, only row yield"),
            _ => Ok(()),
        }
    }

    /// Whether this program has that runtime in it.
    pub fn is_built(self) -> bool {
        cfg!(feature = "peers") || !matches!(self, RuntimeName::Tokio | RuntimeName::May)
    }

    /// Whether a second processor means anything to this runtime.
    pub fn is_parallel(self) -> bool {
        self != RuntimeName::Corosensei
    }
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

fn may_supports(row: Row) -> Result<(), &'static str> {
    match row {
        Row::Spawn
        | Row::Yield100k
        | Row::Parked
        | Row::Skynet
        | Row::Fib
        | Row::Nqueens
        | Row::Sleep
        | Row::SleepWarm
        | Row::SleepMillion
        | Row::ScopeSpawn => Err("its stacks run out of mappings near 32,000 coroutines"),
        Row::ContextTree => Err("it has no contexts"),
        Row::Sieve => Err("its channels are unbounded, and the generator would fill the memory"),
        _ => Ok(()),
    }
}

/// Runs `row` once, in this process (Go: in one process of its own).
pub fn one(row: Row, runtime: RuntimeName, procs: u32, plan: &Plan) -> anyhow::Result<Sample> {
    let measured = match runtime {
        RuntimeName::Greenloom => greenloom::measure(row, plan, procs)?,
        RuntimeName::Corosensei => corosensei::measure(row, plan)?,
        #[cfg(feature = "peers")]
        RuntimeName::Tokio => tokio::measure(row, plan, procs)?,
        #[cfg(feature = "peers")]
        RuntimeName::May => may::measure(row, plan, procs)?,
        #[cfg(not(feature = "peers"))]
        RuntimeName::Tokio | RuntimeName::May => bail!("this program was built without {runtime}"),
        RuntimeName::Go => return go::one(row, procs, plan),
    };
    let Measured { ns_per_op, cpu_ns_per_op, bytes_per_task } = measured;
    Ok(Sample {
        row: row.name().to_owned(),
        runtime: runtime.name().to_owned(),
        procs,
        ops: plan.ops,
        ns_per_op,
        cpu_ns_per_op,
        bytes_per_task: bytes_per_task.map(f64::round),
        samples: vec![ns_per_op],
    })
}

/// Fails a row whose result is not what it must be.
fn check<T: PartialEq + fmt::Debug>(what: &str, found: T, wanted: T) -> anyhow::Result<()> {
    if found != wanted {
        bail!("wrong result: {what} is {found:?}, must be {wanted:?}");
    }
    Ok(())
}
