//! May it: what policy is asked about a call, and what its answer means.
//!
//! Only a [`ValidCall`] can be asked about; the answer of policy is final except for what it
//! permits once too often (a task's budget, an exception's uses).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use outrider_policy::{
    Decision, Level, Verdict,
    data::Data,
    input::{
        ActorFacts, AgentFacts, Budget, CallFacts, Content, Input, LimitFacts, Phase, Ready,
        SubjectFacts, TaskFacts, TaskState,
    },
};

use crate::{
    catalogue::Tool,
    classify,
    limit::{Admitted, Remaining},
    record::Ruling,
    rejection::Rejection,
    state::{NotKept, Store},
    task::{State, Task},
    validate::ValidCall,
};

/// What surrounds a call: where it came from and for whom.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The call itself; its arguments are filled in by [`input`].
    pub call: CallFacts,
    /// When the call arrived.
    pub now: Timestamp,
    /// The agent's facts, made ready.
    pub agent: &'a Ready<AgentFacts>,
    /// The task; none where tasks are not required.
    pub task: Option<&'a Task>,
    /// How the task reached us.
    pub task_source: &'static str,
    /// The policy's data, for what a task takes from its intent.
    pub data: &'a Data,
    /// Exceptions that are used up.
    pub spent: Vec<Arc<str>>,
}

/// What policy is asked about a proven call.
pub fn input(facts: Facts<'_>, call: &ValidCall, content: Content, admitted: &Admitted) -> Input {
    let mut asked = assemble(facts, call.tool(), Phase::Call, content);
    asked.call.arguments = call.call().arguments.clone();
    asked.call.input_responses = call.call().input_responses.clone();
    asked.limits = admitted.remaining.iter().map(limit).collect();
    asked
}

/// What policy is asked when a list is to show a tool: any arguments.
pub fn listing(facts: Facts<'_>, tool: &Tool) -> Input {
    assemble(facts, tool, Phase::List, classify::of(tool))
}

fn assemble(facts: Facts<'_>, tool: &Tool, phase: Phase, content: Content) -> Input {
    let task = facts.task;
    Input {
        agent: facts.agent.clone(),
        subject: SubjectFacts {
            id: task.map_or_else(|| "".into(), |task| Arc::clone(&task.subject)),
        },
        actors: task.map_or_else(nobody, |task| task.chain.clone()),
        task: task.map_or_else(TaskFacts::none, |task| terms(&facts, task, tool)),
        tool: tool.facts.clone(),
        content,
        limits: Vec::new(),
        phase,
        call: facts.call,
        spent: facts.spent,
    }
}

thread_local! {
    static NOBODY: Ready<Vec<ActorFacts>> = Ready::new(Vec::new());
}

fn nobody() -> Ready<Vec<ActorFacts>> {
    NOBODY.with(Clone::clone)
}

/// A task's terms; what it leaves open is its intent's, and an intent that says nothing of the
/// level is `public`. It reaches no further than the tasks it was derived from.
fn terms(facts: &Facts<'_>, task: &Task, tool: &Tool) -> TaskFacts {
    let data = facts.data;
    let tools = task.scope.as_ref().or_else(|| data.scope(&task.intent));
    TaskFacts {
        id: Arc::clone(&task.id),
        source: facts.task_source,
        intent: Arc::clone(&task.intent),
        tools: tools.cloned().unwrap_or_else(|| TaskFacts::none().tools),
        max_classification: task
            .ancestors()
            .map(|above| level(data, above).min(declared(data, above)))
            .fold(level(data, task), Level::min),
        budget: Budget {
            calls: task.budget.unwrap_or(u64::MAX),
            used: task.used(),
        },
        expires: Some(task.over.clone()),
        state: state(task.state(facts.now)),
        confidence: task.life().confidence().get(),
        parent: task.parent.clone(),
        high_water: task.high_water(),
        within: task.ancestors().all(|above| reaches(data, above, tool)),
    }
}

/// The level of a task, its intent's where it names none.
fn level(data: &Data, task: &Task) -> Level {
    let own = task.max_classification;
    own.unwrap_or_else(|| declared(data, task))
}

fn declared(data: &Data, task: &Task) -> Level {
    let intent = data.intent(&task.intent);
    intent.map_or(Level::Public, outrider_policy::data::Intent::level)
}

/// Whether a task and its intent both cover the tool.
fn reaches(data: &Data, task: &Task, tool: &Tool) -> bool {
    let (id, kind) = (tool.facts.id.as_str(), tool.facts.kind);
    let declared = data.scope(&task.intent);
    let own = task.scope.as_ref().or(declared);
    [own, declared]
        .into_iter()
        .all(|scope| scope.is_some_and(|scope| scope.cover(id, kind)))
}

