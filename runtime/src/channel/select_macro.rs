//! `select!` and `select_biased!`.

/// Waits until one of several channel operations is ready, performs it, and runs the code of its
/// arm.
///
/// | arm | |
/// |---|---|
/// | `recv(r) -> msg => …` | receives; `msg` is an irrefutable pattern for the `Result<T, RecvError>` |
/// | `send(s, v) -> res => …` | sends; `res` is an irrefutable pattern for the `Result<(), SendError<T>>` |
/// | `default => …` | runs if no operation is ready; the select then does not wait |
/// | `default(timeout) => …` | runs if no operation is ready within this `Duration` |
///
/// An operation is ready if it would not wait, even if it will fail because the channel is
/// disconnected. If several are ready, one is chosen at random, fairly;
/// [`select_biased!`](crate::select_biased) takes the first. Handles are evaluated once, in order,
/// before anything else, then the timeout. The message of a `send` is evaluated only after its arm
/// has been chosen. Its receiver may already be waiting (with `default` too: a select that has
/// found such a sender waits for its message), so keep the expression quick. If evaluating it
/// panics or leaves the select, nothing is sent, and the receiver looks for another sender.
///
/// Suspends the task; blocks a plain thread. With `default` it does neither, but it may [give
/// way](crate#what-suspends). Neither a cancellation nor a time limit ends a loop over such
/// attempts: put a [`checkpoint`](crate::checkpoint()) into it. A task may have the same operation
/// in several arms.
///
/// # Panics
/// Inside [`no_suspend`](crate::no_suspend), if it has to wait.
///
/// # Cancellation
/// A cancelled task unwinds from here if it has to wait. Nothing has been sent or received then.
///
/// ```
/// use std::time::Duration;
/// use greenloom::channel::{bounded, select, unbounded};
///
/// greenloom::run(|| {
///     let (results, inbox) = unbounded();
///     let (done, stop) = bounded::<()>(0);
///     greenloom::spawn(move || {
///         results.send(42).unwrap();
///         // Goes, and with it `done`.
///         drop(done);
///     });
///     let mut seen = Vec::new();
///     loop {
///         select! {
///             recv(inbox) -> result => match result {
///                 Ok(value) => seen.push(value),
///                 Err(_) => break,
///             },
///             recv(stop) -> _ => {
///                 seen.extend(inbox.try_iter());
///                 break;
///             }
///             default(Duration::from_secs(60)) => panic!("nobody is there"),
///         }
///     }
///     assert_eq!(seen, [42]);
/// });
/// ```
#[macro_export]
macro_rules! select {
    ($($tokens:tt)*) => {
        $crate::__greenloom_select!(@arms false [] [] $($tokens)*)
    };
}

/// Like [`select!`](crate::select!), but if several operations are ready, chooses the one that is
/// written first.
///
/// ```
/// use greenloom::channel::{select_biased, unbounded};
///
/// let (urgent, first) = unbounded();
/// let (normal, second) = unbounded();
/// normal.send(1).unwrap();
/// urgent.send(2).unwrap();
/// let got = select_biased! {
///     recv(first) -> message => message,
///     recv(second) -> message => message,
/// };
/// assert_eq!(got, Ok(2));
/// ```
#[macro_export]
macro_rules! select_biased {
    ($($tokens:tt)*) => {
        $crate::__greenloom_select!(@arms true [] [] $($tokens)*)
    };
}

