//! The panics of a thread, which its tasks share.
//!
//! std counts them by thread, and says no more than whether there are any. A task that is suspended in the middle of one leaves it
//! counted while others run. Where that is decides what becomes of it:
//!
//! - *In the panic hook*, or where the message is made, the count also carries std's mark that a hook runs. Both go with the task
//!   ([`panic_count`]): for the others there is no panic.
//! - *In a destructor of its unwinding*, the count stays, and `std::thread::panicking` is true for all of the thread until the task has
//!   unwound. What of ours would go by it asks further: who is about to raise an unwinding looks at its own stack
//!   ([`cleanup`]); locks, which poison, are told whether it is their task that was suspended so first.
//!
//! The two are told apart when the task is suspended, by its stack. That takes long; so it is not done while another task is suspended in
//! its unwinding, since every suspension on the thread would have to do it. Then a task in the hook is not noticed, and if another
//! panics before it goes on, std ends the process.

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
    /// After a switch away from the task on this stack, which may have ended, while one is noted: forgets that one, if none unwinds any more.
    #[cold]
    pub(crate) fn forget_first(&self, record: &Record, ended: bool) {
        if !thread::panicking() {
            self.first.set(null());
        } else if ended && eq(self.first.get(), record) {
            self.note_somebody();
        }
    }

    /// Whether the thread's panic is that of the running task, on this stack, as far as is noted.
    pub(crate) fn are_of(&self, record: &Record) -> bool {
        !self.are_noted() || eq(self.first.get(), record)
    }

    /// Whether the running task, on this stack, must not begin to unwind, given that its thread panics: it is in the middle of an unwinding
    /// or of the panic hook.
    pub(crate) fn forbid_unwinding_of(&self, record: &Record) -> bool {
        !self.are_noted() || cleanup::is_in_cleanup(record)
    }
}

impl Record {
    /// Switches from the running task to its worker.
    ///
    /// Always inlined, and so are its callers up to the public functions: the switch leaves by a `ret`, whose target the CPU
    /// predicts to be behind the innermost call. If that call is the resumption, both switches are predicted; with one more
    /// frame in between neither is, which costs some 20 ns.
    #[inline(always)]
    pub(crate) fn suspend(&self, how: Suspend, reason: Reason) {
        if thread::panicking() {
            self.suspend_panicking(how, reason);
        } else {
            self.switch(how, reason);
        }
    }

    /// The same while the thread panics; see the module.
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

/// The running task is about to be suspended while its thread panics. Whether it has hidden its own panic from the others, so that the
/// caller must show it again afterwards.
#[cold]
fn hide_or_note() -> bool {
    let Some(machine) = machine() else { return false };
    let Some(record) = machine.record() else { return false };
    let panics = &machine.panics;
    if panics.are_noted() {
        return false;
    }
    // The panic is the running task's.
    if !is_cancelling() && !cleanup::is_in_cleanup(record) && panic_count::hide() {
        say_that_hook_waits(record);
        return true;
    }
    panics.first.set(record);
    false
}

/// Says so, once.
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
