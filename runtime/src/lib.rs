//! Go's scheduler as a crate: tasks with stacks of their own, run by a few OS threads that steal work from each other.
//!
//! Code in a task reads as if it blocked. Where it waits (for another task, say) only the task is suspended, and its thread runs
//! others: hundreds of thousands on one core, the same program on many.
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
//! | `go f()` | [`spawn`]; its [`JoinHandle`] tells how it ended |
//! | `wg.Go(f)`, `wg.Wait()` | [`scope`](scope()), or [`JoinHandle::join`] on each |
//! | `errgroup.Group` | [`group::Group`] |
//! | workers that range over a channel | [`pool::WorkerPool`] |
//! | `chan`, `select` | [`channel`], [`select!`] |
//! | `sync.Mutex`, `Cond`, `Once`, `WaitGroup`, … | [`sync`], in std's shapes |
//! | `time.Sleep(d)`, `time.NewTicker(d)` | [`sleep`], [`time::interval`] |
//! | `time.After(d)`, `time.Tick(d)` in a `select` | [`channel::after`], [`channel::tick`] |
//! | `context.Context` | [`context::Context`] |
//! | a `ctx` with a timeout through every function | [`time::timeout`] around the call |
//! | `recover()` | not needed: a panic ends its task alone, and [`JoinHandle::join`] tells |
//! | "all goroutines are asleep - deadlock!" | the same of tasks; see [`RuntimeBuilder::on_deadlock`] |
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
//! | `handle.abort()` | [`JoinHandle::cancel`], and destructors may suspend |
//! | `JoinSet` | [`scope`](scope()), [`group::Group`] |
//! | `LocalSet::spawn_local` | [`spawn_local`], in any task |
//! | `mpsc`, `select!` | [`channel`], [`select!`] |
//! | `select!` over other futures | a task that waits and then sends to a channel; for a limit, [`time::timeout`] |
//! | `oneshot` | [`channel::bounded(1)`](channel::bounded) |
//! | `watch`, `broadcast` | none: [`sync::Mutex`] and [`sync::Condvar`], or a channel for each receiver |
//! | `spawn_blocking` | a `std::thread` that answers through `channel::bounded(1)`: a task there would block its thread |
//! | `sync::{Mutex, Semaphore, Notify}` | [`sync::Mutex`], [`sync::Semaphore`], [`sync::Notify`] |
//! | `time::{sleep, timeout, interval}` | [`time::sleep`], [`time::timeout`], [`time::interval`] |
//! | `CancellationToken` | [`context::Context`] |
//! | `task::yield_now().await` | [`yield_now`] |
//! | `task_local!` | [`task_local!`] |
//! | `Runtime::shutdown_timeout` | [`Runtime::shutdown`], which tells who is left |
//!
//! | std | here |
//! |---|---|
//! | `thread::spawn`, `JoinHandle` | [`spawn`], [`JoinHandle`] |
//! | `thread::scope` | [`scope`](scope()) |
//! | `thread::Builder` | [`task::Builder`] |
//! | `thread::sleep` | [`sleep`]: `thread::sleep` in a task blocks its thread |
//! | `thread::current`, `park`, `park_timeout`, `Thread::unpark` | [`current`], [`park`], [`park_timeout`], [`Task::unpark`] |
//! | `sync::mpsc` | [`channel`] |
//! | `sync::{Mutex, Condvar, Once, …}` | [`sync`], in the same shapes |
//! | `thread_local!` | [`task_local!`] |
//!
//! | crossbeam | here |
//! |---|---|
//! | `crossbeam_channel::*` | [`channel`], as it is |
//! | `crossbeam_utils::sync::WaitGroup` | [`sync::WaitGroup`] |
//! | `crossbeam_utils::sync::Parker`, `Unparker` | [`park`], [`Task::unpark`] |
//! | `crossbeam_utils::thread::scope` | [`scope`](scope()): closures take no argument; a panic is raised, not returned |
//!
//! To port a program from threads, put [`run`] around `main`'s body; `use greenloom as thread` serves for
//! `thread::{spawn, scope, sleep, park}`.
//!
//! # The life of a task
//!
//! - It is *fresh* until a processor has time for it: a closure on the heap. Idle processors steal fresh tasks.
//! - It is *started* when it first runs: it gets a stack, and **stays on that OS thread** until it ends.
//! - It ends when its closure returns or panics, or when it is cancelled. A panic hurts nobody else: the process's panic hook prints
//!   message and place, a line on stderr names the task (or [`RuntimeBuilder::on_panic`]'s hook is called instead), and
//!   [`JoinHandle::join`] gives the payload.
//! - **Cancellation** ([`JoinHandle::cancel`], or the end of its runtime) unwinds the task from its next suspension point, or from the
//!   one it waits in. Destructors run, and may suspend. A limit of time ([`time::timeout`]) or a context ([`context::Context::run_until_done`]) does the
//!   same up to its own frame.
//! - When [`run`] returns, or a [`Runtime`] is dropped, all its tasks are cancelled. Those that do not end within the grace period
//!   are named on stderr. The runtime's threads have been joined by then, thread-locals and all, but for those of such tasks.
//!
//! **[The chapter of that name](life)** says which tool fits when, what an early end does to std locks, `LazyLock`, `extern "C"` and
//! `panic = "abort"`, and what becomes of tasks that somebody waits for.
//!
//! # What suspends
//!
//! A task is suspended where it waits, and in [`yield_now`]: in calls whose documentation says so. Such a call may suspend the task also
//! where it need not wait: if the task has run for its time slice of some 10 ms, or a timer of its thread is late, the others
//! there run first. A receiver whose channel is never empty would keep them from running for ever otherwise. What never waits is
//! no suspension: `send` on an unbounded channel, `notify_one`, `unpark` and their like.
//!
//! One kind more *gives way*: an attempt that fails instead of waiting (`try_recv`, `try_send`, `try_iter`, `try_select`, a `select!` with
//! `default`, `try_lock`, `try_acquire`, `is_finished` and their like), if 64 of them have failed without a suspension between, and
//! the task has run for its time slice, or such a loop was seen there just now. The task then goes behind the others there, as in
//! [`yield_now`], since those tasks may be what it waits for: a loop over attempts would keep them from it for ever. It returns
//! the failure that it had.
//!
//! A loop over attempts that succeed, or over calls that only tell a state (`len`, `is_empty`, `available_permits`, `Context::err`,
//! `OnceLock::get`, [`checkpoint`]), never lets others run. Put a [`yield_now`] into it.
//!
//! Where a call only lets others run, neither a cancellation nor a limit of time ends anything. It does not so inside [`no_suspend`],
//! nor in a destructor that runs because of an unwinding.
//!
//! # Soundness: what safe code can rely on
//!
//! Moving a running stack to another thread would break safe Rust: the task may hold a borrow of a thread-local, an `Rc` that came
//! from one, a std `MutexGuard`. Hence the rule above: **a task is stolen only while it is fresh**, for which `FnOnce + Send` is
//! enough. Nothing that a task holds crosses threads after its first run.
//!
//! What remains is code that assumes that the calls of one thread nest. Tasks on a thread interleave at suspension points, and such
//! code is not prepared for that. Most of it sees wrong values, or panics, or waits for ever:
//!
//! - a `RefCell` in a thread-local that stays borrowed across a suspension (another task's borrow panics);
//! - `enter()` guards that are dropped in another order: spans of `tracing` leak, unless the feature of that name is on ([chapter
//!   `beside`](beside#tracing)); [`RuntimeBuilder::on_switch`] is for others of that kind;
//! - reentrant locks such as `stdout().lock()` (another task is let in);
//! - a std lock held across a suspension: another task that wants it blocks the thread, and with it the holder. The locks of
//!   [`sync`] may be held;
//! - `std::thread::panicking()`, which counts per thread: it is true in every task of a thread on which one is suspended in a
//!   destructor, in the middle of its unwinding. A std `MutexGuard` that another of them took before and drops then poisons its
//!   mutex, though nothing has panicked there.
//!
//! Two patterns of safe code become **undefined behaviour**. Their `unsafe` parts rely on nesting, which is sound on a plain thread,
//! and no library of stackful tasks can keep that up:
//!
//! - **a `thread_local!` whose initialiser suspends.** Another task on the thread initialises the same variable meanwhile, and borrows
//!   it; when the first goes on, std puts its own value in the place and drops the one that is borrowed;
//! - **scoped thread-locals**, such as the crate `scoped-tls`, with a suspension inside `set`. Task A sets the variable, then B does; A's
//!   scope ends; B's ends and restores what it found: a pointer into A's frame, which is gone.
//!
//! The same holds for every `unsafe` of your own or of a dependency that keeps a pointer in a thread-local and counts on scopes to end
//! in the order in which they began. Guard such sections with [`no_suspend`]: a suspension inside panics. So does one in an
//! initialiser, if the access is inside.
//!
//! What this crate itself keeps while a function runs is no such hole: where a limit, [`uncancellable`], [`no_suspend`] or the scope of a
//! [`task_local!`] ends, it has to be the innermost, in the task or thread where it began, and a task that ends has to have left
//! them all. If the coroutine of another crate, suspended inside one and then resumed out of order or forgotten, breaks that,
//! the process ends with a sentence.
//!
//! A third hole is no pattern of code: where a stack has no guard but a **canary**, an overflow damages other memory before it is
//! noticed. That is so only if `StackGuard::Canary` is chosen, or, on a kernel without guard markers (before Linux 6.13), for
//! the stacks for which no mappings are left for `mprotect`; a warning on stderr says so first.
//!
//! # Stacks
//!
//! A task has 128 KiB of stack, and 1 MiB in debug builds (where this crate has debug assertions), unless
//! [`RuntimeBuilder::stack_size`] or [`task::Builder::stack_size`] says otherwise. The root task of [`run`] has 8 MiB, as `main` has. Of
//! that a task uses what it touches: a page of 4 KiB at least. An overflow runs into a guard (a canary at worst, see above), is
//! reported with the task's name, number and spawn site, and aborts the process.
//!
//! | what calls into other crates need | release build | without optimisation |
//! |---|---|---|
//! | `Regex::new`, a parser of `clap`, `serde_json` 127 deep, `flate2`, `jiff` | 30 to 67 KiB | 150 to 560 KiB |
//! | recursion as deep as its input: `syn`, nested SQL, trees of documents | more, as deep as that is | five to ten times as much |
//! | the default, for a task | 128 KiB | 1 MiB |
//!
//! **Where more is needed**: a larger stack for the tasks that do it, [`task::Builder::stack_size`], or for all,
//! [`RuntimeBuilder::stack_size`]. It costs addresses, and for each started task two bytes of page tables per KiB. (A limit of addresses,
//! `ulimit -v`, leaves room for fewer tasks then.)
//!
//! # Beside other things
//!
//! **[The chapter of that name](beside)** is about tracers and loggers, which profilers work, signal handlers, and what a process may do
//! after a `fork`.
//!
//! # When not to use it
//!
//! A task that computes for long, or blocks its thread in the kernel, stalls the tasks that have started on the same thread: they
//! cannot move. The monitor sees to it that nothing else waits, and, if it does stall others for a second, names it on stderr; no more
//! can be done. Code that does little else than wait for sockets is better served by an async runtime today.
//!
//! Deadlocks are told, but not each of them. When all tasks wait and nothing can wake one, [`run`] panics with their names and places;
//! where the process has other threads, stderr says so after a second. See [`RuntimeBuilder::on_deadlock`]. Tasks for which nobody waits
//! in `run` may sleep for ever, and so may a few that wait for each other while others work.

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
