use std::sync::Arc;

use larkauth_lark::callback::CallbackVerifier;
use larkauth_models::{AppId, Application, Clock, ExposeSecret, SecretString};
use moka::future::Cache;
use sha2::{Digest, Sha256};

/// One verifier per application and secrets, kept because it remembers what it has seen.
pub(crate) struct Verifiers {
    clock: Arc<dyn Clock>,
    accept_unsigned: bool,
    kept: Cache<(AppId, [u8; 32]), Arc<CallbackVerifier>>,
}

impl Verifiers {
    /// `accept_unsigned` allows callbacks of applications without encrypt key.
    pub(crate) fn new(clock: Arc<dyn Clock>, accept_unsigned: bool) -> Self {
        Self { clock, accept_unsigned, kept: Cache::new(1000) }
    }

    /// The verifier of an application as it is registered now.
    pub(crate) async fn of(&self, application: &Application) -> Arc<CallbackVerifier> {
        let (token, key) = (&application.verification_token, &application.encrypt_key);
        let mut digest = Sha256::new();
        for secret in [token, key] {
            let text = secret.as_ref().map(SecretString::expose_secret).unwrap_or_default();
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        let made = async {
            let verifier = CallbackVerifier::new(token.clone(), key.clone(), self.clock.clone());
            Arc::new(verifier.accept_unsigned(self.accept_unsigned))
        };
        self.kept.get_with((application.app_id.clone(), digest.finalize().into()), made).await
    }
}
