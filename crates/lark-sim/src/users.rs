use std::{collections::HashMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// A person of the simulated company.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct SimUser {
    /// The `open_id` in the first application. Every other application has another one.
    pub open_id: String,
    /// The id across applications, and the simulator's key of this person.
    pub union_id: String,
    /// Company-wide id; `None` when the application lacks the permission.
    #[serde(default)]
    pub user_id: Option<String>,
    /// Chinese name.
    pub name: String,
    /// English name.
    pub en_name: String,
    /// `None` when the application lacks the permission.
    #[serde(default)]
    pub email: Option<String>,
    /// `None` when the application lacks the permission.
    #[serde(default)]
    pub mobile: Option<String>,
    /// Key of the company.
    pub tenant_key: String,
    /// The person's status.
    #[serde(default)]
    pub status: UserStatus,
    /// The person's reaction to a new card. `None`: that of `SimConfig::behaviour`.
    #[serde(default)]
    pub behaviour: Option<Behaviour>,
}

impl SimUser {
    /// Returns the n-th generated person, always the same for the same number.
    #[must_use]
    pub fn numbered(n: u32) -> Self {
        Self {
            open_id: format!("ou_{}", digest(&["open", &n.to_string()])),
            union_id: format!("on_{}", digest(&["union", &n.to_string()])),
            user_id: Some(digest(&["user", &n.to_string()])[..8].to_owned()),
            name: format!("演示用户 {n}"),
            en_name: format!("Demo User {n}"),
            email: Some(format!("demo.user.{n}@mail.example.com")),
            // No digits that the fraction of a measured duration could end in (…0000001).
            mobile: Some(format!("+86139{}", 17_264_000 + n)),
            tenant_key: digest(&["tenant"])[..16].to_owned(),
            status: UserStatus::Active,
            behaviour: None,
        }
    }

    /// Removes what needs a permission: user id, email and mobile.
    #[must_use]
    pub fn without_contact_data(self) -> Self {
        Self { user_id: None, email: None, mobile: None, ..self }
    }

    /// Sets the person's reaction to a new card.
    #[must_use]
    pub fn behaving(self, behaviour: Behaviour) -> Self {
        Self { behaviour: Some(behaviour), ..self }
    }

    /// Returns the record of the contacts API.
    pub(crate) fn contact(&self, open_id: &str) -> Value {
        let status = self.status;
        let mut item = json!({
            "open_id": open_id, "union_id": self.union_id, "name": self.name, "en_name": self.en_name,
            "avatar": avatar(),
            "status": {
                "is_frozen": status == UserStatus::Frozen, "is_resigned": status == UserStatus::Resigned,
                "is_activated": status != UserStatus::NotRegistered, "is_exited": status == UserStatus::Exited,
                "is_unjoin": status == UserStatus::NotRegistered,
            },
        });
        self.add_optional(&mut item);
        item
    }

    /// Returns the `data` of the user info API.
    pub(crate) fn info(&self, open_id: &str) -> Value {
        let mut data = json!({
            "name": self.name, "en_name": self.en_name, "open_id": open_id, "union_id": self.union_id,
            "tenant_key": self.tenant_key, "avatar_url": AVATAR, "avatar_thumb": AVATAR,
        });
        self.add_optional(&mut data);
        data
    }

    fn add_optional(&self, target: &mut Value) {
        for (key, value) in [("user_id", &self.user_id), ("email", &self.email), ("mobile", &self.mobile)] {
            if let Some(value) = value {
                target[key] = json!(value);
            }
        }
    }
}

const AVATAR: &str = "https://avatar.example.com/72x72.png";

fn avatar() -> Value {
    json!({"avatar_72": AVATAR, "avatar_240": AVATAR, "avatar_640": AVATAR, "avatar_origin": AVATAR})
}

impl fmt::Debug for SimUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimUser")
            .field("open_id", &self.open_id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// Status of a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserStatus {
    /// Employed and reachable.
    #[default]
    Active,
    /// Suspended by an administrator.
    Frozen,
    /// Left the company.
    Resigned,
    /// Left the company's tenant.
    Exited,
    /// Never logged in.
    NotRegistered,
    /// Not in the application's range of availability.
    OutOfRange,
    /// Stopped the bot.
    BotStopped,
}

