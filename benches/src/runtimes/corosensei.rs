//! Bare coroutines: what a yield costs before there is any scheduler.

use anyhow::bail;
use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, Yielder};

use super::check;
use crate::measure::{Clock, Measured};
use crate::rows::{Plan, Row};

const STACK_BYTES: usize = 64 * 1024;

/// Row `yield`: one operation is a resume and a suspension, in turn over as many stacks as the
/// other runtimes have tasks.
pub fn measure(row: Row, plan: &Plan) -> anyhow::Result<Measured> {
    if row != Row::Yield {
        bail!("bare coroutines have no row {row}");
    }
    let (tasks, rounds) = (row.sharers(), plan.ops / row.sharers());
    let mut coroutines = (0..tasks)
        .map(|_| {
            let stack = DefaultStack::new(STACK_BYTES)?;
            Ok(Coroutine::with_stack(stack, move |yielder: &Yielder<(), ()>, ()| {
                for _ in 0..=rounds {
                    yielder.suspend(());
                }
            }))
        })
        .collect::<std::io::Result<Vec<_>>>()?;
    for coroutine in &mut coroutines {
        coroutine.resume(());
    }
    let clock = Clock::start();
    for _ in 0..rounds {
        for coroutine in &mut coroutines {
            coroutine.resume(());
        }
    }
    let measured = clock.stop(plan.ops);
    // Each is in its last suspension now, and ends with one more turn.
    for coroutine in &mut coroutines {
        coroutine.resume(());
    }
    check("ended coroutines", coroutines.iter().filter(|c| c.done()).count() as u64, tasks)?;
    Ok(measured)
}
