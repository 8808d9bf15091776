//! Many at once, and the same thing more than once.

use std::{borrow::Borrow, collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use futures::{
    StreamExt, TryStreamExt,
    future::try_join_all,
    stream::{self, FuturesUnordered},
};
use larkauth_lark_sim::{Effect, Endpoint, Fault, Frames, Message, SimApp, SimConfig};
use larkauth_models::{AppId, Application, SecretString, SessionId, SessionState};
use larkauth_storage::{Applications, testing::act};
use larkauth_tests::{Asked, Kind, Options, TIMEOUT, World, eventually};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_invitations_exchanges_and_reads_all_succeed() -> anyhow::Result<()> {
    let world =
        World::start(Options { sim: SimConfig::default().with_users(100), ..Options::default() }).await?;
    let invited = try_join_all((0..100).map(async |n| invite(&world, n).await)).await?;
    let distinct: BTreeSet<_> = invited.iter().collect();
    assert_eq!(distinct.len(), 100);
    let cards =
        try_join_all((0..100).map(async |n| world.card(&world.person(n), &invited[n].to_string()).await))
            .await?;
    for id in &invited {
        let cards = world
            .sim
            .messages()
            .iter()
            .filter(|m| m.faces[0].card.to_string().contains(&id.to_string()))
            .count();
        assert_eq!(cards, 1, "one card for each");
    }

    try_join_all(cards[..50].iter().map(async |card| consents(&world, card).await)).await?;
    try_join_all(invited[..50].iter().zip(&cards).map(async |(id, card)| {
        let ended = world.api.session(id, 50).await?;
        ensure!(ended.state == SessionState::Completed, "{ended:?}\n{}", world.outputs());
        let asked =
            Asked { session_id: *id, person: card.open_id.clone(), message_id: card.message_id.clone() };
        world.shows(&asked, "green").await
    }))
    .await?;

    let reads = (0..200).map(async |n| world.api.token(world.app_id(), &world.person(n % 100)).await);
    let reads = try_join_all(reads).await?;
    let mut tokens = BTreeSet::new();
    for (n, read) in reads.iter().enumerate() {
        if n % 100 < 50 {
            assert_eq!((read.status, &read.json["generation"]), (200, &1.into()), "{n}: {read:?}");
            tokens.insert(read.json["access_token"].to_string());
        } else {
            assert_eq!(read.status, 404, "{n}: {read:?}");
        }
    }
    assert_eq!(tokens.len(), 50, "each person has their own token");
    check_integrity(&world).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn invitation_limit_across_two_gateways_is_exact() -> anyhow::Result<()> {
    let env = vec![("AUTH_REQUEST_RATE_LIMIT", "5".to_owned())];
    let mut world = World::start(Options { env, ..Options::default() }).await?;
    world.start_service(Kind::Gateway, &[("HTTP_ADDR", "127.0.0.1:0")]).await?;
    let mut other = world.api.clone();
    other.base = format!("http://{}", world.services.last_mut().context("a gateway")?.address().await?);

    let body = json!({"app_id": world.app_id(), "open_id": world.person(0)});
    let answers = try_join_all((0..60).map(async |n| {
        let api = if n % 2 == 0 { &world.api } else { &other };
        api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body.clone())).await
    }))
    .await?;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 5);
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!((refused.status, &refused.json["code"]), (429, &"rate_limited".into()), "{refused:?}");
        assert!(refused.retry_after.is_some_and(|wait| (1..=61).contains(&wait)), "{refused:?}");
    }
    let wanted = json!({"app_id": world.app_id(), "open_id": world.person(1)});
    let another_person = other.send(reqwest::Method::POST, "/v1/auth/sessions", Some(wanted)).await?;
    assert_eq!(another_person.status, 201, "{another_person:?}");
    eventually(TIMEOUT, async || Ok((world.sim.messages().len() == 6).then_some(()))).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_messages_have_their_effect_once() -> anyhow::Result<()> {
    let mut world = World::start(Options::default()).await?;

    // Every frame of a push twice, cut into three and shuffled: both copies are answered, one session ends once.
    let asked = world.ask(0).await?;
    let frames = Frames { duplicate: true, shuffle: true, interleave: true, ..Frames::split(3) };
    world.sim.faults().push(Fault::at(Endpoint::Push, Effect::Frames(frames)));
    let click = world.sim.click(&asked.message_id, "cancel", &asked.person).await?;
    assert!(click.answered && click.error.is_none(), "{click:?}");
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Rejected);

    // A double click, on both buttons.
    for button in ["authorize", "cancel"] {
        let asked = world.ask(1).await?;
        let clicks = (0..5).map(async |_| world.sim.click(&asked.message_id, button, &asked.person).await);
        for click in try_join_all(clicks).await? {
            assert!(click.answered && click.error.is_none(), "{click:?}");
        }
        let state = if button == "cancel" { SessionState::Rejected } else { SessionState::Pending };
        assert_eq!(world.api.session(asked.session_id, 0).await?.state, state);
    }
    let rejected = world.metric(Kind::AuthWorker, "auth_failure_total", "reason=\"rejected\"").await?;
    assert!((rejected - 2.0).abs() < 0.1, "two sessions were rejected, {rejected} were counted");
    // The decoy that came between the frames is not larkauth's: it is kept nowhere, as `finish` checks.

    // One redirect, followed twenty times at once.
    let asked = world.ask(2).await?;
    let redirect = world.consent(&asked).await?;
    let before = world.sim.stats().calls(Endpoint::TokenCode);
    let pages = try_join_all((0..20).map(async |_| world.sim.follow(&redirect).await)).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
    assert_eq!(world.sim.stats().calls(Endpoint::TokenCode) - before, 1, "one code, one exchange");
    let texts: BTreeSet<_> = pages.iter().map(|page| (page.status, page.html.as_str())).collect();
    assert_eq!(texts.len(), 1, "all see the same page: {texts:?}");

    // A double click on "try again" makes one new invitation, on the same card.
    let asked = world.ask(0).await?;
    world.sim.faults().push(Fault::at(Endpoint::TokenCode, Effect::Answer { status: 400, code: 20003 }));
    let redirect = world.consent(&asked).await?;
    world.sim.follow(&redirect).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Failed);
    world.shows(&asked, "red").await?;
    let clicks = (0..4).map(async |_| world.sim.click(&asked.message_id, "retry", &asked.person).await);
    for click in try_join_all(clicks).await? {
        assert!(click.answered && click.error.is_none(), "{click:?}");
    }
    let path = format!("/v1/auth/sessions?open_id={}&state=pending", asked.person);
    let open = world.api.send(reqwest::Method::GET, &path, None).await?;
    let open = open.json["items"].as_array().context("a list")?.clone();
    assert_eq!(open.len(), 1, "{open:?}");
    let successor = open[0]["session_id"].as_str().context("an id")?;
    world.card(&asked.person, successor).await?;
    let redirect = world.consent(&asked).await?;
    world.sim.follow(&redirect).await?;
    assert_eq!(world.api.session(successor, 30).await?.state, SessionState::Completed);
    world.shows(&asked, "green").await?;
    assert_eq!(world.sim.messages_for(&asked.person).len(), 2, "a card and its retry, and the one before");
    check_integrity(&world).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_concurrent_with_completion_ends_in_one_state() -> anyhow::Result<()> {
    const PEOPLE: usize = 30;
    let env = vec![("AUTH_SESSION_EXPIRY_SECONDS", "7".to_owned())];
    let sim = SimConfig::default().with_users(30);
    let world = World::start(Options { sim, env, ..Options::default() }).await?;
    let asked = try_join_all((0..PEOPLE).map(async |n| world.ask(n).await)).await?;
    let redirects = try_join_all(asked.iter().map(async |asked| world.consent(asked).await)).await?;
    let expires_at = world.api.session(asked[0].session_id, 0).await?.expires_at;
    let clock = larkauth_models::SystemClock;
    let left = (expires_at - larkauth_models::Clock::now(&clock)).to_std()?;

    // The first comes in time, the last too late, those in between may coincide with maintenance.
    let slow = Fault::at(Endpoint::UserInfo, Effect::Latency(1500));
    world.sim.faults().push(slow.times(20));
    try_join_all(redirects.iter().enumerate().map(async |(n, redirect)| {
        let share = f64::from(u32::try_from(n)?) / 15.0;
        tokio::time::sleep(left.mul_f64(share)).await;
        world.sim.follow(redirect).await?;
        anyhow::Ok(())
    }))
    .await?;

    let mut ends = BTreeSet::new();
    for asked in &asked {
        let session = world.api.session(asked.session_id, 30).await?;
        ends.insert(session.state.as_str());
        let token = world.api.token(world.app_id(), &asked.person).await?;
        let (face, status) = match session.state {
            SessionState::Completed => ("green", 200),
            SessionState::Expired => ("grey", 404),
            other => anyhow::bail!("{other}: {session:?}"),
        };
        assert_eq!(token.status, status, "{session:?}");
        world.shows(asked, face).await?;
    }
    assert_eq!(ends.into_iter().collect::<Vec<_>>(), ["completed", "expired"], "both happened");
    check_integrity(&world).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn thousand_concurrent_authorizations_complete() -> anyhow::Result<()> {
    const PEOPLE: usize = 1000;
    let world =
        World::start(Options { sim: SimConfig::default().with_users(1000), ..Options::default() }).await?;
    let inviting = async {
        let invited = stream::iter(0..PEOPLE).map(async |n| invite(&world, n).await).buffer_unordered(32);
        invited.try_collect::<Vec<_>>().await
    };
    // Each person clicks and consents as soon as their card arrives.
    let consenting = async {
        let mut seen = BTreeSet::new();
        let mut people = FuturesUnordered::new();
        while seen.len() < PEOPLE || !people.is_empty() {
            for card in world.sim.messages() {
                if seen.insert(card.open_id.clone()) {
                    people.push(consents(&world, card));
                }
            }
            let some = async {
                while people.try_next().await?.is_some() {}
                anyhow::Ok(())
            };
            // Cards come at the pace that Lark allows; those who have theirs do not wait for the others.
            if let Ok(result) = tokio::time::timeout(Duration::from_millis(500), some).await {
                result?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        anyhow::Ok(())
    };
    let (invited, consented) = tokio::join!(inviting, consenting);
    assert_eq!(invited?.len(), PEOPLE);
    consented?;

    eventually(Duration::from_secs(120), async || {
        let mut database = world.database.connection().await;
        let pending: i64 =
            sqlx::query_scalar("select count(*) from user_auth_sessions where state = 'pending'")
                .fetch_one(&mut database)
                .await?;
        Ok((pending == 0).then_some(()))
    })
    .await?;
    let mut database = world.database.connection().await;
    let ends: Vec<(String, i64)> =
        sqlx::query_as("select state, count(*) from user_auth_sessions group by state")
            .fetch_all(&mut database)
            .await?;
    assert_eq!(ends, [("completed".to_owned(), 1000)]);
    assert_eq!(world.sim.stats().calls(Endpoint::TokenCode), 1000, "one exchange each");
    assert_eq!(world.sim.messages().len(), PEOPLE, "one card each");
    for n in (0..PEOPLE).step_by(97) {
        let token = world.api.token(world.app_id(), &world.person(n)).await?;
        assert_eq!(token.status, 200, "{token:?}");
    }
    eventually(Duration::from_secs(120), async || {
        let green = world.sim.messages().iter().filter(|m| m.card()["header"]["template"] == "green").count();
        Ok((green == PEOPLE).then_some(()))
    })
    .await
    .context("every card turns green")?;
    check_integrity(&world).await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn applications_and_people_are_isolated() -> anyhow::Result<()> {
    const OTHER: &str = "cli_fedcba9876543210";
    let world = World::start(Options::default()).await?;
    let redirect_uri = format!("{}/oauth/callback", world.api.base);
    world.sim.put_app(
        SimApp::new(OTHER, "another-simulated-secret-0123456789").with_redirect_uri(&redirect_uri),
    )?;
    let store = world.database.store().await;
    let first = store.application(&AppId::new(world.app_id())?).await?.context("the first application")?;
    let other = Application {
        app_id: AppId::new(OTHER)?,
        app_secret: SecretString::from("another-simulated-secret-0123456789"),
        verification_token: None,
        encrypt_key: None,
        ..first
    };
    store.put_application(&other, &act(larkauth_models::Clock::now(&larkauth_models::SystemClock))).await?;
    eventually(TIMEOUT, async || Ok((world.sim.connections(OTHER) == 1).then_some(()))).await?;

    // The same person consents to the first application only.
    let asked = world.ask(0).await?;
    world.sim.follow(&world.consent(&asked).await?).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
    let user = world.sim.users()[0].clone();
    let as_other = world.sim.open_id(OTHER, &user);
    assert_ne!(as_other, asked.person);
    assert_eq!(world.api.token(world.app_id(), &asked.person).await?.status, 200);
    for (app_id, open_id) in [
        (OTHER, &as_other),
        (OTHER, &asked.person),
        (world.app_id(), &as_other),
        (world.app_id(), &world.person(1)),
    ] {
        assert_eq!(world.api.token(app_id, open_id).await?.status, 404, "{app_id} {open_id}");
    }

    // Then to the other: its token is another one, and lists are kept apart.
    let session = world.api.invite(OTHER, &as_other).await?;
    let card = world.card(&as_other, "authorize").await?;
    let click = world.sim.click(&card.message_id, "authorize", &as_other).await?;
    assert!(click.answered && click.card_changed, "{click:?}");
    let redirect = world.sim.consent(&click.url.context("a link")?, &as_other).await?;
    world.sim.follow(&redirect).await?;
    assert_eq!(world.api.session(session.session_id, 30).await?.state, SessionState::Completed);
    let (one, two) =
        (world.api.token(world.app_id(), &asked.person).await?, world.api.token(OTHER, &as_other).await?);
    assert_eq!((one.status, two.status), (200, 200));
    assert_ne!(one.json["access_token"], two.json["access_token"]);
    let list =
        world.api.send(reqwest::Method::GET, &format!("/v1/auth/sessions?app_id={OTHER}"), None).await?;
    let listed: Vec<_> =
        list.json["items"].as_array().into_iter().flatten().map(|s| s["session_id"].clone()).collect();
    assert_eq!(listed, [json!(session.session_id)]);
    check_integrity(&world).await?;
    world.finish().await
}

/// Invites, and repeats the call after `Retry-After`.
async fn invite(world: &World, n: usize) -> anyhow::Result<SessionId> {
    let body = json!({"app_id": world.app_id(), "open_id": world.person(n)});
    let created = eventually(Duration::from_secs(60), async || {
        let answer = world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body.clone())).await?;
        match answer.status {
            201 => Ok(Some(answer)),
            503 => {
                tokio::time::sleep(Duration::from_secs(answer.retry_after.context("a time to come back")?))
                    .await;
                Ok(None)
            }
            _ => anyhow::bail!("no session: {answer:?}"),
        }
    });
    Ok(serde_json::from_value(created.await?.json["session_id"].clone())?)
}

/// The receiver of a card clicks, consents, and reloads the page while it asks for that.
async fn consents(world: &World, card: impl Borrow<Message>) -> anyhow::Result<()> {
    let card = card.borrow();
    let click = world.sim.click(&card.message_id, "authorize", &card.open_id).await?;
    let redirect = world.sim.consent(&click.url.context("a link")?, &card.open_id).await?;
    eventually(Duration::from_secs(60), async || {
        let page = world.sim.follow(&redirect).await?;
        ensure!(matches!(page.status, 200 | 202 | 503), "{page:?}");
        Ok((page.status < 300).then_some(()))
    })
    .await
}

/// What must be true of the database at any quiet moment; each query counts exceptions.
async fn check_integrity(world: &World) -> anyhow::Result<()> {
    const RULES: [(&str, &str); 8] = [
        (
            "a completed session has the token of its own person and application",
            "select count(*) from user_auth_sessions s left join access_tokens t using (token_id)
             where s.state = 'completed' and (t.app_id, t.open_id) is distinct from (s.app_id, s.open_id)",
        ),
        (
            "a token's generation counts the sessions that brought it",
            "select count(*) from access_tokens t where generation <>
             (select count(*) from user_auth_sessions s where s.token_id = t.token_id)",
        ),
        (
            "each token has a profile",
            "select count(*) from access_tokens t left join user_profiles p using (app_id, open_id) where p is null",
        ),
        (
            "nothing stays pending long after its time",
            "select count(*) from user_auth_sessions where state = 'pending' and expires_at < now() - interval '15 s'",
        ),
        (
            "an ended session keeps no secret and no claim",
            "select count(*) from user_auth_sessions where state <> 'pending' and
             (oauth_state_sealed is not null or pkce_verifier_sealed is not null or exchange_claim is not null
              or exchange_escrow_sealed is not null)",
        ),
        (
            "no claim is left behind",
            "select count(*) from user_auth_sessions where exchange_claimed_until < now()",
        ),
        (
            "no lease is held, nothing has failed",
            "select count(*) from access_tokens where lease_owner is not null or failures > 0 or status <> 'active'",
        ),
        (
            "every ended session's card shows it",
            "select count(*) from user_auth_sessions where card_is_stale",
        ),
    ];
    for (rule, exceptions) in RULES {
        eventually(TIMEOUT, async || {
            let mut database = world.database.connection().await;
            let count: i64 = sqlx::query_scalar(exceptions).fetch_one(&mut database).await?;
            Ok((count == 0).then_some(()))
        })
        .await
        .with_context(|| format!("broken rule: {rule}"))?;
    }
    Ok(())
}
