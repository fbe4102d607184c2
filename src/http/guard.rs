//! A socket that gives up on a peer who holds it without using it.

use super::Limits;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

/// How long a closed connection is still read from, so that its last answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);
/// Reads in a row from such a connection before others get their turn.
const LINGER_READS: usize = 16;

/// Whose turn it is on a connection, told by the service and read by the socket's guard.
#[derive(Default)]
pub(super) struct Turn(AtomicU8);

impl Turn {
    /// Nothing of the next request has come yet.
    pub(super) const IDLE: u8 = 0;
    /// Part of a request's head has come.
    pub(super) const HEAD: u8 = 1;
    /// A request is being answered.
    pub(super) const ANSWERING: u8 = 2;

    // Relaxed: both sides run in the connection's own task.
    pub(super) fn set(&self, turn: u8) {
        self.0.store(turn, Ordering::Relaxed);
    }

    fn is(&self, turn: u8) -> bool {
        self.0.load(Ordering::Relaxed) == turn
    }
}

/// A socket that gives up on a peer who dribbles a head or stops reading.
pub(super) struct Guarded {
    socket: TokioIo<TcpStream>,
    turn: Arc<Turn>,
    limits: Limits,
    head_since: Instant,
    head_deadline: Option<Pin<Box<Sleep>>>,
    write_deadline: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
}

impl Guarded {
    pub(super) fn new(socket: TokioIo<TcpStream>, turn: Arc<Turn>, limits: Limits) -> Self {
        let head_since = Instant::now();
        Self { socket, turn, limits, head_since, head_deadline: None, write_deadline: None, linger: None }
    }

    /// Passes progress on; where there is none, fails after the write timeout.
    fn or_stalled<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.write_deadline = None;
            return progress;
        }
        let limit = self.limits.write_timeout;
        let deadline = self.write_deadline.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let guarded = &mut *self;
        let read = Pin::new(&mut guarded.socket).poll_read(cx, buf);
        if guarded.turn.is(Turn::ANSWERING) {
            return read;
        }
        if read.is_ready() {
            if guarded.turn.is(Turn::IDLE) {
                guarded.turn.set(Turn::HEAD);
                guarded.head_since = Instant::now();
                guarded.head_deadline = None;
            }
            return read;
        }
        if guarded.turn.is(Turn::HEAD) {
            let at = guarded.head_since + guarded.limits.header_timeout;
            let deadline = guarded.head_deadline.get_or_insert_with(|| Box::pin(sleep_until(at)));
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl Write for Guarded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.or_stalled(cx, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        self.or_stalled(cx, flushed)
    }

    /// Says goodbye, then reads on for a moment: closing over unread bytes would reset the
    /// connection, and the peer could lose the answer that explains why.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guarded = &mut *self;
        if guarded.linger.is_none() {
            ready!(Pin::new(&mut guarded.socket).poll_shutdown(cx))?;
        }
        let linger = guarded.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scratch = [0; 8 * 1024];
        for _ in 0..LINGER_READS {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = hyper::rt::ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut guarded.socket).poll_read(cx, buf.unfilled())) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.or_stalled(cx, written)
    }
}
