//! What contexts carry: a chain of values, the newest first.

use std::any::{Any, TypeId, type_name};
use std::fmt;

use crate::prim::untracked::Arc;

type Shared = Arc<dyn Any + Send + Sync>;

#[derive(Clone, Default)]
pub(super) struct Values(Option<Arc<Link>>);

struct Link {
    value: Shared,
    name: &'static str,
    older: Values,
}

impl Values {
    pub(super) const NONE: Values = Values(None);

    pub(super) fn with<T: Send + Sync + 'static>(&self, value: T) -> Values {
        Values(Some(Arc::new(Link { value: Arc::new(value), name: type_name::<T>(), older: self.clone() })))
    }

    pub(super) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let value = self.links().find(|link| (*link.value).type_id() == TypeId::of::<T>())?.value.clone();
        value.downcast().ok()
    }

    fn links(&self) -> impl Iterator<Item = &Link> {
        std::iter::successors(self.0.as_deref(), |link| link.older.0.as_deref())
    }
}

impl Drop for Values {
    /// A loop, since chains may be long. If a value's destructor panics, the unwinding drops the
    /// rest of the chain.
    fn drop(&mut self) {
        let mut rest = self.0.take();
        while let Some(link) = rest {
            rest = Arc::into_inner(link).and_then(|mut link| link.older.0.take());
        }
    }
}

/// The types of the values, the newest first.
impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.links().map(|link| link.name)).finish()
    }
}
