//! What is left of a runtime that has ended: nothing of its threads, their thread-locals, or its stacks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use greenloom::channel::bounded;
use greenloom::context::Context;
use greenloom::task::{Builder, Placement};
use greenloom::{Runtime, park, spawn};
use test_support::{Counter, CountsDrop, OnDrop, Slot, in_child, run_on, runtime, unless_it_hangs, yield_until};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);

thread_local! {
    static KEPT: RefCell<Vec<Box<dyn Send>>> = const { RefCell::new(Vec::new()) };
}

/// Leaves something in a thread-local of this thread, which drops it when it ends.
fn keep(what: impl Send + 'static) {
    KEPT.with_borrow_mut(|kept| kept.push(Box::new(what)));
}

/// Takes its time before it counts.
fn slow(counter: CountsDrop) -> OnDrop<impl FnOnce() + Send> {
    OnDrop::new(|| {
        thread::sleep(Duration::from_millis(30));
        drop(counter);
    })
}

/// Leaves something in a thread-local of each processor's thread.
fn keep_on_all(runtime: &Runtime, processors: usize, dropped: &Counter) {
    let dropped = dropped.clone();
    runtime.run(move || {
        for processor in 0..processors {
            let guard = dropped.on_drop();
            let task = Builder::new().placement(Placement::On(processor)).spawn(|| keep(slow(guard)));
            task.unwrap().join().unwrap();
        }
    });
}

#[test]
fn thread_locals_of_its_threads_are_gone_when_a_drop_or_a_shutdown_has_returned() {
    unless_it_hangs(|| {
        for processors in [1, 2, 4] {
            let dropped = Counter::default();
            let by_drop = runtime(processors);
            keep_on_all(&by_drop, processors, &dropped);
            drop(by_drop);
            assert_eq!(dropped.get(), processors);
            let by_shutdown = runtime(processors);
            keep_on_all(&by_shutdown, processors, &dropped);
            assert!(by_shutdown.shutdown(LONG).is_clean());
            assert_eq!(dropped.get(), 2 * processors);
        }
    });
}

#[test]
fn thread_locals_are_gone_when_the_free_run_has_returned_or_panicked() {
    unless_it_hangs(|| {
        let dropped = Counter::default();
        let guard = dropped.on_drop();
        greenloom::run(move || keep(slow(guard)));
        assert_eq!(dropped.get(), 1);
        let guard = dropped.on_drop();
        let panicked = thread::spawn(|| {
            greenloom::run(move || {
                keep(slow(guard));
                panic!("after that");
            })
        });
        assert!(panicked.join().is_err());
        assert_eq!(dropped.get(), 2);
    });
}

#[test]
fn a_task_of_another_runtime_waits_for_thread_locals_that_wait_for_a_task_beside_it() {
    run_on(1, || {
        let dropped = Counter::default();
        let (sender, receiver) = bounded::<()>(0);
        let inner = runtime(1);
        let guard = dropped.on_drop();
        inner.run(move || {
            keep(OnDrop::new(move || {
                receiver.recv().unwrap();
                drop(guard);
            }));
        });
        let beside = spawn(move || sender.send(()));
        drop(inner);
        assert_eq!(dropped.get(), 1);
        beside.join().unwrap().unwrap();
    });
}

#[test]
fn where_a_task_is_left_behind_thread_locals_of_the_other_threads_are_gone() {
    unless_it_hangs(|| {
        let (dropped, begun, stop) = (Counter::default(), Counter::default(), Arc::new(AtomicBool::new(false)));
        let runtime = runtime(2);
        let on = |processor| Builder::new().placement(Placement::On(processor));
        let left = runtime.run({
            let (dropped, begun, stop) = (dropped.clone(), begun.clone(), stop.clone());
            move || {
                let guard = dropped.on_drop();
                on(1).spawn(move || keep(slow(guard))).unwrap().join().unwrap();
                let left = on(0).spawn(move || {
                    keep(dropped.on_drop());
                    begun.add();
                    while !stop.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                });
                left.unwrap()
            }
        });
        yield_until(|| begun.get() == 1);
        let report = runtime.shutdown(Duration::from_millis(50));
        assert_eq!(report.leftover().len(), 1, "{report}");
        assert_eq!(dropped.get(), 1);
        stop.store(true, SeqCst);
        drop(left.join());
        yield_until(|| dropped.get() == 2);
    });
}

/// Whether there is memory, used or not, at this address.
fn is_mapped(address: usize) -> bool {
    const PAGE: usize = 4096;
    let mut resident = 0u8;
    // SAFETY: asks about a page, which may be anybody's or nobody's.
    unsafe { libc::mincore(std::ptr::without_provenance_mut(address & !(PAGE - 1)), PAGE, &mut resident) == 0 }
}

