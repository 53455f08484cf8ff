//! Makes a machine's thread report stack overflows of its tasks.

use crate::raw::machine;
use crate::stack::alternate::{AltStack, ensure_alternate_stack, signal_frame_bytes};
use crate::stack::overflow::{self, Fault, Report};

/// Prepares this thread; the preparation lasts as long as the result lives.
pub(crate) fn reports_of_this_thread() -> AltStack {
    overflow::install(lookup);
    ensure_alternate_stack()
}

/// Finds whose fault it is: that of the task that runs on this thread, or nobody's.
///
/// The address decides, if it is in the task's guard. A guard that does not fault may have been
/// overrun a long way before something below it faulted: then the damaged pattern decides. If a
/// signal's frame could not be written, the stack pointer decides.
///
/// # Safety
/// Called by the signal handler, on the faulting thread. It reads a thread-local without a
/// destructor, then memory of the running stack's record. It waits for no lock and allocates
/// nothing.
unsafe fn lookup(fault: &Fault, say: &mut dyn FnMut(&Report<'_>)) -> bool {
    let Some(record) = machine::record() else { return false };
    let (slot, guard) = (record.slot(), record.slot().guard_range());
    // SAFETY: the slot is mapped, and its task runs on this thread.
    let overflow = guard.contains(&fault.address) || !unsafe { slot.canary_intact() };
    // The frame begins below the red zone.
    let room = 128 + signal_frame_bytes();
    let by_signal = fault.no_frame_below.is_some_and(|sp| (guard.start..guard.end + room).contains(&sp));
    if !overflow && !by_signal {
        return false;
    }
    let stack_bytes = slot.class.stack_bytes();
    record.with_name(|id, name, site| say(&Report { id, name, site, stack_bytes, by_signal: !overflow }));
    true
}
