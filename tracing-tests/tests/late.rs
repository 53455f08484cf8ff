//! A process whose own subscriber comes late: a program of its own, since it can be set only once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use greenloom::{Runtime, spawn, yield_now};
use tracing::info;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

#[derive(Clone, Default)]
struct Events(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Events {
    fn on_event(&self, _: &tracing::Event<'_>, _: Context<'_, S>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_subscriber_that_is_set_while_a_task_has_its_own_is_everyone_elses_at_once() {
    let runtime = Runtime::builder().processors(1).build().unwrap();
    runtime.run(|| {
        let (own, global) = (Events::default(), Events::default());
        let task = spawn({
            let own = own.clone();
            move || {
                let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(own));
                info!("to its own");
                yield_now();
                yield_now();
                info!("to its own");
            }
        });
        yield_now();
        info!("to nobody");
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(global.clone())).unwrap();
        info!("to the process's, without a suspension between");
        task.join().unwrap();
        info!("to the process's");
        assert_eq!((own.0.load(SeqCst), global.0.load(SeqCst)), (2, 2));
    });
}
