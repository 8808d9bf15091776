use lapin::ErrorKind;

use crate::BusError;

const CURE: &str = "check that the broker runs and that AMQP_URL points to it";

/// One line about a driver's error. The driver's own text never holds the connection string once it is parsed.
pub(super) fn describe(error: &lapin::Error) -> String {
    let text = match error.kind() {
        ErrorKind::ProtocolError(refusal) => refusal.get_message().to_string(),
        ErrorKind::IOError(error) => error.to_string(),
        ErrorKind::MissingHeartbeatError => "the broker has gone silent".to_owned(),
        _ => error.to_string(),
    };
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The driver failed while doing this.
pub(super) fn unavailable(during: &'static str, error: &lapin::Error) -> BusError {
    BusError::Unavailable { during, message: format!("{}; {CURE}", describe(error)) }
}

/// There was no answer in time while doing this.
pub(super) fn late(during: &'static str) -> BusError {
    BusError::Unavailable { during, message: format!("no answer in time; {CURE}") }
}
