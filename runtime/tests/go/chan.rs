//! What Go promises of its channels, by its specification and its own test programs, kept by ours. Select has a file of its own.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use greenloom::channel::{Receiver, RecvError, SendError, Sender, TryRecvError, TrySendError, bounded, never, unbounded};
use greenloom::{select, yield_now};
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::run_on;

// Order.

#[test]
fn a_buffered_channel_is_a_queue() {
    everywhere(|| {
        let (s, r) = bounded(10);
        for i in 0..10 {
            assert_eq!((s.len(), s.is_full()), (i, false));
            s.send(i).unwrap();
        }
        assert_eq!((r.len(), r.capacity(), r.is_full()), (10, Some(10), true));
        for i in 0..10 {
            assert_eq!(r.recv(), Ok(i));
        }
        assert!(r.is_empty());
    });
}

#[test]
fn the_buffer_is_a_queue_across_its_seam() {
    everywhere(|| {
        let (s, r) = bounded(3);
        let mut queue = VecDeque::new();
        for i in 0..50 {
            s.send(i).unwrap();
            queue.push_back(i);
            if s.is_full() || i % 4 == 0 {
                assert_eq!(r.recv().ok(), queue.pop_front());
            }
            assert_eq!(r.len(), queue.len());
        }
        assert_eq!(r.try_iter().collect::<VecDeque<_>>(), queue);
    });
}

/// Each receiver is let in by the one before it, so the n-th to receive must get the n-th value.
#[test]
fn a_rendezvous_is_a_queue() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let (start, mut turn) = bounded(0);
        let mut receivers = Vec::new();
        for i in 0..10 {
            let (next, after) = bounded(0);
            let (r, mine) = (r.clone(), std::mem::replace(&mut turn, after));
            receivers.push(go(move || {
                mine.recv().unwrap();
                assert_eq!(r.recv(), Ok(i));
                next.send(()).unwrap();
            }));
        }
        drop(r);
        start.send(()).unwrap();
        for i in 0..10 {
            s.send(i).unwrap();
        }
        turn.recv().unwrap();
        join_all(receivers);
    });
}

