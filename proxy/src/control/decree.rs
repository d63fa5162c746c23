//! Changes of authority that are asked for: who asks, what is meant, carried out, kept and noted.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    Control,
    judge::plain,
    refused, unknown,
    wire::{Done, Fault, Kind, Named, OfTask, Refusal, Reply, TaskView},
};
use crate::{
    state::{Decree, Edict, Effect, NotDone, Target},
    task::TaskKey,
};

impl Control {
    /// Changes how one task stands.
    pub(super) async fn alter(
        &self,
        uid: u32,
        of: OfTask,
        edict: impl FnOnce(TaskKey) -> Edict,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let tasks = &self.authority.tasks;
        let task = tasks.find(&of.id, of.issuer.as_deref()).map_err(unknown)?;
        self.decree(uid, edict(task.clone()), of.reason, now)
            .await?;
        let task = tasks.newest(&task);
        let task = task.ok_or_else(|| unknown(crate::state::UnknownTask::NoSuch))?;
        Ok(Reply::Task(TaskView::of(&task, now).into()))
    }

    /// Takes authority back.
    pub(super) async fn revoke(
        &self,
        uid: u32,
        named: Named,
        issued_before: Option<Timestamp>,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let target = self.target(&named)?;
        let edict = Edict::Revoke {
            target: target.clone(),
            issued_before,
        };
        let effect = self.decree(uid, edict, reason, now).await?;
        if let Target::Task(task) = &target
            && let Some(task) = self.authority.tasks.newest(task)
        {
            return Ok(Reply::Task(TaskView::of(&task, now).into()));
        }
        Ok(Reply::Done(Done {
            target: named,
            tasks: effect.tasks,
        }))
    }

    /// Lets a revocation count no longer.
    pub(super) async fn lift(
        &self,
        uid: u32,
        named: Named,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Reply, Refusal> {
        let target = self.target(&named)?;
        let effect = self
            .decree(uid, Edict::Lift { target }, reason, now)
            .await?;
        Ok(Reply::Done(Done {
            target: named,
            tasks: effect.tasks,
        }))
    }

    /// What is meant.
    fn target(&self, named: &Named) -> Result<Target, Refusal> {
        plain("ID", &named.id)?;
        let issuer = match &named.issuer {
            Some(issuer) => {
                plain("issuer", issuer)?;
                Some(self.issuer(issuer)?)
            }
            None => None,
        };
        let id: Arc<str> = named.id.as_str().into();
        Ok(match named.kind {
            Kind::Agent => Target::Agent(id),
            Kind::Subject => Target::Subject(id),
            Kind::Token => Target::Token { issuer, id },
            Kind::Key => Target::Key { issuer, id },
            Kind::Task => {
                let found = self.authority.tasks.find(&id, issuer.as_deref());
                match (found, issuer) {
                    (Ok(task), _) => Target::Task(task),
                    // Not seen here yet: it never will be.
                    (Err(_), Some(issuer)) => Target::Task(TaskKey { issuer, id }),
                    (Err(error), None) => return Err(unknown(error)),
                }
            }
        })
    }

    fn issuer(&self, name: &str) -> Result<Arc<str>, Refusal> {
        if **self.authority.tasks.issuer() == *name || self.declared.issuer(name) {
            Ok(name.into())
        } else {
            let text = format!("there is no issuer `{name}`: see `tasks.issuers`");
            Err(refused(Fault::Malformed, text))
        }
    }

    /// Takes back at once, then keeps and notes; gives only what is kept and noted.
    async fn decree(
        &self,
        uid: u32,
        edict: Edict,
        reason: Option<String>,
        now: Timestamp,
    ) -> Result<Effect, Refusal> {
        let reason = reason.as_deref();
        reason.map_or(Ok(()), |reason| plain("reason", reason))?;
        let decree = Decree {
            edict,
            by: format!("uid:{uid}").into(),
            why: reason.map(Into::into),
            at: now,
        };
        let authority = &self.authority;
        authority.could(&decree.edict).map_err(not_done)?;
        if authority.widens(&decree.edict) {
            self.keep(&decree, &Effect::default(), "nothing has changed")
                .await?;
            return authority.carry_out(&decree).map_err(not_done);
        }
        let effect = authority.carry_out(&decree).map_err(not_done)?;
        self.keep(&decree, &effect, "authority is taken back")
            .await?;
        Ok(effect)
    }

    /// Keeps and notes a decree.
    async fn keep(&self, decree: &Decree, effect: &Effect, then: &str) -> Result<(), Refusal> {
        if let Err(error) = self.store.decreed(decree, &self.authority).await {
            tracing::error!(%error, "a change of authority could not be kept");
            let text = format!("{then}, but that is not kept: {error}");
            return Err(refused(Fault::Unrecorded, text));
        }
        let task = decree.edict.task();
        let task = task.and_then(|task| self.authority.tasks.newest(task));
        let noted = self.observer.decreed(decree, task.as_deref(), effect);
        noted.map_err(|error| {
            tracing::error!(%error, "a change of authority could not be logged");
            let text = format!("{then}, but that is not noted: the security log cannot be written");
            refused(Fault::Unrecorded, text)
        })
    }
}

fn not_done(error: NotDone) -> Refusal {
    let fault = match error {
        NotDone::Revocations(_) | NotDone::Tasks(_) => Fault::Unavailable,
        NotDone::Over | NotDone::Distrusted => Fault::Malformed,
        NotDone::NotRevoked => Fault::NotRevoked,
    };
    refused(fault, error.to_string())
}
