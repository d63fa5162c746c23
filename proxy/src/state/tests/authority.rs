//! Tokens of other issuers, and what takes authority from them, in whatever order they come.

use super::*;

const ISSUER: &str = "https://iam.example.org";

fn terms(task: &str, token: &str) -> Terms {
    Terms {
        id: task.into(),
        token_id: token.into(),
        issuer: ISSUER.into(),
        key: "k1".into(),
        subject: "user:1".into(),
        actors: vec![
            "spiffe://example.org/agent/triage".into(),
            "spiffe://example.org/planner".into(),
        ],
        intent: "ticket.triage".into(),
        tools: None,
        max_classification: None,
        budget: Some(3),
        opened: at(100),
        expires: at(1_000),
        parent: None,
        opened_by: ISSUER.into(),
    }
}

fn admit(authority: &Authority, terms: Terms) -> Arc<Task> {
    let digest = token_digest(terms.token_id.as_bytes());
    authority.admit(terms, digest, |_| None, at(200)).unwrap()
}

fn decree(edict: Edict) -> Decree {
    Decree {
        edict,
        by: "uid:0".into(),
        why: None,
        at: at(300),
    }
}

fn revoke(target: Target, issued_before: Option<Timestamp>) -> Decree {
    decree(Edict::Revoke {
        target,
        issued_before,
    })
}

fn key(task: &str) -> TaskKey {
    TaskKey {
        issuer: ISSUER.into(),
        id: task.into(),
    }
}

/// Every way to take authority from these terms.
fn ways() -> Vec<(Target, Option<Timestamp>)> {
    let token = |issuer: Option<&str>| Target::Token {
        issuer: issuer.map(Into::into),
        id: "j1".into(),
    };
    let key_of = |issuer: Option<&str>| Target::Key {
        issuer: issuer.map(Into::into),
        id: "k1".into(),
    };
    vec![
        (
            Target::Agent("spiffe://example.org/agent/triage".into()),
            None,
        ),
        (Target::Agent("spiffe://example.org/planner".into()), None),
        (
            Target::Agent("spiffe://example.org/planner".into()),
            Some(at(100)),
        ),
        (Target::Subject("user:1".into()), None),
        (Target::Subject("user:1".into()), Some(at(100))),
        (Target::Task(key("t1")), None),
        (token(Some(ISSUER)), None),
        (token(None), None),
        (key_of(Some(ISSUER)), None),
        (key_of(None), None),
    ]
}

#[test]
fn what_is_revoked_ends_whether_it_was_seen_before_or_comes_later() {
    for (target, before) in ways() {
        let authority = authority();
        let seen = admit(&authority, terms("t1", "j1"));
        assert_eq!(seen.state(at(250)), State::Active);
        authority
            .carry_out(&revoke(target.clone(), before))
            .unwrap();
        assert_eq!(seen.state(at(300)), State::Revoked, "{target}");
        let authority = super::authority();
        authority
            .carry_out(&revoke(target.clone(), before))
            .unwrap();
        let late = admit(&authority, terms("t1", "j1"));
        assert_eq!(late.state(at(300)), State::Revoked, "{target}");
    }
}

#[test]
fn what_is_not_meant_goes_on() {
    let other = |issuer: &str| Target::Token {
        issuer: Some(issuer.into()),
        id: "j1".into(),
    };
    for (target, before) in [
        (
            Target::Agent("spiffe://example.org/agent/other".into()),
            None,
        ),
        (Target::Subject("user:2".into()), None),
        (Target::Subject("user:1".into()), Some(at(99))),
        (Target::Task(key("t2")), None),
        (other("https://other.example.org"), None),
    ] {
        let authority = authority();
        let task = admit(&authority, terms("t1", "j1"));
        authority
            .carry_out(&revoke(target.clone(), before))
            .unwrap();
        assert_eq!(task.state(at(300)), State::Active, "{target}");
    }
}

#[test]
fn a_revoked_token_leaves_other_tokens_of_its_task() {
    let authority = authority();
    let (one, two) = (
        admit(&authority, terms("t1", "j1")),
        admit(&authority, terms("t1", "j2")),
    );
    let token = Target::Token {
        issuer: None,
        id: "j1".into(),
    };
    authority.carry_out(&revoke(token, None)).unwrap();
    assert_eq!(one.state(at(300)), State::Revoked);
    assert_eq!(two.state(at(300)), State::Active);
    authority
        .carry_out(&revoke(Target::Task(key("t1")), None))
        .unwrap();
    assert_eq!(two.state(at(300)), State::Revoked);
    assert_eq!(
        admit(&authority, terms("t1", "j3")).state(at(300)),
        State::Revoked
    );
}

