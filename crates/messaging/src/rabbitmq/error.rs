use lapin::{
    ErrorKind,
    protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError},
};
use larkauth_net::explain_tls;

use crate::BusError;

const REMEDY: &str = "check that the broker runs and that AMQP_URL points to it";

/// Describes a driver's error in one line. The driver's text never contains the connection string once it is parsed.
pub(super) fn describe(error: &lapin::Error) -> String {
    let text = match error.kind() {
        ErrorKind::ProtocolError(refusal) => refusal.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::MissingHeartbeatError => "the broker is silent".to_owned(),
        _ => error.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Explains an error of TLS, whose text names its own cure.
pub(super) fn tls_fault(error: &lapin::Error) -> Option<String> {
    match error.kind() {
        ErrorKind::IOError(error) => explain_tls(&**error, "AMQP_CA_FILE"),
        _ => None,
    }
}

/// Returns the error of an operation that the driver failed.
pub(super) fn unavailable(during: &'static str, error: &lapin::Error) -> BusError {
    let message = match tls_fault(error) {
        Some(fault) => fault,
        None => format!("{}; {REMEDY}", describe(error)),
    };
    BusError::Unavailable { during, message }
}

/// Returns the error of an operation that missed its deadline.
pub(super) fn late(during: &'static str) -> BusError {
    BusError::Unavailable { during, message: format!("no answer in time; {REMEDY}") }
}

/// Returns whether the broker refused the connection for good: the credentials (403) or the virtual host (530). Every other
/// protocol error passes by itself: a booting or stopping broker answers 541, 320 or 404.
pub(super) fn is_refusal(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(refusal) => matches!(
            refusal.kind(),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)
                | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::AMQPError;

    use super::*;

    #[test]
    fn is_refusal_of_booting_broker_is_false() {
        let refused =
            |kind| is_refusal(&ErrorKind::ProtocolError(AMQPError::new(kind, "text".into())).into());
        for hard in
            [AMQPHardError::INTERNALERROR, AMQPHardError::CONNECTIONFORCED, AMQPHardError::RESOURCEERROR]
        {
            assert!(!refused(AMQPErrorKind::Hard(hard.clone())), "{hard:?}");
        }
        assert!(!refused(AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND)));
        assert!(refused(AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED)));
        assert!(refused(AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)));
    }
}
