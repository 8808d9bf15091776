//! The TCP connection under a lapin connection, with a handle that can close it at any time.
//!
//! lapin has no deadline for a peer that is silent in the handshake, and a connection that it has given up keeps its thread
//! until the socket is closed. Shutting the socket down ends both.

use std::{
    io,
    net::{Shutdown, TcpStream as StdStream},
    os::fd::AsFd,
    sync::Arc,
    time::Duration,
};

use async_compat::Compat;
use lapin::{
    ConnectionProperties,
    tcp::{AsyncTcpStream, RustlsConnector},
    uri::AMQPUri,
};
use larkauth_net::{ClientConfig, connect_tcp};
use parking_lot::Mutex;
use tokio::{net::TcpStream, time::timeout};

#[derive(Debug, Default)]
enum State {
    #[default]
    Connecting,
    Open(StdStream),
    Killed,
}

/// The handle of a socket that lapin's thread reads and writes.
#[derive(Debug, Default)]
pub(super) struct Socket(Mutex<State>);

/// Closes the socket when dropped, so that an abandoned attempt to connect leaves no socket open.
#[derive(Debug, Default)]
pub(super) struct SocketOwner(pub(super) Arc<Socket>);

impl Drop for SocketOwner {
    fn drop(&mut self) {
        self.0.kill();
    }
}

impl Socket {
    fn attach(&self, stream: &TcpStream) -> io::Result<()> {
        let handle = StdStream::from(stream.as_fd().try_clone_to_owned()?);
        let mut state = self.0.lock();
        if matches!(*state, State::Killed) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *state = State::Open(handle);
        Ok(())
    }

    /// Closes the socket in both directions at once, without the AMQP close handshake.
    pub(super) fn kill(&self) {
        let mut state = self.0.lock();
        if let State::Open(stream) = std::mem::replace(&mut *state, State::Killed) {
            // Fails only when the peer has closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Opens a connection over a socket that can be closed; with `tls` it is encrypted. The caller sets the deadline of the AMQP
/// handshake and closes the socket after it. `at_most` is the deadline of TCP and TLS; each address of the host has its own
/// share of it.
pub(super) async fn connect(
    uri: AMQPUri,
    tls: Option<Arc<ClientConfig>>,
    properties: ConnectionProperties,
    socket: Arc<Socket>,
    at_most: Duration,
) -> lapin::Result<lapin::Connection> {
    let runtime = lapin::runtime::default_runtime()?;
    lapin::Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, _| {
            let opening = async {
                let host = uri.authority.host.as_str();
                let tcp = connect_tcp(host, uri.authority.port, at_most).await?;
                socket.attach(&tcp)?;
                let stream = AsyncTcpStream::Plain(Compat::new(tcp));
                match &tls {
                    Some(tls) => stream.into_rustls(&RustlsConnector::from(Arc::clone(tls)), host).await,
                    None => Ok(stream),
                }
            };
            let result: io::Result<_> =
                timeout(at_most, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            Ok(result?)
        },
        properties,
    )
    .await
}
