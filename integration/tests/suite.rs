//! The JSON Schema test suite (<https://github.com/json-schema-org/JSON-Schema-Test-Suite>) through
//! the whole product: each group is a tool whose argument `value` has the group's schema, each test
//! a call over the wire, which must reach the tool server if and only if the suite calls it valid.
//!
//! Lies the suite elsewhere than in `../shared/cases/json-schema`, `JSON_SCHEMA_SUITE` says where.
//! Without it nothing is tested here, and that is said.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use outrider_integration::{Agent, Request, Setup, Tool, ToolServer, service, text_result};
use serde_json::{Value, json};

/// The binary under test.
const OUTRIDER: &str = env!("CARGO_BIN_EXE_outrider");

const D2020: &str = "https://json-schema.org/draft/2020-12/schema";
const D2019: &str = "https://json-schema.org/draft/2019-09/schema";
const D7: &str = "http://json-schema.org/draft-07/schema#";

/// Where the suite's remote schemas are said to be.
const REMOTES: &str = "http://localhost:1234/";

/// What is asked of a directory of the suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Every verdict is right, and what does not load names a remote schema of the suite.
    Everything,
    /// Every verdict is right; what does not load is told.
    Verdicts,
    /// To be told.
    Nothing,
}

/// A directory of the suite, and the dialect of the tools made of it.
#[derive(Debug, Clone, Copy)]
struct Set {
    directory: &'static str,
    /// The dialect of the groups.
    dialect: &'static str,
    /// The dialect of the tool around them.
    around: &'static str,
    asked: Asked,
}

const fn set(
    directory: &'static str,
    dialect: &'static str,
    around: &'static str,
    asked: Asked,
) -> Set {
    Set {
        directory,
        dialect,
        around,
        asked,
    }
}

static SETS: [Set; 11] = [
    set("draft2020-12", D2020, D2020, Asked::Everything),
    set("draft2020-12/optional", D2020, D2020, Asked::Nothing),
    set("draft2020-12/optional/format", D2020, D2020, Asked::Nothing),
    set("draft2019-09", D2019, D2019, Asked::Verdicts),
    set("draft2019-09", D2019, D2020, Asked::Verdicts),
    set("draft2019-09/optional", D2019, D2019, Asked::Nothing),
    set("draft2019-09/optional/format", D2019, D2019, Asked::Nothing),
    set("draft7", D7, D7, Asked::Everything),
    set("draft7", D7, D2020, Asked::Verdicts),
    set("draft7/optional", D7, D7, Asked::Nothing),
    set("draft7/optional/format", D7, D7, Asked::Nothing),
];

impl Set {
    fn title(&self) -> String {
        if self.dialect == self.around {
            self.directory.to_owned()
        } else {
            format!("{} in a 2020-12 tool", self.directory)
        }
    }
}

/// A group of tests as a tool.
struct Group {
    set: usize,
    file: String,
    description: String,
    tool: String,
    schema: Value,
    tests: Vec<Value>,
}

impl Group {
    fn set(&self) -> &'static Set {
        &SETS[self.set]
    }

    fn name(&self) -> String {
        format!("{}/{}: {}", self.set().title(), self.file, self.description)
    }
}

/// What came of a directory.
#[derive(Default)]
struct Report {
    /// Right verdicts by file.
    right: BTreeMap<String, usize>,
    wrong: Vec<String>,
    /// Instances that are refused before any schema is asked.
    malformed: Vec<String>,
    /// Groups that do not load, and why.
    unloaded: Vec<String>,
}

fn suite() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/cases/json-schema");
    let path = env::var_os("JSON_SCHEMA_SUITE").map_or_else(beside, PathBuf::from);
    if path.join("tests").is_dir() {
        return Some(path);
    }
    println!("skipped: no JSON Schema test suite at `{}`", path.display());
    None
}

/// The groups of all directories that are there; what is remote is at `remotes` instead.
fn groups(suite: &Path, remotes: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for (index, set) in SETS.iter().enumerate() {
        let Ok(files) = fs::read_dir(suite.join("tests").join(set.directory)) else {
            continue;
        };
        let mut files: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "json")
        });
        files.sort();
        for file in files {
            let text = fs::read_to_string(&file).unwrap().replace(REMOTES, remotes);
            let all: Vec<Value> = serde_json::from_str(&text).expect("a file of the suite");
            let file = file.file_stem().unwrap().to_string_lossy().into_owned();
            for group in all {
                let tool = format!("g{}", groups.len());
                groups.push(Group {
                    set: index,
                    file: file.clone(),
                    description: group["description"].as_str().unwrap().to_owned(),
                    schema: schema(set, &tool, &group["schema"]),
                    tool,
                    tests: group["tests"].as_array().unwrap().clone(),
                });
            }
        }
    }
    groups
}

