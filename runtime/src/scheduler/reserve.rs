//! The stack of each machine on which tasks end that have none.
//!
//! Where there is no memory for a task's stack, its closure has to be dropped, and the hook for panics called: code of the user's, which
//! may wait. On the machine's own stack, between two tasks, it would block the machine, and with it perhaps what it waits for. So each
//! machine has one stack that was set aside when it started (addresses alone; its memory comes with its first use), and such an end
//! is a task like others there: it may suspend, and is in reports. While one does, further ones wait here. They start, or end, when the
//! stack is free again: there may be memory by then. One at a time, lest they take what memory there is from each other: the next one when
//! the machine has nothing else to run, or now and then if it never comes to that.

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
    /// Once it has been used.
    stack: Cell<Option<StackPtr>>,
    in_use: Cell<bool>,
    /// What the task that ends there is to be told.
    why: Cell<Option<io::Error>>,
    /// It is told so, and not that it was cancelled.
    refuses: Cell<bool>,
    /// Fresh tasks that wait until the stack is free. While it is not, the machine has a task that has started, and does not end; while it
    /// is, the machine does not sleep before each of them has had its turn.
    waiting: RefCell<VecDeque<TaskPtr>>,
}

impl Reserve {
    /// With a slot that nobody else uses.
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
    /// A fresh task has no stack. The one where it ends, or `None` if it has to wait for that.
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
    /// The task is bound to that stack, which this runs on, and fresh.
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
        // SAFETY: the caller's promise.
        unsafe { task.fail(error, &self.shared) };
        self.reserve.refuses.set(false);
    }

    /// Whether the task on this stack ends because there is none for it.
    pub(crate) fn refuses(&self, record: &Record) -> bool {
        self.reserve.refuses.get() && self.reserve.stack.get() == Some(record.stack())
    }

    /// The task on the reserved stack has ended: the next one that waited has its turn.
    #[cold]
    pub(crate) fn stop_refused(&self, record: &Record) {
        debug_assert_eq!(self.reserve.stack.get(), Some(record.stack()));
        self.set_live(self.live() - 1);
        self.reserve.in_use.set(false);
        self.retry_refused();
    }

    /// One of those that wait has its turn, if the stack is free; whether there was one.
    ///
    /// It may find a stack of its own by now. Then nobody ends on the reserved one, after whom the next would have its turn: so this is
    /// also asked for where the machine has nothing else to run, and where it looks at what it neglects.
    #[cold]
    pub(crate) fn retry_refused(&self) -> bool {
        let next = if self.reserve.in_use.get() { None } else { self.pop_refused() };
        next.inspect(|&task| self.push_ready(task)).is_some()
    }

    /// Ends those that wait, where the machine will not start another task, on its own stack: it has nothing else to do any more.
    pub(crate) fn cancel_refused(&self) {
        while let Some(task) = self.pop_refused() {
            // SAFETY: taken from its queue, and fresh.
            unsafe { task.fail(JoinError::cancelled(), &self.shared) };
        }
    }

    fn pop_refused(&self) -> Option<TaskPtr> {
        self.reserve.waiting.borrow_mut().pop_front()
    }
}
