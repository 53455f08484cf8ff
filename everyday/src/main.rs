//! Calls of everyday crates, each in a task of its own with the default stack, and prints which have returned. One that needs more stack ends
//! the process, by name.

use std::hint::black_box;
use std::io::{Read, Write};

use clap::Parser;
use greenloom::task::Builder;
use serde::Deserialize;

const CALLS: &[(&str, fn())] = &[
    ("regex", regex),
    ("regex, nested", regex_nested),
    ("clap", clap),
    ("clap's help", clap_help),
    ("serde_json", json),
    ("serde_json, nested", json_nested),
    ("serde_json into types, nested", json_nested_into_types),
    ("flate2", flate2),
    ("jiff", jiff),
    ("a panic with its backtrace", panic),
    ("a panic whose message waits", panic_that_waits),
];

fn main() {
    greenloom::run(|| {
        for &(name, call) in CALLS {
            let task = Builder::new().name(name).spawn(call).expect("there is memory for a task");
            task.join().unwrap_or_else(|error| panic!("{name}: {error}"));
            println!("{name}: returned");
        }
        // The root has what `main` has.
        let top = black_box([0_u8]);
        dig(black_box(&top).as_ptr().addr(), 6 << 20);
        println!("the root: returned");
    });
}

/// Calls itself until its frames reach so many bytes below `top`.
#[inline(never)]
fn dig(top: usize, bytes: usize) -> usize {
    let frame = black_box([1_u8; 1024]);
    if top - black_box(&frame).as_ptr().addr() < bytes { dig(top, bytes) + usize::from(frame[7]) } else { 0 }
}

fn regex() {
    let mail = ::regex::Regex::new(
        r"(?x)^(?P<login>[^@\s]+)@([[:word:]]+\.)*[[:word:]]+$|(\d{1,3}\.){3}\d{1,3}|(?P<y>\d{4})-(?P<m>\d{2})-(?P<d>\d{2})",
    )
    .unwrap();
    assert_eq!(&mail.captures("I.am@localhost.example").unwrap()["login"], "I.am");
    let words = ::regex::Regex::new(r"(?i)\b(\w+)\s+x|\p{Greek}+").unwrap();
    assert!(words.is_match("αβγ"));
}

fn regex_nested() {
    let pattern = format!("{}a{}", "(?:x?".repeat(100), ")".repeat(100));
    assert!(::regex::Regex::new(&pattern).unwrap().is_match("a"));
}

#[derive(Parser, Debug)]
#[command(version, about = "Some options")]
struct Options {
    /// What to call it
    #[arg(short, long)]
    name: String,
    #[arg(short, long, default_value_t = 1)]
    count: u8,
    #[arg(long, value_name = "FILE")]
    output: Option<std::path::PathBuf>,
    #[arg(long, value_enum, default_value_t = Mode::Fast)]
    mode: Mode,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(clap::ValueEnum, Clone, Debug, PartialEq)]
enum Mode {
    Fast,
    Slow,
}

#[derive(clap::Subcommand, Debug)]
enum Command {
    /// Adds things
    Add { things: Vec<String> },
    /// Removes them
    Remove {
        #[arg(long)]
        all: bool,
    },
}

fn clap() {
    let args = ["program", "--name", "x", "--mode", "slow", "add", "one", "two"];
    let options = Options::try_parse_from(args).unwrap();
    assert!(options.mode == Mode::Slow && matches!(options.command, Some(Command::Add { things }) if things.len() == 2));
}

fn clap_help() {
    let help = Options::try_parse_from(["program", "--help"]).unwrap_err().to_string();
    assert!(help.contains("What to call it"), "{help}");
    let error = Options::try_parse_from(["program", "--nmae", "x"]).unwrap_err().to_string();
    assert!(error.contains("--name"), "{error}");
}

#[derive(Deserialize, Debug)]
struct Entry {
    name: String,
    tags: Vec<String>,
    next: Option<Box<Entry>>,
}

/// As deep as serde_json goes.
const DEEP: usize = 127;

fn json() {
    let entry: Entry = serde_json::from_str(r#"{"name":"a","tags":["x"],"next":{"name":"b","tags":[],"next":null}}"#).unwrap();
    assert_eq!((entry.name.as_str(), entry.tags.len(), entry.next.unwrap().name.as_str()), ("a", 1, "b"));
}

fn json_nested() {
    for (open, inside, close) in [("[", "", "]"), ("{\"a\":", "1", "}")] {
        let text = format!("{}{inside}{}", open.repeat(DEEP), close.repeat(DEEP));
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value.to_string(), text);
        black_box(value.clone() == value);
        assert!(serde_json::to_string_pretty(&value).unwrap().len() > text.len());
    }
}

fn json_nested_into_types() {
    let text = format!("{}null{}", r#"{"name":"a","tags":["x"],"next":"#.repeat(DEEP - 1), "}".repeat(DEEP - 1));
    let entry: Entry = serde_json::from_str(&text).unwrap();
    drop(black_box(entry));
}

fn flate2() {
    let data: Vec<u8> = (0..100_000_u32).map(|i| (i % 251) as u8).collect();
    let mut encoder = ::flate2::write::GzEncoder::new(Vec::new(), ::flate2::Compression::default());
    encoder.write_all(&data).unwrap();
    let packed = encoder.finish().unwrap();
    let mut unpacked = Vec::new();
    ::flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == data && packed.len() < data.len());
}

fn jiff() {
    let moment: ::jiff::Timestamp = "2024-07-11T01:14:00Z".parse().unwrap();
    let there = moment.in_tz("UTC").unwrap();
    assert_eq!(there.strftime("%Y-%m-%d %H:%M").to_string(), "2024-07-11 01:14");
    black_box(::jiff::Zoned::now().to_string());
}

fn panic() {
    std::panic::set_hook(Box::new(|info| {
        black_box(format!("{info}\n{}", std::backtrace::Backtrace::force_capture()));
    }));
    assert!(std::panic::catch_unwind(|| panic!("on purpose")).is_err());
    drop(std::panic::take_hook());
}

/// std counts a panic from when its message is made. This is a package of its own, with crates as they come: an unwinding needs somebody who
/// catches it there, too.
fn panic_that_waits() {
    struct Waits;
    impl std::fmt::Display for Waits {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            greenloom::yield_now();
            f.write_str("on purpose, later")
        }
    }
    let error = greenloom::spawn(|| panic!("{Waits}")).join().unwrap_err();
    assert!(error.is_panic() && !std::thread::panicking());
}
