//! Whether each connection has a server session of its own, or a pooler lends one for each transaction (PgBouncer in
//! transaction mode).

use std::time::Duration;

use sqlx::{ConnectOptions, Connection, Row, postgres::PgConnectOptions};

/// Setting that only a session of the connection's own has. PostgreSQL takes any name with a dot.
const MARK: (&str, &str) = ("larkauth.session", "own");

/// Who keeps the session of a connection.
#[derive(Clone, Debug)]
pub(crate) enum SessionMode {
    /// The server, as long as the connection lives: deadlines and prepared statements belong to it.
    Own,
    /// A pooler, for one transaction. The statement begins a transaction that has the deadlines.
    Pooled { begin: String },
}

/// Opens and closes a connection, and returns the options and the mode of all others.
///
/// A pooler refuses the parameters of a session, or ignores them. Both show here.
pub(crate) async fn probe(
    plain: PgConnectOptions,
    deadline: Duration,
) -> sqlx::Result<(PgConnectOptions, SessionMode)> {
    let millis = deadline.as_millis();
    let session = plain.clone().options([
        ("statement_timeout", millis),
        ("lock_timeout", millis),
        ("idle_in_transaction_session_timeout", 2 * millis),
    ]);
    let session = session.options([MARK]);
    match session.connect().await {
        Ok(mut connection) => {
            // A simple query, which poolers of every version take.
            let query = sqlx::raw_sql("select current_setting('larkauth.session', true)");
            let marked: Option<String> = query.fetch_one(&mut connection).await?.try_get(0)?;
            connection.close().await?;
            if marked.as_deref() == Some(MARK.1) {
                return Ok((session, SessionMode::Own));
            }
        }
        Err(sqlx::Error::Database(error)) if refuses_parameter(error.code().as_deref()) => {
            plain.connect().await?.close().await?;
        }
        Err(error) => return Err(error),
    }
    tracing::info!(
        "PostgreSQL is reached through a pooler: each call is one transaction, and statements are not kept prepared"
    );
    Ok((plain, SessionMode::Pooled { begin: begin(millis) }))
}

fn begin(millis: u128) -> String {
    format!(
        "begin; set local statement_timeout = {millis}; set local lock_timeout = {millis}; \
         set local idle_in_transaction_session_timeout = {}",
        2 * millis
    )
}

/// Returns whether a SQLSTATE is that of a parameter which the other side does not take.
fn refuses_parameter(code: Option<&str>) -> bool {
    const CODES: [&str; 5] = [
        "08P01", // protocol violation: PgBouncer
        "0A000", // feature not supported
        "22023", // invalid parameter value
        "42501", // insufficient privilege
        "42704", // undefined object
    ];
    code.is_some_and(|code| CODES.contains(&code))
}
