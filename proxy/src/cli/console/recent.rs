//! The last lines of a decision log, numbered, for whoever asks what is new.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use crate::cli::log::read::Follow;

/// Lines that are kept.
const KEPT: usize = 2_000;
/// Lines that are told at once.
const AT_ONCE: usize = 500;

/// The last lines.
#[derive(Debug)]
pub(super) struct Recent {
    path: PathBuf,
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    follow: Option<Follow>,
    kept: VecDeque<String>,
    /// The number of the first that is kept.
    first: u64,
}

/// Lines that are new to somebody.
#[derive(Debug)]
pub(super) struct News {
    /// JSON, each an object.
    pub(super) lines: Vec<String>,
    /// What to ask for next.
    pub(super) next: u64,
    /// Why there may be more that cannot be read.
    pub(super) error: Option<String>,
}

impl Recent {
    pub(super) fn of(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            lines: Mutex::default(),
        }
    }

    /// What came after that number; the last that are kept, where that is long ago.
    pub(super) fn after(&self, number: u64) -> News {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let error = lines.read(&self.path).err().map(|error| error.to_string());
        let end = lines.first + u64::try_from(lines.kept.len()).unwrap_or_default();
        // A number of another process's is of no use here.
        let number = if number > end { 0 } else { number };
        let skip = usize::try_from(number.saturating_sub(lines.first)).unwrap_or(usize::MAX);
        let behind = lines.kept.len().saturating_sub(skip);
        let skip = skip + behind.saturating_sub(AT_ONCE);
        News {
            lines: lines.kept.iter().skip(skip).cloned().collect(),
            next: end,
            error,
        }
    }
}

impl Lines {
    fn read(&mut self, path: &Path) -> std::io::Result<()> {
        let follow = match &mut self.follow {
            Some(follow) => follow,
            None => self.follow.insert(Follow::open(path, AT_ONCE)?),
        };
        for line in follow.lines()? {
            // What is no JSON would not be read there either.
            if let Ok(line) = String::from_utf8(line)
                && serde_json::from_str::<serde::de::IgnoredAny>(&line).is_ok()
            {
                self.kept.push_back(line);
            }
        }
        while self.kept.len() > KEPT {
            self.kept.pop_front();
            self.first += 1;
        }
        Ok(())
    }
}
