//! An issuer of task tokens, made by other means than the product's: keys, tokens, and a server of
//! its key set.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256,
        RSA_PSS_SHA256,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

enum Pair {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// A key pair of an issuer, of one algorithm.
pub struct IssuerKey {
    pair: Pair,
    algorithm: String,
    kid: String,
}

impl std::fmt::Debug for IssuerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("IssuerKey").field(&self.kid).finish()
    }
}

impl IssuerKey {
    /// Makes a key for `EdDSA`, `ES256`, `RS256` or `PS256`.
    ///
    /// # Panics
    /// For another algorithm.
    pub fn new(algorithm: &str, kid: &str) -> Self {
        let pair = match algorithm {
            "EdDSA" => Pair::Ed25519(Ed25519KeyPair::generate().unwrap()),
            "ES256" => {
                Pair::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
            }
            "RS256" | "PS256" => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap().into()),
            other => panic!("no keys of {other}"),
        };
        Self {
            pair,
            algorithm: algorithm.to_owned(),
            kid: kid.to_owned(),
        }
    }

    /// Its public half as a JWK.
    pub fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Ed25519(pair) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": encoded(pair.public_key())})
            }
            Pair::P256(pair) => {
                let point = pair.public_key().as_ref();
                let (x, y) = (encoded(&point[1..33]), encoded(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
            Pair::Rsa(pair) => {
                // PKCS #1: two integers, of which the first has a leading zero.
                let der = pair.public_key().as_ref();
                json!({"kty": "RSA", "n": encoded(&der[9..265]), "e": encoded(&der[267..])})
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The header that its tokens have.
    pub fn header(&self) -> Value {
        json!({"alg": self.algorithm, "kid": self.kid, "typ": "outrider-task+jwt"})
    }

    /// A task token of these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.token(&self.header(), claims)
    }

    /// A token of exactly this header and these claims.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        self.compact(&header.to_string(), &claims.to_string())
    }

    /// A token of exactly these texts.
    pub fn compact(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.signature(signed.as_bytes());
        format!("{signed}.{}", encoded(signature))
    }

    /// A token whose signature is an HMAC under the public key, as one attack has it.
    pub fn confused(&self, claims: &Value) -> String {
        let secret = self.jwk()["n"].as_str().map_or_else(
            || self.jwk().to_string().into_bytes(),
            |n| n.as_bytes().to_vec(),
        );
        let mut header = self.header();
        header["alg"] = json!("HS256");
        let signed = format!(
            "{}.{}",
            encoded(header.to_string()),
            encoded(claims.to_string())
        );
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &secret),
            signed.as_bytes(),
        );
        format!("{signed}.{}", encoded(tag))
    }

    fn signature(&self, signed: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ed25519(pair) => pair.sign(signed).as_ref().to_vec(),
            Pair::P256(pair) => pair.sign(&random, signed).unwrap().as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                let padding = match self.algorithm.as_str() {
                    "PS256" => &RSA_PSS_SHA256,
                    _ => &RSA_PKCS1_SHA256,
                };
                pair.sign(padding, &random, signed, &mut signature).unwrap();
                signature
            }
        }
    }
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The set of these keys.
pub fn key_set<'a>(keys: impl IntoIterator<Item = &'a IssuerKey>) -> Value {
    json!({"keys": keys.into_iter().map(IssuerKey::jwk).collect::<Vec<_>>()})
}

/// The claims of a good token for the harness's agent and its intent `work`, which holds for an
/// hour from now. `id` names the task and the token.
pub fn task_claims(issuer: &str, id: &str) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = now.as_secs();
    json!({
        "iss": issuer,
        "aud": "outrider",
        "sub": "user:ada",
        "act": act(&["spiffe://example.org/agent/test"]),
        "jti": format!("j-{id}"),
        "iat": now,
        "exp": now + 3600,
        "task": {"id": id, "intent": "work"},
    })
}

/// A chain of actors, the nearest first.
pub fn act(actors: &[&str]) -> Value {
    let (nearest, earlier) = actors.split_first().expect("an actor");
    let mut act = json!({"sub": nearest});
    if !earlier.is_empty() {
        act["act"] = self::act(earlier);
    }
    act
}

/// Serves what is to be served, and counts who asks. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct KeyServer {
    address: SocketAddr,
    answer: Arc<Mutex<(u16, String)>>,
    asked: Arc<AtomicUsize>,
}

/// What a connection is spoken through.
trait Spoken: Read + Write {}

impl<T: Read + Write> Spoken for T {}

impl KeyServer {
    /// Starts a server that speaks plain HTTP.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start(keys: &Value) -> Self {
        Self::start_over(keys, Ok)
    }

    /// Starts a server that speaks through what `wrap` makes of a connection, such as TLS.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start_over<S: Read + Write + 'static>(
        keys: &Value,
        wrap: impl Fn(std::net::TcpStream) -> std::io::Result<S> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            answer: Arc::new(Mutex::new((200, keys.to_string()))),
            asked: Arc::default(),
        };
        let (serving, wrap) = (server.clone(), Arc::new(wrap));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (serving, wrap) = (serving.clone(), Arc::clone(&wrap));
                thread::spawn(move || {
                    if let Ok(mut stream) = wrap(stream) {
                        // Whoever breaks off has no answer.
                        serving.answer(&mut stream).ok();
                    }
                });
            }
        });
        server
    }

    fn answer(&self, stream: &mut dyn Spoken) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let (status, text) = self.answer.lock().unwrap().clone();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: application/jwk-set+json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        )?;
        stream.flush()?;
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it has answered.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// Serves this from now on.
    ///
    /// # Panics
    /// Never.
    pub fn serve(&self, keys: &Value) {
        *self.answer.lock().unwrap() = (200, keys.to_string());
    }

    /// Fails from now on.
    ///
    /// # Panics
    /// Never.
    pub fn fail(&self, status: u16) {
        *self.answer.lock().unwrap() = (status, String::new());
    }
}
