//! What the source keeps to: outside `prim/` and `sys/` nobody names std's atomics, locks, unsafe cells, threads or clock, nor what replaces
//! them, which loom could not see; and each room imports from those below it alone.

use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::slice::Iter;

/// The rooms of the crate, from the ground up.
const ROOMS: &[&str] = &[
    "sys",
    "prim",
    "stack",
    "raw",
    "unwind",
    "scheduler",
    "wait",
    "task",
    "channel",
    "sync",
    "time",
    "context",
    "structured",
    "runtime",
];

/// What is at the root of the crate itself, since `macro_rules!` puts it there.
const MACROS: &[&str] = &["select", "select_biased", "task_local", "__greenloom_select"];

/// What only `prim/` and `sys/` may name. A name of std counts for core and alloc too.
const BEHIND: &[&str] = &[
    "std::sync",
    "std::thread",
    "std::cell::UnsafeCell",
    "std::time::Instant::now",
    "Instant::now",
    "loom",
    "crossbeam_deque",
    "crossbeam_utils::sync",
];

/// Files that are outside the seam, each with its reason.
const OUTSIDE: &[(&str, &str)] = &[
    ("models/mod.rs", "models, which name loom's own"),
    ("models/data.rs", "the same"),
    ("models/machines.rs", "the same"),
    ("models/states.rs", "the same"),
    ("models/time.rs", "the same"),
    ("stack/overflow.rs", "signal handlers need statics, and are in no model"),
    ("stack/alternate.rs", "part of overflow.rs's room"),
    ("stack/slab_model.rs", "a pool that outlives the executions of a model"),
    ("stack/slab.rs", "replaced by slab_model.rs in a model"),
    ("stack/guard.rs", "part of slab.rs's room"),
];

/// Plain data under a name that otherwise decides.
const HARMLESS: &[&str] =
    &["std::sync::LockResult", "std::sync::PoisonError", "std::sync::TryLockError", "std::sync::TryLockResult"];

/// Single names that a file may use all the same.
const ALLOWED: &[(&str, &str, &str)] = &[
    (
        "raw/record.rs",
        "std::cell::UnsafeCell",
        "holds the coroutine, which the one thread touches that runs the stack; what decides that are the queues, which loom sees",
    ),
    (
        "channel/sender.rs",
        "std::cell::UnsafeCell",
        "a message on the waiter's frame, which the partner moves under the channel's lock before the wake; both loom sees",
    ),
    ("channel/receiver.rs", "std::cell::UnsafeCell", "the same"),
    ("channel/choose.rs", "std::cell::UnsafeCell", "the same, for the arms of a select"),
    (
        "sync/value.rs",
        "std::cell::UnsafeCell",
        "lends out references, which loom's cannot; in a model one of loom's stands beside it",
    ),
];

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// `::`, or a character.
    Sign(String),
}

/// Splits Rust into names and signs, without comments and literals.
fn tokens(text: &str) -> Vec<Token> {
    let text: Vec<char> = text.chars().collect();
    let at = |i: usize| text.get(i).copied().unwrap_or('\0');
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < text.len() {
        match at(i) {
            '/' if at(i + 1) == '/' => {
                while i < text.len() && at(i) != '\n' {
                    i += 1;
                }
            }
            '/' if at(i + 1) == '*' => {
                let mut depth = 0;
                loop {
                    match (at(i), at(i + 1)) {
                        ('/', '*') => (depth, i) = (depth + 1, i + 2),
                        ('*', '/') => (depth, i) = (depth - 1, i + 2),
                        _ => i += 1,
                    }
                    if depth == 0 || i >= text.len() {
                        break;
                    }
                }
            }
            '"' => {
                // A raw string if `r` or `br` and some `#` are before it.
                let hashes = text[..i].iter().rev().take_while(|&&c| c == '#').count();
                let raw = i > hashes && at(i - hashes - 1) == 'r';
                i += 1;
                while i < text.len() && !(at(i) == '"' && (!raw || (1..=hashes).all(|n| at(i + n) == '#'))) {
                    i += if at(i) == '\\' && !raw { 2 } else { 1 };
                }
                i += 1;
            }
            // A character, not a lifetime.
            '\'' if at(i + 1) == '\\' || at(i + 2) == '\'' => {
                i += if at(i + 1) == '\\' { 3 } else { 2 };
                while i < text.len() && at(i) != '\'' {
                    i += 1;
                }
                i += 1;
            }
            c if is_name(c) => {
                let end = (i..).find(|&end| !is_name(at(end))).unwrap();
                tokens.push(Token::Name(text[i..end].iter().collect()));
                i = end;
            }
            ':' if at(i + 1) == ':' => {
                tokens.push(Token::Sign("::".to_owned()));
                i += 2;
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token::Sign(c.to_string()));
                }
                i += 1;
            }
        }
    }
    tokens
}

