//! Processes that are forked: what they may do with a runtime of their parent's, and that they may have one of their own.

use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use greenloom::context::{Context, ContextError};
use greenloom::task::Builder;
use greenloom::time::timeout;
use greenloom::{Runtime, SwitchHook, Task, channel, park, scope, sleep, spawn, yield_now};
use test_support::{Child, in_child};

const ELSEWHERE: &str = "the runtime belongs to the process that this one was forked from";
const SHORT: Duration = Duration::from_millis(20);

/// Forks a process that does this and exits, with success if it returns; and waits for it.
fn forked(child: impl FnOnce()) -> ExitStatus {
    // SAFETY: the tests' processes have no locks that another thread would hold for long; the child leaves by `_exit`.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            // It only ever ends one that hangs.
            libc::alarm(60);
            let done = catch_unwind(AssertUnwindSafe(child));
            libc::_exit(if done.is_ok() { 0 } else { 1 });
        }
        assert!(pid > 0);
        let mut status = 0;
        while libc::waitpid(pid, &mut status, 0) != pid {}
        ExitStatus::from_raw(status)
    }
}

#[track_caller]
fn succeeds(child: impl FnOnce()) {
    let status = forked(child);
    assert!(status.success(), "{status}");
}

#[track_caller]
fn aborts(child: impl FnOnce()) {
    let status = forked(child);
    assert_eq!(status.signal(), Some(libc::SIGABRT), "{status}");
}

