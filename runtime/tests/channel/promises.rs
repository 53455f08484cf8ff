//! What a select owes, and is owed, between the choice of its operation and the end of that: a message or a place in the buffer that
//! is promised, a partner that is to be met. Whether promises are kept, given back or forgotten, nobody else waits for them in vain.

use std::marker::PhantomData;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, ThreadId};
use std::time::Duration;

use greenloom::{no_suspend, spawn, yield_now};
use test_support::channel::{
    Receiver, RecvError, Select, SelectedOperation, Sender, after, bounded, never, select, select_biased, unbounded,
};
use test_support::everywhere::{Mode, breathe, everywhere, go, insist, join_all, ms, panic_message, takes_at_least};
use test_support::flavour::open;
use test_support::{Counter, run_on, unless_it_hangs};

/// A message with a number in it: of a size that a `select!` receives in its frame, or larger.
trait Message: Send + 'static {
    fn of(number: usize) -> Self;
    fn number(self) -> usize;
}

impl Message for usize {
    fn of(number: usize) -> Self {
        number
    }

    fn number(self) -> usize {
        self
    }
}

type Large = [usize; 6];

impl Message for Large {
    fn of(number: usize) -> Self {
        [number; 6]
    }

    #[track_caller]
    fn number(self) -> usize {
        assert_eq!(self, [self[0]; 6], "it is whole");
        self[0]
    }
}

/// Leaves by a panic that nobody hears of.
fn give_up<T>() -> T {
    resume_unwind(Box::new("gave up"))
}

/// Runs what gives up.
#[track_caller]
fn until_it_gives_up(body: impl FnOnce()) {
    let payload = catch_unwind(AssertUnwindSafe(body)).expect_err("it gives up");
    if payload.downcast_ref() != Some(&"gave up") {
        resume_unwind(payload);
    }
}

fn sorted(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_unstable();
    numbers
}

// Places that are promised to senders.

#[test]
fn the_next_sender_is_served_after_a_select_in_the_queue() {
    everywhere(|| {
        let (s, r) = bounded(1);
        s.send(0).unwrap();
        let selecting = go({
            let s = s.clone();
            move || select! { send(s, 1) -> result => result.unwrap() }
        });
        breathe();
        let plain = go(move || s.send(2).unwrap());
        breathe();
        assert_eq!(sorted(r.iter().collect()), [0, 1, 2]);
        selecting.join();
        plain.join();
    });
}

/// All places are promised to selects, others wait for room, and receivers wait for messages: what the selects hand over leaves their
/// places to the others.
fn the_next_senders_are_served(capacity: usize, dynamic: bool) {
    let (s, r) = bounded(capacity);
    let (chosen, has_chosen) = unbounded();
    let (gate, opened) = unbounded();
    let selecting: Vec<_> = (0..capacity)
        .map(|value| {
            let (s, chosen, opened) = (s.clone(), chosen.clone(), opened.clone());
            let message = move || {
                chosen.send(()).unwrap();
                opened.recv().unwrap();
                value
            };
            go(move || {
                if dynamic {
                    let mut select = Select::new();
                    select.send(&s);
                    let operation = select.select();
                    operation.send(&s, message()).unwrap();
                } else {
                    select! { send(s, message()) -> result => result.unwrap() }
                }
            })
        })
        .collect();
    for _ in 0..capacity {
        has_chosen.recv().unwrap();
    }
    let plain: Vec<_> = (capacity..2 * capacity)
        .map(|value| {
            let s = s.clone();
            go(move || s.send(value).unwrap())
        })
        .collect();
    breathe();
    let receiving: Vec<_> = (0..capacity)
        .map(|_| {
            let r = r.clone();
            go(move || r.recv().unwrap())
        })
        .collect();
    breathe();
    for _ in 0..capacity {
        gate.send(()).unwrap();
    }
    join_all(selecting);
    let mut received: Vec<_> = (0..capacity).map(|_| r.recv().unwrap()).collect();
    received.extend(join_all(receiving));
    assert_eq!(sorted(received), Vec::from_iter(0..2 * capacity));
    join_all(plain);
}

