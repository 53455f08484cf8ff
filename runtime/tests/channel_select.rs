//! `Select`: waits for one of many operations that are known only at run time.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use common::channel::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, after, bounded, never, unbounded,
};
use common::everywhere::{breathe, everywhere, go, insist, join_all, ms, panic_message, takes_at_least};
use common::flavour::open;
use common::{Counter, in_child};
use greenloom::yield_now;

const CAPACITIES: [Option<usize>; 4] = [Some(0), Some(1), Some(4), None];

/// The counts are about equal, as those of a fair choice are: no count is under half the average.
#[track_caller]
fn assert_fair(hits: &[usize]) {
    let average = hits.iter().sum::<usize>() / hits.len();
    assert!(hits.iter().all(|&hits| hits >= average / 2), "{hits:?}");
}

/// Receives from whichever of them has something first.
fn recv_any<T>(receivers: &[Receiver<T>]) -> (usize, Result<T, RecvError>) {
    let mut select = Select::new();
    for r in receivers {
        select.recv(r);
    }
    let operation = select.select();
    let index = operation.index();
    (index, operation.recv(&receivers[index]))
}

#[test]
fn the_operation_that_is_ready_is_selected() {
    everywhere(|| {
        let (s1, r1) = unbounded();
        let (s2, r2) = unbounded();
        let (s3, r3) = bounded(1);
        let mut select = Select::new();
        assert_eq!((select.recv(&r1), select.recv(&r2)), (0, 1));
        s2.send(7).unwrap();
        let operation = select.select();
        assert_eq!(operation.index(), 1);
        assert_eq!(operation.recv(&r2), Ok(7));
        s1.send(8).unwrap();
        let operation = select.try_select().unwrap();
        assert_eq!(operation.index(), 0);
        assert_eq!(operation.recv(&r1), Ok(8));
        assert_eq!(select.send(&s3), 2);
        let operation = select.select_timeout(ms(60_000)).unwrap();
        assert_eq!(operation.index(), 2);
        assert_eq!(operation.send(&s3, 9), Ok(()));
        assert_eq!(r3.recv(), Ok(9));
    });
}

#[test]
fn a_disconnected_channel_is_ready_and_gives_its_error() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open::<i32>(capacity);
            let (gone_s, r2) = open::<i32>(capacity);
            let (s3, gone_r) = open::<i32>(capacity);
            drop((gone_s, gone_r));
            let mut select = Select::new();
            select.recv(&r);
            let index = select.recv(&r2);
            for _ in 0..3 {
                let operation = select.select();
                assert_eq!(operation.index(), index);
                assert_eq!(operation.recv(&r2), Err(RecvError));
            }
            select.remove(index);
            let index = select.send(&s3);
            for value in 0..3 {
                let operation = select.try_select().unwrap();
                assert_eq!(operation.index(), index);
                assert_eq!(operation.send(&s3, value), Err(SendError(value)));
            }
            drop(s);
        }
    });
}

#[test]
fn when_nothing_is_ready_it_says_so_or_waits_its_time() {
    everywhere(|| {
        for capacity in [Some(0), Some(1)] {
            let (_s, r) = open::<i32>(capacity);
            let (s2, _r) = open::<i32>(capacity);
            _ = s2.try_send(0);
            let mut select = Select::new();
            select.recv(&r);
            select.send(&s2);
            assert!(select.try_select().is_err());
            assert!(select.select_timeout(Duration::ZERO).is_err());
            assert!(select.select_deadline(Instant::now()).is_err());
            assert!(takes_at_least(ms(5), || select.select_timeout(ms(5))).is_err());
            let deadline = Instant::now() + ms(5);
            assert!(select.select_deadline(deadline).is_err());
            assert!(Instant::now() >= deadline);
        }
    });
}

#[test]
fn an_expired_deadline_still_selects_what_is_ready() {
    everywhere(|| {
        let (s, r) = unbounded();
        let past = Instant::now();
        breathe();
        let mut select = Select::new();
        let (send, recv) = (select.send(&s), select.recv(&r));
        let operation = select.select_deadline(past).unwrap();
        assert_eq!(operation.index(), send);
        operation.send(&s, 1).unwrap();
        select.remove(send);
        let operation = select.select_timeout(Duration::ZERO).unwrap();
        assert_eq!(operation.index(), recv);
        assert_eq!(operation.recv(&r), Ok(1));
    });
}

