//! Nobody starves. One processor unless a test is about more, and loops that end when the one that could starve has run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use greenloom::channel::{bounded, never, select};
use greenloom::task::{Builder, Placement};
use greenloom::{Handle, current, park, spawn, spawn_local, yield_now};
use test_support::{Counter, Slot, run_on, spin_until, yield_until};

#[derive(Clone, Default)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn set(&self) {
        self.0.store(true, SeqCst);
    }

    fn is_set(&self) -> bool {
        self.0.load(SeqCst)
    }
}

/// `fn f() { spawn(f) }`, until the flag is set.
fn spawn_for_ever(until: Flag) {
    if !until.is_set() {
        drop(spawn(move || spawn_for_ever(until)));
    }
}

#[test]
fn an_old_fresh_task_runs_although_a_newer_one_is_spawned_by_each() {
    run_on(1, || {
        let done = Flag::default();
        let victim = spawn({
            let done = done.clone();
            move || done.set()
        });
        // Newest first: the victim lies under each of these.
        for _ in 0..3 {
            spawn_for_ever(done.clone());
        }
        victim.join().unwrap();
    });
}

#[test]
fn an_old_fresh_task_runs_although_the_queue_above_it_grows() {
    run_on(1, || {
        let done = Flag::default();
        drop(spawn({
            let done = done.clone();
            move || done.set()
        }));
        while !done.is_set() {
            // More than a round works off.
            for _ in 0..4 {
                drop(spawn(|| ()));
            }
            yield_now();
        }
    });
}

#[test]
fn a_ready_task_runs_while_each_task_spawns_the_next() {
    run_on(1, || {
        let done = Flag::default();
        spawn_for_ever(done.clone());
        for _ in 0..5 {
            yield_now();
        }
        done.set();
    });
}

#[test]
fn a_ready_task_runs_while_two_others_wake_each_other_for_ever() {
    run_on(1, || {
        let done = Flag::default();
        let (left, right) = (Slot::new(), Slot::new());
        let player = |own: Slot<_>, other: Slot<greenloom::Task>| {
            let done = done.clone();
            spawn(move || {
                own.put(current());
                let other = other.wait();
                while !done.is_set() {
                    other.unpark();
                    park();
                }
                other.unpark();
            })
        };
        let players = [player(left.clone(), right.clone()), player(right, left)];
        for _ in 0..5 {
            yield_now();
        }
        done.set();
        for player in players {
            player.join().unwrap();
        }
    });
}

/// Tasks that never do anything but let others run.
fn yielders(count: usize, until: &Flag) {
    for _ in 0..count {
        let until = until.clone();
        drop(spawn(move || yield_until(|| until.is_set())));
    }
}

#[test]
fn fresh_tasks_run_among_yielders() {
    run_on(1, || {
        let done = Flag::default();
        yielders(50, &done);
        // So that they have all started, and none of them is what the victims wait for.
        for _ in 0..3 {
            yield_now();
        }
        let victims: Vec<_> = (0..10).map(|i| spawn(move || i)).collect();
        let sum: i32 = victims.into_iter().map(|victim| victim.join().unwrap()).sum();
        assert_eq!(sum, 45);
        done.set();
    });
}

#[test]
fn a_task_spawned_by_a_plain_thread_runs_among_yielders() {
    run_on(1, || {
        let done = Flag::default();
        yielders(3, &done);
        let handle = Handle::current();
        let victim = std::thread::spawn({
            let done = done.clone();
            move || handle.spawn(move || done.set())
        });
        yield_until(|| done.is_set());
        victim.join().unwrap().join().unwrap();
    });
}

#[test]
fn a_task_spawned_by_a_plain_thread_runs_while_each_task_spawns_the_next() {
    test_support::unless_it_hangs(|| {
        let runtime = test_support::runtime(1);
        let done = Flag::default();
        let root = runtime.spawn({
            let done = done.clone();
            move || spawn_for_ever(done)
        });
        runtime.spawn(move || done.set()).join().unwrap();
        root.join().unwrap();
    });
}

