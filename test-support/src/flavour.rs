//! What holds for a channel of any capacity, and what holds for every one that can be full. The tests of the single
//! capacities run these by [`cases_of!`](crate::cases_of) and add their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::channel::{
    self, Receiver, RecvError, RecvTimeoutError, Select, SendError, SendTimeoutError, Sender, TryRecvError, TrySendError,
};
use super::everywhere::{breathe, go, insist, join_all, ms, takes_at_least};
use super::{Counter, CountsDrop};

/// The capacity; `None` has no limit.
pub type Capacity = Option<usize>;

/// A channel of this capacity.
pub fn open<T>(capacity: Capacity) -> (Sender<T>, Receiver<T>) {
    match capacity {
        Some(capacity) => channel::bounded(capacity),
        None => channel::unbounded(),
    }
}

/// A channel that takes no more, with the numbers from 0 in it; and how many they are.
fn full(capacity: Capacity) -> (Sender<usize>, Receiver<usize>, usize) {
    let (s, r) = open(capacity);
    let values = capacity.expect("a channel that can be full");
    for value in 0..values {
        s.try_send(value).unwrap();
    }
    (s, r, values)
}

/// One test for each of the named cases, with this capacity.
#[macro_export]
macro_rules! cases_of {
    ($capacity:expr; $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                $crate::everywhere::everywhere(|| $crate::flavour::$case($capacity));
            }
        )+
    };
}

/// The cases for any capacity.
#[macro_export]
macro_rules! cases_of_any {
    ($capacity:expr) => {
        $crate::cases_of! { $capacity;
            a_value_arrives
            a_receiver_waits_for_a_value
            a_timed_receive_waits_its_time_and_not_less
            a_timed_receive_is_cut_short_by_a_value
            an_expired_deadline_still_takes_a_value_that_is_there
            a_timeout_beyond_the_clock_waits_for_ever
            try_recv_says_what_it_found
            every_receiver_wakes_when_the_last_sender_goes
            every_send_gives_the_value_back_when_the_receivers_are_gone
            only_the_last_handle_of_a_side_disconnects
            clones_are_handles_to_the_same_channel
            one_to_one_keeps_the_order
            many_to_many_lose_and_double_nothing
            each_producer_is_heard_in_its_order
            many_channels_for_one_value_each
            short_timeouts_on_both_sides_lose_and_double_nothing
            receivers_that_gave_up_take_no_value_along
            every_value_is_dropped_once
            two_sides_take_turns
            a_pair_that_talks_without_end_lets_others_run
            a_token_goes_round_a_ring
            a_sieve_finds_primes
            a_channel_goes_through_a_channel
            values_of_any_size_arrive_whole
            a_party_that_panics_disconnects_like_any_other
            values_that_stay_on_their_thread_need_not_be_send
            an_operation_in_a_destructor_that_runs_by_a_panic_works
        }
    };
}

/// The cases for what can be full.
#[macro_export]
macro_rules! cases_of_finite {
    ($capacity:expr) => {
        $crate::cases_of! { $capacity;
            a_sender_waits_for_room
            try_send_gives_the_value_back_when_there_is_no_room
            a_timed_send_waits_its_time_and_leaves_nothing
            a_timed_send_is_cut_short_by_a_receiver
            an_expired_deadline_still_sends_where_there_is_room
            a_send_timeout_beyond_the_clock_waits_for_ever
            every_sender_wakes_with_its_value_when_the_last_receiver_goes
            what_waiting_senders_hold_arrives
            a_sender_has_its_turn_beside_a_busy_one
            a_receiver_has_its_turn_beside_a_busy_one
        }
    };
}

pub fn a_value_arrives(capacity: Capacity) {
    let (s, r) = open(capacity);
    let sender = go(move || s.send(7));
    assert_eq!(r.recv(), Ok(7));
    assert_eq!(sender.join(), Ok(()));
    assert_eq!(r.recv(), Err(RecvError));
}