#[test]
fn the_next_sender_is_served_after_a_select_that_handed_its_message_to_a_receiver() {
    everywhere(|| {
        for capacity in [1, 2] {
            for dynamic in [false, true] {
                the_next_senders_are_served(capacity, dynamic);
            }
        }
    });
}

#[test]
fn selects_and_plain_senders_share_the_places() {
    const EACH: usize = 50;
    everywhere(|| {
        for _ in 0..10 {
            for capacity in [1, 2] {
                let (s, r) = bounded(capacity);
                let senders: Vec<_> = (0..4)
                    .map(|sender| {
                        let s = s.clone();
                        let selects = sender % 2 == 0;
                        go(move || {
                            for value in sender * EACH..(sender + 1) * EACH {
                                if selects {
                                    select! { send(s, value) -> result => result.unwrap() }
                                } else {
                                    s.send(value).unwrap();
                                }
                            }
                        })
                    })
                    .collect();
                drop(s);
                assert_eq!(sorted(r.iter().collect()), Vec::from_iter(0..4 * EACH));
                join_all(senders);
            }
        }
    });
}

/// A channel of two places with one message in it, of which a select has been promised the other: gives that back by `abandon`,
/// which gets the channel and what to do before.
fn a_place_given_back_goes_to_who_waits<M: Message>(abandon: fn(&Sender<M>, &mut dyn FnMut())) {
    let (s, r) = bounded::<M>(2);
    s.send(M::of(1)).unwrap();
    let mut waiting = None;
    abandon(&s, &mut || {
        let s = s.clone();
        waiting = Some(go(move || s.send(M::of(2)).unwrap()));
        breathe();
    });
    // With the message still inside: it waits for nothing but the place.
    waiting.unwrap().join();
    assert_eq!([r.recv().unwrap().number(), r.recv().unwrap().number()], [1, 2]);
}

fn give_places_back<M: Message>() {
    a_place_given_back_goes_to_who_waits::<M>(|s, before| {
        until_it_gives_up(|| {
            select! {
                send(s, { before(); give_up() }) -> _ => unreachable!(),
            }
        });
    });
    a_place_given_back_goes_to_who_waits::<M>(|s, before| {
        #[expect(unreachable_code, clippy::never_loop, reason = "the message expression leaves it")]
        loop {
            select! {
                send(s, { before(); break }) -> _ => unreachable!(),
            }
        }
    });
    a_place_given_back_goes_to_who_waits::<M>(|s, before| {
        let mut select = Select::new();
        select.send(s);
        let operation = select.select();
        before();
        assert!(panic_message(move || drop(operation)).contains("without completing"));
    });
    a_place_given_back_goes_to_who_waits::<M>(|s, before| {
        let mut select = Select::new();
        select.send(s);
        until_it_gives_up(|| {
            let _operation = select.select();
            before();
            give_up()
        });
    });
}

#[test]
fn a_place_that_a_select_gives_back_goes_to_the_sender_that_waits_though_a_message_is_there() {
    everywhere(|| {
        give_places_back::<usize>();
        give_places_back::<Large>();
    });
}

// Messages that are promised to receivers.

fn a_sender_is_served_by_a_receiving_select<M: Message>() {
    for capacity in [2, 3] {
        for dynamic in [false, true] {
            let (s, r) = bounded::<M>(capacity);
            for value in 0..capacity {
                s.send(M::of(value)).unwrap();
            }
            let waiting = go(move || s.send(M::of(capacity)).unwrap());
            breathe();
            if dynamic {
                let mut select = Select::new();
                select.recv(&r);
                let operation = select.select();
                breathe();
                assert_eq!(operation.recv(&r).unwrap().number(), 0);
            } else {
                select! { recv(r) -> message => assert_eq!(message.unwrap().number(), 0) }
            }
            // With the others still inside.
            waiting.join();
            assert_eq!(r.iter().map(M::number).collect::<Vec<_>>(), Vec::from_iter(1..=capacity));
        }
    }
}

