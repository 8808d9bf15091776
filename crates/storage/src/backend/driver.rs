//! Use of both databases' drivers: connections lent until a deadline, and driver errors translated to [`StorageError`].

use std::time::Duration;

use sqlx::{Database, Error, Pool, pool::PoolConnection};
use tokio::time::{Instant, timeout, timeout_at};

use crate::{PoolUsage, Result, StorageError};

/// Lends a connection to `work`. The deadline covers the wait for a free connection too.
pub async fn call<DB: Database, T>(
    pool: &Pool<DB>,
    deadline: Duration,
    during: &'static str,
    translate: fn(&'static str, &Error) -> StorageError,
    work: impl AsyncFnOnce(&mut DB::Connection) -> sqlx::Result<T>,
) -> Result<T> {
    let until = Instant::now() + deadline;
    let connection = timeout_at(until, pool.acquire())
        .await
        .map_err(|_| too_late(during, deadline))?
        .map_err(|error| unconnected(translate(during, &error), &error))?;
    let mut lent = Lent { connection, done: false };
    let result = timeout_at(until, work(&mut lent.connection))
        .await
        .map_err(|_| too_late(during, deadline))?
        .map_err(|error| translate(during, &error))?;
    lent.done = true;
    Ok(result)
}

/// Returns the translated error of a connection that was not made. What the database answers then is about its condition, also with
/// a code that means a defect of a statement elsewhere: no statement has been sent.
fn unconnected(translated: StorageError, error: &Error) -> StorageError {
    match translated {
        StorageError::Refused { during, message } if matches!(error, Error::Database(_)) => {
            StorageError::Unavailable { during, message }
        }
        other => other,
    }
}

/// Waits until running calls have ended, then closes the pool. Every call has a deadline, so the wait has one too.
pub async fn close<DB: Database>(pool: &Pool<DB>, deadline: Duration) {
    if timeout(2 * deadline, pool.close()).await.is_err() {
        tracing::warn!("database connections were still in use at shutdown and were cut");
    }
}

/// Returns the connections of the pools together.
#[must_use]
pub fn usage<DB: Database>(pools: &[&Pool<DB>]) -> PoolUsage {
    let mut usage = PoolUsage::default();
    for pool in pools {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        usage.idle += idle;
        usage.used += pool.size().saturating_sub(idle);
        usage.limit += pool.options().get_max_connections();
    }
    usage
}

/// A connection taken from the pool. It returns to the pool only after a successful call. A call that failed, exceeded
/// its deadline or was dropped may leave a running statement or a dead peer behind, so its connection is closed.
struct Lent<DB: Database> {
    connection: PoolConnection<DB>,
    done: bool,
}

impl<DB: Database> Drop for Lent<DB> {
    fn drop(&mut self) {
        if !self.done {
            self.connection.close_on_drop();
        }
    }
}

/// Returns the error of a call that exceeded its deadline.
#[must_use]
pub fn too_late(during: &'static str, deadline: Duration) -> StorageError {
    StorageError::Unavailable { during, message: format!("no answer within {deadline:?}") }
}

/// Translates a driver error. The message names codes, constraints and columns, but no value and no connection string;
/// a driver message that could quote a value is replaced. `is_transient` classifies the database's own codes: true for
/// a code that describes the condition of the database, false for a code that describes the statement.
pub fn translate(during: &'static str, error: &Error, is_transient: fn(&str) -> bool) -> StorageError {
    let message = match error {
        Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let message = format!("{} ({code})", database.message());
            return if is_transient(&code) {
                StorageError::Unavailable { during, message }
            } else {
                StorageError::Refused { during, message }
            };
        }
        Error::PoolTimedOut => "no connection became free or could be made in time".to_owned(),
        Error::Io(_) | Error::Tls(_) | Error::Protocol(_) | Error::PoolClosed | Error::WorkerCrashed => {
            error.to_string()
        }
        Error::ColumnDecode { index, .. } => {
            let message = format!("column {index} is not of the expected type");
            return StorageError::Refused { during, message };
        }
        Error::Decode(_) | Error::Encode(_) | Error::InvalidArgument(_) => {
            let message = "a value is not of the expected type".to_owned();
            return StorageError::Refused { during, message };
        }
        _ => return StorageError::Refused { during, message: error.to_string() },
    };
    StorageError::Unavailable { during, message }
}
