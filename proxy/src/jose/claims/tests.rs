use serde_json::json;

use super::*;

fn claims(value: Value) -> Claims {
    match value {
        Value::Object(object) => Claims::new(object),
        _ => panic!("claims are an object"),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_time_is_a_whole_number_of_seconds_within_ten_thousand_years() {
    for good in [0, 1, 1_800_000_000, 253_402_200_000_i64] {
        assert_eq!(claims(json!({"exp": good})).time("exp"), Ok(at(good)));
    }
    for bad in [
        json!("1800000000"),
        json!(1.5),
        json!(1_800_000_000.0),
        json!(-1),
        json!(null),
        json!([1]),
        json!(true),
        json!(253_402_300_800_i64),
        json!(1_800_000_000_000_i64),
        json!(u64::MAX),
        json!(1e300),
    ] {
        let read = claims(json!({"exp": bad})).time("exp");
        assert_eq!(read, Err(BadToken::BadClaim("exp")), "{bad}");
    }
    assert_eq!(
        claims(json!({})).time("exp"),
        Err(BadToken::BadClaim("exp"))
    );
}

#[test]
fn a_token_holds_from_its_first_to_its_last_second_give_or_take_the_skew() {
    let holds = |iat: i64, exp: i64, now: i64| {
        claims(json!({"iat": iat, "exp": exp}))
            .lifetime(at(now))
            .map(drop)
    };
    assert_eq!(holds(1000, 1060, 1030), Ok(()));
    assert_eq!(holds(1000, 1060, 970), Ok(()));
    assert_eq!(holds(1000, 1060, 969), Err(BadToken::NotYet));
    assert_eq!(holds(1000, 1060, 1089), Ok(()));
    assert_eq!(holds(1000, 1060, 1090), Err(BadToken::Expired));
    assert_eq!(holds(1060, 1060, 1060), Err(BadToken::BadClaim("exp")));
    assert_eq!(holds(1061, 1060, 1060), Err(BadToken::BadClaim("exp")));
}

#[test]
fn what_begins_later_does_not_hold_yet_and_a_broken_beginning_never() {
    let holds = |nbf: Value| {
        let claims = claims(json!({"iat": 1000, "nbf": nbf, "exp": 2000}));
        claims.lifetime(at(1000)).map(drop)
    };
    assert_eq!(holds(json!(1030)), Ok(()));
    assert_eq!(holds(json!(1031)), Err(BadToken::NotYet));
    for bad in [json!("1000"), json!(null), json!(1.0), json!(-1)] {
        assert_eq!(holds(bad), Err(BadToken::BadClaim("nbf")));
    }
    let without = claims(json!({"exp": 2000}));
    assert_eq!(without.lifetime(at(1000)), Err(BadToken::BadClaim("iat")));
    assert_eq!(without.expiry(at(1000)), Ok(at(2000)));
}

#[test]
fn the_audience_must_name_us_exactly() {
    let is_for = |aud: Value| claims(json!({"aud": aud})).is_for("outrider").is_ok();
    for good in [
        json!("outrider"),
        json!(["outrider"]),
        json!(["other", "outrider"]),
    ] {
        assert!(is_for(good));
    }
    for bad in [
        json!("Outrider"),
        json!("outrider "),
        json!(""),
        json!([]),
        json!(["other"]),
        json!(null),
        json!(["outrider", 1]),
        json!([["outrider"]]),
        json!({"outrider": true}),
        json!("outrider2"),
    ] {
        assert!(!is_for(bad.clone()), "{bad}");
    }
    assert!(claims(json!({})).is_for("outrider").is_err());
}

#[test]
fn a_text_says_something_and_cannot_steer_a_log() {
    for bad in [
        json!(""),
        json!(null),
        json!(7),
        json!(["a"]),
        json!("a\nb"),
        json!("a\u{0}"),
        json!("\u{1b}[2J"),
        json!("x".repeat(2049)),
    ] {
        let claims = claims(json!({"sub": bad}));
        assert_eq!(claims.text("sub"), Err(BadToken::BadClaim("sub")));
        assert_eq!(claims.optional_text("sub"), Err(BadToken::BadClaim("sub")));
    }
    assert_eq!(claims(json!({})).optional_text("sub"), Ok(None));
    let other = claims(json!({"iss": "https://a.example/"}));
    assert_eq!(
        other.is_from("https://a.example"),
        Err(BadToken::BadClaim("iss"))
    );
}
