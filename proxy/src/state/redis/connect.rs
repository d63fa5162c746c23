//! A connection to the store: over our own TLS, with a bound on what it may send.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use ::redis::{AsyncConnectionConfig, ProtocolVersion, PushInfo, PushKind, RedisConnectionInfo};
use rustls::pki_types::ServerName;
use secrecy::ExposeSecret as _;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

use super::{Fault, Settings};

/// Bytes the store may send between two signs of life.
const MOST_BYTES: u64 = 32 << 20;

/// Commands that may wait for the connection.
const QUEUE: usize = 1024;

/// What a connection may still send.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<AtomicU64>);

impl Allowance {
    pub(super) fn renew(&self) {
        self.0.store(MOST_BYTES, Ordering::Relaxed);
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A stream to the store, and how to begin on it.
pub(super) struct Prepared {
    pub(super) who: RedisConnectionInfo,
    pub(super) stream: Metered,
    pub(super) manner: AsyncConnectionConfig,
    pub(super) allowance: Allowance,
}

/// Connects. `told` is woken when something is published.
pub(super) async fn prepare(settings: &Settings, told: Arc<Notify>) -> Result<Prepared, Fault> {
    let allowance = Allowance(Arc::new(AtomicU64::new(MOST_BYTES)));
    let stream = Metered {
        stream: dial(settings).await?,
        left: allowance.clone(),
    };
    let address = &settings.address;
    let mut who = RedisConnectionInfo::default()
        .set_db(i64::from(address.database))
        .set_protocol(ProtocolVersion::RESP3)
        .set_skip_set_lib_name();
    if let Some(user) = &address.user {
        who = who.set_username(&**user);
    }
    if let Some(password) = &settings.password {
        who = who.set_password(password.expose_secret());
    }
    let push = move |push: PushInfo| {
        if push.kind == PushKind::Message {
            told.notify_one();
        }
        Ok::<(), ()>(())
    };
    let manner = AsyncConnectionConfig::new()
        .set_response_timeout(None)
        .set_connection_timeout(None)
        .set_pipeline_buffer_size(QUEUE)
        .set_push_sender(push);
    Ok(Prepared {
        who,
        stream,
        manner,
        allowance,
    })
}

async fn dial(settings: &Settings) -> Result<Box<dyn Stream>, Fault> {
    let address = &settings.address;
    let stream = TcpStream::connect((&*address.host, address.port))
        .await
        .map_err(|_| Fault::Unreachable)?;
    stream.set_nodelay(true).map_err(|_| Fault::Unreachable)?;
    let Some(roots) = &settings.roots else {
        return Ok(Box::new(stream));
    };
    let name = ServerName::try_from(address.host.to_string()).map_err(|_| Fault::Unproven)?;
    let stream = roots.bare().connect(name, stream).await;
    Ok(Box::new(stream.map_err(|_| Fault::Unproven)?))
}

/// A stream that ends when it brings too much.
pub(super) struct Metered {
    stream: Box<dyn Stream>,
    left: Allowance,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read_now = (buf.filled().len() - before) as u64;
        let left = self.left.0.load(Ordering::Relaxed);
        if read_now > left {
            return Poll::Ready(Err(io::Error::other("the store sends too much")));
        }
        self.left.0.store(left - read_now, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