/// The message with which `f` panics.
fn panics<T>(f: impl FnOnce() -> T) -> String {
    let Err(payload) = catch_unwind(AssertUnwindSafe(f)) else { panic!("it returns") };
    payload.downcast_ref::<String>().cloned().or_else(|| payload.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap()
}

/// Much of what a runtime can do.
fn use_a_runtime() {
    let runtime = Runtime::builder().processors(2).build().unwrap();
    runtime.run(|| {
        let (tx, rx) = channel::bounded(0);
        let tasks: Vec<_> = (0..100)
            .map(|i| {
                spawn({
                    let tx = tx.clone();
                    move || tx.send(i).unwrap()
                })
            })
            .collect();
        drop(tx);
        assert_eq!(rx.iter().sum::<i32>(), 4950);
        tasks.into_iter().for_each(|task| task.join().unwrap());
        assert!(timeout(SHORT, park).is_err());
        let (context, _canceller) = Context::background().with_timeout(SHORT);
        assert!(context.done().recv().is_err());
        assert_eq!(context.err(), Some(ContextError::DeadlineExceeded));
        assert_eq!(context.run_until_done(park), Err(ContextError::DeadlineExceeded));
    });
    assert!(runtime.shutdown(Duration::from_secs(50)).is_clean());
}

#[test]
fn a_forked_process_may_have_runtimes_and_deadlines_of_its_own() {
    in_child!("a_forked_process_may_have_runtimes_and_deadlines_of_its_own", || {
        use_a_runtime();
        succeeds(|| {
            use_a_runtime();
            assert!(panics(|| greenloom::run(park)).contains("deadlock"));
            succeeds(use_a_runtime);
            use_a_runtime();
        });
        use_a_runtime();
    })
    .assert_success();
}

#[test]
fn a_runtime_of_the_parents_is_refused_with_a_sentence() {
    in_child!("a_runtime_of_the_parents_is_refused_with_a_sentence", || {
        let runtime = Arc::new(Runtime::builder().processors(2).on_leak(greenloom::OnLeak::Report).build().unwrap());
        let ended = runtime.spawn(|| 7);
        while !ended.is_finished() {
            yield_now();
        }
        let waits = runtime.spawn(park);
        succeeds(|| {
            assert!(panics(|| runtime.run(|| ())).contains(ELSEWHERE));
            assert!(panics(|| runtime.spawn(|| ())).contains(ELSEWHERE));
            assert!(panics(|| runtime.handle().spawn(|| ())).contains(ELSEWHERE));
            assert!(panics(|| runtime.scope(|s| drop(s.spawn(|| ())))).contains(ELSEWHERE));
            // What could not be spawned is not waited for.
            runtime.handle().scope(|s| {
                assert!(Builder::new().spawn_scoped(s, || ()).unwrap_err().to_string().contains(ELSEWHERE));
            });
            // A task of this process is told the same.
            greenloom::run({
                let runtime = runtime.clone();
                move || assert!(panics(|| runtime.run(|| ())).contains(ELSEWHERE))
            });
            waits.cancel();
            assert!(panics(|| waits.join()).contains(ELSEWHERE));
            assert_eq!(ended.join().unwrap(), 7);
            let runtime = Arc::into_inner(runtime).unwrap();
            assert!(panics(|| runtime.shutdown(SHORT)).contains(ELSEWHERE));
            use_a_runtime();
        });
        std::process::exit(0);
    })
    .assert_success();
}

#[test]
fn the_drop_of_a_runtime_of_the_parents_does_nothing() {
    in_child!("the_drop_of_a_runtime_of_the_parents_does_nothing", || {
        let runtime = Runtime::builder().processors(2).on_leak(greenloom::OnLeak::Report).build().unwrap();
        let task = runtime.spawn(|| sleep(SHORT));
        let mut runtime = Some(runtime);
        succeeds(|| drop(runtime.take()));
        task.join().unwrap();
        assert_eq!(runtime.unwrap().run(|| 7), 7);
    })
    .assert_success();
}

#[test]
fn a_scope_whose_tasks_are_the_parents_ends_a_forked_process_with_a_sentence() {
    let child = in_child!("a_scope_whose_tasks_are_the_parents_ends_a_forked_process_with_a_sentence", || {
        let runtime = Runtime::builder().processors(1).build().unwrap();
        let parent = std::process::id();
        let forks = catch_unwind(AssertUnwindSafe(|| {
            runtime.scope(|s| {
                let task = s.spawn(park);
                // SAFETY: the child aborts.
                let pid = unsafe { libc::fork() };
                if pid == 0 {
                    // Out of the scope, in whose frame none of its tasks is here to end.
                    resume_unwind(Box::new(()));
                }
                let mut status = 0;
                // SAFETY: waits for the child, and writes to the status.
                while unsafe { libc::waitpid(pid, &mut status, 0) } != pid {}
                assert_eq!(ExitStatus::from_raw(status).signal(), Some(libc::SIGABRT));
                task.task().unpark();
            });
        }));
        assert!(std::process::id() == parent && forks.is_ok());
    });
    child.assert_success();
    child.assert_said("greenloom: fatal error: a scope waits for its tasks, but the runtime belongs to the process");
}

/// Forks in a task, beside others; what is said, and that the parent is not disturbed.
fn in_a_task(test: &str, check: fn()) -> Child {
    in_child!(test, move || {
        let runtime = Runtime::builder().processors(2).build().unwrap();
        let sum = runtime.run(move || {
            let others: Vec<_> = (0..20)
                .map(|i| {
                    spawn(move || {
                        (0..20).for_each(|_| sleep(Duration::from_millis(1)));
                        i
                    })
                })
                .collect();
            yield_now();
            check();
            others.into_iter().map(|task| task.join().unwrap()).sum::<i32>()
        });
        assert_eq!(sum, 190);
    })
}

#[test]
fn a_task_that_forks_may_exit_compute_and_start_threads_with_runtimes() {
    in_a_task("a_task_that_forks_may_exit_compute_and_start_threads_with_runtimes", || {
        succeeds(|| ());
        succeeds(|| {
            std::thread::spawn(use_a_runtime).join().unwrap();
        });
        succeeds(|| std::process::exit(0));
        // SAFETY: the arguments are strings that end.
        succeeds(|| unsafe {
            libc::execl(c"/bin/true".as_ptr(), c"/bin/true".as_ptr(), std::ptr::null::<libc::c_char>());
        });
    })
    .assert_success();
}

#[test]
fn a_task_that_forks_cannot_be_suspended_in_the_child() {
    let child = in_a_task("a_task_that_forks_cannot_be_suspended_in_the_child", || {
        aborts(yield_now);
        aborts(|| sleep(SHORT));
        aborts(park);
        aborts(|| _ = channel::bounded::<()>(0).1.recv_timeout(SHORT));
        aborts(|| drop(spawn(|| ()).join()));
        aborts(|| scope(|s| drop(s.spawn(|| ()))));
        aborts(use_a_runtime);
        aborts(|| _ = timeout(SHORT, park));
    });
    child.assert_success();
    let said = "greenloom: fatal error: in a process that was forked by a task, that task can neither be suspended nor end";
    assert_eq!(child.stderr.matches(said).count(), 8, "{}", child.stderr);
    child.assert_said("build a new Runtime on a new thread; it would be sleeping");
}

/// Forks; in the child, whose end is an abort, the caller goes on.
fn fork() -> bool {
    // SAFETY: the child does what the caller does, until that ends.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            return true;
        }
        let mut status = 0;
        while libc::waitpid(pid, &mut status, 0) != pid {}
        assert_eq!(ExitStatus::from_raw(status).signal(), Some(libc::SIGABRT));
    }
    false
}