#[test]
fn a_waiting_select_is_woken_by_a_value() {
    everywhere(|| {
        for capacity in CAPACITIES {
            for timeout in [None, Some(ms(60_000)), Some(Duration::MAX)] {
                let (_idle, r1) = open::<i32>(capacity);
                let (s2, r2) = open(capacity);
                let waiting = go(move || {
                    let mut select = Select::new();
                    select.recv(&r1);
                    let index = select.recv(&r2);
                    let operation = match timeout {
                        None => select.select(),
                        Some(timeout) => select.select_timeout(timeout).unwrap(),
                    };
                    assert_eq!(operation.index(), index);
                    operation.recv(&r2)
                });
                breathe();
                s2.send(5).unwrap();
                assert_eq!(waiting.join(), Ok(5));
            }
        }
    });
}

#[test]
fn a_waiting_select_is_woken_by_room_for_its_value() {
    everywhere(|| {
        for capacity in [0, 1, 4] {
            let (s1, _full) = bounded(capacity);
            let (s2, r2) = bounded(capacity);
            for _ in 0..capacity {
                s1.send(0).unwrap();
                s2.send(0).unwrap();
            }
            let waiting = go(move || {
                let mut select = Select::new();
                select.send(&s1);
                let index = select.send(&s2);
                let operation = select.select();
                assert_eq!(operation.index(), index);
                operation.send(&s2, 1)
            });
            breathe();
            assert_eq!(r2.recv(), Ok(i32::from(capacity == 0)));
            assert_eq!(waiting.join(), Ok(()));
        }
    });
}

#[test]
fn a_waiting_select_is_woken_by_the_end_of_one_channel() {
    everywhere(|| {
        for capacity in [Some(0), Some(1)] {
            let (s, r1) = open::<i32>(capacity);
            let (s2, r2) = open::<i32>(capacity);
            _ = s2.try_send(0);
            let receiving = go({
                let never = never();
                move || recv_any(&[never, r1])
            });
            let sending = go(move || {
                let mut select = Select::new();
                select.send(&s2);
                select.select().send(&s2, 9)
            });
            breathe();
            drop((s, r2));
            assert_eq!(receiving.join(), (1, Err(RecvError)));
            assert_eq!(sending.join(), Err(SendError(9)));
        }
    });
}

#[test]
fn handles_that_come_and_go_do_not_wake_a_select() {
    everywhere(|| {
        let (s1, r1) = unbounded::<i32>();
        let (s2, r2) = bounded::<i32>(0);
        let waiting = go({
            let (r1, r2) = (r1.clone(), r2.clone());
            move || recv_any(&[r1, r2])
        });
        for _ in 0..20 {
            drop((s1.clone(), r1.clone(), s2.clone(), r2.clone()));
            greenloom::yield_now();
        }
        breathe();
        assert!(!waiting.is_finished());
        s2.send(3).unwrap();
        assert_eq!(waiting.join(), (1, Ok(3)));
        drop(s1);
    });
}

#[test]
fn without_operations_it_waits_for_time_alone() {
    everywhere(|| {
        let mut select = Select::new();
        assert!(select.try_select().is_err());
        assert!(select.try_ready().is_err());
        assert!(takes_at_least(ms(4), || select.select_timeout(ms(4))).is_err());
        assert!(takes_at_least(ms(4), || select.ready_timeout(ms(4))).is_err());
        let deadline = Instant::now() + ms(4);
        assert!(select.select_deadline(deadline).is_err());
        assert!(select.ready_deadline(deadline).is_err());
        assert!(Instant::now() >= deadline);
    });
}

