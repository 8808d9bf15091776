//! The TCP side: connections that a handler can cut or stall.

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
const STALLED: u8 = 1;
const CUT: u8 = 2;

/// Cuts or stalls one TCP connection. Requests receive it as their connect info.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionControl(Arc<ControlState>);

#[derive(Debug, Default)]
struct ControlState {
    mode: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl ConnectionControl {
    /// Cuts the connection. Unsent bytes are lost.
    pub(crate) fn cut(&self) {
        self.0.set(CUT);
    }

    /// Makes the connection half-open: reads and writes stall, the socket stays open.
    pub(crate) fn stall(&self) {
        self.0.set(STALLED);
    }
}

impl ControlState {
    fn set(&self, mode: u8) {
        self.mode.fetch_max(mode, Ordering::AcqRel);
        self.reader.wake();
        self.writer.wake();
    }

    /// Returns ready with an error when cut, pending when stalled, `None` when open.
    fn broken<T>(&self, waker: &AtomicWaker, cx: &Context<'_>) -> Option<Poll<io::Result<T>>> {
        // Registered before the mode is read: a later change wakes the task again.
        waker.register(cx.waker());
        match self.mode.load(Ordering::Acquire) {
            OPEN => None,
            STALLED => Some(Poll::Pending),
            _ => Some(Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))),
        }
    }
}

/// All connections, so that shutdown can end them.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConnectionControls(Arc<Mutex<Vec<Weak<ControlState>>>>);

impl ConnectionControls {
    fn open(&self) -> ConnectionControl {
        let control = ConnectionControl::default();
        let mut controls = self.0.lock();
        controls.retain(|known| known.strong_count() > 0);
        controls.push(Arc::downgrade(&control.0));
        control
    }

    pub(crate) fn cut_all(&self) {
        for control in self.0.lock().drain(..) {
            if let Some(control) = control.upgrade() {
                control.set(CUT);
            }
        }
    }
}

/// A TCP listener whose connections have a [`ConnectionControl`].
#[derive(Debug)]
pub(crate) struct SimListener {
    pub(crate) tcp: TcpListener,
    pub(crate) controls: ConnectionControls,
}

impl Listener for SimListener {
    type Io = SimStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (SimStream, SocketAddr) {
        let (tcp, addr) = Listener::accept(&mut self.tcp).await;
        // Small frames must not wait for Nagle's algorithm; a socket that refuses the option is only slower.
        let _slower = tcp.set_nodelay(true);
        (SimStream { tcp, control: self.controls.open() }, addr)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

impl Connected<IncomingStream<'_, SimListener>> for ConnectionControl {
    fn connect_info(stream: IncomingStream<'_, SimListener>) -> Self {
        stream.io().control.clone()
    }
}

/// A TCP connection that obeys its [`ConnectionControl`].
#[derive(Debug)]
pub(crate) struct SimStream {
    tcp: TcpStream,
    control: ConnectionControl,
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(broken) = self.control.0.broken(&self.control.0.reader, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if let Some(broken) = self.control.0.broken(&self.control.0.writer, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(broken) = self.control.0.broken(&self.control.0.writer, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(broken) = self.control.0.broken(&self.control.0.writer, cx) {
            return broken;
        }
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
