//! The panics of a thread, which its tasks share.
//!
//! std counts panics by thread, and tells only whether there are any. A task that is suspended in
//! the middle of a panic leaves it counted while others run. Where the task is suspended decides
//! what happens to the count:
//!
//! - *In the panic hook*, or where the message is made, the count also carries std's mark that a
//!   hook runs. Both go with the task ([`panic_count`]): for the other tasks there is no panic.
//! - *In a destructor of its unwinding*, the count stays, and `std::thread::panicking` is true for
//!   the whole thread until the task has unwound. Code of this crate that would rely on it checks
//!   further. Code that is about to raise an unwinding inspects its own stack ([`cleanup`]). Locks,
//!   which poison, are told whether their task is the one that was first suspended this way.
//!
//! The two are told apart by the task's stack when the task is suspended. That takes long, so it is
//! not done while another task is suspended in its unwinding, since every suspension on the thread
//! would have to do it. A task in the hook then goes unnoticed, and if another task panics before
//! it goes on, std ends the process.

use std::ptr::{eq, null};

use crate::prim::untracked::{AtomicBool, Ordering};
use crate::prim::{panic_count, thread};
use crate::raw::machine::{Panics, machine};
use crate::raw::reason::Reason;
use crate::raw::record::{Record, Suspend};
use crate::sys::stderr::say;
use crate::unwind::cleanup;
use crate::unwind::raise::is_cancelling;
use crate::unwind::running::Who;

impl Panics {
    /// Called after a switch away from the task on this stack, which may have ended, while a task
    /// is noted. Forgets the noted task if none unwinds any more.
    #[cold]
    pub(crate) fn forget_first(&self, record: &Record, ended: bool) {
        if !thread::panicking() {
            self.first.set(null());
        } else if ended && eq(self.first.get(), record) {
            self.note_somebody();
        }
    }

    /// Whether the thread's panic belongs to the running task, on this stack, as far as is noted.
    pub(crate) fn are_of(&self, record: &Record) -> bool {
        !self.are_noted() || eq(self.first.get(), record)
    }

    /// Whether the running task, on this stack, must not begin to unwind, given that its thread
    /// panics: it is in the middle of an unwinding or of the panic hook.
    pub(crate) fn forbid_unwinding_of(&self, record: &Record) -> bool {
        !self.are_noted() || cleanup::is_in_cleanup(record)
    }
}

impl Record {
    /// Switches from the running task to its worker.
    ///
    /// Always inlined, and so are its callers up to the public functions. The switch leaves by a
    /// `ret`, and the CPU predicts its target to be behind the innermost call. If that call is the
    /// resumption, both switches are predicted. With one more frame in between neither is, which
    /// costs some 20 ns.
    #[inline(always)]
    pub(crate) fn suspend(&self, how: Suspend, reason: Reason) {
        if thread::panicking() {
            self.suspend_panicking(how, reason);
        } else {
            self.switch(how, reason);
        }
    }

    /// Like `suspend`, while the thread panics; see the module.
    #[cold]
    #[inline(never)]
    fn suspend_panicking(&self, how: Suspend, reason: Reason) {
        let hidden = hide_or_note();
        self.switch(how, reason);
        if hidden {
            panic_count::show();
        }
    }
}

/// The running task is about to be suspended while its thread panics. Returns whether it has hidden
/// its own panic from the other tasks, in which case the caller must show it again afterwards.
#[cold]
fn hide_or_note() -> bool {
    let Some(machine) = machine() else { return false };
    let Some(record) = machine.record() else { return false };
    let panics = &machine.panics;
    if panics.are_noted() {
        return false;
    }
    // The panic belongs to the running task.
    if !is_cancelling() && !cleanup::is_in_cleanup(record) && panic_count::hide() {
        say_that_hook_waits(record);
        return true;
    }
    panics.first.set(record);
    false
}

/// Reports, once, that the panic hook waits.
fn say_that_hook_waits(record: &Record) {
    // Relaxed: a flag that carries no data.
    static SAID: AtomicBool = AtomicBool::new(false);
    if !SAID.swap(true, Ordering::Relaxed) {
        say(format_args!(
            "greenloom: {}: it waits in the panic hook, or in a Debug or Display in a panic's message. No limit and no cancellation ends \
             that, and std::panic::set_hook would wait for it for ever: a hook should hand over what it has without waiting",
            Who(Some(record))
        ));
    }
}
