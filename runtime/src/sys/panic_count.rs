//! Suspending a task in the middle of a panic, before its unwinding: in the panic hook, or in the `Debug` of something in the panic's
//! message.
//!
//! std counts the panics of a thread, and marks the count from when a panic begins until its hook has returned. While it is marked, a
//! second panic ends the process; an unwinding that is raised (by `resume_unwind`) is not counted; and one that is caught is
//! counted off all the same, and takes the mark away. All that is the thread's. If its other tasks ran meanwhile, a panic of any
//! would end the process, and the end of an unwinding would leave the count wrong for good.
//!
//! So the count goes with the task. [`hide`] raises an unwinding and catches it: that takes the mark away, and one from the count.
//! [`show`] begins a panic, whose message raises an unwinding before the hook is called, and which never comes to where it is caught: that
//! adds one to the count, and the mark. It happens on a stack of its own, which is given up in the middle.
//!
//! A panic reads std's lock of the hook, which the suspended one holds to read as well. If a thread waits in `set_hook` when [`show`] is
//! called, that lock lets no more readers in, and neither ever goes on. Nothing tells whether one waits, so the documentation forbids it.
//!
//! The count of the process, by which std spares threads a look at their own, stays two too high: no more than that saving is lost.
//!
//! None of it is promised. It is how std 1.95 does it (`library/std/src/panicking.rs`), and `tests/task/panic_hook.rs` notices a change.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use corosensei::stack::Stack;
use corosensei::{Coroutine, Yielder};

/// Takes the one panic of this thread, whose hook has not returned, from its count. False if there is a panic all the same: then the hook
/// had returned, and nothing has changed.
#[cold]
pub(crate) fn hide() -> bool {
    let _ = catch_unwind(|| resume_unwind(Box::new(())));
    !std::thread::panicking()
}

/// Adds what [`hide`] has taken.
#[cold]
pub(crate) fn show() {
    /// Leaves the stack for good.
    struct Leave<'a>(&'a Yielder<(), ()>);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            self.0.suspend(());
        }
    }
    struct Raise;
    impl fmt::Display for Raise {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            resume_unwind(Box::new(()))
        }
    }
    let mut panics = Coroutine::<(), (), (), Memory>::with_stack(Memory::new(), |yielder, ()| {
        // An unwinding begins only where somebody will catch it; the coroutine's root need not.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _leave = Leave(yielder);
            panic!("{Raise}")
        }));
    });
    panics.resume(());
    // SAFETY: nothing on its stack needs a destructor: it is the unwinding that has run those of std's frames. What that is made of is
    // leaked.
    unsafe { panics.force_reset() };
}

/// Room for a panic. No Box: where one is moved, the compiler takes it for the only way to what is in it.
struct Memory(Vec<u128>);

impl Memory {
    fn new() -> Self {
        Self(vec![0; 1 << 12])
    }
}

// SAFETY: 64 KiB of memory that stays where it is. What runs there is known and needs a tenth of that, which takes the place of a guard.
unsafe impl Stack for Memory {
    fn base(&self) -> NonZeroUsize {
        let end = self.0.as_ptr().wrapping_add(self.0.len());
        NonZeroUsize::new(end.expose_provenance()).expect("it is the end of something")
    }

    fn limit(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.as_ptr().expose_provenance()).expect("a pointer to something is not null")
    }
}
