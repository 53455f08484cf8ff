//! Bad input, stacks and their ends, and machines that are stuck.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use greenloom::channel::bounded;
use greenloom::group::Group;
use greenloom::task::{Builder, Placement};
use greenloom::{Runtime, StackGuard, SwitchHook, Task, park, scope, spawn, uncancellable, yield_now};
use test_support::{Counter, OnDrop, in_child, in_child_with, runtime, unless_it_hangs, yield_until};

fn refused(builder: greenloom::RuntimeBuilder) -> String {
    builder.build().expect_err("the setting is out of range").to_string()
}

#[test]
fn settings_out_of_range_are_refused_with_a_sentence() {
    assert!(refused(Runtime::builder().processors(0)).contains("from 1 to 1024 processors, not 0"));
    assert!(refused(Runtime::builder().processors(100_000)).contains("not 100000"));
    assert!(refused(Runtime::builder().stack_size(1)).contains("too small"));
    assert!(refused(Runtime::builder().stack_size(1 << 40)).contains("too large"));
    assert!(refused(Runtime::builder().thread_name("a\0b")).contains("NUL"));
    greenloom::run(|| assert!(Builder::new().stack_size(1).spawn(|| ()).is_err()));
}

#[test]
fn outside_a_runtime_spawn_says_what_to_do() {
    let panic = std::thread::spawn(|| drop(spawn(|| ()))).join().unwrap_err();
    let message = panic.downcast_ref::<String>().map_or("", String::as_str);
    assert!(message.contains("outside a runtime") && message.contains("greenloom::run"), "{message:?}");
    assert!(std::thread::spawn(greenloom::Handle::current).join().is_err());
}

/// Uses about `bytes` of stack.
fn dig(bytes: usize) -> usize {
    let frame = std::hint::black_box([1u8; 1024]);
    if bytes > 2 * 1024 { dig(bytes - 1024) + usize::from(frame[0]) } else { usize::from(frame[1]) }
}

#[test]
fn a_task_gets_the_stack_it_asked_for() {
    greenloom::run(|| {
        for size in [64 << 10, 256 << 10, 1 << 20, 8 << 20] {
            // Frames of a build without optimisation are two to three times as large as what they hold.
            let task = Builder::new().stack_size(size).spawn(move || dig(size / 4)).unwrap();
            assert!(task.join().unwrap() > 0);
        }
    });
}

#[test]
fn the_root_of_a_run_has_what_main_has_or_more() {
    for (stack, bytes) in [(None, 3 << 20), (Some(64 << 10), 3 << 20), (Some(32 << 20), 12 << 20)] {
        let builder = Runtime::builder().processors(1);
        let runtime = stack.map_or(builder.clone(), |stack| builder.stack_size(stack)).build().unwrap();
        assert!(runtime.run(move || dig(bytes)) > 0);
    }
}

#[test]
fn a_root_without_addresses_for_a_large_stack_runs_on_a_usual_one() {
    let child = in_child!("a_root_without_addresses_for_a_large_stack_runs_on_a_usual_one", || {
        let runtime = small_stacks(1);
        runtime.spawn(|| drop(vec![0u8; 1000])).join().unwrap();
        limit_addresses(4 << 20);
        assert!(runtime.run(|| dig(SMALL / 2)) > 0);
    });
    child.assert_success();
}

#[expect(unconditional_recursion, reason = "the point of it")]
fn dig_for_ever(depth: u64) -> u64 {
    std::hint::black_box([depth; 64])[0] + dig_for_ever(depth + 1)
}

/// Calls itself, filling its frames, until they reach so many bytes below `top`; does `there` at that depth.
#[inline(never)]
fn dig_below(top: usize, bytes: usize, there: fn()) -> u64 {
    let frame = std::hint::black_box([1u64; 64]);
    if top - frame.as_ptr().addr() < bytes {
        return dig_below(top, bytes, there) + frame[0];
    }
    there();
    frame[1]
}

