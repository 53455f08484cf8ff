//! `RwLock`: std's shape and promises, among tasks, threads and both; and a writer gets its turn.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, TryLockError};

use greenloom::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use greenloom::{park, spawn, yield_now};
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::waiting::{cancel_and_join, in_tasks, spawn_begun};
use test_support::{run_on, yield_until};

/// Panics while it holds the lock for writing.
fn poison<T: Send + Sync>(lock: &RwLock<T>) {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let _guard = lock.write();
        panic!("in the section");
    }));
    assert!(result.is_err());
}

fn would_block<T>(result: Result<T, TryLockError<T>>) -> bool {
    matches!(result, Err(TryLockError::WouldBlock))
}

// Sharing and excluding.

#[test]
fn readers_are_in_together() {
    everywhere(|| {
        let (lock, inside) = (Arc::new(RwLock::new(7)), Arc::new(AtomicUsize::new(0)));
        let party = |_| {
            let (lock, inside) = (lock.clone(), inside.clone());
            go(move || {
                let guard = lock.read().unwrap();
                inside.fetch_add(1, SeqCst);
                // None goes before all have come.
                yield_until(|| inside.load(SeqCst) == 6);
                *guard
            })
        };
        assert_eq!(join_all((0..6).map(party).collect::<Vec<_>>()), [7; 6]);
    });
}

#[test]
fn a_writer_is_alone_also_across_a_suspension() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new((0, 0)));
        let mut parties = Vec::new();
        for _ in 0..4 {
            let mine = lock.clone();
            parties.push(go(move || {
                for _ in 0..50 {
                    let mut guard = mine.write().unwrap();
                    guard.0 += 1;
                    yield_now();
                    guard.1 += 1;
                }
            }));
            let mine = lock.clone();
            parties.push(go(move || {
                for _ in 0..50 {
                    let guard = mine.read().unwrap();
                    let (a, b) = *guard;
                    assert_eq!(a, b, "a reader is in with a writer");
                    yield_now();
                    assert_eq!(*guard, (a, b), "a writer is in with a reader");
                }
            }));
        }
        join_all(parties);
        assert_eq!(*lock.read().unwrap(), (200, 200));
    });
}

#[test]
fn try_forms_say_who_may_join_whom() {
    everywhere(|| {
        let lock = RwLock::new(0);
        let reading = lock.try_read().unwrap();
        assert!(lock.try_read().is_ok(), "a reader joins a reader");
        assert!(would_block(lock.try_write()), "no writer joins a reader");
        drop(reading);
        let writing = lock.try_write().unwrap();
        assert!(would_block(lock.try_write()), "no writer joins a writer");
        assert!(would_block(lock.try_read()), "no reader joins a writer");
        drop(writing);
        let readers = [lock.read().unwrap(), lock.read().unwrap()];
        for reader in readers {
            assert!(would_block(lock.try_write()), "a reader is still in");
            drop(reader);
        }
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn readers_and_writers_wait_for_a_writer() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new(0));
        let mut guard = lock.write().unwrap();
        let reader = {
            let lock = lock.clone();
            go(move || *lock.read().unwrap())
        };
        let writer = {
            let lock = lock.clone();
            go(move || std::mem::replace(&mut *lock.write().unwrap(), 2))
        };
        breathe();
        assert!(!reader.is_finished() && !writer.is_finished());
        *guard = 1;
        drop(guard);
        assert_eq!(writer.join(), 1);
        assert!([1, 2].contains(&reader.join()));
    });
}

#[test]
fn a_writer_waits_for_the_last_reader() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new(0));
        let (first, last) = (lock.read().unwrap(), lock.read().unwrap());
        let writer = {
            let lock = lock.clone();
            go(move || *lock.write().unwrap() = 1)
        };
        drop(first);
        breathe();
        assert!(!writer.is_finished());
        assert_eq!(*last, 0);
        drop(last);
        writer.join();
        assert_eq!(*lock.read().unwrap(), 1);
    });
}

