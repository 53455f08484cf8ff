//! The whole runtime, started, used and ended inside the model.

mod common;

use common::model;
use greenloom::Runtime;

fn runtime(processors: usize) -> Runtime {
    Runtime::builder().processors(processors).build().unwrap()
}

#[test]
fn one_machine_starts_and_ends() {
    model(2, || drop(runtime(1)));
}

#[test]
fn one_machine_runs_a_task() {
    model(2, || assert_eq!(runtime(1).run(|| 42), 42));
}

#[test]
fn two_machines_run_a_task() {
    model(2, || assert_eq!(runtime(2).run(|| 42), 42));
}

#[test]
fn two_machines_spawn_and_join() {
    model(2, || {
        let sum = runtime(2).run(|| {
            let a = greenloom::spawn(|| 1);
            let b = greenloom::spawn(|| 2);
            a.join().unwrap() + b.join().unwrap()
        });
        assert_eq!(sum, 3);
    });
}

#[test]
fn two_machines_start_and_end() {
    model(2, || drop(runtime(2)));
}