pub fn a_receiver_waits_for_a_value(capacity: Capacity) {
    let (s, r) = open(capacity);
    let about_to_send = Arc::new(AtomicBool::new(false));
    let receiver = go({
        let about_to_send = about_to_send.clone();
        move || {
            let value = r.recv();
            (value, about_to_send.load(SeqCst))
        }
    });
    breathe();
    about_to_send.store(true, SeqCst);
    s.send("late").unwrap();
    assert_eq!(receiver.join(), (Ok("late"), true));
}

pub fn a_timed_receive_waits_its_time_and_not_less(capacity: Capacity) {
    let (s, r) = open::<i32>(capacity);
    assert_eq!(takes_at_least(ms(10), || r.recv_timeout(ms(10))), Err(RecvTimeoutError::Timeout));
    let deadline = Instant::now() + ms(10);
    assert_eq!(r.recv_deadline(deadline), Err(RecvTimeoutError::Timeout));
    assert!(Instant::now() >= deadline);
    assert_eq!(r.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    // Time does not matter to a channel that nothing can come from.
    drop(s);
    assert_eq!(r.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));
    assert_eq!(r.recv_deadline(deadline), Err(RecvTimeoutError::Disconnected));
}

pub fn a_timed_receive_is_cut_short_by_a_value(capacity: Capacity) {
    let (s, r) = open(capacity);
    let receiver = go(move || (r.recv_timeout(ms(60_000)), r.recv_deadline(Instant::now() + ms(60_000))));
    breathe();
    s.send(1).unwrap();
    breathe();
    s.send(2).unwrap();
    assert_eq!(receiver.join(), (Ok(1), Ok(2)));
}

pub fn an_expired_deadline_still_takes_a_value_that_is_there(capacity: Capacity) {
    let (s, r) = open(capacity);
    let past = Instant::now();
    breathe();
    let sender = go(move || {
        s.send(1).unwrap();
        s.send(2).unwrap();
    });
    assert_eq!(insist(|| r.recv_deadline(past).ok()), 1);
    assert_eq!(insist(|| r.recv_timeout(Duration::ZERO).ok()), 2);
    sender.join();
}

pub fn a_timeout_beyond_the_clock_waits_for_ever(capacity: Capacity) {
    let (s, r) = open(capacity);
    let receiver = go(move || (r.recv_timeout(Duration::MAX), r.recv_timeout(Duration::MAX)));
    breathe();
    s.send(3).unwrap();
    drop(s);
    assert_eq!(receiver.join(), (Ok(3), Err(RecvTimeoutError::Disconnected)));
}

pub fn try_recv_says_what_it_found(capacity: Capacity) {
    let (s, r) = open(capacity);
    assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    let sender = go(move || s.send(7).unwrap());
    assert_eq!(insist(|| r.try_recv().ok()), 7);
    sender.join();
    assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(r.try_recv(), Err(TryRecvError::Disconnected), "it stays so");
}

pub fn every_receiver_wakes_when_the_last_sender_goes(capacity: Capacity) {
    let (s, r) = open::<i32>(capacity);
    let waiting: Vec<_> = (0..9)
        .map(|i| {
            let r = r.clone();
            go(move || match i % 3 {
                0 => r.recv() == Err(RecvError),
                1 => r.recv_timeout(ms(60_000)) == Err(RecvTimeoutError::Disconnected),
                _ => {
                    let mut select = Select::new();
                    select.recv(&r);
                    select.recv(&r);
                    select.select().recv(&r) == Err(RecvError)
                }
            })
        })
        .collect();
    breathe();
    let other = s.clone();
    drop(s);
    breathe();
    assert!(!waiting.iter().any(|receiver| receiver.is_finished()), "one sender is left");
    drop(other);
    assert_eq!(join_all(waiting), [true; 9]);
}

pub fn every_send_gives_the_value_back_when_the_receivers_are_gone(capacity: Capacity) {
    let (s, r) = open(capacity);
    drop(r);
    assert_eq!(s.send(1), Err(SendError(1)));
    assert_eq!(s.try_send(2), Err(TrySendError::Disconnected(2)));
    assert_eq!(s.send_timeout(3, ms(60_000)), Err(SendTimeoutError::Disconnected(3)));
    assert_eq!(s.send_timeout(4, Duration::ZERO), Err(SendTimeoutError::Disconnected(4)));
    assert_eq!(s.send_timeout(5, Duration::MAX), Err(SendTimeoutError::Disconnected(5)));
    assert_eq!(s.send_deadline(6, Instant::now()), Err(SendTimeoutError::Disconnected(6)));
    let mut select = Select::new();
    select.send(&s);
    assert_eq!(select.select().send(&s, 7), Err(SendError(7)));
    assert_eq!(s.len(), 0);
}

