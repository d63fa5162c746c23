//! The built-in functions that rules may call.
//!
//! Each one exists in the VM, ends in time bounded by its arguments, and answers as OPA does. An argument that could make
//! a result or its time a product of two sizes the caller chooses must come from the operator: a literal, or data.

use super::ast::Expr;

/// A built-in that rules may call.
pub(super) struct Builtin {
    pub(super) name: &'static str,
    pub(super) arity: usize,
    /// The arguments that must be literals or data.
    pub(super) fixed: &'static [usize],
    /// The argument that is a regular expression.
    pub(super) pattern: Option<usize>,
    /// Whether it answers with a number.
    pub(super) numeric: bool,
}

const fn plain(name: &'static str, arity: usize) -> Builtin {
    fixed(name, arity, &[])
}

const fn number(name: &'static str, arity: usize) -> Builtin {
    Builtin {
        numeric: true,
        ..plain(name, arity)
    }
}

const fn fixed(name: &'static str, arity: usize, fixed: &'static [usize]) -> Builtin {
    Builtin {
        name,
        arity,
        fixed,
        pattern: None,
        numeric: false,
    }
}

const fn regex(
    name: &'static str,
    arity: usize,
    pattern: usize,
    fixed: &'static [usize],
) -> Builtin {
    Builtin {
        name,
        arity,
        fixed,
        pattern: Some(pattern),
        numeric: false,
    }
}

const ALLOWED: &[Builtin] = &[
    number("abs", 1),
    number("ceil", 1),
    number("floor", 1),
    number("round", 1),
    number("count", 1),
    number("sum", 1),
    number("product", 1),
    plain("max", 1),
    plain("min", 1),
    plain("sort", 1),
    plain("array.concat", 2),
    plain("array.reverse", 1),
    plain("array.slice", 3),
    number("bits.and", 2),
    number("bits.or", 2),
    number("bits.xor", 2),
    number("bits.negate", 1),
    number("bits.rsh", 2),
    number("to_number", 1),
    plain("base64.decode", 1),
    plain("base64.encode", 1),
    plain("base64.is_valid", 1),
    plain("base64url.decode", 1),
    plain("base64url.encode", 1),
    plain("base64url.encode_no_pad", 1),
    plain("hex.decode", 1),
    plain("hex.encode", 1),
    plain("json.is_valid", 1),
    plain("json.marshal", 1),
    plain("json.unmarshal", 1),
    plain("json.filter", 2),
    plain("json.remove", 2),
    fixed("glob.match", 3, &[0, 1]),
    plain("net.cidr_is_valid", 1),
    plain("net.cidr_contains", 2),
    plain("numbers.range", 2),
    plain("object.filter", 2),
    plain("object.get", 3),
    plain("object.keys", 1),
    plain("object.remove", 2),
    plain("object.subset", 2),
    plain("object.union", 2),
    plain("object.union_n", 1),
    regex("regex.match", 2, 0, &[]),
    regex("regex.split", 2, 0, &[]),
    regex("regex.find_n", 3, 0, &[]),
    regex("regex.find_all_string_submatch_n", 3, 0, &[]),
    regex("regex.replace", 3, 1, &[2]),
    number("semver.compare", 2),
    plain("semver.is_valid", 1),
    plain("intersection", 1),
    plain("union", 1),
    fixed("concat", 2, &[0]),
    plain("contains", 2),
    plain("endswith", 2),
    plain("startswith", 2),
    plain("format_int", 2),
    number("indexof", 2),
    plain("indexof_n", 2),
    plain("lower", 1),
    plain("upper", 1),
    fixed("replace", 3, &[1, 2]),
    plain("split", 2),
    fixed("sprintf", 2, &[0]),
    fixed("strings.any_prefix_match", 2, &[1]),
    fixed("strings.any_suffix_match", 2, &[1]),
    number("strings.count", 2),
    plain("strings.reverse", 1),
    plain("substring", 3),
    fixed("trim", 2, &[1]),
    fixed("trim_left", 2, &[1]),
    fixed("trim_right", 2, &[1]),
    plain("trim_prefix", 2),
    plain("trim_suffix", 2),
    plain("trim_space", 1),
    plain("time.clock", 1),
    plain("time.date", 1),
    plain("time.diff", 2),
    plain("time.format", 1),
    plain("time.weekday", 1),
    number("time.add_date", 4),
    number("time.parse_duration_ns", 1),
    number("time.parse_ns", 2),
    number("time.parse_rfc3339_ns", 1),
    plain("is_array", 1),
    plain("is_boolean", 1),
    plain("is_null", 1),
    plain("is_number", 1),
    plain("is_object", 1),
    plain("is_set", 1),
    plain("is_string", 1),
    plain("type_name", 1),
    number("units.parse", 1),
    number("units.parse_bytes", 1),
];

