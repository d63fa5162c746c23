//! `outrider keys`: shows the public keys by which upstreams verify assertions.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;

use crate::{
    credentials::Signer,
    keys::{SigningKey, jwks},
};

/// Finds `assertion.key` in a configuration: the one given, else `./outrider.yaml`.
pub type FindKey = fn(&Option<PathBuf>) -> anyhow::Result<Option<PathBuf>>;

/// Show the public keys that verify assertions
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Print the JWK Set of the configured key
    Jwks {
        /// Configuration that names the key [default: ./outrider.yaml]
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// The key of `credentials.client` or `credentials.exchange` instead, for its token server
        #[arg(long, value_name = "FILE", conflicts_with = "config")]
        key: Option<PathBuf>,
        /// Print JSON, which a JWK Set always is
        #[arg(long)]
        json: bool,
    },
}

/// Runs `outrider keys …`. An error means an unreadable configuration or key: exit status 2.
///
/// # Errors
/// When the configuration or the key cannot be read, or the keys cannot be printed.
pub fn run(args: &Args, find: FindKey) -> anyhow::Result<ExitCode> {
    let Command::Jwks {
        config,
        key,
        json: _,
    } = &args.command;
    if let Some(path) = key {
        let jwk = Signer::load(path, None).and_then(|signer| signer.jwk());
        let jwk = jwk.with_context(|| format!("in `{}`", path.display()))?;
        writeln!(std::io::stdout(), r#"{{"keys":[{jwk}]}}"#).context("cannot print")?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(path) = find(config)? else {
        writeln!(
            std::io::stderr(),
            "error: no `assertion.key` is configured: the key is made at each start, and the \
             running sidecar serves it at `/.well-known/jwks.json` on its admin address"
        )?;
        return Ok(ExitCode::from(1));
    };
    writeln!(std::io::stdout(), "{}", published(&path)?).context("cannot print")?;
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
