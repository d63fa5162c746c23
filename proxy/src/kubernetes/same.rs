//! Whether a pod is as it should be: nothing is missing, and nothing is there beside it, but for what
//! the API server fills in by itself.

use serde_json::{Map, Value};

use super::{harden, sidecar};

/// What the API server fills in where a manifest says nothing (Kubernetes API defaults, 1.29 to 1.34).
const DEFAULTED: [&str; 9] = [
    "apiVersion",
    "defaultMode",
    "imagePullPolicy",
    "protocol",
    "recursiveReadOnly",
    "scheme",
    "successThreshold",
    "terminationMessagePath",
    "terminationMessagePolicy",
];

/// Where it mounts the token of a service account, and what the volume's name begins with.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ACCOUNT_VOLUME: &str = "kube-api-access-";

/// Whether a pod is as it should be.
pub(super) fn is_as_should(is: &Value, should: &Value) -> bool {
    same(is, should, Whose::Pods)
}

/// Whose part of a pod it is: only in ours does the API server fill in what we did not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Pods,
    Ours,
    /// Of ours, where limits of the namespace are filled in.
    Resources,
}

fn same(is: &Value, should: &Value, whose: Whose) -> bool {
    match (is, should) {
        (Value::Object(is), Value::Object(should)) => objects(is, should, whose),
        (Value::Array(is), Value::Array(should)) => arrays(is, should, whose),
        _ => is == should,
    }
}

fn objects(is: &Map<String, Value>, should: &Map<String, Value>, whose: Whose) -> bool {
    let more = |name: &String| match whose {
        Whose::Pods => false,
        Whose::Ours => DEFAULTED.contains(&name.as_str()),
        Whose::Resources => true,
    };
    let nothing_beside = is
        .keys()
        .all(|name| should.contains_key(name) || more(name));
    let all_there = should.iter().all(|(name, should)| {
        let Some(is) = is.get(name) else { return false };
        match (name.as_str(), whose) {
            ("initContainers", Whose::Pods) => begins(is, should) && same(is, should, whose),
            ("resources", Whose::Ours) => same(is, should, Whose::Resources),
            _ => same(is, should, whose),
        }
    });
    nothing_beside && all_there
}

/// Members that have names may stand in any order: others add theirs before or after ours.
fn arrays(is: &[Value], should: &[Value], whose: Whose) -> bool {
    if !should
        .iter()
        .chain(is)
        .all(|one| one.get("name").is_some_and(Value::is_string))
    {
        let pairs = is.iter().zip(should);
        return is.len() == should.len()
            && pairs
                .into_iter()
                .all(|(is, should)| same(is, should, whose));
    }
    let mut left: Vec<_> = is.iter().collect();
    let all_there = should.iter().all(|should| {
        let whose = if is_ours(should) { Whose::Ours } else { whose };
        let found = left.iter().position(|is| same(is, should, whose));
        found.map(|at| left.swap_remove(at)).is_some()
    });
    all_there
        && left
            .into_iter()
            .all(|one| whose == Whose::Ours && is_account(one))
}

fn is_ours(one: &Value) -> bool {
    let volume = harden::name(one).starts_with(sidecar::VOLUMES) && one.get("mountPath").is_none();
    harden::is_ours(one) || volume
}

/// The mount of a service account's token, which every container gets.
fn is_account(mount: &Value) -> bool {
    harden::name(mount).starts_with(ACCOUNT_VOLUME)
        && mount.get("mountPath").and_then(Value::as_str) == Some(ACCOUNT)
        && mount.get("subPath").is_none()
}

/// Whether the init containers of ours come first, in their order.
fn begins(is: &Value, should: &Value) -> bool {
    let first = |list: &Value| -> Vec<String> {
        let list = list.as_array().into_iter().flatten().map(harden::name);
        list.take_while(|name| sidecar::NAMES.contains(name))
            .map(str::to_owned)
            .collect()
    };
    first(is) == first(should)
}
