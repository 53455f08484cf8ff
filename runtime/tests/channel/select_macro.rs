//! `select!` and `select_biased!`: what they choose, and how they wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use test_support::Counter;
use test_support::channel::{
    RecvError, SendError, TryRecvError, TrySendError, after, bounded, never, select, select_biased, tick, unbounded,
};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms, takes_at_least};
use test_support::flavour::open;
use test_support::selecting::{CAPACITIES, assert_fair};

// What it does.

#[test]
fn the_arm_that_is_ready_runs() {
    everywhere(|| {
        let (s1, r1) = unbounded::<usize>();
        let (s2, r2) = unbounded();
        s2.send("two").unwrap();
        select! {
            recv(r1) -> _ => panic!("nothing was sent"),
            recv(r2) -> message => assert_eq!(message, Ok("two")),
        }
        s1.send(1).unwrap();
        select! {
            recv(r1) -> message => assert_eq!(message, Ok(1)),
            recv(r2) -> _ => panic!("nothing is left"),
        }
        let (s3, r3) = bounded(1);
        select! {
            recv(r1) -> _ => panic!("nothing is left"),
            send(s3, 3.0) -> result => assert_eq!(result, Ok(())),
        }
        assert_eq!(r3.recv(), Ok(3.0));
    });
}

#[test]
fn an_arm_of_a_disconnected_channel_runs_with_its_error() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open::<i32>(capacity);
            let (s2, r2) = open::<i32>(capacity);
            drop((s, r2));
            let idle = never::<i32>();
            select! {
                recv(r) -> message => assert_eq!(message, Err(RecvError)),
                recv(idle) -> _ => unreachable!(),
            }
            select! {
                recv(idle) -> _ => unreachable!(),
                send(s2, 5) -> result => assert_eq!(result, Err(SendError(5))),
            }
            select! {
                recv(r) -> message => assert_eq!(message, Err(RecvError)),
                default => panic!("what is disconnected is ready"),
            }
            select! {
                send(s2, 6) -> result => assert_eq!(result, Err(SendError(6))),
                default(ms(60_000)) => panic!("what is disconnected is ready"),
            }
        }
    });
}

#[test]
fn default_runs_when_nothing_is_ready() {
    everywhere(|| {
        for capacity in [Some(0), Some(1)] {
            let (s, r) = open(capacity);
            let idle = never::<i32>();
            select! {
                recv(r) -> _ => panic!("nothing was sent"),
                default => (),
            }
            select! {
                recv(r) -> _ => panic!("nothing was sent"),
                recv(idle) -> _ => panic!("never"),
                default => (),
            }
            _ = s.try_send(1);
            select! {
                send(s, 2) -> _ => panic!("there is no room"),
                default => (),
            }
            select! {
                send(s, 3) -> _ => panic!("there is no room"),
                recv(idle) -> _ => panic!("never"),
                default() => (),
            }
            assert_eq!(r.try_recv().ok(), capacity.filter(|&capacity| capacity == 1).map(|_| 1));
        }
    });
}

#[test]
fn default_with_a_timeout_runs_when_nothing_was_ready_for_so_long() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let idle = never::<i32>();
        takes_at_least(ms(5), || {
            select! {
                recv(r) -> _ => panic!("nothing was sent"),
                default(ms(5)) => (),
            }
        });
        takes_at_least(ms(5), || {
            select! {
                send(s, 1) -> _ => panic!("nobody receives"),
                default(ms(5)) => (),
            }
        });
        takes_at_least(ms(5), || {
            select! {
                recv(r) -> _ => panic!("nothing was sent"),
                send(s, 1) -> _ => panic!("it never meets itself"),
                recv(idle) -> _ => panic!("never"),
                default(ms(2) + ms(3)) => (),
            }
        });
        select! {
            recv(r) -> _ => panic!("nothing was sent"),
            recv(idle) -> _ => panic!("never"),
            default(Duration::ZERO) => (),
        }
    });
}