/// Every path that the tokens name, those of a `use` tree in full.
fn paths(tokens: &[Token]) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = tokens.iter().peekable();
    while let Some(token) = rest.peek() {
        match token {
            Token::Name(name) if name == "use" => {
                rest.next();
                tree(&mut rest, "", &mut found);
            }
            Token::Name(_) => tree(&mut rest, "", &mut found),
            Token::Sign(_) => _ = rest.next(),
        }
    }
    found
}

/// Reads one path, or one tree of paths, that begins with `prefix`.
fn tree(rest: &mut Peekable<Iter<'_, Token>>, prefix: &str, found: &mut Vec<String>) {
    let mut path = prefix.to_owned();
    let is = |token: Option<&&Token>, sign: &str| matches!(token, Some(Token::Sign(s)) if s == sign);
    loop {
        match rest.peek() {
            Some(Token::Name(name)) => {
                path = if path.is_empty() { name.clone() } else { format!("{path}::{name}") };
                rest.next();
            }
            Some(Token::Sign(sign)) if sign == "*" => {
                path.push_str("::*");
                rest.next();
            }
            Some(Token::Sign(sign)) if sign == "{" && !path.is_empty() => {
                rest.next();
                while !is(rest.peek(), "}") && rest.peek().is_some() {
                    tree(rest, &path, found);
                    while rest.peek().is_some() && !is(rest.peek(), ",") && !is(rest.peek(), "}") {
                        // `as` and a new name.
                        rest.next();
                    }
                    if is(rest.peek(), ",") {
                        rest.next();
                    }
                }
                rest.next();
                return;
            }
            _ => {}
        }
        if is(rest.peek(), "::") {
            rest.next();
        } else {
            // `self` in a tree is the tree's own name.
            found.push(path.strip_suffix("::self").unwrap_or(&path).to_owned());
            return;
        }
    }
}

/// Which forbidden name the path is, leads to, or imports with others.
fn behind(path: &str) -> Option<&'static str> {
    let path = ["core", "alloc"]
        .iter()
        .find_map(|root| path.strip_prefix(root)?.strip_prefix("::"))
        .map(|p| format!("std::{p}"))
        .unwrap_or_else(|| path.to_owned());
    let (imports, path) = match path.strip_suffix("::*") {
        Some(path) => (true, path.to_owned()),
        None => (false, path),
    };
    let leads = |path: &str, name: &str| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    // `use std::cell;` is as good as the cell itself; `std` alone is the root of every path.
    let module = path == "std::cell";
    if HARMLESS.iter().any(|name| leads(&path, name)) {
        return None;
    }
    BEHIND.iter().copied().find(|name| leads(&path, name) || ((imports || module) && leads(name, &path)))
}

#[test]
fn every_way_to_name_a_thing_is_found() {
    let found = |code: &str| paths(&tokens(code)).iter().filter_map(|path| behind(path)).collect::<Vec<_>>();
    for code in [
        "use std::sync::Mutex;",
        "pub(crate) use std::sync::{Arc as Shared};",
        "use std::{fmt, sync::{atomic::AtomicU8}};",
        "use std::sync;",
        "use std::{io, sync::{self}};",
        "use std::sync::*;",
        "use core::sync::atomic::*;",
        "fn f() { let x = 'x'; std::sync::Once::new(); }",
        "static S: ::std::sync::Once = 1;",
    ] {
        assert_eq!(found(code), ["std::sync"], "{code}");
    }
    assert_eq!(found("use std::thread;"), ["std::thread"]);
    assert_eq!(found("let now = Instant::now();"), ["Instant::now"]);
    assert_eq!(found("use std::{cell, fmt};"), ["std::cell::UnsafeCell"]);
    assert_eq!(found("use std::cell::*;"), ["std::cell::UnsafeCell"]);
    assert_eq!(found("fn f<'a>(x: &'a u8) { loom::thread::spawn(g) }"), ["loom"]);
    assert_eq!(
        found("use std::{cell::{Cell, UnsafeCell}, sync::{Arc, Weak}};"),
        ["std::cell::UnsafeCell", "std::sync", "std::sync"]
    );
    for code in [
        "use crate::prim::sync::{Arc, Mutex};",
        "use std::cell::{Cell, RefCell};",
        "/* use std::sync::Arc; /* */ std::thread */ // std::thread::park()",
        "let text = \"std::sync::Arc \\\" std::thread\"; let raw = r#\"std::sync \" \"#; let c = '\\''; let d = '\"';",
        "use std::fmt::*; use std::io::{self, Write as _};",
        "match thread::panicking() { sync => sync::go() }",
    ] {
        assert!(found(code).is_empty(), "{code}: {:?}", found(code));
    }
}

