//! Go's scheduler as a crate: tasks with stacks of their own, run by a few OS threads that steal
//! work from each other.
//!
//! Code in a task reads as if it blocked. Where it waits (for another task, say), only the task is
//! suspended, and its thread runs others. One core runs hundreds of thousands of tasks, and the
//! same program runs on many cores.
//!
//! ```
//! // Sums the leaves of a tree with a task for each node.
//! fn tree(from: u64, leaves: u64) -> u64 {
//!     if leaves == 1 {
//!         return from;
//!     }
//!     let part = leaves / 10;
//!     let children: Vec<_> =
//!         (0..10).map(|i| greenloom::spawn(move || tree(from + i * part, part))).collect();
//!     children.into_iter().map(|child| child.join().unwrap()).sum()
//! }
//!
//! assert_eq!(greenloom::run(|| tree(0, 10_000)), 49_995_000);
//! ```
//!
//! # Where to find what you know
//!
//! | Go | here |
//! |---|---|
//! | `go f()` | [`spawn`]; its [`JoinHandle`] says how the task ended |
//! | `wg.Go(f)`, `wg.Wait()` | [`scope`](scope()), or [`JoinHandle::join`] on each |
//! | `errgroup.Group` | [`group::Group`] |
//! | workers that range over a channel | [`pool::WorkerPool`] |
//! | `chan`, `select` | [`channel`], [`select!`] |
//! | `sync.Mutex`, `Cond`, `Once`, `WaitGroup`, … | [`sync`], in std's shapes |
//! | `time.Sleep(d)`, `time.NewTicker(d)` | [`sleep`], [`time::interval`] |
//! | `time.After(d)`, `time.Tick(d)` in a `select` | [`channel::after`], [`channel::tick`] |
//! | `context.Context` | [`context::Context`] |
//! | a `ctx` with a timeout through every function | [`time::timeout`] around the call |
//! | `recover()` | not needed: a panic ends only its own task, and [`JoinHandle::join`] reports it |
//! | "all goroutines are asleep - deadlock!" | the same for tasks; see [`RuntimeBuilder::on_deadlock`] |
//! | `goleak` in tests | [`testing::run`] |
//! | `runtime.Gosched()` | [`yield_now`] |
//! | `GOMAXPROCS` | [`RuntimeBuilder::processors`] |
//! | G, M, P | task, machine, processor |
//!
//! | tokio | here |
//! |---|---|
//! | `#[tokio::main]` | [`run`] |
//! | `Runtime`, `Handle`, `Builder` | [`Runtime`], [`Handle`], [`RuntimeBuilder`] |
//! | `spawn(async { … })`, `handle.await` | [`spawn(f)`](spawn()), [`handle.join()`](JoinHandle::join) |
//! | `handle.abort()` | [`JoinHandle::cancel`]; destructors may suspend |
//! | `JoinSet` | [`scope`](scope()), [`group::Group`] |
//! | `LocalSet::spawn_local` | [`spawn_local`], in any task |
//! | `mpsc`, `select!` | [`channel`], [`select!`] |
//! | `select!` over other futures | a task that waits and then sends to a channel; for a time limit, [`time::timeout`] |
//! | `oneshot` | [`channel::bounded(1)`](channel::bounded) |
//! | `watch`, `broadcast` | none: [`sync::Mutex`] and [`sync::Condvar`], or a channel for each receiver |
//! | `spawn_blocking` | a `std::thread` that answers through `channel::bounded(1)`; a task would block its thread |
//! | `sync::{Mutex, Semaphore, Notify}` | [`sync::Mutex`], [`sync::Semaphore`], [`sync::Notify`] |
//! | `time::{sleep, timeout, interval}` | [`time::sleep`], [`time::timeout`], [`time::interval`] |
//! | `CancellationToken` | [`context::Context`] |
//! | `task::yield_now().await` | [`yield_now`] |
//! | `task_local!` | [`task_local!`] |
//! | `Runtime::shutdown_timeout` | [`Runtime::shutdown`], which reports the tasks that are left |
//!
//! | std | here |
//! |---|---|
//! | `thread::spawn`, `JoinHandle` | [`spawn`], [`JoinHandle`] |
//! | `thread::scope` | [`scope`](scope()) |
//! | `thread::Builder` | [`task::Builder`] |
//! | `thread::sleep` | [`sleep`]; `thread::sleep` in a task blocks its thread |
//! | `thread::current`, `park`, `park_timeout`, `Thread::unpark` | [`current`], [`park`], [`park_timeout`], [`Task::unpark`] |
//! | `sync::mpsc` | [`channel`] |
//! | `sync::{Mutex, Condvar, Once, …}` | [`sync`], in the same shapes |
//! | `thread_local!` | [`task_local!`] |
//!
//! | crossbeam | here |
//! |---|---|
//! | `crossbeam_channel::*` | [`channel`], unchanged |
//! | `crossbeam_utils::sync::WaitGroup` | [`sync::WaitGroup`] |
//! | `crossbeam_utils::sync::Parker`, `Unparker` | [`park`], [`Task::unpark`] |
//! | `crossbeam_utils::thread::scope` | [`scope`](scope()); closures take no argument, and a panic is raised, not returned |
//!
//! To port a program from threads, wrap the body of `main` in [`run`]. `use greenloom as thread`
//! covers `thread::{spawn, scope, sleep, park}`.
//!
//! # The life of a task
//!
//! - A task is *fresh* until a processor has time for it. A fresh task is a closure on the heap.
//!   Idle processors steal fresh tasks.
//! - It is *started* when it first runs. It gets a stack, and **stays on that OS thread** until it
//!   ends.
//! - It ends when its closure returns or panics, or when it is cancelled. A panic affects no other
//!   task. The process's panic hook prints the message and location. A line on stderr names the
//!   task, or [`RuntimeBuilder::on_panic`]'s hook is called instead. [`JoinHandle::join`] returns
//!   the payload.
//! - **Cancellation** ([`JoinHandle::cancel`], or the end of its runtime) unwinds the task from its
//!   next suspension point, or from the one it is waiting in. Destructors run, and may suspend. A
//!   time limit ([`time::timeout`]) or a context ([`context::Context::run_until_done`]) does the
//!   same, but only up to its own frame.
//! - When [`run`] returns, or a [`Runtime`] is dropped, all its tasks are cancelled. Tasks that do
//!   not end within the grace period are named on stderr. By then the runtime's threads have been
//!   joined and their thread-locals dropped, except for the threads of such tasks.
//!
//! **[The chapter `life`](life)** says which tool fits when, what an early end does to std locks,
//! `LazyLock`, `extern "C"` and `panic = "abort"`, and what becomes of the tasks that somebody is
//! waiting for.
//!
//! # What suspends
//!
//! A task is suspended where it waits, and in [`yield_now`]. The documentation of each such call
//! says so. Such a call may also suspend the task when it need not wait: if the task has run for
//! its time slice of some 10 ms, or a timer of its thread is late, the others there run first.
//! Otherwise a receiver whose channel is never empty would starve them forever. A call that never
//! waits does not suspend: `send` on an unbounded channel, `notify_one`, `unpark` and the like.
//!
//! Another kind of call *gives way*: an attempt that fails instead of waiting (`try_recv`,
//! `try_send`, `try_iter`, `try_select`, a `select!` with `default`, `try_lock`, `try_acquire`,
//! `is_finished` and the like). It does so if 64 attempts have failed without a suspension in
//! between, and either the task has run for its time slice or such a loop was seen there just now.
//! The task then goes behind the others there, as in [`yield_now`], since those tasks may be what
//! it waits for: without this, a loop over attempts would starve them forever. The call still
//! returns its failure.
//!
//! A loop over attempts that succeed, or over calls that only report a state (`len`, `is_empty`,
//! `available_permits`, `Context::err`, `OnceLock::get`, [`checkpoint`]), never lets others run.
//! Put a [`yield_now`] into it.
//!
//! Where a call suspends only to let others run, neither a cancellation nor a time limit ends
//! anything. A call does not let others run inside [`no_suspend`], nor in a destructor that runs
//! during unwinding.
//!
//! # Soundness: what safe code can rely on
//!
//! Moving a running stack to another thread would break safe Rust. The task may hold a borrow of a
//! thread-local, an `Rc` that came from one, or a std `MutexGuard`. Hence the rule above: **a task
//! is stolen only while it is fresh**, for which `FnOnce + Send` is enough. Nothing that a task
//! holds crosses threads after its first run.
//!
//! What remains is code that assumes that the calls of one thread nest. Tasks on a thread
//! interleave at suspension points, and such code is not prepared for that. Most of it sees wrong
//! values, panics, or waits forever:
//!
//! - a `RefCell` in a thread-local that stays borrowed across a suspension (another task's borrow
//!   panics);
//! - `enter()` guards that are dropped in another order: spans of `tracing` leak, unless the
//!   feature `tracing` is on ([chapter `beside`](beside#tracing)). [`RuntimeBuilder::on_switch`] is
//!   for other libraries of this kind;
//! - reentrant locks such as `stdout().lock()` (another task can enter);
//! - a std lock held across a suspension: another task that wants it blocks the thread, and with it
//!   the holder. The locks of [`sync`] may be held;
//! - `std::thread::panicking()`, which counts per thread. While a task is suspended in a destructor
//!   during its unwinding, it is true in every task of that thread. If another of them drops a std
//!   `MutexGuard` meanwhile that it took before, the mutex is poisoned, though nothing has panicked
//!   there.
//!
//! Two patterns of safe code become **undefined behaviour**. Their `unsafe` parts rely on nesting.
//! That is sound on a plain thread, but no library of stackful tasks can uphold it:
//!
//! - **a `thread_local!` whose initialiser suspends.** Meanwhile another task on the thread
//!   initialises the same variable, and borrows it. When the first task goes on, std stores its own
//!   value there and drops the one that is borrowed;
//! - **scoped thread-locals**, such as the crate `scoped-tls`, with a suspension inside `set`. Task
//!   A sets the variable, then B does. A's scope ends. B's scope ends and restores what it found: a
//!   pointer into A's frame, which is gone.
//!
//! The same holds for any `unsafe` code, yours or a dependency's, that keeps a pointer in a
//! thread-local and relies on scopes to nest. Guard such sections with [`no_suspend`]: a suspension
//! inside panics. So does one in an initialiser, if the access is inside.
//!
//! The scopes of this crate are no such hole. When a time limit, [`uncancellable`], [`no_suspend`]
//! or the scope of a [`task_local!`] ends, it must be the innermost, in the task or thread where it
//! began. A task that ends must have left them all. The coroutine of another crate can break this,
//! if it is suspended inside one and then resumed out of order or forgotten. The process then ends
//! with a message.
//!
//! A third hole is no pattern of code. Where a stack has no guard but a **canary**, an overflow
//! damages other memory before it is noticed. This is so only if `StackGuard::Canary` is chosen,
//! or, on a kernel without guard markers (before Linux 6.13), for the stacks for which no mappings
//! are left for `mprotect`; a warning is printed to stderr first.
//!
//! # Stacks
//!
//! A task has 128 KiB of stack, or 1 MiB in debug builds (where this crate has debug assertions),
//! unless [`RuntimeBuilder::stack_size`] or [`task::Builder::stack_size`] says otherwise. The root
//! task of [`run`] has 8 MiB, as `main` has. A task uses only the memory that it touches: at least
//! one page of 4 KiB. An overflow runs into a guard (at worst a canary, see above), is reported
//! with the task's name, number and spawn site, and aborts the process.
//!
//! | stack that calls into other crates need | release build | without optimisation |
//! |---|---|---|
//! | `Regex::new`, a parser of `clap`, `serde_json` 127 deep, `flate2`, `jiff` | 30 to 67 KiB | 150 to 560 KiB |
//! | recursion as deep as its input: `syn`, nested SQL, trees of documents | more, in proportion to the depth | five to ten times as much |
//! | the default, for a task | 128 KiB | 1 MiB |
//!
//! **Where more is needed**, give the tasks that need it a larger stack with
//! [`task::Builder::stack_size`], or all tasks with [`RuntimeBuilder::stack_size`]. This costs
//! address space, and for each started task two bytes of page tables per KiB. (Under a limit on
//! address space, `ulimit -v`, there is then room for fewer tasks.)
//!
//! # Beside other things
//!
//! **[The chapter `beside`](beside)** covers tracers and loggers, which profilers work, signal
//! handlers, and what a process may do after a `fork`.
//!
//! # When not to use it
//!
//! A task that computes for long, or blocks its thread in the kernel, stalls the tasks that have
//! started on the same thread: they cannot move. The monitor makes sure that nothing else waits. If
//! the task stalls others for a second, the monitor names it on stderr. No more can be done. Code
//! that does little but wait for sockets is better served by an async runtime today.
//!
//! Deadlocks are reported, but not all of them. When all tasks wait and nothing can wake one,
//! [`run`] panics with their names and locations. If the process has other threads, a warning is
//! printed to stderr after a second instead. See [`RuntimeBuilder::on_deadlock`]. Tasks for which
//! nobody waits in `run` may sleep forever, and so may a few that wait for each other while others
//! work.

