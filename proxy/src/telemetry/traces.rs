//! A call as a span: what its decision and its outcome say, in the names of the semantic conventions
//! for HTTP, RPC, generative AI and MCP, and our own for what was decided.

use std::collections::{HashMap, VecDeque};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::KeyValue,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::SpanKind, status::StatusCode},
};
use prost::Message as _;

use super::{
    Standing,
    config::Conventions,
    otlp::{SCHEMA, number, resource, said, scope},
    ship::{Batch, Batches},
};
use crate::record::said::{Line, unhex};

/// Calls whose end is waited for.
const OPEN: usize = 10_000;

/// Spans on their way, and those whose call goes on.
#[derive(Debug)]
pub(super) struct Spans {
    resource: Resource,
    conventions: Conventions,
    open: HashMap<String, Span>,
    order: VecDeque<String>,
    ended: Vec<Span>,
}

impl Spans {
    pub(super) fn new(standing: &Standing, conventions: Conventions) -> Self {
        Self {
            resource: resource(standing),
            conventions,
            open: HashMap::new(),
            order: VecDeque::new(),
            ended: Vec::new(),
        }
    }

    fn decided(&mut self, line: &Line<'_>) {
        // Without a trace nobody could find it, and who samples it out does not want it.
        if line.trace_id.is_empty() || line.trace_flags != "01" {
            return;
        }
        let span = begun(line, self.conventions);
        if line.outcome == "allow" {
            while self.order.len() >= OPEN
                && let Some(oldest) = self.order.pop_front()
            {
                self.open.remove(&oldest);
            }
            self.order.push_back(line.decision_id.to_string());
            self.open.insert(line.decision_id.to_string(), span);
        } else {
            self.ended.push(refused(span, line));
        }
    }

    fn over(&mut self, line: &Line<'_>) {
        let Some(mut span) = self.open.remove(&*line.decision_id) else {
            return;
        };
        while self
            .order
            .front()
            .is_some_and(|id| !self.open.contains_key(id))
        {
            self.order.pop_front();
        }
        span.end_time_unix_nano = line.time().max(span.start_time_unix_nano);
        let response = &line.response;
        if response.status > 0 {
            span.attributes
                .push(number("http.response.status_code", response.status.into()));
        }
        span.attributes
            .push(number("http.response.body.size", response.bytes));
        span.attributes.extend(said("outrider.ended", &line.ended));
        let status = if response.status >= 400 {
            response.status.to_string()
        } else {
            String::new()
        };
        let error = match (&*response.error, &*line.ended) {
            ("", "agent_gone") => "agent_gone".to_owned(),
            ("", _) => status,
            (error, _) => error.to_owned(),
        };
        fail(&mut span, &error);
        self.ended.push(span);
    }
}

/// A span of a call that was decided.
fn begun(line: &Line<'_>, conventions: Conventions) -> Span {
    let timers = &line.metrics;
    let mut attributes: Vec<KeyValue> = [
        said("outrider.decision.id", &line.decision_id),
        said("outrider.decision.outcome", &line.outcome),
        said("outrider.decision.code", &line.code),
        said("outrider.policy.revision", &line.policy.revision),
        said("outrider.policy.rule", &line.policy.rule),
        said("outrider.service", &line.service),
        said("outrider.tool", &line.tool),
        said("outrider.task", &line.task),
        said("outrider.intent", &line.intent),
        said("outrider.classification", &line.classification),
        said("outrider.listener", &line.listener),
    ]
    .into_iter()
    .flatten()
    .collect();
    attributes.extend([
        number("outrider.parse_ns", timers.timer_parse_ns),
        number("outrider.schema_ns", timers.timer_schema_ns),
        number("outrider.limit_ns", timers.timer_limit_ns),
        number("outrider.policy_ns", timers.timer_rego_query_eval_ns),
        number("outrider.decided_ns", timers.timer_server_handler_ns),
    ]);
    let named = Named::of(line, conventions);
    attributes.extend(named.attributes);
    let start = line.time();
    Span {
        trace_id: unhex(&line.trace_id),
        span_id: unhex(&line.span_id),
        parent_span_id: unhex(&line.parent_span_id),
        flags: 1,
        name: named.name,
        kind: SpanKind::Client.into(),
        start_time_unix_nano: start,
        end_time_unix_nano: start + timers.timer_server_handler_ns,
        attributes,
        ..Span::default()
    }
}

