//! The table for people and `results.json` for programs.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;

use crate::machine::Machine;
use crate::rows::{Plan, Row};
use crate::runtimes::{RuntimeName, Sample};
use crate::stats::{Spread, median};

/// The samples of one row on one runtime at one processor count.
#[derive(Serialize)]
pub struct Entry {
    #[serde(flatten)]
    summary: Sample,
    /// Of this runtime's time to greenloom's, pair by pair.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_greenloom: Option<Spread>,
    #[serde(skip)]
    row: Row,
    #[serde(skip)]
    runtime: RuntimeName,
}

#[derive(Serialize)]
struct Results<'a> {
    machine: &'a Machine,
    rows: &'a [Entry],
}

impl Entry {
    pub fn new(row: Row, plan: Plan, runtime: RuntimeName, procs: u32, samples: &[Sample]) -> Self {
        let middle = |value: fn(&Sample) -> f64| median(&samples.iter().map(value).collect::<Vec<_>>());
        let bytes: Vec<f64> = samples.iter().filter_map(|sample| sample.bytes_per_task).collect();
        let summary = Sample {
            row: row.name().to_owned(),
            runtime: runtime.name().to_owned(),
            procs,
            ops: plan.ops,
            ns_per_op: middle(|sample| sample.ns_per_op).unwrap_or(f64::NAN),
            cpu_ns_per_op: middle(|sample| sample.cpu_ns_per_op).unwrap_or(f64::NAN),
            bytes_per_task: median(&bytes),
            samples: samples.iter().map(|sample| sample.ns_per_op).collect(),
        };
        Self { summary, ratio_to_greenloom: None, row, runtime }
    }
}

/// Sets the ratios of entries that were measured together.
pub fn add_ratios(together: &mut [Entry]) {
    let ours = together.iter().find(|entry| entry.runtime == RuntimeName::Greenloom);
    let Some(ours) = ours.map(|entry| entry.summary.samples.clone()) else {
        return;
    };
    for peer in together.iter_mut().filter(|entry| entry.runtime != RuntimeName::Greenloom) {
        peer.ratio_to_greenloom = Spread::of_ratios(&peer.summary.samples, &ours);
    }
}

pub fn write(path: &Path, machine: &Machine, rows: &[Entry]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    serde_json::to_writer_pretty(&mut file, &Results { machine, rows })?;
    writeln!(file)?;
    file.flush()
}

/// What the ratio columns hold, for below the table.
pub const RATIOS: &str = "÷ ours: that runtime's time over greenloom's of the sample beside it, \
    the median ± half the distance between the quartiles";

/// Draws the cell of a row.
type Draw<'a> = Box<dyn Fn(Row, &Plan) -> Option<String> + 'a>;

/// A column: its heading, and its cell for a row.
struct Column<'a> {
    heading: String,
    cell: Draw<'a>,
}

impl<'a> Column<'a> {
    fn new(heading: impl Into<String>, cell: impl Fn(Row, &Plan) -> Option<String> + 'a) -> Self {
        Self { heading: heading.into(), cell: Box::new(cell) }
    }
}

/// One line per row; a column of times and of CPU times for each processor count. What failed or
/// does not apply is a dash.
pub fn table(rows: &[(Row, Plan)], procs: &[u32], runtimes: &[RuntimeName], entries: &[Entry]) -> Table {
    let columns = columns(procs, runtimes, entries);
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let line = |name: Cell, cells: Vec<String>| {
        let mut line = vec![name];
        line.extend(cells.into_iter().map(right));
        line
    };
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    let headings = columns.iter().map(|column| column.heading.clone()).collect();
    table.set_header(line(Cell::new("row"), headings));
    for (row, plan) in rows {
        let cell = |column: &Column<'_>| (column.cell)(*row, plan).unwrap_or_else(|| "–".to_owned());
        table.add_row(line(Cell::new(row), columns.iter().map(cell).collect()));
    }
    table
}

