use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::TimeDelta;
use larkauth_contracts::rest::{SessionView, TokenView};
use larkauth_lark_sim::{ClickOutcome, Effect, Endpoint, Fault, Message, Sim, SimUser};
use larkauth_models::{FailureReason, SessionState, ShiftedClock};

use super::{
    caller::{self, Caller, STEP_TIMEOUT},
    platform,
};
use crate::report;

/// Plays the demo in the terminal: one person agrees, and hours later the token is still valid; one declines, another
/// consents for the third, and a cut connection recovers; at last the answer to a refresh is lost.
pub(crate) async fn play(sim: &Sim, caller: &Caller, clock: &ShiftedClock) -> anyhow::Result<()> {
    let app_id = platform::app_id(sim)?;
    let users: [SimUser; 3] = sim.users().try_into().ok().context("the simulator has three people")?;
    let scenario = Scenario { sim, caller, clock, app_id: &app_id };
    let [first, second, third] = &users;
    scenario.agrees(first).await?;
    scenario.two_hours_pass(first).await?;
    scenario.declines(second).await?;
    let failed = scenario.another_agrees(third, first).await?;
    scenario.recovers(third, &failed).await?;
    scenario.loses_refresh(first).await
}

struct Scenario<'a> {
    sim: &'a Sim,
    caller: &'a Caller,
    clock: &'a ShiftedClock,
    app_id: &'a str,
}

