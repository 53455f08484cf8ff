//! `select!` and `select_biased!`: what they accept, and what they evaluate when.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use test_support::channel;
use test_support::channel::{Receiver, RecvError, SendError, Sender, after, bounded, never, select, select_biased, unbounded};
use test_support::everywhere::{breathe, everywhere, go, ms};

// What it evaluates, and when.

#[test]
fn channels_are_evaluated_once_each_in_order_and_messages_only_when_chosen() {
    everywhere(|| {
        let log = RefCell::new(Vec::new());
        fn noted<T>(log: &RefCell<Vec<&'static str>>, what: &'static str, value: T) -> T {
            log.borrow_mut().push(what);
            value
        }
        let (s, r) = unbounded();
        let full = bounded::<i32>(0);
        select! {
            send(noted(&log, "full", &full.0), noted(&log, "its message", 1)) -> _ => panic!("nobody receives"),
            recv(noted(&log, "never", never::<i32>())) -> _ => panic!("never"),
            send(noted(&log, "s", &s), noted(&log, "the message", 2)) -> result => noted(&log, "the arm", result).unwrap(),
            default(noted(&log, "timeout", ms(60_000))) => panic!("s has room"),
        }
        assert_eq!(*log.borrow(), ["full", "never", "s", "timeout", "the message", "the arm"]);
        log.borrow_mut().clear();
        assert_eq!(r.recv(), Ok(2));
        select! {
            recv(noted(&log, "r", &r)) -> _ => panic!("nothing is left"),
            send(noted(&log, "full", &full.0), noted(&log, "its message", 1)) -> _ => panic!("nobody receives"),
            default => noted(&log, "default", ()),
        }
        assert_eq!(*log.borrow(), ["r", "full", "default"]);
        log.borrow_mut().clear();
        select! {
            recv(noted(&log, "r", &r)) -> _ => panic!("nothing is left"),
            default(noted(&log, "timeout", ms(1))) => noted(&log, "default", ()),
        }
        assert_eq!(*log.borrow(), ["r", "timeout", "default"]);
    });
}

#[test]
fn a_message_may_use_the_channels_itself() {
    everywhere(|| {
        let (s, r) = bounded(0);
        let receiver = go({
            let r = r.clone();
            move || r.recv()
        });
        // The receiver belongs to the select, and so the message can come from another sender of the same channel.
        select! {
            send(s, {
                let other = go({
                    let s = s.clone();
                    move || s.send(10)
                });
                let value = r.recv().unwrap();
                other.join().unwrap();
                value + 1
            }) -> result => result.unwrap(),
            default(ms(60_000)) => panic!("somebody receives"),
        }
        assert_eq!(receiver.join(), Ok(11));
    });
}

#[test]
fn a_panic_in_the_expression_of_a_channel_takes_nothing() {
    everywhere(|| {
        let (s, r) = unbounded();
        s.send(1).unwrap();
        let explode = || -> Receiver<i32> { std::panic::resume_unwind(Box::new("receiver")) };
        let result = catch_unwind(AssertUnwindSafe(|| {
            select! {
                recv(r) -> _ => panic!("it is too early for that"),
                recv(explode()) -> _ => unreachable!(),
            }
        }));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "receiver");
        let explode = || -> Sender<i32> { std::panic::resume_unwind(Box::new("sender")) };
        let evaluated = Cell::new(false);
        let result = catch_unwind(AssertUnwindSafe(|| {
            select! {
                send(explode(), { evaluated.set(true); 1 }) -> _ => unreachable!(),
                recv(r) -> _ => panic!("it is too early for that"),
            }
        }));
        assert_eq!(*result.unwrap_err().downcast::<&str>().unwrap(), "sender");
        assert!(!evaluated.get());
        assert_eq!(r.try_recv(), Ok(1));
    });
}

#[test]
fn a_panic_in_an_arm_leaves_the_channel() {
    everywhere(|| {
        let (s, r) = bounded(2);
        s.send(1).unwrap();
        let result = catch_unwind(AssertUnwindSafe(|| {
            select! {
                recv(r) -> message => std::panic::resume_unwind(Box::new(message)),
                recv(never::<i32>()) -> _ => (),
            }
        }));
        assert_eq!(*result.unwrap_err().downcast::<Result<i32, RecvError>>().unwrap(), Ok(1));
        let result = catch_unwind(AssertUnwindSafe(|| {
            select! {
                send(s, 2) -> _ => std::panic::resume_unwind(Box::new(())),
                recv(never::<i32>()) -> _ => (),
            }
        }));
        assert!(result.is_err());
        assert_eq!(r.try_recv(), Ok(2));
        s.send(3).unwrap();
        assert_eq!(r.recv(), Ok(3));
    });
}

