//! A token server of which a test says what it answers: it reads forms, and counts.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::{Exchange, Received, ToolServer};

/// The fields of a form.
pub type Form = BTreeMap<String, String>;

/// A running token server.
#[derive(Debug, Clone)]
pub struct TokenServer(ToolServer);

impl TokenServer {
    /// Answers each request as `act` says, which gets the form and how many came before.
    pub fn start(act: impl Fn(&mut Exchange<'_>, &Form, usize) + Send + Sync + 'static) -> Self {
        let count = AtomicUsize::new(0);
        Self(ToolServer::answering(move |exchange| {
            let form = form(exchange.request());
            act(exchange, &form, count.fetch_add(1, Ordering::SeqCst));
        }))
    }

    /// Issues the tokens `token-1`, `token-2` and so on, each good for so many seconds.
    pub fn issuing(seconds: u64) -> Self {
        Self::start(move |exchange, form, before| {
            exchange.json(200, &token(form, &format!("token-{}", before + 1), seconds));
        })
    }

    /// Its token endpoint.
    pub fn url(&self) -> String {
        format!("http://{}/token", self.0.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// The forms that reached it so far.
    pub fn forms(&self) -> Vec<Form> {
        self.0.received().iter().map(form).collect()
    }

    /// The requests that reached it so far.
    pub fn received(&self) -> Vec<Received> {
        self.0.received()
    }

    /// Waits until that many requests have reached it.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        self.0.wait_for(count)
    }
}

/// A good answer to a request: what it asked for, a token that is good for so many seconds.
pub fn token(form: &Form, token: &str, seconds: u64) -> Value {
    let mut answer = json!({
        "access_token": token, "token_type": "Bearer", "expires_in": seconds,
    });
    if let Some(requested) = form.get("requested_token_type") {
        answer["issued_token_type"] = json!(requested);
    }
    answer
}

/// The claims of a compact token, unverified.
///
/// # Panics
/// When it is none.
pub fn claims(token: &str) -> Value {
    part(token, 1)
}

/// The header of a compact token.
///
/// # Panics
/// When it is none.
pub fn header(token: &str) -> Value {
    part(token, 0)
}

fn part(token: &str, index: usize) -> Value {
    let part = token.split('.').nth(index).expect("a compact token");
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("unpadded base64url");
    serde_json::from_slice(&bytes).expect("JSON in a token")
}

fn form(request: &Received) -> Form {
    let body = String::from_utf8_lossy(&request.body).into_owned();
    let pairs = body.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits: Vec<u8> = rest.by_ref().take(2).collect();
                let digits = String::from_utf8(digits).expect("hexadecimal");
                bytes.push(u8::from_str_radix(&digits, 16).expect("hexadecimal"));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}
