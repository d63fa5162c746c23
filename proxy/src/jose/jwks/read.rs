//! One look at a source: its document, within bounds.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header::ACCEPT};
use rustix::fs::OFlags;

use super::{Location, Settings};
use crate::{
    jose::BadSet,
    upstream::{BadRoots, Fetcher, TlsRoots, Unfetched, Upstream},
};

/// The most bytes of a document.
const MAX: usize = 256 * 1024;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keys that could not be read. The texts name no address.
#[derive(Debug, thiserror::Error)]
pub enum BadSource {
    /// A file could not be read.
    #[error("the file of {what} cannot be read")]
    Unreadable {
        /// Which.
        what: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// The document is larger than it may be.
    #[error("the keys take more than 256 KiB")]
    TooLarge,
    /// The certificate authorities cannot be used.
    #[error(transparent)]
    Roots(#[from] BadRoots),
    /// No answer.
    #[error(transparent)]
    Unfetched(#[from] Unfetched),
    /// An answer that is none.
    #[error("the answer has status {0}")]
    Status(StatusCode),
    /// The document is no set of keys.
    #[error(transparent)]
    Set(#[from] BadSet),
    /// No key of the document serves.
    #[error("the set has no key for EdDSA, ES256, RS256 or PS256 signatures")]
    NoKey,
}

/// Two changes of a file within this may bear one time.
const CLOCK_STEP: Duration = Duration::from_millis(50);

/// What was read, with what tells it from what is read later.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) text: Bytes,
    pub(super) digest: [u8; 32],
    pub(super) looks: Option<Fingerprint>,
}

impl Document {
    fn new(text: Bytes, looks: Option<Fingerprint>) -> Self {
        let mut hash = [0; 32];
        let digest = digest::digest(&digest::SHA256, &text);
        hash.copy_from_slice(digest.as_ref());
        Self {
            text,
            digest: hash,
            looks,
        }
    }

    pub(super) fn without_text(self) -> Self {
        Self {
            text: Bytes::new(),
            ..self
        }
    }
}

/// What tells that a file was changed: its time, length and inode, and whether it is so new that a
/// further change might leave them as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Fingerprint(SystemTime, u64, u64, bool);

impl Fingerprint {
    pub(super) fn of(path: &Path) -> Option<Self> {
        Self::read(&fs::metadata(path).ok()?)
    }

    fn read(file: &fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let changed = file.modified().ok()?;
        let fresh = changed.elapsed().is_ok_and(|age| age < CLOCK_STEP);
        Some(Self(changed, file.len(), file.ino(), fresh))
    }
}

/// What can be read without a network; of an URL, that its certificate authorities can be used.
pub(super) fn at_once(settings: &Settings) -> Result<Option<Document>, BadSource> {
    match &settings.location {
        Location::File(path) => file(path).map(Some),
        Location::Url(_) => roots(settings).map(|_| None),
    }
}

/// The document as it is now.
pub(super) async fn now(settings: &Settings) -> Result<Document, BadSource> {
    match &settings.location {
        Location::File(path) => file(path),
        Location::Url(at) => fetched(at, roots(settings)?).await,
    }
}

fn file(path: &Path) -> Result<Document, BadSource> {
    let unreadable = |error| BadSource::Unreadable {
        what: "the keys",
        error,
    };
    // A pipe would be waited for, by whoever also hears of revocations.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map_err(unreadable)?;
    let known = file.metadata().map_err(unreadable)?;
    if !known.is_file() {
        return Err(unreadable(io::Error::other("it is no regular file")));
    }
    let looks = Fingerprint::read(&known);
    let mut text = Vec::new();
    let read = file.take(MAX as u64 + 1).read_to_end(&mut text);
    if read.map_err(unreadable)? > MAX {
        return Err(BadSource::TooLarge);
    }
    Ok(Document::new(text.into(), looks))
}

fn roots(settings: &Settings) -> Result<TlsRoots, BadSource> {
    match (&settings.ca, &settings.location) {
        (Some(file), _) => {
            let text = fs::read_to_string(file);
            let text = text.map_err(|error| BadSource::Unreadable {
                what: "the certificate authorities",
                error,
            })?;
            Ok(TlsRoots::from_pem(&text)?)
        }
        (None, Location::Url(at)) if at.is_secure() => Ok(TlsRoots::system()?),
        (None, _) => Ok(TlsRoots::none()?),
    }
}

async fn fetched(at: &Upstream, roots: TlsRoots) -> Result<Document, BadSource> {
    let fetcher = Fetcher::new(roots, MAX, PATIENCE);
    let mut headers = HeaderMap::new();
    let accept = HeaderValue::from_static("application/jwk-set+json, application/json");
    headers.insert(ACCEPT, accept);
    let answer = fetcher
        .fetch(at, Method::GET, headers, Bytes::new())
        .await?;
    if answer.status() == StatusCode::OK {
        Ok(Document::new(answer.into_body(), None))
    } else {
        Err(BadSource::Status(answer.status()))
    }
}