#[test]
fn a_select_that_receives_makes_room_for_who_waits_though_more_is_there() {
    everywhere(|| {
        a_sender_is_served_by_a_receiving_select::<usize>();
        a_sender_is_served_by_a_receiving_select::<Large>();
    });
}

#[test]
fn a_message_that_a_select_gives_back_goes_to_the_receiver_that_waits() {
    everywhere(|| {
        for capacity in [Some(1), Some(2), None] {
            let (s, r) = open(capacity);
            s.send(1).unwrap();
            let mut select = Select::new();
            select.recv(&r);
            let operation = select.select();
            let waiting = go({
                let r = r.clone();
                move || select! { recv(r) -> message => message }
            });
            breathe();
            assert!(panic_message(move || drop(operation)).contains("without completing"));
            assert_eq!(waiting.join(), Ok(1));
            drop(s);
            assert_eq!(r.recv(), Err(RecvError));
        }
    });
}

// Messages that belong to a thread.

/// Says where it is dropped.
struct Homebound {
    home: ThreadId,
    astray: Counter,
    _not_send: PhantomData<*const ()>,
}

impl Homebound {
    fn new(astray: &Counter) -> Self {
        Self { home: thread::current().id(), astray: astray.clone(), _not_send: PhantomData }
    }
}

impl Drop for Homebound {
    fn drop(&mut self) {
        if self.home != thread::current().id() {
            self.astray.add();
        }
    }
}

#[test]
fn a_select_on_a_strange_thread_drops_no_messages_there() {
    unless_it_hangs(|| {
        for capacity in [Some(0), Some(1), Some(2), None] {
            for early in [false, true] {
                let astray = Counter::default();
                let (s, r) = open::<Homebound>(capacity);
                // What does not wait for a receiver is there before the select, or comes while it waits.
                let early = early && capacity != Some(0);
                if early {
                    assert!(s.send(Homebound::new(&astray)).is_ok());
                }
                let mut select = Select::new();
                select.recv(&r);
                thread::scope(|scope| {
                    let stranger = scope.spawn(move || panic_message(|| drop(select.select())));
                    if !early {
                        assert!(s.send(Homebound::new(&astray)).is_ok());
                    }
                    assert!(stranger.join().unwrap().contains("without completing"));
                });
                assert_eq!(astray.get(), 0, "dropped by a stranger, with {capacity:?}");
                assert!(r.try_recv().is_ok(), "it is still there, with {capacity:?}");
                assert!(r.try_recv().is_err(), "and only once");
                assert_eq!(astray.get(), 0);
            }
        }
    });
}

// Partners that do not come.

/// What a party does that is chosen to send without a message, and then has none: by a `select!` or by a `Select`. It may be that
/// nobody chooses it until `cancelled` is dropped.
fn chosen_in_vain<M: Message>(s: &Sender<M>, cancelled: &Receiver<()>, dynamic: bool, meanwhile: impl FnOnce()) {
    if dynamic {
        let mut select = Select::new();
        let sends = select.send(s);
        select.recv(cancelled);
        let operation = select.select();
        if operation.index() == sends {
            until_it_gives_up(|| {
                let _operation = operation;
                meanwhile();
                give_up()
            });
        } else {
            assert_eq!(operation.recv(cancelled), Err(RecvError));
        }
    } else {
        #[expect(unreachable_code, clippy::never_loop, reason = "the message expression leaves it")]
        loop {
            select! {
                send(s, { meanwhile(); break }) -> _ => unreachable!(),
                recv(cancelled) -> end => break assert_eq!(end, Err(RecvError)),
            }
        }
    }
}

