//! The sidecar's own secrets for an upstream, put into a request after the decision.
//!
//! The agent never sees them: they are read here, live in memory that is wiped, and leave only
//! towards the service they were configured for.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use crate::headers::{is_ours, loosely};

/// No header value is near this long; a wrong path must not read a disk into memory.
const LARGEST_SECRET: u64 = 64 * 1024;

/// `services[].credentials`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The header that carries the secret.
    pub header: Name,
    /// Its value, with `${file:/path}` and `${env:NAME}` filled in when it is loaded.
    pub value: Template,
}

/// A header into which a credential may be put.
#[derive(Clone, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Name(HeaderName);

/// The header may not carry a credential.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "expected a header that is neither `outrider-…`, `host`, `content-length` nor hop-by-hop, \
     such as `authorization`"
)]
pub struct BadHeader;

impl TryFrom<String> for Name {
    type Error = BadHeader;

    fn try_from(name: String) -> Result<Self, BadHeader> {
        const TAKEN: [HeaderName; 9] = [
            header::HOST,
            header::CONTENT_LENGTH,
            header::CONTENT_TYPE,
            header::CONNECTION,
            header::TRANSFER_ENCODING,
            header::TE,
            header::TRAILER,
            header::UPGRADE,
            header::EXPECT,
        ];
        let name = HeaderName::try_from(name).map_err(|_| BadHeader)?;
        let taken = |word: &str| loosely(name.as_str(), word);
        let hop = ["keep-alive", "proxy-connection", "http2-settings"]
            .into_iter()
            .any(taken);
        if is_ours(&name) || hop || TAKEN.iter().any(|word| taken(word.as_str())) {
            return Err(BadHeader);
        }
        Ok(Self(name))
    }
}

/// A header value with places for secrets. It never prints what stands between them, because
/// that may be a secret too.
#[derive(Clone, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Clone)]
enum Piece {
    Text(SecretString),
    File(PathBuf),
    Env(String),
}

/// The value is no template. The texts repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadTemplate {
    /// `${` is not followed by `}`.
    #[error("expected `}}` after `${{`")]
    Unclosed,
    /// Something else stands between the braces.
    #[error("expected `${{file:PATH}}` or `${{env:NAME}}`")]
    UnknownSource,
    /// There is nothing at all.
    #[error("expected a value such as `Bearer ${{file:/run/secrets/NAME}}`")]
    Empty,
}

impl TryFrom<String> for Template {
    type Error = BadTemplate;

    fn try_from(text: String) -> Result<Self, BadTemplate> {
        let text = SecretString::from(text);
        let mut rest = text.expose_secret();
        let mut pieces = Vec::new();
        while let Some((before, after)) = rest.split_once("${") {
            let (source, after) = after.split_once('}').ok_or(BadTemplate::Unclosed)?;
            pieces.push(Piece::Text(before.into()));
            pieces.push(source_of(source)?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.into()));
        pieces
            .retain(|piece| !matches!(piece, Piece::Text(text) if text.expose_secret().is_empty()));
        if pieces.is_empty() {
            Err(BadTemplate::Empty)
        } else {
            Ok(Self(pieces))
        }
    }
}

fn source_of(source: &str) -> Result<Piece, BadTemplate> {
    match source.split_once(':') {
        Some(("file", path)) if !path.is_empty() => Ok(Piece::File(path.into())),
        Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
            Ok(Piece::Env(name.to_owned()))
        }
        _ => Err(BadTemplate::UnknownSource),
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for piece in &self.0 {
            match piece {
                Piece::Text(_) => list.entry(&format_args!("***")),
                Piece::File(path) => list.entry(&format_args!("file:{}", path.display())),
                Piece::Env(name) => list.entry(&format_args!("env:{name}")),
            };
        }
        list.finish()
    }
}

/// A credential that could not be loaded: says where from, never what.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// The file could not be read.
    #[error("cannot read the secret in file `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// The file or variable holds nothing.
    #[error("the secret in {place} is empty")]
    Empty {
        /// Where it was looked for.
        place: String,
    },
    /// There is no such variable.
    #[error("the environment variable `{name}` of a secret is not set")]
    Env {
        /// The variable.
        name: String,
    },
    /// The bytes cannot be a header value (RFC 9110 §5.5).
    #[error("the secret holds characters that no header may carry, such as a line break")]
    NotAHeader,
}

/// A loaded credential. It prints its header's name only.
#[derive(Clone)]
pub struct Credential {
    name: HeaderName,
    value: HeaderValue,
}

impl Config {
    /// Reads the secrets. Relative paths are relative to `base`; the line break that ends a
    /// file, and other white space there, is not part of its secret.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn load(
        &self,
        base: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Credential, Unavailable> {
        let secret = self.value.fill(base, env)?;
        let mut value =
            HeaderValue::from_bytes(secret.expose_secret()).map_err(|_| Unavailable::NotAHeader)?;
        value.set_sensitive(true);
        Ok(Credential {
            name: self.header.0.clone(),
            value,
        })
    }
}

impl Template {
    /// Its text with every secret in its place.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn fill(
        &self,
        base: &Path,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<SecretSlice<u8>, Unavailable> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text.expose_secret().as_bytes()),
                Piece::File(path) => {
                    bytes.extend_from_slice(read(&base.join(path))?.expose_secret());
                }
                Piece::Env(name) => {
                    bytes.extend_from_slice(variable(name, &env)?.expose_secret().as_bytes());
                }
            }
        }
        Ok(SecretSlice::from(bytes))
    }
}

