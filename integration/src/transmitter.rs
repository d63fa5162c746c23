//! A transmitter of security events: it signs tokens, delivers them (RFC 8935), and has an endpoint
//! where they are fetched (RFC 8936).

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{Address, Answer, Connection, IssuerKey, key_set};

/// What URIs of CAEP events begin with.
pub const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";

/// The bearer token of every transmitter.
pub const BEARER: &str = "0123456789abcdef0123456789abcdef";

/// A transmitter and its key.
#[derive(Debug)]
pub struct Transmitter {
    /// Its name.
    pub issuer: String,
    /// Its key.
    pub key: IssuerKey,
    made: AtomicUsize,
}

impl Transmitter {
    /// One with a new key.
    pub fn new(issuer: &str) -> Self {
        Self {
            issuer: issuer.to_owned(),
            key: IssuerKey::new("ES256", "set"),
            made: AtomicUsize::new(0),
        }
    }

    /// Its published keys.
    pub fn keys(&self) -> Value {
        key_set([&self.key])
    }

    /// The claims of a good token that says this of that subject.
    ///
    /// # Panics
    /// Never.
    pub fn claims(&self, subject: &str, event: &str, what: &Value) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        json!({
            "iss": self.issuer,
            "aud": "https://receiver.example.org",
            "jti": format!("set-{}", self.made.fetch_add(1, Ordering::SeqCst)),
            "iat": now.as_secs(),
            "sub_id": {"format": "iss_sub", "iss": self.issuer, "sub": subject},
            "events": {format!("{CAEP}{event}"): what},
        })
    }

    /// A token of these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as("secevent+jwt", claims)
    }

    /// The same, said to be of another type.
    pub fn sign_as(&self, typ: &str, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "set", "typ": typ});
        self.key.token(&header, claims)
    }

    /// A token that says that a subject's sessions are over.
    pub fn session_revoked(&self, subject: &str) -> String {
        self.sign(&self.claims(subject, "session-revoked", &json!({})))
    }
}

/// Delivers a token with the right bearer token and type.
pub fn deliver(to: SocketAddr, token: &str) -> Answer {
    let authorization = format!("Bearer {BEARER}");
    let fields = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/secevent+jwt"),
        ("accept", "application/json"),
    ];
    post(to, "/events", &fields, token.as_bytes())
}

/// POSTs a body.
///
/// # Panics
/// When there is no answer.
pub fn post(to: SocketAddr, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {to}\r\n{}content-length: {}\r\n\r\n",
        fields.concat(),
        body.len()
    );
    let mut connection = Connection::open(&Address::Tcp(to)).expect("a connection");
    // Who refuses a body need not read it.
    connection.send(&[head.as_bytes(), body].concat()).ok();
    connection.answer().expect("an answer").expect("an answer")
}

#[derive(Debug, Default)]
struct Pending {
    sets: BTreeMap<String, String>,
    acknowledged: Vec<String>,
    errors: BTreeMap<String, Value>,
    requests: Vec<Value>,
    failing: bool,
}

/// An endpoint where tokens are fetched. Its threads end with the process.
#[derive(Clone, Debug)]
pub struct PollServer {
    address: SocketAddr,
    pending: Arc<(Mutex<Pending>, Condvar)>,
}

impl PollServer {
    /// Starts one that has nothing to tell.
    ///
    /// # Panics
    /// When no port is free.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            pending: Arc::default(),
        };
        let serving = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                // Whoever breaks off has no answer.
                thread::spawn(move || serving.answer(stream).ok());
            }
        });
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/poll", self.address)
    }

    /// Has these tokens fetched, by the IDs under which they are announced.
    pub fn tell<'a>(&self, sets: impl IntoIterator<Item = (&'a str, String)>) {
        let sets = sets.into_iter().map(|(id, set)| (id.to_owned(), set));
        self.pending().sets.extend(sets);
        self.pending.1.notify_all();
    }

    /// Fails from now on, or no more.
    pub fn fail(&self, failing: bool) {
        self.pending().failing = failing;
        self.pending.1.notify_all();
    }

    /// What was acknowledged so far.
    pub fn acknowledged(&self) -> Vec<String> {
        self.pending().acknowledged.clone()
    }

    /// What was refused so far.
    pub fn errors(&self) -> BTreeMap<String, Value> {
        self.pending().errors.clone()
    }

    /// Everything that was asked so far.
    pub fn requests(&self) -> Vec<Value> {
        self.pending().requests.clone()
    }

    fn pending(&self) -> std::sync::MutexGuard<'_, Pending> {
        self.pending.0.lock().unwrap()
    }

    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.extend(byte);
        }
        let head = String::from_utf8_lossy(&head).to_lowercase();
        let length = head.split("content-length: ").nth(1).unwrap_or("0");
        let length = length.lines().next().unwrap_or("0").trim().parse();
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body)?;
        let request: Value = serde_json::from_slice(&body)?;
        let authorized = head.contains(&format!("authorization: bearer {BEARER}"));
        let (status, answer) = if authorized {
            self.told(&request)
        } else {
            (401, json!({}))
        };
        let text = answer.to_string();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
            text.len()
        )
    }

    fn told(&self, request: &Value) -> (u16, Value) {
        let mut pending = self.pending();
        pending.requests.push(request.clone());
        if pending.failing {
            return (500, json!({}));
        }
        for id in request["ack"].as_array().into_iter().flatten() {
            let id = id.as_str().unwrap().to_owned();
            pending.sets.remove(&id);
            pending.acknowledged.push(id);
        }
        for (id, error) in request["setErrs"].as_object().into_iter().flatten() {
            pending.sets.remove(id);
            pending.errors.insert(id.clone(), error.clone());
        }
        if request["returnImmediately"] != true {
            let wait = Duration::from_secs(20);
            let waited = self.pending.1.wait_timeout_while(pending, wait, |pending| {
                pending.sets.is_empty() && !pending.failing
            });
            pending = waited.unwrap().0;
        }
        let most = request["maxEvents"].as_u64().unwrap_or(u64::MAX);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let sets: BTreeMap<_, _> = pending.sets.iter().take(most).collect();
        let more = pending.sets.len() > sets.len();
        (200, json!({"sets": sets, "moreAvailable": more}))
    }
}
