//! What is revoked at one gateway is refused by every other one a second later.

use std::time::Duration;

use anyhow::{Context, ensure};
use larkauth_tests::{Api, Kind, Options, World};
use tokio::time::Instant;

/// Longest time for which another process may serve what was revoked.
const A_SECOND: Duration = Duration::from_secs(1);

/// Reads until the token is refused, and checks that no read that began a second after the revocation was answered with it.
async fn refused_within_a_second(
    api: &Api,
    world: &World,
    person: &str,
    revoked_at: Instant,
) -> anyhow::Result<u16> {
    loop {
        let began_at = Instant::now();
        let answer = api.token(world.app_id(), person).await?;
        if answer.status != 200 {
            return Ok(answer.status);
        }
        let late = began_at - revoked_at;
        ensure!(late < A_SECOND, "served {late:?} after the revocation\n{}", world.outputs());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn token_revoked_at_one_gateway_is_refused_by_another_within_a_second() -> anyhow::Result<()> {
    let mut world = World::start(Options::default()).await?;
    world.start_service(Kind::Gateway, &[("HTTP_ADDR", "127.0.0.1:0")]).await?;
    let mut other = world.api.clone();
    other.base = format!("http://{}", world.services.last_mut().context("a gateway")?.address().await?);
    for n in 0..3 {
        let asked = world.ask(n).await?;
        world.sim.follow(&world.consent(&asked).await?).await?;
        world.shows(&asked, "green").await?;
        let person = world.person(n);
        // Kept in memory, and renewed there for as long as its changes are followed.
        for _ in 0..20 {
            ensure!(other.token(world.app_id(), &person).await?.status == 200);
            tokio::task::yield_now().await;
        }
        let path = format!("/v1/apps/{}/users/{person}/token", world.app_id());
        let revoked = world.api.send(reqwest::Method::DELETE, &path, None).await?;
        let revoked_at = Instant::now();
        ensure!(revoked.status == 204, "{revoked:?}");
        ensure!(refused_within_a_second(&other, &world, &person, revoked_at).await? == 404);
        ensure!(
            world.api.token(world.app_id(), &person).await?.status == 404,
            "at once where it was revoked"
        );
    }
    world.finish().await
}
