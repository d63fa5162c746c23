//! What a line says. The members stand in one order; the log adds `instance`, `seq` and the chain.
//!
//! A decision line is an OPA decision-log event plus our own members. Arguments are never written:
//! their keys stay, their values become keyed digests.

use std::{borrow::Cow, cell::RefCell};

use outrider_policy::{Answer, Decision};

use super::{
    entry::{Ended, Entry, Ruling},
    input::{self, Veil},
};
use crate::{
    json::{Object, write_items, write_str, write_time, write_value},
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
    let (facts, recorder) = (&entry.facts, &entry.recorder);
    let (decision, task) = (ruling.decision.as_ref(), facts.task.as_ref());
    let revision = facts.revision.as_deref().unwrap_or("");
    let mut members = Object::members(line);
    head(entry, "decision", entry.time, &mut members);
    members.raw("labels", &recorder.labels);
    if let Some(trace) = &facts.trace {
        members.hex("trace_id", &trace.trace_id);
        members.hex("span_id", &trace.span_id);
        if let Some(parent) = &trace.parent {
            members.hex("parent_span_id", parent);
        }
        members.text("trace_flags", if trace.sampled { "01" } else { "00" });
    }
    if facts.revision.is_some() {
        members.object("bundles", |bundles| {
            bundles.object("outrider", |bundle| {
                bundle.text("revision", revision);
            });
        });
    }
    members.text("path", "outrider/decision");
    evidence(entry, ruling, &mut members);
    members.object("metrics", |metrics| timers(entry, metrics));
    members.text("requested_by", &entry.peer.name);
    verdict(ruling, &mut members);
    members.text("tool", facts.tool.as_ref().map_or("", |tool| tool.as_str()));
    let service = facts.service.as_ref();
    members.text("service", service.map_or("", |service| service.as_str()));
    members.text("agent", &recorder.agent);
    members.text("subject", task.map_or("", |task| &task.subject));
    members.text("task", task.map_or("", |task| &task.id));
    members.text("task_source", facts.task_source);
    members.text("intent", task.map_or("", |task| &task.intent));
    members.text("classification", facts.classification);
    members.object("policy", |policy| {
        policy.text("revision", revision);
        policy.text("rule", decision.map_or("", |decision| &decision.rule));
        policy.text("mode", "enforce");
    });
    members.text("approval", "");
    let exception = decision.and_then(|decision| decision.exception.as_ref());
    members.text("exception", exception.map_or("", |exception| &exception.id));
    members.text("request_digest", &facts.request_digest);
    members.text("protocol", facts.protocol);
    if let Some(revision) = &facts.revision_spoken {
        members.text("protocol_version", revision);
    }
    members.text("method", &facts.method);
    members.text("listener", &entry.listener);
    members.bool("durable", recorder.log.durability().is_durable());
    members.text("isolation", &recorder.isolation);
}

/// Composes the members of an outcome line.
pub(super) fn outcome(entry: &Entry, ended: Ended, line: &mut Vec<u8>) {
    let failed = matches!(ended, Ended::UpstreamFailed | Ended::Cut);
    let took = u64::try_from(entry.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut members = Object::members(line);
    head(entry, "outcome", jiff::Timestamp::now(), &mut members);
    members.object("response", |response| {
        response.number("status", u64::from(entry.answered.status));
        response.number("bytes", entry.answered.bytes);
        if let Some(sent) = entry.answered.sent {
            response.number("sent_bytes", sent);
        }
        response.text("classification", entry.facts.classification);
        response.number("duration_ms", took);
        response.text("error", if failed { entry.code().as_str() } else { "" });
    });
    members.text("ended", ended.as_str());
    members.text("code", entry.code().as_str());
}

fn head(entry: &Entry, kind: &str, time: jiff::Timestamp, members: &mut Object<'_>) {
    members.text("type", kind);
    members.text("decision_id", entry.id.encode(&mut [0; 36]));
    members.time("timestamp", time, write_time);
}

/// `input` (masked), `result`, `erased`, `masked`.
fn evidence(entry: &Entry, ruling: &Ruling, members: &mut Object<'_>) {
    let decision = ruling.decision.as_ref();
    let redact: &[String] = decision.map_or(&[], |decision| &decision.redact);
    let veil = Veil {
        digests: &entry.recorder.digests,
        body: &entry.facts.request_digest,
        redact,
    };
    match &entry.facts.input {
        Some(input) => members.with("input", |line| input::write(input, veil, line)),
        None => members.raw("input", "{}"),
    };
    match decision {
        Some(decision) => members.with("result", |line| result(decision, line)),
        None => members.raw("result", "{}"),
    };
    members.with("erased", |line| {
        write_items(redact.iter(), line, |pointer, line| {
            write_str(&format!("/input/call{pointer}"), line);
        });
    });
    members.raw(
        "masked",
        match entry.facts.input {
            Some(_) => {
                r#"["/input/call/arguments","/input/call/body_sha256","/input/call/input_responses"]"#
            }
            None => "[]",
        },
    );
}

/// What the library answered, in the order of its members.
fn result(decision: &Decision, line: &mut Vec<u8>) {
    match &decision.answer {
        Answer::Returned(result) => write_value(result, line),
        Answer::Granted => {
            line.extend_from_slice(
                br#"{"allow":true,"approvals":[],"code":"ok","exception":"","failures":[],"reachable":true,"redact":[],"rule":"#,
            );
            write_str(&decision.rule, line);
            line.push(b'}');
        }
    }
}

fn timers(entry: &Entry, metrics: &mut Object<'_>) {
    let timers = &entry.timers;
    for (name, took) in [
        ("timer_parse_ns", timers.parse),
        ("timer_schema_ns", timers.schema),
        ("timer_limit_ns", timers.limit),
        ("timer_rego_query_eval_ns", timers.policy),
        ("timer_server_handler_ns", entry.opened.elapsed()),
    ] {
        metrics.number(name, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// `outcome`, `code`, `reasons`: policy's, or what a stage before it found.
fn verdict(ruling: &Ruling, members: &mut Object<'_>) {
    let outcome = match &ruling.refusal {
        None => "allow",
        Some(Rejection::ApprovalRequired(_)) => "hold",
        Some(_) => "deny",
    };
    members.text("outcome", outcome);
    members.text("code", ruling.code().as_str());
    let judged = ruling
        .decision
        .iter()
        .flat_map(|decision| &decision.reasons);
    let mut reasons: Vec<(&str, Cow<'_, str>)> = judged
        .map(|reason| (&*reason.reason, Cow::from(&*reason.message)))
        .collect();
    if let (true, Some(rejection)) = (reasons.is_empty(), &ruling.refusal) {
        reasons.push((rejection.code().as_str(), rejection.detail()));
    }
    members.with("reasons", |line| {
        write_items(reasons.iter(), line, |(reason, message), line| {
            Object::begin(line)
                .text("reason", reason)
                .text("message", message)
                .end();
        });
    });
}
