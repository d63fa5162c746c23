//! JWT-SVIDs of the agent: one is fetched at a time, verified by the trust domain's JWT bundle, and kept
//! while it lives for a while yet.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::{sync::mpsc, time::timeout};

use super::{
    Client, PATIENCE, called,
    wire::{self, Garbled},
};
use crate::{
    grpc::{Channel, Failed},
    identify::agent::{Ask, JwtSvid, NoJwtSvid},
    jose::{BadToken, Jws, KeySet, Typ, Usage},
    svid::{SpiffeId, trust_domain},
};

/// Audiences whose tokens are kept.
const MOST: usize = 256;
/// The least that a token lives when it is given out.
const LEAST_LEFT: Duration = Duration::from_secs(30);

/// Answers questions for tokens until nobody can ask any more.
pub(super) async fn answer(client: &Client, mut asked: mpsc::Receiver<Ask>) {
    let mut kept: HashMap<String, Arc<JwtSvid>> = HashMap::new();
    let mut turn = 0;
    while let Some(ask) = asked.recv().await {
        // What an SVID that was taken back was given for goes with it.
        let now = client.identity.svid().turn();
        if std::mem::replace(&mut turn, now) != now {
            kept.clear();
        }
        if let Err(unattested) = client.identity.check() {
            ask.answer.send(Err(unattested.into())).ok();
            continue;
        }
        let found = kept.get(&ask.audience).filter(|token| lives(token));
        let token = match found {
            Some(token) => Ok(Arc::clone(token)),
            None => fetch(client, &ask.audience).await,
        };
        if let Ok(token) = &token {
            if kept.len() >= MOST {
                kept.retain(|_, token| lives(token));
            }
            if kept.len() < MOST {
                kept.insert(ask.audience, Arc::clone(token));
            }
        }
        // Whoever asked may be gone; the next one has it.
        ask.answer.send(token).ok();
    }
}

fn lives(token: &JwtSvid) -> bool {
    let left = Timestamp::now().duration_until(token.expires);
    Duration::try_from(left).is_ok_and(|left| left > LEAST_LEFT)
}

/// A token that is not given out. The texts repeat nothing of it.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("it does not answer in time")]
    Late,
    #[error(transparent)]
    Failed(#[from] Failed),
    #[error(transparent)]
    Garbled(#[from] Garbled),
    #[error("it gives none of `agent.id`")]
    NotOurs,
    #[error("it gives no JWT bundle of our trust domain that is understood")]
    NoBundle,
    #[error("its token does not hold: {0}")]
    Bad(#[from] BadToken),
}

async fn fetch(client: &Client, audience: &str) -> Result<Arc<JwtSvid>, NoJwtSvid> {
    let given = timeout(PATIENCE, ask(client, audience)).await;
    given
        .unwrap_or(Err(Refused::Late))
        .map(Arc::new)
        .map_err(|why| {
            tracing::warn!("the Workload API gives no JWT-SVID: {why}");
            NoJwtSvid::NotGiven
        })
}

async fn ask(client: &Client, audience: &str) -> Result<JwtSvid, Refused> {
    let mut channel = client.connect().await?;
    let request = wire::jwt_request(audience, client.id.as_str());
    let message = first(&mut channel, "FetchJWTSVID", request).await?;
    let mut svids = wire::jwt_svids(&message)?.into_iter();
    let ours = svids.find(|svid| svid.id == client.id.as_str());
    let token = SecretString::from(ours.ok_or(Refused::NotOurs)?.token);
    let message = first(&mut channel, "FetchJWTBundles", Bytes::new()).await?;
    let bundles = wire::jwt_bundles(&message)?;
    let keys = keys(&bundles, &client.id).ok_or(Refused::NoBundle)?;
    let expires = verify(token.expose_secret(), &keys, client.id.as_str(), audience)?;
    Ok(JwtSvid { token, expires })
}

/// The first message of an answer: the whole of it, or of what stands at this moment.
async fn first(
    channel: &mut Channel,
    method: &'static str,
    request: Bytes,
) -> Result<Bytes, Refused> {
    let mut messages = called(channel, method, &request).await?;
    Ok(messages.next().await?.ok_or(Failed::Garbled)?)
}

/// The keys of the ID's trust domain.
fn keys(bundles: &[(String, Bytes)], id: &SpiffeId) -> Option<KeySet> {
    let of = |domain: &str| trust_domain(domain) == Some(id.trust_domain());
    let (_, bundle) = bundles.iter().find(|(domain, _)| of(domain))?;
    // A bundle says what its keys are for; a plain key set, which is given as well, does not.
    [Usage::JwtSvid, Usage::Signatures]
        .into_iter()
        .filter_map(|usage| KeySet::read(bundle, usage).ok())
        .find(|keys| !keys.keys().is_empty())
}

/// Checks what a JWT-SVID must say (JWT-SVID §3 to §5); gives its expiry.
fn verify(token: &str, keys: &KeySet, id: &str, audience: &str) -> Result<Timestamp, BadToken> {
    let (claims, _) = Jws::read(token.as_bytes())?.verify(Typ::Plain, keys)?;
    claims.is_for(audience)?;
    if claims.text("sub")? != id {
        return Err(BadToken::BadClaim("sub"));
    }
    claims.expiry(Timestamp::now())
}