/// The implementation of both macros. `@arms biased [arms so far] [default] rest` takes one arm off
/// the rest. It binds the arm's handle in a `match` around what follows. Each name then has a scope
/// of its own, and temporaries live long enough. `@run` is the innermost part.
#[doc(hidden)]
#[macro_export]
macro_rules! __greenloom_select {
    // Mistakes come first, where the rules below would accept them or give a worse message.
    (@arms $biased:tt [] []) => {
        compile_error!("empty `select!` block")
    };
    (@arms $biased:tt $arms:tt [$($default:tt)+] default $($rest:tt)*) => {
        compile_error!("there can be only one `default` case in a `select!` block")
    };
    (@arms $biased:tt $arms:tt $default:tt default $(($($timeout:tt)*))? -> $($rest:tt)*) => {
        compile_error!("expected `=>` after `default` case, found `->`")
    };
    (@arms $biased:tt $arms:tt $default:tt recv($($args:tt)*) => $($rest:tt)*) => {
        compile_error!("expected `->` after `recv` case, found `=>`")
    };
    (@arms $biased:tt $arms:tt $default:tt send($($args:tt)*) => $($rest:tt)*) => {
        compile_error!("expected `->` after `send` operation, found `=>`")
    };

    // `default`.
    (@arms $biased:tt $arms:tt [] default $(($($timeout:tt)*))? => { $($body:tt)* }, $($rest:tt)*) => {
        $crate::__greenloom_select!(@arms $biased $arms [($($($timeout)*)?) { $($body)* }] $($rest)*)
    };
    (@arms $biased:tt $arms:tt [] default $(($($timeout:tt)*))? => $body:expr, $($rest:tt)*) => {
        $crate::__greenloom_select!(@arms $biased $arms [($($($timeout)*)?) { $body }] $($rest)*)
    };
    (@arms $biased:tt $arms:tt [] default $(($($timeout:tt)*))? => { $($body:tt)* } $($rest:tt)*) => {
        $crate::__greenloom_select!(@arms $biased $arms [($($($timeout)*)?) { $($body)* }] $($rest)*)
    };
    (@arms $biased:tt $arms:tt [] default $(($($timeout:tt)*))? => $body:expr) => {
        $crate::__greenloom_select!(@arms $biased $arms [($($($timeout)*)?) { $body }])
    };

    // An operation.
    (@arms $biased:tt [$($arms:tt)*] $default:tt $kind:ident ($($args:tt)*) -> $result:pat => { $($body:tt)* }, $($rest:tt)*) => {
        match $crate::__greenloom_select!(@handle $kind $($args)*) {
            ref handle => $crate::__greenloom_select!(
                @arms $biased [$($arms)* ($kind handle ($($args)*) ($result) { $($body)* })] $default $($rest)*
            ),
        }
    };
    (@arms $biased:tt [$($arms:tt)*] $default:tt $kind:ident ($($args:tt)*) -> $result:pat => $body:expr, $($rest:tt)*) => {
        match $crate::__greenloom_select!(@handle $kind $($args)*) {
            ref handle => $crate::__greenloom_select!(
                @arms $biased [$($arms)* ($kind handle ($($args)*) ($result) { $body })] $default $($rest)*
            ),
        }
    };
    (@arms $biased:tt [$($arms:tt)*] $default:tt $kind:ident ($($args:tt)*) -> $result:pat => { $($body:tt)* } $($rest:tt)*) => {
        match $crate::__greenloom_select!(@handle $kind $($args)*) {
            ref handle => $crate::__greenloom_select!(
                @arms $biased [$($arms)* ($kind handle ($($args)*) ($result) { $($body)* })] $default $($rest)*
            ),
        }
    };
    (@arms $biased:tt [$($arms:tt)*] $default:tt $kind:ident ($($args:tt)*) -> $result:pat => $body:expr) => {
        match $crate::__greenloom_select!(@handle $kind $($args)*) {
            ref handle => $crate::__greenloom_select!(
                @arms $biased [$($arms)* ($kind handle ($($args)*) ($result) { $body })] $default
            ),
        }
    };

    // No more arms.
    (@arms $biased:tt [$($arms:tt)*] []) => {
        $crate::__greenloom_select!(@run $biased [$($arms)*] $crate::channel::internal::Limit::Never,
            unreachable!("without a limit a select waits until an operation is ready"))
    };
    (@arms $biased:tt [$($arms:tt)*] [() $body:tt]) => {
        $crate::__greenloom_select!(@run $biased [$($arms)*] $crate::channel::internal::Limit::Now, $body)
    };
    (@arms $biased:tt [$($arms:tt)*] [($timeout:expr $(,)?) $body:tt]) => {
        $crate::__greenloom_select!(@run $biased [$($arms)*] $crate::channel::internal::Limit::after($timeout), $body)
    };
    (@arms $biased:tt $arms:tt $default:tt $($rest:tt)*) => {
        compile_error!(concat!(
            "expected `recv(receiver) -> result => …`, `send(sender, message) -> result => …` or `default => …`, found `",
            stringify!($($rest)*),
            "` (a comma is needed after an arm that is no block)"
        ))
    };

    (@run $biased:tt [$(($kind:ident $handle:ident $args:tt ($result:pat) $body:tt))*] $limit:expr, $otherwise:expr) => {{
        let operations = {
            let mut index = 0..;
            [$($crate::channel::internal::Handle::operation(
                $crate::__greenloom_select!(@typed $kind $handle),
                index.next().unwrap_or(0),
            ),)*]
        };
        match $crate::channel::internal::Chosen::among(&operations, $limit, $biased) {
            #[allow(unused_mut, unused_assignments, unused_variables, clippy::redundant_pattern_matching)]
            ::core::option::Option::Some(selected) => {
                let chosen = selected.index();
                let mut arm = 0;
                $(if { arm += 1; arm == chosen + 1 } {
                    let $result = $crate::__greenloom_select!(@complete $kind selected $handle $args);
                    $body
                } else)* {
                    unreachable!("a select chooses one of its arms")
                }
            }
            ::core::option::Option::None => $otherwise,
        }
    }};

    // The place as it is. A reference to it here would tell the compiler what type to expect, and
    // `if` or `match` would then not give a reference.
    (@handle recv $receiver:expr $(,)?) => {
        $receiver
    };
    (@handle send $sender:expr, $message:expr $(,)?) => {
        $sender
    };
    (@handle recv $($args:tt)*) => {
        compile_error!(concat!("expected one argument, a receiver, in `recv(", stringify!($($args)*), ")`"))
    };
    (@handle send $($args:tt)*) => {
        compile_error!(concat!("expected two arguments, a sender and a message, in `send(", stringify!($($args)*), ")`"))
    };
    (@handle $kind:ident $($args:tt)*) => {
        compile_error!(concat!("expected one of `recv`, `send`, or `default`, found `", stringify!($kind), "`"))
    };

    (@typed recv $handle:ident) => {
        $crate::channel::internal::receiver($handle)
    };
    (@typed send $handle:ident) => {
        $crate::channel::internal::sender($handle)
    };

    (@complete recv $selected:ident $handle:ident $args:tt) => {
        $selected.hold().recv($crate::channel::internal::receiver($handle))
    };
    (@complete send $selected:ident $handle:ident ($sender:expr, $message:expr $(,)?)) => {
        $selected.hold().send($crate::channel::internal::sender($handle), $message)
    };
}
