//! A task beside the one that is tested, on the same machine.

use greenloom::{LocalJoinHandle, spawn_local, yield_now};
use test_support::{Counter, yield_until};

/// Another started task of this machine, which is ready, and counts when its turn comes.
pub struct Other {
    ran: Counter,
    pub task: LocalJoinHandle<()>,
}

impl Other {
    pub fn ready() -> Self {
        let (begun, ran) = (Counter::default(), Counter::default());
        let task = spawn_local({
            let (begun, ran) = (begun.clone(), ran.clone());
            move || {
                begun.add();
                yield_now();
                ran.add();
            }
        });
        yield_until(|| begun.get() == 1);
        let other = Self { ran, task };
        assert!(!other.has_run());
        other
    }

    pub fn has_run(&self) -> bool {
        self.ran.get() == 1
    }

    /// Repeats the operation until the other task has had its turn: on this thread only a suspension
    /// gives it one.
    pub fn wait_repeating(self, mut operation: impl FnMut()) {
        while !self.has_run() {
            operation();
        }
        self.task.join().unwrap();
    }
}
