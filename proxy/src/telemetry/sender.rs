//! Sends messages to one place, by gRPC or by HTTP, and understands what is answered.

use std::{io::Write as _, path::PathBuf, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Uri, header};
use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::time::timeout;

use crate::{
    credentials::{Places, Template},
    grpc::{Channel, Failed},
    upstream::{Fetcher, TlsRoots, Upstream},
};

/// How long a message may take to be answered.
const PATIENCE: Duration = Duration::from_secs(10);
/// How large an answer may be.
const ANSWER: usize = 64 * 1024;

/// gRPC status codes after which a message would be refused again.
const REFUSED: [u32; 2] = [INVALID_ARGUMENT, OUT_OF_RANGE];
const INVALID_ARGUMENT: u32 = 3;
const OUT_OF_RANGE: u32 = 11;

/// How a message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// OTLP over gRPC.
    Grpc(Service),
    /// OTLP over HTTP, protobuf.
    Http(Service),
    /// JSON, as OPA uploads it.
    Json,
}

/// Which service of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Traces,
    Logs,
    Metrics,
}

impl Service {
    /// The path of its HTTP form, below the endpoint.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Traces => "/v1/traces",
            Self::Logs => "/v1/logs",
            Self::Metrics => "/v1/metrics",
        }
    }

    /// The path of its gRPC form.
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Traces => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Self::Logs => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
            Self::Metrics => "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
        }
    }

    /// How many records an answer refuses, and why.
    fn refused(self, answer: &[u8]) -> (u64, String) {
        let partial = match self {
            Self::Traces => ExportTraceServiceResponse::decode(answer)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| (partial.rejected_spans, partial.error_message)),
            Self::Logs => ExportLogsServiceResponse::decode(answer)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| (partial.rejected_log_records, partial.error_message)),
            Self::Metrics => ExportMetricsServiceResponse::decode(answer)
                .ok()
                .and_then(|answer| answer.partial_success)
                .map(|partial| (partial.rejected_data_points, partial.error_message)),
        };
        let (count, why) = partial.unwrap_or_default();
        (u64::try_from(count).unwrap_or_default(), why)
    }
}

/// What became of a message.
#[derive(Debug)]
pub(super) enum Sent {
    /// It was taken, but for so many records.
    Taken { refused: u64 },
    /// It never will be.
    Refused(String),
    /// It was not; and when to try again, if that was said.
    Away(String, Option<Duration>),
}

/// The way to one place.
#[derive(Debug)]
pub(super) struct Route {
    at: Upstream,
    form: Form,
    roots: TlsRoots,
    fetcher: Fetcher,
    headers: Vec<(HeaderName, Template)>,
    base: PathBuf,
}

/// What goes that way, on one thread.
#[derive(Debug)]
pub(super) struct Sender {
    route: Route,
    channel: Option<Channel>,
}

impl Route {
    /// Sends to that URL, which is proved by `roots`; the places of `headers` are filled each time.
    pub(super) fn new(
        at: Upstream,
        form: Form,
        roots: TlsRoots,
        headers: Vec<(HeaderName, Template)>,
        base: PathBuf,
    ) -> Self {
        Self {
            at,
            form,
            fetcher: Fetcher::new(roots.clone(), ANSWER, PATIENCE).unprotected(),
            roots,
            headers,
            base,
        }
    }

    /// Begins to send.
    pub(super) fn open(self) -> Sender {
        Sender {
            route: self,
            channel: None,
        }
    }

    fn filled(&self) -> Result<HeaderMap, String> {
        let places = Places {
            base: &self.base,
            env: &|name| std::env::var(name).ok(),
            token: None,
        };
        let mut headers = HeaderMap::new();
        for (name, template) in &self.headers {
            let value = template.header_value(&places);
            headers.insert(name.clone(), value.map_err(|error| error.to_string())?);
        }
        Ok(headers)
    }
}

