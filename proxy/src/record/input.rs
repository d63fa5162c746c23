//! What policy was asked, as the record shows it: the documented `input` with arguments masked.
//!
//! Written member by member, in the order of their names; parts that do not change from call to
//! call bring their text with them.

use outrider_policy::{
    Value,
    input::{CallFacts, Content, EPOCH, Input, LimitFacts, Moment, Phase, TaskFacts, nanoseconds},
};

use super::digest::DigestKey;
use crate::json::{Object, write_items, write_short_time};

/// How the values of a call are hidden.
#[derive(Debug, Clone, Copy)]
pub(super) struct Veil<'a> {
    /// Under which values are digested.
    pub(super) digests: &'a DigestKey,
    /// The body's keyed digest, shown for its plain one.
    pub(super) body: &'a str,
    /// Pointers into the call of what is left out.
    pub(super) redact: &'a [String],
}

/// Writes the whole input.
pub(super) fn write(input: &Input, veil: Veil<'_>, line: &mut Vec<u8>) {
    let mut object = Object::begin(line);
    object.raw("actors", input.actors.json());
    object.raw("agent", input.agent.json());
    object.with("call", |line| call(&input.call, input.phase, veil, line));
    object.with("content", |line| content(&input.content, line));
    object.with("limits", |line| limits(&input.limits, line));
    object.object("subject", |subject| {
        subject.text("id", &input.subject.id);
    });
    object.with("task", |line| task(&input.task, line));
    object.raw("tool", input.tool.json());
    object.end();
}

fn call(call: &CallFacts, phase: Phase, veil: Veil<'_>, line: &mut Vec<u8>) {
    let mut object = Object::begin(line);
    object.with("arguments", |line| {
        masked("arguments", &call.arguments, veil, line);
    });
    object.number("arguments_bytes", call.arguments_bytes);
    object.text("body_sha256", veil.body);
    object.text("host", &call.host);
    object.text("id", &call.id);
    object.with("input_responses", |line| {
        masked("input_responses", &call.input_responses, veil, line);
    });
    object.text("listener", &call.listener);
    object.text("method", &call.method);
    object.text("path", &call.path);
    object.text("phase", phase.as_str());
    object.number("port", u64::from(call.port));
    object.text("protocol", call.protocol);
    object.time("time", call.time, write_short_time);
    object.integer("time_ns", nanoseconds(call.time));
    object.hex("trace_id", call.trace_id.as_ref().map_or(&[], |id| id));
    object.end();
}

fn content(content: &Content, line: &mut Vec<u8>) {
    let mut object = Object::begin(line);
    object.text("classification", content.classification.as_str());
    object.value("findings", &content.findings);
    object.value("labels", &content.labels);
    object.bool("opaque", content.opaque);
    object.end();
}

fn limits(limits: &[LimitFacts], line: &mut Vec<u8>) {
    write_items(limits.iter(), line, |limit, line| {
        Object::begin(line)
            .text("name", &limit.name)
            .number("remaining", limit.remaining)
            .number("reset_s", limit.reset_s)
            .end();
    });
}

fn task(task: &TaskFacts, line: &mut Vec<u8>) {
    let expires = task.expires.as_ref();
    let mut object = Object::begin(line);
    object.object("budget", |budget| {
        budget.number("calls", task.budget.calls);
        budget.number("used", task.budget.used);
    });
    object.value("confidence", &Value::from(task.confidence));
    object.text("expires", expires.map_or(EPOCH, Moment::text));
    object.integer("expires_ns", expires.map_or(0, Moment::ns));
    object.text("high_water", task.high_water.as_str());
    object.text("id", &task.id);
    object.text("intent", &task.intent);
    object.text("max_classification", task.max_classification.as_str());
    object.text("parent", task.parent.as_deref().unwrap_or(""));
    object.text("source", task.source);
    object.text("state", task.state.as_str());
    object.raw("tools", task.tools.json());
    object.end();
}

fn masked(name: &str, value: &Value, veil: Veil<'_>, line: &mut Vec<u8>) {
    let below: Vec<&str> = veil
        .redact
        .iter()
        .filter_map(|pointer| pointer.strip_prefix('/')?.strip_prefix(name))
        .filter(|below| below.is_empty() || below.starts_with('/'))
        .collect();
    if below.is_empty() {
        veil.digests.write_masked(value, line);
    } else {
        veil.digests.write_masked(&without(value, &below), line);
    }
}

/// The value without what the pointers name (RFC 6901).
fn without(value: &Value, pointers: &[&str]) -> Value {
    pointers.iter().fold(value.clone(), |value, pointer| {
        let tokens: Vec<String> = pointer
            .split('/')
            .skip(1)
            .map(|token| token.replace("~1", "/").replace("~0", "~"))
            .collect();
        erased(&value, &tokens)
    })
}

