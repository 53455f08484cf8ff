//! Time stands still in a model. Deadlines of contexts pass when a thread of the model calls
//! [`fire`], which does what the clock's thread would do.

use std::ptr;

use crate::context::ContextError;
use crate::context::node::{Node, NodeRef};
use crate::prim::Lock;

/// A node that takes itself out of the list before its memory is freed.
struct Watched(*const Node);

// SAFETY: a node that is found in the list, under the lock, is alive and may be used. Any thread
// may use a node.
unsafe impl Send for Watched {}

crate::prim::lazy_static! {
    static ref DUE: Lock<Vec<Watched>> = Lock::new(Vec::new());
}

pub(crate) fn watch(node: &NodeRef) {
    DUE.lock().push(Watched(node.as_ptr()));
}

pub(crate) fn forget(node: &Node) {
    DUE.lock().retain(|watched| !ptr::eq(watched.0, node));
}

/// All deadlines pass.
pub(crate) fn fire() {
    let due: Vec<NodeRef> = {
        let mut due = DUE.lock();
        // SAFETY: a node in the list is alive: it takes itself out, under the lock, before its
        // memory is freed.
        due.drain(..).filter_map(|watched| unsafe { NodeRef::try_from_list(watched.0) }).collect()
    };
    due.into_iter().for_each(|node| node.end(ContextError::DeadlineExceeded, &None));
}
