//! What greenloom's channels promise beyond what others do: misuse and panics leave them usable, cancellation leaves no trace,
//! and the size of a select does not matter.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use greenloom::{spawn, task, yield_now};
use test_support::channel::{
    Receiver, RecvError, Select, SendError, TryRecvError, TrySendError, bounded, never, select, unbounded,
};
use test_support::everywhere::{breathe, everywhere, go, insist, join_all, ms, panic_message};
use test_support::flavour::open;
use test_support::selecting::CAPACITIES;
use test_support::{Counter, CountsDrop, run_on, runtime};

// Panics and misuse.

#[test]
fn a_panic_in_a_message_leaves_the_channel_and_the_partner() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open::<i32>(capacity);
            let idle = never::<i32>();
            let explode = || -> i32 { resume_unwind(Box::new("message")) };
            let receiver = go({
                let r = r.clone();
                move || r.recv()
            });
            for _ in 0..3 {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    select! {
                        send(s, explode()) -> _ => unreachable!(),
                        recv(idle) -> _ => unreachable!(),
                        default(ms(60_000)) => unreachable!(),
                    }
                }));
                assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "message");
                let result = catch_unwind(AssertUnwindSafe(|| {
                    select! { send(s, explode()) -> _ => unreachable!() }
                }));
                assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "message");
            }
            breathe();
            assert!(!receiver.is_finished(), "nothing was sent");
            assert!(s.is_empty());
            s.send(4).unwrap();
            assert_eq!(receiver.join(), Ok(4));
            drop(s);
            assert_eq!(r.recv(), Err(RecvError));
        }
    });
}

#[test]
fn an_operation_that_is_not_completed_leaves_the_channel_and_the_partner() {
    const SENTENCE: &str = "dropped `SelectedOperation` without completing the operation";
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open::<i32>(capacity);
            let receiver = go({
                let r = r.clone();
                move || r.recv()
            });
            let mut select = Select::new();
            select.send(&s);
            assert_eq!(panic_message(|| drop(select.select())), SENTENCE);
            assert_eq!(panic_message(|| drop(select.select())), SENTENCE);
            s.send(1).unwrap();
            assert_eq!(receiver.join(), Ok(1));
            let sender = go(move || s.send(2));
            let mut select = Select::new();
            select.recv(&r);
            assert_eq!(panic_message(|| drop(select.select())), SENTENCE);
            // Whether the value is lost is not said, and so not whether it was sent.
            if let Err(SendError(value)) = sender.join() {
                assert_eq!(value, 2);
            }
            assert!([Ok(2), Err(RecvError)].contains(&r.recv()));
        }
    });
}

#[test]
fn completing_with_another_channel_panics_and_leaves_both() {
    everywhere(|| {
        for capacity in [Some(4), None] {
            let (s, r) = open(capacity);
            let (other_s, other_r) = open(capacity);
            let mut select = Select::new();
            select.send(&s);
            let message = panic_message(|| _ = select.select().send(&other_s, 1));
            assert_eq!(message, "passed a sender that wasn't selected");
            assert_eq!((r.try_recv(), other_r.try_recv()), (Err(TryRecvError::Empty), Err(TryRecvError::Empty)));
            s.send(2).unwrap();
            other_s.send(3).unwrap();
            let mut select = Select::new();
            select.recv(&r);
            let message = panic_message(|| _ = select.select().recv(&other_r));
            assert_eq!(message, "passed a receiver that wasn't selected");
            assert_eq!(other_r.recv(), Ok(3));
            s.send(4).unwrap();
            assert_eq!(r.iter().find(|&value| value == 4), Some(4));
        }
    });
}

#[test]
fn a_forgotten_operation_does_not_hold_up_the_end_of_its_channel() {
    everywhere(|| {
        for capacity in [Some(2), None] {
            let (s, r) = open::<CountsDrop>(capacity);
            let dropped = Counter::default();
            s.send(dropped.on_drop()).unwrap();
            let party = go(move || {
                let mut select = Select::new();
                select.send(&s);
                std::mem::forget(select.select());
                // The end of the channel, if this is the last one.
                drop(s);
            });
            drop(r);
            party.join();
            assert_eq!(dropped.get(), 1);
        }
    });
}

