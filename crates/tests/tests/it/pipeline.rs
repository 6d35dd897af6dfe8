//! The whole pipeline from outside: an event posted over HTTP, on real Postgres, over both buses, until the receiver has it.
//! No test knows which bus it runs on.
//!
//! Time is moved, not waited for. Services that are killed, and servers that go away, are in the tests of faults.

mod at_hand;
mod bodies;
mod cancelled;
mod dead_letters;
mod ends;
mod foreseen;
mod isolation;
mod large;
mod lost_rings;
mod outcomes;
mod owner;
mod parked;
mod races;
mod reach;
mod replays;
pub(crate) mod stage;
mod told;
mod waits;

macro_rules! over_both {
    ($($module:ident::$name:ident)+) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(super::$module::$name(hookyard_messaging::Bus::in_process())).await;
            })+
        }
        mod amqp {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                Box::pin(hookyard_tests::amqp::with_bus(super::$module::$name)).await;
            })+
        }
    };
}

over_both! {
    reach::every_matching_hook_gets_an_event_once_and_nobody_else
    reach::a_delivery_says_who_sent_what_and_which_try_it_is
    reach::a_batch_reaches_every_hook_exactly_once
    races::a_hook_that_was_subscribed_before_an_event_gets_it
    outcomes::any_2xx_makes_a_hook_active
    outcomes::what_is_final_is_tried_once_and_again_with_the_next_event
    outcomes::what_may_pass_is_tried_four_times_when_it_is_due
    outcomes::a_delivery_that_arrives_at_the_third_try_is_the_same_each_time
    outcomes::addresses_that_are_forbidden_are_not_spoken_to
    ends::the_fifth_refusal_in_a_row_disables_and_the_fourth_does_not
    ends::gone_removes_the_hook_and_cancels_what_waits
    ends::an_owner_disables_and_enables
    ends::unsubscribing_cancels_what_waits
    ends::a_hook_ends_when_its_time_is_over
    waits::an_endpoint_that_asks_for_later_is_left_alone_until_then
    waits::a_wait_spends_no_try
    waits::the_eleventh_wait_is_the_end
    dead_letters::they_are_listed_shown_retried_and_discarded
    dead_letters::undelivered_since_is_one_question
    replays::what_was_missed_is_replayed_and_nothing_in_flight_is_doubled
    replays::a_replay_of_everything_sends_what_arrived_before
    owner::the_tries_of_a_delivery_can_be_read
    owner::a_test_goes_to_its_hook_alone
    owner::counters_are_exact
    isolation::an_endpoint_gets_no_more_at_once_than_its_cap
    isolation::endpoints_that_hang_or_are_dead_hold_up_nobody
    isolation::rings_for_a_receiver_that_hangs_keep_no_others_away
    isolation::a_burst_for_slow_receivers_leaves_room_to_the_others
    isolation::large_events_for_a_receiver_that_hangs_leave_memory_to_the_others
    isolation::a_breaker_leaves_an_endpoint_alone_and_lets_it_recover
    isolation::a_tenant_with_thousands_does_not_hold_up_another
    isolation::retries_do_not_hold_up_first_tries
    isolation::retries_do_not_wait_behind_all_that_is_new
    isolation::zapiers_own_limits_are_kept
    parked::a_backlog_is_not_moved_again_and_again
    parked::a_backlog_is_fetched_when_its_receiver_turns_out_to_be_fast
    parked::nor_is_one_that_waits_for_its_host
}