#[test]
fn a_temporary_channel_lives_through_the_select() {
    everywhere(|| {
        fn one_shot(value: i32) -> Receiver<i32> {
            let (s, r) = bounded(1);
            s.send(value).unwrap();
            r
        }
        let message = select! {
            recv(one_shot(4)) -> message => message,
            recv(never::<i32>()) -> _ => panic!("never"),
        };
        assert_eq!(message, Ok(4));
        assert_eq!(select! { recv(one_shot(5)) -> message => message }, Ok(5));
        assert_eq!(select! { recv(one_shot(6)) -> message => message, default => panic!() }, Ok(6));
        assert_eq!(select! { recv(one_shot(7)) -> message => message, default(ms(60_000)) => panic!() }, Ok(7));
        assert!(select! { recv(after(ms(1))) -> message => message.is_ok() });
        assert_eq!(select! { send(unbounded().0, 8) -> result => result }, Ok(()));
    });
}

// What it accepts.

#[test]
fn arms_may_be_blocks_or_expressions_with_or_without_commas() {
    everywhere(|| {
        let (s, r) = unbounded();
        let mut value = 0;
        for _ in 0..50 {
            value += select! {
                recv(r) -> message => { message.unwrap() }
                send(s, 1) -> result => { result.unwrap(); 0 }
            };
            value += select! {
                recv(r) -> message => { message.unwrap() },
                send(s, 1) -> result => { result.unwrap(); 0 },
            };
            value += select! {
                recv(r) -> message => message.unwrap(),
                send(s, 1) -> result => { result.unwrap(); 0 }
                default => unreachable!()
            };
            value += select! {
                recv(r) -> message => if message.is_ok() { 1 } else { unreachable!() },
                send(s, 1) -> result => match result { Ok(()) => 0, Err(SendError(_)) => unreachable!() },
                default => loop { assert!(value < 0, "one of them is ready") },
            };
            value += select! {
                send(s, 1,) -> result => result.map_or(1, |()| 0),
                recv(r,) -> message => message.unwrap(),
                default(ms(60_000),) => unreachable!(),
            };
            value += select!(recv(r) -> message => message.unwrap(), send(s, 1) -> _ => 0);
            value += select![send(s, 1) -> _ => 0, recv(r) -> message => message.unwrap()];
        }
        drop(s);
        assert_eq!(value + r.iter().sum::<i32>(), 350 - value);
    });
}

#[test]
fn results_have_the_types_of_send_and_recv() {
    everywhere(|| {
        let (s, _r) = unbounded::<u8>();
        let (_s, r) = unbounded::<u8>();
        let idle = never::<()>();
        select! {
            send(s, 1) -> result => { let _: Result<(), SendError<u8>> = result; }
        }
        select! {
            send(s, 1) -> result => { let _: Result<(), SendError<u8>> = result; }
            default => {}
        }
        select! {
            send(s, 1) -> result => { let _: Result<(), SendError<u8>> = result; }
            recv(r) -> message => { let _: Result<u8, RecvError> = message; }
            recv(idle) -> message => { let _: Result<(), RecvError> = message; }
            default(ms(1)) => {}
        }
        select! {
            recv(r) -> message => { let _: Result<u8, RecvError> = message; }
            default => {}
        }
        select! {
            recv(r) -> message => { let _: Result<u8, RecvError> = message; }
            default(ms(1)) => {}
        }
        select! {
            recv(after(ms(1))) -> message => { let _: Result<Instant, RecvError> = message; }
        }
    });
}

#[test]
fn results_may_be_patterns() {
    everywhere(|| {
        let (s, r) = unbounded();
        s.send((1, "one")).unwrap();
        s.send((2, "two")).unwrap();
        select! {
            recv(r) -> _ => {}
        }
        let number = select! {
            recv(r) -> mut message => {
                message = message.map(|(number, word)| (number + word.len(), word));
                message.unwrap().0
            }
            default => unreachable!(),
        };
        assert_eq!(number, 5);
        select! {
            send(s, (3, "three")) -> (Ok(()) | Err(_)) => {}
        }
        select! {
            recv(r) -> ref message => assert_eq!(message, &Ok((3, "three"))),
            recv(never::<i32>()) -> _message => unreachable!(),
        }
    });
}