/// The same from the other side: senders in a known order, one receiver.
#[test]
fn senders_that_take_turns_are_received_in_turn() {
    everywhere(|| {
        for capacity in [0, 1, 4] {
            let (s, r) = bounded(capacity);
            let (start, mut turn) = bounded::<()>(1);
            let mut senders = Vec::new();
            for i in 0..10 {
                let (next, after) = bounded(1);
                let (s, mine) = (s.clone(), std::mem::replace(&mut turn, after));
                senders.push(go(move || {
                    mine.recv().unwrap();
                    s.send(i).unwrap();
                    next.send(()).unwrap();
                }));
            }
            drop(s);
            start.send(()).unwrap();
            assert_eq!(r.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
            turn.recv().unwrap();
            join_all(senders);
        }
    });
}

#[test]
fn what_one_sender_sends_arrives_in_order() {
    everywhere(|| {
        for capacity in [0, 1, 7] {
            let (s, r) = bounded(capacity);
            let senders: Vec<_> = (0..4)
                .map(|sender| {
                    let s = s.clone();
                    go(move || (0..100).for_each(|i| s.send((sender, i)).unwrap()))
                })
                .collect();
            drop(s);
            let mut next = [0; 4];
            for (sender, i) in &r {
                assert_eq!(i, next[sender]);
                next[sender] += 1;
            }
            assert_eq!(next, [100; 4]);
            join_all(senders);
        }
    });
}

// Many tasks in a row.

/// Everyone waits for the right neighbour and passes on to the left one; the value runs through all of them.
fn chain(links: u32) {
    let (leftmost, end) = bounded(0);
    let mut left = leftmost;
    let mut parties = Vec::new();
    for _ in 0..links {
        let (s, r) = bounded(0);
        let to = std::mem::replace(&mut left, s);
        parties.push(go(move || to.send(r.recv().unwrap() + 1).unwrap()));
    }
    parties.push(go(move || left.send(0).unwrap()));
    assert_eq!(end.recv(), Ok(links));
    join_all(parties);
}

#[test]
fn a_value_runs_through_a_chain() {
    everywhere(|| chain(300));
}

#[test]
fn a_value_runs_through_a_chain_of_ten_thousand_tasks() {
    for processors in [1, 2] {
        run_on(processors, || {
            let (leftmost, end) = bounded(0);
            let mut left = leftmost;
            for _ in 0..10_000 {
                let (s, r) = bounded::<u32>(0);
                let to = std::mem::replace(&mut left, s);
                drop(greenloom::spawn(move || to.send(r.recv().unwrap() + 1).unwrap()));
            }
            left.send(0).unwrap();
            assert_eq!(end.recv(), Ok(10_000));
        });
    }
}

// Operations that do not wait.

fn try_forms_of<T: Clone + Debug + PartialEq + Send + 'static>(first: &T, second: &T) {
    for capacity in [0, 1] {
        let (s, r) = bounded::<T>(capacity);
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        if capacity == 0 {
            assert_eq!(s.try_send(first.clone()), Err(TrySendError::Full(first.clone())), "nobody receives");
        }

        let receiver = go({
            let r = r.clone();
            move || r.recv()
        });
        let mut message = first.clone();
        while let Err(error) = s.try_send(message) {
            assert!(error.is_full());
            message = error.into_inner();
            yield_now();
        }
        assert_eq!(receiver.join().as_ref(), Ok(first));

        let sender = go({
            let (s, message) = (s.clone(), second.clone());
            move || s.send(message)
        });
        if capacity > 0 {
            sender.join().unwrap();
            assert_eq!(s.try_send(first.clone()), Err(TrySendError::Full(first.clone())), "the buffer is full");
            assert_eq!(r.try_recv().as_ref(), Ok(second));
        } else {
            let got = loop {
                match r.try_recv() {
                    Err(TryRecvError::Empty) => yield_now(),
                    other => break other,
                }
            };
            assert_eq!(got.as_ref(), Ok(second));
            sender.join().unwrap();
        }
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
    }
}

#[test]
fn try_forms_meet_partners_that_wait_whatever_the_size_of_the_value() {
    everywhere(|| {
        try_forms_of(&true, &false);
        try_forms_of(&123_i32, &234);
        try_forms_of(&123_456_i64, &234_567);
        try_forms_of(&"hello".to_string(), &"hello again".to_string());
        try_forms_of(&[1_u64; 100], &[2; 100]);
        try_forms_of(&(), &());
    });
}

#[test]
fn values_without_a_size_are_counted() {
    everywhere(|| {
        for (s, r) in [bounded::<[u8; 0]>(0), bounded(1), bounded(5), unbounded()] {
            let sender = go(move || (0..20).for_each(|_| s.send([]).unwrap()));
            assert_eq!(r.iter().count(), 20);
            sender.join();
        }
    });
}

#[test]
fn channels_travel_through_channels() {
    everywhere(|| {
        let (s, r) = bounded::<Sender<i32>>(1);
        let (inner_s, inner_r) = bounded(1);
        s.send(inner_s).unwrap();
        // Go's `<-cc <- 2`: the channel to send on comes out of a channel.
        select! {
            send(r.recv().unwrap(), 2) -> res => res.unwrap(),
            default => panic!("it has room"),
        }
        assert_eq!(inner_r.recv(), Ok(2));
        assert_eq!(inner_r.recv(), Err(RecvError), "its only sender went through the select");
    });
}

#[test]
fn a_server_answers_on_the_channel_that_came_with_the_question() {
    everywhere(|| {
        let (ask, asked) = bounded::<(u64, Sender<u64>)>(0);
        let server = go(move || asked.iter().for_each(|(n, answer)| answer.send(n * n).unwrap()));
        for n in 0..50 {
            let (answer, answered) = bounded(0);
            ask.send((n, answer)).unwrap();
            assert_eq!(answered.recv(), Ok(n * n));
        }
        drop(ask);
        server.join();
    });
}

