//! All tasks asleep, and nothing to wake one: `run` panics, and never where something could.
//!
//! Each case is a process of its own: this program again, told by a variable which one to be. A test harness has threads, which might
//! wake a task as far as anybody knows; so this program has a `main` instead, and a case begins with one thread.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use greenloom::context::Context;
use greenloom::group::Group;
use greenloom::sync::{Barrier, Condvar, Mutex, Notify, Once, RwLock, Semaphore, WaitGroup};
use greenloom::task::Builder;
use greenloom::time::timeout;
use greenloom::{OnDeadlock, Runtime, RuntimeBuilder, channel, park, scope, spawn, yield_now};

const CASE: &str = "GREENLOOM_DEADLOCK_CASE";
const DEADLOCK: &str = "all tasks are asleep - deadlock!";

/// Far more than any case takes: it only ever ends one that hangs.
const WATCHDOG: Duration = Duration::from_secs(60);

/// Longer than the monitor waits until it looks.
const A_LOOK: Duration = Duration::from_millis(30);

/// Longer than all tasks may sleep before that is reported where other threads could wake one.
const A_REPORT: Duration = Duration::from_millis(1300);

/// What a case does in its process, and what must come of it.
struct Case {
    name: &'static str,
    body: fn(),
    check: fn(Process),
}

macro_rules! cases {
    ($($body:ident => $check:expr),* $(,)?) => {
        &[$(Case { name: stringify!($body), body: $body, check: $check }),*]
    };
}

