//! Writes JSON text straight into a buffer: no intermediate tree on the path of a call.
//!
//! Policy values and strings come in, compact UTF-8 JSON (RFC 8259) goes out.

use std::cell::RefCell;

use jiff::Timestamp;
use outrider_policy::Value;
use outrider_schemas::json;

/// Lower-case hexadecimal digits.
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Writes `text` as a JSON string, quotes included (RFC 8259 §7).
///
/// Only what must be escaped is: the quote, the backslash and the control characters.
pub fn write_str(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, tail) = rest.split_at(json::plain(rest));
        out.extend_from_slice(plain);
        let Some((&byte, tail)) = tail.split_first() else {
            break;
        };
        write_escape(byte, out);
        rest = tail;
    }
    out.push(b'"');
}

/// Writes `number` in decimal.
pub fn write_u64(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

thread_local! {
    /// The last second that was written and its text: most lines of a thread fall into the same.
    static SECOND: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) };
}

/// Writes a time as RFC 3339 says, in UTC and with nine digits of a second, without quotes.
pub fn write_time(time: Timestamp, out: &mut Vec<u8>) {
    let nanoseconds = time.subsec_nanosecond();
    if nanoseconds < 0 {
        // Before 1970 a fraction counts backwards.
        out.extend_from_slice(format!("{time:.9}").as_bytes());
        return;
    }
    let second = time.as_second();
    SECOND.with_borrow_mut(|(last, text)| {
        if *last != second {
            *text = format!("{time:.0}");
            text.truncate(text.len().saturating_sub(1));
            *last = second;
        }
        out.extend_from_slice(text.as_bytes());
    });
    // The leading digit stands for the point: so no digit is left out.
    let fraction = 1_000_000_000 + nanoseconds.unsigned_abs();
    let digits = out.len();
    out.extend_from_slice(itoa::Buffer::new().format(fraction).as_bytes());
    if let Some(point) = out.get_mut(digits) {
        *point = b'.';
    }
    out.push(b'Z');
}

/// Writes a time with as many digits of a second as it has, without quotes.
pub fn write_short_time(time: Timestamp, out: &mut Vec<u8>) {
    write_time(time, out);
    out.pop();
    let kept = out
        .iter()
        .rposition(|byte| *byte != b'0')
        .unwrap_or_default();
    out.truncate(kept + 1);
    if out.last() == Some(&b'.') {
        out.pop();
    }
    out.push(b'Z');
}

