//! The shipped library, as it is in `policy/rego`.

use crate::problem::Source;

/// The entry point: the path of the rule that is the decision.
pub const ENTRY: &str = "data.outrider.decision";

const ALWAYS: [(&str, &str); 6] = [
    (
        "outrider/decision.rego",
        include_str!("../rego/decision.rego"),
    ),
    ("outrider/guards.rego", include_str!("../rego/guards.rego")),
    (
        "outrider/delegation.rego",
        include_str!("../rego/delegation.rego"),
    ),
    ("outrider/grants.rego", include_str!("../rego/grants.rego")),
    (
        "outrider/exceptions.rego",
        include_str!("../rego/exceptions.rego"),
    ),
    ("outrider/authz.rego", include_str!("../rego/authz.rego")),
];

const ALLOW: (&str, &str) = ("outrider/allow.rego", include_str!("../rego/allow.rego"));

/// Whose `default allow := false` counts: two of them in one policy would be one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowDefault {
    Library,
    User,
}

/// The files of the shipped library, as a policy without rules of the user has them.
pub fn library() -> Vec<Source> {
    sources(AllowDefault::Library)
}

/// The files of the library.
pub(crate) fn sources(default: AllowDefault) -> Vec<Source> {
    let allow = match default {
        AllowDefault::Library => Some(ALLOW),
        AllowDefault::User => None,
    };
    ALWAYS
        .into_iter()
        .chain(allow)
        .map(|(name, text)| Source {
            name: name.to_owned(),
            text: text.to_owned(),
        })
        .collect()
}