#[test]
fn all_tokens_of_a_task_share_its_budget_and_its_suspension() {
    let authority = authority();
    let (one, two) = (
        admit(&authority, terms("t1", "j1")),
        admit(&authority, terms("t1", "j2")),
    );
    let other = admit(&authority, terms("t2", "j3"));
    assert!(one.spend().is_ok() && two.spend().is_ok() && one.spend().is_ok());
    assert!(two.spend().is_err());
    assert!(other.spend().is_ok());
    authority
        .carry_out(&decree(Edict::Suspend { task: key("t1") }))
        .unwrap();
    assert_eq!(
        [one.state(at(300)), two.state(at(300))],
        [State::Suspended; 2]
    );
    assert_eq!(other.state(at(300)), State::Active);
    let late = admit(&authority, terms("t1", "j4"));
    assert_eq!(late.state(at(300)), State::Suspended);
    authority
        .carry_out(&decree(Edict::Resume { task: key("t1") }))
        .unwrap();
    assert_eq!(late.state(at(300)), State::Active);
}

#[test]
fn a_task_is_stopped_before_anybody_showed_it() {
    let authority = authority();
    authority
        .carry_out(&decree(Edict::Suspend { task: key("t1") }))
        .unwrap();
    authority
        .carry_out(&decree(Edict::Close { task: key("t2") }))
        .unwrap();
    assert_eq!(
        admit(&authority, terms("t1", "j1")).state(at(300)),
        State::Suspended
    );
    assert_eq!(
        admit(&authority, terms("t2", "j2")).state(at(300)),
        State::Closed
    );
}

#[test]
fn a_revocation_that_ends_earlier_does_not_shorten_one_that_goes_further() {
    let authority = authority();
    let subject = || Target::Subject("user:1".into());
    authority.carry_out(&revoke(subject(), None)).unwrap();
    authority
        .carry_out(&revoke(subject(), Some(at(1))))
        .unwrap();
    let late = Terms {
        opened: at(500),
        ..terms("t1", "j1")
    };
    assert_eq!(admit(&authority, late).state(at(501)), State::Revoked);
}

#[test]
fn only_short_lived_revocations_are_forgotten() {
    let authority = authority();
    for target in [
        Target::Subject("user:1".into()),
        Target::Agent("spiffe://example.org/x".into()),
        Target::Task(key("t1")),
        Target::Token {
            issuer: None,
            id: "j".into(),
        },
    ] {
        authority.carry_out(&revoke(target, None)).unwrap();
    }
    authority.sweep(at(300 + 25 * 3600 - 1));
    assert_eq!(authority.revocations().all().len(), 4);
    authority.sweep(at(300 + 25 * 3600));
    let left: Vec<_> = authority.revocations().all();
    let kinds: Vec<_> = left.iter().map(|one| one.target.kind()).collect();
    assert_eq!(kinds, ["agent", "subject"]);
}

#[test]
fn the_agents_own_revocation_is_seen_by_who_waits_for_it() {
    let authority = Arc::new(authority());
    let agent = || Target::Agent("spiffe://example.org/agent/triage".into());
    let tether = Tether {
        authority: Arc::clone(&authority),
        task: None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let waiting = tokio::spawn(tether.severed());
        tokio::task::yield_now().await;
        authority.carry_out(&revoke(agent(), Some(at(1)))).unwrap();
        assert!(
            !authority.standing.is_revoked(),
            "only what was issued before"
        );
        authority.carry_out(&revoke(agent(), None)).unwrap();
        assert_eq!(waiting.await.unwrap(), Severed::Agent);
    });
    authority
        .carry_out(&decree(Edict::Lift { target: agent() }))
        .unwrap();
    assert!(!authority.standing.is_revoked());
    let again = authority.carry_out(&decree(Edict::Lift { target: agent() }));
    assert_eq!(again.unwrap_err(), NotDone::NotRevoked);
}

#[test]
fn a_token_wider_than_its_known_parent_is_not_taken_in() {
    let authority = authority();
    let tool = |text: &str| Pattern::try_from(text.to_owned()).unwrap();
    let parent = Terms {
        tools: Some(vec![tool("tickets/*")]),
        ..terms("t1", "j1")
    };
    admit(&authority, parent);
    let child = |tools: &str| Terms {
        tools: Some(vec![tool(tools)]),
        parent: Some("t1".into()),
        budget: None,
        ..terms("t2", tools)
    };
    let reach = |_: &str| {
        Some(Reach {
            tools: [tool("*/*")].into_iter().collect(),
            level: Level::Internal,
        })
    };
    let admit = |terms: Terms| {
        let digest = token_digest(terms.token_id.as_bytes());
        authority.admit(terms, digest, reach, at(200))
    };
    assert_eq!(
        admit(child("crm/*")).unwrap_err(),
        NotAdmitted::Widened(Widened::Tools)
    );
    admit(child("tickets/read")).unwrap();
}

#[test]
fn tasks_that_claim_to_be_derived_from_each_other_are_refused() {
    let authority = authority();
    let derived = |task: &str, token: &str, parent: &str| Terms {
        parent: Some(parent.into()),
        ..terms(task, token)
    };
    admit(&authority, derived("a", "j1", "b"));
    for (task, parent) in [("b", "a"), ("c", "c")] {
        let terms = derived(task, task, parent);
        let digest = token_digest(task.as_bytes());
        let refused = authority.admit(terms, digest, |_| None, at(200));
        assert!(refused.is_err(), "{task} from {parent}");
    }
}
