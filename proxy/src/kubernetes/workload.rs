//! Where a pod stands in an object of Kubernetes.

use serde_json::Value;

/// A JSON Pointer to what has the pod's `metadata` and `spec`, if there is a pod in this kind.
pub(super) fn pod_of(object: &Value) -> Option<&'static str> {
    let word = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let group = word("apiVersion")
        .rsplit_once('/')
        .map_or("", |(group, _)| group);
    match (group, word("kind")) {
        ("", "Pod") => Some(""),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
        | ("", "ReplicationController")
        | ("batch", "Job") => Some("/spec/template"),
        ("batch", "CronJob") => Some("/spec/jobTemplate/spec/template"),
        ("", "PodTemplate") => Some("/template"),
        _ => None,
    }
}

/// Pointers to every object that stands in a list, or to the object itself.
pub(super) fn members(object: &Value) -> Vec<String> {
    let list = object.get("kind").and_then(Value::as_str) == Some("List");
    match object.get("items").and_then(Value::as_array) {
        Some(items) if list => (0..items.len()).map(|at| format!("/items/{at}")).collect(),
        _ => vec![String::new()],
    }
}

/// How people call an object: its kind and name.
pub(super) fn called(object: &Value) -> String {
    let word = |path| object.pointer(path).and_then(Value::as_str);
    let kind = word("/kind").unwrap_or("object");
    let name = word("/metadata/name").or(word("/metadata/generateName"));
    format!("{kind} `{}`", name.unwrap_or("without a name"))
}
