//! Each page, run as a program of its own: what it says of its outcome.

use std::process::Command;

/// What a page prints.
#[track_caller]
fn printed(program: &str) -> String {
    let output = Command::new(program).output().expect("the page starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

#[track_caller]
fn says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// The number after `before`.
#[track_caller]
fn number(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no {before:?} in\n{text}"));
    let digits: String = rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number after {before:?} in\n{text}"))
}

#[test]
fn concurrency_is_not_parallelism() {
    let text = printed(env!("CARGO_BIN_EXE_concurrency_is_not_parallelism"));
    says(&text, &["16 tasks", "at 1 processor", "computing"]);
    assert!(number(&text, "waiting") >= 50, "{text}");
}

#[test]
fn deadlock() {
    let text = printed(env!("CARGO_BIN_EXE_deadlock"));
    let (stuck, ordered) = text.split_once("lower first: ").expect("two evenings");
    says(stuck, &["all tasks are asleep - deadlock!", "Plato", "Hypatia", "Zeno", "Diotima", "Thales", "deadlock.rs:"]);
    assert_eq!(ordered, "1000 uses of forks\n");
}

#[test]
fn leak() {
    let text = printed(env!("CARGO_BIN_EXE_leak"));
    says(&text, &["the wrong way: ", "receiving from a channel", "leak.rs:", "the right way: nothing is left"]);
}

#[test]
fn panic_isolation() {
    let text = printed(env!("CARGO_BIN_EXE_panic_isolation"));
    says(&text, &["answered 996, failed 4: attempt to divide by zero", "in flight: 0", "poisoned: true"]);
}

/// What a limit of 100 ms meets is a matter of time, on a machine that may stand still for longer: the outcome that the page is about
/// must come once. That nothing is left running holds each time.
#[test]
fn search_timeout() {
    const TRIES: usize = 5;
    let gives_up = |_| {
        let text = printed(env!("CARGO_BIN_EXE_search_timeout"));
        let lines: Vec<_> = text.lines().collect();
        let [_, context, timeout] = lines[..] else { panic!("three lines: {text}") };
        says(context, &["context: ", "searches still running: 0"]);
        says(timeout, &["timeout: ", "searches still running: 0"]);
        text == "left alone: gave up, searches still running: 1\n\
                 context: gave up, searches still running: 0\n\
                 timeout: gave up, searches still running: 0\n"
    };
    assert!((0..TRIES).any(gives_up), "{TRIES} times");
}

#[test]
fn sieve() {
    let text = printed(env!("CARGO_BIN_EXE_sieve"));
    says(&text, &["[2, 3, 5, 7, 11, 13,", ", 521, 523, 541]"]);
}

#[test]
fn skynet() {
    says(&printed(env!("CARGO_BIN_EXE_skynet")), &["1000000 leaves, sum 499999500000, in "]);
}

#[test]
fn two_services() {
    let text = printed(env!("CARGO_BIN_EXE_two_services"));
    let (first, second) = text.split_once("the health check fails first: ").expect("two scenes");
    says(first, &["the server stops, having served "]);
    says(
        second,
        &[
            "[Ok(()), Err(\"the disk is full\")]",
            "the server stops, having served 5\n",
            "the health check stops",
            "the server ends first: [Err(\"all clients are gone\"), Ok(())]",
        ],
    );
}

#[test]
fn worker_pool() {
    let text = printed(env!("CARGO_BIN_EXE_worker_pool"));
    let (pool, tasks) = text.split_once("a task per job: ").expect("two floods");
    for flood in [pool, tasks] {
        says(flood, &["5000 jobs in ", "(longest)"]);
    }
    // At the workers, in the queue, and the one that waits to be submitted.
    assert!(number(pool, " ms, ") <= 64 + 64 + 1, "{text}");
}