/// Stacks of which a limited process has room for some hundreds.
const SMALL: usize = 64 << 10;

fn small_stacks(processors: usize) -> Runtime {
    Runtime::builder().processors(processors).stack_size(SMALL).build().unwrap()
}

/// Overflows a small stack by some KiB, which is less than its guard, and does `there` at that depth.
fn dig_into_the_guard(there: fn()) -> u64 {
    let top = std::hint::black_box([0u8]);
    dig_below(std::hint::black_box(&top).as_ptr().addr(), SMALL + (12 << 10), there)
}

/// A task with a small stack gets to its end by `dig`, beside another one: the process says whose stack it was and what helps, and aborts.
fn end_of_stack(name: &str, guard: StackGuard, dig: fn() -> u64, what: &str) {
    const SPAWNED_AT: u32 = line!() + 6;
    let child = in_child!(name, move || {
        let runtime = Runtime::builder().processors(1).stack_size(SMALL).stack_guard(guard).build().unwrap();
        runtime.run(move || {
            let bystander = spawn(park);
            yield_now();
            let task = Builder::new().name("digger").spawn(dig).unwrap();
            drop(task.join());
            drop(bystander);
        });
    });
    child.assert_said("greenloom: task 'digger' (id ");
    child.assert_said(&format!("spawned at {}:{SPAWNED_AT}:", file!()));
    child.assert_said(what);
    child.assert_said("give it a larger one with task::Builder::stack_size or RuntimeBuilder::stack_size");
    child.assert_aborted();
}

fn overflow(name: &str, guard: StackGuard, dig: fn() -> u64) {
    end_of_stack(name, guard, dig, "overflowed its stack of 64 KiB");
}

#[test]
fn an_overflow_names_the_task_and_what_to_raise() {
    overflow("an_overflow_names_the_task_and_what_to_raise", StackGuard::Auto, || dig_for_ever(0));
}

#[test]
fn an_overflow_into_a_protected_page_is_named_too() {
    overflow("an_overflow_into_a_protected_page_is_named_too", StackGuard::Mprotect, || dig_for_ever(0));
}

#[test]
fn an_overflow_over_a_canary_is_named_when_its_task_suspends() {
    overflow("an_overflow_over_a_canary_is_named_when_its_task_suspends", StackGuard::Canary, || {
        dig_into_the_guard(yield_now);
        unreachable!("the overflow is noticed where the task suspends")
    });
}

#[test]
fn an_overflow_over_a_canary_is_named_when_its_task_ends() {
    overflow("an_overflow_over_a_canary_is_named_when_its_task_ends", StackGuard::Canary, || dig_into_the_guard(|| ()));
}

#[test]
fn an_overflow_over_a_canary_that_ends_in_a_fault_is_no_bare_fault() {
    /// What lies below a slab, at best.
    fn touch_what_is_not_there() {
        // SAFETY: a mapping of its own, which cannot be accessed; the fault is the point.
        unsafe {
            let nothing = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
            assert_ne!(nothing, libc::MAP_FAILED);
            nothing.cast::<u8>().read_volatile();
        }
    }
    overflow("an_overflow_over_a_canary_that_ends_in_a_fault_is_no_bare_fault", StackGuard::Canary, || {
        dig_into_the_guard(touch_what_is_not_there)
    });
}

/// What C code does with a large buffer in its frame: it touches the low end first.
fn touch_far_below() {
    let here = std::hint::black_box([0u8]);
    let below = std::ptr::with_exposed_provenance_mut::<u8>(std::hint::black_box(&here).as_ptr().expose_provenance() - SMALL);
    // SAFETY: this is below the stack of the task, but still in its slot, where nobody else has anything.
    unsafe { below.write_volatile(1) };
}

/// Calls, from near the end of a small stack, what has a frame of 64 KiB.
fn call_with_a_large_frame() -> u64 {
    let top = std::hint::black_box([0u8]);
    dig_below(std::hint::black_box(&top).as_ptr().addr(), SMALL - (4 << 10), touch_far_below)
}

