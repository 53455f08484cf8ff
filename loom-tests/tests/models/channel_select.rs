//! Selects under every schedule: their races, what they are promised, and whom they meet.

use std::time::Instant;

use crate::common::model;
use crate::parts::{Drops, runtime};
use greenloom::channel::internal::{Chosen, Handle, Limit, Selected};
use greenloom::channel::{Receiver, Select, Sender, bounded, unbounded};
use greenloom::select;
use loom::thread;

/// A message for which a select has no room in its frame: it is promised.
type Large = [usize; 8];

fn large(value: usize) -> Large {
    [value; 8]
}

/// Waits until the one operation can be chosen; it is still to be completed, or released by a drop.
fn choose(handle: &impl Handle) -> Selected<'_> {
    Chosen::among(&[handle.operation(0)], Limit::Never, true).unwrap().hold()
}

// Select.

fn a_select_takes_one_of_two_messages(capacity: usize) {
    let ((s1, r1), (s2, r2)) = (bounded(capacity), bounded(capacity));
    let senders = [(s1, 1), (s2, 2)].map(|(s, value)| thread::spawn(move || s.send(value).unwrap()));
    select! {
        recv(r1) -> message => {
            assert_eq!(message, Ok(1));
            assert_eq!(r2.recv(), Ok(2));
        }
        recv(r2) -> message => {
            assert_eq!(message, Ok(2));
            assert_eq!(r1.recv(), Ok(1));
        }
    }
    senders.into_iter().for_each(|sender| sender.join().unwrap());
}

#[test]
fn a_select_takes_one_of_two_messages_that_wait() {
    model(5, || a_select_takes_one_of_two_messages(0));
}

#[test]
fn a_select_takes_one_of_two_messages_that_come() {
    model(6, || a_select_takes_one_of_two_messages(1));
}

/// Partners that do not wait: whoever says that it has sent has met the select, which may give up at any moment.
#[test]
fn two_senders_race_for_a_select_that_gives_up() {
    model(5, || {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let senders = [(s1.clone(), 1), (s2.clone(), 2)].map(|(s, value)| thread::spawn(move || s.try_send(value).is_ok()));
        let mut select = Select::new();
        select.recv(&r1);
        select.recv(&r2);
        let received = match select.select_deadline(Instant::now()) {
            Ok(selected) if selected.index() == 0 => selected.recv(&r1).unwrap(),
            Ok(selected) => selected.recv(&r2).unwrap(),
            Err(_) => 0,
        };
        assert_eq!(senders.map(|sender| sender.join().unwrap()), [received == 1, received == 2]);
    });
}

#[test]
fn two_receivers_race_for_a_select_that_gives_up() {
    model(4, || {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let receivers = [r1.clone(), r2.clone()].map(|r| thread::spawn(move || r.try_recv()));
        let mut select = Select::new();
        select.send(&s1);
        select.send(&s2);
        let sent = match select.select_deadline(Instant::now()) {
            Ok(selected) if selected.index() == 0 => selected.send(&s1, 1).map(|()| [Some(1), None]).unwrap(),
            Ok(selected) => selected.send(&s2, 2).map(|()| [None, Some(2)]).unwrap(),
            Err(_) => [None, None],
        };
        assert_eq!(receivers.map(|receiver| receiver.join().unwrap().ok()), sent);
    });
}

#[test]
fn a_message_stays_where_a_select_gives_up() {
    model(8, || {
        let (s, r) = bounded(1);
        let sender = thread::spawn(move || s.send(1).unwrap());
        let mut select = Select::new();
        select.recv(&r);
        let received = select.select_deadline(Instant::now()).map(|selected| selected.recv(&r).unwrap());
        sender.join().unwrap();
        assert_eq!(received.is_ok(), r.try_recv().is_err());
    });
}

/// Sends 1 to one channel or receives from the other: what was received, or 0.
fn exchange(s: &Sender<usize>, r: &Receiver<usize>) -> usize {
    select! {
        send(s, 1) -> sent => {
            sent.unwrap();
            0
        }
        recv(r) -> message => message.unwrap(),
    }
}

#[test]
fn two_selects_meet() {
    model(7, || {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let other = thread::spawn(move || {
            let received = exchange(&s2, &r1);
            (received, s2, r1)
        });
        let received = exchange(&s1, &r2);
        let (other_received, s2, r1) = other.join().unwrap();
        assert_eq!(received + other_received, 1, "one of them has sent");
        // Nothing is left behind.
        assert!(r1.try_recv().is_err() && r2.try_recv().is_err());
        assert!(s1.try_send(1).is_err() && s2.try_send(1).is_err());
    });
}

