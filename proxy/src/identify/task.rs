//! Headers in, a proved [`Task`] out.

use std::{fmt, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;

use super::issuers::{Bearer, Issuers, OWN, Untrusted};
use crate::{
    state::{Authority, NotAdmitted, NotOpened, Reach, Widened, token_digest},
    task::{Source, State, Task},
};

/// The header that carries a task's token.
pub(super) const TASK_TOKEN: HeaderName = HeaderName::from_static("outrider-task-token");

/// Whether a call without a task may go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Required {
    /// A call without a task is refused.
    Yes,
    /// A call without a task goes on and has only what taskless grants give.
    No,
}

/// A call whose task was not proved.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Unproven {
    /// Nothing was presented, and nothing is bound to the listener.
    #[error("no task was presented")]
    Missing,
    /// What was presented is not exactly one known token.
    #[error("the task token is not valid")]
    Invalid,
    /// The task's time is over.
    #[error("the task has expired")]
    Expired,
    /// The task was closed, or its authority was taken back.
    #[error("the task has ended")]
    Revoked,
    /// The task is suspended.
    #[error("the task is suspended")]
    Suspended,
    /// The token of another issuer is not believed.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The token of another issuer claims more than the task it is derived from has.
    #[error(transparent)]
    Widened(#[from] Widened),
    /// There is no room to remember the token of another issuer.
    #[error("no more tasks can be remembered")]
    NoRoom,
}

impl From<NotAdmitted> for Unproven {
    fn from(error: NotAdmitted) -> Self {
        match error {
            NotAdmitted::Widened(how) => Self::Widened(how),
            NotAdmitted::NoRoom(NotOpened::TooMany) => Self::NoRoom,
            NotAdmitted::NoRoom(_) => Self::Invalid,
        }
    }
}

/// By what a token is proved.
pub struct Proof<'a> {
    /// The tasks that are known.
    pub authority: &'a Authority,
    /// Whose tokens are believed beside our own.
    pub issuers: &'a Issuers,
    /// Whom a token must be made for.
    pub bearer: Bearer<'a>,
    /// What an intent declares.
    pub reach: &'a dyn Fn(&str) -> Option<Reach>,
    /// Now.
    pub now: Timestamp,
}

impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").finish_non_exhaustive()
    }
}

impl Proof<'_> {
    /// The task of a token, however it stands. What another issuer has signed is taken in when it
    /// is first shown, and again when the keys of its issuer have changed.
    fn task(&self, token: &[u8]) -> Result<Arc<Task>, Unproven> {
        let digest = token_digest(token);
        let known = self.authority.tasks.by_digest(&digest);
        if let Some(task) = known
            && (task.issuer.starts_with(OWN)
                || self.is_over(&task)
                || self.issuers.holds(&digest)?)
        {
            return Ok(task);
        }
        if self.issuers.is_empty() {
            return Err(Unproven::Invalid);
        }
        let terms = self.issuers.verify(token, &digest, self.bearer, self.now)?;
        Ok(self.authority.admit(terms, digest, self.reach, self.now)?)
    }

    /// Whether a token is over that was good once: that needs no current keys.
    fn is_over(&self, task: &Task) -> bool {
        let believed = self.issuers.find(&task.issuer).is_some();
        believed
            && match task.state(self.now) {
                State::Revoked | State::Closed | State::Expired => true,
                State::Active | State::Suspended => false,
            }
    }
}

/// What the agent presents as its task's token. Taken before `strip`, which leaves nothing of it.
pub fn presented(headers: &HeaderMap) -> Vec<HeaderValue> {
    headers.get_all(TASK_TOKEN).iter().cloned().collect()
}

/// What the agent presents to a proxy as its task's token: the password of the user `task`
/// (RFC 7617). Whatever else stands there is presented, too, and proves nothing.
pub fn proxied(headers: &HeaderMap) -> impl Iterator<Item = HeaderValue> {
    let lines = headers.get_all(header::PROXY_AUTHORIZATION).iter();
    lines.map(|line| password(line).unwrap_or(HeaderValue::from_static("")))
}