#[test]
fn default_may_stand_alone() {
    everywhere(|| {
        assert_eq!(select! { default => 1 }, 1);
        assert_eq!(select! { default() => 2, }, 2);
        assert_eq!(takes_at_least(ms(5), || select! { default(ms(5)) => 3 }), 3);
        assert_eq!(select_biased! { default => 4 }, 4);
    });
}

#[test]
fn a_waiting_select_is_woken_by_its_partner() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let idle = never::<i32>();
            let single = go({
                let r = r.clone();
                move || select! { recv(r) -> message => message }
            });
            breathe();
            s.send(1).unwrap();
            assert_eq!(single.join(), Ok(1));
            let among_others = go({
                let (r, idle) = (r.clone(), idle.clone());
                move || {
                    select! {
                        recv(idle) -> _ => panic!("never"),
                        recv(r) -> message => message,
                        default(ms(60_000)) => panic!("not woken"),
                    }
                }
            });
            breathe();
            s.send(2).unwrap();
            assert_eq!(among_others.join(), Ok(2));
            let sending = go(move || {
                for value in 10..20 {
                    select! {
                        recv(idle) -> _ => panic!("never"),
                        send(s, value) -> result => result.unwrap(),
                        default(Duration::MAX) => panic!("not that late"),
                    }
                }
            });
            breathe();
            assert_eq!(Vec::from_iter(r), Vec::from_iter(10..20));
            sending.join();
        }
    });
}

#[test]
fn a_select_never_meets_itself() {
    everywhere(|| {
        let (s, r) = bounded::<i32>(0);
        select! {
            send(s, 1) -> _ => panic!(),
            recv(r) -> _ => panic!(),
            send(s, 2) -> _ => panic!(),
            recv(r) -> _ => panic!(),
            default => {}
        }
        select! {
            recv(r) -> _ => panic!(),
            send(s, 1) -> _ => panic!(),
            default(ms(4)) => {}
        }
        let other = go({
            let (s, r) = (s.clone(), r.clone());
            move || {
                select! {
                    send(s, 2) -> result => { result.unwrap(); 2 }
                    recv(r) -> message => message.unwrap(),
                }
            }
        });
        let passed = select! {
            send(s, 1) -> result => { result.unwrap(); 1 }
            recv(r) -> message => message.unwrap(),
        };
        assert_eq!(passed, other.join());
    });
}

#[test]
fn selects_on_both_sides_meet_each_other() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let (sum, received) = (Arc::new(AtomicUsize::new(0)), Counter::default());
        let parties: Vec<_> = (0..10)
            .map(|i| {
                let (s, r, sum, received) = (s.clone(), r.clone(), sum.clone(), received.clone());
                go(move || {
                    select! {
                        send(s, i) -> result => {
                            result.unwrap();
                            sum.fetch_add(i, SeqCst);
                        }
                        recv(r) -> other => {
                            assert_ne!(other, Ok(i), "it met itself");
                            sum.fetch_sub(other.unwrap(), SeqCst);
                            received.add();
                        }
                    }
                })
            })
            .collect();
        join_all(parties);
        assert_eq!((received.get(), sum.load(SeqCst)), (5, 0));
    });
}

#[test]
fn the_same_channel_may_be_in_several_arms() {
    everywhere(|| {
        let (s, r) = unbounded();
        let mut hits = [0; 4];
        for value in 0..800 {
            select! {
                send(s, value) -> result => { result.unwrap(); hits[0] += 1; }
                send(s, value) -> result => { result.unwrap(); hits[1] += 1; }
            }
            select! {
                recv(r) -> message => { assert_eq!(message, Ok(value)); hits[2] += 1; }
                recv(r) -> message => { assert_eq!(message, Ok(value)); hits[3] += 1; }
            }
        }
        assert_fair(&hits);
    });
}

