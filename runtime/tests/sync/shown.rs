//! What `sync` has from std is shown as std shows it.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What was shown, each with what it was.
#[derive(Default)]
struct Gallery(Vec<(&'static str, String)>);

impl Gallery {
    fn hang(&mut self, what: &'static str, it: &dyn Debug) {
        self.0.push((what, format!("{it:?}\n{it:#?}")));
    }
}

/// Everything in every state, from `std::sync` or from `greenloom::sync`.
macro_rules! gallery {
    ($library:ident) => {{
        use $library::sync::{Barrier, Condvar, LazyLock, Mutex, Once, OnceLock, RwLock};

        let mut gallery = Gallery::default();
        let panic_with = |f: &dyn Fn()| assert!(catch_unwind(AssertUnwindSafe(f)).is_err());

        let mutex = Mutex::new(Some(1));
        gallery.hang("free mutex", &mutex);
        gallery.hang("what lock gives", &mutex.lock());
        gallery.hang("what try_lock gives", &mutex.try_lock());
        let guard = mutex.lock().unwrap();
        gallery.hang("locked mutex", &mutex);
        gallery.hang("its guard", &guard);
        gallery.hang("what try_lock gives then", &mutex.try_lock());
        drop(guard);
        panic_with(&|| {
            let _guard = mutex.lock();
            panic!("half done");
        });
        gallery.hang("poisoned mutex", &mutex);
        gallery.hang("what lock gives of it", &mutex.lock());
        gallery.hang("what try_lock gives of it", &mutex.try_lock());
        let guard = mutex.lock();
        gallery.hang("poisoned and locked mutex", &mutex);
        drop(guard);
        gallery.hang("what into_inner gives of it", &mutex.into_inner());

        let lock = RwLock::new(Some(1));
        gallery.hang("free lock", &lock);
        gallery.hang("what read gives", &lock.read());
        gallery.hang("what try_write gives", &lock.try_write());
        let guard = lock.read().unwrap();
        gallery.hang("lock that is read", &lock);
        gallery.hang("its guard for reading", &guard);
        gallery.hang("what try_write gives then", &lock.try_write());
        drop(guard);
        let guard = lock.write().unwrap();
        gallery.hang("lock that is written", &lock);
        gallery.hang("its guard for writing", &guard);
        gallery.hang("what try_read gives then", &lock.try_read());
        drop(guard);
        panic_with(&|| {
            let _guard = lock.write();
            panic!("half done");
        });
        gallery.hang("poisoned lock", &lock);
        gallery.hang("what write gives of it", &lock.write());
        let guard = lock.write();
        gallery.hang("poisoned lock that is written", &lock);
        drop(guard);

        let cell = OnceLock::new();
        gallery.hang("empty cell", &cell);
        gallery.hang("what set gives", &cell.set(Some(1)));
        gallery.hang("what set gives then", &cell.set(Some(2)));
        gallery.hang("full cell", &cell);

        let lazy = LazyLock::new(|| Some(1));
        gallery.hang("lazy value", &lazy);
        LazyLock::force(&lazy);
        gallery.hang("lazy value that was made", &lazy);
        let lazy = LazyLock::<()>::new(|| panic!("unmade"));
        panic_with(&|| *lazy);
        gallery.hang("lazy value that could not be made", &lazy);

        let once = Once::new();
        gallery.hang("once", &once);
        panic_with(&|| once.call_once(|| panic!("half done")));
        gallery.hang("poisoned once", &once);
        once.call_once_force(|state| {
            gallery.hang("once that runs", &once);
            gallery.hang("its state", state);
        });
        gallery.hang("once that is done", &once);
        Once::new().call_once_force(|state| gallery.hang("state that is not poisoned", state));

        let (condvar, mutex) = (Condvar::new(), Mutex::new(()));
        gallery.hang("condition", &condvar);
        gallery.hang("what wait_timeout gives", &condvar.wait_timeout(mutex.lock().unwrap(), Duration::ZERO));
        let waited = condvar.wait_timeout_while(mutex.lock().unwrap(), Duration::ZERO, |()| false);
        gallery.hang("what wait_timeout_while gives", &waited.unwrap().1);

        let barrier = Barrier::new(1);
        gallery.hang("barrier", &barrier);
        gallery.hang("what wait gives the leader", &barrier.wait());
        let barrier = Barrier::new(2);
        let mut results = std::thread::scope(|s| {
            let other = s.spawn(|| barrier.wait());
            [barrier.wait(), other.join().unwrap()]
        });
        results.sort_by_key(|result| result.is_leader());
        gallery.hang("what wait gives each", &results);

        gallery
    }};
}

#[test]
fn what_std_has_is_shown_as_std_shows_it() {
    let (ours, stds) = (gallery!(greenloom), gallery!(std));
    assert_eq!(ours.0.len(), stds.0.len());
    for (ours, std) in ours.0.iter().zip(&stds.0) {
        assert_eq!(ours, std);
    }
}
