//! The evaluation of the policy alone, in the process that asks: Outrider's against OPA's prepared query, over the same
//! rules, the same data and the same input.

use std::{
    fs,
    hint::black_box,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;
use outrider_policy::{
    Bounds, ENTRY, Input, Level, Pattern, Policy, ServiceKind, Source, Value,
    data::Data,
    input::{
        AgentFacts, Budget, CallFacts, Content, Phase, Ready, SubjectFacts, TaskFacts, TaskState,
        ToolFacts,
    },
    library,
};
use serde_json::{Value as Json, json};

use crate::{
    compare::Common,
    goals::{self, Goal},
    message, peers,
    sample::Spread,
    shape::{AGENT, SERVICE, Shape},
};

/// How long to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    common: Common,
}

/// A policy and what it is asked.
struct Case {
    what: &'static str,
    rules: Vec<Source>,
    data: Data,
    /// OPA is told what Outrider finds out natively.
    told: bool,
}

/// A user's rule that permits what no grant does.
const ALLOW: &str = "package outrider.authz\n\n\
    allow if {\n\tinput.tool.id == \"mcp/update_ticket\"\n\tinput.task.intent == \"work\"\n}\n";

fn cases() -> Result<[Case; 3]> {
    let shape = Shape::default();
    let ruled = Shape { rules: 20, ..shape };
    let mut ungranted = shape.document();
    let own = format!("{SERVICE}/{}", message::TOOL);
    if let Some(grants) = ungranted.get_mut("grants").and_then(Json::as_array_mut) {
        grants.retain(|grant| grant.pointer("/tools/0").and_then(Json::as_str) != Some(&own));
    }
    Ok([
        Case {
            what: "usual call, library alone: found natively",
            rules: Vec::new(),
            data: shape.data()?,
            told: false,
        },
        Case {
            what: "usual call, 20 rules of the user: Rego",
            rules: ruled.rules().map(user).into_iter().collect(),
            data: shape.data()?,
            told: true,
        },
        Case {
            what: "permitted by a rule of the user: everything in Rego",
            rules: vec![user(ALLOW.to_owned())],
            data: shape.data_of(ungranted)?,
            told: true,
        },
    ])
}

fn user(text: String) -> Source {
    Source {
        name: "user.rego".to_owned(),
        text,
    }
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let common = &options.common;
    let (mut figures, mut goals) = (Vec::new(), Vec::new());
    for case in cases()? {
        let (ours, theirs) = measure(&case, common)?;
        println!("{}, µs", case.what);
        let mut show = |who: &str, times: Vec<f64>| {
            if let Some(spread) = Spread::of(times) {
                println!("  {who:<28} {spread}");
                let time = spread.json();
                figures.push(json!({"what": case.what, "who": who, "time_us": time}));
            }
        };
        show("Outrider", ours.clone());
        let Some(theirs) = theirs else {
            println!("  OPA skipped: no opa-query on the path");
            continue;
        };
        show(
            "OPA, input parsed before",
            theirs.iter().map(|t| t.parsed).collect(),
        );
        show(
            "OPA, input converted",
            theirs.iter().map(|t| t.given).collect(),
        );
        let ratios = ours
            .iter()
            .zip(&theirs)
            .map(|(ours, theirs)| theirs.parsed / ours);
        let what = format!("policy evaluation, OPA's time to ours ({})", case.what);
        goals.extend(Spread::of(ratios).map(|spread| Goal::at_least(&what, 3.0, 10.0, spread)));
    }
    goals::finish(&goals, &json!(figures), common.output.as_deref(), "policy")
}

/// Times of one evaluation in OPA, in microseconds.
struct Times {
    parsed: f64,
    given: f64,
}

type Measured = (Vec<f64>, Option<Vec<Times>>);

fn measure(case: &Case, common: &Common) -> Result<Measured> {
    let policy = Policy::compile(&case.rules, &case.data, Bounds::default())
        .map_err(|problems| anyhow!("the rules of the comparison: {problems:?}"))?;
    let input = input(&case.data)?;
    let decision = policy.decide(&input);
    ensure!(decision.allows(), "the call is allowed: {decision:?}");
    let directory = tempfile::tempdir()?;
    write(case, &policy, &input, directory.path())?;
    let query = peers::find("opa-query");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..common.rounds() {
        ours.push(time(common.time(), || policy.decide(black_box(&input))));
        if let Some(query) = &query {
            theirs.push(ask(query, directory.path(), common.time())?);
        }
    }
    Ok((ours, query.map(|_| theirs)))
}

