//! Go's prime sieves, by a chain of filters and by merging multiples: pipelines that grow, feed on themselves, and come down from
//! their end.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use greenloom::channel::{Receiver, RecvError, SendError, Sender, bounded};
use greenloom::select;
use test_support::everywhere::{everywhere, go, join_all};

const PRIMES: [u32; 25] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97];

/// Never made: a channel of these tells by disconnecting, once everyone who holds a sender has ended.
#[derive(Debug, PartialEq)]
enum Never {}

#[test]
fn a_sieve_of_filters_finds_primes_and_comes_down_from_its_end() {
    everywhere(|| {
        let (s, mut numbers) = bounded(0);
        let mut parties = vec![go(move || while_received(2.., &s))];
        for expected in PRIMES {
            let prime = numbers.recv().unwrap();
            assert_eq!(prime, expected);
            let (s, filtered) = bounded(0);
            let from = std::mem::replace(&mut numbers, filtered);
            parties.push(go(move || while_received(from.iter().filter(|n| n % prime != 0), &s)));
        }
        drop(numbers);
        join_all(parties);
    });
}

/// Sends them until nobody wants them any more.
fn while_received(mut numbers: impl Iterator<Item = u32>, to: &Sender<u32>) {
    while numbers.next().is_some_and(|n| to.send(n).is_ok()) {}
}

/// Everything that the merging sieve starts.
#[derive(Clone)]
struct Merging {
    alive: Sender<Never>,
}

impl Merging {
    fn go(&self, body: impl FnOnce() -> Result<(), Gone> + Send + 'static) {
        let alive = self.alive.clone();
        // Nobody joins it: that they have all ended is seen by `alive`.
        drop(go(move || {
            let _alive = alive;
            // A partner's end is its own end, and in turn its other partners'.
            let _ = body();
        }));
    }

    /// `first`, `first + step` and so on.
    fn counter(&self, first: u32, step: u32, capacity: usize) -> Receiver<u32> {
        let (s, r) = bounded(capacity);
        self.go(move || {
            for n in (first..).step_by(step as usize) {
                s.send(n)?;
            }
            Ok(())
        });
        r
    }

    /// A sender that never waits: someone takes what it sends, and holds it until `out` has room.
    fn proxy(&self, out: Sender<u32>) -> Sender<u32> {
        let (s, r) = bounded(10);
        self.go(move || {
            let mut held = VecDeque::new();
            loop {
                match held.front() {
                    None => held.push_back(r.recv()?),
                    Some(&first) => select! {
                        recv(r) -> n => held.push_back(n?),
                        send(out, first) -> res => {
                            res?;
                            held.pop_front();
                        }
                    },
                }
            }
        });
        s
    }

    /// Merges the odd multiples of the odd primes, from their squares on, into one rising stream.
    fn composites(&self, primes: Receiver<u32>) -> Receiver<u32> {
        let (out, r) = bounded(50);
        let this = self.clone();
        self.go(move || {
            // By its next multiple, each prime's stream; the streams are in `streams`.
            let mut heads = BinaryHeap::new();
            let mut streams = Vec::new();
            let mut last = 0;
            loop {
                let prime = primes.recv()?;
                let multiples = this.counter(prime * prime, 2 * prime, 10);
                let square = multiples.recv()?;
                while let Some(&Reverse((head, stream))) = heads.peek() {
                    if head > square {
                        break;
                    }
                    heads.pop();
                    let next: &Receiver<u32> = &streams[stream];
                    heads.push(Reverse((next.recv()?, stream)));
                    if head > last && head < square {
                        out.send(head)?;
                        last = head;
                    }
                }
                out.send(square)?;
                last = square;
                heads.push(Reverse((multiples.recv()?, streams.len())));
                streams.push(multiples);
            }
        });
        r
    }

    /// The primes. Those found are fed back, for their multiples.
    fn primes(&self) -> Receiver<u32> {
        let (out, r) = bounded(10);
        let (feed, fed) = bounded(10);
        let this = self.clone();
        self.go(move || {
            out.send(2)?;
            out.send(3)?;
            feed.send(3)?;
            let feed = this.proxy(feed);
            let composites = this.composites(fed);
            let candidates = this.counter(5, 2, 50);
            let mut candidate = candidates.recv()?;
            loop {
                let composite = composites.recv()?;
                while candidate < composite {
                    feed.send(candidate)?;
                    out.send(candidate)?;
                    candidate = candidates.recv()?;
                }
                if candidate == composite {
                    candidate = candidates.recv()?;
                }
            }
        });
        r
    }
}

/// A partner has ended.
struct Gone;

impl From<RecvError> for Gone {
    fn from(_: RecvError) -> Self {
        Self
    }
}

impl<T> From<SendError<T>> for Gone {
    fn from(_: SendError<T>) -> Self {
        Self
    }
}

#[test]
fn a_sieve_that_feeds_its_primes_back_finds_them_and_comes_down_from_its_end() {
    everywhere(|| {
        let (alive, ended) = bounded(0);
        let sieve = Merging { alive };
        let primes = sieve.primes();
        assert_eq!(primes.iter().take(PRIMES.len()).collect::<Vec<_>>(), PRIMES);
        drop((sieve, primes));
        assert_eq!(ended.recv(), Err(RecvError));
    });
}
