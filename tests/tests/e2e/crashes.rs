//! Workers that are killed again and again, and a broker that is away while sessions end.

use anyhow::ensure;
use futures::future::try_join_all;
use larkauth_lark_sim::{Effect, Endpoint, Fault, SimConfig};
use larkauth_models::SessionState;
use larkauth_tests::{BusTap, Kind, Options, TIMEOUT, World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn worker_killed_seven_times_sends_every_card_and_leaves_no_dead_letter() -> anyhow::Result<()> {
    const PEOPLE: usize = 60;
    let sim = SimConfig::default().with_users(60);
    let mut world = World::start(Options { sim, ..Options::default() }).await?;
    world.take(Kind::AuthWorker)?.kill().await?;
    let invited =
        try_join_all((0..PEOPLE).map(async |n| world.api.invite(world.app_id(), &world.person(n)).await))
            .await?;
    let sends = |world: &World| world.sim.stats().calls(Endpoint::MessageSend);
    for kill in 0..7 {
        // Lark does not answer, so that the kill hits messages that have begun.
        world.sim.faults().push(Fault::at(Endpoint::MessageSend, Effect::Hang).until_cleared());
        let before = sends(&world);
        world.start_service(Kind::AuthWorker, &[]).await?;
        eventually(TIMEOUT, async || Ok((sends(&world) > before).then_some(()))).await?;
        let output = world.take(Kind::AuthWorker)?.kill().await?;
        ensure!(!output.contains("goes to the dead letters"), "kill {kill}:\n{output}");
        world.sim.faults().clear();
    }
    world.start_service(Kind::AuthWorker, &[]).await?;
    for (n, session) in invited.iter().enumerate() {
        world.card(&world.person(n), &session.session_id.to_string()).await?;
    }
    assert_eq!(world.sim.messages().len(), PEOPLE, "one card each");
    let bus = world.bus.bus().await;
    assert_eq!(bus.dead_letter_depth().await?, 0);
    bus.close().await;
    for session in &invited {
        assert_eq!(world.api.session(session.session_id, 0).await?.state, SessionState::Pending);
    }
    world.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_ends_while_broker_is_away_is_announced_afterwards() -> anyhow::Result<()> {
    let env = vec![("AUTH_SESSION_EXPIRY_SECONDS", "15".to_owned())];
    let world = World::start(Options { env, ..Options::default() }).await?;
    let asked = world.ask(0).await?;
    let tap = BusTap::start(&world.bus).await?;
    world.broker_proxy.down();
    let ended = world.api.session(asked.session_id, 30).await?;
    assert_eq!(ended.state, SessionState::Expired);
    let announced = async || {
        let published = tap.published().await?;
        anyhow::Ok(published.into_iter().filter(|message| message.routing_key == "session.expired").count())
    };
    assert_eq!(announced().await?, 0, "the broker is away");
    world.broker_proxy.resume();
    // Up to 16 s until the refresher connects again, and a tick of the sweep.
    eventually(2 * TIMEOUT, async || Ok((announced().await? > 0).then_some(()))).await?;
    world.shows(&asked, "grey").await?;
    world.finish().await
}
