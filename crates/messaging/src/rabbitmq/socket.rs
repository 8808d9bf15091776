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

use lapin::{
    ConnectionProperties,
    tcp::{AMQPUriTcpExt, AsyncTcpStream, TLSConfig},
    uri::{AMQPScheme, AMQPUri},
};
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

/// Opens a connection over a socket that can be closed. The caller sets the deadline of the AMQP handshake and closes the
/// socket after it; `at_most` is the deadline of TCP and TLS.
pub(super) async fn connect(
    uri: AMQPUri,
    properties: ConnectionProperties,
    socket: Arc<Socket>,
    at_most: Duration,
) -> lapin::Result<lapin::Connection> {
    let runtime = lapin::runtime::default_runtime()?;
    lapin::Connection::connector(
        uri,
        runtime,
        async move |uri: AMQPUri, runtime| {
            let opening = async {
                let secure = uri.scheme == AMQPScheme::AMQPS;
                let host = uri.authority.host.clone();
                let plain = AMQPUri { scheme: AMQPScheme::AMQP, ..uri };
                let stream = plain.connect_async(&runtime).await?;
                if let AsyncTcpStream::Plain(tcp) = &stream {
                    tcp.get_ref().set_nodelay(true)?;
                    socket.attach(tcp.get_ref())?;
                }
                if secure { stream.into_tls(&host, TLSConfig::default()).await } else { Ok(stream) }
            };
            let result: io::Result<_> =
                timeout(at_most, opening).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            Ok(result?)
        },
        properties,
    )
    .await
}
