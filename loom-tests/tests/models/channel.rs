//! Channels under every schedule: plain threads of the model as waiters, and tasks of a runtime with one machine.
//!
//! Time is a thread's being late: a deadline that was over before the wait began is noticed at whatever moment loom lets the waiter, or
//! the machine with its timer, come to it.

use std::time::Instant;

use crate::common::{Data, model};
use crate::parts::{Drops, runtime};
use greenloom::channel::{Select, bounded, unbounded};
use greenloom::{select, yield_now};
use loom::sync::Arc;
use loom::thread;

// Rendezvous.

#[test]
fn a_sender_and_a_receiver_meet() {
    model(8, || {
        let (s, r) = bounded(0);
        let sender = thread::spawn(move || s.send(1).unwrap());
        assert_eq!(r.recv(), Ok(1));
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_meet_a_receiver() {
    model(3, || {
        let (s, r) = bounded(0);
        let senders = [(s.clone(), 1), (s, 2)].map(|(s, value)| thread::spawn(move || s.send(value).unwrap()));
        assert_eq!(r.recv().unwrap() + r.recv().unwrap(), 3);
        assert!(r.recv().is_err());
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn a_task_and_a_thread_meet() {
    model(2, || {
        let runtime = runtime();
        let (s, r) = bounded(0);
        let task = runtime.spawn(move || r.recv().unwrap());
        s.send(1).unwrap();
        assert_eq!(task.join().unwrap(), 1);
    });
}

#[test]
fn one_of_two_tasks_meets_a_thread() {
    model(2, || {
        let runtime = runtime();
        let (s, r) = bounded(0);
        let tasks = [r.clone(), r].map(|r| runtime.spawn(move || usize::from(r.recv().is_ok())));
        s.send(1).unwrap();
        drop(s);
        assert_eq!(tasks.into_iter().map(|task| task.join().unwrap()).sum::<usize>(), 1);
    });
}

// Buffers.

#[test]
fn a_ring_of_one_is_full_and_empty_by_turns() {
    model(8, || {
        let (s, r) = bounded(1);
        let sender = thread::spawn(move || (1..=3).for_each(|value| s.send(value).unwrap()));
        assert!(r.iter().eq(1..=3));
        sender.join().unwrap();
    });
}

#[test]
fn two_senders_share_a_ring_of_one() {
    model(3, || {
        let (s, r) = bounded(1);
        let senders = [(s.clone(), 1), (s, 3)].map(|(s, value)| {
            thread::spawn(move || {
                s.send(value).unwrap();
                s.send(value + 1).unwrap();
            })
        });
        let received: Vec<_> = r.iter().collect();
        for values in [[1, 2], [3, 4]] {
            assert!(received.iter().filter(|value| values.contains(value)).eq(&values));
        }
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

#[test]
fn an_unbounded_channel_keeps_the_order() {
    model(7, || {
        let (s, r) = unbounded();
        let sender = thread::spawn(move || (1..=3).for_each(|value| s.send(value).unwrap()));
        assert!(r.iter().eq(1..=3));
        sender.join().unwrap();
    });
}

#[test]
fn two_receivers_share_an_unbounded_channel() {
    model(4, || {
        let (s, r) = unbounded();
        let other = {
            let r = r.clone();
            thread::spawn(move || r.iter().sum::<usize>())
        };
        let sender = thread::spawn(move || (1..=2).for_each(|value| s.send(value).unwrap()));
        let received = r.iter().sum::<usize>();
        assert_eq!(received + other.join().unwrap(), 3);
        sender.join().unwrap();
    });
}

#[test]
fn a_task_and_a_thread_share_a_ring_of_one() {
    model(2, || {
        let runtime = runtime();
        let (s, r) = bounded(1);
        let task = runtime.spawn(move || r.iter().eq(1..=2));
        s.send(1).unwrap();
        s.send(2).unwrap();
        drop(s);
        assert!(task.join().unwrap());
    });
}

// The end of a side.

#[test]
fn the_last_sender_goes_while_a_receiver_waits() {
    model(7, || {
        let (s, r) = bounded::<usize>(0);
        let before = Arc::new([Data::new(), Data::new()]);
        let others = go_one_by_one([s.clone(), s], &before);
        assert!(r.recv().is_err());
        assert_eq!((before[0].get(), before[1].get()), (1, 1));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// Each handle goes on a thread of its own, which has done something before.
fn go_one_by_one<H: Send + 'static>(handles: [H; 2], before: &Arc<[Data; 2]>) -> Vec<thread::JoinHandle<()>> {
    let go = |(i, handle): (usize, H)| {
        let before = before.clone();
        thread::spawn(move || {
            before[i].add();
            drop(handle);
        })
    };
    handles.into_iter().enumerate().map(go).collect()
}

#[test]
fn both_receivers_go_while_a_sender_waits() {
    model(7, || {
        let (s, r) = bounded(0);
        let before = Arc::new([Data::new(), Data::new()]);
        let others = go_one_by_one([r.clone(), r], &before);
        assert_eq!(s.send(1).unwrap_err().0, 1);
        assert_eq!((before[0].get(), before[1].get()), (1, 1));
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

fn the_last_receiver_goes(capacity: usize) {
    let drops = Drops::default();
    let (s, r) = bounded(capacity);
    for _ in 0..capacity {
        s.send(drops.message()).unwrap();
    }
    let other = thread::spawn(move || drop(r));
    let message = s.send(drops.message()).unwrap_err();
    // The receiver may be about to drop the others.
    assert!(drops.count() <= capacity, "the message was handed back");
    other.join().unwrap();
    assert_eq!(drops.count(), capacity);
    drop(message);
    assert_eq!(drops.count(), capacity + 1);
}

#[test]
fn the_last_receiver_goes_while_a_sender_waits_for_it() {
    model(8, || the_last_receiver_goes(0));
}

#[test]
fn the_last_receiver_goes_while_a_sender_waits_for_room() {
    model(8, || the_last_receiver_goes(1));
}

#[test]
fn messages_that_nobody_receives_are_dropped_once() {
    model(5, || {
        let drops = Drops::default();
        let (s, r) = unbounded();
        let sender = {
            let drops = drops.clone();
            thread::spawn(move || (0..2).for_each(|_| drop(s.send(drops.message()))))
        };
        let other = {
            let r = r.clone();
            thread::spawn(move || drop(r))
        };
        drop(r.try_recv());
        drop(r);
        sender.join().unwrap();
        other.join().unwrap();
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn a_task_waits_while_the_last_handle_of_the_other_side_goes() {
    model(2, || {
        let runtime = runtime();
        let drops = Drops::default();
        let ((s, r), (message_s, message_r)) = (bounded::<usize>(0), bounded(0));
        let task = {
            let drops = drops.clone();
            runtime.spawn(move || (r.recv().is_err(), message_s.send(drops.message()).is_err()))
        };
        drop(s);
        drop(message_r);
        assert_eq!(task.join().unwrap(), (true, true));
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_select_learns_of_the_end() {
    model(7, || {
        let ((s1, r1), (s2, r2)) = (bounded::<usize>(0), bounded::<usize>(0));
        let others = [thread::spawn(move || drop(s1)), thread::spawn(move || drop(r2))];
        select! {
            recv(r1) -> message => assert!(message.is_err()),
            send(s2, 1) -> sent => assert!(sent.is_err()),
        }
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

// Time.

#[test]
fn a_receiver_whose_time_is_up_meets_a_sender_or_does_not() {
    model(8, || {
        let (s, r) = bounded(0);
        let sender = thread::spawn(move || s.try_send(1).is_ok());
        let received = r.recv_deadline(Instant::now());
        assert_eq!(sender.join().unwrap(), received == Ok(1));
    });
}

#[test]
fn a_sender_whose_time_is_up_meets_a_receiver_or_does_not() {
    model(8, || {
        let drops = Drops::default();
        let (s, r) = bounded(0);
        let receiver = thread::spawn(move || r.try_recv().is_ok());
        let sent = s.send_deadline(drops.message(), Instant::now());
        let is_ok = sent.is_ok();
        drop(sent);
        assert_eq!(receiver.join().unwrap(), is_ok);
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_sender_whose_time_is_up_gets_room_or_does_not() {
    model(8, || {
        let (s, r) = bounded(1);
        s.send(1).unwrap();
        let receiver = {
            let r = r.clone();
            thread::spawn(move || assert_eq!(r.try_recv(), Ok(1)))
        };
        let sent = s.send_deadline(2, Instant::now()).is_ok();
        receiver.join().unwrap();
        assert_eq!(r.try_recv().is_ok(), sent);
    });
}

#[test]
fn a_receiving_task_whose_time_is_up_meets_a_sender_or_does_not() {
    model(3, || {
        let over = Instant::now();
        let runtime = runtime();
        let (s, r) = bounded(0);
        let task = runtime.spawn(move || r.recv_deadline(over).is_ok());
        let sent = s.try_send(1).is_ok();
        assert_eq!(task.join().unwrap(), sent);
    });
}

#[test]
fn a_sending_task_whose_time_is_up_meets_a_receiver_or_does_not() {
    model(3, || {
        let over = Instant::now();
        let runtime = runtime();
        let drops = Drops::default();
        let (s, r) = bounded(0);
        let message = drops.message();
        let task = runtime.spawn(move || s.send_deadline(message, over).is_ok());
        let received = r.try_recv().is_ok();
        assert_eq!(task.join().unwrap(), received);
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_selecting_task_whose_time_is_up_meets_a_sender_or_does_not() {
    model(3, || {
        let over = Instant::now();
        let runtime = runtime();
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let task = runtime.spawn(move || {
            let mut select = Select::new();
            select.recv(&r1);
            select.recv(&r2);
            match select.select_deadline(over) {
                Ok(selected) if selected.index() == 0 => (selected.recv(&r1).is_ok(), false),
                Ok(selected) => (false, selected.recv(&r2).is_ok()),
                Err(_) => (false, false),
            }
        });
        let sent = (s1.try_send(1).is_ok(), s2.try_send(2).is_ok());
        assert!(task.join().unwrap() == sent);
    });
}

// Cancellation.
//
// Both models of a cancelled select stop at one forced switch. At two, loom's lock may be held by one thread while another begins to
// unwind; std, which counts unwindings for all threads of a model together, then takes the lock for poisoned.

#[test]
fn a_cancelled_receiver_has_the_message_or_leaves_it() {
    model(2, || {
        let runtime = runtime();
        let (s, r) = bounded(0);
        let task = runtime.spawn(move || r.recv().unwrap());
        let sender = thread::spawn({
            let s = s.clone();
            move || s.try_send(1).is_ok()
        });
        task.cancel();
        assert_eq!(sender.join().unwrap(), task.join().is_ok());
    });
}

#[test]
fn a_cancelled_sender_has_given_the_message_or_drops_it() {
    model(2, || {
        let runtime = runtime();
        let drops = Drops::default();
        let (s, r) = bounded(0);
        let message = drops.message();
        let task = runtime.spawn(move || s.send(message).unwrap());
        let receiver = thread::spawn({
            let r = r.clone();
            move || r.try_recv().is_ok()
        });
        task.cancel();
        assert_eq!(receiver.join().unwrap(), task.join().is_ok());
        assert_eq!(drops.count(), 1);
    });
}

#[test]
fn a_cancelled_sender_has_got_room_or_leaves_it() {
    model(2, || {
        let runtime = runtime();
        let drops = Drops::default();
        let (s, r) = bounded(1);
        s.send(drops.message()).unwrap();
        let message = drops.message();
        let task = runtime.spawn(move || s.send(message).unwrap());
        let receiver = {
            let r = r.clone();
            thread::spawn(move || drop(r.try_recv().unwrap()))
        };
        task.cancel();
        receiver.join().unwrap();
        assert_eq!(task.join().is_ok(), r.try_recv().is_ok());
        assert_eq!(drops.count(), 2);
    });
}

#[test]
fn a_cancelled_select_has_one_message_or_leaves_both() {
    model(1, || {
        let runtime = runtime();
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let task = runtime.spawn(move || {
            select! {
                recv(r1) -> message => message.unwrap(),
                recv(r2) -> message => message.unwrap(),
            }
        });
        let sender = thread::spawn({
            let (s1, s2) = (s1.clone(), s2.clone());
            move || [s1.try_send(1).is_ok(), s2.try_send(2).is_ok()]
        });
        task.cancel();
        let received = task.join().unwrap_or(0);
        assert_eq!(sender.join().unwrap(), [received == 1, received == 2]);
    });
}

/// Two wait for one message, and the first is cancelled.
#[test]
fn a_message_is_not_lost_to_a_cancelled_task() {
    model(2, || {
        let runtime = runtime();
        let (s, r) = bounded(0);
        let task = {
            let r = r.clone();
            runtime.spawn(move || r.recv().unwrap())
        };
        let receiver = thread::spawn(move || r.recv().unwrap());
        task.cancel();
        s.send(1).unwrap();
        if task.join().is_ok() {
            s.send(1).unwrap();
        }
        assert_eq!(receiver.join().unwrap(), 1);
    });
}

/// The task unwinds out of the message that it was selected for.
#[test]
fn a_cancelled_select_releases_its_partner() {
    model(1, || {
        let runtime = runtime();
        let (s, r) = bounded(0);
        let task = runtime.spawn(move || {
            select! {
                send(s, { yield_now(); 1 }) -> sent => sent.unwrap(),
            }
        });
        let receiver = thread::spawn(move || r.recv());
        task.cancel();
        assert_eq!(task.join().is_ok(), receiver.join().unwrap() == Ok(1));
    });
}