/// The tool's schema: the group's, as a resource of its own so that `#` means it and not the tool.
fn schema(set: &Set, tool: &str, group: &Value) -> Value {
    let mut group = group.clone();
    if let Some(members) = group.as_object_mut() {
        // Beside a `$ref` an `$id` means nothing in draft-07.
        if set.dialect == D7
            && let Some(reference) = members.remove("$ref")
        {
            assert!(
                members.is_empty(),
                "siblings of `$ref` would mean something"
            );
            members.insert("allOf".to_owned(), json!([{"$ref": reference}]));
        }
        let own = json!(format!("https://suite.example/{tool}"));
        members.entry("$id").or_insert(own);
        members.entry("$schema").or_insert(json!(set.dialect));
    }
    let mut schema =
        json!({"type": "object", "properties": {"value": group}, "required": ["value"]});
    if set.around != D2020 {
        schema["$schema"] = json!(set.around);
    }
    schema
}

/// Locks the server as an operator does. The tools that were left out, with the reason.
fn lock(setup: &Setup, server: &ToolServer) -> BTreeMap<String, String> {
    let url = server.url();
    let run = setup.run(&[
        "schemas",
        "lock",
        "--from",
        &url,
        "--output",
        "locked.json",
        "--owner",
        "suite",
        "--json",
    ]);
    assert_eq!(run.status, 0, "{}", run.stderr);
    let notes = run.stderr.lines().filter_map(|line| {
        let note: Value = serde_json::from_str(line).unwrap();
        let why = note["text"]
            .as_str()?
            .strip_prefix("left out: ")?
            .to_owned();
        Some((note["tool"].as_str()?.to_owned(), why))
    });
    let unloaded = notes.collect();
    let text = fs::read_to_string(setup.path("locked.json")).unwrap();
    let mut locked: Value = serde_json::from_str(&text).unwrap();
    for tool in locked["tools"].as_object_mut().unwrap().values_mut() {
        tool["annotations"] = json!({
            "read_only": true, "destructive": false, "idempotent": true, "open_world": false,
        });
    }
    setup.file("tools.json", &locked.to_string());
    unloaded
}

/// Whether the reason names a schema that the suite has among its remotes.
fn names_a_remote(suite: &Path, remotes: &str, why: &str) -> bool {
    let name = ["reference `", "names `"].iter().find_map(|before| {
        let (_, rest) = why.split_once(before)?;
        rest.split('`').next()
    });
    let file = name.and_then(|name| name.strip_prefix(remotes));
    file.is_some_and(|file| suite.join("remotes").join(file).is_file())
}

/// The code of the refusal of a call; `None` if it was allowed.
fn refusal(agent: &mut Agent, id: usize, tool: &str, arguments: &Value) -> Option<String> {
    let answer = agent.send(&Request::call_with_id(&json!(id), tool, arguments));
    (!answer.is_tool_success()).then(|| answer.code())
}