/// Runs `select` against such a party, in both forms, which is there before it or comes while it waits; and tells it whether
/// that says what happens.
fn against_one_that_gives_up<M: Message>(meanwhile: impl Fn() + Clone + Send + 'static, select: impl Fn(&Receiver<M>)) {
    for dynamic in [false, true] {
        for late in [false, true] {
            let (s, r) = bounded::<M>(0);
            let (cancel, cancelled) = bounded::<()>(0);
            let vain = go({
                let (s, meanwhile) = (s.clone(), meanwhile.clone());
                move || {
                    if late {
                        breathe();
                    }
                    chosen_in_vain(&s, &cancelled, dynamic, meanwhile);
                }
            });
            if !late {
                breathe();
            }
            select(&r);
            drop(cancel);
            vain.join();
            drop(s);
            assert!(r.recv().is_err(), "nothing is left");
        }
    }
}

fn a_limit_outlives_the_partner<M: Message>() {
    against_one_that_gives_up::<M>(breathe, |r| {
        takes_at_least(ms(10), || {
            select! {
                recv(r) -> _ => panic!("it gave up"),
                default(ms(10)) => (),
            }
        });
    });
    against_one_that_gives_up::<M>(breathe, |r| {
        let mut select = Select::new();
        select.recv(r);
        takes_at_least(ms(10), || assert!(select.select_timeout(ms(10)).is_err()));
    });
}

#[test]
fn a_select_whose_partner_gives_up_waits_no_longer_than_its_limit() {
    everywhere(|| {
        a_limit_outlives_the_partner::<usize>();
        a_limit_outlives_the_partner::<Large>();
    });
}

fn default_outlives_the_partner<M: Message>() {
    against_one_that_gives_up::<M>(breathe, |r| {
        select! {
            recv(r) -> _ => panic!("it gave up"),
            default => (),
        }
    });
    against_one_that_gives_up::<M>(breathe, |r| {
        let mut select = Select::new();
        select.recv(r);
        assert!(select.try_select().is_err());
    });
    against_one_that_gives_up::<M>(breathe, |r| assert!(r.try_recv().is_err_and(|error| error.is_empty())));
}

#[test]
fn a_select_whose_partner_gives_up_has_its_default() {
    everywhere(|| {
        default_outlives_the_partner::<usize>();
        default_outlives_the_partner::<Large>();
    });
}

fn other_arms_outlive_the_partner<M: Message>() {
    // As long as the one that gives up has not been chosen, there is nothing else: so these selects do choose it.
    let (s, other) = unbounded();
    let says_so = move || s.send(7).unwrap();
    against_one_that_gives_up::<M>(says_so.clone(), |r| {
        select! {
            recv(r) -> _ => panic!("it gave up"),
            recv(other) -> message => assert_eq!(message, Ok(7)),
        }
    });
    against_one_that_gives_up::<M>(says_so, |r| {
        let mut select = Select::new_biased();
        select.recv(r);
        let second = select.recv(&other);
        let operation = select.select();
        assert_eq!(operation.index(), second);
        assert_eq!(operation.recv(&other), Ok(7));
    });
    // Another partner in the same arm.
    let (done, others) = unbounded();
    against_one_that_gives_up::<M>(
        || (),
        |r| {
            let (s2, r2) = bounded::<M>(0);
            let other = go({
                let done = done.clone();
                move || {
                    s2.send(M::of(8)).unwrap();
                    done.send(()).unwrap();
                }
            });
            select! {
                recv(r) -> _ => panic!("it gave up"),
                recv(r2) -> message => assert_eq!(message.unwrap().number(), 8),
            }
            others.recv().unwrap();
            other.join();
        },
    );
}

#[test]
fn a_select_whose_partner_gives_up_has_its_other_arms() {
    everywhere(|| {
        other_arms_outlive_the_partner::<usize>();
        other_arms_outlive_the_partner::<Large>();
    });
}

#[test]
fn the_next_sender_is_met_when_the_first_gives_up() {
    everywhere(|| {
        for dynamic in [false, true] {
            let (s, r) = bounded::<Large>(0);
            let (cancel, cancelled) = bounded::<()>(0);
            let vain = go({
                let s = s.clone();
                move || chosen_in_vain(&s, &cancelled, dynamic, breathe)
            });
            breathe();
            let next = go(move || s.send(Large::of(1)).unwrap());
            breathe();
            select! { recv(r) -> message => assert_eq!(message.unwrap().number(), 1) }
            drop(cancel);
            vain.join();
            next.join();
            assert_eq!(r.recv(), Err(RecvError));
        }
    });
}