#[test]
fn a_frame_that_is_not_probed_does_not_step_over_the_guard() {
    overflow("a_frame_that_is_not_probed_does_not_step_over_the_guard", StackGuard::Auto, call_with_a_large_frame);
}

#[test]
fn a_frame_that_is_not_probed_does_not_step_over_protected_pages() {
    overflow("a_frame_that_is_not_probed_does_not_step_over_protected_pages", StackGuard::Mprotect, call_with_a_large_frame);
}

/// Gets to where less than `left` bytes of the stack are left, and does `there`.
fn dig_down_to(left: usize, there: fn()) -> u64 {
    let here = std::hint::black_box([0u8]);
    let here = std::hint::black_box(&here).as_ptr().addr();
    let mut pipe = [0; 2];
    // SAFETY: room for two descriptors, which the process takes with it.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: the kernel checks the address.
    let readable = |at: usize| unsafe { libc::write(pipe[1], std::ptr::with_exposed_provenance(at), 1) } == 1;
    let mut bottom = here & !4095;
    while readable(bottom - 1) {
        bottom -= 4096;
    }
    dig_below(here, here - bottom - left, there)
}

#[test]
fn a_signal_for_which_a_stack_has_no_room_is_named() {
    extern "C" fn ignore(_: libc::c_int) {}
    fn signal_this_thread() {
        // SAFETY: has no memory contract.
        unsafe { libc::raise(libc::SIGUSR1) };
    }
    let name = "a_signal_for_which_a_stack_has_no_room_is_named";
    let dig = || {
        // SAFETY: the handler does nothing. It asks for no stack of its own.
        unsafe { libc::signal(libc::SIGUSR1, ignore as *const () as libc::sighandler_t) };
        // It works, and the linker has done its part.
        signal_this_thread();
        // The smallest frame of a signal is larger; with the 1.2 KiB that `dig_below` and `raise` use at most, more is left.
        dig_down_to(2000, signal_this_thread)
    };
    end_of_stack(name, StackGuard::Auto, dig, "had no room left on its stack of 64 KiB for a signal's handler");
}

/// Lets this process have so many bytes of addresses more than it has now.
fn limit_addresses(more: u64) {
    limit_addresses_up_to(more, true);
}

/// As [`limit_addresses`], but the limit may be raised again.
fn limit_addresses_for_now(more: u64) {
    limit_addresses_up_to(more, false);
}

fn limit_addresses_up_to(more: u64, for_good: bool) {
    others_have_begun();
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    // SAFETY: asks for a number; then sets a valid limit, for this process alone.
    unsafe {
        // A thread that starts later, a spare's perhaps, cannot have a heap of its own, for which glibc sets many addresses aside.
        libc::mallopt(libc::M_ARENA_MAX, 1);
        let limit = pages * libc::sysconf(libc::_SC_PAGESIZE) as u64 + more;
        let most = if for_good { limit } else { libc::RLIM_INFINITY };
        assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: limit, rlim_max: most }), 0);
    }
}

/// Waits until all other threads sleep, and look so for a while: those that have just been started have come to their work then. While it
/// begins a thread, std aborts if it gets no memory.
fn others_have_begun() {
    // SAFETY: has no contract.
    let this = unsafe { libc::gettid() }.to_string();
    let sleeps = |thread: std::io::Result<std::fs::DirEntry>| {
        let thread = thread.unwrap();
        // Empty if it has ended meanwhile. The name, in parentheses, may have any characters.
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        thread.file_name() == *this || stat.is_empty() || stat.rsplit(')').next().unwrap().starts_with(" S")
    };
    let mut in_a_row = 0;
    while in_a_row < 10 {
        in_a_row = if std::fs::read_dir("/proc/self/task").unwrap().all(sleeps) { in_a_row + 1 } else { 0 };
        std::thread::yield_now();
    }
}

