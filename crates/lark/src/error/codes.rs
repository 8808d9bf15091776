//! The meaning of Lark's codes.

use super::kind::{
    ErrorKind::{
        self, AccessTokenInvalid, App, InsufficientScope, InvalidGrant, InvalidRequest,
        Message as MessageKind, RateLimited, RefreshTokenInvalid, Transient, User,
    },
    MessageProblem,
    Outcome::{self, MaybeProcessed, NotProcessed},
    ScopeHolder,
};

/// The general code of a card that cannot be shown. The text of the response has the precise one.
pub(crate) const CARD_CONTENT: i64 = 230099;
/// The code of the rate limit of an application. Other codes limit the messages to one person or the changes of one message.
pub(super) const APP_LIMIT: i64 = 99_991_400;
/// The code of a request to the wrong cloud.
pub(crate) const WRONG_CLOUD: i64 = 1_000_040_351;
/// What happened and what to do when an application is looked up in the wrong cloud.
pub(crate) const WRONG_CLOUD_MESSAGE: &str = "the application belongs to the other cloud: set the brand of its developer console (`feishu` or `lark`; \
     LARK_BRAND, or LARK_BASE_URL with LARK_ACCOUNTS_URL)";

/// The meaning of one of Lark's codes.
#[derive(Debug)]
pub struct KnownCode {
    /// Lark's code.
    pub code: i64,
    /// Kind of failure.
    pub kind: ErrorKind,
    /// Whether Lark may have processed the request.
    pub outcome: Outcome,
    /// What happened.
    pub message: &'static str,
    pub(super) label: &'static str,
}

/// Returns the meaning of a code, if the code is known.
#[must_use]
pub fn known(code: i64) -> Option<&'static KnownCode> {
    KNOWN_CODES.iter().find(|row| row.code == code)
}

const USER_SCOPE: ErrorKind = InsufficientScope { holder: ScopeHolder::User, missing: Vec::new() };
const APP_SCOPE: ErrorKind = InsufficientScope { holder: ScopeHolder::App, missing: Vec::new() };
const UNDELIVERABLE: ErrorKind = MessageKind(MessageProblem::Undeliverable);
const UNSUPPORTED: ErrorKind = MessageKind(MessageProblem::Unsupported);
const CARD_REFUSED: ErrorKind = MessageKind(MessageProblem::CardRefused);

macro_rules! codes {
    ($($code:literal $kind:expr, $outcome:expr, $message:expr;)+) => {
        &[$(KnownCode {
            code: $code,
            kind: $kind,
            outcome: $outcome,
            message: $message,
            label: concat!("code_", stringify!($code)),
        }),+]
    };
}

