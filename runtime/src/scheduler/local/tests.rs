//! A processor's own decisions, without a machine: what runs next, and what goes where.

use std::time::Duration;

use super::*;
use crate::Runtime;
use crate::prim;
use crate::raw::state::Park;
use crate::raw::task_slab::TaskSlab;
use crate::scheduler::Phase;
use crate::scheduler::placement::Placement;
use crate::scheduler::timers::{Aim, Timer};

/// A runtime of this many processors, which no machine drives.
fn idle_runtime(processors: usize) -> Arc<Shared> {
    let (config, stacks) = Runtime::builder().processors(processors).describe().unwrap();
    Shared::new(config, stacks)
}

fn drive(shared: &Arc<Shared>, index: usize) -> Local {
    let seat = processor(shared, index).take_seat().unwrap();
    let reserved = shared.stacks.set_aside(shared.class).unwrap();
    Local::new(shared.clone(), index, seat, reserved)
}

fn alone() -> Local {
    drive(&idle_runtime(1), 0)
}

fn processor(shared: &Shared, index: usize) -> &Processor {
    shared.processors.get(index)
}

fn task(id: u64) -> TaskPtr {
    let alloc = |layout| TaskSlab::new(0).alloc(layout);
    // SAFETY: the task never runs, and is leaked.
    unsafe { TaskPtr::new(|| (), Location::caller(), id, None, alloc) }.unwrap()
}

fn ids(tasks: impl IntoIterator<Item = TaskPtr>) -> Vec<u64> {
    tasks.into_iter().map(TaskPtr::id).collect()
}

fn inbox(shared: &Shared, index: usize) -> Vec<u64> {
    ids(processor(shared, index).inbox.take())
}

/// The callers own the tasks.
fn home(task: TaskPtr) -> *const Processor {
    // SAFETY: header rule 2: the callers own the tasks.
    unsafe { task.home() }
}

impl Local {
    fn add_ready(&self, ids: impl IntoIterator<Item = u64>) {
        ids.into_iter().for_each(|id| self.push_ready(task(id)));
    }

    fn add_fresh(&self, ids: impl IntoIterator<Item = u64>) {
        ids.into_iter().for_each(|id| self.push_fresh(task(id)));
    }

    fn picks(&self, count: usize) -> Vec<u64> {
        ids((0..count).map_while(|_| self.pick()))
    }

    /// The next pick is a fair one. If it finds nothing, the ready tasks have their turn.
    fn fair_pick(&self) -> Option<u64> {
        self.until_fair.set(1);
        self.fresh_first.set(false);
        self.pick().map(TaskPtr::id)
    }

    /// The same, when not all picks since the last fair one have been of the next slot.
    fn fair_pick_beside_others(&self) -> Option<u64> {
        self.chain_only.set(false);
        self.fair_pick()
    }

