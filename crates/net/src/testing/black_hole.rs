use std::{net::SocketAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};

/// How long a connection may take until its address counts as one that never answers. A connection within this machine
/// takes far less.
const SILENCE: Duration = Duration::from_millis(500);
/// More connections than any backlog of one holds.
const MOST: usize = 64;

/// An address that never answers, like the one of a machine that is off. Its backlog is full, so the operating system drops
/// every request for a connection.
#[derive(Debug)]
pub struct BlackHole {
    listener: TcpListener,
    _backlog: Vec<TcpStream>,
}

impl BlackHole {
    /// Makes one on `127.0.0.1`.
    pub async fn start() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut backlog = Vec::new();
        while let Ok(connected) = timeout(SILENCE, TcpStream::connect(address)).await {
            backlog.push(connected.unwrap());
            assert!(backlog.len() < MOST, "the backlog has no end");
        }
        Self { listener, _backlog: backlog }
    }

    /// Returns the address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }
}
