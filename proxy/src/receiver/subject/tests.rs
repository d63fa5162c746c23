use serde_json::json;

use super::*;

const ISSUER: &str = "https://idp.example.org";

fn subjects(yaml: &str) -> Result<Subjects, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

fn targets(subjects: &Subjects, identifier: &Value) -> Result<Vec<String>, Unmapped> {
    let Value::Object(identifier) = identifier else {
        panic!("an object");
    };
    let targets = subjects.targets(identifier, ISSUER)?;
    let shown = |target: &Target| match target.issuer() {
        Some(issuer) => format!("{target} of {issuer}"),
        None => target.to_string(),
    };
    Ok(targets.iter().map(shown).collect())
}

#[test]
fn each_format_means_a_principal_unless_something_else_is_said() {
    let usual = Subjects::default();
    let cases = [
        (
            json!({"format": "iss_sub", "iss": "i", "sub": "alice"}),
            vec!["subject alice"],
        ),
        (
            json!({"format": "email", "email": "a@example.org"}),
            vec!["subject a@example.org"],
        ),
        (
            json!({"format": "opaque", "id": "1234"}),
            vec!["subject 1234"],
        ),
        (
            json!({"format": "uri", "uri": "https://e/u/1"}),
            vec!["subject https://e/u/1"],
        ),
        (
            json!({"format": "account", "uri": "acct:a@e"}),
            vec!["subject acct:a@e"],
        ),
        (
            json!({"format": "phone_number", "phone_number": "+49"}),
            vec!["subject +49"],
        ),
        (
            json!({"format": "did", "url": "did:x:1"}),
            vec!["subject did:x:1"],
        ),
        (
            json!({"format": "uri", "uri": "spiffe://e/agent"}),
            vec!["agent spiffe://e/agent", "subject spiffe://e/agent"],
        ),
        (
            json!({"format": "jwt_id", "iss": "i", "jti": "7"}),
            vec!["token 7 of i"],
        ),
        (
            json!({"format": "complex", "user": {"format": "email", "email": "a@e"},
                   "device": {"format": "opaque", "id": "d"}}),
            vec!["subject a@e"],
        ),
        (
            json!({"format": "aliases", "identifiers": [
                {"format": "email", "email": "a@e"}, {"format": "opaque", "id": "1"},
                {"format": "email", "email": "a@e"}, {"format": "unheard_of"}]}),
            vec!["subject 1", "subject a@e"],
        ),
    ];
    for (identifier, expected) in cases {
        assert_eq!(
            targets(&usual, &identifier).unwrap(),
            expected,
            "{identifier}"
        );
    }
}

#[test]
fn nobody_is_never_the_answer() {
    let usual = Subjects::default();
    let long = "x".repeat(513);
    for identifier in [
        json!({}),
        json!({"email": "a@e"}),
        json!({"format": 1, "email": "a@e"}),
        json!({"format": "unheard_of", "id": "1"}),
        json!({"format": "email"}),
        json!({"format": "email", "email": ""}),
        json!({"format": "email", "email": 1}),
        json!({"format": "email", "email": "a\n@e"}),
        json!({"format": "email", "email": long}),
        json!({"format": "jwt_id", "iss": "i"}),
        json!({"format": "jwt_id", "jti": "7"}),
        json!({"format": "complex", "device": {"format": "opaque", "id": "d"}}),
        json!({"format": "complex", "user": "alice"}),
        json!({"format": "complex", "user": {"format": "aliases", "identifiers": []}}),
        json!({"format": "aliases"}),
        json!({"format": "aliases", "identifiers": []}),
        json!({"format": "aliases", "identifiers": ["a"]}),
        json!({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [
            {"format": "email", "email": "a@e"}]}]}),
        json!({"format": "aliases", "identifiers": vec![json!({"format": "opaque", "id": "1"}); 17]}),
    ] {
        assert!(targets(&usual, &identifier).is_err(), "{identifier}");
    }
}

#[test]
fn an_operator_says_whom_a_format_means() {
    let mapped = subjects(
        "iss_sub: \"{iss}|{sub}\"\nopaque: \"task:{id}\"\nuri: \"agent:{uri}\"\nemail: refuse\naccount: \"subject:{uri}\"\n",
    )
    .unwrap();
    let shown = |identifier| targets(&mapped, &identifier).map(|all| all.join(", "));
    let both = json!({"format": "iss_sub", "iss": "i", "sub": "s"});
    assert_eq!(shown(both).unwrap(), "subject i|s");
    let task = json!({"format": "opaque", "id": "t"});
    assert_eq!(shown(task).unwrap(), format!("task t of {ISSUER}"));
    let agent = json!({"format": "uri", "uri": "urn:agent:1"});
    assert_eq!(shown(agent).unwrap(), "agent urn:agent:1");
    let subject = json!({"format": "account", "uri": "spiffe://e/a"});
    assert_eq!(shown(subject).unwrap(), "subject spiffe://e/a");
    let refused = json!({"format": "email", "email": "a@e"});
    assert_eq!(shown(refused), Err(Unmapped::Format));
}

#[test]
fn a_mapping_that_means_nobody_in_particular_is_refused() {
    for (yaml, expected) in [
        ("emails: \"{email}\"", "no format"),
        ("complex: \"{user}\"", "no format"),
        ("email: everybody", "`{email}`"),
        ("email: \"{mail}\"", "`{email}`"),
        ("email: \"{email\"", "`{email}`"),
        ("email: \"{email}}\"", "`{email}`"),
        ("email: \"\"", "`{email}`"),
    ] {
        let error = subjects(yaml).unwrap_err();
        assert!(error.contains(expected), "{yaml}: {error}");
    }
}
