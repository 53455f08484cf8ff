//! The state word of a task. Every change of it has a name here, and nothing else changes it.
//!
//! | bit | set by | means | excludes |
//! |---|---|---|---|
//! | `PARKED` | the worker, when it commits a suspension | the task is in no queue; whoever clears the bit must queue it | `COMPLETE` |
//! | `IN_PARK` | with `PARKED` | it waits in `park()`: a token wakes it, a partner cannot | |
//! | `SHIELDED` | with `PARKED` | cancellation must leave it asleep | |
//! | `NOTIFIED` | a partner whose wake came before the commit | the commit consumes it and queues the task again | `PARKED` |
//! | `TOKEN` | `Task::unpark` | the next `park()` returns at once | |
//! | `CANCELLED` | `cancel` | sticky: every later suspension point unwinds | |
//! | `SCOPE_CANCELLED` | `cancel_scope`, for a cancel scope around the running code | until the task has left that scope, every suspension point checks whether to unwind to it | |
//! | `TIME_UP` | a timer or a cancel scope that came while the task was not parked | the commit consumes it and queues the task again; the task clears it after a wait with a timer, and when it leaves a cancelled scope | `PARKED` |
//! | `ABORT_WAKE` | whoever ends a wait because of `CANCELLED`, a timer or a cancel scope | tells the task that no partner woke it; the task clears it | `PARKED` |
//! | `COMPLETE` | the task's last act | the result is written; only references change from now on | |
//! | `JOINER` | `join` | the joiner cell holds a waiter, which the completing task will wake | |
//! | `HANDLE` | spawn | a join handle exists: it, not the task, drops the result | |
//!
//! Above these bits is a reference count. One reference belongs to the scheduler (to the code that
//! has the task in a queue or runs it) until the task is complete, one to the join handle, and one
//! to each `Task`.
//!
//! A park is one read-modify-write, a wake is one, and a completion (with the scheduler's
//! reference) is one.

use crate::prim::atomic::{AtomicU64, Ordering};

const PARKED: u64 = 1;
const IN_PARK: u64 = 1 << 1;
const SHIELDED: u64 = 1 << 2;
const NOTIFIED: u64 = 1 << 3;
const TOKEN: u64 = 1 << 4;
const CANCELLED: u64 = 1 << 5;
const ABORT_WAKE: u64 = 1 << 6;
const COMPLETE: u64 = 1 << 7;
const JOINER: u64 = 1 << 8;
const HANDLE: u64 = 1 << 9;
const TIME_UP: u64 = 1 << 10;
const SCOPE_CANCELLED: u64 = 1 << 11;
const REF: u64 = 1 << 16;

/// What kind of suspension the worker commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Park {
    /// A partner will wake it.
    Wait,
    /// `park()`: a token will wake it.
    Token,
}

/// The outcome of a suspension.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransitionToParked {
    /// The task is parked; it belongs to whoever wakes it.
    Parked,
    /// A wake came first: queue the task again.
    Requeue,
}

/// What the completing task must do.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransitionToComplete {
    /// No join handle is left: the task drops its own result, and then tries again.
    DropResult,
    /// Done, and a joiner waits to be woken.
    WakeJoiner,
    /// Done.
    Done,
    /// Done, and nobody holds the task any more: free it.
    Free,
}

/// What remains of a task after a reference was dropped.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransitionByDrop {
    /// Others hold it.
    Alive,
    /// It was the last reference: free it.
    Free,
}

/// The state word.
#[derive(Debug)]
pub(crate) struct State(AtomicU64);

