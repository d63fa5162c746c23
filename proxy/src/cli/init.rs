//! `outrider init`: writes a directory to start from, the files of `examples/quickstart`.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};

/// The configuration of the starter directory.
pub(super) const CONFIG: &str = "outrider.yaml";

/// The lock file of the tools that the starter directory is written for.
pub(super) const TOOLS: &str = include_str!("../../../examples/quickstart/schemas/tools.json");

/// The starter directory: path and text of each file.
const FILES: [(&str, &str); 7] = [
    (
        CONFIG,
        include_str!("../../../examples/quickstart/outrider.yaml"),
    ),
    (
        "data/grants.yaml",
        include_str!("../../../examples/quickstart/data/grants.yaml"),
    ),
    (
        "policy/rules.rego",
        include_str!("../../../examples/quickstart/policy/rules.rego"),
    ),
    ("schemas/tools.json", TOOLS),
    (
        "schemas/customers.yaml",
        include_str!("../../../examples/quickstart/schemas/customers.yaml"),
    ),
    (
        "README.md",
        include_str!("../../../examples/quickstart/README.md"),
    ),
    (
        ".gitignore",
        include_str!("../../../examples/quickstart/.gitignore"),
    ),
];

/// Write a starter directory
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to; no file in it is overwritten
    #[arg(value_name = "DIR", default_value = "outrider")]
    directory: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs `outrider init`. An error means that nothing, or not everything, was written: exit
/// status 2.
///
/// # Errors
/// When a file is there already or cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let written = write(&args.directory)?;
    let text = if args.json {
        format!("{}\n", serde_json::json!({ "written": written }))
    } else {
        report(&args.directory, &written)
    };
    io::stdout()
        .write_all(text.as_bytes())
        .context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

/// Writes the starter directory and gives the paths of its files.
///
/// # Errors
/// When a file is there already, before any is written; or when one cannot be written.
pub(super) fn write(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let paths: Vec<PathBuf> = FILES.iter().map(|(name, _)| directory.join(name)).collect();
    if let Some(taken) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        bail!(
            "`{}` is there already: name another directory, or move it away",
            taken.display()
        );
    }
    for (path, (_, text)) in paths.iter().zip(FILES) {
        create(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    Ok(paths)
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)?
        .write_all(text.as_bytes())
}

fn report(directory: &Path, written: &[PathBuf]) -> String {
    let written: Vec<String> = written
        .iter()
        .map(|path| format!("wrote {}", path.display()))
        .collect();
    let (written, config) = (written.join("\n"), directory.join(CONFIG));
    let config = config.display();
    format!(
        "{written}\n\nnext\n  \
         outrider check -c {config}\n  \
         outrider run -c {config}\n  \
         outrider task open -c {config} --intent ticket.triage\n\
         then name your own server: `upstream` and `schemas` in {config}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Compiler};

    /// Loads and compiles a configuration; panics with every problem.
    fn sound(file: &Path) {
        let loaded = config::load(file).unwrap_or_else(|failure| panic!("{failure:?}"));
        if let Err(problems) = loaded.build(&Compiler::Here, None) {
            panic!("{problems:?}");
        }
    }

    #[test]
    fn the_starter_directory_is_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let written = write(&directory.path().join("new")).unwrap();
        assert_eq!(written.len(), FILES.len());
        sound(&written[0]);
    }

    #[test]
    fn the_target_for_attack_suites_is_in_order() {
        sound(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/attacks/outrider.yaml"));
    }

    #[test]
    fn the_files_of_each_team_are_in_order_together() {
        let teams = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/teams");
        sound(&teams.join("platform/outrider.yaml"));
        let token = |name: &str| (name == "OUTRIDER_PUSH_TOKEN").then(|| "0123456789abcdef".into());
        let receiver = crate::receiver::config::load(&teams.join("iam/receiver.yaml"), token);
        assert!(receiver.is_ok(), "{:?}", receiver.err());
    }

    #[test]
    fn nothing_is_written_when_one_file_is_there_already() {
        let directory = tempfile::tempdir().unwrap();
        let mine = directory.path().join("README.md");
        fs::write(&mine, "mine").unwrap();
        let error = write(directory.path()).unwrap_err().to_string();
        assert!(error.contains("README.md"), "{error}");
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dangling_link_is_not_written_through() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        let new = directory.path().join("new");
        fs::create_dir(&new).unwrap();
        std::os::unix::fs::symlink(&elsewhere, new.join(CONFIG)).unwrap();
        write(&new).unwrap_err();
        assert!(!elsewhere.exists());
    }

    #[test]
    fn the_next_steps_name_the_new_configuration() {
        let text = report(Path::new("here"), &[PathBuf::from("here/outrider.yaml")]);
        assert!(text.starts_with("wrote here/outrider.yaml\n"), "{text}");
        assert!(
            text.contains("outrider run -c here/outrider.yaml\n"),
            "{text}"
        );
    }
}