impl Scenario<'_> {
    async fn agrees(&self, user: &SimUser) -> anyhow::Result<()> {
        report::say("\nA person agrees");
        let person = self.sim.open_id(self.app_id, user);
        let (session, card) = self.ask(&person).await?;
        report::done("a service asked for consent", &format!("session {}", session.session_id));
        report::done("the card arrived in the chat", &format!("for {} / {}", user.name, user.en_name));
        let click = self.click(&card, "authorize", &person).await?;
        report::done("they clicked Authorize", &format!("answered in {} ms", click.elapsed.as_millis()));
        self.agree(&click, &person, 200).await?;
        report::done("they agreed on the consent page", "the browser came back with a code");
        self.ends(&session, SessionState::Completed, None).await?;
        report::done("the code was exchanged, the token stored encrypted", "");
        self.turns(&card, "green").await?;
        report::done("the card turned green", "");
        self.token(&person).await
    }

    async fn two_hours_pass(&self, user: &SimUser) -> anyhow::Result<()> {
        report::say("\nTwo hours pass");
        let person = self.sim.open_id(self.app_id, user);
        let before: TokenView = caller::read(self.caller.token(self.app_id, &person).await?)?;
        self.clock.advance(TimeDelta::hours(2));
        report::done("the access token has expired", "the clocks of Lark and larkauth moved on");
        let token: TokenView = caller::read(self.caller.token(self.app_id, &person).await?)?;
        ensure!(
            token.generation > before.generation && token.access_token != before.access_token,
            "the token was not refreshed"
        );
        report::done("a service reads the token", &format!("refreshed: {}", caller::masked(&token)));
        Ok(())
    }

    async fn loses_refresh(&self, user: &SimUser) -> anyhow::Result<()> {
        report::say("\nThe answer to a refresh is lost");
        let person = self.sim.open_id(self.app_id, user);
        let valid = self.caller.refresh(self.app_id, &person).await?;
        let valid: TokenView = caller::read(valid)?;
        // The tokens of both people who agreed are due.
        self.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LostAnswer).times(2));
        self.clock.advance(TimeDelta::minutes(110));
        self.sim
            .wait_until(STEP_TIMEOUT, |sim| sim.faults().list().is_empty().then_some(()))
            .await
            .context("the token is not refreshed")?;
        report::done("Lark refreshed the token, and its answer was lost", "nothing can bring it back");
        let token: TokenView = caller::read(self.caller.token(self.app_id, &person).await?)?;
        ensure!(token.access_token == valid.access_token, "another token is served");
        report::done("the valid token is still served", &caller::masked(&token));
        // The pauses after the failure pass, the old refresh token is tried once more, and the access token ends.
        self.clock.advance(TimeDelta::hours(2));
        let asked_again = async {
            loop {
                let (status, problem) = self.caller.token(self.app_id, &person).await?;
                if status == 404 {
                    return anyhow::Ok(problem["code"].as_str().unwrap_or_default().to_owned());
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        let code =
            tokio::time::timeout(STEP_TIMEOUT, asked_again).await.context("the login does not end")??;
        report::done("hours later Lark says that the refresh token is used up", &code);
        let session = self.agrees_again(&person).await?;
        report::done("the person agreed once more", &format!("session {}", session.session_id));
        self.token(&person).await
    }

    async fn agrees_again(&self, person: &str) -> anyhow::Result<SessionView> {
        let (session, card) = self.ask(person).await?;
        let click = self.click(&card, "authorize", person).await?;
        self.agree(&click, person, 200).await?;
        self.ends(&session, SessionState::Completed, None).await?;
        Ok(session)
    }

    async fn declines(&self, user: &SimUser) -> anyhow::Result<()> {
        report::say("\nA person declines");
        let person = self.sim.open_id(self.app_id, user);
        let (session, card) = self.ask(&person).await?;
        self.click(&card, "cancel", &person).await?;
        self.ends(&session, SessionState::Rejected, None).await?;
        self.turns(&card, "grey").await?;
        report::done("they clicked Decline, and the card turned grey", "nothing is stored");
        let (status, problem) = self.caller.token(self.app_id, &person).await?;
        ensure!(status == 404, "the token is answered with {status}");
        report::done(
            "a service asks for the token",
            &format!("{status}: {}", problem["code"].as_str().unwrap_or_default()),
        );
        Ok(())
    }

    /// Returns the red card of the failed session.
    async fn another_agrees(&self, asked: &SimUser, other: &SimUser) -> anyhow::Result<Message> {
        report::say("\nAnother person consents");
        let person = self.sim.open_id(self.app_id, asked);
        let (session, card) = self.ask(&person).await?;
        let click = self.click(&card, "authorize", &person).await?;
        self.agree(&click, &self.sim.open_id(self.app_id, other), 403).await?;
        self.ends(&session, SessionState::Failed, Some(FailureReason::IdentityMismatch)).await?;
        self.turns(&card, "red").await?;
        report::done(
            "another person agreed on the consent page, and the card turned red",
            "nothing is stored",
        );
        Ok(card)
    }

    async fn recovers(&self, user: &SimUser, card: &Message) -> anyhow::Result<()> {
        report::say("\nThe long connection is cut");
        let person = self.sim.open_id(self.app_id, user);
        let before = self.sim.stats().connections_opened;
        ensure!(self.sim.drop_connections(None) > 0, "there was no long connection to cut");
        self.sim
            .wait_until(STEP_TIMEOUT, |sim| {
                (sim.stats().connections_opened > before && sim.connections(self.app_id) > 0).then_some(())
            })
            .await
            .context("the long connection does not come back")?;
        report::done("it was restored by itself", "");
        self.click(card, "retry", &person).await?;
        self.turns(card, "blue").await?;
        report::done("they clicked Try again on the red card", "a new session begins");
        let click = self.click(card, "authorize", &person).await?;
        self.agree(&click, &person, 200).await?;
        self.turns(card, "green").await?;
        report::done("they agreed, and the card turned green", "");
        self.token(&person).await
    }

    async fn ask(&self, person: &str) -> anyhow::Result<(SessionView, Message)> {
        let session: SessionView = caller::read(self.caller.invite(self.app_id, person, None).await?)?;
        let id = session.session_id.to_string();
        let card =
            self.sim.wait_for_card(person, STEP_TIMEOUT, |card| card.to_string().contains(&id)).await?;
        Ok((session, card))
    }

    async fn click(&self, card: &Message, button: &str, person: &str) -> anyhow::Result<ClickOutcome> {
        let click = self.sim.click(&card.message_id, button, person).await?;
        ensure!(click.answered, "the click was not answered within 3 s");
        Ok(click)
    }

    async fn agree(&self, click: &ClickOutcome, person: &str, status: u16) -> anyhow::Result<()> {
        let redirect =
            self.sim.consent(click.url.as_deref().context("the button opens no page")?, person).await?;
        let mut page = self.sim.follow(&redirect).await?;
        // As the page itself does while the worker handles the code.
        for _ in 0..20 {
            if page.status != 202 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            page = self.sim.follow(&redirect).await?;
        }
        ensure!(page.status == status, "the result page answered {}", page.status);
        Ok(())
    }

    async fn ends(
        &self,
        session: &SessionView,
        state: SessionState,
        reason: Option<FailureReason>,
    ) -> anyhow::Result<()> {
        let session = self.caller.ended(session.session_id).await?;
        ensure!(
            session.state == state && session.failure_reason == reason,
            "the session became {} ({:?})",
            session.state,
            session.failure_reason
        );
        Ok(())
    }

    async fn turns(&self, card: &Message, colour: &str) -> anyhow::Result<()> {
        let shows = |sim: &Sim| (sim.card(&card.message_id)?["header"]["template"] == colour).then_some(());
        self.sim
            .wait_until(STEP_TIMEOUT, shows)
            .await
            .with_context(|| format!("the card does not turn {colour}"))
    }

    async fn token(&self, person: &str) -> anyhow::Result<()> {
        let token: TokenView = caller::read(self.caller.token(self.app_id, person).await?)?;
        report::done("a service reads the token", &caller::masked(&token));
        Ok(())
    }
}