#[test]
fn the_types_of_a_channel_may_be_found_by_the_select() {
    everywhere(|| {
        let (s, r) = unbounded();
        select! {
            recv(r) -> _ => unreachable!(),
            default => {}
        }
        s.send("found later").unwrap();
        let (s, r) = unbounded();
        select! {
            send(s, 1_u8) -> _ => {}
        }
        assert_eq!(size_of_val(&r.recv().unwrap()), 1);
        // And the type of a message by the channel.
        let (s, r) = unbounded::<Box<dyn Fn() -> u64 + Send>>();
        select! {
            send(s, Box::new(|| 5)) -> result => assert!(result.is_ok()),
            default => unreachable!(),
        }
        assert_eq!(r.recv().unwrap()(), 5);
        let (s, r) = unbounded::<Option<u64>>();
        select! {
            send(s, "7".parse().ok()) -> result => result.unwrap(),
            recv(r) -> _ => unreachable!(),
        }
        assert_eq!(r.recv(), Ok(Some(7)));
    });
}

#[test]
fn channels_may_be_any_expression_that_gives_one() {
    struct Holder {
        s: Sender<i32>,
        receivers: [Receiver<i32>; 2],
    }
    impl Holder {
        fn receiver(&self, index: usize) -> &Receiver<i32> {
            &self.receivers[index]
        }
    }
    struct Smart(Receiver<i32>);
    impl Deref for Smart {
        type Target = Receiver<i32>;
        fn deref(&self) -> &Receiver<i32> {
            &self.0
        }
    }
    everywhere(|| {
        let (s, r) = unbounded();
        let holder = Holder { s, receivers: [r, never()] };
        let (flag, choice, idle) = (true, 0, never());
        select! {
            send(holder.s, 1) -> result => result.unwrap(),
            recv(holder.receivers[1]) -> _ => unreachable!(),
        }
        select! {
            recv(holder.receivers[choice]) -> message => assert_eq!(message, Ok(1)),
            recv(holder.receiver(1)) -> _ => unreachable!(),
        }
        select! {
            send(&holder.s, 2) -> result => result.unwrap(),
        }
        select! {
            recv(&holder.receivers[0]) -> message => assert_eq!(message, Ok(2)),
        }
        select! {
            send(&&&holder.s, 3) -> result => result.unwrap(),
            default => unreachable!(),
        }
        select! {
            recv(if flag { holder.receiver(0) } else { &idle }) -> message => assert_eq!(message, Ok(3)),
            recv(match choice { 1 => holder.receiver(0), _ => &idle }) -> _ => unreachable!(),
        }
        select! {
            recv({ holder.receiver(0) }) -> _ => unreachable!(),
            recv(&&&holder.receivers[1]) -> _ => unreachable!(),
            default => {}
        }
        let boxed = (Box::new(holder.s.clone()), Arc::new(holder.receivers[0].clone()), Smart(holder.receivers[1].clone()));
        select! {
            send(*boxed.0, 4) -> result => result.unwrap(),
        }
        select! {
            recv(*boxed.1) -> message => assert_eq!(message, Ok(4)),
            recv(boxed.2) -> _ => unreachable!(),
        }
        select! {
            send(boxed.0, 5) -> result => result.unwrap(),
        }
        select! {
            recv(boxed.1) -> message => assert_eq!(message, Ok(5)),
            recv(boxed.2) -> _ => unreachable!(),
        }
        let handles = &[Some(holder.receivers[0].clone()), None];
        select! {
            recv(handles[0].as_ref().unwrap()) -> _ => unreachable!(),
            recv(handles[1].as_ref().unwrap_or(&never())) -> _ => unreachable!(),
            recv(handles[0].clone().unwrap_or_else(never)) -> _ => unreachable!(),
            default(Duration::from_micros(if flag { 1 } else { u64::MAX })) => {}
        }
    });
}

#[test]
fn handles_may_be_moved_into_the_select() {
    everywhere(|| {
        let (s, r) = unbounded();
        let take_s = move || s;
        select! {
            send(take_s(), 1) -> result => result.unwrap(),
            recv(never::<i32>()) -> _ => unreachable!(),
        }
        let receiver = Box::new(r);
        let take_r = move || *receiver;
        select! {
            recv(take_r()) -> message => assert_eq!(message, Ok(1)),
        }
        let (s, r) = (never::<i32>(), unbounded::<i32>());
        select! {
            recv({ s }) -> _ => unreachable!(),
            recv({ r.1 }) -> _ => unreachable!("its sender lives"),
            default => {}
        }
        drop(r.0);
    });
}

