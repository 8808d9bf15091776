use std::time::Duration;

use larkauth_models::{
    AppId, Application, AuthMethod, Brand, CardOptions, ConsentSecrets, OpenId, Person, SecretString,
    SessionId, Timestamp, TokenApi, TokenPair, UserProfile,
};
use uuid::Uuid;

use super::act;
use crate::{
    Cipher, Completion, Created, ExchangeClaim, InvitationLimit, NewSession, Sealed, Store, seal_escrow,
};

/// One recognisable part of each secret of a [`TestAuthorization`]. A test searches a dump for them.
pub const NEEDLES: [&str; 9] = [
    "needle-app-secret",
    "needle-verification",
    "needle-encrypt-key",
    "needle-state",
    "needle-verifier",
    "needle-access",
    "needle-refresh",
    "needle@example.com",
    "+8613800138000",
];

/// One authorization, from the application to the token, with recognisable secrets. Each number stands for another
/// person with another session; all numbers have the same application.
#[derive(Clone, Debug)]
pub struct TestAuthorization {
    /// The application.
    pub app_id: AppId,
    /// The person.
    pub open_id: OpenId,
    /// The session.
    pub session_id: SessionId,
    number: u32,
}

fn secret(text: impl Into<String>) -> SecretString {
    SecretString::from(text.into())
}

impl TestAuthorization {
    /// Creates the authorization of a number. Stores nothing.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn new(number: u32) -> Self {
        Self {
            app_id: AppId::new("cli_00000000000000a1").unwrap(),
            open_id: OpenId::new(format!("ou_{number}")).unwrap(),
            session_id: SessionId(Uuid::from_u128(u128::from(number))),
            number,
        }
    }

    /// Returns the start time. Each number starts one microsecond after the number before.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn started_at(&self) -> Timestamp {
        Timestamp::from_timestamp_micros(1_700_000_000_000_000 + i64::from(self.number)).unwrap()
    }

    /// Returns the access token.
    #[must_use]
    pub fn access_token(&self) -> String {
        format!("{}-{}", NEEDLES[5], self.number)
    }

    fn pair(&self, expires_at: Timestamp) -> TokenPair {
        TokenPair {
            access_token: secret(self.access_token()),
            access_expires_at: expires_at,
            refresh_token: Some(secret(NEEDLES[6])),
            refresh_expires_at: Some(expires_at),
            scopes: vec!["offline_access".to_owned()],
        }
    }

    /// Returns the token pair sealed for escrow.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn sealed_pair(&self, cipher: &Cipher) -> Sealed {
        seal_escrow(cipher, self.session_id, &self.pair(self.started_at())).unwrap()
    }

    /// Registers the application.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn register(&self, store: &dyn Store) {
        let application = Application {
            app_id: self.app_id.clone(),
            app_secret: secret(NEEDLES[0]),
            verification_token: Some(secret(NEEDLES[1])),
            encrypt_key: Some(secret(NEEDLES[2])),
            brand: Brand::Feishu,
            token_api: TokenApi::V2,
            redirect_uri: "http://127.0.0.1/cb".parse().unwrap(),
            default_scopes: vec!["offline_access".to_owned()],
            enabled: true,
            frozen_since: None,
            frozen_reason: None,
        };
        store.put_application(&application, &act(self.started_at())).await.unwrap();
    }

    /// Creates the session.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn invite(&self, store: &dyn Store) {
        let session = NewSession {
            id: self.session_id,
            app_id: self.app_id.clone(),
            person: Person { open_id: Some(self.open_id.clone()), user_id: None },
            auth_method: AuthMethod::Oauth,
            scopes: vec!["offline_access".to_owned()],
            card: CardOptions::default(),
            consent: ConsentSecrets {
                state: secret(format!("{}-{}", NEEDLES[3], self.number)),
                pkce_verifier: secret(NEEDLES[4]),
            },
            created_at: self.started_at(),
            expires_at: self.started_at() + Duration::from_secs(600),
            takes_card_of: None,
            audit: act(self.started_at()),
        };
        let limit = InvitationLimit { max: 5, window: Duration::from_secs(60) };
        assert_eq!(store.create_session(&session, limit).await.unwrap(), Created::Created);
    }

    /// Claims the exchange and completes the session.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn complete(&self, store: &dyn Store) {
        let now = self.started_at() + Duration::from_secs(1);
        let claim = Uuid::from_u128(2);
        let claimed = store.claim_exchange(self.session_id, None, claim, Duration::from_secs(60)).await;
        assert_eq!(claimed.unwrap(), ExchangeClaim::Claimed);
        let completion = Completion {
            session_id: self.session_id,
            claim,
            pair: self.pair(now),
            profile: UserProfile {
                open_id: self.open_id.clone(),
                union_id: None,
                user_id: None,
                name: Some("Ming".to_owned()),
                en_name: None,
                avatar_url: None,
                email: Some(secret(NEEDLES[7])),
                mobile: Some(secret(NEEDLES[8])),
                tenant_key: None,
            },
            next_attempt_at: None,
            now,
            audit: act(now),
        };
        assert!(store.complete_session(&completion).await.unwrap());
    }

    /// Registers, invites and completes.
    ///
    /// # Panics
    /// When the store fails.
    pub async fn run(&self, store: &dyn Store) {
        self.register(store).await;
        self.invite(store).await;
        self.complete(store).await;
    }
}
