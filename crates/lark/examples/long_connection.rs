//! Receives an application's events over the long connection and prints them, until Ctrl-C.
//!
//! ```sh
//! LARK_APP_ID=cli_… LARK_APP_SECRET=… cargo run -p larkauth-lark --example long_connection
//! ```
//!
//! | variable | meaning |
//! | --- | --- |
//! | `LARK_APP_ID`, `LARK_APP_SECRET` | the application's credentials, from the developer console |
//! | `LARK_BRAND` | `feishu` (default) or `lark` |
//! | `LARK_BASE_URL`, `LARK_ACCOUNTS_URL` | hosts in place of the brand's, such as a simulator's |

#![expect(clippy::print_stdout, reason = "the example's output is for the terminal")]

use std::{
    env::{VarError, var},
    error::Error,
    sync::Arc,
};

use larkauth_lark::{
    CardAction, Endpoints, Event, HttpTimeouts, LarkClient, LarkClientOptions, LocalRateLimiter, NoObserver,
    card::{ToastKind, ToastText, answer, toast},
    event::CARD_ACTION,
    http_client,
    long_connection::{
        Answer, ConnectionState, LongConnection, LongConnectionConfig, LongConnectionObserver, Push,
        PushHandler,
    },
};
use larkauth_models::{AppId, Brand, SecretString, SystemClock};
use larkauth_net::Network;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Prints every event and answers clicks on cards with a toast.
struct Printer;

#[async_trait::async_trait]
impl PushHandler for Printer {
    async fn handle(&self, push: Push) -> Answer {
        let Ok(event) = Event::parse(&push.payload) else { return Answer::Failed };
        println!("event {} of type {}", event.event_id, event.event_type);
        if event.event_type != CARD_ACTION {
            return Answer::Ok(None);
        }
        match CardAction::from_event(&event) {
            Ok(action) => {
                println!("click by {}", action.operator.open_id);
                Answer::Ok(Some(answer(Some(toast(ToastKind::Info, ToastText::Working)), None)))
            }
            Err(error) => {
                println!("unreadable click: {error}");
                Answer::Failed
            }
        }
    }
}

/// Prints every change of the connection's state.
struct StatePrinter;

impl LongConnectionObserver for StatePrinter {
    fn state_changed(&self, _: &AppId, state: &ConnectionState) {
        println!("connection: {}", state.as_str());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let brand: Brand = optional("LARK_BRAND")?.map_or(Ok(Brand::Feishu), |text| text.parse())?;
    let endpoints = Endpoints {
        base_url: optional("LARK_BASE_URL")?.as_deref().unwrap_or(brand.base_url()).parse()?,
        accounts_url: optional("LARK_ACCOUNTS_URL")?.as_deref().unwrap_or(brand.accounts_url()).parse()?,
    };
    let app_id = AppId::new(required("LARK_APP_ID")?)?;
    let app_secret = SecretString::from(required("LARK_APP_SECRET")?);
    let http = http_client(&HttpTimeouts::default(), &Network::default())?;

    // The client: a first call shows whether Lark accepts the credentials.
    let client = LarkClient::new(LarkClientOptions {
        http: http.clone(),
        endpoints: endpoints.clone(),
        app_id: app_id.clone(),
        app_secret: app_secret.clone(),
        clock: Arc::new(SystemClock),
        observer: Arc::new(NoObserver),
        rate_limiter: Arc::new(LocalRateLimiter::default()),
    });
    client.tenant_access_token().await.map_err(|error| error.to_string())?;
    println!("Lark accepts the credentials of {app_id}");

    // The long connection: one task owns it, and the token stops it.
    let config = LongConnectionConfig::default();
    let connection =
        LongConnection::new(http, endpoints.base_url, app_id, app_secret, config, Arc::new(Printer))
            .with_observer(Arc::new(StatePrinter));
    let shutdown = CancellationToken::new();
    let tasks = TaskTracker::new();
    tasks.spawn(connection.run(shutdown.clone()));
    tasks.close();
    tokio::signal::ctrl_c().await?;
    shutdown.cancel();
    tasks.wait().await;
    Ok(())
}

fn required(name: &str) -> Result<String, String> {
    var(name).map_err(|error| format!("{name}: {error}"))
}

fn optional(name: &str) -> Result<Option<String>, VarError> {
    match var(name) {
        Ok(value) => Ok(Some(value)),
        Err(VarError::NotPresent) => Ok(None),
        Err(error) => Err(error),
    }
}
