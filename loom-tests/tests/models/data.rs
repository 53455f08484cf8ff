//! Protocols with something that one party leaves for another; see `runtime/src/models/data.rs`.

macro_rules! models {
    ($($name:ident at $bound:literal;)*) => {$(
        #[test]
        fn $name() {
            crate::common::model($bound, greenloom::models::data::$name);
        }
    )*};
}

models! {
    a_wake_carries_what_was_done_before_it at 3;
    a_token_carries_what_was_done_before_it at 3;
    a_cancellation_carries_what_was_done_before_it at 3;
    a_timer_carries_what_was_done_before_it at 3;
    a_cancelled_scope_carries_what_was_done_before_it at 3;
    a_token_that_was_there_carries_what_was_done_before_it at 3;
    the_last_reference_goes_behind_all_uses at 3;
    a_task_that_frees_itself_does_so_behind_all_uses at 3;
    a_completion_carries_the_result_to_who_looks at 3;
    a_completion_carries_the_result_to_a_joiner at 3;
    a_completion_carries_the_result_to_who_detaches at 3;
    the_next_slot_carries_what_was_done_before at 3;
    the_next_slot_keeps_what_is_bound at 3;
    mail_and_sleep_carry_what_was_done_before at 3;
    a_sleeper_is_won_once at 3;
    mail_that_the_monitor_has_looked_at_wakes_its_machine at 2;
    mail_meets_the_end_of_its_machine at 3;
}
