#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn templates(keys: &[&str]) -> Templates {
    Templates::new(keys.iter().copied()).unwrap()
}

fn matches(template: &str, uri: &str) -> bool {
    templates(&[template]).find(uri).is_some()
}

#[test]
fn a_template_matches_what_it_expands_to_and_nothing_else() {
    for (template, good, bad) in [
        (
            "file:///docs/{name}",
            &[
                "file:///docs/a",
                "file:///docs/a.txt",
                "file:///docs/.profile",
                "file:///docs/...",
                "file:///docs/a%20b",
                "file:///docs/%C3%A9",
                "file:///docs/100%25",
                "file:///docs/a:b@c;d=e,f",
            ][..],
            &[
                "file:///docs/",
                "file:///docs",
                "file:///docs/a/b",
                "file:///docs/a?b",
                "file:///docs/a#b",
                "file:///docs/a&b",
                "file:///docsa",
                "FILE:///docs/a",
                "file:///Docs/a",
                " file:///docs/a",
                "",
            ][..],
        ),
        (
            "file:///{+path}",
            &[
                "file:///a",
                "file:///a/b",
                "file:///a/b?c=d#e",
                "file:///a%2Fb",
            ],
            &["file:///", "file:/a"],
        ),
        (
            "git://r{/owner,name}/tree",
            &["git://r/a/b/tree"],
            &[
                "git://r/a/tree",
                "git://r//b/tree",
                "git://r/a/b/c/tree",
                "git://rab/tree",
            ],
        ),
        (
            "db://t/{a}-{b}.{c}",
            &["db://t/1-2.3", "db://t/1-1-2.2.3"],
            &["db://t/-2.3", "db://t/1-.3", "db://t/1-2.", "db://t/1.2-3"],
        ),
        (
            "db://t/{a,b}",
            &["db://t/1,2", "db://t/1,2,3"],
            &["db://t/1", "db://t/1,"],
        ),
        (
            "db://t{?q,limit}",
            &[
                "db://t",
                "db://t?q=a",
                "db://t?q=",
                "db://t?limit=1",
                "db://t?q=a&limit=1",
                "db://t?q=a%2Fb",
                "db://t?q=a=b",
            ],
            &[
                "db://t?",
                "db://t?q",
                "db://t?x=1",
                "db://t?limit=1&q=a",
                "db://t?q=a&q=b",
                "db://t&q=a",
                "db://t?q=a/b",
                "db://t?q=a#b",
                "db://t?q=a&",
            ],
        ),
        (
            "db://t?v=1{&q,limit}",
            &[
                "db://t?v=1",
                "db://t?v=1&q=a",
                "db://t?v=1&q=a&limit=2",
                "db://t?v=1&limit=2",
            ],
            &["db://t?v=1?q=a", "db://t?v=1&limit=2&q=a", "db://t?v=12"],
        ),
        ("x:{a}%20{b}", &["x:1%202"], &["x:1 2", "x:1%2502"]),
    ] {
        for uri in good {
            assert!(matches(template, uri), "{template} {uri}");
        }
        for uri in bad {
            assert!(!matches(template, uri), "{template} {uri}");
        }
    }
}

#[test]
fn no_value_leads_out_of_its_place() {
    let long = format!("a{}", "b".repeat(MOST_BYTES));
    let deep = format!("%{}2E%2E", "25".repeat(500));
    for value in [
        ".",
        "..",
        "%2E",
        "%2E%2E",
        "%2e%2e",
        "%252E%252E",
        "%25252E.",
        ".%252E",
        "%252e.",
        "a%5Cb",
        "a\\b",
        "a%255Cb",
        "%2F",
        "%2f",
        "a%2Fb",
        "a%252Fb",
        "a%25252fb",
        "%25%32%46",
        "a%00",
        "a%2500",
        "a%0Ab",
        "a\nb",
        "a%7F",
        "a%",
        "a%2",
        "a%zz",
        "a%%41",
        "a b",
        "é",
        "..;a",
        "..%20",
        "%20..",
        "a;..",
        "..%3Bx",
        "a:..",
        "%C0%AE%C0%AE",
        "%C0%AF",
        "%FF",
        "a%61",
        "a%7E",
        "%c3%a9",
        "a\"",
        "a<b",
        "{a}",
        "a|b",
        "a^b",
        "a`b",
        "a\u{85}b",
        "%C2%85",
        &deep,
        &long,
    ] {
        for template in ["x:/{v}", "x:/a-{v}", "x:/{v}-a", "x:/{v}/a", "x:{/v}"] {
            let uri = template.replace("{/v}", "/{v}").replace("{v}", value);
            assert!(!matches(template, &uri), "{template} {uri}");
        }
    }
}