#[test]
fn a_runtime_that_gets_no_threads_is_an_error_and_leaves_none_behind() {
    const STACK: u64 = 64 << 20;
    let stacks = [("RUST_MIN_STACK", &*STACK.to_string())];
    let child = in_child_with!(&stacks, "a_runtime_that_gets_no_threads_is_an_error_and_leaves_none_behind", || {
        let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
        let before = threads();
        keep_heap();
        // From none to all of them, and the runtime's first stacks, which take 64 MiB as well, or 16. Where one has no stack, those before it
        // still have room for what std sets aside when they begin, and without which it aborts: some 20 KiB each for signals.
        let mut failed = 0;
        for room in (0..20).map(|stacks| stacks * STACK + (24 << 20)) {
            let none = libc::RLIM_INFINITY;
            limit_addresses_for_now(room);
            let runtime = Runtime::builder().processors(16).build();
            // SAFETY: a valid limit, for this process alone.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: none, rlim_max: none }) };
            match runtime {
                Ok(runtime) => assert_eq!(runtime.run(|| spawn(|| 1).join().unwrap()), 1),
                Err(error) => {
                    assert!(error.to_string().contains("RLIMIT_AS"), "{error}");
                    failed += 1;
                }
            }
            // They need a moment to be gone.
            let began = Instant::now();
            while threads() > before {
                assert!(began.elapsed() < Duration::from_secs(40), "{} threads are left", threads() - before);
                std::thread::yield_now();
            }
        }
        assert!(failed > 10, "only {failed} were short of threads: this shows nothing");
    });
    child.assert_success();
}

/// Leaves memory on the heap that needs no further addresses, for all threads: where those run out, std's own small allocations go on.
fn keep_heap() {
    // SAFETY: settings that malloc allows at any time; what is freed was allocated.
    unsafe {
        assert_eq!(libc::mallopt(libc::M_ARENA_MAX, 1), 1);
        assert_eq!(libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX), 1);
        assert_eq!(libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20), 1);
        libc::free(libc::malloc(16 << 20));
    }
}

/// Each machine has run a task, and so its thread has what memory it takes at first.
fn warm_up(processors: usize) {
    for i in 0..processors {
        Builder::new().placement(Placement::On(i)).spawn(|| drop(vec![0u8; 1000])).unwrap().join().unwrap();
    }
}

/// Tasks are started until there are no stacks left, and none of the system's addresses to make more.
fn stacks_run_out(name: &str, processors: usize) {
    // The first slab, which is there when the limit is set, has room for some 500.
    const TASKS: usize = 1000;
    let child = in_child!(name, move || {
        small_stacks(processors).run(move || {
            warm_up(processors);
            limit_addresses(8 << 20);
            let (started, turns) = (Counter::default(), Counter::default());
            let released = Arc::new(AtomicBool::new(false));
            let tasks: Vec<_> = (0..TASKS)
                .map(|_| {
                    let (started, turns, released) = (started.clone(), turns.clone(), released.clone());
                    let task = spawn(move || {
                        started.add();
                        park();
                        turns.add();
                        while !released.load(SeqCst) {
                            park();
                        }
                    });
                    yield_now();
                    task
                })
                .collect();
            yield_until(|| started.get() + tasks.iter().filter(|task| task.is_finished()).count() == TASKS);
            let parked = started.get();
            assert!((100..TASKS - 100).contains(&parked), "{parked} of {TASKS} tasks have started");

            let told = |error: greenloom::JoinError| {
                let message = error.to_string();
                assert!(error.is_panic() && message.contains("there is no stack for it"), "{message}");
                assert!(message.contains("cannot map") && message.contains("RLIMIT_AS"), "{message}");
            };
            let large = Builder::new().stack_size(512 << 20).spawn(|| ()).unwrap();
            told(large.join().unwrap_err());

            // All that have started go on while there is nothing left for others.
            tasks.iter().for_each(|task| task.task().unpark());
            yield_until(|| turns.get() == parked);

            released.store(true, SeqCst);
            let mut ended = 0;
            for task in tasks {
                task.task().unpark();
                match task.join() {
                    Ok(()) => ended += 1,
                    Err(error) => told(error),
                }
            }
            assert_eq!(ended, parked);
            // Their stacks serve others.
            assert_eq!(spawn(|| 7).join().unwrap(), 7);
        });
    });
    child.assert_success();
}

