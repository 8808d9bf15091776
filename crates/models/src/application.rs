use url::Url;

use crate::{AppId, SecretString, Timestamp, spelled_enum::spelled_enum};

spelled_enum! {
    /// The cloud that an application is registered in.
    Brand {
        /// The cloud for China.
        Feishu = "feishu",
        /// The cloud for all other regions.
        Lark = "lark",
    }
}

impl Brand {
    /// Returns the base URL of the cloud's API.
    #[must_use]
    pub const fn base_url(self) -> &'static str {
        match self {
            Self::Feishu => "https://open.feishu.cn",
            Self::Lark => "https://open.larksuite.com",
        }
    }
    /// Returns the base URL of the cloud's accounts host, which serves the consent page.
    #[must_use]
    pub const fn accounts_url(self) -> &'static str {
        match self {
            Self::Feishu => "https://accounts.feishu.cn",
            Self::Lark => "https://accounts.larksuite.com",
        }
    }
}

spelled_enum! {
    /// The token endpoint of Lark that an application uses. A refresh token of one endpoint is invalid at the other.
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
    /// Application id, also the OAuth `client_id`.
    pub app_id: AppId,
    /// Application secret, also the OAuth `client_secret`.
    pub app_secret: SecretString,
    /// Expected value of `header.token` in HTTP callbacks.
    pub verification_token: Option<SecretString>,
    /// Key that signs and encrypts HTTP callbacks.
    pub encrypt_key: Option<SecretString>,
    /// Cloud of the application.
    pub brand: Brand,
    /// Token endpoint of the application.
    pub token_api: TokenApi,
    /// Target of the browser redirect after consent; must be registered in the developer console.
    pub redirect_uri: Url,
    /// Scopes of a session that names none.
    pub default_scopes: Vec<String>,
    /// False when every request for the application is refused.
    pub enabled: bool,
    /// Time at which the app-level circuit breaker opened.
    pub frozen_since: Option<Timestamp>,
    /// Reason for the open circuit breaker.
    pub frozen_reason: Option<String>,
}

impl Application {
    /// Whether HTTP callbacks can be verified: by the encrypt key, or by the verification token alone where that is allowed.
    #[must_use]
    pub const fn can_verify_callbacks(&self, allow_unsigned: bool) -> bool {
        self.encrypt_key.is_some() || (allow_unsigned && self.verification_token.is_some())
    }
}
