//! The reserved stack of each machine, for ending tasks that have no stack.
//!
//! If there is no memory for a task's stack, its closure has to be dropped, and the hook for panics
//! called. Both run user code, which may wait. On the machine's own stack, between two
//! tasks, that code would block the machine, and with it perhaps the task that it waits for. So
//! each machine has one stack that was reserved when the machine started (only addresses; its
//! memory comes with its first use). On that stack, such an end is a task like others: it may
//! suspend, and it appears in reports.
//!
//! While one such task is suspended, further ones wait here. They start, or end, when the stack is
//! free again: there may be memory by then. They go one at a time, so that they do not take what
//! memory there is from each other. The next one goes when the machine has nothing else to run, or
//! now and then if that never happens.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;

use crate::raw::error::JoinError;
use crate::raw::header::TaskPtr;
use crate::raw::record::{Record, StackPtr};
use crate::scheduler::completion::body_of_reserve;
use crate::scheduler::local::Local;
use crate::scheduler::report;
use crate::stack::slab::Slot;

pub(crate) struct Reserve {
    slot: Slot,
    /// `Some` once the stack has been used.
    stack: Cell<Option<StackPtr>>,
    in_use: Cell<bool>,
    /// The error for the task that ends there.
    why: Cell<Option<io::Error>>,
    /// The task gets that error, and is not told that it was cancelled.
    refuses: Cell<bool>,
    /// Fresh tasks that wait until the stack is free. While it is not free, the machine has a
    /// started task, and does not end. While it is free, the machine does not sleep before each of
    /// these tasks has had its turn.
    waiting: RefCell<VecDeque<TaskPtr>>,
}

impl Reserve {
    /// Makes a reserve from a slot that nobody else uses.
    pub(crate) fn new(slot: Slot) -> Self {
        Self {
            slot,
            stack: Cell::new(None),
            in_use: Cell::new(false),
            why: Cell::new(None),
            refuses: Cell::new(false),
            waiting: RefCell::default(),
        }
    }

    fn stack(&self) -> StackPtr {
        self.stack.get().unwrap_or_else(|| {
            // SAFETY: the slot is this machine's alone, and its slab lives as long as the machine.
            let stack = unsafe { StackPtr::create(self.slot) };
            stack.record().start_coroutine(body_of_reserve);
            self.stack.set(Some(stack));
            stack
        })
    }
}

impl Local {
    /// A fresh task has no stack. Returns the stack on which it ends, or `None` if it has to wait
    /// for that.
    #[cold]
    pub(crate) fn refuse(&self, task: TaskPtr, error: io::Error) -> Option<StackPtr> {
        let reserve = &self.reserve;
        if reserve.in_use.replace(true) {
            reserve.waiting.borrow_mut().push_back(task);
            return None;
        }
        reserve.why.set(Some(error));
        Some(reserve.stack())
    }

    /// Ends a task on the reserved stack.
    ///
    /// # Safety
    /// The task is fresh, and bound to that stack, on which this runs.
    pub(crate) unsafe fn end_refused(&self, task: TaskPtr) {
        let why = self.reserve.why.take();
        let error = match why {
            Some(why) if !task.state().is_cancelled() => {
                let what = format!("greenloom: a task could not start, because there is no stack for it: {why}");
                report::panicked(task, &what, Some(&self.shared));
                JoinError::panicked(Box::new(what))
            }
            _ => JoinError::cancelled(),
        };
        self.reserve.refuses.set(error.is_panic());
        // SAFETY: the caller owns the fresh task, as `# Safety` demands.
        unsafe { task.fail(error, &self.shared) };
        self.reserve.refuses.set(false);
    }

    /// Whether the task on this stack ends because there was no stack for it.
    pub(crate) fn refuses(&self, record: &Record) -> bool {
        self.reserve.refuses.get() && self.reserve.stack.get() == Some(record.stack())
    }

    /// The task on the reserved stack has ended, so the next waiting one has its turn.
    #[cold]
    pub(crate) fn stop_refused(&self, record: &Record) {
        debug_assert_eq!(self.reserve.stack.get(), Some(record.stack()));
        self.set_live(self.live() - 1);
        self.reserve.in_use.set(false);
        self.retry_refused();
    }

    /// Gives one of the waiting tasks its turn, if the stack is free. Returns whether there was
    /// one.
    ///
    /// The task may find a stack of its own by now. Then no task ends on the reserved stack, which
    /// would give the next one its turn. So this is also called when the machine has nothing else
    /// to run, and when it looks at what it neglects.
    #[cold]
    pub(crate) fn retry_refused(&self) -> bool {
        let next = if self.reserve.in_use.get() { None } else { self.pop_refused() };
        next.inspect(|&task| self.push_ready(task)).is_some()
    }

    /// Ends the waiting tasks when the machine will not start another task. They end on the
    /// machine's own stack: it has nothing else to do any more.
    pub(crate) fn cancel_refused(&self) {
        while let Some(task) = self.pop_refused() {
            // SAFETY: the task was taken from its queue, and is fresh.
            unsafe { task.fail(JoinError::cancelled(), &self.shared) };
        }
    }

    fn pop_refused(&self) -> Option<TaskPtr> {
        self.reserve.waiting.borrow_mut().pop_front()
    }
}