#[test]
fn a_sender_begins_again_when_its_receiver_must_not_suspend() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let selecting = go({
            let s = s.clone();
            move || select! { send(s, 1) -> result => result.unwrap() }
        });
        breathe();
        // It panics, if the sender is there; or finds none.
        let attempt = catch_unwind(AssertUnwindSafe(|| no_suspend(|| r.try_recv())));
        match attempt {
            Ok(Ok(value)) => assert_eq!(value, 1),
            Ok(Err(_)) | Err(_) => assert_eq!(r.recv(), Ok(1)),
        }
        selecting.join();
        drop(s);
        assert_eq!(r.recv(), Err(RecvError));
    });
}

fn receives_the_end<M: Message>(r: &Receiver<M>) -> bool {
    r.recv().is_err()
}

fn selects_the_end<M: Message>(r: &Receiver<M>) -> bool {
    let idle = never::<M>();
    select! {
        recv(r) -> message => message.is_err(),
        recv(idle) -> _ => panic!("never"),
    }
}

fn selects_the_end_dynamically<M: Message>(r: &Receiver<M>) -> bool {
    let idle = never::<M>();
    let mut select = Select::new();
    select.recv(r);
    select.recv(&idle);
    select.select().recv(r).is_err()
}

/// Somebody receives by `receive`, and is to meet a sender whose operation is forgotten. With `waits`, that one chooses only a
/// receiver who waits.
fn a_forgotten_operation_ends<M: Message>(receive: fn(&Receiver<M>) -> bool, waits: bool) {
    let (s, r) = bounded::<M>(0);
    let receiver = go(move || receive(&r));
    let mut select = Select::new();
    select.send(&s);
    if waits {
        insist(|| select.try_select().map(forget).ok());
    } else {
        forget(select.select());
    }
    drop(select);
    drop(s);
    assert!(receiver.join(), "it hears of the end");
}

#[test]
fn receivers_in_the_queue_hear_of_the_end_though_the_operation_that_was_to_serve_them_is_forgotten() {
    everywhere(|| {
        a_forgotten_operation_ends::<usize>(receives_the_end, true);
        a_forgotten_operation_ends::<usize>(selects_the_end, true);
    });
}

#[test]
fn receivers_that_come_late_hear_of_the_end_though_the_operation_that_was_to_serve_them_is_forgotten() {
    everywhere(|| {
        for waits in [false, true] {
            a_forgotten_operation_ends::<usize>(receives_the_end, waits);
            a_forgotten_operation_ends::<usize>(selects_the_end, waits);
            a_forgotten_operation_ends::<Large>(selects_the_end, waits);
            a_forgotten_operation_ends::<usize>(selects_the_end_dynamically, waits);
        }
    });
}

// Others.

#[test]
fn the_largest_capacity_is_a_capacity() {
    let (s, r) = bounded::<()>(usize::MAX);
    assert_eq!((s.capacity(), r.capacity()), (Some(usize::MAX), Some(usize::MAX)));
    let (s, r) = unbounded::<()>();
    assert_eq!((s.capacity(), r.capacity()), (None, None));
}