#[test]
fn without_operations_and_without_a_limit_it_panics() {
    everywhere(|| {
        const SENTENCE: &str = "no operations have been added to `Select`";
        assert_eq!(panic_message(|| drop(Select::new().select())), SENTENCE);
        assert_eq!(panic_message(|| Select::new().ready()), SENTENCE);
        assert_eq!(panic_message(|| drop(Select::new_biased().select_timeout(Duration::MAX))), SENTENCE);
        assert_eq!(panic_message(|| Select::default().ready_timeout(Duration::MAX)), SENTENCE);
        let r = never::<i32>();
        let mut select = Select::new();
        select.recv(&r);
        select.remove(0);
        assert_eq!(panic_message(|| drop(select.select())), SENTENCE);
    });
}

#[test]
fn remove_leaves_the_other_operations_and_their_numbers() {
    everywhere(|| {
        let channels: Vec<_> = (0..5).map(|value| (unbounded(), value)).collect();
        let mut select = Select::new();
        for ((s, r), value) in &channels {
            assert_eq!(select.recv(r), *value);
            s.send(*value).unwrap();
        }
        let mut left = vec![0, 1, 2, 3, 4];
        for removed in [1, 4, 0] {
            select.remove(removed);
            left.retain(|&index| index != removed);
            let mut seen = Vec::new();
            insist(|| {
                let operation = select.select();
                let index = operation.index();
                let ((s, r), _) = &channels[index];
                assert_eq!(operation.recv(r), Ok(index));
                s.send(index).unwrap();
                assert!(left.contains(&index), "{index} was removed");
                seen.push(index);
                left.iter().all(|index| seen.contains(index)).then_some(())
            });
        }
        // Numbers are not given out again.
        assert_eq!(select.recv(&channels[1].0.1), 5);
        select.remove(2);
        select.remove(3);
        let operation = select.select();
        assert_eq!(operation.index(), 5);
        assert_eq!(operation.recv(&channels[1].0.1), Ok(1));
    });
}

#[test]
fn remove_of_what_is_not_there_panics() {
    everywhere(|| {
        let r = never::<i32>();
        let mut select = Select::new();
        select.recv(&r);
        select.recv(&r);
        assert_eq!(panic_message(|| select.remove(2)), "index out of bounds; 2 >= 2");
        assert_eq!(panic_message(|| select.remove(usize::MAX)), format!("index out of bounds; {} >= 2", usize::MAX));
        select.remove(1);
        assert_eq!(panic_message(|| select.remove(1)), "no operation with this index");
        assert!(select.try_select().is_err());
        assert_eq!(panic_message(|| Select::new().remove(0)), "index out of bounds; 0 >= 0");
    });
}

#[test]
fn a_select_can_be_used_again_and_again() {
    everywhere(|| {
        const COUNT: usize = 200;
        let (s1, r1) = bounded(0);
        let (s2, r2) = bounded(0);
        let partner = go(move || {
            for i in 0..COUNT {
                s1.send(i).unwrap();
                assert_eq!(r2.recv(), Ok(i));
            }
        });
        let mut select = Select::new();
        let (recv, send) = (select.recv(&r1), select.send(&s2));
        for i in 0..COUNT {
            let operation = select.select();
            assert_eq!(operation.index(), recv);
            assert_eq!(operation.recv(&r1), Ok(i));
            let operation = select.select_timeout(ms(60_000)).unwrap();
            assert_eq!(operation.index(), send);
            assert_eq!(operation.send(&s2, i), Ok(()));
        }
        partner.join();
    });
}

#[test]
fn a_select_never_meets_itself() {
    everywhere(|| {
        let (s, r) = bounded::<i32>(0);
        let mut select = Select::new();
        for _ in 0..3 {
            select.send(&s);
            select.recv(&r);
        }
        assert!(select.try_select().is_err());
        assert!(takes_at_least(ms(5), || select.select_timeout(ms(5))).is_err());
        assert!(select.try_ready().is_err());
        assert!(select.ready_timeout(ms(3)).is_err());
        let other = go({
            let s = s.clone();
            move || s.send(4)
        });
        let operation = select.select();
        assert_eq!(operation.index() % 2, 1);
        assert_eq!(operation.recv(&r), Ok(4));
        assert_eq!(other.join(), Ok(()));
    });
}

