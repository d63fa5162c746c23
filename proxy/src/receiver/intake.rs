//! One door for every token, however it was delivered: verified, understood, dealt with once, told
//! to whoever obeys, noted. Only then is it acknowledged.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    meaning::{Act, BadEvent, Event, Meanings},
    metrics::Metrics,
    seen::{Seen, Turn},
    set::{BadSet, Expected, Set, moved},
    sink::Sink,
    subject::{Subjects, Unmapped},
};
use crate::{
    jose::{BadToken, Source, Stale},
    record::security::{SecurityEvent, SecurityKind, SecurityLog},
    state::{Decree, Edict, Target},
};

/// How much longer a token is remembered than it is taken.
const MARGIN: Duration = Duration::from_hours(1);

/// The longest text that goes with a revocation, in bytes.
const LONGEST_WHY: usize = 512;

/// Who sends tokens, and what they mean.
#[derive(Debug)]
pub struct Transmitter {
    /// Its name: `iss` of its tokens.
    pub issuer: Arc<str>,
    /// Our name for it: in `aud` of its tokens.
    pub audience: String,
    /// Its keys.
    pub source: Source,
    /// What is done about its events.
    pub meanings: Meanings,
    /// Whom its subjects are here.
    pub subjects: Subjects,
    /// How far its clock, and those of issuers of tasks, may be apart.
    pub leeway: Duration,
    /// How old its tokens may be.
    pub max_age: Duration,
}

/// A token that is refused for good.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// It is not what it should be.
    #[error(transparent)]
    Set(#[from] BadSet),
    /// It came on another's stream.
    #[error("the token's `iss` is not who delivers it")]
    Stream,
    /// An event is not as it should be.
    #[error(transparent)]
    Event(#[from] BadEvent),
    /// Whoever it happened to is nobody here.
    #[error(transparent)]
    Subject(#[from] Unmapped),
}

impl Refused {
    /// The word for whoever sent it (RFC 8935 §2.4).
    pub const fn code(self) -> &'static str {
        match self {
            Self::Set(bad) => bad.code(),
            Self::Stream => "invalid_issuer",
            Self::Event(_) | Self::Subject(_) => "invalid_request",
        }
    }
}

/// A token that was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NotTaken {
    /// For good.
    Refused(Refused),
    /// For now: it is to be delivered again.
    Later,
}

impl<E: Into<Refused>> From<E> for NotTaken {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

/// What tokens go through.
#[derive(Debug)]
pub struct Intake {
    /// Who obeys.
    pub sink: Sink,
    /// What was dealt with.
    pub seen: Seen,
    /// What was done.
    pub log: SecurityLog,
    /// How much.
    pub metrics: Metrics,
}

/// An event with whom it takes authority from.
struct Understood {
    event: Event,
    targets: Vec<Target>,
}

impl Intake {
    /// Takes a token of that transmitter. When this is `Ok`, it is dealt with for good, now or
    /// before.
    ///
    /// # Errors
    /// [`NotTaken`].
    pub async fn take(&self, from: &Transmitter, token: &[u8]) -> Result<(), NotTaken> {
        let outcome = self.dealt_with(from, token).await;
        let result = match outcome {
            Ok(result) => result,
            Err(NotTaken::Refused(refused)) => {
                self.refused(&from.issuer, refused);
                refused.code()
            }
            Err(NotTaken::Later) => "unavailable",
        };
        self.metrics.token(&from.issuer, result);
        outcome.map(drop)
    }

    /// Refuses a token that came on another's stream.
    pub fn stray(&self, from: &Transmitter) -> NotTaken {
        self.refuse(from, Refused::Stream)
    }

    /// Refuses a token, notes and counts that.
    pub fn refuse(&self, from: &Transmitter, refused: Refused) -> NotTaken {
        self.refused(&from.issuer, refused);
        self.metrics.token(&from.issuer, refused.code());
        NotTaken::Refused(refused)
    }

    async fn dealt_with(&self, from: &Transmitter, token: &[u8]) -> Result<&'static str, NotTaken> {
        let now = Timestamp::now();
        let set = verified(from, token, now).await?;
        let events = understood(from, &set)?;
        let turn = self.seen.turn(&from.issuer, &set.id).await;
        let claim = match turn.map_err(later)? {
            Turn::Over => {
                self.count(from, &events, Some("duplicate"));
                return Ok("duplicate");
            }
            Turn::Ours(claim) => claim,
        };
        if let Err(not_taken) = self.carry_out(from, &set, &events, now).await {
            claim.release().await;
            return Err(not_taken);
        }
        let lasts = from.max_age.saturating_add(MARGIN);
        claim.done(lasts).await.map_err(later)?;
        self.count(from, &events, None);
        Ok("taken")
    }

    fn count(&self, from: &Transmitter, events: &[Understood], result: Option<&'static str>) {
        for Understood { event, .. } in events {
            let done = match event.act {
                Act::Revoke | Act::RevokeAll => "revoked",
                Act::Ignore => "noted",
            };
            let result = result.unwrap_or(done);
            self.metrics.event(&from.issuer, event.label, result);
        }
    }

    /// Tells and notes every event of a token. What cannot be told of one keeps no other from being
    /// obeyed; the token is then taken later, as a whole.
    async fn carry_out(
        &self,
        from: &Transmitter,
        set: &Set,
        events: &[Understood],
        now: Timestamp,
    ) -> Result<(), NotTaken> {
        let mut all = Ok(());
        for Understood { event, targets } in events {
            if event.act == Act::Ignore {
                all = all.and(self.noted(from, set, event, None));
            }
            for target in targets {
                let decree = decree(from, set, event, target, now);
                let told = self.sink.tell(&decree).await.map_err(later);
                let noted = told.and_then(|()| self.noted(from, set, event, Some(&decree)));
                all = all.and(noted);
            }
        }
        all
    }

