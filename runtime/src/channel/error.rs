//! The errors of channel operations. They are crossbeam-channel's, so that code written for it
//! needs no change.

use std::error::Error;
use std::fmt;

/// The error of [`Sender::send`](super::Sender::send): all receivers are gone. It holds the
/// message.
#[derive(PartialEq, Eq, Clone, Copy)]
pub struct SendError<T>(pub T);

/// The error of [`Sender::try_send`](super::Sender::try_send). It holds the message.
#[derive(PartialEq, Eq, Clone, Copy)]
pub enum TrySendError<T> {
    /// The channel is full or, if its capacity is zero, no receiver is waiting.
    Full(T),
    /// All receivers are gone.
    Disconnected(T),
}

/// The error of [`Sender::send_timeout`](super::Sender::send_timeout). It holds the message.
#[derive(PartialEq, Eq, Clone, Copy)]
pub enum SendTimeoutError<T> {
    /// The time was up before there was room or a receiver.
    Timeout(T),
    /// All receivers are gone.
    Disconnected(T),
}

/// The error of [`Receiver::recv`](super::Receiver::recv): the channel is empty, and all senders
/// are gone.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct RecvError;

/// The error of [`Receiver::try_recv`](super::Receiver::try_recv).
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum TryRecvError {
    /// There is no message now.
    Empty,
    /// There is no message, and all senders are gone.
    Disconnected,
}

/// The error of [`Receiver::recv_timeout`](super::Receiver::recv_timeout).
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub enum RecvTimeoutError {
    /// The time was up before there was a message.
    Timeout,
    /// There is no message, and all senders are gone.
    Disconnected,
}

/// The error of [`Select::try_select`](super::Select::try_select): no operation is ready.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct TrySelectError;

/// The error of [`Select::select_timeout`](super::Select::select_timeout): no operation was ready
/// before the time was up.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct SelectTimeoutError;

/// The error of [`Select::try_ready`](super::Select::try_ready): no operation is ready.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct TryReadyError;

/// The error of [`Select::ready_timeout`](super::Select::ready_timeout): no operation was ready
/// before the time was up.
#[derive(PartialEq, Eq, Clone, Copy, Debug)]
pub struct ReadyTimeoutError;

const NOBODY_RECEIVES: &str = "sending on a disconnected channel";
const NOBODY_SENDS: &str = "receiving on an empty and disconnected channel";

/// Implements `Display`, with one sentence per variant, and `Error`.
macro_rules! describe {
    ($($error:ident $(<$message:ident>)? { $($variant:pat => $text:expr,)* })*) => {$(
        impl $(<$message>)? fmt::Display for $error $(<$message>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($variant => $text,)* })
            }
        }

        impl $(<$message: Send>)? Error for $error $(<$message>)? {}
    )*};
}

describe! {
    SendError<T> { SendError(_) => NOBODY_RECEIVES, }
    TrySendError<T> {
        TrySendError::Full(_) => "sending on a full channel",
        TrySendError::Disconnected(_) => NOBODY_RECEIVES,
    }
    SendTimeoutError<T> {
        SendTimeoutError::Timeout(_) => "timed out waiting on send operation",
        SendTimeoutError::Disconnected(_) => NOBODY_RECEIVES,
    }
    RecvError { RecvError => NOBODY_SENDS, }
    TryRecvError {
        TryRecvError::Empty => "receiving on an empty channel",
        TryRecvError::Disconnected => NOBODY_SENDS,
    }
    RecvTimeoutError {
        RecvTimeoutError::Timeout => "timed out waiting on receive operation",
        RecvTimeoutError::Disconnected => "channel is empty and disconnected",
    }
    TrySelectError { TrySelectError => "all operations in select would block", }
    SelectTimeoutError { SelectTimeoutError => "timed out waiting on select", }
    TryReadyError { TryReadyError => "no operation in select is ready", }
    ReadyTimeoutError { ReadyTimeoutError => "timed out waiting on select", }
}

/// Implements `Debug` without the message, which need not implement it.
macro_rules! debug_without_message {
    ($($error:ident { $($variant:pat => $text:expr,)* })*) => {$(
        impl<T> fmt::Debug for $error<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // With the quotes of a str, as it is known from `unwrap`.
                fmt::Debug::fmt(match self { $($variant => $text,)* }, f)
            }
        }
    )*};
}

debug_without_message! {
    SendError { SendError(_) => "SendError(..)", }
    TrySendError { TrySendError::Full(_) => "Full(..)", TrySendError::Disconnected(_) => "Disconnected(..)", }
    SendTimeoutError { _ => "SendTimeoutError(..)", }
}

impl<T> SendError<T> {
    /// Returns the message that was not sent.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> TrySendError<T> {
    /// Returns the message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(message) | Self::Disconnected(message) => message,
        }
    }

    /// Returns whether there was no room.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full(_))
    }

    /// Returns whether all receivers are gone.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

impl<T> SendTimeoutError<T> {
    /// Returns the message that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            Self::Timeout(message) | Self::Disconnected(message) => message,
        }
    }

    /// Returns whether the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout(_))
    }

    /// Returns whether all receivers are gone.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

impl TryRecvError {
    /// Returns whether there was no message.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// Returns whether all senders are gone.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }
}

impl RecvTimeoutError {
    /// Returns whether the time was up.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Returns whether all senders are gone.
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected)
    }
}

impl<T> From<SendError<T>> for TrySendError<T> {
    fn from(SendError(message): SendError<T>) -> Self {
        Self::Disconnected(message)
    }
}

impl<T> From<SendError<T>> for SendTimeoutError<T> {
    fn from(SendError(message): SendError<T>) -> Self {
        Self::Disconnected(message)
    }
}

impl From<RecvError> for TryRecvError {
    fn from(RecvError: RecvError) -> Self {
        Self::Disconnected
    }
}

impl From<RecvError> for RecvTimeoutError {
    fn from(RecvError: RecvError) -> Self {
        Self::Disconnected
    }
}
