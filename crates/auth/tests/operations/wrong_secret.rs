//! The application's secret is wrong for an hour, with ten thousand tokens.

use std::{collections::BTreeMap, time::Duration};

use chrono::TimeDelta;
use larkauth_auth::{AuthError, Policy};
use larkauth_contracts::message::{Message, TokenEscrowed};
use larkauth_lark_sim::{Effect, Endpoint, Fault, SimConfig};
use larkauth_messaging::Disposition;
use larkauth_models::{OpenId, SecretString};
use larkauth_storage::{
    testing::test_cipher,
    transfer::{Record, RowKey, Table, TokenRecord},
};
use tokio_util::sync::CancellationToken;

use crate::fixture::{ACTOR, APP, Fixture, Setup};

const PEOPLE: usize = 10_000;
/// What a rotation of the secret leaves behind.
const SECRET_WRONG: Effect = Effect::Answer { status: 400, code: 20_002 };
/// Tokens that one run takes at once, so that ten thousand need no ten minutes of Lark's limit.
const BATCH: u32 = 100;
const A_MINUTE: TimeDelta = TimeDelta::minutes(1);

impl Fixture {
    /// A worker takes the pairs from the bus that the database did not take in time.
    async fn deliver_pairs(&self) {
        while self.bus.left().contains(&TokenEscrowed::TYPE) {
            assert_eq!(self.deliver(self.bus.take::<TokenEscrowed>()).await, Disposition::DONE);
        }
    }

    /// Gives every person of the simulated Lark but the first a token that is like the first one's.
    async fn multiply(&self, first: &OpenId) {
        let key = RowKey(vec![APP.to_owned(), first.to_string(), "user".to_owned()]);
        let found = self.parts.store.find(Table::Tokens, &[key]).await.unwrap().remove(0);
        let Record::Tokens(template) = found else { panic!("no token") };
        let (cipher, users) = (test_cipher(), self.sim.users());
        for users in users[1..].chunks(500) {
            let rows = users.iter().map(|user| {
                let open_id = self.sim.open_id(APP, user);
                let (access, refresh) = self.sim.issue_tokens(APP, &open_id, "offline_access").unwrap();
                let seal = |column, secret: &SecretString| {
                    let row = [APP, open_id.as_str(), "user"].join("/");
                    Some(cipher.seal(&["access_tokens", column, &row], secret).unwrap().0)
                };
                Record::from(TokenRecord {
                    access_token_sealed: seal("access_token_sealed", &access),
                    refresh_token_sealed: seal("refresh_token_sealed", &refresh.unwrap()),
                    open_id: open_id.clone(),
                    ..TokenRecord::clone(&template)
                })
            });
            let rows: Vec<_> = rows.collect();
            assert_eq!(self.parts.store.import(&rows).await.unwrap(), rows.len() as u64);
        }
    }

    /// The number of tokens by status and generation.
    async fn tokens(&self) -> BTreeMap<(String, i64), i64> {
        let query = "select status, generation, count(*) from access_tokens group by status, generation";
        let mut db = self.database.connection().await;
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(query).fetch_all(&mut db).await.unwrap();
        rows.into_iter().map(|(status, generation, count)| ((status, generation), count)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute or more: scripts/test --full"]
async fn secret_wrong_for_an_hour_with_ten_thousand_tokens_costs_no_login_and_sends_no_card() {
    let mut sim = SimConfig::default().with_users(u32::try_from(PEOPLE).unwrap());
    // Lark's clock stands still, so all calls between two steps of it count as one moment.
    (sim.limits.per_second, sim.limits.per_minute) = (PEOPLE, 2 * PEOPLE);
    let fixture = Fixture::with(Setup { sim, ..Setup::default() }).await;
    let first = fixture.authorized(0).await;
    fixture.multiply(&first).await;
    let all = PEOPLE as i64;
    assert_eq!(fixture.tokens().await, BTreeMap::from([(("active".to_owned(), 1), all)]));
    let many = Policy {
        refresh_batch: BATCH,
        refresh_run: Duration::from_secs(120),
        ..fixture.parts.policy.clone()
    };
    let (context, stopping) = (fixture.unlimited(Duration::ZERO, many), CancellationToken::new());
    let cards = fixture.sim.messages().len();
    // Every token is due.
    fixture.clock.advance(Duration::from_secs(7201));
    fixture.sim.faults().push(Fault::at(Endpoint::TokenRefresh, SECRET_WRONG).until_cleared());
    for _ in 0..60 {
        let now = context.now();
        assert_eq!(context.refresh_due_tokens(&ACTOR, now, &stopping).await.unwrap(), 0);
        context.reauthorize(&ACTOR, now, &stopping).await.unwrap();
        let read = context.valid_token(&ACTOR, now, &fixture.app_id(), &first, A_MINUTE, &[]).await;
        assert!(matches!(read, Err(AuthError::AppFrozen { .. } | AuthError::UpstreamUnavailable { .. })));
        fixture.clock.advance(Duration::from_secs(60));
    }
    // Of each try of the breaker at most what was taken at once, and the one read.
    let tries = 60 / 5;
    let calls = fixture.refreshes();
    assert!(calls >= u64::from(BATCH) && calls <= u64::from(BATCH + 1) * tries, "{calls}");
    assert_eq!(fixture.tokens().await, BTreeMap::from([(("active".to_owned(), 1), all)]));
    assert_eq!(fixture.sim.messages().len(), cards, "no card was sent");

    fixture.sim.faults().clear();
    // The breaker lets a try through, and what was refused last is tried again after its pause.
    for _ in 0..10 {
        fixture.clock.advance(Duration::from_secs(301));
        context.refresh_due_tokens(&ACTOR, context.now(), &stopping).await.unwrap();
        fixture.deliver_pairs().await;
        if fixture.tokens().await == BTreeMap::from([(("active".to_owned(), 2), all)]) {
            break;
        }
    }
    assert_eq!(fixture.tokens().await, BTreeMap::from([(("active".to_owned(), 2), all)]));
    assert_eq!(fixture.refreshes(), calls + PEOPLE as u64, "each once");
    assert_eq!(fixture.served(&first, 60).await.unwrap(), 2);
    assert_eq!(fixture.sim.messages().len(), cards);
    fixture.assert_no_violation();
}
