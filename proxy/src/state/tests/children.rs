//! Properties: whatever a child claims, and whenever, it never has more than its parent.

use outrider_policy::{Level, ServiceKind};
use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;

const TOOLS: [&str; 5] = ["a/x", "a/y", "b/x", "b/xy", "c/z"];
const PATTERNS: [&str; 10] = [
    "a/*", "a/x", "b/*", "*/x", "b/x*", "*/*", "c/z", "a/y", "b/*y", "c/*",
];
const LEVELS: [Level; 4] = [
    Level::Public,
    Level::Internal,
    Level::Confidential,
    Level::Restricted,
];

#[derive(Debug, Clone)]
struct Claim {
    tools: Option<Vec<&'static str>>,
    level: Option<Level>,
    budget: Option<u64>,
    ttl: u64,
}

fn claim() -> impl Strategy<Value = Claim> {
    let tools = option::of(vec(select(&PATTERNS[..]), 1..4));
    let level = option::of(select(&LEVELS[..]));
    (tools, level, option::of(0u64..8), 1u64..100).prop_map(|(tools, level, budget, ttl)| Claim {
        tools,
        level,
        budget,
        ttl,
    })
}

fn pattern(text: &str) -> Pattern {
    Pattern::try_from(text.to_owned()).unwrap()
}

fn open_as(claim: &Claim, parent: Option<Arc<Task>>) -> Open {
    Open {
        tools: claim
            .tools
            .as_ref()
            .map(|tools| tools.iter().map(|one| pattern(one)).collect()),
        max_classification: claim.level,
        budget: claim.budget,
        ttl: Duration::from_secs(claim.ttl),
        parent,
        ..open()
    }
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that is asked for")]
fn reach(_: &str) -> Option<Reach> {
    Some(Reach {
        tools: ["a/*", "b/*"].map(pattern).into_iter().collect(),
        level: Level::Confidential,
    })
}

/// What a task reaches by its own terms and its intent.
fn covers(task: &Task, tool: &str) -> bool {
    let declared = reach(&task.intent).unwrap().tools;
    let own = task.scope.as_deref().unwrap_or(&declared);
    own.cover(tool, ServiceKind::Tool)
}

fn level(task: &Task) -> Level {
    let declared = reach(&task.intent).unwrap().level;
    task.max_classification.unwrap_or(declared).min(declared)
}

proptest! {
    #[test]
    fn what_is_not_called_wider_is_not(parent in claim(), child in claim()) {
        let authority = authority();
        let parent = authority.open(open_as(&parent, None), at(0)).unwrap().task;
        let wanted = open_as(&child, Some(Arc::clone(&parent)));
        let claims = Claims {
            subject: &wanted.subject,
            tools: wanted.tools.as_deref(),
            max_classification: wanted.max_classification,
            budget: wanted.budget,
            expires: Some(at(i64::try_from(child.ttl).unwrap())),
        };
        if widened(claims, &parent, reach).is_ok() {
            // Named tools lie within the parent's, whatever the catalogue has.
            for tool in TOOLS {
                let named = wanted.tools.iter().flatten();
                let named = named.clone().any(|one| one.matches(tool, ServiceKind::Tool));
                prop_assert!(!named || covers(&parent, tool), "{tool}");
            }
            prop_assert!(wanted.max_classification.is_none_or(|most| most <= level(&parent)));
        }
    }

    #[test]
    fn a_child_never_outlives_or_outspends_its_parent(
        parent in claim(),
        child in claim(),
        moves in vec((0u8..6, 0i64..120), 1..40),
    ) {
        let authority = authority();
        let parent = authority.open(open_as(&parent, None), at(0)).unwrap().task;
        let child = authority.open(open_as(&child, Some(Arc::clone(&parent))), at(0));
        let child = child.unwrap().task;
        prop_assert!(child.expires <= parent.expires);
        let (mut calls, mut below) = (0, 0);
        for (step, now) in moves {
            let edict = |edict: fn(TaskKey) -> Edict, task: &Task| Decree {
                edict: edict(task.terms().task()),
                by: "uid:0".into(),
                why: None,
                at: at(now),
            };
            match step {
                0 => calls += u64::from(parent.spend().is_ok()),
                1 | 2 => {
                    let passed = u64::from(child.spend().is_ok());
                    calls += passed;
                    below += passed;
                }
                3 => drop(authority.carry_out(&edict(|task| Edict::Suspend { task }, &parent))),
                4 => drop(authority.carry_out(&edict(|task| Edict::Resume { task }, &parent))),
                _ => drop(authority.carry_out(&edict(|task| Edict::Close { task }, &parent))),
            }
            prop_assert!(parent.budget.is_none_or(|budget| calls <= budget));
            prop_assert!(child.budget.is_none_or(|budget| below <= budget));
            if parent.state(at(now)) != State::Active {
                prop_assert!(child.state(at(now)) != State::Active);
            }
        }
        prop_assert_eq!(parent.used(), calls);
    }
}
