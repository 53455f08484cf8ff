//! The harness of the channels' cases: each mode has the parties that it names, a failure is seen, a hang is ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use test_support::everywhere::{Mode, go, insist, join_all, ms, panic_message};
use test_support::in_child;

fn in_a_task() -> bool {
    greenloom::current().spawned_at().is_some()
}

#[test]
fn each_mode_has_the_parties_that_it_names() {
    fn parties() -> (bool, Vec<bool>) {
        // Those who are started start others by the same rule.
        let started = (0..4).map(|_| go(in_a_task));
        (in_a_task(), join_all(started))
    }
    Mode::Threads.run(|| assert_eq!(parties(), (false, vec![false; 4])));
    Mode::OneProcessor.run(|| assert_eq!(parties(), (true, vec![true; 4])));
    Mode::TwoProcessors.run(|| assert_eq!(parties(), (true, vec![true; 4])));
    Mode::MixedFromTask.run(|| assert_eq!(parties(), (true, vec![false, true, false, true])));
    Mode::MixedFromThread.run(|| assert_eq!(parties(), (false, vec![true, false, true, false])));
}

#[test]
fn parties_start_parties_in_every_mode() {
    for mode in Mode::ALL {
        mode.run(|| {
            let parties = (0..4).map(|i| go(move || i + go(move || 10 * i).join()));
            assert_eq!(join_all(parties), [0, 11, 22, 33]);
        });
    }
}

#[test]
fn to_join_a_thread_does_not_hold_up_the_tasks() {
    for mode in Mode::ALL {
        mode.run(|| {
            let flags = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
            let parties = [0, 1].map(|me| {
                let flags = flags.clone();
                go(move || {
                    flags[me].store(true, SeqCst);
                    insist(|| flags[1 - me].load(SeqCst).then_some(me))
                })
            });
            assert_eq!(join_all(parties), [0, 1]);
        });
    }
}

#[test]
fn a_panic_of_a_party_goes_on_in_the_one_that_joins_it() {
    for mode in Mode::ALL {
        mode.run(|| {
            for _ in 0..2 {
                assert_eq!(panic_message(|| go(|| std::panic::panic_any("on purpose")).join()), "on purpose");
            }
        });
        assert_eq!(panic_message(|| mode.run(|| std::panic::panic_any("the case"))), "the case");
    }
}

#[test]
fn a_case_that_hangs_is_ended_by_its_name() {
    let child = in_child!("a_case_that_hangs_is_ended_by_its_name", || {
        Mode::OneProcessor.run_within(ms(50), || {
            loop {
                greenloom::park();
            }
        });
    });
    child.assert_aborted();
    child.assert_said("a_case_that_hangs_is_ended_by_its_name::{{closure}}");
    child.assert_said("hangs in mode OneProcessor");
    child.assert_said(&format!("{:?}", Duration::from_millis(50)));
}