#[test]
fn no_value_of_many_segments_leads_out_of_its_place() {
    for value in [
        "../a",
        "a/..",
        "a/../b",
        "./a",
        "a/.",
        "a/./b",
        "..",
        "a/%252E%252E/b",
        "a%2F..%2Fb",
        "a%252F..",
        "a//..",
        "a?..",
        "a#../b",
        "a?b=..",
        "a?b=../c",
        "..?a",
        "a\\..",
        "a/..;b/c",
    ] {
        for template in ["x:/{+v}", "x:/a-{+v}", "x:/{+v}-a", "x:{+v}/a"] {
            let uri = template.replace("{+v}", value);
            assert!(!matches(template, &uri), "{template} {uri}");
        }
    }
    for value in ["a..b/c", ".a/b.", "...", "a.../b"] {
        assert!(matches("x:/{+v}", &format!("x:/{value}")), "{value}");
    }
    for value in ["..", "%252E", "a/..", "a%2F..", "%5C"] {
        assert!(!matches("x:a{?v}", &format!("x:a?v={value}")), "{value}");
    }
}

#[test]
fn a_dot_segment_cannot_be_put_together_from_two_values_or_cut_from_one() {
    for (template, uri) in [
        ("x:/{a}{b}", "x:/.."),
        ("x:/.{a}", "x:/.."),
        ("x:/{a}.", "x:/.."),
        ("x:/{a}/{b}", "x:/../a"),
        ("x:/{a}.txt", "x:/..txt"),
        ("x:/{a}.txt", "x:/...txt"),
        ("x:/a{b}", "x:/a.."),
        ("x:/a{+b}", "x:/a../b"),
        ("x:/{+b}z", "x:/a/..z"),
    ] {
        assert!(!matches(template, uri), "{template} {uri}");
    }
    assert!(matches("x:/{a}.txt", "x:/a...txt"));
    assert!(matches("x:/{a}.{b}", "x:/a..b"));
}

#[test]
fn the_exact_comes_first_then_the_most_literal_then_the_name() {
    let templates = templates(&[
        "x:/{+all}",
        "x:/a/{b}",
        "x:/a/{a}",
        "x:/a/b",
        "x:/{a}/secret",
        "x:/a/{b}.txt",
    ]);
    for (uri, key) in [
        ("x:/a/b", "x:/a/b"),
        ("x:/a/c", "x:/a/{a}"),
        ("x:/a/c.txt", "x:/a/{b}.txt"),
        ("x:/a/secret", "x:/{a}/secret"),
        ("x:/c/d", "x:/{+all}"),
    ] {
        assert_eq!(**templates.find(uri).unwrap(), format!("resource:{key}"));
    }
}

#[test]
fn an_exact_uri_under_another_spelling_is_no_value_of_a_template() {
    let templates = templates(&["x:/a!b", "x:/c%20d", "x:/{v}", "x:../odd"]);
    for spelling in ["x:/a%21b", "x:/%61!b", "x:/a%2521b", "x:/c%2520d", "x:/c d"] {
        assert!(templates.find(spelling).is_none(), "{spelling}");
    }
    assert_eq!(&**templates.find("x:/c%20d").unwrap(), "resource:x:/c%20d");
    assert_eq!(&**templates.find("x:../odd").unwrap(), "resource:x:../odd");
    assert!(templates.find("x:/a%3Fb").is_some());
}

