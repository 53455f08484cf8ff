//! The process of a sample.

use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use anyhow::{Context, anyhow, bail};

use super::{RuntimeName, Sample};

/// A sample that takes longer than this hangs: the longest row takes seconds.
const SAMPLE_LIMIT: Duration = Duration::from_secs(300);
/// Of what a failing sample wrote to stderr.
const SHOWN_LINES: usize = 40;

/// Runs the process of one sample and reads the line it prints.
pub fn sample(runtime: RuntimeName, command: Command) -> anyhow::Result<Sample> {
    let output = output_within(command, SAMPLE_LIMIT)?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("{}\n{}", output.status, first_lines(&stderr));
    }
    let stdout = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&stdout)
        .map_err(|error| anyhow!("not a line of JSON from {runtime} ({error}): {}{stderr}", stdout.trim_end()))
}

/// What a process said first, where the cause is; a hundred thousand tasks may have said the same.
fn first_lines(text: &str) -> String {
    let mut lines: Vec<_> = text.lines().take(SHOWN_LINES + 1).collect();
    if lines.len() > SHOWN_LINES {
        lines[SHOWN_LINES] = "…";
    }
    lines.join("\n")
}

/// Like `Command::output`, but kills a process that takes too long. Nothing polls meanwhile: on a
/// small machine that would be part of the measurement.
fn output_within(mut command: Command, limit: Duration) -> anyhow::Result<Output> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.with_context(|| format!("starting {}", command.get_program().display()))?;
    let id = child.id() as libc::pid_t;
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        // Nobody receives the output of a process that was killed.
        let _: Result<(), mpsc::SendError<io::Result<Output>>> = sender.send(child.wait_with_output());
    });
    match receiver.recv_timeout(limit) {
        Ok(output) => Ok(output?),
        Err(_) => {
            // SAFETY: a plain system call. If the process ends at this very moment, its id might be
            // another one's by now; a bench can take that chance.
            unsafe { libc::kill(id, libc::SIGKILL) };
            let _ = reader.join();
            bail!("killed after {} s", limit.as_secs());
        }
    }
}
