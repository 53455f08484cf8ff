//! Machines that are pinned to cores, and machines that are not.

use std::collections::BTreeSet;

use greenloom::Runtime;
use greenloom::task::{Builder, Placement};
use test_support::unless_it_hangs;

/// The CPUs that the calling thread may run on.
fn allowed() -> BTreeSet<usize> {
    // SAFETY: all zeroes is a valid set; the kernel writes no more than its size; the numbers asked for are below the set's.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size_of_val(&set), &mut set), 0);
        (0..libc::CPU_SETSIZE as usize).filter(|&cpu| libc::CPU_ISSET(cpu, &set)).collect()
    }
}

/// What tasks on each of the machines see.
fn masks(processors: usize, pin: bool) -> Vec<BTreeSet<usize>> {
    unless_it_hangs(move || {
        let runtime = Runtime::builder().processors(processors).pin_to_cores(pin).build().unwrap();
        runtime.run(move || {
            (0..processors).map(|i| Builder::new().placement(Placement::On(i)).spawn(allowed).unwrap().join().unwrap()).collect()
        })
    })
}

#[test]
fn a_pinned_machine_has_one_cpu_and_shares_it_only_if_there_are_too_few() {
    let all: Vec<usize> = allowed().into_iter().collect();
    let processors = all.len() + 1;
    let masks = masks(processors, true);
    for (i, mask) in masks.iter().enumerate() {
        assert_eq!(mask.len(), 1, "machine {i}: {mask:?} of {all:?}");
        assert!(all.contains(mask.first().unwrap()), "machine {i}: {mask:?} of {all:?}");
    }
    let used: BTreeSet<_> = masks.iter().flatten().copied().collect();
    assert_eq!(used.len(), all.len(), "{masks:?} of {all:?}");
}

#[test]
fn a_machine_that_is_not_pinned_has_all_cpus_of_the_process() {
    let all = allowed();
    for mask in masks(2, false) {
        assert_eq!(mask, all);
    }
}

#[test]
fn pinning_leaves_the_thread_alone_that_builds_the_runtime() {
    let before = allowed();
    let runtime = Runtime::builder().processors(1).pin_to_cores(true).build().unwrap();
    runtime.run(|| ());
    assert_eq!(allowed(), before);
}
