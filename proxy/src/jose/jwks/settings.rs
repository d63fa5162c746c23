//! Where keys come from, as the configuration says it.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    jose::Usage,
    upstream::{BadUpstream, Upstream},
};

/// Where keys are published: `file:PATH`, or an `https://` URL (`http://` on this machine only).
#[derive(Clone, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum Location {
    /// A file.
    File(PathBuf),
    /// An URL.
    Url(Upstream),
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Url(at) => f.write_str(at.uri()),
        }
    }
}

/// A place that cannot have keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadLocation {
    /// It is neither.
    #[error("expected `file:PATH` or an `https://` URL of a JWK Set")]
    Neither,
    /// The URL cannot be used.
    #[error(transparent)]
    Url(#[from] BadUpstream),
    /// The keys would come over a network in the clear.
    #[error("expected an `https://` URL: `http://` is for loopback addresses only")]
    Unprotected,
}

impl TryFrom<String> for Location {
    type Error = BadLocation;

    fn try_from(text: String) -> Result<Self, BadLocation> {
        if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
            return Ok(Self::File(path.into()));
        }
        if !text.contains("://") {
            return Err(BadLocation::Neither);
        }
        let at = Upstream::parse(&text)?;
        if at.is_protected() {
            Ok(Self::Url(at))
        } else {
            Err(BadLocation::Unprotected)
        }
    }
}

impl Location {
    /// The same, with the path that `resolve` makes of a file's.
    #[must_use]
    pub fn resolved(self, resolve: impl Fn(&Path) -> PathBuf) -> Self {
        match self {
            Self::File(path) => Self::File(resolve(&path)),
            Self::Url(at) => Self::Url(at),
        }
    }
}

/// Where keys come from and how long they serve.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whose keys they are, for messages to operators.
    pub name: Arc<str>,
    /// Where they are published.
    pub location: Location,
    /// The certificate authorities that an URL is proved by; the system's where there is none.
    pub ca: Option<PathBuf>,
    /// Which keys of the set are meant.
    pub usage: Usage,
    /// How often they are read.
    pub refresh: Duration,
    /// How long they serve after they were last read.
    pub max_stale: Duration,
}

impl Settings {
    /// How often keys are read where nothing is said.
    pub const REFRESH: Duration = Duration::from_mins(5);
    /// How long keys serve after they were last read where nothing is said.
    pub const MAX_STALE: Duration = Duration::from_hours(1);

    /// Keys for signatures, at that place, with the usual times.
    pub fn new(name: impl Into<Arc<str>>, location: Location) -> Self {
        Self {
            name: name.into(),
            location,
            ca: None,
            usage: Usage::default(),
            refresh: Self::REFRESH,
            max_stale: Self::MAX_STALE,
        }
    }
}
