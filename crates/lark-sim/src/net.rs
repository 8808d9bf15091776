//! The TCP side: connections that can be cut or frozen from within a handler.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

const OPEN: u8 = 0;
const FROZEN: u8 = 1;
const CUT: u8 = 2;

/// Breaks one TCP connection; requests get it as their connect info.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Arc<LineState>);

#[derive(Debug, Default)]
struct LineState {
    mode: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Line {
    /// Ends the connection; whatever was not sent yet never is.
    pub(crate) fn cut(&self) {
        self.0.set(CUT);
    }

    /// Half-open: nothing is read or written any more, yet the socket stays.
    pub(crate) fn freeze(&self) {
        self.0.set(FROZEN);
    }
}

impl LineState {
    fn set(&self, mode: u8) {
        self.mode.fetch_max(mode, Ordering::AcqRel);
        self.reader.wake();
        self.writer.wake();
    }

    /// Ready with an error when cut, pending when frozen, `None` when open.
    fn broken<T>(&self, waker: &AtomicWaker, cx: &Context<'_>) -> Option<Poll<io::Result<T>>> {
        // Registered first: a change after the look at the mode wakes the task again.
        waker.register(cx.waker());
        match self.mode.load(Ordering::Acquire) {
            OPEN => None,
            FROZEN => Some(Poll::Pending),
            _ => Some(Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))),
        }
    }
}

/// All connections, so that shutdown can end them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Weak<LineState>>>>);

impl Lines {
    fn open(&self) -> Line {
        let line = Line::default();
        let mut lines = self.0.lock();
        lines.retain(|known| known.strong_count() > 0);
        lines.push(Arc::downgrade(&line.0));
        line
    }

    pub(crate) fn cut_all(&self) {
        for line in self.0.lock().drain(..) {
            if let Some(line) = line.upgrade() {
                line.set(CUT);
            }
        }
    }
}

/// A TCP listener whose connections have a [`Line`].
#[derive(Debug)]
pub(crate) struct SimListener {
    pub(crate) tcp: TcpListener,
    pub(crate) lines: Lines,
}

impl Listener for SimListener {
    type Io = SimStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (SimStream, SocketAddr) {
        let (tcp, addr) = Listener::accept(&mut self.tcp).await;
        // Small frames must not wait for Nagle's algorithm; a socket that refuses the option is only slower.
        let _slower = tcp.set_nodelay(true);
        (SimStream { tcp, line: self.lines.open() }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Connected<IncomingStream<'_, SimListener>> for Line {
    fn connect_info(stream: IncomingStream<'_, SimListener>) -> Self {
        stream.io().line.clone()
    }
}

/// A TCP connection that obeys its [`Line`].
#[derive(Debug)]
pub(crate) struct SimStream {
    tcp: TcpStream,
    line: Line,
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(broken) = self.line.0.broken(&self.line.0.reader, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(broken) = self.line.0.broken(&self.line.0.writer, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(broken) = self.line.0.broken(&self.line.0.writer, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(broken) = self.line.0.broken(&self.line.0.writer, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
