//! `Select`: what is ready, without doing it; and what must not be done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use greenloom::{JoinHandle, checkpoint};
use test_support::channel::{
    Receiver, RecvError, Select, SelectedOperation, SendError, Sender, TryRecvError, TrySendError, bounded, unbounded,
};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms, panic_message, takes_at_least};
use test_support::flavour::open;
use test_support::selecting::{CAPACITIES, assert_fair, recv_any};
use test_support::waiting::{let_others_run, spawn_begun};
use test_support::{Slot, in_child, run_on};

#[test]
fn ready_tells_what_can_be_done_and_does_nothing() {
    everywhere(|| {
        let (s1, r1) = unbounded();
        let (s2, r2) = bounded(1);
        let mut select = Select::new();
        let (recv1, recv2) = (select.recv(&r1), select.recv(&r2));
        assert!(select.try_ready().is_err());
        assert!(select.ready_timeout(Duration::ZERO).is_err());
        assert!(takes_at_least(ms(5), || select.ready_timeout(ms(5))).is_err());
        s2.send(1).unwrap();
        assert_eq!(select.try_ready(), Ok(recv2));
        assert_eq!(select.ready(), recv2);
        assert_eq!(select.ready_timeout(ms(60_000)), Ok(recv2));
        assert_eq!(select.ready_timeout(Duration::ZERO), Ok(recv2));
        assert_eq!(select.ready_deadline(Instant::now()), Ok(recv2));
        assert_eq!((r1.len(), r2.len()), (0, 1));
        assert_eq!(r2.try_recv(), Ok(1));
        s1.send(2).unwrap();
        assert_eq!(select.ready(), recv1);
        assert_eq!(r1.try_recv(), Ok(2));
        let send = select.send(&s2);
        assert_eq!(select.ready(), send);
        s2.try_send(3).unwrap();
        assert_eq!(select.ready(), recv2, "room is no more, but a value is");
    });
}

#[test]
fn what_is_disconnected_is_ready() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open::<i32>(capacity);
            drop(s);
            let (s2, r2) = open::<i32>(capacity);
            drop(r2);
            let mut select = Select::new();
            let recv = select.recv(&r);
            assert_eq!((select.ready(), select.try_ready()), (recv, Ok(recv)));
            assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
            select.remove(recv);
            let send = select.send(&s2);
            assert_eq!(select.ready_timeout(ms(60_000)), Ok(send));
            assert_eq!(s2.try_send(1), Err(TrySendError::Disconnected(1)));
        }
    });
}

#[test]
fn ready_waits_for_a_partner_a_value_room_or_the_end() {
    everywhere(|| {
        for capacity in CAPACITIES {
            for timeout in [None, Some(ms(60_000)), Some(Duration::MAX)] {
                let wait = move |select: &mut Select<'_>| match timeout {
                    None => select.ready(),
                    Some(timeout) => select.ready_timeout(timeout).unwrap(),
                };
                let (s, r) = open(capacity);
                let (_idle, other) = open::<i32>(capacity);
                let receiver = go(move || {
                    let mut select = Select::new();
                    select.recv(&other);
                    let index = select.recv(&r);
                    // It may be told too early, and then it looks again.
                    let value = insist(|| {
                        assert_eq!(wait(&mut select), index);
                        r.try_recv().ok()
                    });
                    insist(|| {
                        assert_eq!(wait(&mut select), index);
                        (r.try_recv() == Err(TryRecvError::Disconnected)).then_some(())
                    });
                    value
                });
                breathe();
                s.send(8).unwrap();
                breathe();
                drop(s);
                assert_eq!(receiver.join(), 8);
            }
        }
        for capacity in [0, 2] {
            let (s, r) = bounded(capacity);
            (0..capacity).for_each(|_| s.send(0).unwrap());
            let sender = go(move || {
                let mut select = Select::new();
                select.send(&s);
                insist(|| {
                    assert_eq!(select.ready(), 0);
                    s.try_send(1).ok()
                });
            });
            breathe();
            assert_eq!(Vec::from_iter(r).pop(), Some(1));
            sender.join();
        }
    });
}

#[test]
fn ready_operations_are_told_fairly() {
    everywhere(|| {
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let (s, r) = unbounded();
                s.send(()).unwrap();
                r
            })
            .collect();
        let mut select = Select::new();
        receivers.iter().for_each(|r| _ = select.recv(r));
        let mut hits = [0; 4];
        for i in 0..1_000 {
            hits[if i % 2 == 0 { select.ready() } else { select.try_ready().unwrap() }] += 1;
        }
        assert_fair(&hits);
        assert!(receivers.iter().all(|r| r.len() == 1));
    });
}

