use serde_json::json;

use super::*;

const ISSUED: i64 = 1_800_000_000;

fn issued() -> Timestamp {
    Timestamp::from_second(ISSUED).unwrap()
}

fn meanings(yaml: &str) -> Result<Meanings, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn understood(meanings: &Meanings, name: &str, event: &Value) -> Result<Event, BadEvent> {
    let uri = if name.contains("://") {
        name.to_owned()
    } else {
        format!("{CAEP}{name}")
    };
    let Value::Object(event) = event else {
        panic!("an object");
    };
    meanings.understand(&uri, event, issued())
}

#[test]
fn what_takes_trust_away_revokes_and_the_rest_is_noted() {
    let usual = Meanings::default();
    for (name, event, shown, act) in [
        ("session-revoked", json!({}), "session-revoked", Revoke),
        (
            "token-claims-change",
            json!({"claims": {"role": "x"}}),
            "token-claims-change",
            Revoke,
        ),
        (
            "credential-change",
            json!({"change_type": "revoke"}),
            "credential-change/revoke",
            Revoke,
        ),
        (
            "credential-change",
            json!({"change_type": "delete"}),
            "credential-change/delete",
            Revoke,
        ),
        (
            "credential-change",
            json!({"change_type": "create"}),
            "credential-change/create",
            Ignore,
        ),
        (
            "credential-change",
            json!({"change_type": "update"}),
            "credential-change/update",
            Ignore,
        ),
        (
            "assurance-level-change",
            json!({"change_direction": "decrease"}),
            "assurance-level-change/decrease",
            Revoke,
        ),
        (
            "assurance-level-change",
            json!({"change_direction": "increase"}),
            "assurance-level-change/increase",
            Ignore,
        ),
        (
            "assurance-level-change",
            json!({"current_level": "nist-aal1"}),
            "assurance-level-change/decrease",
            Revoke,
        ),
        (
            "risk-level-change",
            json!({"current_level": "HIGH"}),
            "risk-level-change/HIGH",
            Revoke,
        ),
        (
            "risk-level-change",
            json!({"current_level": "MEDIUM"}),
            "risk-level-change/MEDIUM",
            Ignore,
        ),
        (
            "risk-level-change",
            json!({"current_level": "LOW"}),
            "risk-level-change/LOW",
            Ignore,
        ),
    ] {
        let event = understood(&usual, name, &event).unwrap();
        assert_eq!((event.label, &*event.name, event.act), (name, shown, act));
    }
    for (uri, label) in [
        (
            "https://schemas.openid.net/secevent/ssf/event-type/verification",
            "verification",
        ),
        (
            "https://schemas.openid.net/secevent/ssf/event-type/stream-updated",
            "stream-updated",
        ),
        (
            "https://schemas.openid.net/secevent/caep/event-type/session-established",
            "other",
        ),
        ("https://example.org/unheard-of", "other"),
        // The short name of another family is not ours.
        ("https://example.org/session-revoked", "other"),
    ] {
        let event = understood(&usual, uri, &json!({})).unwrap();
        assert_eq!((event.label, event.act), (label, Ignore), "{uri}");
    }
}

#[test]
fn an_operator_says_otherwise_by_event_by_variant_or_by_uri() {
    let mapped = meanings(
        "credential-change: ignore\ncredential-change/update: revoke\n\
         https://schemas.openid.net/secevent/caep/event-type/risk-level-change: revoke\n\
         risk-level-change/LOW: ignore\nsession-revoked: revoke_all\n\
         https://schemas.openid.net/secevent/risc/event-type/account-disabled: revoke_all\n",
    )
    .unwrap();
    let act = |name: &str, event| understood(&mapped, name, &event).unwrap().act;
    assert_eq!(
        act("credential-change", json!({"change_type": "revoke"})),
        Ignore
    );
    assert_eq!(
        act("credential-change", json!({"change_type": "update"})),
        Revoke
    );
    assert_eq!(
        act("risk-level-change", json!({"current_level": "MEDIUM"})),
        Revoke
    );
    assert_eq!(
        act("risk-level-change", json!({"current_level": "LOW"})),
        Ignore
    );
    assert_eq!(act("session-revoked", json!({})), Act::RevokeAll);
    let risc = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
    assert_eq!(act(risc, json!({})), Act::RevokeAll);
}

