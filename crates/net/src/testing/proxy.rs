use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::Io;

/// One request to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Host and port that the client asked for.
    pub target: String,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

/// An HTTP proxy that leads every CONNECT to one address and ignores the requested host. Dropping it stops it.
#[derive(Debug)]
pub struct HttpProxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Connect>>>,
    _task: JoinSet<()>,
}

impl HttpProxy {
    /// Starts one that answers with a connection to `leads_to`; without it, with status 403. With `tls` the connection to
    /// the proxy itself is encrypted; with `authorization` it answers 407 to every other value.
    pub async fn start(
        leads_to: Option<SocketAddr>,
        tls: Option<ServerConfig>,
        authorization: Option<&'static str>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, tls) = (seen.clone(), tls.map(|config| TlsAcceptor::from(Arc::new(config))));
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (record, tls) = (record.clone(), tls.clone());
                connections.spawn(async move {
                    let stream: Box<dyn Io> = match tls {
                        None => Box::new(stream),
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => Box::new(stream),
                            Err(_) => return,
                        },
                    };
                    // The client may go at any time.
                    let _ = serve(stream, leads_to, authorization, &record).await;
                });
            }
        });
        Self { address, seen, _task: task }
    }

    /// Returns host and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the requests so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Connect> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(
    stream: Box<dyn Io>,
    leads_to: Option<SocketAddr>,
    wanted: Option<&'static str>,
    record: &Mutex<Vec<Connect>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let target = lines.first().and_then(|line| line.strip_prefix("CONNECT ")?.split(' ').next());
    let authorization = lines.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("proxy-authorization").then(|| value.to_owned())
    });
    let Some(target) = target.map(ToOwned::to_owned) else {
        return stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").await;
    };
    let is_known = wanted.is_none_or(|wanted| authorization.as_deref() == Some(wanted));
    record.lock().unwrap_or_else(PoisonError::into_inner).push(Connect { target, authorization });
    let Some(leads_to) = leads_to.filter(|_| is_known) else {
        let status: &[u8] = if is_known { b"403 Forbidden" } else { b"407 Proxy Authentication Required" };
        stream.write_all(&[b"HTTP/1.1 ", status, b"\r\nContent-Length: 0\r\n\r\n"].concat()).await?;
        return stream.flush().await;
    };
    let mut server = TcpStream::connect(leads_to).await?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    stream.flush().await?;
    copy_bidirectional(&mut stream, &mut server).await.map(drop)
}