/// Reaction of a person to a card with buttons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// None: a test or a human in a browser drives the person.
    #[default]
    Manual,
    /// Clicks the button with a link, agrees on the page and follows the redirect.
    Consent,
    /// Clicks the button with a link, refuses on the page and follows the redirect.
    Decline,
    /// Clicks the first button without a link.
    Cancel,
    /// Clicks, but another person (with this `open_id`) agrees on the page.
    ConsentAs(String),
}

/// All people, and their ids by application.
#[derive(Default)]
pub(crate) struct Users {
    people: HashMap<String, SimUser>,
    /// `union_id`s in the order in which they were added.
    order: Vec<String>,
    /// `open_id` → (application, `union_id`).
    by_open_id: HashMap<String, (String, String)>,
    apps: Vec<String>,
}

impl Users {
    pub(crate) fn add_app(&mut self, app_id: &str) {
        if !self.apps.iter().any(|known| known == app_id) {
            self.apps.push(app_id.to_owned());
        }
        for user in self.people.values().cloned().collect::<Vec<_>>() {
            self.index(&user);
        }
    }

    pub(crate) fn add(&mut self, user: SimUser) {
        self.index(&user);
        let union_id = user.union_id.clone();
        if self.people.insert(union_id.clone(), user).is_none() {
            self.order.push(union_id);
        }
    }

    fn index(&mut self, user: &SimUser) {
        for app in self.apps.clone() {
            let open_id = self.open_id(&app, user);
            self.by_open_id.insert(open_id, (app, user.union_id.clone()));
        }
    }

    /// Removes the person. Their `open_id` stays known, without an owner.
    pub(crate) fn remove(&mut self, union_id: &str) -> bool {
        self.order.retain(|known| known != union_id);
        self.people.remove(union_id).is_some()
    }

    pub(crate) fn open_id(&self, app_id: &str, user: &SimUser) -> String {
        if self.apps.first().is_none_or(|first| first == app_id) {
            user.open_id.clone()
        } else {
            format!("ou_{}", digest(&[app_id, &user.open_id]))
        }
    }

    /// Returns the person with this id and its application.
    pub(crate) fn resolve(&self, open_id: &str) -> Option<(&str, &SimUser)> {
        let (app, union_id) = self.by_open_id.get(open_id)?;
        Some((app, self.people.get(union_id)?))
    }

    pub(crate) fn get(&self, union_id: &str) -> Option<&SimUser> {
        self.people.get(union_id)
    }

    pub(crate) fn get_mut(&mut self, union_id: &str) -> Option<&mut SimUser> {
        self.people.get_mut(union_id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &SimUser> {
        self.order.iter().filter_map(|union_id| self.people.get(union_id))
    }

    /// Looks up a receiver by one of the id types of the messages and contacts APIs.
    pub(crate) fn find(&self, app_id: &str, id_type: &str, id: &str) -> Found<'_> {
        match id_type {
            "open_id" => match self.by_open_id.get(id) {
                Some((app, _)) if app != app_id => Found::OtherApp,
                Some((_, union_id)) => self.people.get(union_id).map_or(Found::Unknown, Found::User),
                None => Found::Unknown,
            },
            "union_id" => self.people.get(id).map_or(Found::Unknown, Found::User),
            "user_id" => self.first(|user| user.user_id.as_deref() == Some(id)),
            "email" => self.first(|user| user.email.as_deref() == Some(id)),
            "chat_id" => self.first(|user| chat_id(app_id, &user.union_id) == id),
            _ => Found::BadType,
        }
    }

    fn first(&self, matches: impl Fn(&SimUser) -> bool) -> Found<'_> {
        self.all().find(|user| matches(user)).map_or(Found::Unknown, Found::User)
    }
}

/// Outcome of [`Users::find`].
pub(crate) enum Found<'a> {
    User(&'a SimUser),
    Unknown,
    /// An `open_id` of another application.
    OtherApp,
    BadType,
}

/// Returns the id of the one-to-one chat of a bot and a person.
pub(crate) fn chat_id(app_id: &str, union_id: &str) -> String {
    format!("oc_{}", digest(&[app_id, union_id]))
}

fn digest(parts: &[&str]) -> String {
    hex::encode(&Sha256::digest(parts.join("/").as_bytes())[..16])
}
