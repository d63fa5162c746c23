//! `outrider inject`: a manifest with the sidecar beside its agents.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde_json::json;

use crate::kubernetes::{
    manifest::{Done, Object, Task, change},
    settings::Settings,
};

/// Add the sidecar to Kubernetes manifests
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Takes any list of manifests: what has a pod (Pod, Deployment, StatefulSet, DaemonSet, ReplicaSet, \
Job, CronJob, PodTemplate, List) gets the sidecar as its first init container with `restartPolicy: Always`; everything \
else goes out as it came in. Doing it again changes nothing. Annotations `outrider.dev/…` of a pod say otherwise for it \
(docs/kubernetes.md); the label `outrider.dev/inject: disabled` leaves it alone.\n\n  \
outrider inject -f agent.yaml | kubectl apply -f -\n\n\
Exit status: 0 done, 1 a pod cannot have the sidecar, 2 a manifest cannot be read."
)]
pub struct Args {
    /// Manifests, YAML or JSON; `-` is standard input
    #[arg(short, long, value_name = "FILE", required = true, num_args = 1..)]
    file: Vec<PathBuf>,
    /// Take the sidecar out instead
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    settings: Settings,
    /// Print one object: the manifest and what was done to what
    #[arg(long)]
    json: bool,
}

/// Writes the manifest to standard output.
///
/// # Errors
/// A file that cannot be read, or is no manifest.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let task = if args.remove {
        Task::Remove
    } else {
        Task::Inject(&args.settings)
    };
    let mut all = Done::default();
    for file in &args.file {
        let text = read(file)?;
        let named = |failed| anyhow::anyhow!("{}: {failed}", shown(file));
        let done = match change(&text, task) {
            Ok(done) => done,
            Err(failed @ crate::kubernetes::manifest::Failed::Refused { .. }) => {
                eprintln!("error: {}", named(failed));
                return Ok(ExitCode::from(1));
            }
            Err(failed) => return Err(named(failed)),
        };
        if !all.text.is_empty() && !done.text.starts_with("---") {
            all.text.push_str("---\n");
        }
        all.text.push_str(&done.text);
        if !all.text.ends_with('\n') {
            all.text.push('\n');
        }
        all.objects.extend(done.objects);
    }
    if args.json {
        println!("{}", report(&all));
        return Ok(ExitCode::SUCCESS);
    }
    // Whoever reads it may stop: that is no error of ours.
    match io::stdout().write_all(all.text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    all.objects
        .iter()
        .for_each(|object| tell(object, args.remove));
    if all.objects.is_empty() {
        eprintln!("nothing in it has a pod: it goes out as it came in");
    }
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin()
            .read_to_string(&mut text)
            .context("standard input")?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") {
        "standard input".into()
    } else {
        file.display().to_string()
    }
}

fn tell(object: &Object, remove: bool) {
    let what = match (object.changed, object.disabled, remove) {
        (_, true, _) => "left alone, it is labelled so",
        (true, _, false) => "the sidecar is in it",
        (true, _, true) => "the sidecar is out of it",
        (false, _, false) => "nothing to change",
        (false, _, true) => "there was no sidecar",
    };
    eprintln!("{}: {what}", object.name);
    for warning in &object.warnings {
        eprintln!("  warning: {warning}");
    }
}

fn report(done: &Done) -> serde_json::Value {
    let objects = done.objects.iter().map(|object| {
        json!({
            "name": object.name,
            "changed": object.changed,
            "disabled": object.disabled,
            "warnings": object.warnings,
        })
    });
    json!({ "manifest": done.text, "objects": objects.collect::<Vec<_>>() })
}
