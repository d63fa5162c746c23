use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::*;

mod authority;
mod children;
mod journal;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn tasks() -> Tasks {
    Tasks::new("outrider:test", SigningKey::generate().unwrap())
}

fn authority() -> Authority {
    Authority::new(
        "spiffe://example.org/agent/triage".into(),
        Arc::new(tasks()),
    )
}

fn open() -> Open {
    Open {
        agent: "spiffe://example.org/agent/triage".into(),
        intent: "ticket.triage".into(),
        subject: "uid:1000".into(),
        tools: None,
        max_classification: None,
        budget: None,
        ttl: Duration::from_hours(1),
        current: None,
        opened_by: "uid:1000".into(),
        parent: None,
    }
}

fn bound(listener: &str) -> Open {
    Open {
        current: Some(listener.into()),
        ..open()
    }
}

#[test]
fn a_task_is_found_by_its_token_by_its_id_and_in_the_list() {
    let tasks = tasks();
    let opened = tasks.open(open(), at(0)).unwrap();
    assert_eq!(
        tasks.by_token(opened.token.as_bytes()).unwrap().id,
        opened.task.id
    );
    assert_eq!(tasks.get(&opened.task.id, None).unwrap().id, opened.task.id);
    assert_eq!(tasks.list().len(), 1);
    assert!(tasks.current("reverse").is_none());
}

#[test]
fn a_token_with_any_bit_changed_or_any_byte_missing_or_added_is_unknown() {
    let tasks = tasks();
    let token = tasks.open(open(), at(0)).unwrap().token.into_bytes();
    for index in 0..token.len() {
        for bit in 0..8 {
            let mut forged = token.clone();
            forged[index] ^= 1 << bit;
            assert!(tasks.by_token(&forged).is_none(), "byte {index}, bit {bit}");
        }
        assert!(tasks.by_token(&token[..index]).is_none());
        assert!(tasks.by_token(&token[token.len() - index..]).is_none());
    }
    for around in [
        [b" ", token.as_slice(), b""],
        [b"", &token, b" "],
        [b"", &token, b"="],
    ] {
        assert!(tasks.by_token(&around.concat()).is_none());
    }
    assert!(tasks.by_token(&token).is_some());
}

#[test]
fn a_token_of_another_sidecar_is_unknown() {
    let theirs = tasks().open(open(), at(0)).unwrap();
    assert!(tasks().by_token(theirs.token.as_bytes()).is_none());
}

#[test]
fn the_token_is_a_signed_jwt_with_the_claims_of_the_task() {
    let tasks = tasks();
    let opened = tasks
        .open(
            Open {
                tools: Some(vec![Pattern::try_from("tickets/*".to_owned()).unwrap()]),
                max_classification: Some(Level::Internal),
                budget: Some(7),
                ..open()
            },
            at(1_000),
        )
        .unwrap();
    let parts: Vec<&str> = opened.token.split('.').collect();
    let json = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(
        &aws_lc_rs::signature::ED25519,
        tasks.key().public(),
    );
    let signed = format!("{}.{}", parts[0], parts[1]);
    key.verify(
        signed.as_bytes(),
        &URL_SAFE_NO_PAD.decode(parts[2]).unwrap(),
    )
    .unwrap();
    assert_eq!(
        json(parts[0]),
        serde_json::json!({"alg": "EdDSA", "typ": "outrider-task+jwt", "kid": tasks.key().kid()})
    );
    assert_eq!(
        json(parts[1]),
        serde_json::json!({
            "iss": "outrider:test", "aud": "outrider", "sub": "uid:1000",
            "act": {"sub": "spiffe://example.org/agent/triage"},
            "jti": &*opened.task.token_id, "iat": 1_000, "exp": 4_600,
            "task": {
                "id": &*opened.task.id, "intent": "ticket.triage", "tools": ["tickets/*"],
                "max_classification": "internal", "budget": {"calls": 7},
            },
        })
    );
}

#[test]
fn closing_and_revoking_are_seen_by_the_next_look() {
    let tasks = tasks();
    let a = tasks.open(open(), at(0)).unwrap();
    let b = tasks.open(open(), at(0)).unwrap();
    assert!(a.task.close());
    assert!(b.task.revoke());
    assert_eq!(
        tasks.by_token(a.token.as_bytes()).unwrap().state(at(1)),
        State::Closed
    );
    assert_eq!(
        tasks.by_token(b.token.as_bytes()).unwrap().state(at(1)),
        State::Revoked
    );
    assert_eq!(tasks.get("nobody", None).unwrap_err(), UnknownTask::NoSuch);
}

