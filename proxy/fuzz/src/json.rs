//! The strict reader, held against a second one that was written from RFC 8259 alone.

pub mod reader;

use outrider::json::write_value;
use outrider_policy::Value;
use outrider_schemas::json::{Malformed, parse, parse_document};

use self::reader::{Refused, Tree, read};

/// Both readers accept the same texts with the same values, and tell what is no JSON from what is
/// refused; what is written anew is read as itself.
pub fn run(data: &[u8]) {
    match (parse(data), read(data)) {
        (Ok(value), Ok(tree)) => {
            assert!(same(&value, &tree), "read {value:?} and {tree:?}");
            let mut written = Vec::new();
            write_value(&value, &mut written);
            assert_eq!(parse(&written).as_ref(), Ok(&value), "written anew");
            assert!(parse_document(data).is_ok(), "no document");
        }
        (Err(malformed), Err(refused)) => assert_class(&malformed, refused, data),
        (ours, theirs) => panic!("{ours:?} against {theirs:?}"),
    }
}

fn assert_class(malformed: &Malformed, refused: Refused, data: &[u8]) {
    assert_eq!(
        malformed.is_syntax(),
        refused == Refused::NoJson,
        "{malformed} against {refused:?}"
    );
    assert!(malformed.offset <= data.len(), "{malformed}");
}

/// Whether the program's value is what the second reader read.
pub fn same(value: &Value, tree: &Tree) -> bool {
    match (value, tree) {
        (Value::Null, Tree::Null) => true,
        (Value::Bool(one), Tree::Bool(other)) => one == other,
        // A double, or an integer that one holds exactly; else an integer of 64 bits.
        (Value::Number(one), Tree::Number(text)) => match one.as_f64() {
            Some(one) => text.parse() == Ok(one),
            None => {
                let whole = one.as_u64().map(i128::from);
                let whole = whole.or_else(|| one.as_i64().map(i128::from));
                whole.is_some() && whole == text.parse().ok()
            }
        },
        (Value::String(one), Tree::Text(other)) => **one == **other,
        (Value::Array(items), Tree::Array(others)) => {
            let pairs = || items.iter().zip(others);
            items.len() == others.len() && pairs().all(|(one, other)| same(one, other))
        }
        (Value::Object(members), Tree::Object(others)) => {
            let known = |(name, value): (&Value, &Value)| {
                let Value::String(name) = name else {
                    return false;
                };
                others.get(&**name).is_some_and(|other| same(value, other))
            };
            members.len() == others.len() && members.iter().all(known)
        }
        _ => false,
    }
}
