//! What a row measures of this process.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Context;

/// What one run of a row came to.
#[derive(Clone, Copy)]
pub struct Measured {
    pub ns_per_op: f64,
    pub cpu_ns_per_op: f64,
    pub bytes_per_task: Option<f64>,
}

/// Runs from the first operation of a row to its last.
pub struct Clock {
    start: Instant,
    cpu: Duration,
}

impl Clock {
    pub fn start() -> Self {
        let cpu = cpu_time();
        Self { start: Instant::now(), cpu }
    }

    /// Wall clock and CPU time since the start.
    pub fn read(&self) -> (Duration, Duration) {
        (self.start.elapsed(), cpu_time() - self.cpu)
    }

    pub fn stop(self, ops: u64) -> Measured {
        let (wall, cpu) = self.read();
        Measured {
            ns_per_op: wall.as_nanos() as f64 / ops as f64,
            cpu_ns_per_op: cpu.as_nanos() as f64 / ops as f64,
            bytes_per_task: None,
        }
    }
}

/// User and system time of all threads of this process.
fn cpu_time() -> Duration {
    // SAFETY: an rusage is plain integers, for which zeros are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live rusage that nothing else refers to.
    let code = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    assert_eq!(code, 0, "getrusage of the own process cannot fail");
    let duration = |time: libc::timeval| Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64);
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// Resident bytes of this process and the page tables that map them.
pub fn memory() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let field = |name: &str| kib_field(&status, name).with_context(|| format!("/proc/self/status names no {name}"));
    Ok(field("VmRSS")? + field("VmPTE")?)
}

/// The bytes of a line like `VmRSS:     4096 kB`.
pub fn kib_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "VmRSSx:\t 1 kB\nVmRSS:\t  20 kB\n";
        assert_eq!(kib_field(text, "VmRSS"), Some(20 * 1024));
        assert_eq!(kib_field(text, "VmPTE"), None);
    }

    #[test]
    fn memory_of_this_process_is_known() {
        assert!(memory().unwrap() > 0);
    }
}