pub fn only_the_last_handle_of_a_side_disconnects(capacity: Capacity) {
    let (s, r) = open(capacity);
    let (s2, r2) = (s.clone(), r.clone());
    drop((s, r));
    let sender = go({
        let s3 = s2.clone();
        drop(s2);
        move || s3.send(1).map(|()| s3)
    });
    let r3 = r2.clone();
    drop(r2);
    assert_eq!(r3.recv(), Ok(1));
    let s3 = sender.join().unwrap();
    assert_eq!(r3.try_recv(), Err(TryRecvError::Empty));
    drop(s3);
    assert_eq!(r3.try_recv(), Err(TryRecvError::Disconnected));
}

pub fn clones_are_handles_to_the_same_channel(capacity: Capacity) {
    let (s, r) = open::<i32>(capacity);
    let (other_s, other_r) = open::<i32>(capacity);
    assert!(s.same_channel(&s) && s.same_channel(&s.clone()) && s.clone().same_channel(&s));
    assert!(r.same_channel(&r) && r.same_channel(&r.clone()) && r.clone().same_channel(&r));
    assert!(!s.same_channel(&other_s) && !other_s.same_channel(&s));
    assert!(!r.same_channel(&other_r) && !other_r.same_channel(&r));
    for unlike in [Some(0), Some(1), Some(8), None].into_iter().filter(|&unlike| unlike != capacity) {
        let (unlike_s, unlike_r) = open::<i32>(unlike);
        assert!(!s.same_channel(&unlike_s) && !r.same_channel(&unlike_r));
    }
    let sender = go({
        let s = s.clone();
        move || s.send(1)
    });
    assert_eq!(r.clone().recv(), Ok(1));
    assert_eq!(sender.join(), Ok(()));
}

pub fn one_to_one_keeps_the_order(capacity: Capacity) {
    const COUNT: usize = 1_000;
    let (s, r) = open(capacity);
    let sender = go(move || {
        for value in 0..COUNT {
            s.send(value).unwrap();
        }
    });
    for value in 0..COUNT {
        assert_eq!(r.recv(), Ok(value));
    }
    assert_eq!(r.recv(), Err(RecvError));
    sender.join();
}

