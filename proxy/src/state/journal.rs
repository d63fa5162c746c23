//! What is known of authority, in a file: for one sidecar that is to go on after a restart.
//!
//! Lines of JSON that are only appended: the state when the file was begun, then each change. A
//! change of authority is on disk before it is acknowledged. Calls spent of a budget are written
//! ahead in blocks: after a crash a few count as spent that were not, never fewer.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{
    Authority, Decree, Estate, TokenDigest, UsedToken, estate::Left, revocations::Revocation,
};
use crate::{
    record::{
        OpenError,
        file::{GrowingFile, Occupant, beside, sync_with_name},
        whole::{Counts, Whole},
    },
    task::{Life, Snapshot, Task, TaskKey, Terms},
};

/// Bytes of changes after which the file is begun anew.
const GROWTH: u64 = 16 << 20;

/// Bytes of a line; no line of ours is near that.
const LONGEST: u64 = 16 << 20;

/// The most calls of a budget that are written ahead.
const AHEAD: u64 = 64;

/// One line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line {
    /// The first: what file this is.
    OutriderState {
        version: u32,
        /// Who vouches for the tasks that were opened here.
        issuer: Arc<str>,
    },
    /// A task as it stood.
    Task(Left),
    /// A revocation in force.
    Revocation(Revocation),
    /// A token that was opened or first shown.
    Token { digest: TokenDigest, terms: Terms },
    /// How a task stands.
    Life { task: TaskKey, life: Snapshot },
    /// What was taken back, or given again.
    Decree(Decree),
    /// A token that serves one call has.
    Used(UsedToken),
    /// How often an exception was used.
    Uses { exception: Arc<str>, used: u64 },
}

/// A state file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadJournal {
    /// It cannot be opened.
    #[error("`state.store`: cannot open `{}`: {error}", path.display())]
    Unopened {
        /// The file.
        path: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// It cannot be read or written.
    #[error("`state.store`: cannot use `{}`: {error}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// What stands in it is not ours.
    #[error("`state.store`: line {line} of `{}` is not what a state file holds; it was left untouched: move it away to begin with no state", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
}

/// What a file held.
#[derive(Debug, Default)]
pub struct Kept {
    /// Who vouched for the tasks that were opened there; nobody in a new file.
    pub issuer: Option<Arc<str>>,
    lines: Vec<Line>,
    uses: Vec<(Arc<str>, u64)>,
}

/// An open state file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    state: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    file: Whole<GrowingFile>,
    /// Its size when it was begun.
    begun: u64,
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens or creates the file and reads what it holds. A torn last line was never acknowledged
    /// and is left out.
    ///
    /// # Errors
    /// [`BadJournal`]; the file is as it was.
    pub fn open(path: PathBuf) -> Result<(Self, Kept), BadJournal> {
        let opened = GrowingFile::open(&path).and_then(|file| {
            file.restrict()?;
            Ok(file)
        });
        let file = opened.map_err(|error| BadJournal::Unopened {
            path: path.clone(),
            error,
        })?;
        let kept = read(&path)?;
        Ok((Self::over(file, path), kept))
    }

    /// Goes on with the file of a predecessor.
    ///
    /// # Errors
    /// [`BadJournal`].
    pub fn inherit(path: PathBuf, file: OwnedFd) -> Result<Self, BadJournal> {
        let file = GrowingFile::adopt(file, &path).map_err(|error| BadJournal::Unopened {
            path: path.clone(),
            error,
        })?;
        Ok(Self::over(file, path))
    }

    fn over(file: GrowingFile, path: PathBuf) -> Self {
        let begun = file.size().unwrap_or_default();
        let file = Whole::new(file, Counts::Written);
        Self {
            path,
            state: Mutex::new(Open {
                file,
                begun,
                buffer: Vec::new(),
            }),
        }
    }

    /// The file with its lock, for a successor.
    ///
    /// # Errors
    /// When there are too many descriptors.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.with(|open| open.file.sink().share())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a token, for good.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn token(&self, digest: TokenDigest, terms: &Terms) -> io::Result<()> {
        self.append(&Line::Token {
            digest,
            terms: terms.clone(),
        })?;
        self.sync()
    }

    /// Keeps a decree, for good: of one about a task, how that stands after it.
    ///
    /// # Errors
    /// When it is not on disk.
    pub fn decree(&self, decree: &Decree, life: Option<Snapshot>) -> io::Result<()> {
        if let (Some(task), Some(life)) = (decree.edict.task(), life) {
            self.append(&Line::Life {
                task: task.clone(),
                life,
            })?;
        }
        if decree.edict.is_revocation() {
            self.append(&Line::Decree(decree.clone()))?;
        }
        self.sync()
    }

    /// Keeps what a call spent of its task's budget, and of those above.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn spent(&self, task: &Task) -> io::Result<()> {
        for task in std::iter::once(task).chain(task.ancestors()) {
            let (life, Some(budget)) = (task.life(), task.budget) else {
                continue;
            };
            let used = life.used();
            if used > life.reserved() {
                let ahead = (budget / 20).clamp(1, AHEAD) - 1;
                let used = used.saturating_add(ahead).min(budget);
                self.life(task, used)?;
                life.reserve(used);
            }
        }
        Ok(())
    }

    /// Keeps how high a task, and those above, have reached.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn touched(&self, task: &Task) -> io::Result<()> {
        for task in std::iter::once(task).chain(task.ancestors()) {
            let life = task.life();
            let used = life.used().max(life.reserved());
            self.life(task, used)?;
        }
        Ok(())
    }

    /// How a task stands when the line is written: a line that is older than the one of its end would
    /// undo that.
    fn life(&self, task: &Task, used: u64) -> io::Result<()> {
        self.with(|open| {
            let Open { file, buffer, .. } = open;
            let line = Line::Life {
                task: task.terms().task(),
                life: Snapshot {
                    used,
                    ..task.life().snapshot()
                },
            };
            write(file, buffer, &line)
        })
    }

    /// Keeps that a token was used that serves one call.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn used_up(&self, token: UsedToken) -> io::Result<()> {
        self.append(&Line::Used(token))
    }

    /// Keeps how often an exception was used.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn used(&self, exception: &Arc<str>, used: u64) -> io::Result<()> {
        self.append(&Line::Uses {
            exception: Arc::clone(exception),
            used,
        })
    }

    /// Begins the file anew where it has grown, or is gone.
    ///
    /// # Errors
    /// When that cannot be written; the old file stays in force.
    pub fn tidy(
        &self,
        authority: &Authority,
        uses: &[(Arc<str>, u64)],
        only_when_due: bool,
    ) -> io::Result<()> {
        self.with(|open| {
            let grown = open.file.sink().size()?.saturating_sub(open.begun) > GROWTH;
            let there = open.file.sink().occupant(&self.path)? == Occupant::Ours;
            if only_when_due && there && !grown {
                return Ok(());
            }
            let fresh = beside(&self.path, ".new");
            match std::fs::remove_file(&fresh) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = GrowingFile::claim(&fresh).map_err(io::Error::other)?;
            let mut file = Whole::new(file, Counts::Written);
            for line in snapshot(authority, uses) {
                write(&mut file, &mut open.buffer, &line)?;
            }
            file.sync()?;
            std::fs::rename(&fresh, &self.path)?;
            sync_with_name(&self.path)?;
            open.begun = file.sink().size()?;
            open.file = file;
            Ok(())
        })
    }

    fn append(&self, line: &Line) -> io::Result<()> {
        self.with(|open| {
            let Open { file, buffer, .. } = open;
            write(file, buffer, line)
        })
    }

    /// Waits for the disk, and lets others write meanwhile.
    fn sync(&self) -> io::Result<()> {
        let file = self.with(|open| open.file.sink().share())?;
        File::from(file).sync_data()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Open) -> io::Result<T>) -> io::Result<T> {
        let mut open = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut open)
    }
}