/// Each of the waiting readers stays in until all are: the writer's end must let them in together.
#[test]
fn a_writer_lets_all_waiting_readers_in() {
    everywhere(|| {
        let (lock, inside) = (Arc::new(RwLock::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut guard = lock.write().unwrap();
        let readers: Vec<_> = (0..5)
            .map(|_| {
                let (lock, inside) = (lock.clone(), inside.clone());
                go(move || {
                    let guard = lock.read().unwrap();
                    inside.fetch_add(1, SeqCst);
                    yield_until(|| inside.load(SeqCst) == 5);
                    *guard
                })
            })
            .collect();
        breathe();
        assert_eq!(inside.load(SeqCst), 0);
        *guard = 3;
        drop(guard);
        assert_eq!(join_all(readers), [3; 5]);
    });
}

/// Readers come and go so that there is always one in. Still the writer gets its turn.
#[test]
fn a_writer_is_not_starved_by_a_stream_of_readers() {
    everywhere(|| {
        let (lock, written) = (Arc::new(RwLock::new(())), Arc::new(AtomicBool::new(false)));
        let readers: Vec<_> = (0..4)
            .map(|i| {
                let (lock, written) = (lock.clone(), written.clone());
                go(move || {
                    while !written.load(SeqCst) {
                        let guard = lock.read().unwrap();
                        (0..3 + i).for_each(|_| yield_now());
                        drop(guard);
                    }
                })
            })
            .collect();
        breathe();
        let writer = {
            let (lock, written) = (lock.clone(), written.clone());
            go(move || {
                let _guard = lock.write().unwrap();
                written.store(true, SeqCst);
            })
        };
        writer.join();
        join_all(readers);
    });
}

#[test]
fn a_reader_is_not_starved_by_a_stream_of_writers() {
    everywhere(|| {
        let (lock, read) = (Arc::new(RwLock::new(0)), Arc::new(AtomicBool::new(false)));
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let (lock, read) = (lock.clone(), read.clone());
                go(move || {
                    while !read.load(SeqCst) {
                        let mut guard = lock.write().unwrap();
                        *guard += 1;
                        yield_now();
                    }
                })
            })
            .collect();
        breathe();
        let reader = {
            let (lock, read) = (lock.clone(), read.clone());
            go(move || {
                drop(lock.read().unwrap());
                read.store(true, SeqCst);
            })
        };
        reader.join();
        join_all(writers);
    });
}

// From writing to reading.

#[test]
fn a_writer_that_becomes_a_reader_lets_readers_in_and_no_writer() {
    everywhere(|| {
        let lock = RwLock::new(0);
        let mut writing = lock.write().unwrap();
        *writing = 1;
        let reading = RwLockWriteGuard::downgrade(writing);
        assert_eq!((*reading, *lock.try_read().unwrap()), (1, 1));
        assert!(would_block(lock.try_write()));
        drop(reading);
        assert!(lock.try_write().is_ok());
    });
}

/// Each reader stays in until all are, with the writer that was: readers that waited must be let in by the change.
#[test]
fn a_writer_that_becomes_a_reader_is_in_with_those_that_waited() {
    everywhere(|| {
        let (lock, inside) = (Arc::new(RwLock::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut writing = lock.write().unwrap();
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (lock, inside) = (lock.clone(), inside.clone());
                go(move || {
                    let guard = lock.read().unwrap();
                    inside.fetch_add(1, SeqCst);
                    yield_until(|| inside.load(SeqCst) == 3);
                    *guard
                })
            })
            .collect();
        breathe();
        assert_eq!(inside.load(SeqCst), 0);
        *writing = 1;
        let reading = RwLockWriteGuard::downgrade(writing);
        assert_eq!(join_all(readers), [1; 3]);
        drop(reading);
    });
}

#[test]
fn no_writer_comes_between_a_writer_and_the_reader_it_becomes() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new(0));
        let parties = [(); 4].map(|()| {
            let lock = lock.clone();
            go(move || {
                for _ in 0..50 {
                    let mut writing = lock.write().unwrap();
                    *writing += 1;
                    let mine = *writing;
                    let reading = RwLockWriteGuard::downgrade(writing);
                    yield_now();
                    assert_eq!(*reading, mine);
                }
            })
        });
        join_all(parties.into_iter().collect::<Vec<_>>());
        assert_eq!(*lock.try_read().unwrap(), 200);
    });
}

