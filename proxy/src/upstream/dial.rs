//! A new connection to an upstream.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::client::TlsStream;

use super::{
    Unreachable, Upstream,
    address::Dial,
    tls::{HTTP_2, TlsRoots},
};

/// A stream to an upstream.
#[derive(Debug)]
pub enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// In TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// To a socket of this machine.
    Unix(UnixStream),
}

/// Connects to an upstream and, for `https`, proves it: by its own authorities where it has them, else by
/// `roots`.
pub(super) async fn dial(upstream: &Upstream, roots: &TlsRoots) -> Result<Stream, Unreachable> {
    let stream = match upstream.dial() {
        Dial::Address(address) => TcpStream::connect(address).await,
        Dial::Name(name, port) => TcpStream::connect((&**name, *port)).await,
        Dial::Socket(place) => return Arc::clone(place).dial().await.map(Stream::Unix),
        Dial::Nowhere => Err(io::ErrorKind::AddrNotAvailable.into()),
    };
    let stream = stream.map_err(Unreachable::Connect)?;
    stream.set_nodelay(true).map_err(Unreachable::Connect)?;
    let Some(name) = upstream.tls_name() else {
        return Ok(Stream::Plain(stream));
    };
    let tls = upstream
        .roots()
        .unwrap_or(roots)
        .connector(upstream.is_http2())
        .connect(name.clone(), stream)
        .await
        .map_err(Unreachable::Tls)?;
    if upstream.is_http2() && tls.get_ref().1.alpn_protocol() != Some(HTTP_2) {
        let other = io::Error::other("it does not speak HTTP/2");
        return Err(Unreachable::Tls(other));
    }
    Ok(Stream::Tls(Box::new(tls)))
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
