//! How long the tasks of the rows `sleep`, `sleep_warm` and `sleep_million` sleep: the same times in each language.
//!
//! The time of such a row is at least that of its longest sleep, 500 ns for each task. What the tasks and their timers cost shows
//! in what is above that, and in the CPU time.

use std::time::Duration;

use super::mix;

/// The longest sleep, for each of so many tasks: so the row takes as long per task whether there are many or few.
const LONGEST_PER_TASK: Duration = Duration::from_nanos(500);
/// Of so many tasks one looks at the clock: more would measure the clock.
const WATCH_ONE_OF: u64 = 64;

/// The sleep of the task numbered `id` of `tasks`: whole microseconds, evenly spread up to the longest.
pub fn nap(id: u64, tasks: u64) -> Duration {
    let longest = LONGEST_PER_TASK.as_nanos() as u64 * tasks / 1_000;
    // The upper half: the lower bits are the weaker ones.
    Duration::from_micros((mix(id, 4) >> 32) % longest.max(1))
}

/// Whether that task checks that it slept for so long.
pub fn is_watched(id: u64) -> bool {
    id.is_multiple_of(WATCH_ONE_OF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn naps_are_spread_evenly() {
        let tasks = 200_000;
        let mut in_tenth = [0; 10];
        for id in 0..tasks {
            in_tenth[nap(id, tasks).as_micros() as usize / 10_000] += 1;
        }
        assert!(in_tenth.iter().all(|&count| (19_000..21_000).contains(&count)), "{in_tenth:?}");
        assert_eq!(nap(0, 1), Duration::ZERO);
    }
}
