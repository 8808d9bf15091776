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
    /// An application of the Lark developer console, also its OAuth `client_id`.
    AppId
    /// A person as one application sees them (`ou_…`); differs from application to application.
    OpenId
    /// A person as their own company sees them; Lark gives it only with an extra permission.
    UserId
    /// A person across the applications of one developer (`on_…`).
    UnionId
    /// A message in a chat (`om_…`), here: the card.
    MessageId
    /// What makes a delivery recognisable as one already handled.
    EventId
}

/// One invitation to authorize.
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
            fn enum_schemas_spell_like_models() {
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
    /// Where an invitation stands. Only `pending` can change, and only once.
    SessionState {
        /// The person was asked and has not answered.
        Pending = "pending",
        /// The token is stored.
        Completed = "completed",
        /// The person said no.
        Rejected = "rejected",
        /// Nobody answered in time.
        Expired = "expired",
        /// Something went wrong; see the failure reason.
        Failed = "failed",
    }

    /// The way an invitation takes.
    AuthMethod {
        /// A card in the chat, its clicks pushed over the long connection.
        WebsocketCard = "websocket_card",
        /// No card: the caller shows the consent page's address itself.
        Oauth = "oauth",
        /// A card in the chat, its clicks posted to the HTTP callback.
        HttpCallback = "http_callback",
        /// RFC 8628 device authorization.
        DeviceCode = "device_code",
    }

    /// Why a session ended as `failed`.
    FailureReason {
        /// Somebody else consented than the person who was asked; nothing was stored.
        IdentityMismatch = "identity_mismatch",
        /// Lark does not know the code, or it expired, or it was used before.
        CodeInvalid = "code_invalid",
        /// A worker stopped between exchange and commit; the code cannot be used again.
        ExchangeInterrupted = "exchange_interrupted",
        /// Lark's answer was lost; the code may have been used.
        ExchangeOutcomeUnknown = "exchange_outcome_unknown",
        /// Lark stayed unavailable for longer than the code lived.
        UpstreamUnavailable = "upstream_unavailable",
        /// Lark does not let this person use the application (unknown, resigned, frozen, out of range).
        UserUnavailable = "user_unavailable",
        /// The application's credentials, scopes or redirect URI are wrong; no person is to blame.
        AppMisconfigured = "app_misconfigured",
        /// The card could not be delivered to this person.
        CardUndeliverable = "card_undeliverable",
    }
}