#[test]
fn stacks_that_run_out_are_told_to_who_joins_and_others_go_on() {
    stacks_run_out("stacks_that_run_out_are_told_to_who_joins_and_others_go_on", 1);
}

#[test]
fn stacks_that_run_out_on_two_processors_are_told_to_who_joins_and_others_go_on() {
    stacks_run_out("stacks_that_run_out_on_two_processors_are_told_to_who_joins_and_others_go_on", 2);
}

#[test]
fn stacks_that_run_out_are_told_by_a_scope_and_a_group_that_nobody_joins() {
    const TASKS: usize = 1000;
    let child = in_child!("stacks_that_run_out_are_told_by_a_scope_and_a_group_that_nobody_joins", || {
        small_stacks(1).run(|| {
            warm_up(1);
            limit_addresses(8 << 20);
            let started = Counter::default();
            let told = |panic: Result<(), Box<dyn std::any::Any + Send>>| {
                let payload = panic.expect_err("some have not started");
                assert!(payload.downcast_ref::<&str>().unwrap().contains("no stack"));
            };
            let scoped = catch_unwind(AssertUnwindSafe(|| {
                scope(|s| {
                    let tasks: Vec<_> = (0..TASKS)
                        .map(|_| {
                            s.spawn(|| {
                                started.add();
                                park();
                            })
                        })
                        .collect();
                    yield_until(|| started.get() + tasks.iter().filter(|task| task.is_finished()).count() == TASKS);
                    tasks.iter().for_each(|task| task.task().unpark());
                });
            }));
            assert!((100..TASKS - 100).contains(&started.get()), "{started:?} of {TASKS} tasks have started");
            told(scoped);
            let (group, started, released) = (Group::<()>::new(), Counter::default(), Arc::new(AtomicBool::new(false)));
            for _ in 0..TASKS {
                let (started, released) = (started.clone(), released.clone());
                group.spawn(move || {
                    started.add();
                    yield_until(|| released.load(SeqCst));
                    Ok(())
                });
            }
            yield_until(|| started.get() >= 100);
            // As many turns as there are tasks: each that can has started.
            (0..2 * TASKS).for_each(|_| yield_now());
            released.store(true, SeqCst);
            told(catch_unwind(AssertUnwindSafe(|| group.wait().unwrap())));
        });
    });
    child.assert_success();
}

/// A task for whose stack there are no addresses.
fn without_a_stack(closure: impl FnOnce() + Send + 'static) -> greenloom::JoinHandle<()> {
    Builder::new().stack_size(512 << 20).spawn(closure).unwrap()
}

fn assert_no_stack(result: Result<(), greenloom::JoinError>) {
    let message = result.unwrap_err().to_string();
    assert!(message.contains("there is no stack for it"), "{message}");
}

