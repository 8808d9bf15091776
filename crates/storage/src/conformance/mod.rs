//! The suite that every [`Store`] must pass.
//!
//! An implementation runs the suite with one line in a test file: [`conformance_suite!`](crate::conformance_suite) and
//! an expression that returns a [`Backend`]. To add a case: write a `pub async fn name(bed: &Bed)` in one of the modules
//! here, and add the name to the list of the macro. A name is unit, case, result.

pub mod exchange;
pub mod expiry;
mod fixtures;
pub mod invitations;
pub mod job_ticks;
pub mod records;
pub mod sessions;

pub use fixtures::{Backend, Bed};

/// Declares one `#[tokio::test]` for each case of the suite. The argument is evaluated for each case and returns its
/// [`Backend`](crate::conformance::Backend).
#[macro_export]
macro_rules! conformance_suite {
    ($backend:expr) => {
        $crate::conformance_suite!(@cases $backend;
            exchange::a_code_is_bound_once,
            exchange::an_exchange_is_claimed_held_released_and_abandoned,
            exchange::a_superseded_code_is_not_claimed,
            exchange::one_of_many_claims_wins,
            exchange::completion_stores_token_profile_and_session,
            exchange::completion_needs_the_claim,
            exchange::completion_for_somebody_else_is_refused,
            exchange::completion_fills_in_an_unknown_open_id,
            exchange::the_newest_token_wins,
            exchange::large_tokens_come_back_unchanged,
            exchange::tokens_are_apart_by_application_and_person,
            exchange::profiles_may_lack_everything_but_the_open_id,
            exchange::revoked_tokens_are_gone_until_the_next_consent,
            expiry::due_sessions_expire_and_are_counted,
            expiry::a_live_claim_keeps_a_session_from_expiring,
            expiry::sweepers_share_the_work,
            expiry::completion_and_expiry_exclude_each_other,
            invitations::the_limit_is_exact_under_concurrency,
            invitations::the_window_slides,
            invitations::people_and_applications_are_limited_apart,
            invitations::one_person_under_two_ids_is_one_person,
            invitations::a_hundred_people_at_once,
            job_ticks::claim_tick_once_per_job_and_tick,
            job_ticks::claim_tick_by_many_has_one_winner,
            records::applications_come_back_unchanged,
            records::an_application_is_frozen_once,
            records::events_are_remembered_by_consumer,
            records::events_are_purged_by_age,
            records::api_keys_work_until_revoked,
            records::one_unreadable_row_hides_no_other,
            records::unreadable_values_are_reported_by_place,
            records::keys_can_be_changed,
            records::active_counts_are_by_application,
            sessions::a_new_session_comes_back_unchanged,
            sessions::unknown_sessions_are_not_found,
            sessions::a_session_is_found_by_its_oauth_state,
            sessions::the_first_ending_is_final,
            sessions::one_of_many_endings_wins,
            sessions::lists_are_filtered,
            sessions::lists_are_paged_through_equal_times,
            sessions::a_card_is_recorded_once,
            sessions::a_card_changes_hands,
            sessions::stale_cards_are_listed,
            sessions::stale_cards_take_turns,
            sessions::an_open_id_is_recorded_once,
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
