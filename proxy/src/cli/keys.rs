//! `outrider keys`: the public keys by which upstreams verify assertions, and how one follows another.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use super::task::{At, FindSocket, human, json};
use crate::{
    control::wire::{Reply, Request},
    credentials::Signer,
    keys::{SigningKey, jwks},
};

/// Finds `assertion.key` in a configuration: the one given, else `./outrider.yaml`.
pub type FindKey = fn(&Option<PathBuf>) -> anyhow::Result<Option<PathBuf>>;

/// Show the public keys that verify assertions, and replace the one that signs
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    at: At,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Print the JWK Set of the running sidecar, or of the configured key when none runs
    Jwks {
        /// The key of `credentials.client` or `credentials.exchange` instead, for its token server
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Sign with another key from now on: a new one, or what `assertion.key` now holds
    #[command(
        after_help = "The key before stays in the JWK Set for `assertion.overlap`. Prints the new key's ID."
    )]
    Rotate {
        /// Why, for the security log
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Runs `outrider keys …`. An error means wrong use, an unreadable configuration or key, or no
/// sidecar: exit status 2.
///
/// # Errors
/// When the configuration or the key cannot be read, the sidecar cannot be asked, or the answer
/// cannot be printed.
pub fn run(args: &Args, socket: FindSocket, find: FindKey) -> anyhow::Result<ExitCode> {
    match &args.command {
        Command::Jwks { key: None } => show(&args.at, socket, find),
        Command::Jwks { key: Some(path) } => {
            let jwk = Signer::load(path, None).and_then(|signer| signer.jwk());
            let jwk = jwk.with_context(|| format!("in `{}`", path.display()))?;
            print(&format!("{{\"keys\":[{jwk}]}}\n"))
        }
        Command::Rotate { reason } => {
            let reason = reason.clone();
            let reply = match args.at.ask(socket, &Request::RotateKeys { reason })? {
                Ok(reply) => reply,
                Err(status) => return Ok(status),
            };
            let text = if args.at.json {
                json(&reply)?
            } else {
                human(&reply)
            };
            print(&text)
        }
    }
}

/// The keys of the sidecar that runs, else the one that would be used.
fn show(at: &At, socket: FindSocket, find: FindKey) -> anyhow::Result<ExitCode> {
    match at.ask(socket, &Request::Keys {}) {
        Ok(Ok(Reply::Keys(keys))) => return print(&format!("{}\n", keys.jwks)),
        Err(error) if at.names_socket() => return Err(error),
        _ => {}
    }
    let Some(path) = find(at.config())? else {
        writeln!(
            std::io::stderr(),
            "error: no `assertion.key` is configured and no sidecar answers: the key is made at each \
             start, and the running sidecar serves it at `/.well-known/jwks.json` on its admin address"
        )?;
        return Ok(ExitCode::from(1));
    };
    print(&format!("{}\n", published(&path)?))
}

fn print(text: &str) -> anyhow::Result<ExitCode> {
    let printed = std::io::stdout().write_all(text.as_bytes());
    printed.context("cannot print")?;
    Ok(ExitCode::SUCCESS)
}

fn published(path: &Path) -> anyhow::Result<String> {
    let key = SigningKey::load(path).with_context(|| format!("in `{}`", path.display()))?;
    Ok(jwks([&key]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl genpkey -algorithm ed25519` for this test and used nowhere else; its public half by `openssl pkey -pubout`.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIFZ+hmQF6GwU4ygadPGIj2d0aPFxcoKHZWYbxMWKPsVL\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "AbRgFxpgUFMtwtaB-E0MDQnXGgwzUkrrc6FqQGp46po";

    #[test]
    fn a_key_made_by_openssl_is_published_without_its_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key.pem");
        std::fs::write(&path, PEM).unwrap();
        let set: serde_json::Value = serde_json::from_str(&published(&path).unwrap()).unwrap();
        assert_eq!(set["keys"][0]["x"], PUBLIC);
        assert!(set["keys"][0].get("d").is_none());
        assert_eq!(set["keys"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn a_key_that_cannot_be_read_is_named() {
        let error = published(Path::new("/nonexistent/key.pem")).unwrap_err();
        assert!(
            format!("{error:#}").contains("/nonexistent/key.pem"),
            "{error:#}"
        );
    }
}
