//! Turns the crate of this package into the one that runs inside loom.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(greenloom_loom)");
    println!("cargo::rustc-cfg=greenloom_loom");
    println!("cargo::rerun-if-changed=build.rs");
}
