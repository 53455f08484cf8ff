//! Describing a runtime.

use std::io;
use std::time::Duration;

use crate::raw::stacks::StackPool;
use crate::runtime::{Runtime, wait_for_end};
use crate::scheduler::hooks::{Hooks, SwitchHook};
use crate::scheduler::idle::MOST_MACHINES;
use crate::scheduler::report::{OnDeadlock, OnLeak, PanicHook, TaskPanic};
use crate::scheduler::{Config, NotStarted, Shared, local};
use crate::stack::Class;
use crate::stack::slab::Slabs;

/// The most processors that a runtime may have.
const MAX_PROCESSORS: usize = 1024;

/// The number of spare machines that a runtime may have, unless the number of machines is set.
const SPARES: usize = 512;

/// Describes a [`Runtime`].
///
/// ```
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let runtime = greenloom::Runtime::builder()
///     .processors(4)
///     .stack_size(256 * 1024)
///     .thread_name("crawler")
///     .shutdown_grace(Duration::from_secs(5))
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until build is called"]
pub struct RuntimeBuilder {
    processors: Option<usize>,
    max_machines: Option<usize>,
    stack_size: Option<usize>,
    pin_to_cores: bool,
    thread_name: String,
    shutdown_grace: Duration,
    on_panic: Option<PanicHook>,
    on_switch: Hooks,
    on_leak: OnLeak,
    on_deadlock: OnDeadlock,
    testing: bool,
    #[cfg(not(greenloom_loom))]
    stack_guard: crate::stack::guard::StackGuard,
}

impl Default for RuntimeBuilder {
    fn default() -> Self {
        Self {
            processors: None,
            max_machines: None,
            stack_size: None,
            pin_to_cores: false,
            thread_name: "greenloom".to_owned(),
            shutdown_grace: Duration::from_secs(1),
            on_panic: None,
            on_switch: Hooks::default(),
            on_leak: OnLeak::default(),
            on_deadlock: OnDeadlock::default(),
            testing: false,
            #[cfg(not(greenloom_loom))]
            stack_guard: crate::stack::guard::StackGuard::Auto,
        }
    }
}

impl RuntimeBuilder {
    /// How many tasks run at the same time: from 1 to 1024. By default one for each CPU that the
    /// process may use.
    pub fn processors(mut self, processors: usize) -> Self {
        self.processors = Some(processors);
        self
    }

    /// The most OS threads that the runtime may have for running tasks: from the number of
    /// processors to 4095. By default 512 more than processors.
    ///
    /// A task that does not suspend, because it computes or the kernel blocks it, holds its thread.
    /// If all threads are held for 10 ms while tasks that have not started wait, a spare thread is
    /// started for those. So a std lock or a call that blocks does not stop what would end it. A
    /// spare that is no longer needed sleeps. When there are as many threads as allowed, and all
    /// are held, a warning that names the tasks is printed to stderr, once.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use std::sync::mpsc;
    ///
    /// // Two tasks that block their threads, and one that ends that.
    /// let runtime = greenloom::Runtime::builder().processors(1).max_machines(3).build()?;
    /// let (tell, wait) = mpsc::channel();
    /// let (then_tell, then_wait) = mpsc::channel();
    /// let second = runtime.spawn(move || then_wait.recv().unwrap());
    /// let first = runtime.spawn(move || then_tell.send(wait.recv().unwrap()).unwrap());
    /// runtime.spawn(move || tell.send("free").unwrap()).join().unwrap();
    /// first.join().unwrap();
    /// assert_eq!(second.join().unwrap(), "free");
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_machines(mut self, machines: usize) -> Self {
        self.max_machines = Some(machines);
        self
    }

    /// The minimum size of each task's stack, in bytes: from 16 KiB to 1 GiB, rounded up to a power
    /// of two.
    ///
    /// By default 128 KiB, or 1 MiB where this crate is built with debug assertions, as it is in
    /// debug builds. The [crate's documentation](crate#stacks) says what calls into other crates
    /// need. Memory is used as it is touched; a task that has started uses at least a page. The
    /// root of a [`run`](Runtime::run) has 8 MiB whatever this setting is, unless this size is
    /// larger.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Whether each machine is pinned to a core of its own, as far as there are cores. Off by
    /// default: it helps on a machine that nobody shares, and hurts elsewhere.
    pub fn pin_to_cores(mut self, pin: bool) -> Self {
        self.pin_to_cores = pin;
        self
    }

