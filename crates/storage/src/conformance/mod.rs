//! The suite that every [`Store`](crate::Store) must pass.
//!
//! An implementation runs the suite with one line in a test file: [`conformance_suite!`](crate::conformance_suite) and
//! an expression that returns a [`Backend`]. To add a case: write a `pub async fn name(bed: &Bed)` in one of the
//! modules here, and add the name to the list of the macro. A name is unit, case, result.

pub mod announcements;
pub mod audit;
pub mod call_budgets;
pub mod changes;
pub mod devices;
#[expect(clippy::panic, reason = "a case that cannot continue has failed")]
pub mod encryption_keys;
pub mod exchange;
pub mod expiry;
mod fixtures;
pub mod growth;
pub mod horizon;
pub mod invitations;
pub mod job_ticks;
pub mod people;
pub mod reauthorizations;
pub mod records;
#[expect(clippy::panic, reason = "a case that cannot continue has failed")]
pub mod refreshes;
pub mod sessions;

pub use fixtures::{Backend, Bed};

/// Declares one `#[tokio::test]` for each case of the suite. The argument is evaluated for each case and returns its
/// [`Backend`](crate::conformance::Backend).
#[macro_export]
macro_rules! conformance_suite {
    ($backend:expr) => {
        $crate::conformance_suite!(@cases $backend;
            audit::change_with_record_writes_both_or_neither,
            audit::change_of_nothing_writes_no_record,
            audit::append_audit_every_field_returned_unchanged,
            audit::append_audit_repeated_writes_once,
            audit::list_audit_with_filter_returns_matches,
            audit::list_audit_equal_times_paged_completely,
            audit::purge_audit_old_records_removed_up_to_limit,
            audit::pseudonymize_audit_replaces_ids_of_one_person,
            changes::next_after_change_of_token_returns_it_once,
            changes::next_after_change_of_application_or_key_returns_it,
            changes::next_of_every_feed_returns_changes_since_it_was_opened,
            changes::arrived_cancelled_loses_no_change,
            growth::purge_sessions_ended_sessions_removed_oldest_first,
            growth::purge_profiles_person_without_token_and_session_removed,
            growth::erase_person_removes_everything_of_one_person,
            call_budgets::grant_calls_follows_the_rate_of_the_request,
            call_budgets::grant_calls_other_application_or_class_has_its_own_budget,
            call_budgets::grant_calls_concurrent_callers_share_one_budget,
            call_budgets::hold_calls_of_any_process_stops_all,
            exchange::bind_code_until_claimed_newest_code_kept,
            exchange::claim_exchange_claimed_session_held_until_released,
            exchange::claim_exchange_expired_before_sent_taken_over,
            exchange::claim_exchange_expired_after_sent_waits_then_abandoned,
            exchange::escrow_exchange_abandoned_claim_resumed_with_pair,
            exchange::replace_escrow_earlier_pair_does_not_come_back,
            exchange::end_session_after_sent_only_fails,
            exchange::mark_exchange_sent_disabled_application_refused,
            exchange::claim_exchange_superseded_code_refused,
            exchange::claim_exchange_concurrent_callers_one_claims,
            exchange::complete_session_claimed_stores_token_profile_and_session,
            exchange::complete_session_without_claim_stores_nothing,
            exchange::complete_session_other_person_refused,
            exchange::complete_session_unknown_open_id_filled_in,
            exchange::complete_session_second_consent_replaces_token,
            exchange::token_large_value_returned_unchanged,
            exchange::token_other_application_or_person_kept_apart,
            exchange::profile_with_open_id_only_stored,
            exchange::revoke_token_until_next_consent_not_found,
            devices::record_device_grant_replaced_by_name_and_wiped,
            devices::claim_device_polls_concurrent_callers_each_session_once,
            devices::claim_device_polls_rarer_until_opened,
            devices::claim_device_polls_frozen_or_disabled_application,
            devices::postpone_device_poll_next_poll_knows_last,
            devices::claim_device_polls_expired_claim_repeated_after_wait,
            devices::end_session_during_poll_may_be_declined,
            devices::expire_due_sessions_device_codes_wiped,
            expiry::expire_due_sessions_due_sessions_expire_oldest_first,
            expiry::expire_due_sessions_claimed_session_skipped,
            expiry::expire_due_sessions_concurrent_callers_each_session_once,
            expiry::expire_due_sessions_concurrent_completion_one_wins,
            invitations::create_session_concurrent_callers_limit_exact,
            invitations::create_session_over_limit_returns_retry_after,
            invitations::create_session_other_person_or_application_limited_separately,
            invitations::create_session_person_with_two_ids_limited_once,
            invitations::create_session_hundred_people_all_created,
            invitations::create_session_unless_asked_concurrent_callers_one_creates,
            invitations::create_session_unless_asked_after_no_pauses_longer_each_time,
            invitations::create_session_unless_asked_older_open_card_returned,
            job_ticks::claim_tick_repeated_tick_refused,
            job_ticks::claim_tick_after_wrong_clock_claimed,
            job_ticks::claim_tick_concurrent_callers_one_claims,
            refreshes::claim_refresh_one_holder_until_its_end,
            refreshes::claim_refresh_concurrent_callers_one_leases,
            refreshes::claim_refresh_expired_lease_is_interrupted,
            refreshes::claim_refresh_lease_of_clock_set_back_is_interrupted,
            refreshes::complete_refresh_replaces_its_generation_only,
            refreshes::complete_refresh_of_revoked_token_refused,
            refreshes::end_refresh_of_other_owner_changes_nothing,
            refreshes::claim_due_refreshes_due_longest_first_each_once,
            refreshes::claim_due_refreshes_what_ends_first_comes_first,
            refreshes::due_applications_with_due_tokens_only,
            refreshes::touch_token_now_and_then,
            people::people_to_sync_oldest_look_first_until_looked_up,
            people::people_to_sync_after_wrong_clock_looked_up_again,
            people::store_synced_replaces_only_what_lark_says,
            people::claim_sync_concurrent_callers_one_looks,
            people::suspend_person_during_refresh_stays_suspended_and_keeps_pair,
            people::restore_person_ends_what_it_explains,
            people::unannounced_people_every_transition_until_recorded,
            people::suspend_person_concurrent_callers_one_suspends,
            reauthorizations::claim_ended_only_ended_tokens_until_their_time,
            reauthorizations::claim_ended_of_used_tokens_only,
            reauthorizations::claim_ending_oldest_consents_first,
            reauthorizations::claim_ended_concurrent_callers_each_person_once,
            records::put_application_every_field_returned_unchanged,
            records::set_application_frozen_repeated_keeps_first_reason,
            records::mark_processed_one_consumer_other_consumer_unaffected,
            records::purge_processed_old_events_removed_up_to_limit,
            records::api_key_revoked_not_found,
            records::rotate_api_key_ends_old_key_after_overlap,
            records::touch_api_key_records_once_a_minute,
            records::list_with_unreadable_row_returns_other_rows,
            records::read_with_wrong_key_names_table_column_and_row,
            records::read_after_key_rotation_opens_old_and_new_values,
            records::active_counts_several_applications_counted_separately,
            sessions::create_session_every_field_returned_unchanged,
            sessions::unknown_session_every_call_changes_nothing,
            sessions::session_by_state_pending_or_ended_found,
            sessions::end_session_ended_session_refused,
            sessions::end_session_concurrent_endings_one_wins,
            sessions::list_sessions_with_filter_returns_matches,
            sessions::list_sessions_equal_times_paged_completely,
            sessions::record_card_second_card_refused,
            sessions::create_session_after_ended_session_takes_card,
            sessions::claim_unreconciled_cards_ended_sessions_returned,
            sessions::claim_unreconciled_cards_repeated_least_recent_first,
            sessions::record_open_id_second_id_refused,
            exchange::complete_session_checks_every_asked_id,
            exchange::complete_session_learned_open_id_replaced,
            announcements::unannounced_ends_every_ending_returned_until_recorded,
            announcements::unannounced_ends_after_cursor_returns_the_next,
            encryption_keys::rotate_seals_every_value_with_first_key,
            encryption_keys::rotate_interrupted_goes_on,
            encryption_keys::rotate_beside_writers_loses_no_write,
            encryption_keys::rotate_moved_value_left_untouched_and_reported,
            encryption_keys::reseal_changed_row_refused,
            encryption_keys::forget_key_use_noted_meanwhile_refused,
            encryption_keys::import_notes_keys_of_rows,
            encryption_keys::token_with_one_unreadable_secret_keeps_the_other,
            horizon::losses_of_each_reason_ordered_by_time,
            horizon::losses_paged_completely_and_counted,
            horizon::token_state_has_everything_but_secrets,
            horizon::token_states_of_one_application_are_paged,
        );
    };
    (@cases $backend:expr; $($module:ident::$case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let bed = $crate::conformance::Bed::new($backend).await;
                $crate::conformance::$module::$case(&bed).await;
            }
        )+
    };
}
