//! The file of a log: opened, watched, written to, and put aside when it is due; all of it under
//! one lock, which the log holds.

use std::{
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::{
    chain::{Durability, LogConfig, LogError, Rotate, Unwritable},
    file::{GrowingFile, Occupant, OpenError, append_line, beside, rename_to_free, sync_with_name},
    queue::Line,
    resume::{known_keys, resume},
    whole::{Counts, Whole},
    writer::Writer,
};

/// How long after a failed rotation it is tried again.
const ROTATE_AGAIN: jiff::SignedDuration = jiff::SignedDuration::from_secs(60);

/// The chain in its file.
#[derive(Debug)]
pub(super) struct Keeper {
    place: Place,
    rotate: Option<Rotate>,
    writer: Writer<GrowingFile>,
    /// Whether the open file is no longer the one at the path.
    displaced: bool,
    closed: bool,
    /// Nothing is written: a successor is about to, or does.
    held: bool,
    /// Since when this file is written.
    since: Timestamp,
    /// Rotation is not tried before: one that fails is not tried four times a second.
    rotate_from: Timestamp,
}

/// Where the log stands, and what stands beside it.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    kid: String,
    public_jwk: String,
    counts: Counts,
}

impl Keeper {
    /// Opens or creates the log and finds where its chain stands.
    pub(super) fn open(config: &LogConfig, now: Timestamp) -> Result<Self, LogError> {
        Self::over(GrowingFile::open(&config.path), config, now)
    }

    /// Goes on in the file of a predecessor.
    pub(super) fn inherit(
        config: &LogConfig,
        file: OwnedFd,
        now: Timestamp,
    ) -> Result<Self, LogError> {
        Self::over(GrowingFile::adopt(file, &config.path), config, now)
    }

    fn over(
        file: Result<GrowingFile, OpenError>,
        config: &LogConfig,
        now: Timestamp,
    ) -> Result<Self, LogError> {
        let path = &config.path;
        let key = config.load_key()?;
        let mut file = file.map_err(|source| LogError::open(path, source))?;
        let position = resume(&mut file, path, now).map_err(|source| LogError::Resume {
            path: path.clone(),
            source,
        })?;
        let place = Place {
            path: path.clone(),
            kid: key.kid().to_owned(),
            public_jwk: key.public_jwk(),
            counts: match config.durability {
                Durability::Written | Durability::Memory => Counts::Written,
                Durability::Synced => Counts::Synced,
            },
        };
        place.settle(&file)?;
        let writer = Writer::new(Whole::new(file, place.counts), key, position, now)
            .checkpointing(config.checkpoint_lines, config.checkpoint_every);
        Ok(Self {
            place,
            rotate: config.rotate,
            writer,
            displaced: false,
            closed: false,
            held: false,
            since: now,
            rotate_from: now,
        })
    }

    /// The log's instance.
    pub(super) fn instance(&self) -> &str {
        self.writer.instance()
    }

    /// The public key of the checkpoints.
    pub(super) fn public_jwk(&self) -> &str {
        &self.place.public_jwk
    }

    /// Whether the log can be written, as far as is known.
    pub(super) fn ready(&self) -> bool {
        self.open_here() && !self.writer.failed()
    }

    fn open_here(&self) -> bool {
        !self.displaced && !self.closed
    }

    /// Writes what waits and a checkpoint, and from then on nothing; returns the file with its lock.
    pub(super) fn hold(&mut self, now: Timestamp) -> Result<OwnedFd, Unwritable> {
        self.round(&mut Vec::new(), Some(now));
        self.writer.sign();
        if !self.ready() {
            return Err(Unwritable);
        }
        let file = self.writer.sink().share().map_err(|_| Unwritable)?;
        self.held = true;
        Ok(file)
    }

    /// Goes on writing.
    pub(super) fn resume(&mut self) {
        self.held = false;
    }

    /// The lines that wait, each with a newline behind it, for somebody else to write.
    pub(super) fn give_waiting(&mut self) -> Vec<u8> {
        self.writer.give_waiting()
    }

    /// Tells the operator how it now stands.
    pub(super) fn tell(&self) {
        let path = self.place.path.display();
        match (self.ready(), self.writer.fault()) {
            (true, _) => tracing::info!(%path, "the decision log can be written again"),
            (false, Some(error)) => {
                tracing::error!(%path, %error, "the decision log cannot be written: calls are refused");
            }
            (false, None) => {
                tracing::error!(%path, "something else stands in the decision log's place: calls are refused");
            }
        }
    }

    /// Appends a line, and those that wait; returns its `seq`.
    pub(super) fn append(&mut self, members: &[u8]) -> Result<u64, Unwritable> {
        if self.open_here() && !self.held {
            self.writer.append(members)
        } else {
            Err(Unwritable)
        }
    }

    /// Keeps a line for the next write.
    pub(super) fn defer(&mut self, members: &[u8]) -> Result<(), Unwritable> {
        if self.closed {
            return Err(Unwritable);
        }
        self.writer.defer(members)?;
        if self.writer.is_full() && !self.displaced && !self.held {
            self.writer.flush();
        }
        Ok(())
    }

