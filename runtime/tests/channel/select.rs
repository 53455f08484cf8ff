//! `Select`: waits for one of many operations that are known only at run time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use test_support::Counter;
use test_support::channel::{
    Receiver, RecvError, Select, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded,
};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms, panic_message, takes_at_least};
use test_support::flavour::open;
use test_support::selecting::{CAPACITIES, recv_any};

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
