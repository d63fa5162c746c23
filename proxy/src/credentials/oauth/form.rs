//! The body of a token request: what is asked for, and the proofs of who asks.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderValue, header};
use secrecy::{ExposeSecret as _, SecretSlice, SecretString};
use serde_json::{Value, json};

use super::{ActorToken, ClientAuth, Config, Grant, PROOF, Party, SubjectToken, TokenType};
use crate::credentials::{
    Fault, Tools, Want,
    scope::escaped,
    signer::{BadKey, Signer},
    template::{Places, Template, wiped},
};

/// `typ` of a JWT that proves the client (RFC 7523 §2.2).
const CLIENT: &str = "JWT";
/// `typ` of a JWT about the task's principal.
const SUBJECT: &str = "outrider-subject+jwt";
/// `typ` of a JWT about the agent.
const ACTOR: &str = "outrider-actor+jwt";

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const TOKEN_EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// Names and values as `application/x-www-form-urlencoded`, wiped when it is gone.
#[derive(Default)]
pub(super) struct Form(Vec<u8>);

impl Form {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push(b'&');
        }
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
        let value = SecretString::from(escaped(value));
        self.0.extend_from_slice(value.expose_secret().as_bytes());
    }

    pub(super) fn into_body(mut self) -> SecretSlice<u8> {
        SecretSlice::from(std::mem::take(&mut self.0))
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        // Wiped where it ends.
        drop(SecretSlice::from(std::mem::take(&mut self.0)));
    }
}

/// The key, if one is named; read anew each time, so that it can be replaced.
pub(super) fn signer(config: &Config, base: &std::path::Path) -> Result<Option<Signer>, Fault> {
    let load = |key| Signer::load(&base.join(key), config.key_id.as_deref());
    Ok(config.key.as_ref().map(load).transpose()?)
}

impl Config {
    pub(super) fn exchange(
        &self,
        form: &mut Form,
        want: &Want,
        party: &Party<'_>,
        signer: Option<&Signer>,
        svid: Option<&SecretString>,
    ) -> Result<(), Fault> {
        form.add("grant_type", TOKEN_EXCHANGE);
        let jwt = TokenType::registered("jwt");
        let kind = self.subject_token_type.as_ref().unwrap_or(&jwt);
        match self.subject_token {
            SubjectToken::Principal => {
                let token = sign(signer, SUBJECT, &principal(want, party)?)?;
                form.add("subject_token", token.expose_secret());
            }
            SubjectToken::TaskToken => {
                let token = want.token.as_ref().ok_or(Fault::NoTaskToken)?;
                form.add("subject_token", token.expose_secret());
            }
        }
        form.add("subject_token_type", kind.as_str());
        match self.actor_token {
            ActorToken::Agent => {
                let token = sign(signer, ACTOR, &claims(party, party.agent, party.agent))?;
                form.add("actor_token", token.expose_secret());
                form.add("actor_token_type", jwt.as_str());
            }
            ActorToken::Svid => {
                let token = svid.ok_or(Fault::NoIdentity)?;
                form.add("actor_token", token.expose_secret());
                form.add("actor_token_type", jwt.as_str());
            }
            ActorToken::None => {}
        }
        if let Some(requested) = self.requested_token_type(Grant::Exchange) {
            form.add("requested_token_type", requested.as_str());
        }
        Ok(())
    }

    pub(super) fn prove_client(
        &self,
        form: &mut Form,
        headers: &mut HeaderMap,
        party: &Party<'_>,
        signer: Option<&Signer>,
        tools: &Tools,
    ) -> Result<(), Fault> {
        let id = self.client_id.as_deref();
        match self.client_auth() {
            ClientAuth::PrivateKeyJwt => {
                let id = id.unwrap_or_default();
                let token = sign(signer, CLIENT, &claims(party, id, id))?;
                form.add("client_id", id);
                form.add("client_assertion_type", JWT_BEARER);
                form.add("client_assertion", token.expose_secret());
            }
            ClientAuth::ClientSecretBasic => {
                let secret = self.client_secret(tools)?;
                let pair = format!(
                    "{}:{}",
                    escaped(id.unwrap_or_default()),
                    escaped(secret.expose_secret())
                );
                let pair = SecretString::from(pair);
                let text = format!("Basic {}", STANDARD.encode(pair.expose_secret()));
                let bytes = wiped(SecretSlice::from(text.into_bytes()));
                let value = HeaderValue::from_maybe_shared(bytes);
                let mut value = value.map_err(|_| Fault::Unusable("no header may carry it"))?;
                value.set_sensitive(true);
                headers.insert(header::AUTHORIZATION, value);
            }
            ClientAuth::ClientSecretPost => {
                let secret = self.client_secret(tools)?;
                form.add("client_id", id.unwrap_or_default());
                form.add("client_secret", secret.expose_secret());
            }
            ClientAuth::None => {
                if let Some(id) = id {
                    form.add("client_id", id);
                }
            }
        }
        Ok(())
    }

    fn client_secret(&self, tools: &Tools) -> Result<SecretString, Fault> {
        let none = || Fault::Local("`secret` is missing".into());
        let template: &Template = self.secret.as_ref().ok_or_else(none)?;
        let filled = template.fill(&Places {
            base: &tools.base,
            env: &|name| std::env::var(name).ok(),
            token: None,
        })?;
        let text = std::str::from_utf8(filled.expose_secret());
        let text = text.map_err(|_| Fault::Local("`secret` is not text".into()))?;
        Ok(text.into())
    }
}

fn sign(signer: Option<&Signer>, typ: &str, claims: &Value) -> Result<SecretString, Fault> {
    let signer = signer.ok_or(BadKey::Unreadable)?;
    Ok(signer.sign(typ, claims)?)
}

/// The claims that every proof of ours has (RFC 7523 §3).
fn claims(party: &Party<'_>, issuer: &str, subject: &str) -> Value {
    let now = party.now.as_second();
    json!({
        "iss": issuer,
        "sub": subject,
        "aud": party.audience,
        "iat": now,
        "exp": now.saturating_add(PROOF),
        "jti": uuid::Uuid::new_v4().to_string(),
    })
}

/// What is said of the task's principal: also for which task, and who may act (RFC 8693 §4.4).
fn principal(want: &Want, party: &Party<'_>) -> Result<Value, Fault> {
    let task = want.task.as_ref().ok_or(Fault::NoTask)?;
    let mut claims = claims(party, party.agent, &task.subject);
    if let Some(claims) = claims.as_object_mut() {
        claims.insert("may_act".into(), json!({"sub": party.agent}));
        claims.insert("task".into(), json!({"id": task.id, "intent": task.intent}));
        let before = task.actors.get(1..).unwrap_or_default();
        claims.extend(acted(before).map(|act| ("act".into(), act)));
    }
    Ok(claims)
}

/// Who acted for the principal before the agent, the nearest outermost (RFC 8693 §4.1).
fn acted(actors: &[std::sync::Arc<str>]) -> Option<Value> {
    actors.iter().rev().fold(None, |earlier, actor| {
        let mut act = json!({"sub": actor});
        if let (Some(act), Some(earlier)) = (act.as_object_mut(), earlier) {
            act.insert("act".into(), earlier);
        }
        Some(act)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_acted_before_are_nested_the_nearest_outermost() {
        assert_eq!(acted(&[]), None);
        let chain = acted(&["planner".into(), "chief".into()]);
        assert_eq!(
            chain,
            Some(json!({"sub": "planner", "act": {"sub": "chief"}}))
        );
    }
}
