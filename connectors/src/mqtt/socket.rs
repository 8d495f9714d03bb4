//! The socket of a source, and a way to write to it beside the client library: an acknowledgement
//! waits for the disk, long after the read that brought its message, and the library would send each
//! with a system call of its own.
//!
//! ```text
//!   library ── whole packets ──┐
//!                              ├──► out ──► socket
//!   source  ── PUBACK, ping ───┘
//! ```
//! `out` always ends with a whole packet, so that neither writes into the middle of the other's.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, BytesMut};
use rumqttc::NetworkOptions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::stream::{Stream, Way};

/// How the library connects.
#[derive(Clone)]
pub(super) struct Dial {
    pub(super) way: Way,
    /// What is written through beside the library, of a source.
    pub(super) line: Option<Line>,
}

/// What the library holds of a connection.
pub(super) enum Socket {
    Own(Stream),
    Shared(SharedSocket),
}

/// Writes to whatever connection stands now; clones write to the same.
#[derive(Clone, Default)]
pub(super) struct Line {
    writer: Arc<Mutex<Writer>>,
}

#[derive(Default)]
struct Writer {
    half: Option<Half>,
    out: BytesMut,
    /// What the way took and may still hold back.
    is_unflushed: bool,
    /// Counts connections, so that the end of an old one is not taken for that of the next.
    connection: u64,
}

/// The way out of a connection.
enum Half {
    Plain(OwnedWriteHalf),
    Split(WriteHalf<Stream>),
}

/// The way in.
enum Reader {
    Plain(OwnedReadHalf),
    Split(ReadHalf<Stream>),
}

impl Dial {
    /// Connects; `host` has its port behind it.
    pub(super) async fn connect(self, host: String, options: NetworkOptions) -> io::Result<Socket> {
        let stream = rumqttc::default_socket_connect(host, options).await?;
        let stream = self.way.connect(stream).await?;
        Ok(match self.line {
            Some(line) => Socket::Shared(line.connect(stream)),
            None => Socket::Own(stream),
        })
    }
}

impl Line {
    /// Writes a PUBACK for each packet id, in their order.
    pub(super) fn acknowledge(&self, packet_ids: impl Iterator<Item = u16>) {
        let mut writer = self.lock();
        for packet_id in packet_ids {
            let [high, low] = packet_id.to_be_bytes();
            writer.out.extend_from_slice(&[0x40, 2, high, low]);
        }
        _ = writer.try_flush();
    }

    /// Writes a ping, so that the broker hears from a client that does not read; `false` when the
    /// connection turns out to be broken.
    pub(super) fn ping(&self) -> bool {
        let mut writer = self.lock();
        writer.out.extend_from_slice(&[0xc0, 0]);
        writer.try_flush().is_ok()
    }

    /// Whether something waits until the socket takes more.
    pub(super) fn is_behind(&self) -> bool {
        let writer = self.lock();
        !writer.out.is_empty() || writer.is_unflushed
    }

    /// Waits until the socket has taken everything, or is broken, which reading from it will tell.
    pub(super) async fn flush(&self) {
        _ = std::future::poll_fn(|context| self.lock().poll_flush(context)).await;
    }

    fn connect(&self, stream: Stream) -> SharedSocket {
        let (reader, half) = match stream {
            Stream::Plain(stream) => {
                let (reader, half) = stream.into_split();
                (Reader::Plain(reader), Half::Plain(half))
            }
            other => {
                let (reader, half) = tokio::io::split(other);
                (Reader::Split(reader), Half::Split(half))
            }
        };
        let mut writer = self.lock();
        writer.half = Some(half);
        writer.out.clear();
        writer.is_unflushed = false;
        writer.connection += 1;
        SharedSocket { reader, line: self.clone(), connection: writer.connection }
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writer {
    fn try_flush(&mut self) -> io::Result<()> {
        let Some(half) = &mut self.half else {
            self.out.clear();
            return Ok(());
        };
        while !self.out.is_empty() {
            match half.try_write(&self.out) {
                Ok(count) => self.out.advance(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    self.out.clear();
                    return Err(error);
                }
            }
            self.is_unflushed = true;
        }
        match self.poll_flush(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(half) = &mut self.half else {
            self.out.clear();
            return Poll::Ready(Ok(()));
        };
        while !self.out.is_empty() {
            match ready!(half.poll_write(context, &self.out)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(count) => self.out.advance(count),
                Err(error) => {
                    self.out.clear();
                    return Poll::Ready(Err(error));
                }
            }
            self.is_unflushed = true;
        }
        if std::mem::take(&mut self.is_unflushed) {
            let flushed = half.poll_flush(context);
            self.is_unflushed = flushed.is_pending();
            return flushed;
        }
        Poll::Ready(Ok(()))
    }
}

impl Half {
    /// Writes what can be written at once.
    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Half::Plain(half) => half.try_write(bytes),
            // Nobody is woken by it: what is left over is flushed by who waits for that.
            half => match half.poll_write(&mut Context::from_waker(Waker::noop()), bytes) {
                Poll::Ready(written) => written,
                Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
            },
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Half::Plain(half) => Pin::new(half).poll_write(context, bytes),
            Half::Split(half) => Pin::new(half).poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // It holds nothing back.
            Half::Plain(_) => Poll::Ready(Ok(())),
            Half::Split(half) => Pin::new(half).poll_flush(context),
        }
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Half::Plain(half) => Pin::new(half).poll_shutdown(context),
            Half::Split(half) => Pin::new(half).poll_shutdown(context),
        }
    }
}

/// What the library holds of a connection that it shares.
pub(super) struct SharedSocket {
    reader: Reader,
    line: Line,
    connection: u64,
}

impl AsyncRead for SharedSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.reader {
            Reader::Plain(reader) => Pin::new(reader).poll_read(context, buffer),
            Reader::Split(reader) => Pin::new(reader).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for SharedSocket {
    /// Takes everything at once: what the library writes is whole packets.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.line.lock().out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.line.lock().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut writer = self.line.lock();
        ready!(writer.poll_flush(context))?;
        match &mut writer.half {
            Some(half) => half.poll_shutdown(context),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl Drop for SharedSocket {
    fn drop(&mut self) {
        let mut writer = self.line.lock();
        if writer.connection == self.connection {
            writer.half = None;
            writer.out.clear();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Own(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Shared(socket) => Pin::new(socket).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Own(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Shared(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Own(stream) => Pin::new(stream).poll_flush(context),
            Self::Shared(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Own(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Shared(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}
