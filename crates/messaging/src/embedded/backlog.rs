use std::path::Path;

use larkauth_contracts::topology::DEAD_LETTER_QUEUE;
use sqlx::{Connection, query_as};
use tokio::time::timeout;

use super::{EmbeddedBus, READING, file, writer::PATIENCE};
use crate::BusError;

/// What a file's bus holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages in work queues, those that wait for their time or are in hand included.
    pub queued: u64,
    /// Dead letters.
    pub dead: u64,
}

impl EmbeddedBus {
    /// Counts what is in the file, without starting a bus on it.
    ///
    /// # Errors
    /// As [`EmbeddedBus::open`].
    pub async fn backlog(path: &Path) -> Result<Backlog, BusError> {
        let path = file::check(path, PATIENCE).await?;
        let counting = async {
            let mut db = file::connect(&path, PATIENCE).await?;
            let counts: (i64, i64) = query_as(
                "select coalesce(sum(messages) filter (where place <> ?1), 0),
                        coalesce(sum(messages) filter (where place = ?1), 0)
                 from bus_lengths",
            )
            .bind(DEAD_LETTER_QUEUE)
            .fetch_one(&mut db)
            .await?;
            db.close().await?;
            Ok(counts)
        };
        let unavailable = |message| BusError::Unavailable { during: READING, message };
        match timeout(2 * PATIENCE, counting).await {
            Ok(Ok((queued, dead))) => {
                Ok(Backlog { queued: queued.unsigned_abs(), dead: dead.unsigned_abs() })
            }
            Ok(Err(error)) => Err(unavailable(file::describe(&error))),
            Err(_) => Err(unavailable("no answer in time".to_owned())),
        }
    }
}