fn columns<'a>(procs: &'a [u32], runtimes: &[RuntimeName], entries: &'a [Entry]) -> Vec<Column<'a>> {
    let find = |runtime: RuntimeName, row: Row, procs: u32| {
        entries.iter().find(|e| e.runtime == runtime && e.row == row && e.summary.procs == procs)
    };
    let ours = move |row: Row, procs: u32| find(RuntimeName::Greenloom, row, procs);
    let most = procs.iter().copied().max().unwrap_or(1);

    let mut columns = vec![
        Column::new("tasks", move |row, plan| Some(grouped(row.tasks(plan, most)))),
        Column::new("ops", |_, plan| Some(grouped(plan.ops))),
    ];
    columns.extend(
        procs.iter().map(|&p| Column::new(format!("ns/op\nat {p}"), move |row, _| Some(number(ours(row, p)?.summary.ns_per_op)))),
    );
    if let [first, .., last] = *procs {
        columns.push(Column::new("speed-up", move |row, _| {
            let (first, last) = (ours(row, first)?, ours(row, last)?);
            let ratio = first.summary.ns_per_op / last.summary.ns_per_op;
            row.has_speed_up().then(|| format!("{ratio:.2}"))
        }));
    }
    columns.extend(
        procs
            .iter()
            .map(|&p| Column::new(format!("CPU ns/op\nat {p}"), move |row, _| Some(number(ours(row, p)?.summary.cpu_ns_per_op)))),
    );
    columns.push(Column::new("bytes/task", |row, _| bytes(entries, row)));
    for &peer in runtimes.iter().filter(|&&runtime| runtime != RuntimeName::Greenloom) {
        let measured = |p: &&u32| entries.iter().any(|e| e.runtime == peer && e.summary.procs == **p);
        columns.extend(procs.iter().filter(measured).map(|&p| {
            Column::new(format!("{peer} ÷ ours\nat {p}"), move |row, _| Some(ratio(find(peer, row, p)?.ratio_to_greenloom?)))
        }));
    }
    columns
}

/// Bytes per task at the first processor count, greenloom's first and then each peer's.
fn bytes(entries: &[Entry], row: Row) -> Option<String> {
    let measured: Vec<_> = entries.iter().filter(|e| e.row == row && e.summary.bytes_per_task.is_some()).collect();
    let procs = measured.first()?.summary.procs;
    let figures = measured.iter().filter(|entry| entry.summary.procs == procs).map(|entry| {
        let figure = grouped(entry.summary.bytes_per_task.unwrap_or_default() as u64);
        match entry.runtime {
            RuntimeName::Greenloom => figure,
            peer => format!("{peer} {figure}"),
        }
    });
    Some(figures.collect::<Vec<_>>().join("\n"))
}

/// The median and half the distance between the quartiles.
fn ratio(spread: Spread) -> String {
    let digits = match spread.median {
        m if m < 0.0995 => 3,
        m if m < 9.95 => 2,
        m if m < 99.5 => 1,
        _ => 0,
    };
    format!("{:.digits$} ±{:.digits$}", spread.median, (spread.high - spread.low) / 2.0)
}

/// Three digits or so; nobody's nanoseconds are better than that.
fn number(value: f64) -> String {
    match value {
        v if v < 9.995 => format!("{v:.2}"),
        v if v < 99.95 => format!("{v:.1}"),
        v => grouped(v.round() as u64),
    }
}

/// `1234567` as `1,234,567`.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
        assert_eq!(number(2.684), "2.68");
        assert_eq!(number(53.21), "53.2");
        assert_eq!(number(19_627_000.4), "19,627,000");
    }

    const FIB: (Row, Plan) = (Row::Fib, Plan { ops: 2, size: 2 });

    fn entry(runtime: RuntimeName, procs: u32, times: &[f64]) -> Entry {
        let sample = |&ns_per_op| Sample {
            row: "fib".to_owned(),
            runtime: runtime.to_string(),
            procs,
            ops: 2,
            ns_per_op,
            cpu_ns_per_op: ns_per_op,
            bytes_per_task: None,
            samples: vec![ns_per_op],
        };
        let samples: Vec<_> = times.iter().map(sample).collect();
        Entry::new(FIB.0, FIB.1, runtime, procs, &samples)
    }

    #[test]
    fn ratio_columns_compare_with_the_same_processors() {
        let (ours, go) = (RuntimeName::Greenloom, RuntimeName::Go);
        let mut at_1 = vec![entry(ours, 1, &[10.0, 20.0]), entry(go, 1, &[30.0, 60.0])];
        let mut at_2 = vec![entry(ours, 2, &[5.0]), entry(go, 2, &[20.0])];
        add_ratios(&mut at_1);
        add_ratios(&mut at_2);
        at_1.extend(at_2);
        let text = table(&[FIB], &[1, 2], &[ours, go], &at_1).to_string();
        for part in ["3.00 ±0.00", "4.00 ±0.00", "go ÷ ours"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        // 15 ns at one processor, 5 ns at two.
        assert!(text.contains(" 3.00 ┆"), "{text}");
    }

    #[test]
    fn a_row_that_failed_somewhere_leaves_a_gap() {
        let ours = RuntimeName::Greenloom;
        let text = table(&[FIB], &[1, 2], &[ours], &[entry(ours, 2, &[5.0])]);
        assert!(text.to_string().contains('–'));
    }
}