#[test]
fn a_task_lasts_from_a_second_to_a_day() {
    let tasks = tasks();
    let opened = |ttl| {
        tasks
            .open(Open { ttl, ..open() }, at(0))
            .map(|opened| opened.task.expires)
    };
    assert_eq!(opened(Duration::ZERO), Err(NotOpened::BadTtl));
    assert_eq!(opened(Duration::from_millis(999)), Err(NotOpened::BadTtl));
    assert_eq!(opened(Duration::from_secs(1)), Ok(at(1)));
    assert_eq!(opened(LONGEST_TASK), Ok(at(86_400)));
    assert_eq!(
        opened(LONGEST_TASK + Duration::from_nanos(1)),
        Err(NotOpened::BadTtl)
    );
}

#[test]
fn a_newer_binding_takes_the_listener_and_the_older_task_lives_on() {
    let tasks = tasks();
    let older = tasks.open(bound("reverse"), at(0)).unwrap();
    let newer = tasks.open(bound("reverse"), at(1)).unwrap();
    assert_eq!(tasks.current("reverse").unwrap().id, newer.task.id);
    assert!(tasks.current("forward").is_none());
    assert_eq!(older.task.state(at(2)), State::Active);
}

#[test]
fn tasks_are_forgotten_an_hour_after_their_expiry_but_not_while_they_are_bound() {
    let tasks = tasks();
    let free = tasks.open(open(), at(0)).unwrap();
    let held = tasks.open(bound("reverse"), at(0)).unwrap();
    tasks.sweep(at(7_199));
    assert!(tasks.by_token(free.token.as_bytes()).is_some());
    tasks.sweep(at(7_200));
    assert!(tasks.by_token(free.token.as_bytes()).is_none());
    assert!(tasks.get(&free.task.id, None).is_err());
    assert_eq!(tasks.current("reverse").unwrap().id, held.task.id);
    assert!(tasks.by_token(held.token.as_bytes()).is_some());
}

#[test]
fn when_memory_is_full_ended_tasks_make_room_and_open_ones_do_not() {
    let mut tasks = tasks();
    tasks.most = 3;
    let first = tasks.open(open(), at(0)).unwrap();
    let bound = tasks.open(bound("reverse"), at(0)).unwrap();
    tasks.open(open(), at(0)).unwrap();
    assert_eq!(tasks.open(open(), at(0)).unwrap_err(), NotOpened::TooMany);
    assert!(bound.task.close());
    assert_eq!(tasks.open(open(), at(0)).unwrap_err(), NotOpened::TooMany);
    assert!(first.task.close());
    tasks.open(open(), at(0)).unwrap();
    assert!(tasks.by_token(first.token.as_bytes()).is_none());
    assert_eq!(
        tasks.current("reverse").unwrap().state(at(1)),
        State::Closed
    );
}

#[test]
fn tasks_are_counted_by_how_they_stand() {
    let tasks = tasks();
    let opened: Vec<_> = (0..4)
        .map(|_| tasks.open(open(), at(0)).unwrap().task)
        .collect();
    tasks
        .open(
            Open {
                ttl: Duration::from_secs(5),
                ..open()
            },
            at(0),
        )
        .unwrap();
    opened[0].close();
    opened[1].revoke();
    let expected = Counts {
        active: 2,
        suspended: 0,
        expired: 1,
        closed: 1,
        revoked: 1,
    };
    assert_eq!(tasks.counts(at(5)), expected);
}

#[test]
fn neither_a_token_nor_the_key_is_ever_printed() {
    let tasks = tasks();
    let opened = tasks.open(open(), at(0)).unwrap();
    let shown = format!("{opened:?} {tasks:?}");
    let signature = opened.token.rsplit_once('.').unwrap().1;
    assert!(!shown.contains(signature));
    assert!(!shown.contains("eyJ"));
}

#[test]
fn an_inherited_task_stays_bound_only_where_tasks_may_be_bound() {
    let (left, successor) = (authority(), authority());
    let kept = left.open(bound("kept"), at(0)).unwrap();
    let gone = left.open(bound("gone"), at(0)).unwrap();
    successor.inherit(left.leave(), |listener| listener == "kept");
    let successor = &successor.tasks;
    assert_eq!(successor.current("kept").unwrap().id, kept.task.id);
    assert!(successor.current("gone").is_none());
    assert!(successor.by_token(gone.token.as_bytes()).is_some());
}