#![cfg_attr(greenloom_loom, expect(dead_code, reason = "the monitor, which is not modelled, is the only user of some items"))]

#[cfg(not(target_os = "linux"))]
compile_error!(
    "greenloom runs on Linux only so far: its threads sleep on futexes, and its stacks are mapped and guarded as Linux does it. Other \
     systems need the seams in `src/sys` and `src/stack` filled"
);

#[cfg(not(target_pointer_width = "64"))]
compile_error!(
    "greenloom needs 64-bit addresses: the stacks of many tasks take far more than 4 GiB of them, and use little of that"
);

pub mod beside {
    #![doc = include_str!("beside.md")]
}
pub mod channel;
pub mod context;
pub mod life {
    #![doc = include_str!("life.md")]
}
#[cfg(greenloom_loom)]
#[doc(hidden)]
pub mod models;
mod prim;
mod raw;
mod runtime;
mod scheduler;
mod stack;
mod structured;
pub mod sync;
mod sys;
pub mod task;
pub mod time;
mod unwind;
mod wait;

pub use raw::report::TaskReport;
pub use runtime::report::ShutdownReport;
pub use runtime::{Runtime, RuntimeBuilder, run, testing};
pub use scheduler::hooks::SwitchHook;
pub use scheduler::report::{OnDeadlock, OnLeak, TaskPanic};
pub use scheduler::task::Task;
#[cfg(not(greenloom_loom))]
pub use stack::guard::StackGuard;
pub use structured::scope::{Scope, ScopedJoinHandle, scope};
pub use structured::{group, pool};
// From its private module: `task::spawn` would be that module, too.
pub use task::spawn::spawn;
#[doc(inline)]
pub use task::{Handle, JoinError, JoinHandle, LocalJoinHandle};
#[doc(inline)]
pub use task::{checkpoint, current, no_suspend, park, park_timeout, spawn_local, uncancellable, yield_now};
#[doc(inline)]
pub use time::sleep;

/// The README's program runs as pasted.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// What the two ends of a channel cannot do.
#[cfg(doctest)]
#[doc = include_str!("../tests/directions.md")]
struct Directions;