    /// How many lines wait for the next write.
    pub(super) fn waiting(&self) -> usize {
        self.writer.waiting()
    }

    /// Writes the lines that wait.
    pub(super) fn flush(&mut self) {
        if self.open_here() && !self.held {
            self.writer.flush();
        }
    }

    /// Writes `lines`, and does what is due when the time is given; only then a log that failed is
    /// tried anew. Those stay in `lines` that could not be written and for which nobody waits.
    pub(super) fn round(&mut self, lines: &mut Vec<Line>, tick: Option<Timestamp>) {
        if self.held {
            return self.keep(lines);
        }
        if let (Some(now), false) = (tick, self.closed) {
            self.look_after_place(now);
        }
        if self.ready() || (tick.is_some() && self.open_here()) {
            self.write(lines);
        } else {
            lines.retain_mut(Line::unwritten);
        }
        if let (Some(now), true, true) = (tick, lines.is_empty(), self.open_here()) {
            self.writer.tick(now);
            self.rotate_if_due(now);
        }
    }

    /// Keeps the lines for whoever writes next; who waits for one is refused.
    fn keep(&mut self, lines: &mut Vec<Line>) {
        lines.retain_mut(|line| line.unwritten() && self.writer.defer(line.members()).is_err());
    }

    /// Writes the lines, many at once, and tells those who wait.
    fn write(&mut self, lines: &mut Vec<Line>) {
        loop {
            // A write may have taken longer than those wait whose lines come after it.
            lines.retain(Line::is_wanted);
            if lines.is_empty() {
                return;
            }
            match self.writer.append_first(lines.iter().map(Line::members)) {
                Ok(count) => lines.drain(..count).for_each(Line::written),
                Err(Unwritable) => return lines.retain_mut(Line::unwritten),
            }
        }
    }

    /// Writes the last checkpoint and hands the file to the disk.
    pub(super) fn close(&mut self) {
        if self.open_here() && !self.held {
            self.writer.sign();
            self.writer.sync();
        }
        self.closed = true;
    }

    /// Compares the path with the open file; a free path is taken with the chain carried forward,
    /// so that verification shows what is missing.
    fn look_after_place(&mut self, now: Timestamp) {
        self.displaced = match self.writer.sink().occupant(&self.place.path) {
            Ok(Occupant::Ours) => false,
            Ok(Occupant::Nobody | Occupant::Other) => self.take_place(now).is_err(),
            Err(_) => true,
        };
    }

    fn take_place(&mut self, now: Timestamp) -> Result<(), LogError> {
        let path = &self.place.path;
        let file = GrowingFile::claim(path).map_err(|source| LogError::open(path, source))?;
        self.place.settle(&file)?;
        self.writer.move_to(file, now);
        self.since = now;
        tracing::warn!(path = %path.display(), "the decision log goes on in a new file");
        Ok(())
    }

    /// Puts the file aside when it is due and takes its place; when that fails the file stays, or
    /// the next tick finds the place free.
    fn rotate_if_due(&mut self, now: Timestamp) {
        if !self.rotate.is_some_and(|rotate| self.outgrew(rotate, now)) {
            return;
        }
        self.writer.sign();
        if self.writer.failed() {
            return;
        }
        let aside = beside(&self.place.path, &format!(".{:020}", self.writer.seq()));
        match rename_to_free(&self.place.path, &aside) {
            Ok(()) => self.displaced = self.take_place(now).is_err(),
            Err(error) => {
                self.rotate_from = now.saturating_add(ROTATE_AGAIN).unwrap_or(now);
                tracing::warn!(%error, "the decision log could not be put aside and goes on in its file");
            }
        }
    }

    /// Whether the file is too large or too old, and holds more than the line it started with.
    fn outgrew(&self, rotate: Rotate, now: Timestamp) -> bool {
        let too_large = rotate
            .size
            .is_some_and(|limit| self.writer.sink().size().is_ok_and(|size| size >= limit));
        let too_old = rotate
            .age
            .is_some_and(|limit| now.duration_since(self.since).unsigned_abs() >= limit);
        (too_large || too_old) && self.writer.has_lines() && now >= self.rotate_from
    }
}

impl Place {
    /// Makes a file that was opened here private, publishes the key beside it, and makes the names
    /// of both survive a power loss where lines do.
    fn settle(&self, file: &GrowingFile) -> Result<(), LogError> {
        file.restrict()
            .map_err(|source| LogError::open(&self.path, source.into()))?;
        let keys = beside(&self.path, ".jwks");
        self.publish(&keys)?;
        match self.counts {
            Counts::Written => Ok(()),
            Counts::Synced => {
                sync_with_name(&keys).map_err(|source| LogError::open(&keys, source.into()))
            }
        }
    }

    /// Appends the public key to the file of keys unless it is there.
    fn publish(&self, keys: &Path) -> Result<(), LogError> {
        if known_keys(&self.path).contains(&self.kid) {
            return Ok(());
        }
        append_line(keys, self.public_jwk.as_bytes()).map_err(|source| LogError::open(keys, source))
    }
}
