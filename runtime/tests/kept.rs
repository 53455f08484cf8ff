//! What is over leaves no memory behind, however it ended.
//!
//! One test, since the count is the process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use std::time::Duration;

use greenloom::channel::{Receiver, Select, Sender, after, bounded, select, unbounded};
use greenloom::context::Context;
use greenloom::group::Group;
use greenloom::pool::WorkerPool;
use greenloom::sync::{Barrier, Condvar, LazyLock, Mutex, Notify, Once, OnceLock, RwLock, Semaphore, WaitGroup};
use greenloom::time::timeout;
use greenloom::{JoinHandle, Runtime, park, sleep, spawn, yield_now};

struct Counting;

/// Blocks that have been allocated and not freed.
static BLOCKS: AtomicIsize = AtomicIsize::new(0);

// SAFETY: the system's allocator, and a count.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BLOCKS.fetch_add(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BLOCKS.fetch_sub(1, Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: isize = 60;

/// A message, a value, an error, a payload: a block of its own.
fn block() -> Box<u64> {
    Box::new(7)
}

/// Lets all others come to where they wait, or end.
fn settle() {
    (0..30).for_each(|_| yield_now());
}

fn cancelled<T>(task: JoinHandle<T>) {
    task.cancel();
    assert!(task.join().is_err_and(|error| error.is_cancelled()));
}

/// Nothing of these rounds is kept. (What is made once and kept for later, the first rounds have made.)
#[track_caller]
fn leaves_nothing(name: &str, round: impl Fn()) {
    let play = |rounds| {
        (0..rounds).for_each(|_| round());
        settle();
        BLOCKS.load(Relaxed)
    };
    let before = play(20);
    let kept = play(ROUNDS) - before;
    // A block for each second round would be far too many; a few belong to threads that are none of these.
    assert!(kept < ROUNDS / 2, "{name} keeps {kept} blocks in {ROUNDS} rounds");
}

#[test]
fn what_is_over_leaves_no_memory_behind() {
    // A payload is no news here.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let runtime = Runtime::builder().processors(1).max_machines(1).on_panic(|_| ()).build().unwrap();
    let result = runtime.run(|| {
        catch_unwind(|| {
            tasks();
            locals();
            channels();
            selects();
            locks();
            once();
            contexts();
            scopes_and_groups();
            pools();
        })
    });
    std::panic::set_hook(hook);
    result.unwrap_or_else(|payload| resume_unwind(payload));
}

fn tasks() {
    leaves_nothing("a joined task", || drop(spawn(block).join().unwrap()));
    leaves_nothing("a detached task", || drop(spawn(block)));
    leaves_nothing("a task whose result nobody takes", || {
        let task = spawn(block);
        settle();
        drop(task);
    });
    leaves_nothing("a task that panics", || drop(spawn(|| resume_unwind(block())).join().map(drop)));
    leaves_nothing("a detached task that panics", || drop(spawn(|| resume_unwind(block()))));
    leaves_nothing("a task that is cancelled", || {
        let task = spawn(|| {
            let _block = block();
            park();
        });
        settle();
        cancelled(task);
    });
    leaves_nothing("a task that is cancelled before it begins", || {
        let block = block();
        cancelled(spawn(move || drop(block)));
    });
    leaves_nothing("a task that outlives its handles", || {
        let task = spawn(block);
        let handle = task.task();
        drop(task);
        settle();
        handle.unpark();
    });
    leaves_nothing("a limit", || assert!(timeout(Duration::ZERO, park).is_err()));
    leaves_nothing("a sleeper that is cancelled", || {
        let task = spawn(|| sleep(Duration::from_secs(3600)));
        settle();
        cancelled(task);
    });
    leaves_nothing("a runtime", || {
        let runtime = Runtime::builder().processors(2).build().unwrap();
        drop(runtime.spawn(park));
        assert_eq!(*runtime.run(block), 7);
    });
}