#[test]
fn several_may_be_told_of_the_same_value_and_one_gets_it() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let parties: Vec<_> = (0..3)
                .map(|_| {
                    let r = r.clone();
                    go(move || {
                        let mut select = Select::new();
                        select.recv(&r);
                        let mut heard = 0;
                        loop {
                            select.ready();
                            match r.try_recv() {
                                Ok(()) => heard += 1,
                                Err(TryRecvError::Empty) => greenloom::yield_now(),
                                Err(TryRecvError::Disconnected) => return heard,
                            }
                        }
                    })
                })
                .collect();
            for _ in 0..60 {
                s.send(()).unwrap();
            }
            drop(s);
            assert_eq!(join_all(parties).into_iter().sum::<usize>(), 60);
        }
    });
}

#[test]
fn ready_and_select_wait_side_by_side() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let watching = go({
            let r = r.clone();
            move || {
                let mut select = Select::new();
                select.recv(&r);
                insist(|| {
                    select.ready();
                    r.try_recv().ok()
                })
            }
        });
        let selecting = go({
            let r = r.clone();
            move || recv_any(std::slice::from_ref(&r)).1.unwrap()
        });
        let receiving = go(move || r.recv().unwrap());
        for value in [1, 2, 4] {
            s.send(value).unwrap();
        }
        assert_eq!(watching.join() | selecting.join() | receiving.join(), 7);
    });
}

// Promises: a select has been chosen, and those who watch or select meanwhile are told when it keeps or breaks what it was promised.

type Ends = (Sender<u64>, Receiver<u64>);

/// Waits until the operation on one side is ready: watches it, or does it.
fn waits_for(ends: &Ends, to_send: bool, watches: bool) -> JoinHandle<()> {
    let (s, r) = ends.clone();
    spawn_begun(move || {
        let mut select = Select::new();
        let _ = if to_send { select.send(&s) } else { select.recv(&r) };
        if watches {
            select.ready();
            return;
        }
        let operation = select.select();
        if to_send {
            operation.send(&s, 2).unwrap();
        } else {
            operation.recv(&r).unwrap();
        }
    })
}

fn break_promise(operation: SelectedOperation<'_>) {
    assert!(catch_unwind(AssertUnwindSafe(|| drop(operation))).is_err());
}

/// Of a select that was promised to send or to receive, and keeps or breaks that: who waits to send or to receive goes on then, and
/// not before.
#[track_caller]
fn who_waits_goes_on(open: fn() -> Ends, promised_to_send: bool, keeps: bool, waits_to_send: bool) {
    for watches in [true, false] {
        let ends = open();
        let (s, r) = &ends;
        let mut select = Select::new();
        let _ = if promised_to_send { select.send(s) } else { select.recv(r) };
        let promise = select.try_select().unwrap();
        let waiter = waits_for(&ends, waits_to_send, watches);
        let_others_run();
        assert!(!waiter.is_finished(), "there is nothing for it");
        match (keeps, promised_to_send) {
            (true, true) => promise.send(s, 1).unwrap(),
            (true, false) => _ = promise.recv(r).unwrap(),
            (false, _) => break_promise(promise),
        }
        waiter.join().unwrap();
    }
}

#[test]
fn a_promise_that_is_kept_or_broken_brings_somebody_else_on() {
    run_on(1, || {
        let empty: fn() -> Ends = || bounded(1);
        let full: fn() -> Ends = || {
            let (s, r) = bounded(1);
            s.send(0).unwrap();
            (s, r)
        };
        let one_in_many: fn() -> Ends = || {
            let (s, r) = unbounded();
            s.send(0).unwrap();
            (s, r)
        };
        // The message comes.
        who_waits_goes_on(empty, true, true, false);
        who_waits_goes_on(unbounded, true, true, false);
        // The place, or the message, is there again.
        who_waits_goes_on(empty, true, false, true);
        who_waits_goes_on(full, false, false, false);
        who_waits_goes_on(one_in_many, false, false, false);
        // There is room.
        who_waits_goes_on(full, false, true, true);
    });
}

/// Without capacity, where the promise is a partner.
#[test]
fn a_partner_whose_select_breaks_its_promise_is_there_for_who_waits() {
    run_on(1, || {
        for watches in [true, false] {
            // A sender whose message is in the channel already.
            let ends = bounded(0);
            let (s, r) = ends.clone();
            let sender = spawn_begun(move || s.send(1));
            let mut select = Select::new();
            select.recv(&r);
            let promise = select.try_select().unwrap();
            let waiter = waits_for(&ends, false, watches);
            let_others_run();
            assert!(!waiter.is_finished());
            break_promise(promise);
            waiter.join().unwrap();
            if watches {
                assert_eq!(r.try_recv(), Ok(1));
            }
            assert_eq!(sender.join().unwrap(), Ok(()));

            // A receiver that begins again.
            let ends = bounded(0);
            let (s, r) = ends.clone();
            let receiver = spawn_begun(move || r.recv());
            let mut select = Select::new();
            select.send(&s);
            let promise = select.try_select().unwrap();
            let waiter = waits_for(&ends, true, watches);
            let_others_run();
            assert!(!waiter.is_finished());
            break_promise(promise);
            waiter.join().unwrap();
            if watches {
                s.try_send(2).unwrap();
            }
            assert_eq!(receiver.join().unwrap(), Ok(2));
        }
    });
}

