//! Channels without capacity: a value goes straight from a sender that waits to a receiver, or the other way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use test_support::Counter;
use test_support::channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, TryRecvError, TrySendError, bounded};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms};

test_support::cases_of_any!(Some(0));
test_support::cases_of_finite!(Some(0));

#[test]
fn nothing_is_ever_inside() {
    everywhere(|| {
        fn assert_nothing_inside(s: &Sender<i32>, r: &Receiver<i32>) {
            assert_eq!((s.capacity(), r.capacity()), (Some(0), Some(0)));
            assert_eq!((s.len(), r.len()), (0, 0));
            assert!(s.is_empty() && r.is_empty(), "it holds nothing");
            assert!(s.is_full() && r.is_full(), "and has room for nothing");
        }
        let (s, r) = bounded(0);
        assert_nothing_inside(&s, &r);
        let sender = go({
            let s = s.clone();
            move || s.send(1)
        });
        breathe();
        assert_nothing_inside(&s, &r);
        assert_eq!(r.recv(), Ok(1));
        assert_eq!(sender.join(), Ok(()));
        let receiver = go({
            let r = r.clone();
            move || r.recv()
        });
        breathe();
        assert_nothing_inside(&s, &r);
        s.send(2).unwrap();
        assert_eq!(receiver.join(), Ok(2));
        assert_nothing_inside(&s, &r);
    });
}

#[test]
fn try_operations_fail_unless_a_partner_waits() {
    everywhere(|| {
        let (s, r) = bounded(0);
        assert_eq!(s.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        // Neither has left anything for the other.
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        let receiver = go({
            let r = r.clone();
            move || r.recv()
        });
        insist(|| s.try_send(2).ok());
        assert_eq!(receiver.join(), Ok(2));
        assert_eq!(s.try_send(3), Err(TrySendError::Full(3)), "one wait takes one value");
        let sender = go({
            let s = s.clone();
            move || s.send(4)
        });
        assert_eq!(insist(|| r.try_recv().ok()), 4);
        assert_eq!(sender.join(), Ok(()));
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty), "one wait gives one value");
    });
}

#[test]
fn a_send_returns_only_when_the_value_is_taken() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let returned = Arc::new(AtomicUsize::new(0));
        let sender = go({
            let returned = returned.clone();
            move || {
                for value in 0..20 {
                    s.send(value).unwrap();
                    returned.store(value + 1, SeqCst);
                }
            }
        });
        for value in 0..20 {
            greenloom::yield_now();
            assert!(returned.load(SeqCst) <= value);
            assert_eq!(r.recv(), Ok(value));
        }
        sender.join();
        assert_eq!(returned.load(SeqCst), 20);
    });
}

#[test]
fn a_partner_with_a_deadline_pairs_up_with_one_that_only_tries() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let receiver = go({
            let r = r.clone();
            move || r.recv_timeout(ms(60_000))
        });
        insist(|| s.try_send(1).ok());
        assert_eq!(receiver.join(), Ok(1));
        let sender = go(move || s.send_timeout(2, ms(60_000)));
        assert_eq!(insist(|| r.try_recv().ok()), 2);
        assert_eq!(sender.join(), Ok(()));
    });
}

#[test]
fn two_senders_do_not_pair_up_and_neither_do_two_receivers() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let senders: Vec<_> = (0..2)
            .map(|value| {
                let s = s.clone();
                go(move || s.send_timeout(value, ms(4)))
            })
            .collect();
        assert_eq!(join_all(senders), [Err(SendTimeoutError::Timeout(0)), Err(SendTimeoutError::Timeout(1))]);
        let receivers: Vec<_> = (0..2)
            .map(|_| {
                let r = r.clone();
                go(move || r.recv_timeout(ms(4)))
            })
            .collect();
        assert_eq!(join_all(receivers), [Err(RecvTimeoutError::Timeout); 2]);
        // And both sides are as they were.
        let sender = go(move || s.send(7));
        assert_eq!(r.recv(), Ok(7));
        assert_eq!(sender.join(), Ok(()));
    });
}

