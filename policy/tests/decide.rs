//! Guards, grants, exceptions and their precedence, through `decide`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{
    AGENT, Asked, NOW, asked, at, bounds, code, data_from, documents, library, time, tools,
    with_rules,
};
use outrider_policy::input::TaskState;
use outrider_policy::{Decision, Level, Policy, Refusal, Verdict};
use serde_json::json;

fn check(policy: &Policy, asked: &Asked, expected: &str, rule: &str) {
    let decision = asked.decide(policy);
    assert_eq!(
        (code(&decision), &*decision.rule),
        (expected, rule),
        "{decision:#?}"
    );
}

#[test]
fn a_granted_call_is_allowed_and_the_record_names_the_grant() {
    let policy = library();
    check(&policy, &asked("tickets/read"), "ok", "grant:G-tickets");
    check(&policy, &asked("crm/lookup"), "ok", "grant:G-crm");
    let decision = asked("tickets/read").decide(&policy);
    assert!(decision.reasons.is_empty() && decision.reachable && decision.exception.is_none());
}

#[test]
fn an_agent_that_is_not_active_is_refused_first() {
    let policy = library();
    for (agent, expected) in [
        ("agent:nobody", "agent_unknown"),
        ("", "agent_unknown"),
        ("agent:ownerless", "agent_expired"),
        ("agent:aimless", "agent_expired"),
        ("agent:past", "agent_expired"),
        ("agent:suspended", "agent_revoked"),
        ("agent:revoked", "agent_revoked"),
        ("agent:bare", "policy_denied"),
    ] {
        let rule = if agent == "agent:bare" {
            "grant"
        } else {
            "guard:agent"
        };
        check(&policy, &asked("tickets/read").agent(agent), expected, rule);
        // Whatever else is wrong, the agent comes first.
        let mut worse = asked("crm/export").agent(agent).level(Level::Restricted);
        worse.task.state = TaskState::Revoked;
        let expected = if agent == "agent:bare" {
            "task_revoked"
        } else {
            expected
        };
        assert_eq!(code(&worse.decide(&policy)), expected);
    }
}

#[test]
fn an_agent_revoked_at_run_time_is_refused() {
    let mut call = asked("tickets/read");
    call.agent.state = Some(outrider_policy::data::AgentState::Revoked);
    check(&library(), &call, "agent_revoked", "guard:agent");
    call.agent.state = None;
    check(&library(), &call, "agent_revoked", "guard:agent");
}

#[test]
fn an_agent_expires_at_its_instant() {
    let policy = library();
    let mut call = asked("tickets/read");
    call.task.expires = Some(time("2100-01-01T00:00:00Z").into());
    let end = 1_814_313_600_000_000_000; // 2027-06-30T00:00:00Z
    call.input.call.time = at(end - 1);
    check(&policy, &call, "ok", "grant:G-tickets");
    call.input.call.time = at(end);
    check(&policy, &call, "agent_expired", "guard:agent");
}

#[test]
fn a_task_that_is_not_active_is_refused_with_its_own_code() {
    let policy = library();
    for (state, expected) in [
        (TaskState::Suspended, "task_suspended"),
        (TaskState::Revoked, "task_revoked"),
        (TaskState::Closed, "task_revoked"),
        (TaskState::Expired, "task_expired"),
        (TaskState::None, "task_invalid"),
    ] {
        let mut call = asked("tickets/read");
        call.task.state = state;
        check(&policy, &call, expected, "guard:task");
    }
    let mut past = asked("tickets/read");
    past.task.expires = Some(time("2026-06-01T00:00:00Z").into());
    check(&policy, &past, "task_expired", "guard:task");
    past.task.expires = None;
    check(&policy, &past, "task_expired", "guard:task");
    let mut nameless = asked("tickets/read");
    nameless.task.id = "".into();
    check(&policy, &nameless, "task_invalid", "guard:task");
}