/// Whether `outrider schemas validate` finds the arguments valid.
fn validates(setup: &Setup, tool: &str, arguments: &Value) -> bool {
    let mut child = Command::new(OUTRIDER)
        .args(["schemas", "validate", "-c", "outrider.yaml", "--tool"])
        .arg(format!("tools/{tool}"))
        .current_dir(setup.path(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(arguments.to_string().as_bytes()).unwrap();
    drop(stdin);
    match child.wait().unwrap().code() {
        Some(0) => true,
        Some(1) => false,
        other => panic!("schemas validate: {other:?}"),
    }
}

#[test]
fn a_call_is_allowed_if_and_only_if_the_suite_calls_its_argument_valid() {
    let Some(suite) = suite() else { return };
    let remote = ToolServer::start(Vec::new());
    let remotes = format!("http://{}/", remote.address());
    let groups = groups(&suite, &remotes);
    let tools = groups.iter().map(|group| {
        Tool::new(&group.tool, &group.schema, |exchange| {
            exchange.result(&text_result("ok"));
        })
    });
    let server = ToolServer::start(tools.collect());
    let mut setup = Setup::bare(OUTRIDER);
    let unloaded = lock(&setup, &server);
    setup.config["services"] = json!([service("tools", &server)]);
    let mut sidecar = setup.start();
    let mut agent = sidecar.agent();

    let mut judged = Judged::default();
    for group in &groups {
        match unloaded.get(&group.tool) {
            Some(why) => judged.unloaded(group, why, names_a_remote(&suite, &remotes, why)),
            None => judged.tests(&mut agent, group),
        }
    }
    judged.tell();

    let received = server.calls();
    let received: Vec<_> = received
        .iter()
        .map(|call| call.json()["id"].clone())
        .collect();
    let expected: Vec<_> = judged.reached.iter().map(|id| json!(id)).collect();
    assert_eq!(
        received, expected,
        "what reached the server is what was allowed"
    );
    assert_eq!(remote.bytes(), 0, "something was fetched");
    assert!(judged.failures.is_empty(), "{}", judged.failures.join("\n"));

    // The command judges as the sidecar does.
    for file in ["ref", "definitions", "defs"] {
        let loaded = |group: &&Group| group.file == file && !unloaded.contains_key(&group.tool);
        for group in groups.iter().filter(loaded).take(3) {
            for test in &group.tests {
                let valid = validates(sidecar.setup(), &group.tool, &arguments(test));
                assert_eq!(valid, test["valid"] == true, "{}: {test}", group.name());
            }
        }
    }
}

fn arguments(test: &Value) -> Value {
    json!({"value": test["data"]})
}

/// What came of it all.
#[derive(Default)]
struct Judged {
    /// By number of the set.
    reports: BTreeMap<usize, Report>,
    /// What must not be.
    failures: Vec<String>,
    calls: usize,
    /// The IDs of the calls that were allowed.
    reached: BTreeSet<usize>,
}

impl Judged {
    fn unloaded(&mut self, group: &Group, why: &str, is_remote: bool) {
        let line = format!("{}: {why}", group.name());
        if group.set().asked == Asked::Everything && !is_remote {
            self.failures.push(line.clone());
        }
        self.reports
            .entry(group.set)
            .or_default()
            .unloaded
            .push(line);
    }

    fn tests(&mut self, agent: &mut Agent, group: &Group) {
        for test in &group.tests {
            self.calls += 1;
            let code = refusal(agent, self.calls, &group.tool, &arguments(test));
            if code.is_none() {
                self.reached.insert(self.calls);
            }
            self.verdict(group, test, code.as_deref());
        }
    }

    fn verdict(&mut self, group: &Group, test: &Value, code: Option<&str>) {
        let report = self.reports.entry(group.set).or_default();
        let what = format!(
            "{}: {}",
            group.name(),
            test["description"].as_str().unwrap()
        );
        match code {
            None | Some("schema_violation") => {}
            Some("call_malformed") => report.malformed.push(what.clone()),
            Some(other) => panic!("{what}: refused as {other}"),
        }
        if code.is_none() == (test["valid"] == true) {
            *report.right.entry(group.file.clone()).or_default() += 1;
            return;
        }
        let what = format!("{what}: should be {}", test["valid"]);
        if group.set().asked != Asked::Nothing {
            self.failures.push(what.clone());
        }
        report.wrong.push(what);
    }

    fn tell(&self) {
        for (index, set) in SETS.iter().enumerate() {
            match self.reports.get(&index) {
                Some(report) => report.tell(set),
                None => println!("{}: not there", set.title()),
            }
        }
        println!("{} calls", self.calls);
    }
}

impl Report {
    fn tell(&self, set: &Set) {
        let right: usize = self.right.values().sum();
        let (wrong, unloaded) = (self.wrong.len(), self.unloaded.len());
        println!(
            "{}: {right} right, {wrong} not, {unloaded} groups refused at load",
            set.title()
        );
        for (file, right) in &self.right {
            println!("  {file}: {right}");
        }
        for (what, lines) in [
            ("groups refused at load", &self.unloaded),
            ("instances refused as malformed", &self.malformed),
            ("not as the suite has it", &self.wrong),
        ] {
            println!("  {what}: {}", lines.len());
            for line in lines {
                println!("    {line}");
            }
        }
    }
}