#[test]
fn a_hook_at_switches_that_forks_cannot_return_in_the_child() {
    /// Forks each time that it is called for this task.
    struct Forks;
    impl SwitchHook for Forks {
        type Slot = ();

        fn start(&self, _: &Task) {}

        fn enter(&self, task: &Task, (): &mut ()) {
            if task.name() == Some("forks") {
                fork();
            }
        }

        fn leave(&self, task: &Task, slot: &mut ()) {
            self.enter(task, slot);
        }
    }
    let child = in_child!("a_hook_at_switches_that_forks_cannot_return_in_the_child", || {
        let runtime = Runtime::builder().processors(1).on_switch(Forks).build().unwrap();
        runtime.run(|| greenloom::task::Builder::new().name("forks").spawn(|| println!("runs")).unwrap().join().unwrap());
    });
    child.assert_success();
    assert_eq!(child.stderr.matches("that hook cannot return").count(), 2, "{}", child.stderr);
}

#[test]
fn a_task_that_forks_cannot_end_in_the_child() {
    let child = in_a_task("a_task_that_forks_cannot_end_in_the_child", || {
        let returns = spawn(|| _ = fork());
        returns.join().unwrap();
        let panics = spawn(|| {
            if fork() {
                resume_unwind(Box::new(()))
            }
        });
        panics.join().unwrap();
    });
    child.assert_success();
    assert_eq!(child.stderr.matches("; it has ended\n").count(), 2, "{}", child.stderr);
}

#[test]
fn deadlines_from_before_a_fork_come_in_the_parent_alone_but_count_for_what_is_derived_in_the_child() {
    in_child!("deadlines_from_before_a_fork_come_in_the_parent_alone_but_count_for_what_is_derived_in_the_child", || {
        let (context, canceller) = Context::background().with_timeout(Duration::from_millis(100));
        let (called, calls) = channel::unbounded();
        let _waits = context.after_func(move || called.send(()).unwrap());
        succeeds(|| {
            let (derived, _canceller) = context.with_cancel();
            assert!(derived.done().recv().is_err());
            assert_eq!(derived.err(), Some(ContextError::DeadlineExceeded));
            // Later than the deadline.
            assert!(calls.recv_timeout(Duration::from_millis(200)).is_err());
            assert_eq!(context.err(), None);
            canceller.cancel();
            assert_eq!(context.err(), Some(ContextError::Cancelled));
            drop((context, derived));
        });
        std::process::exit(0);
    })
    .assert_success();
}