fn refused(mut span: Span, line: &Line<'_>) -> Span {
    if line.count > 1 {
        span.attributes.push(number("outrider.count", line.count));
    }
    fail(&mut span, &line.code);
    span
}

fn fail(span: &mut Span, error: &str) {
    span.attributes.extend(said("error.type", error));
    if !error.is_empty() {
        span.status = Some(Status {
            message: error.to_owned(),
            code: StatusCode::Error.into(),
        });
    }
}

/// What the conventions call it.
struct Named {
    name: String,
    attributes: Vec<KeyValue>,
}

impl Named {
    fn of(line: &Line<'_>, conventions: Conventions) -> Self {
        let call = &line.input.call;
        let mut attributes: Vec<_> = said("server.address", &call.host).into_iter().collect();
        if call.port > 0 {
            attributes.push(number("server.port", call.port.into()));
        }
        let operation = line
            .tool
            .split_once('/')
            .map_or("", |(_, operation)| operation);
        let family = &*line.protocol;
        let (target, more) = match (family, conventions) {
            ("mcp", Conventions::V1_44) => {
                model_context(&line.method, operation, &line.protocol_version)
            }
            ("mcp" | "jsonrpc", _) => (
                operation,
                vec![
                    said("http.request.method", "POST"),
                    said("rpc.system.name", "jsonrpc"),
                    said("rpc.method", &line.method),
                ],
            ),
            ("grpc", _) => (
                operation,
                vec![
                    said("http.request.method", "POST"),
                    said("rpc.system.name", "grpc"),
                    said("rpc.method", operation),
                ],
            ),
            _ => (
                &*line.service,
                vec![said("http.request.method", http_method(&line.method))],
            ),
        };
        attributes.extend(more.into_iter().flatten());
        let method = match (family, &*line.method) {
            (_, "") => "call",
            ("grpc", _) => "grpc",
            (_, method) => method,
        };
        let name = if target.is_empty() {
            method.to_owned()
        } else {
            format!("{method} {target}")
        };
        Self { name, attributes }
    }
}

type Attributes = Vec<Option<KeyValue>>;

/// MCP: the target is a tool's or prompt's name, never a resource's.
fn model_context<'a>(method: &str, operation: &'a str, revision: &str) -> (&'a str, Attributes) {
    let mut attributes = vec![
        said("http.request.method", "POST"),
        said("network.transport", "tcp"),
        said("mcp.method.name", method),
        said("mcp.protocol.version", revision),
    ];
    let prompt = operation.strip_prefix("prompt:");
    let resource = operation.strip_prefix("resource:");
    let target = match (method, prompt, resource) {
        (_, Some(prompt), _) => {
            attributes.push(said("gen_ai.prompt.name", prompt));
            prompt
        }
        (_, _, Some(template)) => {
            attributes.push(said("mcp.resource.uri", template));
            ""
        }
        ("tools/call", None, None) => {
            attributes.push(said("gen_ai.operation.name", "execute_tool"));
            attributes.push(said("gen_ai.tool.name", operation));
            operation
        }
        _ => "",
    };
    (target, attributes)
}

/// A method of HTTP, or the word for one that nobody knows.
fn http_method(method: &str) -> &str {
    let known = [
        "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE",
    ];
    match method {
        "" => "",
        "WEBSOCKET" => "GET",
        method if known.contains(&method) => method,
        _ => "_OTHER",
    }
}

impl Batches for Spans {
    fn add(&mut self, line: &[u8]) {
        let Some(line) = Line::read(line) else { return };
        match &*line.kind {
            "decision" => self.decided(&line),
            "outcome" => self.over(&line),
            _ => {}
        }
    }

    fn take(&mut self) -> Option<Batch> {
        let spans = std::mem::take(&mut self.ended);
        let count = spans.len();
        if count == 0 {
            return None;
        }
        let request = ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(self.resource.clone()),
                scope_spans: vec![ScopeSpans {
                    scope: Some(scope()),
                    spans,
                    schema_url: SCHEMA.into(),
                }],
                schema_url: SCHEMA.into(),
            }],
        };
        Batch::of(request.encode_to_vec(), count)
    }
}