#[test]
fn two_selects_that_give_up_meet_or_do_not() {
    fn exchange(s: &Sender<usize>, r: &Receiver<usize>) -> (bool, bool) {
        let mut select = Select::new();
        select.recv(r);
        select.send(s);
        match select.select_deadline(Instant::now()) {
            Ok(selected) if selected.index() == 0 => (selected.recv(r).is_ok(), false),
            Ok(selected) => (false, selected.send(s, 1).is_ok()),
            Err(_) => (false, false),
        }
    }
    model(5, || {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let other = thread::spawn({
            let (s2, r1) = (s2.clone(), r1.clone());
            move || exchange(&s2, &r1)
        });
        let (received, sent) = exchange(&s1, &r2);
        assert_eq!(other.join().unwrap(), (sent, received));
        drop((r1, s2));
    });
}

#[test]
fn two_selects_meet_in_a_message_that_is_promised() {
    model(5, || {
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let exchange = |s: Sender<Large>, r: Receiver<Large>| {
            select! {
                recv(r) -> message => message.unwrap()[7],
                send(s, large(1)) -> sent => sent.map_or(9, |()| 0),
            }
        };
        let other = thread::spawn(move || exchange(s2, r1));
        let received = exchange(s1, r2);
        assert_eq!(received + other.join().unwrap(), 1, "one of them has sent");
    });
}

/// Each has arms on both sides of the channel, and neither meets itself.
#[test]
fn two_selects_on_both_sides_of_one_channel_meet() {
    model(7, || {
        let (s, r) = bounded(0);
        let other = {
            let (s, r) = (s.clone(), r.clone());
            thread::spawn(move || exchange(&s, &r))
        };
        let received = exchange(&s, &r);
        assert_eq!(received + other.join().unwrap(), 1, "one of them has sent");
    });
}

#[test]
fn a_task_selects_between_two_threads() {
    model(1, || {
        let runtime = runtime();
        let ((s1, r1), (s2, r2)) = (bounded(0), bounded(0));
        let task = runtime.spawn(move || {
            select! {
                recv(r1) -> message => (message.unwrap(), r2.recv().unwrap()),
                recv(r2) -> message => (r1.recv().unwrap(), message.unwrap()),
            }
        });
        let sender = thread::spawn(move || s2.send(2).unwrap());
        s1.send(1).unwrap();
        sender.join().unwrap();
        assert_eq!(task.join().unwrap(), (1, 2));
    });
}

// Promises.

#[test]
fn a_selected_sender_meets_a_receiver() {
    model(8, || {
        let (s, r) = bounded(0);
        let receiver = thread::spawn(move || r.recv());
        choose(&s).send(&s, 1).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(1));
    });
}

#[test]
fn a_receiver_whose_time_is_up_does_not_leave_a_meeting() {
    model(5, || {
        let (s, r) = bounded(0);
        let receiver = thread::spawn({
            let r = r.clone();
            move || r.recv_deadline(Instant::now()).is_ok()
        });
        let chosen = Chosen::among(&[s.operation(0)], Limit::Now, true);
        let sent = chosen.is_some_and(|chosen| chosen.hold().send(&s, 1).is_ok());
        assert_eq!(receiver.join().unwrap(), sent);
    });
}

#[test]
fn a_selected_sender_that_releases_tells_its_receiver() {
    model(8, || {
        let (s, r) = bounded(0);
        let receiver = thread::spawn(move || r.recv());
        drop(choose(&s));
        s.send(1).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(1));
    });
}

#[test]
fn a_selected_sender_that_releases_and_goes_tells_a_select() {
    model(8, || {
        let (s, r) = bounded::<usize>(0);
        let receiver = thread::spawn(move || select! { recv(r) -> message => message });
        drop(choose(&s));
        drop(s);
        assert!(receiver.join().unwrap().is_err());
    });
}

/// Both sides are selected, and each completes its operation or releases it.
fn both_selected(sends: bool, receives: bool) {
    let (s, r) = bounded(0);
    let receiver = thread::spawn(move || {
        let selected = choose(&r);
        if receives {
            return selected.recv(&r).unwrap();
        }
        drop(selected);
        r.recv().unwrap()
    });
    let selected = choose(&s);
    if sends {
        selected.send(&s, large(1)).unwrap();
    } else {
        drop(selected);
        s.send(large(1)).unwrap();
    }
    assert_eq!(receiver.join().unwrap(), large(1));
}

#[test]
fn two_selected_sides_meet() {
    model(8, || both_selected(true, true));
}

#[test]
fn a_selected_receiver_outlives_its_partner() {
    model(8, || both_selected(false, true));
}

#[test]
fn a_selected_sender_outlives_its_partner() {
    model(8, || both_selected(true, false));
}

#[test]
fn two_selected_sides_part() {
    model(8, || both_selected(false, false));
}

/// A selected sender and two receivers, of which one is selected too: for each who meets there is one on the other side.
#[test]
fn a_selected_sender_meets_one_of_two() {
    model(3, || {
        let (s, r) = bounded(0);
        let plain = {
            let r = r.clone();
            thread::spawn(move || r.recv().unwrap())
        };
        let selected = thread::spawn(move || choose(&r).recv(&r).unwrap());
        choose(&s).send(&s, large(1)).unwrap();
        s.send(large(2)).unwrap();
        assert_eq!(plain.join().unwrap()[0] + selected.join().unwrap()[0], 3);
    });
}

