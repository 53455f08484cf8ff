//! Lets a task be suspended in the middle of a panic, before its unwinding: in the panic hook, or
//! in the `Debug` of something in the panic's message.
//!
//! std counts the panics of a thread, and marks the count from the beginning of a panic until its
//! hook has returned. While it is marked, a second panic ends the process. An unwinding that is
//! raised by `resume_unwind` is not counted. But when it is caught, it is subtracted from the count
//! all the same, and the mark is removed. All of this belongs to the thread. If the thread's other
//! tasks ran meanwhile, a panic of any of them would end the process, and the end of an unwinding
//! would leave the count wrong for good.
//!
//! So the count goes with the task. [`hide`] raises an unwinding and catches it: that removes the
//! mark, and subtracts one from the count. [`show`] begins a panic whose message raises an
//! unwinding before the hook is called, and that unwinding never reaches the place where it would
//! be caught: that adds one to the count, and the mark. It happens on a stack of its own, which is
//! given up half way.
//!
//! A panic takes std's lock of the hook for reading, and so does the suspended panic. If a thread
//! waits in `set_hook` when [`show`] is called, that lock lets no more readers in, and neither of
//! the two ever goes on. There is no way to tell whether a thread waits there, so the documentation
//! forbids it.
//!
//! std also keeps a count for the process, which saves threads a look at their own. It stays two
//! too high; only that saving is lost.
//!
//! None of this is guaranteed. It is how std 1.95 works (`library/std/src/panicking.rs`), and
//! `tests/task/panic_hook.rs` notices a change.

use std::fmt;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use corosensei::stack::Stack;
use corosensei::{Coroutine, Yielder};

/// Takes this thread's one panic, whose hook has not returned, off the thread's count. Returns
/// false if a panic is still counted: then the hook had returned, and nothing has changed.
#[cold]
pub(crate) fn hide() -> bool {
    let _ = catch_unwind(|| resume_unwind(Box::new(())));
    !std::thread::panicking()
}

/// Adds back what [`hide`] has taken.
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
        // An unwinding begins only if something will catch it; the coroutine's root might not.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let _leave = Leave(yielder);
            panic!("{Raise}")
        }));
    });
    panics.resume(());
    // SAFETY: nothing on its stack needs a destructor, since the unwinding has run those of std's
    // frames. The unwinding's own memory is leaked.
    unsafe { panics.force_reset() };
}

/// Room for a panic. Not a Box: when a Box is moved, the compiler assumes that nothing else points
/// to its contents.
struct Memory(Vec<u128>);

impl Memory {
    fn new() -> Self {
        Self(vec![0; 1 << 12])
    }
}

// SAFETY: 64 KiB of memory that stays where it is. The code that runs there is known and needs a
// tenth of that, so no guard is needed.
unsafe impl Stack for Memory {
    fn base(&self) -> NonZeroUsize {
        let end = self.0.as_ptr().wrapping_add(self.0.len());
        NonZeroUsize::new(end.expose_provenance()).expect("it is the end of something")
    }

    fn limit(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.0.as_ptr().expose_provenance()).expect("a pointer to something is not null")
    }
}