#[test]
fn a_value_that_nobody_took_is_dropped_by_its_sender_alone() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let dropped = Counter::default();
        let error = s.send_timeout(dropped.on_drop(), ms(3)).unwrap_err();
        assert_eq!(dropped.get(), 0, "it is in the error");
        drop(error);
        assert_eq!(dropped.get(), 1);
        let sender = go({
            let (s, value) = (s.clone(), dropped.on_drop());
            move || s.send(value)
        });
        breathe();
        drop(r);
        let error = sender.join().unwrap_err();
        assert_eq!(dropped.get(), 1, "it is in the error");
        drop(error);
        assert_eq!(dropped.get(), 2);
        drop(s.try_send(dropped.on_drop()));
        assert_eq!(dropped.get(), 3);
    });
}

#[test]
fn a_value_that_was_taken_belongs_to_the_receiver() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let dropped = Counter::default();
        let sender = go({
            let value = dropped.on_drop();
            move || s.send(value).unwrap()
        });
        let value = r.recv().unwrap();
        sender.join();
        drop(r);
        assert_eq!(dropped.get(), 0);
        drop(value);
        assert_eq!(dropped.get(), 1);
    });
}

#[test]
fn a_chain_of_waiting_parties_passes_a_value_on() {
    everywhere(|| {
        let (first, mut r) = bounded(0);
        let links: Vec<_> = (0..20)
            .map(|_| {
                let (next_s, next_r) = bounded(0);
                let r = std::mem::replace(&mut r, next_r);
                go(move || next_s.send(r.recv().unwrap() + 1).unwrap())
            })
            .collect();
        first.send(0).unwrap();
        assert_eq!(r.recv(), Ok(20));
        join_all(links);
    });
}

#[test]
fn a_receiver_sees_what_its_sender_did_before() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let (back_s, back_r) = bounded(0);
        // Each side writes only while the other waits: Relaxed is enough if a rendezvous orders them.
        let cell = Arc::new(AtomicUsize::new(0));
        let other = go({
            let cell = cell.clone();
            move || {
                for round in 0..200 {
                    r.recv().unwrap();
                    assert_eq!(cell.load(std::sync::atomic::Ordering::Relaxed), round);
                    back_s.send(()).unwrap();
                }
            }
        });
        for round in 0..200 {
            cell.store(round, std::sync::atomic::Ordering::Relaxed);
            s.send(()).unwrap();
            back_r.recv().unwrap();
        }
        other.join();
    });
}

#[test]
fn tries_against_tries_and_waits_lose_and_double_nothing() {
    everywhere(|| {
        const COUNT: usize = 100;
        let (s, r) = bounded(0);
        let stop = Arc::new(AtomicBool::new(false));
        let senders: Vec<_> = (0..2)
            .map(|party| {
                let s = s.clone();
                go(move || {
                    for i in 0..COUNT {
                        match party {
                            0 => s.send(i).unwrap(),
                            _ => insist(|| s.try_send(COUNT + i).ok()),
                        }
                    }
                })
            })
            .collect();
        let receivers: Vec<_> = (0..2)
            .map(|party| {
                let (r, stop) = (r.clone(), stop.clone());
                go(move || {
                    let mut values = Vec::new();
                    while !stop.load(SeqCst) {
                        match party {
                            0 => values.extend(r.recv_timeout(ms(1))),
                            _ => values.extend(r.try_recv()),
                        }
                        greenloom::yield_now();
                    }
                    values
                })
            })
            .collect();
        join_all(senders);
        stop.store(true, SeqCst);
        let mut values = join_all(receivers).concat();
        values.sort_unstable();
        assert_eq!(values, Vec::from_iter(0..2 * COUNT));
    });
}