pub fn many_to_many_lose_and_double_nothing(capacity: Capacity) {
    const PARTIES: usize = 4;
    const COUNT: usize = 200;
    let (s, r) = open::<usize>(capacity);
    let seen: Arc<Vec<AtomicUsize>> = Arc::new((0..PARTIES * COUNT).map(|_| AtomicUsize::new(0)).collect());
    let receivers: Vec<_> = (0..PARTIES)
        .map(|_| {
            let (r, seen) = (r.clone(), seen.clone());
            go(move || {
                for _ in 0..COUNT {
                    seen[r.recv().unwrap()].fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    let senders: Vec<_> = (0..PARTIES)
        .map(|party| {
            let s = s.clone();
            go(move || {
                for i in 0..COUNT {
                    s.send(party * COUNT + i).unwrap();
                }
            })
        })
        .collect();
    join_all(senders);
    join_all(receivers);
    assert!(seen.iter().all(|times| times.load(SeqCst) == 1));
    assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
}

pub fn each_producer_is_heard_in_its_order(capacity: Capacity) {
    const PRODUCERS: usize = 3;
    const COUNT: usize = 150;
    let (s, r) = open(capacity);
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let s = s.clone();
            go(move || {
                for i in 0..COUNT {
                    s.send((producer, i)).unwrap();
                }
            })
        })
        .collect();
    drop(s);
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let r = r.clone();
            go(move || {
                let mut next = [0; PRODUCERS];
                let mut heard = 0;
                while let Ok((producer, i)) = r.recv() {
                    assert!(i >= next[producer], "{i} of {producer} came late");
                    next[producer] = i + 1;
                    heard += 1;
                }
                heard
            })
        })
        .collect();
    join_all(producers);
    assert_eq!(join_all(consumers).into_iter().sum::<usize>(), PRODUCERS * COUNT);
}

pub fn many_channels_for_one_value_each(capacity: Capacity) {
    for value in 0..100 {
        let (s, r) = open(capacity);
        let receiver = go(move || r.recv());
        s.send(value).unwrap();
        drop(s);
        assert_eq!(receiver.join(), Ok(value));
    }
}

pub fn short_timeouts_on_both_sides_lose_and_double_nothing(capacity: Capacity) {
    const COUNT: usize = 60;
    let (s, r) = open(capacity);
    let senders: Vec<_> = (0..2)
        .map(|party| {
            let s = s.clone();
            go(move || {
                for i in 0..COUNT {
                    if i % 5 == 0 {
                        breathe();
                    }
                    let mut value = 2 * i + party;
                    while let Err(error) = s.send_timeout(value, Duration::from_micros(300)) {
                        assert!(error.is_timeout());
                        value = error.into_inner();
                    }
                }
            })
        })
        .collect();
    drop(s);
    let receivers: Vec<_> = (0..2)
        .map(|_| {
            let r = r.clone();
            go(move || {
                let mut values = Vec::new();
                loop {
                    match r.recv_timeout(Duration::from_micros(300)) {
                        Ok(value) => values.push(value),
                        Err(RecvTimeoutError::Timeout) => continue,
                        Err(RecvTimeoutError::Disconnected) => return values,
                    }
                    if values.len() % 7 == 0 {
                        breathe();
                    }
                }
            })
        })
        .collect();
    join_all(senders);
    let mut values = join_all(receivers).concat();
    values.sort_unstable();
    assert_eq!(values, Vec::from_iter(0..2 * COUNT));
}

pub fn receivers_that_gave_up_take_no_value_along(capacity: Capacity) {
    let (s, r) = open(capacity);
    let impatient: Vec<_> = (0..6)
        .map(|_| {
            let r = r.clone();
            go(move || r.recv_timeout(ms(1)))
        })
        .collect();
    assert_eq!(join_all(impatient), [Err(RecvTimeoutError::Timeout); 6]);
    let patient = go(move || [r.recv(), r.recv(), r.recv()]);
    for value in 0..3 {
        s.send(value).unwrap();
    }
    assert_eq!(patient.join(), [Ok(0), Ok(1), Ok(2)]);
}

/// Values that arrive, that come back in errors, that stay inside, and that wait with a blocked sender.
pub fn every_value_is_dropped_once(capacity: Capacity) {
    const COUNT: usize = 60;
    let (s, r) = open::<CountsDrop>(capacity);
    let dropped = Counter::default();
    let made = Counter::default();
    let senders: Vec<_> = (0..3)
        .map(|party| {
            let (s, dropped, made) = (s.clone(), dropped.clone(), made.clone());
            go(move || {
                for _ in 0..COUNT {
                    made.add();
                    let value = dropped.on_drop();
                    match party {
                        0 => _ = s.send(value),
                        1 => _ = s.try_send(value),
                        _ => _ = s.send_timeout(value, Duration::from_micros(100)),
                    }
                    greenloom::yield_now();
                }
            })
        })
        .collect();
    drop(s);
    let receivers: Vec<_> = (0..2)
        .map(|_| {
            let r = r.clone();
            go(move || {
                for _ in 0..COUNT / 4 {
                    drop(r.recv_timeout(ms(1)));
                }
            })
        })
        .collect();
    drop(r);
    join_all(receivers);
    join_all(senders);
    assert_eq!((made.get(), dropped.get()), (3 * COUNT, 3 * COUNT));
}

pub fn two_sides_take_turns(capacity: Capacity) {
    let (ping_s, ping_r) = open(capacity);
    let (pong_s, pong_r) = open(capacity);
    let other = go(move || {
        for value in ping_r.iter() {
            pong_s.send(value + 1).unwrap();
        }
    });
    let mut value = 0;
    for round in 0..300 {
        ping_s.send(value).unwrap();
        value = pong_r.recv().unwrap();
        assert_eq!(value, round + 1);
    }
    drop(ping_s);
    other.join();
    assert_eq!(pong_r.recv(), Err(RecvError));
}

pub fn a_pair_that_talks_without_end_lets_others_run(capacity: Capacity) {
    let (ping_s, ping_r) = open(capacity);
    let (pong_s, pong_r) = open(capacity);
    let heard = Arc::new(AtomicBool::new(false));
    let one = go({
        let heard = heard.clone();
        move || {
            while !heard.load(SeqCst) {
                ping_s.send(()).unwrap();
                pong_r.recv().unwrap();
            }
        }
    });
    let other = go(move || ping_r.iter().for_each(|()| _ = pong_s.send(())));
    breathe();
    go(move || heard.store(true, SeqCst)).join();
    one.join();
    other.join();
}

pub fn a_token_goes_round_a_ring(capacity: Capacity) {
    const PARTIES: usize = 12;
    const ROUNDS: usize = 10;
    let (first_s, mut r) = open::<usize>(capacity);
    let parties: Vec<_> = (0..PARTIES)
        .map(|_| {
            let (next_s, next_r) = open(capacity);
            let r = std::mem::replace(&mut r, next_r);
            go(move || {
                for token in r.iter() {
                    next_s.send(token + 1).unwrap();
                }
            })
        })
        .collect();
    let mut token = 0;
    for _ in 0..ROUNDS {
        first_s.send(token).unwrap();
        token = r.recv().unwrap();
    }
    assert_eq!(token, PARTIES * ROUNDS);
    drop(first_s);
    assert_eq!(r.recv(), Err(RecvError));
    join_all(parties);
}

/// A party for each prime lets pass what its prime does not divide.
pub fn a_sieve_finds_primes(capacity: Capacity) {
    let (s, mut numbers) = open(capacity);
    let source = go(move || (2..60).take_while(|&number| s.send(number).is_ok()).count());
    let mut filters = Vec::new();
    let mut primes = Vec::new();
    for _ in 0..12 {
        let prime: u32 = numbers.recv().unwrap();
        primes.push(prime);
        let (s, rest) = open(capacity);
        let numbers = std::mem::replace(&mut numbers, rest);
        filters.push(go(move || {
            // The end of this one's output ends it, and so, one by one, those before it.
            numbers.iter().filter(|number| !number.is_multiple_of(prime)).all(|number| s.send(number).is_ok())
        }));
    }
    assert_eq!(primes, [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37]);
    drop(numbers);
    join_all(filters);
    source.join();
}

pub fn a_channel_goes_through_a_channel(capacity: Capacity) {
    struct Next(Receiver<Next>);
    let (mut s, r) = open::<Next>(capacity);
    let follower = go(move || {
        let mut r = r;
        let mut hops = 0;
        while let Ok(Next(next)) = r.recv() {
            r = next;
            hops += 1;
        }
        hops
    });
    for _ in 0..100 {
        let (next_s, next_r) = open(capacity);
        s.send(Next(next_r)).unwrap();
        s = next_s;
    }
    drop(s);
    assert_eq!(follower.join(), 100);
}

pub fn values_of_any_size_arrive_whole(capacity: Capacity) {
    fn pass<T: Clone + PartialEq + Send + 'static>(capacity: Capacity, value: T) {
        let (s, r) = open(capacity);
        let sent = value.clone();
        let sender = go(move || {
            for _ in 0..40 {
                assert!(s.send(sent.clone()).is_ok());
            }
        });
        let mut received = 0;
        for arrived in r {
            assert!(arrived == value);
            received += 1;
        }
        assert_eq!(received, 40);
        sender.join();
    }
    #[repr(align(128))]
    #[derive(Clone, PartialEq)]
    struct Aligned(u8);

    pass(capacity, ());
    pass(capacity, 0xA5_u8);
    pass(capacity, std::array::from_fn::<u64, 128, _>(|i| (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)));
    pass(capacity, vec![String::from("on the heap"); 3]);
    pass(capacity, Some(Box::new([1_u16; 7])));
    pass(capacity, Aligned(3));
    let (s, r) = open(capacity);
    let sender = go(move || s.send(Aligned(9)).is_ok());
    let arrived = Box::new(r.recv().ok().unwrap());
    assert!((&raw const *arrived).is_aligned());
    assert!(sender.join());
}

