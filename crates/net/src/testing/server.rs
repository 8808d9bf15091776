use std::{net::SocketAddr, sync::Arc};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What a client sends before TLS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// PostgreSQL's request for TLS, eight bytes, which is granted with `S`.
    SslRequest,
}

/// A TLS server on `127.0.0.1`. Dropping it stops it.
#[derive(Debug)]
pub struct TlsServer {
    address: SocketAddr,
    _task: JoinSet<()>,
}

impl TlsServer {
    /// Starts one that answers every HTTP request with status 204.
    pub async fn http(config: ServerConfig) -> Self {
        Self::start(config, None, Before::Nothing).await
    }

    /// Starts one that passes what it decrypts on to another server.
    pub async fn in_front_of(server: SocketAddr, config: ServerConfig) -> Self {
        Self::start(config, Some(server), Before::Nothing).await
    }

    /// Starts one in front of a PostgreSQL server.
    pub async fn in_front_of_postgres(server: SocketAddr, config: ServerConfig) -> Self {
        Self::start(config, Some(server), Before::SslRequest).await
    }

    async fn start(config: ServerConfig, server: Option<SocketAddr>, before: Before) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    if before == Before::SslRequest && grant_tls(&mut stream).await.is_err() {
                        return;
                    }
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    // The client may go at any time.
                    let _ = match server {
                        Some(server) => match TcpStream::connect(server).await {
                            Ok(mut server) => copy_bidirectional(&mut stream, &mut server).await.map(drop),
                            Err(error) => Err(error),
                        },
                        None => no_content(&mut stream).await,
                    };
                });
            }
        });
        Self { address, _task: task }
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn grant_tls(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut request = [0; 8];
    stream.read_exact(&mut request).await?;
    stream.write_all(b"S").await
}

async fn no_content(stream: &mut tokio_rustls::server::TlsStream<TcpStream>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await?;
    stream.shutdown().await
}
