//! What holds for every call and every policy.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::generate::{inputs, single};
use common::{
    AGENT, asked, bounds, code, data, data_for, data_from, documents, library, source, tools,
    try_rules, with_rules,
};
use outrider_policy::data::AgentState;
use outrider_policy::input::{ActorFacts, Ready, TaskFacts, TaskState};
use outrider_policy::{Bounds, Input, Level, Policy};
use proptest::prelude::*;
use serde_json::json;

const RULES: &[&str] = &[
    "allow if input.call.arguments.a == 1",
    "allow if input.tool.id == \"crm/export\"",
    "allow if helper\n\nhelper if input.content.classification == \"public\"",
    "deny contains {\"reason\": \"a\", \"message\": \"m\"} if input.call.arguments.a == 1",
    "deny contains {\"reason\": \"b\", \"message\": \"m\"} if input.tool.service == \"crm\"",
    "deny contains {\"reason\": \"c\", \"message\": \"m\"} if not input.call.arguments.a",
    "deny contains {\"reason\": \"d\", \"message\": \"m\"} if input.limits[0].remaining == 0",
    "approve contains {\"reason\": \"e\", \"approvers\": [\"ada\"]} if true",
    "approve contains {\"reason\": \"f\", \"approvers\": [\"ada\"]} if input.call.time_ns > 5",
    "deny contains {\"reason\": \"g\", \"message\": \"m\"} if input.call.path == \"/tickets\"",
];

const DENY: &str = "deny contains {\"reason\": \"more\", \"message\": \"m\"} if";

fn level() -> impl Strategy<Value = Level> {
    prop::sample::select(Level::ALL.to_vec())
}

prop_compose! {
    fn call()(
        tool in prop::sample::select(common::TOOLS.to_vec()),
        agent in prop::sample::select(vec![AGENT, AGENT, AGENT, "agent:bare", "agent:past", "agent:nobody"]),
        tool_level in level(),
        more in 0_usize..4,
        max in level(),
        intent in prop::sample::select(vec!["ticket.triage", "report.write", "none"]),
        patterns in prop::sample::select(vec![vec!["*/*"], vec!["tickets/*", "crm/lookup"], vec!["crm/export"], vec![]]),
        state in prop::sample::select(vec![TaskState::Active, TaskState::Active, TaskState::Suspended]),
        with_task in any::<bool>(),
        spent in any::<bool>(),
        arguments in prop::sample::select(vec![json!({}), json!({"a": 1}), json!({"a": 2})]),
    ) -> Input {
        let mut call = asked(tool).agent(agent).arguments(arguments);
        call.tool.classification = Some(tool_level);
        // The catalogue's level is the floor of the content's.
        let above: Vec<Level> = Level::ALL.into_iter().filter(|level| *level >= tool_level).collect();
        call.input.content.classification = above[more.min(above.len() - 1)];
        call.task = TaskFacts {
            tools: tools(&patterns),
            max_classification: max,
            intent: intent.into(),
            state,
            ..call.task
        };
        if !with_task {
            call = call.without_task();
        }
        if spent {
            call.input.spent = vec!["EX-7".into()];
        }
        call.input()
    }
}

