//! Whether two stores are on one database, also under different addresses.

use larkauth_storage::Result;
use sqlx::{Connection, PgConnection, query_scalar};

use crate::store::PgStore;

impl PgStore {
    /// Returns whether this store and the other are on one database of one server. The servers decide: an advisory lock
    /// taken here is held there, too, only if the database is the same. `key` is random, so that no other lock has it.
    ///
    /// # Errors
    /// When one of them does not answer.
    pub async fn is_same_database(&self, other: &Self, key: i64) -> Result<bool> {
        self.call("comparing databases", async |db| {
            let mut tx = db.begin().await?;
            let is_locked_here = lock(&mut tx, key).await?;
            let seen = other.call("comparing databases", async |db| {
                let mut tx = db.begin().await?;
                let is_free = lock(&mut tx, key).await?;
                tx.rollback().await?;
                Ok(is_free)
            });
            let is_free_there = seen.await;
            tx.rollback().await?;
            Ok(is_free_there.map(|is_free_there| is_locked_here && !is_free_there))
        })
        .await?
    }
}

/// Takes an advisory lock until the end of the transaction; false when another session has it.
async fn lock(db: &mut PgConnection, key: i64) -> sqlx::Result<bool> {
    query_scalar("select pg_try_advisory_xact_lock($1)").bind(key).fetch_one(db).await
}
