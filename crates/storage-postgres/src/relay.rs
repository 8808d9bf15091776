//! The way to a server whose name has several addresses.
//!
//! The driver tries one address after the other, each for as long as the operating system does, so one that never answers
//! takes the whole deadline. Its socket cannot be replaced, but its address can: it connects to a Unix socket of this
//! process, behind which each address has a share of the deadline. TLS passes through, with the name of the server.

use std::{
    io,
    net::SocketAddr,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr as UnixAddr, UnixListener as StdListener},
    },
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use larkauth_models::{Entropy, OsEntropy};
use larkauth_net::connect_addresses;
use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::copy,
    net::{TcpStream, UnixListener, UnixStream, lookup_host},
    task::JoinSet,
    time::{sleep, timeout},
};

/// Pause after a connection that could not be accepted, 100 ms.
const PAUSE: Duration = Duration::from_millis(100);

/// Passes connections on to a server. Dropping the last clone ends them.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    failure: Failure,
    _task: Arc<JoinSet<()>>,
}

/// Why the last attempt to connect failed, which the driver cannot see.
type Failure = Arc<Mutex<Option<io::Error>>>;

impl Relay {
    /// Returns the reason of a failed connection in the place of the driver's, which sees only its end.
    pub(crate) fn reason(&self, error: sqlx::Error) -> sqlx::Error {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(error, sqlx::Error::Io)
    }
}

/// Where connections go.
#[derive(Clone, Debug)]
enum Target {
    /// A name, looked up for each connection.
    Host(String, u16),
    /// What a name would lead to.
    #[cfg(test)]
    Addresses(Vec<SocketAddr>),
}

/// Returns the options with a relay where the name of the server has several addresses; else unchanged, and so for an error
/// of the look-up, which the driver reports. `most` bounds the connections, `at_most` is the deadline of each.
pub(crate) async fn through(
    options: PgConnectOptions,
    most: usize,
    at_most: Duration,
) -> sqlx::Result<(PgConnectOptions, Option<Relay>)> {
    if options.get_socket().is_some() || options.get_host().starts_with('/') {
        return Ok((options, None));
    }
    let target = Target::Host(options.get_host().to_owned(), options.get_port());
    match target.addresses(at_most).await {
        Ok(addresses) if is_needed(&addresses) => {
            let (options, relay) = start(options, target, most, at_most)?;
            Ok((options, Some(relay)))
        }
        Ok(_) | Err(_) => Ok((options, None)),
    }
}

/// Returns whether an address may be silent while another one answers. Those of this machine are not.
fn is_needed(addresses: &[SocketAddr]) -> bool {
    addresses.len() > 1 && !addresses.iter().all(|address| address.ip().is_loopback())
}

/// Listens on an abstract socket, whose random name no other program guesses. It leads where TCP does for everyone.
fn start(
    options: PgConnectOptions,
    target: Target,
    most: usize,
    at_most: Duration,
) -> io::Result<(PgConnectOptions, Relay)> {
    let mut random = [0; 16];
    OsEntropy.fill(&mut random);
    let folder = format!("larkauth-{:032x}", u128::from_ne_bytes(random));
    // The driver appends this to the folder.
    let name = format!("{folder}/.s.PGSQL.{}", options.get_port());
    let listener = StdListener::bind_addr(&UnixAddr::from_abstract_name(name)?)?;
    listener.set_nonblocking(true)?;
    let (mut task, failure) = (JoinSet::new(), Failure::default());
    task.spawn(serve(UnixListener::from_std(listener)?, target, most, at_most, Arc::clone(&failure)));
    Ok((options.socket(format!("\0{folder}")), Relay { failure, _task: Arc::new(task) }))
}

async fn serve(listener: UnixListener, target: Target, most: usize, at_most: Duration, failure: Failure) {
    let mut passing = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if passing.len() < most => match accepted {
                Ok((near, _)) => {
                    let (target, failure) = (target.clone(), Arc::clone(&failure));
                    passing.spawn(async move { pass(near, &target, at_most, &failure).await });
                }
                Err(error) => {
                    tracing::warn!(%error, "storage.postgres.relay: a connection could not be accepted");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = passing.join_next() => {}
        }
    }
}

