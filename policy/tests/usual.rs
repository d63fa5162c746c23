//! The usual call is permitted without evaluating the library; here the library is asked about it all the same.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{AGENT, Asked, asked, bounds, code, data_from, documents, time, tools};
use outrider_policy::data::{AgentState, Data};
use outrider_policy::input::{Phase, TaskState};
use outrider_policy::{Decision, Input, Level, Policy, Value, library};
use proptest::prelude::*;
use serde_json::json;

/// Grants of the agent's own and of its role, for this and for other intents, levels and times.
fn data() -> Data {
    let grants = [
        json!({"id": "G-a", "agent": AGENT, "tools": ["tickets/*"], "intents": ["ticket.triage"], "max_classification": "internal"}),
        json!({"id": "G-b", "agent": AGENT, "tools": ["*/*"], "intents": ["report.write", "ticket.triage"], "max_classification": "confidential"}),
        json!({"id": "G-c", "agent": AGENT, "tools": ["tickets/read"], "intents": ["ticket.triage"], "max_classification": "restricted", "expires": "2026-05-31T00:00:00Z"}),
        json!({"id": "G-d", "agent": AGENT, "tools": ["crm/lookup"]}),
        json!({"id": "G-e", "role": "support", "tools": ["crm/*"], "intents": ["ticket.triage"], "max_classification": "restricted"}),
        json!({"id": "G-f", "agent": "agent:past", "tools": ["*/*"], "intents": ["ticket.triage"], "max_classification": "restricted"}),
        json!({"id": "G-g", "agent": "agent:suspended", "tools": ["*/*"], "intents": ["ticket.triage"], "max_classification": "restricted"}),
        json!({"id": "G-h", "agent": "agent:ownerless", "tools": ["*/*"], "intents": ["ticket.triage"], "max_classification": "restricted"}),
        json!({"id": "G-m", "agent": AGENT, "tools": ["llm/POST"], "intents": ["talk"], "max_classification": "confidential"}),
        json!({"id": "G-n", "agent": AGENT, "tools": ["*/*"]}),
        json!({"id": "G-o", "agent": "agent:planner", "tools": ["tickets/*", "crm/lookup"], "max_classification": "confidential"}),
        json!({"id": "G-p", "role": "planners", "tools": ["crm/*"], "intents": ["report.write"], "max_classification": "internal"}),
        json!({"id": "G-q", "agent": "agent:planner", "tools": ["llm/POST"], "intents": ["talk"], "expires": "2026-05-31T00:00:00Z"}),
        json!({"id": "G-i", "agent": "agent:aimless", "tools": ["*/*"], "intents": ["ticket.triage"], "max_classification": "restricted"}),
    ];
    let mut documents = documents();
    documents["grants"] = json!(grants);
    for intent in [
        json!({"id": "talk", "tools": ["llm/*"], "max_classification": "confidential"}),
        json!({"id": "anything", "tools": ["*/*"], "max_classification": "confidential"}),
    ] {
        documents["intents"].as_array_mut().unwrap().push(intent);
    }
    documents["agents"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": "agent:planner", "owner": "x", "purpose": "x", "roles": ["planners"]}));
    documents["subjects"] = json!([
        {"id": "user:grace", "tools": ["tickets/*", "crm/lookup"], "max_classification": "internal"},
        {"id": "user:left", "tools": ["*/*"], "max_classification": "restricted", "expires": "2026-05-31T00:00:00Z"},
        {"id": "user:nothing", "tools": [], "max_classification": "restricted"},
        {"id": "user:all", "tools": ["*/*"], "max_classification": "restricted"},
    ]);
    data_from(documents)
}

const SUBJECTS: [&str; 6] = [
    "user:ada",
    "user:grace",
    "user:left",
    "user:nothing",
    "user:all",
    "",
];

const AGENTS: [&str; 6] = [
    AGENT,
    "agent:past",
    "agent:suspended",
    "agent:ownerless",
    "agent:aimless",
    "agent:nobody",
];

prop_compose! {
    /// Mostly a usual call; each of its parts is sometimes another one.
    fn call()(
        tool in prop::sample::select(common::TOOLS.to_vec()),
        agent in prop_oneof![6 => Just(AGENT), 1 => prop::sample::select(AGENTS.to_vec())],
        state in prop_oneof![9 => Just(Some(AgentState::Active)), 1 => Just(Some(AgentState::Revoked)), 1 => Just(None)],
        (level, most) in (prop::sample::select(Level::ALL.to_vec()), prop::sample::select(Level::ALL.to_vec())),
        task in prop_oneof![12 => Just(TaskState::Active), 1 => prop::sample::select(vec![
            TaskState::None, TaskState::Suspended, TaskState::Revoked, TaskState::Closed, TaskState::Expired])],
        id in prop_oneof![9 => Just("t1"), 1 => Just("")],
        intent in prop_oneof![6 => Just("ticket.triage"), 2 => Just("report.write"), 2 => Just("talk"), 1 => Just("anything"), 1 => Just(""), 1 => Just("other")],
        expires in prop_oneof![9 => Just(Some("2026-06-01T01:00:00Z")), 1 => Just(Some("2026-06-01T00:00:00Z")), 1 => Just(None)],
        scope in prop_oneof![6 => Just(vec!["*/*"]), 3 => Just(vec!["*/*", "llm/P*"]), 1 => Just(vec!["tickets/close", "crm/*"]), 1 => Just(vec![])],
        actors in prop_oneof![6 => Just(vec![AGENT]), 1 => Just(vec![]), 1 => Just(vec![AGENT, ""]),
            4 => Just(vec![AGENT, "agent:planner"]), 1 => Just(vec![AGENT, "agent:planner", AGENT]),
            1 => Just(vec![AGENT, AGENT]), 1 => prop::sample::select(AGENTS.to_vec()).prop_map(|last| vec![AGENT, "agent:planner", last]),
            1 => prop::sample::select(AGENTS.to_vec()).prop_map(|last| vec![AGENT, last])],
        subject in prop_oneof![4 => Just("user:ada"), 2 => Just("user:grace"), 2 => prop::sample::select(SUBJECTS.to_vec())],
        own in prop_oneof![3 => Just(Some(Level::Internal)), 2 => prop::sample::select(vec![
            None, Some(Level::Public), Some(Level::Confidential), Some(Level::Restricted)])],
        list in prop::bool::weighted(0.1),
    ) -> Input {
        let mut call: Asked = asked(tool).agent(agent).level(level).actors(&actors);
        call.agent.state = state;
        call.input.subject.id = subject.into();
        call.tool.classification = own;
        call.task.max_classification = most;
        call.task.state = task;
        call.task.id = id.into();
        call.task.intent = intent.into();
        call.task.expires = expires.map(|text| time(text).into());
        call.task.tools = tools(&scope);
        if list {
            call.input.phase = Phase::List;
        }
        call.input()
    }
}

/// What the library answers, on the engine's interpreter, when it is told of no usual call.
struct Library(regorus::Engine);

impl Library {
    fn new(data: &Data) -> Self {
        let mut engine = regorus::Engine::new();
        for file in library() {
            engine.add_policy(file.name, file.text).unwrap();
        }
        engine.add_data(data.value()).unwrap();
        Self(engine)
    }

    fn rule(&mut self, name: &str, question: &Value) -> Value {
        self.0.set_input(question.clone());
        self.0.eval_rule(format!("data.outrider.{name}")).unwrap()
    }
}

fn without_usual(question: &Value) -> Value {
    let mut question = question.clone();
    let members = question.as_object_mut().unwrap();
    let internal = members.get_mut(&Value::from("internal")).unwrap();
    let usual = internal
        .as_object_mut()
        .unwrap()
        .get_mut(&Value::from("usual"));
    *usual.unwrap() = Value::from("");
    question
}

fn usual(question: &Value) -> Option<String> {
    let grant = question["internal"]["usual"]
        .as_string()
        .unwrap()
        .to_string();
    (!grant.is_empty()).then_some(grant)
}

/// Whether the call was a usual one; fails unless the library says the same.
fn agree(library: &mut Library, policy: &Policy, input: &Input) -> bool {
    let question = policy.question(input);
    let decision: Decision = policy.decide(input);
    assert_eq!(
        decision.result(),
        library.rule("decision", &question),
        "{input:#?}"
    );
    let Some(grant) = usual(&question) else {
        return false;
    };
    let alone = without_usual(&question);
    let considered = library.rule("considered", &alone);
    assert_eq!(considered["allow"], Value::from(true), "{input:#?}");
    for member in [
        "allow",
        "code",
        "exception",
        "failures",
        "approvals",
        "redact",
        "reachable",
    ] {
        assert_eq!(decision.result()[member], considered[member], "{input:#?}");
    }
    let in_reach = library.rule("grants_in_reach", &alone);
    let in_reach = in_reach.as_set().unwrap();
    assert!(
        in_reach.contains(&Value::from(grant.as_str())),
        "{grant}: {input:#?}"
    );
    assert_eq!(&*decision.rule, format!("grant:{grant}"));
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_permitted_as_usual_is_permitted_by_the_library(input in call()) {
        let data = data();
        thread_local! {
            static BOTH: std::cell::RefCell<Option<(Library, Policy)>> = const { std::cell::RefCell::new(None) };
        }
        BOTH.with_borrow_mut(|both| {
            let (library, policy) = both.get_or_insert_with(|| {
                (Library::new(&data), Policy::compile(&[], &data, bounds()).unwrap())
            });
            agree(library, policy, &input);
        });
    }
}

#[test]
fn the_usual_call_is_common_and_each_part_of_it_is_needed() {
    let data = data();
    let policy = Policy::compile(&[], &data, bounds()).unwrap();
    let mut library = Library::new(&data);
    let mut is_usual = |call: Asked| agree(&mut library, &policy, &call.input());
    let changed = |change: fn(&mut Asked)| {
        let mut call = asked("tickets/read");
        change(&mut call);
        call
    };
    assert!(is_usual(asked("tickets/read")));
    assert!(is_usual(asked("tickets/read").level(Level::Confidential)));
    for actors in [
        &[AGENT, "agent:planner"][..],
        &[AGENT, "agent:planner", AGENT],
    ] {
        assert!(is_usual(asked("tickets/read").actors(actors)));
    }
    assert!(is_usual(asked("tickets/read").subject("user:grace")));
    let others = vec![
        asked("crm/export"),
        asked("docs/resource:file:///{path}"),
        asked("tickets/read").level(Level::Restricted),
        asked("tickets/read").actors(&[AGENT, ""]),
        asked("tickets/read").actors(&[AGENT, "agent:other"]),
        asked("tickets/read").actors(&[AGENT, "agent:planner", "agent:other"]),
        asked("tickets/read").actors(&[AGENT, "agent:past"]),
        asked("tickets/read").actors(&[AGENT, "agent:suspended"]),
        asked("tickets/read").actors(&[AGENT, "agent:ownerless"]),
        asked("tickets/read").actors(&[AGENT, "agent:aimless"]),
        asked("tickets/read").subject("user:left"),
        asked("tickets/read").subject("user:nothing"),
        asked("tickets/read")
            .subject("user:grace")
            .level(Level::Confidential),
        asked("tickets/read").without_task(),
        asked("tickets/read").agent("agent:past"),
        asked("tickets/read").agent("agent:suspended"),
        asked("tickets/read").agent("agent:ownerless"),
        asked("tickets/read").agent("agent:aimless"),
        asked("tickets/read").agent("agent:nobody"),
        changed(|call| call.agent.state = Some(AgentState::Revoked)),
        changed(|call| call.task.state = TaskState::Suspended),
        changed(|call| call.task.id = "".into()),
        changed(|call| call.task.intent = "other".into()),
        changed(|call| call.task.tools = tools(&["crm/*"])),
        changed(|call| call.task.max_classification = Level::Public),
        changed(|call| call.task.expires = Some(time("2026-06-01T00:00:00Z").into())),
        changed(|call| call.input.phase = Phase::List),
    ];
    for call in others {
        let shown = format!("{:#?}", call.input());
        assert!(!is_usual(call), "{shown}");
    }
}

#[test]
fn of_several_grants_the_first_that_reaches_the_level_is_named() {
    let data = data();
    let policy = Policy::compile(&[], &data, bounds()).unwrap();
    for (level, grant) in [
        (Level::Internal, "grant:G-a"),
        (Level::Confidential, "grant:G-b"),
    ] {
        let decision = asked("tickets/read").level(level).decide(&policy);
        assert_eq!(&*decision.rule, grant);
    }
}

/// A decision on the model `llm/POST` where task, intent and grant have these patterns.
fn asked_of_a_model(scope: &str, intent: &str, grant: &str) -> Decision {
    let mut documents = documents();
    documents["intents"] =
        json!([{"id": "ticket.triage", "tools": [intent], "max_classification": "confidential"}]);
    documents["grants"] = json!([{"id": "G", "agent": AGENT, "tools": [grant]}]);
    documents["exceptions"] = json!([]);
    let data = data_from(documents);
    let policy = Policy::compile(&[], &data, bounds()).unwrap();
    let mut call = asked("llm/POST");
    call.task.tools = tools(&[scope]);
    let input = call.input();
    agree(&mut Library::new(&data), &policy, &input);
    policy.decide(&input)
}

#[test]
fn a_model_is_reached_only_where_task_intent_and_grant_name_its_service() {
    let patterns = ["*/*", "l*/POST", "*lm/*", "llm/*", "llm/POST", "llm/P*T"];
    let names = |pattern: &str| pattern.starts_with("llm/");
    for scope in patterns {
        for intent in patterns {
            for grant in patterns {
                let expected = match (names(scope), names(intent), names(grant)) {
                    (true, true, true) => "ok",
                    (false, ..) => "scope_exceeded",
                    _ => "policy_denied",
                };
                let decision = asked_of_a_model(scope, intent, grant);
                assert_eq!(code(&decision), expected, "{scope} {intent} {grant}");
            }
        }
    }
}