const CASES: &[Case] = cases![
    // These fail if a deadlock is not found, or not told to whoever runs.
    philosophers_with_a_fork_each => |process| {
        let end = process.panics();
        assert_eq!(end.stderr.matches(DEADLOCK).count(), 1, "{}", end.stderr);
        for who in ["Hegel", "Kant", "Marx", "Plato", "Spinoza"] {
            let line = end.stderr.lines().find(|line| line.contains(who)).unwrap_or_else(|| panic!("{who}: {}", end.stderr));
            assert!(line.contains(&format!("task '{who}' (id ")) && line.contains(&format!("spawned at {}:", file!())), "{line}");
            assert!(line.contains("waiting for a lock"), "{line}");
        }
        assert_eq!(end.stderr.matches("waiting for another task to end").count(), 1, "{}", end.stderr);
        assert_eq!(end.stdout, "the root unwinds\n");
    },
    a_root_that_waits_for_a_message_of_nobody => |process| {
        assert!(process.panics().stderr.contains("receiving from a channel"));
    },
    a_root_that_parks => |process| assert!(process.panics().stderr.contains("parked")),
    a_root_that_swallows_its_end => |process| {
        let end = process.succeeds();
        assert!(end.stderr.contains(&format!("greenloom: {DEADLOCK}")) && end.stderr.contains("receiving from a channel"), "{}", end.stderr);
    },
    every_kind_of_wait => |process| _ = process.succeeds(),
    after_a_spare_was_needed => |process| assert!(process.panics().stderr.contains(DEADLOCK)),
    two_threads_in_run => |process| {
        let end = process.succeeds();
        assert_eq!(end.stderr.matches(&format!("{DEADLOCK}\n")).count(), 2, "{}", end.stderr);
    },
    a_runtime_after_a_deadlock => |process| _ = process.succeeds(),
    a_root_whose_destructor_waits_for_a_task_that_waits => |process| {
        let end = process.ends();
        assert_eq!(end.status.signal(), Some(libc::SIGABRT), "{}:\n{}", end.status, end.stderr);
        assert!(end.stderr.contains(&format!("greenloom: fatal error: {DEADLOCK}\n")), "{}", end.stderr);
    },
    after_the_deadline_of_a_context => |process| _ = process.panics(),
    after_a_deadline_that_wakes_nobody => |process| _ = process.panics(),
    after_a_foreign_thread_has_ended => |process| assert!(process.panics().stderr.contains(DEADLOCK)),
    after_a_runtime_that_left_a_machine_behind => |process| {
        assert!(process.panics().stderr.contains(&format!("panicked at {}", file!())));
    },
    // These fail if nothing is said, or more than once.
    beside_a_foreign_thread => |mut process| {
        process.wait_for("(unless a thread outside the runtime is at work, or a signal will come: ");
        process.send();
        let end = process.succeeds();
        assert_eq!(end.stderr.matches(DEADLOCK).count(), 1, "{}", end.stderr);
        assert!(end.stderr.contains("receiving from a channel"), "{}", end.stderr);
    },
    inside_a_task_of_another_runtime => |mut process| {
        process.wait_for(DEADLOCK);
        process.send();
        let end = process.succeeds();
        assert_eq!(end.stderr.matches(DEADLOCK).count(), 1, "{}", end.stderr);
        // Of the inner one: the outer one's only task waits for that.
        assert!(end.stderr.contains("parked"), "{}", end.stderr);
    },
    beside_a_signal_handler => |mut process| {
        process.wait_for("or a signal will come: ");
        process.signal(libc::SIGUSR1);
        let end = process.succeeds();
        assert_eq!(end.stderr.matches(DEADLOCK).count(), 1, "{}", end.stderr);
    },
    told_to_report_only => |mut process| {
        process.wait_for(&format!("greenloom: {DEADLOCK}\n"));
        process.kill();
    },
    // These fail if a deadlock is spoken of.
    told_to_ignore_it => Process::says_nothing_of_one,
    tasks_that_nobody_runs_for => Process::says_nothing_of_one,
    sleeping_tasks => Process::says_nothing_of_one,
    waits_with_a_deadline => Process::says_nothing_of_one,
    under_a_limit_of_the_callers_own => Process::says_nothing_of_one,
    waits_for_the_deadline_of_a_context => Process::says_nothing_of_one,
    a_task_that_blocks_its_thread => Process::says_nothing_of_one,
    a_task_that_sleeps_on_a_spare => Process::says_nothing_of_one,
    a_runtime_whose_only_task_runs_another => Process::says_nothing_of_one,
    the_end_of_another_runtime => Process::says_nothing_of_one,
    // These fail if a wake that was under way, or could have been, is not seen. (On a slow machine their partners may be so late that
    // all is quiet for a second, which is reported.)
    messages_of_a_foreign_thread => |process| _ = process.succeeds(),
    meetings_with_a_foreign_thread => |process| _ = process.succeeds(),
    foreign_threads_that_end_after_their_wake => |process| _ = process.succeeds(),
    a_thread_that_wakes_between_two_runs => |process| _ = process.succeeds(),
    messages_of_another_runtimes_tasks => |process| _ = process.succeeds(),
];

fn one() -> RuntimeBuilder {
    Runtime::builder().processors(1)
}