fn password(line: &HeaderValue) -> Option<HeaderValue> {
    let (scheme, coded) = line.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(coded.trim()).ok()?;
    let token = decoded.strip_prefix(b"task:")?;
    HeaderValue::from_bytes(token).ok()
}

/// Proves the task of a call.
///
/// A call that presents anything stands or falls with it and never falls back to the task bound
/// to its listener; more than one header line is never a token, even twice the same.
///
/// # Errors
/// [`Unproven`].
pub fn task(
    presented: &[HeaderValue],
    listener: &str,
    proof: &Proof<'_>,
    required: Required,
) -> Result<(Source, Option<Arc<Task>>), Unproven> {
    let now = proof.now;
    match presented {
        [token] => {
            let task = usable(proof.task(token.as_bytes())?, now)?;
            if proof.issuers.single_use(&task.issuer) && proof.authority.used.has(task.terms()) {
                return Err(Untrusted::Used.into());
            }
            Ok((Source::Token, Some(task)))
        }
        [] => match (proof.authority.tasks.current(listener), required) {
            (Some(task), _) => Ok((Source::Current, Some(usable(task, now)?))),
            (None, Required::Yes) => Err(Unproven::Missing),
            (None, Required::No) => Ok((Source::None, None)),
        },
        _ => Err(Unproven::Invalid),
    }
}

/// Who presents a message that needs no task: the task that is presented or bound, however it
/// stands, or nobody.
///
/// # Errors
/// [`Unproven`] for what is presented and is not one token that is known or believed.
pub fn holder(
    presented: &[HeaderValue],
    listener: &str,
    proof: &Proof<'_>,
) -> Result<(Source, Option<Arc<Task>>), Unproven> {
    match presented {
        [] => Ok(match proof.authority.tasks.current(listener) {
            Some(task) => (Source::Current, Some(task)),
            None => (Source::None, None),
        }),
        [token] => {
            let task = proof.task(token.as_bytes())?;
            Ok((Source::Token, Some(task)))
        }
        _ => Err(Unproven::Invalid),
    }
}

