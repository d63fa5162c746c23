//! The decision log: any file is verified or refused, and the smallest change of a log that was
//! written is found.

use std::{cell::RefCell, fs, path::PathBuf};

use jiff::Timestamp;
use outrider::record::{
    chain::{Log, LogConfig},
    checkpoint::{PublicKeys, Signature},
    verify::{GENESIS, Report, Verification, Witness},
};
use tempfile::TempDir;

use crate::json::reader::{Tree, read};

/// A log that is on disk, written once by the program itself.
struct Room {
    directory: TempDir,
    log: Vec<u8>,
    keys: PublicKeys,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room::new());
}

fn now() -> Timestamp {
    "2026-11-22T12:00:00Z".parse().expect("a time")
}

impl Room {
    fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let path = directory.path().join("valid.jsonl");
        let config = LogConfig {
            checkpoint_lines: 3,
            ..LogConfig::at(&path)
        };
        let log = Log::open(&config, now()).expect("a log");
        for number in 0..7 {
            let line = format!(
                r#""type":"decision","decision_id":"d{number}","code":"ok","text":"\u00e4 {number}","list":[{number},{{}}]"#
            );
            log.append(line.as_bytes()).expect("a line");
        }
        log.close(now());
        let keys = PublicKeys::parse(log.public_jwk()).expect("a key");
        Self {
            log: fs::read(&path).expect("a log"),
            directory,
            keys,
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("log.jsonl")
    }
}

/// Without `#` in front the bytes are a file; with it they are changes of a log that is whole.
pub fn run(data: &[u8]) {
    ROOM.with_borrow(|room| match data.split_first() {
        Some((b'#', changes)) => tampered(room, changes),
        _ => any(room, data),
    });
}

fn check(bytes: &[u8], keys: &PublicKeys) -> Report {
    let mut verification = Verification::new(keys, None);
    verification.read("log", bytes).expect("memory can be read");
    verification.finish()
}

/// Each three bytes change one.
fn tampered(room: &Room, changes: &[u8]) {
    let mut bytes = room.log.clone();
    for change in changes.chunks_exact(4) {
        let at = (usize::from(change[0]) << 8 | usize::from(change[1])) % bytes.len();
        match change[2] % 4 {
            0 => bytes[at] ^= change[3],
            1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, change[3]),
            _ => bytes.swap(at, usize::from(change[3])),
        }
    }
    // A log that lost its end is whole as far as a chain can tell.
    let whole = room.log.starts_with(&bytes) && bytes.ends_with(b"\n");
    for keys in [&room.keys, &PublicKeys::default()] {
        assert_eq!(
            check(&bytes, keys).is_whole(),
            whole,
            "a change that is not found"
        );
    }
    resumed(room, &bytes);
}

fn any(room: &Room, bytes: &[u8]) {
    let report = check(bytes, &PublicKeys::default());
    assert_eq!(report.is_whole(), by_the_letter(bytes), "{report:?}");
    let signed = check(bytes, &room.keys);
    assert!(signed.verified_to <= report.verified_to);
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Ok(witness) = Witness::parse(text, &PublicKeys::default()) {
            assert!(witness.seq() <= u64::MAX);
        }
        if let Ok(keys) = PublicKeys::parse(text) {
            let head = outrider::record::checkpoint::Head {
                instance: "x",
                seq: 1,
                prev: GENESIS,
            };
            assert_ne!(keys.check("x", text, head), Signature::Good);
        }
    }
    resumed(room, bytes);
}

/// A file that is taken up goes on as a chain; one that is not is left as it was.
fn resumed(room: &Room, bytes: &[u8]) {
    let path = room.path();
    fs::write(&path, bytes).expect("a file");
    let opened = Log::open(&LogConfig::at(&path), now());
    if let Ok(log) = opened {
        let whole = check(bytes, &PublicKeys::default());
        let complete = bytes
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1);
        let before = check(&bytes[..complete], &PublicKeys::default());
        log.append(br#""type":"decision","decision_id":"next""#)
            .expect("a log that is open is written");
        log.close(now());
        let after = fs::read(&path).expect("a log");
        assert!(
            after.starts_with(&bytes[..complete]),
            "lines that were there are gone"
        );
        if before.is_whole() {
            let after = check(&after, &PublicKeys::default());
            assert!(after.is_whole(), "{after:?}");
            assert_eq!(after.verified_to, before.verified_to + 2);
        } else {
            assert!(!whole.is_whole());
        }
    } else {
        assert_eq!(
            fs::read(&path).expect("a file"),
            bytes,
            "a file that is no log was changed"
        );
    }
    for entry in fs::read_dir(room.directory.path())
        .expect("a directory")
        .flatten()
    {
        if entry.file_name() != "valid.jsonl" {
            fs::remove_file(entry.path()).expect("a file");
        }
    }
}

/// The chain as the reference page has it, read by another reader.
fn by_the_letter(bytes: &[u8]) -> bool {
    let mut prev = GENESIS.to_owned();
    let mut instance = None;
    for (number, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(next) = follows(line, number as u64 + 1, &prev, &mut instance) else {
            return false;
        };
        prev = next;
    }
    true
}

fn follows(line: &[u8], seq: u64, prev: &str, instance: &mut Option<String>) -> Option<String> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (hashed, hash) = line.rsplit_once(",\"hash\":\"")?;
    let hash = hash.strip_suffix("\"}")?;
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, hashed.as_bytes());
    let expected: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let chained = hashed.ends_with(&format!(",\"prev\":\"{prev}\""));
    let Ok(Tree::Object(members)) = read(line.as_bytes()) else {
        return None;
    };
    let own = match members.get("instance")? {
        Tree::Text(own) => own,
        _ => return None,
    };
    let same = instance.get_or_insert_with(|| own.clone()) == own;
    let numbered =
        matches!(members.get("seq")?, Tree::Number(number) if *number == seq.to_string());
    let told = matches!(members.get("type")?, Tree::Text(_));
    (expected == hash && chained && same && numbered && told).then(|| expected)
}
