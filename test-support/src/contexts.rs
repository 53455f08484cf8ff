//! What a context is to say of itself.

use std::error::Error;
use std::fmt;

use greenloom::context::{Context, ContextError};

use crate::channel::TryRecvError;

#[derive(Debug, PartialEq)]
pub struct Reason(pub &'static str);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Reason {}

#[track_caller]
pub fn assert_live(ctx: &Context) {
    assert_eq!(ctx.err(), None);
    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Empty));
    assert!(ctx.cause().is_none());
}

#[track_caller]
pub fn assert_done(ctx: &Context, why: ContextError) {
    assert_eq!(ctx.err(), Some(why));
    assert_eq!(ctx.done().try_recv(), Err(TryRecvError::Disconnected));
    assert!(ctx.cause().is_some());
}

/// Done by itself or by an end above; waits for it.
#[track_caller]
pub fn assert_ends(ctx: &Context, why: ContextError) {
    assert!(ctx.done().recv().is_err());
    assert_done(ctx, why);
}

/// What a context is to say of its cause.
pub enum Expected {
    None,
    Why(ContextError),
    Reason(&'static str),
}

#[track_caller]
pub fn assert_cause(ctx: &Context, expected: &Expected) {
    let cause = ctx.cause();
    match expected {
        Expected::None => assert!(cause.is_none(), "{cause:?}"),
        Expected::Why(why) => assert_eq!(cause.unwrap().downcast_ref::<ContextError>(), Some(why)),
        Expected::Reason(text) => assert_eq!(cause.unwrap().downcast_ref::<Reason>(), Some(&Reason(text))),
    }
}
