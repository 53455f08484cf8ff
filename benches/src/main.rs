//! `greenloom-bench`: the main job of this project.
//!
//! Without a subcommand it runs its rows at one processor and at all of them, every sample in a
//! fresh process of its own, prints one table and writes `results.json`. With `--peers` the same
//! rows run on other runtimes, interleaved with ours (A B B A), and the table gains ratios.
//! `greenloom-bench one …` is such a sample: one row, once, one line of JSON. `greenloom-bench idle`
//! measures what has no operations to divide by: a runtime that has nothing to do.
//!
//! | module | what it owns |
//! |---|---|
//! | [`cli`] | the command line and every complaint about it |
//! | [`rows`] | what the rows are: names, sizes, the work that all runtimes share |
//! | [`runtimes`] | the rows written for each runtime; the Go ones are in `peers/go` |
//! | [`measure`] | wall clock, CPU time and resident memory of this process |
//! | [`idle`] | a runtime whose tasks all sleep |
//! | [`driver`] | which sample runs when, and the process around it |
//! | [`stats`] | medians, quartiles, ratios of pairs |
//! | [`report`] | the table and `results.json` |
//! | [`machine`] | what is measured on |

mod cli;
mod driver;
mod idle;
mod machine;
mod measure;
mod report;
mod rows;
mod runtimes;
mod stats;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command, OneArgs};
use rows::Plan;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::One(one)) => {
            let plan = one.plan().unwrap_or_else(|error| error.exit());
            print_one(&one, &plan)
        }
        Some(Command::Idle(idle)) => idle::run(&idle),
        None => {
            let job = cli.job.check().unwrap_or_else(|error| error.exit());
            driver::run(&job)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("greenloom-bench: {error:#}");
        ExitCode::FAILURE
    })
}

fn print_one(one: &OneArgs, plan: &Plan) -> anyhow::Result<ExitCode> {
    let sample = runtimes::one(one.row, one.runtime, one.procs, plan)?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(ExitCode::SUCCESS)
}
