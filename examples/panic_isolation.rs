//! A panic in one task is that task's own.
//!
//! The problem: a server works on many requests at once, and one of them meets a bug.
//!
//! The wrong way: in Go a panic of any goroutine ends the process unless the goroutine itself recovers, so each handler begins with
//! the same `defer`, and the one that forgot it takes all others down.
//!
//! Here the task ends, its destructors run, and whoever joins it gets the payload. A lock of `greenloom::sync` that it held is
//! poisoned, as std's would be, so that nobody goes on with half a change unawares. The process's panic hook prints each panic's
//! message, as for a thread.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin panic_isolation
//! ```

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenloom::sync::Mutex;

/// Counts a request as long as it is worked on.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn enter(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The bug: some customers have ordered nothing.
fn average_price(customer: u32) -> u32 {
    let orders = if customer % 250 == 7 { 0 } else { 4 };
    greenloom::yield_now();
    1_000 / orders
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or(payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message")
}

fn serve() {
    let in_flight = Arc::new(AtomicUsize::new(0));
    let requests: Vec<_> = (0..1_000)
        .map(|customer| {
            let in_flight = Arc::clone(&in_flight);
            greenloom::spawn(move || {
                let _counted = InFlight::enter(&in_flight);
                average_price(customer)
            })
        })
        .collect();
    let (mut answered, mut failed) = (0, Vec::new());
    for request in requests {
        match request.join().map_err(|error| error.try_into_panic()) {
            Ok(_price) => answered += 1,
            Err(Ok(payload)) => failed.push(payload),
            Err(Err(cancelled)) => panic!("nobody cancels a request: {cancelled}"),
        }
    }
    println!("answered {answered}, failed {}: {}", failed.len(), message(&*failed[0]));
    println!("still in flight: {}", in_flight.load(Ordering::Relaxed));
}

fn half_a_change() {
    let accounts = Arc::new(Mutex::new((100, 0)));
    let transfer = greenloom::spawn({
        let accounts = Arc::clone(&accounts);
        move || {
            let mut accounts = accounts.lock().expect("nobody has panicked yet");
            accounts.0 -= 50;
            panic!("between taking and giving");
        }
    });
    assert!(transfer.join().is_err());
    println!("the lock it held is poisoned: {}", accounts.lock().is_err());
}

fn main() {
    greenloom::run(|| {
        serve();
        half_a_change();
    });
}
