//! Unwinding: why the running code is to be unwound, when it may be, and what its thread's panics mean meanwhile.
//!
//! A task unwinds because it panics, because it is cancelled, or because a limit around it is over. The last two are raised here, at
//! the task's next suspension point. Three things put that off: a section that is [`uncancellable`], an unwinding of the same task that
//! is under way (a second one that leaves a destructor ends the process), and the panic hook. They are all the task's own, and
//! cannot change while it is suspended. So nothing has to be made up for when they end.
//!
//! # The states of the running code
//!
//! std counts panics by thread, and tasks share a thread. What a task is in the middle of is told from four things: std's count
//! ([`panicking`](crate::prim::thread::panicking)); the number of its own unwinding, kept while its payload lives
//! ([`Interrupts::unwinding`](crate::raw::interrupts::Interrupts)); which task of the machine was suspended first in its unwinding
//! ([`Panics::first`](crate::raw::machine::Panics)); and, where these do not tell, the stack ([`cleanup`]).
//!
//! | state | `panicking` | `unwinding` | `first` | may be unwound | [`unwinding()`](unwinding) | when it is suspended |
//! |---|---|---|---|---|---|---|
//! | ordinary | no | any | null | yes | `No` | nothing |
//! | ordinary, beside a task suspended in its unwinding | yes | 0 | that one | yes, by the stack | `No` | nothing |
//! | in the panic hook, or in a `Debug` of a panic's message | yes | 0 | null | no | `Panic` | its panic is hidden from the others, and shown again afterwards |
//! | in a destructor, after a panic | yes | 0 | null, or itself | no | `Panic` | it becomes `first`, if there is none |
//! | the same, while another task is `first` | yes | 0 | that one | no, by the stack | `No`: see there | nothing |
//! | in a destructor, cancelled or over its limit | yes | not 0 | any | no | `Cancellation` | it becomes `first`, if there is none |
//!
//! A first that has ended before others that unwind is replaced by an address that is nobody's ([`note_somebody`](crate::raw::machine::Panics::note_somebody)). A plain thread has no `first`: with `panicking`, nothing is raised there.
//!
//! # Where what is
//!
//! - `running`: who runs, and the sections it is in; [`uncancellable`] is one.
//! - `raise`: what is raised, and when it is put off; what the rest of the crate asks.
//! - `bounded`: frames that are unwound to; what lies in them is a [`CancelScope`](crate::raw::cancel_scope::CancelScope).
//! - `payload`: what an unwinding carries; running a user's code to its end.
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
