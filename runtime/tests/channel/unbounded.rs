//! Channels with room for any number of values.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use test_support::channel::{RecvError, RecvTimeoutError, Select, TryRecvError, unbounded};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms, panic_message};
use test_support::{Counter, CountsDrop};

test_support::cases_of_any!(None);

/// More than any block that values may be kept in, and not a multiple of it.
const MANY: usize = 1_237;

#[test]
fn it_has_no_capacity_and_is_never_full() {
    everywhere(|| {
        let (s, r) = unbounded();
        assert_eq!((s.capacity(), r.capacity()), (None, None));
        assert!(s.is_empty() && r.is_empty() && !s.is_full() && !r.is_full());
        for value in 0..MANY {
            s.send(value).unwrap();
            assert!(!s.is_full() && !r.is_full() && !s.is_empty() && !r.is_empty());
        }
    });
}

#[test]
fn no_send_ever_waits() {
    everywhere(|| {
        let (s, r) = unbounded();
        let past = Instant::now();
        breathe();
        for i in 0..MANY {
            match i % 5 {
                0 => s.send(i).unwrap(),
                1 => s.try_send(i).unwrap(),
                2 => s.send_timeout(i, Duration::ZERO).unwrap(),
                3 => s.send_deadline(i, past).unwrap(),
                _ => {
                    let mut select = Select::new();
                    select.send(&s);
                    select.try_select().unwrap().send(&s, i).unwrap();
                }
            }
        }
        drop(s);
        assert_eq!(Vec::from_iter(r), Vec::from_iter(0..MANY));
    });
}

#[test]
fn len_counts_over_the_ends_of_blocks() {
    everywhere(|| {
        for step in [1, 7, 30, 31, 32, 33, 63, 100] {
            let (s, r) = unbounded();
            let (mut sent, mut received) = (0, 0);
            for _ in 0..12 {
                for _ in 0..step {
                    s.send(sent).unwrap();
                    sent += 1;
                    assert_eq!((s.len(), r.len()), (sent - received, sent - received));
                }
                for _ in 0..step / 2 {
                    assert_eq!(r.recv(), Ok(received));
                    received += 1;
                    assert_eq!((s.len(), r.len()), (sent - received, sent - received));
                }
            }
            for value in received..sent {
                assert_eq!(r.try_recv(), Ok(value));
                assert_eq!(s.len(), sent - value - 1);
            }
            assert!(s.is_empty() && r.is_empty());
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        }
    });
}

#[test]
fn what_is_inside_outlives_the_senders() {
    everywhere(|| {
        for count in [0, 1, 31, 32, 62, 200] {
            let (s, r) = unbounded();
            for value in 0..count {
                s.send(value).unwrap();
            }
            drop(s);
            for value in 0..count {
                let received = match value % 3 {
                    0 => r.recv().ok(),
                    1 => r.try_recv().ok(),
                    _ => r.recv_timeout(ms(60_000)).ok(),
                };
                assert_eq!(received, Some(value));
            }
            assert_eq!(r.recv(), Err(RecvError));
            assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
            assert_eq!(r.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected));
        }
    });
}

#[test]
fn what_is_inside_goes_with_the_last_receiver() {
    everywhere(|| {
        for (taken, inside) in [(0, 1), (0, 31), (0, 32), (31, 1), (30, 5), (40, 100)] {
            let (s, r) = unbounded::<CountsDrop>();
            let dropped = Counter::default();
            for _ in 0..taken + inside {
                s.send(dropped.on_drop()).unwrap();
            }
            for _ in 0..taken {
                drop(r.recv());
            }
            let other = r.clone();
            drop(r);
            assert_eq!(dropped.get(), taken, "one receiver is left");
            drop(other);
            assert_eq!(dropped.get(), taken + inside, "the sender need not go for that");
            assert!(s.send(dropped.on_drop()).is_err());
            drop(s);
            assert_eq!(dropped.get(), taken + inside + 1);
        }
    });
}

#[test]
fn what_is_inside_goes_with_a_receiver_that_outlives_the_senders() {
    everywhere(|| {
        let (s, r) = unbounded::<CountsDrop>();
        let dropped = Counter::default();
        for _ in 0..100 {
            s.send(dropped.on_drop()).unwrap();
        }
        drop(s);
        drop(r.recv());
        assert_eq!(dropped.get(), 1);
        drop(r);
        assert_eq!(dropped.get(), 100);
    });
}

#[test]
fn senders_that_race_with_the_end_of_the_receivers_lose_no_value() {
    everywhere(|| {
        for round in 0..20 {
            let (s, r) = unbounded::<CountsDrop>();
            let dropped = Counter::default();
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (s, dropped) = (s.clone(), dropped.clone());
                    go(move || {
                        for _ in 0..50 {
                            // What comes back is dropped here, what does not, there.
                            drop(s.send(dropped.on_drop()));
                            greenloom::yield_now();
                        }
                    })
                })
                .collect();
            for _ in 0..round {
                drop(r.recv());
            }
            drop(r);
            join_all(senders);
            drop(s);
            assert_eq!(dropped.get(), 100);
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
        let (s, r) = unbounded();
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

/// A block of these is larger than a task's stack: it may not be made there.
#[test]
fn large_values_do_not_overflow_the_stack() {
    everywhere(|| {
        #[derive(Clone, Copy)]
        struct Large([u8; 8 * 1024]);
        let (s, r) = unbounded();
        for value in 0..70 {
            assert!(s.send(Large([value; _])).is_ok());
        }
        for value in 0..70 {
            assert!(r.recv().unwrap().0.iter().all(|&byte| byte == value));
        }
    });
}

#[test]
fn after_a_send_somebody_can_receive() {
    everywhere(|| {
        let (s, r) = unbounded();
        let parties: Vec<_> = (0..4)
            .map(|_| {
                let (s, r) = (s.clone(), r.clone());
                go(move || {
                    for i in 0..150 {
                        s.send(i).unwrap();
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
fn one_send_wakes_one_of_many_waiting_receivers() {
    everywhere(|| {
        let (s, r) = unbounded();
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
fn a_burst_wakes_as_many_receivers_as_it_has_values() {
    everywhere(|| {
        for _ in 0..10 {
            let (s, r) = unbounded();
            let waiting: Vec<_> = (0..6)
                .map(|_| {
                    let r = r.clone();
                    go(move || r.recv().unwrap())
                })
                .collect();
            for value in 0..6 {
                s.send(value).unwrap();
            }
            // The senders stay: only the values can have woken them.
            let mut received = join_all(waiting);
            received.sort_unstable();
            assert_eq!(received, [0, 1, 2, 3, 4, 5]);
        }
    });
}

/// As many as fill some blocks.
#[test]
fn promises_of_many_messages_are_kept_or_given_back() {
    let (s, r) = unbounded();
    (0..150).for_each(|message| s.send(message).unwrap());
    let mut promises: Vec<_> = (0..100)
        .map(|_| {
            let mut select = Select::new();
            select.recv(&r);
            select.try_select().unwrap()
        })
        .collect();
    assert_eq!(r.len(), 50);
    let given_back = promises.split_off(50);
    let mut received: Vec<_> = promises.into_iter().map(|promise| promise.recv(&r).unwrap()).collect();
    assert_eq!(r.len(), 50);
    for promise in given_back {
        assert!(catch_unwind(AssertUnwindSafe(|| drop(promise))).is_err());
    }
    assert_eq!(r.len(), 100);
    received.extend(r.try_iter());
    assert_eq!(received, (0..150).collect::<Vec<_>>());
}