#[test]
fn a_tool_outside_the_scope_of_the_task_is_refused_even_when_granted() {
    let policy = library();
    let mut call = asked("tickets/close");
    call.task.tools = tools(&["tickets/read"]);
    check(&policy, &call, "scope_exceeded", "guard:scope");
    call.task.tools = tools(&[]);
    check(&policy, &call, "scope_exceeded", "guard:scope");
    call.task.tools = tools(&["tickets/c*"]);
    check(&policy, &call, "ok", "grant:G-tickets");
}

#[test]
fn a_tool_that_the_intent_does_not_declare_is_refused_even_when_scope_is_wider() {
    let mut call = asked("crm/export");
    call.task.tools = tools(&["*/*"]);
    let policy = library();
    let mut data = documents();
    data["exceptions"] = json!([]);
    data["grants"]
        .as_array_mut()
        .unwrap()
        .push(json!({"agent": AGENT, "tools": ["crm/*"]}));
    let policy = policy.with_data(&data_from(data));
    check(&policy, &call, "policy_denied", "guard:intent");
    call.task.intent = "no.such".into();
    call.task.max_classification = Level::Public;
    check(
        &policy,
        &call.level(Level::Public),
        "policy_denied",
        "guard:intent",
    );
}

#[test]
fn the_lowest_of_task_intent_and_grant_bounds_the_level() {
    let policy = library();
    // The grant says internal, the intent confidential.
    check(
        &policy,
        &asked("tickets/read").level(Level::Confidential),
        "classification_exceeded",
        "grant",
    );
    // A grant without a level reaches the tool's own.
    check(
        &policy,
        &asked("crm/lookup").level(Level::Confidential),
        "classification_exceeded",
        "grant",
    );
    let mut secret = asked("crm/lookup").level(Level::Confidential);
    secret.tool.classification = Some(Level::Confidential);
    check(&policy, &secret, "ok", "grant:G-crm");
    secret.task.max_classification = Level::Internal;
    check(
        &policy,
        &secret,
        "classification_exceeded",
        "guard:classification",
    );
    // What the task claims beyond its intent adds nothing.
    let mut wide = asked("crm/lookup").level(Level::Restricted);
    wide.tool.classification = Some(Level::Restricted);
    wide.task.max_classification = Level::Restricted;
    check(
        &policy,
        &wide,
        "classification_exceeded",
        "guard:classification",
    );
}

#[test]
fn an_intent_without_a_level_has_public() {
    let mut call = asked("crm/lookup");
    call.task.intent = "report.write".into();
    call.task.tools = tools(&["crm/*"]);
    check(
        &library(),
        &call,
        "classification_exceeded",
        "guard:classification",
    );
    let mut public = call.level(Level::Public);
    public.tool.classification = Some(Level::Public);
    check(&library(), &public, "ok", "grant:G-crm");
}

#[test]
fn a_grant_binds_to_its_intents_and_its_expiry() {
    let mut data = documents();
    data["grants"] = json!([
        {"id": "A", "agent": AGENT, "tools": ["tickets/read"], "intents": ["report.write"]},
        {"id": "B", "agent": AGENT, "tools": ["tickets/read"], "expires": "2026-06-01T00:00:00Z"},
        {"id": "C", "role": "nobody", "tools": ["tickets/read"]},
        {"id": "D", "agent": "agent:bare", "tools": ["tickets/read"]},
    ]);
    let policy = library().with_data(&data_from(data));
    check(&policy, &asked("tickets/read"), "policy_denied", "grant");
    let mut earlier = asked("tickets/read");
    earlier.input.call.time = at(NOW - 1);
    check(&policy, &earlier, "ok", "grant:B");
}

#[test]
fn without_a_task_only_grants_without_intents_apply() {
    let policy = library();
    check(
        &policy,
        &asked("crm/lookup").without_task(),
        "ok",
        "grant:G-crm",
    );
    check(
        &policy,
        &asked("tickets/read").without_task(),
        "policy_denied",
        "grant",
    );
    check(
        &policy,
        &asked("crm/lookup")
            .without_task()
            .level(Level::Confidential),
        "classification_exceeded",
        "grant",
    );
}