/// The tokens without modules of unit tests, which may use all that there is.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let is = |i: usize, text: &str| match tokens.get(i) {
        Some(Token::Name(t) | Token::Sign(t)) => t == text,
        None => false,
    };
    // `#[cfg(test)]` or `#[cfg(all(test, …))]`, then `mod`.
    let begins_at = |i: usize| {
        let is_cfg = is(i, "#") && is(i + 1, "[") && is(i + 2, "cfg") && is(i + 3, "(");
        let of_tests = is(i + 4, "test") || (is(i + 4, "all") && is(i + 5, "(") && is(i + 6, "test"));
        let end = (i..tokens.len()).find(|&end| is(end, "]"))?;
        (is_cfg && of_tests && is(end + 1, "mod")).then_some(end + 3)
    };
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        let Some(body) = begins_at(i) else {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        };
        let mut depth = 0;
        i = body;
        loop {
            depth = if is(i, "{") {
                depth + 1
            } else if is(i, "}") {
                depth - 1
            } else {
                depth
            };
            i += 1;
            if depth == 0 || i >= tokens.len() {
                break;
            }
        }
    }
    kept
}

/// Why a room's file must not name this path: where it leads.
fn leads_up(room: &str, file: &str, path: &str) -> Option<String> {
    let floor = |room: &str| ROOMS.iter().position(|r| *r == room);
    let path = path.strip_prefix("self::").unwrap_or(path);
    let path = match path.strip_prefix("super::") {
        // The room's own parent is the root; that of a module inside this file is the room.
        Some(rest) if file == format!("{room}/mod.rs") => {
            floor(rest.split("::").next().unwrap())?;
            format!("crate::{rest}")
        }
        Some(rest) if rest.starts_with("super") => return Some(format!("{path}: say it from the crate's root")),
        _ => path.to_owned(),
    };
    let name = path.strip_prefix("crate::")?.split("::").next().unwrap();
    match floor(name) {
        Some(there) if floor(room).is_some_and(|here| there <= here) => None,
        Some(_) => Some(format!("{path}: {name}/ is above")),
        None if MACROS.contains(&name) => None,
        None => Some(format!("{path}: name it by its room")),
    }
}

#[test]
fn every_way_up_is_found() {
    let found = |file: &str, code: &str| {
        let found = paths(&without_tests(&tokens(code)));
        let room = file.split('/').next().unwrap();
        found.iter().filter_map(|path| leads_up(room, file, path)).count()
    };
    for (file, code) in [
        ("raw", "use crate::scheduler::local;"),
        ("raw", "use crate::{prim, scheduler};"),
        ("wait", "fn f() { crate::channel::bounded(1) }"),
        ("prim", "pub(crate) use crate::stack::Class as Size;"),
        ("channel", "use crate::spawn;"),
        ("stack", "use super::super::raw;"),
        ("scheduler", "#[cfg(test)] mod tests { use crate::task::Task; } use crate::task::spawn;"),
        ("scheduler", "#[cfg(not(test))] mod a { use crate::task::Task; }"),
        ("scheduler", "#[cfg(any(test, unix))] mod a { use crate::task::Task; }"),
        ("raw/mod.rs", "use super::scheduler::local;"),
        ("raw/mod.rs", "use self::super::scheduler;"),
    ] {
        assert_eq!(found(file, code), 1, "{file}: {code}");
    }
    for (file, code) in [
        ("scheduler", "use crate::raw::{header::TaskPtr, state}; use crate::scheduler::idle; use super::inbox;"),
        (
            "scheduler",
            "/// See [`crate::task`].\n#[cfg(all(test, not(loom)))] mod tests { use crate::task::{self}; fn f() { {} } }",
        ),
        ("scheduler", "#[cfg(test)] mod tests;"),
        ("scheduler/idle.rs", "use super::inbox;"),
        ("task", "macro_rules! m { () => { $crate::task::LocalKey::new() } } crate::task_local!();"),
    ] {
        assert_eq!(found(file, code), 0, "{file}: {code}");
    }
}

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

/// The files of the crate, by their path in `src/`, and what is in them.
fn files() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 20, "found only {} files under {}", files.len(), src.display());
    let name = |file: &Path| file.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
    files.iter().map(|file| (name(file), fs::read_to_string(file).unwrap())).collect()
}

#[test]
fn std_primitives_are_named_in_prim_and_sys_alone() {
    let mut found = Vec::new();
    for (name, text) in files() {
        if name.starts_with("prim/") || name.starts_with("sys/") || OUTSIDE.iter().any(|(path, _)| *path == name) {
            continue;
        }
        for path in paths(&tokens(&text)) {
            let allowed = ALLOWED.iter().any(|(file, what, _)| *file == name && *what == path);
            if behind(&path).is_some() && !allowed {
                found.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(found.is_empty(), "take these from crate::prim:\n{}", found.join("\n"));
}

#[test]
fn each_room_imports_from_those_below_it_alone() {
    let mut found = Vec::new();
    for (name, text) in files() {
        // The root shows what the rooms have; models and tests look into all of them.
        let Some((room, _)) = name.split_once('/') else { continue };
        if room == "models" || name.ends_with("tests.rs") {
            continue;
        }
        assert!(ROOMS.contains(&room), "{name}: a new room needs its place in ROOMS");
        let paths = paths(&without_tests(&tokens(&text)));
        found.extend(paths.iter().filter_map(|path| Some(format!("{name}: {}", leads_up(room, &name, path)?))));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
