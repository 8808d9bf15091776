//! Schemas of the types of [`larkauth_models`], which depends on no schema crate. The messages and REST bodies name a
//! type of this module where a field holds its namesake of `models`; no value of these types exists.
//!
//! A test holds the spellings of the enums against `models`.

macro_rules! text_schemas {
    ($($(#[$meta:meta])* $name:ident)+) => { $(
        $(#[$meta])*
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        pub struct $name(pub String);
    )+ };
}

text_schemas! {
    /// Identifier of an application of the Lark developer console, also the OAuth `client_id`.
    AppId
    /// Identifier of a person within one application (`ou_…`).
    OpenId
    /// Identifier of a person within the company; Lark returns it only with an extra permission.
    UserId
    /// Identifier of a person across the applications of one developer (`on_…`).
    UnionId
    /// Identifier of a chat message (`om_…`); here, of the card.
    MessageId
    /// Identifier that detects a repeated delivery.
    EventId
}

/// Identifier of an authorization session.
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct SessionId(pub uuid::Uuid);

// `$text` is a `tt`: utoipa's derive does not look into a `literal` and would document the variant's name instead.
macro_rules! enum_schemas {
    ($($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:tt),+ $(,)? })+) => {
        $(
            $(#[$meta])*
            #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
            #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
            pub enum $name {
                $($(#[$vmeta])* #[serde(rename = $text)] $variant),+
            }
        )+

        #[cfg(test)]
        mod tests {
            #[test]
            fn enum_schemas_have_the_spellings_of_models() {
                $(assert_eq!(
                    [$($text),+].as_slice(),
                    larkauth_models::$name::ALL.iter().map(|variant| variant.as_str()).collect::<Vec<_>>(),
                    stringify!($name)
                );)+
            }
        }
    };
}

enum_schemas! {
    /// State of an authorization session. Only `pending` can change, and only once.
    SessionState {
        /// The person has not answered yet.
        Pending = "pending",
        /// The token is stored.
        Completed = "completed",
        /// The person refused.
        Rejected = "rejected",
        /// The person did not answer in time.
        Expired = "expired",
        /// The authorization failed; see the failure reason.
        Failed = "failed",
    }

    /// What an audit record is about.
    AuditAction {
        /// A session was created, which invites a person.
        SessionCreate = "session.create",
        /// A session ended with a stored token, because its person consented.
        SessionComplete = "session.complete",
        /// A session ended because its person declined.
        SessionReject = "session.reject",
        /// A session ended because it was used after its time.
        SessionExpire = "session.expire",
        /// A session ended with a failure.
        SessionFail = "session.fail",
        /// Sessions were listed.
        SessionList = "session.list",
        /// The address of a consent page was read.
        SessionConsentPage = "session.consent_page",
        /// A token was handed out.
        TokenServe = "token.serve",
        /// A token was refreshed for a caller, and handed out.
        TokenRefresh = "token.refresh",
        /// A stored token was read at the command line.
        TokenShow = "token.show",
        /// The state of a stored token was read, without its secrets.
        TokenStatus = "token.status",
        /// The states of the tokens of an application were listed, without their secrets.
        TokenList = "token.list",
        /// The logins that end soon were listed.
        TokenHorizon = "token.horizon",
        /// A token was revoked.
        TokenRevoke = "token.revoke",
        /// The profile of a person was read.
        ProfileShow = "profile.show",
        /// Everything that is stored about a person was erased.
        PersonErase = "person.erase",
        /// Encryption keys and their use were listed.
        EncryptionKeyList = "encryption_key.list",
        /// Stored values were sealed with the first encryption key.
        EncryptionKeyRotate = "encryption_key.rotate",
        /// An encryption key that no value needs was retired.
        EncryptionKeyRetire = "encryption_key.retire",
        /// A copy of the database was begun.
        DatabaseBackup = "database.backup",
        /// The token of a person was suspended, because Lark refuses the person.
        PersonSuspend = "person.suspend",
        /// The suspension of a person's token ended, because Lark accepts the person again.
        PersonRestore = "person.restore",
        /// An API key was created.
        KeyCreate = "api_key.create",
        /// An API key got a successor.
        KeyRotate = "api_key.rotate",
        /// An API key was revoked.
        KeyRevoke = "api_key.revoke",
        /// API keys were listed.
        KeyList = "api_key.list",
        /// An application was registered or changed.
        AppRegister = "app.register",
        /// The application of the settings was registered at the start of a process.
        AppBootstrap = "app.bootstrap",
        /// An application was enabled.
        AppEnable = "app.enable",
        /// An application was disabled.
        AppDisable = "app.disable",
        /// An application was read with its secrets.
        AppShow = "app.show",
        /// Applications were listed.
        AppList = "app.list",
        /// Dead letters were listed.
        DeadLetterList = "dead_letter.list",
        /// A dead letter was returned to its queue.
        DeadLetterRequeue = "dead_letter.requeue",
        /// A dead letter was dropped.
        DeadLetterDrop = "dead_letter.drop",
        /// Audit records were listed.
        AuditList = "audit.list",
        /// An API key logged in to the operator console.
        ConsoleLogin = "console.login",
        /// A login to the operator console was ended.
        ConsoleLogout = "console.logout",
        /// A request was refused because its API key lacks the scope.
        RequestDeny = "request.deny",
    }

    /// A change of whether a person is served.
    UserState {
        /// The person is not served any more.
        Suspended = "suspended",
        /// The person is served again, or can be asked to consent again.
        Restored = "restored",
    }

    /// Why the token of a person is suspended.
    SuspensionReason {
        /// An administrator has frozen the account.
        Frozen = "frozen",
        /// The person has left the company.
        Resigned = "resigned",
        /// The person has left the tenant voluntarily.
        Exited = "exited",
        /// Lark refused the person, without the state of the account being known.
        Refused = "refused",
    }

    /// Method of authorization.
    AuthMethod {
        /// A card in the chat, its clicks pushed over the long connection.
        WebsocketCard = "websocket_card",
        /// No card: the caller shows the address of the consent page.
        Oauth = "oauth",
        /// A card in the chat, its clicks posted to the HTTP callback.
        HttpCallback = "http_callback",
        /// A card in the chat, and RFC 8628 device authorization: no redirect and no public address.
        DeviceCode = "device_code",
    }

    /// Reason for which a session ended as `failed`.
    FailureReason {
        /// Another person than the invited one consented; nothing was stored.
        IdentityMismatch = "identity_mismatch",
        /// The code is unknown to Lark, expired or already used.
        CodeInvalid = "code_invalid",
        /// A worker stopped between exchange and commit; the code cannot be used again. Sessions of earlier builds only.
        ExchangeInterrupted = "exchange_interrupted",
        /// Lark's answer was lost, or a worker stopped before it was kept; the code may have been used.
        ExchangeOutcomeUnknown = "exchange_outcome_unknown",
        /// Lark was unavailable until the code expired.
        UpstreamUnavailable = "upstream_unavailable",
        /// Lark denies this person the application (unknown, resigned, frozen, out of range).
        UserUnavailable = "user_unavailable",
        /// The application's credentials, scopes or redirect URI are wrong.
        AppMisconfigured = "app_misconfigured",
        /// The application was switched off while the session was open; no code was exchanged.
        AppDisabled = "app_disabled",
        /// The card could not be delivered to this person.
        CardUndeliverable = "card_undeliverable",
        /// A part of larkauth was not available: no card was sent, or the code was not exchanged before it expired.
        ServiceUnavailable = "service_unavailable",
    }
}