// What a capacity promises.

/// Go's memory model: the n-th receive on a channel of capacity c comes before the (n + c)-th send is done.
#[test]
fn a_buffered_channel_counts_as_a_semaphore() {
    everywhere(|| {
        const LIMIT: usize = 3;
        let (enter, leave) = bounded(LIMIT);
        let (inside, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let parties: Vec<_> = (0..20)
            .map(|_| {
                let (enter, leave, inside, most) = (enter.clone(), leave.clone(), inside.clone(), most.clone());
                go(move || {
                    for _ in 0..10 {
                        enter.send(()).unwrap();
                        most.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                        yield_now();
                        inside.fetch_sub(1, SeqCst);
                        leave.recv().unwrap();
                    }
                })
            })
            .collect();
        join_all(parties);
        assert!(leave.is_empty());
        assert!((1..=LIMIT).contains(&most.load(SeqCst)), "{most:?} inside at once");
    });
}

/// A send on a rendezvous is done only after the receive has begun.
#[test]
fn a_rendezvous_holds_the_sender_until_someone_receives() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let received = Arc::new(AtomicUsize::new(0));
        let sender = go({
            let received = received.clone();
            move || {
                for i in 0..20 {
                    s.send(i).unwrap();
                    // The receiver counts before it receives.
                    assert!(received.load(SeqCst) > i, "a send was done before its receive");
                }
            }
        });
        for i in 0..20 {
            breathe();
            received.fetch_add(1, SeqCst);
            assert_eq!(r.recv(), Ok(i));
        }
        sender.join();
    });
}

// Closed channels. Where Go panics (a send on a closed channel), the value comes back.

type Received = Result<i32, RecvError>;
type Sent = Result<(), SendError<i32>>;

/// One way to say it. The `try` forms give nothing where they would have to wait.
struct Phrasing {
    name: &'static str,
    recv: fn(&Receiver<i32>) -> Received,
    try_recv: fn(&Receiver<i32>) -> Option<Received>,
    send: fn(&Sender<i32>, i32) -> Sent,
    try_send: fn(&Sender<i32>, i32) -> Option<Sent>,
}

const PHRASINGS: [Phrasing; 3] = [
    Phrasing {
        name: "methods",
        recv: Receiver::recv,
        try_recv: |r| match r.try_recv() {
            Ok(value) => Some(Ok(value)),
            Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
            Err(TryRecvError::Empty) => None,
        },
        send: Sender::send,
        try_send: |s, value| match s.try_send(value) {
            Ok(()) => Some(Ok(())),
            Err(TrySendError::Disconnected(value)) => Some(Err(SendError(value))),
            Err(TrySendError::Full(_)) => None,
        },
    },
    Phrasing {
        name: "a select of one",
        recv: |r| select! { recv(r) -> res => res },
        try_recv: |r| select! { recv(r) -> res => Some(res), default => None },
        send: |s, value| select! { send(s, value) -> res => res },
        try_send: |s, value| select! { send(s, value) -> res => Some(res), default => None },
    },
    Phrasing {
        name: "a wider select",
        recv: |r| select! { recv(never::<()>()) -> _ => unreachable!(), recv(r) -> res => res },
        try_recv: |r| select! { recv(never::<()>()) -> _ => unreachable!(), recv(r) -> res => Some(res), default => None },
        send: |s, value| select! { send(s, value) -> res => res, recv(never::<()>()) -> _ => unreachable!() },
        try_send: |s, value| {
            select! { send(s, value) -> res => Some(res), recv(never::<()>()) -> _ => unreachable!(), default => None }
        },
    },
];