#[test]
fn what_is_not_served_is_refused_by_name() {
    for (key, expected) in [
        ("x:{#a}", "`{#a}`"),
        ("x:{.a}", "`{.a}`"),
        ("x:{;a}", "`{;a}`"),
        ("x:{=a}", "`{=a}`"),
        ("x:{a*}", "`{a*}`"),
        ("x:{?a*}", "`{?a*}`"),
        ("x:{a:3}", "`{a:3}`"),
        ("x:{}", "`{}`"),
        ("x:{+}", "`{+}`"),
        ("x:{++a}", "`{++a}`"),
        ("x:{a,}", "`{a,}`"),
        ("x:{a b}", "`{a b}`"),
        ("x:{%41}", "`{%41}`"),
        ("x:{a}{?b,a}", "`a` stands twice"),
        ("x:{a", "brace"),
        ("x:a}", "brace"),
        ("x:{a}}", "brace"),
        ("x:{{a}}", "`{{a}`"),
        ("{a}", "scheme"),
        ("{a}:b", "scheme"),
        ("a/{b}", "scheme"),
        ("", "scheme"),
        ("a", "scheme"),
        ("1:a", "scheme"),
        ("x:/../{a}", "no URI matches"),
        ("x:/%61/{a}", "no URI matches"),
        ("x:/%c3/{a}", "no URI matches"),
        ("x:/%{a}", "no URI matches"),
        ("x:/é/{a}", "no URI matches"),
        ("x:/a b/{a}", "no URI matches"),
        ("x:a\nb", "no URI matches"),
    ] {
        let bad = Templates::new([key]).unwrap_err();
        let text = bad[0].to_string();
        assert!(
            text.contains(expected) && bad[0].template == key,
            "{key}: {text}"
        );
        assert_eq!(check(key), Err(bad[0].flaw.clone()));
    }
}

#[test]
fn the_size_of_templates_is_bounded() {
    let long = format!("x:{}{{a}}", "a".repeat(MOST_BYTES));
    assert_eq!(check(&long), Err(Flaw::TooLong));
    let names: Vec<String> = (0..33).map(|n| format!("a{n}")).collect();
    assert_eq!(
        check(&format!("x:{{?{}}}", names.join(","))),
        Err(Flaw::TooLong)
    );
    let many: Vec<String> = (0..=MOST_TEMPLATES)
        .map(|n| format!("x:{n}{{a}}"))
        .collect();
    let bad = Templates::new(many.iter().map(String::as_str)).unwrap_err();
    assert_eq!((bad.len(), &bad[0].flaw), (1, &Flaw::TooMany));
}

/// A hostile mix: the parts of URIs and of templates.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-c./%{}?&#+,=\\\\25EF-]{1,3}",
        Just("{a}".to_owned()),
        Just("{+b}".to_owned()),
        Just("{/c}".to_owned()),
        Just("{?d,e}".to_owned()),
        Just("{&f}".to_owned()),
        Just("%252E".to_owned()),
        Just("%2F".to_owned()),
        any::<char>().prop_map(String::from),
    ];
    proptest::collection::vec(part, 0..12).prop_map(|parts| format!("x:{}", parts.concat()))
}

proptest! {
    #[test]
    fn nothing_panics(key in text(), uri in text()) {
        if let Ok(templates) = Templates::new([key.as_str()]) {
            templates.find(&uri);
            templates.find(&key);
        }
    }

    #[test]
    fn what_matches_has_no_dot_segment_at_any_depth(key in text(), uri in text()) {
        if let Ok(templates) = Templates::new([key.as_str()])
            && key.contains('{')
            && templates.find(&uri).is_some()
        {
            let decoded = String::from_utf8(uri::decode(&uri)).unwrap();
            prop_assert!(decoded.split(['/', '?', '#', '&']).all(|s| s != "." && s != ".."));
        }
    }

    #[test]
    fn plain_values_are_always_found(a in "[a-z0-9_~-]{1,9}", b in "[a-z0-9_~-]{1,9}", q in "[a-z0-9]{0,9}") {
        let templates = templates(&["x:/{a}.{b}/c{?q}"]);
        let plain = format!("x:/{a}.{b}/c");
        let queried = format!("{plain}?q={q}");
        prop_assert!(templates.find(&plain).is_some());
        prop_assert!(templates.find(&queried).is_some());
    }
}