#[test]
fn a_map_that_names_what_there_is_not_is_refused() {
    for yaml in [
        "session-ended: revoke",
        "session-revoked/now: revoke",
        "session-revoked/: revoke",
        "credential-change/change: revoke",
        "risk-level-change/high: revoke",
        "https://schemas.openid.net/secevent/caep/event-type/session-ended/x: revoke",
        "https://schemas.openid.net/secevent/ssf/event-type/verification: revoke",
        "session-revoked: suspend",
    ] {
        assert!(meanings(yaml).is_err(), "{yaml}");
    }
}

#[test]
fn an_event_that_is_not_as_its_type_should_be_is_refused() {
    let usual = Meanings::default();
    for (name, event, expected) in [
        (
            "credential-change",
            json!({}),
            BadEvent::Variant("change_type"),
        ),
        (
            "credential-change",
            json!({"change_type": "lost"}),
            BadEvent::Variant("change_type"),
        ),
        (
            "risk-level-change",
            json!({}),
            BadEvent::Variant("current_level"),
        ),
        (
            "risk-level-change",
            json!({"current_level": 3}),
            BadEvent::Variant("current_level"),
        ),
        (
            "assurance-level-change",
            json!({"change_direction": "sideways"}),
            BadEvent::Variant("change_direction"),
        ),
        (
            "session-revoked",
            json!({"event_timestamp": "now"}),
            BadEvent::Time,
        ),
        (
            "session-revoked",
            json!({"event_timestamp": -1}),
            BadEvent::Time,
        ),
        (
            "session-revoked",
            json!({"event_timestamp": null}),
            BadEvent::Time,
        ),
    ] {
        assert_eq!(understood(&usual, name, &event), Err(expected), "{event}");
    }
}

#[test]
fn an_event_has_happened_by_the_end_of_its_second_and_else_of_its_tokens() {
    let usual = Meanings::default();
    let at = |event: Value| understood(&usual, "session-revoked", &event).unwrap().at;
    assert_eq!(
        at(json!({"event_timestamp": 5})).to_string(),
        "1970-01-01T00:00:05.999999999Z"
    );
    assert_eq!(at(json!({"event_timestamp": 5.9})).as_second(), 5);
    assert_eq!(at(json!({})).as_second(), ISSUED);
    // Milliseconds, in the way of a draft: later than any now.
    assert!(at(json!({"event_timestamp": 1_800_000_000_000_i64})) > issued());
    assert_eq!(at(json!({"event_timestamp": 1e300})), Timestamp::MAX);
}

#[test]
fn a_reason_is_kept_as_far_as_it_may_stand_in_a_log() {
    let usual = Meanings::default();
    let reason = |reason: Value| {
        let event = json!({"reason_admin": reason});
        understood(&usual, "session-revoked", &event)
            .unwrap()
            .reason
    };
    assert_eq!(
        reason(json!({"de": "weg", "en": "gone"})).as_deref(),
        Some("gone")
    );
    assert_eq!(reason(json!({"de": "weg"})).as_deref(), Some("weg"));
    assert_eq!(reason(json!("gone")).as_deref(), Some("gone"));
    assert_eq!(
        reason(json!({"en": "gone\nuid:0 says"})).as_deref(),
        Some("gone")
    );
    assert_eq!(
        reason(json!({"en": "é".repeat(200)})).unwrap().len(),
        LONGEST_REASON
    );
    assert_eq!(reason(json!({"en": "\n"})), None);
    assert_eq!(reason(json!(7)), None);
}
