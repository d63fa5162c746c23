//! Who is asked when a running sidecar is asked how it stands.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    config::Isolation,
    credentials::{Report, State},
    doctor::{Doctor, Finding, Health, lasting},
    jose::Source,
    outrider::Outrider,
    state::Store,
};

/// How long before its end an agent's entry in the inventory is a matter for somebody.
const SOON: i64 = 14 * 86_400;

/// Everybody who knows something about this sidecar.
pub(super) fn doctor(outrider: &Arc<Outrider>, isolation: Isolation) -> Doctor {
    let asks = |examine: fn(&Outrider, Timestamp) -> Vec<Finding>| {
        let outrider = Arc::clone(outrider);
        move |now| examine(&outrider, now)
    };
    Doctor::default()
        .with(move |_| vec![version(), isolated(isolation)])
        .with(asks(identity))
        .with(asks(issuers))
        .with(asks(policy))
        .with(asks(state))
        .with(asks(logs))
        .with(asks(credentials))
}

fn version() -> Finding {
    Finding::new("sidecar", "version", Health::Ok, env!("CARGO_PKG_VERSION"))
}

fn isolated(isolation: Isolation) -> Finding {
    let (state, detail) = match isolation {
        Isolation::Exec => (Health::Ok, "every agent runs in namespaces of its own"),
        Isolation::Uid => (Health::Ok, "every listener serves uids of its own only"),
        Isolation::Declared => (
            Health::Ok,
            "declared by whoever set the sidecar up; it cannot be checked from here",
        ),
        Isolation::None => (
            Health::Warn,
            "the agent shares our uid: nothing stops it from going round",
        ),
    };
    Finding::new("isolation", isolation.as_str(), state, detail)
}

fn identity(outrider: &Outrider, now: Timestamp) -> Vec<Finding> {
    let snapshot = outrider.snapshot();
    let entry = snapshot.data.agent(&outrider.agent);
    let (state, said) = match entry {
        _ if outrider.authority.standing.is_revoked() => (
            Health::Fail,
            "its authority was taken back: every call is refused".to_owned(),
        ),
        None => (
            Health::Fail,
            "not in the inventory (`agents`): every call is refused".to_owned(),
        ),
        Some(entry) if entry.owner.is_empty() || entry.purpose.is_empty() => (
            Health::Fail,
            "its entry in the inventory lacks an owner or a purpose: every call is refused".into(),
        ),
        Some(entry) => match entry.expires.map(|expires| seconds(now, expires)) {
            Some(left) if left <= 0 => (
                Health::Fail,
                "its entry in the inventory has expired: every call is refused".into(),
            ),
            Some(left) if left < SOON => (
                Health::Warn,
                format!("its entry in the inventory expires in {}", lasting(left)),
            ),
            Some(left) => (Health::Ok, format!("expires in {}", lasting(left))),
            None => (Health::Ok, "never expires".into()),
        },
    };
    let detail = format!("static; {said}");
    vec![Finding::new("identity", &*outrider.agent, state, detail)]
}

fn issuers(outrider: &Outrider, _: Timestamp) -> Vec<Finding> {
    let sources = outrider.issuers.all().iter();
    let finding = |source: &Source| {
        let status = source.status();
        let state = match (source.keys(), &status.error) {
            (Err(_), _) => Health::Fail,
            (Ok(_), None) if status.keys > 0 => Health::Ok,
            (Ok(_), _) => Health::Warn,
        };
        let mut said = vec![format!("{} keys, {} left out", status.keys, status.refused)];
        said.push(match status.age {
            Some(age) => format!(
                "age {}",
                lasting(i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
            ),
            None => "not read yet".into(),
        });
        said.extend(status.error.map(|error| format!("last error: {error}")));
        Finding::new("issuer", &*source.settings().name, state, said.join("; "))
    };
    sources.map(|issuer| finding(&issuer.source)).collect()
}

fn policy(outrider: &Outrider, _: Timestamp) -> Vec<Finding> {
    let snapshot = outrider.snapshot();
    let detail = format!("revision {}, enforced", snapshot.policy.revision());
    vec![Finding::new("policy", "in force", Health::Ok, detail)]
}

fn state(outrider: &Outrider, now: Timestamp) -> Vec<Finding> {
    let counts = outrider.authority.tasks.counts(now);
    let active = counts.active;
    let (name, health, said) = match &outrider.store {
        Store::Memory => ("memory", Health::Ok, "all ends with the process".to_owned()),
        Store::File(journal) => {
            let path = journal.path().display();
            ("file", Health::Ok, format!("kept in `{path}`"))
        }
        Store::Fleet(fleet) => {
            let status = fleet.status();
            let health = match (status.up, fleet.shares()) {
                (true, _) => Health::Ok,
                (false, true) => Health::Warn,
                (false, false) => Health::Fail,
            };
            ("fleet", health, status.detail)
        }
    };
    let detail = format!("{active} active tasks; {said}");
    vec![Finding::new("state", name, health, detail)]
}

fn logs(outrider: &Outrider, _: Timestamp) -> Vec<Finding> {
    let recorder = &outrider.recorder;
    let decisions = if recorder.log.healthy() {
        let promise = recorder.log.durability().promise();
        Finding::new("log", "decisions", Health::Ok, promise)
    } else {
        let detail = "cannot be written: calls are refused until it can";
        Finding::new("log", "decisions", Health::Fail, detail)
    };
    let security = match recorder.security.failures() {
        0 => Finding::new("log", "security", Health::Ok, "every event was written"),
        lost => {
            let detail = format!("{lost} events could not be written since the start");
            Finding::new("log", "security", Health::Warn, detail)
        }
    };
    vec![decisions, security]
}

fn credentials(outrider: &Outrider, now: Timestamp) -> Vec<Finding> {
    let mut found = Vec::new();
    outrider.each_credential(|credential| found.push(credential.report(now)));
    found.sort_by(|a, b| a.service.cmp(&b.service));
    found.iter().map(|report| credential(report, now)).collect()
}

fn credential(report: &Report, now: Timestamp) -> Finding {
    let state = match report.state {
        State::Good => Health::Ok,
        State::Doubtful => Health::Warn,
        State::Bad => Health::Fail,
    };
    let mut said = vec![report.kind.to_owned()];
    if let Some((ok, failed)) = report.fetches {
        said.push(format!("{} held", report.held));
        said.push(format!("{ok} fetched, {failed} failed"));
    }
    if let Some(since) = report.since {
        said.push(format!("age {}", lasting(seconds(since, now))));
    }
    if let Some(expires) = report.expires {
        said.push(format!("expires in {}", lasting(seconds(now, expires))));
    }
    if let Some((error, at)) = &report.last_error {
        let ago = at.map(|at| format!(" ({} ago)", lasting(seconds(at, now))));
        said.push(format!("last error{}: {error}", ago.unwrap_or_default()));
    }
    Finding::new("credential", &report.service, state, said.join("; "))
}

fn seconds(from: Timestamp, to: Timestamp) -> i64 {
    to.duration_since(from).as_secs()
}