#[test]
fn ready_arms_are_chosen_fairly() {
    everywhere(|| {
        const COUNT: usize = 1_000;
        let (s1, r1) = bounded(COUNT);
        let (s2, r2) = unbounded();
        for _ in 0..COUNT {
            s1.send(()).unwrap();
            s2.send(()).unwrap();
        }
        let (sink, sunk) = unbounded();
        let mut hits = [0; 5];
        for _ in 0..COUNT {
            select! {
                recv(r1) -> message => { message.unwrap(); hits[0] += 1; }
                recv(r2) -> message => { message.unwrap(); hits[1] += 1; }
                send(sink, ()) -> result => { result.unwrap(); hits[2] += 1; }
                recv(after(Duration::ZERO)) -> message => { message.unwrap(); hits[3] += 1; }
                recv(tick(Duration::ZERO)) -> message => { message.unwrap(); hits[4] += 1; }
                default => panic!("all are ready"),
            }
        }
        assert_fair(&hits);
        assert_eq!(sunk.len(), hits[2]);
    });
}

#[test]
fn a_biased_select_takes_the_first_ready_arm() {
    everywhere(|| {
        let (s1, r1) = unbounded();
        let (s2, r2) = unbounded();
        for value in 0..30 {
            s1.send(value).unwrap();
            s2.send(value).unwrap();
        }
        for value in 0..30 {
            select_biased! {
                recv(r1) -> message => assert_eq!(message, Ok(value)),
                recv(r2) -> _ => panic!("the first has more"),
                default => panic!("both are ready"),
            }
        }
        for value in 0..30 {
            if value % 2 == 0 {
                select_biased! {
                    recv(r1) -> _ => panic!("the first has no more"),
                    recv(r2) -> message => assert_eq!(message, Ok(value)),
                    send(s1, 0) -> _ => panic!("the second has more"),
                }
            } else {
                select_biased! {
                    recv(r1) -> _ => panic!("the first has no more"),
                    recv(r2) -> message => assert_eq!(message, Ok(value)),
                    default(ms(60_000)) => panic!("the second has more"),
                }
            }
        }
        select_biased! {
            recv(r1) -> _ => panic!("the first has no more"),
            recv(r2) -> _ => panic!("the second has no more"),
            send(s1, 99) -> result => result.unwrap(),
            send(s2, 99) -> _ => panic!("the first has room"),
        }
        assert_eq!((r1.try_recv(), s2.len()), (Ok(99), 0));
    });
}

#[test]
fn a_biased_select_waits_like_the_other() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let idle = never::<i32>();
        let waiting = go(move || {
            select_biased! {
                recv(idle) -> _ => panic!("never"),
                recv(r) -> message => message,
            }
        });
        breathe();
        s.send(3).unwrap();
        assert_eq!(waiting.join(), Ok(3));
        takes_at_least(ms(4), || {
            select_biased! {
                recv(never::<i32>()) -> _ => panic!("never"),
                default(ms(4)) => {}
            }
        });
    });
}

#[test]
fn a_select_that_lost_a_race_leaves_no_trace() {
    everywhere(|| {
        let (s1, r1) = bounded(0);
        let (s2, r2) = bounded(0);
        let (s3, r3) = unbounded();
        let waiting = go({
            let (r1, s2, r3) = (r1.clone(), s2.clone(), r3.clone());
            move || {
                select! {
                    recv(r1) -> _ => panic!("nothing was sent"),
                    send(s2, 1) -> _ => panic!("nobody receives"),
                    recv(r3) -> message => message,
                }
            }
        });
        breathe();
        s3.send(7).unwrap();
        assert_eq!(waiting.join(), Ok(7));
        assert_eq!(s1.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(r2.try_recv(), Err(TryRecvError::Empty));
        drop((r1, s2, r3));
    });
}

#[test]
fn loops_over_channels_that_close_hear_all() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s1, r1) = open(capacity);
            let (s2, r2) = open(capacity);
            let senders = [(s1, 20), (s2, 50)].map(|(s, count)| go(move || (0..count).for_each(|value| s.send(value).unwrap())));
            let (mut r1, mut r2) = (Some(r1), Some(r2));
            let (mut heard1, mut heard2) = (0, 0);
            // A channel that has ended is replaced by one that never comes.
            while r1.is_some() || r2.is_some() {
                select! {
                    recv(r1.as_ref().unwrap_or(&never())) -> message => match message {
                        Ok(value) => { assert_eq!(value, heard1); heard1 += 1; }
                        Err(RecvError) => r1 = None,
                    },
                    recv(r2.as_ref().unwrap_or(&never())) -> message => match message {
                        Ok(value) => { assert_eq!(value, heard2); heard2 += 1; }
                        Err(RecvError) => r2 = None,
                    },
                }
            }
            assert_eq!((heard1, heard2), (20, 50));
            join_all(senders);
        }
    });
}

