//! What Go promises of select, by its specification and its own test programs, kept by ours.

use greenloom::channel::{Receiver, RecvError, Select, SendError, Sender, after, bounded, never, tick, unbounded};
use greenloom::{select, select_biased, yield_now};
use test_support::everywhere::{Going, breathe, everywhere, go, join_all, ms, takes_at_least};

/// A closed channel to receive from.
fn closed() -> Receiver<i32> {
    bounded(0).1
}

/// A channel that nobody receives from: as Go's nil channel, for senders.
fn ignored() -> (Sender<i32>, Receiver<i32>) {
    bounded(0)
}

// Which operations block always, and which never.

/// Runs the operation, sees that it has not come back after a while, then does what should let it end.
#[track_caller]
fn blocks<T: Send + 'static>(operation: impl FnOnce() -> T + Send + 'static, release: impl FnOnce()) -> T {
    let party = go(operation);
    breathe();
    assert!(!party.is_finished(), "did not block");
    release();
    party.join()
}

#[test]
fn operations_without_a_partner_block() {
    everywhere(|| {
        let (s, r) = ignored();
        assert_eq!(blocks(move || s.send(7), || drop(r)), Err(SendError(7)));
        let (s, r) = ignored();
        assert_eq!(blocks(move || r.recv(), || drop(s)), Err(RecvError));
        let (s, r) = bounded(1);
        s.send(1).unwrap();
        assert_eq!(blocks(move || s.send(7), || drop(r)), Err(SendError(7)), "a full buffer");
        let (s, r) = unbounded();
        assert_eq!(blocks(move || r.recv(), || s.send(7).unwrap()), Ok(7), "an empty buffer");
        takes_at_least(ms(5), || never::<i32>().recv_timeout(ms(5)).unwrap_err());
    });
}

#[test]
fn selects_with_nothing_ready_block() {
    everywhere(|| {
        let (s, r) = ignored();
        assert_eq!(blocks(move || select! { send(s, 7) -> res => res }, || drop(r)), Err(SendError(7)));
        let (s, r) = ignored();
        assert_eq!(blocks(move || select! { recv(r) -> res => res }, || drop(s)), Err(RecvError));
        let ((s, _receives), (_sends, r)) = (ignored(), ignored());
        let (release, end) = bounded(0);
        let all = move || {
            select! {
                send(s, 7) -> _ => panic!("nobody receives"),
                recv(r) -> _ => panic!("nobody sends"),
                recv(never::<i32>()) -> _ => panic!("never"),
                recv(end) -> res => res,
            }
        };
        assert_eq!(blocks(all, || release.send(3).unwrap()), Ok(3));
    });
}

#[test]
fn a_select_over_nothing_but_time_takes_its_time() {
    everywhere(|| {
        let chosen = takes_at_least(ms(5), || select! { recv(never::<()>()) -> _ => "never", default(ms(5)) => "default" });
        assert_eq!(chosen, "default");
        takes_at_least(ms(5), || select! { default(ms(5)) => {} });
        takes_at_least(ms(5), || select! { recv(after(ms(5))) -> res => res.unwrap() });
        takes_at_least(ms(5), || select! { recv(never::<()>()) -> _ => unreachable!(), recv(after(ms(5))) -> _ => {} });
    });
}

#[test]
fn operations_that_can_proceed_do_not_block() {
    everywhere(|| {
        let (s, r) = bounded(1);
        s.send(7).unwrap();
        assert_eq!(r.recv(), Ok(7));
        let closed = closed();
        for _ in 0..10 {
            assert_eq!(closed.recv(), Err(RecvError));
        }
        select! { send(s, 8) -> res => res.unwrap() }
        select! { recv(r) -> res => assert_eq!(res, Ok(8)) }
        select! { recv(closed) -> res => assert_eq!(res, Err(RecvError)) }
        drop(r);
        select! { send(s, 9) -> res => assert_eq!(res, Err(SendError(9))) }
    });
}

