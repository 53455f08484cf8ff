//! A hundred that wait in the same place, more than are dealt with at once anywhere, some of them cancelled: first ones, last ones,
//! neighbours in any order. Those that are left are let go, each once, in their order.
//!
//! One table of places for all of that. On one processor everyone has come to where it waits before the next begins, so the order
//! is certain; but for one thing: of several that are woken in a row, the last goes on first, if the time slice of the one that wakes them
//! is not over.

use std::sync::{Arc, Mutex as StdMutex};

use greenloom::context::Context;
use greenloom::sync::{Barrier, Condvar, Mutex, Notify, Once, OnceLock, RwLock, Semaphore, WaitGroup};
use greenloom::{JoinHandle, park, spawn, yield_now};
use test_support::channel::{Receiver, Select, Sender, bounded, select, unbounded};
use test_support::waiting::{cancel_and_join, let_others_run, spawn_begun};
use test_support::{Counter, CountsDrop, run_on, yield_until};

/// Those who were let go, as they went on.
type Gone = StdMutex<Vec<usize>>;

/// What a waiter of this number does.
type Wait = Arc<dyn Fn(usize, &Gone) + Send + Sync>;

/// More than are dealt with at once anywhere.
const FIRST_PART: usize = 40;

/// In which order they go on.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    OldestFirst,
    /// Those of [`FIRST_PART`] before the others.
    InParts,
    NewestFirst,
    Any,
}

/// A place to wait in. It is used for two rounds.
struct Place {
    order: Order,
    /// Makes it so that who comes has to wait, and says how those are let go that are left.
    hold: Box<dyn Fn() -> Release>,
    wait: Wait,
    /// Whether it is as it was before.
    check: Box<dyn Fn()>,
}

type Release = Box<dyn FnOnce(Left<'_>)>;

/// Those that are left, in the order in which they came.
struct Left<'a> {
    numbers: &'a [usize],
    gone: &'a Gone,
}

impl Left<'_> {
    fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Lets go more than are dealt with at once, and sees that no others go; then the rest.
    fn in_two_parts(&self, mut release: impl FnMut(&[usize])) {
        let (most, rest) = self.numbers.split_at(FIRST_PART);
        release(most);
        let_others_run();
        assert_eq!(self.gone.lock().unwrap().len(), most.len());
        release(rest);
    }

    /// Lets them go one by one.
    fn one_by_one(&self, mut release: impl FnMut(usize)) {
        self.in_two_parts(|some| some.iter().for_each(|&number| release(number)));
    }
}

/// They were woken in this order, some of them in a row.
#[track_caller]
fn assert_woken_in_order(gone: &[usize], expected: &[usize]) {
    let mut place = 0;
    while place < gone.len() {
        let last = expected[place..].iter().position(|number| *number == gone[place]);
        let last = place + last.unwrap_or_else(|| panic!("{gone:?}, not {expected:?}"));
        assert_eq!(gone[place + 1..=last], expected[place..last], "{gone:?}, not {expected:?}");
        place = last + 1;
    }
    assert_eq!(gone.len(), expected.len(), "{gone:?}, not {expected:?}");
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// What changes from round to round.
fn exchange<T: Clone + Send + 'static>() -> (&'static impl Fn(T), &'static (impl Fn() -> T + Sync)) {
    let slot: &'static StdMutex<Option<T>> = leak(StdMutex::new(None));
    (leak(move |value| *slot.lock().unwrap() = Some(value)), leak(move || slot.lock().unwrap().clone().expect("held")))
}

impl Place {
    fn new(
        order: Order,
        hold: impl Fn() -> Release + 'static,
        wait: impl Fn(usize, &Gone) + Send + Sync + 'static,
        check: impl Fn() + 'static,
    ) -> Self {
        Self { order, hold: Box::new(hold), wait: Arc::new(wait), check: Box::new(check) }
    }

    /// As [`new`](Self::new); those who waited say that they go on when `wait` returns.
    fn simple(order: Order, hold: impl Fn() -> Release + 'static, wait: impl Fn() + Send + Sync + 'static) -> Self {
        Self::new(
            order,
            hold,
            move |number, gone| {
                wait();
                gone.lock().unwrap().push(number);
            },
            || (),
        )
    }

    fn play(&self) {
        for _ in 0..2 {
            self.round();
        }
    }

