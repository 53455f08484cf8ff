//! Channels and selects at random: many tasks that send, receive, select, give up, are ended by limits of time and forget what they were
//! promised. Each message is dropped once, and what is left in a channel can be had.
//!
//! Seeds are fixed, so what each task tries is too; what comes of it on two processors is not.

use std::panic::{AssertUnwindSafe, catch_unwind};

use std::time::{Duration, Instant};

use greenloom::channel::{Receiver, Select, SelectedOperation, Sender, after, bounded, select, tick, unbounded};
use greenloom::time::timeout;
use greenloom::{spawn, yield_now};
use test_support::{Counter, CountsDrop, in_child, run_on, unless_it_hangs};

const TASKS: u64 = 12;
const STEPS: usize = 150;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as usize % bound
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    /// None, or short.
    fn limit(&mut self) -> Duration {
        Duration::from_micros(40) * self.below(3) as u32
    }
}

/// A message counts itself when it is made, and when it is dropped.
#[derive(Clone)]
struct Messages {
    made: Counter,
    dropped: Counter,
}

impl Messages {
    fn one(&self) -> CountsDrop {
        self.made.add();
        self.dropped.on_drop()
    }
}

#[derive(Clone)]
struct Party {
    channels: Vec<(Sender<CountsDrop>, Receiver<CountsDrop>)>,
    messages: Messages,
    ticks: Receiver<Instant>,
}

/// An arm of a `Select`.
enum Arm {
    Send(usize),
    Receive(usize),
    Timer,
    Tick,
}

impl Party {
    fn new(messages: Messages) -> Self {
        let channels = vec![bounded(0), bounded(1), bounded(2), unbounded(), bounded(0)];
        Self { channels, messages, ticks: tick(Duration::from_micros(300)) }
    }

    fn step(&self, random: &mut Random) {
        let (s, r) = &self.channels[random.below(self.channels.len())];
        let limit = random.limit();
        match random.below(10) {
            0 => drop(s.try_send(self.messages.one())),
            1 => drop(r.try_recv()),
            2 => drop(s.send_timeout(self.messages.one(), limit)),
            3 => drop(r.recv_timeout(limit)),
            4..=6 => self.select_of_many(random),
            7 => {
                let (s2, r2) = &self.channels[random.below(self.channels.len())];
                select! {
                    recv(r) -> _ => {},
                    send(s2, self.messages.one()) -> _ => {},
                    recv(r2) -> _ => {},
                    recv(self.ticks) -> _ => {},
                    default(limit) => {},
                }
            }
            8 => drop(timeout(limit, || s.send(self.messages.one()))),
            _ => drop(timeout(limit, || r.recv())),
        }
    }

    fn select_of_many(&self, random: &mut Random) {
        let timer = after(Duration::from_micros(random.below(400) as u64));
        let mut select = if random.one_in(4) { Select::new_biased() } else { Select::new() };
        let arms: Vec<_> = (0..1 + random.below(12))
            .map(|_| match random.below(2 * self.channels.len() + 2) {
                0 => Arm::Timer,
                1 => Arm::Tick,
                n if n % 2 == 0 => Arm::Send(n / 2 - 1),
                n => Arm::Receive(n / 2 - 1),
            })
            .collect();
        for arm in &arms {
            match arm {
                Arm::Send(channel) => select.send(&self.channels[*channel].0),
                Arm::Receive(channel) => select.recv(&self.channels[*channel].1),
                Arm::Timer => select.recv(&timer),
                Arm::Tick => select.recv(&self.ticks),
            };
        }
        let limit = random.limit();
        if random.one_in(4) {
            let _ = select.ready_timeout(limit);
            return;
        }
        let selected = if random.one_in(2) { select.try_select().ok() } else { select.select_timeout(limit).ok() };
        let Some(selected) = selected else { return };
        if random.one_in(3) {
            yield_now();
        }
        if random.one_in(3) {
            forget(selected);
            return;
        }
        match &arms[selected.index()] {
            Arm::Send(channel) => drop(selected.send(&self.channels[*channel].0, self.messages.one())),
            Arm::Receive(channel) => drop(selected.recv(&self.channels[*channel].1)),
            Arm::Timer => drop(selected.recv(&timer)),
            Arm::Tick => drop(selected.recv(&self.ticks)),
        }
    }

    /// All is quiet: nothing that is there, or that has room, is overlooked.
    fn empty(&self) {
        for (s, r) in &self.channels {
            for _ in 0..r.len() {
                select! { recv(r) -> message => drop(message.unwrap()), default => panic!("a message was not seen") }
            }
            if s.capacity() != Some(0) {
                select! { send(s, self.messages.one()) -> sent => sent.unwrap(), default => panic!("room was not seen") }
            }
        }
    }
}

/// Drops the operation uncompleted, which panics.
fn forget(selected: SelectedOperation<'_>) {
    assert!(catch_unwind(AssertUnwindSafe(|| drop(selected))).is_err());
}

fn play(processors: usize, seed: u64) {
    let messages = Messages { made: Counter::default(), dropped: Counter::default() };
    let party = Party::new(messages.clone());
    run_on(processors, move || {
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| {
                let party = party.clone();
                let mut random = Random(seed * TASKS + task);
                spawn(move || (0..STEPS).for_each(|_| party.step(&mut random)))
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        party.empty();
    });
    assert_eq!(messages.dropped.get(), messages.made.get(), "seed {seed}");
}

/// Plays these in a process of its own: the panics of operations that were not completed are wanted, and would fill the page.
fn quietly(test: &str, seeds: fn()) {
    let child = in_child!(test, || {
        std::panic::set_hook(Box::new(|info| {
            if !info.to_string().contains("SelectedOperation") {
                eprintln!("{info}");
            }
        }));
        unless_it_hangs(seeds);
    });
    child.assert_success();
}

#[test]
fn every_message_is_dropped_once_on_one_processor() {
    quietly("every_message_is_dropped_once_on_one_processor", || (0..300).for_each(|seed| play(1, seed)));
}

#[test]
fn every_message_is_dropped_once_on_two_processors() {
    quietly("every_message_is_dropped_once_on_two_processors", || (300..600).for_each(|seed| play(2, seed)));
}
