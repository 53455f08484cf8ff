//! The rows, written for each runtime.

mod corosensei;
pub mod go;
mod greenloom;
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
    /// Bare coroutines, resumed in turn: the floor under a yield
    Corosensei,
}

/// A runtime to compare greenloom with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Peer {
    Go,
    Tokio,
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
            RuntimeName::Corosensei => "corosensei",
        }
    }

    /// # Errors
    ///
    /// Why this runtime does not have that row.
    pub fn supports(self, row: Row) -> Result<(), &'static str> {
        match (self, row) {
            (RuntimeName::Tokio, Row::Hog) => Err("its workers never come back from an endless loop"),
            (RuntimeName::Corosensei, row) if row != Row::Yield => Err("it has no scheduler, only row yield"),
            _ => Ok(()),
        }
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

/// Runs `row` once, in this process (Go: in one process of its own).
pub fn one(row: Row, runtime: RuntimeName, procs: u32, plan: &Plan) -> anyhow::Result<Sample> {
    let measured = match runtime {
        RuntimeName::Greenloom => greenloom::measure(row, plan, procs)?,
        RuntimeName::Corosensei => corosensei::measure(row, plan)?,
        #[cfg(feature = "peers")]
        RuntimeName::Tokio => tokio::measure(row, plan, procs)?,
        #[cfg(not(feature = "peers"))]
        RuntimeName::Tokio => bail!("this program was built without tokio"),
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
