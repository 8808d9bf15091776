//! What makes a token in a response usable, and how long it is.

use std::time::Duration;

use larkauth_models::{ExposeSecret, SecretString};

use crate::lenient::Fields;

/// Lifetime of a token whose response has no usable one. A quarter of the lifetime of Lark's access tokens today: the token
/// is renewed too early instead of used after its expiry.
pub(super) const DEFAULT_LIFETIME: Duration = Duration::from_secs(1800);

/// Longest token that is accepted, in bytes.
const MAX_TOKEN: usize = 8 * 1024;
/// Longest lifetime that is accepted, in seconds: ten years.
const MAX_LIFETIME: u64 = 10 * 365 * 24 * 3600;

/// Returns the first of these fields that is a plausible lifetime.
pub(super) fn lifetime(answer: &Fields, names: &[&str]) -> Option<Duration> {
    let seconds = names.iter().filter_map(|name| u64::try_from(answer.seconds(name)?).ok());
    seconds.filter(|seconds| (1..=MAX_LIFETIME).contains(seconds)).map(Duration::from_secs).next()
}

/// Returns the secret if its length is plausible.
pub(super) fn usable(secret: SecretString) -> Option<SecretString> {
    (1..=MAX_TOKEN).contains(&secret.expose_secret().len()).then_some(secret)
}