/// Even where all of them run on one thread: it is told by task.
#[test]
fn selects_on_both_sides_of_a_channel_meet_each_other() {
    everywhere(|| {
        const PARTIES: usize = 12;
        let (s, r) = bounded(0);
        let (sum, count) = (Arc::new(AtomicUsize::new(0)), Counter::default());
        let parties: Vec<_> = (0..PARTIES)
            .map(|i| {
                let (s, r, sum, count) = (s.clone(), r.clone(), sum.clone(), count.clone());
                go(move || {
                    let mut select = Select::new();
                    let send = select.send(&s);
                    let recv = select.recv(&r);
                    let operation = select.select();
                    if operation.index() == send {
                        operation.send(&s, i).unwrap();
                        sum.fetch_add(i, SeqCst);
                    } else {
                        assert_eq!(operation.index(), recv);
                        let other = operation.recv(&r).unwrap();
                        assert_ne!(other, i, "it met itself");
                        sum.fetch_sub(other, SeqCst);
                        count.add();
                    }
                })
            })
            .collect();
        join_all(parties);
        assert_eq!((count.get(), sum.load(SeqCst)), (PARTIES / 2, 0));
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn an_odd_one_is_left_when_selects_meet_and_others_still_find_it() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let parties: Vec<_> = (0..7)
            .map(|i| {
                let (s, r) = (s.clone(), r.clone());
                go(move || {
                    let mut select = Select::new();
                    let send = select.send(&s);
                    select.recv(&r);
                    let operation = select.select();
                    if operation.index() == send { operation.send(&s, i).is_ok() } else { operation.recv(&r) != Ok(i) }
                })
            })
            .collect();
        s.send(100).unwrap();
        assert_eq!(join_all(parties), [true; 7]);
        assert_eq!(s.try_send(0), Err(TrySendError::Full(0)));
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn the_same_channel_may_be_in_several_operations() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let sender = go(move || {
                for value in 0..40 {
                    let mut select = Select::new();
                    for _ in 0..3 {
                        select.send(&s);
                    }
                    select.select().send(&s, value).unwrap();
                }
            });
            let mut select = Select::new();
            for _ in 0..3 {
                select.recv(&r);
            }
            for value in 0..40 {
                assert_eq!(select.select().recv(&r), Ok(value), "one value, one reception");
            }
            sender.join();
            assert_eq!(select.select().recv(&r), Err(RecvError));
        }
    });
}

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

#[test]
fn sixty_four_operations_are_no_matter() {
    everywhere(|| {
        let channels: Vec<_> = (0..64).map(|i| open::<usize>(CAPACITIES[i % 4])).collect();
        let receivers: Vec<_> = channels.iter().map(|(_, r)| r.clone()).collect();
        let party = go(move || {
            for _ in 0..2 * 64 {
                let (index, value) = recv_any(&receivers);
                assert_eq!(value, Ok(index));
            }
            // And they can all be waited for and given up.
            let mut select = Select::new();
            for r in &receivers {
                select.recv(r);
            }
            assert!(select.select_timeout(ms(2)).is_err());
        });
        for round in 0..2 {
            for i in 0..64 {
                // In an order that is not that of the operations.
                let index = (i * 29 + round) % 64;
                channels[index].0.send(index).unwrap();
            }
        }
        party.join();
    });
}

#[test]
fn a_loop_over_channels_that_end_one_by_one_hears_all() {
    everywhere(|| {
        let channels: Vec<_> = (0..6).map(|i| open(CAPACITIES[i % 4])).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = channels.into_iter().unzip();
        let senders: Vec<_> = senders
            .into_iter()
            .enumerate()
            .map(|(i, s)| {
                go(move || {
                    for value in 0..10 * i {
                        s.send(value).unwrap();
                    }
                })
            })
            .collect();
        let mut heard = [0; 6];
        let mut select = Select::new();
        receivers.iter().for_each(|r| _ = select.recv(r));
        let mut left = 6;
        while left > 0 {
            let operation = select.select();
            let index = operation.index();
            match operation.recv(&receivers[index]) {
                Ok(value) => {
                    assert_eq!(value, heard[index], "each channel keeps its order");
                    heard[index] += 1;
                }
                Err(RecvError) => {
                    select.remove(index);
                    left -= 1;
                }
            }
        }
        assert_eq!(heard, [0, 10, 20, 30, 40, 50]);
        join_all(senders);
    });
}

