//! The errors of the channels: what they say, what they hold, what they turn into; and what the types promise.

use std::error::Error;
use std::fmt::{Debug, Display};
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

use test_support::channel::{
    IntoIter, Iter, ReadyTimeoutError, Receiver, RecvError, RecvTimeoutError, Select, SelectTimeoutError, SelectedOperation,
    SendError, SendTimeoutError, Sender, TryIter, TryReadyError, TryRecvError, TrySelectError, TrySendError, after, bounded,
    never, unbounded,
};
use test_support::everywhere::everywhere;

/// Cannot be shown, compared, copied or moved to another thread: errors promise only what their value allows.
struct Opaque(#[expect(dead_code, reason = "only its address matters")] *const ());

const OPAQUE: Opaque = Opaque(std::ptr::null());

#[track_caller]
fn assert_says(error: impl Display, sentence: &str) {
    assert_eq!(error.to_string(), sentence);
    // As a str is shown: fill, width and precision count.
    let width = sentence.len() + 4;
    assert_eq!(format!("{error:*>width$}"), format!("****{sentence}"));
    assert_eq!(format!("{error:.7}"), &sentence[..7]);
}

#[test]
fn errors_say_what_happened() {
    assert_says(SendError(OPAQUE), "sending on a disconnected channel");
    assert_says(TrySendError::Full(OPAQUE), "sending on a full channel");
    assert_says(TrySendError::Disconnected(OPAQUE), "sending on a disconnected channel");
    assert_says(SendTimeoutError::Timeout(OPAQUE), "timed out waiting on send operation");
    assert_says(SendTimeoutError::Disconnected(OPAQUE), "sending on a disconnected channel");
    assert_says(RecvError, "receiving on an empty and disconnected channel");
    assert_says(TryRecvError::Empty, "receiving on an empty channel");
    assert_says(TryRecvError::Disconnected, "receiving on an empty and disconnected channel");
    assert_says(RecvTimeoutError::Timeout, "timed out waiting on receive operation");
    assert_says(RecvTimeoutError::Disconnected, "channel is empty and disconnected");
    assert_says(TrySelectError, "all operations in select would block");
    assert_says(SelectTimeoutError, "timed out waiting on select");
}

#[test]
fn errors_can_be_debugged_whatever_they_hold() {
    fn assert_debugs(error: impl Debug, text: &str) {
        assert_eq!(format!("{error:?}"), text);
        assert_eq!(format!("{error:#?}"), text);
    }
    // With quotes: that is how users know them from `unwrap`.
    assert_debugs(SendError(OPAQUE), r#""SendError(..)""#);
    assert_debugs(TrySendError::Full(OPAQUE), r#""Full(..)""#);
    assert_debugs(TrySendError::Disconnected(OPAQUE), r#""Disconnected(..)""#);
    assert_debugs(SendTimeoutError::Timeout(OPAQUE), r#""SendTimeoutError(..)""#);
    assert_debugs(SendTimeoutError::Disconnected(OPAQUE), r#""SendTimeoutError(..)""#);
    assert_debugs(RecvError, "RecvError");
    assert_debugs(TryRecvError::Empty, "Empty");
    assert_debugs(TryRecvError::Disconnected, "Disconnected");
    assert_debugs(RecvTimeoutError::Timeout, "Timeout");
    assert_debugs(RecvTimeoutError::Disconnected, "Disconnected");
    assert_debugs(TrySelectError, "TrySelectError");
    assert_debugs(SelectTimeoutError, "SelectTimeoutError");
    assert_debugs(TryReadyError, "TryReadyError");
    assert_debugs(ReadyTimeoutError, "ReadyTimeoutError");
}

#[test]
fn a_send_that_fails_gives_its_value_back() {
    struct OnlyOne(Box<i32>);
    assert_eq!(*SendError(OnlyOne(Box::new(1))).into_inner().0, 1);
    assert_eq!(*TrySendError::Full(OnlyOne(Box::new(2))).into_inner().0, 2);
    assert_eq!(*TrySendError::Disconnected(OnlyOne(Box::new(3))).into_inner().0, 3);
    assert_eq!(*SendTimeoutError::Timeout(OnlyOne(Box::new(4))).into_inner().0, 4);
    assert_eq!(*SendTimeoutError::Disconnected(OnlyOne(Box::new(5))).into_inner().0, 5);
    let SendError(OnlyOne(value)) = SendError(OnlyOne(Box::new(6)));
    assert_eq!(*value, 6);
}

#[test]
fn errors_tell_their_reason() {
    let (full, disconnected) = (TrySendError::Full(OPAQUE), TrySendError::Disconnected(OPAQUE));
    assert!(full.is_full() && !full.is_disconnected());
    assert!(!disconnected.is_full() && disconnected.is_disconnected());
    let (timeout, disconnected) = (SendTimeoutError::Timeout(OPAQUE), SendTimeoutError::Disconnected(OPAQUE));
    assert!(timeout.is_timeout() && !timeout.is_disconnected());
    assert!(!disconnected.is_timeout() && disconnected.is_disconnected());
    let (empty, disconnected) = (TryRecvError::Empty, TryRecvError::Disconnected);
    assert!(empty.is_empty() && !empty.is_disconnected());
    assert!(!disconnected.is_empty() && disconnected.is_disconnected());
    let (timeout, disconnected) = (RecvTimeoutError::Timeout, RecvTimeoutError::Disconnected);
    assert!(timeout.is_timeout() && !timeout.is_disconnected());
    assert!(!disconnected.is_timeout() && disconnected.is_disconnected());
}

#[test]
fn the_plain_errors_turn_into_those_that_have_more_reasons() {
    assert_eq!(TrySendError::from(SendError(1)), TrySendError::Disconnected(1));
    assert_eq!(SendTimeoutError::from(SendError(2)), SendTimeoutError::Disconnected(2));
    assert_eq!(TryRecvError::from(RecvError), TryRecvError::Disconnected);
    assert_eq!(RecvTimeoutError::from(RecvError), RecvTimeoutError::Disconnected);

    fn try_send(s: &Sender<i32>) -> Result<(), TrySendError<i32>> {
        Ok(s.send(3)?)
    }
    fn send_timeout(s: &Sender<i32>) -> Result<(), SendTimeoutError<i32>> {
        Ok(s.send(4)?)
    }
    fn try_recv(r: &Receiver<i32>) -> Result<i32, TryRecvError> {
        Ok(r.recv()?)
    }
    fn recv_timeout(r: &Receiver<i32>) -> Result<i32, RecvTimeoutError> {
        Ok(r.recv()?)
    }
    everywhere(|| {
        let s = unbounded().0;
        assert_eq!(try_send(&s), Err(TrySendError::Disconnected(3)));
        assert_eq!(send_timeout(&s), Err(SendTimeoutError::Disconnected(4)));
        let r = bounded(0).1;
        assert_eq!(try_recv(&r), Err(TryRecvError::Disconnected));
        assert_eq!(recv_timeout(&r), Err(RecvTimeoutError::Disconnected));
    });
}

#[test]
fn errors_compare_copy_and_clone_as_their_values_do() {
    fn assert_value<E: Copy + Clone + Eq>(error: E, other: E) {
        let copy = error;
        #[expect(clippy::clone_on_copy, reason = "both are promised")]
        let clone = error.clone();
        assert!(copy == error && clone == error && error != other);
    }
    assert_value(SendError(1), SendError(2));
    assert_value(TrySendError::Full(1), TrySendError::Full(2));
    assert_value(TrySendError::Full(1), TrySendError::Disconnected(1));
    assert_value(SendTimeoutError::Timeout(1), SendTimeoutError::Timeout(2));
    assert_value(SendTimeoutError::Timeout(1), SendTimeoutError::Disconnected(1));
    assert_value(TryRecvError::Empty, TryRecvError::Disconnected);
    assert_value(RecvTimeoutError::Timeout, RecvTimeoutError::Disconnected);

    fn assert_eq_and_copy<E: Copy + Eq + Debug + Send + Sync + 'static>() {}
    assert_eq_and_copy::<RecvError>();
    assert_eq_and_copy::<TrySelectError>();
    assert_eq_and_copy::<SelectTimeoutError>();
    assert_eq_and_copy::<TryReadyError>();
    assert_eq_and_copy::<ReadyTimeoutError>();
    let text = SendError(String::from("not Copy"));
    assert!(text.clone() == text);
}

#[test]
fn errors_are_errors() {
    fn boxed(error: impl Error + Send + Sync + 'static) -> Box<dyn Error + Send + Sync> {
        assert!(error.source().is_none());
        Box::new(error)
    }
    assert_eq!(boxed(SendError(1)).to_string(), "sending on a disconnected channel");
    boxed(TrySendError::Full(1));
    boxed(SendTimeoutError::Timeout(1));
    boxed(RecvError);
    boxed(TryRecvError::Empty);
    boxed(RecvTimeoutError::Timeout);
    boxed(TrySelectError);
    boxed(SelectTimeoutError);

    // The value need be neither Debug nor 'static for that.
    fn assert_error<E: Error>() {}
    struct Borrows<'a>(#[expect(dead_code, reason = "only its lifetime matters")] &'a i32);
    fn with_a_lifetime<'a>(_: &'a i32) {
        assert_error::<SendError<Borrows<'a>>>();
        assert_error::<TrySendError<Borrows<'a>>>();
        assert_error::<SendTimeoutError<Borrows<'a>>>();
    }
    with_a_lifetime(&1);
}

#[test]
fn operations_give_the_errors_that_fit() {
    everywhere(|| {
        let (s, r) = bounded(1);
        assert_eq!(r.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(r.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
        assert_eq!(r.recv_deadline(Instant::now()), Err(RecvTimeoutError::Timeout));
        s.send(0).unwrap();
        assert_eq!(s.try_send(1), Err(TrySendError::Full(1)));
        assert_eq!(s.send_timeout(2, Duration::ZERO), Err(SendTimeoutError::Timeout(2)));
        assert_eq!(s.send_deadline(3, Instant::now()), Err(SendTimeoutError::Timeout(3)));
        let mut select = Select::new();
        select.send(&s);
        assert_eq!(select.try_select().unwrap_err(), TrySelectError);
        assert_eq!(select.select_timeout(Duration::ZERO).unwrap_err(), SelectTimeoutError);
        assert_eq!(select.select_deadline(Instant::now()).unwrap_err(), SelectTimeoutError);
        assert_eq!(select.try_ready(), Err(TryReadyError));
        assert_eq!(select.ready_timeout(Duration::ZERO), Err(ReadyTimeoutError));
        assert_eq!(select.ready_deadline(Instant::now()), Err(ReadyTimeoutError));
    });
}

#[test]
fn handles_say_what_they_are_and_no_more() {
    everywhere(|| {
        let (s, r) = bounded::<Opaque>(1);
        assert_eq!(format!("{s:?}"), "Sender { .. }");
        assert_eq!(format!("{r:?}"), "Receiver { .. }");
        assert_eq!(format!("{:?} {:?}", never::<Opaque>(), after(Duration::ZERO)), "Receiver { .. } Receiver { .. }");
        assert_eq!(format!("{:?}", r.iter()), "Iter { .. }");
        assert_eq!(format!("{:?}", r.try_iter()), "TryIter { .. }");
        let mut select = Select::new();
        select.send(&s);
        assert_eq!(format!("{select:?}"), "Select { .. }");
        let operation = select.try_select().unwrap();
        assert_eq!(format!("{operation:?}"), "SelectedOperation { .. }");
        assert!(operation.send(&s, OPAQUE).is_ok());
        assert_eq!(format!("{:->16?}", r), "-Receiver { .. }", "as a str is shown");
        assert_eq!(format!("{:?}", r.into_iter()), "IntoIter { .. }");
    });
}

#[test]
fn handles_cross_threads_where_their_values_do_and_survive_panics() {
    fn assert_send_and_sync<T: Send + Sync>() {}
    fn assert_unwind_safe<T: UnwindSafe + RefUnwindSafe>() {}
    // A value that is Send but not Sync is enough.
    type OnlySend = std::cell::Cell<i32>;
    assert_send_and_sync::<Sender<OnlySend>>();
    assert_send_and_sync::<Receiver<OnlySend>>();
    assert_send_and_sync::<Iter<'static, OnlySend>>();
    assert_send_and_sync::<TryIter<'static, OnlySend>>();
    assert_send_and_sync::<IntoIter<OnlySend>>();
    assert_send_and_sync::<Select<'static>>();
    // And a value that is not unwind-safe does not matter.
    type NotUnwindSafe = &'static mut OnlySend;
    assert_unwind_safe::<Sender<NotUnwindSafe>>();
    assert_unwind_safe::<Receiver<NotUnwindSafe>>();
    fn assert_static<T: 'static>() {}
    assert_static::<SelectedOperation<'static>>();
}

/// What may not compile, told by what the compiler resolves: the inherent constant exists only where the bound holds.
#[test]
fn handles_of_values_that_stay_on_their_thread_stay_there_too() {
    trait Otherwise {
        const SEND: bool = false;
        const SYNC: bool = false;
    }
    struct Is<T>(T);
    impl<T> Otherwise for Is<T> {}
    struct IsSync<T>(T);
    impl<T> Otherwise for IsSync<T> {}
    impl<T: Send> Is<T> {
        const SEND: bool = true;
    }
    impl<T: Sync> IsSync<T> {
        const SYNC: bool = true;
    }
    const {
        assert!(Is::<Sender<i32>>::SEND && IsSync::<Receiver<i32>>::SYNC);
        assert!(!Is::<Sender<Opaque>>::SEND && !IsSync::<Sender<Opaque>>::SYNC);
        assert!(!Is::<Receiver<Opaque>>::SEND && !IsSync::<Receiver<Opaque>>::SYNC);
    }
}
