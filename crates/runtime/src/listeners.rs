use std::net::SocketAddr;

use anyhow::Context as _;
use larkauth_config::HttpSettings;
use tokio::net::TcpListener;

/// The sockets of a process, bound before any of its work begins: of two processes with one address, the second ends
/// without having done anything. Connections wait in the backlog until [`Process::serve`](crate::Process::serve).
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) private: TcpListener,
    pub(crate) addr: SocketAddr,
    pub(crate) public: Option<(TcpListener, SocketAddr)>,
}

impl Listeners {
    /// Binds `HTTP_ADDR`, and `PUBLIC_HTTP_ADDR` where it is set for this service.
    ///
    /// # Errors
    /// When an address cannot be bound.
    pub(crate) async fn bind(http: &HttpSettings) -> anyhow::Result<Self> {
        let (private, addr) = bind("HTTP_ADDR", http.addr).await?;
        let public = match http.public_addr {
            Some(addr) => Some(bind("PUBLIC_HTTP_ADDR", addr).await?),
            None => None,
        };
        Ok(Self { private, addr, public })
    }
}

async fn bind(setting: &str, addr: SocketAddr) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr)
        .await
        .with_context(|| format!("{setting} {addr} cannot be listened on; choose a free address"))?;
    let bound = listener.local_addr().with_context(|| setting.to_owned())?;
    Ok((listener, bound))
}
