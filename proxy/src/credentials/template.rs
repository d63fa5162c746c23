//! Text with places for secrets: `Bearer ${file:PATH}`, `${env:NAME}`, `${token}`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use http::HeaderValue;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

use super::signer::BadKey;

/// No header value is near this long; a wrong path must not read a disk into memory.
const LARGEST_SECRET: u64 = 64 * 1024;

/// A value with places for secrets. It never prints what stands between them, because that may be
/// a secret too.
#[derive(Clone, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Template(Vec<Piece>);

#[derive(Clone)]
enum Piece {
    Text(SecretString),
    File(PathBuf),
    Env(String),
    Token,
}

/// The value is no template. The texts repeat nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadTemplate {
    /// `${` is not followed by `}`.
    #[error("expected `}}` after `${{`")]
    Unclosed,
    /// Something else stands between the braces.
    #[error(
        "expected `${{file:PATH}}`, `${{env:NAME}}`, or `${{token}}` beside `command`, `client` or `exchange`"
    )]
    UnknownSource,
    /// There is nothing at all.
    #[error("expected a value such as `Bearer ${{file:/run/secrets/NAME}}`")]
    Empty,
}

/// A secret that cannot be had: says where from, never what.
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
    /// The key that proves us to a token server cannot be used.
    #[error("`{}`: {error}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        error: BadKey,
    },
    /// A place that only a fetched token fills.
    #[error("`${{token}}` stands for what `command`, `client` or `exchange` brings: name one")]
    NoToken,
}

/// Where the places of a template are filled from.
pub struct Places<'a> {
    /// What relative paths are relative to.
    pub base: &'a Path,
    /// The environment.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// What was fetched.
    pub token: Option<&'a SecretString>,
}

impl fmt::Debug for Places<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places")
            .field("base", &self.base)
            .finish_non_exhaustive()
    }
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
        None if source == "token" => Ok(Piece::Token),
        _ => Err(BadTemplate::UnknownSource),
    }
}

impl Template {
    /// `Bearer ${token}`.
    pub fn bearer() -> Self {
        Self(vec![Piece::Text("Bearer ".into()), Piece::Token])
    }

    /// Whether a fetched token stands in it.
    pub fn has_token(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Token))
    }

    /// The files it names, relative ones to `base`.
    pub fn files(&self, base: &Path) -> Vec<PathBuf> {
        let file = |piece: &Piece| match piece {
            Piece::File(path) => Some(base.join(path)),
            Piece::Text(_) | Piece::Env(_) | Piece::Token => None,
        };
        self.0.iter().filter_map(file).collect()
    }

    /// Whether the environment stands in it.
    pub fn has_env(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Env(_)))
    }

    /// Fills the places. The line break that ends a file, and other white space there, is not part
    /// of its secret.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn fill(&self, places: &Places<'_>) -> Result<SecretSlice<u8>, Unavailable> {
        let mut bytes = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => bytes.extend_from_slice(text.expose_secret().as_bytes()),
                Piece::File(path) => {
                    let secret = read(&places.base.join(path))?;
                    bytes.extend_from_slice(secret.expose_secret());
                }
                Piece::Env(name) => {
                    let secret = variable(name, places.env)?;
                    bytes.extend_from_slice(secret.expose_secret().as_bytes());
                }
                Piece::Token => {
                    let token = places.token.ok_or(Unavailable::NoToken)?;
                    bytes.extend_from_slice(token.expose_secret().as_bytes());
                }
            }
        }
        Ok(SecretSlice::from(bytes))
    }

    /// Fills the places and makes a header's value of it, which is wiped with its last copy.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn header_value(&self, places: &Places<'_>) -> Result<HeaderValue, Unavailable> {
        let value = HeaderValue::from_maybe_shared(wiped(self.fill(places)?));
        let mut value = value.map_err(|_| Unavailable::NotAHeader)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

/// The same bytes, which are wiped when the last one who shares them is gone.
pub(super) fn wiped(bytes: SecretSlice<u8>) -> Bytes {
    Bytes::from_owner(Wiped(bytes))
}

struct Wiped(SecretSlice<u8>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        self.0.expose_secret()
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl PartialEq for Piece {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.expose_secret() == b.expose_secret(),
            (Self::File(a), Self::File(b)) => a == b,
            (Self::Env(a), Self::Env(b)) => a == b,
            (Self::Token, Self::Token) => true,
            (Self::Text(_) | Self::File(_) | Self::Env(_) | Self::Token, _) => false,
        }
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
                Piece::Token => list.entry(&format_args!("token")),
            };
        }
        list.finish()
    }
}

/// Reads the secret in a file, without the white space at its end.
pub(super) fn read(path: &Path) -> Result<SecretSlice<u8>, Unavailable> {
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

fn variable(name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<SecretString, Unavailable> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::try_from(text.to_owned()).unwrap()
    }

    fn env(name: &str) -> Option<String> {
        match name {
            "TOKEN" => Some("s3cret".to_owned()),
            "NOTHING" => Some(String::new()),
            "LINES" => Some("a\r\nx-admin: 1".to_owned()),
            _ => None,
        }
    }

    fn filled(text: &str, base: &Path) -> Result<HeaderValue, Unavailable> {
        let token = SecretString::from("t0ken");
        template(text).header_value(&Places {
            base,
            env: &env,
            token: Some(&token),
        })
    }

    #[test]
    fn every_place_is_filled_from_where_it_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("secret"), "f1le\n").unwrap();
        for (text, expected) in [
            ("Bearer ${env:TOKEN}", "Bearer s3cret"),
            ("${env:TOKEN}:${env:TOKEN}!", "s3cret:s3cret!"),
            ("plain $ {x}", "plain $ {x}"),
            ("Bearer ${file:secret}", "Bearer f1le"),
            ("key ${token}", "key t0ken"),
        ] {
            let value = filled(text, dir.path()).unwrap();
            assert_eq!(value, expected);
            assert!(value.is_sensitive());
        }
    }

    #[test]
    fn a_secret_that_is_missing_empty_or_breaks_the_line_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("empty"), "\n").unwrap();
        let fill = |text| filled(text, dir.path());
        assert!(matches!(fill("${env:NO}"), Err(Unavailable::Env { .. })));
        for empty in ["${env:NOTHING}", "${file:empty}"] {
            assert!(matches!(fill(empty), Err(Unavailable::Empty { .. })));
        }
        assert!(matches!(fill("${env:LINES}"), Err(Unavailable::NotAHeader)));
        let missing = filled("${file:x}", Path::new("/nonexistent")).unwrap_err();
        let expected = "cannot read the secret in file `/nonexistent/x`";
        assert_eq!(missing.to_string(), expected);
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
            "${token:hunter2}",
        ] {
            let error = Template::try_from(value.to_owned())
                .unwrap_err()
                .to_string();
            assert!(error.contains("expected"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn nothing_that_is_printed_holds_the_secret() {
        let template = template("Basic hunter2${env:TOKEN}${token}");
        let shown = format!("{template:?}");
        assert_eq!(shown, "[***, env:TOKEN, token]");
        let value = filled("Basic hunter2${env:TOKEN}", Path::new("/")).unwrap();
        let shown = format!("{value:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("s3cret"),
            "{shown}"
        );
    }
}
