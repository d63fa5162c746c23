//! A secret that is read, not fetched: from files, the environment, the configuration itself.
//!
//! Files are looked at once a second and read again when they have changed and settled. What
//! cannot be read then leaves the secret as it was: no call is lost while a file is replaced.

use std::{
    fmt,
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use arc_swap::ArcSwap;
use http::HeaderValue;
use jiff::Timestamp;

use super::{
    Setting,
    template::{Places, Template, Unavailable},
};

/// A secret that was read.
pub(super) struct Still {
    template: Template,
    setting: Setting,
    files: Vec<PathBuf>,
    held: ArcSwap<Held>,
    watching: Mutex<Watching>,
}

/// What was read, and when.
pub(super) struct Held {
    pub(super) value: HeaderValue,
    pub(super) read: Timestamp,
}

/// What tells that a file was changed: its time, length and inode.
type Looks = Vec<Option<(SystemTime, u64, u64)>>;

#[derive(Default)]
struct Watching {
    seen: Looks,
    /// How files looked that have changed and may not be whole yet.
    unsettled: Option<Looks>,
    failure: Option<Arc<str>>,
}

impl Still {
    pub(super) fn load(template: Template, setting: Setting) -> Result<Self, Unavailable> {
        let files = template.files(&setting.base);
        let seen = looks(&files);
        let held = read(&template, &setting)?;
        Ok(Self {
            template,
            setting,
            files,
            held: ArcSwap::from_pointee(held),
            watching: Mutex::new(Watching {
                seen,
                ..Watching::default()
            }),
        })
    }

    /// The header's value as it now is.
    pub(super) fn value(&self) -> HeaderValue {
        self.held.load().value.clone()
    }

    /// What was read and when, and what is wrong with the files since.
    pub(super) fn report(&self) -> (Timestamp, Option<Arc<str>>) {
        let failure = self.watching().failure.clone();
        (self.held.load().read, failure)
    }

    /// The word for where it comes from.
    pub(super) fn kind(&self) -> &'static str {
        if !self.files.is_empty() {
            "file"
        } else if self.template.has_env() {
            "environment"
        } else {
            "configuration"
        }
    }

    /// Whether there is a file to look at.
    pub(super) fn is_watched(&self) -> bool {
        !self.files.is_empty()
    }

    /// Reads the files again if they have changed since they were read, and not since the last look.
    pub(super) fn look(&self) {
        let now = looks(&self.files);
        let mut watching = self.watching();
        if now == watching.seen {
            watching.unsettled = None;
            return;
        }
        if watching.unsettled.as_ref() != Some(&now) {
            watching.unsettled = Some(now);
            return;
        }
        match read(&self.template, &self.setting) {
            Ok(held) => {
                self.held.store(Arc::new(held));
                watching.seen = now;
                watching.unsettled = None;
                watching.failure = None;
                tracing::info!(service = %self.setting.service, "a credential was read anew");
            }
            // It stays unsettled, so that the next look tries again.
            Err(error) => {
                let said: Arc<str> = error.to_string().into();
                if watching.failure.as_ref() != Some(&said) {
                    tracing::warn!(
                        service = %self.setting.service,
                        "a credential could not be read anew, the old one stays: {said}"
                    );
                    watching.failure = Some(said);
                }
            }
        }
    }

    // Nothing panics while it holds the lock.
    fn watching(&self) -> std::sync::MutexGuard<'_, Watching> {
        self.watching.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(template: &Template, setting: &Setting) -> Result<Held, Unavailable> {
    let value = template.header_value(&Places {
        base: &setting.base,
        env: &|name| std::env::var(name).ok(),
        token: None,
    })?;
    let read = Timestamp::now();
    Ok(Held { value, read })
}

fn looks(files: &[PathBuf]) -> Looks {
    let look = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.modified().ok()?, file.len(), file.ino()))
    };
    files.iter().map(look).collect()
}

impl fmt::Debug for Still {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Still").field(&self.template).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn still(dir: &std::path::Path) -> Result<Still, Unavailable> {
        let template = Template::try_from("Bearer ${file:secret}".to_owned()).unwrap();
        Still::load(template, Setting::of("crm", dir))
    }

    #[test]
    fn a_file_that_changes_is_read_again_once_it_has_settled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "one").unwrap();
        let still = still(dir.path()).unwrap();
        still.look();
        assert_eq!(still.value(), "Bearer one");
        std::fs::write(&file, "three").unwrap();
        still.look();
        assert_eq!(still.value(), "Bearer one");
        still.look();
        assert_eq!(still.value(), "Bearer three");
        assert!(still.report().1.is_none());
    }

    #[test]
    fn a_file_that_is_gone_or_empty_leaves_the_secret_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        std::fs::write(&file, "one").unwrap();
        let still = still(dir.path()).unwrap();
        for gone in [true, false] {
            if gone {
                std::fs::remove_file(&file).unwrap();
            } else {
                std::fs::write(&file, "").unwrap();
            }
            still.look();
            still.look();
            assert_eq!(still.value(), "Bearer one");
            assert!(still.report().1.is_some());
        }
        std::fs::write(&file, "two").unwrap();
        still.look();
        still.look();
        assert_eq!(still.value(), "Bearer two");
        assert!(still.report().1.is_none());
    }

    #[test]
    fn a_secret_that_is_not_there_at_the_start_is_an_error() {
        assert!(still(std::path::Path::new("/nonexistent")).is_err());
    }
}
