//! The iterators over what a channel receives.

use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Instant;

use test_support::Counter;
use test_support::channel::{IntoIter, Iter, Receiver, TryRecvError, bounded, tick, unbounded};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms};
use test_support::flavour::open;

const CAPACITIES: [Option<usize>; 4] = [Some(0), Some(1), Some(5), None];

#[test]
fn iter_waits_for_each_value_and_ends_with_the_senders() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let sum = go(move || (r.iter().sum::<i32>(), r.try_recv()));
            for value in 1..=4 {
                breathe();
                s.send(value).unwrap();
            }
            drop(s);
            assert_eq!(sum.join(), (10, Err(TryRecvError::Disconnected)));
        }
    });
}

#[test]
fn iter_of_a_channel_without_senders_gives_what_is_left() {
    everywhere(|| {
        let (s, r) = unbounded();
        for value in 0..50 {
            s.send(value).unwrap();
        }
        drop(s);
        assert_eq!(Vec::from_iter(&r), Vec::from_iter(0..50));
        assert_eq!(r.iter().next(), None);
        assert_eq!(r.iter().next(), None);
    });
}

#[test]
fn iter_can_be_left_and_taken_up_again() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let sender = go(move || {
                for value in 0..10 {
                    s.send(value).unwrap();
                }
            });
            let mut taken = Vec::new();
            for value in r.iter() {
                taken.push(value);
                if value == 3 {
                    break;
                }
            }
            assert_eq!(r.recv(), Ok(4));
            taken.extend(&r);
            assert_eq!(taken, [0, 1, 2, 3, 5, 6, 7, 8, 9]);
            sender.join();
        }
    });
}

#[test]
fn iter_inside_a_party_counts_what_other_parties_send() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let senders: Vec<_> = (0..3)
                .map(|_| {
                    let s = s.clone();
                    go(move || {
                        for value in 0..20 {
                            s.send(value).unwrap();
                        }
                    })
                })
                .collect();
            drop(s);
            assert_eq!(r.iter().count(), 60);
            join_all(senders);
        }
    });
}

#[test]
fn try_iter_gives_what_is_there_and_does_not_wait() {
    everywhere(|| {
        for capacity in [Some(8), None] {
            let (s, r) = open(capacity);
            assert_eq!(r.try_iter().next(), None);
            for value in 0..5 {
                s.send(value).unwrap();
            }
            assert_eq!(Vec::from_iter(r.try_iter()), [0, 1, 2, 3, 4]);
            assert_eq!(r.try_iter().next(), None);
            // The end is not for good.
            let mut values = r.try_iter();
            assert_eq!(values.next(), None);
            s.send(5).unwrap();
            assert_eq!(values.next(), Some(5));
            drop(s);
            assert_eq!(values.next(), None);
        }
    });
}

#[test]
fn try_iter_takes_from_senders_that_wait() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let senders: Vec<_> = (0..4)
            .map(|value| {
                let s = s.clone();
                go(move || s.send(value).unwrap())
            })
            .collect();
        let mut values = Vec::new();
        insist(|| {
            values.extend(r.try_iter());
            (values.len() == 4).then_some(())
        });
        values.sort_unstable();
        assert_eq!(values, [0, 1, 2, 3]);
        join_all(senders);
        assert_eq!(r.try_iter().next(), None);
    });
}

#[test]
fn into_iter_owns_the_receiver() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let sender = go(move || (0..).take_while(|&value| s.send(value).is_ok()).take(1_000).count());
            let mut values = r.into_iter();
            assert_eq!((values.next(), values.next()), (Some(0), Some(1)));
            drop(values);
            let sent = sender.join();
            assert!(sent >= 2, "{sent}");
            assert!(sent < 1_000 || capacity.is_none(), "the receiver has gone with its iterator");
        }
    });
}

#[test]
fn into_iter_ends_with_the_senders() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let sender = go(move || {
                for value in 0..10 {
                    s.send(value).unwrap();
                }
            });
            let mut next = 0;
            for value in r {
                assert_eq!(value, next);
                next += 1;
            }
            assert_eq!(next, 10);
            sender.join();
        }
    });
}

#[test]
fn a_reference_iterates_without_taking_the_receiver() {
    everywhere(|| {
        let (s, r) = unbounded();
        s.send(1).unwrap();
        s.send(2).unwrap();
        for value in &r {
            if value == 2 {
                break;
            }
        }
        s.send(3).unwrap();
        drop(s);
        let mut values = IntoIterator::into_iter(&r);
        assert_eq!((values.next(), values.next()), (Some(3), None));
    });
}

#[test]
fn iterators_that_ended_stay_ended() {
    fn assert_fused<I: FusedIterator>() {}
    assert_fused::<Iter<'static, i32>>();
    assert_fused::<IntoIter<i32>>();
    everywhere(|| {
        let (s, r) = unbounded::<i32>();
        drop(s);
        let mut values = r.iter();
        assert_eq!((values.next(), values.next()), (None, None));
        let mut values = r.clone().into_iter();
        assert_eq!((values.next(), values.next()), (None, None));
        assert_eq!(r.try_iter().next(), None);
    });
}

#[test]
fn iterators_of_clones_share_the_values() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let parties: Vec<_> = (0..3)
                .map(|_| {
                    let r = r.clone();
                    go(move || Vec::from_iter(r))
                })
                .collect();
            for value in 0..90 {
                s.send(value).unwrap();
            }
            drop((s, r));
            let parts = join_all(parties);
            assert!(parts.iter().all(|part| part.is_sorted()), "each gets its share in order");
            let mut values = parts.concat();
            values.sort_unstable();
            assert_eq!(values, Vec::from_iter(0..90));
        }
    });
}

#[test]
fn what_an_iterator_did_not_take_is_dropped_once() {
    everywhere(|| {
        let (s, r) = unbounded();
        let dropped = Counter::default();
        for _ in 0..10 {
            s.send(dropped.on_drop()).unwrap();
        }
        drop(s);
        let mut values = r.into_iter();
        drop((values.next(), values.next()));
        assert_eq!(dropped.get(), 2);
        drop(values);
        assert_eq!(dropped.get(), 10);
    });
}

#[test]
fn iterators_nest() {
    everywhere(|| {
        let (outer_s, outer) = bounded::<Receiver<i32>>(0);
        let sender = go(move || {
            for times in 1..=3 {
                let (s, r) = bounded(0);
                outer_s.send(r).unwrap();
                for _ in 0..times {
                    s.send(times).unwrap();
                }
            }
        });
        assert_eq!(outer.iter().map(|inner| inner.iter().sum::<i32>()).collect::<Vec<_>>(), [1, 4, 9]);
        sender.join();
    });
}

#[test]
fn iterators_work_through_a_pipeline() {
    everywhere(|| {
        let (s, stage) = bounded(2);
        let (next_s, end) = bounded(0);
        let middle = go(move || stage.iter().map(|value: u64| value * value).try_for_each(|value| next_s.send(value)));
        let sender = go(move || (0..100).try_for_each(|value| s.send(value)));
        assert_eq!(end.iter().sum::<u64>(), 328_350);
        assert_eq!(middle.join(), Ok(()));
        assert_eq!(sender.join(), Ok(()));
    });
}

#[test]
fn iter_over_ticks_goes_on_for_ever() {
    everywhere(|| {
        let start = Instant::now();
        let ticks = tick(ms(1));
        let served = Arc::new(AtomicUsize::new(0));
        ticks.iter().take(5).for_each(|_| _ = served.fetch_add(1, SeqCst));
        assert_eq!(served.load(SeqCst), 5);
        assert!(start.elapsed() >= ms(5));
    });
}