/// Passes one connection on until either side ends it: the driver has nothing to read after it has closed its side.
async fn pass(mut near: UnixStream, target: &Target, at_most: Duration, failure: &Failure) {
    let mut far = match target.connect(at_most).await {
        Ok(far) => far,
        Err(error) => {
            tracing::warn!(%error, "storage.postgres.relay: no address of the database's host answers");
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            return;
        }
    };
    let ((mut from_near, mut to_near), (mut from_far, mut to_far)) = (near.split(), far.split());
    tokio::select! {
        _ = copy(&mut from_near, &mut to_far) => {}
        _ = copy(&mut from_far, &mut to_near) => {}
    }
}

impl Target {
    async fn addresses(&self, at_most: Duration) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Host(host, port) => {
                let host = host.trim_matches(['[', ']']);
                Ok(timeout(at_most, lookup_host((host, *port))).await??.collect())
            }
            #[cfg(test)]
            Self::Addresses(addresses) => Ok(addresses.clone()),
        }
    }

    async fn connect(&self, at_most: Duration) -> io::Result<TcpStream> {
        connect_addresses(self.addresses(at_most).await?, at_most).await
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use larkauth_net::testing::BlackHole;
    use larkauth_storage_postgres::testing::TestDatabase;
    use sqlx::{ConnectOptions, Connection};
    use tokio::net::TcpListener;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(4);
    const PATIENCE: Duration = Duration::from_secs(20);

    /// Listens for one connection at a time, and passes it on to the server of the tests.
    async fn forward(listener: TcpListener, host: String, port: u16) {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut far = TcpStream::connect((host.as_str(), port)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
    }

    async fn database() -> (TestDatabase, PgConnectOptions) {
        use larkauth_models::ExposeSecret;
        let database = TestDatabase::create_empty().await;
        let options = database.url().expose_secret().parse().unwrap();
        (database, options)
    }

    #[tokio::test]
    async fn connect_with_silent_first_address_reaches_the_second() {
        let (_database, options) = database().await;
        let hole = BlackHole::start().await;
        let second = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2), hole.address().port()));
        let mut forwarding = JoinSet::new();
        let listener = TcpListener::bind(second).await.unwrap();
        forwarding.spawn(forward(listener, options.get_host().to_owned(), options.get_port()));

        let target = Target::Addresses(vec![hole.address(), second]);
        let (options, relay) = start(options, target, 1, DEADLINE).unwrap();
        // With room for one, the second connection waits for the end of the first.
        for _ in 0..2 {
            let mut connection = timeout(PATIENCE, options.connect()).await.unwrap().unwrap();
            let answer: i32 = sqlx::query_scalar("select 1").fetch_one(&mut connection).await.unwrap();
            assert_eq!(answer, 1);
            connection.close().await.unwrap();
        }
        drop((relay, forwarding));
        assert!(timeout(PATIENCE, options.connect()).await.unwrap().is_err(), "the relay has ended");
    }

    #[tokio::test]
    async fn relay_without_server_tells_the_reason() {
        let (_database, options) = database().await;
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (options, relay) = start(options, Target::Addresses(vec![closed, closed]), 1, DEADLINE).unwrap();
        let error = timeout(PATIENCE, options.connect()).await.unwrap().unwrap_err();
        let sqlx::Error::Io(reason) = relay.reason(error) else { panic!("another error") };
        assert_eq!(reason.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn relay_is_used_for_several_addresses_of_other_machines_only() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert!(is_needed(&[address("192.0.2.1:5432"), address("[2001:db8::1]:5432")]));
        assert!(!is_needed(&[address("192.0.2.1:5432")]));
        assert!(!is_needed(&[address("127.0.0.1:5432"), address("[::1]:5432")]));
        let (_database, options) = database().await;
        let (options, relay) = through(options, 1, DEADLINE).await.unwrap();
        assert!(relay.is_none() && options.get_socket().is_none());
    }
}
