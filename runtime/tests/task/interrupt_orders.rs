//! Whatever comes to a waiting task, in whatever order, before it goes on: a cancellation, the end of a context around it, and what it
//! waits for. All sequences up to three, with and without a section that puts things off.
//!
//! One processor, on which the task does not go on before all have come.

use std::time::Duration;

use greenloom::context::Context;
use greenloom::{channel, park, park_timeout, spawn, uncancellable, yield_now};
use test_support::{Counter, run_on, yield_until};

const LONG: Duration = Duration::from_secs(3600);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Cancel,
    /// The context's.
    End,
    /// What the task waits for.
    Wake,
}

use Event::{Cancel, End, Wake};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wait {
    Park,
    ParkForLong,
    Receive,
}

/// Where the task waits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Around {
    /// In the context.
    Context,
    /// In a section that puts off what comes, in the context.
    SectionInContext,
    /// In the context, in a section.
    ContextInSection,
}

/// What comes of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    /// The wait returned.
    waited: bool,
    /// The task came to the end of what it does in the context.
    passed: bool,
    /// The context has ended that.
    ended: bool,
    cancelled: bool,
    /// It may take a token afterwards.
    token: bool,
}

/// Where its wait is.
#[derive(Clone, Copy, PartialEq)]
enum Is {
    Asleep,
    /// Awake since something came that is put off: it will wait on.
    Stirred,
    Over,
}

/// What should come of it.
fn expected(wait: Wait, around: Around, events: &[Event]) -> Outcome {
    let (mut is, mut waited, mut token) = (Is::Asleep, false, false);
    for event in events {
        let is_put_off = match event {
            Cancel => around != Around::Context,
            End => around == Around::SectionInContext,
            // A partner that still finds the waiter hands over, however the wait was ended; a token is left for the next look.
            Wake if is == Is::Asleep || wait == Wait::Receive => {
                (is, waited) = (Is::Over, true);
                continue;
            }
            Wake => {
                token = true;
                continue;
            }
        };
        is = match is {
            Is::Asleep if is_put_off => Is::Stirred,
            Is::Stirred if is_put_off => Is::Stirred,
            _ => Is::Over,
        };
    }
    if is == Is::Stirred && token {
        (waited, token) = (true, false);
    }
    let (cancel, end) = (events.contains(&Cancel), events.contains(&End));
    let is_shielded = around == Around::ContextInSection;
    Outcome {
        waited,
        passed: waited && !end && (!cancel || is_shielded),
        ended: end && (!cancel || is_shielded),
        cancelled: cancel,
        token: token && wait != Wait::Receive,
    }
}

/// Lets it happen.
fn tried(wait: Wait, around: Around, events: &[Event]) -> Outcome {
    let (context, canceller) = Context::background().with_cancel();
    let (s, r) = channel::bounded(0);
    let [begun, waited, passed, ended, token] = [(); 5].map(|()| Counter::default());
    let expects_token = expected(wait, around, events).token;
    let task = spawn({
        let [begun, waited, passed, ended, token] = [&begun, &waited, &passed, &ended, &token].map(Clone::clone);
        move || {
            let waits = || {
                begun.add();
                match wait {
                    Wait::Park => park(),
                    Wait::ParkForLong => park_timeout(LONG),
                    Wait::Receive => r.recv().unwrap(),
                }
                waited.add();
            };
            let goes_on = || {
                yield_now();
                passed.add();
            };
            let in_context = || match around {
                Around::SectionInContext => {
                    uncancellable(waits);
                    goes_on();
                }
                _ => {
                    waits();
                    goes_on();
                }
            };
            let runs = || {
                if context.run_until_done(in_context).is_err() {
                    ended.add();
                }
                // Whoever is cancelled may take it in a section alone.
                if expects_token {
                    uncancellable(park);
                    token.add();
                }
            };
            match around {
                Around::ContextInSection => uncancellable(runs),
                _ => runs(),
            }
            yield_now();
        }
    });
    yield_until(|| begun.get() == 1);
    for event in events {
        match event {
            Cancel => task.cancel(),
            End => canceller.cancel(),
            Wake if wait == Wait::Receive => _ = s.try_send(()),
            Wake => task.task().unpark(),
        }
    }
    let cancelled = task.join().map_or_else(|error| error.is_cancelled(), |()| false);
    let [waited, passed, ended, token] = [waited, passed, ended, token].map(|counter| counter.get() == 1);
    Outcome { waited, passed, ended, cancelled, token }
}

/// All sequences of so many events.
fn sequences(length: u32) -> impl Iterator<Item = Vec<Event>> {
    (0..3_usize.pow(length)).map(move |number| (0..length).map(|i| [Cancel, End, Wake][number / 3_usize.pow(i) % 3]).collect())
}

#[test]
fn every_order_of_cancellation_end_and_wake_comes_out_as_it_should() {
    run_on(1, || {
        for wait in [Wait::Park, Wait::ParkForLong, Wait::Receive] {
            for around in [Around::Context, Around::SectionInContext, Around::ContextInSection] {
                for mut events in (1..=3).flat_map(sequences) {
                    let ends = |event: &Event| match event {
                        Wake => true,
                        Cancel => around == Around::Context,
                        End => around != Around::SectionInContext,
                    };
                    if !events.iter().any(ends) {
                        // It waits for ever without.
                        events.push(Wake);
                    }
                    let mut should = expected(wait, around, &events);
                    // A cancelled task does not come to it, unless in a section.
                    should.token &= !should.cancelled || around == Around::ContextInSection;
                    assert_eq!(tried(wait, around, &events), should, "{wait:?}, {around:?}, {events:?}");
                }
            }
        }
    });
}
