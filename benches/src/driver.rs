//! Which sample runs when.
//!
//! Every sample is a fresh process, so that none inherits another's heap, stacks or warm caches.
//! The samples of one row at one processor count run next to each other, greenloom and its peers
//! in turn, each time in the opposite order (A B B A): a machine that slows down meanwhile slows
//! both sides of a pair, and neither always goes first.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::Job;
use crate::machine::Machine;
use crate::report::{self, Entry};
use crate::rows::{Plan, Row};
use crate::runtimes::go::{self, GoPeer};
use crate::runtimes::{Peer, RuntimeName, Sample, process};

/// The main job. Fails if a sample failed, after showing what the others came to.
pub fn run(job: &Job) -> anyhow::Result<ExitCode> {
    let go = if job.peers.contains(&Peer::Go) { GoPeer::build()? } else { None };
    let runtimes = runtimes(job, go.as_ref());
    let progress = progress_bar(job, &runtimes);
    let mut entries = Vec::new();
    let mut failed = false;
    for &(row, plan) in &job.rows {
        for &procs in &job.procs {
            let round = Round { row, plan, procs, go: go.as_ref(), progress: &progress };
            let runtimes = runtimes.iter().copied().filter(|&r| runs(r, row, procs, job));
            let (bad, good): (Vec<_>, Vec<_>) = round.run(runtimes, job.samples).into_iter().partition(|taken| taken.failed);
            failed |= !bad.is_empty();
            let entry = |taken: &Taken| Entry::new(row, plan, taken.runtime, procs, &taken.samples);
            let mut together: Vec<_> = good.iter().map(entry).collect();
            report::add_ratios(&mut together);
            entries.extend(together);
        }
    }
    progress.finish_and_clear();
    println!("{}", report::table(&job.rows, &job.procs, &runtimes, &entries));
    if runtimes.len() > 1 {
        println!("{}", report::RATIOS);
    }
    let machine = Machine::this(go.map(|go| go.version));
    report::write(&job.out, &machine, &entries).with_context(|| format!("writing {}", job.out.display()))?;
    println!("results: {}", job.out.display());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// greenloom and the peers that can run here; says which cannot, and why.
fn runtimes(job: &Job, go: Option<&GoPeer>) -> Vec<RuntimeName> {
    let mut runtimes = vec![RuntimeName::Greenloom];
    for peer in &job.peers {
        let runtime = peer.runtime();
        if *peer == Peer::Go && go.is_none() {
            eprintln!("skipped: go: {}", go::MISSING);
            continue;
        }
        let mut skipped: Vec<(&str, Vec<&str>)> = Vec::new();
        for (row, _) in &job.rows {
            if let Err(why) = runtime.supports(*row) {
                match skipped.iter_mut().find(|(known, _)| *known == why) {
                    Some((_, rows)) => rows.push(row.name()),
                    None => skipped.push((why, vec![row.name()])),
                }
            }
        }
        for (why, rows) in skipped {
            eprintln!("skipped: {runtime}, row {}: {why}", rows.join(", "));
        }
        runtimes.push(runtime);
    }
    runtimes
}

fn runs(runtime: RuntimeName, row: Row, procs: u32, job: &Job) -> bool {
    runtime.supports(row).is_ok() && (runtime.is_parallel() || Some(&procs) == job.procs.iter().min())
}

fn progress_bar(job: &Job, runtimes: &[RuntimeName]) -> ProgressBar {
    let combinations = job
        .rows
        .iter()
        .flat_map(|(row, _)| job.procs.iter().map(move |procs| (row, procs)))
        .flat_map(|(row, procs)| runtimes.iter().filter(move |&&r| runs(r, *row, *procs, job)))
        .count();
    // Draws nothing unless stderr is a terminal.
    let bar = ProgressBar::with_draw_target(Some(combinations as u64 * u64::from(job.samples)), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    bar.with_style(style.expect("a valid template"))
}

/// The samples of one row at one processor count.
struct Round<'a> {
    row: Row,
    plan: Plan,
    procs: u32,
    go: Option<&'a GoPeer>,
    progress: &'a ProgressBar,
}

/// What one runtime came to in a round.
struct Taken {
    runtime: RuntimeName,
    samples: Vec<Sample>,
    failed: bool,
}

impl Round<'_> {
    /// The nth sample of each runtime is next to the nth of the others. A runtime that failed is
    /// left out from then on.
    fn run(&self, runtimes: impl Iterator<Item = RuntimeName>, samples: u32) -> Vec<Taken> {
        let mut taken: Vec<_> = runtimes.map(|runtime| Taken { runtime, samples: Vec::new(), failed: false }).collect();
        for turn in 0..samples {
            let mut order: Vec<_> = taken.iter_mut().collect();
            if turn % 2 == 1 {
                order.reverse();
            }
            for Taken { runtime, samples, failed } in order {
                if !*failed {
                    let doing = format!("{} on {runtime}, procs {}", self.row, self.procs);
                    self.progress.set_message(doing);
                    match self.sample(*runtime) {
                        Ok(sample) => samples.push(sample),
                        Err(error) => {
                            *failed = true;
                            self.progress.suspend(|| eprintln!("greenloom-bench: {error:#}"));
                        }
                    }
                }
                self.progress.inc(1);
            }
        }
        taken
    }

    fn sample(&self, runtime: RuntimeName) -> anyhow::Result<Sample> {
        let command = match (runtime, self.go) {
            (RuntimeName::Go, Some(go)) => go.command(self.row, self.procs, &self.plan),
            _ => {
                let mut command = Command::new(env::current_exe().context("where this program is")?);
                command.args(["one", "--runtime", runtime.name(), "--row", self.row.name()]).args([
                    "--procs",
                    &self.procs.to_string(),
                    "--ops",
                    &self.plan.ops.to_string(),
                ]);
                command
            }
        };
        process::sample(runtime, command)
            .with_context(|| format!("row {} on {runtime} with procs {} failed", self.row, self.procs))
    }
}
