//! Every promise of the contract, one function each, run on both databases. A promise that is not in the
//! table below does not run, and the compiler says that it is never used.

mod agent;
mod attempt;
mod bulk;
mod claim;
mod daemon;
mod daemon_edit;
mod database;
mod decide;
mod dedupe;
mod ends;
mod event;
mod key;
mod leader;
mod list;
mod output;
mod partition;
mod plans;
mod race;
mod retention;
mod schedule;
mod session;
mod share;
mod store;
mod trigger;
mod turn;
mod world;

macro_rules! promises {
    ($($module:ident: $($promise:ident),+;)+) => {
        promises!(@dialect on_sqlite, on_sqlite, $($module: $($promise),+;)+);
        promises!(@dialect on_postgres, on_postgres, $($module: $($promise),+;)+);
    };
    (@dialect $dialect:ident, $run:ident, $($module:ident: $($promise:ident),+;)+) => {
        mod $dialect {
            $(mod $module {
                $(#[tokio::test]
                async fn $promise() {
                    crate::database::$run(crate::$module::$promise).await;
                })+
            })+
        }
    };
}

promises! {
    event:
        an_event_reads_back_as_it_was_stored,
        an_event_is_found_by_its_token,
        every_verdict_and_every_body_reads_back,
        an_unknown_event_is_not_found,
        a_batch_is_stored_whole_or_not_at_all,
        answers_come_in_the_order_of_the_batch,
        a_known_key_yields_the_first_ids,
        a_key_twice_in_a_batch_stores_once,
        an_expired_key_is_free_again,
        a_key_is_one_of_its_scope_and_namespace,
        a_large_batch_is_stored_like_a_small_one,
        the_same_event_again_yields_itself,
        ten_ingests_of_one_key_make_one_event,
        a_task_that_cannot_be_rendered_has_failed,
        ingest_wakes_listeners,
        a_task_with_an_offer_is_leased_as_it_is_stored,
        an_offer_of_another_session_leaves_the_task_waiting,
        a_duplicate_takes_no_offer,
        a_task_that_cannot_be_rendered_takes_no_offer,
        events_are_found_by_their_ids,
        events_come_as_far_as_their_bodies_have_room,
        expired_keys_are_forgotten,
        what_was_acknowledged_is_there_after_reopening,
        a_dropped_call_leaves_nothing_half_done;
    dedupe:
        either_of_two_keys_is_enough,
        a_lane_of_a_batch_that_failed_is_made_again,
        ten_ingests_with_one_second_key_make_one_event,
        a_part_is_of_one_event,
        of_ten_events_with_one_part_one_is_stored;
    claim:
        a_claim_takes_by_priority_time_and_id,
        a_claim_leases,
        a_claim_takes_nothing_before_its_time,
        a_claim_fills_slots_in_order_and_no_more,
        a_slot_of_another_session_takes_nothing,
        a_claim_stays_in_its_lane,
        lanes_say_when_their_first_task_is_due,
        a_look_from_a_place_does_not_see_what_is_before,
        eight_claimers_take_each_task_once;
    attempt:
        an_attempt_is_accepted_and_started,
        an_attempt_may_start_before_it_is_accepted,
        an_unknown_lease_is_fenced,
        an_old_lease_is_fenced,
        an_attempt_given_back_never_was,
        an_attempt_that_has_started_is_not_given_back,
        a_retry_given_back_still_waits_for_its_retry,
        a_cancelled_attempt_given_back_is_cancelled,
        a_success_ends_the_task,
        a_failure_is_retried_after_its_wait,
        the_last_failure_ends_the_task,
        an_end_is_recorded_once_and_answered_again,
        an_end_is_answered_again_after_the_next_claim,
        a_cancelled_attempt_is_not_retried,
        ends_of_a_batch_are_answered_in_order;
    decide:
        a_waiting_task_is_cancelled_at_once,
        a_held_task_is_asked_to_end,
        an_ended_task_is_not_cancelled,
        a_dead_task_is_given_up_and_keeps_how_it_ended,
        cancel_requests_name_connected_agents_only,
        an_ended_task_runs_again_when_asked,
        attempts_are_counted_on_after_a_retry,
        a_task_that_has_not_ended_is_not_retried,
        a_task_without_a_command_is_not_retried,
        unknown_tasks_are_not_found;
    ends:
        ends_wait_to_be_told,
        of_trouble_only_successes_are_not_told,
        an_end_is_told_once,
        a_retried_task_has_another_end,
        a_success_that_is_to_be_told_wakes_listeners;
    bulk:
        what_ended_runs_again_stretch_by_stretch,
        a_stretch_again_changes_nothing_twice,
        only_what_the_filter_lets_through_runs_again,
        many_are_cancelled_or_asked_to_end,
        two_walks_retry_each_task_once,
        tasks_are_counted;
    output:
        output_reads_back_in_order,
        a_piece_is_stored_once,
        output_of_an_attempt_goes_with_it;
    session:
        a_hello_makes_an_agent,
        a_hello_raises_the_epoch,
        what_is_leased_and_held_is_kept,
        output_goes_on_at_the_first_gap,
        what_is_held_but_not_leased_is_stopped,
        what_never_reached_the_journal_is_given_back,
        what_was_accepted_and_is_not_held_is_lost,
        another_journal_loses_everything,
        a_rolled_back_journal_loses_everything,
        a_hello_that_was_overtaken_replaces_nothing,
        a_session_is_renewed_by_its_server_only,
        a_closed_session_keeps_what_it_holds,
        a_closed_session_is_not_renewed,
        closing_an_old_session_does_nothing;
    agent:
        a_session_that_ran_out_is_reaped_after_the_resume_time,
        a_lost_attempt_is_settled_by_its_policy,
        reaping_is_bounded,
        an_agent_whose_attempts_were_lost_says_hello_again,
        a_result_after_the_loss_is_fenced,
        a_result_and_the_reaper_never_both_win,
        labels_hold_until_the_next_hello,
        an_agent_stays_drained_over_hellos,
        watermarks_are_kept_until_the_next_session,
        agents_are_listed_with_what_they_run;
    key:
        a_key_that_joins_is_known_with_its_labels,
        a_token_serves_once,
        of_twenty_with_one_token_one_joins,
        of_twenty_that_want_one_name_one_joins,
        a_token_expires_by_the_databases_clock,
        a_token_may_be_for_one_agent_alone,
        an_id_that_was_here_is_only_given_by_name,
        nobody_else_says_hello_for_a_key,
        a_key_taken_back_never_counts_again,
        a_new_key_takes_the_place_of_the_old,
        nothing_is_leased_to_a_session_whose_key_was_taken_back,
        servers_are_known_by_their_keys;
    trigger:
        a_trigger_declares_its_job_and_schedules,
        the_same_text_changes_nothing,
        a_changed_text_keeps_the_job,
        a_job_is_revised_only_when_it_differs,
        a_schedule_keeps_its_times_while_it_says_the_same,
        a_changed_schedule_starts_anew,
        a_broken_text_leaves_the_last_good_one,
        a_trigger_that_never_parsed_is_listed,
        a_removed_trigger_leaves_its_job_and_tasks,
        every_text_that_was_in_force_is_kept,
        the_oldest_of_many_texts_go,
        another_owner_is_refused_and_nothing_is_applied,
        a_job_by_name_may_come_later,
        triggers_and_jobs_are_in_order;
    schedule:
        due_schedules_are_the_oldest_first,
        a_schedule_without_a_job_is_not_due,
        schedules_of_clocks_are_listed,
        a_fire_stores_its_event_and_moves_on,
        a_skipped_time_stores_nothing,
        a_fire_that_is_skipped_is_no_run,
        fires_are_answered_in_their_order,
        a_fire_for_another_time_does_nothing,
        a_time_fires_once_for_ever,
        old_fires_are_forgotten_unless_they_could_come_again,
        ten_servers_fire_once;
    turn:
        a_fire_that_would_overlap_is_skipped,
        one_run_waits_for_the_one_before,
        all_runs_go_one_after_the_other,
        a_new_run_cancels_the_old_one,
        ten_servers_let_one_run_go,
        a_task_without_a_turn_has_nobody_ahead;
    daemon:
        a_daemon_starts_once,
        a_daemon_starts_as_its_job_is_now,
        a_daemon_that_ended_starts_again_after_its_wait,
        a_daemon_that_shall_not_go_on_stops,
        a_daemon_that_may_still_run_waits_for_a_person,
        a_daemon_that_is_known_to_be_gone_starts_again,
        only_the_last_run_of_a_daemon_is_run_again,
        ten_servers_start_one_run_after_an_end;
    daemon_edit:
        a_run_is_left_alone_by_what_does_not_concern_it,
        an_edited_job_replaces_its_run,
        an_edited_job_does_not_wait_for_the_restart_of_the_old_one,
        a_run_ends_with_its_schedule,
        a_trigger_that_comes_back_waits_for_the_run_that_is_left,
        a_run_that_may_be_left_is_remembered_without_its_trigger,
        a_daemon_whose_job_is_gone_starts_when_it_is_back;
    leader:
        one_server_leads,
        the_epoch_grows_with_every_term,
        a_leader_that_resigns_is_followed_at_once,
        a_stale_leader_changes_nothing;
    retention:
        what_has_ended_is_dropped_when_it_is_old,
        output_of_nobody_is_dropped_when_it_is_old,
        what_still_runs_is_not_touched,
        dropping_goes_in_bounded_steps_the_oldest_first,
        a_duplicate_of_a_dropped_event_starts_nothing,
        the_size_and_the_oldest_are_told,
        a_stale_leader_drops_nothing;
    share:
        what_a_namespace_keeps_shorter_is_dropped,
        all_but_some_namespaces_are_dropped,
        a_piece_is_bounded_by_what_it_looks_at,
        what_a_namespace_still_runs_is_not_touched,
        output_goes_before_its_task,
        what_rows_weigh_is_told_by_namespace_and_hour;
    list:
        what_waits_of_a_trigger_is_counted_by_machine_up_to_a_bound,
        events_are_newest_first_without_bodies,
        events_are_filtered,
        events_are_found_by_trigger_time_and_original,
        a_walk_looks_at_no_more_than_it_may,
        a_walk_goes_either_way_to_the_end,
        tasks_are_newest_first_without_commands,
        tasks_are_filtered,
        tasks_are_filtered_by_how_they_ended,
        instances_are_filtered;
    store:
        a_probe_commits,
        the_database_is_described,
        a_second_server_sees_the_same;
}
