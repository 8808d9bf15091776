//! Processes without Lark's limit of calls, which is tested elsewhere.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_auth::{AppRegistry, Context, ContextParts, LarkSettings, Policy};
use larkauth_lark::{
    RateLimiter,
    api::{EndpointClass, RateLimitExceeded},
};
use larkauth_models::{AppId, Lane, TokenStatus};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, Fixture};

/// Permits every call after some time.
struct Unlimited {
    after: Duration,
}

#[async_trait]
impl RateLimiter for Unlimited {
    async fn acquire(
        &self,
        _: &AppId,
        _: EndpointClass,
        _: Lane,
        _: Instant,
    ) -> Result<(), RateLimitExceeded> {
        tokio::time::sleep(self.after).await;
        Ok(())
    }
    async fn reserve(
        &self,
        _: &AppId,
        _: EndpointClass,
        calls: u32,
    ) -> Result<Vec<Instant>, RateLimitExceeded> {
        Ok(vec![Instant::now() + self.after; calls as usize])
    }
    async fn hold(&self, _: &AppId, _: EndpointClass, _: Duration) {}
}

impl Fixture {
    /// A process that knows no limit of calls.
    pub(crate) fn unlimited(&self, after: Duration, policy: Policy) -> Context {
        let parts = self.parts.clone();
        let lark = LarkSettings { rate_limiter: Arc::new(Unlimited { after }), ..parts.apps.lark().clone() };
        let (clock, metrics) = (parts.clock.clone(), parts.metrics.clone());
        let apps = AppRegistry::new(parts.store.clone(), lark, clock, metrics, &policy);
        Context::new(ContextParts { apps: Arc::new(apps), policy, ..parts })
    }
}

/// A process that is stopped between the lease and the call may be so late that another one holds the lease by then.
#[tokio::test]
async fn refresh_whose_call_comes_late_is_not_sent() {
    let fixture = Fixture::new().await;
    let person = fixture.authorized(0).await;
    fixture.clock.advance(Duration::from_secs(7000));
    let policy = Policy {
        refresh_call: Duration::from_secs(1),
        refresh_lease: Duration::from_secs(2),
        ..fixture.parts.policy.clone()
    };
    let late = fixture.unlimited(Duration::from_millis(1200), policy);
    let (now, stopping) = (late.now(), CancellationToken::new());
    assert_eq!(late.refresh_due_tokens(&ACTOR, now, &stopping).await.unwrap(), 0);
    assert_eq!(fixture.refreshes(), 0, "the refresh token was not sent");
    let token = fixture.current(&person).await;
    assert_eq!((token.status, token.generation), (TokenStatus::Active, 1));
}
