//! `after`, `at`, `tick` and `never`: channels that time alone sends into.

use std::time::{Duration, Instant};

use test_support::channel::{self, Receiver, RecvTimeoutError, Select, TryRecvError, after, at, never, tick, unbounded};
use test_support::everywhere::{everywhere, go, insist, join_all, ms, pause, takes_at_least};

#[test]
fn after_delivers_the_instant_that_was_asked_for_and_not_before() {
    everywhere(|| {
        let start = Instant::now();
        let r = after(ms(10));
        let latest = Instant::now() + ms(10);
        let message = r.recv().unwrap();
        assert!(Instant::now() >= message, "it came early");
        assert!(message >= start + ms(10) && message <= latest, "it is the time of delivery, not of reception");
    });
}

#[test]
fn after_delivers_the_same_instant_however_late_it_is_received() {
    everywhere(|| {
        let r = after(ms(2));
        let latest = Instant::now() + ms(2);
        pause(ms(10));
        assert!(r.recv().unwrap() <= latest);
    });
}

#[test]
fn at_delivers_its_instant() {
    everywhere(|| {
        let when = Instant::now() + ms(8);
        let r = at(when);
        assert_eq!(r.recv(), Ok(when));
        assert!(Instant::now() >= when);
    });
}

#[test]
fn at_in_the_past_delivers_at_once() {
    everywhere(|| {
        let now = Instant::now();
        for when in [now, now.checked_sub(ms(1_000)).unwrap_or(now)] {
            assert_eq!(at(when).try_recv(), Ok(when));
            assert_eq!(at(when).recv(), Ok(when));
            assert_eq!(at(when).recv_timeout(Duration::ZERO), Ok(when));
            assert_eq!(at(when).len(), 1);
        }
    });
}

#[test]
fn after_no_time_delivers_at_once() {
    everywhere(|| {
        assert!(after(Duration::ZERO).try_recv().is_ok());
        assert!(after(Duration::ZERO).recv().is_ok());
        assert!(after(Duration::ZERO).recv_timeout(Duration::ZERO).is_ok());
    });
}