impl Sender {
    pub(super) async fn send(&mut self, message: &Bytes) -> Sent {
        let headers = match self.route.filled() {
            Ok(headers) => headers,
            Err(why) => return Sent::Away(why, None),
        };
        match self.route.form {
            Form::Grpc(service) => self.by_grpc(service, headers, message).await,
            Form::Http(service) => {
                let answer = self
                    .by_http("application/x-protobuf", headers, message)
                    .await;
                judged(answer, |answer| service.refused(answer))
            }
            Form::Json => {
                let answer = self.by_http("application/json", headers, message).await;
                judged(answer, |_| (0, String::new()))
            }
        }
    }

    async fn by_http(
        &self,
        content_type: &'static str,
        mut headers: HeaderMap,
        message: &Bytes,
    ) -> Result<Response<Bytes>, String> {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        let packed = packed.write_all(message).and_then(|()| packed.finish());
        let packed = packed.map_err(|error| error.to_string())?;
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        headers.insert(header::CONTENT_LENGTH, packed.len().into());
        headers.insert(header::USER_AGENT, agent());
        let answer = self
            .route
            .fetcher
            .fetch(&self.route.at, Method::POST, headers, packed.into())
            .await;
        answer.map_err(|error| told(&error))
    }

    async fn by_grpc(&mut self, service: Service, mut headers: HeaderMap, message: &Bytes) -> Sent {
        headers.insert(header::USER_AGENT, agent());
        let answer = timeout(PATIENCE, self.called(service, &headers, message)).await;
        let sent = match answer {
            Ok(Ok(answer)) => return taken(service.refused(&answer)),
            Ok(Err(Said::Failed(Failed::Status(code, why)))) if REFUSED.contains(&code) => {
                return Sent::Refused(format!("status {code}: {why}"));
            }
            Ok(Err(Said::Failed(failed))) => Sent::Away(failed.to_string(), None),
            Ok(Err(Said::Unreachable(why))) => Sent::Away(why, None),
            Err(_) => Sent::Away("no answer in 10 s".into(), None),
        };
        // A connection that failed is not asked again.
        self.channel = None;
        sent
    }

    async fn called(
        &mut self,
        service: Service,
        headers: &HeaderMap,
        message: &Bytes,
    ) -> Result<Bytes, Said> {
        let mut channel = if let Some(channel) = self.channel.take() {
            channel
        } else {
            let stream = Fetcher::connect(&self.route.at, &self.route.roots).await;
            Channel::over(stream.map_err(|error| Said::Unreachable(told(&error)))?).await?
        };
        let target = format!("{}{}", self.route.at.origin(), service.method());
        let target = Uri::try_from(target).map_err(|_| Failed::Garbled)?;
        let mut messages = channel.call(target, headers, message).await?;
        let answer = messages.next().await?.unwrap_or_default();
        while messages.next().await?.is_some() {}
        self.channel = Some(channel);
        Ok(answer)
    }
}

/// Why there is no answer.
enum Said {
    Failed(Failed),
    Unreachable(String),
}

impl From<Failed> for Said {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

/// An error with what caused it.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn agent() -> HeaderValue {
    HeaderValue::from_static(concat!("outrider/", env!("CARGO_PKG_VERSION")))
}

fn taken((refused, why): (u64, String)) -> Sent {
    if refused > 0 {
        tracing::warn!(refused, %why, "some of what is told was refused");
    }
    Sent::Taken { refused }
}

/// What an answer means (OTLP specification, failures; OPA's is taken in the same way).
fn judged(
    answer: Result<Response<Bytes>, String>,
    refused: impl Fn(&[u8]) -> (u64, String),
) -> Sent {
    let answer = match answer {
        Ok(answer) => answer,
        Err(why) => return Sent::Away(why, None),
    };
    let status = answer.status();
    match status {
        status if status.is_success() => taken(refused(answer.body())),
        StatusCode::BAD_REQUEST
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNPROCESSABLE_ENTITY => Sent::Refused(format!("status {status}")),
        // What whoever runs it can mend is waited for.
        status => Sent::Away(format!("status {status}"), after(answer.headers())),
    }
}

fn after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(Duration::from_secs(seconds))
}
