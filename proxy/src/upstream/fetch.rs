//! A request of our own: for keys, for tokens, for events. One connection each, answered whole.
//!
//! In: where and what. Out: status, headers and body, bounded in size and time. Redirects are not
//! followed, and nothing goes over a network unencrypted that is not said to.

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header::HOST};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

use super::{TlsRoots, Unreachable, Upstream, dial::dial};

/// Bytes of an answer's head.
const HEAD_MAX: usize = 64 * 1024;

/// Makes requests of our own, on any runtime. Clones share the certificate authorities.
#[derive(Clone, Debug)]
pub struct Fetcher {
    roots: TlsRoots,
    max: usize,
    patience: Duration,
    protected: bool,
}

/// A request that got no answer. The texts name no address.
#[derive(Debug, thiserror::Error)]
pub enum Unfetched {
    /// The URL is neither `https` nor on this machine.
    #[error("expected an `https://` URL: `http://` is for loopback addresses only")]
    Unprotected,
    /// No answer, or none that can be trusted.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The answer is larger than it may be, or broke off.
    #[error("the answer is too large or incomplete")]
    Unread,
}

impl Fetcher {
    /// Trusts these authorities; an answer has at most `max` bytes and arrives within `patience`.
    pub fn new(roots: TlsRoots, max: usize, patience: Duration) -> Self {
        Self {
            roots,
            max,
            patience,
            protected: true,
        }
    }

    /// The same over a network in the clear, where whoever configured it said so.
    #[must_use]
    pub fn unprotected(self) -> Self {
        Self {
            protected: false,
            ..self
        }
    }

    /// A connection for another protocol than HTTP/1.1.
    pub(crate) async fn connect(
        at: &Upstream,
        roots: &TlsRoots,
    ) -> Result<impl AsyncRead + AsyncWrite + Unpin + use<>, Unreachable> {
        dial(at, roots).await
    }

    /// Sends one request to exactly this URL and reads the answer, whatever its status.
    ///
    /// # Errors
    /// [`Unfetched`].
    pub async fn fetch(
        &self,
        at: &Upstream,
        method: Method,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, Unfetched> {
        if self.protected && !at.is_protected() {
            return Err(Unfetched::Unprotected);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = at.target().clone();
        *request.headers_mut() = headers;
        request.headers_mut().insert(HOST, at.host_header().clone());
        timeout(self.patience, self.exchange(at, request))
            .await
            .unwrap_or(Err(Unreachable::Timeout.into()))
    }

    async fn exchange(
        &self,
        at: &Upstream,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, Unfetched> {
        let stream = dial(at, &self.roots).await?;
        let mut engine = http1::Builder::new();
        engine.max_buf_size(HEAD_MAX).max_header_size(HEAD_MAX);
        let shake = engine.handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shake.map_err(Unreachable::from)?;
        let mut connection = pin!(connection);
        let mut answer = pin!(async {
            let answer = sender.send_request(request).await;
            let (head, body) = answer.map_err(Unreachable::from)?.into_parts();
            let body = Limited::new(body, self.max).collect().await;
            let body = body.map_err(|_| Unfetched::Unread)?.to_bytes();
            Ok(Response::from_parts(head, body))
        });
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            // A connection that has ended has told whoever waits for the answer.
            _ = &mut connection => answer.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn fetcher() -> Fetcher {
        Fetcher::new(TlsRoots::none().unwrap(), 64, Duration::from_secs(5))
    }

    async fn get(url: &str) -> Result<Response<Bytes>, Unfetched> {
        let at = Upstream::parse(url).unwrap();
        fetcher()
            .fetch(&at, Method::GET, HeaderMap::new(), Bytes::new())
            .await
    }

    /// Answers one request with `answer`, and gives the head it got.
    async fn answering(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys?a=b", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = vec![0; 4096];
            let read = stream.read(&mut head).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(head[..read].to_vec()).unwrap()
        });
        (url, server)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_is_given_whole_and_a_redirect_is_an_answer() {
        let answer = "HTTP/1.1 302 Found\r\nlocation: /x\r\ncontent-length: 2\r\n\r\nok";
        let (url, server) = answering(answer).await;
        let got = get(&url).await.unwrap();
        assert_eq!((got.status().as_u16(), &got.body()[..]), (302, &b"ok"[..]));
        assert!(server.await.unwrap().starts_with("GET /keys?a=b HTTP/1.1"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_beyond_its_bound_or_cut_short_is_none() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-length: 65\r\n\r\n0123456789012345678901234567890123456789012345678901234567890123456789",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort",
        ] {
            let (url, _server) = answering(answer).await;
            assert!(matches!(get(&url).await, Err(Unfetched::Unread)));
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn nothing_is_asked_in_the_clear_over_a_network() {
        for url in ["http://192.0.2.1/x", "http://keys.example.org/"] {
            assert!(matches!(get(url).await, Err(Unfetched::Unprotected)));
        }
    }
}