#[test]
fn one_shot_timers_deliver_once_and_never_disconnect() {
    everywhere(|| {
        for r in [after(ms(2)), at(Instant::now() + ms(2))] {
            r.recv().unwrap();
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(takes_at_least(ms(5), || r.recv_timeout(ms(5))), Err(RecvTimeoutError::Timeout));
            let deadline = Instant::now() + ms(5);
            assert_eq!(r.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
            assert!(Instant::now() >= deadline);
            assert_eq!(r.try_iter().count(), 0);
        }
    });
}

#[test]
fn one_shot_timers_hold_one_value_while_it_is_due_and_not_taken() {
    everywhere(|| {
        let when = Instant::now() + ms(60_000);
        for r in [after(ms(60_000)), at(when)] {
            assert_eq!(r.capacity(), Some(1));
            assert!(r.is_empty() && !r.is_full());
            assert_eq!(r.len(), 0);
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        }
        for r in [after(ms(3)), at(Instant::now() + ms(3))] {
            pause(ms(3));
            assert_eq!(r.capacity(), Some(1));
            assert_eq!(r.len(), 1);
            assert!(!r.is_empty() && r.is_full());
            r.try_recv().unwrap();
            assert_eq!(r.len(), 0);
            assert!(r.is_empty() && !r.is_full());
            assert_eq!(r.capacity(), Some(1));
        }
    });
}

#[test]
fn a_timed_receive_gives_up_before_a_later_timer() {
    everywhere(|| {
        for r in [after(ms(60_000)), tick(ms(60_000)), at(Instant::now() + ms(60_000)), never()] {
            assert_eq!(takes_at_least(ms(5), || r.recv_timeout(ms(5))), Err(RecvTimeoutError::Timeout));
            assert_eq!(r.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
            assert_eq!(r.recv_deadline(Instant::now()), Err(RecvTimeoutError::Timeout));
        }
    });
}

#[test]
fn a_timed_receive_gets_an_earlier_timer() {
    everywhere(|| {
        assert!(after(ms(5)).recv_timeout(ms(60_000)).is_ok());
        assert!(after(ms(5)).recv_timeout(Duration::MAX).is_ok());
        assert!(tick(ms(5)).recv_timeout(ms(60_000)).is_ok());
        assert!(tick(ms(5)).recv_deadline(Instant::now() + ms(60_000)).is_ok());
    });
}

/// A message that is due at the deadline is in time, in a receive as in a select.
#[test]
fn a_timer_that_is_due_at_the_deadline_is_received() {
    everywhere(|| {
        for wait in [0, 5] {
            let moment = Instant::now() + ms(wait);
            assert_eq!(at(moment).recv_deadline(moment), Ok(moment));
            let (late, timer) = (at(moment + ms(60_000)), at(moment));
            let mut select = Select::new();
            select.recv(&late);
            select.recv(&timer);
            let operation = select.select_deadline(moment).unwrap();
            assert_eq!(operation.index(), 1);
            assert_eq!(operation.recv(&timer), Ok(moment));
        }
    });
}

#[test]
fn clones_of_a_one_shot_timer_share_its_value() {
    everywhere(|| {
        for _ in 0..5 {
            let r = after(ms(3));
            let waiting: Vec<_> = (0..5)
                .map(|i| {
                    let r = r.clone();
                    go(move || match i {
                        0 => r.recv_timeout(ms(15)).is_ok(),
                        1 => r.recv_deadline(Instant::now() + ms(15)).is_ok(),
                        2 => {
                            let mut select = Select::new();
                            select.recv(&r);
                            select.select_timeout(ms(15)).is_ok_and(|operation| operation.recv(&r).is_ok())
                        }
                        _ => {
                            pause(ms(4));
                            r.try_recv().is_ok()
                        }
                    })
                })
                .collect();
            assert_eq!(join_all(waiting).into_iter().filter(|&got| got).count(), 1);
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        }
    });
}

#[test]
fn a_timer_that_many_wait_for_wakes_one_and_the_others_go_on_waiting() {
    everywhere(|| {
        let r = after(ms(3));
        let (s, others) = unbounded();
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let (r, others) = (r.clone(), others.clone());
                go(move || {
                    let mut select = Select::new();
                    let timer = select.recv(&r);
                    select.recv(&others);
                    let operation = select.select();
                    if operation.index() == timer {
                        operation.recv(&r).unwrap();
                        true
                    } else {
                        operation.recv(&others).unwrap();
                        false
                    }
                })
            })
            .collect();
        pause(ms(6));
        insist(|| r.is_empty().then_some(()));
        for _ in 0..3 {
            s.send(()).unwrap();
        }
        assert_eq!(join_all(waiting).into_iter().filter(|&timer| timer).count(), 1);
    });
}

#[test]
fn a_duration_beyond_the_clock_never_comes() {
    everywhere(|| {
        for r in [after(Duration::MAX), tick(Duration::MAX), after(Duration::from_secs(u64::MAX / 2))] {
            assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
            assert_eq!(takes_at_least(ms(3), || r.recv_timeout(ms(3))), Err(RecvTimeoutError::Timeout));
            assert!(r.is_empty());
            assert_eq!(r.len(), 0);
            let mut select = Select::new();
            select.recv(&r);
            assert!(select.select_timeout(ms(3)).is_err());
        }
    });
}

#[test]
fn tick_delivers_again_and_again_at_its_distance() {
    everywhere(|| {
        let start = Instant::now();
        let r = tick(ms(5));
        let mut previous = start;
        for i in 0..6 {
            let message = match i % 3 {
                0 => r.recv().unwrap(),
                1 => r.recv_timeout(ms(60_000)).unwrap(),
                _ => insist(|| r.try_recv().ok()),
            };
            assert!(Instant::now() >= message, "it came early");
            assert!(message >= previous + ms(5), "it came {:?} after the previous one", message - previous);
            previous = message;
        }
        assert!(start.elapsed() >= ms(30));
    });
}

#[test]
fn tick_keeps_one_value_for_a_slow_receiver_and_not_a_heap() {
    everywhere(|| {
        let r = tick(ms(10));
        pause(ms(45));
        assert_eq!(r.len(), 1);
        let first = r.recv().unwrap();
        // The next comes a whole distance after this reception, 45 or more after the tick was made: missed ones are gone.
        let second = r.recv().unwrap();
        assert!(second >= first + ms(45), "after {:?}", second - first);
    });
}