impl State {
    /// A task with a join handle; the handle and the scheduler each hold a reference.
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(HANDLE + 2 * REF))
    }

    /// Applies `step` until it succeeds. `step` returns the new word and the answer, or only an
    /// answer if nothing changes.
    ///
    /// AcqRel: every transition both publishes what its caller wrote before it and sees what
    /// earlier ones published. The pairs that matter are commit with wake (the frame of the parked
    /// task), complete with join (the result), and the last reference with all others (everything).
    #[inline(always)]
    fn change<R>(&self, mut step: impl FnMut(u64) -> Result<(u64, R), R>) -> R {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            match step(seen) {
                Err(answer) => return answer,
                Ok((next, answer)) => match self.0.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => return answer,
                    Err(now) => seen = now,
                },
            }
        }
    }

    /// The worker's half of a suspension: the task has switched away, and anyone may wake it from
    /// now on.
    #[inline]
    pub(crate) fn commit(&self, park: Park, shielded: bool) -> TransitionToParked {
        let (early, parked) = match park {
            Park::Wait => (NOTIFIED, PARKED),
            Park::Token => (TOKEN, PARKED | IN_PARK),
        };
        let parked = if shielded { parked | SHIELDED } else { parked };
        self.change(|s| {
            if s & early != 0 {
                Ok((s & !early, TransitionToParked::Requeue))
            } else if s & TIME_UP != 0 {
                Ok(((s & !TIME_UP) | ABORT_WAKE, TransitionToParked::Requeue))
            } else if s & CANCELLED != 0 && !shielded {
                Ok((s | ABORT_WAKE, TransitionToParked::Requeue))
            } else {
                Ok((s | parked, TransitionToParked::Parked))
            }
        })
    }

    /// A partner's wake; true if the caller must queue the task.
    #[inline]
    pub(crate) fn wake(&self) -> bool {
        self.change(|s| {
            debug_assert!(s & IN_PARK == 0, "a partner woke a task that waits for none");
            if s & PARKED != 0 { Ok((s & !(PARKED | SHIELDED), true)) } else { Ok((s | NOTIFIED, false)) }
        })
    }

    /// `Task::unpark`: leaves a token, or wakes the task if it waits for one; true if the caller
    /// must queue it.
    pub(crate) fn leave_token(&self) -> bool {
        self.change(|s| {
            if s & (PARKED | IN_PARK) == PARKED | IN_PARK {
                Ok((s & !(PARKED | IN_PARK | SHIELDED), true))
            } else if s & (TOKEN | COMPLETE) != 0 {
                Err(false)
            } else {
                Ok((s | TOKEN, false))
            }
        })
    }

    /// Takes the token, if there is one: a `park()` without a suspension.
    pub(crate) fn take_token(&self) -> bool {
        self.change(|s| if s & TOKEN != 0 { Ok((s & !TOKEN, true)) } else { Err(false) })
    }

    /// Asks the task to unwind; true if the caller must queue it.
    pub(crate) fn cancel(&self) -> bool {
        self.change(|s| {
            if s & (COMPLETE | CANCELLED) != 0 {
                Err(false)
            } else if s & PARKED != 0 && s & SHIELDED == 0 {
                Ok(((s & !(PARKED | IN_PARK)) | CANCELLED | ABORT_WAKE, true))
            } else {
                Ok((s | CANCELLED, false))
            }
        })
    }

    /// A timer of the task's current wait fires; true if the caller must queue the task. The task
    /// is alive: it withdraws its timer before it goes on.
    pub(crate) fn time_up(&self) -> bool {
        self.change(|s| {
            if s & PARKED != 0 { Ok(((s & !(PARKED | IN_PARK | SHIELDED)) | ABORT_WAKE, true)) } else { Ok((s | TIME_UP, false)) }
        })
    }

    /// A cancel scope of the task has been marked cancelled; true if the caller must queue the
    /// task. The task is alive: it withdraws the scope before it goes on from its frame.
    ///
    /// A shielded task is woken too, and checks again: the scope may lie inside what shields it.
    /// The word is changed even if the bits are set already, since the change publishes the mark to
    /// [`leave_scope`](Self::leave_scope).
    pub(crate) fn cancel_scope(&self) -> bool {
        self.change(|s| {
            if s & PARKED != 0 {
                Ok(((s & !(PARKED | IN_PARK | SHIELDED)) | SCOPE_CANCELLED | ABORT_WAKE, true))
            } else {
                Ok((s | SCOPE_CANCELLED | TIME_UP, false))
            }
        })
    }

    /// The running task has left a cancelled scope. After this it looks at the other scopes, and
    /// calls [`keep_scope_cancelled`](Self::keep_scope_cancelled) if another is cancelled. A scope
    /// that is cancelled meanwhile either sets the bit again or was marked before: AcqRel pairs
    /// with `cancel_scope`. The task waits for nothing now, so no timer's mark is lost.
    pub(crate) fn leave_scope(&self) {
        self.0.fetch_and(!(SCOPE_CANCELLED | TIME_UP), Ordering::AcqRel);
    }

    pub(crate) fn keep_scope_cancelled(&self) {
        self.0.fetch_or(SCOPE_CANCELLED, Ordering::AcqRel);
    }

    /// Called after a wait with a timer, which has been withdrawn: forgets that it fired too late.
    pub(crate) fn forget_time(&self) {
        // Relaxed: the timer was fired under the lock under which it was withdrawn. The mark of a
        // cancel scope is lost with it, but `SCOPE_CANCELLED` tells of that at the next suspension
        // point.
        if self.0.load(Ordering::Relaxed) & TIME_UP != 0 {
            self.0.fetch_and(!TIME_UP, Ordering::AcqRel);
        }
    }

    /// Whether the task has been asked to unwind.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        // Relaxed: a flag that carries no data.
        self.0.load(Ordering::Relaxed) & CANCELLED != 0
    }

    /// Whether the task may have to unwind: it is cancelled, or a cancel scope is. One load, at
    /// every suspension point.
    #[inline(always)]
    pub(crate) fn is_interrupted(&self) -> bool {
        // Relaxed: a flag that carries no data; `is_scope_cancelled` checks again.
        self.0.load(Ordering::Relaxed) & (CANCELLED | SCOPE_CANCELLED) != 0
    }

    /// Whether a cancel scope of the task is cancelled. Called by the task itself, which then looks
    /// for it.
    pub(crate) fn is_scope_cancelled(&self) -> bool {
        // Acquire: pairs with `cancel_scope`, so the mark is seen.
        self.0.load(Ordering::Acquire) & SCOPE_CANCELLED != 0
    }

    /// After a wait: whether cancellation, a timer or a cancel scope ended it. Called by the task
    /// itself.
    #[inline]
    pub(crate) fn take_abort_wake(&self) -> bool {
        // Relaxed: the task was resumed by the machine that saw the bit set.
        if self.0.load(Ordering::Relaxed) & ABORT_WAKE == 0 {
            return false;
        }
        self.0.fetch_and(!ABORT_WAKE, Ordering::AcqRel);
        true
    }

    /// Whether the result is available.
    #[inline]
    pub(crate) fn is_complete(&self) -> bool {
        // Acquire: pairs with the completion; the result may be read after this.
        self.0.load(Ordering::Acquire) & COMPLETE != 0
    }

    /// Whether a join handle exists. Once there is none, there never will be one again.
    #[inline]
    pub(crate) fn has_handle(&self) -> bool {
        // Acquire: pairs with `detach`; the handle's owner has finished with the task.
        self.0.load(Ordering::Acquire) & HANDLE != 0
    }

    /// Announces that the joiner cell has been written. False if the task is complete; then nobody
    /// will look at the cell.
    #[inline]
    pub(crate) fn register_joiner(&self) -> bool {
        self.change(|s| if s & COMPLETE != 0 { Err(false) } else { Ok((s | JOINER, true)) })
    }

    /// Withdraws the announcement; false if the task has completed, in which case the joiner's wake
    /// is coming.
    pub(crate) fn withdraw_joiner(&self) -> bool {
        self.change(|s| if s & COMPLETE != 0 { Err(false) } else { Ok((s & !JOINER, true)) })
    }

    /// The task's last act, once its result is written. It also gives up the scheduler's reference.
    ///
    /// After `WakeJoiner` the header lives until the joiner has been woken; after `Done` it may be
    /// gone.
    #[inline]
    pub(crate) fn complete(&self, result_dropped: bool) -> TransitionToComplete {
        self.change(|s| {
            if s & HANDLE == 0 && !result_dropped {
                return Err(TransitionToComplete::DropResult);
            }
            let next = (s | COMPLETE) - REF;
            let answer = if s & JOINER != 0 {
                TransitionToComplete::WakeJoiner
            } else if next < REF {
                TransitionToComplete::Free
            } else {
                TransitionToComplete::Done
            };
            Ok((next, answer))
        })
    }

    /// The join handle goes before the task has completed: the task will drop its result. False if
    /// the task is complete by now; then the handle's owner drops the result and calls
    /// [`drop_ref`](State::drop_ref).
    pub(crate) fn detach(&self) -> bool {
        // The scheduler holds its reference as long as the task is not complete, so this is never
        // the last one.
        self.change(|s| if s & COMPLETE != 0 { Err(false) } else { Ok(((s & !HANDLE) - REF, true)) })
    }

    /// Adds a reference, for one more `Task`.
    pub(crate) fn add_ref(&self) {
        // Relaxed: made from an existing reference.
        let before = self.0.fetch_add(REF, Ordering::Relaxed);
        if before > u64::MAX / 2 {
            std::process::abort();
        }
    }

    /// Drops a reference.
    #[inline]
    pub(crate) fn drop_ref(&self) -> TransitionByDrop {
        // Acquire: pairs with the others' AcqRel below. A sole owner needs no read-modify-write:
        // nobody else is left to make a second reference.
        let seen = self.0.load(Ordering::Acquire);
        if seen >> 16 == 1 {
            return TransitionByDrop::Free;
        }
        // AcqRel: all uses by others happen before the free.
        let before = self.0.fetch_sub(REF, Ordering::AcqRel);
        if before >> 16 == 1 { TransitionByDrop::Free } else { TransitionByDrop::Alive }
    }
}

