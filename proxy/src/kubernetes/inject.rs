//! A pod comes in; the changes that put the sidecar into it, or take it out, go out.
//!
//! Injecting is taking out what is there of ours and putting in what should be. If what should be is
//! there already, nothing changes: that is what makes it idempotent, and what the validating webhook
//! asks.

use serde_json::{Map, Value, json};

use super::{
    DOMAIN,
    edit::{Change, Edited, step},
    harden::{self, hold, release},
    same::is_as_should,
    settings::{BadAnnotation, Mode, Settings, Writer},
    sidecar, workload,
};
use crate::runtimes::decides;

/// Why a pod cannot have a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// An annotation of ours is wrong.
    #[error(transparent)]
    Annotation(#[from] BadAnnotation),
    /// The pod and the sidecar do not go together.
    #[error("{}", .0.join("; "))]
    Pod(Vec<String>),
    /// There is no container in it.
    #[error("there is no pod in it: expected `spec.containers`")]
    Empty,
}

/// What is to be done about a pod.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// In order.
    pub changes: Vec<Change>,
    /// What weakens the sidecar.
    pub warnings: Vec<String>,
}

/// Where injected pods say what injected them.
fn annotation(name: &str) -> String {
    format!("{DOMAIN}/{name}")
}

/// Whether whoever deploys the pod wants no sidecar: label `outrider.dev/inject: disabled`.
pub fn is_disabled(pod: &Value) -> bool {
    let labels = pod.pointer("/metadata/labels");
    let label = labels.and_then(|labels| labels.get(annotation("inject")));
    label.and_then(Value::as_str) == Some("disabled")
}

/// Whether a sidecar of ours is in it.
pub fn is_injected(pod: &Value) -> bool {
    noted(pod, "injected").is_some()
}

fn noted<'a>(pod: &'a Value, name: &str) -> Option<&'a str> {
    let annotations = pod.pointer("/metadata/annotations");
    annotations?.get(annotation(name))?.as_str()
}

/// Puts the sidecar into a pod: an object with `metadata` and `spec`.
///
/// # Errors
/// [`Refused`].
pub fn inject(pod: &Value, defaults: &Settings, writer: Writer) -> Result<Plan, Refused> {
    if pod
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .is_none()
    {
        return Err(Refused::Empty);
    }
    let none = Map::new();
    let annotations = pod
        .pointer("/metadata/annotations")
        .and_then(Value::as_object);
    let settings = defaults.with(annotations.unwrap_or(&none), writer)?;
    let mut edited = Edited::new(pod.clone());
    take_out(&mut edited);
    let found = harden::look(&edited.value, &settings);
    let mut refused = found.refused;
    refused.extend(taken_names(&edited.value, &settings));
    if settings.strict {
        refused.extend(found.weak.iter().cloned());
    }
    if !refused.is_empty() {
        return Err(Refused::Pod(refused));
    }
    put_in(&mut edited, &settings);
    let mut changes = edited.changes;
    if is_injected(pod) && is_as_should(pod, &edited.value) {
        changes.clear();
    }
    Ok(Plan {
        changes,
        warnings: found.weak,
    })
}

/// Takes the sidecar out of a pod.
pub fn remove(pod: &Value) -> Plan {
    let mut edited = Edited::new(pod.clone());
    take_out(&mut edited);
    Plan {
        changes: edited.changes,
        warnings: Vec::new(),
    }
}

/// Names and variables that are in the pod already and are to be ours.
fn taken_names(pod: &Value, settings: &Settings) -> Vec<String> {
    let mut taken = Vec::new();
    for (_, container) in containers(pod) {
        let name = harden::name(container);
        if harden::is_ours(container) {
            taken.push(format!(
                "a container is called `{name}` and is not ours: rename it"
            ));
        }
        let variables = container.get("env").and_then(Value::as_array);
        for variable in variables.into_iter().flatten().map(harden::name) {
            if decides(variable) && agents(settings, container) {
                taken.push(format!(
                    "container `{name}` sets `{variable}` itself: leave it to the sidecar, or name the container in `{}`",
                    annotation("exclude-containers"),
                ));
            }
        }
    }
    let volumes = pod.pointer("/spec/volumes").and_then(Value::as_array);
    for volume in volumes.into_iter().flatten().map(harden::name) {
        if volume.starts_with(sidecar::VOLUMES) {
            taken.push(format!(
                "a volume is called `{volume}` and is not ours: rename it"
            ));
        }
    }
    taken
}

