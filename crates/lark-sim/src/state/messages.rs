//! Messages, their faces, and the tokens of card callbacks.

use std::collections::{HashMap, VecDeque};

use larkauth_models::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{State, after, cards, codes::Refusal, ledger::Ledger};
use crate::{
    users::{Found, SimUser, UserStatus, chat_id},
    violations::ViolationKind,
};

/// Why a card got the face that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaceOrigin {
    /// Sent so.
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
    /// Why.
    pub origin: FaceOrigin,
    /// Since when, by the simulator's clock.
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
    /// When it was sent.
    pub sent_at: Timestamp,
    /// Taken back by the sender.
    pub recalled: bool,
    /// Deleted.
    pub deleted: bool,
    /// All faces, oldest first; never empty.
    pub faces: Vec<Face>,
}

impl Message {
    /// The face that people see now.
    #[must_use]
    pub fn card(&self) -> &Value {
        self.faces.last().map_or(&Value::Null, |face| &face.card)
    }

    /// The buttons of the present face, in reading order.
    #[must_use]
    pub fn buttons(&self) -> Vec<cards::Button> {
        cards::buttons(self.card())
    }

    fn show(&mut self, card: Value, origin: FaceOrigin, at: Timestamp) {
        const FACES_KEPT: usize = 50;
        if self.faces.len() == FACES_KEPT {
            self.faces.remove(1);
        }
        self.faces.push(Face { card, origin, at });
    }
}

/// The token of one card callback.
struct CardToken {
    message_id: String,
    app_id: String,
    expires_at: Timestamp,
    uses: u32,
    answered: bool,
}

/// All messages.
pub(crate) struct Messages {
    by_id: Ledger<Message>,
    /// The newest message ids by the receiver's `open_id`.
    by_receiver: HashMap<String, VecDeque<String>>,
    /// (message, since when) by application and uuid.
    by_uuid: Ledger<(String, Timestamp)>,
    card_tokens: Ledger<CardToken>,
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

    fn insert(&mut self, message: Message) {
        const KEPT: usize = 500;
        let ids = self.by_receiver.entry(message.open_id.clone()).or_default();
        if ids.len() == KEPT {
            ids.pop_front();
        }
        ids.push_back(message.message_id.clone());
        self.by_id.insert(message.message_id.clone(), message);
    }

    /// The messages of one receiver, oldest first.
    pub(crate) fn of(&self, open_id: &str) -> impl Iterator<Item = &Message> {
        self.by_receiver.get(open_id).into_iter().flatten().filter_map(|id| self.by_id.get(id))
    }

    /// Oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Message> {
        self.by_id.values()
    }
}

/// What came to the endpoint that sends.
pub(crate) struct SendRequest<'a> {
    pub(crate) app_id: &'a str,
    pub(crate) id_type: &'a str,
    pub(crate) receive_id: &'a str,
    pub(crate) msg_type: &'a str,
    pub(crate) content: &'a str,
    pub(crate) uuid: Option<&'a str>,
}

/// A sent message, and whether it is new (and not the one of the same uuid).
pub(crate) struct Sent {
    pub(crate) message: Message,
    pub(crate) new: bool,
}

const INVALID: Refusal = Refusal::new(400, 230_001, "Your request contains an invalid request parameter.");

impl State {
    pub(crate) fn send_message(
        &mut self,
        now: Timestamp,
        request: &SendRequest<'_>,
    ) -> Result<Sent, Refusal> {
        let app_id = request.app_id;
        if request.msg_type != "interactive" || request.uuid.is_some_and(|uuid| uuid.len() > 50) {
            return Err(INVALID);
        }
        let user = match self.users.find(app_id, request.id_type, request.receive_id) {
            Found::User(user) => user,
            Found::Nobody => return Err(Refusal::new(400, 230_034, "The receive_id is invalid.")),
            Found::OtherApp => return Err(Refusal::new(400, 99_992_361, "open_id cross app")),
            Found::BadType => return Err(Refusal::new(400, 99_992_402, "field validation failed")),
        };
        check_receiver(user)?;
        let (union_id, open_id) = (user.union_id.clone(), self.users.open_id(app_id, user));
        let card = self.read_card(now, app_id, request.content)?;
        let uuid = request.uuid.filter(|uuid| !uuid.is_empty()).map(|uuid| format!("{app_id}/{uuid}"));
        if let Some(message) = uuid.as_ref().and_then(|uuid| self.sent_before(now, uuid)) {
            return Ok(Sent { message, new: false });
        }
        let limit = self.limits.messages_per_user;
        self.limit_each(&format!("messages to one person/{app_id}/{union_id}"), app_id, now, limit)?;
        let message = Message {
            message_id: self.fresh_id("om_"),
            app_id: app_id.to_owned(),
            open_id,
            chat_id: chat_id(app_id, &union_id),
            union_id,
            sent_at: now,
            recalled: false,
            deleted: false,
            faces: vec![Face { card, origin: FaceOrigin::Sent, at: now }],
        };
        if let Some(uuid) = uuid {
            self.messages.by_uuid.insert(uuid, (message.message_id.clone(), now));
        }
        self.messages.insert(message.clone());
        Ok(Sent { message, new: true })
    }

    fn sent_before(&self, now: Timestamp, uuid: &str) -> Option<Message> {
        let (message_id, at) = self.messages.by_uuid.get(uuid)?;
        (now < after(*at, self.lifetimes.message_uuid)).then(|| self.messages.get(message_id).cloned())?
    }

