//! How machines are woken and find work.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use crate::models::{run, task};
use crate::prim::Parker;
use crate::prim::deque::Injector;
use crate::raw::header::TaskPtr;
use crate::scheduler::idle::Idle;
use crate::scheduler::inbox::{Inbox, Posted};
use crate::scheduler::processor::{NextSlot, Ready};

/// Mail for a machine that is falling asleep wakes it, whichever comes first.
pub fn mail_is_never_slept_through() {
    let shared = Arc::new((Inbox::new(), Parker::new()));
    let (task, handle) = task(|| 7);
    let poster = {
        let shared = shared.clone();
        let task = task.as_ptr() as usize;
        thread::spawn(move || {
            // SAFETY: the task is in no queue, and is given up here.
            let posted = unsafe { shared.0.post(TaskPtr::from_raw(std::ptr::with_exposed_provenance_mut(task))) };
            if posted == Posted::WonSleeper {
                shared.1.unpark();
            }
        })
    };
    loop {
        if let Some(task) = shared.0.take().next() {
            run(task);
            break;
        }
        if shared.0.fall_asleep() {
            shared.1.park();
        }
    }
    poster.join().unwrap();
    assert_eq!(handle.join().unwrap(), 7);
}

/// A machine that falls asleep sees injected work, or its announcer sees the sleeper.
pub fn announced_work_finds_a_sleeper_or_is_seen() {
    let shared = Arc::new((Idle::new(1), Inbox::new(), Parker::new(), AtomicUsize::new(0)));
    let announcer = {
        let shared = shared.clone();
        thread::spawn(move || {
            // Relaxed: the idle word orders it, as it orders the injector.
            shared.3.store(1, Ordering::Relaxed);
            if shared.0.announce().wants_searcher() {
                let win = || {
                    let won = shared.1.win_sleeper();
                    if won {
                        shared.0.woke(false);
                        shared.2.unpark();
                    }
                    won
                };
                // There is one machine. If it was not won here, it has won itself, and sees the
                // work.
                shared.0.wake_searcher(win, || false);
            }
        })
    };
    if shared.1.fall_asleep() {
        shared.0.fell_asleep(false);
        let seen = shared.3.load(Ordering::Relaxed) == 1;
        if seen && shared.1.win_sleeper() {
            shared.0.woke(false);
        } else {
            shared.2.park();
        }
    }
    assert_eq!(shared.3.load(Ordering::Relaxed), 1, "awake for nothing");
    announcer.join().unwrap();
}

/// Two threads announce work for a sleeper that a third has just won for something else. One may
/// leave its work to the other's claim, which finds no sleeper. The work is seen all the same.
pub fn work_left_to_a_claim_that_finds_no_sleeper_is_seen() {
    struct Machine {
        idle: Idle,
        inbox: Inbox,
        parker: Parker,
        injector: Injector<()>,
        /// Read by the machine after its token, as in the runtime.
        granted: std::sync::atomic::AtomicBool,
    }
    impl Machine {
        fn win(&self, search: bool) -> bool {
            let won = self.inbox.win_sleeper();
            // Either thread may be interrupted here for long. An explicit yield makes that possible
            // without a forced switch of the model.
            thread::yield_now();
            if won {
                self.granted.store(search, Ordering::Relaxed);
                self.idle.woke(false);
                self.parker.unpark();
            }
            won
        }

        fn announce(&self) {
            self.injector.push(());
            if self.idle.announce().wants_searcher() {
                self.idle.wake_searcher(|| self.win(true), || !self.injector.is_empty());
            }
        }

        fn fall_asleep(&self) {
            assert!(self.inbox.fall_asleep(), "there is no mail");
            self.idle.fell_asleep(false);
        }

        /// The machine's steps from its sleep on, until it has had both pieces of work.
        fn run(&self) {
            let mut work = 0;
            loop {
                if !self.injector.is_empty() && self.inbox.win_sleeper() {
                    self.idle.woke(false);
                } else {
                    self.parker.park();
                }
                let searching = self.granted.swap(false, Ordering::Relaxed);
                while self.injector.steal().success().is_some() {
                    work += 1;
                }
                if searching {
                    self.idle.end_search(|| false, || false);
                }
                if work == 2 {
                    return;
                }
                self.fall_asleep();
            }
        }
    }
    let machine = Arc::new(Machine {
        idle: Idle::new(1),
        inbox: Inbox::new(),
        parker: Parker::new(),
        injector: Injector::new(),
        granted: false.into(),
    });
    machine.fall_asleep();
    let others: [fn(&Machine); 3] = [|m| _ = m.win(false), Machine::announce, Machine::announce];
    let others = others.map(|act| {
        let machine = machine.clone();
        thread::spawn(move || act(&machine))
    });
    machine.run();
    others.into_iter().for_each(|other| other.join().unwrap());
}