#[test]
fn a_default_is_taken_when_nothing_is_ready() {
    everywhere(|| {
        let ((s, _receives), (_sends, r)) = (ignored(), ignored());
        select! { default => {} }
        select! { recv(r) -> _ => unreachable!(), default => {} }
        select! { send(s, 7) -> _ => unreachable!(), default => {} }
        select! { default => {}, recv(never::<i32>()) -> _ => unreachable!() }
        select! {
            recv(r) -> _ => unreachable!(),
            send(s, 7) -> _ => unreachable!(),
            recv(never::<i32>()) -> _ => unreachable!(),
            default => {}
        }
    });
}

#[test]
fn a_default_is_not_taken_when_something_is_ready() {
    everywhere(|| {
        let (s, r) = bounded(1);
        select! { send(s, 7) -> res => res.unwrap(), default => unreachable!() }
        select! { default => unreachable!(), recv(r) -> res => assert_eq!(res, Ok(7)) }
        select! { recv(closed()) -> res => assert_eq!(res, Err(RecvError)), default => unreachable!() }
        drop(r);
        select! { default => unreachable!(), send(s, 7) -> res => assert_eq!(res, Err(SendError(7))) }
        select! {
            default(ms(60_000)) => unreachable!(),
            recv(never::<()>()) -> _ => unreachable!(),
            recv(closed()) -> _ => {}
        }
    });
}

#[test]
fn a_select_does_not_meet_itself() {
    everywhere(|| {
        for receive in [false, true] {
            let (s, r) = bounded(0);
            let both_ways = {
                let (s, r) = (s.clone(), r.clone());
                move || {
                    select! {
                        send(s, 1) -> res => res.map(|()| 1),
                        recv(r) -> res => Ok(res.unwrap()),
                    }
                }
            };
            if receive {
                assert_eq!(blocks(both_ways, || assert_eq!(r.recv(), Ok(1))), Ok(1));
            } else {
                assert_eq!(blocks(both_ways, || s.send(2).unwrap()), Ok(2));
            }
        }
    });
}

/// Each sends and receives on one channel, whichever comes first: they can only meet each other.
#[test]
fn selects_that_go_both_ways_meet_each_other() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let party = |i: usize| {
            let (s, r) = (s.clone(), r.clone());
            go(move || {
                select! {
                    send(s, i) -> res => res.map(|()| None).unwrap(),
                    recv(r) -> res => res.map(Some).unwrap(),
                }
            })
        };
        let results = join_all((0..20).map(party).collect::<Vec<_>>());
        let mut sent: Vec<_> = results.iter().enumerate().filter(|(_, got)| got.is_none()).map(|(i, _)| i).collect();
        let mut received: Vec<_> = results.iter().flatten().copied().collect();
        sent.sort_unstable();
        received.sort_unstable();
        assert_eq!((sent.len(), &sent), (10, &received));
    });
}

#[test]
fn two_selects_that_go_both_ways_meet_again_and_again() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let parties = [0, 1].map(|_| {
            let (s, r) = (s.clone(), r.clone());
            go(move || {
                let mut sent = 0;
                for i in 0..200 {
                    select! {
                        send(s, i) -> res => { res.unwrap(); sent += 1; }
                        recv(r) -> res => assert_eq!(res, Ok(i), "they go in step"),
                    }
                }
                sent
            })
        });
        assert_eq!(join_all(parties).iter().sum::<i32>(), 200);
    });
}

// What the chosen arm may do, and the others must not.

#[test]
fn an_arm_may_leave_the_loop_around_the_select() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let sender = go(move || (0..).take_while(|i| s.send(*i).is_ok()).count());
        let mut rounds = 0;
        loop {
            rounds += 1;
            select! {
                recv(r) -> res => {
                    if res == Ok(2) {
                        break;
                    }
                    continue;
                }
                recv(never::<i32>()) -> _ => unreachable!(),
            }
        }
        assert_eq!(rounds, 3);
        drop(r);
        assert_eq!(sender.join(), 3);
    });
}

// Arms that are switched off.

/// Sends a bit on each channel until neither has room; a channel that has got its bit is switched off.
fn send_bits(mut a: Sender<u32>, mut b: Sender<u32>, off: &Sender<u32>, shift: &mut u32) -> u32 {
    let mut sent = 0;
    loop {
        select! {
            send(a, 1 << *shift) -> res => { res.unwrap(); a = off.clone(); }
            send(b, 1 << *shift) -> res => { res.unwrap(); b = off.clone(); }
            default => return sent,
        }
        sent += 1;
        *shift += 1;
    }
}

