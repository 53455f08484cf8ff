//! Two services that run until one of them ends, whichever it is.
//!
//! The problem: a program serves its users, and beside that something else, say a check of its own health. When either ends, the
//! program is no longer what it should be: the other must stop, in good order, and both must say what became of them.
//!
//! The wrong way: start both and wait for the one that "runs for ever". If the other fails, nobody hears of it. In Go, done and stop
//! channels repair that, by hand: one of errors, as many receives as there are services, and a `close` that must happen once.
//!
//! Here `group::run_all` has these channels inside. Each service is given the one that tells it to stop.
//!
//! ```text
//! cargo run --release -p greenloom-examples --bin two_services
//! ```

use std::time::Duration;

use greenloom::channel::{Receiver, bounded, select, tick};
use greenloom::group::run_all;
use greenloom::sleep;

type Outcome = Result<(), &'static str>;
type Service = Box<dyn FnOnce(Receiver<()>) -> Outcome + Send>;

/// Serves until it is told to stop, or has nobody left to serve. Who is in the queue then is still served.
fn serve(requests: &Receiver<u32>, stop: &Receiver<()>) -> Outcome {
    let mut served = 0;
    let outcome = loop {
        select! {
            recv(requests) -> request => match request {
                Ok(_) => served += 1,
                Err(_) => break Err("all clients are gone"),
            },
            recv(stop) -> _ => break Ok(()),
        }
    };
    served += requests.try_iter().count();
    println!("  the server stops, having served {served}");
    outcome
}

/// Looks around every few milliseconds, and finds that something is wrong at the look numbered `bad`.
fn check_health(bad: Option<u32>, stop: &Receiver<()>) -> Outcome {
    let pulse = tick(Duration::from_millis(2));
    for look in 1.. {
        select! {
            recv(pulse) -> _ => if bad == Some(look) {
                return Err("the disk is full");
            },
            recv(stop) -> _ => break,
        }
    }
    println!("  the health check stops");
    Ok(())
}

fn together(patience: Option<usize>, bad: Option<u32>) -> Vec<Outcome> {
    let (sender, requests) = bounded(4);
    // A client that loses its patience after so many requests, or goes on until nobody serves it.
    let client = greenloom::spawn(move || {
        for request in (0..).take(patience.unwrap_or(usize::MAX)) {
            if sender.send(request).is_err() {
                break;
            }
            sleep(Duration::from_millis(1));
        }
    });
    let server: Service = Box::new(move |stop| serve(&requests, &stop));
    let health: Service = Box::new(move |stop| check_health(bad, &stop));
    let outcomes = run_all([server, health]);
    client.join().expect("the client ends with the server");
    outcomes
}

fn main() {
    greenloom::run(|| {
        println!("the health check fails first: {:?}", together(None, Some(5)));
        println!("the server ends first: {:?}", together(Some(5), None));
    });
}