#[test]
fn the_closure_of_a_task_without_a_stack_may_wait_when_it_is_dropped() {
    let child = in_child!("the_closure_of_a_task_without_a_stack_may_wait_when_it_is_dropped", || {
        runtime(1).run(|| {
            limit_addresses(32 << 20);
            let dropped = Counter::default();
            let (sender, receiver) = bounded::<&str>(0);
            let tasks: Vec<_> = (0..10)
                .map(|_| {
                    let (sender, guard) = (sender.clone(), dropped.on_drop());
                    let goodbye = OnDrop::new(move || {
                        sender.send("goodbye").unwrap();
                        drop(guard);
                    });
                    without_a_stack(move || drop(goodbye))
                })
                .collect();
            // One after another, each as long as it takes; others run meanwhile.
            for ended in 0..10 {
                assert_eq!(spawn(|| 7).join().unwrap(), 7);
                assert_eq!(dropped.get(), ended);
                assert_eq!(receiver.recv(), Ok("goodbye"));
                yield_until(|| dropped.get() == ended + 1);
            }
            tasks.into_iter().for_each(|task| assert_no_stack(task.join()));
        });
    });
    child.assert_success();
}

#[test]
fn a_task_that_is_cancelled_before_it_finds_no_stack_ends_as_cancelled() {
    let child = in_child!("a_task_that_is_cancelled_before_it_finds_no_stack_ends_as_cancelled", || {
        Runtime::builder().processors(1).max_machines(1).build().unwrap().run(|| {
            limit_addresses(32 << 20);
            let task = without_a_stack(|| ());
            task.cancel();
            assert!(task.join().unwrap_err().is_cancelled());
            assert_no_stack(without_a_stack(|| ()).join());
        });
    });
    child.assert_success();
}

#[test]
fn tasks_that_wait_for_their_end_without_a_stack_all_start_if_there_are_addresses_by_then() {
    let child = in_child!("tasks_that_wait_for_their_end_without_a_stack_all_start_if_there_are_addresses_by_then", || {
        runtime(1).run(|| {
            limit_addresses_for_now(32 << 20);
            let (begun, started) = (Counter::default(), Counter::default());
            let (release, released) = bounded::<()>(0);
            let goodbye = {
                let begun = begun.clone();
                OnDrop::new(move || {
                    begun.add();
                    released.recv().unwrap();
                })
            };
            let first = without_a_stack(move || drop(goodbye));
            yield_until(|| begun.get() == 1);
            let others: Vec<_> = (0..10)
                .map(|_| {
                    let started = started.clone();
                    without_a_stack(move || {
                        started.add();
                    })
                })
                .collect();
            // Each has its turn, and finds neither a stack nor the one for ends.
            (0..100).for_each(|_| yield_now());
            assert_eq!(started.get(), 0);
            let none = libc::RLIM_INFINITY;
            // SAFETY: a valid limit, for this process alone.
            unsafe { libc::setrlimit(libc::RLIMIT_AS, &libc::rlimit { rlim_cur: none, rlim_max: none }) };
            release.send(()).unwrap();
            others.into_iter().for_each(|task| task.join().unwrap());
            assert_eq!(started.get(), 10);
            assert_no_stack(first.join());
        });
    });
    child.assert_success();
}

#[test]
fn the_hook_for_panics_may_wait_where_a_task_has_no_stack() {
    let child = in_child!("the_hook_for_panics_may_wait_where_a_task_has_no_stack", || {
        let (log, lines) = bounded::<String>(0);
        let hook = move |panic: &greenloom::TaskPanic<'_>| log.send(panic.to_string()).unwrap();
        Runtime::builder().processors(1).on_panic(hook).build().unwrap().run(move || {
            limit_addresses(32 << 20);
            let tasks: Vec<_> = (0..3).map(|_| without_a_stack(|| ())).collect();
            let told: Vec<_> = tasks.iter().map(|_| lines.recv().unwrap()).collect();
            for task in &tasks {
                let named = format!("task {} ", task.task().id());
                let of_it = told.iter().filter(|line| line.contains("there is no stack") && line.contains(&named));
                assert_eq!(of_it.count(), 1, "{told:?}");
            }
            tasks.into_iter().for_each(|task| assert_no_stack(task.join()));
        });
    });
    child.assert_success();
}

