//! What a line says. The members stand in one order; the log adds `instance`, `seq` and the chain.
//!
//! A decision line is an OPA decision-log event plus our own members. Arguments are never written:
//! their keys stay, their values become keyed digests.

use std::cell::RefCell;

use super::{
    entry::{Ended, Entry, Ruling},
    input::{self, Veil},
};
use crate::{
    json::{write_hex, write_str, write_u64, write_value},
    rejection::Rejection,
};

thread_local! {
    /// One buffer a thread: a line is composed without allocating.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(4096));
}

/// Lends the thread's buffer, emptied.
pub(super) fn with_buffer<T>(compose: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        compose(buffer)
    })
}

/// Composes the members of a decision line.
pub(super) fn decision(entry: &Entry, ruling: &Ruling, line: &mut Vec<u8>) {
    let facts = &entry.facts;
    head(entry, "decision", line);
    put_time(line, "timestamp", entry.time);
    line.extend_from_slice(entry.recorder.labels.as_bytes());
    if let Some(trace) = &facts.trace {
        line.extend_from_slice(b",\"trace_id\":\"");
        write_hex(&trace.trace_id, line);
        line.extend_from_slice(b"\",\"span_id\":\"");
        write_hex(&trace.span_id, line);
        line.push(b'"');
    }
    if let Some(revision) = &facts.revision {
        line.extend_from_slice(b",\"bundles\":{\"outrider\":{\"revision\":");
        write_str(revision, line);
        line.extend_from_slice(b"}}");
    }
    put(line, "path", "outrider/decision");
    evidence(entry, ruling, line);
    timers(entry, line);
    put(line, "requested_by", &entry.peer.to_string());
    verdict(ruling, line);
    put(
        line,
        "tool",
        facts.tool.as_ref().map_or("", |tool| tool.as_str()),
    );
    put(
        line,
        "service",
        facts
            .service
            .as_ref()
            .map_or("", |service| service.as_str()),
    );
    put(line, "agent", &entry.recorder.agent);
    put(
        line,
        "subject",
        facts.task.as_ref().map_or("", |task| &task.subject),
    );
    put(
        line,
        "task",
        facts.task.as_ref().map_or("", |task| &task.id),
    );
    put(line, "task_source", facts.task_source);
    put(
        line,
        "intent",
        facts.task.as_ref().map_or("", |task| &task.intent),
    );
    put(line, "classification", facts.classification);
    policy(entry, ruling, line);
    put(line, "request_digest", &facts.request_digest);
    put(line, "method", facts.method);
    put(line, "listener", &entry.listener);
    line.extend_from_slice(entry.recorder.durability.as_bytes());
}

/// Composes the members of an outcome line.
pub(super) fn outcome(entry: &Entry, ended: Ended, line: &mut Vec<u8>) {
    head(entry, "outcome", line);
    put_time(line, "timestamp", jiff::Timestamp::now());
    line.extend_from_slice(b",\"response\":{\"status\":");
    write_u64(u64::from(entry.answered.status), line);
    line.extend_from_slice(b",\"bytes\":");
    write_u64(entry.answered.bytes, line);
    put(line, "classification", entry.facts.classification);
    line.extend_from_slice(b",\"duration_ms\":");
    write_u64(
        u64::try_from(entry.opened.elapsed().as_millis()).unwrap_or(u64::MAX),
        line,
    );
    line.extend_from_slice(b",\"error\":");
    let failed = matches!(ended, Ended::UpstreamFailed | Ended::Cut);
    write_str(if failed { entry.code().as_str() } else { "" }, line);
    line.push(b'}');
    put(line, "ended", ended.as_str());
    put(line, "code", entry.code().as_str());
}

fn head(entry: &Entry, kind: &str, line: &mut Vec<u8>) {
    line.extend_from_slice(b"\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"decision_id\":\"");
    line.extend_from_slice(entry.id.encode(&mut [0; 36]).as_bytes());
    line.push(b'"');
}