/// Built-ins people reach for that are not there, and what to do instead.
const INSTEAD: &[(&str, &str)] = &[
    (
        "time.now_ns",
        "the time of the call is `input.call.time_ns`",
    ),
    (
        "http.send",
        "rules cannot reach the network: put what they need under `facts` in the data",
    ),
    ("walk", "name the members you mean"),
    ("print", "test the rule with `opa test` instead"),
    ("trace", "test the rule with `opa test` instead"),
    ("net.cidr_expand", "use `net.cidr_contains`"),
    ("rand.intn", "a decision must not depend on chance"),
    ("uuid.rfc4122", "a decision must not depend on chance"),
    (
        "opa.runtime",
        "the environment is `input.agent.environment`",
    ),
    ("regex.template_match", "use `regex.match`"),
    ("glob.quote_meta", "write the pattern out"),
];

/// The built-in of this name, if rules may call it.
pub(super) fn find(name: &str) -> Option<&'static Builtin> {
    ALLOWED.iter().find(|builtin| builtin.name == name)
}

/// Why there is no such built-in, and what to do instead.
pub(super) fn refusal(name: &str) -> String {
    match INSTEAD.iter().find(|(known, _)| *known == name) {
        Some((_, instead)) => format!("`{name}` is not available: {instead}"),
        None if name.starts_with("io.jwt.") || name.starts_with("crypto.") => {
            format!(
                "`{name}` is not available: tokens and digests are verified before policy and come as input"
            )
        }
        None => format!("there is no function `{name}` that rules may call"),
    }
}

/// The largest range that may be written out.
const LONGEST_RANGE: i64 = 10_000;

/// Whether a call of `numbers.range` is bounded: both ends are literals.
pub(super) fn range_is_bounded(params: &[Expr]) -> bool {
    let ends: Option<Vec<i64>> = params
        .iter()
        .map(|param| match param {
            Expr::Number { value, .. } => value.as_i64(),
            _ => None,
        })
        .collect();
    match ends.as_deref() {
        Some([from, to]) => from.abs_diff(*to) <= LONGEST_RANGE.unsigned_abs(),
        _ => false,
    }
}

/// What in a regular expression the VM reads otherwise than OPA (RE2): these classes hold all of Unicode in one and ASCII
/// in the other, `\b` follows them, `\Q` and `\C` exist in one only.
pub(super) fn differs(pattern: &str) -> Option<char> {
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        let escaped = if letter == '\\' { letters.next() } else { None };
        if let Some('w' | 'W' | 'd' | 'D' | 's' | 'S' | 'b' | 'B' | 'Q' | 'C') = escaped {
            return escaped;
        }
    }
    None
}

/// A `sprintf` format without widths that make long texts out of nothing.
pub(super) fn format_is_modest(format: &str) -> bool {
    let mut digits = 0;
    for letter in format.chars() {
        digits = if letter.is_ascii_digit() {
            digits + 1
        } else {
            0
        };
        if digits > 3 || letter == '*' {
            return false;
        }
    }
    true
}
