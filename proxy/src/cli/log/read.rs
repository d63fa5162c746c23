//! Reads whole lines of a log that may grow, be deleted or be rotated meanwhile.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

/// How much is read at once, in bytes.
const CHUNK: u64 = 256 * 1024;

/// A log that is read from near its end on.
#[derive(Debug)]
pub(in crate::cli) struct Follow {
    path: PathBuf,
    file: File,
    offset: u64,
}

impl Follow {
    /// Opens the log so that its last `lines` lines come first.
    pub(in crate::cli) fn open(path: &Path, lines: usize) -> io::Result<Self> {
        let file = open(path)?;
        let offset = start_of_last(&file, lines)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            offset,
        })
    }

    /// The whole lines, without their newlines, that came since the last time.
    pub(in crate::cli) fn lines(&mut self) -> io::Result<Vec<Vec<u8>>> {
        self.reopen_if_replaced()?;
        let mut bytes = Vec::new();
        let mut at = self.offset;
        let size = self.file.metadata()?.len();
        while at < size {
            let mut chunk = vec![0; usize::try_from(CHUNK.min(size - at)).unwrap_or_default()];
            let read = self.file.read_at(&mut chunk, at)?;
            chunk.truncate(read);
            if read == 0 {
                break;
            }
            at += u64::try_from(read).unwrap_or_default();
            bytes.append(&mut chunk);
        }
        let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |newline| newline + 1);
        bytes.truncate(whole);
        self.offset += u64::try_from(whole).unwrap_or_default();
        Ok(split(&bytes))
    }

    /// Starts from the beginning of a file that took the path's place or was cut.
    fn reopen_if_replaced(&mut self) -> io::Result<()> {
        let ours = self.file.metadata()?;
        if ours.len() < self.offset {
            self.offset = 0;
        }
        // Between deletion and the new file there is none: that is no error while following.
        let Ok(file) = open(&self.path) else {
            return Ok(());
        };
        let there = file.metadata()?;
        let unread = ours.len() > self.offset;
        if (there.dev(), there.ino()) != (ours.dev(), ours.ino()) && !unread {
            (self.file, self.offset) = (file, 0);
        }
        Ok(())
    }
}

/// All lines of the log with this decision ID.
pub(in crate::cli) fn find(path: &Path, decision_id: &str) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut reader = BufReader::with_capacity(64 * 1024, open(path)?);
    let mut line = Vec::new();
    while reader.by_ref().read_until(b'\n', &mut line)? > 0 {
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if !decision_id.is_empty() && belongs(text, decision_id) {
            found.push(text.to_vec());
        }
        line.clear();
    }
    Ok(found)
}

fn belongs(line: &[u8], decision_id: &str) -> bool {
    // Most lines are passed over without being parsed.
    memchr::memmem::find(line, decision_id.as_bytes()).is_some()
        && serde_json::from_slice::<serde_json::Value>(line).is_ok_and(|record| {
            record.get("decision_id").and_then(|id| id.as_str()) == Some(decision_id)
        })
}

fn open(path: &Path) -> io::Result<File> {
    let metadata = std::fs::metadata(path)?;
    if metadata.is_file() {
        File::open(path)
    } else {
        Err(io::Error::other("it is no file"))
    }
}

/// Where the last `lines` whole lines start.
fn start_of_last(file: &File, lines: usize) -> io::Result<u64> {
    let size = file.metadata()?.len();
    let (mut end, mut left) = (size, lines.saturating_add(1));
    while end > 0 {
        let start = end.saturating_sub(CHUNK);
        let mut chunk = vec![0; usize::try_from(end - start).unwrap_or_default()];
        file.read_exact_at(&mut chunk, start)?;
        for newline in memchr::memrchr_iter(b'\n', &chunk) {
            left -= 1;
            if left == 0 {
                return Ok(start + u64::try_from(newline).unwrap_or_default() + 1);
            }
        }
        end = start;
    }
    Ok(0)
}

fn split(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line).to_vec())
        .collect()
}
