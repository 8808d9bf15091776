//! The owner of a token, and the people in the company's directory.

use larkauth_models::{ExposeSecret, OpenId, SecretString, UnionId, UserId, UserProfile, text};

use super::{
    client::LarkClient,
    rate_limiter::EndpointClass,
    spec::{Api, Repeat},
};
use crate::{error::LarkError, lenient::Fields};

const USER_INFO: Api = Api::lark("user_info").limited_as(EndpointClass::UserInfo);
const CONTACT: Api = Api::lark("contact").limited_as(EndpointClass::Contacts);
const OPEN_ID_BY_EMAIL: Api = Api::lark("open_id_by_email").limited_as(EndpointClass::Contacts);
const CONTACTS: Api = Api::lark("contacts").limited_as(EndpointClass::Contacts);

/// Longest text of a profile that is kept, in bytes.
const MAX_TEXT: usize = 2048;
/// Most ids that Lark accepts in one call.
const BATCH: usize = 50;

/// A person in the company's directory.
#[derive(Clone, Debug)]
pub struct Contact {
    /// The person's profile.
    pub profile: UserProfile,
    /// The state of the person's account, missing without the permission to see it.
    pub status: Option<AccountStatus>,
}

/// The state of a person's account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountStatus {
    /// An administrator has frozen the account.
    pub is_frozen: bool,
    /// The person has left the company.
    pub is_resigned: bool,
    /// The person has logged in at least once.
    pub is_activated: bool,
    /// The person has left the tenant voluntarily.
    pub is_exited: bool,
    /// The person is invited and has not joined yet.
    pub is_unjoin: bool,
}

impl AccountStatus {
    /// Returns true when the person can use Lark.
    #[must_use]
    pub const fn is_usable(&self) -> bool {
        !self.is_frozen && !self.is_resigned && !self.is_exited
    }
}

/// Reads a person in the form that user info and the directory share. Returns `None` without a usable open id. All other
/// fields are optional, and an empty text counts as missing. People choose their names, so a name is made fit to be shown;
/// another text with a control character or of excessive length counts as missing, as no database would store it.
fn contact(person: &Fields) -> Option<Contact> {
    let avatar = person.object("avatar").unwrap_or_default();
    let status = person.object("status").map(|status| AccountStatus {
        is_frozen: status.flag("is_frozen"),
        is_resigned: status.flag("is_resigned"),
        is_activated: status.flag("is_activated"),
        is_exited: status.flag("is_exited"),
        is_unjoin: status.flag("is_unjoin"),
    });
    let name = |field: &str| person.text(field).and_then(|name| text::name(&name));
    let storable = |text: &String| text.len() <= MAX_TEXT && !text.contains(char::is_control);
    let plain = |field: &str| person.text(field).filter(storable);
    let profile = UserProfile {
        open_id: OpenId::new(person.text("open_id")?).ok()?,
        union_id: person.text("union_id").and_then(|id| UnionId::new(id).ok()),
        user_id: person.text("user_id").and_then(|id| UserId::new(id).ok()),
        name: name("name"),
        en_name: name("en_name"),
        avatar_url: person
            .text("avatar_url")
            .or_else(|| avatar.text("avatar_240"))
            .or_else(|| avatar.text("avatar_origin"))
            .filter(storable),
        email: plain("email").or_else(|| plain("enterprise_email")).map(SecretString::from),
        mobile: plain("mobile").map(SecretString::from),
        tenant_key: plain("tenant_key"),
    };
    Some(Contact { profile, status })
}

impl LarkClient {
    /// Returns the owner of a user access token.
    ///
    /// # Errors
    /// [`ErrorKind::AccessTokenInvalid`](crate::ErrorKind::AccessTokenInvalid) when Lark no longer accepts the token,
    /// [`ErrorKind::User`](crate::ErrorKind::User) when the person can no longer use Lark.
    pub async fn user_info(&self, access_token: &SecretString) -> Result<UserProfile, LarkError> {
        let url = self.api_url("/open-apis/authen/v1/user_info");
        let build = || self.options().http.get(url.clone()).bearer_auth(access_token.expose_secret());
        let read = |answer: &Fields| Some(contact(answer)?.profile);
        self.call(USER_INFO, Repeat::Safe, build, read).await
    }

    /// Returns one person of the directory.
    ///
    /// # Errors
    /// [`ErrorKind::User`](crate::ErrorKind::User) when the person is outside the application's contact scope.
    pub async fn contact(&self, open_id: &OpenId) -> Result<Contact, LarkError> {
        let mut url = self.api_url(&format!("/open-apis/contact/v3/users/{open_id}"));
        url.query_pairs_mut().append_pair("user_id_type", "open_id");
        let build = || self.options().http.get(url.clone());
        let read = |answer: &Fields| contact(&answer.object("user")?);
        self.call_as_tenant(CONTACT, Repeat::Safe, build, read).await
    }

    /// Returns the person with this work email address, or `None` when no person in the application's contact scope
    /// has the address.
    ///
    /// # Errors
    /// [`ErrorKind::InsufficientScope`](crate::ErrorKind::InsufficientScope) without the permission `contact:user.id:readonly`.
    pub async fn open_id_by_email(&self, email: &SecretString) -> Result<Option<OpenId>, LarkError> {
        let mut url = self.api_url("/open-apis/contact/v3/users/batch_get_id");
        url.query_pairs_mut().append_pair("user_id_type", "open_id");
        let body = serde_json::json!({ "emails": [email.expose_secret()] });
        let build = || self.options().http.post(url.clone()).json(&body);
        // An entry has no id when no person in the contact scope has the address.
        let read = |answer: &Fields| {
            let found = answer.objects("user_list")?;
            Some(found.first()?.text("user_id").and_then(|id| OpenId::new(id).ok()))
        };
        self.call_as_tenant(OPEN_ID_BY_EMAIL, Repeat::Safe, build, read).await
    }

    /// Returns many people of the directory, with one call for every 50 ids, one after the other. People outside the
    /// application's contact scope are missing from the result.
    ///
    /// # Errors
    /// The error of the first call that fails.
    pub async fn contacts(&self, open_ids: &[OpenId]) -> Result<Vec<Contact>, LarkError> {
        let mut contacts = Vec::with_capacity(open_ids.len());
        for batch in open_ids.chunks(BATCH) {
            let mut url = self.api_url("/open-apis/contact/v3/users/batch");
            url.query_pairs_mut()
                .extend_pairs(batch.iter().map(|id| ("user_ids", id.as_str())))
                .append_pair("user_id_type", "open_id");
            let build = || self.options().http.get(url.clone());
            let read = |answer: &Fields| {
                let items = answer.objects("items").or_else(|| answer.confirmation().map(|()| Vec::new()))?;
                Some(items.iter().filter_map(contact).collect::<Vec<_>>())
            };
            contacts.extend(self.call_as_tenant(CONTACTS, Repeat::Safe, build, read).await?);
        }
        Ok(contacts)
    }
}