#[test]
fn hooks_at_switches_hear_of_the_end_of_a_task_without_a_stack() {
    /// Each slot is its task's number.
    struct Ends(Counter);
    impl SwitchHook for Ends {
        type Slot = u64;

        fn start(&self, task: &Task) -> u64 {
            task.id()
        }

        fn enter(&self, task: &Task, slot: &mut u64) {
            assert_eq!(task.id(), *slot);
        }

        fn leave(&self, task: &Task, slot: &mut u64) {
            self.enter(task, slot);
        }

        fn end(&self, task: &Task, mut slot: u64) {
            self.enter(task, &mut slot);
            self.0.add();
        }
    }
    let child = in_child!("hooks_at_switches_hear_of_the_end_of_a_task_without_a_stack", || {
        let ended = Counter::default();
        let runtime = Runtime::builder().processors(1).on_switch(Ends(ended.clone())).build().unwrap();
        runtime.run(|| {
            limit_addresses(32 << 20);
            let tasks: Vec<_> = (0..10).map(|_| without_a_stack(|| ())).collect();
            tasks.into_iter().for_each(|task| assert_no_stack(task.join()));
        });
        drop(runtime);
        assert_eq!(ended.get(), 11);
    });
    child.assert_success();
}

#[test]
fn a_task_without_a_stack_whose_end_does_not_end_is_reported_like_others() {
    let child = in_child!("a_task_without_a_stack_whose_end_does_not_end_is_reported_like_others", || {
        let (runtime, dropped) = (runtime(1), Counter::default());
        let (first, second) = runtime.run({
            let dropped = dropped.clone();
            move || {
                limit_addresses(32 << 20);
                let begun = Counter::default();
                let stubborn = {
                    let begun = begun.clone();
                    OnDrop::new(move || {
                        begun.add();
                        uncancellable(|| {
                            loop {
                                park();
                            }
                        })
                    })
                };
                let first = without_a_stack(move || drop(stubborn));
                yield_until(|| begun.get() == 1);
                let guard = dropped.on_drop();
                let second = without_a_stack(move || drop(guard));
                assert_eq!(spawn(|| 7).join().unwrap(), 7);
                (first, second)
            }
        });
        assert!(!first.is_finished() && !second.is_finished());
        let report = runtime.shutdown(std::time::Duration::from_millis(50));
        let left: Vec<_> = report.leftover().iter().map(|task| (task.id(), task.waiting_for())).collect();
        assert_eq!(left, [(first.task().id(), "parked")]);
        // The one that has waited for its turn never had it.
        assert!(second.join().unwrap_err().is_cancelled());
        assert_eq!(dropped.get(), 1);
    });
    child.assert_success();
}

/// Lets this process have so many threads more than it has now.
fn limit_threads(more: u64) {
    // SAFETY: ids are numbers; then a valid limit. It binds only those who are not root, and counts all threads of a user: so another
    // one who has no others, where that is possible.
    unsafe {
        let count = if libc::geteuid() == 0 {
            assert_eq!(libc::setgid(54_321), 0);
            assert_eq!(libc::setuid(54_321), 0);
            threads() as u64 + more
        } else {
            1
        };
        assert_eq!(libc::setrlimit(libc::RLIMIT_NPROC, &libc::rlimit { rlim_cur: count, rlim_max: count }), 0);
    }
}

/// How many threads this process has, by the kernel's own count.
fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_runtime_without_threads_to_be_had_says_so_and_leaves_none_behind() {
    let child = in_child!("a_runtime_without_threads_to_be_had_says_so_and_leaves_none_behind", || {
        // The monitor and some of the machines have theirs.
        limit_threads(3);
        let before = threads();
        let error = Runtime::builder().processors(4).thread_name("loom").build().unwrap_err();
        let message = error.to_string();
        assert!(message.contains("cannot start the thread 'loom-") && message.contains("RLIMIT_NPROC"), "{message}");
        yield_until(|| threads() == before);
        let panic = catch_unwind(|| greenloom::run(|| ())).map(drop);
        // It may have as many processors as there are threads for.
        if let Err(panic) = panic {
            assert!(panic.downcast_ref::<String>().unwrap().contains("RLIMIT_NPROC"));
        }
        yield_until(|| threads() == before);
    });
    child.assert_success();
}