    /// Parses and checks `content`, the card JSON as a text.
    fn read_card(&mut self, now: Timestamp, app_id: &str, content: &str) -> Result<Value, Refusal> {
        if content.len() > self.limits.card_bytes {
            self.violations.add(
                now,
                ViolationKind::MessageTooLarge,
                app_id,
                format!("{} bytes", content.len()),
            );
            return Err(Refusal::new(400, 230_025, "The length of the message content reaches its limit."));
        }
        let card: Value = serde_json::from_str(content).map_err(|_| INVALID)?;
        cards::render(&card, &self.templates)
    }

    /// `PATCH` of a message.
    pub(crate) fn update_message(
        &mut self,
        now: Timestamp,
        app_id: &str,
        message_id: &str,
        content: &str,
    ) -> Result<(), Refusal> {
        let message =
            self.messages.get(message_id).filter(|message| message.app_id == app_id).ok_or(INVALID)?;
        if message.recalled {
            return Err(Refusal::new(400, 230_011, "The message was withdrawn."));
        }
        if message.deleted {
            return Err(Refusal::new(400, 230_110, "The message is deleted."));
        }
        if now >= after(message.sent_at, self.lifetimes.message_update) {
            return Err(Refusal::new(400, 230_031, "Message can only be updated within fourteen days."));
        }
        let limit = self.limits.updates_per_message;
        self.limit_each(&format!("updates of one message/{message_id}"), app_id, now, limit)?;
        let card = self.read_card(now, app_id, content)?;
        let Some(message) = self.messages.get_mut(message_id) else { return Err(INVALID) };
        check_change(message.card(), &card)?;
        if !(cards::is_shared(message.card()) && cards::is_shared(&card)) {
            return Err(Refusal::new(400, 230_001, "Both cards must carry config.update_multi: true."));
        }
        message.show(card, FaceOrigin::Update, now);
        Ok(())
    }

    /// A new token for a callback of this message.
    pub(crate) fn issue_card_token(&mut self, now: Timestamp, app_id: &str, message_id: &str) -> String {
        let token = self.issue("c-", 40);
        let entry = CardToken {
            message_id: message_id.to_owned(),
            app_id: app_id.to_owned(),
            expires_at: after(now, self.lifetimes.card_token),
            uses: 0,
            answered: false,
        };
        self.messages.card_tokens.insert(token.clone(), entry);
        token
    }

    /// The callback of this token is over: answered, or given up.
    pub(crate) fn callback_over(&mut self, token: &str) {
        if let Some(token) = self.messages.card_tokens.get_mut(token) {
            token.answered = true;
        }
    }

    /// Delayed update with the token of a callback.
    pub(crate) fn delayed_update(
        &mut self,
        now: Timestamp,
        app_id: &str,
        token: &str,
        card: &Value,
    ) -> Result<(), Refusal> {
        const USES: u32 = 2;
        let known = self.messages.card_tokens.get_mut(token).filter(|known| known.app_id == app_id);
        let known = known.ok_or(Refusal::new(400, 10_002, "invalid token"))?;
        if now >= known.expires_at || known.uses >= USES {
            return Err(Refusal::new(400, 10_002, "token expired or used up"));
        }
        known.uses += 1;
        let (message_id, answered) = (known.message_id.clone(), known.answered);
        if !answered {
            self.violations.add(now, ViolationKind::CardUpdateBeforeAnswer, app_id, message_id);
            return Err(Refusal::new(400, 10_002, "the callback is not answered yet"));
        }
        let card = self.read_card(now, app_id, &card.to_string())?;
        self.show(now, &message_id, card, FaceOrigin::DelayedUpdate)
    }

    /// The card in a callback's answer: `{"type":"raw"|"template","data":{…}}`.
    pub(crate) fn apply_answer(
        &mut self,
        now: Timestamp,
        app_id: &str,
        message_id: &str,
        card: &Value,
    ) -> Result<(), Refusal> {
        let content = match card["type"].as_str() {
            Some("raw") => &card["data"],
            Some("template") => card,
            _ => return Err(Refusal::new(200, 200_672, "the answer's card is neither raw nor a template")),
        };
        let card = self.read_card(now, app_id, &content.to_string())?;
        self.show(now, message_id, card, FaceOrigin::Answer)
    }

    fn show(
        &mut self,
        now: Timestamp,
        message_id: &str,
        card: Value,
        origin: FaceOrigin,
    ) -> Result<(), Refusal> {
        let Some(message) = self.messages.get_mut(message_id) else { return Err(INVALID) };
        if message.recalled {
            return Err(Refusal::new(400, 230_011, "The message was withdrawn."));
        }
        check_change(message.card(), &card)?;
        message.show(card, origin, now);
        Ok(())
    }
}

/// A card cannot change between version 1 and 2.
fn check_change(old: &Value, new: &Value) -> Result<(), Refusal> {
    if cards::is_v2(old) == cards::is_v2(new) {
        Ok(())
    } else {
        Err(Refusal::new(
            400,
            230_099,
            "Failed to create card content, ErrCode: 200830: card schema V2 and V1 do not mix",
        ))
    }
}

fn check_receiver(user: &SimUser) -> Result<(), Refusal> {
    match user.status {
        UserStatus::Active => Ok(()),
        UserStatus::OutOfRange | UserStatus::Frozen | UserStatus::NotRegistered => {
            Err(Refusal::new(400, 230_013, "Bot has NO availability to this user."))
        }
        UserStatus::Resigned => Err(Refusal::new(400, 230_029, "User has resigned.")),
        UserStatus::BotStopped => {
            Err(Refusal::new(400, 230_053, "The user has stopped the bot from sending messages."))
        }
    }
}
