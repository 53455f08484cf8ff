//! Bad input, stacks and their ends, and machines that are stuck.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use common::{in_child, within_a_minute};
use greenloom::task::Builder;
use greenloom::{Runtime, StackGuard, spawn, yield_now};

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
            // Frames of a build without optimisation are somewhat larger than what they hold.
            let task = Builder::new().stack_size(size).spawn(move || dig(size / 2)).unwrap();
            assert!(task.join().unwrap() > 0);
        }
    });
}

#[expect(unconditional_recursion, reason = "the point of it")]
fn dig_for_ever(depth: u64) -> u64 {
    std::hint::black_box([depth; 64])[0] + dig_for_ever(depth + 1)
}

fn overflow(name: &str, guard: StackGuard) {
    let child = in_child(name, move || {
        let runtime = Runtime::builder().processors(1).stack_guard(guard).build().unwrap();
        runtime.run(|| {
            let task = Builder::new().name("digger").spawn(|| dig_for_ever(0)).unwrap();
            drop(task.join());
        });
    });
    child.assert_said("greenloom: task 'digger' (id ");
    child.assert_said("spawned at runtime/tests/limits.rs:");
    child.assert_said("overflowed its stack of 110 KiB");
    child.assert_said("stack_size");
}

#[test]
fn an_overflow_names_the_task_and_what_to_raise() {
    overflow("an_overflow_names_the_task_and_what_to_raise", StackGuard::Auto);
}

#[test]
fn an_overflow_into_a_protected_page_is_named_too() {
    overflow("an_overflow_into_a_protected_page_is_named_too", StackGuard::Mprotect);
}

#[test]
fn tasks_run_under_every_guard() {
    within_a_minute(|| {
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
    within_a_minute(|| {
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
