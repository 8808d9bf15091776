use lapin::ErrorKind;

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

/// Returns the error of an operation that the driver failed.
pub(super) fn unavailable(during: &'static str, error: &lapin::Error) -> BusError {
    BusError::Unavailable { during, message: format!("{}; {REMEDY}", describe(error)) }
}

/// Returns the error of an operation that missed its deadline.
pub(super) fn late(during: &'static str) -> BusError {
    BusError::Unavailable { during, message: format!("no answer in time; {REMEDY}") }
}