/// Says so when it is dropped.
struct Says(&'static str);

impl Drop for Says {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

fn philosophers_with_a_fork_each() {
    greenloom::run(|| {
        let _says = Says("the root unwinds");
        let names = ["Hegel", "Kant", "Marx", "Plato", "Spinoza"];
        let forks: Arc<[Mutex<()>]> = names.iter().map(|_| Mutex::new(())).collect();
        let seated = Arc::new(Barrier::new(names.len()));
        let tasks: Vec<_> = names
            .into_iter()
            .enumerate()
            .map(|(i, name)| {
                let (forks, seated) = (forks.clone(), seated.clone());
                let eat = move || {
                    let _left = forks[i].lock().unwrap();
                    seated.wait();
                    let _right = forks[(i + 1) % forks.len()].lock().unwrap();
                };
                Builder::new().name(name).spawn(eat).unwrap()
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
}

fn a_root_that_waits_for_a_message_of_nobody() {
    one()
        .build()
        .unwrap()
        .run(|| {
            let (_tx, rx) = channel::unbounded::<()>();
            rx.recv()
        })
        .unwrap();
}

fn a_root_that_swallows_its_end() {
    let (_sender, receiver) = channel::bounded::<()>(0);
    let five = greenloom::run(move || {
        let received = catch_unwind(AssertUnwindSafe(|| receiver.recv()));
        assert!(received.is_err());
        5
    });
    assert_eq!(five, 5);
}

fn a_root_that_parks() {
    greenloom::run(park);
}

/// Holds the only machine until `f` has begun, on a spare one.
fn on_a_spare<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> greenloom::JoinHandle<T> {
    let begun = Arc::new(AtomicBool::new(false));
    let task = spawn({
        let begun = begun.clone();
        move || {
            begun.store(true, SeqCst);
            f()
        }
    });
    while !begun.load(SeqCst) {
        thread::yield_now();
    }
    task
}

fn after_a_spare_was_needed() {
    one().build().unwrap().run(|| {
        on_a_spare(park).join().unwrap();
    });
}

fn a_task_that_sleeps_on_a_spare() {
    one().build().unwrap().run(|| {
        on_a_spare(|| _ = channel::after(A_REPORT).recv()).join().unwrap();
    });
}

/// Each is told by what it is, alone, and with nothing left of the one before.
fn every_kind_of_wait() {
    let sending = "sending to a channel";
    let receiving = "receiving from a channel";
    let locking = "waiting for a lock";
    let waiting = "waiting for a condition, a permit or a barrier";
    let joining = "waiting for another task to end";
    let waits: [(&str, fn()); 18] = [
        ("parked", park),
        (sending, || _ = channel::bounded(0).0.send(())),
        (sending, || {
            let (tx, _rx) = channel::bounded(1);
            (0..2).for_each(|i| tx.send(i).unwrap());
        }),
        (receiving, || {
            let (_tx, rx) = channel::bounded::<()>(0);
            let _ = rx.recv();
        }),
        (receiving, || _ = channel::never::<()>().recv()),
        ("selecting among channels", || {
            channel::select! {
                recv(channel::never::<()>()) -> _ => {}
                recv(channel::never::<u8>()) -> _ => {}
            }
        }),
        (locking, || {
            let mutex = Mutex::new(());
            let _held = mutex.lock();
            drop(mutex.lock());
        }),
        (locking, || {
            let lock = RwLock::new(());
            let _held = lock.write();
            drop(lock.read());
        }),
        (locking, || {
            let lock = RwLock::new(());
            let _held = lock.read();
            drop(lock.write());
        }),
        (waiting, || {
            let mutex = Mutex::new(());
            drop(Condvar::new().wait(mutex.lock().unwrap()));
        }),
        (waiting, || Notify::new().notified()),
        (waiting, || drop(Semaphore::new(0).acquire())),
        (waiting, || _ = Barrier::new(2).wait()),
        (waiting, || {
            let group = WaitGroup::new();
            let _other = group.clone();
            group.wait();
        }),
        (waiting, || {
            let (once, begun) = (Once::new(), AtomicBool::new(false));
            scope(|s| {
                s.spawn(|| {
                    once.call_once(|| {
                        begun.store(true, SeqCst);
                        park();
                    });
                });
                while !begun.load(SeqCst) {
                    yield_now();
                }
                once.call_once(|| ());
            });
        }),
        (joining, || scope(|s| drop(s.spawn(park)))),
        (joining, || {
            let group = Group::<()>::new();
            group.spawn(|| {
                park();
                Ok(())
            });
            group.wait().unwrap();
        }),
        // The last one: nobody cancels what was joined.
        (joining, || drop(spawn(park).join())),
    ];
    let runtime = one().build().unwrap();
    for (i, (reason, wait)) in waits.into_iter().enumerate() {
        let failed = catch_unwind(AssertUnwindSafe(|| runtime.run(wait))).unwrap_err();
        let text = failed.downcast_ref::<String>().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], DEADLOCK);
        let told = |line: &&&str| {
            let (who, what) = line.split_once("), ").unwrap();
            assert!(who.starts_with("  task ") && who.contains(&format!("spawned at {}:", file!())), "{text}");
            what == reason || what.starts_with(&format!("{reason}, for "))
        };
        assert_eq!(lines[1..].iter().filter(told).count(), 1, "{i}: {text}");
        // A second one is what the first waits for.
        assert!(lines.len() == 2 || lines.len() == 3 && text.contains(", parked"), "{i}: {text}");
    }
}

fn two_threads_in_run() {
    let runtime = Arc::new(one().build().unwrap());
    let run = |runtime: Arc<Runtime>| catch_unwind(AssertUnwindSafe(|| runtime.run(park))).unwrap_err();
    let other = thread::spawn({
        let runtime = runtime.clone();
        move || run(runtime)
    });
    let here = run(runtime);
    for payload in [here, other.join().unwrap()] {
        assert!(payload.downcast_ref::<String>().unwrap().starts_with(DEADLOCK));
    }
}

fn a_runtime_after_a_deadlock() {
    let runtime = one().build().unwrap();
    for round in 0..3 {
        assert!(catch_unwind(AssertUnwindSafe(|| runtime.run(|| drop(spawn(park).join())))).is_err());
        assert_eq!(runtime.run(move || spawn(move || round).join().unwrap()), round);
    }
}

fn a_root_whose_destructor_waits_for_a_task_that_waits() {
    struct Joins(Option<greenloom::JoinHandle<()>>);
    impl Drop for Joins {
        fn drop(&mut self) {
            drop(self.0.take().unwrap().join());
        }
    }
    greenloom::run(|| {
        let _joins = Joins(Some(spawn(park)));
        park();
    });
}

fn after_a_foreign_thread_has_ended() {
    greenloom::run(|| {
        thread::spawn(|| thread::sleep(A_LOOK));
        park();
    });
}

/// Waits for a line on stdin.
fn told() {
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn beside_a_foreign_thread() {
    let (tx, rx) = channel::bounded(0);
    let foreign = thread::spawn(move || {
        told();
        tx.send(()).unwrap();
        // All is quiet once more.
        thread::sleep(A_REPORT);
        tx.send(()).unwrap();
    });
    greenloom::run(move || {
        rx.recv().unwrap();
        rx.recv().unwrap();
    });
    foreign.join().unwrap();
}

fn inside_a_task_of_another_runtime() {
    one().build().unwrap().run(|| {
        greenloom::run(|| {
            let root = greenloom::current();
            thread::spawn(move || {
                told();
                root.unpark();
            });
            park();
        });
    });
}

/// The main thread alone gets the signal: those of the runtime are started with it blocked.
fn beside_a_signal_handler() {
    static ROOT: OnceLock<greenloom::Task> = OnceLock::new();
    extern "C" fn wake(_: i32) {
        ROOT.get().expect("the signal comes when all are asleep").unpark();
    }
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: the set is initialised by the first call; the handler only changes words of the runtime and wakes a thread.
    let runtime = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGUSR1);
        libc::signal(libc::SIGUSR1, wake as extern "C" fn(i32) as libc::sighandler_t);
        libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
        let runtime = one().build().unwrap();
        libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut());
        runtime
    };
    runtime.run(|| {
        let _ = ROOT.set(greenloom::current());
        park();
    });
}

/// Its thread sleeps for ever with a task that would not end, and wakes nobody.
fn after_a_runtime_that_left_a_machine_behind() {
    struct Stubborn;
    impl Drop for Stubborn {
        fn drop(&mut self) {
            park();
        }
    }
    let behind = one().build().unwrap();
    behind.run(|| {
        let task = spawn(|| {
            let _stubborn = Stubborn;
            park();
        });
        yield_now();
        drop(task);
    });
    assert!(!behind.shutdown(Duration::ZERO).is_clean());
    one().build().unwrap().run(park);
}

fn told_to_report_only() {
    one().on_deadlock(OnDeadlock::Report).build().unwrap().run(park);
}

fn told_to_ignore_it() {
    let (tx, rx) = channel::bounded(0);
    let foreign = thread::spawn(move || {
        thread::sleep(A_REPORT);
        tx.send(()).unwrap();
    });
    one().on_deadlock(OnDeadlock::Ignore).build().unwrap().run(move || rx.recv().unwrap());
    foreign.join().unwrap();
}

fn tasks_that_nobody_runs_for() {
    let runtime = one().build().unwrap();
    let task = runtime.spawn(park);
    runtime.run(yield_now);
    thread::sleep(A_REPORT);
    task.task().unpark();
    task.join().unwrap();
}

fn sleeping_tasks() {
    greenloom::run(|| {
        let sleeper = spawn(|| (0..5).for_each(|_| _ = channel::after(3 * A_LOOK).recv()));
        let waiter = spawn(move || sleeper.join().unwrap());
        waiter.join().unwrap();
        channel::after(A_REPORT).recv().unwrap();
    });
}

fn waits_with_a_deadline() {
    one().build().unwrap().run(|| {
        let (_tx, rx) = channel::bounded::<()>(0);
        for _ in 0..10 {
            assert!(rx.recv_timeout(A_LOOK).is_err());
        }
    });
}

/// The limit is the calling thread's, which no machine knows of.
fn under_a_limit_of_the_callers_own() {
    let runtime = one().build().unwrap();
    assert!(timeout(A_REPORT, || runtime.run(park)).is_err());
}

fn waits_for_the_deadline_of_a_context() {
    one().build().unwrap().run(|| {
        let (context, _cancel) = Context::background().with_timeout(A_REPORT);
        assert!(context.done().recv().is_err());
    });
}

/// The clock's thread is there, but nothing is left for it to do.
fn after_the_deadline_of_a_context() {
    one().build().unwrap().run(|| {
        let (context, _cancel) = Context::background().with_timeout(A_LOOK);
        assert!(context.done().recv().is_err());
        park();
    });
}

fn after_a_deadline_that_wakes_nobody() {
    one().build().unwrap().run(|| {
        let (_context, _cancel) = Context::background().with_timeout(A_REPORT);
        park();
    });
}

fn a_task_that_blocks_its_thread() {
    greenloom::run(|| {
        let task = spawn(|| assert!(Command::new("sleep").arg("0.5").status().unwrap().success()));
        task.join().unwrap();
    });
}

fn a_runtime_whose_only_task_runs_another() {
    one().build().unwrap().run(|| {
        greenloom::run(|| channel::after(A_REPORT).recv().unwrap());
    });
}

fn the_end_of_another_runtime() {
    let stop = Arc::new(AtomicBool::new(false));
    one().build().unwrap().run(move || {
        let inner = Runtime::builder().processors(1).shutdown_grace(WATCHDOG).build().unwrap();
        let task = inner.spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(SeqCst) {
                    thread::sleep(A_REPORT);
                    stop.store(true, SeqCst);
                }
            }
        });
        drop(inner);
        drop(task.join());
    });
}

