//! PostgreSQL behind the traits of this crate.

mod api_keys;
mod applications;
mod creation;
mod error;
mod events;
mod exchange;
mod job_ticks;
mod people;
mod portable;
mod schema;
mod sessions;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use larkauth_models::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use self::error::translate;
use crate::{
    Cipher, Result, Store,
    driver::{self, too_late},
};

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// At most so many connections.
    pub max_connections: u32,
    /// How long the first connection may take.
    pub connect_deadline: Duration,
    /// How long one call of the store may take, waiting for a free connection included. The server is told to give up
    /// on single statements and locks after the same time.
    pub statement_deadline: Duration,
    /// What `pg_stat_activity` calls this process.
    pub application_name: String,
}

/// PostgreSQL. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct PgStore {
    pool: PgPool,
    cipher: Cipher,
    deadline: Duration,
}

impl PgStore {
    /// Connects once, to say early what is wrong. Creates and changes nothing.
    ///
    /// # Errors
    /// When the URL is malformed, or the database does not let this process in before the deadline.
    pub async fn connect(options: &PgOptions, cipher: Cipher) -> Result<Self> {
        const DURING: &str = "connecting";
        let millis = options.statement_deadline.as_millis();
        let connect = options
            .url
            .expose_secret()
            .parse::<PgConnectOptions>()
            .map_err(|error| translate(DURING, &error))?
            .application_name(&options.application_name)
            .options([
                ("statement_timeout", millis),
                ("lock_timeout", millis),
                ("idle_in_transaction_session_timeout", 2 * millis),
            ])
            // Statements are not logged: what they are bound to is not for logs, and each caller has a span of its own.
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.statement_deadline)
            .connect_lazy_with(connect.clone());
        // The pool would try again and again until its deadline, and then not say why.
        timeout(options.connect_deadline, async { connect.connect().await?.close().await })
            .await
            .map_err(|_| too_late(DURING, options.connect_deadline))?
            .map_err(|error| translate(DURING, &error))?;
        Ok(Self { pool, cipher, deadline: options.statement_deadline })
    }

    /// Lends a connection to `work` until the deadline.
    async fn call<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T> {
        driver::call(&self.pool, self.deadline, during, translate, work).await
    }
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PgStore {
    async fn ping(&self) -> Result<()> {
        self.call("answering a ping", async |db| db.ping().await).await
    }

    async fn close(&self) {
        driver::close(&self.pool, self.deadline).await;
    }
}