    /// Writes an event into the security log: who, what, why, and what was done about it.
    fn noted(
        &self,
        from: &Transmitter,
        set: &Set,
        event: &Event,
        decree: Option<&Decree>,
    ) -> Result<(), NotTaken> {
        let who = format!("ssf:{}", from.issuer);
        let mut what = vec![
            ("who", &*who),
            ("why", event.reason.as_deref().unwrap_or_default()),
            ("event", &*event.name),
            ("jti", &*set.id),
        ];
        let before;
        let kind = match decree.map(|decree| &decree.edict) {
            Some(Edict::Revoke {
                target,
                issued_before,
            }) => {
                what.extend([("revoked", target.kind()), ("id", &**target.id())]);
                what.extend(target.issuer().map(|issuer| ("issuer", &**issuer)));
                if let Some(time) = issued_before {
                    before = time.to_string();
                    what.push(("issued_before", &before));
                }
                SecurityKind::Revoked
            }
            _ => SecurityKind::SignalReceived,
        };
        let failures = self.log.failures();
        self.write(kind, &what);
        if self.log.failures() == failures {
            Ok(())
        } else {
            Err(NotTaken::Later)
        }
    }

    fn refused(&self, issuer: &str, refused: Refused) {
        let (who, why) = (format!("ssf:{issuer}"), refused.to_string());
        let what = [("who", &*who), ("why", &*why), ("code", refused.code())];
        self.write(SecurityKind::SignalRefused, &what);
    }

    fn write(&self, kind: SecurityKind, what: &[(&'static str, &str)]) {
        let event = SecurityEvent {
            kind,
            agent: None,
            decision_id: None,
            listener: None,
            what,
        };
        self.log.write(&event, Timestamp::now());
    }

    /// Does what is due several times a second.
    pub fn tick(&self, now: Timestamp) {
        self.log.tick(now);
    }

    /// Forgets what no longer matters.
    pub fn sweep(&self, now: Timestamp) {
        self.seen.sweep(now);
        self.sink.sweep(now);
    }
}

/// What kept a token from being dealt with is for operators; whoever sent it is told to come again.
fn later(error: impl std::fmt::Display) -> NotTaken {
    tracing::warn!(%error, "a security event token is not acknowledged");
    NotTaken::Later
}

/// Reads and verifies a token; keys are looked for once more when it names one that is not known.
async fn verified(from: &Transmitter, token: &[u8], now: Timestamp) -> Result<Set, NotTaken> {
    let arrived = Instant::now();
    match read(from, token, now) {
        Ok(None) | Err(NotTaken::Refused(Refused::Set(BadSet::Token(BadToken::UnknownKey)))) => {}
        Ok(Some(set)) => return Ok(set),
        Err(error) => return Err(error),
    }
    from.source.look_again().await;
    let current = from.source.status().age;
    match read(from, token, now) {
        Ok(None) => Err(later("no current keys are known of its issuer")),
        Ok(Some(set)) => Ok(set),
        // A key that was published a moment ago: refused, what it signed would be lost.
        Err(NotTaken::Refused(Refused::Set(BadSet::Token(BadToken::UnknownKey))))
            if current.is_none_or(|age| age > arrived.elapsed()) =>
        {
            Err(later("the keys of its issuer are not known to be current"))
        }
        Err(error) => Err(error),
    }
}

/// Reads a token with the keys in force; nothing where there are none.
fn read(from: &Transmitter, token: &[u8], now: Timestamp) -> Result<Option<Set>, NotTaken> {
    let expected = Expected {
        issuer: &from.issuer,
        audience: &from.audience,
        max_age: from.max_age,
    };
    match from.source.keys() {
        Ok(keys) => Ok(Some(Set::read(token, &keys, expected, now)?)),
        Err(Stale) => Ok(None),
    }
}

/// What each event means, before anything is done about any.
fn understood(from: &Transmitter, set: &Set) -> Result<Vec<Understood>, Refused> {
    let each = set.events.iter().map(|(uri, claims)| {
        let event = from.meanings.understand(uri, claims, set.issued)?;
        let targets = match event.act {
            Act::Revoke | Act::RevokeAll => from.subjects.targets(&set.subject, &from.issuer)?,
            Act::Ignore => Vec::new(),
        };
        Ok(Understood { event, targets })
    });
    each.collect()
}

fn decree(from: &Transmitter, set: &Set, event: &Event, target: &Target, now: Timestamp) -> Decree {
    // An event that is said to be in the future has happened now.
    let before = moved(event.at.min(now), from.leeway);
    let issued_before = match target {
        // They are named one by one: nothing else goes by that name.
        Target::Task(_) | Target::Token { .. } => None,
        Target::Agent(_) | Target::Subject(_) | Target::Key { .. } => {
            (event.act != Act::RevokeAll).then_some(before)
        }
    };
    let mut why = format!("{} {}", event.name, set.id);
    if let Some(reason) = &event.reason {
        why.push_str(": ");
        why.push_str(reason);
    }
    why.truncate(why.floor_char_boundary(LONGEST_WHY));
    Decree {
        edict: Edict::Revoke {
            target: target.clone(),
            issued_before,
        },
        by: format!("ssf:{}", from.issuer).into(),
        why: Some(why.into()),
        at: now,
    }
}