#[test]
fn a_select_that_waits_to_send_or_to_receive_is_a_partner_that_watchers_are_told_of() {
    run_on(1, || {
        for to_send in [true, false] {
            let ends = bounded(0);
            let watcher = waits_for(&ends, !to_send, true);
            let_others_run();
            assert!(!watcher.is_finished(), "there is no partner");
            let partner = waits_for(&ends, to_send, false);
            watcher.join().unwrap();
            if to_send {
                assert_eq!(ends.1.recv(), Ok(2));
            } else {
                ends.0.send(1).unwrap();
            }
            partner.join().unwrap();
        }
    });
}

#[test]
fn who_is_cancelled_when_two_selects_are_to_meet_still_has_the_message() {
    run_on(1, || {
        let (s, r) = bounded(0);
        let received = Slot::new();
        let receiver = spawn_begun({
            let received = received.clone();
            move || {
                let mut select = Select::new();
                select.recv(&r);
                received.put(select.select().recv(&r));
                checkpoint();
            }
        });
        let_others_run();
        let mut select = Select::new();
        select.send(&s);
        let promise = select.try_select().unwrap();
        receiver.cancel();
        promise.send(&s, 1).unwrap();
        assert!(receiver.join().unwrap_err().is_cancelled());
        assert_eq!(received.take(), Some(Ok(1)));
    });
}

#[test]
fn an_attempt_goes_on_to_the_next_where_the_select_that_it_meets_breaks_its_promise() {
    run_on(1, || {
        let (s, r) = bounded(0);
        let breaks = spawn_begun({
            let s = s.clone();
            move || {
                let mut select = Select::new();
                select.send(&s);
                break_promise(select.select());
            }
        });
        let_others_run();
        let sender = spawn_begun(move || s.send(2));
        let_others_run();
        assert_eq!(r.try_recv(), Ok(2));
        breaks.join().unwrap();
        sender.join().unwrap().unwrap();
    });
}

// What must not be done.

#[test]
fn an_operation_that_is_not_completed_panics_and_leaves_the_channel() {
    const SENTENCE: &str = "dropped `SelectedOperation` without completing the operation";
    everywhere(|| {
        for capacity in [Some(3), None] {
            let (s, r) = open(capacity);
            s.send(1).unwrap();
            let mut select = Select::new();
            select.recv(&r);
            assert_eq!(panic_message(|| drop(select.select())), SENTENCE);
            // Whether the first value is lost is not said. What comes later is not.
            s.send(2).unwrap();
            assert_eq!(r.iter().find(|&value| value == 2), Some(2));
            drop(s);
            assert_eq!(select.select().recv(&r), Err(RecvError));
        }
        for capacity in CAPACITIES {
            let (s, r) = open::<i32>(capacity);
            drop(r);
            let mut select = Select::new();
            select.send(&s);
            assert_eq!(panic_message(|| drop(select.try_select())), SENTENCE);
            assert_eq!(s.send(1), Err(SendError(1)));
        }
    });
}

/// In a process of its own: the operation that cannot be completed may end it.
#[test]
fn completing_with_another_sender_panics() {
    let child = in_child!("completing_with_another_sender_panics", || {
        let (s, _r) = unbounded::<i32>();
        let (other, _r) = unbounded();
        let mut select = Select::new();
        select.send(&s);
        _ = select.select().send(&other, 1);
        println!("it went through");
    });
    assert!(!child.status.success());
    child.assert_said("passed a sender that wasn't selected");
    assert!(!child.stdout.contains("it went through"));
}

#[test]
fn completing_with_another_receiver_panics() {
    let child = in_child!("completing_with_another_receiver_panics", || {
        let (s, r) = unbounded();
        s.send(1).unwrap();
        let (_s, other) = unbounded::<i32>();
        let mut select = Select::new();
        select.recv(&r);
        _ = select.select().recv(&other);
        println!("it went through");
    });
    assert!(!child.status.success());
    child.assert_said("passed a receiver that wasn't selected");
    assert!(!child.stdout.contains("it went through"));
}
