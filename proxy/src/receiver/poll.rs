//! Tokens that are fetched (RFC 8936): one request waits for the next, and acknowledges what the one
//! before it brought, once that is done and kept. What is not acknowledged comes again.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use outrider_schemas::json;
use secrecy::{ExposeSecret as _, SecretSlice};
use serde_json::{Map, Value};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    intake::{Intake, NotTaken, Refused, Transmitter},
    set::{self, BadSet},
};
use crate::{
    jose::BadToken,
    upstream::{Fetcher, TlsRoots, Unfetched, Unreachable, Upstream},
};

/// The first and the longest pause after a request that failed.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// The longest pause while what was brought cannot be dealt with.
const HELD: Duration = Duration::from_secs(2);

/// How long the last acknowledgement may take when the receiver stops.
const FAREWELL: Duration = Duration::from_secs(2);

/// The most tokens of one request.
pub const MOST: usize = 256;

/// A transmitter that is asked.
#[derive(Debug)]
pub struct Polled {
    /// The transmitter.
    pub transmitter: Arc<Transmitter>,
    /// Where it is asked.
    pub at: Upstream,
    /// Who vouches for it.
    pub roots: TlsRoots,
    /// The bearer token of our requests.
    pub bearer: SecretSlice<u8>,
    /// The least between two requests of which the first brought nothing.
    pub interval: Duration,
    /// How long a request may wait for tokens.
    pub wait: Duration,
    /// The most tokens of one answer.
    pub most: usize,
}

/// What an answer brought.
struct Brought {
    sets: Map<String, Value>,
    more: bool,
}

/// A request that brought nothing that can be used.
#[derive(Debug, thiserror::Error)]
enum Unpolled {
    /// There was no answer.
    #[error(transparent)]
    Unfetched(#[from] Unfetched),
    /// The answer is no success.
    #[error("the transmitter answers with status {0}")]
    Status(StatusCode),
    /// It cannot be read.
    #[error("the transmitter's answer is not that of a poll endpoint")]
    Unreadable,
}

/// What is told with the next request.
#[derive(Default)]
struct Acknowledged {
    ack: Vec<Value>,
    errors: Map<String, Value>,
}

impl Acknowledged {
    fn is_empty(&self) -> bool {
        self.ack.is_empty() && self.errors.is_empty()
    }

    fn request(&self, most: usize, at_once: bool) -> Bytes {
        let mut request = serde_json::json!({
            "maxEvents": most,
            "returnImmediately": at_once,
        });
        if let Some(request) = request.as_object_mut() {
            if !self.ack.is_empty() {
                request.insert("ack".into(), self.ack.clone().into());
            }
            if !self.errors.is_empty() {
                request.insert("setErrs".into(), self.errors.clone().into());
            }
        }
        request.to_string().into()
    }
}

impl Polled {
    /// Asks until it is told to stop; what was dealt with by then is acknowledged.
    pub(super) async fn run(&self, intake: &Intake, mut stop: watch::Receiver<bool>) {
        let longest = self.most * (set::LONGEST + 1024) + 64 * 1024;
        let fetcher = Fetcher::new(self.roots.clone(), longest, self.wait);
        let mut told = Acknowledged::default();
        let mut pause = PAUSES.0;
        let mut failed = true;
        loop {
            let began = Instant::now();
            // What is acknowledged is not to wait for what comes next.
            let at_once = failed || !told.is_empty();
            let asked = self.ask(&fetcher, told.request(self.most, at_once));
            let brought = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                brought = asked => brought,
            };
            let mut longest = PAUSES.1;
            failed = match brought {
                Ok(brought) => {
                    intake.metrics.poll(&self.transmitter.issuer, "answered");
                    told = Acknowledged::default();
                    let nothing = brought.sets.is_empty() && !brought.more;
                    let held = self.take(intake, brought, &mut told).await;
                    if nothing && !at_once {
                        let rest = self.interval.saturating_sub(began.elapsed());
                        stopping(&mut stop, rest).await;
                    }
                    longest = HELD;
                    held
                }
                // A transmitter that has nothing to tell may let us wait for longer than we do.
                Err(Unpolled::Unfetched(Unfetched::Unreachable(Unreachable::Timeout)))
                    if !at_once && began.elapsed() >= self.wait =>
                {
                    intake.metrics.poll(&self.transmitter.issuer, "silent");
                    false
                }
                Err(error) => {
                    tracing::warn!(issuer = %self.transmitter.issuer, %error, "a poll failed");
                    intake.metrics.poll(&self.transmitter.issuer, "failed");
                    true
                }
            };
            if failed {
                stopping(&mut stop, jittered(pause.min(longest))).await;
                pause = (pause * 2).min(longest);
            } else {
                pause = PAUSES.0;
            }
        }
        if !told.is_empty() {
            let farewell = self.ask(&fetcher, told.request(0, true));
            timeout(FAREWELL, farewell).await.map(drop).ok();
        }
    }

