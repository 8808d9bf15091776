use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use larkauth_models::{ExposeSecret, SecretString, Timestamp};
use larkauth_net::Trust;
use larkauth_storage::{
    Cipher, Result, Store,
    backend::driver::{self, too_late},
};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgPoolOptions, PgQueryResult},
    query_scalar,
};
use tokio::time::timeout;

#[cfg(target_os = "linux")]
use crate::relay::{self, Relay};
use crate::{
    connect,
    error::translate,
    session_mode::{self, SessionMode},
    token_reader::TokenReader,
};

/// How to reach PostgreSQL.
#[derive(Clone, Debug)]
pub struct PgOptions {
    /// `postgres://user:password@host:port/database`.
    pub url: SecretString,
    /// Authorities for the certificate of a server on another machine.
    pub trust: Trust,
    /// Maximum number of connections.
    pub max_connections: u32,
    /// Deadline of the first connection.
    pub connect_deadline: Duration,
    /// Deadline of one call of the store, including the wait for a free connection. The server cancels single
    /// statements and lock waits after the same time.
    pub statement_deadline: Duration,
    /// Name of this process in `pg_stat_activity`.
    pub application_name: String,
}

/// A store in PostgreSQL. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct PgStore {
    pub(crate) pool: PgPool,
    pub(crate) cipher: Cipher,
    pub(crate) deadline: Duration,
    pub(crate) mode: SessionMode,
    pub(crate) tokens: Arc<TokenReader>,
    #[cfg(target_os = "linux")]
    _relay: Option<Relay>,
}

impl PgStore {
    /// Opens and closes one connection to detect errors early, and creates the pool. Changes nothing in the database.
    /// Behind a pooler that lends a session for one transaction, each call is one.
    ///
    /// # Errors
    /// Fails when the URL is malformed, or when no connection is established before the deadline.
    pub async fn connect(options: &PgOptions, cipher: Cipher) -> Result<Self> {
        const DURING: &str = "connecting";
        let plain = connect::options(options.url.expose_secret(), &options.trust)
            .map_err(|error| translate(DURING, &error))?
            .application_name(&options.application_name)
            // Statements are not logged: their parameters are not for logs, and each caller has its own span.
            .disable_statement_logging();
        #[cfg(target_os = "linux")]
        let (plain, relay) = {
            // Two more than the pool has: the connection that detects errors, and that of the change feed.
            let most = options.max_connections as usize + 2;
            let through = relay::through(plain, most, options.statement_deadline).await;
            through.map_err(|error| translate(DURING, &error))?
        };
        // The pool would retry until its deadline and then report no reason.
        let probing = session_mode::probe(plain, options.statement_deadline);
        let (connect, mode) = timeout(options.connect_deadline, probing)
            .await
            .map_err(|_| too_late(DURING, options.connect_deadline))?
            .map_err(|error| {
                #[cfg(target_os = "linux")]
                let error = match &relay {
                    Some(relay) => relay.reason(error),
                    None => error,
                };
                translate(DURING, &error)
            })?;
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.statement_deadline)
            .connect_lazy_with(connect);
        let tokens = Arc::new(TokenReader::new(pool.clone(), options.statement_deadline));
        Ok(Self {
            pool,
            cipher,
            deadline: options.statement_deadline,
            mode,
            tokens,
            #[cfg(target_os = "linux")]
            _relay: relay,
        })
    }

    /// Lends a connection to `work` until the deadline.
    pub(crate) async fn call<T>(
        &self,
        during: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T> {
        let (pool, deadline) = (&self.pool, self.deadline);
        match &self.mode {
            SessionMode::Own => driver::call(pool, deadline, during, translate, work).await,
            SessionMode::Pooled { begin } => {
                let in_transaction = async |db: &mut PgConnection| {
                    let mut tx = db.begin_with(AssertSqlSafe(begin.clone())).await?;
                    let result = work(&mut tx).await?;
                    // The next transaction has another session, in which these statements are not prepared.
                    tx.clear_cached_statements().await?;
                    tx.commit().await?;
                    Ok(result)
                };
                driver::call(pool, deadline, during, translate, in_transaction).await
            }
        }
    }

    /// Runs a statement that changes one row or none. Returns whether it changed one.
    pub(crate) async fn change(
        &self,
        during: &'static str,
        statement: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<PgQueryResult>,
    ) -> Result<bool> {
        Ok(self.call(during, statement).await?.rows_affected() == 1)
    }
}

impl fmt::Debug for PgStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgStore").finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PgStore {
    async fn ping(&self) -> Result<Timestamp> {
        self.call("answering a ping", async |db| {
            query_scalar!(r#"select clock_timestamp() as "now!""#).fetch_one(db).await
        })
        .await
    }

    async fn close(&self) {
        driver::close(&self.pool, self.deadline).await;
    }
}