#[test]
fn arms_can_be_switched_off() {
    everywhere(|| {
        let ((a, from_a), (b, from_b), (off, _keeps)) = (bounded(1), bounded(1), bounded(0));
        let mut shift = 0;
        assert_eq!(send_bits(a.clone(), b, &off, &mut shift), 2);
        assert_eq!(from_a.recv().unwrap() | from_b.recv().unwrap(), 3);
        assert_eq!(send_bits(a, off.clone(), &off, &mut shift), 1);
        assert_eq!(from_a.recv(), Ok(4));
    });
}

#[test]
fn two_streams_are_merged_until_both_have_ended() {
    everywhere(|| {
        for capacity in [0, 3] {
            let stream = |numbers: std::ops::Range<u32>| {
                let (s, r) = bounded(capacity);
                (r, go(move || numbers.for_each(|i| s.send(i).unwrap())))
            };
            let ((mut a, sends_a), (mut b, sends_b)) = (stream(0..100), stream(100..130));
            let (mut from_a, mut from_b, mut ends) = (vec![], vec![], 0);
            while ends < 2 {
                select! {
                    recv(a) -> res => match res {
                        Ok(i) => from_a.push(i),
                        Err(RecvError) => { ends += 1; a = never(); }
                    },
                    recv(b) -> res => match res {
                        Ok(i) => from_b.push(i),
                        Err(RecvError) => { ends += 1; b = never(); }
                    },
                }
            }
            assert!(from_a.into_iter().eq(0..100) && from_b.into_iter().eq(100..130));
            join_all([sends_a, sends_b]);
        }
    });
}

/// Closing is a broadcast: each worker hears it, in whatever it waits.
#[test]
fn a_closed_channel_stops_every_worker() {
    everywhere(|| {
        let (stop, stopped) = bounded::<()>(0);
        let (work, todo) = bounded::<u32>(0);
        let (results, done) = bounded::<u32>(0);
        let workers: Vec<_> = (0..6)
            .map(|_| {
                let (stopped, todo, results) = (stopped.clone(), todo.clone(), results.clone());
                go(move || {
                    // What a worker that is stopped has in hand is zero, or what it could not give back.
                    loop {
                        let n = select! { recv(todo) -> n => n.unwrap(), recv(stopped) -> _ => return 0 };
                        select! { send(results, n * 2) -> res => res.unwrap(), recv(stopped) -> _ => return n }
                    }
                })
            })
            .collect();
        let (mut given, mut sum) = (0, 0);
        for _ in 0..60 {
            select! {
                send(work, given) -> res => { res.unwrap(); given += 1; }
                recv(done) -> n => sum += n.unwrap(),
            }
        }
        drop(stop);
        let in_hand: u32 = join_all(workers).into_iter().sum();
        // Zero to `given`, each of them twice, has come back or is in somebody's hand.
        assert_eq!(sum + 2 * in_hand, given * (given - 1));
    });
}

// A select that loses on a channel leaves nothing behind there.

/// A select waits behind a receiver on one channel and wins on another; later receivers on the first must still be served.
#[test]
fn a_lost_arm_does_not_spoil_the_queue() {
    everywhere(|| {
        let ((s1, r1), (s2, r2), (s3, r3)) = (bounded(0), bounded(0), bounded(0));
        let first = {
            let r1 = r1.clone();
            go(move || r1.recv().unwrap())
        };
        let second = go(move || {
            select! {
                recv(r1) -> _ => panic!("nobody has sent yet"),
                recv(r2) -> res => s3.send(res.unwrap()).unwrap(),
            }
            r1.recv().unwrap()
        });
        let third = go(move || s2.send(true).unwrap());
        assert_eq!(r3.recv(), Ok(true));
        s1.send(()).unwrap();
        s1.send(()).unwrap();
        join_all([first, second, third]);
    });
}

