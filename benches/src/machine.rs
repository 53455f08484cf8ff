//! What is measured on.

use std::{fs, thread};

use serde::Serialize;

use crate::measure::kib_field;

#[derive(Serialize)]
pub struct Machine {
    cpu: String,
    cpus: usize,
    kernel: String,
    memory_bytes: Option<u64>,
    rustc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    go: Option<String>,
}

impl Machine {
    /// `go` is the version of the Go peer, if one was measured.
    pub fn this(go: Option<String>) -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo")
            .lines()
            .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()));
        Self {
            cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: thread::available_parallelism().map_or(1, |n| n.get()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            memory_bytes: kib_field(&read("/proc/meminfo"), "MemTotal"),
            rustc: env!("BENCH_RUSTC_VERSION"),
            go,
        }
    }
}
