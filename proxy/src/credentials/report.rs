//! How a service's credentials stand, for people and for metrics: never what they are.

use std::sync::atomic::Ordering;

use jiff::Timestamp;

use super::{Credential, Kind, kept::Standing};

/// How a service's credentials stand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// The service.
    pub service: String,
    /// `file`, `environment`, `configuration`, `command`, `client` or `exchange`.
    pub kind: &'static str,
    /// Whether calls can be served with them.
    pub state: State,
    /// How many are held; one that was read counts.
    pub held: usize,
    /// When the oldest of them was read or fetched.
    pub since: Option<Timestamp>,
    /// When the first of them expires.
    pub expires: Option<Timestamp>,
    /// What went wrong last, and when that was if it was a fetch.
    pub last_error: Option<(String, Option<Timestamp>)>,
    /// How many were fetched, and how many could not be.
    pub fetches: Option<(u64, u64)>,
}

/// Whether calls can be served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// They can.
    Good,
    /// They can, but not everything is as it should be.
    Doubtful,
    /// They cannot.
    Bad,
}

impl Credential {
    /// How it stands.
    pub fn report(&self, now: Timestamp) -> Report {
        let service = self.service.to_string();
        match &*self.kind {
            Kind::Still(still) => {
                let (read, failure) = still.report();
                Report {
                    service,
                    kind: still.kind(),
                    state: if failure.is_some() {
                        State::Doubtful
                    } else {
                        State::Good
                    },
                    held: 1,
                    since: Some(read),
                    expires: None,
                    last_error: failure.map(|failure| (failure.to_string(), None)),
                    fetches: None,
                }
            }
            Kind::Fetched(fetched) => {
                let standing = fetched.standing(now);
                let count = |of: &std::sync::atomic::AtomicU64| of.load(Ordering::Relaxed);
                Report {
                    service,
                    kind: fetched.source.kind(),
                    state: state(&standing, fetched.want_of_all().is_some()),
                    held: standing.held,
                    since: standing.oldest,
                    expires: standing.expires,
                    last_error: standing
                        .last
                        .map(|(fault, at)| (fault.to_string(), Some(at))),
                    fetches: Some((count(&fetched.counts.ok), count(&fetched.counts.failed))),
                }
            }
        }
    }
}

fn state(standing: &Standing, for_all: bool) -> State {
    let wrong = standing.failing || standing.refused > 0;
    match (wrong, standing.held) {
        (true, 0) => State::Bad,
        // For one task nothing may be had while others have what they need.
        (true, _) if standing.failing || !for_all => State::Doubtful,
        _ => State::Good,
    }
}