fn write(file: &mut Whole<GrowingFile>, buffer: &mut Vec<u8>, line: &Line) -> io::Result<()> {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, line)?;
    buffer.push(b'\n');
    file.append(buffer)
}

/// Everything that is known, as lines.
fn snapshot<'a>(
    authority: &Authority,
    uses: &'a [(Arc<str>, u64)],
) -> impl Iterator<Item = Line> + use<'a> {
    let first = Line::OutriderState {
        version: 1,
        issuer: Arc::clone(authority.tasks.issuer()),
    };
    let Estate {
        tasks,
        revocations,
        used,
        ..
    } = authority.leave_as(Life::kept);
    let uses = uses.iter().map(|(exception, used)| Line::Uses {
        exception: Arc::clone(exception),
        used: *used,
    });
    std::iter::once(first)
        .chain(tasks.into_iter().map(Line::Task))
        .chain(revocations.into_iter().map(Line::Revocation))
        .chain(used.into_iter().map(Line::Used))
        .chain(uses)
}

fn read(path: &Path) -> Result<Kept, BadJournal> {
    let unusable = |error| BadJournal::Unusable {
        path: path.to_owned(),
        error,
    };
    let mut file = BufReader::new(File::open(path).map_err(unusable)?);
    let (mut kept, mut text, mut number) = (Kept::default(), Vec::new(), 0);
    loop {
        text.clear();
        number += 1;
        let read = (&mut file).take(LONGEST).read_until(b'\n', &mut text);
        if read.map_err(unusable)? == 0 {
            return Ok(kept);
        }
        let foreign = || BadJournal::Foreign {
            path: path.to_owned(),
            line: number,
        };
        let Some(line) = text.strip_suffix(b"\n") else {
            // Torn: whoever asked for it was not told that it is done.
            return match file.fill_buf().map_err(unusable)? {
                [] if number > 1 => Ok(kept),
                _ => Err(foreign()),
            };
        };
        match serde_json::from_slice(line).map_err(|_| foreign())? {
            Line::OutriderState { version: 1, issuer } if number == 1 => kept.issuer = Some(issuer),
            Line::OutriderState { .. } => return Err(foreign()),
            _ if number == 1 => return Err(foreign()),
            Line::Uses { exception, used } => kept.uses.push((exception, used)),
            line => kept.lines.push(line),
        }
    }
}

impl Kept {
    /// Gives everything to who is in force now, and returns how often exceptions were used.
    pub fn give(self, authority: &Authority) -> Vec<(Arc<str>, u64)> {
        let mut estate = Estate::default();
        let mut later = Vec::new();
        for line in self.lines {
            match line {
                Line::Task(left) => estate.tasks.push(left),
                Line::Revocation(revocation) => estate.revocations.push(revocation),
                Line::Used(token) => estate.used.push(token),
                line => later.push(line),
            }
        }
        authority.inherit(estate, |_| false);
        for line in later {
            match line {
                Line::Token { digest, terms } => authority.resume(digest, terms),
                Line::Life { task, life } => authority.stood(&task, life),
                // What could be carried out then can be now.
                Line::Decree(decree) => drop(authority.carry_out(&decree)),
                Line::OutriderState { .. }
                | Line::Task(_)
                | Line::Revocation(_)
                | Line::Used(_)
                | Line::Uses { .. } => {}
            }
        }
        self.uses
    }
}
