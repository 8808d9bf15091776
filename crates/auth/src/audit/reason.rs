use larkauth_messaging::BusError;
use larkauth_models::AuditOutcome;

use crate::error::AuthError;

/// What an audit record says of an error: whether it was a refusal, and a code that holds nothing of the request.
pub(crate) trait AuditReason {
    /// Returns outcome and code.
    fn audit_reason(&self) -> (AuditOutcome, &'static str);
}

impl AuditReason for AuthError {
    fn audit_reason(&self) -> (AuditOutcome, &'static str) {
        use AuditOutcome::{Failed, Refused};
        match self {
            Self::Invalid(_) => (Refused, "invalid"),
            Self::Forbidden(_) => (Refused, "forbidden"),
            Self::KeyRefused => (Refused, "key_refused"),
            Self::AppNotFound(_) => (Refused, "app_not_found"),
            Self::AppDisabled(_) => (Refused, "app_disabled"),
            Self::AppFrozen { .. } => (Refused, "app_frozen"),
            Self::RateLimited { .. } => (Refused, "rate_limited"),
            Self::AskedRecently { .. } => (Refused, "asked_recently"),
            Self::SessionNotFound(_) => (Refused, "session_not_found"),
            Self::AuthenticationRequired => (Refused, "authentication_required"),
            Self::OtherApplication { .. } => (Refused, "other_application"),
            Self::InsufficientScope { .. } => (Refused, "insufficient_scope"),
            Self::IdempotencyKeyReused => (Refused, "idempotency_key_reused"),
            Self::RefreshInProgress { .. } => (Failed, "refresh_in_progress"),
            Self::UpstreamUnavailable { .. } => (Failed, "upstream_unavailable"),
            Self::Storage(error) if error.is_transient() => (Failed, "database_unavailable"),
            Self::EncryptionKeyMissing { .. } | Self::ForeignEncryptionKeys(_) => {
                (Failed, "encryption_key_missing")
            }
            Self::SecretUnreadable(_) => (Failed, "secret_unreadable"),
            Self::Storage(_) | Self::Cipher(_) | Self::Spool(_) => (Failed, "internal"),
            Self::Bus(error) => error.audit_reason(),
            Self::Lark(_) => (Failed, "lark"),
        }
    }
}

impl AuditReason for BusError {
    fn audit_reason(&self) -> (AuditOutcome, &'static str) {
        (AuditOutcome::Failed, "broker")
    }
}
