//! What the page asks, and what it is answered.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{task::spawn_blocking, time::timeout};

use super::recent::Recent;
use crate::{
    cli::{ask::ask, log::read::find},
    control::{
        client,
        wire::{Kind, Named, Reply, Request as Asked},
    },
    server::{Answer, empty, text},
};

/// How large a question may be, in bytes.
const LARGEST: usize = 16 * 1024;
/// How long it may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

const JSON: &str = "application/json";
/// Nothing but what is embedded here, and nothing from anywhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The embedded files.
const FILES: [(&str, &str, &str); 4] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/console.js",
        "text/javascript; charset=utf-8",
        include_str!("page/console.js"),
    ),
    (
        "/console.css",
        "text/css; charset=utf-8",
        include_str!("page/console.css"),
    ),
    ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg")),
];

/// What it answers by.
#[derive(Debug)]
pub(super) struct Console {
    pub(super) token: String,
    pub(super) hosts: Vec<String>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) agent: String,
    pub(super) environment: String,
    pub(super) recent: Recent,
    pub(super) log: PathBuf,
    pub(super) control: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    id: String,
    issuer: Option<String>,
    reason: Option<String>,
}

/// A refusal: its status, and what to do about it.
type Refused = (StatusCode, String);

impl Console {
    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let mut answer = self
            .answered(request)
            .await
            .unwrap_or_else(|(status, why)| {
                text(status, JSON, json!({ "error": why }).to_string())
            });
        let headers = answer.headers_mut();
        for (name, value) in [
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::REFERRER_POLICY, "no-referrer"),
            (header::X_FRAME_OPTIONS, "DENY"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
            headers.insert(name, HeaderValue::from_static("same-origin"));
        }
        answer
    }

    async fn answered(&self, request: Request<Incoming>) -> Result<Answer, Refused> {
        self.admit(&request)?;
        let path = request.uri().path().to_owned();
        if let Some((_, kind, page)) = FILES.iter().find(|(known, _, _)| *known == path) {
            return match *request.method() {
                Method::GET | Method::HEAD => Ok(text(StatusCode::OK, kind, *page)),
                _ => Ok(empty(StatusCode::METHOD_NOT_ALLOWED)),
            };
        }
        self.prove(&request)?;
        match (request.method(), path.as_str()) {
            (&Method::GET, "/api/status") => Ok(page(&self.status().await)),
            (&Method::GET, "/api/decisions") => Ok(self.decisions(request.uri().query())),
            (&Method::GET, "/api/tasks") => {
                let tasks = self.control(Asked::TaskList {}).await?;
                Ok(page(&tasks))
            }
            (&Method::POST, "/api/tasks/revoke") => self.revoke(request).await,
            (&Method::GET, path) => match path.strip_prefix("/api/decisions/") {
                Some(id) => self.decision(id.to_owned()).await,
                None => Err((StatusCode::NOT_FOUND, "there is no such page".into())),
            },
            _ => Err((StatusCode::NOT_FOUND, "there is no such page".into())),
        }
    }

    /// Only a page of ours, by the name under which it is served, is answered at all: another that a
    /// browser has open may resolve its own name to this machine.
    fn admit(&self, request: &Request<Incoming>) -> Result<(), Refused> {
        let word = |name| {
            request
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        let host = word(header::HOST).unwrap_or_default();
        let origin =
            word(header::ORIGIN).map(|origin| origin.strip_prefix("http://").unwrap_or(origin));
        let known = |host: &str| self.hosts.iter().any(|known| known == host);
        if !known(host) || origin.is_some_and(|origin| !known(origin)) {
            let why = "this address is not served under that name".to_owned();
            return Err((StatusCode::FORBIDDEN, why));
        }
        Ok(())
    }

    fn prove(&self, request: &Request<Incoming>) -> Result<(), Refused> {
        let shown = request.headers().get(header::AUTHORIZATION);
        let shown = shown.and_then(|shown| shown.as_bytes().strip_prefix(b"Bearer "));
        let good = shown
            .is_some_and(|shown| verify_slices_are_equal(shown, self.token.as_bytes()).is_ok());
        if good {
            return Ok(());
        }
        let why = "open the address that `outrider console` printed: its token is missing or of another run";
        Err((StatusCode::UNAUTHORIZED, why.into()))
    }

    async fn status(&self) -> Value {
        let admin = self.admin;
        let ready = spawn_blocking(move || {
            let (_, ready) = ask(admin?, "/readyz").ok()?;
            serde_json::from_str::<Value>(&ready).ok()
        });
        json!({
            "agent": self.agent,
            "environment": self.environment,
            "version": env!("CARGO_PKG_VERSION"),
            "readiness": ready.await.ok().flatten(),
            "admin": self.admin.is_some(),
            "tasks": self.control.is_some(),
        })
    }

    fn decisions(&self, query: Option<&str>) -> Answer {
        let after = query.and_then(|query| query.strip_prefix("after="));
        let news = self
            .recent
            .after(after.and_then(|after| after.parse().ok()).unwrap_or(0));
        // Lines go as they are: what the page shows is what stands in the log.
        let error = Value::from(news.error);
        let lines = news.lines.join(",");
        let body = format!(
            r#"{{"next":{},"error":{error},"lines":[{lines}]}}"#,
            news.next
        );
        text(StatusCode::OK, JSON, body)
    }

    async fn decision(&self, id: String) -> Result<Answer, Refused> {
        let log = self.log.clone();
        let unreadable = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
        let found = spawn_blocking(move || find(&log, &id)).await;
        let found = found.map_err(|error| unreadable(error.to_string()))?;
        let found = found.map_err(|error| unreadable(error.to_string()))?;
        let lines = found
            .into_iter()
            .filter_map(|line| String::from_utf8(line).ok());
        let lines: Vec<_> = lines.collect();
        if lines.is_empty() {
            return Err((StatusCode::NOT_FOUND, "it is not in this log file".into()));
        }
        Ok(text(StatusCode::OK, JSON, format!("[{}]", lines.join(","))))
    }

    async fn revoke(&self, request: Request<Incoming>) -> Result<Answer, Refused> {
        let malformed = || {
            (
                StatusCode::BAD_REQUEST,
                "expected a task's `id` and a `reason`".to_owned(),
            )
        };
        let body = Limited::new(request.into_body(), LARGEST).collect();
        let body = timeout(PATIENCE, body).await.map_err(|_| malformed())?;
        let body = body.map_err(|_| malformed())?.to_bytes();
        let Revoke { id, issuer, reason } =
            serde_json::from_slice(&body).map_err(|_| malformed())?;
        let target = Named {
            kind: Kind::Task,
            id,
            issuer,
        };
        let done = self.control(Asked::Revoke {
            target,
            issued_before: None,
            reason,
        });
        Ok(page(&done.await?))
    }

    /// Asks the sidecar, on a thread that may wait.
    async fn control(&self, asked: Asked) -> Result<Value, Refused> {
        let away = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why);
        let socket = self.control.clone();
        let socket = socket
            .ok_or_else(|| away("`control.socket` is missing in the configuration".into()))?;
        let reply = spawn_blocking(move || client::ask(&socket, &asked)).await;
        let reply = reply.map_err(|error| away(error.to_string()))?;
        let value = match reply.map_err(|error| away(error.to_string()))? {
            Reply::Tasks(tasks) => serde_json::to_value(tasks),
            Reply::Done(done) => serde_json::to_value(done),
            Reply::Refused(refusal) => return Err((StatusCode::CONFLICT, refusal.message)),
            _ => return Err(away("the sidecar's answer is not understood".into())),
        };
        value.map_err(|error| away(error.to_string()))
    }
}

fn page(value: &Value) -> Answer {
    text(StatusCode::OK, JSON, value.to_string())
}