/// There are two machines. One sleeps; the other one's search has found nothing, and it falls
/// asleep. One thread announces work for any machine. Another leaves mail for the searcher, which
/// then runs that for as long as it takes. In the end the work is taken, or somebody is awake for
/// it. (That no count goes below zero is asserted in `idle`.)
pub fn work_left_to_a_search_that_mail_overtakes_is_handed_on() {
    struct Machines {
        idle: Idle,
        searcher: (Inbox, Parker),
        sleeper: Inbox,
        injector: Injector<()>,
        /// The searcher was woken to search once more; read by it after its token, as in the
        /// runtime.
        granted: std::sync::atomic::AtomicBool,
    }
    impl Machines {
        fn has_work(&self) -> bool {
            !self.injector.is_empty()
        }

        /// As `Shared::win_searcher`.
        fn win(&self) -> bool {
            if self.sleeper.win_sleeper() {
                self.idle.woke(false);
                return true;
            }
            let won = self.searcher.0.win_sleeper();
            if won {
                self.granted.store(true, Ordering::Relaxed);
                self.idle.woke(false);
                self.searcher.1.unpark();
            }
            won
        }

        fn wake_searcher(&self) {
            self.idle.wake_searcher(|| self.win(), || self.has_work());
        }

        fn end_search(&self) {
            self.idle.end_search(|| self.win(), || self.has_work());
        }

        /// As `Local::rest` and `Local::sleep`, from the end of a search on. True if the machine
        /// looks for work next, since it has no mail.
        fn fall_asleep(&self) -> bool {
            self.end_search();
            if !self.searcher.0.fall_asleep() {
                return false;
            }
            self.idle.fell_asleep(false);
            if self.has_work() {
                if self.searcher.0.win_sleeper() {
                    self.idle.woke(false);
                    return self.searcher.0.take().next().is_none();
                }
                self.wake_searcher();
            }
            self.searcher.1.park();
            let granted = self.granted.swap(false, Ordering::Relaxed);
            let mail = self.searcher.0.take().next();
            if granted {
                self.end_search();
            }
            mail.is_none()
        }
    }
    let machines = Arc::new(Machines {
        idle: Idle::new(2),
        searcher: (Inbox::new(), Parker::new()),
        sleeper: Inbox::new(),
        injector: Injector::new(),
        granted: false.into(),
    });
    assert!(machines.sleeper.fall_asleep());
    machines.idle.fell_asleep(false);
    assert!(machines.idle.start_search(1));
    let (mail, handle) = task(|| ());
    let announcer = {
        let machines = machines.clone();
        thread::spawn(move || {
            machines.injector.push(());
            if machines.idle.announce().wants_searcher() {
                machines.wake_searcher();
            }
        })
    };
    let poster = {
        let machines = machines.clone();
        let mail = mail.as_ptr() as usize;
        thread::spawn(move || {
            // SAFETY: the task is in no queue, and is given up here.
            let posted = unsafe { machines.searcher.0.post(TaskPtr::from_raw(std::ptr::with_exposed_provenance_mut(mail))) };
            if posted == Posted::WonSleeper {
                machines.idle.woke(false);
                machines.searcher.1.unpark();
            }
        })
    };
    let looks_next = machines.fall_asleep();
    announcer.join().unwrap();
    poster.join().unwrap();
    let sleeps_on = machines.sleeper.win_sleeper();
    assert!(!sleeps_on || looks_next || !machines.has_work(), "work, a machine that sleeps, and nobody who looks");
    run(mail);
    handle.join().unwrap();
}

/// A fresh task in the next slot goes to its owner or to the monitor, once.
pub fn the_next_slot_gives_a_task_once() {
    let slot = Arc::new(NextSlot::new());
    let (first, first_handle) = task(|| 1);
    let (second, second_handle) = task(|| 2);
    assert!(slot.put(Ready { task: first, bound: false }).is_none());
    let monitor = {
        let slot = slot.clone();
        thread::spawn(move || slot.rescue().map(run).is_some())
    };
    let displaced = slot.put(Ready { task: second, bound: false });
    let taken = slot.take();
    let ours = [displaced, taken].into_iter().flatten().map(|ready| run(ready.task)).count();
    let theirs = usize::from(monitor.join().unwrap());
    assert_eq!(ours + theirs, 2);
    assert_eq!(first_handle.join().unwrap() + second_handle.join().unwrap(), 3);
}
