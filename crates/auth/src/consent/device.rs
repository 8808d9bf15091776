//! Polls of the device flow.
//!
//! A poll is claimed, counts as sent, and its pair goes into escrow, exactly as with a code; see `exchange`. It differs in
//! that it may be repeated: a session whose poll was not answered goes on.

use std::time::Duration;

use chrono::TimeDelta;
use futures::future::join_all;
use larkauth_models::{Actor, AuthSession, FailureReason, Lane, Origin, Timestamp};
use larkauth_storage::{DevicePoll, NextPoll, SessionEnding};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    deadline::{Deadline, Step},
    device_decision::{Verdict, decide},
    error::ConsentError,
    promote::{Claimed, keep_and_promote},
};
use crate::{apps::App, context::Context, error::AuthError, worker::WORKER};

/// Polls of one process at once.
const CONCURRENCY: usize = 16;

impl Context {
    /// Polls Lark with the device codes that are due, those first that are due longest. Returns the number of ended sessions.
    /// Any number of processes may do so at once: each takes other sessions.
    ///
    /// # Errors
    /// The store's. A poll that fails is logged and does not delay the others.
    pub async fn poll_device_codes(
        &self,
        actor: &Actor,
        now: Timestamp,
        stopping: &CancellationToken,
    ) -> Result<u64, AuthError> {
        self.note_operation(actor, now, "session.poll_device_codes");
        let until = Instant::now() + self.policy.refresh_run;
        let mut ended = 0;
        loop {
            let now = self.now();
            let frozen_before = now - TimeDelta::from_std(self.policy.breaker_open).unwrap_or(TimeDelta::MAX);
            let claims: Vec<_> = (0..CONCURRENCY).map(|_| self.new_uuid()).collect();
            let (idle, life) = (self.policy.device_idle, self.policy.exchange_claim);
            // The last polls of a code are not put off.
            let due = self.store.claim_device_polls(now + idle, frozen_before, idle, &claims, life).await?;
            for (poll, polled) in
                due.iter().zip(join_all(due.iter().map(|poll| self.poll_device(*poll))).await)
            {
                match polled {
                    Ok(session) => ended += u64::from(session.state.is_final()),
                    Err(error) => {
                        let session_id = poll.session_id;
                        tracing::warn!(%session_id, %error, "auth.device.poll: left to the end of its claim");
                    }
                }
            }
            if due.len() < CONCURRENCY || stopping.is_cancelled() || Instant::now() >= until {
                return Ok(ended);
            }
        }
    }

    /// Polls with one claimed code. Returns the session as it is then.
    async fn poll_device(&self, poll: DevicePoll) -> Result<AuthSession, ConsentError> {
        let deadline = Deadline::start(&self.policy);
        let session = self.existing_session(poll.session_id).await?;
        let Some(device) = session.device.as_ref().filter(|_| !session.state.is_final()) else {
            return Ok(session);
        };
        if !poll.is_enabled {
            let ending = SessionEnding::Failed(FailureReason::AppDisabled);
            return Ok(self.end_session(&WORKER, &session, ending, false).await?);
        }
        let now = self.now();
        if session.expires_at <= now {
            // An ending other than a failure needs the claim to have ended.
            self.postpone(poll, unchanged(poll)).await?;
            return Ok(self.end_session(&WORKER, &session, SessionEnding::Expired, false).await?);
        }
        let app = self.apps.get(&session.app_id).await?;
        let code_left = (device.expires_at - now).to_std().unwrap_or_default();
        // A code whose last answer was lost is polled once more, because Lark may give the pair again.
        if code_left.is_zero() && !poll.is_answer_lost {
            return self.renew(poll, &app, session, deadline).await;
        }
        // Only a person who has the page open is kept waiting by a poll.
        let lane = if poll.is_opened { Lane::People } else { Lane::Background };
        let client = app.client.in_lane(lane);
        let answer = client.poll_device_code(&device.device_code, deadline.end_of(Step::Exchange)).await;
        let error = match answer {
            Ok(pair) => {
                let pair = pair.with_scopes_unless_named(&session.scopes);
                let origin = Origin::default();
                let claimed = Claimed { session, claim: poll.claim, pair, is_escrowed: false, origin };
                return keep_and_promote(self, &app, claimed, deadline, false).await;
            }
            Err(error) => error,
        };
        match decide(&poll, &error, code_left, self.policy.device_retry_longest) {
            Verdict::Pending(next) => {
                self.postpone(poll, next).await?;
                self.apps.breaker().close(&app, self.now()).await?;
                self.repeat_card_request(&session).await?;
                Ok(session)
            }
            Verdict::Unanswered(next) => {
                tracing::warn!(session_id = %session.id, %error, failures = next.failures, "auth.device.poll");
                self.postpone(poll, next).await?;
                Ok(session)
            }
            Verdict::CodeOver => self.renew(poll, &app, session, deadline).await,
            Verdict::Ended(ending) => {
                tracing::info!(session_id = %session.id, %error, "auth.device.refused");
                Ok(self.end_session(&WORKER, &session, ending, false).await?)
            }
            Verdict::AppRefused => {
                self.apps.breaker().open(&session.app_id, &error.to_string(), self.now()).await?;
                let ending = SessionEnding::Failed(FailureReason::AppMisconfigured);
                Ok(self.end_session(&WORKER, &session, ending, false).await?)
            }
        }
    }

