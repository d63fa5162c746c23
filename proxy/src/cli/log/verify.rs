//! `outrider log verify`

use std::{
    fs::File,
    io::{BufReader, Write},
    path::Path,
};

use anyhow::Context as _;
use serde_json::json;

use super::{Finding, VerifyArgs, human::plain, unreadable};
use crate::record::{
    checkpoint::PublicKeys,
    verify::{Report, Truncation, Verification, Witness},
};

/// Verifies the files in sequence and says what is known.
pub(super) fn verify(args: &VerifyArgs, out: &mut dyn Write) -> anyhow::Result<Finding> {
    let keys = load_keys(args)?;
    let witness = args
        .head
        .as_deref()
        .map(|path| load_witness(path, &keys))
        .transpose()?;
    let mut verification = Verification::new(&keys, witness.as_ref());
    for path in &args.files {
        let file = open(path)?;
        verification
            .read(
                &path.display().to_string(),
                BufReader::with_capacity(64 * 1024, file),
            )
            .with_context(|| unreadable(path))?;
    }
    let report = verification.finish();
    if args.json {
        writeln!(out, "{}", to_json(&report))?;
    } else {
        out.write_all(to_text(&report, &keys, args).as_bytes())?;
    }
    Ok(if report.is_whole() {
        Finding::So
    } else {
        Finding::NotSo
    })
}

fn open(path: &Path) -> anyhow::Result<File> {
    let file = File::open(path).with_context(|| unreadable(path))?;
    anyhow::ensure!(
        file.metadata()?.is_file(),
        "{}: it is no file",
        unreadable(path)
    );
    Ok(file)
}

/// The keys that were given, else those beside the files.
fn load_keys(args: &VerifyArgs) -> anyhow::Result<PublicKeys> {
    if let Some(path) = &args.key {
        let text = std::fs::read_to_string(path).with_context(|| unreadable(path))?;
        return PublicKeys::parse(&text)
            .with_context(|| format!("cannot use `{}`", path.display()));
    }
    let mut keys = PublicKeys::default();
    for path in &args.files {
        let mut beside = path.clone().into_os_string();
        beside.push(".jwks");
        if let Ok(text) = std::fs::read_to_string(beside) {
            keys.extend(PublicKeys::parse(&text).unwrap_or_default());
        }
    }
    Ok(keys)
}

fn load_witness(path: &Path, keys: &PublicKeys) -> anyhow::Result<Witness> {
    let text = std::fs::read_to_string(path).with_context(|| unreadable(path))?;
    Witness::parse(&text, keys).map_err(|fault| {
        anyhow::anyhow!(
            "cannot use `{}` as head: its line {fault}; give one checkpoint line",
            path.display()
        )
    })
}

fn to_text(report: &Report, keys: &PublicKeys, args: &VerifyArgs) -> String {
    let mut text = format!(
        "verified to seq {}, signed to seq {}\n",
        report.verified_to, report.signed_to
    );
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    if let Some(bad) = &report.first_bad {
        say(format!(
            "first bad line: {}:{} {}",
            plain(&bad.file),
            bad.line,
            bad.fault
        ));
    }
    if keys.is_empty() {
        say(
            "signatures were not checked: no key was given and none is beside the log; give --key"
                .to_owned(),
        );
    } else if args.key.is_none() {
        say("keys were read from beside the log, where whoever rewrote it could have put their own; give --key".to_owned());
    }
    match report.truncation {
        Truncation::NotExcluded => {
            say("truncation could not be excluded: give --head with a checkpoint line kept elsewhere".to_owned());
        }
        Truncation::Excluded { up_to } => say(format!(
            "head found at seq {up_to}: nothing up to it was cut off"
        )),
        Truncation::HeadMissing { seq } => say(format!(
            "head missing: the checkpoint at seq {seq} is not in the log"
        )),
    }
    text
}

fn to_json(report: &Report) -> serde_json::Value {
    let first_bad = report
        .first_bad
        .as_ref()
        .map(|bad| json!({ "file": bad.file, "line": bad.line, "reason": bad.fault.to_string() }));
    let (head, excluded_to) = match report.truncation {
        Truncation::NotExcluded => (None, None),
        Truncation::Excluded { up_to } => (Some("found"), Some(up_to)),
        Truncation::HeadMissing { .. } => (Some("missing"), None),
    };
    json!({
        "ok": report.is_whole(),
        "verified_to": report.verified_to,
        "signed_to": report.signed_to,
        "first_bad": first_bad,
        "head": head,
        "truncation_excluded": excluded_to.is_some(),
        "truncation_excluded_to": excluded_to,
    })
}
