//! `Select` against others: fair choices, and races that lose and double nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use greenloom::yield_now;
use test_support::channel::{Receiver, RecvError, Select, Sender, TryRecvError, TrySendError, after, bounded, unbounded};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms};
use test_support::flavour::open;
use test_support::selecting::{CAPACITIES, assert_fair, recv_any};

#[test]
fn ready_operations_are_chosen_fairly() {
    everywhere(|| {
        const COUNT: usize = 1_200;
        let channels: Vec<_> = (0..4).map(|i| if i % 2 == 0 { unbounded() } else { bounded(COUNT) }).collect();
        for (s, _) in &channels {
            (0..COUNT).for_each(|value| s.send(value).unwrap());
        }
        let (sink_s, sink_r) = unbounded();
        let due = after(Duration::ZERO);
        let mut select = Select::new();
        for (_, r) in &channels {
            select.recv(r);
        }
        select.send(&sink_s);
        let timer = select.recv(&due);
        let mut hits = [0; 5];
        for _ in 0..COUNT {
            let operation = select.select();
            match operation.index() {
                index @ 0..4 => {
                    hits[index] += 1;
                    operation.recv(&channels[index].1).unwrap();
                }
                4 => {
                    hits[4] += 1;
                    operation.send(&sink_s, 0).unwrap();
                }
                index => {
                    assert_eq!(index, timer);
                    operation.recv(&due).unwrap();
                }
            }
        }
        assert_fair(&hits);
        assert_eq!(sink_r.len(), hits[4]);
        assert!(due.is_empty(), "the timer had its turn");
    });
}

#[test]
fn operations_on_the_same_channel_are_chosen_fairly() {
    everywhere(|| {
        const COUNT: usize = 1_000;
        let (s, r) = unbounded();
        (0..COUNT).for_each(|value| s.send(value).unwrap());
        let mut select = Select::new();
        for _ in 0..5 {
            select.recv(&r);
        }
        let mut hits = [0; 5];
        for _ in 0..COUNT {
            let operation = select.try_select().unwrap();
            hits[operation.index()] += 1;
            operation.recv(&r).unwrap();
        }
        assert_fair(&hits);
    });
}

/// The partner comes when all are queued, and serves one of those that are queued for its channel.
#[test]
fn operations_that_wait_on_the_same_channel_are_served_fairly() {
    everywhere(|| {
        const ROUNDS: usize = 1000;
        let (s, r) = bounded(0);
        let (s_other, r_other) = bounded::<()>(0);
        let sender = go(move || {
            for i in 0..ROUNDS {
                // The select comes first, most of the time.
                yield_now();
                s.send(i).unwrap();
            }
        });
        let mut hits = [0; 4];
        for i in 0..ROUNDS {
            let mut select = Select::new();
            for arm in 0..4 {
                assert_eq!(select.recv(&r), 2 * arm);
                select.recv(&r_other);
            }
            let operation = select.select();
            hits[operation.index() / 2] += 1;
            assert_eq!(operation.recv(&r), Ok(i));
        }
        sender.join();
        drop(s_other);
        assert_fair(&hits);
    });
}

#[test]
fn a_choice_among_disconnected_channels_is_fair_too() {
    everywhere(|| {
        let receivers: Vec<_> = (0..4).map(|i| open::<i32>([Some(0), Some(2), None, Some(0)][i]).1).collect();
        let mut hits = [0; 4];
        for _ in 0..1_000 {
            hits[recv_any(&receivers).0] += 1;
        }
        assert_fair(&hits);
    });
}

#[test]
fn a_biased_select_takes_the_first_that_is_ready() {
    everywhere(|| {
        let channels: Vec<_> = (0..3).map(|_| unbounded()).collect();
        for (s, _) in &channels {
            (0..20).for_each(|value| s.send(value).unwrap());
        }
        let mut select = Select::new_biased();
        for (_, r) in channels.iter().rev() {
            select.recv(r);
        }
        for expected in [0, 1, 2] {
            for value in 0..20 {
                assert_eq!(select.ready(), expected);
                let operation = match value % 3 {
                    0 => select.select(),
                    1 => select.try_select().unwrap(),
                    _ => select.select_timeout(ms(60_000)).unwrap(),
                };
                assert_eq!(operation.index(), expected);
                assert_eq!(operation.recv(&channels[2 - expected].1), Ok(value));
            }
        }
        assert!(select.try_select().is_err());
    });
}