    fn round(&self) {
        let release = (self.hold)();
        let gone = Arc::new(Gone::default());
        let mut tasks: Vec<Option<JoinHandle<()>>> = Vec::new();
        let come = |tasks: &mut Vec<_>, count| {
            for number in tasks.len()..tasks.len() + count {
                let (wait, gone) = (self.wait.clone(), gone.clone());
                tasks.push(Some(spawn_begun(move || wait(number, &gone))));
                // It may have let others run before it queued: a select does, and who finds its time slice over.
                (0..4).for_each(|_| yield_now());
            }
        };
        let leave = |tasks: &mut Vec<Option<_>>, number: usize| cancel_and_join(tasks[number].take().unwrap());
        come(&mut tasks, 70);
        // The first two, the last two, and neighbours upwards, downwards and at random.
        let ups = [0, 1, 69, 68, 10, 11, 12, 25, 24, 23].into_iter();
        ups.chain((30..50).map(|i| 30 + i * 7 % 20)).for_each(|number| leave(&mut tasks, number));
        come(&mut tasks, 30);
        // The newest, some that came before the others left, and the oldest.
        [99, 98, 50, 52, 51, 67, 70, 71, 97, 2].into_iter().for_each(|number| leave(&mut tasks, number));
        (80..90).rev().for_each(|number| leave(&mut tasks, number));
        let mut left: Vec<usize> = (0..tasks.len()).filter(|&number| tasks[number].is_some()).collect();
        assert_eq!(left.len(), 50);
        let_others_run();
        assert_eq!(*gone.lock().unwrap(), [], "nobody was let go");
        release(Left { numbers: &left, gone: &gone });
        tasks.into_iter().flatten().for_each(|task| task.join().unwrap());
        let mut gone = gone.lock().unwrap().clone();
        match self.order {
            Order::OldestFirst => {}
            Order::InParts => {
                gone[..FIRST_PART].sort_unstable();
                gone[FIRST_PART..].sort_unstable();
            }
            Order::NewestFirst => left.reverse(),
            Order::Any => gone.sort_unstable(),
        }
        assert_woken_in_order(&gone, &left);
        (self.check)();
    }
}