/// The writer that waits is the next, however many readers the change lets in.
#[test]
fn a_writer_behind_one_that_becomes_a_reader_gets_its_turn() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new(0));
        let writing = lock.write().unwrap();
        let writer = {
            let lock = lock.clone();
            go(move || *lock.write().unwrap() += 1)
        };
        breathe();
        let reading = RwLockWriteGuard::downgrade(writing);
        breathe();
        assert!(!writer.is_finished());
        assert_eq!(*reading, 0);
        drop(reading);
        writer.join();
        assert_eq!(*lock.try_read().unwrap(), 1);
    });
}

// Poisoning.

#[test]
fn a_writers_panic_poisons() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new(7));
        let party = {
            let lock = lock.clone();
            go(move || poison(&lock))
        };
        party.join();
        assert!(lock.is_poisoned());
        assert_eq!(*lock.read().unwrap_err().into_inner(), 7);
        assert_eq!(*lock.write().unwrap_err().into_inner(), 7);
        assert!(matches!(lock.try_read(), Err(TryLockError::Poisoned(_))));
        assert!(matches!(lock.try_write(), Err(TryLockError::Poisoned(_))));
        lock.clear_poison();
        assert_eq!(*lock.read().unwrap(), 7);
    });
}

#[test]
fn a_readers_panic_does_not_poison() {
    everywhere(|| {
        let lock = Arc::new(RwLock::new(7));
        let party = {
            let lock = lock.clone();
            go(move || {
                catch_unwind(AssertUnwindSafe(|| {
                    let _guard = lock.read().unwrap();
                    panic!("in the section");
                }))
                .is_err()
            })
        };
        assert!(party.join());
        assert!(!lock.is_poisoned());
        assert_eq!(*lock.write().unwrap(), 7);
    });
}

// Cancellation.

#[test]
fn a_cancelled_holder_gives_the_lock_back_and_does_not_poison_it() {
    in_tasks(|| {
        for writes in [false, true] {
            let (lock, holding) = (Arc::new(RwLock::new(0)), Arc::new(AtomicBool::new(false)));
            let holder = spawn({
                let (lock, holding) = (lock.clone(), holding.clone());
                move || {
                    let _guards = if writes { (None, Some(lock.write().unwrap())) } else { (Some(lock.read().unwrap()), None) };
                    holding.store(true, SeqCst);
                    loop {
                        park();
                    }
                }
            });
            yield_until(|| holding.load(SeqCst));
            let writer = spawn_begun({
                let lock = lock.clone();
                move || *lock.write().unwrap() = 1
            });
            cancel_and_join(holder);
            writer.join().unwrap();
            assert!(!lock.is_poisoned());
            assert_eq!(*lock.read().unwrap(), 1);
        }
    });
}

#[test]
fn a_cancelled_waiter_leaves_the_queue() {
    in_tasks(|| {
        for leaves in 0..4 {
            let lock = Arc::new(RwLock::new(0));
            let guard = lock.write().unwrap();
            let mut waiters: Vec<_> = (0..4)
                .map(|i| {
                    let lock = lock.clone();
                    spawn_begun(move || {
                        if i % 2 == 0 {
                            *lock.write().unwrap() += 1;
                        } else {
                            drop(lock.read().unwrap());
                        }
                    })
                })
                .collect();
            cancel_and_join(waiters.remove(leaves));
            drop(guard);
            waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
            assert_eq!(*lock.try_write().unwrap(), if leaves % 2 == 0 { 1 } else { 2 });
        }
    });
}

/// A reader stands behind a writer that stands behind a reader. With the writer gone nothing keeps the two readers apart.
#[test]
fn a_cancelled_writer_lets_the_readers_behind_it_in() {
    in_tasks(|| {
        let lock = Arc::new(RwLock::new(0));
        let reading = lock.read().unwrap();
        let writer = spawn_begun({
            let lock = lock.clone();
            move || *lock.write().unwrap() = 1
        });
        let readers = [0, 1].map(|_| {
            let lock = lock.clone();
            spawn_begun(move || *lock.read().unwrap())
        });
        cancel_and_join(writer);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 0);
        }
        drop(reading);
        assert!(lock.try_write().is_ok());
    });
}

