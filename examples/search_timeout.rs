//! A search that takes 200 ms, for somebody who waits for 100.
//!
//! The problem: when the limit is reached, what becomes of the loser?
//!
//! The wrong way: leave it. It goes on for nobody, with its memory and its connections; in Go it then blocks for ever, sending its
//! answer into a channel that nobody reads.
//!
//! Here are two ways in which it ends. A search that was written for it is handed a `Context`, and looks at it wherever it waits. One
//! that knows nothing of limits is called inside `time::timeout`, which unwinds it from where it waits.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin search_timeout
//! ```

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use greenloom::channel::{after, bounded, select};
use greenloom::context::Context;
use greenloom::{sleep, spawn, time};

const LIMIT: Duration = Duration::from_millis(100);
const PAGES: usize = 20;
const PAGE: Duration = Duration::from_millis(10);

static SEARCHES: AtomicUsize = AtomicUsize::new(0);

/// What a search holds while it runs.
struct Connection;

impl Connection {
    fn open() -> Self {
        SEARCHES.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        SEARCHES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Knows nothing of limits.
fn search() -> &'static str {
    let _connection = Connection::open();
    (0..PAGES).for_each(|_| sleep(PAGE));
    "found"
}

/// Stops between two pages, and in the middle of one, if its context is done.
fn search_within(ctx: &Context) -> Option<&'static str> {
    let _connection = Connection::open();
    for _ in 0..PAGES {
        select! {
            recv(after(PAGE)) -> _ => {}
            recv(ctx.done()) -> _ => return None,
        }
    }
    Some("found")
}

fn report(way: &str, outcome: Option<&str>) {
    let running = SEARCHES.load(Ordering::Relaxed);
    println!("{way}: {}, searches still running: {running}", outcome.unwrap_or("gave up"));
}

fn left_alone() {
    let (sender, answer) = bounded(0);
    let search = spawn(move || sender.send(search()));
    report("left alone", answer.recv_timeout(LIMIT).ok());
    // It ends, since nobody can receive any more; but it has searched to the end first.
    drop(answer);
    let _unsent = search.join().expect("a search does not panic");
}

fn context() {
    let (ctx, _canceller) = Context::background().with_timeout(LIMIT);
    let (sender, answer) = bounded(1);
    let search = spawn({
        let ctx = ctx.clone();
        move || search_within(&ctx).map(|found| sender.send(found))
    });
    let outcome = select! {
        recv(answer) -> found => found.ok(),
        recv(ctx.done()) -> _ => None,
    };
    let _unsent = search.join().expect("a search does not panic");
    report("context", outcome);
}

fn timeout() {
    report("timeout", time::timeout(LIMIT, search).ok());
}

fn main() {
    greenloom::run(|| {
        left_alone();
        context();
        timeout();
    });
}
