//! The command line. Whatever is wrong with it is said here, by clap, with exit code 2.

use std::path::{Path, PathBuf};
use std::thread;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::rows::{self, Plan, Row};
use crate::runtimes::{Peer, RuntimeName};

/// More processors than this measure nothing but the patience of the kernel.
const MAX_PROCS: i64 = 1024;
const MAX_SAMPLES: i64 = 1000;
const MAX_SLEEPERS: u64 = 10_000_000;
const MAX_IDLE_SECONDS: u64 = 3_600;
const DEFAULT_SAMPLES: u32 = 5;
const QUICK_SAMPLES: u32 = 3;

/// greenloom's benchmark: runs its rows at 1 processor and at all of them, prints one table and
/// writes results.json.
#[derive(Parser)]
#[command(name = "greenloom-bench", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub job: JobArgs,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run one row once in this process and print one line of JSON
    One(OneArgs),
    /// Put many tasks to sleep, measure what the runtime uses meanwhile, print one line of JSON
    Idle(IdleArgs),
}

#[derive(Args)]
pub struct JobArgs {
    /// Rows to run, all of them unless given
    #[arg(long, value_delimiter = ',', value_name = "ROW,…")]
    rows: Vec<Row>,
    /// Processor counts, in the order of the table's columns [default: 1 and all of them]
    #[arg(long, value_delimiter = ',', value_name = "N,…", value_parser = clap::value_parser!(u32).range(1..=MAX_PROCS))]
    procs: Vec<u32>,
    /// Samples of each row, each in a process of its own [default: 5, quick: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_SAMPLES))]
    samples: Option<u32>,
    /// Smaller rows, still 100,000 tasks where a row counts tasks: under a minute in all
    #[arg(long)]
    quick: bool,
    /// Where the results go: a file, or an existing folder [default: ./results.json]
    #[arg(long, value_name = "PATH")]
    out: Option<PathBuf>,
    /// Other runtimes to run the same rows on, in the same run
    #[arg(long, value_delimiter = ',', value_name = "PEER,…")]
    peers: Vec<Peer>,
}

#[derive(Args)]
pub struct OneArgs {
    /// The runtime to measure
    #[arg(long)]
    pub runtime: RuntimeName,
    /// The row to run
    #[arg(long)]
    pub row: Row,
    /// Processors to run it on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_PROCS))]
    pub procs: u32,
    /// Operations, rounded down to what the row can do [default: the main job's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=rows::MAX_OPS))]
    ops: Option<u64>,
}

#[derive(Args)]
pub struct IdleArgs {
    /// Tasks that sleep
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=MAX_SLEEPERS))]
    pub tasks: u64,
    /// Processors of the runtime
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_PROCS))]
    pub procs: u32,
    /// For how long they are watched
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=MAX_IDLE_SECONDS))]
    pub seconds: u64,
}

/// What the main job has been asked to do, checked.
pub struct Job {
    pub rows: Vec<(Row, Plan)>,
    pub procs: Vec<u32>,
    pub samples: u32,
    pub peers: Vec<Peer>,
    pub out: PathBuf,
}

impl JobArgs {
    pub fn check(self) -> Result<Job, clap::Error> {
        for peer in &self.peers {
            check_built(peer.runtime())?;
        }
        let rows = if self.rows.is_empty() { Row::ALL.to_vec() } else { without_repeats(self.rows) };
        let procs = if self.procs.is_empty() {
            let all = thread::available_parallelism().map_or(1, |n| n.get() as u32);
            without_repeats(vec![1, all.min(MAX_PROCS as u32)])
        } else {
            without_repeats(self.procs)
        };
        let default_samples = if self.quick { QUICK_SAMPLES } else { DEFAULT_SAMPLES };
        Ok(Job {
            rows: rows.into_iter().map(|row| (row, row.usual_plan(self.quick))).collect(),
            procs,
            samples: self.samples.unwrap_or(default_samples),
            peers: without_repeats(self.peers),
            out: results_file(self.out)?,
        })
    }
}

impl OneArgs {
    pub fn plan(&self) -> Result<Plan, clap::Error> {
        check_built(self.runtime)?;
        if let Err(why) = self.runtime.supports(self.row) {
            return Err(complaint(format!("{} does not run row {}: {why}", self.runtime, self.row)));
        }
        match self.ops {
            None => Ok(self.row.usual_plan(false)),
            Some(ops) => self.row.plan(ops).map_err(complaint),
        }
    }
}

/// The file to write, found out before minutes are spent on what goes into it.
fn results_file(out: Option<PathBuf>) -> Result<PathBuf, clap::Error> {
    let Some(path) = out else {
        return Ok(PathBuf::from("results.json"));
    };
    if path.is_dir() {
        return Ok(path.join("results.json"));
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    if path.file_name().is_none() || path.as_os_str().to_string_lossy().ends_with('/') || !folder.is_dir() {
        return Err(complaint(format!("--out {}: no such folder", path.display())));
    }
    Ok(path)
}

fn check_built(runtime: RuntimeName) -> Result<(), clap::Error> {
    if runtime.is_built() {
        return Ok(());
    }
    Err(complaint(format!(
        "this program was built without {runtime}; run\n  \
         cargo run --release -p greenloom-bench --features peers -- --peers go,tokio,may"
    )))
}

fn complaint(message: String) -> clap::Error {
    Cli::command().error(ErrorKind::ValueValidation, message)
}

fn without_repeats<T: PartialEq>(list: Vec<T>) -> Vec<T> {
    let mut kept = Vec::with_capacity(list.len());
    for item in list {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn repeated_values_count_once() {
        assert_eq!(without_repeats(vec![2, 1, 2]), [2, 1]);
    }

    #[test]
    fn results_go_into_an_existing_folder() {
        let folder = std::env::temp_dir();
        assert_eq!(results_file(Some(folder.clone())).unwrap(), folder.join("results.json"));
        assert_eq!(results_file(Some(folder.join("a.json"))).unwrap(), folder.join("a.json"));
        assert!(results_file(Some(folder.join("no-such-folder/a.json"))).is_err());
        assert!(results_file(Some(folder.join("no-such-folder/"))).is_err());
    }
}
