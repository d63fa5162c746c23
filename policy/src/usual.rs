//! The usual call, found without asking Rego: every guard holds, and a grant made for this very agent, intent and level
//! permits the tool.
//!
//! It knows nothing that `guards.rego` and `grants.rego` do not say, and says nothing but yes: whatever it leaves open
//! is decided by the library as a whole. `tests/usual.rs` holds the two together.

use std::sync::Arc;

use crate::data::{Agent, AgentState, Data, Grant};
use crate::input::{Input, Phase, TaskFacts, TaskState, nanoseconds};

/// The grant that permits; none when the call is not a usual one.
pub(crate) fn grant<'a>(data: &'a Data, input: &Input) -> Option<&'a Arc<str>> {
    let (task, now) = (&input.task, nanoseconds(input.call.time));
    let agent = data.agent(&input.agent.id)?;
    let usual = input.phase == Phase::Call
        && answered_for(agent, now)
        && input.agent.state == Some(AgentState::Active)
        && under_way(task, now)
        && task.tools.cover(&input.tool.id)
        && input.actors.iter().all(|actor| !actor.id.is_empty());
    if !usual {
        return None;
    }
    let level = input.content.classification;
    let intent = data.intent(&task.intent)?;
    let declared = data.scope(&task.intent)?.cover(&input.tool.id);
    if !declared || level > task.max_classification || level > intent.level() {
        return None;
    }
    let named = |grant: &Grant| {
        let intents = grant.intents.iter().flatten();
        grant.expires.is_none_or(|end| now < nanoseconds(end))
            && intents
                .into_iter()
                .any(|intent| *intent.as_str() == *task.intent)
            && grant.max_classification.is_some_and(|most| level <= most)
    };
    let grants = data.own_grants(&input.agent.id, &input.tool.id);
    grants
        .filter(|(_, grant)| named(grant))
        .map(|(id, _)| id)
        .min()
}

/// In the inventory, active, owned, with a purpose, not expired.
fn answered_for(agent: &Agent, now: i64) -> bool {
    agent.state == AgentState::Active
        && !agent.owner.is_empty()
        && !agent.purpose.is_empty()
        && agent.expires.is_none_or(|end| now < nanoseconds(end))
}

fn under_way(task: &TaskFacts, now: i64) -> bool {
    !task.id.is_empty()
        && task.state == TaskState::Active
        && task.expires.as_ref().is_some_and(|end| now < end.ns())
}
