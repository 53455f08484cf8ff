//! Runs that last longer than a time slice: one word for the whole process.
//!
//! A task that never has to wait (a receiver whose channel is never empty, say) can hold its
//! machine for as long as it likes. So every operation that may wait checks first
//! [whether the time is up](crate::wait::look_at_slice). It is up when the monitor has seen the
//! same run for a slice, or when a timer of that machine is late. Finding the current machine costs
//! a call. This word costs a load; a monitor sets it while it sees such a run in its runtime.

use crate::prim::untracked::{AtomicU32, Ordering};

/// About how many monitors see such a run. Nothing depends on when a change is seen.
static MONITORS: AtomicU32 = AtomicU32::new(0);

/// Whether any run in the process may have lasted too long.
#[inline(always)]
pub(crate) fn is_any() -> bool {
    MONITORS.load(Ordering::Relaxed) != 0
}

/// Whether one monitor sees such a run.
#[derive(Default)]
pub(crate) struct Seen(bool);

impl Seen {
    pub(crate) fn set(&mut self, seen: bool) {
        if std::mem::replace(&mut self.0, seen) == seen {
            return;
        }
        if seen {
            MONITORS.fetch_add(1, Ordering::Relaxed);
        } else {
            MONITORS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Seen {
    fn drop(&mut self) {
        self.set(false);
    }
}
