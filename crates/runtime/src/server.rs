//! The HTTP server: hyper, with an end to everything that a client could leave open.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{Router, extract::ConnectInfo, http::Request, serve::Listener};
use hyper::{
    server::conn::http1,
    service::{Service as _, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Sleep, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::Shortcut;

/// Most bytes that are kept of what a connection sent or is to be sent; longer heads are answered with 431.
const BUFFER: usize = 64 << 10;

/// Bounds of what one client holds.
#[derive(Clone, Copy)]
struct Limits {
    /// Open connections. At the bound the next one waits in the system's queue.
    connections: usize,
    /// Longest time from one request to the whole head of the next.
    silence: Duration,
    /// Longest time in which a client takes nothing of an answer.
    stall: Duration,
}

const LIMITS: Limits = Limits {
    // More than are served at once, so that idle ones do not take the place of requests.
    connections: 2048,
    // Load balancers keep theirs open for 60 s; one that is closed earlier may be used while it closes.
    silence: Duration::from_secs(75),
    stall: Duration::from_secs(30),
};

/// Serves until `stopping`, then until the requests in progress are answered. A connection without one is closed at once,
/// also when half a request has come.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    shortcut: Option<Arc<dyn Shortcut>>,
    stopping: CancellationToken,
) {
    serve_within(LIMITS, listener, Served { routes, shortcut }, stopping).await;
}

/// What answers the requests of a listener.
#[derive(Clone)]
struct Served {
    routes: Router,
    shortcut: Option<Arc<dyn Shortcut>>,
}

async fn serve_within(
    limits: Limits,
    mut listener: TcpListener,
    served: Served,
    stopping: CancellationToken,
) {
    let (connections, room) = (TaskTracker::new(), Arc::new(Semaphore::new(limits.connections)));
    loop {
        // Axum's `accept`, not the listener's own: it logs what fails and tries again.
        let next = async { (room.clone().acquire_owned().await, Listener::accept(&mut listener).await) };
        let Some((permit, (stream, peer))) = stopping.run_until_cancelled(next).await else { break };
        let (served, stopping) = (served.clone(), stopping.clone());
        connections.spawn(async move {
            connection(limits, stream, peer, served, stopping).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn connection(
    limits: Limits,
    stream: TcpStream,
    peer: SocketAddr,
    Served { routes, shortcut }: Served,
    stopping: CancellationToken,
) {
    // Otherwise the end of an answer that is longer than a packet waits for the client's acknowledgement of its beginning.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps Nagle's algorithm");
    }
    let (asked, routes) = (AtomicBool::new(false), TowerToHyperService::new(routes));
    let service = service_fn(|mut request: Request<hyper::body::Incoming>| {
        asked.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(ConnectInfo(peer));
        let (routes, shortcut) = (&routes, shortcut.as_deref());
        async move {
            let (mut head, body) = request.into_parts();
            if let Some(shortcut) = shortcut.filter(|shortcut| shortcut.takes(&head))
                && let Some(answer) = shortcut.answer(&mut head).await
            {
                return Ok(answer);
            }
            routes.call(Request::from_parts(head, body)).await
        }
    });
    let io = TokioIo::new(StallTimeout { stream, timeout: limits.stall, stalled: None });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.silence)
            .max_buf_size(BUFFER)
            .serve_connection(io, service)
    );
    // An error of the connection is the client's, and is not logged.
    if stopping.run_until_cancelled(connection.as_mut()).await.is_some() {
        return;
    }
    connection.as_mut().graceful_shutdown();
    // Hyper waits for the rest of a first request, and closes in every other case where nothing is to be answered.
    if asked.load(Ordering::Relaxed) {
        drop(connection.await);
    }
}

/// A stream whose writes fail when the other side takes nothing for too long.
struct StallTimeout {
    stream: TcpStream,
    timeout: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl StallTimeout {
    fn check<T>(&mut self, context: &mut Context<'_>, write: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if write.is_ready() {
            self.stalled = None;
            return write;
        }
        let timeout = self.timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for StallTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for StallTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check(context, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check(context, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests;
