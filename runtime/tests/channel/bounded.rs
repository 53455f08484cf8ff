//! Channels with room for some values.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use test_support::channel::{RecvError, RecvTimeoutError, TryRecvError, TrySendError, bounded};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms, panic_message};
use test_support::{Counter, CountsDrop};

mod with_room_for_one {
    use test_support::{cases_of_any, cases_of_finite};

    cases_of_any!(Some(1));
    cases_of_finite!(Some(1));
}

mod with_room_for_three {
    use test_support::{cases_of_any, cases_of_finite};

    cases_of_any!(Some(3));
    cases_of_finite!(Some(3));
}

mod with_room_for_many {
    use test_support::{cases_of_any, cases_of_finite};

    cases_of_any!(Some(100));
    cases_of_finite!(Some(100));
}

#[test]
fn the_capacity_is_what_was_asked_for() {
    everywhere(|| {
        for capacity in [1, 2, 3, 5, 8, 31, 32, 33, 1_000] {
            let (s, r) = bounded::<u8>(capacity);
            assert_eq!((s.capacity(), r.capacity()), (Some(capacity), Some(capacity)));
            for value in 0..capacity {
                s.try_send(value as u8).unwrap();
            }
            assert_eq!(s.try_send(0), Err(TrySendError::Full(0)), "and not one more");
        }
    });
}

#[test]
fn len_is_empty_and_is_full_tell_what_is_inside_over_many_laps() {
    everywhere(|| {
        for capacity in [1, 2, 3, 4, 7] {
            let (s, r) = bounded(capacity);
            let mut inside = 0;
            let mut next = (0, 0);
            // Goes up and down, and shifts against the capacity in each lap.
            for step in 0..200 {
                if step % 5 < 3 && inside < capacity {
                    s.send(next.0).unwrap();
                    next.0 += 1;
                    inside += 1;
                } else if inside > 0 {
                    assert_eq!(r.recv(), Ok(next.1));
                    next.1 += 1;
                    inside -= 1;
                }
                assert_eq!((s.len(), r.len()), (inside, inside));
                assert_eq!((s.is_empty(), r.is_empty()), (inside == 0, inside == 0));
                assert_eq!((s.is_full(), r.is_full()), (inside == capacity, inside == capacity));
            }
        }
    });
}

#[test]
fn len_stays_within_the_capacity_whoever_looks() {
    everywhere(|| {
        const COUNT: usize = 500;
        let (s, r) = bounded(4);
        let over = Arc::new(AtomicBool::new(false));
        let observer = go({
            let (s, r, over) = (s.clone(), r.clone(), over.clone());
            move || {
                while !over.load(SeqCst) {
                    assert!(s.len() <= 4 && r.len() <= 4);
                    greenloom::yield_now();
                }
            }
        });
        let sender = go(move || {
            for value in 0..COUNT {
                s.send(value).unwrap();
                assert!(s.len() <= 4);
            }
        });
        for value in 0..COUNT {
            assert_eq!(r.recv(), Ok(value));
            assert!(r.len() <= 4);
        }
        sender.join();
        over.store(true, SeqCst);
        observer.join();
        assert_eq!(r.len(), 0);
    });
}

#[test]
fn a_send_returns_as_soon_as_there_is_room() {
    everywhere(|| {
        let (s, r) = bounded(2);
        let sent = Arc::new(AtomicUsize::new(0));
        let sender = go({
            let sent = sent.clone();
            move || {
                for value in 0..20 {
                    s.send(value).unwrap();
                    sent.store(value + 1, SeqCst);
                }
            }
        });
        for value in 0..20 {
            // Two fit, and nobody has to take them.
            insist(|| (sent.load(SeqCst) >= 20.min(value + 2)).then_some(()));
            assert!(sent.load(SeqCst) <= value + 2);
            assert_eq!(r.recv(), Ok(value));
        }
        sender.join();
    });
}

#[test]
fn what_is_inside_outlives_the_senders() {
    everywhere(|| {
        let (s, r) = bounded(5);
        for value in 0..4 {
            s.send(value).unwrap();
        }
        drop(s);
        assert_eq!(r.len(), 4);
        assert_eq!(r.recv(), Ok(0));
        assert_eq!(r.try_recv(), Ok(1));
        assert_eq!(r.recv_timeout(ms(60_000)), Ok(2));
        assert_eq!(r.clone().recv(), Ok(3));
        assert_eq!(r.recv(), Err(RecvError));
        assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(r.recv_timeout(ms(60_000)), Err(RecvTimeoutError::Disconnected));
    });
}

#[test]
fn what_is_inside_goes_with_the_channel_once_whichever_side_goes_first() {
    everywhere(|| {
        for (capacity, taken, inside) in [(1, 0, 1), (3, 0, 3), (4, 3, 4), (4, 2, 3), (8, 7, 2)] {
            for senders_first in [true, false] {
                let (s, r) = bounded::<CountsDrop>(capacity);
                let dropped = Counter::default();
                for _ in 0..taken {
                    s.send(dropped.on_drop()).unwrap();
                    drop(r.recv());
                }
                for _ in 0..inside {
                    s.send(dropped.on_drop()).unwrap();
                }
                let other = r.clone();
                drop(other);
                assert_eq!(dropped.get(), taken, "a receiver is left");
                if senders_first {
                    drop(s);
                    assert_eq!(dropped.get(), taken, "the receiver is left");
                    drop(r);
                } else {
                    drop(r);
                    assert!(s.send(dropped.on_drop()).is_err());
                    drop(s);
                }
                assert_eq!(dropped.get(), taken + inside + usize::from(!senders_first));
            }
        }
    });
}