#[test]
fn tick_holds_one_value_while_it_is_due() {
    everywhere(|| {
        let r = tick(ms(60_000));
        assert_eq!(r.capacity(), Some(1));
        assert_eq!(r.len(), 0);
        assert!(r.is_empty() && !r.is_full());
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        let r = tick(ms(3));
        pause(ms(3));
        assert_eq!(r.capacity(), Some(1));
        assert_eq!(r.len(), 1);
        assert!(!r.is_empty() && r.is_full());
        let r = tick(Duration::from_micros(1));
        pause(ms(1));
        r.recv().unwrap();
        assert_eq!(r.capacity(), Some(1));
    });
}

#[test]
fn tick_without_distance_is_always_due() {
    everywhere(|| {
        let r = tick(Duration::ZERO);
        for _ in 0..100 {
            assert!(r.try_recv().is_ok());
            assert!(r.recv().is_ok());
            assert!(r.recv_timeout(Duration::ZERO).is_ok());
            assert_eq!(r.len(), 1);
        }
        assert_eq!(r.iter().take(10).count(), 10);
        assert_eq!(r.try_iter().take(10).count(), 10);
    });
}

#[test]
fn clones_of_a_tick_share_its_values() {
    everywhere(|| {
        let r = tick(ms(2));
        let parties: Vec<_> = (0..3)
            .map(|_| {
                let r = r.clone();
                go(move || Vec::from_iter(r.iter().take(4)))
            })
            .collect();
        let mut messages = join_all(parties).concat();
        messages.sort_unstable();
        assert_eq!(messages.len(), 12);
        assert!(messages.windows(2).all(|pair| pair[1] >= pair[0] + ms(2)), "no value goes to two");
    });
}

#[test]
fn a_tick_that_somebody_did_not_wait_for_is_left_to_others() {
    everywhere(|| {
        // Far enough for the waits to end before it, on any machine.
        let first = Instant::now() + ms(600_000);
        let r = tick(ms(600_000));
        assert_eq!(r.recv_timeout(ms(1)), Err(RecvTimeoutError::Timeout));
        let mut select = Select::new();
        select.recv(&r);
        assert!(select.select_timeout(ms(1)).is_err());
        assert!(r.is_empty() && Instant::now() < first, "the first one is still to come");
    });
}

