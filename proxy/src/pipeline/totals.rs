//! What an allowed call spends of totals that a fleet shares: the budgets of its task and of those it
//! was derived from, an exception's uses, the one call of a token.

use std::{iter, sync::Arc, time::Duration};

use jiff::Timestamp;
use outrider_policy::{Decision, Level};

use crate::{
    authorize::Uses,
    rejection::Rejection,
    state::redis::{Fleet, Total, Unspent},
    task::Task,
};

/// How long the uses of an exception count after the last one.
const USES_LAST: Duration = Duration::from_hours(400 * 24);

/// How long a budget counts after its task is over: clocks differ.
const BUDGET_LASTS: Duration = Duration::from_hours(1);

/// Whose total it is, and how much it is at most.
enum Whose<'a> {
    Task(&'a Task, u64),
    Exception(&'a Arc<str>, u64),
    /// A token that serves one call.
    Token(&'a Task),
}

/// Spends what an allowed call spends: in the store where the number is bounded, all or nothing, and
/// here so that what is known here counts as well.
pub(super) async fn spend(
    fleet: &Fleet,
    decision: &Decision,
    task: Option<&Task>,
    once: Option<&Task>,
    uses: &Uses,
    level: Option<Level>,
) -> Result<(), Rejection> {
    if task.is_some_and(Task::exhausted) {
        return Err(Rejection::BudgetExhausted);
    }
    let tasks = || {
        task.into_iter()
            .flat_map(|task| iter::once(task).chain(task.ancestors()))
    };
    let budgets = tasks().filter_map(|task| Some(Whose::Task(task, task.budget?)));
    let exception = decision.exception.as_ref();
    let exception = exception.and_then(|one| Some(Whose::Exception(&one.id, one.max_uses?)));
    let once = once.map(Whose::Token);
    let whose: Vec<Whose<'_>> = once.into_iter().chain(budgets).chain(exception).collect();
    if !whose.is_empty() {
        spend_shared(fleet, &whose, uses).await?;
    }
    for unbounded in tasks().filter(|task| task.budget.is_none()) {
        // Without a budget it is never spent.
        unbounded.life().spend(None).ok();
    }
    if let (Some(task), Some(level)) = (task, level) {
        task.raise_high_water(level);
    }
    Ok(())
}

async fn spend_shared(fleet: &Fleet, whose: &[Whose<'_>], uses: &Uses) -> Result<(), Rejection> {
    let totals: Vec<Total> = whose.iter().map(|whose| whose.total(fleet, uses)).collect();
    match fleet.spend(&totals).await {
        Ok(spent) => {
            for (whose, spent) in whose.iter().zip(spent) {
                whose.learn(spent, uses);
            }
            Ok(())
        }
        Err(Unspent::Away(away)) => Err(away.into()),
        Err(Unspent::Spent { at, used: spent }) => {
            let whose = whose.get(at).ok_or(Rejection::DependencyUnavailable)?;
            whose.learn(spent, uses);
            Err(whose.exhausted())
        }
    }
}

impl Whose<'_> {
    fn total(&self, fleet: &Fleet, uses: &Uses) -> Total {
        match *self {
            Self::Task(task, most) => {
                let left = task.expires.duration_since(Timestamp::now());
                let (issuer, id) = (task.issuer.as_bytes(), task.id.as_bytes());
                Total {
                    key: fleet.names().hash([&b"budget"[..], issuer, id]),
                    most,
                    used: task.used(),
                    lasts: Duration::try_from(left).unwrap_or_default() + BUDGET_LASTS,
                }
            }
            Self::Exception(id, most) => Total {
                key: fleet.names().hash([&b"uses"[..], id.as_bytes()]),
                most,
                used: uses.used(id),
                lasts: USES_LAST,
            },
            Self::Token(task) => {
                let left = task.expires.duration_since(Timestamp::now());
                let (issuer, id) = (task.issuer.as_bytes(), task.token_id.as_bytes());
                Total {
                    key: fleet.names().hash([&b"once"[..], issuer, id]),
                    most: 1,
                    used: 0,
                    lasts: Duration::try_from(left).unwrap_or_default() + BUDGET_LASTS,
                }
            }
        }
    }

    fn learn(&self, spent: u64, uses: &Uses) {
        match *self {
            Self::Task(task, _) => task.life().spent_at_least(spent),
            Self::Exception(id, most) => uses.spent_elsewhere(id, spent, most),
            Self::Token(_) => {}
        }
    }

    fn exhausted(&self) -> Rejection {
        match self {
            Self::Task(..) => Rejection::BudgetExhausted,
            Self::Exception(..) => Rejection::PolicyDenied(Vec::new()),
            Self::Token(_) => Rejection::TaskInvalid,
        }
    }
}