#[test]
fn each_arm_may_consume_the_same_variable() {
    everywhere(|| {
        let (s, r) = unbounded();
        let idle = never::<i32>();
        for _ in 0..4 {
            let owned = Box::new(1);
            select! {
                send(s, owned) -> result => result.unwrap(),
                default => drop(owned),
            }
        }
        for _ in 0..4 {
            let owned = Box::new(2);
            let message = select_biased! {
                recv(r) -> message => { drop(owned); message.unwrap() }
                recv(idle) -> _ => owned,
                send(s, owned) -> _ => unreachable!(),
                default(ms(60_000)) => { drop(owned); unreachable!() }
            };
            assert_eq!(*message, 1);
        }
    });
}

#[test]
fn variables_may_be_borrowed_mutably_by_several_arms() {
    everywhere(|| {
        let (s, r) = unbounded();
        let mut log = Vec::new();
        let mut count = 0;
        let mut note = |what: &'static str| {
            log.push(what);
            log.len()
        };
        for _ in 0..20 {
            select! {
                send(s, note("sent")) -> result => { result.unwrap(); count += 1; }
                recv(r) -> message => { count += 1; assert!(message.unwrap() > 0); note("received"); }
            }
        }
        assert_eq!((count, log.len()), (20, 20));
        let sent = log.iter().filter(|&&what| what == "sent").count();
        assert_eq!(sent - (20 - sent), r.len());
    });
}

#[test]
fn the_channel_may_be_used_in_its_own_arm() {
    everywhere(|| {
        let (s, r) = unbounded();
        let (mut s, mut r) = (s, r);
        s.send(1).unwrap();
        select! {
            recv(r) -> message => {
                s.send(message.unwrap() + 1).unwrap();
                assert_eq!(r.recv(), Ok(2));
                // Even replaced: the select is over.
                (s, r) = unbounded();
            }
        }
        s.send(3).unwrap();
        select! {
            recv(r) -> r => assert_eq!(r, Ok(3)),
            recv(never::<i32>()) -> r => assert!(r.is_err()),
        }
        select! {
            recv(r) -> _ => unreachable!(),
            default => drop(r),
        }
        select! {
            send(s, 4) -> s => assert_eq!(s, Err(SendError(4))),
        }
        select! {
            send(s, 5) -> result => { drop(s); assert!(result.is_err()); }
            default => unreachable!(),
        }
    });
}

#[test]
fn the_value_of_the_select_is_that_of_the_arm() {
    everywhere(|| {
        let (s, r) = unbounded::<i32>();
        let word: String = select! {
            recv(r) -> _ => "received".into(),
            send(s, 0) -> _ => "sent".to_owned(),
            default => String::from("default"),
        };
        assert_eq!(word, "sent");
        assert_eq!(select! { recv(r) -> message => message.unwrap() + 1, default => -1 }, 1);
        assert_eq!(1 + select! { recv(r) -> message => message.unwrap(), default => -1 }, 0);
        fn tail(r: &Receiver<i32>) -> Option<i32> {
            select! {
                recv(r) -> message => message.ok(),
                default(ms(1)) => None,
            }
        }
        assert_eq!(tail(&r), None);
        drop(s);
        let result: Result<i32, RecvError> = select!(recv(r) -> message => message);
        assert_eq!(result, Err(RecvError));
    });
}

#[test]
fn arms_may_break_continue_return_and_question() {
    fn until_error(r: &Receiver<i32>, idle: &Receiver<i32>) -> Result<i32, RecvError> {
        let mut sum = 0;
        loop {
            select! {
                recv(r) -> message => sum += message?,
                recv(idle) -> _ => return Ok(sum),
                default => return Ok(-sum),
            }
        }
    }
    everywhere(|| {
        let (s, r) = unbounded();
        let idle = never();
        for value in 1..=4 {
            s.send(value).unwrap();
        }
        assert_eq!(until_error(&r, &idle), Ok(-10));
        for value in 0..10 {
            s.send(value).unwrap();
        }
        drop(s);
        let mut odd = Vec::new();
        let last = 'outer: loop {
            for _ in 0..3 {
                select! {
                    recv(r) -> message => match message {
                        Ok(value) if value % 2 == 0 => continue 'outer,
                        Ok(7) => break 'outer 7,
                        Ok(value) => odd.push(value),
                        Err(RecvError) => break 'outer -1,
                    },
                    recv(idle) -> _ => break,
                }
            }
        };
        assert_eq!((last, odd), (7, vec![1, 3, 5]));
        assert_eq!(until_error(&r, &idle), Err(RecvError));
    });
}

