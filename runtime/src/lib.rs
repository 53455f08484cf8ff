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
//! | `wg.Wait()` | [`JoinHandle::join`] on each |
//! | `runtime.Gosched()` | [`yield_now`] |
//! | `chan`, `select` | [`channel`], [`select!`] |
//! | `sync.Mutex`, `sync.WaitGroup`, … | [`sync`] |
//! | `time.Sleep(d)`, `time.After(d)` | [`channel::after`]`(d).recv()`, [`channel::after`]`(d)` |
//! | `GOMAXPROCS` | [`RuntimeBuilder::processors`] |
//! | `sync.Mutex`, `Cond`, `Once`, `WaitGroup` | those of [`sync`] |
//! | G, M, P | task, machine, processor |
//!
//! | tokio | here |
//! |---|---|
//! | `#[tokio::main]` | [`run`] |
//! | `Runtime`, `Handle`, `Builder` | [`Runtime`], [`Handle`], [`RuntimeBuilder`] |
//! | `spawn(async { … })`, `handle.await` | [`spawn`]`(|| …)`, [`handle.join()`](JoinHandle::join) |
//! | `handle.abort()` | [`JoinHandle::cancel`], and destructors may suspend |
//! | `LocalSet::spawn_local` | [`spawn_local`], in any task |
//! | `mpsc`, `select!` | [`channel`], [`select!`] |
//! | `sync::{Mutex, Semaphore, Notify}` | [`sync`] |
//! | `time::sleep(d).await`, `timeout` | [`channel::after`]`(d).recv()`; `recv_timeout` and the like |
//! | `task::yield_now().await` | [`yield_now`] |
//! | `sync::{Mutex, Semaphore, Notify}` | [`sync::Mutex`], [`sync::Semaphore`], [`sync::Notify`] |
//! | `task_local!` | [`task_local!`] |
//!
//! | std | here |
//! |---|---|
//! | `thread::spawn`, `JoinHandle` | [`spawn`], [`JoinHandle`] |
//! | `thread::Builder` | [`task::Builder`] |
//! | `thread::sleep` | [`channel::after`]`(d).recv()`: `thread::sleep` in a task blocks its thread |
//! | `sync::mpsc`, `sync::{Mutex, Condvar, …}`, `thread_local!` | [`channel`], [`sync`], [`task_local!`] |
//! | `thread::current`, `park`, `Thread::unpark` | [`current`], [`park`], [`Task::unpark`] |
//! | `std::sync` | [`sync`], in the same shapes |
//! | `thread_local!` | [`task_local!`] |
//!
//! # The life of a task
//!
//! - It is *fresh* until a processor has time for it: a closure on the heap. Idle processors steal fresh tasks.
//! - It is *started* when it first runs: it gets a stack, and **stays on that OS thread** until it ends.
//! - It ends when its closure returns or panics, or when it is cancelled. A panic hurts nobody else: [`JoinHandle::join`] says so,
//!   and the process's own panic hook has printed its message.
//! - **Cancellation** ([`JoinHandle::cancel`], or the end of its runtime) unwinds the task from its next suspension point, or from the
//!   one it waits in. Destructors run, and may suspend. Catching the unwinding delays it to the next suspension point. A value
//!   that a partner had handed over before is returned, and cancellation comes at the next one. It poisons std locks that the task
//!   holds, as any panic does, and aborts the process if it has to cross `extern "C"`. In a build with `panic = "abort"` there is no
//!   unwinding, and so no cancellation of tasks that have started: it is refused, with a sentence on stderr, and those that do not end
//!   by themselves are left behind at the end of their runtime.
//! - When [`run`] returns, or a [`Runtime`] is dropped, all its tasks are cancelled. Those that do not end within the grace period
//!   are named on stderr.
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
//! - `enter()` guards that are dropped in another order, and reentrant locks such as `stdout().lock()` (another task is let in);
//! - a std lock held across a suspension: another task that wants it blocks the thread, and with it the holder. The locks of
//!   [`sync`] may be held;
//! - `std::thread::panicking()`, which counts per thread: it is true in every task of a thread on which one is suspended in a
//!   destructor, in the middle of its unwinding. A std `MutexGuard` that another of them took before and drops then poisons its
//!   mutex, though nothing has panicked there.
//!
//! Two patterns of safe code become **undefined behaviour**. Their `unsafe` parts rely on nesting, with every right on a plain thread,
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
//! A third hole is no pattern of code: where a stack has no guard but a **canary**, an overflow damages other memory before it is
//! noticed. That is so only if `StackGuard::Canary` is chosen, or, on a kernel without guard markers (before Linux 6.13), for
//! the stacks for which no mappings are left for `mprotect`; a warning on stderr says so first.
//!
//! # Stacks
//!
//! A task has 110 KiB of stack unless [`RuntimeBuilder::stack_size`] or [`task::Builder::stack_size`] says otherwise. Of that it uses
//! what it touches: a page of 4 KiB at least. An overflow runs into a guard (a canary at worst, see above), is reported with the
//! task's name, number and spawn site, and aborts the process.
//!
//! # When not to use it
//!
//! Nothing tells yet that tasks wait for each other in a circle: such a deadlock is silent.
//!
//! A task that computes for long, or blocks its thread in the kernel, stalls the tasks that have started on the same thread: they
//! cannot move. The monitor sees to it that nothing else waits, and, if it does stall others for a second, names it on stderr; no more
//! can be done. Code
//! that does little else than wait for sockets is better served by an async runtime today.

#![cfg_attr(greenloom_loom, expect(dead_code, reason = "the monitor, which is not modelled, is the only user of some items"))]

pub mod channel;
pub mod context;
pub mod group;
#[cfg(greenloom_loom)]
#[doc(hidden)]
pub mod models;
pub mod pool;
mod prim;
mod runtime;
mod scheduler;
mod scope;
mod stack;
pub mod sync;
pub mod task;
pub mod time;
mod wait;

pub use runtime::{Handle, Runtime, RuntimeBuilder, run};
pub use scope::{Scope, ScopedJoinHandle, scope};
#[cfg(not(greenloom_loom))]
pub use stack::guard::StackGuard;
pub use task::{JoinError, JoinHandle, LocalJoinHandle, Task};
pub use task::{checkpoint, current, no_suspend, park, park_timeout, spawn, spawn_local, uncancellable, yield_now};
pub use time::sleep;

/// The README's program runs as pasted.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// What the two ends of a channel cannot do.
#[cfg(doctest)]
#[doc = include_str!("../tests/directions.md")]
struct Directions;