pub fn a_party_that_panics_disconnects_like_any_other(capacity: Capacity) {
    let (s, r) = open::<i32>(capacity);
    let sender = go(move || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _s = s;
            breathe();
            std::panic::resume_unwind(Box::new("on purpose"));
        }))
        .is_err()
    });
    assert_eq!(r.recv(), Err(RecvError));
    assert!(sender.join());
}

pub fn values_that_stay_on_their_thread_need_not_be_send(capacity: Capacity) {
    use std::rc::Rc;
    let (s, r) = open::<Rc<i32>>(capacity);
    assert!(r.try_recv().is_err());
    if capacity != Some(0) {
        let value = Rc::new(1);
        s.send(value.clone()).unwrap();
        assert!(Rc::ptr_eq(&r.recv().unwrap(), &value));
        s.send(value.clone()).unwrap();
        drop(r);
        let SendError(value) = s.send(value).unwrap_err();
        drop(s);
        assert_eq!(Rc::strong_count(&value), 1, "what is left goes with the channel");
    }
}

pub fn an_operation_in_a_destructor_that_runs_by_a_panic_works(capacity: Capacity) {
    struct SaysGoodbye(Sender<&'static str>);
    impl Drop for SaysGoodbye {
        fn drop(&mut self) {
            // Waits for nobody: not every runtime can suspend here.
            _ = self.0.try_send("goodbye");
        }
    }
    let (s, r) = open(capacity);
    let party = go(move || {
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _says = SaysGoodbye(s);
            std::panic::resume_unwind(Box::new("on purpose"));
        }))
        .is_err()
    });
    let heard = r.recv();
    assert!(party.join());
    // Without capacity it depends on who came first.
    assert!(heard == Ok("goodbye") || capacity == Some(0) && heard == Err(RecvError));
}