fn erased(value: &Value, tokens: &[String]) -> Value {
    let Some((token, rest)) = tokens.split_first() else {
        return Value::new_object();
    };
    let kept = |name: &str, child: &Value| match (name == token, rest.is_empty()) {
        (true, true) => None,
        (true, false) => Some(erased(child, rest)),
        (false, _) => Some(child.clone()),
    };
    match value {
        Value::Object(members) => {
            let name = |key: &Value| {
                key.as_string()
                    .map_or_else(|_| String::new(), ToString::to_string)
            };
            members
                .iter()
                .filter_map(|(key, child)| Some((key.clone(), kept(&name(key), child)?)))
                .collect::<std::collections::BTreeMap<_, _>>()
                .into()
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .filter_map(|(index, child)| kept(&index.to_string(), child))
            .collect::<Vec<_>>()
            .into(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use outrider_policy::{
        Level, Pattern,
        input::{ActorFacts, AgentFacts, Budget, Ready, SubjectFacts, TaskState, ToolFacts},
    };
    use serde_json::{Value as Json, json};

    use super::*;

    fn input() -> Input {
        let now: Timestamp = "2026-11-22T12:00:00.123456789Z".parse().unwrap();
        let pattern = Pattern::try_from("mcp/*".to_owned()).unwrap();
        let actor = |id: &str| ActorFacts { id: id.into() };
        Input {
            call: CallFacts {
                id: "01900000-0000-7000-8000-000000000000".into(),
                time: now,
                protocol: "mcp",
                method: "POST".into(),
                path: "/a \"path\"".into(),
                host: "tools.test".into(),
                port: 8443,
                listener: "reverse".into(),
                arguments: json!({"to": "alice", "n": [1, {"x": null}]}).into(),
                arguments_bytes: 31,
                body_sha256: Some([0xab; 32]),
                input_responses: json!({"r": {"ok": true}}).into(),
                trace_id: Some([0x0f; 16]),
            },
            agent: Ready::new(AgentFacts {
                id: "spiffe://example.org/agent/a".into(),
                roles: vec!["support".into()],
                ..AgentFacts::default()
            }),
            subject: SubjectFacts {
                id: "user:\n".into(),
            },
            actors: Ready::new(vec![actor("a"), actor("b")]),
            task: TaskFacts {
                id: "t".into(),
                source: "token",
                intent: "work".into(),
                tools: Ready::new([pattern].into_iter().collect()),
                max_classification: Level::Confidential,
                budget: Budget {
                    calls: u64::MAX,
                    used: 3,
                },
                expires: Some(now.into()),
                state: TaskState::Active,
                confidence: 0.5,
                parent: Some("p".into()),
                high_water: Level::Internal,
                within: true,
            },
            tool: Ready::new(ToolFacts {
                id: "mcp/t".into(),
                labels: vec!["pii.email".into()],
                ..ToolFacts::default()
            }),
            content: Content {
                classification: Level::Restricted,
                labels: json!(["pii.email"]).into(),
                findings: Value::new_array(),
                opaque: true,
            },
            limits: vec![LimitFacts {
                name: Arc::from("per-agent"),
                remaining: 9,
                reset_s: 1,
            }],
            phase: Phase::Call,
            spent: Vec::new(),
        }
    }

    fn written(input: &Input, redact: &[String]) -> Json {
        let veil = Veil {
            digests: &DigestKey::new(b"k"),
            body: "hmac-sha256:b",
            redact,
        };
        let mut line = Vec::new();
        write(input, veil, &mut line);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn the_record_shows_what_policy_was_asked_but_for_what_is_masked() {
        for input in [
            input(),
            Input {
                task: TaskFacts::none(),
                actors: Ready::new(Vec::new()),
                limits: Vec::new(),
                phase: Phase::List,
                ..input()
            },
        ] {
            let mut asked: Json = serde_json::to_value(input.to_value()).unwrap();
            let shown = written(&input, &[]);
            for member in ["arguments", "input_responses", "body_sha256"] {
                asked["call"][member] = shown["call"][member].clone();
            }
            assert_eq!(shown, asked);
            assert_eq!(shown["call"]["body_sha256"], "hmac-sha256:b");
            assert!(!shown.to_string().contains("alice"));
        }
    }

    #[test]
    fn what_is_redacted_leaves_no_digest_either() {
        let shown = written(
            &input(),
            &[
                "/arguments/to".into(),
                "/arguments/n/1".into(),
                "/argumentsX/n".into(),
            ],
        );
        let arguments = shown["call"]["arguments"].as_object().unwrap();
        assert_eq!(arguments.keys().collect::<Vec<_>>(), ["n"]);
        assert_eq!(arguments["n"].as_array().unwrap().len(), 1);
    }
}