#[test]
fn a_task_woken_by_a_plain_thread_runs_among_yielders_and_spawners() {
    run_on(1, || {
        let done = Flag::default();
        let waiter = spawn({
            let done = done.clone();
            move || {
                park();
                done.set();
            }
        });
        yielders(3, &done);
        spawn_for_ever(done.clone());
        yield_now();
        let waker = waiter.task();
        let thread = std::thread::spawn(move || waker.unpark());
        waiter.join().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn a_fresh_task_runs_while_a_plain_thread_keeps_a_backlog_of_others() {
    run_on(1, || {
        let done = Flag::default();
        let waiting = Arc::new(AtomicUsize::new(0));
        let handle = Handle::current();
        let feeder = std::thread::spawn({
            let (waiting, done) = (waiting.clone(), done.clone());
            move || {
                while !done.is_set() {
                    if waiting.load(SeqCst) < 1000 {
                        waiting.fetch_add(1, SeqCst);
                        let waiting = waiting.clone();
                        drop(handle.spawn(move || waiting.fetch_sub(1, SeqCst)));
                    }
                }
            }
        });
        // What is looked at now and then, the injector, is not empty from here on,
        yield_until(|| waiting.load(SeqCst) > 900);
        let victim = spawn({
            let done = done.clone();
            move || done.set()
        });
        // and newer ones of the victim's own kind keep it down.
        spawn_for_ever(done.clone());
        victim.join().unwrap();
        feeder.join().unwrap();
    });
}

/// Two tasks that pass a message back and forth by `select!`, and work at each hop, until that says that it is enough.
fn pair_that_selects(hop: impl FnMut() -> bool + Clone + 'static) {
    let (s1, r1) = bounded(1);
    let (s2, r2) = bounded(1);
    s1.send(()).unwrap();
    for (s, r) in [(s2, r1), (s1, r2)] {
        let mut hop = hop.clone();
        let never = never::<()>();
        let player = move || {
            loop {
                let received = select! {
                    recv(r) -> message => message,
                    recv(never) -> _ => unreachable!(),
                };
                if received.is_err() || hop() || s.send(()).is_err() {
                    return;
                }
            }
        };
        drop(spawn_local(player));
    }
}

/// Each hop of the one pair takes a millisecond. Were it one hop for one hop, the other would have a thousandth of the time.
#[test]
fn of_two_pairs_that_select_the_one_with_short_hops_has_its_share() {
    run_on(1, || {
        let (tell, told) = bounded(1);
        let (long, short, done) = (Counter::default(), Counter::default(), Flag::default());
        pair_that_selects({
            let (short, done) = (short.clone(), done.clone());
            move || {
                let until = Instant::now() + Duration::from_millis(1);
                spin_until(|| Instant::now() >= until);
                long.add();
                let (long, short) = (long.get(), short.get());
                let is_fair = long >= 20 && short >= 20 * long;
                if is_fair || long == 1000 {
                    done.set();
                    let _ = tell.try_send((is_fair, long, short));
                }
                done.is_set()
            }
        });
        pair_that_selects(move || {
            short.add();
            done.is_set()
        });
        let (is_fair, long, short) = told.recv().unwrap();
        assert!(is_fair, "{short} short hops beside {long} long ones");
    });
}

#[test]
fn local_tasks_and_fresh_ones_take_turns() {
    run_on(1, || {
        let (local, fresh) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let done = Flag::default();
        fn local_for_ever(count: Arc<AtomicUsize>, until: Flag) {
            count.fetch_add(1, SeqCst);
            if !until.is_set() {
                drop(greenloom::spawn_local(move || local_for_ever(count, until)));
            }
        }
        fn fresh_for_ever(count: Arc<AtomicUsize>, until: Flag) {
            count.fetch_add(1, SeqCst);
            if !until.is_set() {
                drop(spawn(move || fresh_for_ever(count, until)));
            }
        }
        local_for_ever(local.clone(), done.clone());
        fresh_for_ever(fresh.clone(), done.clone());
        // Both get somewhere, and so does this.
        yield_until(|| local.load(SeqCst) > 1000 && fresh.load(SeqCst) > 1000);
        done.set();
    });
}

#[test]
fn fresh_tasks_behind_an_endless_loop_start_on_a_processor_that_is_never_idle() {
    const BEHIND: usize = 200;
    run_on(2, || {
        let (ran, begun, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Flag::default());
        let on = |index| Builder::new().placement(Placement::On(index));
        let busy: Vec<_> = (0..2)
            .map(|_| {
                let (begun, done) = (begun.clone(), done.clone());
                let yields = move || {
                    begun.fetch_add(1, SeqCst);
                    yield_until(|| done.is_set());
                };
                on(1).spawn(yields).unwrap()
            })
            .collect();
        yield_until(|| begun.load(SeqCst) == 2);
        let holder = on(0).spawn(move || {
            let tasks: Vec<_> = (0..BEHIND)
                .map(|_| {
                    let ran = ran.clone();
                    spawn(move || ran.fetch_add(1, SeqCst))
                })
                .collect();
            spin_until(|| ran.load(SeqCst) == BEHIND);
            drop(tasks);
        });
        holder.unwrap().join().unwrap();
        done.set();
        busy.into_iter().for_each(|task| task.join().unwrap());
    });
}
