//! The SPIFFE Workload API: keeps the agent's SVID, and fetches tokens of the agent.
//!
//! One stream brings the whole state again and again (`FetchX509SVID`); each message replaces what was
//! known, and what is no longer in it is no longer used. An endpoint that is away takes nothing: what it
//! gave holds to its end.

#[cfg(test)]
mod tests;
mod tokens;
mod wire;

use std::{rc::Rc, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use jiff::Timestamp;
use rustls::{RootCertStore, pki_types::UnixTime};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use super::agent::{Ask, Endpoint, Identity, Told};
use crate::{
    grpc::{Channel, Failed, INVALID_ARGUMENT, Messages, PERMISSION_DENIED},
    svid::{Bundles, SpiffeId, Svid, Unfit, certificates, trust_domain},
};

/// How long a connection, and the first message on it, may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts: from the first to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(15);

/// Keeps `identity` proved by the SVID of `id`. Runs on a [`tokio::task::LocalSet`].
pub(super) async fn keep(
    identity: Arc<Identity>,
    id: SpiffeId,
    endpoint: Endpoint,
    asked: mpsc::Receiver<Ask>,
    told: Told,
) {
    let client = Rc::new(Client {
        identity,
        id,
        endpoint,
        told,
    });
    tokio::join!(client.follow(), tokens::answer(&client, asked));
}

/// Asks a method of the Workload API.
async fn called(
    channel: &mut Channel,
    method: &'static str,
    message: &Bytes,
) -> Result<Messages, Failed> {
    let target = format!("http://localhost/SpiffeWorkloadAPI/{method}");
    let target = Uri::try_from(target).map_err(|_| Failed::Garbled)?;
    let mut headers = HeaderMap::new();
    headers.insert("workload.spiffe.io", HeaderValue::from_static("true"));
    channel.call(target, &headers, message).await
}

struct Client {
    identity: Arc<Identity>,
    id: SpiffeId,
    endpoint: Endpoint,
    told: Told,
}

impl Client {
    async fn follow(&self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.stream(&mut pause).await {
                // The same request would be refused again (SPIFFE Workload Endpoint §6).
                Failed::Status(INVALID_ARGUMENT, said) => {
                    self.identity.excuse(&format!(
                        "the Workload API refuses the request and is not asked again: {said}"
                    ));
                    return;
                }
                Failed::Status(PERMISSION_DENIED, said) => {
                    let why =
                        format!("the Workload API issues no identity to this process: {said}");
                    self.identity.deny(&why, &self.told);
                }
                failed => self.identity.excuse(&format!("the Workload API: {failed}")),
            }
            sleep(spread(pause)).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Takes what one stream brings, to its end.
    async fn stream(&self, pause: &mut Duration) -> Failed {
        let mut wait = PATIENCE;
        let stream = async {
            let mut channel = self.connect().await?;
            let messages = called(&mut channel, "FetchX509SVID", &Bytes::new()).await?;
            Ok((channel, messages))
        };
        let (_channel, mut messages) = match timeout(PATIENCE, stream).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(failed)) => return failed,
            Err(_) => return Failed::Away,
        };
        loop {
            match timeout(wait, messages.next()).await {
                Ok(Ok(Some(message))) => match wire::x509_svids(&message) {
                    Ok(svids) => {
                        *pause = FIRST_PAUSE;
                        wait = self.take(svids);
                    }
                    Err(wire::Garbled) => return Failed::Garbled,
                },
                Ok(Ok(None)) | Err(_) => return Failed::Away,
                Ok(Err(failed)) => return failed,
            }
        }
    }

    async fn connect(&self) -> Result<Channel, Failed> {
        match &self.endpoint {
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                Channel::over(stream.map_err(|_| Failed::Away)?).await
            }
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await;
                Channel::over(stream.map_err(|_| Failed::Away)?).await
            }
        }
    }

    /// Puts what a message says in force; gives how long the next one may take.
    fn take(&self, given: wire::X509Svids) -> Duration {
        match self.pick(given) {
            Ok(svid) => {
                let expires = svid.expires;
                self.identity
                    .prove(expires, Some(Arc::new(svid)), &self.told);
                let left = Timestamp::now().duration_until(expires);
                // A stream that is silent for longer is not believed to be one: a new one tells.
                let left = Duration::try_from(left).unwrap_or_default();
                (left * 3 / 4).max(FIRST_PAUSE)
            }
            Err(why) => {
                self.lose(&why);
                // Whatever changes is told.
                Duration::from_hours(1)
            }
        }
    }

    fn pick(&self, given: wire::X509Svids) -> Result<Svid, String> {
        let mut svids = given.svids.into_iter();
        let ours = svids
            .find(|svid| svid.id == self.id.as_str())
            .ok_or_else(|| {
                "the Workload API gives SVIDs of other IDs: `agent.id` must be the ID of one"
                    .to_owned()
            })?;
        let refused = |unfit: Unfit| format!("the SVID is refused: {unfit}");
        let mut bundles = federated(&given.federated);
        let own = Arc::new(authorities(&ours.bundle).map_err(refused)?);
        bundles.insert(self.id.trust_domain().to_owned(), own);
        Svid::verified(
            self.id.clone(),
            &ours.chain,
            ours.key,
            bundles,
            UnixTime::now(),
        )
        .map_err(refused)
    }

    fn lose(&self, why: &str) {
        self.identity.lose(why, &self.told);
    }
}

/// The bundles of other trust domains; one that cannot be read vouches for nobody.
fn federated(given: &[(String, bytes::Bytes)]) -> Bundles {
    let mut bundles = Bundles::new();
    for (domain, der) in given {
        if let (Some(domain), Ok(roots)) = (trust_domain(domain), authorities(der)) {
            bundles.insert(domain.to_owned(), Arc::new(roots));
        } else {
            tracing::warn!("a federated bundle cannot be read");
        }
    }
    bundles
}

fn authorities(der: &[u8]) -> Result<RootCertStore, Unfit> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(der)? {
        roots.add(certificate).map_err(|_| Unfit::Unreadable)?;
    }
    Ok(roots)
}

/// Between three quarters and five quarters of a pause, so that a host's sidecars do not come as one.
fn spread(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no spread.
    aws_lc_rs::rand::fill(&mut byte).ok();
    let [byte] = byte;
    pause * 3 / 4 + pause * u32::from(byte) / 512
}
