//! A token from an OAuth token server: by client credentials (RFC 6749 §4.4), or in exchange for
//! proof of whom and for whom we act (RFC 8693).
//!
//! In: for which task and with which scope a token is wanted. Out: the token and how long it is
//! good for, or a [`Fault`]. What the server says is believed only as far as it was asked for.

mod answer;
mod config;
mod form;

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use secrecy::SecretString;

pub use config::BadConfig;
pub(super) use config::{ActorToken, Config, SubjectToken};
use config::{ClientAuth, TokenType};

use super::{Fault, Got, Tools, Want, template::wiped};
use crate::upstream::Fetcher;
use form::Form;

/// How a token is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Grant {
    /// As the client itself.
    Client,
    /// For the task's principal, by the agent.
    Exchange,
}

/// How long a proof of ours is good for.
const PROOF: i64 = 60;

/// Bytes of a token server's answer.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Whom and for whom we act, in the words of our own JWTs.
struct Party<'a> {
    /// The agent.
    agent: &'a str,
    /// The audience of our proofs.
    audience: &'a str,
    now: Timestamp,
}

impl Config {
    /// Asks for a token.
    ///
    /// # Errors
    /// [`Fault`].
    pub(super) async fn fetch(
        self: &Arc<Self>,
        grant: Grant,
        want: &Want,
        tools: &Tools,
    ) -> Result<Got, Fault> {
        let svid = match (grant, self.actor_token) {
            (Grant::Exchange, ActorToken::Svid) => {
                let agent = tools.agent.as_ref().ok_or(Fault::NoIdentity)?;
                Some(agent.token(self.proof_audience().to_owned()).await?)
            }
            _ => None,
        };
        let (headers, body) = self.request(grant, want, tools, svid).await?;
        let fetcher = Fetcher::new(tools.roots.clone(), LARGEST_ANSWER, self.timeout.0);
        let answer = fetcher
            .fetch(
                self.token_url.upstream(),
                Method::POST,
                headers,
                wiped(body),
            )
            .await?;
        let asked = answer::Asked {
            scope: want.scope.as_deref(),
            issued: self.requested_token_type(grant),
            ttl: self.ttl.map(|ttl| ttl.0),
        };
        answer::read(answer, &asked)
    }

    /// Makes the request, where files may be read and keys used without holding anybody up.
    async fn request(
        self: &Arc<Self>,
        grant: Grant,
        want: &Want,
        tools: &Tools,
        svid: Option<SecretString>,
    ) -> Result<(HeaderMap, secrecy::SecretSlice<u8>), Fault> {
        let (config, want, tools) = (Arc::clone(self), want.clone(), tools.clone());
        let make = move || config.filled(grant, &want, &tools, svid.as_ref());
        tokio::task::spawn_blocking(make)
            .await
            .unwrap_or(Err(Fault::Stopped))
    }

    fn filled(
        &self,
        grant: Grant,
        want: &Want,
        tools: &Tools,
        svid: Option<&SecretString>,
    ) -> Result<(HeaderMap, secrecy::SecretSlice<u8>), Fault> {
        let mut headers = HeaderMap::new();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let party = Party {
            agent: self.issuer.as_deref().unwrap_or(&tools.agent_id),
            audience: self.proof_audience(),
            now: Timestamp::now(),
        };
        let mut form = Form::default();
        let signer = form::signer(self, &tools.base)?;
        match grant {
            Grant::Client => form.add("grant_type", "client_credentials"),
            Grant::Exchange => self.exchange(&mut form, want, &party, signer.as_ref(), svid)?,
        }
        for audience in self.audience.iter() {
            form.add("audience", audience);
        }
        for resource in self.resources(grant, tools) {
            form.add("resource", resource);
        }
        if let Some(scope) = &want.scope {
            form.add("scope", scope);
        }
        for (name, value) in self.parameters.iter() {
            form.add(name, value);
        }
        self.prove_client(&mut form, &mut headers, &party, signer.as_ref(), tools)?;
        Ok((headers, form.into_body()))
    }

    fn resources<'a>(&'a self, grant: Grant, tools: &'a Tools) -> impl Iterator<Item = &'a str> {
        let unnamed = self.resource.is_empty() && self.audience.is_empty();
        let service = (grant == Grant::Exchange && unnamed).then_some(&*tools.resource);
        self.resource.iter().chain(service)
    }
}

/// A lifetime in whole seconds that a server named, bounded.
fn lifetime(seconds: u64) -> Duration {
    Duration::from_secs(seconds).min(super::LONGEST)
}

#[cfg(test)]
mod tests;