/// Runs tasks that wait, with stacks of several sizes, ends their runtime in `end`, and tells at what addresses they were.
fn stacks_of_an_ended_runtime(end: impl FnOnce(Runtime)) -> Vec<usize> {
    let (runtime, addresses) = (runtime(2), Slot::new());
    runtime.run({
        let addresses = addresses.clone();
        move || {
            let (sender, receiver) = bounded(300);
            for i in 0..300 {
                let sender = sender.clone();
                let task = Builder::new().stack_size(if i % 3 == 0 { 512 << 10 } else { 64 << 10 }).spawn(move || {
                    let on_the_stack = std::hint::black_box([7u8]);
                    sender.send(on_the_stack.as_ptr().addr()).unwrap();
                    park();
                });
                drop(task);
            }
            addresses.put((0..300).map(|_| receiver.recv().unwrap()).collect::<Vec<usize>>());
        }
    });
    let addresses = addresses.take().unwrap();
    assert!(addresses.iter().all(|&address| is_mapped(address)));
    end(runtime);
    addresses
}

#[test]
fn a_handle_or_a_function_that_waits_for_a_context_keeps_no_stack_of_an_ended_runtime() {
    // In a child, where nobody maps memory at the same addresses.
    let child = in_child!("a_handle_or_a_function_that_waits_for_a_context_keeps_no_stack_of_an_ended_runtime", || {
        let handle = Slot::new();
        let addresses = stacks_of_an_ended_runtime(|runtime| {
            handle.put(runtime.handle());
            drop(runtime);
        });
        assert_eq!(addresses.iter().filter(|&&address| is_mapped(address)).count(), 0);
        // It is good for what it was good for.
        let late = handle.take().unwrap().spawn(|| ());
        assert!(late.join().unwrap_err().is_cancelled());

        let (ctx, canceller) = Context::background().with_cancel();
        let addresses = stacks_of_an_ended_runtime(|runtime| {
            let ctx = ctx.clone();
            runtime.run(move || drop(ctx.after_func(|| ())));
            assert!(runtime.shutdown(LONG).is_clean());
        });
        assert_eq!(addresses.iter().filter(|&&address| is_mapped(address)).count(), 0);
        canceller.cancel();
    });
    child.assert_success();
}

/// Counts what tasks lie in: large blocks at round addresses.
struct CountingChunks;

static CHUNKS: AtomicIsize = AtomicIsize::new(0);
const CHUNK: usize = 64 << 10;

// SAFETY: the system's allocator, and a count.
unsafe impl GlobalAlloc for CountingChunks {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() == CHUNK {
            CHUNKS.fetch_add(1, SeqCst);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.align() == CHUNK {
            CHUNKS.fetch_sub(1, SeqCst);
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: CountingChunks = CountingChunks;

#[test]
fn runtimes_in_a_task_leave_no_memory_of_tasks_there() {
    // In a child, where nobody else has tasks.
    let child = in_child!("runtimes_in_a_task_leave_no_memory_of_tasks_there", || {
        runtime(1).run(|| {
            let nested = || runtime(1).run(|| spawn(|| 1).join().unwrap());
            nested();
            let before = CHUNKS.load(SeqCst);
            assert!(before > 0, "tasks do not lie in chunks any more: this counts nothing");
            for _ in 0..20 {
                nested();
                assert_eq!(CHUNKS.load(SeqCst), before);
            }
            // Handles of tasks of another runtime that live longer than it.
            let inner = runtime(1);
            let tasks: Vec<_> = (0..2000).map(|_| inner.spawn(|| ())).collect();
            drop(inner);
            assert!(CHUNKS.load(SeqCst) > before);
            drop(tasks);
            assert_eq!(CHUNKS.load(SeqCst), before);
        });
        assert_eq!(CHUNKS.load(SeqCst), 0);
    });
    child.assert_success();
}

#[test]
fn a_drop_waits_beyond_its_grace_while_tasks_end() {
    unless_it_hangs(|| {
        let (begun, dropped) = (Counter::default(), Counter::default());
        // Four times the grace period, for those that end one after another; ten of them at least in each, however slow this machine is.
        let runtime = Runtime::builder().processors(1).shutdown_grace(Duration::from_millis(500)).build().unwrap();
        for _ in 0..40 {
            let (begun, guard) = (begun.clone(), dropped.on_drop());
            drop(runtime.spawn(move || {
                let _slow = OnDrop::new(|| {
                    thread::sleep(Duration::from_millis(50));
                    drop(guard);
                });
                begun.add();
                park();
            }));
        }
        yield_until(|| begun.get() == 40);
        drop(runtime);
        assert_eq!(dropped.get(), 40);
    });
}

#[test]
fn a_shutdown_ends_with_its_grace_though_tasks_end() {
    unless_it_hangs(|| {
        let (begun, stop) = (Counter::default(), Arc::new(AtomicBool::new(false)));
        let runtime = runtime(1);
        for _ in 0..100 {
            let (begun, stop) = (begun.clone(), stop.clone());
            drop(runtime.spawn(move || {
                let _slow = OnDrop::new(|| {
                    if !stop.load(SeqCst) {
                        thread::sleep(Duration::from_millis(20));
                    }
                });
                begun.add();
                park();
            }));
        }
        yield_until(|| begun.get() == 100);
        // All of them would take twenty times as long.
        assert!(!runtime.shutdown(Duration::from_millis(100)).is_clean());
        stop.store(true, SeqCst);
    });
}
