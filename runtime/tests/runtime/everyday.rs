//! What everyday crates need is on the default stack: in debug builds and in release builds, as cargo makes them for a newcomer.

use std::path::Path;
use std::process::Command;

/// Builds and runs the package `everyday`, which is outside the workspace and its profiles.
fn everyday_crates_run(profile: &str) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../everyday/Cargo.toml");
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("everyday");
    let output = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
        .args(["run", "--quiet", "--locked", "--profile", profile])
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target)
        .output()
        .unwrap();
    let (said, complaints) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaints}");
    assert_eq!(said.matches(": returned\n").count(), 12, "{said}");
}

#[test]
fn everyday_crates_run_on_the_default_stack_of_a_debug_build() {
    everyday_crates_run("dev");
}

#[test]
fn everyday_crates_run_on_the_default_stack_of_a_release_build() {
    everyday_crates_run("release");
}