#[cfg(all(test, not(greenloom_loom)))]
mod tests {
    use super::*;

    /// What a transition does to the words that have all of `up` and none of `down` set and, if
    /// `refs` is given, that many references. The first rule that applies counts.
    struct Rule {
        up: u64,
        down: u64,
        refs: Option<u64>,
        clears: u64,
        sets: u64,
        /// Added to the count of references.
        counts: i64,
        answer: &'static str,
    }

    /// Applies to all words, and changes nothing.
    const ANY: Rule = Rule { up: 0, down: 0, refs: None, clears: 0, sets: 0, counts: 0, answer: "()" };

    /// A transition, the possible words that it may meet, and its rules.
    struct Transition {
        name: &'static str,
        run: fn(&State) -> String,
        meets: fn(u64) -> bool,
        rules: Vec<Rule>,
    }

    const ALL: [u64; 12] =
        [PARKED, IN_PARK, SHIELDED, NOTIFIED, TOKEN, CANCELLED, ABORT_WAKE, COMPLETE, JOINER, HANDLE, TIME_UP, SCOPE_CANCELLED];
    const ASLEEP: u64 = PARKED | IN_PARK | SHIELDED;

    /// Whether the word is possible by the module's table: what excludes what, and who holds
    /// references.
    fn is_possible(word: u64) -> bool {
        let excluded = word & PARKED != 0 && word & (COMPLETE | NOTIFIED | TIME_UP | ABORT_WAKE) != 0;
        let asleep_awake = word & PARKED == 0 && word & (IN_PARK | SHIELDED) != 0;
        let holders = u64::from(word & HANDLE != 0) + u64::from(word & COMPLETE == 0);
        let joined_by_nobody = word & JOINER != 0 && word & HANDLE == 0;
        !excluded && !asleep_awake && !joined_by_nobody && word / REF >= holders.max(1)
    }