/// Every container that starts with the pod, with its place.
fn containers(pod: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for kind in ["initContainers", "containers"] {
        let list = pod
            .pointer(&format!("/spec/{kind}"))
            .and_then(Value::as_array);
        for (at, container) in list.into_iter().flatten().enumerate() {
            all.push((format!("/spec/{kind}/{at}"), container));
        }
    }
    all
}

/// Whether a container is an agent's, which is to know of the sidecar.
fn agents(settings: &Settings, container: &Value) -> bool {
    let name = harden::name(container);
    !harden::is_ours(container) && !settings.asked.untouched.iter().any(|one| one == name)
}

fn put_in(pod: &mut Edited, settings: &Settings) {
    for volume in sidecar::volumes(settings) {
        pod.insert("/spec/volumes", None, volume);
    }
    let mut held = Map::new();
    for (path, name, agent) in named(&pod.value, settings) {
        if agent {
            for (name, value) in sidecar::variables(settings) {
                pod.insert(
                    &format!("{path}/env"),
                    None,
                    json!({ "name": name, "value": value }),
                );
            }
            pod.insert(&format!("{path}/volumeMounts"), None, sidecar::trust());
        }
        if settings.mode == Mode::Transparent {
            let taken = hold(pod, &path);
            if !taken.is_empty() {
                held.insert(name, json!(taken));
            }
        }
    }
    for (at, container) in sidecar::containers(settings).into_iter().enumerate() {
        pod.insert("/spec/initContainers", Some(at), container);
    }
    let version = env!("CARGO_PKG_VERSION");
    pod.set(
        "/metadata/annotations",
        &annotation("injected"),
        json!(version),
    );
    if !held.is_empty() {
        let held = Value::Object(held).to_string();
        pod.set(
            "/metadata/annotations",
            &annotation("hardened"),
            json!(held),
        );
    }
}

fn named(pod: &Value, settings: &Settings) -> Vec<(String, String, bool)> {
    let all = containers(pod).into_iter();
    all.map(|(path, container)| {
        let agent = agents(settings, container);
        (path, harden::name(container).to_owned(), agent)
    })
    .collect()
}

/// Takes what is ours out of a pod that says it was injected.
fn take_out(pod: &mut Edited) {
    if !is_injected(&pod.value) {
        return;
    }
    let held = noted(&pod.value, "hardened").and_then(|held| serde_json::from_str(held).ok());
    let held: std::collections::BTreeMap<String, Vec<String>> = held.unwrap_or_default();
    pod.retain("/spec/initContainers", |one| !harden::is_ours(one));
    let volume = |one: &Value| harden::name(one).starts_with(sidecar::VOLUMES);
    let all: Vec<_> = containers(&pod.value)
        .into_iter()
        .map(|(path, container)| (path, harden::name(container).to_owned()))
        .collect();
    for (path, name) in all {
        if pod.list(&format!("{path}/volumeMounts")).iter().any(volume) {
            pod.retain(&format!("{path}/env"), |one| !decides(harden::name(one)));
            pod.retain(&format!("{path}/volumeMounts"), |one| !volume(one));
        }
        if let Some(taken) = held.get(&name) {
            release(pod, &path, taken);
        }
    }
    pod.retain("/spec/volumes", |one| !volume(one));
    for name in ["injected", "hardened"] {
        let name = step(&annotation(name));
        pod.remove(&format!("/metadata/annotations/{name}"));
    }
    pod.tidy("/metadata/annotations");
    pod.tidy("/metadata");
}

/// A pod in an object, with its place there.
pub fn pods(object: &Value) -> Vec<(String, &Value, String)> {
    let mut pods = Vec::new();
    for member in workload::members(object) {
        let Some(one) = object.pointer(&member) else {
            continue;
        };
        let Some(place) = workload::pod_of(one) else {
            continue;
        };
        if let Some(pod) = one.pointer(place) {
            pods.push((format!("{member}{place}"), pod, workload::called(one)));
        }
    }
    pods
}
