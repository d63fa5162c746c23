//! The command line: what it accepts, what it says, how it exits.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use outrider_integration::{Setup, new_ed25519_pem};
use serde_json::{Value, json};

use crate::support::{OUTRIDER, echo};

fn setup() -> Setup {
    Setup::new(OUTRIDER, &echo())
}

#[test]
fn a_good_configuration_passes_the_check() {
    let setup = setup();
    setup.write();
    let run = setup.run(&["check", "-c", "outrider.yaml"]);
    assert_eq!(run.status, 0, "{run:?}");
}

type Mistake = (fn(&mut Setup), &'static str);

/// Each wrong configuration, and a word that the message must have.
fn mistakes() -> Vec<Mistake> {
    vec![
        (|s| s.config["zz9"] = json!(1), "zz9"),
        (
            |s| s.config["services"][0]["timout"] = json!("1s"),
            "timout",
        ),
        (
            |s| s.config["services"][0]["name"] = json!("No Name"),
            "lower-case",
        ),
        (
            |s| s.config["listeners"][0]["mode"] = json!("stdio"),
            "outrider stdio",
        ),
        (
            |s| s.config["policy"]["shadow_until"] = json!("2026-12-01T00:00:00Z"),
            "not built yet",
        ),
        (
            |s| s.config["limits"] = json!([{"name": "x", "key": ["agent"], "rate": "often"}]),
            "rate",
        ),
        (|s| s.data["grants"][0]["zz9"] = json!(1), "zz9"),
        (
            |s| s.file("policy/bad.rego", "package outrider.authz\n\nallow if {\n"),
            "bad.rego",
        ),
        (
            |s| {
                s.file(
                    "policy/loop.rego",
                    "package outrider.authz\n\nx if y\n\ny if x\n",
                );
            },
            "loop.rego",
        ),
        (
            |s| {
                s.config["environment"] = json!("production");
                s.config["isolation"] = json!("container");
                s.config["services"][0]["upstream"] = json!("http://tools.example.org/mcp");
                s.config["services"][0]["credentials"] =
                    json!({"header": "authorization", "value": "Bearer x"});
            },
            "in the clear",
        ),
        (
            |s| {
                s.config["assertion"] = json!({"key": "key.pem"});
                s.config["decision_log"]["key"] = json!("key.pem");
            },
            "a key of its own",
        ),
        (
            |s| s.config["environment"] = json!("production"),
            "isolation",
        ),
    ]
}

#[test]
fn a_wrong_configuration_is_named_and_nothing_is_bound() {
    for (mistake, word) in mistakes() {
        let mut setup = setup();
        mistake(&mut setup);
        setup.write();
        let check = setup.run(&["check", "-c", "outrider.yaml"]);
        let said = format!("{}{}", check.stdout, check.stderr);
        assert_eq!(check.status, 1, "{word}: {check:?}");
        assert!(said.contains(word), "{word}: {said}");
        let run = setup.run(&["run", "-c", "outrider.yaml"]);
        assert_eq!(run.status, 2, "{word}: {run:?}");
        assert!(!setup.path("control.sock").exists(), "{word}");
        assert!(!setup.path("decisions.jsonl").exists(), "{word}");
    }
}

#[test]
fn a_mistake_is_told_with_file_line_and_column() {
    let setup = setup();
    setup.write();
    let config = fs::read_to_string(setup.path("outrider.yaml")).unwrap();
    let wrong = config.replacen("\"upstream\"", "\"upsteam\"", 1);
    setup.file("outrider.yaml", &wrong);
    let at = wrong.find("upsteam").unwrap();
    let line = wrong[..at].matches('\n').count() + 1;
    let check = setup.run(&["check", "-c", "outrider.yaml"]);
    let said = format!("{}{}", check.stdout, check.stderr);
    assert!(
        said.contains(&format!("outrider.yaml:{line}:")),
        "line {line}: {said}"
    );
}

#[test]
fn all_problems_are_reported_at_once() {
    let mut setup = setup();
    setup.data["agents"][0]["owner"] = json!("");
    setup.file("tools.json", "{\"outrider_lock\": 2}");
    setup.file("policy/bad.rego", "package outrider.authz\n\nallow if {\n");
    setup.write();
    let check = setup.run(&["check", "-c", "outrider.yaml"]);
    let said = format!("{}{}", check.stdout, check.stderr);
    for word in ["tools.json", "bad.rego"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(check.status, 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_wrong_use() {
    let setup = setup().config(|config| config["services"][0]["schemas"] = json!("absent.json"));
    setup.write();
    for command in ["check", "run"] {
        let run = setup.run(&[command, "-c", "outrider.yaml"]);
        assert_eq!(run.status, 2, "{run:?}");
        let said = format!("{}{}", run.stdout, run.stderr);
        assert!(said.contains("absent.json"), "{run:?}");
    }
    let check = setup.run(&["check", "-c", "nowhere.yaml"]);
    assert_eq!(check.status, 2, "{check:?}");
    let said = format!("{}{}", check.stdout, check.stderr);
    assert!(said.contains("nowhere.yaml"), "{check:?}");
}

#[test]
fn a_changed_schema_is_noticed_by_its_digest() {
    let setup = setup();
    setup.write();
    let lock = fs::read_to_string(setup.path("tools.json")).unwrap();
    setup.file(
        "tools.json",
        &lock.replace("\"type\":\"string\"", "\"type\":\"number\""),
    );
    let check = setup.run(&["check", "-c", "outrider.yaml"]);
    let said = format!("{}{}", check.stdout, check.stderr);
    assert_eq!(check.status, 1, "{check:?}");
    assert!(said.contains("digest"), "{said}");
}

/// The commands that `--help` of a command lists; of `outrider` itself when it is named by none.
fn listed(under: &[&str]) -> BTreeSet<String> {
    let run = Setup::bare(OUTRIDER).run(&[under, &["--help"]].concat());
    let commands = run.stdout.lines().skip_while(|line| *line != "Commands:");
    let names = commands
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_owned));
    names.collect()
}

/// Whether this build has the command; says so when it has not, and checks that it is not half
/// there.
fn is_built(command: &[&str]) -> bool {
    let missing = (1..=command.len()).find(|&end| {
        let (name, under) = command[..end].split_last().unwrap();
        !listed(under).contains(*name)
    });
    let Some(missing) = missing else { return true };
    let run = Setup::bare(OUTRIDER).run(command);
    assert_eq!(run.status, 2, "not listed and yet there: {run:?}");
    eprintln!(
        "skipped: this build has no `outrider {}`",
        command[..missing].join(" ")
    );
    false
}

#[test]
fn a_starter_directory_passes_its_own_check() {
    if !is_built(&["init"]) {
        return;
    }
    let setup = Setup::bare(OUTRIDER);
    let starter = setup.path("starter");
    let init = || setup.run(&["init", "starter"]);
    let made = init();
    assert_eq!(made.status, 0, "{made:?}");
    let check = setup.run_in(&starter, &["check"]);
    assert_eq!(check.status, 0, "{check:?}");
    let config = starter.join("outrider.yaml");
    fs::write(&config, "mine").unwrap();
    init();
    assert_eq!(fs::read_to_string(&config).unwrap(), "mine");
}

/// What is not built is neither listed nor served.
#[test]
fn a_command_that_is_not_built_is_absent_from_the_help() {
    let commands = listed(&[]);
    for built in [
        "run", "check", "console", "task", "revoke", "doctor", "exec", "inject", "keys", "log",
        "net", "stdio", "top", "webhook",
    ] {
        assert!(commands.contains(built), "{built}: {commands:?}");
    }
    for absent in ["schema", "policy", "approvals"] {
        assert!(!commands.contains(absent), "{absent}: {commands:?}");
        let run = Setup::bare(OUTRIDER).run(&[absent, "config"]);
        assert_eq!((run.status, run.stdout.as_str()), (2, ""), "{run:?}");
    }
}

#[test]
fn wrong_use_exits_2() {
    let setup = Setup::bare(OUTRIDER);
    for arguments in [
        &["no-such-command"][..],
        &["run", "--no-such-option"],
        &["task", "open"],
    ] {
        assert_eq!(setup.run(arguments).status, 2, "{arguments:?}");
    }
    assert_eq!(setup.run(&["--help"]).status, 0);
    assert_eq!(setup.run(&["--version"]).status, 0);
}

#[test]
fn the_public_keys_are_the_same_on_both_ways() {
    let setup = setup().config(|config| config["assertion"] = json!({"key": "key.pem"}));
    setup.file("key.pem", &new_ed25519_pem());
    let mut sidecar = setup.start();
    let run = sidecar
        .setup()
        .run(&["keys", "jwks", "-c", "outrider.yaml"]);
    let printed: Value =
        serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e} {run:?}"));
    assert_eq!(printed, sidecar.get("/.well-known/jwks.json").json());
}

#[test]
fn a_lock_file_is_made_from_a_running_server() {
    if !is_built(&["schemas", "lock"]) {
        return;
    }
    let server = echo();
    let setup = Setup::bare(OUTRIDER);
    let run = setup.run(&["schemas", "lock", "--from", &server.url()]);
    assert_eq!(run.status, 0, "{run:?}");
    let lock: Value = serde_json::from_str(&run.stdout).unwrap_or_else(|e| panic!("{e} {run:?}"));
    let expected = outrider_integration::digest(&server.definitions()["echo"]);
    assert_eq!(lock["tools"]["echo"]["digest"], json!(expected), "{lock}");
}

#[test]
fn the_demo_shows_calls_that_pass_and_calls_that_do_not() {
    if !is_built(&["demo"]) {
        return;
    }
    let setup = Setup::bare(OUTRIDER);
    let run = setup.run(&["demo", "--json"]);
    assert_eq!(run.status, 0, "{run:?}");
    let lines: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (last, calls) = lines.split_last().expect("lines");
    let codes: BTreeSet<_> = calls
        .iter()
        .map(|call| call["code"].as_str().unwrap())
        .collect();
    assert!(codes.contains("ok") && codes.len() > 2, "{codes:?}");
    assert!(
        calls
            .iter()
            .all(|call| call["decision_id"].is_string() && call["added_us"].is_number())
    );
    assert!(
        last.get("record").is_some() && last.get("metrics").is_some(),
        "{last}"
    );
}

fn configurations(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            configurations(&path, found);
        } else if path.file_name().is_some_and(|name| name == "outrider.yaml") {
            found.push(path);
        }
    }
}

#[test]
fn every_example_passes_the_check() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    for folder in ["examples", "deploy/systemd"] {
        let before = found.len();
        configurations(&root.join(folder), &mut found);
        assert!(found.len() > before, "no example in {folder}");
    }
    for example in found {
        let check = Setup::bare(OUTRIDER).run(&["check", "-c", example.to_str().unwrap()]);
        assert_eq!(check.status, 0, "{}: {check:?}", example.display());
    }
}

/// The configuration of injected sidecars is one for production, which the injector's declaration makes good.
#[test]
fn the_example_for_kubernetes_passes_where_the_injector_declares_the_container() {
    let example =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubernetes/example/outrider.yaml");
    let mut setup = Setup::bare(OUTRIDER);
    let words = ["check", "-c", example.to_str().unwrap()];
    let undeclared = setup.run(&words);
    assert_eq!(undeclared.status, 1, "{undeclared:?}");
    assert!(undeclared.stdout.contains("isolation"), "{undeclared:?}");
    setup.environment("OUTRIDER_ISOLATION", "container");
    let declared = setup.run(&words);
    assert_eq!(declared.status, 0, "{declared:?}");
}
