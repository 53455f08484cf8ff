//! What models of channels share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use greenloom::Runtime;

pub fn runtime() -> Runtime {
    Runtime::builder().processors(1).build().unwrap()
}

/// Counts drops, where loom does not look.
#[derive(Clone, Default)]
pub struct Drops(Arc<AtomicUsize>);

/// A message that counts its drop.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Drops {
    pub fn message(&self) -> Counted {
        Counted(self.0.clone())
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