/// Every code with a known meaning. All other codes are [`ErrorKind::Unknown`].
pub static KNOWN_CODES: &[KnownCode] = codes! {
    // Token endpoint. Lark's documentation says of the first two that the outcome may be unknown.
    20050 Transient, MaybeProcessed, "Lark's token service failed";
    20072 Transient, MaybeProcessed, "Lark's token service is busy";
    20003 InvalidGrant, NotProcessed, "Lark does not know the authorization code";
    20004 InvalidGrant, NotProcessed, "the authorization code expired";
    20065 InvalidGrant, NotProcessed, "the authorization code was used before";
    20024 RefreshTokenInvalid, NotProcessed, "the code or refresh token belongs to another application";
    20026 RefreshTokenInvalid, NotProcessed, "the refresh token is invalid";
    20037 RefreshTokenInvalid, NotProcessed, "the refresh token expired";
    20064 RefreshTokenInvalid, NotProcessed, "the refresh token was revoked";
    20073 RefreshTokenInvalid, NotProcessed, "the refresh token was used before";
    20008 User, NotProcessed, "Lark does not know the person";
    20010 User, NotProcessed, "the person has no permission to use the application";
    20066 User, NotProcessed, "the person's account is not in a usable state";
    20002 App, NotProcessed, "the application's secret is wrong";
    20009 App, NotProcessed, "the application is not installed in this company";
    20048 App, NotProcessed, "Lark does not know the application";
    20069 App, NotProcessed, "the application is disabled";
    20074 App, NotProcessed, "token refresh is disabled for the application";
    20027 APP_SCOPE, NotProcessed, "a requested scope, usually offline_access, is not among the application's permissions";
    20001 InvalidRequest, NotProcessed, "a parameter is missing or malformed";
    20036 InvalidRequest, NotProcessed, "the grant type is not supported";
    20049 InvalidRequest, NotProcessed, "the PKCE check failed";
    20063 InvalidRequest, NotProcessed, "the request body is malformed";
    20067 InvalidRequest, NotProcessed, "the list of scopes is invalid";
    20068 InvalidRequest, NotProcessed, "a requested scope is not among the application's scopes";
    20070 InvalidRequest, NotProcessed, "the request uses two ways of authentication";
    20071 InvalidRequest, NotProcessed, "the redirect URI differs from that of the authorization request";
    // User info.
    20005 AccessTokenInvalid, NotProcessed, "the user access token is invalid";
    20021 User, NotProcessed, "the person has resigned";
    20022 User, NotProcessed, "the person's account is frozen";
    20023 User, NotProcessed, "the person is not registered";
    // The application's own tokens. The client drops a refused token from its cache.
    10003 App, NotProcessed, "the application's id or secret is malformed";
    10014 App, NotProcessed, "the application's secret is wrong";
    99991543 App, NotProcessed, "Lark does not know the application, or its secret is wrong";
    99991662 App, NotProcessed, "the application is disabled";
    99991673 App, NotProcessed, "the application is not installed in this company, or not available there";
    99991401 App, NotProcessed, "the application's list of allowed IP addresses lacks this server's address";
    1000040351 App, NotProcessed, WRONG_CLOUD_MESSAGE;
    20014 Transient, NotProcessed, "the application's access token is no longer accepted";
    99991663 Transient, NotProcessed, "the application's tenant token is no longer accepted";
    99991664 Transient, NotProcessed, "the application's access token is no longer accepted";
    99991665 Transient, NotProcessed, "the application's tenant token is no longer accepted";
    // Any API.
    99991669 RefreshTokenInvalid, NotProcessed, "the refresh token is invalid";
    99991671 AccessTokenInvalid, NotProcessed, "the access token is malformed";
    99991677 AccessTokenInvalid, NotProcessed, "the user access token expired";
    99991668 AccessTokenInvalid, NotProcessed, "the user access token is invalid";
    99991679 USER_SCOPE, NotProcessed, "the person has not granted a needed permission";
    99991672 APP_SCOPE, NotProcessed, "the application lacks a needed permission";
    99991400 RateLimited, NotProcessed, "Lark's rate limit is reached";
    99992402 InvalidRequest, NotProcessed, "a field of the request is missing or malformed";
    // Ids of people. The first group means a person unknown to Lark, the second an id that was never this application's.
    99992351 User, NotProcessed, "Lark does not know the open id";
    99992352 User, NotProcessed, "Lark does not know the open id";
    99992353 User, NotProcessed, "Lark does not know the open id";
    99992359 User, NotProcessed, "Lark does not know the user id";
    99992360 User, NotProcessed, "Lark does not know the user id";
    99992363 User, NotProcessed, "Lark does not know the union id";
    99992361 InvalidRequest, NotProcessed, "the open id belongs to another application: look it up with this application";
    99992364 InvalidRequest, NotProcessed, "the user id or union id belongs to another company, or does not exist";
    99992381 InvalidRequest, NotProcessed, "the union id belongs to another company";
    // Contacts.
    41050 User, NotProcessed, "the person is outside the application's contact scope";
    // Messages.
    230013 UNDELIVERABLE, NotProcessed, "the bot is not available to this person";
    230029 UNDELIVERABLE, NotProcessed, "the receiver has resigned";
    230053 UNDELIVERABLE, NotProcessed, "the person stopped the bot";
    230034 UNDELIVERABLE, NotProcessed, "Lark does not know the receiver";
    230002 UNDELIVERABLE, NotProcessed, "the bot is not in the chat";
    230035 UNDELIVERABLE, NotProcessed, "the receiver does not allow messages of the bot";
    230038 UNDELIVERABLE, NotProcessed, "the receiver is in another company";
    230006 App, NotProcessed, "the application's bot is not enabled: add it in the developer console";
    230027 APP_SCOPE, NotProcessed, "the application lacks a permission for this message";
    230049 Transient, NotProcessed, "the message is still being sent";
    230001 InvalidRequest, NotProcessed, "a parameter of the message is malformed";
    230054 UNSUPPORTED, NotProcessed, "Lark does not support the operation for this message";
    230050 UNSUPPORTED, NotProcessed, "the message is not visible to the bot";
    300309 UNSUPPORTED, NotProcessed, "the card does not accept streaming updates";
    230020 RateLimited, NotProcessed, "too many messages to this receiver";
    230011 MessageKind(MessageProblem::Recalled), NotProcessed, "the message was recalled";
    230110 MessageKind(MessageProblem::Deleted), NotProcessed, "the message was deleted";
    99992354 MessageKind(MessageProblem::Deleted), NotProcessed, "Lark does not know the message";
    230031 MessageKind(MessageProblem::TooOld), NotProcessed, "the message is too old to be changed";
    // The content of cards. The codes after the first are also inside the text of the first.
    230099 CARD_REFUSED, NotProcessed, "Lark refuses the content of the card";
    11310 CARD_REFUSED, NotProcessed, "the card has an unknown id or an element that Lark refuses";
    200673 CARD_REFUSED, NotProcessed, "the card in the answer to a callback is malformed";
    200800 CARD_REFUSED, NotProcessed, "Lark cannot build the card";
    200830 CARD_REFUSED, NotProcessed, "a card of schema 2.0 cannot become one of schema 1.0, nor the reverse";
    230022 CARD_REFUSED, NotProcessed, "the card has content that is not allowed";
    230025 CARD_REFUSED, NotProcessed, "the card is too large";
    230028 CARD_REFUSED, NotProcessed, "the card did not pass the company's content check";
};

