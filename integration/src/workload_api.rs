//! A SPIFFE Workload API of which a test says what it gives: gRPC on a Unix socket, its messages written
//! by hand.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::{net::UnixListener, sync::mpsc, task::JoinSet};

use crate::Made;

/// What an `X509SVIDResponse` says.
#[derive(Debug, Clone, Default)]
pub struct Svids(Vec<u8>);

impl Svids {
    /// Nothing.
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds an SVID of that ID, with the bundle of its trust domain.
    #[must_use]
    pub fn with(mut self, id: &str, svid: &Made, bundle: &[u8]) -> Self {
        let mut one = Vec::new();
        put(1, id.as_bytes(), &mut one);
        put(2, &svid.certificate, &mut one);
        put(3, &svid.key, &mut one);
        put(4, bundle, &mut one);
        put(1, &one, &mut self.0);
        self
    }

    /// Adds the bundle of another trust domain.
    #[must_use]
    pub fn federated(mut self, domain: &str, bundle: &[u8]) -> Self {
        let mut entry = Vec::new();
        put(1, domain.as_bytes(), &mut entry);
        put(2, bundle, &mut entry);
        put(3, &entry, &mut self.0);
        self
    }
}

/// A served Workload API; it ends with this value.
#[derive(Debug)]
pub struct WorkloadApi {
    socket: PathBuf,
    shared: Arc<Shared>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared(Mutex<State>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

struct State {
    now: Result<Vec<u8>, u32>,
    streams: Vec<Sender>,
    asked: Vec<String>,
    tokens: Duration,
    bare: usize,
    /// Signs tokens.
    signer: EcdsaKeyPair,
    /// Stands in the bundle.
    published: EcdsaKeyPair,
}

type Sender = mpsc::UnboundedSender<Frame<Bytes>>;

impl Default for State {
    fn default() -> Self {
        let signer = key();
        let der = signer.to_pkcs8v1().expect("a key");
        Self {
            now: Err(PERMISSION_DENIED),
            streams: Vec::new(),
            asked: Vec::new(),
            tokens: Duration::from_mins(5),
            bare: 0,
            published: EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref())
                .expect("a key"),
            signer,
        }
    }
}

const PERMISSION_DENIED: u32 = 7;
const INVALID_ARGUMENT: u32 = 3;
const UNIMPLEMENTED: u32 = 12;

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkloadApi {
    /// Serves on that socket; it knows nobody yet.
    ///
    /// # Panics
    /// When it cannot be bound.
    pub fn start(socket: &Path) -> Self {
        std::fs::remove_file(socket).ok();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let listener = {
            let _entered = runtime.enter();
            UnixListener::bind(socket).expect("a socket")
        };
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, served) => {}
                }
            });
        });
        Self {
            socket: socket.to_owned(),
            shared,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    /// Its address as the environment names it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Gives this from now on, to open streams as well.
    pub fn give(&self, svids: &Svids) {
        let mut state = self.shared.state();
        let message = framed(&svids.0);
        // A stream whose reader is gone is forgotten.
        state
            .streams
            .retain(|stream| stream.send(Frame::data(message.clone())).is_ok());
        state.now = Ok(svids.0.clone());
    }

    /// Ends each stream with this status from now on.
    pub fn refuse(&self, status: u32) {
        let mut state = self.shared.state();
        for stream in state.streams.drain(..) {
            stream.send(Frame::trailers(trailers(status))).ok();
        }
        state.now = Err(status);
    }

    /// Knows nobody from now on.
    pub fn deny(&self) {
        self.refuse(PERMISSION_DENIED);
    }

    /// How long tokens live that are made from now on.
    pub fn tokens_live(&self, ttl: Duration) {
        self.shared.state().tokens = ttl;
    }

    /// Signs tokens with a key that stands in no bundle from now on.
    pub fn forge_tokens(&self) {
        self.shared.state().signer = key();
    }

    /// The methods that were asked for so far.
    pub fn asked(&self) -> Vec<String> {
        self.shared.state().asked.clone()
    }

    /// How many requests came without the metadata that every client must send.
    pub fn bare(&self) -> usize {
        self.shared.state().bare
    }
}

impl Drop for WorkloadApi {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        std::fs::remove_file(&self.socket).ok();
    }
}