#[test]
fn a_destructor_that_panics_runs_once_and_so_do_the_others_at_most() {
    struct Explosive {
        drops: Arc<[AtomicUsize; 3]>,
        index: usize,
    }
    impl Drop for Explosive {
        fn drop(&mut self) {
            self.drops[self.index].fetch_add(1, SeqCst);
            if self.index == 0 {
                panic!("the first one explodes");
            }
        }
    }
    everywhere(|| {
        let (s, r) = bounded(3);
        let drops = Arc::new([const { AtomicUsize::new(0) }; 3]);
        for index in 0..3 {
            assert!(s.send(Explosive { drops: drops.clone(), index }).is_ok());
        }
        drop(s);
        assert_eq!(panic_message(move || drop(r)), "the first one explodes");
        assert_eq!(drops[0].load(SeqCst), 1);
        assert!(drops[1..].iter().all(|drops| drops.load(SeqCst) <= 1));
    });
}

#[test]
fn a_capacity_that_does_not_fit_panics_and_does_not_abort() {
    everywhere(|| {
        for capacity in [usize::MAX, usize::MAX - 1, usize::MAX / 2, usize::MAX / 4, isize::MAX as usize / 8] {
            assert!(catch_unwind(|| bounded::<[u64; 4]>(capacity)).is_err(), "{capacity}");
        }
    });
}

#[test]
fn values_without_size_are_counted_like_others() {
    everywhere(|| {
        let (s, r) = bounded(3);
        for _ in 0..3 {
            s.try_send(()).unwrap();
        }
        assert_eq!(s.try_send(()), Err(TrySendError::Full(())));
        assert_eq!(r.len(), 3);
        drop(s);
        assert_eq!(r.iter().count(), 3);
    });
}

/// With room for a value of each party, nobody ever finds the channel full who has put less in than taken out.
#[test]
fn after_a_send_somebody_can_receive_and_after_a_receive_somebody_can_send() {
    everywhere(|| {
        const PARTIES: usize = 4;
        let (s, r) = bounded(PARTIES);
        let parties: Vec<_> = (0..PARTIES)
            .map(|_| {
                let (s, r) = (s.clone(), r.clone());
                go(move || {
                    for i in 0..150 {
                        s.try_send(i).expect("there is room for one of each");
                        r.try_recv().expect("at least the own one is left for each");
                        if i % 16 == 0 {
                            greenloom::yield_now();
                        }
                    }
                })
            })
            .collect();
        join_all(parties);
        assert!(r.is_empty());
    });
}

#[test]
fn one_receive_wakes_one_of_many_waiting_senders() {
    everywhere(|| {
        let (s, r) = bounded(1);
        s.send(0).unwrap();
        let done = Counter::default();
        let waiting: Vec<_> = (1..6)
            .map(|value| {
                let (s, done) = (s.clone(), done.clone());
                go(move || {
                    s.send(value).unwrap();
                    done.add();
                })
            })
            .collect();
        breathe();
        for received in 1..=5 {
            r.recv().unwrap();
            insist(|| (done.get() == received).then_some(()));
            breathe();
            assert_eq!(done.get(), received, "there was room for one");
        }
        join_all(waiting);
        assert_eq!(r.len(), 1);
    });
}

#[test]
fn one_send_wakes_one_of_many_waiting_receivers() {
    everywhere(|| {
        let (s, r) = bounded(8);
        let done = Counter::default();
        let waiting: Vec<_> = (0..5)
            .map(|_| {
                let (r, done) = (r.clone(), done.clone());
                go(move || {
                    r.recv().unwrap();
                    done.add();
                })
            })
            .collect();
        breathe();
        for sent in 1..=5 {
            s.send(sent).unwrap();
            insist(|| (done.get() == sent).then_some(()));
            breathe();
            assert_eq!(done.get(), sent, "there was one value");
        }
        join_all(waiting);
    });
}

#[test]
fn a_receiver_sees_what_its_sender_did_before() {
    everywhere(|| {
        let (s, r) = bounded(4);
        let cells: Arc<Vec<AtomicUsize>> = Arc::new((0..300).map(|_| AtomicUsize::new(0)).collect());
        let sender = go({
            let cells = cells.clone();
            move || {
                for (i, cell) in cells.iter().enumerate() {
                    cell.store(i + 1, std::sync::atomic::Ordering::Relaxed);
                    s.send(i).unwrap();
                }
            }
        });
        for i in r {
            assert_eq!(cells[i].load(std::sync::atomic::Ordering::Relaxed), i + 1);
        }
        sender.join();
    });
}

#[test]
fn handles_are_safe_to_use_after_a_caught_panic() {
    everywhere(|| {
        let (s, r) = bounded(2);
        let result = catch_unwind(AssertUnwindSafe(|| {
            s.send(1).unwrap();
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
        assert!(result.is_err());
        s.send(2).unwrap();
        assert_eq!((r.recv(), r.recv()), (Ok(1), Ok(2)));
    });
}