#[test]
fn lost_arms_are_not_counted_and_not_served() {
    everywhere(|| {
        let ((s, r), (quiet_s, quiet_r)) = (bounded(0), bounded::<u32>(0));
        let chooser = {
            let (quiet_s, quiet_r) = (quiet_s.clone(), quiet_r.clone());
            go(move || {
                for i in 0..200 {
                    select! {
                        recv(r) -> res => assert_eq!(res, Ok(i)),
                        recv(quiet_r) -> _ => unreachable!(),
                        send(quiet_s, i) -> _ => unreachable!(),
                    }
                }
            })
        };
        (0..200).for_each(|i| s.send(i).unwrap());
        chooser.join();
        assert!(quiet_s.try_send(1).unwrap_err().is_full(), "a receiver is left in the queue");
        assert!(quiet_r.try_recv().unwrap_err().is_empty(), "a sender is left in the queue");
    });
}

#[test]
fn a_value_may_be_discarded_on_either_side() {
    everywhere(|| {
        let receives: [fn(Receiver<i32>); 3] = [
            |r| assert!(r.recv().is_ok()),
            |r| select! { recv(r) -> res => assert!(res.is_ok()) },
            |r| select! { recv(r) -> res => assert!(res.is_ok()), recv(never::<i32>()) -> _ => unreachable!() },
        ];
        let sends: [fn(Sender<i32>); 3] = [
            |s| s.send(1).unwrap(),
            |s| select! { send(s, 1) -> res => res.unwrap() },
            |s| {
                let (quiet, _keeps) = ignored();
                select! { send(s, 1) -> res => res.unwrap(), send(quiet, 1) -> _ => unreachable!() }
            },
        ];
        for receive in receives {
            for send in sends {
                for first in [true, false] {
                    let (s, r) = bounded(0);
                    if first {
                        let receiver = go(move || receive(r));
                        yield_now();
                        send(s);
                        receiver.join();
                    } else {
                        let sender = go(move || send(s));
                        yield_now();
                        receive(r);
                        sender.join();
                    }
                }
            }
        }
    });
}

/// If two arms of one select went through, a value would arrive twice.
#[test]
fn one_arm_goes_through() {
    everywhere(|| {
        const VALUES: usize = 2_000;
        let (mux, all) = bounded(0);
        let (mut senders, mut parties) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let ((s, r), mux) = (bounded(0), mux.clone());
            senders.push(s);
            parties.push(go(move || r.iter().for_each(|i| mux.send(i).unwrap())));
        }
        drop(mux);
        parties.push(go(move || {
            let [a, b, c, d] = senders.try_into().unwrap();
            for i in 0..VALUES {
                select! {
                    send(a, i) -> res => res.unwrap(),
                    send(b, i) -> res => res.unwrap(),
                    send(c, i) -> res => res.unwrap(),
                    send(d, i) -> res => res.unwrap(),
                }
            }
        }));
        let mut seen = vec![false; VALUES];
        for i in &all {
            assert!(!std::mem::replace(&mut seen[i], true), "{i} came twice");
        }
        assert!(seen.into_iter().all(|seen| seen));
        join_all(parties);
    });
}

/// And if two partners of one select went through, a value would be lost.
#[test]
fn one_partner_goes_through() {
    everywhere(|| {
        const EACH: usize = 500;
        let sources: Vec<(Receiver<usize>, Going<()>)> = (0..4)
            .map(|source| {
                let (s, r) = bounded(0);
                (r, go(move || (0..EACH).for_each(|i| s.send(source * EACH + i).unwrap())))
            })
            .collect();
        let (receivers, parties): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let [mut a, mut b, mut c, mut d] = receivers.try_into().unwrap();
        let (mut seen, mut ends) = (vec![false; 4 * EACH], 0);
        while ends < 4 {
            let mut see = |res: Result<usize, _>, from: &mut Receiver<usize>| match res {
                Ok(i) => assert!(!std::mem::replace(&mut seen[i], true), "{i} came twice"),
                Err(RecvError) => {
                    ends += 1;
                    *from = never();
                }
            };
            select! {
                recv(a) -> res => see(res, &mut a),
                recv(b) -> res => see(res, &mut b),
                recv(c) -> res => see(res, &mut c),
                recv(d) -> res => see(res, &mut d),
            }
        }
        assert!(seen.into_iter().all(|seen| seen));
        join_all(parties);
    });
}

// Which of several ready arms.

