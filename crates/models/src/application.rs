use url::Url;

use crate::{AppId, SecretString, Timestamp, spelled_enum::spelled_enum};

spelled_enum! {
    /// Which of the two clouds an application lives in.
    Brand {
        /// China.
        Feishu = "feishu",
        /// Everywhere else.
        Lark = "lark",
    }
}

impl Brand {
    /// The cloud's API host.
    #[must_use]
    pub const fn base_url(self) -> &'static str {
        match self {
            Self::Feishu => "https://open.feishu.cn",
            Self::Lark => "https://open.larksuite.com",
        }
    }
    /// The cloud's accounts host, where people consent.
    #[must_use]
    pub const fn accounts_url(self) -> &'static str {
        match self {
            Self::Feishu => "https://accounts.feishu.cn",
            Self::Lark => "https://accounts.larksuite.com",
        }
    }
}

spelled_enum! {
    /// Which of Lark's token endpoints an application uses. Their refresh tokens do not mix.
    TokenApi {
        /// `/open-apis/authen/v2/oauth/token`, RFC 6749.
        V2 = "v2",
        /// `/open-apis/authen/v1/oidc/…`, for cards whose callback carries an `authorization_code`.
        V1 = "v1",
    }
}

/// An application as registered with larkauth.
#[derive(Clone, Debug)]
pub struct Application {
    /// Its id, also OAuth `client_id`.
    pub app_id: AppId,
    /// Its secret, also OAuth `client_secret`.
    pub app_secret: SecretString,
    /// Compared with `header.token` of HTTP callbacks.
    pub verification_token: Option<SecretString>,
    /// Signs and encrypts HTTP callbacks.
    pub encrypt_key: Option<SecretString>,
    /// Its cloud.
    pub brand: Brand,
    /// Which token endpoint it uses.
    pub token_api: TokenApi,
    /// Where the browser comes back to; must be registered in the developer console.
    pub redirect_uri: Url,
    /// Asked for when a session names none.
    pub default_scopes: Vec<String>,
    /// Whether it is served at all.
    pub enabled: bool,
    /// Since when the app-level breaker is open.
    pub frozen_since: Option<Timestamp>,
    /// Why it is open.
    pub frozen_reason: Option<String>,
}
