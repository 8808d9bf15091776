//! Changes as notifications. The triggers of `migrations/postgres/0018_changes_and_repeats.sql` send them.

use std::time::Duration;

use async_trait::async_trait;
use larkauth_storage::{Change, ChangeFeed, Changes, Result, StorageError, backend::driver::too_late};
use sqlx::{
    postgres::{PgListener, PgPoolOptions},
    query,
};
use tokio::time::timeout;

use crate::{error::translate, session_mode::SessionMode, store::PgStore};

/// Channel of the triggers.
const CHANNEL: &str = "larkauth_changes";
const DURING: &str = "following changes";

#[async_trait]
impl Changes for PgStore {
    async fn change_feed(&self) -> Result<Option<Box<dyn ChangeFeed>>> {
        if matches!(self.mode, SessionMode::Pooled { .. }) {
            // A pooler lends a session for one transaction, and notifications belong to a session.
            return Ok(None);
        }
        // A pool of its own: the connection is held for as long as the feed is used.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(self.deadline)
            .max_lifetime(None)
            .connect_lazy_with((*self.pool.connect_options()).clone());
        let opening = async {
            let mut listener = PgListener::connect_with(&pool).await?;
            // A lost connection ends the feed: what was announced meanwhile is lost too.
            listener.eager_reconnect(false);
            let own = query!(r#"select pg_backend_pid() as "pid!""#).fetch_one(&mut listener).await?.pid;
            // Marks of this feed come back in the order of all notifications of the database.
            let own = format!("larkauth_feed_{own}");
            listener.listen_all([CHANNEL, &own]).await?;
            Ok(PgFeed {
                listener,
                own,
                marks: 0,
                arrived: Vec::new(),
                deadline: self.deadline,
                is_lost: false,
            })
        };
        let feed = timeout(self.deadline, opening)
            .await
            .map_err(|_| too_late(DURING, self.deadline))?
            .map_err(|error| translate(DURING, &error))?;
        Ok(Some(Box::new(feed)))
    }
}

struct PgFeed {
    listener: PgListener,
    /// Channel of this feed's marks.
    own: String,
    /// Number of the last mark.
    marks: u64,
    /// Changes that have arrived and were not returned.
    arrived: Vec<Change>,
    deadline: Duration,
    is_lost: bool,
}

#[async_trait]
impl ChangeFeed for PgFeed {
    async fn next(&mut self) -> Result<Vec<Change>> {
        let deadline = self.deadline;
        timeout(deadline, self.up_to_mark()).await.map_err(|_| too_late(DURING, deadline))??;
        Ok(std::mem::take(&mut self.arrived))
    }

    async fn arrived(&mut self) {
        if self.is_lost {
            // The next call reports it.
            return;
        }
        if self.receive().await.is_err() {
            self.is_lost = true;
        }
    }
}

impl PgFeed {
    /// Sends a mark and receives until it comes back. The server delivers notifications in the order of their commits, so
    /// every change that was committed before the mark has arrived then.
    async fn up_to_mark(&mut self) -> Result<()> {
        if self.is_lost {
            return Err(lost());
        }
        self.marks += 1;
        let mark = self.marks.to_string();
        query!("select pg_notify($1, $2)", self.own, mark)
            .execute(&mut self.listener)
            .await
            .map_err(|error| translate(DURING, &error))?;
        while self.receive().await? != Some(self.marks) {}
        Ok(())
    }

    /// Receives one notification and returns its number if it is a mark.
    async fn receive(&mut self) -> Result<Option<u64>> {
        let received = self.listener.try_recv().await.map_err(|error| translate(DURING, &error))?;
        let notification = received.ok_or_else(lost)?;
        if notification.channel() == self.own {
            return Ok(notification.payload().parse().ok());
        }
        self.arrived.push(change(notification.payload()));
        Ok(None)
    }
}

fn lost() -> StorageError {
    StorageError::Unavailable { during: DURING, message: "the connection was lost".to_owned() }
}

/// Reads a notification. One of a later version may concern everything.
fn change(payload: &str) -> Change {
    let mut words = payload.split(' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("token"), Some(app_id), Some(open_id), None) => {
            Change::Token { app_id: app_id.to_owned(), open_id: open_id.to_owned() }
        }
        (Some("applications"), None, ..) => Change::Applications,
        (Some("api_keys"), None, ..) => Change::ApiKeys,
        _ => Change::Everything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_of_unknown_payload_is_everything() {
        let token = Change::Token { app_id: "cli_1".to_owned(), open_id: "ou_1".to_owned() };
        assert_eq!(change("token cli_1 ou_1"), token);
        assert_eq!([change("applications"), change("api_keys")], [Change::Applications, Change::ApiKeys]);
        for other in ["", "access_tokens", "token cli_1", "token cli_1 ou_1 x", "tenants"] {
            assert_eq!(change(other), Change::Everything, "{other}");
        }
    }
}