/// What is left of a biased select after removals, in a clone or for other operations: it keeps the order in which they were added.
#[test]
fn a_biased_select_keeps_its_order_through_removals_clones_and_reuse() {
    everywhere(|| {
        let channels: Vec<_> = (0..6).map(unbounded_with).collect();
        let mut select = Select::new_biased();
        for (_, r) in &channels {
            select.recv(r);
        }
        let mut left: Vec<usize> = (0..6).collect();
        for removed in [1, 4, 0] {
            select.remove(removed);
            left.retain(|index| *index != removed);
            let mut copy = select.clone();
            for select in [&mut select, &mut copy] {
                // The first is taken, and with that the next is the first, down to the last.
                for &index in &left {
                    let operation = select.try_select().unwrap();
                    assert_eq!(operation.index(), index);
                    assert_eq!(operation.recv(&channels[index].1), Ok(index));
                }
                assert!(select.try_ready().is_err());
                for &index in left.iter().rev() {
                    channels[index].0.send(index).unwrap();
                }
                assert_eq!(select.ready(), left[0]);
            }
        }
        // An index is never used again, nor in a clone.
        let mut copy = select.clone();
        assert_eq!((select.recv(&channels[0].1), copy.recv(&channels[0].1)), (6, 6));
        let mut reused = select.recycle();
        assert_eq!((reused.recv(&channels[5].1), reused.recv(&channels[2].1)), (0, 1));
        for _ in 0..20 {
            assert_eq!(reused.ready(), 0);
        }
    });
}

/// A channel with one message.
fn unbounded_with(message: usize) -> (Sender<usize>, Receiver<usize>) {
    let (s, r) = unbounded();
    s.send(message).unwrap();
    (s, r)
}

/// Up to and beyond what is looked at together, and what lies in the frame of a select that waits.
#[test]
fn each_of_many_operations_is_found_wherever_it_is_and_the_first_by_a_biased_select() {
    for count in [1, 8, 9, 63, 64, 65, 128, 129, 130] {
        let channels: Vec<_> = (0..count).map(|_| unbounded::<usize>()).collect();
        let (mut fair, mut biased) = (Select::new(), Select::new_biased());
        for (_, r) in &channels {
            fair.recv(r);
            biased.recv(r);
        }
        for place in [0, 1, 7, 8, 62, 63, 64, 65, 126, 127, 128, 129].into_iter().filter(|place| *place < count) {
            let (s, r) = &channels[place];
            for select in [&mut fair, &mut biased] {
                s.send(place).unwrap();
                assert_eq!(select.try_ready(), Ok(place));
                assert_eq!(select.ready(), place);
                let operation = select.select();
                assert_eq!(operation.index(), place);
                assert_eq!(operation.recv(r), Ok(place));
                assert!(select.try_select().is_err() && select.try_ready().is_err());
            }
            // Those behind it are ready too.
            channels[place..].iter().for_each(|(s, _)| s.send(0).unwrap());
            for _ in 0..5 {
                assert_eq!(biased.ready(), place);
            }
            channels[place..].iter().for_each(|(_, r)| assert_eq!(r.try_recv(), Ok(0)));
            // It comes while they wait.
            for select in [&mut fair, &mut biased] {
                std::thread::scope(|threads| {
                    threads.spawn(|| {
                        breathe();
                        s.send(place).unwrap();
                    });
                    let operation = select.select();
                    assert_eq!(operation.index(), place);
                    assert_eq!(operation.recv(r), Ok(place));
                });
            }
        }
    }
}

