//! The first bytes of a connection whose destination somebody else knows: TLS, HTTP or neither.
//!
//! Bytes are read until they tell, and given back with the verdict; what TLS asks for is the name
//! in its `ClientHello` (RFC 6066 §3).

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use rustls::server::Acceptor;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

/// Bytes of a `ClientHello`: records of 16 KiB, of which it rarely fills one.
const HELLO_MAX: usize = 32 * 1024;
/// What a TLS connection begins with: a handshake record.
const HANDSHAKE: u8 = 0x16;

/// What a connection begins with.
#[derive(Debug)]
pub(crate) enum Greeting {
    /// A TLS session for the host of that name, if one was named.
    Tls(Option<Box<str>>),
    /// Letters, as the method of a request.
    Http,
}

/// A connection that begins with neither, or not in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection begins with neither TLS nor HTTP")]
pub(crate) struct Unintelligible;

/// Reads as much as tells what a connection is; what was read is given back.
///
/// # Errors
/// [`Unintelligible`].
pub(crate) async fn greet<S: AsyncRead + Unpin>(
    stream: &mut S,
    bound: Duration,
) -> Result<(Greeting, Bytes), Unintelligible> {
    timeout(bound, read(stream))
        .await
        .map_err(|_| Unintelligible)?
        .map_err(|_| Unintelligible)
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<(Greeting, Bytes)> {
    let mut read = BytesMut::with_capacity(2048);
    loop {
        if read.len() >= HELLO_MAX || stream.read_buf(&mut read).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match read.first() {
            Some(&HANDSHAKE) => {
                if let Some(greeting) = hello(&read)? {
                    return Ok((greeting, read.freeze()));
                }
            }
            Some(letter) if letter.is_ascii_uppercase() => {
                return Ok((Greeting::Http, read.freeze()));
            }
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// What a `ClientHello` asks for, the name in lower case; none while it is not whole.
///
/// # Errors
/// It is no `ClientHello`.
fn hello(bytes: &[u8]) -> io::Result<Option<Greeting>> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest)?;
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let name = accepted.client_hello().server_name().map(str::to_owned);
                let name = name.map(|name| name.to_ascii_lowercase().into_boxed_str());
                return Ok(Some(Greeting::Tls(name)));
            }
            Ok(None) => {}
            Err((error, _)) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
        }
    }
    Ok(None)
}
