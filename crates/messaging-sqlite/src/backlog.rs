use std::path::Path;

use larkauth_contracts::topology::DEAD_LETTER_QUEUE;
use larkauth_messaging::BusError;
use sqlx::{Connection, query};
use tokio::time::timeout;

use crate::{
    bus::EmbeddedBus,
    engine::READING,
    file::{self, BUSY_TIMEOUT},
};

/// Numbers of messages in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Messages in work queues, delayed and unacknowledged ones included.
    pub queued: u64,
    /// Dead letters.
    pub dead: u64,
}

impl EmbeddedBus {
    /// Counts the messages in the file, without a running bus.
    ///
    /// # Errors
    /// As [`EmbeddedBus::open`].
    pub async fn backlog(path: &Path) -> Result<Backlog, BusError> {
        let path = file::check(path).await?;
        let counting = async {
            let options = larkauth_sqlite::options(&path, BUSY_TIMEOUT);
            let mut db = larkauth_sqlite::connect(&options, BUSY_TIMEOUT).await?;
            let counts = query!(
                r#"select coalesce(sum(messages) filter (where place <> ?1), 0) as "queued!: i64",
                          coalesce(sum(messages) filter (where place = ?1), 0) as "dead!: i64"
                   from bus_lengths"#,
                DEAD_LETTER_QUEUE
            )
            .fetch_one(&mut db)
            .await?;
            db.close().await?;
            Ok(Backlog { queued: counts.queued.unsigned_abs(), dead: counts.dead.unsigned_abs() })
        };
        let unavailable = |message| BusError::Unavailable { during: READING, message };
        match timeout(2 * BUSY_TIMEOUT, counting).await {
            Ok(Ok(backlog)) => Ok(backlog),
            Ok(Err(error)) => Err(unavailable(file::describe(&error))),
            Err(_) => Err(unavailable("no answer in time".to_owned())),
        }
    }
}