#[test]
fn a_select_that_lost_a_race_leaves_no_trace() {
    everywhere(|| {
        let (s1, r1) = bounded(0);
        let (s2, r2) = bounded::<i32>(0);
        let (s3, r3) = unbounded();
        let waiting = go({
            let (r1, s2, r3) = (r1.clone(), s2.clone(), r3.clone());
            move || {
                let mut select = Select::new();
                select.recv(&r1);
                select.send(&s2);
                let index = select.recv(&r3);
                let operation = select.select();
                assert_eq!(operation.index(), index);
                operation.recv(&r3).unwrap();
            }
        });
        breathe();
        s3.send(()).unwrap();
        waiting.join();
        assert_eq!(s1.try_send(1), Err(TrySendError::Full(1)), "nobody receives any more");
        assert_eq!(r2.try_recv(), Err(TryRecvError::Empty), "nobody sends any more");
        // And what comes later is for those who wait then.
        let receiver = go(move || (r1.recv(), r3.recv()));
        s1.send(2).unwrap();
        s3.send(()).unwrap();
        assert_eq!(receiver.join(), (Ok(2), Ok(())));
        drop(s2);
    });
}

#[test]
fn a_select_that_gave_up_takes_no_value_along() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            for _ in 0..20 {
                let mut select = Select::new();
                select.recv(&r);
                select.recv(&r);
                assert!(select.select_timeout(Duration::from_micros(50)).is_err());
                assert!(select.ready_timeout(Duration::from_micros(50)).is_err());
            }
            let receiver = go(move || Vec::from_iter(r));
            for value in 0..10 {
                s.send(value).unwrap();
            }
            drop(s);
            assert_eq!(receiver.join(), Vec::from_iter(0..10));
        }
    });
}

#[test]
fn values_that_many_selects_wait_for_go_to_one_each() {
    everywhere(|| {
        const COUNT: usize = 60;
        let channels: Vec<_> = CAPACITIES.map(open::<usize>).into();
        let receivers: Vec<_> = channels.iter().map(|(_, r)| r.clone()).collect();
        let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..COUNT * channels.len()).map(|_| AtomicUsize::new(0)).collect());
        let parties: Vec<_> = (0..3)
            .map(|_| {
                let (receivers, seen) = (receivers.clone(), seen.clone());
                go(move || {
                    let mut select = Select::new();
                    receivers.iter().for_each(|r| _ = select.recv(r));
                    let mut left = receivers.len();
                    while left > 0 {
                        let operation = select.select();
                        let index = operation.index();
                        match operation.recv(&receivers[index]) {
                            Ok(value) => _ = seen[value].fetch_add(1, SeqCst),
                            Err(RecvError) => {
                                select.remove(index);
                                left -= 1;
                            }
                        }
                    }
                })
            })
            .collect();
        let senders: Vec<_> = channels
            .into_iter()
            .enumerate()
            .map(|(number, (s, _))| go(move || (number * COUNT..(number + 1) * COUNT).for_each(|value| s.send(value).unwrap())))
            .collect();
        join_all(senders);
        join_all(parties);
        assert!(seen.iter().all(|times| times.load(SeqCst) == 1));
    });
}

#[test]
fn selects_that_send_and_selects_that_receive_lose_and_double_nothing() {
    everywhere(|| {
        const COUNT: usize = 150;
        for capacity in [Some(0), Some(1), None] {
            let (s1, r1) = open(capacity);
            let (s2, r2) = open(capacity);
            let senders: Vec<_> = (0..2)
                .map(|party| {
                    let (s1, s2) = (s1.clone(), s2.clone());
                    go(move || {
                        let mut select = Select::new();
                        let first = select.send(&s1);
                        select.send(&s2);
                        for value in (party..2 * COUNT).step_by(2) {
                            let operation = select.select();
                            let s = if operation.index() == first { &s1 } else { &s2 };
                            operation.send(s, value).unwrap();
                        }
                    })
                })
                .collect();
            drop((s1, s2));
            let receivers: Vec<_> = (0..2)
                .map(|_| {
                    let receivers = [r1.clone(), r2.clone()];
                    go(move || {
                        let mut values = Vec::new();
                        while let (_, Ok(value)) = recv_any(&receivers) {
                            values.push(value);
                        }
                        // One of the two has ended. There may be values in the other.
                        receivers.iter().for_each(|r| values.extend(r));
                        values
                    })
                })
                .collect();
            join_all(senders);
            let mut values = join_all(receivers).concat();
            values.sort_unstable();
            assert_eq!(values, Vec::from_iter(0..2 * COUNT));
        }
    });
}