/// `bytes` as lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(2 * bytes.len());
    write_hex(bytes, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

/// Writes `bytes` as lower-case hexadecimal, without quotes.
pub fn write_hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend(bytes.iter().flat_map(|byte| {
        [byte >> 4, byte & 0xf].map(|nibble| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0'))
    }));
}

/// Writes `number` in decimal.
pub fn write_i64(number: i64, out: &mut Vec<u8>) {
    if number < 0 {
        out.push(b'-');
    }
    write_u64(number.unsigned_abs(), out);
}

/// A JSON object in the making. Names are our own words and need no escape.
pub(crate) struct Object<'a> {
    line: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    /// Opens it.
    pub(crate) fn begin(line: &'a mut Vec<u8>) -> Self {
        line.push(b'{');
        Self { line, first: true }
    }

    /// Members of an object that somebody else opens and closes.
    pub(crate) fn members(line: &'a mut Vec<u8>) -> Self {
        Self { line, first: true }
    }

    /// A member that is an object with what `fill` puts there.
    pub(crate) fn object(&mut self, name: &str, fill: impl FnOnce(&mut Object<'_>)) -> &mut Self {
        self.with(name, |line| {
            let mut object = Object::begin(line);
            fill(&mut object);
            object.end();
        })
    }

    /// Bytes as a string of lower-case hex digits.
    pub(crate) fn hex(&mut self, name: &str, bytes: &[u8]) -> &mut Self {
        self.with(name, |line| {
            line.push(b'"');
            write_hex(bytes, line);
            line.push(b'"');
        })
    }

    /// A member written by `write`.
    pub(crate) fn with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        self.line
            .extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.line.extend_from_slice(name.as_bytes());
        self.line.extend_from_slice(b"\":");
        write(self.line);
        self
    }

    /// A member whose JSON text is given.
    pub(crate) fn raw(&mut self, name: &str, json: &str) -> &mut Self {
        self.with(name, |line| line.extend_from_slice(json.as_bytes()))
    }

    pub(crate) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.with(name, |line| write_str(text, line))
    }

    /// A string whose characters need no escape, such as a time.
    pub(crate) fn display(&mut self, name: &str, shown: &dyn std::fmt::Display) -> &mut Self {
        use std::io::Write as _;
        // Writing to a vector cannot fail.
        self.with(name, |line| {
            write!(line, "\"{shown}\"").unwrap_or_default();
        })
    }

    /// A time in quotes, written by `write`.
    pub(crate) fn time(
        &mut self,
        name: &str,
        time: Timestamp,
        write: impl FnOnce(Timestamp, &mut Vec<u8>),
    ) -> &mut Self {
        self.with(name, |line| {
            line.push(b'"');
            write(time, line);
            line.push(b'"');
        })
    }

    pub(crate) fn number(&mut self, name: &str, number: u64) -> &mut Self {
        self.with(name, |line| write_u64(number, line))
    }

    pub(crate) fn integer(&mut self, name: &str, number: i64) -> &mut Self {
        self.with(name, |line| write_i64(number, line))
    }

    pub(crate) fn bool(&mut self, name: &str, truth: bool) -> &mut Self {
        self.raw(name, if truth { "true" } else { "false" })
    }

    pub(crate) fn value(&mut self, name: &str, value: &Value) -> &mut Self {
        self.with(name, |line| write_value(value, line))
    }

    /// Closes it.
    pub(crate) fn end(&mut self) {
        self.line.push(b'}');
    }
}

/// Writes `value` as compact JSON.
///
/// A set is written as an array; what JSON cannot express (an undefined value, a number that is
/// not finite) as `null`. A key that is no string is written as a string of its JSON text. Nesting
/// is bounded by the reader that made the value.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::Undefined => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(_) => write_number(value, out),
        Value::String(text) => write_str(text, out),
        Value::Array(items) => write_items(items.iter(), out, write_value),
        Value::Set(items) => write_items(items.iter(), out, write_value),
        Value::Object(members) => write_members(members.iter(), out, write_value),
    }
}

/// Writes `[…]` with `write` for each item.
pub(crate) fn write_items<T>(
    items: impl Iterator<Item = T>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(T, &mut Vec<u8>),
) {
    out.push(b'[');
    for (index, item) in items.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(b']');
}

/// Writes `{…}` with `write` for the value of each member.
pub(crate) fn write_members<'a>(
    members: impl Iterator<Item = (&'a Value, &'a Value)>,
    out: &mut Vec<u8>,
    mut write: impl FnMut(&Value, &mut Vec<u8>),
) {
    out.push(b'{');
    for (index, (key, value)) in members.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_member_name(key, out);
        out.push(b':');
        write(value, out);
    }
    out.push(b'}');
}

fn write_member_name(key: &Value, out: &mut Vec<u8>) {
    if let Value::String(name) = key {
        write_str(name, out);
    } else {
        let mut text = Vec::new();
        write_value(key, &mut text);
        write_str(&String::from_utf8_lossy(&text), out);
    }
}

