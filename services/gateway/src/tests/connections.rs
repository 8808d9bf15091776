use std::time::Duration;

use larkauth_config::WebsocketSettings;
use larkauth_messaging::testing::eventually;
use larkauth_storage::{Applications, testing::cipher_of};
use larkauth_telemetry::{Health, HealthStatus};
use tokio_util::sync::CancellationToken;

use super::world::{APP, World, app_id, application, now};
use crate::connections::ConnectionSupervisor;
use larkauth_storage::testing::act;

#[tokio::test]
async fn supervisor_connects_enabled_applications_only() {
    let world = World::new().await;
    let (health, stopping) = (Health::new(world.context.clock().clone()), CancellationToken::new());
    // No server listens where Lark should be, so the first attempt fails and HTTP callbacks take over.
    let settings = WebsocketSettings {
        max_reconnect_retries: 1,
        heartbeat_interval: Duration::from_secs(30),
        fallback_to_http: true,
    };
    let connections = ConnectionSupervisor::new(
        world.context.clone(),
        &settings,
        false,
        health.clone(),
        world.callbacks.clone(),
    );
    let is_fallen_back = || {
        let metrics = world.context.metrics().render();
        metrics.contains(&format!("websocket_fallback_active{{app_id=\"{APP}\"}} 1"))
    };
    let part = |name: String| {
        let parts = health.report().parts;
        parts.into_iter().find(|part| part.name == name).map(|part| part.is_ok())
    };
    let websocket = |app: &str| part(format!("websocket:{app}"));
    assert_eq!(health.report().status, HealthStatus::Degraded);

    let watch = async {
        eventually("HTTP callbacks take over", async || is_fallen_back()).await;
        eventually("health follows", async || websocket(APP) == Some(true)).await;
        let metrics = world.context.metrics().render();
        assert!(metrics.contains(&format!("websocket_fallback_active{{app_id=\"{APP}\"}} 1")), "{metrics}");
        assert!(metrics.contains(&format!("websocket_connection_status{{app_id=\"{APP}\"}} 0")), "{metrics}");

        // Another application is added whose callbacks cannot be verified: it is deaf.
        let mute = "cli_aaaaaaaaaaaaaaaa";
        let registration =
            larkauth_models::Application { verification_token: None, encrypt_key: None, ..application(mute) };
        world.store.put_application(&registration, &act(now())).await.unwrap();
        world.store.set_application_enabled(&app_id(), false, &act(now())).await.unwrap();
        eventually("the application that is off is not missed", async || websocket(APP).is_none()).await;
        eventually("the other one is deaf", async || {
            health
                .report()
                .parts
                .iter()
                .any(|part| part.reason.as_ref().is_some_and(|why| why.contains("encrypt key")))
        })
        .await;
        assert!(!is_fallen_back());
        let metrics = world.context.metrics().render();
        assert!(metrics.contains(&format!("websocket_fallback_active{{app_id=\"{mute}\"}} 0")), "{metrics}");
        assert!(
            !world
                .context
                .metrics()
                .render()
                .contains(&format!("websocket_connection_status{{app_id=\"{APP}\"}}"))
        );

        // An application whose secret cannot be decrypted has no connection; the others keep theirs.
        let (options, cipher) = (world.database.options(), cipher_of(&[("other", 1)]));
        let elsewhere = larkauth_storage_postgres::PgStore::connect(&options, cipher).await.unwrap();
        elsewhere.put_application(&application(mute), &act(now())).await.unwrap();
        world.store.set_application_enabled(&app_id(), true, &act(now())).await.unwrap();
        eventually("the first is back", async || is_fallen_back()).await;
        eventually("the other is gone", async || websocket(mute).is_none()).await;
        stopping.cancel();
    };
    let (kept, ()) = tokio::join!(Box::pin(connections.run(stopping.clone())), watch);
    kept.unwrap();
}