/// Go chooses uniformly. A fair choice falls below these bounds once in far more than 10^50 runs.
#[test]
fn ready_arms_are_chosen_evenly() {
    everywhere(|| {
        let channels: [_; 4] = std::array::from_fn(|_| unbounded());
        let [(_, r0), (_, r1), (_, r2), (s3, _)] = &channels;
        let mut chosen = [0; 4];
        for (s, _) in &channels {
            (0..4_000).for_each(|i| s.send(i).unwrap());
        }
        for _ in 0..4_000 {
            select! {
                recv(r0) -> res => { res.unwrap(); chosen[0] += 1; }
                recv(r1) -> res => { res.unwrap(); chosen[1] += 1; }
                recv(r2) -> res => { res.unwrap(); chosen[2] += 1; }
                send(s3, 1) -> res => { res.unwrap(); chosen[3] += 1; }
            }
        }
        assert!(chosen.iter().all(|n| *n > 500), "{chosen:?}");
    });
}

#[test]
fn ready_operations_of_a_list_are_chosen_evenly() {
    everywhere(|| {
        let channels: [_; 4] = std::array::from_fn(|_| closed());
        let mut chosen = [0; 4];
        for _ in 0..4_000 {
            let mut select = Select::new();
            channels.iter().for_each(|r| {
                select.recv(r);
            });
            let operation = select.select();
            let index = operation.index();
            chosen[index] += 1;
            operation.recv(&channels[index]).unwrap_err();
        }
        assert!(chosen.iter().all(|n| *n > 500), "{chosen:?}");
    });
}

#[test]
fn the_first_ready_arm_is_chosen_where_that_is_asked_for() {
    everywhere(|| {
        let ((s0, r0), (s1, r1)) = (unbounded(), unbounded());
        for i in 0..100 {
            s0.send(i).unwrap();
            s1.send(i).unwrap();
        }
        let mut order = Vec::new();
        for _ in 0..200 {
            select_biased! {
                recv(never::<()>()) -> _ => unreachable!(),
                recv(r0) -> res => order.push((0, res.unwrap())),
                recv(r1) -> res => order.push((1, res.unwrap())),
                default => unreachable!(),
            }
        }
        assert!(order.into_iter().eq((0..200).map(|n| (n / 100, n % 100))));
    });
}

// Time.

#[test]
fn a_timeout_is_one_more_arm() {
    everywhere(|| {
        let (s, r) = bounded::<u32>(0);
        select! {
            recv(r) -> _ => panic!("nobody sends"),
            recv(after(ms(5))) -> _ => {}
        }
        let sender = go(move || s.send(1).unwrap());
        select! {
            recv(r) -> res => assert_eq!(res, Ok(1)),
            recv(after(ms(60_000))) -> _ => panic!("a minute has passed"),
        }
        sender.join();
    });
}

#[test]
fn ticks_come_while_other_arms_are_quiet() {
    everywhere(|| {
        let (_s, r) = bounded::<u32>(0);
        takes_at_least(ms(6), || {
            let ticks = tick(ms(2));
            for _ in 0..3 {
                select! {
                    recv(r) -> _ => panic!("nobody sends"),
                    recv(ticks) -> res => assert!(res.is_ok()),
                }
            }
        });
    });
}

// Many arms.

#[test]
fn a_list_of_64_serves_them_all() {
    everywhere(|| {
        const SOURCES: usize = 64;
        let sources: Vec<(Receiver<usize>, Going<()>)> = (0..SOURCES)
            .map(|source| {
                let (s, r) = bounded(0);
                (r, go(move || (0..5).for_each(|_| s.send(source).unwrap())))
            })
            .collect();
        let (receivers, parties): (Vec<_>, Vec<_>) = sources.into_iter().unzip();
        let mut select = Select::new();
        receivers.iter().for_each(|r| {
            select.recv(r);
        });
        let (mut open, mut counts) = (SOURCES, [0; SOURCES]);
        while open > 0 {
            let operation = select.select();
            let index = operation.index();
            match operation.recv(&receivers[index]) {
                Ok(source) => {
                    assert_eq!(source, index);
                    counts[source] += 1;
                }
                Err(RecvError) => {
                    select.remove(index);
                    open -= 1;
                }
            }
        }
        assert_eq!(counts, [5; SOURCES]);
        join_all(parties);
    });
}