/// `input` (masked), `result`, `erased`, `masked`.
fn evidence(entry: &Entry, ruling: &Ruling, line: &mut Vec<u8>) {
    let redact: &[String] = ruling
        .decision
        .as_ref()
        .map_or(&[], |decision| &decision.redact);
    line.extend_from_slice(b",\"input\":");
    match &entry.facts.input {
        Some(input) => {
            let veil = Veil {
                digests: &entry.recorder.digests,
                body: &entry.facts.request_digest,
                redact,
            };
            input::write(input, veil, line);
        }
        None => line.extend_from_slice(b"{}"),
    }
    line.extend_from_slice(b",\"result\":");
    match &ruling.decision {
        Some(decision) => write_value(&decision.result, line),
        None => line.extend_from_slice(b"{}"),
    }
    line.extend_from_slice(b",\"erased\":[");
    list(
        line,
        redact.iter().map(|pointer| format!("/input/call{pointer}")),
    );
    line.extend_from_slice(if entry.facts.input.is_some() {
        br#"],"masked":["/input/call/arguments","/input/call/body_sha256","/input/call/input_responses"]"#
    } else {
        br#"],"masked":[]"#
    });
}

fn timers(entry: &Entry, line: &mut Vec<u8>) {
    let timers = &entry.timers;
    line.extend_from_slice(b",\"metrics\":{\"timer_parse_ns\":");
    write_u64(nanos(timers.parse), line);
    for (name, value) in [
        (&b",\"timer_schema_ns\":"[..], timers.schema),
        (b",\"timer_limit_ns\":", timers.limit),
        (b",\"timer_rego_query_eval_ns\":", timers.policy),
        (b",\"timer_server_handler_ns\":", entry.opened.elapsed()),
    ] {
        line.extend_from_slice(name);
        write_u64(nanos(value), line);
    }
    line.push(b'}');
}

fn verdict(ruling: &Ruling, line: &mut Vec<u8>) {
    let outcome = match &ruling.refusal {
        None => "allow",
        Some(Rejection::ApprovalRequired(_)) => "hold",
        Some(_) => "deny",
    };
    put(line, "outcome", outcome);
    put(line, "code", ruling.code().as_str());
    line.extend_from_slice(b",\"reasons\":[");
    match &ruling.decision {
        Some(decision) if !decision.reasons.is_empty() => {
            for (index, reason) in decision.reasons.iter().enumerate() {
                line.extend_from_slice(if index == 0 {
                    b"{\"reason\":"
                } else {
                    b",{\"reason\":"
                });
                write_str(&reason.reason, line);
                put(line, "message", &reason.message);
                line.push(b'}');
            }
        }
        _ => why(ruling, line),
    }
    line.push(b']');
}

/// What a stage before policy found.
fn why(ruling: &Ruling, line: &mut Vec<u8>) {
    let Some(rejection) = &ruling.refusal else {
        return;
    };
    line.extend_from_slice(b"{\"reason\":");
    write_str(rejection.code().as_str(), line);
    put(line, "message", &rejection.detail());
    line.push(b'}');
}

fn policy(entry: &Entry, ruling: &Ruling, line: &mut Vec<u8>) {
    line.extend_from_slice(b",\"policy\":{\"revision\":");
    write_str(entry.facts.revision.as_deref().unwrap_or(""), line);
    let decision = ruling.decision.as_ref();
    put(line, "rule", decision.map_or("", |decision| &decision.rule));
    line.extend_from_slice(b",\"mode\":\"enforce\"},\"approval\":\"\"");
    let exception = decision.and_then(|decision| decision.exception.as_ref());
    put(
        line,
        "exception",
        exception.map_or("", |exception| &exception.id),
    );
}

fn list(line: &mut Vec<u8>, items: impl Iterator<Item = String>) {
    for (index, item) in items.enumerate() {
        if index > 0 {
            line.push(b',');
        }
        write_str(&item, line);
    }
}

/// `,"name":"text"`.
pub(super) fn put(line: &mut Vec<u8>, name: &str, text: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":");
    write_str(text, line);
}

fn put_time(line: &mut Vec<u8>, name: &str, time: jiff::Timestamp) {
    use std::io::Write as _;
    line.extend_from_slice(b",\"");
    line.extend_from_slice(name.as_bytes());
    line.extend_from_slice(b"\":\"");
    // Writing to a vector cannot fail.
    write!(line, "{time:.9}\"").unwrap_or_default();
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
