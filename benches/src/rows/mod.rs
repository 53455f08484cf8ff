//! The rows: what each one is, how large it is, and the pieces of work that all runtimes share.
//!
//! A row is the same work on every runtime, written in that runtime's own idiom, and checks its own
//! result. Its clock covers the work alone: neither the start of the process nor that of the
//! runtime, and neither's end.

mod naps;
mod queens;
mod work;

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValue;

pub use naps::{is_watched, nap};
pub use queens::Board;
pub use work::{item, item_sum, job, job_sum, mix};

/// A row may be asked for at most this many operations.
pub const MAX_OPS: u64 = 1_000_000_000;

/// Workers of the row `pool`.
pub const POOL_WORKERS: u64 = 16;
/// Jobs that its queue holds. Few enough that a worker who finds them all runs for less than the
/// 10 ms after which greenloom's monitor would take it for a hog and add a processor.
pub const POOL_QUEUE: usize = 64;
/// Endless loops per processor in the row `hog`.
pub const HOGS_PER_PROCESSOR: u64 = 2;
/// Children of each inner node of the row `skynet`.
pub const SKYNET_CHILDREN: u64 = 10;
/// Tasks of the row `ring`, its root included.
pub const RING_TASKS: u64 = 1_000;
/// What the channels of the rows `stream`, `mpmc` and `mpmc_work` hold.
pub const QUEUE_CAPACITY: usize = 128;
/// Producers, and consumers as well, of the rows `mpmc` and `mpmc_work`.
pub const MPMC_SIDE: u64 = 8;
/// Arms of the row `select4`.
pub const FEW_ARMS: u64 = 4;
/// Arms of the row `select64`.
pub const MANY_ARMS: u64 = 64;
/// Tasks of the row `mutex`.
pub const MUTEX_TASKS: u64 = 1_000;
/// Producers of the row `fanin`.
pub const FANIN_PRODUCERS: u64 = 1_000;
/// The limit of the row `timeout`: nothing takes that long, even on a machine that is busy with something else.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Children of each inner node of the row `context_tree`.
pub const CONTEXT_CHILDREN: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Spawn,
    SpawnJoin,
    SpawnChain,
    Yield,
    Yield100k,
    Parked,
    Skynet,
    Fib,
    Nqueens,
    Pool,
    Hog,
    Pingpong,
    PingpongBuf,
    Ring,
    Stream,
    Mpmc,
    MpmcWork,
    Select4,
    Select64,
    Mutex,
    Sieve,
    Fanin,
    Sleep,
    SleepWarm,
    SleepMillion,
    Timeout,
    ContextTree,
    ScopeSpawn,
}

/// How much a row does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the time is divided by.
    pub ops: u64,
    /// What the row's body takes: the argument of `fib`, the board of `nqueens`, else `ops`.
    pub size: u64,
}

struct Description {
    name: &'static str,
    /// What one operation is.
    operation: &'static str,
    usual_ops: u64,
    quick_ops: u64,
    least_ops: u64,
}

impl Row {
    pub const ALL: [Row; 28] = [
        Row::Spawn,
        Row::SpawnJoin,
        Row::SpawnChain,
        Row::Yield,
        Row::Yield100k,
        Row::Parked,
        Row::Skynet,
        Row::Fib,
        Row::Nqueens,
        Row::Pool,
        Row::Hog,
        Row::Pingpong,
        Row::PingpongBuf,
        Row::Ring,
        Row::Stream,
        Row::Mpmc,
        Row::MpmcWork,
        Row::Select4,
        Row::Select64,
        Row::Mutex,
        Row::Sieve,
        Row::Fanin,
        Row::Sleep,
        Row::SleepWarm,
        Row::SleepMillion,
        Row::Timeout,
        Row::ContextTree,
        Row::ScopeSpawn,
    ];