fn rules() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(RULES.to_vec()), 0..4)
        .prop_map(|rules| rules.join("\n\n"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_can_be_called_is_listed(rules in rules(), calls in prop::collection::vec(call(), 10)) {
        let Ok(policy) = try_rules(&rules) else { return Ok(()) };
        for call in calls {
            let decision = policy.decide(&call);
            if matches!(code(&decision), "ok" | "hold") {
                let mut listed = call.clone();
                listed.call.arguments = outrider_policy::Value::new_object();
                prop_assert!(policy.listable(&listed), "{rules}\n{call:#?}");
            }
        }
    }

    #[test]
    fn another_deny_never_turns_a_refusal_into_permission(
        rules in rules(),
        condition in prop::sample::select(vec!["true", "input.call.arguments.a == 2", "input.tool.read_only", "not input.call.arguments.a"]),
        calls in prop::collection::vec(call(), 10),
    ) {
        let (Ok(before), Ok(after)) = (try_rules(&rules), try_rules(&format!("{rules}\n\n{DENY} {condition}"))) else {
            return Ok(());
        };
        for call in calls {
            prop_assert!(before.decide(&call).allows() || !after.decide(&call).allows(), "{rules}\n{call:#?}");
        }
    }

    #[test]
    fn another_random_deny_never_turns_a_refusal_into_permission(rules in single()) {
        let text = |more: &str| format!("package outrider.authz\n\n{rules}\n\n{more}");
        let before = Policy::compile(&source(&text("")), &data(), bounds());
        let after = Policy::compile(&source(&text(&format!("{DENY} input.call.arguments.b == 5"))), &data(), bounds());
        if let (Ok(before), Ok(after)) = (before, after) {
            for call in inputs() {
                prop_assert!(before.decide(&call).allows() || !after.decide(&call).allows(), "{rules}");
            }
        }
    }

    #[test]
    fn a_longer_chain_never_turns_a_refusal_into_permission(
        rules in rules(),
        call in call(),
        chain in prop::collection::vec(prop::sample::select(vec![AGENT, "agent:bare", "agent:past", "agent:nobody", ""]), 0..4),
        more in prop::sample::select(vec![AGENT, "agent:bare", "agent:suspended", "user:ada", ""]),
    ) {
        let Ok(policy) = try_rules(&rules) else { return Ok(()) };
        let with = |chain: &[&str]| {
            let actor = |id: &&str| ActorFacts { id: (*id).into() };
            let actors = std::iter::once(&AGENT).chain(chain).map(actor).collect();
            policy.decide(&Input { actors: Ready::new(actors), ..call.clone() }).allows()
        };
        let longer: Vec<&str> = chain.iter().copied().chain([more]).collect();
        prop_assert!(with(&chain) || !with(&longer), "{rules}\n{call:#?}");
    }

    #[test]
    fn nothing_but_an_active_agent_and_task_ever_calls(rules in rules(), call in call()) {
        let Ok(policy) = try_rules(&rules) else { return Ok(()) };
        if policy.decide(&call).allows() {
            prop_assert_eq!(call.agent.state, Some(AgentState::Active));
            prop_assert!([TaskState::Active, TaskState::None].contains(&call.task.state));
        }
    }
}

/// How few instructions suffice for a call to be allowed.
fn price(policy_data: &outrider_policy::data::Data) -> usize {
    let suffices = |instructions: usize| {
        let bounds = Bounds {
            instructions,
            ..bounds()
        };
        let policy = Policy::compile(&[], policy_data, bounds).unwrap();
        // Without a task: not the usual call, which is not evaluated.
        asked("crm/lookup").without_task().decide(&policy).allows()
    };
    let (mut low, mut high) = (0, 20_000);
    assert!(suffices(high));
    while high - low > 1 {
        let middle = usize::midpoint(low, high);
        if suffices(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[test]
fn ten_thousand_grants_cost_a_call_no_more_than_ten() {
    let of =
        |count: usize| {
            let mut document = documents();
            let tools: Vec<String> = (0..200)
                .map(|number| format!("other/tool{number}"))
                .chain(common::TOOLS.map(String::from))
                .collect();
            for number in 0..count {
                document["grants"].as_array_mut().unwrap().push(match number % 3 {
                0 => json!({"agent": format!("agent:{number}"), "tools": ["crm/*"]}),
                1 => json!({"agent": AGENT, "tools": [format!("other/tool{}", number % 200)]}),
                _ => json!({"role": format!("role{number}"), "tools": ["crm/*", "other/*"]}),
            });
                document["agents"]
                    .as_array_mut()
                    .unwrap()
                    .push(json!({"id": format!("agent:{number}"), "owner": "o", "purpose": "p"}));
            }
            data_for(document, &tools)
        };
    assert_eq!(price(&of(10)), price(&of(10_000)));
}

#[test]
fn a_policy_that_reads_arguments_leaves_lists_open_and_one_that_does_not_closes_them() {
    let list = |rules: &str, tool: &str| {
        let mut data = documents();
        data["grants"] = json!([]);
        data["exceptions"] = json!([]);
        let policy = with_rules(rules).with_data(&data_from(data));
        policy.listable(&asked(tool).input())
    };
    assert!(list("allow if input.call.arguments.a == 1", "tickets/read"));
    assert!(list(
        "allow if a\n\na if b(1)\n\nb(x) if x == input.call.arguments_bytes",
        "tickets/read"
    ));
    assert!(!list(
        "allow if input.tool.id == \"crm/lookup\"",
        "tickets/read"
    ));
    assert!(list(
        "allow if input.tool.id == \"tickets/read\"",
        "tickets/read"
    ));
    assert!(!list("allow if input.call.arguments.a == 1", "crm/export"));
    assert!(!list(
        "allow if true\n\ndeny contains {\"reason\": \"a\", \"message\": \"m\"} if input.tool.id == \"tickets/read\"",
        "tickets/read"
    ));
    assert!(list(
        "allow if true\n\ndeny contains {\"reason\": \"a\", \"message\": \"m\"} if input.content.opaque",
        "tickets/read"
    ));
    assert!(list(
        "allow if true\n\napprove contains {\"reason\": \"a\", \"approvers\": [\"ada\"]} if input.call.time_ns > 0",
        "tickets/read"
    ));
}

#[test]
fn listing_uses_the_tools_own_level() {
    let mut call = asked("tickets/read").level(Level::Restricted);
    assert!(library().listable(&call.input()));
    call.tool.classification = Some(Level::Restricted);
    assert!(!library().listable(&call.input()));
}