fn locals() {
    struct Last;
    impl Drop for Last {
        fn drop(&mut self) {
            VALUE.set(block());
            BLOCKS_OF_TASK.with_borrow_mut(|blocks| blocks.push(7));
        }
    }
    greenloom::task_local! {
        static VALUE: Box<u64> = block();
        static BLOCKS_OF_TASK: RefCell<Vec<u64>> = RefCell::default();
        static LAST: Last = Last;
        static SCOPED: Box<u64>;
    }
    let uses = || {
        VALUE.with(|_| ());
        BLOCKS_OF_TASK.with_borrow_mut(|blocks| blocks.push(7));
        SCOPED.scope(block(), || SCOPED.set(block()));
    };
    leaves_nothing("values of a task", move || spawn(uses).join().unwrap());
    leaves_nothing("values that the destructors of others make", || spawn(|| LAST.with(|_| ())).join().unwrap());
    leaves_nothing("values of a task that is cancelled", move || {
        let task = spawn(move || {
            uses();
            SCOPED.scope(block(), park);
        });
        settle();
        cancelled(task);
    });
    leaves_nothing("values of a plain thread", move || {
        std::thread::spawn(move || {
            uses();
            LAST.with(|_| ());
        })
        .join()
        .unwrap();
    });
}

type Channel = (Sender<Box<u64>>, Receiver<Box<u64>>);

/// Of each kind.
fn open() -> [Channel; 4] {
    [bounded(0), bounded(1), bounded(100), unbounded()]
}

fn channels() {
    leaves_nothing("a channel", || drop(open()));
    for count in [1, 30, 31, 32, 62, 63, 100] {
        leaves_nothing("messages that nobody receives", || {
            for (s, r) in open() {
                (0..count).for_each(|_| drop(s.try_send(block())));
                drop(s);
                drop(r);
            }
        });
        leaves_nothing("messages that some receive", || {
            for (s, r) in open() {
                for part in 1..4 {
                    (0..count).for_each(|_| drop(s.try_send(block())));
                    r.try_iter().take(count / part).for_each(drop);
                }
                drop(r);
                drop(s.send(block()));
            }
        });
    }
    leaves_nothing("those who wait and are cancelled", || {
        for (s, r) in open() {
            let receiver = spawn({
                let r = r.clone();
                move || r.recv()
            });
            settle();
            cancelled(receiver);
            if s.capacity().is_some() {
                while s.try_send(block()).is_ok() {}
                let sender = spawn(move || s.send(block()));
                settle();
                cancelled(sender);
            }
        }
    });
    leaves_nothing("timers", || {
        let timers = [after(Duration::from_secs(3600)), greenloom::channel::tick(Duration::from_nanos(1))];
        assert!(timers[0].try_recv().is_err());
        timers[1].recv().unwrap();
    });
    // Beyond what two who race for a block have prepared in vain.
    leaves_nothing("an unbounded channel that is refilled", || {
        let (s, r) = unbounded();
        for _ in 0..5 {
            (0..70).for_each(|_| s.send(block()).unwrap());
            (0..70).for_each(|_| drop(r.recv().unwrap()));
        }
    });
}

fn selects() {
    let wait_in = |arms: usize, operate: fn(&mut Select<'_>)| {
        let channels: Vec<Channel> = (0..arms).flat_map(|_| open()).collect();
        let mut select = Select::new();
        channels.iter().for_each(|(_, r)| _ = select.recv(r));
        operate(&mut select);
    };
    for arms in [1, 2, 3, 20, 400] {
        leaves_nothing("a select that gives up", || wait_in(arms, |select| assert!(select.try_select().is_err())));
        leaves_nothing("a select whose time is up", || {
            wait_in(arms, |select| assert!(select.select_timeout(Duration::from_nanos(1)).is_err()));
        });
    }
    leaves_nothing("a select that is cancelled", move || {
        let task = spawn(move || wait_in(5, |select| _ = select.ready()));
        settle();
        cancelled(task);
    });
    leaves_nothing("promises that are kept or given back", || {
        for (s, r) in open() {
            let receives = || begun(&r, |r| drop(r.recv().unwrap()));
            let sends = || begun(&s, |s| s.send(block()).unwrap());
            let partner = receives();
            select! { send(s, block()) -> sent => sent.unwrap() }
            partner.join().unwrap();
            let partner = receives();
            give_back(|select| _ = select.send(&s));
            s.send(block()).unwrap();
            partner.join().unwrap();
            let partner = sends();
            select! { recv(r) -> message => drop(message.unwrap()) }
            partner.join().unwrap();
            let partner = sends();
            give_back(|select| _ = select.recv(&r));
            drop(r.recv().unwrap());
            partner.join().unwrap();
        }
    });
}