    fn any(_: u64) -> bool {
        true
    }

    /// The task itself is running.
    fn running(word: u64) -> bool {
        word & (PARKED | COMPLETE) == 0
    }

    fn alive(word: u64) -> bool {
        word & COMPLETE == 0
    }

    /// The specification.
    fn transitions() -> Vec<Transition> {
        let mut all: Vec<Transition> = Vec::new();
        let mut add = |name, meets, run: fn(&State) -> String, rules| all.push(Transition { name, run, meets, rules });
        macro_rules! answer {
            (|$state:ident| $e:expr) => {
                |$state: &State| format!("{:?}", $e)
            };
        }

        let requeue = |up, clears, sets| Rule { up, clears, sets, answer: "Requeue", ..ANY };
        let parks = |sets| Rule { sets, answer: "Parked", ..ANY };
        let fresh_to_sleep = |word| running(word) && word & ABORT_WAKE == 0;
        add(
            "commit a wait",
            fresh_to_sleep,
            answer!(|s| s.commit(Park::Wait, false)),
            vec![
                requeue(NOTIFIED, NOTIFIED, 0),
                requeue(TIME_UP, TIME_UP, ABORT_WAKE),
                requeue(CANCELLED, 0, ABORT_WAKE),
                parks(PARKED),
            ],
        );
        add(
            "commit a shielded wait",
            fresh_to_sleep,
            answer!(|s| s.commit(Park::Wait, true)),
            vec![requeue(NOTIFIED, NOTIFIED, 0), requeue(TIME_UP, TIME_UP, ABORT_WAKE), parks(PARKED | SHIELDED)],
        );
        add(
            "commit a park",
            fresh_to_sleep,
            answer!(|s| s.commit(Park::Token, false)),
            vec![
                requeue(TOKEN, TOKEN, 0),
                requeue(TIME_UP, TIME_UP, ABORT_WAKE),
                requeue(CANCELLED, 0, ABORT_WAKE),
                parks(PARKED | IN_PARK),
            ],
        );
        add(
            "commit a shielded park",
            fresh_to_sleep,
            answer!(|s| s.commit(Park::Token, true)),
            vec![requeue(TOKEN, TOKEN, 0), requeue(TIME_UP, TIME_UP, ABORT_WAKE), parks(ASLEEP)],
        );

        let wakes = |up, down, sets| Rule { up, down, clears: ASLEEP, sets, answer: "true", ..ANY };
        let notes = |sets| Rule { sets, answer: "false", ..ANY };
        let ignores = |up| Rule { up, answer: "false", ..ANY };
        add("wake", |word| alive(word) && word & IN_PARK == 0, answer!(|s| s.wake()), vec![wakes(PARKED, 0, 0), notes(NOTIFIED)]);
        add(
            "leave a token",
            any,
            answer!(|s| s.leave_token()),
            vec![wakes(PARKED | IN_PARK, 0, 0), ignores(COMPLETE), notes(TOKEN)],
        );
        add(
            "take a token",
            running,
            answer!(|s| s.take_token()),
            vec![Rule { up: TOKEN, clears: TOKEN, answer: "true", ..ANY }, ignores(0)],
        );
        add(
            "cancel",
            any,
            answer!(|s| s.cancel()),
            vec![ignores(COMPLETE), ignores(CANCELLED), wakes(PARKED, SHIELDED, CANCELLED | ABORT_WAKE), notes(CANCELLED)],
        );
        add("fire a timer", alive, answer!(|s| s.time_up()), vec![wakes(PARKED, 0, ABORT_WAKE), notes(TIME_UP)]);
        add(
            "cancel a scope",
            alive,
            answer!(|s| s.cancel_scope()),
            vec![wakes(PARKED, 0, SCOPE_CANCELLED | ABORT_WAKE), notes(SCOPE_CANCELLED | TIME_UP)],
        );
        add("leave a scope", running, answer!(|s| s.leave_scope()), vec![Rule { clears: SCOPE_CANCELLED | TIME_UP, ..ANY }]);
        add(
            "keep a scope cancelled",
            running,
            answer!(|s| s.keep_scope_cancelled()),
            vec![Rule { sets: SCOPE_CANCELLED, ..ANY }],
        );
        add("forget the time", running, answer!(|s| s.forget_time()), vec![Rule { clears: TIME_UP, ..ANY }]);
        add(
            "take the mark of an aborted wait",
            running,
            answer!(|s| s.take_abort_wake()),
            vec![Rule { up: ABORT_WAKE, clears: ABORT_WAKE, answer: "true", ..ANY }, ignores(0)],
        );

        let says = |up| Rule { up, answer: "true", ..ANY };
        add("is it cancelled", any, answer!(|s| s.is_cancelled()), vec![says(CANCELLED), ignores(0)]);
        add("is a scope cancelled", any, answer!(|s| s.is_scope_cancelled()), vec![says(SCOPE_CANCELLED), ignores(0)]);
        add("is it interrupted", any, answer!(|s| s.is_interrupted()), vec![says(CANCELLED), says(SCOPE_CANCELLED), ignores(0)]);
        add("is it complete", any, answer!(|s| s.is_complete()), vec![says(COMPLETE), ignores(0)]);
        add("is there a handle", any, answer!(|s| s.has_handle()), vec![says(HANDLE), ignores(0)]);

        let has_handle = |word| word & HANDLE != 0;
        add(
            "register a joiner",
            has_handle,
            answer!(|s| s.register_joiner()),
            vec![ignores(COMPLETE), Rule { sets: JOINER, answer: "true", ..ANY }],
        );
        add(
            "withdraw a joiner",
            has_handle,
            answer!(|s| s.withdraw_joiner()),
            vec![ignores(COMPLETE), Rule { clears: JOINER, answer: "true", ..ANY }],
        );
        let completes = |up, refs, answer| Rule { up, refs, sets: COMPLETE, counts: -1, answer, ..ANY };
        let ends = || vec![completes(JOINER, None, "WakeJoiner"), completes(0, Some(1), "Free"), completes(0, None, "Done")];
        add(
            "complete, with the result dropped",
            |word| running(word) && word & HANDLE == 0,
            answer!(|s| s.complete(true)),
            // A waiting joiner has the handle.
            ends().split_off(1),
        );
        // The handle's owner has a reference, so this one is never the last.
        let with_result = vec![
            Rule { down: HANDLE, answer: "DropResult", ..ANY },
            completes(JOINER, None, "WakeJoiner"),
            completes(0, None, "Done"),
        ];
        add("complete, with the result", running, answer!(|s| s.complete(false)), with_result);
        add(
            "detach",
            has_handle,
            answer!(|s| s.detach()),
            vec![ignores(COMPLETE), Rule { clears: HANDLE, counts: -1, answer: "true", ..ANY }],
        );
        add("add a reference", any, answer!(|s| s.add_ref()), vec![Rule { counts: 1, ..ANY }]);
        add(
            "drop one of several references",
            |word| word / REF > 1,
            answer!(|s| s.drop_ref()),
            vec![Rule { counts: -1, answer: "Alive", ..ANY }],
        );
        all
    }