#[test]
fn a_clone_of_the_selected_handle_completes_its_operation() {
    everywhere(|| {
        for capacity in CAPACITIES {
            let (s, r) = open(capacity);
            let sender = go({
                let s = s.clone();
                move || {
                    let mut select = Select::new();
                    select.send(&s);
                    select.select().send(&s.clone(), 1)
                }
            });
            let mut select = Select::new();
            select.recv(&r);
            assert_eq!(select.select().recv(&r.clone()), Ok(1));
            assert_eq!(sender.join(), Ok(()));
        }
    });
}

#[test]
fn what_is_inside_goes_with_the_last_receiver() {
    everywhere(|| {
        for (capacity, taken, inside) in [(1, 0, 1), (3, 0, 3), (4, 3, 4), (4, 2, 3), (8, 7, 2)] {
            let (s, r) = bounded::<CountsDrop>(capacity);
            let dropped = Counter::default();
            for _ in 0..taken {
                s.send(dropped.on_drop()).unwrap();
                drop(r.recv());
            }
            for _ in 0..inside {
                s.send(dropped.on_drop()).unwrap();
            }
            let other = r.clone();
            drop(r);
            assert_eq!(dropped.get(), taken, "one receiver is left");
            drop(other);
            assert_eq!(dropped.get(), taken + inside, "the sender need not go for that");
            drop(s);
            assert_eq!(dropped.get(), taken + inside);
        }
    });
}

#[test]
fn a_capacity_without_memory_panics_and_does_not_abort() {
    everywhere(|| {
        // More than an address space.
        for capacity in [1_usize << 46, 1 << 50, 1 << 56] {
            assert!(catch_unwind(|| bounded::<u64>(capacity)).is_err(), "{capacity}");
        }
    });
}

// The size of a select.

#[test]
fn sixty_four_arms_are_no_matter() {
    everywhere(|| {
        let channels: Vec<_> = (0..64).map(|i| open::<usize>(CAPACITIES[i % 4])).collect();
        let rs: Vec<_> = channels.iter().map(|(_, r)| r.clone()).collect();
        macro_rules! wait {
            ($($i:literal)+) => {
                select! {
                    $(recv(rs[$i]) -> message => { assert_eq!(message, Ok($i)); $i })+
                }
            };
        }
        let party = go(move || {
            Vec::from_iter((0..64).map(|_| {
                wait!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
                      32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63)
            }))
        });
        for i in 0..64 {
            channels[(i * 29) % 64].0.send((i * 29) % 64).unwrap();
        }
        let mut served = party.join();
        served.sort_unstable();
        assert_eq!(served, Vec::from_iter(0..64));
    });
}

#[test]
fn a_select_of_many_operations_fits_a_small_stack() {
    for processors in [1, 2] {
        run_on(processors, || {
            let channels: Vec<_> = (0..500).map(|i| open::<usize>(CAPACITIES[i % 4])).collect();
            let receivers: Vec<_> = channels.iter().map(|(_, r)| r.clone()).collect();
            let (gave_up_s, gave_up) = bounded(0);
            let party = task::Builder::new().stack_size(32 * 1024).spawn(move || {
                let mut select = Select::new();
                receivers.iter().for_each(|r| _ = select.recv(r));
                assert!(select.select_timeout(ms(1)).is_err());
                gave_up_s.send(()).unwrap();
                for _ in 0..4 {
                    let operation = select.select();
                    let index = operation.index();
                    assert_eq!(operation.recv(&receivers[index]), Ok(index));
                }
            });
            gave_up.recv().unwrap();
            for index in [499, 0, 250, 126] {
                breathe();
                channels[index].0.send(index).unwrap();
            }
            party.unwrap().join().unwrap();
        });
    }
}

// Cancellation, and runtimes that end.

