//! Reading tokens of people, many with one query.
//!
//! A connection of the pool costs three round trips for one query: the pool tests it before and after. Here one task holds a
//! connection while there is something to read, and reads with each query everything that was asked for meanwhile.

use std::{collections::HashMap, time::Duration};

use larkauth_models::{AppId, OpenId};
use larkauth_storage::{
    Result, StorageError,
    backend::{driver::too_late, rows::TokenRow},
};
use sqlx::{PgConnection, PgPool, Postgres, pool::PoolConnection, query_as};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout, timeout_at},
};

use crate::error::translate;

/// Most tokens that one query reads.
const BATCH: usize = 64;
/// Most reads that wait for a place in a batch. Others wait until there is room, within their deadline.
const WAITING: usize = 1024;
/// How long the connection is held without a read: 20 ms. It returns to the pool then.
const HOLD: Duration = Duration::from_millis(20);
const DURING: &str = "reading a token";

type Key = (String, String);
type Answer = Result<Option<TokenRow>>;

struct Request {
    key: Key,
    answer: oneshot::Sender<Answer>,
}

/// Owns the task that reads. It ends with the last clone of the store.
pub(crate) struct TokenReader {
    requests: mpsc::Sender<Request>,
    deadline: Duration,
    /// Aborts the task when it is dropped.
    _task: JoinSet<()>,
}

impl TokenReader {
    pub(crate) fn new(pool: PgPool, deadline: Duration) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING);
        let mut task = JoinSet::new();
        task.spawn(Reading { pool, deadline, held: None, waiting }.run());
        Self { requests, deadline, _task: task }
    }

    /// Returns the row of a person's token, unless it is revoked.
    pub(crate) async fn read(&self, app_id: &AppId, open_id: &OpenId) -> Answer {
        let (answer, answered) = oneshot::channel();
        let request = Request { key: (app_id.to_string(), open_id.to_string()), answer };
        let reading = async {
            self.requests.send(request).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        };
        timeout(self.deadline, reading).await.map_err(|_| too_late(DURING, self.deadline))?
    }
}

struct Reading {
    pool: PgPool,
    deadline: Duration,
    held: Option<PoolConnection<Postgres>>,
    waiting: mpsc::Receiver<Request>,
}

impl Reading {
    async fn run(mut self) {
        while let Some(first) = self.next().await {
            let mut batch: HashMap<Key, Vec<oneshot::Sender<Answer>>> = HashMap::new();
            let mut add = |request: Request| {
                batch.entry(request.key).or_default().push(request.answer);
                batch.len()
            };
            let mut length = add(first);
            while length < BATCH
                && let Ok(request) = self.waiting.try_recv()
            {
                length = add(request);
            }
            // Callers that stopped waiting need no query.
            batch.retain(|_, callers| callers.iter().any(|caller| !caller.is_closed()));
            if !batch.is_empty() {
                let keys: Vec<_> = batch.keys().cloned().collect();
                let rows = self.read(&keys).await;
                answer(batch, rows);
            }
        }
    }

    /// Returns the next request. Gives the connection back when there is none soon.
    async fn next(&mut self) -> Option<Request> {
        if self.held.is_some() {
            match timeout(HOLD, self.waiting.recv()).await {
                Ok(request) => return request,
                Err(_) => self.held = None,
            }
        }
        self.waiting.recv().await
    }

    async fn read(&mut self, keys: &[Key]) -> Result<Vec<TokenRow>> {
        let until = Instant::now() + self.deadline;
        let was_held = self.held.is_some();
        match self.read_once(keys, until).await {
            // The server may have closed the connection between two queries. A read can be repeated.
            Err(error) if was_held && error.is_transient() => self.read_once(keys, until).await,
            read => read,
        }
    }

    async fn read_once(&mut self, keys: &[Key], until: Instant) -> Result<Vec<TokenRow>> {
        let late = || too_late(DURING, self.deadline);
        let mut connection = match self.held.take() {
            Some(connection) => connection,
            None => timeout_at(until, self.pool.acquire())
                .await
                .map_err(|_| late())?
                .map_err(|error| translate(DURING, &error))?,
        };
        let rows = timeout_at(until, rows(&mut connection, keys)).await;
        let failure = match rows {
            Ok(Ok(rows)) => {
                self.held = Some(connection);
                return Ok(rows);
            }
            Ok(Err(error)) => translate(DURING, &error),
            Err(_) => late(),
        };
        // The statement may still be running, or the peer is gone.
        connection.close_on_drop();
        Err(failure)
    }
}

async fn rows(db: &mut PgConnection, keys: &[Key]) -> sqlx::Result<Vec<TokenRow>> {
    let (app_ids, open_ids): (Vec<_>, Vec<_>) = keys.iter().cloned().unzip();
    // `offset 0` keeps the planner from joining the table as a whole: each token is one look into the index.
    query_as!(
        TokenRow,
        r#"select t.app_id as "app_id!", t.open_id as "open_id!", t.kind as "kind!", t.access_token_sealed,
                  t.access_expires_at as "access_expires_at!", t.refresh_token_sealed, t.refresh_expires_at,
                  t.scopes as "scopes!", t.issued_at as "issued_at!", t.granted_at as "granted_at!",
                  t.generation as "generation!", t.status as "status!", t.failures as "failures!", t.next_attempt_at,
                  t.last_used_at
           from unnest($1::text[], $2::text[]) as wanted (app_id, open_id)
           cross join lateral (
               select * from access_tokens a
               where a.app_id = wanted.app_id and a.open_id = wanted.open_id and a.kind = 'user'
                 and a.status <> 'revoked'
               offset 0) t"#,
        &app_ids,
        &open_ids
    )
    .fetch_all(db)
    .await
}

fn answer(batch: HashMap<Key, Vec<oneshot::Sender<Answer>>>, rows: Result<Vec<TokenRow>>) {
    let mut found = match rows {
        Ok(rows) => {
            let rows = rows.into_iter().map(|row| ((row.app_id.clone(), row.open_id.clone()), row));
            Ok(rows.collect::<HashMap<_, _>>())
        }
        Err(error) => Err(error),
    };
    for (key, callers) in batch {
        let row = match &mut found {
            Ok(rows) => Ok(rows.remove(&key)),
            Err(error) => Err(copy(error)),
        };
        for caller in callers {
            // A caller that stopped waiting needs no answer.
            let _ = caller.send(row.as_ref().map(Option::clone).map_err(copy));
        }
    }
}

/// Returns the failure of a query for each of its callers.
fn copy(error: &StorageError) -> StorageError {
    match error {
        StorageError::Unavailable { during, message } => {
            StorageError::Unavailable { during, message: message.clone() }
        }
        error => StorageError::Refused { during: DURING, message: error.to_string() },
    }
}

fn closed() -> StorageError {
    StorageError::Unavailable { during: DURING, message: "the store is closed".to_owned() }
}