#[test]
fn never_never_delivers_and_never_disconnects() {
    everywhere(|| {
        let r = never::<i32>();
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(takes_at_least(ms(5), || r.recv_timeout(ms(5))), Err(RecvTimeoutError::Timeout));
        let deadline = Instant::now() + ms(5);
        assert_eq!(r.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
        assert!(Instant::now() >= deadline);
        assert_eq!(r.try_iter().count(), 0);
        let mut select = Select::new();
        select.recv(&r);
        assert!(select.try_select().is_err());
        assert!(select.try_ready().is_err());
        assert!(takes_at_least(ms(5), || select.select_timeout(ms(5))).is_err());
        assert!(takes_at_least(ms(5), || select.ready_timeout(ms(5))).is_err());
    });
}

#[test]
fn never_has_nothing_and_room_for_nothing() {
    everywhere(|| {
        let r = never::<i32>();
        assert_eq!(r.capacity(), Some(0));
        assert_eq!(r.len(), 0);
        assert!(r.is_empty() && r.is_full());
    });
}

#[test]
fn never_can_be_made_in_a_constant() {
    const NEVER: Receiver<String> = never();
    static SHARED: Receiver<u64> = never();
    everywhere(|| {
        assert_eq!(NEVER.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(SHARED.try_recv(), Err(TryRecvError::Empty));
    });
}

#[test]
fn timers_know_their_clones() {
    everywhere(|| {
        let when = Instant::now();
        for make in [|| after(ms(50)), || tick(ms(50)), || at(Instant::now())] {
            let (one, other) = (make(), make());
            assert!(one.same_channel(&one) && one.same_channel(&one.clone()));
            assert!(!one.same_channel(&other));
        }
        assert!(!at(when).same_channel(&at(when)), "equal is not the same");
        assert!(!after(ms(50)).same_channel(&tick(ms(50))));
        assert!(!after(ms(50)).same_channel(&never()));
        assert!(!after(ms(50)).same_channel(&unbounded().1));
        assert!(never::<i32>().same_channel(&never()), "there is but one never");
    });
}

#[test]
fn select_waits_for_the_earliest_of_many_timers() {
    everywhere(|| {
        let start = Instant::now();
        let timers: Vec<_> = (0..10).map(|i| if i % 2 == 0 { after(ms(60_000 + i)) } else { tick(ms(60_000 + i)) }).collect();
        let soon = after(ms(6));
        let mut select = Select::new();
        for timer in &timers[..5] {
            select.recv(timer);
        }
        let index = select.recv(&soon);
        for timer in &timers[5..] {
            select.recv(timer);
        }
        let operation = select.select();
        assert_eq!(operation.index(), index);
        assert!(operation.recv(&soon).unwrap() >= start + ms(6));
        assert!(start.elapsed() >= ms(6));
    });
}

#[test]
fn select_with_a_timer_of_its_own_and_a_timeout_heeds_the_earlier() {
    everywhere(|| {
        let late = after(ms(60_000));
        let mut select = Select::new();
        select.recv(&late);
        assert!(takes_at_least(ms(5), || select.select_timeout(ms(5))).is_err());
        assert!(takes_at_least(ms(5), || select.ready_timeout(ms(5))).is_err());
        let soon = tick(ms(5));
        let index = select.recv(&soon);
        let operation = select.select_timeout(ms(60_000)).unwrap();
        assert_eq!(operation.index(), index);
        operation.recv(&soon).unwrap();
        assert_eq!(select.ready_timeout(ms(60_000)), Ok(index));
        assert!(soon.try_recv().is_ok(), "ready takes nothing");
    });
}

#[test]
fn a_value_comes_before_a_timer_that_is_not_due() {
    everywhere(|| {
        let (s, r) = unbounded();
        let timer = after(ms(60_000));
        let receiver = go({
            let (r, timer) = (r.clone(), timer.clone());
            move || {
                channel::select! {
                    recv(r) -> message => message.ok(),
                    recv(timer) -> _ => None,
                }
            }
        });
        s.send(5).unwrap();
        assert_eq!(receiver.join(), Some(5));
        assert!(timer.is_empty());
    });
}

#[test]
fn a_timer_can_stop_a_loop_over_ticks() {
    everywhere(|| {
        let start = Instant::now();
        let (ticks, end) = (tick(ms(2)), after(ms(15)));
        let mut count = 0;
        loop {
            channel::select! {
                recv(ticks) -> message => {
                    assert!(message.unwrap() >= start + ms(2));
                    count += 1;
                }
                recv(end) -> message => {
                    assert!(message.unwrap() >= start + ms(15));
                    break;
                }
            }
        }
        assert!(start.elapsed() >= ms(15));
        assert!(start.elapsed() >= count * ms(2), "{count} ticks of two milliseconds");
    });
}

#[test]
fn a_timer_can_be_waited_for_elsewhere_than_where_it_was_made() {
    everywhere(|| {
        let r = after(ms(5));
        let start = Instant::now();
        let there = go(move || r.recv().unwrap());
        assert!(there.join() <= start + ms(5));
        let (s, timers) = unbounded();
        let there = go(move || {
            for timer in [after(ms(1)), tick(ms(1))] {
                s.send(timer).unwrap();
            }
        });
        assert_eq!(timers.iter().map(|timer: Receiver<Instant>| timer.recv().is_ok()).collect::<Vec<_>>(), [true; 2]);
        there.join();
    });
}

#[test]
fn many_parties_sleep_at_once() {
    everywhere(|| {
        let sleepers: Vec<_> = (0..30)
            .map(|i| {
                go(move || {
                    let time = Duration::from_micros(200 * (i % 10));
                    takes_at_least(time, || after(time).recv().unwrap());
                })
            })
            .collect();
        join_all(sleepers);
    });
}

#[test]
fn a_tick_that_nobody_waits_for_is_due_all_the_same() {
    everywhere(|| {
        let timers: Vec<_> = (0..2_000).map(|i| after(ms(i % 7))).collect();
        drop(timers);
        let ticks: Vec<_> = (0..2_000).map(|_| tick(ms(1))).collect();
        pause(ms(3));
        assert!(ticks.iter().all(|tick| tick.len() == 1));
    });
}