fn write_number(value: &Value, out: &mut Vec<u8>) {
    let Value::Number(number) = value else { return };
    if let Some(whole) = whole(value) {
        if whole < 0 {
            out.push(b'-');
        }
        write_u64(u64::try_from(whole.unsigned_abs()).unwrap_or_default(), out);
        return;
    }
    match number.as_f64() {
        // Rust's debug form of a finite double is the shortest that reads back, and valid JSON.
        Some(double) if double.is_finite() => {
            out.extend_from_slice(format!("{double:?}").as_bytes());
        }
        Some(_) => out.extend_from_slice(b"null"),
        None => out.extend_from_slice(number.format_decimal().as_bytes()),
    }
}

/// A number that is a whole one of 64 bits, with or without a sign.
pub(crate) fn whole(value: &Value) -> Option<i128> {
    let Value::Number(number) = value else {
        return None;
    };
    // Doubles saturate: 2^63 is no `i64`, and 2^64, which alone is both a double and the largest
    // `u64`, is no `u64` either.
    let unsigned = number
        .as_u64()
        .filter(|&whole| whole < u64::MAX || number.as_f64().is_none());
    let signed = || number.as_i64().map(i128::from);
    unsigned.map(i128::from).or_else(signed)
}

fn write_escape(byte: u8, out: &mut Vec<u8>) {
    out.push(b'\\');
    match byte {
        b'"' | b'\\' => out.push(byte),
        b'\n' => out.push(b'n'),
        b'\r' => out.push(b'r'),
        b'\t' => out.push(b't'),
        control => {
            out.extend_from_slice(b"u00");
            write_hex(&[control], out);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>()
                .prop_filter("finite", |f| f.is_finite())
                .prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 48, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..6)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_written_value_reads_back_as_itself(value in json()) {
            let value: Value = serde_json::from_value(value).unwrap();
            let mut out = Vec::new();
            write_value(&value, &mut out);
            let again: Value = serde_json::from_slice(&out).unwrap();
            prop_assert_eq!(value, again);
        }

        #[test]
        fn a_written_string_reads_back_and_holds_no_raw_control_character(text in any::<String>()) {
            let mut out = Vec::new();
            write_str(&text, &mut out);
            prop_assert!(out.iter().all(|&byte| byte >= 0x20));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn a_written_number_is_its_decimal(number in any::<u64>()) {
            let mut out = Vec::new();
            write_u64(number, &mut out);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn a_time_is_written_as_its_own_type_writes_it() {
        for text in [
            "2026-11-25T23:43:39.129180664Z",
            "2026-11-25T23:43:39.1Z",
            "2026-11-25T23:43:39.00000001Z",
            "2026-11-25T23:43:40Z",
            "1970-01-01T00:00:00Z",
            "1969-12-31T23:59:59.5Z",
            "9999-12-30T22:00:00Z",
        ] {
            let time: Timestamp = text.parse().unwrap();
            let (mut long, mut short) = (Vec::new(), Vec::new());
            write_time(time, &mut long);
            write_short_time(time, &mut short);
            assert_eq!(String::from_utf8(long).unwrap(), format!("{time:.9}"));
            assert_eq!(String::from_utf8(short).unwrap(), time.to_string());
        }
    }

    #[test]
    fn every_control_character_is_escaped() {
        let text: String = (0_u8..=0x7f).map(char::from).collect();
        let mut out = Vec::new();
        write_str(&text, &mut out);
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }

    #[test]
    fn a_double_beside_the_largest_integers_is_written_as_itself() {
        for (read, written) in [
            ("18446744073709551615", "18446744073709551615"),
            ("18446744073709551616", "1.8446744073709552e19"),
            ("9223372036854775808.0", "9223372036854775808"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("-9223372036854775808.0", "-9223372036854775808"),
        ] {
            let value: Value = outrider_schemas::json::parse(read.as_bytes()).unwrap();
            let mut out = Vec::new();
            write_value(&value, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), written, "{read}");
        }
    }

    #[test]
    fn what_json_cannot_express_is_null() {
        let mut out = Vec::new();
        write_value(&Value::Undefined, &mut out);
        assert_eq!(out, b"null");
    }
}
