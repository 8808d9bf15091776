use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures::{FutureExt, future::pending};
use larkauth_contracts::relay;
use larkauth_lark::event::CARD_ACTION;
use larkauth_messaging::{Bus, Offer, Offered};
use larkauth_models::AppId;
use larkauth_telemetry::propagation;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use super::{
    destination::{Destination, Passed, answer},
    foreign::Foreign,
};

/// Events that are published at once. larkauth's own messages use the same connection and must not wait for them.
const AT_ONCE: usize = 64;

/// The events exchange of the broker, where other programs bind their queues.
pub(super) struct Exchange {
    bus: Arc<dyn Bus>,
    permits: Semaphore,
}

impl Exchange {
    pub(super) fn new(bus: Arc<dyn Bus>) -> Self {
        Self { bus, permits: Semaphore::new(AT_ONCE) }
    }
}

#[async_trait]
impl Destination for Exchange {
    fn name(&self) -> &'static str {
        "exchange"
    }

    async fn pass(&self, app_id: &AppId, event: &Foreign, until: Instant) -> Result<Passed, String> {
        let mut headers = BTreeMap::from([(relay::APP_ID_HEADER.to_owned(), app_id.to_string())]);
        propagation::inject_current(&mut headers);
        let routing_key = if event.event_type == CARD_ACTION {
            relay::CARD_ACTION_KEY.to_owned()
        } else {
            relay::event_key(&event.event_type)
        };
        let offer = Offer {
            id: event.event_id.clone(),
            routing_key,
            r#type: event.event_type.clone(),
            content_type: relay::CONTENT_TYPE,
            body: event.payload.clone(),
            headers,
            wants_reply: event.wants_answer(),
        };
        let offered = timeout_at(until, async {
            let _permit = self.permits.acquire().await;
            self.bus.offer(offer).await
        });
        match offered.await {
            Ok(Ok(Offered::Taken(reply))) => Ok(Passed::Taken(reply.map(|mut reply| {
                async move {
                    let left = until.saturating_duration_since(Instant::now());
                    match reply.wait(left).await {
                        Some(body) => answer(&body),
                        // A queue has the click. That its answer is late, or lost with the connection, is no failure.
                        None => pending().await,
                    }
                }
                .boxed()
            }))),
            Ok(Ok(Offered::NotTaken)) => Ok(Passed::NotTaken),
            Ok(Ok(Offered::Unsupported)) => Ok(Passed::Unsupported),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the broker did not confirm in time".to_owned()),
        }
    }
}
