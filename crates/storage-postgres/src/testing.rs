/// A PostgreSQL database of its own, migrated, dropped with this value. Tests may make as many as they like at once.
///
/// The server is named by `LARKAUTH_TEST_DATABASE_URL` (default `postgres://root@127.0.0.1:5432/postgres?sslmode=disable`),
/// whose user must be allowed to create databases. What killed test runs left behind is dropped after an hour.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    server: String,
    url: SecretString,
}

impl TestDatabase {
    /// Makes one with the current schema.
    ///
    /// # Panics
    /// When the server cannot be reached or used.
    pub async fn create() -> Self {
        let database = Self::create_empty().await;
        database.store().await.migrate().await.unwrap();
        database
    }

    /// Makes one with nothing in it.
    ///
    /// # Panics
    /// When the server cannot be reached or used.
    pub async fn create_empty() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let server =
            std::env::var("LARKAUTH_TEST_DATABASE_URL").unwrap_or_else(|_| DEFAULT_SERVER.to_owned());
        let mut connection = match PgConnection::connect(&server).await {
            Ok(connection) => connection,
            Err(error) => panic!("tests need PostgreSQL at LARKAUTH_TEST_DATABASE_URL: {error}"),
        };
        let now = SystemClock.now().timestamp();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            drop_leftovers(&mut connection, now).await;
        }
        let name = format!("{PREFIX}{now}_{}_{number}", std::process::id());
        run(&mut connection, format!("create database {name} template template0")).await;
        connection.close().await.unwrap();
        let (address, parameters) = server.split_once('?').unwrap_or((&server, ""));
        let (address, _) = address.rsplit_once('/').unwrap();
        let url = SecretString::from(format!("{address}/{name}?{parameters}"));
        Self { name, server, url }
    }

    /// Its connection string, for processes under test.
    #[must_use]
    pub fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// Options that connect to it: 8 connections, deadlines of 10 s.
    #[must_use]
    pub fn options(&self) -> PgOptions {
        PgOptions {
            url: self.url(),
            max_connections: 8,
            connect_deadline: Duration::from_secs(10),
            statement_deadline: Duration::from_secs(10),
            application_name: "larkauth test".to_owned(),
        }
    }

    /// A store on it, with [`test_cipher`]; each call gives one with a pool of its own, as another process would have.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn store(&self) -> PgStore {
        PgStore::connect(&self.options(), test_cipher()).await.unwrap()
    }

    /// A bare connection, for looking behind the store's back.
    ///
    /// # Panics
    /// When the server cannot be reached.
    pub async fn connection(&self) -> PgConnection {
        PgConnection::connect(self.url.expose_secret()).await.unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // A thread with a runtime of its own: the test's may be on its way out, and this has to be waited for.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await.unwrap();
                run(&mut connection, format!("drop database {name} with (force)")).await;
                connection.close().await.unwrap();
            });
        });
        if dropping.join().is_err() {
            tracing::warn!(name = self.name, "a test database could not be dropped");
        }
    }
}

async fn drop_leftovers(connection: &mut PgConnection, now: i64) {
    let names: Vec<String> =
        sqlx::query_scalar("select datname from pg_database where starts_with(datname, $1)")
            .bind(PREFIX)
            .fetch_all(&mut *connection)
            .await
            .unwrap();
    for name in names {
        let made_at = name[PREFIX.len()..].split('_').next().and_then(|seconds| seconds.parse::<i64>().ok());
        if made_at.is_some_and(|made_at| now - made_at > LEFTOVER_AFTER_SECONDS) {
            // Somebody else may be at it too.
            run(connection, format!("drop database if exists {name} with (force)")).await;
        }
    }
}

async fn run(connection: &mut PgConnection, statement: String) {
    // Names are made above, of letters, digits and underscores.
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.unwrap();
}
