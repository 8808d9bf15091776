//! A part is missing from the start on: what does not need it is served, and the health document names it.

use anyhow::Context;
use larkauth_models::SessionState;
use larkauth_tests::{Answer, Kind, Options, TIMEOUT, World, eventually};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection};

const SERVICES: [Kind; 3] = [Kind::Gateway, Kind::AuthWorker, Kind::TokenRefresher];

/// A world in which the first person has a token, and no service runs any more.
async fn stopped_world_with_token() -> anyhow::Result<(World, String)> {
    let mut world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    world.sim.follow(&world.consent(&asked).await?).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
    world.shows(&asked, "green").await?;
    world.quiet().await?;
    for service in world.services.drain(..) {
        service.terminate().await?;
    }
    Ok((world, asked.person))
}

async fn get(world: &World, path: &str) -> anyhow::Result<Answer> {
    world.api.raw(|http, base| http.get(format!("{base}{path}"))).await
}

/// Invites the second person.
async fn invite(world: &World) -> anyhow::Result<Answer> {
    let body = json!({"app_id": world.app_id(), "open_id": world.person(1)});
    world.api.send(reqwest::Method::POST, "/v1/auth/sessions", Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_started_without_broker_serve_tokens_and_connect_when_it_comes() -> anyhow::Result<()> {
    for outage in ["down", "silent"] {
        let (mut world, person) = stopped_world_with_token().await?;
        match outage {
            "down" => world.broker_proxy.down(),
            _ => world.broker_proxy.pause(),
        }
        for kind in SERVICES {
            world.start_degraded(kind, &[]).await.context(outage)?;
        }
        let token = world.api.token(world.app_id(), &person).await?;
        assert_eq!(token.status, 200, "{outage}: {token:?}");
        let health = get(&world, "/health").await?;
        assert_eq!(
            (health.status, &health.json["status"]),
            (200, &json!("degraded")),
            "{outage}: {health:?}"
        );
        assert_eq!(health.part("bus")["state"], "failing", "{outage}: {health:?}");
        assert_eq!(health.part("database")["state"], "ok", "{outage}: {health:?}");
        assert_eq!(get(&world, "/readyz").await?.status, 200, "{outage}");
        let refused = invite(&world).await?;
        assert_eq!(
            (refused.status, &refused.json["code"]),
            (503, &json!("service_unavailable")),
            "{refused:?}"
        );

        world.broker_proxy.resume();
        eventually(
            TIMEOUT,
            async || Ok((get(&world, "/health").await?.json["status"] == "ok").then_some(())),
        )
        .await
        .with_context(|| format!("{outage}\n{}", world.outputs()))?;
        eventually(TIMEOUT, async || Ok((invite(&world).await?.status == 201).then_some(()))).await?;
        world.card(&world.person(1), "authorize").await.context(outage)?;
        world.finish().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn gateway_started_without_lark_serves_tokens() -> anyhow::Result<()> {
    let (mut world, person) = stopped_world_with_token().await?;
    let nowhere = ("LARK_BASE_URL", "http://127.0.0.1:1");
    world.start_degraded(Kind::Gateway, &[nowhere, ("WEBSOCKET_FALLBACK_TO_HTTP", "false")]).await?;
    assert_eq!(world.api.token(world.app_id(), &person).await?.status, 200);
    assert_eq!(get(&world, "/readyz").await?.status, 200);
    let connection = format!("websocket:{}", world.app_id());
    eventually(TIMEOUT, async || {
        let health = get(&world, "/health").await?;
        Ok((health.part(&connection)["state"] == "failing").then_some(()))
    })
    .await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_on_read_only_database_serve_tokens_and_name_cure() -> anyhow::Result<()> {
    let (mut world, person) = stopped_world_with_token().await?;
    let mut connection = world.database.connection().await;
    let name: String = sqlx::query_scalar("select current_database()").fetch_one(&mut connection).await?;
    let read_only = format!("alter database \"{name}\" set default_transaction_read_only = on");
    sqlx::raw_sql(AssertSqlSafe(read_only)).execute(&mut connection).await?;

    // Settings that were not applied yet.
    for kind in SERVICES {
        world.start_degraded(kind, &[("OAUTH_SCOPES", "offline_access im:message")]).await?;
    }
    assert_eq!(world.api.token(world.app_id(), &person).await?.status, 200);
    assert_eq!(get(&world, "/readyz").await?.status, 200);
    let writes = eventually(TIMEOUT, async || {
        let health = get(&world, "/health").await?;
        Ok((health.part("database_writes")["state"] == "failing").then_some(health))
    })
    .await?;
    let reason = writes.part("database_writes")["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("read-only") && reason.contains("default_transaction_read_only"), "{reason}");
    assert_eq!(writes.part("database")["state"], "ok", "{writes:?}");
    assert_eq!(writes.part("registrations")["state"], "failing", "{writes:?}");
    let refused = invite(&world).await?;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("service_unavailable")), "{refused:?}");
    assert!(world.outputs().contains("promote this standby"), "{}", world.outputs());
    assert!(world.metric(Kind::Gateway, "database_writable", "").await? < 0.5);

    // The cure: new connections take writes.
    let writable = format!("alter database \"{name}\" reset default_transaction_read_only");
    sqlx::raw_sql(AssertSqlSafe(writable)).execute(&mut connection).await?;
    let others = "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()";
    sqlx::raw_sql(others).execute(&mut connection).await?;
    connection.close().await?;
    eventually(TIMEOUT, async || Ok((get(&world, "/health").await?.json["status"] == "ok").then_some(())))
        .await
        .with_context(|| world.outputs())?;
    assert_eq!(invite(&world).await?.status, 201);
    world.card(&world.person(1), "authorize").await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_that_lack_a_noted_key_are_not_ready_and_invite_no_person() -> anyhow::Result<()> {
    let world = World::start(Options::default()).await?;
    let asked = world.ask(0).await?;
    world.sim.follow(&world.consent(&asked).await?).await?;
    assert_eq!(world.api.session(asked.session_id, 30).await?.state, SessionState::Completed);
    world.shows(&asked, "green").await?;
    let mut connection = world.database.connection().await;
    let noted: Vec<String> =
        sqlx::query_scalar("select key_id from encryption_key_uses").fetch_all(&mut connection).await?;
    assert_eq!(noted, ["test"]);

    sqlx::query("insert into encryption_key_uses (key_id) values ('gone')").execute(&mut connection).await?;
    let report = eventually(TIMEOUT, async || {
        let ready = get(&world, "/readyz").await?;
        Ok((ready.status == 503).then_some(ready))
    })
    .await?;
    let part = report.part("encryption_keys");
    let reason = part["reason"].as_str().unwrap_or_default();
    assert!(part["state"] == "failing" && reason.contains("gone"), "{report:?}");
    let refused = invite(&world).await?;
    assert_eq!((refused.status, &refused.json["code"]), (503, &json!("service_unavailable")), "{refused:?}");
    let token = world.api.token(world.app_id(), &asked.person).await?;
    assert_eq!(token.status, 200, "what can be read is served: {token:?}");

    sqlx::query("delete from encryption_key_uses where key_id = 'gone'").execute(&mut connection).await?;
    eventually(TIMEOUT, async || Ok((get(&world, "/readyz").await?.status == 200).then_some(()))).await?;
    assert_eq!(invite(&world).await?.status, 201);
    world.card(&world.person(1), "authorize").await?;
    connection.close().await?;
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_spool_is_degraded_health_with_cure_and_nothing_else() -> anyhow::Result<()> {
    let (mut world, person) = stopped_world_with_token().await?;
    for kind in SERVICES {
        world.start_degraded(kind, &[("ESCROW_SPOOL_DIR", "/dev/null/escrow")]).await?;
    }
    let health = eventually(TIMEOUT, async || {
        let health = get(&world, "/health").await?;
        Ok((health.part("escrow_spool")["state"] == "failing").then_some(health))
    })
    .await?;
    assert_eq!(health.json["status"], "degraded", "{health:?}");
    let reason = health.part("escrow_spool")["reason"].as_str().unwrap_or_default().to_owned();
    assert!(reason.contains("ESCROW_SPOOL_DIR") && reason.contains("tokens may be lost"), "{reason}");
    assert_eq!(get(&world, "/readyz").await?.status, 200);
    assert_eq!(world.api.token(world.app_id(), &person).await?.status, 200);
    eventually(TIMEOUT, async || Ok((invite(&world).await?.status == 201).then_some(()))).await?;
    world.card(&world.person(1), "authorize").await?;
    world.finish().await
}
