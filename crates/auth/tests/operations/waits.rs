//! What changes while a request waits for Lark: the key, the application and the token are checked again before a token is
//! served.

use std::time::Duration;

use larkauth_auth::{AuthError, api_keys::NewApiKey};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Sim};
use larkauth_models::{Actor, Clock, KeyScope, OpenId, Origin, Principal};

use crate::fixture::{ACTOR, Fixture};

impl Fixture {
    /// A caller with a key that reads tokens.
    async fn caller(&self) -> Actor {
        let new = NewApiKey {
            name: "crm".to_owned(),
            scopes: vec![KeyScope::TokensRead],
            app_ids: vec![self.app_id()],
            lark_scopes: Vec::new(),
            requests_per_minute: None,
            expires_at: Some(self.clock.now() + Duration::from_secs(86_400)),
        };
        let key = self.context.create_api_key(&ACTOR, self.context.now(), new).await.unwrap().key;
        let principal = Principal::ApiKey { id: key.id, name: key.name, access: key.access };
        Actor { principal, origin: Origin::default() }
    }

    async fn read_as(&self, caller: &Actor, person: &OpenId) -> Result<i64, AuthError> {
        let (now, minute) = (self.context.now(), chrono::TimeDelta::minutes(1));
        let token = self.context.valid_token(caller, now, &self.app_id(), person, minute, &[]).await;
        token.map(|token| token.generation)
    }

    /// Runs a change after the refresh token was sent and before the answer arrives.
    async fn while_lark_answers<T>(&self, change: impl Future<Output = T>) -> T {
        let before = self.refreshes();
        let sent = |sim: &Sim| (sim.stats().calls(Endpoint::TokenRefresh) > before).then_some(());
        self.sim.wait_until(Duration::from_secs(10), sent).await.unwrap();
        change.await
    }
}

const LATE: Fault = Fault::at(Endpoint::TokenRefresh, Effect::LateAnswer(300));

#[tokio::test]
async fn token_for_key_that_is_revoked_during_the_refresh_is_not_served() {
    let fixture = Fixture::new().await;
    let (person, caller) = (fixture.expired(0).await, fixture.caller().await);
    fixture.sim.faults().push(LATE);
    let id = caller.stored_key().unwrap();
    let revoke = async { fixture.context.revoke_api_key(&ACTOR, fixture.context.now(), id).await.unwrap() };
    let (served, revoked) =
        tokio::join!(fixture.read_as(&caller, &person), fixture.while_lark_answers(revoke));
    assert!(revoked && matches!(served, Err(AuthError::KeyRefused)), "{served:?}");
    assert_eq!(fixture.current(&person).await.generation, 2, "the pair is kept");
    assert_eq!(fixture.served(&person, 60).await.unwrap(), 2, "and served to others");
}

#[tokio::test]
async fn token_for_key_that_ends_or_is_narrowed_during_the_refresh_is_not_served() {
    for (change, expected) in [
        ("update api_keys set expires_at = created_at", "KeyRefused"),
        ("delete from api_keys", "KeyRefused"),
        ("update api_keys set app_ids = array['cli_00000000000000a9']", "Forbidden"),
        ("update api_keys set scopes = array['sessions:read']", "Forbidden"),
    ] {
        let fixture = Fixture::new().await;
        let (person, caller) = (fixture.expired(0).await, fixture.caller().await);
        fixture.sim.faults().push(LATE.times(2));
        let now = fixture.context.now();
        let app_id = fixture.app_id();
        let refresh = fixture.context.refresh_token(&caller, now, &app_id, &person, Some(1));
        let (served, refreshed, ()) = tokio::join!(
            fixture.read_as(&caller, &person),
            refresh,
            fixture.while_lark_answers(fixture.sql(change))
        );
        for refused in [served.map(drop), refreshed.map(drop)] {
            let refused = refused.unwrap_err();
            assert!(format!("{refused:?}").starts_with(expected), "{change}: {refused:?}");
        }
        assert_eq!(fixture.current(&person).await.generation, 2, "{change}: the pair is kept");
    }
}

#[tokio::test]
async fn valid_token_that_is_revoked_during_the_refresh_is_not_served() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(7200 - 300));
    fixture.sim.faults().push(LATE);
    let revoke = async {
        let now = fixture.context.now();
        fixture.context.revoke_token(&ACTOR, now, &fixture.app_id(), &person).await.unwrap()
    };
    let (served, revoked) = tokio::join!(fixture.served(&person, 60), fixture.while_lark_answers(revoke));
    assert!(revoked && matches!(served, Err(AuthError::AuthenticationRequired)), "{served:?}");
}

#[tokio::test]
async fn valid_token_of_application_that_is_disabled_during_a_failing_refresh_is_not_served() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(7200 - 300));
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, Effect::LostAnswer));
    let disable = async {
        let now = fixture.context.now();
        fixture.context.set_application_enabled(&ACTOR, now, &fixture.app_id(), false).await.unwrap();
    };
    let (served, ()) = tokio::join!(fixture.served(&person, 60), fixture.while_lark_answers(disable));
    assert!(matches!(served, Err(AuthError::AppDisabled(_))), "{served:?}");
}