fn usable(task: Arc<Task>, now: Timestamp) -> Result<Arc<Task>, Unproven> {
    match task.state(now) {
        State::Active => Ok(task),
        State::Suspended => Err(Unproven::Suspended),
        State::Expired => Err(Unproven::Expired),
        State::Closed | State::Revoked => Err(Unproven::Revoked),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        keys::SigningKey,
        state::{Open, Opened, Tasks},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn tasks() -> Authority {
        let tasks = Tasks::new("outrider:test", SigningKey::generate().unwrap());
        Authority::new("spiffe://example.org/a".into(), Arc::new(tasks))
    }

    fn judged(
        presented: &[HeaderValue],
        listener: &str,
        authority: &Authority,
        required: Required,
        now: Timestamp,
    ) -> Result<(Source, Option<Arc<Task>>), Unproven> {
        let proof = Proof {
            authority,
            issuers: &Issuers::default(),
            bearer: Bearer {
                agent: "spiffe://example.org/a",
                depth: 4,
            },
            reach: &|_| None,
            now,
        };
        task(presented, listener, &proof, required)
    }

    fn open(authority: &Authority, current: Option<&str>) -> Opened {
        let open = Open {
            agent: "spiffe://example.org/a".into(),
            intent: "ticket.triage".into(),
            subject: "uid:1000".into(),
            tools: None,
            max_classification: None,
            budget: None,
            ttl: Duration::from_mins(1),
            current: current.map(Into::into),
            opened_by: "uid:1000".into(),
            parent: None,
        };
        authority.open(open, at(0)).unwrap()
    }

    fn lines(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn prove(
        tasks: &Authority,
        headers: &HeaderMap,
    ) -> Result<(Source, Option<Arc<str>>), Unproven> {
        judged(&presented(headers), "reverse", tasks, Required::Yes, at(1))
            .map(|(source, task)| (source, task.map(|task| task.id.clone())))
    }

    #[test]
    fn one_good_token_is_its_task() {
        let tasks = tasks();
        let opened = open(&tasks, None);
        let headers = lines("outrider-task-token", &[&opened.token]);
        assert_eq!(
            prove(&tasks, &headers),
            Ok((Source::Token, Some(opened.task.id.clone())))
        );
    }

    #[test]
    fn what_is_not_exactly_one_token_is_invalid_even_where_a_task_is_bound() {
        let tasks = tasks();
        let token = &open(&tasks, Some("reverse")).token;
        let twice_in_one = format!("{token}, {token}");
        let bearer = format!("Bearer {token}");
        for values in [
            &[token.as_str(), token][..],
            &[token, ""],
            &["", token],
            &[token, "other"],
            &[""],
            &["other"],
            &[twice_in_one.as_str()],
            &[bearer.as_str()],
        ] {
            let headers = lines("outrider-task-token", values);
            assert_eq!(
                prove(&tasks, &headers),
                Err(Unproven::Invalid),
                "{values:?}"
            );
        }
    }

    #[test]
    fn another_spelling_of_the_header_presents_nothing() {
        let tasks = tasks();
        let headers = lines("outrider_task_token", &[&open(&tasks, None).token]);
        assert_eq!(prove(&tasks, &headers), Err(Unproven::Missing));
    }

    #[test]
    fn a_task_bound_to_the_listener_serves_calls_that_present_nothing() {
        let tasks = tasks();
        let id = open(&tasks, Some("reverse")).task.id.clone();
        assert_eq!(
            prove(&tasks, &HeaderMap::new()),
            Ok((Source::Current, Some(id)))
        );
        let elsewhere = judged(&[], "forward", &tasks, Required::Yes, at(1));
        assert_eq!(elsewhere.unwrap_err(), Unproven::Missing);
    }

    #[test]
    fn an_ended_token_does_not_fall_back_to_a_bound_task() {
        let tasks = tasks();
        open(&tasks, Some("reverse"));
        let opened = open(&tasks, None);
        assert!(opened.task.close());
        let headers = lines("outrider-task-token", &[&opened.token]);
        assert_eq!(prove(&tasks, &headers), Err(Unproven::Revoked));
    }

    #[test]
    fn each_end_of_a_task_has_its_own_refusal_and_closed_counts_as_revoked() {
        let tasks = tasks();
        let opened = open(&tasks, None);
        let headers = lines("outrider-task-token", &[&opened.token]);
        let prove = |now| {
            judged(
                &presented(&headers),
                "reverse",
                &tasks,
                Required::Yes,
                at(now),
            )
            .map(|_| ())
        };
        assert_eq!(prove(59), Ok(()));
        assert_eq!(prove(60), Err(Unproven::Expired));
        assert!(opened.task.close());
        assert_eq!(prove(59), Err(Unproven::Revoked));
        assert!(opened.task.revoke());
        assert_eq!(prove(60), Err(Unproven::Revoked));
    }

    #[test]
    fn where_tasks_are_optional_an_ended_binding_still_refuses() {
        let tasks = tasks();
        let optional = || judged(&[], "reverse", &tasks, Required::No, at(1));
        let (source, none) = optional().unwrap();
        assert_eq!((source, none.is_none()), (Source::None, true));
        assert!(open(&tasks, Some("reverse")).task.revoke());
        assert_eq!(optional().unwrap_err(), Unproven::Revoked);
        tasks.sweep(at(1_000_000));
        assert_eq!(optional().unwrap_err(), Unproven::Revoked);
    }

    #[test]
    fn where_tasks_are_optional_a_bad_token_still_refuses() {
        let headers = lines("outrider-task-token", &["x"]);
        let result = judged(
            &presented(&headers),
            "reverse",
            &tasks(),
            Required::No,
            at(1),
        );
        assert_eq!(result.unwrap_err(), Unproven::Invalid);
    }
}
