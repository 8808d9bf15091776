//! Rules for what a caller may ask for.

use larkauth_models::CardOptions;

use crate::error::AuthError;

/// The scope without which Lark returns no refresh token.
const OFFLINE_ACCESS: &str = "offline_access";
/// Most scopes that Lark takes in one request.
const MAX_SCOPES: usize = 50;
/// Longest custom message of a card, in characters.
const MAX_CUSTOM_MESSAGE: usize = 1000;

/// Adds `offline_access`, sorts, and checks the scopes.
pub(super) fn check_scopes(mut scopes: Vec<String>) -> Result<Vec<String>, AuthError> {
    // In the order of the caller, who is told the entry.
    check_scope_names(&scopes)?;
    if !scopes.iter().any(|s| s == OFFLINE_ACCESS) {
        scopes.push(OFFLINE_ACCESS.to_owned());
    }
    scopes.sort();
    scopes.dedup();
    check_scope_names(&scopes)?;
    Ok(scopes)
}

/// Returns the granted scopes with the required ones. Where these are more than Lark takes in one request, the required
/// ones: what a person granted before stays granted.
#[must_use]
pub fn scopes_to_ask_for(granted: &[String], required: &[String]) -> Vec<String> {
    let mut union: Vec<String> = granted.iter().chain(required).cloned().collect();
    union.sort();
    union.dedup();
    let with_offline_access = union.len() + usize::from(!union.iter().any(|s| s == OFFLINE_ACCESS));
    if with_offline_access > MAX_SCOPES { required.to_vec() } else { union }
}

/// Checks that these are names of scopes, and not too many.
pub(crate) fn check_scope_names(scopes: &[String]) -> Result<(), AuthError> {
    if scopes.len() > MAX_SCOPES {
        return Err(AuthError::Invalid(format!(
            "scopes: {} given, Lark takes at most {MAX_SCOPES}",
            scopes.len()
        )));
    }
    match scopes.iter().position(|scope| !is_scope_name(scope)) {
        Some(index) => Err(AuthError::Invalid(format!(
            "scopes: entry {index} is not a scope name (letters, digits and `_:.-/`, at most 128)"
        ))),
        None => Ok(()),
    }
}

/// Returns whether this can be the name of a scope: a `scope-token` of RFC 6749 section 3.3, without the characters that no
/// scope of Lark has.
pub(crate) fn is_scope_name(scope: &str) -> bool {
    (1..=128).contains(&scope.len())
        && scope.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:.-/".contains(&b))
}

/// Checks the texts of a card.
pub(super) fn check_card(card: &CardOptions) -> Result<(), AuthError> {
    let invalid = |text: &str| Err(AuthError::Invalid(text.to_owned()));
    // A NUL is more than PostgreSQL can store, and the others are nothing that a card can show.
    let unprintable = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    let message_ok = |m: &String| m.chars().count() <= MAX_CUSTOM_MESSAGE && !m.contains(unprintable);
    if card.custom_message.as_ref().is_some_and(|m| !message_ok(m)) {
        return invalid("card.custom_message: at most 1000 characters, none of them a control character");
    }
    if card.privacy_policy_url.as_ref().is_some_and(|u| u.scheme() != "https" || u.as_str().len() > 2000) {
        return invalid("card.privacy_policy_url: must be an https address of at most 2000 characters");
    }
    let template_ok = |t: &String| {
        (1..=64).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    if card.template_id.as_ref().is_some_and(|t| !template_ok(t)) {
        return invalid(
            "card.template_id: 1 to 64 letters, digits, `_` or `-`, as the card builder shows it",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(names: &[&str]) -> Result<Vec<String>, AuthError> {
        check_scopes(names.iter().map(|s| (*s).to_owned()).collect())
    }

    #[test]
    fn check_scopes_adds_offline_access_only() {
        assert_eq!(scopes(&[]).unwrap(), ["offline_access"]);
        assert_eq!(scopes(&["b:x", "offline_access", "b:x"]).unwrap(), ["b:x", "offline_access"]);
    }

    #[test]
    fn check_scopes_of_too_many_or_malformed_fails() {
        let many: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
        assert!(check_scopes(many).unwrap_err().to_string().contains("at most 50"));
        assert!(scopes(&["a b"]).unwrap_err().to_string().contains("entry 0"));
    }

    #[test]
    fn check_card_of_unfit_texts_fails() {
        let card = |f: fn(&mut CardOptions)| {
            let mut options = CardOptions::default();
            f(&mut options);
            check_card(&options)
        };
        assert!(card(|_| ()).is_ok());
        assert!(card(|c| c.custom_message = Some("好".repeat(1000))).is_ok());
        assert!(card(|c| c.custom_message = Some("好".repeat(1001))).is_err());
        assert!(card(|c| c.privacy_policy_url = "http://example.com".parse().ok()).is_err());
        assert!(card(|c| c.template_id = Some("a\"b".to_owned())).is_err());
    }
}