#[cfg(test)]
mod tests {
    use super::*;

    /// Repeats the platform's tables, written independently of the rows above.
    #[test]
    fn known_codes_every_row_has_kind_of_platform_table() {
        let expect = |codes: &[i64], kind: &ErrorKind| {
            for code in codes {
                assert_eq!(known(*code).map(|row| &row.kind), Some(kind), "{code}");
            }
            codes.len()
        };
        let rows = expect(&[20050, 20072, 20014, 99991663, 99991664, 99991665, 230049], &Transient)
            + expect(&[20003, 20004, 20065], &InvalidGrant)
            + expect(&[20024, 20026, 20037, 20064, 20073, 99991669], &RefreshTokenInvalid)
            + expect(&[20008, 20010, 20066, 20021, 20022, 20023, 41050], &User)
            + expect(&[99992351, 99992352, 99992353, 99992359, 99992360, 99992363], &User)
            + expect(&[20002, 20009, 20048, 20069, 20074, 10003, 10014], &App)
            + expect(&[99991543, 99991662, 99991673, 99991401, 1000040351, 230006], &App)
            + expect(&[20001, 20036, 20049, 20063, 20067, 20068, 20070, 20071], &InvalidRequest)
            + expect(&[99992402, 99992361, 99992364, 99992381, 230001], &InvalidRequest)
            + expect(&[20005, 99991677, 99991668, 99991671], &AccessTokenInvalid)
            + expect(&[99991679], &USER_SCOPE)
            + expect(&[99991672, 20027, 230027], &APP_SCOPE)
            + expect(&[99991400, 230020], &RateLimited)
            + expect(&[230013, 230029, 230053, 230034, 230002, 230035, 230038], &UNDELIVERABLE)
            + expect(&[230054, 230050, 300309], &UNSUPPORTED)
            + expect(&[230099, 11310, 200673, 200800, 200830, 230022, 230025, 230028], &CARD_REFUSED)
            + expect(&[230011], &MessageKind(MessageProblem::Recalled))
            + expect(&[230110, 99992354], &MessageKind(MessageProblem::Deleted))
            + expect(&[230031], &MessageKind(MessageProblem::TooOld));
        assert_eq!(rows, KNOWN_CODES.len(), "a row without an expectation, or twice");
    }

    #[test]
    fn known_codes_only_two_rows_may_be_processed() {
        let open: Vec<_> =
            KNOWN_CODES.iter().filter(|r| r.outcome == MaybeProcessed).map(|r| r.code).collect();
        assert_eq!(open, [20050, 20072]);
    }
}