#[test]
fn a_runtime_without_memory_to_be_had_says_so_and_leaves_no_thread_behind() {
    let child = in_child!("a_runtime_without_memory_to_be_had_says_so_and_leaves_no_thread_behind", || {
        let before = threads();
        // Less than the stack of a thread.
        limit_addresses(1 << 20);
        let message = Runtime::builder().processors(1).build().unwrap_err().to_string();
        assert!(message.contains("no memory") && message.contains("RLIMIT_AS"), "{message}");
        yield_until(|| threads() == before);
    });
    child.assert_success();
}

#[test]
fn memory_that_runs_out_is_told_to_who_spawns_and_others_go_on() {
    const CLOSURE: usize = 128 << 10;
    let child = in_child!("memory_that_runs_out_is_told_to_who_spawns_and_others_go_on", || {
        // Every task has room on its stack for some such closures.
        Runtime::builder().processors(1).stack_size(2 << 20).build().unwrap().run(|| {
            warm_up(1);
            let bystander = spawn(|| {
                park();
                1
            });
            yield_now();
            limit_addresses(16 << 20);
            let large = || {
                let closure = std::hint::black_box([1u8; CLOSURE]);
                move || usize::from(std::hint::black_box(&closure)[0])
            };
            // Each keeps its memory until it is joined, whether it has run or not.
            let mut tasks = Vec::new();
            let error = loop {
                match Builder::new().spawn(large()) {
                    Ok(task) => tasks.push(task),
                    Err(error) => break error,
                }
                assert!(tasks.len() < 10_000, "there is memory without end");
            };
            assert_eq!(error.kind(), std::io::ErrorKind::OutOfMemory);
            let panic = std::panic::catch_unwind(|| drop(spawn(large()))).unwrap_err();
            let message = panic.downcast_ref::<String>().map_or("", String::as_str);
            assert!(message.contains("cannot spawn a task"), "{message:?}");

            bystander.task().unpark();
            assert_eq!(bystander.join().unwrap(), 1);
            assert!(tasks.len() > 10);
            for task in tasks {
                assert_eq!(task.join().unwrap(), 1);
            }
            assert_eq!(spawn(large()).join().unwrap(), 1);
        });
    });
    child.assert_success();
}

#[test]
fn tasks_run_under_every_guard() {
    unless_it_hangs(|| {
        for guard in [StackGuard::Auto, StackGuard::Mprotect, StackGuard::Canary] {
            let runtime = Runtime::builder().processors(2).stack_guard(guard).build().unwrap();
            let sum = runtime.run(|| {
                let tasks: Vec<_> = (0..1000u64)
                    .map(|i| {
                        spawn(move || {
                            yield_now();
                            i
                        })
                    })
                    .collect();
                tasks.into_iter().map(|task| task.join().unwrap()).sum::<u64>()
            });
            assert_eq!(sum, 499_500);
        }
    });
}

#[test]
fn a_fresh_task_runs_beside_endless_loops_on_all_processors() {
    unless_it_hangs(|| {
        for processors in [1, 2] {
            let runtime = Runtime::builder().processors(processors).build().unwrap();
            let stop = Arc::new(AtomicBool::new(false));
            let hogs: Vec<_> = (0..2 * processors)
                .map(|_| {
                    let stop = stop.clone();
                    runtime.spawn(move || {
                        while !stop.load(SeqCst) {
                            std::hint::spin_loop();
                        }
                    })
                })
                .collect();
            // Nothing else stops the loops.
            let rescuer = runtime.spawn({
                let stop = stop.clone();
                move || stop.store(true, SeqCst)
            });
            rescuer.join().unwrap();
            hogs.into_iter().for_each(|hog| hog.join().unwrap());
        }
    });
}
