//! The usual call, found without asking Rego: under an active task every guard holds, and a grant permits the tool.
//!
//! It knows nothing that `guards.rego` and `grants.rego` do not say, and says nothing but yes: whatever it leaves open
//! (calls without a task, a user's `allow`, exceptions, every refusal) is decided by the library as a whole.
//! `tests/usual.rs` holds the two together.

use std::sync::Arc;

use crate::Level;
use crate::data::{Agent, AgentState, Data, Held, Subject};
use crate::input::{Input, Phase, TaskFacts, TaskState, nanoseconds};

/// The grant that permits; none when the call is not a usual one. Of several it is the agent's own, made for this intent
/// and level, and then the one whose ID comes first.
pub(crate) fn grant<'a>(data: &'a Data, input: &Input) -> Option<&'a Arc<str>> {
    let agent = data.agent(&input.agent.id)?;
    if !guarded(data, agent, input) {
        return None;
    }
    let tool = &input.tool.id;
    let own = || data.own_grants(&input.agent.id, tool);
    let roles = || of_roles(data, agent, tool);
    let first = |grants: &mut dyn Iterator<Item = Held<'a>>| grants.map(|(id, _)| id).min();
    let named = |held: &Held<'_>| {
        held.1.intents.is_some() && held.1.max_classification.is_some() && permits(*held, input)
    };
    first(&mut own().filter(named))
        .or_else(|| first(&mut own().chain(roles()).filter(|held| permits(*held, input))))
}

/// Whether every guard holds: agent, task, scope, delegation, intent, level.
fn guarded(data: &Data, agent: &Agent, input: &Input) -> bool {
    let (task, tool, kind) = (&input.task, input.tool.id.as_str(), input.tool.kind);
    let now = nanoseconds(input.call.time);
    let level = input.content.classification;
    input.phase == Phase::Call
        && input.agent.state == Some(AgentState::Active)
        && answered_for(agent, now)
        && under_way(task, now)
        && task.within
        && task.tools.cover(tool, kind)
        && delegated(data, input)
        && data
            .scope(&task.intent)
            .is_some_and(|declared| declared.cover(tool, kind))
        && data
            .intent(&task.intent)
            .is_some_and(|intent| level <= intent.level())
        && level <= task.max_classification
}

/// Whether everybody above the agent may do this as well, and who is acted for.
fn delegated(data: &Data, input: &Input) -> bool {
    let named = input.actors.iter().all(|actor| !actor.id.is_empty());
    let mut earlier = input.actors.iter().skip(1);
    named
        && earlier.all(|actor| entitled(data, &actor.id, input))
        && data
            .subject(&input.subject.id)
            .is_none_or(|subject| within(subject, input))
}

fn entitled(data: &Data, id: &str, input: &Input) -> bool {
    let tool = &input.tool.id;
    data.agent(id).is_some_and(|agent| {
        answered_for(agent, nanoseconds(input.call.time))
            && data
                .own_grants(id, tool)
                .chain(of_roles(data, agent, tool))
                .any(|held| permits(held, input))
    })
}

fn within(subject: &Subject, input: &Input) -> bool {
    let (now, tool) = (nanoseconds(input.call.time), &input.tool);
    subject.expires.is_none_or(|end| now < nanoseconds(end))
        && subject
            .tools
            .iter()
            .any(|pattern| pattern.matches(&tool.id, tool.kind))
        && input.content.classification <= subject.max_classification
}

fn of_roles<'a>(data: &'a Data, agent: &'a Agent, tool: &str) -> impl Iterator<Item = Held<'a>> {
    let roles = agent.roles.iter();
    roles.flat_map(move |role| data.role_grants(role.as_str(), tool))
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

/// In force, for this intent, and high enough; without a level of its own a grant reaches the tool's.
fn permits((_, grant): Held<'_>, input: &Input) -> bool {
    let now = nanoseconds(input.call.time);
    let reach = grant
        .max_classification
        .or(input.tool.classification)
        .unwrap_or(Level::Restricted);
    let intents = grant.intents.as_deref();
    grant.expires.is_none_or(|end| now < nanoseconds(end))
        && intents.is_none_or(|all| {
            all.iter()
                .any(|intent| intent.as_str() == &*input.task.intent)
        })
        && input.content.classification <= reach
}