/// In turns, not in time: a machine that is slow makes each turn longer, and the timers are due earlier in it.
#[test]
fn a_timer_fires_after_few_turns_of_others_however_long_those_are() {
    const TIMERS: usize = 3;
    run_on(1, || {
        let (turns, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let busy: Vec<_> = (0..2)
            .map(|_| {
                let (turns, over) = (turns.clone(), over.clone());
                spawn(move || {
                    while !over.load(SeqCst) {
                        // Holds the machine, and leaves the processor to the monitor.
                        thread::sleep(ms(5));
                        turns.fetch_add(1, SeqCst);
                        yield_now();
                    }
                })
            })
            .collect();
        // The first makes the distance to the next regular look, at each 61st pick, the largest.
        after(ms(1)).recv().unwrap();
        let before = turns.load(SeqCst);
        for _ in 0..TIMERS {
            after(ms(1)).recv().unwrap();
        }
        let counted = turns.load(SeqCst) - before;
        over.store(true, SeqCst);
        for task in busy {
            task.join().unwrap();
        }
        assert!(counted < 61, "{TIMERS} timers took {counted} turns");
    });
}

// All of it.

struct Random(u64);

impl Random {
    fn new(seed: u64, party: usize) -> Self {
        // Far apart, and never zero.
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add((party as u64).wrapping_mul(0x5851_f42d_4c95_7f2d)) | 1)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as usize) % limit
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.below(150) as u64)
    }

    fn may_yield(&mut self) {
        if self.one_in(4) {
            yield_now();
        }
    }
}

/// Sends it in one of all ways to one of two channels; false if that did not come about.
fn send_somehow<M: Message>(channels: &[Sender<M>; 2], number: usize, random: &mut Random) -> bool {
    let [first, second] = channels;
    let one = &channels[random.below(2)];
    let message = || M::of(number);
    let mut select = if random.one_in(2) { Select::new() } else { Select::new_biased() };
    select.send(first);
    select.send(second);
    let operation = match random.below(12) {
        0 => return one.send(message()).is_ok(),
        1 => return one.try_send(message()).is_ok(),
        2 => return one.send_timeout(message(), random.moment()).is_ok(),
        3 => {
            return select! {
                send(first, message()) -> result => result.is_ok(),
                send(second, message()) -> result => result.is_ok(),
            };
        }
        4 => {
            return select_biased! {
                send(one, { random.may_yield(); message() }) -> result => result.is_ok(),
                default => false,
            };
        }
        5 => {
            return select! {
                send(first, { random.may_yield(); message() }) -> result => result.is_ok(),
                send(second, message()) -> result => result.is_ok(),
                default(Duration::from_micros(50)) => false,
            };
        }
        6 => {
            #[expect(unreachable_code, reason = "the message expression leaves it")]
            return select! {
                send(first, { random.may_yield(); return false }) -> _ => unreachable!(),
                send(second, message()) -> result => result.is_ok(),
            };
        }
        7 => {
            let attempt = catch_unwind(AssertUnwindSafe(|| {
                select! {
                    send(one, { random.may_yield(); give_up() }) -> _ => unreachable!(),
                    default(Duration::from_micros(50)) => (),
                }
            }));
            drop(attempt);
            return false;
        }
        8 => {
            let Ok(index) = select.ready_timeout(random.moment()) else { return false };
            return channels[index].try_send(message()).is_ok();
        }
        9 => select.select(),
        10 => match select.select_timeout(random.moment()) {
            Ok(operation) => operation,
            Err(_) => return false,
        },
        _ => match select.try_select() {
            Ok(operation) => operation,
            Err(_) => return false,
        },
    };
    random.may_yield();
    if random.one_in(5) {
        abandon(operation);
        return false;
    }
    let chosen = &channels[operation.index()];
    operation.send(chosen, message()).is_ok()
}

fn abandon(operation: SelectedOperation<'_>) {
    until_it_gives_up(|| {
        let _operation = operation;
        give_up()
    });
}