/// Cancels a task in the middle of what it waits in, and tells whether it was.
fn cancel_in(wait: impl FnOnce() + Send + 'static) -> bool {
    let waits = Arc::new(AtomicBool::new(false));
    let task = spawn({
        let waits = waits.clone();
        move || {
            waits.store(true, SeqCst);
            wait();
        }
    });
    insist(|| waits.load(SeqCst).then_some(()));
    breathe();
    task.cancel();
    task.join().is_err_and(|error| error.is_cancelled())
}

#[test]
fn a_cancelled_receiver_takes_no_value_along() {
    for processors in [1, 2] {
        run_on(processors, || {
            for capacity in CAPACITIES {
                let (s, r) = open(capacity);
                for way in 0..4 {
                    let r = r.clone();
                    assert!(cancel_in(move || match way {
                        0 => _ = r.recv(),
                        1 => _ = r.recv_timeout(ms(60_000)),
                        2 => {
                            let mut select = Select::new();
                            select.recv(&r);
                            select.recv(&r);
                            select.ready();
                        }
                        _ => select! {
                            recv(r) -> _ => {}
                            recv(never::<i32>()) -> _ => {}
                        },
                    }));
                    if capacity == Some(0) {
                        assert_eq!(s.try_send(0), Err(TrySendError::Full(0)), "nobody waits any more");
                    }
                }
                let patient = spawn(move || Vec::from_iter(r));
                for value in 0..5 {
                    s.send(value).unwrap();
                }
                drop(s);
                assert_eq!(patient.join().unwrap(), [0, 1, 2, 3, 4]);
            }
        });
    }
}

#[test]
fn a_cancelled_sender_drops_its_value_and_sends_nothing() {
    for processors in [1, 2] {
        run_on(processors, || {
            for capacity in [Some(0), Some(2)] {
                let (s, r) = open::<CountsDrop>(capacity);
                let (inside, sent) = (Counter::default(), Counter::default());
                while s.try_send(inside.on_drop()).is_ok() {}
                let refused = inside.get();
                for way in 0..3 {
                    let (s, value) = (s.clone(), sent.on_drop());
                    assert!(cancel_in(move || match way {
                        0 => _ = s.send(value),
                        1 => _ = s.send_timeout(value, ms(60_000)),
                        _ => select! {
                            send(s, value) -> _ => {}
                            recv(never::<i32>()) -> _ => {}
                        },
                    }));
                    assert_eq!(sent.get(), way + 1);
                }
                assert_eq!(r.try_iter().count(), capacity.unwrap());
                assert_eq!((sent.get(), inside.get()), (3, refused + capacity.unwrap()));
                assert!(matches!(r.try_recv(), Err(TryRecvError::Empty)));
            }
        });
    }
}

#[test]
fn a_cancelled_party_disconnects_like_any_other() {
    for processors in [1, 2] {
        run_on(processors, || {
            for capacity in CAPACITIES {
                let (s, r) = open::<i32>(capacity);
                let (gate_s, gate) = bounded::<()>(0);
                let receiver = spawn(move || r.recv());
                assert!(cancel_in(move || {
                    let _s = s;
                    _ = gate.recv();
                }));
                assert_eq!(receiver.join().unwrap(), Err(RecvError));
                drop(gate_s);
            }
        });
    }
}