    /// Deals with what was brought; whether something of it has to come again.
    async fn take(&self, intake: &Intake, brought: Brought, told: &mut Acknowledged) -> bool {
        let mut held = false;
        for (id, token) in brought.sets {
            match self.take_one(intake, &id, &token).await {
                Ok(()) => told.ack.push(id.into()),
                Err(NotTaken::Refused(refused)) => {
                    let error = serde_json::json!({
                        "err": refused.code(),
                        "description": refused.to_string(),
                    });
                    told.errors.insert(id, error);
                }
                Err(NotTaken::Later) => held = true,
            }
        }
        held
    }

    async fn take_one(&self, intake: &Intake, id: &str, token: &Value) -> Result<(), NotTaken> {
        let token = token.as_str().unwrap_or_default().as_bytes();
        let named = set::unverified_id(token);
        if named.is_ok_and(|named| named != id) {
            let other = Refused::Set(BadSet::Token(BadToken::BadClaim("jti")));
            return Err(intake.refuse(&self.transmitter, other));
        }
        intake.take(&self.transmitter, token).await
    }

    async fn ask(&self, fetcher: &Fetcher, request: Bytes) -> Result<Brought, Unpolled> {
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json.clone());
        headers.insert(header::ACCEPT, json);
        let bearer = [b"Bearer ", self.bearer.expose_secret()].concat();
        let mut bearer = HeaderValue::from_bytes(&bearer).map_err(|_| Unpolled::Unreadable)?;
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
        let answer = fetcher
            .fetch(&self.at, Method::POST, headers, request)
            .await?;
        match answer.status() {
            StatusCode::OK => read(answer.body()).ok_or(Unpolled::Unreadable),
            // Nothing to tell, in the words of some.
            StatusCode::NO_CONTENT | StatusCode::ACCEPTED => Ok(Brought {
                sets: Map::new(),
                more: false,
            }),
            status => Err(Unpolled::Status(status)),
        }
    }
}

fn read(body: &[u8]) -> Option<Brought> {
    let Ok(Value::Object(mut answer)) = json::parse_document(body) else {
        return None;
    };
    let sets = match answer.remove("sets") {
        Some(Value::Object(sets)) => sets,
        None => Map::new(),
        Some(_) => return None,
    };
    let more = match answer.get("moreAvailable") {
        None => false,
        Some(more) => more.as_bool()?,
    };
    // More than was asked for is not dealt with; it was not acknowledged either.
    let sets = sets.into_iter().take(MOST).collect();
    Some(Brought { sets, more })
}

async fn stopping(stop: &mut watch::Receiver<bool>, rest: Duration) {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        () = sleep(rest) => {}
    }
}

/// Not all at once after a transmitter was away.
fn jittered(pause: Duration) -> Duration {
    let [byte, ..] = *uuid::Uuid::new_v4().as_bytes();
    pause / 2 + pause * u32::from(byte) / 512
}