pub fn a_sender_waits_for_room(capacity: Capacity) {
    let (s, r, values) = full(capacity);
    let about_to_receive = Arc::new(AtomicBool::new(false));
    let sender = go({
        let about_to_receive = about_to_receive.clone();
        move || {
            s.send(values).unwrap();
            about_to_receive.load(SeqCst)
        }
    });
    breathe();
    about_to_receive.store(true, SeqCst);
    assert_eq!(Vec::from_iter(r), Vec::from_iter(0..=values));
    assert!(sender.join(), "it did not wait");
}

pub fn try_send_gives_the_value_back_when_there_is_no_room(capacity: Capacity) {
    let (s, r, values) = full(capacity);
    assert_eq!(s.try_send(99), Err(TrySendError::Full(99)));
    assert_eq!(s.len(), values);
    let receiver = go(move || r.recv().map(|value| (value, r)));
    // As soon as somebody takes one (or, without capacity, waits), there is room for one.
    insist(|| s.try_send(values).ok());
    let (value, r) = receiver.join().unwrap();
    assert_eq!(value, 0);
    assert_eq!(s.try_send(98), Err(TrySendError::Full(98)));
    drop(r);
    assert_eq!(s.try_send(97), Err(TrySendError::Disconnected(97)));
}

pub fn a_timed_send_waits_its_time_and_leaves_nothing(capacity: Capacity) {
    let (s, r, values) = full(capacity);
    assert_eq!(takes_at_least(ms(10), || s.send_timeout(99, ms(10))), Err(SendTimeoutError::Timeout(99)));
    let deadline = Instant::now() + ms(10);
    assert_eq!(s.send_deadline(98, deadline), Err(SendTimeoutError::Timeout(98)));
    assert!(Instant::now() >= deadline);
    assert_eq!(s.send_timeout(97, Duration::ZERO), Err(SendTimeoutError::Timeout(97)));
    assert_eq!(s.len(), values);
    assert_eq!(Vec::from_iter(r.try_iter()), Vec::from_iter(0..values));
}

