//! The seam for verification holds: outside `prim/` nobody names std's atomics, locks or threads, which loom could not see.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that are outside the seam, each with its reason.
const OUTSIDE: &[(&str, &str)] = &[
    ("models.rs", "models, which name loom's own"),
    ("stack/overflow.rs", "signal handlers need statics, and are in no model"),
    ("stack/slab_model.rs", "a pool that outlives the executions of a model"),
    ("stack/slab.rs", "replaced by slab_model.rs in a model"),
    ("stack/guard.rs", "part of slab.rs's room"),
];

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn std_primitives_are_named_in_prim_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "found only {} files under {}", files.len(), src.display());
    let mut found = Vec::new();
    for file in files {
        let name = file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
        if name.starts_with("prim") || OUTSIDE.iter().any(|(path, _)| *path == name) {
            continue;
        }
        for (number, line) in fs::read_to_string(&file).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let named = ["sync::atomic", "sync::Mutex", "sync::Condvar", "sync::RwLock", "sync::Once", "std::thread::"];
            if named.iter().any(|n| code.contains(n)) && !code.contains("crate::prim") {
                found.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "take these from crate::prim:\n{}", found.join("\n"));
}
