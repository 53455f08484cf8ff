//! Time stands still in a model: deadlines of contexts come when a thread of the model calls [`fire`], which does what the clock's
//! thread would.

use std::ptr;

use crate::context::ContextError;
use crate::context::node::{Node, NodeRef};
use crate::prim::Lock;

/// A node that takes itself out before its memory goes.
struct Watched(*const Node);

// SAFETY: whoever finds it in the list, under the lock, may use it: it is alive. Any thread may use a node.
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

/// All deadlines come.
pub(crate) fn fire() {
    let due: Vec<NodeRef> = {
        let mut due = DUE.lock();
        // SAFETY: what is in the list is alive, since it takes itself out, under the lock, before its memory goes.
        due.drain(..).filter_map(|watched| unsafe { NodeRef::try_from_list(watched.0) }).collect()
    };
    due.into_iter().for_each(|node| node.end(ContextError::DeadlineExceeded, &None));
}