    #[test]
    fn every_transition_changes_every_possible_word_as_specified() {
        assert_eq!(ALL.iter().fold(0, |all, bit| all ^ bit).count_ones(), ALL.len() as u32, "each bit is one of its own");
        assert!(ALL.iter().all(|bit| bit.is_power_of_two() && *bit < REF));
        let words = || {
            (0..1 << ALL.len()).flat_map(|pattern: u64| {
                let bits = ALL.iter().enumerate().filter(|(i, _)| pattern >> i & 1 == 1).fold(0, |word, (_, bit)| word | bit);
                [1, 2, 3].map(|refs| bits + refs * REF)
            })
        };
        for Transition { name, run, meets, rules } in transitions() {
            let mut applied = vec![false; rules.len()];
            for word in words().filter(|&word| is_possible(word) && meets(word)) {
                let state = State(AtomicU64::new(word));
                let answer = run(&state);
                let applies = |rule: &Rule| {
                    word & rule.up == rule.up && word & rule.down == 0 && rule.refs.is_none_or(|refs| word / REF == refs)
                };
                let i = rules.iter().position(applies).unwrap_or_else(|| panic!("{name}: no rule for {word:#b}"));
                applied[i] = true;
                let Rule { clears, sets, counts, answer: expected, .. } = rules[i];
                let becomes = ((word & !clears) | sets).wrapping_add_signed(counts * REF as i64);
                let now = state.0.into_inner();
                assert_eq!(answer, expected, "{name}: {word:#b}");
                assert_eq!(now, becomes, "{name}: {word:#b} became {now:#b} instead of {becomes:#b}");
            }
            assert!(applied.iter().all(|&applied| applied), "{name}: rules that never apply: {applied:?}");
        }
    }

    #[test]
    fn the_last_reference_frees() {
        let state = State::new();
        state.add_ref();
        assert_eq!(state.drop_ref(), TransitionByDrop::Alive);
        assert_eq!(state.drop_ref(), TransitionByDrop::Alive);
        assert_eq!(state.drop_ref(), TransitionByDrop::Free);
    }

    #[test]
    fn a_new_task_has_a_handle_and_two_references() {
        assert_eq!(State::new().0.into_inner(), HANDLE + 2 * REF);
    }
}