    fn description(self) -> &'static Description {
        match self {
            Row::Spawn => &Description {
                name: "spawn",
                operation: "one task spawned and finished, all waited for together",
                usual_ops: 2_000_000,
                quick_ops: 500_000,
                least_ops: 1,
            },
            Row::SpawnJoin => &Description {
                name: "spawn_join",
                operation: "one task spawned, then joined",
                usual_ops: 1_000_000,
                quick_ops: 200_000,
                least_ops: 1,
            },
            Row::SpawnChain => &Description {
                name: "spawn_chain",
                operation: "one task that spawns the next; the last one wakes the root",
                usual_ops: 1_000_000,
                quick_ops: 200_000,
                least_ops: 1,
            },
            Row::Yield => &Description {
                name: "yield",
                operation: "one yield among 100 tasks",
                usual_ops: 4_000_000,
                quick_ops: 1_000_000,
                least_ops: 100,
            },
            Row::Yield100k => &Description {
                name: "yield_100k",
                operation: "one yield among 100,000 tasks, all started before the clock",
                usual_ops: 2_000_000,
                quick_ops: 500_000,
                least_ops: 100_000,
            },
            Row::Parked => &Description {
                name: "parked",
                operation: "one task started, parked with all others at once, woken and joined",
                usual_ops: 1_000_000,
                quick_ops: 100_000,
                least_ops: 1,
            },
            Row::Skynet => &Description {
                name: "skynet",
                operation: "one leaf of a tree of tasks, ten children to a node, summed up by join",
                usual_ops: 1_000_000,
                quick_ops: 100_000,
                least_ops: 10,
            },
            Row::Fib => &Description {
                name: "fib",
                operation: "one task of fib(n): spawn fib(n - 1), compute fib(n - 2), join",
                usual_ops: 1_346_269,
                quick_ops: 121_393,
                least_ops: 2,
            },
            Row::Nqueens => &Description {
                name: "nqueens",
                operation: "one task of n queens: a task per queen in the first 6 rows, the rest in a loop",
                usual_ops: 306_718,
                quick_ops: 156_373,
                least_ops: 1_652,
            },
            Row::Pool => &Description {
                name: "pool",
                operation: "one job of about 50 µs, done by 16 workers behind a bounded queue",
                usual_ops: 20_000,
                quick_ops: 4_000,
                least_ops: 1,
            },
            Row::Hog => &Description {
                name: "hog",
                operation: "mean lateness of a 1 ms ticker beside 2 endless loops per processor",
                usual_ops: 200,
                quick_ops: 50,
                least_ops: 1,
            },
            Row::Pingpong => &Description {
                name: "pingpong",
                operation: "one value to another task and its answer back, capacity 0",
                usual_ops: 2_000_000,
                quick_ops: 400_000,
                least_ops: 1,
            },
            Row::PingpongBuf => &Description {
                name: "pingpong_buf",
                operation: "one value to another task and its answer back, capacity 1",
                usual_ops: 2_000_000,
                quick_ops: 400_000,
                least_ops: 1,
            },
            Row::Ring => &Description {
                name: "ring",
                operation: "one hop of a token around 1,000 tasks, capacity 0",
                usual_ops: 4_000_000,
                quick_ops: 1_000_000,
                least_ops: RING_TASKS,
            },
            Row::Stream => &Description {
                name: "stream",
                operation: "one value from one producer to one consumer, capacity 128",
                usual_ops: 8_000_000,
                quick_ops: 2_000_000,
                least_ops: 1,
            },
            Row::Mpmc => &Description {
                name: "mpmc",
                operation: "one value from one of 8 producers to one of 8 consumers, capacity 128",
                usual_ops: 4_000_000,
                quick_ops: 1_000_000,
                least_ops: MPMC_SIDE,
            },
            Row::MpmcWork => &Description {
                name: "mpmc_work",
                operation: "the same as mpmc, and about 5 µs of computing on the value at its consumer",
                usual_ops: 200_000,
                quick_ops: 40_000,
                least_ops: MPMC_SIDE,
            },
            Row::Select4 => &Description {
                name: "select4",
                operation: "one value received by a select over 4 channels of capacity 0 with a producer each",
                usual_ops: 2_000_000,
                quick_ops: 400_000,
                least_ops: FEW_ARMS,
            },
            Row::Select64 => &Description {
                name: "select64",
                operation: "one value received by a select over 64 channels of capacity 0 with a producer each",
                usual_ops: 640_000,
                quick_ops: 128_000,
                least_ops: MANY_ARMS,
            },
            Row::Mutex => &Description {
                name: "mutex",
                operation: "one addition to a counter under the lock that 1,000 tasks share",
                usual_ops: 4_000_000,
                quick_ops: 1_000_000,
                least_ops: MUTEX_TASKS,
            },
            Row::Sieve => &Description {
                name: "sieve",
                operation: "one prime, the next task of a chain that filters its multiples out, capacity 0",
                usual_ops: 2_500,
                quick_ops: 1_000,
                least_ops: 1,
            },
            Row::Fanin => &Description {
                name: "fanin",
                operation: "one value from one of 1,000 producers to one consumer over one channel, capacity 0",
                usual_ops: 2_000_000,
                quick_ops: 400_000,
                least_ops: FANIN_PRODUCERS,
            },
            Row::Sleep => &Description {
                name: "sleep",
                operation: "one task that sleeps, up to 500 ns for each of them (100 ms for 200,000), then joined",
                usual_ops: 200_000,
                quick_ops: 100_000,
                least_ops: 1,
            },
            Row::SleepWarm => &Description {
                name: "sleep_warm",
                operation: "the same as sleep, for the second time in the same runtime",
                usual_ops: 200_000,
                quick_ops: 100_000,
                least_ops: 1,
            },
            Row::SleepMillion => &Description {
                name: "sleep_million",
                operation: "the same as sleep, with a million tasks",
                usual_ops: 1_000_000,
                quick_ops: 200_000,
                least_ops: 1,
            },
            Row::Timeout => &Description {
                name: "timeout",
                operation: "one pingpong inside a limit of its own, which never fires",
                usual_ops: 1_000_000,
                quick_ops: 200_000,
                least_ops: 1,
            },
            Row::ContextTree => &Description {
                name: "context_tree",
                operation: "one node of a tree of contexts, ten children to a node, that is cancelled at its root",
                usual_ops: 100_000,
                quick_ops: 100_000,
                least_ops: 1,
            },
            Row::ScopeSpawn => &Description {
                name: "scope_spawn",
                operation: "one child of a scope, which writes its result into its place; the scope waits for all",
                usual_ops: 1_000_000,
                quick_ops: 200_000,
                least_ops: 1,
            },
        }
    }

    pub fn name(self) -> &'static str {
        self.description().name
    }

    pub fn operation(self) -> &'static str {
        self.description().operation
    }

    /// The plan of the main job, or of its quick form.
    pub fn usual_plan(self, quick: bool) -> Plan {
        let description = self.description();
        let ops = if quick { description.quick_ops } else { description.usual_ops };
        self.plan(ops).expect("the table's own sizes are valid")
    }

    /// The largest plan with at most `ops` operations.
    ///
    /// # Errors
    ///
    /// `ops` is too small for this row; the text says what it needs.
    pub fn plan(self, ops: u64) -> Result<Plan, String> {
        let least = self.description().least_ops;
        if ops < least {
            return Err(format!("row {self} needs at least {least} operations, got {ops}"));
        }
        let (size, ops) = match self {
            Row::Skynet => largest(1, ops, |depth| SKYNET_CHILDREN.pow(depth as u32)),
            Row::Fib => largest(2, ops, fib_tasks),
            Row::Nqueens => largest(8, ops, queens::tasks),
            _ => {
                let equal_shares = ops / self.sharers() * self.sharers();
                (equal_shares, equal_shares)
            }
        };
        // The tree of skynet is told by its leaves.
        let size = if self == Row::Skynet { ops } else { size };
        Ok(Plan { ops, size })
    }

    /// How many tasks the row runs beside its root.
    pub fn tasks(self, plan: &Plan, procs: u32) -> u64 {
        match self {
            Row::Yield | Row::Yield100k | Row::Select4 | Row::Select64 | Row::Mutex | Row::Fanin => self.sharers(),
            Row::Skynet => (SKYNET_CHILDREN * plan.ops - 1) / (SKYNET_CHILDREN - 1),
            Row::Pool => POOL_WORKERS,
            Row::Hog => HOGS_PER_PROCESSOR * u64::from(procs) + 1,
            Row::Pingpong | Row::PingpongBuf | Row::Stream | Row::Timeout => 1,
            Row::ContextTree => 0,
            Row::Ring => RING_TASKS - 1,
            Row::Mpmc | Row::MpmcWork => 2 * MPMC_SIDE,
            // A filter for each prime behind the generator.
            Row::Sieve => plan.ops + 1,
            _ => plan.ops,
        }
    }

    /// How many tasks do the operations in equal shares, in the rows that have a fixed number of those.
    pub fn sharers(self) -> u64 {
        match self {
            Row::Yield => 100,
            Row::Yield100k => 100_000,
            Row::Ring => RING_TASKS,
            Row::Mpmc | Row::MpmcWork => MPMC_SIDE,
            Row::Select4 => FEW_ARMS,
            Row::Select64 => MANY_ARMS,
            Row::Mutex => MUTEX_TASKS,
            Row::Fanin => FANIN_PRODUCERS,
            _ => 1,
        }
    }

    /// Whether more processors can make the row faster: of a lateness that means nothing, and one task cancels a tree.
    pub fn has_speed_up(self) -> bool {
        !matches!(self, Row::Hog | Row::ContextTree)
    }
}

