//! What is asked for, against what may be asked for.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use outrider_policy::Pattern;

use super::{
    Control, CurrentTasks, refused, unknown,
    wire::{Fault, OpenTask, Refusal},
};
use crate::{
    state::{Claims, Open, widened},
    task::Task,
};

/// How long a task lasts of which nobody says it.
const USUAL_TTL: Duration = Duration::from_hours(1);

impl Control {
    /// Turns what was asked for into what may be opened.
    pub(super) fn judge(&self, uid: u32, asked: OpenTask, now: Timestamp) -> Result<Open, Refusal> {
        if !self.declared.opens() {
            let text = "`tasks.local` is off: tasks come from the issuers of `tasks.issuers`";
            return Err(refused(Fault::NotAllowed, text));
        }
        let who: Arc<str> = format!("uid:{uid}").into();
        if asked.calls.is_some() && self.declared.forgets() {
            let text = "a budget needs a count that lasts, which `environment: production` asks for: set `state.store` to `file:PATH`";
            return Err(refused(Fault::Malformed, text));
        }
        let parent = asked.parent.as_deref().map(|id| self.parent(id));
        let parent = parent.transpose()?;
        let intent = match (asked.intent, &parent) {
            (Some(intent), _) => intent,
            (None, Some(parent)) => parent.intent.to_string(),
            (None, None) => return Err(refused(Fault::Malformed, "expected an intent")),
        };
        plain("intent", &intent)?;
        if self.declared.intent(&intent).is_none() {
            let text = format!("there is no intent `{intent}`: declare it in the policy data");
            return Err(refused(Fault::UnknownIntent, text));
        }
        let subject = match (asked.subject, &parent) {
            (Some(subject), _) => subject.into(),
            (None, Some(parent)) => Arc::clone(&parent.subject),
            (None, None) => Arc::clone(&who),
        };
        plain("subject", &subject)?;
        let open = Open {
            agent: self.declared.agent(),
            intent: intent.into(),
            subject,
            tools: asked.tools.map(patterns).transpose()?,
            max_classification: asked.max_classification,
            budget: asked.calls,
            ttl: asked.ttl_s.map_or(USUAL_TTL, Duration::from_secs),
            current: asked.current.map(|name| self.binding(name)).transpose()?,
            opened_by: who,
            parent,
        };
        self.within(&open, asked.ttl_s.is_some(), now)?;
        Ok(open)
    }

    fn parent(&self, id: &str) -> Result<Arc<Task>, Refusal> {
        let own = self.authority.tasks.issuer();
        let parent = self.authority.tasks.get(id, Some(own)).map_err(unknown)?;
        if parent.ancestors().count() >= self.declared.depth().get() {
            let text = "too many tasks stand above this one: see `tasks.max_depth`";
            return Err(refused(Fault::Malformed, text));
        }
        Ok(parent)
    }

    /// Refuses what reaches further than the parent, and notes who tried.
    fn within(&self, open: &Open, timed: bool, now: Timestamp) -> Result<(), Refusal> {
        let Some(parent) = &open.parent else {
            return Ok(());
        };
        let claims = Claims {
            subject: &open.subject,
            tools: open.tools.as_deref(),
            max_classification: open.max_classification,
            budget: open.budget,
            // An hour that nobody asked for is cut short instead.
            expires: timed.then(|| now.saturating_add(open.ttl).unwrap_or(Timestamp::MAX)),
        };
        widened(claims, parent, |intent| self.declared.intent(intent)).map_err(|widened| {
            self.observer.widened(&open.opened_by, parent, widened);
            refused(Fault::Widened, format!("the task is not opened: {widened}"))
        })
    }

    fn binding(&self, listener: String) -> Result<Arc<str>, Refusal> {
        if self.current == CurrentTasks::Off {
            let text = "`--current` is off in production: give the agent the token";
            return Err(refused(Fault::CurrentOff, text));
        }
        plain("listener", &listener)?;
        if !self.declared.listener(&listener) {
            let text = format!("there is no listener `{listener}`");
            return Err(refused(Fault::UnknownListener, text));
        }
        Ok(listener.into())
    }
}

/// What people write into IDs and reasons: something, not much, and nothing that steers a
/// terminal or a log.
pub(super) fn plain(what: &str, text: &str) -> Result<(), Refusal> {
    const LONGEST: usize = 512;
    if text.is_empty() || text.len() > LONGEST || text.chars().any(char::is_control) {
        let expected =
            format!("expected a {what} of 1 to {LONGEST} bytes without control characters");
        return Err(refused(Fault::Malformed, expected));
    }
    Ok(())
}

fn patterns(texts: Vec<String>) -> Result<Vec<Pattern>, Refusal> {
    const MOST: usize = 256;
    let bad = || {
        let text = format!("expected 1 to {MOST} tool patterns such as `tickets/*`");
        refused(Fault::Malformed, text)
    };
    if texts.is_empty() || texts.len() > MOST {
        return Err(bad());
    }
    texts
        .into_iter()
        .map(|text| {
            plain("tool pattern", &text)?;
            Pattern::try_from(text).map_err(|_| bad())
        })
        .collect()
}
