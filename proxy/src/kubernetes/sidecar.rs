//! What is put into a pod: containers, volumes, and the variables of the agent's containers.

use serde_json::{Map, Value, json};

use super::settings::{Mode, Proof, Settings};
use crate::config::ISOLATION;
use crate::runtimes::{ADDED, BASE, BUNDLES, proxied};

/// The sidecar's container.
pub(super) const NAME: &str = "outrider";
/// The container that sets the kernel's rules and ends.
pub(super) const NET: &str = "outrider-net";
/// Both.
pub(super) const NAMES: [&str; 2] = [NAME, NET];
/// What the names of our volumes begin with.
pub(super) const VOLUMES: &str = "outrider-";
/// Where the certificates are that agents trust.
const TRUST: &str = "/run/outrider-trust";
/// The user under which the rules are set: nobody else has the capability.
const ROOT: u32 = 0;

/// The init containers, in the order in which they start.
pub(super) fn containers(settings: &Settings) -> Vec<Value> {
    let net = (settings.mode == Mode::Transparent).then(|| rules(settings));
    net.into_iter().chain([sidecar(settings)]).collect()
}

fn sidecar(settings: &Settings) -> Value {
    let asked = &settings.asked;
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": { "path": path, "port": asked.probe },
            "periodSeconds": period,
            "timeoutSeconds": 2,
            "failureThreshold": failures,
        })
    };
    let limits = ["cpu", "memory"].into_iter().zip(&asked.limits);
    let limits = limits.filter_map(|(name, limit)| Some((name.to_owned(), json!(limit.as_ref()?))));
    let limits: Value = limits.collect::<Map<_, _>>().into();
    let [cpu, memory] = &asked.requests;
    let mut variables = vec![json!({ "name": ISOLATION, "value": "container" })];
    if settings.asked.proof == Proof::Spiffe {
        let socket = "unix:///run/spiffe/spire-agent.sock";
        variables.push(json!({ "name": "SPIFFE_ENDPOINT_SOCKET", "value": socket }));
    }
    json!({
        "name": NAME,
        "image": settings.image,
        "args": ["run", "-c", "/etc/outrider/outrider.yaml"],
        "env": variables,
        "restartPolicy": "Always",
        "ports": [{ "name": "outrider-probe", "containerPort": asked.probe }],
        "resources": { "requests": { "cpu": cpu, "memory": memory }, "limits": limits },
        "securityContext": confined(settings.uid, &[]),
        "startupProbe": probe("/startupz", 1, 120),
        "readinessProbe": probe("/readyz", 5, 2),
        "livenessProbe": probe("/livez", 10, 3),
        "volumeMounts": mounts(settings),
    })
}

fn rules(settings: &Settings) -> Value {
    let uid = settings.uid.to_string();
    let dns = settings.dns.to_string();
    let mut args = vec![
        "net",
        "apply",
        "-c",
        "/etc/outrider/outrider.yaml",
        "--except-uid",
        &uid,
        "--dns",
        &dns,
        "--allow-inbound",
    ];
    if settings.allow_loopback {
        args.push("--allow-loopback");
    }
    json!({
        "name": NET,
        "image": settings.net_image.as_ref().unwrap_or(&settings.image),
        "args": args,
        "resources": {
            "requests": { "cpu": "10m", "memory": "32Mi" },
            "limits": { "memory": "64Mi" },
        },
        "securityContext": confined(ROOT, &["NET_ADMIN"]),
        "volumeMounts": [configuration()],
    })
}

/// What a container of ours may do: nothing but what is named.
fn confined(uid: u32, but: &[&str]) -> Value {
    let capabilities = match but {
        [] => json!({ "drop": ["ALL"] }),
        but => json!({ "drop": ["ALL"], "add": but }),
    };
    json!({
        "runAsUser": uid,
        "runAsGroup": uid,
        "runAsNonRoot": uid != ROOT,
        "readOnlyRootFilesystem": true,
        "allowPrivilegeEscalation": false,
        "privileged": false,
        "capabilities": capabilities,
        "seccompProfile": { "type": "RuntimeDefault" },
    })
}

fn configuration() -> Value {
    json!({ "name": "outrider-config", "mountPath": "/etc/outrider", "readOnly": true })
}

fn mounts(settings: &Settings) -> Vec<Value> {
    let mut mounts = vec![
        configuration(),
        // Everybody may write where such a volume begins: the sidecar makes its own folder in it.
        json!({ "name": "outrider-run", "mountPath": "/run" }),
        json!({ "name": "outrider-record", "mountPath": "/var/lib/outrider" }),
        json!({ "name": "outrider-trust", "mountPath": TRUST }),
    ];
    let read =
        |name: &str, path: &str| json!({ "name": name, "mountPath": path, "readOnly": true });
    match settings.asked.proof {
        Proof::None => {}
        Proof::Token { .. } => {
            mounts.push(read("outrider-token", "/run/secrets/outrider-identity"));
        }
        Proof::Spiffe => mounts.push(read("outrider-spiffe", "/run/spiffe")),
    }
    for secret in &settings.asked.secrets {
        let volume = format!("outrider-secret-{}", secret.replace('.', "-"));
        mounts.push(read(&volume, &format!("/run/secrets/{secret}")));
    }
    mounts
}

/// The volumes that the mounts name.
pub(super) fn volumes(settings: &Settings) -> Vec<Value> {
    let memory = |name: &str, limit: &str| json!({ "name": name, "emptyDir": { "medium": "Memory", "sizeLimit": limit } });
    let record = match &settings.asked.record {
        None => json!({ "name": "outrider-record", "emptyDir": {} }),
        Some(claim) => json!({
            "name": "outrider-record",
            "persistentVolumeClaim": { "claimName": claim },
        }),
    };
    let mut volumes = vec![
        json!({ "name": "outrider-config", "configMap": { "name": settings.config } }),
        memory("outrider-run", "1Mi"),
        record,
        memory("outrider-trust", "4Mi"),
    ];
    match &settings.asked.proof {
        Proof::None => {}
        Proof::Token { audience } => volumes.push(json!({
            "name": "outrider-token",
            "projected": { "sources": [{ "serviceAccountToken": {
                "audience": audience, "expirationSeconds": 3600, "path": "token",
            } }] },
        })),
        Proof::Spiffe => volumes.push(json!({
            "name": "outrider-spiffe",
            "csi": { "driver": "csi.spiffe.io", "readOnly": true },
        })),
    }
    for secret in &settings.asked.secrets {
        let name = format!("outrider-secret-{}", secret.replace('.', "-"));
        volumes.push(json!({ "name": name, "secret": { "secretName": secret } }));
    }
    volumes
}

/// What an agent's container mounts: the certificates, and nothing else of ours.
pub(super) fn trust() -> Value {
    json!({ "name": "outrider-trust", "mountPath": TRUST, "readOnly": true })
}

/// The variables of an agent's container.
pub(super) fn variables(settings: &Settings) -> Vec<(String, String)> {
    let base = format!("http://127.0.0.1:{}", settings.asked.reverse);
    let mut variables = vec![(BASE.to_owned(), base)];
    if settings.mode == Mode::Explicit {
        let proxy = format!("http://127.0.0.1:{}", settings.asked.forward);
        variables.extend(proxied(&proxy, "127.0.0.1,::1,localhost"));
    }
    let bundles = BUNDLES.map(|name| (name, "bundle.pem"));
    let added = ADDED.map(|name| (name, "outrider-ca.pem"));
    for (name, file) in bundles.into_iter().chain(added) {
        variables.push((name.to_owned(), format!("{TRUST}/{file}")));
    }
    variables
}