/// A task that has come to where it waits, if it must.
fn begun<T: Clone + Send + 'static>(handle: &T, body: fn(&T)) -> JoinHandle<()> {
    let handle = handle.clone();
    let task = spawn(move || body(&handle));
    settle();
    task
}

/// Chooses the operation, and does not complete it.
fn give_back<'a>(operation: impl FnOnce(&mut Select<'a>)) {
    let mut select = Select::new();
    operation(&mut select);
    assert!(catch_unwind(AssertUnwindSafe(|| drop(select.select()))).is_err());
}

fn cancelled_or_done<T>(task: JoinHandle<T>) {
    task.cancel();
    drop(task.join());
}

#[derive(Default)]
struct Places {
    mutex: Mutex<Box<u64>>,
    lock: RwLock<Box<u64>>,
    condition: (Mutex<()>, Condvar),
    notify: Notify,
}

fn locks() {
    leaves_nothing("those who wait in sync, woken or cancelled", || {
        let (places, semaphore, barrier) =
            (Arc::new(Places::default()), Arc::new(Semaphore::new(0)), Arc::new(Barrier::new(100)));
        let group = WaitGroup::new();
        let spawn_three = |wait: fn(&Places)| {
            [(); 3].map(|()| {
                let places = places.clone();
                spawn(move || wait(&places))
            })
        };
        let guards = (places.mutex.lock().unwrap(), places.lock.write().unwrap());
        let mut tasks: Vec<JoinHandle<()>> = [
            spawn_three(|places| drop(places.mutex.lock().unwrap())),
            spawn_three(|places| drop(places.lock.read().unwrap())),
            spawn_three(|places| drop(places.lock.write().unwrap())),
            spawn_three(|places| drop(places.condition.1.wait(places.condition.0.lock().unwrap()).unwrap())),
            spawn_three(|places| places.notify.notified()),
        ]
        .into_iter()
        .flatten()
        .collect();
        for _ in 0..3 {
            let (semaphore, barrier, group) = (semaphore.clone(), barrier.clone(), group.clone());
            tasks.push(spawn(move || drop(semaphore.acquire())));
            tasks.push(spawn(move || _ = barrier.wait()));
            tasks.push(spawn(move || group.wait()));
        }
        settle();
        tasks.iter().step_by(2).for_each(JoinHandle::cancel);
        settle();
        drop((guards, group));
        semaphore.close();
        places.notify.notify_waiters();
        places.condition.1.notify_all();
        settle();
        tasks.into_iter().for_each(cancelled_or_done);
    });
}

fn once() {
    leaves_nothing("what is made once", || {
        let cell = OnceLock::new();
        assert!(cell.set(block()).is_ok() && cell.set(block()).is_err());
        let mut taken = cell.clone();
        drop(taken.take());
        let kept = block();
        drop(LazyLock::new(move || kept));
        let kept = block();
        assert_eq!(**LazyLock::new(move || kept), 7);
        let kept = block();
        let poisoned: LazyLock<Box<u64>, _> = LazyLock::new(move || {
            let _kept = kept;
            resume_unwind(block())
        });
        assert!(catch_unwind(AssertUnwindSafe(|| _ = LazyLock::force(&poisoned))).is_err());
        drop(poisoned);
        let once = Once::new();
        let kept = block();
        once.call_once(move || drop(kept));
    });
}