    /// Gives a session whose code is over another one, and has the card show it.
    async fn renew(
        &self,
        poll: DevicePoll,
        app: &App,
        session: AuthSession,
        deadline: Deadline,
    ) -> Result<AuthSession, ConsentError> {
        let authorized = match deadline.within(Step::Exchange, self.authorize_device(app, &session)).await {
            Some(Ok(authorized)) => authorized,
            Some(Err(AuthError::Lark(error))) => {
                if let Some(reason) = self.device_refusal(app, &error).await? {
                    let ending = SessionEnding::Failed(reason);
                    return Ok(self.end_session(&WORKER, &session, ending, false).await?);
                }
                let after = error.retry_after.unwrap_or_default();
                tracing::warn!(session_id = %session.id, %error, "auth.device.renew: tried again later");
                self.postpone(poll, self.after_failure(poll, after)).await?;
                return Ok(session);
            }
            Some(Err(error)) => return Err(error.into()),
            None => {
                tracing::warn!(session_id = %session.id, "auth.device.renew: no answer in time, tried again later");
                self.postpone(poll, self.after_failure(poll, Duration::ZERO)).await?;
                return Ok(session);
            }
        };
        let interval = authorized.interval.max(poll.interval);
        let next = NextPoll { after: interval, interval, failures: 0, is_answer_lost: false };
        self.postpone(poll, next).await?;
        tracing::info!(session_id = %session.id, "auth.device.renewed: the codes expired, the card gets new ones");
        self.repeat_card_request(&authorized.session).await?;
        Ok(authorized.session)
    }

    /// Requests an update of a card that is not known to show the present codes. Repeated with each poll until it does.
    async fn repeat_card_request(&self, session: &AuthSession) -> Result<(), ConsentError> {
        let is_stale = session.device.as_ref().is_some_and(|device| device.is_card_stale);
        if is_stale && session.message_id.is_some() {
            self.request_card_face(&session.app_id, session.id, Duration::ZERO).await?;
        }
        Ok(())
    }

    async fn postpone(&self, poll: DevicePoll, next: NextPoll) -> Result<(), ConsentError> {
        if !self.store.postpone_device_poll(poll.session_id, poll.claim, next).await? {
            tracing::debug!(session_id = %poll.session_id, "auth.device.poll: the session ended during the poll");
        }
        Ok(())
    }

    /// Returns the next attempt at new codes, which is not before `at_least`.
    fn after_failure(&self, poll: DevicePoll, at_least: Duration) -> NextPoll {
        let failures = poll.failures.saturating_add(1);
        let doubled = poll.interval.saturating_mul(2_u32.saturating_pow(failures));
        let after = doubled.min(self.policy.device_retry_longest.max(poll.interval)).max(at_least);
        NextPoll { after, failures, ..unchanged(poll) }
    }
}

/// Returns a poll after the same interval.
const fn unchanged(poll: DevicePoll) -> NextPoll {
    NextPoll {
        after: poll.interval,
        interval: poll.interval,
        failures: poll.failures,
        is_answer_lost: poll.is_answer_lost,
    }
}
