//! Whether a container could go round the sidecar, and what is taken from it so that it cannot.
//!
//! In transparent mode the kernel's rules let one user out: the sidecar's. A container that can
//! become that user, change the rules or look into the sidecar's processes has no sidecar.

use serde_json::{Value, json};

use super::{
    edit::Edited,
    settings::{Mode, Settings},
    sidecar,
};

/// Capabilities that a container has unless they are dropped, and with which it becomes anybody.
const DROPPED: [&str; 5] = ["NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID"];

/// Capabilities that must not be added.
const REFUSED: [&str; 12] = [
    "ALL",
    "BPF",
    "DAC_READ_SEARCH",
    "NET_ADMIN",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_MODULE",
    "SYS_PTRACE",
];

/// What is found about a pod.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What does not go together with a sidecar.
    pub(super) refused: Vec<String>,
    /// What weakens it.
    pub(super) weak: Vec<String>,
}

fn flag(of: &Value, path: &str) -> bool {
    of.pointer(path).and_then(Value::as_bool) == Some(true)
}

/// Looks at a pod and all its containers but ours.
pub(super) fn look(pod: &Value, settings: &Settings) -> Found {
    let mut found = Found::default();
    for (name, why) in [
        ("hostNetwork", "has the node's network, not one of its own"),
        ("hostPID", "sees every process of the node, the sidecar too"),
        (
            "shareProcessNamespace",
            "shows the sidecar's processes to the agent",
        ),
    ] {
        if flag(pod, &format!("/spec/{name}")) {
            found
                .refused
                .push(format!("`spec.{name}` {why}: set it to false"));
        }
    }
    if pod.pointer("/spec/os/name").and_then(Value::as_str) == Some("windows") {
        found
            .refused
            .push("`spec.os` is windows, where no sidecar of ours runs".into());
    }
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    for volume in volumes
        .into_iter()
        .flatten()
        .filter(|one| one.get("hostPath").is_some())
    {
        found.weak.push(format!(
            "volume `{}` is the node's: through it an agent may reach what is the sidecar's",
            name(volume)
        ));
    }
    for kind in ["initContainers", "containers", "ephemeralContainers"] {
        let list = pod
            .pointer(&format!("/spec/{kind}"))
            .and_then(Value::as_array);
        for container in list.into_iter().flatten().filter(|one| !is_ours(one)) {
            look_into(container, pod, settings, &mut found);
            if kind == "ephemeralContainers"
                && settings.mode == Mode::Transparent
                && !is_held(container)
            {
                let name = name(container);
                found.refused.push(format!(
                    "container `{name}` could become the sidecar's user: set `allowPrivilegeEscalation: false` and drop the capabilities {}",
                    DROPPED.join(", "),
                ));
            }
        }
    }
    if settings.mode == Mode::Explicit {
        found.weak.push(
            "mode explicit: an agent that ignores HTTP_PROXY goes round the sidecar; `transparent` closes that".into(),
        );
    }
    found
}

fn look_into(container: &Value, pod: &Value, settings: &Settings, found: &mut Found) {
    let name = name(container);
    let context = container.get("securityContext").unwrap_or(&Value::Null);
    let own = context.get("runAsUser").and_then(Value::as_u64);
    let pods = pod
        .pointer("/spec/securityContext/runAsUser")
        .and_then(Value::as_u64);
    match own.or(pods) {
        Some(uid) if uid == u64::from(settings.uid) => found.refused.push(format!(
            "container `{name}` runs as the sidecar's user {uid}: give it another `runAsUser`"
        )),
        Some(_) => {}
        None => found.weak.push(format!(
            "container `{name}` does not say its user, which its image could make the sidecar's: set `runAsUser`"
        )),
    }
    if flag(context, "/privileged") {
        found.refused.push(format!(
            "container `{name}` is privileged: it can do without the sidecar"
        ));
    }
    for capability in words(context, "/capabilities/add") {
        let plain = capability.strip_prefix("CAP_").unwrap_or(capability);
        if REFUSED.contains(&plain) {
            found.refused.push(format!(
                "container `{name}` adds the capability {capability}, with which it could go round: take it out of `capabilities.add`"
            ));
        }
    }
}

fn words<'a>(of: &'a Value, path: &str) -> impl Iterator<Item = &'a str> {
    let list = of.pointer(path).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// A container's name.
pub(super) fn name(container: &Value) -> &str {
    container
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// Whether a container is one that we inject.
pub(super) fn is_ours(container: &Value) -> bool {
    sidecar::NAMES.contains(&name(container))
}

/// Capabilities that a container keeps although they let it go round.
fn kept(container: &Value) -> Vec<&'static str> {
    let dropped: Vec<_> = words(container, "/securityContext/capabilities/drop").collect();
    let gone = |one: &str| {
        dropped
            .iter()
            .any(|word| word.strip_prefix("CAP_").unwrap_or(word) == one)
    };
    if gone("ALL") {
        return Vec::new();
    }
    DROPPED.into_iter().filter(|one| !gone(one)).collect()
}

fn escalates(container: &Value) -> bool {
    let path = "/securityContext/allowPrivilegeEscalation";
    container.pointer(path).and_then(Value::as_bool) != Some(false)
}

fn is_held(container: &Value) -> bool {
    kept(container).is_empty() && !escalates(container)
}

/// Takes from a container by what it could go round; returns the words that undo it.
pub(super) fn hold(pod: &mut Edited, path: &str) -> Vec<String> {
    let container = pod.value.pointer(path).cloned().unwrap_or_default();
    let context = format!("{path}/securityContext");
    let mut taken = Vec::new();
    if escalates(&container) {
        let said = container.pointer("/securityContext/allowPrivilegeEscalation");
        pod.set(&context, "allowPrivilegeEscalation", json!(false));
        taken.push(
            if said.is_some() {
                "escalation-said"
            } else {
                "escalation"
            }
            .to_owned(),
        );
    }
    for capability in kept(&container) {
        pod.insert(
            &format!("{context}/capabilities/drop"),
            None,
            json!(capability),
        );
        taken.push(capability.to_owned());
    }
    taken
}

/// Gives a container back what was taken from it.
pub(super) fn release(pod: &mut Edited, path: &str, taken: &[String]) {
    let context = format!("{path}/securityContext");
    for word in taken {
        match word.as_str() {
            "escalation" => pod.remove(&format!("{context}/allowPrivilegeEscalation")),
            "escalation-said" => pod.set(&context, "allowPrivilegeEscalation", json!(true)),
            capability => {
                pod.retain(&format!("{context}/capabilities/drop"), |one| {
                    *one != capability
                });
            }
        }
    }
    pod.tidy(&format!("{context}/capabilities"));
    pod.tidy(&context);
}
