//! One operation in every phrasing that select has for it: what is ready goes through, once, and nothing else is touched.

use std::cell::Cell;

use greenloom::channel::{Receiver, Select, Sender, bounded, never};
use greenloom::select;
use test_support::everywhere::everywhere;

/// A channel that nobody receives from: as Go's nil channel, for senders.
fn ignored() -> (Sender<i32>, Receiver<i32>) {
    bounded(0)
}

/// The message of an arm that is not chosen.
fn not_chosen() -> i32 {
    panic!("was made all the same")
}

/// Runs the select with every subset of the optional arms.
macro_rules! every_subset {
    ($before:block [$($arms:tt)*] $after:block) => {
        $before
        select! { $($arms)* }
        $after
    };
    ($before:block [$($arms:tt)*] $after:block {$($arm:tt)*} $($more:tt)*) => {
        every_subset!($before [$($arms)* $($arm)*] $after $($more)*);
        every_subset!($before [$($arms)*] $after $($more)*);
    };
}

#[test]
fn a_value_is_received_whatever_else_is_in_the_select() {
    everywhere(|| {
        let ((s, r), (dummy_s, dummy_r)) = (bounded(1), ignored());
        let (n, x) = (Cell::new(0), Cell::new(0));
        macro_rules! cases {
            ({$($first:tt)*} {$($last:tt)*}) => {
                every_subset!(
                    { n.set(n.get() + 1); s.send(n.get()).unwrap() }
                    [$($first)* recv(r) -> res => x.set(res.unwrap()), $($last)*]
                    { assert_eq!(x.get(), n.get()) }
                    { send(dummy_s, 1) -> _ => panic!("dummy send"), }
                    { recv(dummy_r) -> _ => panic!("dummy receive"), }
                    { recv(never::<()>()) -> _ => panic!("never"), }
                );
            };
        }
        cases!({} {});
        cases!({ default => panic!("something is ready"), } {});
        cases!({} { default => panic!("something is ready"), });
        assert_eq!(n.get(), 24);
    });
}

#[test]
fn a_value_is_sent_whatever_else_is_in_the_select() {
    everywhere(|| {
        let ((s, r), (dummy_s, dummy_r)) = (bounded(1), ignored());
        let n = Cell::new(0);
        macro_rules! cases {
            ({$($first:tt)*} {$($last:tt)*}) => {
                every_subset!(
                    { n.set(n.get() + 1) }
                    [$($first)* send(s, n.get()) -> res => res.unwrap(), $($last)*]
                    { assert_eq!(r.try_recv(), Ok(n.get())) }
                    { send(dummy_s, 1) -> _ => panic!("dummy send"), }
                    { recv(dummy_r) -> _ => panic!("dummy receive"), }
                    { recv(never::<()>()) -> _ => panic!("never"), }
                );
            };
        }
        cases!({} {});
        cases!({ default => panic!("something is ready"), } {});
        cases!({} { default => panic!("something is ready"), });
        assert_eq!(n.get(), 24);
    });
}

#[test]
fn nothing_is_chosen_that_is_not_ready_whatever_else_is_in_the_select() {
    everywhere(|| {
        let (dummy_s, dummy_r) = ignored();
        let defaults = Cell::new(0);
        every_subset!(
            {}
            [default => defaults.set(defaults.get() + 1),]
            {}
            { send(dummy_s, not_chosen()) -> _ => panic!("dummy send"), }
            { recv(dummy_r) -> _ => panic!("dummy receive"), }
            { recv(never::<()>()) -> _ => panic!("never"), }
            { recv(&dummy_r) -> _ => panic!("dummy receive, again"), }
        );
        assert_eq!(defaults.get(), 16);
    });
}

/// The same with lists made at run time, and the real operation at every place in them.
#[test]
fn a_list_chooses_what_is_ready_wherever_it_stands() {
    everywhere(|| {
        let ((s, r), (dummy_s, dummy_r)) = (bounded(1), ignored());
        let nothing = never::<i32>();
        for subset in 0..8 {
            for place in 0..4 {
                for sends in [false, true] {
                    let mut select = Select::new();
                    let mut real = None;
                    for i in 0..4 {
                        if i == place {
                            real = Some(if sends { select.send(&s) } else { select.recv(&r) });
                        }
                        match i {
                            0 if subset & 1 != 0 => select.send(&dummy_s),
                            1 if subset & 2 != 0 => select.recv(&dummy_r),
                            2 if subset & 4 != 0 => select.recv(&nothing),
                            _ => continue,
                        };
                    }
                    if !sends {
                        assert!(select.try_select().is_err());
                        s.send(5).unwrap();
                    }
                    let operation = if subset % 2 == 0 { select.select() } else { select.try_select().unwrap() };
                    assert_eq!(Some(operation.index()), real);
                    if sends {
                        operation.send(&s, 6).unwrap();
                        assert_eq!(r.recv(), Ok(6));
                    } else {
                        assert_eq!(operation.recv(&r), Ok(5));
                    }
                }
            }
        }
    });
}

/// Unlike in Go, where every message is made beforehand, only the chosen arm's is, as crossbeam's users know it.
#[test]
fn channels_are_evaluated_once_in_order_and_then_the_message_of_the_chosen_arm() {
    everywhere(|| {
        fn at<T>(steps: &Cell<u32>, step: u32, value: T) -> T {
            assert_eq!(steps.replace(step), step - 1, "out of order");
            value
        }
        let ((s, r), (dummy_s, dummy_r)) = (bounded(1), ignored());
        let steps = Cell::new(0);
        select! {
            recv(at(&steps, 1, &dummy_r)) -> _ => unreachable!(),
            send(at(&steps, 2, &s), at(&steps, 5, 7)) -> res => at(&steps, 6, res).unwrap(),
            send(at(&steps, 3, &dummy_s), not_chosen()) -> _ => unreachable!(),
            recv(at(&steps, 4, never::<i32>())) -> _ => unreachable!(),
        }
        assert_eq!(steps.replace(0), 6);
        select! {
            send(at(&steps, 1, &dummy_s), not_chosen()) -> _ => unreachable!(),
            recv(at(&steps, 2, &r)) -> res => assert_eq!(at(&steps, 4, res), Ok(7)),
            recv(at(&steps, 3, &dummy_r)) -> _ => unreachable!(),
            default => unreachable!(),
        }
        assert_eq!(steps.get(), 4);
    });
}

#[test]
fn only_the_chosen_arm_runs() {
    everywhere(|| {
        let ((s, r), (_sends, quiet)) = (bounded(1), ignored());
        s.send(42).unwrap();
        let mut x = 0;
        select! {
            recv(quiet) -> res => x = res.unwrap() + 1,
            recv(r) -> res => x += res.unwrap(),
        }
        assert_eq!(x, 42);
    });
}