fn a_released_message_goes_to_who_waits(capacity: Option<usize>) {
    let (s, r) = capacity.map_or_else(unbounded, bounded);
    let sender = {
        let s = s.clone();
        thread::spawn(move || s.send(large(1)).unwrap())
    };
    let selected = choose(&r);
    let receiver = {
        let r = r.clone();
        thread::spawn(move || r.recv().unwrap())
    };
    drop(selected);
    assert_eq!(receiver.join().unwrap(), large(1));
    sender.join().unwrap();
    assert!(r.try_recv().unwrap_err().is_empty());
    drop(s);
}

#[test]
fn a_released_message_of_a_sender_goes_to_who_waits() {
    model(8, || a_released_message_goes_to_who_waits(Some(0)));
}

#[test]
fn a_released_message_of_a_buffer_goes_to_who_waits() {
    model(8, || a_released_message_goes_to_who_waits(None));
}

#[test]
fn a_promised_message_leaves_room_when_it_is_fetched() {
    model(8, || {
        let (s, r) = bounded(1);
        s.send(large(1)).unwrap();
        let sender = thread::spawn(move || s.send(large(2)).unwrap());
        assert_eq!(choose(&r).recv(&r), Ok(large(1)));
        sender.join().unwrap();
        assert_eq!(r.recv(), Ok(large(2)));
    });
}

#[test]
fn a_released_room_goes_to_who_waits() {
    model(8, || {
        let (s, r) = bounded(1);
        let selected = choose(&s);
        let sender = {
            let s = s.clone();
            thread::spawn(move || s.send(1).unwrap())
        };
        drop(selected);
        assert_eq!(r.recv(), Ok(1));
        sender.join().unwrap();
    });
}

#[test]
fn a_promised_room_goes_with_the_last_receiver() {
    model(8, || {
        let drops = Drops::default();
        let (s, r) = bounded(1);
        let selected = choose(&s);
        let other = thread::spawn(move || drop(r));
        drop(selected.send(&s, drops.message()));
        other.join().unwrap();
        assert_eq!(drops.count(), 1);
    });
}

// Readiness.

fn ready_to_receive(capacity: usize) {
    let (s, r) = bounded(capacity);
    let sender = thread::spawn(move || {
        s.send(1).unwrap();
        s.send(2).unwrap();
    });
    for value in 1..=2 {
        let mut select = Select::new();
        select.recv(&r);
        assert_eq!(select.ready(), 0);
        assert_eq!(r.try_recv(), Ok(value));
    }
    sender.join().unwrap();
}

#[test]
fn a_watcher_sees_a_sender() {
    model(8, || ready_to_receive(0));
}

#[test]
fn a_watcher_sees_a_message() {
    model(8, || ready_to_receive(1));
}

#[test]
fn a_watcher_sees_a_receiver() {
    model(8, || {
        let (s, r) = bounded(0);
        let receiver = thread::spawn(move || r.recv().unwrap() + r.recv().unwrap());
        for value in 1..=2 {
            let mut select = Select::new();
            select.send(&s);
            assert_eq!(select.ready(), 0);
            s.try_send(value).unwrap();
        }
        assert_eq!(receiver.join().unwrap(), 3);
    });
}

#[test]
fn a_watcher_sees_room() {
    model(8, || {
        let (s, r) = bounded(1);
        s.send(1).unwrap();
        let receiver = {
            let r = r.clone();
            thread::spawn(move || r.recv().unwrap())
        };
        let mut select = Select::new();
        select.send(&s);
        assert_eq!(select.ready(), 0);
        s.try_send(2).unwrap();
        assert_eq!(receiver.join().unwrap(), 1);
        assert_eq!(r.recv(), Ok(2));
    });
}

#[test]
fn a_watcher_sees_a_select() {
    model(8, || {
        let (s, r) = bounded(0);
        let sender = thread::spawn(move || select! { send(s, 1) -> sent => sent.unwrap() });
        let mut select = Select::new();
        select.recv(&r);
        assert_eq!(select.ready(), 0);
        assert_eq!(r.try_recv(), Ok(1));
        sender.join().unwrap();
    });
}

#[test]
fn a_watcher_sees_the_end_of_the_senders() {
    model(8, || {
        let (s, r) = bounded::<usize>(0);
        let other = thread::spawn(move || drop(s));
        let mut select = Select::new();
        select.recv(&r);
        assert_eq!(select.ready(), 0);
        assert!(r.try_recv().unwrap_err().is_disconnected());
        other.join().unwrap();
    });
}

#[test]
fn a_watcher_sees_the_end_of_the_receivers() {
    model(8, || {
        let (s, r) = bounded(1);
        s.send(1).unwrap();
        let other = thread::spawn(move || drop(r));
        let mut select = Select::new();
        select.send(&s);
        assert_eq!(select.ready(), 0);
        assert!(s.try_send(2).unwrap_err().is_disconnected());
        other.join().unwrap();
    });
}
