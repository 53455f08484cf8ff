//! Runs tests that end their process in a process of their own.

use std::process::{Command, Output};

const TEST: &str = "GREENLOOM_TEST_IN_CHILD";

/// Runs the calling test again in a new process, and returns how that ended. In the new process,
/// returns `None`.
///
/// `test` is the full path of the test, `concat!(module_path!(), "::its_name")`.
pub(crate) fn run(test: &str) -> Option<Output> {
    if std::env::var_os(TEST).is_some_and(|running| running == test) {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: a valid limit. A child that dies as expected should leave no core dump.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
        return None;
    }
    let (_crate, filter) = test.split_once("::").expect("a path that begins with the crate");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", filter, "--nocapture", "--test-threads=1"])
        .env(TEST, test)
        .output()
        .unwrap();
    Some(output)
}

/// Asserts that the child ran its test and passed.
pub(crate) fn assert_passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "the child ran no test: {text}");
}