fn state(state: State) -> TaskState {
    match state {
        State::Active => TaskState::Active,
        State::Suspended => TaskState::Suspended,
        State::Expired => TaskState::Expired,
        State::Closed => TaskState::Closed,
        State::Revoked => TaskState::Revoked,
    }
}

fn limit(left: &Remaining) -> LimitFacts {
    LimitFacts {
        name: left.name.clone(),
        remaining: left.remaining.into(),
        reset_s: left.reset_s,
    }
}

/// Turns policy's answer into the ruling.
pub fn settle(decision: Decision) -> Ruling {
    let refusal = match &decision.verdict {
        Verdict::Allow => None,
        Verdict::Hold(_) => Some(Rejection::ApprovalRequired(public(&decision))),
        Verdict::Deny(refusal) => Some(Rejection::denied(*refusal, public(&decision))),
    };
    Ruling::judged(decision, refusal)
}

/// What the rules let the agent read.
fn public(decision: &Decision) -> Vec<Arc<str>> {
    decision
        .reasons
        .iter()
        .filter_map(|reason| reason.public.clone())
        .collect()
}

/// Spends what an allowed call spends, once, just before it is recorded, and keeps that.
///
/// # Errors
/// The budget or the exception was used up meanwhile, or that cannot be kept.
pub fn spend(
    decision: &Decision,
    task: Option<&Task>,
    uses: &Uses,
    store: &Store,
    level: Option<Level>,
) -> Result<(), Rejection> {
    if task.is_some_and(Task::exhausted) {
        return Err(Rejection::BudgetExhausted);
    }
    if let Some(exception) = &decision.exception
        && let Some(most) = exception.max_uses
    {
        let count = uses.spend(&exception.id, most);
        let count = count.ok_or_else(|| Rejection::PolicyDenied(Vec::new()))?;
        store
            .used(&exception.id, count)
            .map_err(|error| not_kept(&error))?;
    }
    if let Some(task) = task {
        task.spend().map_err(|_| Rejection::BudgetExhausted)?;
        let raised = level.is_some_and(|level| task.raise_high_water(level));
        store
            .spent(task, raised)
            .map_err(|error| not_kept(&error))?;
    }
    Ok(())
}

fn not_kept(error: &NotKept) -> Rejection {
    tracing::error!(%error, "what a call spends cannot be kept: it is refused");
    Rejection::DependencyUnavailable
}

/// How often exceptions were used; counted where they permit and nowhere else.
#[derive(Debug, Default)]
pub struct Uses(Mutex<HashMap<Arc<str>, Use>>);

#[derive(Debug, Default)]
struct Use {
    used: u64,
    most: Option<u64>,
}

impl Uses {
    /// Takes one use of at most `most`; how many were taken then.
    fn spend(&self, id: &Arc<str>, most: u64) -> Option<u64> {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = uses.entry(Arc::clone(id)).or_default();
        count.most = Some(most);
        if count.used >= most {
            return None;
        }
        count.used += 1;
        Some(count.used)
    }

    /// How often it was used, as far as is known here.
    pub fn used(&self, id: &Arc<str>) -> u64 {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.get(id).map_or(0, |count| count.used)
    }

    /// Learns that at least so many of at most `most` uses are spent: others spend of them too.
    pub fn spent_elsewhere(&self, id: &Arc<str>, spent: u64, most: u64) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = uses.entry(Arc::clone(id)).or_default();
        count.most = Some(most);
        count.used = count.used.max(spent);
    }

    /// Forgets how often exceptions may be used, not how often they were: other data is in force.
    pub fn relearn(&self) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.values_mut().for_each(|count| count.most = None);
    }

    /// How often each was used, for a successor.
    pub fn leave(&self) -> Vec<(Arc<str>, u64)> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |(id, count): (&Arc<str>, &Use)| (Arc::clone(id), count.used);
        uses.iter().map(left).collect()
    }

    /// Goes on counting where a predecessor stopped.
    pub fn inherit(&self, left: Vec<(Arc<str>, u64)>) {
        let mut uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        uses.extend(
            left.into_iter()
                .map(|(id, used)| (id, Use { used, most: None })),
        );
    }

    /// The exceptions of which nothing is left.
    pub fn spent(&self) -> Vec<Arc<str>> {
        let uses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |(id, count): (&Arc<str>, &Use)| {
            count
                .most
                .is_some_and(|most| count.used >= most)
                .then(|| Arc::clone(id))
        };
        uses.iter().filter_map(gone).collect()
    }
}
