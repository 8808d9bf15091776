//! The page's content: chats and health, published as one document after each change.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use larkauth_lark_sim::{FaceOrigin, Message, Sim};
use larkauth_models::Timestamp;
use larkauth_telemetry::HealthPart;
use serde::Serialize;
use serde_json::Value;
use tokio::{sync::watch, time::Instant};

use super::{breakage::Breakage, feed::Feed, stage::ServiceHealth};

/// The document as JSON.
pub(crate) type Document = Arc<str>;

/// Interval between two reads of the health. Changes at the simulator show at once.
const HEALTH_INTERVAL: Duration = Duration::from_millis(500);
/// Interval between two counts of the dead letters.
const COUNT_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of messages shown of each chat, the newest ones.
const MAX_MESSAGES: usize = 20;

#[derive(Serialize)]
struct State {
    app: Application,
    people: Vec<Person>,
    /// Messages by the `open_id` of the person, oldest first.
    chats: BTreeMap<String, Vec<Card>>,
    status: Status,
}

#[derive(Serialize)]
struct Application {
    app_id: String,
    name: String,
    gateway: String,
}

#[derive(Serialize)]
struct Person {
    open_id: String,
    union_id: String,
    name: String,
    en_name: String,
}

#[derive(Serialize)]
struct Card {
    message_id: String,
    sent_at: Timestamp,
    /// Number of its faces so far.
    faces: usize,
    card: Value,
}

#[derive(Serialize)]
struct Status {
    ready: bool,
    connections: usize,
    dead_letters: Option<u64>,
    parts: Vec<HealthPart>,
    broken: Vec<Breakage>,
}

/// Publishes the document from the state of the simulator and the services.
pub(crate) struct Publisher {
    pub(crate) sim: Sim,
    pub(crate) app_id: String,
    pub(crate) gateway: String,
    pub(crate) health: ServiceHealth,
    pub(crate) feed: Arc<Feed>,
}

impl Publisher {
    /// Publishes the document until cancelled.
    pub(crate) async fn run(self, publish: watch::Sender<Document>) {
        let mut faces = BTreeMap::new();
        let mut dead_letters = self.health.dead_letters().await;
        let mut counted = Instant::now();
        loop {
            if counted.elapsed() >= COUNT_INTERVAL {
                dead_letters = self.health.dead_letters().await;
                counted = Instant::now();
            }
            let messages = self.sim.messages();
            self.add_new_faces(&messages, &mut faces);
            let state = self.state(messages, dead_letters, self.health.parts().await);
            if let Ok(document) = serde_json::to_string(&state) {
                publish.send_if_modified(|known| {
                    let before = std::mem::replace(known, document.into());
                    before != *known
                });
            }
            let changed = |sim: &Sim| (count(&sim.messages()) != count_of(&faces)).then_some(());
            // A timeout is no failure: health is read again.
            let _ = self.sim.wait_until(HEALTH_INTERVAL, changed).await;
        }
    }

    /// Adds new faces of cards to the feed.
    fn add_new_faces(&self, messages: &[Message], known: &mut BTreeMap<String, usize>) {
        for message in messages {
            let before = known.insert(message.message_id.clone(), message.faces.len()).unwrap_or(0);
            for face in message.faces.iter().skip(before) {
                let name = match face.origin {
                    FaceOrigin::Sent => "lark.card.sent",
                    FaceOrigin::Answer => "lark.card.answered",
                    FaceOrigin::Update | FaceOrigin::DelayedUpdate => "lark.card.updated",
                };
                let colour = face.card["header"]["template"].as_str().unwrap_or_default().to_owned();
                self.feed.lark(name, [("colour", colour), ("message_id", message.message_id.clone())]);
            }
        }
    }

    fn state(&self, messages: Vec<Message>, dead_letters: Option<u64>, parts: Vec<HealthPart>) -> State {
        let mut chats: BTreeMap<String, Vec<Card>> = BTreeMap::new();
        for message in messages {
            let chat = chats.entry(message.open_id.clone()).or_default();
            if chat.len() == MAX_MESSAGES {
                chat.remove(0);
            }
            chat.push(Card {
                card: message.card().clone(),
                faces: message.faces.len(),
                message_id: message.message_id,
                sent_at: message.sent_at,
            });
        }
        let people = self.sim.users().into_iter().map(|user| Person {
            open_id: self.sim.open_id(&self.app_id, &user),
            union_id: user.union_id,
            name: user.name,
            en_name: user.en_name,
        });
        State {
            app: Application {
                app_id: self.app_id.clone(),
                name: self.sim.app(&self.app_id).map(|app| app.app_name).unwrap_or_default(),
                gateway: self.gateway.clone(),
            },
            people: people.collect(),
            chats,
            status: Status {
                ready: parts.iter().all(HealthPart::is_ok),
                connections: self.sim.connections(&self.app_id),
                dead_letters,
                parts,
                broken: Breakage::present(&self.sim),
            },
        }
    }
}

fn count(messages: &[Message]) -> usize {
    messages.iter().map(|message| message.faces.len()).sum()
}

fn count_of(faces: &BTreeMap<String, usize>) -> usize {
    faces.values().sum()
}