/// Plays in a task of one processor.
#[track_caller]
fn play(places: impl FnOnce() -> Vec<(&'static str, Place)> + Send + 'static) {
    run_on(1, || {
        for (name, place) in places() {
            println!("{name}");
            place.play();
        }
    });
}

#[test]
fn of_a_hundred_that_wait_for_a_lock_those_that_are_left_have_it_in_their_order() {
    play(|| {
        let mutex = leak(Mutex::new(()));
        let lock = leak(RwLock::new(()));
        let enter = |number, gone: &Gone| gone.lock().unwrap().push(number);
        vec![
            (
                "Mutex",
                Place::new(
                    Order::OldestFirst,
                    || {
                        let guard = mutex.lock().unwrap();
                        Box::new(|_| drop(guard))
                    },
                    move |number, gone| {
                        let _guard = mutex.lock().unwrap();
                        enter(number, gone);
                    },
                    || assert!(mutex.try_lock().is_ok()),
                ),
            ),
            (
                "RwLock, writers behind a reader",
                Place::new(
                    Order::OldestFirst,
                    || {
                        let guard = lock.read().unwrap();
                        Box::new(|_| drop(guard))
                    },
                    move |number, gone| {
                        let _guard = lock.write().unwrap();
                        enter(number, gone);
                    },
                    || assert!(lock.try_write().is_ok()),
                ),
            ),
            (
                // They wait for a writer that waits, and leaves.
                "RwLock, readers behind a reader",
                Place::new(
                    Order::OldestFirst,
                    || {
                        let guard = lock.read().unwrap();
                        let writer = spawn_begun(|| drop(lock.write()));
                        Box::new(|left| {
                            cancel_and_join(writer);
                            let_others_run();
                            assert_woken_in_order(&left.gone.lock().unwrap(), left.numbers);
                            drop(guard);
                        })
                    },
                    move |number, gone| {
                        let _guard = lock.read().unwrap();
                        enter(number, gone);
                    },
                    || assert!(lock.try_write().is_ok()),
                ),
            ),
            (
                "RwLock, readers behind a writer",
                Place::new(
                    Order::OldestFirst,
                    || {
                        let guard = lock.write().unwrap();
                        Box::new(|_| drop(guard))
                    },
                    move |number, gone| {
                        let guard = lock.read().unwrap();
                        enter(number, gone);
                        // All of them are in before the first goes.
                        let_others_run();
                        drop(guard);
                    },
                    || assert!(lock.try_write().is_ok()),
                ),
            ),
        ]
    });
}

/// Every fifth writes: all who read are let in, then those who write, one by one, before the lock is free.
#[test]
fn of_a_hundred_that_wait_to_read_or_write_the_readers_have_the_lock_first() {
    play(|| {
        let lock = leak(RwLock::new(()));
        let (hold, order) = exchange::<Arc<Gone>>();
        vec![(
            "RwLock",
            Place::new(
                Order::Any,
                || {
                    let guard = lock.write().unwrap();
                    hold(Arc::default());
                    Box::new(|left| {
                        let (writers, readers): (Vec<usize>, Vec<usize>) =
                            left.numbers.iter().partition(|number| **number % 5 == 0);
                        drop(guard);
                        let_others_run();
                        let_others_run();
                        let order = order();
                        let order = order.lock().unwrap();
                        assert_woken_in_order(&order[..readers.len()], &readers);
                        assert_woken_in_order(&order[readers.len()..], &writers);
                    })
                },
                |number, gone| {
                    let enter = || {
                        gone.lock().unwrap().push(number);
                        order().lock().unwrap().push(number);
                    };
                    if number % 5 == 0 {
                        let _guard = lock.write().unwrap();
                        enter();
                    } else {
                        let _guard = lock.read().unwrap();
                        enter();
                    }
                },
                || assert!(lock.try_write().is_ok()),
            ),
        )]
    });
}

#[test]
fn of_a_hundred_that_wait_for_permits_those_that_are_left_get_them_in_their_order() {
    play(|| {
        let semaphore = leak(Semaphore::new(0));
        let need = |number: usize| 1 + number as u32 % 3;
        let (hold, closing) = exchange::<Arc<Semaphore>>();
        let none_left = move || assert_eq!(semaphore.available_permits(), 0);
        vec![
            (
                "Semaphore, one for each, added together",
                Place::new(
                    Order::OldestFirst,
                    move || Box::new(move |left| left.in_two_parts(|some| semaphore.add_permits(some.len()))),
                    move |number, gone| {
                        semaphore.acquire().unwrap().forget();
                        gone.lock().unwrap().push(number);
                    },
                    none_left,
                ),
            ),
            (
                "Semaphore, several for each, added together",
                Place::new(
                    Order::OldestFirst,
                    move || {
                        Box::new(move |left| {
                            left.in_two_parts(|some| {
                                semaphore.add_permits(some.iter().map(|&number| need(number) as usize).sum());
                            });
                        })
                    },
                    move |number, gone| {
                        semaphore.acquire_many(need(number)).unwrap().forget();
                        gone.lock().unwrap().push(number);
                    },
                    none_left,
                ),
            ),
            (
                "Semaphore, one by one",
                Place::new(
                    Order::OldestFirst,
                    move || Box::new(move |left| left.one_by_one(|_| semaphore.add_permits(1))),
                    move |number, gone| {
                        semaphore.acquire().unwrap().forget();
                        gone.lock().unwrap().push(number);
                    },
                    none_left,
                ),
            ),
            (
                "Semaphore that is closed",
                Place::simple(
                    Order::OldestFirst,
                    || {
                        hold(Arc::new(Semaphore::new(0)));
                        Box::new(|_| closing().close())
                    },
                    || assert!(closing().acquire().is_err()),
                ),
            ),
            (
                // The permits of all were gathering for it.
                "Semaphore whose first waiter, who wanted many, leaves",
                Place::simple(
                    Order::OldestFirst,
                    || {
                        let semaphore = Arc::new(Semaphore::new(0));
                        hold(semaphore.clone());
                        let greedy = spawn_begun({
                            let semaphore = semaphore.clone();
                            move || drop(semaphore.acquire_many(1000))
                        });
                        Box::new(move |left| {
                            semaphore.add_permits(left.len());
                            let_others_run();
                            assert_eq!(*left.gone.lock().unwrap(), []);
                            cancel_and_join(greedy);
                        })
                    },
                    || closing().acquire().unwrap().forget(),
                ),
            ),
        ]
    });
}

#[test]
fn of_a_hundred_that_wait_for_a_notification_those_that_are_left_get_it_in_their_order() {
    play(|| {
        let notify = leak(Notify::new());
        let (mutex, condvar) = (leak(Mutex::new(())), leak(Condvar::new()));
        let notified = |order, release: fn(&Notify, Left<'_>)| {
            Place::simple(order, move || Box::new(move |left| release(notify, left)), || notify.notified())
        };
        // Who has been told locks again, and may let others run before that.
        let told = |order, release: fn(&Condvar, Left<'_>)| {
            Place::simple(
                order,
                move || Box::new(move |left| release(condvar, left)),
                || drop(condvar.wait(mutex.lock().unwrap()).unwrap()),
            )
        };
        vec![
            ("Notify, one by one", notified(Order::OldestFirst, |notify, left| left.one_by_one(|_| notify.notify_one()))),
            ("Notify, the last first", notified(Order::NewestFirst, |notify, left| left.one_by_one(|_| notify.notify_last()))),
            ("Notify, all", notified(Order::OldestFirst, |notify, _| notify.notify_waiters())),
            ("Condvar, one by one", told(Order::InParts, |condvar, left| left.one_by_one(|_| condvar.notify_one()))),
            ("Condvar, all", told(Order::Any, |condvar, _| condvar.notify_all())),
        ]
    });
}

#[test]
fn of_a_hundred_that_wait_for_others_to_come_to_go_or_to_be_done_those_that_are_left_go_on() {
    type Cells = (Once, OnceLock<usize>);
    play(|| {
        let barrier = leak(Barrier::new(71));
        let (hold_group, group) = exchange::<WaitGroup>();
        let (hold_once, once) = exchange::<Arc<Cells>>();
        let initialise = |body: fn(&Cells, &dyn Fn())| {
            move || -> Release {
                let cell = Arc::new((Once::new(), OnceLock::new()));
                hold_once(cell.clone());
                let (go_on, wait) = bounded::<()>(0);
                let at_it = spawn_begun(move || body(&cell, &|| wait.recv().unwrap()));
                Box::new(move |_| {
                    go_on.send(()).unwrap();
                    at_it.join().unwrap();
                })
            }
        };
        vec![
            (
                "Barrier",
                Place::simple(
                    Order::OldestFirst,
                    move || {
                        Box::new(move |left| {
                            let others: Vec<_> = (left.len()..70).map(|_| spawn_begun(|| barrier.wait().is_leader())).collect();
                            let_others_run();
                            assert_eq!(*left.gone.lock().unwrap(), []);
                            assert!(barrier.wait().is_leader());
                            assert!(others.into_iter().all(|other| !other.join().unwrap()));
                        })
                    },
                    || assert!(!barrier.wait().is_leader()),
                ),
            ),
            (
                "WaitGroup",
                Place::simple(
                    Order::OldestFirst,
                    || {
                        let last = WaitGroup::new();
                        hold_group(last.clone());
                        Box::new(|_| {
                            hold_group(WaitGroup::new());
                            let_others_run();
                            drop(last);
                        })
                    },
                    || group().wait(),
                ),
            ),
            (
                "Once",
                Place::simple(Order::OldestFirst, initialise(|cell, wait| cell.0.call_once(wait)), || {
                    once().0.call_once(|| unreachable!("it is done"));
                }),
            ),
            (
                "Once, waiting alone",
                Place::simple(Order::OldestFirst, initialise(|cell, wait| cell.0.call_once(wait)), || once().0.wait()),
            ),
            (
                "OnceLock",
                Place::simple(
                    Order::OldestFirst,
                    initialise(|cell, wait| {
                        cell.1.get_or_init(|| {
                            wait();
                            7
                        });
                    }),
                    || assert_eq!(*once().1.get_or_init(|| unreachable!("it is there")), 7),
                ),
            ),
        ]
    });
}

#[test]
fn of_a_hundred_that_send_or_receive_those_that_are_left_do_in_their_order() {
    fn senders(capacity: usize) -> Place {
        let (s, r) = bounded::<usize>(capacity);
        let s = leak(s);
        Place::simple_send(s, r, Order::OldestFirst, capacity, |s, number| s.send(number).unwrap())
    }
    fn receivers(channel: fn() -> (Sender<usize>, Receiver<usize>), receive: fn(&Receiver<usize>) -> usize) -> Place {
        let (s, r) = channel();
        let s = leak(s);
        Place::new(
            Order::OldestFirst,
            || Box::new(|left| left.one_by_one(|number| s.send(number).unwrap())),
            move |number, gone| {
                assert_eq!(receive(&r), number);
                gone.lock().unwrap().push(number);
            },
            || assert!(s.is_empty()),
        )
    }
    fn select_one(r: &Receiver<usize>) -> usize {
        select! { recv(r) -> message => message.unwrap() }
    }
    /// Its nodes are not in the frame.
    fn select_nine(r: &Receiver<usize>) -> usize {
        let others: Vec<_> = (0..8).map(|_| unbounded::<usize>()).collect();
        let mut select = Select::new();
        others.iter().for_each(|(_, r)| _ = select.recv(r));
        select.recv(r);
        select.select().recv(r).unwrap()
    }
    play(|| {
        vec![
            ("senders to nobody", senders(0)),
            ("senders without room", senders(3)),
            ("selects that send to nobody", {
                let (s, r) = bounded(0);
                Place::simple_send(
                    leak(s),
                    r,
                    Order::OldestFirst,
                    0,
                    |s, number| select! { send(s, number) -> sent => sent.unwrap() },
                )
            }),
            ("selects that send without room", {
                let (s, r) = bounded(3);
                // Who has been given a place brings its message when it goes on.
                Place::simple_send(leak(s), r, Order::Any, 3, |s, number| select! { send(s, number) -> sent => sent.unwrap() })
            }),
            ("receivers of nobody", receivers(|| bounded(0), |r| r.recv().unwrap())),
            ("receivers of nothing", receivers(|| bounded(3), |r| r.recv().unwrap())),
            ("receivers of an unbounded channel", receivers(unbounded, |r| r.recv().unwrap())),
            ("selects that receive of nobody", receivers(|| bounded(0), select_one)),
            ("selects that receive nothing", receivers(|| bounded(3), select_one)),
            ("selects that receive of an unbounded channel", receivers(unbounded, select_one)),
            ("large selects that receive", receivers(|| bounded(1), select_nine)),
        ]
    });
}

impl Place {
    /// A full channel, to which everyone sends its number.
    fn simple_send(
        s: &'static Sender<usize>,
        r: Receiver<usize>,
        order: Order,
        capacity: usize,
        send: fn(&Sender<usize>, usize),
    ) -> Self {
        let r = leak(r);
        let filler = usize::MAX;
        Self::new(
            order,
            move || {
                (0..capacity).for_each(|_| s.try_send(filler).unwrap());
                Box::new(move |left| {
                    (0..capacity).for_each(|_| assert_eq!(r.recv(), Ok(filler)));
                    let mut received: Vec<_> = left.numbers.iter().map(|_| r.recv().unwrap()).collect();
                    if order == Order::Any {
                        received.sort_unstable();
                    }
                    assert_eq!(received, left.numbers);
                })
            },
            move |number, gone| {
                send(s, number);
                gone.lock().unwrap().push(number);
            },
            || assert!(r.is_empty()),
        )
    }
}

/// The other side goes. Two of three wait as selects do: for an operation, or until they are told that there is one.
#[test]
fn of_a_hundred_in_a_channel_all_hear_of_its_end() {
    fn place(open: fn() -> (Sender<usize>, Receiver<usize>), receiving: bool) -> Place {
        let (hold, ends) = exchange::<(Arc<StdMutex<Option<Sender<usize>>>>, Arc<StdMutex<Option<Receiver<usize>>>>)>();
        let receive = |number, r: Receiver<usize>| match number % 3 {
            0 => assert!(r.recv().is_err()),
            1 => select! { recv(r) -> message => assert!(message.is_err()) },
            _ => assert_eq!(Select::new().also(|select| _ = select.recv(&r)).ready(), 0),
        };
        let send = |number, s: Sender<usize>| match number % 3 {
            0 => assert_eq!(s.send(number).unwrap_err().0, number),
            1 => select! { send(s, number) -> sent => assert_eq!(sent.unwrap_err().0, number) },
            _ => assert_eq!(Select::new().also(|select| _ = select.send(&s)).ready(), 0),
        };
        Place::new(
            Order::Any,
            move || {
                let (s, r) = open();
                hold((Arc::new(StdMutex::new(Some(s))), Arc::new(StdMutex::new(Some(r)))));
                Box::new(move |_| {
                    let (s, r) = ends();
                    if receiving {
                        let sender = s.lock().unwrap().take();
                        drop(sender);
                    } else {
                        let receiver = r.lock().unwrap().take();
                        drop(receiver);
                    }
                })
            },
            move |number, gone| {
                let (s, r) = ends();
                if receiving {
                    let r = r.lock().unwrap().clone().unwrap();
                    receive(number, r);
                } else {
                    let s = s.lock().unwrap().clone().unwrap();
                    send(number, s);
                }
                gone.lock().unwrap().push(number);
            },
            || (),
        )
    }
    play(|| {
        let full = || {
            let (s, r) = bounded(2);
            (0..2).for_each(|message| s.send(message).unwrap());
            (s, r)
        };
        vec![
            ("receivers without capacity", place(|| bounded(0), true)),
            ("receivers with capacity", place(|| bounded(2), true)),
            ("receivers of an unbounded channel", place(unbounded, true)),
            ("senders without capacity", place(|| bounded(0), false)),
            ("senders with capacity", place(full, false)),
        ]
    });
}

trait Also: Sized {
    fn also(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Also for Select<'_> {}

/// Half of them are to send, half to receive; the one kind is told of what does not concern the other.
#[test]
fn of_a_hundred_that_watch_a_channel_all_are_told() {
    play(|| {
        let (s, r) = bounded::<()>(0);
        let (s, r) = (leak(s), leak(r));
        let queue = leak(bounded::<()>(1));
        let watch_to_send = |s: &Sender<()>| assert_eq!(Select::new().also(|select| _ = select.send(s)).ready(), 0);
        let watch_to_receive = |r: &Receiver<()>| assert_eq!(Select::new().also(|select| _ = select.recv(r)).ready(), 0);
        vec![
            (
                "without capacity",
                Place::simple_by_number(
                    || {
                        Box::new(|left| {
                            let sender = spawn_begun(|| s.send(()).unwrap());
                            let_others_run();
                            assert!(left.gone.lock().unwrap().iter().all(|number| number % 2 == 0));
                            r.recv().unwrap();
                            sender.join().unwrap();
                            let receiver = spawn_begun(|| r.recv().unwrap());
                            let_others_run();
                            s.send(()).unwrap();
                            receiver.join().unwrap();
                        })
                    },
                    move |number| if number % 2 == 0 { watch_to_receive(r) } else { watch_to_send(s) },
                ),
            ),
            (
                "for a message",
                Place::simple_by_number(
                    || {
                        Box::new(|_| {
                            queue.0.send(()).unwrap();
                            let_others_run();
                            queue.1.recv().unwrap();
                        })
                    },
                    move |_| watch_to_receive(&queue.1),
                ),
            ),
            (
                "for room",
                Place::simple_by_number(
                    || {
                        queue.0.send(()).unwrap();
                        Box::new(|_| queue.1.recv().unwrap())
                    },
                    move |_| watch_to_send(&queue.0),
                ),
            ),
            (
                // A select has the message, and has not fetched it.
                "for room behind a promise",
                Place::simple_by_number(
                    || {
                        queue.0.send(()).unwrap();
                        Box::new(|left| {
                            let mut select = Select::new();
                            select.recv(&queue.1);
                            let promise = select.select();
                            let_others_run();
                            assert_eq!(*left.gone.lock().unwrap(), []);
                            promise.recv(&queue.1).unwrap();
                        })
                    },
                    move |_| watch_to_send(&queue.0),
                ),
            ),
        ]
    });
}

impl Place {
    fn simple_by_number(hold: impl Fn() -> Release + 'static, wait: impl Fn(usize) + Send + Sync + 'static) -> Self {
        Self::new(
            Order::Any,
            hold,
            move |number, gone| {
                wait(number);
                gone.lock().unwrap().push(number);
            },
            || (),
        )
    }
}

#[test]
fn of_a_hundred_below_a_context_all_hear_of_its_end() {
    play(|| {
        let (hold, ctx) = exchange::<Context>();
        let end = move || -> Release {
            let (ctx, canceller) = Context::background().with_cancel();
            hold(ctx);
            Box::new(move |_| canceller.cancel_with("all of you"))
        };
        let heard = |ctx: &Context| assert_eq!(ctx.cause().unwrap().to_string(), "all of you");
        vec![
            (
                "its channel",
                Place::simple(Order::Any, end, move || {
                    let ctx = ctx();
                    assert!(ctx.done().recv().is_err());
                    heard(&ctx);
                }),
            ),
            (
                "children's channels",
                Place::simple(Order::Any, end, move || {
                    let (child, _canceller) = ctx().with_cancel();
                    assert!(child.done().recv().is_err());
                    heard(&child);
                }),
            ),
            (
                "frames",
                Place::simple(Order::Any, end, move || {
                    let ctx = ctx();
                    assert!(ctx.run_until_done(park).is_err());
                    heard(&ctx);
                }),
            ),
            (
                "functions",
                Place::simple(Order::Any, end, move || {
                    let (child, _canceller) = ctx().with_cancel();
                    let (run, ran) = bounded(1);
                    let function = child.after_func(move || run.send(()).unwrap());
                    let _stop = StopOnDrop(Some(function));
                    ran.recv().unwrap();
                }),
            ),
        ]
    });
}

/// A function that its owner will not wait for does not run.
struct StopOnDrop(Option<greenloom::context::AfterFunc>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        let stopped = self.0.take().is_some_and(|function| function.stop());
        assert_eq!(stopped, std::thread::panicking(), "it is stopped where its owner is cancelled");
    }
}

// Those that somebody answers for.

#[test]
fn a_hundred_that_are_cancelled_together_all_end() {
    run_on(1, || {
        let counted = |cancel: &dyn Fn(&Counter)| {
            let ended = Counter::default();
            cancel(&ended);
            yield_until(|| ended.get() >= 100);
            let_others_run();
            assert_eq!(ended.get(), 100);
        };
        fn member(ends: CountsDrop) -> impl FnOnce() + Send + 'static {
            move || {
                let _ends = ends;
                park();
                unreachable!("nobody unparks it");
            }
        }
        counted(&|ended| {
            let in_scope = ended.clone();
            let caller = spawn_begun(move || {
                greenloom::scope(|s| {
                    for number in 0..100 {
                        s.spawn(member(in_scope.on_drop()));
                        if number == 50 {
                            let_others_run();
                        }
                    }
                    park();
                });
            });
            let_others_run();
            cancel_and_join(caller);
            // The scope has waited for them.
            assert_eq!(ended.get(), 100);
        });
        counted(&|ended| {
            let group = greenloom::group::Group::<()>::new();
            for number in 0..100 {
                let member = member(ended.on_drop());
                group.spawn(move || {
                    member();
                    Ok(())
                });
                if number == 50 {
                    let_others_run();
                }
            }
            drop(group);
        });
        counted(&|ended| {
            let pool = greenloom::pool::WorkerPool::new(50, 50);
            let jobs: Vec<_> = (0..100).map(|_| pool.submit(member(ended.on_drop())).unwrap()).collect();
            let_others_run();
            drop(pool);
            for job in jobs {
                assert!(job.join().unwrap_err().is_cancelled());
            }
        });
    });
}

/// A group's members are many more than its limit, and wait their turn in the spawner.
#[test]
fn a_hundred_members_take_turns_within_a_limit() {
    run_on(1, || {
        let group = greenloom::group::Group::<usize>::new();
        group.set_limit(40);
        let inside = Arc::new(StdMutex::new((0, 0)));
        for _ in 0..100 {
            let inside = inside.clone();
            group.spawn(move || {
                {
                    let mut inside = inside.lock().unwrap();
                    inside.0 += 1;
                    inside.1 = inside.0.max(inside.1);
                }
                let_others_run();
                inside.lock().unwrap().0 -= 1;
                Ok(())
            });
        }
        group.wait().unwrap();
        assert_eq!(*inside.lock().unwrap(), (0, 40));
    });
}

/// More than the clock ends between two looks at its set; some are taken back before their time.
#[test]
fn hundreds_of_deadlines_of_one_moment_all_come() {
    run_on(1, || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(30);
        let contexts: Vec<_> = (0..400).map(|_| Context::background().with_deadline(deadline)).collect();
        let (done, waits): (Vec<_>, Vec<_>) = contexts
            .into_iter()
            .enumerate()
            .map(|(number, (ctx, canceller))| {
                if number % 3 == 0 {
                    canceller.cancel();
                }
                (number, ctx, canceller)
            })
            .partition(|(number, ..)| number % 3 == 0);
        let waiters: Vec<_> = waits
            .into_iter()
            .map(|(_, ctx, canceller)| {
                spawn(move || {
                    assert!(ctx.done().recv().is_err());
                    drop(canceller);
                    ctx.err()
                })
            })
            .collect();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Some(greenloom::context::ContextError::DeadlineExceeded));
        }
        assert!(done.iter().all(|(_, ctx, _)| ctx.err().is_some()));
    });
}
