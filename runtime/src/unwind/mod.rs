//! Unwinding: why the running code is to be unwound, when it may be, and what its thread's panics
//! mean meanwhile.
//!
//! A task unwinds because it panics, because it is cancelled, or because a limit around it is over.
//! The last two are raised here, at the task's next suspension point. Three things defer that: an
//! [`uncancellable`] section, an unwinding of the same task that is under way (a second one that
//! leaves a destructor ends the process), and the panic hook. All three belong to the task alone,
//! and cannot change while it is suspended. So nothing has to be caught up on when they end.
//!
//! # The states of the running code
//!
//! std counts panics by thread, and tasks share a thread. Four things tell what a task is in the
//! middle of: std's count ([`panicking`](crate::prim::thread::panicking)); the number of its own
//! unwinding, kept while its payload lives
//! ([`Interrupts::unwinding`](crate::raw::interrupts::Interrupts)); the task of the machine that
//! was first suspended in its unwinding ([`Panics::first`](crate::raw::machine::Panics)); and,
//! where these do not suffice, the stack ([`cleanup`]).
//!
//! | state | `panicking` | `unwinding` | `first` | may be unwound | [`unwinding()`](unwinding) | when it is suspended |
//! |---|---|---|---|---|---|---|
//! | ordinary | no | any | null | yes | `No` | nothing |
//! | ordinary, beside a task suspended in its unwinding | yes | 0 | that one | yes, by the stack | `No` | nothing |
//! | in the panic hook, or in a `Debug` of a panic's message | yes | 0 | null | no | `Panic` | its panic is hidden from the others, and shown again afterwards |
//! | in a destructor, after a panic | yes | 0 | null, or itself | no | `Panic` | it becomes `first`, if there is none |
//! | the same, while another task is `first` | yes | 0 | that one | no, by the stack | `No`, see [`unwinding()`](unwinding) | nothing |
//! | in a destructor, cancelled or over its limit | yes | not 0 | any | no | `Cancellation` | it becomes `first`, if there is none |
//!
//! If the first ends before others that unwind, it is replaced by an address that belongs to no
//! task ([`note_somebody`](crate::raw::machine::Panics::note_somebody)). A plain thread has no
//! `first`: while it is `panicking`, nothing is raised there.
//!
//! # Where things are
//!
//! - `running`: the running code, and the sections it is in; [`uncancellable`] is one.
//! - `raise`: what is raised, and when it is deferred; what the rest of the crate queries.
//! - `cancel_scope`: frames that are unwound to; each holds a
//!   [`CancelScope`](crate::raw::cancel_scope::CancelScope).
//! - `payload`: what an unwinding carries; running user code to its end.
//! - `panics`: a task that is suspended while its thread panics. `cleanup`: what a stack tells.

mod cancel_scope;
#[cfg_attr(greenloom_loom, path = "cleanup_model.rs")]
mod cleanup;
mod panics;
mod payload;
mod raise;
mod running;

pub(crate) use cancel_scope::{LeftScope, ScopeCancelled, in_cancel_scope};
pub(crate) use payload::{Cancelled, catch_and_forget, drop_whole, whole};
pub use raise::checkpoint;
pub(crate) use raise::{
    Unwinding, Verdict, after_wait, checkpoint_with, deadline_on_thread, is_cancelling, is_over_on_thread, next_look_on_thread,
    raise_after_wait, raise_on_thread, raise_or_defer, unwinding,
};
pub use running::uncancellable;
pub(crate) use running::{Running, Section, SectionKind, ended_in_section, is_in_cancel_scope, running};
