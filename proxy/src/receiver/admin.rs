//! The receiver's admin address: probes and metrics. Read only.

use std::sync::Arc;

use http::{HeaderValue, Method, Request, StatusCode, header};
use serde_json::{Value, json};

use super::{
    intake::{Intake, Transmitter},
    sink::Sink,
};
use crate::{
    jose::Stale,
    metrics::Format,
    server::{Answer, empty, text},
};

/// What it tells of.
#[derive(Debug)]
pub(super) struct Admin {
    pub(super) intake: Arc<Intake>,
    pub(super) transmitters: Vec<Arc<Transmitter>>,
}

impl Admin {
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Answer {
        const PLAIN: &str = "text/plain; charset=utf-8";
        let page = match request.uri().path() {
            "/livez" => text(StatusCode::OK, PLAIN, "live\n"),
            "/readyz" | "/startupz" => self.ready(),
            "/metrics" => {
                let accept = request.headers().get(header::ACCEPT);
                self.metrics(accept.and_then(|accept| accept.to_str().ok()))
            }
            _ => return text(StatusCode::NOT_FOUND, PLAIN, "not found\n"),
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            return page;
        }
        let mut refused = empty(StatusCode::METHOD_NOT_ALLOWED);
        let allowed = HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(header::ALLOW, allowed);
        refused
    }

    /// Ready is who could deal with any token of any transmitter now.
    fn ready(&self) -> Answer {
        let keys = self.transmitters.iter().map(|from| {
            let status = from.source.status();
            let ready = !matches!(from.source.keys(), Err(Stale)) && status.keys > 0;
            json!({
                "issuer": &*from.issuer,
                "ready": ready,
                "keys": status.keys,
                "refused": status.refused,
                "age_s": status.age.map(|age| age.as_secs()),
                "error": status.error,
            })
        });
        let keys: Vec<Value> = keys.collect();
        let (up, detail) = self.state();
        let state = json!({"ready": up, "detail": detail});
        let each = keys.iter().chain([&state]);
        let ready = each.clone().all(|check| check["ready"] == true);
        let page = json!({"ready": ready, "transmitters": keys, "state": state});
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        text(status, "application/json", page.to_string())
    }

    /// Whether all who obey can be told.
    fn state(&self) -> (bool, String) {
        match &self.intake.sink {
            Sink::Fleet(member) => {
                let status = member.fleet.status();
                (status.up, status.detail)
            }
            Sink::Sidecars(sockets) => {
                let missing = sockets.iter().filter(|socket| !socket.exists()).count();
                let detail = format!("{} sidecar(s), {missing} without a socket", sockets.len());
                (missing == 0, detail)
            }
        }
    }

    fn metrics(&self, accept: Option<&str>) -> Answer {
        let metrics = &self.intake.metrics;
        for from in &self.transmitters {
            metrics.keys(&from.issuer, from.source.status().keys);
        }
        metrics.state_up(self.state().0);
        let format = Format::accepted(accept);
        text(StatusCode::OK, format.content_type(), metrics.page(format))
    }
}