/// The largest `n`, from `first` on, whose `cost` does not exceed `limit`, and that cost.
fn largest(first: u64, limit: u64, cost: impl Fn(u64) -> u64) -> (u64, u64) {
    (first..).map(|n| (n, cost(n))).take_while(|&(_, cost)| cost <= limit).last().expect("a checked lower limit")
}

/// Tasks of `fib(n)`, the first call included: every call with `n > 1` spawns one more.
fn fib_tasks(n: u64) -> u64 {
    fib(n + 1)
}

pub fn fib(n: u64) -> u64 {
    (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
}

/// The sum of `0..values`: of the numbers that the producers of a row send, each once.
pub fn sum_below(values: u64) -> u64 {
    values * (values - 1) / 2
}

/// The prime that a sieve must arrive at, by trial division.
pub fn nth_prime(nth: u64) -> u64 {
    let mut primes: Vec<u64> = Vec::new();
    for n in 2.. {
        let is_prime = primes.iter().take_while(|&&prime| prime * prime <= n).all(|prime| n % prime != 0);
        if is_prime {
            primes.push(n);
        }
        if primes.len() as u64 == nth {
            break;
        }
    }
    primes.last().copied().unwrap_or_default()
}

pub fn queens_solutions(n: u64) -> u64 {
    Board::new(n).count()
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl ValueEnum for Row {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(self.name()).help(self.operation()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_plans_its_own_sizes_exactly() {
        for row in Row::ALL {
            let description = row.description();
            for ops in [description.usual_ops, description.quick_ops, description.least_ops] {
                assert_eq!(row.plan(ops).unwrap().ops, ops, "{row}");
            }
            assert!(row.plan(description.least_ops - 1).unwrap_err().contains(row.name()));
        }
    }

    #[test]
    fn quick_rows_still_run_a_hundred_thousand_tasks() {
        let that_count_tasks = Row::ALL.into_iter().take_while(|&row| row != Row::Pool).filter(|&row| row != Row::Yield);
        for row in that_count_tasks {
            assert!(row.tasks(&row.usual_plan(true), 1) >= 100_000, "{row}");
        }
    }

    #[test]
    fn operations_are_rounded_down_to_what_a_row_can_do() {
        assert_eq!(Row::Skynet.plan(999_999), Ok(Plan { ops: 100_000, size: 100_000 }));
        assert_eq!(Row::Fib.plan(2_000_000), Ok(Plan { ops: 1_346_269, size: 30 }));
        assert_eq!(Row::Nqueens.plan(400_000), Ok(Plan { ops: 306_718, size: 14 }));
        assert_eq!(Row::Yield.plan(199), Ok(Plan { ops: 100, size: 100 }));
        assert_eq!(Row::Select64.plan(100), Ok(Plan { ops: 64, size: 64 }));
    }

    #[test]
    fn known_results() {
        assert_eq!(fib(30), 832_040);
        assert_eq!(sum_below(1_000_000), 499_999_500_000);
        assert_eq!([nth_prime(1), nth_prime(2), nth_prime(2_500)], [2, 3, 22_307]);
        assert_eq!(Row::Skynet.tasks(&Row::Skynet.usual_plan(false), 1), 1_111_111);
        assert_eq!(queens_solutions(8), 92);
    }
}