fn read(path: &Path) -> Result<SecretSlice<u8>, Unavailable> {
    use std::io::Read as _;
    let failed = |error| Unavailable::File {
        path: path.to_owned(),
        error,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LARGEST_SECRET)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let whole = SecretSlice::from(bytes);
    let secret = whole.expose_secret().trim_ascii_end();
    if secret.is_empty() {
        return Err(Unavailable::Empty {
            place: format!("file `{}`", path.display()),
        });
    }
    Ok(SecretSlice::from(secret.to_vec()))
}

fn variable(name: &str, env: impl Fn(&str) -> Option<String>) -> Result<SecretString, Unavailable> {
    let value = env(name).ok_or_else(|| Unavailable::Env {
        name: name.to_owned(),
    })?;
    if value.is_empty() {
        return Err(Unavailable::Empty {
            place: format!("the environment variable `{name}`"),
        });
    }
    Ok(value.into())
}

impl Credential {
    /// Puts the secret into the request, in place of anything an upstream might read as the
    /// same header.
    pub fn inject(&self, headers: &mut HeaderMap) {
        let dashed = self.name.as_str().replace('_', "-");
        let same = |name: &&HeaderName| loosely(name.as_str(), &dashed);
        let rivals: Vec<HeaderName> = headers.keys().filter(same).cloned().collect();
        for rival in rivals {
            headers.remove(rival);
        }
        headers.insert(self.name.clone(), self.value.clone());
    }

    /// The header that carries it.
    pub fn header(&self) -> &HeaderName {
        &self.name
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("header", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(header: &str, value: &str) -> Result<Config, serde_json::Error> {
        serde_json::from_value(serde_json::json!({"header": header, "value": value}))
    }

    fn load(value: &str) -> Result<Credential, Unavailable> {
        let env = |name: &str| match name {
            "TOKEN" => Some("s3cret".to_owned()),
            "NOTHING" => Some(String::new()),
            "LINES" => Some("a\r\nx-admin: 1".to_owned()),
            _ => None,
        };
        config("authorization", value)
            .unwrap()
            .load(Path::new("/nonexistent"), env)
    }

    fn injected(value: &str) -> String {
        let mut headers = HeaderMap::new();
        load(value).unwrap().inject(&mut headers);
        headers["authorization"].to_str().unwrap().to_owned()
    }

    #[test]
    fn the_template_is_filled_from_the_environment_and_from_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "f1le\n").unwrap();
        assert_eq!(injected("Bearer ${env:TOKEN}"), "Bearer s3cret");
        assert_eq!(injected("${env:TOKEN}:${env:TOKEN}!"), "s3cret:s3cret!");
        assert_eq!(injected("plain $ {x}"), "plain $ {x}");
        let config = config("authorization", "Bearer ${file:secret}").unwrap();
        let mut headers = HeaderMap::new();
        config
            .load(dir.path(), |_| None)
            .unwrap()
            .inject(&mut headers);
        assert_eq!(headers["authorization"], "Bearer f1le");
    }

    #[test]
    fn the_value_is_marked_sensitive_and_replaces_every_rival() {
        let mut headers = HeaderMap::new();
        headers.append("x-api-key", HeaderValue::from_static("agent"));
        headers.append("x_api_key", HeaderValue::from_static("agent"));
        let config = config("X-Api-Key", "${env:TOKEN}").unwrap();
        let credential = config
            .load(Path::new("/"), |_| Some("s3cret".into()))
            .unwrap();
        credential.inject(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-api-key"], "s3cret");
        assert!(headers["x-api-key"].is_sensitive());
    }

    #[test]
    fn a_secret_that_is_missing_empty_or_breaks_the_line_is_refused() {
        assert!(matches!(
            load("${env:MISSING}"),
            Err(Unavailable::Env { .. })
        ));
        assert!(matches!(
            load("${env:NOTHING}"),
            Err(Unavailable::Empty { .. })
        ));
        assert!(matches!(load("${env:LINES}"), Err(Unavailable::NotAHeader)));
        let missing = load("${file:secret}").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot read the secret in file `/nonexistent/secret`"
        );
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "\n").unwrap();
        let config = config("authorization", "${file:secret}").unwrap();
        let empty = config.load(dir.path(), |_| None);
        assert!(matches!(empty, Err(Unavailable::Empty { .. })));
    }

    #[test]
    fn what_is_no_template_is_refused_without_repeating_it() {
        for value in [
            "",
            "hunter2 ${env:X",
            "${hunter2}",
            "${file:}",
            "${env:}",
            "${cmd:hunter2}",
        ] {
            let error = config("authorization", value).unwrap_err().to_string();
            assert!(error.contains("expected"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_header_that_is_not_the_services_to_give_is_refused() {
        for header in [
            "outrider-agent",
            "Outrider_Agent",
            "Host",
            "content-length",
            "content_length",
            "connection",
            "transfer-encoding",
            "te",
            "upgrade",
            "proxy-connection",
            "a b",
            "",
        ] {
            assert!(config(header, "x").is_err(), "{header}");
        }
        assert!(config("Authorization", "x").is_ok());
    }

    #[test]
    fn nothing_that_is_printed_holds_the_secret() {
        let config = config("authorization", "Basic hunter2${env:TOKEN}").unwrap();
        let credential = config
            .load(Path::new("/"), |_| Some("s3cret".into()))
            .unwrap();
        let mut headers = HeaderMap::new();
        credential.inject(&mut headers);
        let shown = format!("{config:?} {credential:?} {headers:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("env:TOKEN"));
    }
}