/// The median over stretches of a hundred, in microseconds.
fn time<T>(duration: Duration, mut work: impl FnMut() -> T) -> f64 {
    const STRETCH: u32 = 100;
    let end = Instant::now() + duration;
    let mut times = Vec::new();
    while Instant::now() < end {
        let begin = Instant::now();
        for _ in 0..STRETCH {
            drop(black_box(work()));
        }
        times.push(begin.elapsed().as_secs_f64() * 1e6 / f64::from(STRETCH));
    }
    Spread::of(times).map_or(f64::NAN, |spread| spread.median)
}

/// Writes what OPA reads.
fn write(case: &Case, policy: &Policy, input: &Input, directory: &Path) -> Result<()> {
    let rules = directory.join("rules");
    fs::create_dir(&rules)?;
    for source in library().iter().chain(&case.rules) {
        fs::write(rules.join(source.name.replace('/', "-")), &source.text)?;
    }
    let json = |value: &Value| value.to_json_str().map_err(|error| anyhow!(error));
    fs::write(directory.join("data.json"), json(&case.data.value())?)?;
    let mut question: Json = serde_json::from_str(&json(&policy.question(input))?)?;
    if let Some(usual) = question
        .pointer_mut("/internal/usual")
        .filter(|_| !case.told)
    {
        *usual = json!("");
    }
    fs::write(directory.join("input.json"), question.to_string())?;
    Ok(())
}

fn ask(query: &Path, directory: &Path, duration: Duration) -> Result<Times> {
    let output = Command::new(query)
        .args(["rules", "data.json", "input.json"].map(|name| directory.join(name)))
        .args([ENTRY, &duration.as_secs_f64().to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let answer: Json = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
    let allowed = answer.pointer("/decision/allow");
    ensure!(
        allowed == Some(&json!(true)),
        "OPA allows the call: {answer}"
    );
    let of = |key: &str| {
        let ns = answer.get(key).and_then(Json::as_f64);
        ns.map(|ns| ns / 1000.0).context("a time")
    };
    Ok(Times {
        parsed: of("parsed_ns")?,
        given: of("given_ns")?,
    })
}

/// The call that is measured, as the pipeline puts it to the policy.
fn input(data: &Data) -> Result<Input> {
    let everything = Pattern::try_from("*/*".to_owned()).map_err(|error| anyhow!("{error}"))?;
    let end: jiff::Timestamp = "2100-01-01T00:00:00Z".parse()?;
    let arguments = message::arguments();
    Ok(Input {
        call: CallFacts {
            id: "01900000-0000-7000-8000-000000000000".into(),
            time: "2026-11-25T00:00:00Z".parse()?,
            protocol: "mcp",
            method: "POST".into(),
            path: "/mcp".into(),
            host: "127.0.0.1".into(),
            port: 3001,
            listener: "reverse".into(),
            arguments_bytes: arguments.to_string().len() as u64,
            arguments: Value::from(arguments),
            body_sha256: Some([7; 32]),
            input_responses: Value::new_object(),
            trace_id: Some([7; 16]),
        },
        agent: Ready::new(AgentFacts::new(AGENT, data.agent(AGENT))),
        subject: SubjectFacts { id: "uid:0".into() },
        actors: Ready::new(Vec::new()),
        task: TaskFacts {
            id: "01900000-0000-7000-8000-000000000001".into(),
            source: "token",
            intent: "work".into(),
            tools: Ready::new([everything].into_iter().collect()),
            max_classification: Level::Restricted,
            budget: Budget {
                calls: u64::MAX,
                used: 0,
            },
            expires: Some(end.into()),
            state: TaskState::Active,
            confidence: 1.0,
            parent: None,
            high_water: Level::Public,
            within: true,
        },
        tool: Ready::new(ToolFacts {
            id: format!("{SERVICE}/{}", message::TOOL),
            service: SERVICE.to_owned(),
            operation: message::TOOL.to_owned(),
            kind: ServiceKind::Tool,
            classification: Some(Level::Internal),
            destructive: true,
            open_world: true,
            ..ToolFacts::default()
        }),
        content: Content {
            classification: Level::Internal,
            labels: Value::new_array(),
            findings: Value::new_array(),
            opaque: false,
        },
        limits: Vec::new(),
        phase: Phase::Call,
        spent: Vec::new(),
    })
}