#[test]
fn timeouts_against_partners_lose_and_double_nothing() {
    everywhere(|| {
        const COUNT: usize = 60;
        for capacity in [Some(0), Some(1), None] {
            let (s, r) = open(capacity);
            let sender = go(move || {
                let mut select = Select::new();
                select.send(&s);
                for value in 0..COUNT {
                    if value % 3 == 0 {
                        breathe();
                    }
                    let operation = insist(|| select.select_timeout(Duration::from_micros(200)).ok());
                    operation.send(&s, value).unwrap();
                }
            });
            let mut select = Select::new();
            select.recv(&r);
            for value in 0..COUNT {
                if value % 4 == 0 {
                    breathe();
                }
                let operation = insist(|| select.select_timeout(Duration::from_micros(200)).ok());
                assert_eq!(operation.recv(&r), Ok(value));
            }
            sender.join();
        }
    });
}

/// A value is always in one of two channels, and so a try finds one, although it moves while the try looks.
#[test]
fn a_try_does_not_miss_a_value_that_moves_to_another_channel() {
    everywhere(|| {
        for capacity in [Some(2), None] {
            for step in 0..3 {
                let (s1, r1) = open(capacity);
                let (s2, r2) = open(capacity);
                let (start_s, start_r) = bounded(0);
                let (end_s, end_r) = bounded(0);
                let mover = go({
                    let (r1, r2) = (r1.clone(), r2.clone());
                    move || {
                        for () in start_r {
                            // First there, then away from here.
                            s2.send(()).unwrap();
                            _ = r1.try_recv();
                            end_s.send(()).unwrap();
                            _ = r2.try_recv();
                            end_s.send(()).unwrap();
                        }
                    }
                });
                let mut select = Select::new();
                select.recv(&r1);
                select.recv(&r2);
                for _ in 0..100 {
                    s1.send(()).unwrap();
                    start_s.send(()).unwrap();
                    let operation = match step {
                        0 => select.try_select().ok(),
                        1 => select.select_timeout(Duration::ZERO).ok(),
                        _ => select.select_deadline(Instant::now()).ok(),
                    };
                    let operation = operation.expect("one of them always held a value");
                    let r = if operation.index() == 0 { &r1 } else { &r2 };
                    operation.recv(r).unwrap();
                    end_r.recv().unwrap();
                    end_r.recv().unwrap();
                    _ = (r1.try_recv(), r2.try_recv());
                }
                drop(start_s);
                mover.join();
            }
        }
    });
}

/// The same with the try made long, so that the move falls into it: the channel that the value comes to is looked at first, the one
/// that it leaves, last.
#[test]
fn a_long_try_does_not_miss_a_value_that_moves_to_another_channel() {
    everywhere(|| {
        const ROUNDS: usize = 300;
        let (s1, r1) = bounded(2);
        let (s2, r2) = bounded(2);
        let idle: Vec<_> = (0..60).map(|_| unbounded::<()>()).collect();
        let [started, moved] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let mover = go({
            let (r1, started, moved) = (r1.clone(), started.clone(), moved.clone());
            move || {
                for round in 1..=ROUNDS {
                    insist(|| (started.load(SeqCst) == round).then_some(()));
                    s2.send(()).unwrap();
                    _ = r1.try_recv();
                    moved.store(round, SeqCst);
                }
            }
        });
        let mut select = Select::new_biased();
        select.recv(&r2);
        idle.iter().for_each(|(_, r)| _ = select.recv(r));
        select.recv(&r1);
        for round in 1..=ROUNDS {
            s1.send(()).unwrap();
            started.store(round, SeqCst);
            for _ in 0..round % 40 {
                std::hint::spin_loop();
            }
            let operation = if round % 4 == 0 { select.select_timeout(Duration::ZERO).ok() } else { select.try_select().ok() };
            let operation = operation.expect("one of them always held a value");
            let r = if operation.index() == 0 { &r2 } else { &r1 };
            operation.recv(r).unwrap();
            insist(|| (moved.load(SeqCst) == round).then_some(()));
            _ = (r1.try_recv(), r2.try_recv());
        }
        mover.join();
    });
}