#[test]
fn an_exception_lifts_grant_intent_and_classification_and_is_named() {
    let policy = library();
    let call = asked("crm/export").level(Level::Restricted);
    check(&policy, &call, "ok", "exception:EX-7");
    let used = call.decide(&policy).exception.unwrap();
    assert_eq!((&*used.id, used.max_uses), ("EX-7", Some(20)));
    assert!(call.decide(&policy).reachable);
}

#[test]
fn an_exception_that_is_spent_expired_or_anothers_lifts_nothing() {
    let policy = library();
    let mut spent = asked("crm/export");
    spent.input.spent = vec!["EX-7".into()];
    check(&policy, &spent, "scope_exceeded", "guard:scope");
    let mut late = asked("crm/export");
    late.input.call.time = at(1_796_083_200_000_000_000); // 2026-12-01T00:00:00Z
    late.task.expires = Some(time("2100-01-01T00:00:00Z").into());
    check(&policy, &late, "scope_exceeded", "guard:scope");
    check(
        &policy,
        &asked("crm/export").agent("agent:bare"),
        "scope_exceeded",
        "guard:scope",
    );
}

#[test]
fn nothing_lifts_agent_task_the_tasks_own_narrowing_or_a_deny() {
    let policy = library();
    let mut scope = asked("crm/export");
    scope.task.tools = tools(&["tickets/*"]);
    check(&policy, &scope, "scope_exceeded", "guard:scope");
    let mut level = asked("crm/export").level(Level::Confidential);
    level.task.max_classification = Level::Internal;
    level.task.tools = tools(&["crm/*"]);
    check(
        &policy,
        &level,
        "classification_exceeded",
        "guard:classification",
    );
    let mut suspended = asked("crm/export");
    suspended.task.state = TaskState::Suspended;
    check(&policy, &suspended, "task_suspended", "guard:task");
    let mut revoked = asked("crm/export");
    revoked.agent.state = Some(outrider_policy::data::AgentState::Revoked);
    check(&policy, &revoked, "agent_revoked", "guard:agent");
    let denying = with_rules(r#"deny contains {"reason": "frozen", "message": "m"} if true"#);
    check(
        &denying,
        &asked("crm/export"),
        "policy_denied",
        "deny:frozen",
    );
    let holding =
        with_rules(r#"approve contains {"reason": "four_eyes", "approvers": ["ada"]} if true"#);
    check(&holding, &asked("crm/export"), "hold", "approve:four_eyes");
    assert!(asked("crm/export").decide(&holding).exception.is_some());
}

#[test]
fn an_exception_lifts_only_what_it_says() {
    for (lifts, level, expected) in [
        (json!(["grant"]), Level::Internal, "policy_denied"),
        (json!(["intent"]), Level::Internal, "policy_denied"),
        (json!(["grant", "intent"]), Level::Internal, "ok"),
        (
            json!(["grant", "intent"]),
            Level::Confidential,
            "policy_denied",
        ),
        (
            json!(["grant", "intent"]),
            Level::Restricted,
            "classification_exceeded",
        ),
        (
            json!(["grant", "intent", "classification"]),
            Level::Restricted,
            "ok",
        ),
        (
            json!(["intent", "classification"]),
            Level::Internal,
            "policy_denied",
        ),
    ] {
        let mut data = documents();
        data["exceptions"][0]["lifts"] = lifts.clone();
        let policy = library().with_data(&data_from(data));
        let mut call = asked("crm/export").level(level);
        call.task.tools = tools(&["crm/export"]);
        assert_eq!(code(&call.decide(&policy)), expected, "{lifts} {level}");
    }
}

#[test]
fn an_exception_for_a_role_works_and_unlimited_uses_are_none() {
    let mut data = documents();
    data["exceptions"] = json!([{"id": "EX-8", "owner": "o", "reason": "r", "role": "support",
        "tools": ["tickets/*"], "lifts": ["classification"], "expires": "2026-12-01T00:00:00Z"}]);
    let policy = library().with_data(&data_from(data));
    let call = asked("tickets/read").level(Level::Confidential);
    check(&policy, &call, "ok", "exception:EX-8");
    assert_eq!(call.decide(&policy).exception.unwrap().max_uses, None);
    // Where no exception is needed none is used.
    check(&policy, &asked("tickets/read"), "ok", "grant:G-tickets");
    assert!(asked("tickets/read").decide(&policy).exception.is_none());
}

#[test]
fn all_failures_are_reasons_and_the_first_gives_the_code() {
    let policy =
        with_rules(r#"deny contains {"reason": "no", "message": "m", "public": "p"} if true"#);
    let mut call = asked("crm/export")
        .agent("agent:suspended")
        .level(Level::Restricted);
    call.task.state = TaskState::Suspended;
    let decision = call.decide(&policy);
    assert_eq!(decision.verdict, Verdict::Deny(Refusal::AgentRevoked));
    let reasons: Vec<_> = decision
        .reasons
        .iter()
        .map(|reason| &*reason.reason)
        .collect();
    assert_eq!(
        reasons,
        [
            "agent_revoked",
            "task_suspended",
            "scope_exceeded",
            "classification_exceeded",
            "intent_not_declared",
            "grant_missing",
            "no",
        ]
    );
    assert_eq!(
        decision.reasons.last().unwrap().public.as_deref(),
        Some("p")
    );
    assert!(!decision.reachable);
}

#[test]
fn a_users_allow_permits_in_place_of_a_grant_but_lifts_no_guard() {
    let policy = with_rules(r#"allow if input.tool.service == "tickets""#);
    let mut data = documents();
    data["grants"] = json!([]);
    let policy = policy.with_data(&data_from(data));
    check(&policy, &asked("tickets/read"), "ok", "allow");
    check(&policy, &asked("crm/lookup"), "policy_denied", "grant");
    let mut call = asked("tickets/read");
    call.task.tools = tools(&["crm/*"]);
    check(&policy, &call, "scope_exceeded", "guard:scope");
    check(
        &policy,
        &asked("tickets/read").level(Level::Restricted),
        "classification_exceeded",
        "guard:classification",
    );
}

#[test]
fn an_approve_holds_what_is_otherwise_allowed() {
    let policy = with_rules(
        r#"approve contains {"reason": "b_second", "approvers": ["ada", "bob"], "ttl": "2h"} if true
           approve contains {"reason": "a_first", "approvers": ["bob", "eve"], "ttl": "15m"} if true"#,
    );
    let decision = asked("tickets/read").decide(&policy);
    let Verdict::Hold(approval) = &decision.verdict else {
        panic!("{decision:?}")
    };
    assert_eq!(approval.approvers, ["bob"]);
    assert_eq!(approval.ttl.as_deref(), Some("15m"));
    assert_eq!(decision.reasons.len(), 2);
    check(
        &policy,
        &asked("crm/export").agent("agent:bare"),
        "scope_exceeded",
        "guard:scope",
    );
}

#[test]
fn approvals_that_nobody_can_give_together_are_a_refusal() {
    let policy = with_rules(
        r#"approve contains {"reason": "a", "approvers": ["ada"]} if true
           approve contains {"reason": "b", "approvers": ["bob"]} if true"#,
    );
    check(&policy, &asked("tickets/read"), "policy_denied", "approve");
}

#[test]
fn what_a_rule_redacts_is_reported_on_refusals_too() {
    let policy = with_rules(
        r#"redact contains "/arguments/email" if true
           deny contains {"reason": "no", "message": "m"} if input.tool.id == "tickets/close""#,
    );
    for tool in ["tickets/read", "tickets/close"] {
        assert_eq!(asked(tool).decide(&policy).redact, ["/arguments/email"]);
    }
}

/// A planner that may look up and close, whose plans the triage agent executes for listed people.
fn delegating() -> Policy {
    let mut data = documents();
    let mut add = |kind: &str, items: serde_json::Value| {
        let list = data[kind].as_array_mut();
        match list {
            Some(list) => list.extend(items.as_array().unwrap().iter().cloned()),
            None => data[kind] = items,
        }
    };
    add(
        "agents",
        json!([{"id": "agent:planner", "owner": "x", "purpose": "x", "roles": ["planner"]},
               {"id": "agent:clerk", "owner": "x", "purpose": "x", "roles": ["support"]}]),
    );
    add(
        "grants",
        json!([{"id": "P-1", "agent": "agent:planner", "tools": ["tickets/close"], "max_classification": "internal"},
               {"id": "P-2", "role": "planner", "tools": ["crm/lookup"], "intents": ["ticket.triage"]},
               {"id": "P-3", "role": "planner", "tools": ["tickets/read"], "intents": ["report.write"]},
               {"id": "P-4", "agent": "agent:planner", "tools": ["crm/export"]}]),
    );
    add(
        "subjects",
        json!([{"id": "user:grace", "tools": ["tickets/*"], "max_classification": "internal"},
               {"id": "user:left", "tools": ["*/*"], "max_classification": "restricted",
                "expires": "2026-05-31T00:00:00Z"}]),
    );
    Policy::compile(&[], &data_from(data), bounds()).unwrap()
}

fn reasons(decision: &Decision) -> Vec<&str> {
    decision.reasons.iter().map(|one| &*one.reason).collect()
}

#[test]
fn an_executor_does_what_its_planner_may_do_as_well_and_nothing_more() {
    let policy = delegating();
    let by = |tool: &str, actors: &[&str]| asked(tool).actors(actors).decide(&policy);
    let planned = [AGENT, "agent:planner"];
    // What the agent may do itself.
    assert_eq!(code(&by("tickets/read", &[AGENT])), "ok");
    // What both may do, by a grant of the planner's own and by one of its role.
    assert_eq!(code(&by("tickets/close", &planned)), "ok");
    assert_eq!(code(&by("crm/lookup", &planned)), "ok");
    // What the planner may do for another purpose only, or not at all.
    for (tool, actors) in [
        ("tickets/read", &planned[..]),
        ("tickets/close", &[AGENT, "agent:planner", "agent:bare"]),
        ("crm/lookup", &[AGENT, "agent:clerk", "agent:nobody"]),
        ("tickets/close", &[AGENT, ""]),
    ] {
        let decision = by(tool, actors);
        assert_eq!(code(&decision), "scope_exceeded", "{tool} {actors:?}");
        assert_eq!(&*decision.rule, "guard:delegation");
        assert!(reasons(&decision).contains(&"delegation_widened"));
    }
    // What the planner alone may do: the executor's own rights do not grow by its plans.
    assert_eq!(code(&by("crm/export", &planned)), "ok");
    assert_eq!(&*by("crm/export", &planned).rule, "exception:EX-7");
    let mut spent = asked("crm/export").actors(&planned);
    spent.input.spent = vec!["EX-7".into()];
    check(&policy, &spent, "scope_exceeded", "guard:scope");
}

#[test]
fn an_earlier_actor_must_be_active_and_answered_for() {
    let mut data = documents();
    data["grants"] = json!([{"id": "G", "role": "support", "tools": ["*/*"]}]);
    for agent in data["agents"].as_array_mut().unwrap() {
        agent["roles"] = json!(["support"]);
    }
    let policy = Policy::compile(&[], &data_from(data), bounds()).unwrap();
    for (actor, expected) in [
        ("agent:bare", "ok"),
        ("agent:past", "scope_exceeded"),
        ("agent:suspended", "scope_exceeded"),
        ("agent:revoked", "scope_exceeded"),
        ("agent:ownerless", "scope_exceeded"),
        ("agent:aimless", "scope_exceeded"),
        ("user:ada", "scope_exceeded"),
    ] {
        for chain in [&[AGENT, actor][..], &[AGENT, "agent:bare", actor]] {
            let decision = asked("tickets/read").actors(chain).decide(&policy);
            assert_eq!(code(&decision), expected, "{chain:?}");
        }
    }
}

#[test]
fn an_earlier_actor_binds_the_level_as_well() {
    let policy = delegating();
    let planned = |level| {
        let call = asked("tickets/close").actors(&[AGENT, "agent:planner"]);
        code(&call.level(level).decide(&policy))
    };
    assert_eq!(planned(Level::Internal), "ok");
    assert_eq!(planned(Level::Confidential), "scope_exceeded");
}

#[test]
fn a_listed_subject_narrows_and_an_unlisted_one_does_not() {
    let policy = delegating();
    let of = |subject: &str, tool: &str, level| {
        let decision = asked(tool).subject(subject).level(level).decide(&policy);
        (
            code(&decision),
            reasons(&decision).contains(&"subject_exceeded"),
        )
    };
    let (internal, public) = (Level::Internal, Level::Public);
    assert_eq!(of("user:grace", "tickets/read", internal), ("ok", false));
    assert_eq!(of("user:ada", "crm/lookup", public), ("ok", false));
    assert_eq!(
        of("user:grace", "crm/lookup", public),
        ("scope_exceeded", true)
    );
    assert_eq!(
        of("user:grace", "tickets/read", Level::Confidential),
        ("scope_exceeded", true)
    );
    assert_eq!(
        of("user:left", "tickets/read", public),
        ("scope_exceeded", true)
    );
}

#[test]
fn neither_an_allow_nor_an_exception_lifts_the_delegation() {
    let policy = with_rules("allow if true");
    let call = asked("crm/export").actors(&[AGENT, "agent:bare"]);
    check(&policy, &call, "scope_exceeded", "guard:delegation");
    let call = asked("tickets/read").actors(&[AGENT, "agent:bare"]);
    check(&policy, &call, "scope_exceeded", "guard:delegation");
    assert!(!policy.listable(&call.input()));
}

#[test]
fn a_malformed_result_is_a_policy_error() {
    for rules in [
        r#"deny contains {"reason": "x"} if true"#,
        r#"deny contains {"reason": "x", "message": input.call.arguments} if true"#,
        r#"approve contains {"reason": "x", "approvers": input.task.tools, "ttl": "soon"} if true"#,
        r#"approve contains {"reason": "x", "approvers": input.agent.id} if true"#,
        "redact contains input.tool.id if true",
    ] {
        if let Ok(policy) = common::try_rules(rules) {
            assert_eq!(
                code(&asked("tickets/read").decide(&policy)),
                "policy_error",
                "{rules}"
            );
        }
    }
}

#[test]
fn too_many_instructions_are_a_policy_error() {
    let bounds = outrider_policy::Bounds {
        instructions: 50,
        ..common::bounds()
    };
    let policy = Policy::compile(&[], &common::data(), bounds).unwrap();
    // Without a task: not the usual call, which is not evaluated.
    let call = asked("crm/lookup").without_task();
    check(&policy, &call, "policy_error", "none");
}

#[test]
fn the_revision_covers_rules_and_data() {
    let policy = library();
    assert_eq!(policy.revision(), library().revision());
    let mut data = documents();
    data["grants"] = json!([]);
    assert_ne!(
        policy.with_data(&data_from(data)).revision(),
        policy.revision()
    );
    assert_ne!(
        with_rules("allow if input.call.port == 1").revision(),
        policy.revision()
    );
}

#[test]
fn a_policy_decides_on_many_threads() {
    let policy = library();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for tool in ["tickets/read", "crm/lookup"] {
                    assert_eq!(code(&asked(tool).decide(&policy)), "ok");
                }
            });
        }
    });
}

#[test]
fn an_exception_reaches_a_model_only_by_its_services_name() {
    for (pattern, expected) in [
        ("*/*", "scope_exceeded"),
        ("l*/*", "scope_exceeded"),
        ("llm/*", "ok"),
        ("llm/POST", "ok"),
    ] {
        let mut data = documents();
        data["exceptions"][0]["tools"] = json!([pattern]);
        let policy = library().with_data(&data_from(data));
        let decision = asked("llm/POST").decide(&policy);
        assert_eq!(code(&decision), expected, "{pattern}");
        assert_eq!(decision.reachable, expected == "ok", "{pattern}");
    }
}
