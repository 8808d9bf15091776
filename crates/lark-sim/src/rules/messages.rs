//! Sending and updating messages, and the cards in answers of callbacks.

use larkauth_models::Timestamp;
use serde_json::Value;

use crate::{
    state::{
        State, after, cards,
        codes::Refusal,
        messages::{CardToken, Face, FaceOrigin, Message},
    },
    users::{Found, SimUser, UserStatus, chat_id},
    violations::ViolationKind,
};

/// A request of the endpoint that sends messages.
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
            Found::Unknown => return Err(Refusal::new(400, 230_034, "The receive_id is invalid.")),
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

    /// Handles the `PATCH` of a message.
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

    /// Issues a token for a callback of this message.
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

    /// Marks the callback of this token as ended, by an answer or by its deadline.
    pub(crate) fn callback_over(&mut self, token: &str) {
        if let Some(token) = self.messages.card_tokens.get_mut(token) {
            token.answered = true;
        }
    }

    /// Handles a delayed update with the token of a callback.
    pub(crate) fn delayed_update(
        &mut self,
        now: Timestamp,
        app_id: &str,
        token: &str,
        card: &Value,
    ) -> Result<(), Refusal> {
        const MAX_USES: u32 = 2;
        let known = self.messages.card_tokens.get_mut(token).filter(|known| known.app_id == app_id);
        let known = known.ok_or(Refusal::new(400, 10_002, "invalid token"))?;
        if now >= known.expires_at || known.uses >= MAX_USES {
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

    /// Shows the card of a callback's answer: `{"type":"raw"|"template","data":{…}}`.
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

/// Fails when a card would change between version 1 and 2.
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
        UserStatus::Resigned | UserStatus::Exited => Err(Refusal::new(400, 230_029, "User has resigned.")),
        UserStatus::BotStopped => {
            Err(Refusal::new(400, 230_053, "The user has stopped the bot from sending messages."))
        }
    }
}