#[test]
fn a_lock_given_to_a_cancelled_waiter_is_not_lost() {
    in_tasks(|| {
        for round in 0..200 {
            let lock = Arc::new(RwLock::new(0));
            let guard = lock.write().unwrap();
            let [first, second] = [0, 1].map(|i| {
                let lock = lock.clone();
                spawn_begun(move || match (round + i) % 3 {
                    0 => drop(lock.read().unwrap()),
                    _ => *lock.write().unwrap() += 1,
                })
            });
            if round % 2 == 0 {
                drop(guard);
                first.cancel();
            } else {
                first.cancel();
                drop(guard);
            }
            let _ = first.join();
            second.join().unwrap();
            assert!(lock.try_write().is_ok(), "nobody is left");
        }
    });
}

/// A destructor suspends its task in the middle of a panic. The other tasks of that thread are not panicking.
#[test]
fn another_tasks_panic_on_the_same_thread_does_not_poison() {
    run_on(1, || {
        let lock = Arc::new(RwLock::new(0));
        let (panicking, go_on) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let guard = lock.write().unwrap();
        let other = spawn({
            let (panicking, go_on) = (panicking.clone(), go_on.clone());
            move || {
                let _suspends = test_support::OnDrop::new(move || {
                    panicking.store(true, SeqCst);
                    yield_until(|| go_on.load(SeqCst));
                });
                panic!("slowly");
            }
        });
        yield_until(|| panicking.load(SeqCst));
        drop(guard);
        assert!(!lock.is_poisoned());
        go_on.store(true, SeqCst);
        assert!(other.join().unwrap_err().is_panic());
    });
}

// The value, and the rest of std's shape.

static COUNT: RwLock<u32> = RwLock::new(0);

#[test]
fn a_lock_can_be_a_static() {
    everywhere(|| {
        let before = *COUNT.read().unwrap();
        join_all((0..4).map(|_| go(|| *COUNT.write().unwrap() += 1)).collect::<Vec<_>>());
        assert_eq!(*COUNT.read().unwrap(), before + 4);
    });
}

#[test]
fn the_value_can_be_reached_without_locking() {
    let mut lock = RwLock::new(String::from("a"));
    lock.get_mut().unwrap().push('b');
    assert_eq!(lock.into_inner().unwrap(), "ab");
    let mut lock = RwLock::new(1);
    poison(&lock);
    assert!(lock.get_mut().is_err());
    assert_eq!(lock.into_inner().unwrap_err().into_inner(), 1);
}

#[test]
fn a_lock_may_hold_what_has_no_size() {
    let slice: &RwLock<[i32]> = &RwLock::new([1, 2, 3]);
    slice.write().unwrap().reverse();
    assert_eq!(*slice.read().unwrap(), [3, 2, 1]);
}

#[test]
fn guards_are_safe_to_unwind_with_as_stds() {
    fn safe<G: UnwindSafe + RefUnwindSafe>(_: G) {}
    let lock = RwLock::new(0);
    safe(lock.read().unwrap());
    safe(lock.write().unwrap());
    let lock = RwLock::new(Cell::new(0));
    safe(lock.write().unwrap());
}

#[test]
fn a_guard_for_reading_may_shorten_the_lifetimes_in_its_value() {
    fn either<'a>(guard: RwLockReadGuard<'_, &'a str>, other: &'a str) -> &'a str {
        if guard.is_empty() { other } else { *guard }
    }
    let long = String::from("long");
    let lock = RwLock::new(long.as_str());
    {
        let short = String::from("short");
        assert_eq!(either(lock.read().unwrap(), &short), "long");
    }
    assert_eq!(*lock.into_inner().unwrap(), *long);
}

#[test]
fn it_is_made_from_a_value_or_from_nothing() {
    assert_eq!(*RwLock::from(3).read().unwrap(), 3);
    assert_eq!(*RwLock::<u8>::default().read().unwrap(), 0);
}

#[test]
fn it_shows_its_value_unless_it_is_locked_for_writing() {
    let lock = RwLock::new(42);
    let shown = format!("{lock:?}");
    assert!(shown.starts_with("RwLock") && shown.contains("42"), "{shown}");
    let guard = lock.read().unwrap();
    assert!(format!("{lock:?}").contains("42"), "a reader does not hide it");
    assert_eq!((format!("{guard:?}"), format!("{guard}")), ("42".into(), "42".into()));
    drop(guard);
    let guard = lock.write().unwrap();
    let shown = format!("{lock:?}");
    assert!(shown.contains("locked") && !shown.contains("42"), "{shown}");
    assert_eq!((format!("{guard:?}"), format!("{guard}")), ("42".into(), "42".into()));
}
