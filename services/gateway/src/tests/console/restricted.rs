//! A key that is restricted to applications sees nothing of the others.

use larkauth_models::{AuthMethod, KeyScope};
use larkauth_storage::testing::act;

use super::browser::{Browser, forms, pages};
use crate::tests::world::{APP, PERSON, World, application, now};

const OTHER: &str = "cli_fedcba9876543210";

#[tokio::test]
async fn restricted_key_sees_and_changes_nothing_of_other_applications() {
    let world = World::new().await;
    world.store.put_application(&application(OTHER), &act(now())).await.unwrap();
    let session = world.session(AuthMethod::WebsocketCard).await;
    world.complete(&session, "u-access-token", "Li Lei").await;
    let app = APP.parse().unwrap();
    world.store.set_application_frozen(&app, Some("20002"), now()).await.unwrap();
    let health = &world.state.as_ref().unwrap().health;
    let (connection, registrations) =
        (health.register(format!("websocket:{APP}")), health.register("registrations"));
    connection.set_not_ready("deaf");
    registrations.set_not_ready(format!("{APP} cannot be decrypted"));

    let (mut browser, _) = Browser::with_scopes(&world, &[KeyScope::Everything], &[OTHER]).await;
    for page in ["", "sessions", "people", "horizon", "audit", "apps"] {
        let answer = browser.get(page).await;
        assert_eq!(answer.status, 200, "{page}: {}", answer.text);
        for foreign in [APP, PERSON, "Li Lei", "20002", "deaf"] {
            assert!(!answer.text.contains(foreign), "{page} shows {foreign}");
        }
        assert!(answer.text.contains(OTHER), "{page}");
    }
    for page in pages(&session.id.to_string()) {
        let names_other = page.contains(APP) && !page.starts_with("enable") && !page.starts_with("disable");
        let is_foreign = page.starts_with("session?") || page.starts_with("person?");
        let answer = browser.get(&page).await;
        assert!(!answer.text.contains("Li Lei"), "{page}");
        if is_foreign || page == "dead-letters" {
            assert!([403, 404].contains(&answer.status.as_u16()), "{page}: {}", answer.status);
        }
        assert!(!names_other || !answer.text.contains("offline_access"), "{page}");
    }
    for page in ["sessions", "people", "horizon", "audit"] {
        assert_eq!(browser.get(&format!("{page}?app_id={APP}")).await.status, 403, "{page}");
    }
    for (page, fields) in forms().into_iter().filter(|(page, _)| *page != "logout") {
        let refused = browser.submit(page, &fields).await;
        assert_eq!(refused.status, 403, "{page}: {}", refused.text);
    }
    assert!(world.store.application(&app).await.unwrap().unwrap().enabled);
}
