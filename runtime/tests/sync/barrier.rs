//! `Barrier`, as std's, and `WaitGroup`, as crossbeam's, among tasks, threads and both.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use greenloom::sync::{Barrier, WaitGroup};
use greenloom::{park, yield_now};
use test_support::everywhere::{breathe, everywhere, go, join_all};
use test_support::waiting::{cancel_and_join, in_tasks, let_others_run, spawn_begun};

// Barrier.

#[test]
fn nobody_passes_before_all_have_come() {
    everywhere(|| {
        let (barrier, come) = (Arc::new(Barrier::new(6)), Arc::new(AtomicUsize::new(0)));
        let party = |i| {
            let (barrier, come) = (barrier.clone(), come.clone());
            go(move || {
                (0..i).for_each(|_| yield_now());
                come.fetch_add(1, SeqCst);
                barrier.wait();
                assert_eq!(come.load(SeqCst), 6);
            })
        };
        let early: Vec<_> = (0..5).map(party).collect();
        breathe();
        assert!(!early.iter().any(|party| party.is_finished()));
        party(5).join();
        join_all(early);
    });
}

#[test]
fn every_generation_has_one_leader() {
    everywhere(|| {
        const PARTIES: usize = 4;
        const GENERATIONS: usize = 50;
        let barrier = Arc::new(Barrier::new(PARTIES));
        let leaders: Arc<Vec<AtomicUsize>> = Arc::new((0..GENERATIONS).map(|_| AtomicUsize::new(0)).collect());
        let parties: Vec<_> = (0..PARTIES)
            .map(|_| {
                let (barrier, leaders) = (barrier.clone(), leaders.clone());
                go(move || {
                    for generation in 0..GENERATIONS {
                        if barrier.wait().is_leader() {
                            leaders[generation].fetch_add(1, SeqCst);
                        }
                        // The leader of the last one has passed here, as everyone has.
                        if generation > 0 {
                            assert_eq!(leaders[generation - 1].load(SeqCst), 1);
                        }
                    }
                })
            })
            .collect();
        join_all(parties);
        assert!(leaders.iter().all(|leaders| leaders.load(SeqCst) == 1));
    });
}

#[test]
fn a_barrier_of_one_or_none_holds_nobody() {
    everywhere(|| {
        for n in [0, 1] {
            let barrier = Barrier::new(n);
            assert!(barrier.wait().is_leader());
            assert!(barrier.wait().is_leader());
        }
    });
}

/// The one that was cancelled does not count as having come.
#[test]
fn a_cancelled_waiter_has_not_come() {
    in_tasks(|| {
        let barrier = Arc::new(Barrier::new(2));
        let wait = || {
            let barrier = barrier.clone();
            spawn_begun(move || barrier.wait().is_leader())
        };
        cancel_and_join(wait());
        let second = wait();
        let_others_run();
        assert!(!second.is_finished(), "passed alone");
        let third = wait();
        assert_ne!(second.join().unwrap(), third.join().unwrap(), "one leader");
    });
}

static BARRIER: Barrier = Barrier::new(3);

#[test]
fn a_barrier_can_be_a_static() {
    everywhere(|| {
        let leaders = join_all((0..3).map(|_| go(|| BARRIER.wait().is_leader())).collect::<Vec<_>>());
        assert_eq!(leaders.into_iter().filter(|leader| *leader).count(), 1);
    });
    assert!(format!("{BARRIER:?}").starts_with("Barrier"));
    assert!(format!("{:?}", Barrier::new(1).wait()).contains("is_leader: true"));
}

// WaitGroup.

#[test]
fn a_group_waits_until_its_last_member_is_gone() {
    everywhere(|| {
        let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        let members: Vec<_> = (0..6)
            .map(|i| {
                let (group, done) = (group.clone(), done.clone());
                go(move || {
                    (0..i).for_each(|_| yield_now());
                    breathe();
                    done.fetch_add(1, SeqCst);
                    drop(group);
                })
            })
            .collect();
        group.wait();
        assert_eq!(done.load(SeqCst), 6);
        join_all(members);
    });
}

#[test]
fn members_may_wait_for_each_other() {
    everywhere(|| {
        let (group, come) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        let members: Vec<_> = (0..6)
            .map(|_| {
                let (group, come) = (group.clone(), come.clone());
                go(move || {
                    come.fetch_add(1, SeqCst);
                    group.wait();
                    assert_eq!(come.load(SeqCst), 6);
                })
            })
            .collect();
        breathe();
        assert!(!members.iter().any(|member| member.is_finished()), "the first member is still there");
        drop(group);
        join_all(members);
    });
}

#[test]
fn members_may_bring_members() {
    everywhere(|| {
        let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
        fn tree(depth: u32, group: WaitGroup, done: Arc<AtomicUsize>) {
            drop(go(move || {
                for _ in 0..2 {
                    if depth > 0 {
                        tree(depth - 1, group.clone(), done.clone());
                    }
                }
                done.fetch_add(1, SeqCst);
                drop(group);
            }));
        }
        tree(4, group.clone(), done.clone());
        group.wait();
        assert_eq!(done.load(SeqCst), 31);
    });
}

#[test]
fn a_group_of_one_does_not_wait() {
    everywhere(|| {
        WaitGroup::new().wait();
        let group = WaitGroup::default();
        drop(group.clone());
        group.wait();
    });
}

#[test]
fn a_member_that_panics_or_is_cancelled_is_gone() {
    everywhere(|| {
        let group = WaitGroup::new();
        let member = {
            let group = group.clone();
            go(move || {
                catch_unwind(AssertUnwindSafe(move || {
                    let _group = group;
                    panic!("leaves")
                }))
                .is_err()
            })
        };
        group.wait();
        assert!(member.join());
    });
    in_tasks(|| {
        let group = WaitGroup::new();
        let member = spawn_begun({
            let group = group.clone();
            move || {
                let _group = group;
                park();
            }
        });
        member.cancel();
        group.wait();
        assert!(member.join().unwrap_err().is_cancelled());
    });
}

/// To wait is to leave: a waiter that is cancelled holds nobody up.
#[test]
fn a_cancelled_waiter_holds_nobody_up() {
    in_tasks(|| {
        let group = WaitGroup::new();
        let [first, second] = [0, 1].map(|_| {
            let group = group.clone();
            spawn_begun(move || group.wait())
        });
        cancel_and_join(first);
        assert!(!second.is_finished());
        drop(group);
        second.join().unwrap();
    });
}

#[test]
fn a_group_can_be_shown() {
    assert!(format!("{:?}", WaitGroup::new()).starts_with("WaitGroup"));
}