#[test]
fn selects_nest() {
    everywhere(|| {
        let (s, r) = unbounded();
        let idle = never::<i32>();
        s.send(1).unwrap();
        s.send(2).unwrap();
        let sum = select! {
            recv(r) -> outer => select! {
                recv(r) -> inner => {
                    outer.unwrap() + inner.unwrap() + select! {
                        recv(r) -> _ => panic!("nothing is left"),
                        send(s, select! { default => 3 }) -> result => {
                            result.unwrap();
                            select_biased! {
                                recv(idle) -> _ => unreachable!(),
                                recv(r) -> message => message.unwrap(),
                            }
                        }
                    }
                }
                recv(idle) -> _ => unreachable!(),
            },
            recv(select! { default => &idle }) -> _ => unreachable!(),
        };
        assert_eq!(sum, 6);
    });
}

#[test]
fn the_names_inside_are_its_own() {
    everywhere(|| {
        // Names that an expansion might use for itself.
        let (_s, _r, _sel, _oper, _res, _handle) = (1, 2, 3, 4, 5, 6);
        let (_oper0, _index, _token, _result, _msg, select, index) = (7, 8, 9, 10, 11, 12, 13);
        let (s, r) = unbounded();
        let sum = select! {
            send(s, _s + _r + _sel + _oper + _res + _handle) -> result => {
                result.unwrap();
                _oper0 + _index + _token + _result + _msg + select + index
            }
            recv(r) -> _ => unreachable!(),
        };
        assert_eq!((r.recv(), sum), (Ok(21), 70));
    });
}

#[test]
fn the_names_of_the_prelude_need_not_be_what_they_are() {
    /// Its variants hide those of `Result` and `Option`.
    #[derive(Debug, PartialEq)]
    enum Mine {
        Ok,
        Err,
        Some,
        None,
    }
    everywhere(|| {
        use Mine::*;
        let (s, r) = unbounded::<i32>();
        let which = select! {
            recv(r) -> _ => Err,
            default => Ok,
        };
        assert_eq!(which, Mine::Ok);
        let which = select! {
            send(s, 1) -> _ => Some,
            recv(r) -> _ => None,
            default(ms(1)) => None,
        };
        assert_eq!(which, Mine::Some);
    });
}

#[test]
fn it_can_be_called_by_its_path() {
    everywhere(|| {
        let (s, r) = unbounded();
        channel::select! {
            send(s, 1) -> result => result.unwrap(),
            default => unreachable!(),
        }
        let message = channel::select_biased! {
            recv(r) -> message => message,
            send(s, 2) -> _ => unreachable!(),
        };
        assert_eq!(message, Ok(1));
    });
}

#[test]
fn it_can_be_used_by_other_macros() {
    macro_rules! first_of {
        ($($r:expr),+ ; $otherwise:expr) => {
            select! {
                $(recv($r) -> message => message.ok(),)+
                default => $otherwise,
            }
        };
    }
    everywhere(|| {
        let (s, r) = unbounded();
        let idle = never::<i32>();
        assert_eq!(first_of!(idle, r; Some(-1)), Some(-1));
        s.send(5).unwrap();
        assert_eq!(first_of!(idle, &r, never::<i32>(); Some(-1)), Some(5));
        drop(s);
        assert_eq!(first_of!(r; Some(-1)), None);
    });
}

#[test]
fn sixteen_arms_are_no_matter() {
    everywhere(|| {
        let (s, r) = unbounded();
        let idle = never::<usize>();
        macro_rules! wait {
            ($($number:literal)+) => {
                select! {
                    $(recv(if $number == 13 { &r } else { &idle }) -> message => (message, $number),)+
                }
            };
        }
        let waiting = go(move || wait!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15));
        breathe();
        s.send(4).unwrap();
        assert_eq!(waiting.join(), (Ok(4), 13));
    });
}

#[test]
fn values_that_need_not_be_send_may_be_selected_on_their_thread() {
    use std::rc::Rc;
    everywhere(|| {
        let (s, r) = unbounded();
        let value = Rc::new(1);
        select! {
            send(s, value.clone()) -> result => assert!(result.is_ok()),
            recv(r) -> _ => unreachable!(),
        }
        select! {
            recv(r) -> message => assert!(Rc::ptr_eq(&message.unwrap(), &value)),
            default => unreachable!(),
        }
        assert_eq!(Rc::strong_count(&value), 1);
    });
}

#[test]
fn borrowed_values_may_be_selected() {
    everywhere(|| {
        let text = String::from("borrowed");
        let (s, r) = unbounded();
        select! {
            send(s, &text[..3]) -> result => result.unwrap(),
            recv(r) -> _ => unreachable!(),
        }
        let mut part = "";
        select! {
            recv(r) -> message => part = message.unwrap(),
            default => {}
        }
        assert_eq!(part, "bor");
    });
}