    fn begin_slice(&self) {
        self.processor().slice.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn ready_tasks_come_in_their_order_and_fresh_ones_newest_first_by_turns() {
    let local = alone();
    local.add_ready(1..=4);
    local.add_fresh(11..=13);
    assert_eq!(local.picks(9), [1, 13, 2, 12, 3, 11, 4]);
    // Where there is only one kind, every pick is of that kind.
    local.add_fresh(21..=23);
    assert_eq!(local.picks(9), [23, 22, 21]);
    local.add_ready(31..=33);
    assert_eq!(local.picks(9), [31, 32, 33]);
}

#[test]
fn what_was_made_ready_last_is_next_and_displaces_what_was() {
    let local = alone();
    local.add_ready([1]);
    for bound in [true, false] {
        local.push_next(Ready { task: task(2), bound });
        local.push_next(Ready { task: task(3), bound });
        assert_eq!(local.picks(1), [3]);
    }
    // The bound one went behind the ready ones, the other one to where thieves may take it.
    assert_eq!(ids(local.steal_oldest(local.processor())), [2]);
    assert_eq!(local.picks(9), [1, 2]);
}

#[test]
fn a_chain_ends_with_its_slice_and_queues_like_everyone() {
    for bound in [true, false] {
        let local = alone();
        local.add_ready([1]);
        for _ in 0..5 {
            local.push_next(Ready { task: task(2), bound });
            assert_eq!(local.picks(1), [2], "within its slice");
        }
        local.push_next(Ready { task: task(2), bound });
        local.begin_slice();
        assert_eq!(local.picks(9), [1, 2]);
        // The new slice is as long as any other.
        local.add_ready([1]);
        local.push_next(Ready { task: task(2), bound });
        assert_eq!(local.picks(9), [2, 1]);
    }
}

#[test]
fn a_few_that_are_ready_are_the_running_chains_own_or_others() {
    let local = alone();
    assert_eq!(local.few_ready(), Few::NobodyOrMany);
    local.push_next(Ready { task: task(1), bound: true });
    assert_eq!(local.few_ready(), Few::Own);
    local.add_ready([2, 3]);
    assert_eq!(local.few_ready(), Few::Own, "queued since the chain began");
    assert_eq!(local.picks(2), [1, 2]);
    assert_eq!(local.few_ready(), Few::Others, "3 was queued before 2, which began a chain");
    assert_eq!(local.picks(1), [3]);
    local.add_fresh([4]);
    assert_eq!(local.few_ready(), Few::Others, "whose child a fresh task is, nobody knows");
    assert!(local.steal_oldest(local.processor()).is_some());
    assert_eq!(local.few_ready(), Few::Others, "thieves do not count");
    assert!(local.picks(1).is_empty());
    assert_eq!(local.few_ready(), Few::NobodyOrMany, "now it is known");
    local.add_ready([1, 2]);
    assert_eq!(local.picks(1), [1]);
    local.add_ready(10..10 + FEW as u64 - 2);
    assert_eq!(local.few_ready(), Few::Others);
    local.add_ready([5]);
    assert_eq!(local.few_ready(), Few::NobodyOrMany, "they are many");
}

#[test]
fn after_others_were_let_go_first_slices_are_kept_for_half_as_long_as_that_took() {
    let local = alone();
    let began = local.lends_slice().expect("the first time");
    let ago = |took| {
        let now = prim::now();
        local.note_lent(now - took);
        local.lends_from.get().unwrap() - now
    };
    let hour = Duration::from_secs(3600);
    let at_once = Duration::from_millis(1);
    let kept = ago(at_once);
    assert!(kept >= at_once / 2, "{kept:?} is less than half");
    assert!(kept <= (at_once + began.elapsed()) / 2 + began.elapsed(), "{kept:?} is more than half");
    // Nothing is kept for longer than a slice.
    let kept = ago(hour);
    assert!(kept >= SLICE && kept <= SLICE + began.elapsed(), "{kept:?}");
    local.lends_from.set(Some(prim::now() + hour));
    assert!(local.lends_slice().is_none(), "it is early");
    local.lends_from.set(Some(prim::now()));
    assert!(local.lends_slice().is_some(), "time is up");
}

#[test]
fn a_new_slice_brings_the_mail() {
    let local = alone();
    local.add_ready([1]);
    let mail = task(2);
    // SAFETY: header rule 2: the task is ours.
    unsafe { mail.set_home(local.processor()) };
    local.shared.send(mail, local.processor());
    assert_eq!(local.picks(1), [1]);
    assert!(local.picks(1).is_empty(), "it has not looked");
    local.begin_slice();
    assert_eq!(local.picks(1), [2]);
}

/// The task sleeps until its time has come. The timer is new, and the caller must take it back.
fn sleep_to_the_end(local: &Local, sleeper: TaskPtr, timer: &Timer) {
    let timers = &local.processor().timers;
    // SAFETY: the callers take the timer back before it ends.
    unsafe { timers.set(timer, Aim::Wake(sleeper), prim::now()) };
    let _ = sleeper.state().commit(Park::Wait, false);
    while !timers.is_due(prim::now()) {
        std::hint::spin_loop();
    }
}

#[test]
fn a_new_slice_fires_the_timers_that_are_due() {
    let local = alone();
    local.add_ready([1]);
    let timer = Timer::new();
    sleep_to_the_end(&local, task(2), &timer);
    assert_eq!(local.picks(2), [1], "it has not looked");
    local.begin_slice();
    assert_eq!(local.picks(2), [2]);
    assert!(local.processor().timers.take_back(&timer));
}

#[test]
fn every_sixty_first_pick_looks_at_what_the_others_would_starve() {
    let local = alone();
    local.add_ready(1..=1000);
    for id in [2001, 2002] {
        local.shared.injector.push(task(id));
    }
    let picks = local.picks(150);
    let at = |id| picks.iter().position(|&picked| picked == id).map(|i| i + 1);
    assert_eq!((at(2001), at(2002)), (Some(61), Some(122)));
    // Mail is looked at too, though it then queues.
    local.shared.send(task(3001), local.processor());
    assert!(local.picks(61).contains(&3001));
}

#[test]
fn of_the_fresh_those_are_old_that_were_there_for_a_slice() {
    let local = alone();
    let slice = |number| local.shared.slice.store(number, Ordering::Relaxed);
    local.add_fresh(1..=3);
    local.add_ready(100..200);
    assert!(local.fair_pick_beside_others() >= Some(100), "it is the first look");
    slice(1);
    assert!(local.fair_pick_beside_others() >= Some(100), "nobody had seen them before");
    // These come later.
    local.add_fresh(11..=13);
    slice(2);
    for old in 1..=3 {
        assert_eq!(local.fair_pick_beside_others(), Some(old), "oldest first, one at a time");
    }
    assert!(local.fair_pick_beside_others() >= Some(100), "the others are younger");
    slice(3);
    assert_eq!(local.fair_pick_beside_others(), Some(11));
    // What was taken in another way meanwhile is not waited for.
    local.fresh_first.set(true);
    assert_eq!(local.picks(1), [13]);
    slice(4);
    assert_eq!(local.fair_pick_beside_others(), Some(12));
    assert!(local.fair_pick_beside_others() >= Some(100));
}

#[test]
fn the_old_and_the_injected_are_looked_at_by_turns() {
    let local = alone();
    let slice = |number| local.shared.slice.store(number, Ordering::Relaxed);
    local.add_ready(100..200);
    local.add_fresh(1..=4);
    slice(1);
    assert!(local.fair_pick_beside_others() >= Some(100));
    slice(2);
    assert_eq!(local.fair_pick_beside_others(), Some(1), "they are old now");
    (11..=14).for_each(|id| local.shared.injector.push(task(id)));
    let old: Vec<bool> = (0..6).map(|_| local.fair_pick_beside_others().unwrap() < 10).collect();
    assert!(old.windows(2).all(|pair| pair[0] != pair[1]), "{old:?}");
    // Where there is only one kind, it has every turn.
    assert_eq!(local.fair_pick_beside_others(), Some(14));
    assert!(local.fair_pick_beside_others() >= Some(100));
}

#[test]
fn beside_a_chain_the_newest_fresh_task_begins_and_only_beside_one() {
    let local = alone();
    let chain = |expected| {
        local.push_next(Ready { task: task(1), bound: true });
        assert_eq!(local.fair_pick(), Some(expected));
        // What the fair pick has taken instead leaves the chain's task next.
        if expected != 1 {
            assert_eq!(local.picks(1), [1]);
        }
    };
    local.add_fresh(11..=13);
    chain(1);
    chain(13);
    chain(12);
    // Another task has had a turn, so there is no need.
    local.add_ready([2]);
    local.fresh_first.set(false);
    assert_eq!(local.picks(1), [2]);
    chain(1);
    chain(11);
}

#[test]
fn whoever_gives_way_does_so_to_what_it_has_made_ready_and_to_the_neglected() {
    let local = alone();
    local.add_ready([1]);
    local.push_next(Ready { task: task(2), bound: true });
    local.shared.injector.push(task(3));
    local.make_way();
    local.add_ready([4]);
    assert_eq!(local.picks(9), [1, 3, 2, 4]);
}

#[test]
fn whoever_gives_way_does_so_to_mail_and_to_timers_that_are_due() {
    let local = alone();
    let (mail, timer) = (task(2), Timer::new());
    // SAFETY: header rule 2: the task is ours.
    unsafe { mail.set_home(local.processor()) };
    sleep_to_the_end(&local, task(3), &timer);
    local.shared.send(mail, local.processor());
    local.add_ready([1]);
    local.make_way();
    local.add_ready([4]);
    assert_eq!(local.picks(9), [1, 2, 3, 4]);
    assert!(local.processor().timers.take_back(&timer));
}

#[test]
fn mail_goes_where_it_belongs_and_fresh_mail_is_marked() {
    let shared = idle_runtime(2);
    let local = drive(&shared, 0);
    let (bound, fresh) = (task(1), task(2));
    // SAFETY: header rule 2: the task is ours.
    unsafe { bound.set_home(local.processor()) };
    [bound, fresh].into_iter().for_each(|task| shared.send(task, local.processor()));
    assert_eq!(local.processor().placed.load(Ordering::Relaxed), 2);
    assert!(local.take_mail() && !local.take_mail());
    assert_eq!(local.processor().placed.load(Ordering::Relaxed), 0);
    // SAFETY: header rule 3: the tasks are ours.
    assert!(unsafe { fresh.was_sent() && !bound.was_sent() });
    // Thieves may take one of them, and not the other.
    assert_eq!(ids(local.steal_oldest(local.processor())), [2]);
    assert_eq!(local.picks(9), [1]);
}

#[test]
fn a_deque_that_thieves_have_emptied_is_found_empty_and_one_they_have_filled_is_not() {
    let shared = idle_runtime(2);
    let local = drive(&shared, 0);
    let thief = drive(&shared, 1);
    local.add_fresh(1..=3);
    for _ in 0..3 {
        thief.steal_oldest(local.processor()).unwrap();
    }
    assert!(local.picks(9).is_empty());
    assert!(local.pop_fresh().is_none());
    local.add_fresh([4]);
    assert_eq!(local.picks(9), [4]);
    // A batch comes straight into the deque.
    local.fresh.push(task(5));
    local.recount_fresh();
    assert_eq!(local.picks(9), [5]);
}

/// Makes processor `index` sleep, as far as the words say.
fn put_to_sleep(shared: &Shared, index: usize) {
    assert!(processor(shared, index).inbox.fall_asleep());
    let _ = shared.idle.fell_asleep(processor(shared, index).spare);
}

#[test]
fn a_crowd_wakes_a_searcher_and_a_few_do_not() {
    let shared = idle_runtime(2);
    let local = drive(&shared, 0);
    put_to_sleep(&shared, 1);
    let granted = || processor(&shared, 1).search_granted.swap(0, Ordering::Relaxed);
    local.add_fresh(1..=7);
    assert_eq!((granted(), shared.idle.peek().sleepers()), (0, 1));
    // Thieves have taken some, which are not counted.
    for _ in 0..4 {
        local.steal_oldest(local.processor()).unwrap();
    }
    local.add_fresh([8]);
    assert_eq!((granted(), shared.idle.peek().sleepers()), (0, 1), "there are four");
    local.add_fresh(9..=12);
    assert_eq!((granted(), shared.idle.peek().searching(), shared.idle.peek().sleepers()), (1, 1, 0));
    assert_eq!(shared.idle.peek().awake(), 2);
}

#[test]
fn who_injects_wakes_a_searcher_unless_somebody_searches() {
    let shared = idle_runtime(3);
    (1..3).for_each(|index| put_to_sleep(&shared, index));
    shared.inject(task(1));
    assert_eq!((shared.idle.peek().searching(), shared.idle.peek().sleepers()), (1, 1));
    shared.inject(task(2));
    assert_eq!((shared.idle.peek().searching(), shared.idle.peek().sleepers()), (1, 1));
}

#[test]
fn what_a_thread_spawns_while_the_runtime_ends_is_cancelled_and_queued_nowhere() {
    for placement in [Placement::Near, Placement::Spread, Placement::On(0)] {
        let shared = idle_runtime(1);
        shared.set_phase(Phase::Draining);
        let task = task(1);
        shared.place(task, placement);
        assert!(task.state().is_complete());
        assert!(shared.injector.is_empty() && inbox(&shared, 0).is_empty());
    }
}

#[test]
fn tasks_are_spread_over_the_processors_in_turn_and_bound() {
    let shared = idle_runtime(3);
    let local = drive(&shared, 1);
    let tasks: Vec<TaskPtr> = (0..7).map(task).collect();
    tasks.iter().for_each(|&task| local.place(task, Placement::Spread));
    // It begins with its own processor.
    assert_eq!(local.picks(9), [0, 3, 6]);
    assert_eq!((inbox(&shared, 2), inbox(&shared, 0)), (vec![1, 4], vec![2, 5]));
    for (i, &task) in tasks.iter().enumerate() {
        assert!(std::ptr::eq(home(task), processor(&shared, (i + 1) % 3)));
    }
    // Spawned by threads other than machines.
    (0..7).map(task).for_each(|task| shared.place(task, Placement::Spread));
    assert_eq!([0, 1, 2].map(|i| inbox(&shared, i)), [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
}

#[test]
fn a_task_that_names_its_processor_is_bound_there_and_one_that_is_near_is_next_or_anyones() {
    let shared = idle_runtime(3);
    let local = drive(&shared, 1);
    for index in 0..3 {
        let (here, there) = (task(1), task(2));
        local.place(here, Placement::On(index));
        shared.place(there, Placement::On(index));
        assert!([here, there].iter().all(|&task| std::ptr::eq(home(task), processor(&shared, index))));
        let (picks, mail) = (local.picks(9), inbox(&shared, index));
        assert_eq!((picks, mail), if index == 1 { (vec![1], vec![2]) } else { (vec![], vec![1, 2]) });
    }
    let (here, there) = (task(1), task(2));
    local.place(here, Placement::Near);
    shared.place(there, Placement::Near);
    assert!([here, there].iter().all(|&task| home(task).is_null()));
    assert!(processor(&shared, 1).next.rescue() == Some(here) && local.take_injected() == Some(there));
}

/// What another processor has, and whether it has nothing to do.
fn describe(shared: &Shared, index: usize, live: u32, resting: bool) {
    processor(shared, index).live.store(live, Ordering::Relaxed);
    processor(shared, index).resting.store(u32::from(resting), Ordering::Relaxed);
}

/// Whether one more task that is about to start goes to another processor.
fn sends(local: &Local, id: u64) -> bool {
    local.place_elsewhere(task(id))
}

#[test]
fn a_processor_keeps_what_it_starts_until_it_is_clearly_ahead() {
    // More than 8 ahead of one that rests. For one that works, more than twice as many and 256
    // more.
    for (live, resting, level) in [(0, true, 8), (5, true, 13), (0, false, 256), (10, false, 276)] {
        let shared = idle_runtime(2);
        let local = drive(&shared, 0);
        describe(&shared, 1, live, resting);
        local.set_live(level);
        assert!(!sends(&local, 1), "{live} {resting}");
        assert_eq!(local.look_around_at.get(), level + 1);
        local.set_live(level + 1);
        assert!(sends(&local, 2), "{live} {resting}");
        assert_eq!(inbox(&shared, 1), [2]);
        assert_eq!(local.look_around_at.get(), 0, "the next one is looked at too");
    }
}

#[test]
fn of_several_the_one_with_least_is_sent_to_and_what_is_under_way_counts() {
    let shared = idle_runtime(4);
    let local = drive(&shared, 1);
    local.set_live(100);
    for (index, live) in [(0, 7), (2, 3), (3, 5)] {
        describe(&shared, index, live, true);
    }
    processor(&shared, 2).placed.store(3, Ordering::Relaxed);
    assert!(sends(&local, 1));
    assert_eq!([0, 2, 3].map(|i| inbox(&shared, i)), [vec![], vec![], vec![1]]);
}

#[test]
fn alone_nobody_is_looked_for() {
    let local = alone();
    local.set_live(10_000);
    assert!(!sends(&local, 1));
    assert_eq!(local.look_around_at.get(), u32::MAX);
}

#[test]
fn half_of_what_it_is_ahead_goes_oldest_first_and_no_more_than_a_parcel() {
    for (live, queued, load, sent) in [(50, 100, 0, 64), (20, 10, 0, 10), (40, 20, 10, 20), (40, 20, 24, 18), (300, 200, 0, 64)] {
        let shared = idle_runtime(2);
        let local = drive(&shared, 0);
        local.set_live(live);
        describe(&shared, 1, load, true);
        local.add_fresh(1..=queued);
        assert!(!sends(&local, 1000), "it starts here: others are queued");
        assert_eq!(inbox(&shared, 1), (1..=sent).collect::<Vec<_>>(), "{live} {queued} {load}");
        assert_eq!(local.fresh.len() as u64, queued - sent);
    }
}

#[test]
fn what_is_sent_one_by_one_goes_in_runs_of_64_to_one_processor() {
    let shared = idle_runtime(3);
    let local = drive(&shared, 0);
    local.set_live(9);
    describe(&shared, 1, 0, true);
    describe(&shared, 2, 1, true);
    assert!((0..64).all(|id| sends(&local, id)));
    // The next run goes to the other one, which has less now.
    assert!(!sends(&local, 64), "nine are not ahead of one by more than eight");
    local.set_live(10);
    assert!((65..129).all(|id| sends(&local, id)));
    assert_eq!((inbox(&shared, 1), inbox(&shared, 2)), ((0..64).collect(), (65..129).collect()));
}

#[test]
fn a_run_ends_where_its_reason_is_gone() {
    let shared = idle_runtime(2);
    let local = drive(&shared, 0);
    local.set_live(9);
    describe(&shared, 1, 0, true);
    assert!(sends(&local, 1) && sends(&local, 2));
    // The target has overtaken this one by a whole run.
    describe(&shared, 1, 9 + 64 - 3, true);
    assert!(sends(&local, 3));
    assert!(!sends(&local, 4));
    // It ends for good: nothing is left of the run.
    describe(&shared, 1, 0, true);
    processor(&shared, 1).placed.store(0, Ordering::Relaxed);
    local.set_live(3);
    assert!(!sends(&local, 5));
    assert_eq!(inbox(&shared, 1), [1, 2, 3]);
}

#[test]
fn what_was_placed_or_sent_here_stays() {
    let shared = idle_runtime(2);
    let local = drive(&shared, 0);
    describe(&shared, 1, 0, true);
    local.set_live(1000);
    let (placed, sent) = (task(1), task(2));
    // SAFETY: header rules 2 and 3: the tasks are ours.
    unsafe {
        placed.set_home(local.processor());
        sent.note_sent();
    }
    // At first, and within a run.
    for _ in 0..2 {
        assert!(!local.place_elsewhere(placed) && !local.place_elsewhere(sent));
        assert!(sends(&local, 3));
    }
    assert_eq!(inbox(&shared, 1), [3, 3]);
}
