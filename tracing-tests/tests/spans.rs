//! Spans and default dispatchers of tasks, with the registry of `tracing-subscriber`.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use greenloom::{Runtime, channel, park, spawn, yield_now};
use tracing::subscriber::{DefaultGuard, set_default, set_global_default};
use tracing::{Span, info, info_span, instrument};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// What a subscriber has heard.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Log>>);

#[derive(Default)]
struct Log {
    /// How many spans of a name have been made and not closed.
    open: HashMap<&'static str, usize>,
    /// The names of the spans around each event, outermost first, by the event's target.
    events: HashMap<&'static str, Vec<Vec<&'static str>>>,
    /// How many spans of a name have a parent.
    children: HashMap<&'static str, usize>,
}

impl Heard {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap()
    }

    fn open(&self, name: &'static str) -> usize {
        self.log().open.get(name).copied().unwrap_or(0)
    }

    fn children(&self, name: &'static str) -> usize {
        self.log().children.get(name).copied().unwrap_or(0)
    }

    /// The spans around each event of a target so far.
    fn events(&self, target: &'static str) -> Vec<Vec<&'static str>> {
        self.log().events.get(target).cloned().unwrap_or_default()
    }

    fn subscriber(&self) -> impl tracing::Subscriber + Send + Sync + use<> {
        tracing_subscriber::registry().with(self.clone())
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Heard {
    fn on_new_span(&self, attributes: &tracing::span::Attributes<'_>, id: &tracing::Id, context: Context<'_, S>) {
        let name = attributes.metadata().name();
        *self.log().open.entry(name).or_default() += 1;
        if context.span(id).unwrap().parent().is_some() {
            *self.log().children.entry(name).or_default() += 1;
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let around = context.event_scope(event).into_iter().flat_map(|scope| scope.from_root().map(|span| span.name())).collect();
        self.log().events.entry(event.metadata().target()).or_default().push(around);
    }

    fn on_close(&self, id: tracing::Id, context: Context<'_, S>) {
        *self.log().open.get_mut(context.span(&id).unwrap().name()).unwrap() -= 1;
    }
}

/// What the process's own subscriber has heard: that of all tests in this program, which tell theirs by names and targets.
fn heard() -> Heard {
    static HEARD: Mutex<Option<Heard>> = Mutex::new(None);
    let new = || {
        let heard = Heard::default();
        set_global_default(heard.subscriber()).unwrap();
        heard
    };
    HEARD.lock().unwrap().get_or_insert_with(new).clone()
}

/// Runs the test on one processor, on two and on four.
fn everywhere(test: impl Fn() + Clone + Send + 'static) {
    for processors in [1, 2, 4] {
        Runtime::builder().processors(processors).build().unwrap().run(test.clone());
    }
}

#[test]
fn requests_that_overlap_are_not_each_others_ancestors_and_are_closed() {
    let heard = heard();
    let after = heard.clone();
    everywhere(move || {
        let mut last: Option<greenloom::JoinHandle<()>> = None;
        for _ in 0..500 {
            let (started, has_started) = channel::bounded(1);
            let next = spawn(move || {
                let _span = info_span!("overlapping request").entered();
                started.send(()).unwrap();
                park();
            });
            has_started.recv().unwrap();
            assert!(heard.open("overlapping request") <= 2);
            if let Some(last) = last.replace(next) {
                last.task().unpark();
                last.join().unwrap();
            }
        }
        let last = last.unwrap();
        last.task().unpark();
        last.join().unwrap();
    });
    assert_eq!((after.open("overlapping request"), after.children("overlapping request")), (0, 0));
}

#[instrument(target = "nesting")]
fn inner() {
    for _ in 0..3 {
        yield_now();
        info!(target: "nesting", "here");
    }
}

#[instrument(target = "nesting")]
fn outer(task: usize) {
    yield_now();
    // Entered twice, the second time inside another.
    let again = Span::current();
    {
        let between = info_span!("between");
        let _between = between.enter();
        let _again = again.enter();
        yield_now();
        inner();
    }
    yield_now();
    info!(target: "nesting after", task);
}

#[test]
fn each_task_has_its_own_spans_around_what_it_says() {
    let heard = heard();
    let after = heard.clone();
    everywhere(move || {
        let tasks: Vec<_> = (0..40).map(|task| spawn(move || outer(task))).collect();
        // Says so outside of all spans, between theirs.
        while !tasks.iter().all(|task| task.is_finished()) {
            info!(target: "nesting root", "here");
            yield_now();
        }
        tasks.into_iter().for_each(|task| task.join().unwrap());
    });
    let events = after.events("nesting");
    assert_eq!(events.len(), 3 * 40 * 3);
    for around in events {
        assert_eq!(around, ["outer", "between", "inner"]);
    }
    assert!(after.events("nesting after").iter().all(|around| *around == ["outer"]));
    assert!(after.events("nesting root").iter().all(Vec::is_empty));
    assert_eq!(["outer", "between", "inner"].map(|name| after.open(name)), [0, 0, 0]);
}

#[test]
fn tasks_that_are_unwound_leave_no_span_behind() {
    let heard = heard();
    let after = heard.clone();
    everywhere(move || {
        /// Suspends in the middle of an unwinding, and says so.
        struct Says;
        impl Drop for Says {
            fn drop(&mut self) {
                yield_now();
                info!(target: "unwinding", "here");
            }
        }
        let body = |panics: bool| {
            move || {
                let _span = info_span!("unwound").entered();
                let _says = Says;
                if panics {
                    std::panic::resume_unwind(Box::new(()));
                }
                park();
            }
        };
        let tasks: Vec<_> = (0..10).map(|i| spawn(body(i % 2 == 0))).collect();
        yield_now();
        tasks.iter().for_each(|task| task.cancel());
        for task in tasks {
            assert!(task.join().is_err());
        }
    });
    assert_eq!(after.open("unwound"), 0);
    assert!(after.events("unwinding").iter().all(|around| *around == ["unwound"]));
}

#[test]
fn a_span_whose_guard_was_forgotten_ends_with_its_task() {
    let heard = heard();
    let runtime = Runtime::builder().processors(1).build().unwrap();
    runtime.run(|| {
        spawn(|| {
            let span = info_span!("forgotten");
            std::mem::forget(span.enter());
            drop(span);
            yield_now();
        })
        .join()
        .unwrap();
        yield_now();
        info!(target: "after a forgotten one", "here");
    });
    drop(runtime);
    assert_eq!(heard.events("after a forgotten one"), [[""; 0]]);
}

/// A subscriber of its own for the calling task.
fn own() -> (Heard, DefaultGuard) {
    let heard = Heard::default();
    let guard = set_default(heard.subscriber());
    (heard, guard)
}

#[test]
fn each_task_keeps_the_default_that_it_has_set() {
    let global = heard();
    let after = global.clone();
    everywhere(move || {
        let tasks: Vec<_> = (0..30)
            .map(|task| {
                spawn(move || {
                    info!(target: "defaults", "to the process's");
                    yield_now();
                    if task % 3 == 0 {
                        // Has none.
                        (0..20).for_each(|_| yield_now());
                        info!(target: "defaults", "to the process's");
                        return;
                    }
                    let _outermost = info_span!("of the process's").entered();
                    let (heard, guard) = own();
                    let _span = info_span!("own").entered();
                    for _ in 0..task {
                        info!(target: "defaults", "to its own");
                        yield_now();
                    }
                    {
                        let (inmost, _guard) = own();
                        yield_now();
                        info!(target: "defaults", "to the inmost");
                        yield_now();
                        assert_eq!(inmost.events("defaults"), [[""; 0]]);
                    }
                    yield_now();
                    assert_eq!(heard.events("defaults"), vec![["own"]; task]);
                    drop(guard);
                    yield_now();
                    info!(target: "defaults in a span", "to the process's");
                })
            })
            .collect();
        tasks.into_iter().for_each(|task| task.join().unwrap());
        info!(target: "defaults of the root", "to the process's");
    });
    assert_eq!(after.events("defaults"), vec![[""; 0]; 3 * (30 + 10)]);
    assert_eq!(after.events("defaults in a span"), vec![["of the process's"]; 3 * 20]);
    assert_eq!(after.events("defaults of the root"), vec![[""; 0]; 3]);
    assert_eq!(after.open("of the process's"), 0);
    assert!(after.events("own").is_empty());
}

#[test]
fn a_default_that_was_forgotten_ends_with_its_task() {
    let global = heard();
    let runtime = Runtime::builder().processors(1).build().unwrap();
    runtime.run(|| {
        let heard = spawn(|| {
            let (heard, guard) = own();
            std::mem::forget(guard);
            yield_now();
            heard
        })
        .join()
        .unwrap();
        yield_now();
        info!(target: "after a forgotten default", "here");
        assert!(heard.events("after a forgotten default").is_empty());
    });
    assert_eq!(global.events("after a forgotten default").len(), 1);
}

#[test]
fn threads_outside_keep_theirs() {
    let (heard, _guard) = own();
    let _span = info_span!("outside").entered();
    let runtime = Runtime::builder().processors(1).build().unwrap();
    runtime.run(|| {
        let _span = info_span!("inside").entered();
        yield_now();
        assert!(catch_unwind(AssertUnwindSafe(|| info!(target: "inside", "here"))).is_ok());
    });
    info!(target: "outside", "here");
    assert_eq!(heard.events("outside"), [["outside"]]);
    assert!(heard.events("inside").is_empty());
}
