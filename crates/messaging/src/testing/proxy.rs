use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

/// State of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Flowing,
    Paused,
    Down,
}

#[derive(Clone, Copy, Debug)]
struct Network {
    mode: Mode,
    /// Number of cuts; a connection lives in the generation that it was opened in.
    generation: u64,
}

/// A TCP proxy in front of a server, which can interrupt the connections of its clients. Dropping it stops it.
#[derive(Debug)]
pub struct TcpProxy {
    address: SocketAddr,
    network: watch::Sender<Network>,
    _tasks: JoinSet<()>,
}

impl TcpProxy {
    /// Listens on a free port of the loopback interface and forwards to `target` (`host:port`).
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start(target: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let network = watch::Sender::new(Network { mode: Mode::Flowing, generation: 0 });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target.into(), network.subscribe()));
        Self { address, network, _tasks: tasks }
    }

    /// Returns the address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections. New ones are accepted.
    pub fn cut(&self) {
        self.network.send_modify(|network| network.generation += 1);
    }

    /// Keeps sockets open and forwards no byte in either direction; new connections are accepted and stay silent.
    pub fn pause(&self) {
        self.network.send_modify(|network| network.mode = Mode::Paused);
    }

    /// Closes all connections, and new ones at once, until [`TcpProxy::resume`].
    pub fn down(&self) {
        self.network.send_modify(|network| {
            network.mode = Mode::Down;
            network.generation += 1;
        });
    }

    /// Forwards again, bytes held by a pause included.
    pub fn resume(&self) {
        self.network.send_modify(|network| network.mode = Mode::Flowing);
    }
}

async fn accept(listener: TcpListener, target: String, network: watch::Receiver<Network>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((client, _)) = listener.accept().await else { continue };
        if network.borrow().mode != Mode::Down {
            let (target, network) = (target.clone(), network.clone());
            connections.spawn(async move {
                // Broken connections are expected here.
                let _ = forward(client, &target, network).await;
            });
        }
    }
}

async fn forward(client: TcpStream, target: &str, mut network: watch::Receiver<Network>) -> io::Result<()> {
    let generation = network.borrow().generation;
    let server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (up, down) = (network.clone(), network.clone());
    tokio::select! {
        result = pump(from_client, to_server, up) => result,
        result = pump(from_server, to_client, down) => result,
        _ = network.wait_for(|network| network.generation != generation) => Ok(()),
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut network: watch::Receiver<Network>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        if network.wait_for(|network| network.mode != Mode::Paused).await.is_err() || count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
