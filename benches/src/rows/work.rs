//! The CPU work of the rows `pool`, `mpmc_work` and `hog`: the same count of the same steps in each language.

use std::hint::black_box;

/// Steps of a job: about 50 µs on a current server CPU.
const JOB_STEPS: u64 = 29_000;
/// Steps of an item: a tenth of a job.
const ITEM_STEPS: u64 = 2_900;
/// Jobs and items repeat after so many, so that their expected sum is cheap to know.
const DISTINCT_JOBS: u64 = 16;

/// A chain of dependent steps. A bare linear congruential generator will not do: compilers unroll
/// it into independent strides, each to a different degree.
#[inline]
pub fn mix(mut x: u64, steps: u64) -> u64 {
    for _ in 0..steps {
        x = (x ^ (x >> 29)).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
    x
}

/// The job numbered `id`, of the row `pool`.
pub fn job(id: u64) -> u64 {
    mix(black_box(id % DISTINCT_JOBS), black_box(JOB_STEPS))
}

/// The item numbered `id`, of the row `mpmc_work`.
pub fn item(id: u64) -> u64 {
    mix(black_box(id % DISTINCT_JOBS), black_box(ITEM_STEPS))
}

/// The sum of the first jobs' results, which a pool must arrive at.
pub fn job_sum(jobs: u64) -> u64 {
    repeated_sum(jobs, job)
}

/// The sum of the first items' results.
pub fn item_sum(items: u64) -> u64 {
    repeated_sum(items, item)
}

fn repeated_sum(count: u64, job: fn(u64) -> u64) -> u64 {
    (0..DISTINCT_JOBS.min(count)).fold(0u64, |sum, id| {
        let repeats = (count - id).div_ceil(DISTINCT_JOBS);
        sum.wrapping_add(job(id).wrapping_mul(repeats))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sum_of_jobs_is_what_they_add_up_to() {
        for jobs in [1, 15, 16, 33] {
            assert_eq!(job_sum(jobs), (0..jobs).map(job).fold(0, u64::wrapping_add));
            assert_eq!(item_sum(jobs), (0..jobs).map(item).fold(0, u64::wrapping_add));
        }
    }
}