#[test]
fn a_channel_without_senders_gives_what_it_holds_and_then_errors_for_ever() {
    everywhere(|| {
        for phrasing in &PHRASINGS {
            for capacity in [Some(0), Some(2), None] {
                for tried in [false, true] {
                    let (s, r) = capacity.map_or_else(unbounded, bounded);
                    let held = capacity.unwrap_or(2);
                    (0..held).for_each(|i| s.send(i as i32).unwrap());
                    drop(s);
                    for i in 0..held as i32 {
                        let got = if tried { (phrasing.try_recv)(&r) } else { Some((phrasing.recv)(&r)) };
                        assert_eq!(got, Some(Ok(i)), "{}", phrasing.name);
                    }
                    for _ in 0..3 {
                        assert_eq!((phrasing.recv)(&r), Err(RecvError), "{}", phrasing.name);
                        assert_eq!((phrasing.try_recv)(&r), Some(Err(RecvError)), "{}", phrasing.name);
                    }
                }
            }
        }
    });
}

#[test]
fn a_channel_without_receivers_gives_every_value_back() {
    everywhere(|| {
        for phrasing in &PHRASINGS {
            for capacity in [Some(0), Some(2), None] {
                let (s, r) = capacity.map_or_else(unbounded, bounded);
                drop(r);
                for i in 0..5 {
                    assert_eq!((phrasing.send)(&s, i), Err(SendError(i)), "{}", phrasing.name);
                    assert_eq!((phrasing.try_send)(&s, i), Some(Err(SendError(i))), "{}", phrasing.name);
                }
            }
        }
    });
}

#[test]
fn every_phrasing_passes_values() {
    everywhere(|| {
        for sender in &PHRASINGS {
            for receiver in &PHRASINGS {
                for capacity in [0, 1] {
                    let (s, r) = bounded(capacity);
                    let party = go(move || (0..10).for_each(|i| (sender.send)(&s, i).unwrap()));
                    for i in 0..10 {
                        assert_eq!((receiver.recv)(&r), Ok(i), "{} to {}", sender.name, receiver.name);
                    }
                    assert_eq!((receiver.recv)(&r), Err(RecvError));
                    party.join();
                }
            }
        }
    });
}

#[test]
fn the_last_sender_to_go_wakes_every_receiver() {
    everywhere(|| {
        for phrasing in &PHRASINGS {
            for capacity in [0, 2] {
                let (s, r) = bounded(capacity);
                let waiting: Vec<_> = (0..8)
                    .map(|_| {
                        let r = r.clone();
                        go(move || (phrasing.recv)(&r))
                    })
                    .collect();
                let other = s.clone();
                drop(s);
                breathe();
                assert!(!waiting.iter().any(|party| party.is_finished()), "one sender was left");
                drop(other);
                assert_eq!(join_all(waiting), [Err(RecvError); 8], "{}", phrasing.name);
            }
        }
    });
}

#[test]
fn the_last_receiver_to_go_wakes_every_sender() {
    everywhere(|| {
        for phrasing in &PHRASINGS {
            for capacity in [0, 2] {
                let (s, r) = bounded(capacity);
                (0..capacity).for_each(|_| s.send(-1).unwrap());
                let waiting: Vec<_> = (0..8)
                    .map(|i| {
                        let s = s.clone();
                        go(move || (phrasing.send)(&s, i))
                    })
                    .collect();
                let other = r.clone();
                drop(r);
                breathe();
                assert!(!waiting.iter().any(|party| party.is_finished()), "one receiver was left");
                drop(other);
                for (i, result) in join_all(waiting).into_iter().enumerate() {
                    assert_eq!(result, Err(SendError(i as i32)), "{}", phrasing.name);
                }
            }
        }
    });
}

#[test]
fn a_loop_over_a_channel_ends_when_it_is_closed_and_empty() {
    everywhere(|| {
        for capacity in [0, 3] {
            let (s, r) = bounded(capacity);
            let sender = go(move || (1..=100).for_each(|i| s.send(i).unwrap()));
            let mut sum = 0;
            for i in &r {
                sum += i;
            }
            assert_eq!(sum, 5050);
            assert_eq!(r.into_iter().next(), None);
            sender.join();
        }
    });
}