/// Receives in one of all ways from what is left of two channels; `None` if that did not come about.
fn receive_somehow<M: Message>(channels: &mut [Receiver<M>; 2], random: &mut Random) -> Option<M> {
    let one = random.below(2);
    let (index, result) = {
        let [first, second] = &*channels;
        let mut select = if random.one_in(2) { Select::new() } else { Select::new_biased() };
        select.recv(first);
        select.recv(second);
        let operation = match random.below(10) {
            0 | 1 => match channels[one].try_recv() {
                Err(error) if error.is_empty() => return None,
                result => return end_or_message(channels, one, result.map_err(|_| RecvError)),
            },
            2 | 3 => match channels[one].recv_timeout(random.moment()) {
                Err(error) if error.is_timeout() => return None,
                result => return end_or_message(channels, one, result.map_err(|_| RecvError)),
            },
            4 => {
                let (index, result) = select! {
                    recv(first) -> message => (0, message),
                    recv(second) -> message => (1, message),
                };
                return end_or_message(channels, index, result);
            }
            5 => {
                let (index, result) = select! {
                    recv(first) -> message => (0, message),
                    recv(second) -> message => (1, message),
                    default(Duration::from_micros(50)) => return None,
                };
                return end_or_message(channels, index, result);
            }
            6 => {
                let (index, result) = select_biased! {
                    recv(second) -> message => (1, message),
                    recv(first) -> message => (0, message),
                    default => return None,
                };
                return end_or_message(channels, index, result);
            }
            7 => select.select(),
            8 => select.select_timeout(random.moment()).ok()?,
            _ => select.try_select().ok()?,
        };
        random.may_yield();
        if random.one_in(5) {
            abandon(operation);
            return None;
        }
        let index = operation.index();
        (index, operation.recv(&channels[index]))
    };
    end_or_message(channels, index, result)
}

/// A channel that has ended is replaced by one where nothing ever happens.
fn end_or_message<M>(channels: &mut [Receiver<M>; 2], index: usize, result: Result<M, RecvError>) -> Option<M> {
    if result.is_err() {
        channels[index] = never();
    }
    result.ok()
}

fn every_message_arrives_once<M: Message>(capacities: [Option<usize>; 2], seed: u64) {
    const PRODUCERS: usize = 3;
    const EACH: usize = 40;
    let (first, second) = (open::<M>(capacities[0]), open::<M>(capacities[1]));
    let (senders, receivers) = ([first.0, second.0], [first.1, second.1]);
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|party| {
            let senders = senders.clone();
            go(move || {
                let mut random = Random::new(seed, party);
                for number in party * EACH..(party + 1) * EACH {
                    random.may_yield();
                    while !send_somehow(&senders, number, &mut random) {}
                }
            })
        })
        .collect();
    drop(senders);
    let consumers: Vec<_> = (0..2)
        .map(|party| {
            let mut receivers = receivers.clone();
            go(move || {
                let mut random = Random::new(seed, PRODUCERS + party);
                let mut received = Vec::new();
                // `never` has no capacity, and is no channel of ours.
                let ended = never::<M>();
                while !receivers.iter().all(|receiver| receiver.same_channel(&ended)) {
                    random.may_yield();
                    received.extend(receive_somehow(&mut receivers, &mut random).map(M::number));
                }
                received
            })
        })
        .collect();
    drop(receivers);
    let received = sorted(join_all(consumers).concat());
    assert_eq!(received, Vec::from_iter(0..PRODUCERS * EACH), "with {capacities:?} and seed {seed}");
    join_all(producers);
}

fn every_message_arrives_once_in<const SEEDS: u64>(mode: Mode) {
    mode.run(|| {
        let capacities = [Some(0), Some(1), Some(2), None];
        for seed in 0..SEEDS {
            for first in capacities {
                for second in capacities {
                    every_message_arrives_once::<usize>([first, second], seed);
                    every_message_arrives_once::<Large>([first, second], seed);
                }
            }
        }
    });
}

#[test]
fn every_message_arrives_once_among_threads() {
    every_message_arrives_once_in::<12>(Mode::Threads);
}

#[test]
fn every_message_arrives_once_among_the_tasks_of_one_processor() {
    every_message_arrives_once_in::<64>(Mode::OneProcessor);
}

#[test]
fn every_message_arrives_once_among_the_tasks_of_two_processors() {
    every_message_arrives_once_in::<64>(Mode::TwoProcessors);
}

#[test]
fn every_message_arrives_once_between_threads_and_tasks() {
    every_message_arrives_once_in::<5>(Mode::MixedFromTask);
    every_message_arrives_once_in::<5>(Mode::MixedFromThread);
}