#[test]
fn cancellations_among_partners_lose_and_double_nothing() {
    for processors in [1, 2] {
        run_on(processors, || {
            for capacity in CAPACITIES {
                let (s, r) = open::<CountsDrop>(capacity);
                let (made, dropped) = (Counter::default(), Counter::default());
                let tasks: Vec<_> = (0..40)
                    .map(|i| {
                        let (s, r, made, dropped) = (s.clone(), r.clone(), made.clone(), dropped.clone());
                        spawn(move || match i % 4 {
                            0 => drop(r.recv()),
                            1 => {
                                made.add();
                                _ = s.send(dropped.on_drop());
                            }
                            2 => select! {
                                recv(r) -> message => drop(message),
                                recv(r) -> message => drop(message),
                            },
                            _ => select! {
                                send(s, { made.add(); dropped.on_drop() }) -> _ => {}
                                send(s, { made.add(); dropped.on_drop() }) -> _ => {}
                            },
                        })
                    })
                    .collect();
                for (i, task) in tasks.iter().enumerate() {
                    if i % 3 == 0 {
                        yield_now();
                    }
                    if i % 5 < 2 {
                        task.cancel();
                    }
                }
                drop(r);
                drop(s);
                // Those who wait for partners that were cancelled.
                breathe();
                tasks.iter().for_each(|task| task.cancel());
                for task in tasks {
                    if let Err(error) = task.join() {
                        assert!(error.is_cancelled());
                    }
                }
                assert_eq!(dropped.get(), made.get());
            }
        });
    }
}

#[test]
fn channels_outlive_the_runtime_that_their_parties_ran_in() {
    for capacity in CAPACITIES {
        let (s, r) = open::<usize>(capacity);
        let first = runtime(2);
        let task = first.spawn({
            let s = s.clone();
            move || _ = s.send(1)
        });
        assert_eq!(r.recv(), Ok(1));
        task.join().unwrap();
        // One that waits for ever is cancelled there.
        let r2 = r.clone();
        let waits = first.spawn(move || r2.recv());
        drop(first);
        assert!(waits.join().is_err_and(|error| error.is_cancelled()));
        let second = runtime(1);
        let task = second.spawn(move || r.recv());
        s.send(2).unwrap();
        assert_eq!(task.join().unwrap(), Ok(2));
        drop(second);
        assert_eq!(s.send(3), Err(SendError(3)));
    }
}

#[test]
fn tasks_of_two_runtimes_talk() {
    for capacity in CAPACITIES {
        let (ping_s, ping_r) = open(capacity);
        let (pong_s, pong_r) = open(capacity);
        let runtimes = [runtime(1), runtime(2)];
        let other = runtimes[0].spawn(move || {
            for value in ping_r.iter() {
                pong_s.send(value + 1).unwrap();
            }
        });
        let one = runtimes[1].spawn(move || {
            for value in 0..200 {
                ping_s.send(value).unwrap();
                assert_eq!(pong_r.recv(), Ok(value + 1));
            }
        });
        one.join().unwrap();
        other.join().unwrap();
    }
}

#[test]
fn waiting_tasks_leave_their_thread_to_others() {
    run_on(1, || {
        let (s, r) = bounded::<i32>(0);
        let (late_s, late_r): (_, Receiver<i32>) = unbounded();
        // A hundred wait in each way on the one thread there is, and it still has time for the one that ends it.
        let waiting: Vec<_> = (0..300)
            .map(|i| {
                let (r, late_r) = (r.clone(), late_r.clone());
                spawn(move || match i % 3 {
                    0 => r.recv().is_err(),
                    1 => late_r.recv_timeout(ms(60_000)).is_err(),
                    _ => select! {
                        recv(r) -> message => message.is_err(),
                        recv(late_r) -> message => message.is_err(),
                    },
                })
            })
            .collect();
        let ender = spawn(move || drop((s, late_s)));
        ender.join().unwrap();
        for task in waiting {
            assert!(task.join().unwrap());
        }
    });
}

#[test]
fn parties_that_started_before_and_after_a_partner_all_meet() {
    everywhere(|| {
        let (s, r) = bounded(0);
        for round in 0..10 {
            let senders = (0..3).map(|i| {
                let s = s.clone();
                go(move || s.send(3 * round + i).unwrap())
            });
            let senders = Vec::from_iter(senders);
            let receivers = Vec::from_iter((0..3).map(|_| {
                let r = r.clone();
                go(move || r.recv().unwrap())
            }));
            join_all(senders);
            let mut values = join_all(receivers);
            values.sort_unstable();
            assert_eq!(values, Vec::from_iter(3 * round..3 * round + 3));
        }
    });
}