fn messages_of_a_foreign_thread() {
    let (tx, rx) = channel::unbounded();
    let foreign = thread::spawn(move || {
        for round in 0..40 {
            thread::sleep(A_LOOK);
            tx.send(round).unwrap();
        }
    });
    greenloom::run(move || assert_eq!(rx.iter().count(), 40));
    foreign.join().unwrap();
}

fn meetings_with_a_foreign_thread() {
    let (to, from_root) = channel::bounded(0);
    let (answer, answers) = channel::bounded(0);
    let foreign = thread::spawn(move || {
        for question in from_root {
            thread::sleep(A_LOOK);
            answer.send(question + 1).unwrap();
        }
    });
    greenloom::run(move || {
        for round in 0..40 {
            to.send(round).unwrap();
            assert_eq!(answers.recv().unwrap(), round + 1);
        }
    });
    foreign.join().unwrap();
}

fn foreign_threads_that_end_after_their_wake() {
    one().build().unwrap().run(|| {
        for round in 0..150 {
            let root = greenloom::current();
            // Around the moment at which the monitor looks.
            let pause = Duration::from_millis(15) + Duration::from_micros(97 * round);
            drop(thread::spawn(move || {
                thread::sleep(pause);
                root.unpark();
            }));
            park();
        }
    });
}

