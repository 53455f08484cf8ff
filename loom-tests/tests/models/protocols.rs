//! Protocols by themselves; see `runtime/src/models/`.

macro_rules! models {
    ($($name:ident at $bound:literal;)*) => {$(
        #[test]
        fn $name() {
            crate::common::model($bound, greenloom::models::$name);
        }
    )*};
}

models! {
    mail_is_never_slept_through at 3;
    announced_work_finds_a_sleeper_or_is_seen at 3;
    work_left_to_a_claim_that_finds_no_sleeper_is_seen at 1;
    work_left_to_a_search_that_mail_overtakes_is_handed_on at 4;
    the_next_slot_gives_a_task_once at 3;
    a_wake_is_neither_lost_nor_doubled at 3;
    a_token_is_neither_lost_nor_doubled at 3;
    cancel_against_wake_leaves_one_wake_to_consume at 3;
    a_task_is_cancelled_once at 3;
    a_join_meets_the_end at 3;
    a_detach_meets_the_end at 3;
    a_withdrawn_joiner_is_not_woken at 3;
    a_timer_meets_a_cancellation at 3;
    a_timer_meets_a_partner at 3;
    a_scope_a_cancel_and_a_wake_leave_one_wake_to_consume at 2;
    a_cancelled_scope_wakes_a_shielded_task at 3;
    a_cancelled_scope_meets_the_end_of_an_inner_one at 3;
}