#[test]
fn selects_on_both_sides_lose_and_double_nothing() {
    everywhere(|| {
        const COUNT: usize = 150;
        for capacity in CAPACITIES {
            let (s1, r1) = open(capacity);
            let (s2, r2) = open(capacity);
            let senders: Vec<_> = (0..2)
                .map(|party| {
                    let (s1, s2) = (s1.clone(), s2.clone());
                    go(move || {
                        for value in (party..2 * COUNT).step_by(2) {
                            select! {
                                send(s1, value) -> result => result.unwrap(),
                                send(s2, value) -> result => result.unwrap(),
                            }
                        }
                    })
                })
                .collect();
            let receivers: Vec<_> = (0..2)
                .map(|_| {
                    let (r1, r2) = (r1.clone(), r2.clone());
                    go(move || {
                        Vec::from_iter((0..COUNT).map(|_| {
                            select! {
                                recv(r1) -> message => message.unwrap(),
                                recv(r2) -> message => message.unwrap(),
                            }
                        }))
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
        for capacity in [Some(0), Some(1)] {
            let (s, r) = open(capacity);
            let sender = go(move || {
                for value in 0..COUNT {
                    if value % 3 == 0 {
                        breathe();
                    }
                    insist(|| {
                        select! {
                            send(s, value) -> result => result.ok(),
                            default(Duration::from_micros(200)) => None,
                        }
                    });
                }
            });
            for value in 0..COUNT {
                if value % 4 == 0 {
                    breathe();
                }
                let received = insist(|| {
                    select! {
                        recv(r) -> message => message.ok(),
                        recv(never::<i32>()) -> _ => None,
                        default(Duration::from_micros(200)) => None,
                    }
                });
                assert_eq!(received, value);
            }
            sender.join();
        }
    });
}

/// A value is always in one of two channels, and so a try finds one, although it moves while the try looks.
#[test]
fn default_does_not_run_while_a_value_moves_to_another_channel() {
    everywhere(|| {
        for capacity in [Some(2), None] {
            for timed in [false, true] {
                let (s1, r1) = open(capacity);
                let (s2, r2) = open(capacity);
                let (start_s, start_r) = bounded(0);
                let (end_s, end_r) = bounded(0);
                let mover = go({
                    let (r1, r2) = (r1.clone(), r2.clone());
                    move || {
                        for () in start_r {
                            s2.send(()).unwrap();
                            _ = r1.try_recv();
                            end_s.send(()).unwrap();
                            _ = r2.try_recv();
                            end_s.send(()).unwrap();
                        }
                    }
                });
                for _ in 0..100 {
                    s1.send(()).unwrap();
                    start_s.send(()).unwrap();
                    if timed {
                        select! {
                            recv(r1) -> message => message.unwrap(),
                            recv(r2) -> message => message.unwrap(),
                            default(Duration::ZERO) => panic!("one of them always held a value"),
                        }
                    } else {
                        select! {
                            recv(r1) -> message => message.unwrap(),
                            recv(r2) -> message => message.unwrap(),
                            default => panic!("one of them always held a value"),
                        }
                    }
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
