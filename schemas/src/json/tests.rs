use proptest::prelude::*;
use regorus::Value;

use super::*;

fn reason(text: &[u8]) -> Reason {
    parse(text).unwrap_err().reason
}

fn arrays(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
fn a_json_text_becomes_the_value_it_says() {
    let value = parse(br#" {"a":[1,-2,0.5,"x\u00e9\ud83d\ude00",null,true],"b":{}} "#).unwrap();
    assert_eq!(value["a"][0], Value::from(1_u64));
    assert_eq!(value["a"][1], Value::from(-2_i64));
    assert_eq!(value["a"][2], Value::from(0.5));
    assert_eq!(value["a"][3], Value::from("xé😀"));
    assert_eq!(value["b"], Value::new_object());
}

#[test]
fn the_edges_of_integers_stay_exact() {
    for text in [
        "18446744073709551615",
        "-9223372036854775808",
        "9007199254740993",
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap().to_string(), text);
    }
}

#[test]
fn what_two_readers_could_read_apart_is_refused() {
    let cases: &[(&[u8], Reason)] = &[
        (br#"{"a":1,"a":2}"#, Reason::DuplicateKey),
        (br#"{"a":1,"\u0061":2}"#, Reason::DuplicateKey),
        (br#"[{"x":{"b":0,"c":1,"b":0}}]"#, Reason::DuplicateKey),
        (b"\xef\xbb\xbf{}", Reason::ByteOrderMark),
        (b"\"\xff\"", Reason::NotUtf8),
        (b"\"\xed\xa0\x80\"", Reason::NotUtf8),
        (br#""\ud800""#, Reason::LoneSurrogate),
        (br#""\udc00x""#, Reason::LoneSurrogate),
        (br#""\ud800\u0041""#, Reason::LoneSurrogate),
        (br#"{"\ud800":1}"#, Reason::LoneSurrogate),
        (b"1E400", Reason::NumberRange),
        (b"[-1e999]", Reason::NumberRange),
        (b"{} {}", Reason::TrailingBytes),
        (b"1 x", Reason::TrailingBytes),
        (b"", Reason::Truncated),
        (b"  ", Reason::Truncated),
        (br#"{"a":"#, Reason::Truncated),
        (b"NaN", Reason::Syntax),
        (b"Infinity", Reason::Syntax),
        (b"{'a':1}", Reason::Syntax),
        (b"[1,]", Reason::Syntax),
        (b"{\"a\":1,}", Reason::Syntax),
        (b"01", Reason::Syntax),
        (b"+1", Reason::Syntax),
        (b".5", Reason::Syntax),
        (b"// c\n1", Reason::Syntax),
        (b"\"\t\"", Reason::Syntax),
        (b"\"\\x\"", Reason::Syntax),
        (b"{1:2}", Reason::Syntax),
        (b"\x00", Reason::Syntax),
    ];
    for (text, expected) in cases {
        assert_eq!(
            reason(text),
            *expected,
            "{:?}",
            String::from_utf8_lossy(text)
        );
    }
}

#[test]
fn sixty_four_levels_are_read_and_one_more_is_refused() {
    parse(arrays(64).as_bytes()).unwrap();
    assert_eq!(reason(arrays(65).as_bytes()), Reason::TooDeep);
    assert_eq!(reason("[".repeat(1_000_000).as_bytes()), Reason::TooDeep);
    assert_eq!(reason("{\"a\":".repeat(65).as_bytes()), Reason::TooDeep);
}

#[test]
fn a_refusal_tells_the_place_and_repeats_nothing() {
    let error = parse(b"{\"secret\":1,\n \"secret\":2}").unwrap_err();
    assert_eq!((error.reason, error.offset), (Reason::DuplicateKey, 21));
    assert!(!error.to_string().contains("secret"));
    assert_eq!(parse(b"[1] x").unwrap_err().offset, 4);
}

#[test]
fn bytes_that_are_no_json_differ_from_json_that_is_refused() {
    assert!(parse(b"{").unwrap_err().is_syntax());
    assert!(parse(b"\xff").unwrap_err().is_syntax());
    assert!(!parse(br#"{"a":1,"a":1}"#).unwrap_err().is_syntax());
    assert!(!parse(b"1e400").unwrap_err().is_syntax());
}

/// Values that survive a round trip through text, with unique keys by construction.
fn documents() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>()
            .prop_filter("finite", |x| x.is_finite())
            .prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(".{0,6}", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Writes each character of a key as an escape, so that equal keys look different.
fn escaped(key: &str) -> String {
    key.encode_utf16()
        .fold(String::new(), |text, unit| text + &format!("\\u{unit:04x}"))
}

/// Text that is nearly JSON: tokens in any order, so that every way to be wrong comes up.
fn nearly() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\"",
        "\"a\"",
        "\"b\"",
        "\"\\u0061\"",
        "\"\\\"\"",
        "\\",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"\\x\"",
        "\"\u{1}\"",
        "0",
        "-",
        "-0",
        "1",
        "12",
        "01",
        "1.5",
        "1.",
        "1e3",
        "1e999",
        "-7",
        "999999999999999999",
        "9999999999999999999",
        "18446744073709551616",
        "-9223372036854775809",
        "true",
        "tru",
        "false",
        "null",
        "nul",
        "é",
        "\u{feff}",
        "+1",
        ".5",
        "e",
    ]);
    prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn both_readers_take_the_same_texts_for_the_same_values(text in prop_oneof![
        nearly(),
        nearly().prop_map(|inner| format!("[{inner}]")),
        nearly().prop_map(|inner| format!("{{\"a\":{inner}}}")),
        documents().prop_map(|document| document.to_string()),
        ".{0,40}",
    ]) {
        let decided = reader::read(&text, Room::default());
        prop_assert_eq!(&decided, &explain::read(&text, &Room::default()).ok());
        if decided.is_some() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}

proptest! {
    #[test]
    fn it_agrees_with_the_common_reader_where_keys_are_unique(document in documents()) {
        let text = document.to_string();
        let ours = parse(text.as_bytes()).unwrap();
        prop_assert_eq!(ours, Value::from(document));
    }

    #[test]
    fn a_repeated_key_is_always_refused(
        members in prop::collection::btree_map("[a-zé]{0,4}", documents(), 1..5),
        which in any::<prop::sample::Index>(),
        escape in any::<bool>(),
    ) {
        let key = (*which.get(&members.keys().collect::<Vec<_>>())).clone();
        let mut text = serde_json::to_string(&members).unwrap();
        let again = if escape { escaped(&key) } else { key };
        text.truncate(text.len() - 1);
        text.extend([",\"", &again, "\":0}"]);
        prop_assert_eq!(reason(text.as_bytes()), Reason::DuplicateKey);
        prop_assert_eq!(reason(format!("[{text}]").as_bytes()), Reason::DuplicateKey);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Err(error) = parse(&bytes) {
            prop_assert!(error.offset <= bytes.len());
        }
    }

    #[test]
    fn no_text_of_json_characters_makes_it_panic(text in r#"[\[\]{}:,"\\u0-9a-fdDeE+\-. é]{0,64}"#) {
        let ours = parse(text.as_bytes());
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        // Whatever we accept, the common reader accepts as well.
        prop_assert!(ours.is_err() || theirs.is_ok());
    }
}

#[test]
fn a_text_of_more_values_than_may_be_held_is_refused() {
    let text = |count: usize| format!("[{}0]", "0,".repeat(count - 1)).into_bytes();
    assert!(parse(&text(MAX_VALUES - 1)).is_ok());
    let refused = parse(&text(MAX_VALUES)).unwrap_err();
    assert_eq!(refused.reason, Reason::TooMany);
}

/// Small objects take the most memory for their bytes.
#[test]
fn a_text_whose_values_take_too_much_memory_is_refused() {
    let objects = |count: usize| format!("[{}{{}}]", r#"{"":0},"#.repeat(count)).into_bytes();
    let value = parse(&objects(40_000)).unwrap();
    assert!(memory(&value) < MAX_MEMORY && memory(&value) > MAX_MEMORY / 2);
    let refused = parse(&objects(60_000)).unwrap_err();
    assert_eq!(refused.reason, Reason::TooMany);
    assert!(!refused.is_syntax());
    // A lock file of many tools is no body of an agent.
    assert!(parse_document(&objects(60_000)).is_ok());
}
