//! Messages, their faces, and the tokens of card callbacks.

use std::collections::{HashMap, VecDeque};

use larkauth_models::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{cards, ledger::Ledger};

/// Origin of a card's face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaceOrigin {
    /// The message as sent.
    Sent,
    /// The answer of a callback.
    Answer,
    /// An update of the message.
    Update,
    /// A delayed update.
    DelayedUpdate,
}

/// One face that a card had.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Face {
    /// Card JSON, templates filled in.
    pub card: Value,
    /// Its origin.
    pub origin: FaceOrigin,
    /// Time of the change, by the simulator's clock.
    pub at: Timestamp,
}

/// A message as its receiver sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Message {
    /// `om_…`.
    pub message_id: String,
    /// The sender.
    pub app_id: String,
    /// The receiver, as the sender sees them.
    pub open_id: String,
    /// The receiver's `union_id`.
    pub union_id: String,
    /// `oc_…`.
    pub chat_id: String,
    /// Time of sending.
    pub sent_at: Timestamp,
    /// Recalled by the sender.
    pub recalled: bool,
    /// Deleted.
    pub deleted: bool,
    /// All faces, oldest first; never empty.
    pub faces: Vec<Face>,
}

impl Message {
    /// Returns the face that people see now.
    #[must_use]
    pub fn card(&self) -> &Value {
        self.faces.last().map_or(&Value::Null, |face| &face.card)
    }

    /// Returns the buttons of the present face, in reading order.
    #[must_use]
    pub fn buttons(&self) -> Vec<cards::Button> {
        cards::buttons(self.card())
    }

    pub(crate) fn show(&mut self, card: Value, origin: FaceOrigin, at: Timestamp) {
        const MAX_FACES: usize = 50;
        if self.faces.len() == MAX_FACES {
            self.faces.remove(1);
        }
        self.faces.push(Face { card, origin, at });
    }
}

/// The token of one card callback.
pub(crate) struct CardToken {
    pub(crate) message_id: String,
    pub(crate) app_id: String,
    pub(crate) expires_at: Timestamp,
    pub(crate) uses: u32,
    pub(crate) answered: bool,
}

/// All messages.
pub(crate) struct Messages {
    pub(crate) by_id: Ledger<Message>,
    /// The newest message ids by the receiver's `open_id`.
    pub(crate) by_receiver: HashMap<String, VecDeque<String>>,
    /// (message, time of sending) by application and uuid.
    pub(crate) by_uuid: Ledger<(String, Timestamp)>,
    pub(crate) card_tokens: Ledger<CardToken>,
}

impl Default for Messages {
    fn default() -> Self {
        Self {
            by_id: Ledger::new(20_000),
            by_receiver: HashMap::new(),
            by_uuid: Ledger::new(20_000),
            card_tokens: Ledger::new(20_000),
        }
    }
}

impl Messages {
    pub(crate) fn get(&self, message_id: &str) -> Option<&Message> {
        self.by_id.get(message_id)
    }

    pub(crate) fn get_mut(&mut self, message_id: &str) -> Option<&mut Message> {
        self.by_id.get_mut(message_id)
    }

    pub(crate) fn insert(&mut self, message: Message) {
        const MAX_MESSAGES: usize = 500;
        let ids = self.by_receiver.entry(message.open_id.clone()).or_default();
        if ids.len() == MAX_MESSAGES {
            ids.pop_front();
        }
        ids.push_back(message.message_id.clone());
        self.by_id.insert(message.message_id.clone(), message);
    }

    /// Returns the messages of one receiver, oldest first.
    pub(crate) fn of(&self, open_id: &str) -> impl Iterator<Item = &Message> {
        self.by_receiver.get(open_id).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    /// Iterates from the oldest.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Message> {
        self.by_id.values()
    }
}
