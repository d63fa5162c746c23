//! What is asked for, against what may be asked for.

use std::{sync::Arc, time::Duration};

use outrider_policy::Pattern;

use super::{
    Control, CurrentTasks, refused,
    wire::{Fault, OpenTask, Refusal},
};
use crate::state::Open;

impl Control {
    /// Turns what was asked for into what may be opened.
    pub(super) fn judge(&self, uid: u32, asked: OpenTask) -> Result<Open, Refusal> {
        let who: Arc<str> = format!("uid:{uid}").into();
        plain("intent", &asked.intent)?;
        if !self.declared.intent(&asked.intent) {
            let text = format!(
                "there is no intent `{}`: declare it in the policy data",
                asked.intent
            );
            return Err(refused(Fault::UnknownIntent, text));
        }
        let subject = asked.subject.map_or_else(|| Arc::clone(&who), Into::into);
        plain("subject", &subject)?;
        Ok(Open {
            agent: self.declared.agent(),
            intent: asked.intent.into(),
            subject,
            tools: asked.tools.map(patterns).transpose()?,
            max_classification: asked.max_classification,
            budget: asked.calls,
            ttl: Duration::from_secs(asked.ttl_s),
            current: asked.current.map(|name| self.binding(name)).transpose()?,
            opened_by: who,
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
