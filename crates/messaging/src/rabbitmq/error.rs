use lapin::ErrorKind;
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