fn contexts() {
    const HOUR: Duration = Duration::from_secs(3600);
    leaves_nothing("contexts", || {
        let (parent, canceller) = Context::background().with_value(block()).with_cancel();
        let children: Vec<_> =
            (0..5).flat_map(|_| [parent.with_cancel(), parent.with_timeout(HOUR), parent.with_timeout(Duration::ZERO)]).collect();
        for (number, (child, child_canceller)) in children.into_iter().enumerate() {
            let (grandchild, _) = child.with_value(block()).with_timeout(HOUR);
            assert!(grandchild.done().try_recv().is_err());
            match number % 4 {
                0 => child_canceller.cancel_with("a cause"),
                1 => child_canceller.disarm(),
                2 => drop(child),
                _ => assert!(child.run_until_done(|| 7).is_ok() || child.err().is_some()),
            }
        }
        assert!(parent.done().try_recv().is_err());
        if block().is_power_of_two() {
            canceller.cancel();
        }
    });
    leaves_nothing("functions of contexts", || {
        let (ctx, canceller) = Context::background().with_cancel();
        let functions: Vec<_> = (0..6)
            .map(|_| {
                let block = block();
                ctx.after_func(move || drop(block))
            })
            .collect();
        assert!(functions[2].stop() && functions[3].stop());
        canceller.cancel();
        let late = block();
        drop(ctx.after_func(move || drop(late)));
        drop(Context::background().after_func(|| ()));
        settle();
    });
    leaves_nothing("deadlines that come", || {
        let (ctx, _canceller) = Context::background().with_timeout(Duration::from_nanos(1));
        assert!(ctx.done().recv().is_err());
    });
}

fn park_for_ever() -> Result<(), &'static str> {
    park();
    Ok(())
}

fn scopes_and_groups() {
    leaves_nothing("scopes", || {
        let seen = block();
        let sum = greenloom::scope(|s| {
            s.spawn(block);
            let late = s.spawn(block);
            let joined = s.spawn(|| seen.clone());
            s.spawn(|| park()).cancel();
            settle();
            drop(late);
            *joined.join().unwrap()
        });
        assert_eq!(sum, 7);
        drop(catch_unwind(AssertUnwindSafe(|| {
            greenloom::scope(|s| {
                (0..3).for_each(|_| drop(s.spawn(|| resume_unwind(block()))));
                block()
            })
        })));
        drop(catch_unwind(AssertUnwindSafe(|| {
            greenloom::scope(|s| {
                (0..20).for_each(|_| drop(s.spawn(|| park())));
                settle();
                (0..20).for_each(|_| drop(s.spawn(|| park())));
                resume_unwind(block())
            })
        })));
    });
    leaves_nothing("groups", || {
        let group = Group::new();
        group.set_limit(5);
        (0..9).for_each(|_| group.spawn(|| Err(block())));
        assert!(group.wait().is_err());
        (0..5).for_each(|_| group.spawn(|| resume_unwind(block())));
        group.spawn(|| Err(block()));
        drop(catch_unwind(AssertUnwindSafe(|| drop(group.wait()))));
        let (abandoned, ctx) = Group::with_context(&Context::background());
        (0..40).for_each(|_| abandoned.spawn(park_for_ever));
        settle();
        abandoned.spawn(|| Err("late"));
        drop(abandoned);
        assert!(ctx.err().is_some());
        settle();
    });
}

fn pools() {
    leaves_nothing("pools", || {
        let pool = WorkerPool::new(2, 4);
        let jobs: Vec<_> = (0..10).map(|_| pool.submit(block).unwrap()).collect();
        drop(pool.submit(|| resume_unwind(block())).unwrap());
        drop(pool.submit(block).unwrap());
        pool.close();
        drop(jobs);
        let pool = WorkerPool::new(1, 4);
        let jobs: Vec<_> = (0..5)
            .map(|_| {
                let block = block();
                pool.submit(move || {
                    park();
                    block
                })
                .unwrap()
            })
            .collect();
        settle();
        assert!(pool.try_submit(block).is_err());
        drop(pool);
        assert!(jobs.into_iter().all(|job| job.join().is_err()));
        settle();
    });
}