    /// The name of the OS threads; each adds its number. By default `greenloom`.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
        self
    }

    /// How long dropping the runtime waits for its tasks to unwind. By default a second.
    ///
    /// If some tasks have ended in that time, and others have not, the time begins again, up to
    /// sixty times. This gives many tasks that end as soon as they are told the time that they
    /// need. Tasks that never end are waited for once. [`Runtime::shutdown`] takes a time of its
    /// own, which is exact.
    pub fn shutdown_grace(mut self, grace: Duration) -> Self {
        self.shutdown_grace = grace;
        self
    }

    /// What to do when a task panics, in place of the line on stderr that names the task.
    ///
    /// The hook is called once for each task that a panic ends, including the roots of
    /// [`run`](Runtime::run), and for each job of a [`WorkerPool`](crate::pool::WorkerPool) (the
    /// task is then the worker's, which goes on). It runs on the task's stack, after the stack has
    /// unwound and before anybody learns that the task has ended. The payload goes to whoever joins
    /// the task. (A task that cannot start for lack of a stack ends in a panic as well.) Before
    /// that, the process's own panic hook has printed the message and location, as for a plain
    /// thread; [`std::panic::set_hook`] sets that hook. Cancellation is no panic, and neither hook
    /// is called for it.
    ///
    /// The hook may do what a task may. A cancellation that comes while it waits is deferred until
    /// it has returned. If the hook panics, the only effect is that the line is printed after all.
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let panics = Arc::new(Mutex::new(Vec::new()));
    /// let log = panics.clone();
    /// let runtime = greenloom::Runtime::builder()
    ///     .on_panic(move |panic| log.lock().unwrap().push((panic.task().id(), panic.message().map(str::to_owned))))
    ///     .build()?;
    /// let task = runtime.spawn(|| panic!("no luck"));
    /// let id = task.task().id();
    /// assert!(task.join().unwrap_err().is_panic());
    /// assert_eq!(*panics.lock().unwrap(), [(id, Some("no luck".to_owned()))]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_panic(mut self, hook: impl Fn(&TaskPanic<'_>) + Send + Sync + 'static) -> Self {
        self.on_panic = Some(PanicHook::new(hook));
        self
    }

    /// Calls `hook` whenever a task is switched in or out, to keep state that belongs to the thread
    /// in step with the task that runs there.
    ///
    /// A runtime may have several hooks. They enter in the order in which they were added, and
    /// leave in the reverse order. A runtime without hooks pays nothing.
    ///
    /// See [`SwitchHook`] for what it may do, and for an example.
    pub fn on_switch(mut self, hook: impl SwitchHook) -> Self {
        self.on_switch.add(hook);
        self
    }

    /// What to do about tasks that are alive when the runtime ends. By default they are only
    /// cancelled.
    ///
    /// With [`OnLeak::Report`] each is named on stderr, started or not, with what it waited for
    /// when the end began. Tasks that end at that moment may be among them; tasks that have been
    /// joined are not.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// let runtime = greenloom::Runtime::builder().on_leak(greenloom::OnLeak::Report).build()?;
    /// runtime.run(|| drop(greenloom::spawn(greenloom::park)));
    /// // Says: greenloom: still alive when its runtime ended: task 2 (spawned at src/main.rs:4:26), parked
    /// drop(runtime);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_leak(mut self, on_leak: OnLeak) -> Self {
        self.on_leak = on_leak;
        self
    }

    /// What to do when all tasks wait and nothing can wake one of them.
    ///
    /// By default [`run`](Runtime::run) panics with "all tasks are asleep - deadlock!" and the
    /// tasks with their spawn sites and what they wait for. Its root task is cancelled, so that
    /// destructors run. When the root has ended, the caller panics. (If the root catches the
    /// cancellation, and returns or panics, so does `run`, and the deadlock is reported on stderr.)
    /// This is impossible if the root waits in a destructor, say, for another of these tasks, or if
    /// the build has `panic = "abort"`. Then a message is printed to stderr, and the process
    /// aborts: nothing could ever happen in it again.
    ///
    /// A deadlock is certain when nothing runs, no timer is set, the process has no threads but
    /// this runtime's and callers of its `run`, and it handles no signals. If it has other threads,
    /// one of them might wake a task. So might the handler of a signal that you have installed
    /// (handlers of faults such as `SIGSEGV` do not count). Nobody can know. So after a second
    /// without any progress a warning is printed to stderr, once in the runtime's life. The threads
    /// of other runtimes count as other threads too; tasks that wait for another runtime are not
    /// reported at all. A runtime for which nobody waits in `run` may sleep for as long as it
    /// likes. Where the number of the process's threads is not known (elsewhere than on Linux),
    /// there may always be others.
    ///
    /// ```
    /// # fn main() -> std::io::Result<()> {
    /// use greenloom::{OnDeadlock, Runtime};
    ///
    /// // For a program whose tasks wait for a plain thread most of the time.
    /// let runtime = Runtime::builder().on_deadlock(OnDeadlock::Ignore).build()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_deadlock(mut self, on_deadlock: OnDeadlock) -> Self {
        self.on_deadlock = on_deadlock;
        self
    }

    /// How the end of each stack is guarded. By default as well as the system can.
    #[cfg(not(greenloom_loom))]
    pub fn stack_guard(mut self, guard: crate::stack::guard::StackGuard) -> Self {
        self.stack_guard = guard;
        self
    }

    /// For a test: a deadlock ends it even if the process has other threads.
    pub(crate) fn for_a_test(mut self) -> Self {
        self.testing = true;
        self
    }

    /// Starts the runtime.
    ///
    /// # Errors
    /// If a setting is out of its range, or the system has no threads or memory for it; the message
    /// says which, and which limits to check. Nothing is left behind then, except in a task inside
    /// [`no_suspend`](crate::no_suspend), where the threads that have started end by themselves.
    pub fn build(self) -> io::Result<Runtime> {
        let (config, stacks) = self.describe()?;
        let shared = Shared::start(config, stacks).map_err(|NotStarted { error, ending }| {
            if let Some(shared) = ending
                && local::may_suspend()
            {
                wait_for_end(&shared);
            }
            error
        })?;
        Ok(Runtime::new(shared))
    }

    /// The configuration and the stacks of the runtime to be built.
    pub(crate) fn describe(self) -> io::Result<(Config, StackPool)> {
        let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        let processors = self.processors.unwrap_or_else(default_processors);
        if !(1..=MAX_PROCESSORS).contains(&processors) {
            return invalid(format!("a runtime has from 1 to {MAX_PROCESSORS} processors, not {processors}"));
        }
        let max_machines = self.max_machines.unwrap_or(processors + SPARES);
        if !(processors..=MOST_MACHINES).contains(&max_machines) {
            return invalid(format!(
                "a runtime has at least as many machines as processors, and {MOST_MACHINES} at most; max_machines is {max_machines}, \
                 processors {processors}"
            ));
        }
        if self.thread_name.contains('\0') {
            return invalid("a thread name cannot contain the character NUL".to_owned());
        }
        let class = self.stack_size.map_or(Ok(Class::DEFAULT), Class::for_stack)?;
        #[cfg(not(greenloom_loom))]
        crate::stack::guard::check_page_size()?;
        #[cfg(not(greenloom_loom))]
        let slabs = Slabs::new(self.stack_guard);
        #[cfg(greenloom_loom)]
        let slabs = Slabs::new();
        let config = Config {
            processors,
            max_machines,
            class,
            pin_to_cores: self.pin_to_cores,
            thread_name: self.thread_name,
            grace: self.shutdown_grace,
            on_panic: self.on_panic,
            on_switch: self.on_switch,
            on_leak: self.on_leak,
            on_deadlock: self.on_deadlock,
            testing: self.testing,
        };
        Ok((config, StackPool::new(slabs)))
    }
}

/// One processor for each CPU that the process may use.
fn default_processors() -> usize {
    num_cpus::get().clamp(1, MAX_PROCESSORS)
}