fn a_thread_that_wakes_between_two_runs() {
    let runtime = Arc::new(one().build().unwrap());
    let (tx, rx) = channel::unbounded();
    let other = thread::spawn({
        let runtime = runtime.clone();
        move || runtime.run(move || assert_eq!(rx.iter().count(), 40))
    });
    for round in 0..40 {
        runtime.run(yield_now);
        thread::sleep(A_LOOK);
        tx.send(round).unwrap();
    }
    drop(tx);
    other.join().unwrap();
}

fn messages_of_another_runtimes_tasks() {
    let other = one().build().unwrap();
    let (tx, rx) = channel::bounded(0);
    let task = other.spawn(move || {
        for round in 0..20 {
            channel::after(A_LOOK).recv().unwrap();
            tx.send(round).unwrap();
        }
    });
    one().build().unwrap().run(move || assert_eq!(rx.iter().count(), 20));
    task.join().unwrap();
}

/// A case's process.
struct Process {
    child: Child,
    stdout: thread::JoinHandle<String>,
    /// What stderr has said so far, line by line.
    lines: mpsc::Receiver<String>,
    stderr: String,
}

/// How a case's process ended.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Process {
    fn start(case: &Case) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(CASE, case.name)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let (tx, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                // Nobody listens any more if the case has failed.
                let _ = tx.send(line.unwrap() + "\n");
            }
        });
        Self { child, stdout, lines, stderr: String::new() }
    }

    /// Reads another line of stderr; false if that has ended.
    fn read(&mut self) -> bool {
        match self.lines.recv_timeout(WATCHDOG) {
            Ok(line) => self.stderr += &line,
            Err(mpsc::RecvTimeoutError::Disconnected) => return false,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                self.child.kill().unwrap();
                panic!("hangs; it said:\n{}", self.stderr);
            }
        }
        true
    }

    fn wait_for(&mut self, text: &str) {
        while !self.stderr.contains(text) {
            assert!(self.read(), "not said: {text:?}, but:\n{}", self.stderr);
        }
    }

    /// Sends a line to its stdin.
    fn send(&mut self) {
        self.child.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn signal(&self, signal: i32) {
        // SAFETY: asks the system to do so; the child has not been waited for.
        assert_eq!(unsafe { libc::kill(self.child.id() as libc::pid_t, signal) }, 0);
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn ends(mut self) -> Ended {
        while self.read() {}
        let status = self.child.wait().unwrap();
        Ended { status, stdout: self.stdout.join().unwrap(), stderr: self.stderr }
    }

    fn succeeds(self) -> Ended {
        let end = self.ends();
        assert!(end.status.success(), "{}:\n{}\n{}", end.status, end.stdout, end.stderr);
        end
    }

    /// By a panic that nobody catches.
    fn panics(self) -> Ended {
        let end = self.ends();
        assert_eq!(end.status.code(), Some(101), "{}:\n{}\n{}", end.status, end.stdout, end.stderr);
        end
    }

    fn says_nothing_of_one(self) {
        let end = self.succeeds();
        assert!(!end.stderr.contains(DEADLOCK), "{}", end.stderr);
    }
}

fn main() {
    if let Ok(name) = std::env::var(CASE) {
        let case = CASES.iter().find(|case| case.name == name).expect("a case of this program");
        return (case.body)();
    }
    let filters: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let asked = |case: &&Case| filters.is_empty() || filters.iter().any(|filter| case.name.contains(filter.as_str()));
    // All at once: most of them wait most of the time.
    let running: Vec<_> = CASES
        .iter()
        .filter(asked)
        .map(|case| {
            (case.name, thread::Builder::new().name(case.name.to_owned()).spawn(|| (case.check)(Process::start(case))).unwrap())
        })
        .collect();
    let mut failed = 0;
    for (name, case) in running {
        let passed = case.join().is_ok();
        println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
        failed += u32::from(!passed);
    }
    assert_eq!(failed, 0, "cases failed");
}
