//! Whole lines of a log that grows and is put aside, from a place that is kept on disk.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// How much is read at once, in bytes.
const CHUNK: u64 = 256 * 1024;
/// No line is longer; a file that has such a one is passed over.
const LONGEST: u64 = 16 * 1024 * 1024;

/// How far a log was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    device: u64,
    inode: u64,
    offset: u64,
}

/// A log that is read once, whatever happens meanwhile.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    kept: PathBuf,
    file: Option<(File, Place)>,
}

impl Tail {
    /// Goes on where `name` has read to; begins behind what is there when it never has.
    pub(super) fn open(path: &Path, name: &str) -> Self {
        let mut kept = path.as_os_str().to_owned();
        kept.push(format!(".{name}.place"));
        let mut tail = Self {
            path: path.to_owned(),
            kept: kept.into(),
            file: None,
        };
        tail.file = match tail.known() {
            Some(place) => tail.found(place),
            None => tail.end(),
        };
        tail
    }

    fn known(&self) -> Option<Place> {
        serde_json::from_slice(&fs::read(&self.kept).ok()?).ok()
    }

    /// The file that a place is in, or the first that came after it.
    fn found(&self, place: Place) -> Option<(File, Place)> {
        let all = self.files();
        let there = all.iter().find_map(|path| {
            let (file, at) = opened(path)?;
            ((at.device, at.inode) == (place.device, place.inode)).then_some(file)
        });
        match there {
            Some(file) => Some((file, place)),
            // It is gone: so is what was in it. What is left is told.
            None => all.first().and_then(|path| opened(path)),
        }
    }

    fn end(&self) -> Option<(File, Place)> {
        let (file, mut place) = opened(&self.path)?;
        place.offset = file.metadata().ok()?.len();
        Some((file, place))
    }

    /// The files that were put aside, oldest first, and the one that is written.
    fn files(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        if let (Some(folder), Some(name)) = (self.path.parent(), self.path.file_name()) {
            let folder = if folder.as_os_str().is_empty() {
                Path::new(".")
            } else {
                folder
            };
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let aside = entries.filter(|entry| {
                let other = entry.file_name();
                let rest = other
                    .as_encoded_bytes()
                    .strip_prefix(name.as_encoded_bytes());
                rest.and_then(|rest| rest.strip_prefix(b"."))
                    .is_some_and(is_count)
            });
            all.extend(aside.map(|entry| entry.path()));
        }
        all.sort();
        all.push(self.path.clone());
        all
    }

    /// The next whole lines, with their newlines; empty where there is none yet.
    pub(super) fn next(&mut self) -> io::Result<Vec<u8>> {
        self.next_of(CHUNK)
    }

    /// The next whole lines, about so many bytes of them.
    fn next_of(&mut self, bytes: u64) -> io::Result<Vec<u8>> {
        loop {
            let Some((file, place)) = &mut self.file else {
                self.file = opened(&self.path);
                if self.file.is_none() {
                    return Ok(Vec::new());
                }
                continue;
            };
            let lines = read(file, place.offset, bytes)?;
            if !lines.is_empty() {
                place.offset += u64::try_from(lines.len()).unwrap_or_default();
                return Ok(lines);
            }
            let place = *place;
            match self.after(place) {
                Some(next) => self.file = Some(next),
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The file that is written after this one was put aside.
    fn after(&self, place: Place) -> Option<(File, Place)> {
        let same = |at: &Place| (at.device, at.inode) == (place.device, place.inode);
        let (_, current) = opened(&self.path)?;
        if same(&current) {
            return None;
        }
        let mut files = self.files().into_iter();
        let known = files.any(|path| opened(&path).is_some_and(|(_, at)| same(&at)));
        if known {
            files.next().and_then(|path| opened(&path))
        } else {
            opened(&self.path)
        }
    }

    /// Bytes that were not read yet.
    pub(super) fn behind(&self) -> u64 {
        let Some((file, place)) = &self.file else {
            return 0;
        };
        let size = |file: &File| file.metadata().map_or(0, |known| known.len());
        let mut behind = size(file).saturating_sub(place.offset);
        let mut later = false;
        for path in self.files() {
            let Some((file, at)) = opened(&path) else {
                continue;
            };
            if later {
                behind += size(&file);
            }
            later |= (at.device, at.inode) == (place.device, place.inode);
        }
        behind
    }

    /// Passes over lines until no more than `most` bytes are left; returns how many lines.
    pub(super) fn pass_over(&mut self, most: u64) -> io::Result<u64> {
        let mut passed = 0;
        loop {
            let over = self.behind().saturating_sub(most);
            if over == 0 {
                break;
            }
            let lines = self.next_of(over.min(CHUNK))?;
            if lines.is_empty() {
                break;
            }
            passed += u64::try_from(memchr::memchr_iter(b'\n', &lines).count()).unwrap_or_default();
        }
        Ok(passed)
    }

    /// Keeps the place, so that the next who reads goes on from here.
    pub(super) fn keep(&self) -> io::Result<()> {
        let Some((_, place)) = &self.file else {
            return Ok(());
        };
        let mut beside = self.kept.as_os_str().to_owned();
        beside.push(".new");
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(serde_json::to_string(place)?.as_bytes())?;
        fs::rename(&beside, &self.kept)
    }
}

/// Whether it is what a log that was put aside ends with.
fn is_count(name: &[u8]) -> bool {
    name.len() == 20 && name.iter().all(u8::is_ascii_digit)
}

fn opened(path: &Path) -> Option<(File, Place)> {
    // A pipe would be waited for.
    let known = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let file = File::open(path).ok()?;
    let place = Place {
        device: known.dev(),
        inode: known.ino(),
        offset: 0,
    };
    Some((file, place))
}

/// Whole lines from `offset` on: no more than so many bytes, or one line that is longer.
fn read(file: &File, offset: u64, mut most: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len();
    loop {
        let wanted = most.min(size.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(wanted).unwrap_or_default()];
        let mut read = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset + u64::try_from(read).unwrap_or_default())? {
                0 => break,
                more => read += more,
            }
        }
        bytes.truncate(read);
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |newline| newline + 1);
        if whole > 0 || wanted < most || most >= LONGEST {
            bytes.truncate(whole);
            return Ok(bytes);
        }
        most = (most * 4).max(4096);
    }
}