#[test]
fn other_operations_may_come_between_selection_and_completion() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let (inner_s, inner_r) = bounded(0);
        let partner = go(move || s.send(1).unwrap());
        let mut select = Select::new();
        select.recv(&r);
        let operation = select.select();
        let mut inner = Select::new();
        inner.send(&inner_s);
        assert!(inner.try_select().is_err());
        assert!(inner.select_timeout(ms(2)).is_err());
        assert_eq!(inner_r.try_recv(), Err(TryRecvError::Empty));
        let inner_partner = go(move || inner_s.send(2).unwrap());
        assert_eq!(recv_any(std::slice::from_ref(&inner_r)), (0, Ok(2)));
        inner_partner.join();
        assert_eq!(operation.recv(&r), Ok(1));
        partner.join();
    });
}

#[test]
fn a_partner_waits_for_the_completion() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let receiver = go(move || r.recv());
        let mut select = Select::new();
        select.send(&s);
        let operation = select.select();
        breathe();
        assert!(!receiver.is_finished(), "it is promised a value that is not there yet");
        operation.send(&s, 6).unwrap();
        assert_eq!(receiver.join(), Ok(6));
    });
}

#[test]
fn a_select_can_be_cloned_and_given_away() {
    everywhere(|| {
        // A Select borrows; these live as long as the program.
        let (s, r): &'static (Sender<usize>, Receiver<usize>) = Box::leak(Box::new(bounded(0)));
        let mut sending = Select::new();
        sending.send(s);
        let mut receiving = Select::new();
        receiving.recv(r);
        receiving.recv(r);
        let senders: Vec<_> = (0..3)
            .map(|value| {
                let mut select = sending.clone();
                go(move || select.select().send(s, value).unwrap())
            })
            .collect();
        let receivers: Vec<_> = (0..3)
            .map(|_| {
                let mut select = receiving.clone();
                go(move || select.select().recv(r).unwrap())
            })
            .collect();
        join_all(senders);
        assert_eq!(join_all(receivers).into_iter().sum::<usize>(), 3);
        // A clone counts on from where the original stood.
        let mut clone = receiving.clone();
        assert_eq!((clone.recv(r), receiving.recv(r)), (2, 2));
    });
}

#[test]
fn a_channel_goes_through_a_channel() {
    everywhere(|| {
        struct Next(Receiver<Next>);
        for capacity in CAPACITIES {
            let (mut s, r) = open::<Next>(capacity);
            let follower = go(move || {
                let mut r = r;
                (0..).find(|_| match recv_any(std::slice::from_ref(&r)).1 {
                    Ok(Next(next)) => {
                        r = next;
                        false
                    }
                    Err(RecvError) => true,
                })
            });
            for _ in 0..40 {
                let (next_s, next_r) = open(capacity);
                let mut select = Select::new();
                select.send(&s);
                select.select().send(&s, Next(next_r)).map_err(drop).unwrap();
                s = next_s;
            }
            drop(s);
            assert_eq!(follower.join(), Some(40));
        }
    });
}

#[test]
fn a_value_in_a_select_is_dropped_once() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let dropped = Counter::default();
            let sender = go({
                let dropped = dropped.clone();
                move || {
                    for _ in 0..20 {
                        let mut select = Select::new();
                        select.send(&s);
                        // What is not sent comes back, and is dropped here.
                        _ = select.select().send(&s, dropped.on_drop());
                    }
                }
            });
            for _ in 0..10 {
                drop(recv_any(std::slice::from_ref(&r)));
            }
            drop(r);
            sender.join();
            assert_eq!(dropped.get(), 20);
        }
    });
}

// What is ready, without doing it.

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
    let child = in_child("completing_with_another_sender_panics", || {
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
    let child = in_child("completing_with_another_receiver_panics", || {
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