pub fn a_timed_send_is_cut_short_by_a_receiver(capacity: Capacity) {
    let (s, r, values) = full(capacity);
    let sender = go(move || {
        s.send_timeout(values, ms(60_000)).unwrap();
        s.send_deadline(values + 1, Instant::now() + ms(60_000)).unwrap();
    });
    breathe();
    assert_eq!(Vec::from_iter(r), Vec::from_iter(0..values + 2));
    sender.join();
}

pub fn an_expired_deadline_still_sends_where_there_is_room(capacity: Capacity) {
    let (s, r, values) = full(capacity);
    let past = Instant::now();
    breathe();
    let receiver = go(move || Vec::from_iter(r));
    insist(|| s.send_deadline(values, past).ok());
    insist(|| s.send_timeout(values + 1, Duration::ZERO).ok());
    drop(s);
    assert_eq!(receiver.join(), Vec::from_iter(0..values + 2));
}

pub fn a_send_timeout_beyond_the_clock_waits_for_ever(capacity: Capacity) {
    let (s, r, values) = full(capacity);
    let sender = go(move || (s.send_timeout(values, Duration::MAX), s.send_timeout(values + 1, Duration::MAX)));
    breathe();
    // It takes one more than there are: both senders' waits are real.
    for value in 0..values + 2 {
        assert_eq!(r.recv(), Ok(value));
    }
    assert_eq!(sender.join(), (Ok(()), Ok(())));
}

pub fn every_sender_wakes_with_its_value_when_the_last_receiver_goes(capacity: Capacity) {
    let (s, r, _) = full(capacity);
    let waiting: Vec<_> = (100..109)
        .map(|value| {
            let s = s.clone();
            go(move || match value % 3 {
                0 => s.send(value).unwrap_err().into_inner(),
                1 => {
                    let error = s.send_timeout(value, ms(60_000)).unwrap_err();
                    assert!(error.is_disconnected());
                    error.into_inner()
                }
                _ => {
                    let mut select = Select::new();
                    select.send(&s);
                    select.send(&s);
                    select.select().send(&s, value).unwrap_err().into_inner()
                }
            })
        })
        .collect();
    breathe();
    let other = r.clone();
    drop(r);
    breathe();
    assert!(!waiting.iter().any(|sender| sender.is_finished()), "one receiver is left");
    drop(other);
    assert_eq!(join_all(waiting), Vec::from_iter(100..109));
}

pub fn what_waiting_senders_hold_arrives(capacity: Capacity) {
    let (s, r, values) = full(capacity);
    let waiting: Vec<_> = (values..values + 8)
        .map(|value| {
            let s = s.clone();
            go(move || s.send(value).unwrap())
        })
        .collect();
    drop(s);
    breathe();
    let mut arrived = Vec::from_iter(r);
    arrived.sort_unstable();
    assert_eq!(arrived, Vec::from_iter(0..values + 8));
    join_all(waiting);
}

pub fn a_sender_has_its_turn_beside_a_busy_one(capacity: Capacity) {
    let (s, r) = open(capacity);
    let served = Arc::new(AtomicBool::new(false));
    let busy = go({
        let (s, served) = (s.clone(), served.clone());
        move || {
            while !served.load(SeqCst) {
                s.send(0).unwrap();
            }
        }
    });
    let victim = go(move || {
        for value in 1..=10 {
            s.send(value).unwrap();
        }
        served.store(true, SeqCst);
    });
    assert_eq!(r.iter().filter(|&value| value > 0).collect::<Vec<_>>(), Vec::from_iter(1..=10));
    busy.join();
    victim.join();
}

pub fn a_receiver_has_its_turn_beside_a_busy_one(capacity: Capacity) {
    let (s, r) = open(capacity);
    let served = Arc::new(AtomicBool::new(false));
    let busy = go({
        let r = r.clone();
        move || r.iter().for_each(drop)
    });
    let victim = go({
        let (r, served) = (r.clone(), served.clone());
        move || {
            for _ in 0..10 {
                r.recv().unwrap();
            }
            served.store(true, SeqCst);
        }
    });
    while !served.load(SeqCst) {
        s.send(()).unwrap();
    }
    drop(s);
    busy.join();
    victim.join();
}
