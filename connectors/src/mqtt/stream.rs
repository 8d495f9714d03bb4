//! What a connection runs over: TCP, TLS on it, or websockets on one of them, where only a web server's port is open
//! between a plant and its broker. Over websockets the bytes of MQTT go in binary messages, of any length (MQTT 6.0).

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_native_tls::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::SEC_WEBSOCKET_PROTOCOL;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};

use super::MqttSettings;
use super::tls::Tls;

/// What MQTT is called among the protocols over websockets.
const PROTOCOL: &str = "mqtt";

/// How the bytes of a connection travel.
#[derive(Clone, Default)]
pub(super) struct Way {
    tls: Option<Tls>,
    /// The url of a broker behind websockets.
    web: Option<String>,
}

/// A connection that stands.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Web(Box<Web>),
}

/// A connection over websockets.
pub(super) struct Web {
    socket: WebSocketStream<Stream>,
    /// What of a message is not read yet.
    rest: Bytes,
}

impl Way {
    /// Reads the certificates of settings that were checked; what cannot be read is said, with the file.
    pub(super) fn of(settings: &MqttSettings) -> Result<Self, String> {
        let web = settings.is_web().then(|| settings.url.trim().to_owned());
        Ok(Self { tls: Tls::of(settings)?, web })
    }

    /// Whether it is TCP and nothing else.
    pub(super) fn is_plain(&self) -> bool {
        self.tls.is_none() && self.web.is_none()
    }

    /// Shakes hands over a connection that stands.
    pub(super) async fn connect(&self, stream: TcpStream) -> io::Result<Stream> {
        let stream = match &self.tls {
            Some(tls) => Stream::Tls(Box::new(tls.connect(stream).await?)),
            None => Stream::Plain(stream),
        };
        match &self.web {
            Some(url) => Ok(Stream::Web(Box::new(Web::connect(url, stream).await?))),
            None => Ok(stream),
        }
    }
}

impl Web {
    async fn connect(url: &str, stream: Stream) -> io::Result<Self> {
        let mut request = url.into_client_request().map_err(other)?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(PROTOCOL));
        // A packet has a limit of its own.
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await;
        let (socket, _) = shaken.map_err(|error| io::Error::other(explain(&error)))?;
        Ok(Self { socket, rest: Bytes::new() })
    }
}

/// What went wrong in a handshake, and what to look at.
fn explain(error: &tungstenite::Error) -> String {
    match error {
        tungstenite::Error::Http(response) => format!(
            "websockets: the server answers {}; write the path that the broker is behind, for example ws://host/mqtt",
            response.status()
        ),
        tungstenite::Error::Protocol(_) | tungstenite::Error::HttpFormat(_) => {
            format!("websockets: {error}; the broker may not speak websockets on this port")
        }
        other => format!("websockets: {other}"),
    }
}

fn other(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed
        | tungstenite::Error::AlreadyClosed
        | tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            ErrorKind::ConnectionReset.into()
        }
        other => io::Error::other(format!("websockets: {other}")),
    }
}

impl AsyncRead for Web {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("websockets: a text, where MQTT has bytes")));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(other(error))),
            }
        }
        let count = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest[..count]);
        self.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Web {
    /// Takes everything as one message; a flush makes sure that it is on its way.
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(other)?;
        socket.as_mut().start_send(Message::binary(Bytes::copy_from_slice(bytes))).map_err(other)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(other)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(other)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Web(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Web(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
            Self::Web(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Web(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
