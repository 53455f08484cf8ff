//! Makes a machine's thread report stack overflows of its tasks.

use crate::scheduler::local;
use crate::stack::alternate::{AltStack, ensure_alternate_stack};
use crate::stack::overflow::{self, Report};

/// Prepares this thread, as long as the result lives.
pub(crate) fn this_thread() -> AltStack {
    overflow::install(lookup);
    ensure_alternate_stack()
}

/// Whose overflow the fault is: that of the task that runs on this thread, or nobody's.
///
/// The address tells, if it is in the task's guard. A guard that does not fault may have been overrun a long way before something
/// below it did: then the damaged pattern tells.
///
/// # Safety
/// Called by the signal handler, on the faulting thread. It reads a thread-local without a destructor, then memory of the running
/// stack's record: no lock is waited for, nothing is allocated.
unsafe fn lookup(addr: usize, say: &mut dyn FnMut(&Report<'_>)) -> bool {
    let Some((_, record)) = local::running() else { return false };
    // SAFETY: the slot is mapped, and its task runs on this thread.
    if !record.slot().guard_range().contains(&addr) && unsafe { record.slot().canary_intact() } {
        return false;
    }
    record.with_name(|id, name, site| say(&Report { id, name, site, stack_bytes: record.slot().class.usable_bytes() }));
    true
}
