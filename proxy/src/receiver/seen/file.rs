//! What was dealt with, in a file: lines of JSON that are only appended, on disk before it is
//! acknowledged, begun anew when most of it is over.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    limit::shared::Hash,
    record::{
        OpenError,
        file::{GrowingFile, beside, sync_with_name},
        whole::{Counts, Whole},
    },
};

/// The most that are remembered. The oldest gives way: what it said could only be said again.
const MOST: usize = 262_144;

/// Bytes of a line; none of ours is near that.
const LONGEST: u64 = 256;

/// Lines after which a file of which half is over is begun anew.
const TIDY: usize = 4_096;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// The first: what file this is.
    OutriderSeen { version: u32 },
    /// A token, hashed, and until when it is remembered, in seconds.
    Seen(Hash, i64),
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// It cannot be opened.
    #[error("`seen`: cannot open `{}`: {error}", path.display())]
    Unopened {
        /// The file.
        path: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// It cannot be read or written.
    #[error("`seen`: cannot use `{}`: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What stands in it is not ours.
    #[error("`seen`: line {line} of `{}` is not what such a file holds; it was left untouched: move it away to begin anew", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
}

/// An open file.
#[derive(Debug)]
pub struct SeenFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: Whole<GrowingFile>,
    /// Until when each is remembered, in seconds.
    until: HashMap<Hash, i64>,
    lines: usize,
}

impl SeenFile {
    /// Opens or creates the file and reads what it holds. A torn last line was never acknowledged
    /// and is left out.
    ///
    /// # Errors
    /// [`BadFile`]; the file is as it was.
    pub fn open(path: PathBuf, now: Timestamp) -> Result<Self, BadFile> {
        let opened = GrowingFile::open(&path).and_then(|file| {
            file.restrict()?;
            Ok(file)
        });
        let file = opened.map_err(|error| BadFile::Unopened {
            path: path.clone(),
            error,
        })?;
        let mut state = State {
            file: Whole::new(file, Counts::Written),
            until: read(&path)?,
            lines: 0,
        };
        state.forget(now);
        let begun = state.begin_anew(&path);
        begun.map_err(|error| BadFile::Unusable {
            path: path.clone(),
            error,
        })?;
        Ok(Self {
            path,
            state: Mutex::new(state),
        })
    }

    /// Whether a token was dealt with.
    pub fn has(&self, event: &Hash, now: Timestamp) -> bool {
        let state = self.state();
        let until = state.until.get(event);
        until.is_some_and(|until| *until > now.as_second())
    }

    /// Remembers one, for good.
    ///
    /// # Errors
    /// When it is not on disk; then it is not remembered.
    pub fn keep(&self, event: Hash, until: Timestamp) -> io::Result<()> {
        let mut state = self.state();
        let until = until.as_second();
        state.append(&Line::Seen(event, until))?;
        state.file.sync()?;
        if state.until.len() >= MOST {
            let oldest = state.until.iter().min_by_key(|(_, until)| **until);
            if let Some(oldest) = oldest.map(|(event, _)| *event) {
                state.until.remove(&oldest);
            }
        }
        state.until.insert(event, until);
        Ok(())
    }

    /// Forgets what is over, and begins the file anew when most of it is.
    pub fn sweep(&self, now: Timestamp) {
        let mut state = self.state();
        state.forget(now);
        if state.lines > TIDY
            && state.lines / 2 > state.until.len()
            && let Err(error) = state.begin_anew(&self.path)
        {
            tracing::error!(%error, "the file of what was seen cannot be begun anew");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, now: Timestamp) {
        self.until.retain(|_, until| *until > now.as_second());
    }

    fn append(&mut self, line: &Line) -> io::Result<()> {
        write(&mut self.file, line)?;
        self.lines += 1;
        Ok(())
    }

    /// Writes all that is remembered into a new file, and puts that in the place of the old one.
    fn begin_anew(&mut self, path: &Path) -> io::Result<()> {
        let fresh = beside(path, ".new");
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = GrowingFile::claim(&fresh).map_err(io::Error::other)?;
        let mut file = Whole::new(file, Counts::Written);
        write(&mut file, &Line::OutriderSeen { version: 1 })?;
        for (event, until) in &self.until {
            write(&mut file, &Line::Seen(*event, *until))?;
        }
        file.sync()?;
        std::fs::rename(&fresh, path)?;
        sync_with_name(path)?;
        self.file = file;
        self.lines = self.until.len();
        Ok(())
    }
}

fn write(file: &mut Whole<GrowingFile>, line: &Line) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    file.append(&bytes)
}

fn read(path: &Path) -> Result<HashMap<Hash, i64>, BadFile> {
    let unusable = |error| BadFile::Unusable {
        path: path.to_owned(),
        error,
    };
    let mut file = BufReader::new(std::fs::File::open(path).map_err(unusable)?);
    let (mut seen, mut text) = (HashMap::new(), Vec::new());
    for number in 1.. {
        text.clear();
        let read = (&mut file).take(LONGEST).read_until(b'\n', &mut text);
        if read.map_err(unusable)? == 0 {
            break;
        }
        let foreign = || BadFile::Foreign {
            path: path.to_owned(),
            line: number,
        };
        let Some(line) = text.strip_suffix(b"\n") else {
            return match file.fill_buf().map_err(unusable)? {
                [] if number > 1 => Ok(seen),
                _ => Err(foreign()),
            };
        };
        match serde_json::from_slice(line).map_err(|_| foreign())? {
            Line::OutriderSeen { version: 1 } if number == 1 => {}
            Line::Seen(event, until) if number > 1 => {
                seen.insert(event, until);
            }
            Line::OutriderSeen { .. } | Line::Seen(..) => return Err(foreign()),
        }
    }
    Ok(seen)
}

#[cfg(test)]
mod tests;
