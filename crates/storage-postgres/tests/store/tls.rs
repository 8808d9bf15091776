//! TLS to PostgreSQL. `0.0.0.0` leads to this machine and counts as another one, like every address that is not loopback.

use std::net::SocketAddr;

use larkauth_models::{ExposeSecret, SecretString};
use larkauth_net::{
    Trust,
    testing::{Authority, TlsServer, Validity},
};
use larkauth_storage::{StorageError, Store, testing::test_cipher};
use larkauth_storage_postgres::{PgOptions, PgStore, testing::TestDatabase};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use url::Url;

/// Returns the test's server and the options to reach the database through another address.
fn through(database: &TestDatabase, host: &str, port: u16, query: &str, trust: Trust) -> PgOptions {
    let mut url = Url::parse(database.url().expose_secret()).unwrap();
    url.set_host(Some(host)).unwrap();
    url.set_port(Some(port)).unwrap();
    url.set_query((!query.is_empty()).then_some(query));
    PgOptions { url: SecretString::from(url.to_string()), trust, ..database.options() }
}

async fn server_of(database: &TestDatabase) -> SocketAddr {
    let url = Url::parse(database.url().expose_secret()).unwrap();
    let (host, port) = (url.host_str().unwrap().to_owned(), url.port().unwrap_or(5432));
    tokio::net::lookup_host((host, port)).await.unwrap().next().unwrap()
}

async fn refused(options: &PgOptions) -> String {
    let error = PgStore::connect(options, test_cipher()).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn connect_to_another_machine_verifies_and_says_whose_fault() {
    let database = TestDatabase::create().await;
    let server = server_of(&database).await;
    let (ours, other) = (Authority::new(), Authority::new());
    for (authority, name, validity, said) in [
        (&ours, "0.0.0.0", Validity::Now, None),
        (&other, "0.0.0.0", Validity::Now, Some("give its CA certificate with DATABASE_CA_FILE")),
        (&ours, "db.test", Validity::Now, Some("not for 0.0.0.0; correct the host in the address")),
        (&ours, "0.0.0.0", Validity::Expired, Some("has expired; its operator must renew it")),
    ] {
        let config = authority.issue(&[name], validity).server_config();
        let tls = TlsServer::in_front_of_postgres(server, config).await;
        let options = through(&database, "0.0.0.0", tls.address().port(), "", ours.trust());
        match said {
            None => {
                let store = PgStore::connect(&options, test_cipher()).await.unwrap();
                store.ping().await.unwrap();
                store.close().await;
            }
            Some(said) => {
                let error = refused(&options).await;
                assert!(error.contains(said), "{error}");
            }
        }
    }
}

#[tokio::test]
async fn connect_with_file_of_the_url_trusts_it() {
    let database = TestDatabase::create().await;
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = authority.write(folder.path());
    let config = authority.issue(&["127.0.0.1"], Validity::Now).server_config();
    let tls = TlsServer::in_front_of_postgres(server_of(&database).await, config).await;
    let query = format!("sslmode=verify-full&sslrootcert={}", path.display());
    let options = through(&database, "127.0.0.1", tls.address().port(), &query, Trust::default());
    PgStore::connect(&options, test_cipher()).await.unwrap().close().await;
    let options =
        through(&database, "127.0.0.1", tls.address().port(), "sslmode=verify-full", Trust::default());
    assert!(refused(&options).await.contains("DATABASE_CA_FILE"));
}

#[tokio::test]
async fn connect_to_another_machine_without_tls_is_refused_with_the_way_to_allow_it() {
    let database = TestDatabase::create().await;
    // A server that answers a request for TLS with no.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 8];
            if stream.read_exact(&mut request).await.is_ok() {
                stream.write_all(b"N").await.ok();
            }
        }
    });
    let error = refused(&through(&database, "0.0.0.0", port, "", Trust::default())).await;
    assert!(
        error.contains("offers no TLS") && error.contains("add `?sslmode=disable` to DATABASE_URL"),
        "{error}"
    );
}

#[tokio::test]
async fn connect_to_another_machine_with_sslmode_disable_is_plain() {
    let database = TestDatabase::create().await;
    let server = server_of(&database).await;
    if !server.ip().is_loopback() {
        return;
    }
    let options = through(&database, "0.0.0.0", server.port(), "sslmode=disable", Trust::default());
    PgStore::connect(&options, test_cipher()).await.unwrap().close().await;
}