async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, Arc::clone(&shared)));
            http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await
                .ok();
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Frames>, Infallible> {
    let (head, mut body) = request.into_parts();
    let method = head.uri.path().to_owned();
    let mut asked = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await
    {
        asked.extend_from_slice(frame.data_ref().map(AsRef::as_ref).unwrap_or_default());
    }
    let mut state = shared.state();
    state.asked.push(method.clone());
    let known = head.headers.get("workload.spiffe.io");
    if known.is_none_or(|value| value != "true") {
        state.bare += 1;
        return Ok(ended(INVALID_ARGUMENT));
    }
    let (sender, frames) = mpsc::unbounded_channel();
    match (method.as_str(), state.now.clone()) {
        (_, Err(status)) => return Ok(ended(status)),
        ("/SpiffeWorkloadAPI/FetchX509SVID", Ok(svids)) => {
            sender.send(Frame::data(framed(&svids))).ok();
            state.streams.push(sender);
        }
        ("/SpiffeWorkloadAPI/FetchJWTSVID", Ok(_)) => {
            let message = jwt_svid(asked.get(5..).unwrap_or_default(), &state);
            sender.send(Frame::data(framed(&message))).ok();
            sender.send(Frame::trailers(trailers(0))).ok();
        }
        ("/SpiffeWorkloadAPI/FetchJWTBundles", Ok(_)) => {
            sender.send(Frame::data(framed(&jwt_bundles(&state)))).ok();
            state.streams.push(sender);
        }
        _ => return Ok(ended(UNIMPLEMENTED)),
    }
    Ok(response(Frames(frames)))
}

fn key() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("randomness")
}

/// The JWT bundle of `example.org`.
fn jwt_bundles(state: &State) -> Vec<u8> {
    let point = state.published.public_key().as_ref();
    let part = |from: usize| URL_SAFE_NO_PAD.encode(&point[from..from + 32]);
    let set = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "x": part(1), "y": part(33), "kid": "k", "use": "jwt-svid"},
    ]});
    let (mut entry, mut message) = (Vec::new(), Vec::new());
    put(1, b"spiffe://example.org", &mut entry);
    put(2, set.to_string().as_bytes(), &mut entry);
    put(1, &entry, &mut message);
    message
}

/// A token of the asked ID and audience.
fn jwt_svid(request: &[u8], state: &State) -> Vec<u8> {
    let fields = fields(request);
    let field = |number: u8| {
        let found = fields.iter().find(|(known, _)| *known == number);
        found.map(|(_, text)| text.clone()).unwrap_or_default()
    };
    let (audience, id) = (field(1), field(2));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let expires = (now.unwrap_or_default() + state.tokens).as_secs();
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!(
        "{}.{}",
        part(&json!({"alg": "ES256", "kid": "k", "typ": "JWT"})),
        part(&json!({"sub": id, "aud": [audience], "exp": expires, "nonce": counter()})),
    );
    let signature = state.signer.sign(&SystemRandom::new(), signed.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signature.expect("a signature"));
    let token = format!("{signed}.{signature}");
    let (mut one, mut message) = (Vec::new(), Vec::new());
    put(1, id.as_bytes(), &mut one);
    put(2, token.as_bytes(), &mut one);
    put(1, &one, &mut message);
    message
}

fn counter() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static MADE: AtomicUsize = AtomicUsize::new(0);
    MADE.fetch_add(1, Ordering::Relaxed)
}

/// The text fields of a message, of which none is longer than 16 KiB.
fn fields(mut message: &[u8]) -> Vec<(u8, String)> {
    let mut found = Vec::new();
    while let [tag, length, rest @ ..] = message {
        let (length, rest) = match (usize::from(*length), rest) {
            (low, [high, rest @ ..]) if low >= 128 => (low - 128 + usize::from(*high) * 128, rest),
            (length, rest) => (length, rest),
        };
        let text = String::from_utf8_lossy(&rest[..length]).into_owned();
        found.push((tag >> 3, text));
        message = &rest[length..];
    }
    found
}

fn response(frames: Frames) -> Response<Frames> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(frames)
        .expect("a response")
}

/// An answer that is a status alone.
fn ended(status: u32) -> Response<Frames> {
    let (_, frames) = mpsc::unbounded_channel();
    let mut response = response(Frames(frames));
    response.headers_mut().extend(trailers(status));
    response
}

fn trailers(status: u32) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", status.into());
    trailers.insert("grpc-message", "as the test says".parse().expect("a value"));
    trailers
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a short message");
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

fn put(number: u8, bytes: &[u8], to: &mut Vec<u8>) {
    to.push(number << 3 | 2);
    let mut length = bytes.len();
    while length >= 128 {
        to.push(u8::try_from(length % 128).expect("seven bits") | 128);
        length /= 128;
    }
    to.push(u8::try_from(length).expect("seven bits"));
    to.extend_from_slice(bytes);
}

/// Frames as they are sent.
#[derive(Debug)]
struct Frames(mpsc::UnboundedReceiver<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}
