use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use super::*;
use crate::record::{
    chain::{Log, LogConfig, LogError, Rotate, Unwritable},
    file::OpenError,
    resume::ResumeError,
    verify::Fault,
};

const MEMBERS: &[u8] = br#""type":"decision","code":"ok""#;

struct Room {
    dir: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("decisions.jsonl")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("decisions.jsonl{suffix}"))
    }

    fn open(&self) -> Result<Log, LogError> {
        Log::open(&LogConfig::at(self.path()), now())
    }

    /// A closed log of three decisions and a checkpoint.
    fn closed() -> Self {
        let room = Self::new();
        let log = room.open().unwrap();
        for _ in 0..3 {
            log.append(MEMBERS).unwrap();
        }
        log.close(now());
        room
    }

    fn report(&self) -> Report {
        let keys = PublicKeys::parse(&fs::read_to_string(self.beside(".jwks")).unwrap()).unwrap();
        check(&fs::read(self.path()).unwrap(), &keys, None)
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_log_is_private_and_whole_after_a_clean_stop() {
    let room = Room::closed();
    let report = room.report();
    assert_eq!((report.verified_to, report.signed_to), (4, 4));
    for path in [room.path(), room.beside(".jwks")] {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_clean_stop_of_an_unused_log_leaves_one_checkpoint() {
    let room = Room::new();
    room.open().unwrap().close(now());
    assert_eq!(room.report().signed_to, 1);
    room.open().unwrap().close(now());
    assert_eq!(room.report().signed_to, 1, "nothing new to sign");
}

#[test]
fn a_closed_log_accepts_nothing() {
    let room = Room::new();
    let log = room.open().unwrap();
    assert!(log.healthy());
    log.close(now());
    assert!(!log.healthy());
    assert_eq!(log.append(MEMBERS), Err(Unwritable));
}

#[test]
fn a_restart_continues_chain_and_instance() {
    let room = Room::closed();
    let log = room.open().unwrap();
    assert_eq!(log.append(MEMBERS), Ok(5));
    let text = fs::read_to_string(room.path()).unwrap();
    assert!(text.lines().all(|line| line.contains(&**log.instance())));
    log.close(now());
    assert_eq!(room.report().signed_to, 6, "under two keys");
    assert_eq!(
        fs::read_to_string(room.beside(".jwks"))
            .unwrap()
            .lines()
            .count(),
        2
    );
}

#[test]
fn a_configured_key_signs_and_is_published_once() {
    let room = Room::new();
    let key = room.dir.path().join("key.pem");
    let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
    fs::write(&key, pem).unwrap();
    let config = LogConfig {
        key: Some(key),
        ..LogConfig::at(room.path())
    };
    for _ in 0..2 {
        let log = Log::open(&config, now()).unwrap();
        log.append(MEMBERS).unwrap();
        assert!(
            log.public_jwk()
                .contains("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k")
        );
        log.close(now());
    }
    assert_eq!(
        fs::read_to_string(room.beside(".jwks"))
            .unwrap()
            .lines()
            .count(),
        1
    );
    assert_eq!(room.report().signed_to, 4);
    let missing = LogConfig {
        key: Some(room.dir.path().join("none.pem")),
        ..LogConfig::at(room.path())
    };
    assert!(matches!(
        Log::open(&missing, now()),
        Err(LogError::Open { .. })
    ));
}

#[test]
fn a_second_owner_is_refused() {
    let room = Room::new();
    let _first = room.open().unwrap();
    assert!(matches!(
        room.open(),
        Err(LogError::Open {
            source: OpenError::Locked,
            ..
        })
    ));
}

#[test]
fn a_log_torn_at_any_byte_is_continued_and_what_was_torn_is_kept() {
    let room = Room::closed();
    let whole = fs::read(room.path()).unwrap();
    let jwks = fs::read(room.beside(".jwks")).unwrap();
    for cut in 0..whole.len() {
        let room = Room::new();
        fs::write(room.path(), &whole[..cut]).unwrap();
        fs::write(room.beside(".jwks"), &jwks).unwrap();
        let kept = whole[..cut]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .map_or(0, |at| at + 1);
        let complete = u64::try_from(lines(&whole[..kept]).len()).unwrap();

        let log = room.open().unwrap();
        assert_eq!(log.append(MEMBERS), Ok(complete + 1), "cut at {cut}");
        log.close(now());
        assert!(room.report().is_whole(), "cut at {cut}");
        let torn = fs::read(room.beside(".torn")).unwrap_or_default();
        assert_eq!(
            torn.strip_suffix(b"\n").unwrap_or(&torn),
            &whole[kept..cut],
            "cut at {cut}"
        );
    }
}

#[test]
fn torn_lines_gather_beside_the_log() {
    let room = Room::closed();
    for _ in 0..2 {
        let mut bytes = fs::read(room.path()).unwrap();
        bytes.extend_from_slice(b"{\"type\":\"deci");
        fs::write(room.path(), bytes).unwrap();
        room.open().unwrap().close(now());
    }
    assert_eq!(
        fs::read(room.beside(".torn")).unwrap(),
        b"{\"type\":\"deci\n{\"type\":\"deci\n"
    );
    assert_eq!(mode(&room.beside(".torn")), 0o600);
    assert!(room.report().is_whole());
}

#[test]
fn a_chain_broken_after_its_last_checkpoint_is_not_continued() {
    let room = Room::closed();
    let log = room.open().unwrap();
    log.append(MEMBERS).unwrap();
    log.append(MEMBERS).unwrap();
    drop(log);
    let mut all = lines(&fs::read(room.path()).unwrap());
    all.remove(4);
    fs::write(room.path(), all.concat()).unwrap();
    let error = room.open().unwrap_err();
    let LogError::Resume {
        source: ResumeError::Broken { after, fault },
        ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(
        (after, fault),
        (
            4,
            Fault::Seq {
                expected: 5,
                found: 6
            }
        )
    );
    assert_eq!(fs::read(room.path()).unwrap(), all.concat(), "untouched");
}

#[test]
fn a_long_log_is_checked_from_its_last_checkpoint() {
    let room = Room::new();
    let log = room.open().unwrap();
    let members = format!(r#""type":"decision","pad":"{}""#, "x".repeat(3_000));
    for _ in 0..1_500 {
        log.append(members.as_bytes()).unwrap();
    }
    drop(log);
    let log = room.open().unwrap();
    assert_eq!(log.append(MEMBERS), Ok(1_502));
    log.close(now());
    assert_eq!(room.report().signed_to, 1_503);
}

#[test]
fn what_is_no_log_is_left_untouched() {
    for text in [
        "{\"type\":\"module\"}",
        "{\"type\":\"module\"}\n",
        "hello\n",
        "\n",
        "PK\u{3}\u{4}",
        "{\"a\":1}\n{\"type\":\"decision\"",
    ] {
        let room = Room::new();
        fs::write(room.path(), text).unwrap();
        fs::set_permissions(room.path(), fs::Permissions::from_mode(0o644)).unwrap();
        let error = room.open().unwrap_err();
        assert!(
            matches!(
                error,
                LogError::Resume {
                    source: ResumeError::NotALog,
                    ..
                }
            ),
            "{text:?}: {error}"
        );
        assert_eq!(
            (
                fs::read_to_string(room.path()).unwrap().as_str(),
                mode(&room.path())
            ),
            (text, 0o644)
        );
    }
}

/// Puts something that is no file to write at the log's path.
fn obstacles(path: &Path, index: usize) -> &'static str {
    match index {
        0 => fs::create_dir(path).map(|()| "a directory").unwrap(),
        1 => symlink("/dev/null", path)
            .map(|()| "a symbolic link")
            .unwrap(),
        _ => {
            let status = std::process::Command::new("mkfifo")
                .arg(path)
                .status()
                .unwrap();
            assert!(status.success());
            "a FIFO"
        }
    }
}

fn clear(path: &Path) {
    fs::remove_file(path)
        .or_else(|_| fs::remove_dir(path))
        .unwrap();
}

#[test]
fn links_directories_and_fifos_are_refused_at_start() {
    for index in 0..3 {
        let room = Room::new();
        let what = obstacles(&room.path(), index);
        let error = room.open().unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn a_deleted_log_is_made_anew_and_the_deletion_shows() {
    let room = Room::closed();
    let log = room.open().unwrap();
    log.append(MEMBERS).unwrap();
    fs::remove_file(room.path()).unwrap();
    log.tick(now());
    assert!(log.healthy());
    assert_eq!(
        log.append(MEMBERS),
        Ok(7),
        "behind a checkpoint that carries the chain over"
    );
    assert_eq!(mode(&room.path()), 0o600);
    assert_eq!(
        room.report().first_bad.unwrap().fault,
        Fault::Start { found: 6 }
    );
    assert!(
        matches!(
            room.open(),
            Err(LogError::Open {
                source: OpenError::Locked,
                ..
            })
        ),
        "the new file is locked"
    );
    drop(log);
    assert_eq!(
        room.open().unwrap().append(MEMBERS),
        Ok(8),
        "it can be continued"
    );
}

#[test]
fn a_replaced_log_refuses_until_its_path_is_free_again() {
    for index in 0..4 {
        let room = Room::closed();
        let log = room.open().unwrap();
        fs::remove_file(room.path()).unwrap();
        if index == 3 {
            fs::write(room.path(), "somebody's notes\n").unwrap();
        } else {
            obstacles(&room.path(), index);
        }
        log.tick(now());
        assert!(!log.healthy(), "{index}");
        assert_eq!(log.append(MEMBERS), Err(Unwritable));
        if index == 3 {
            assert_eq!(
                fs::read_to_string(room.path()).unwrap(),
                "somebody's notes\n"
            );
        }
        clear(&room.path());
        log.tick(now());
        assert!(log.healthy(), "{index}");
        assert_eq!(log.append(MEMBERS), Ok(6));
    }
}

#[test]
fn a_log_that_was_moved_away_and_back_goes_on() {
    let room = Room::closed();
    let log = room.open().unwrap();
    let inode = fs::metadata(room.path()).unwrap().ino();
    fs::rename(room.path(), room.beside(".away")).unwrap();
    obstacles(&room.path(), 0);
    log.tick(now());
    assert!(!log.healthy());
    clear(&room.path());
    fs::rename(room.beside(".away"), room.path()).unwrap();
    log.tick(now());
    assert!(log.healthy());
    log.close(now());
    assert_eq!(fs::metadata(room.path()).unwrap().ino(), inode);
    assert!(room.report().is_whole());
}

/// However much waits: what is written to a file that is no longer the log is lost.
#[test]
fn what_waits_is_written_to_the_log_and_to_nothing_that_stood_in_its_place() {
    const MUCH: usize = 3_000;
    let room = Room::closed();
    let log = room.open().unwrap();
    let lines = || fs::read_to_string(room.path()).unwrap().lines().count();
    let before = lines();
    (0..MUCH).for_each(|_| log.defer(MEMBERS).unwrap());
    assert!(lines() > before, "much is written at once");
    log.flush();
    assert_eq!(lines(), before + MUCH);

    fs::rename(room.path(), room.beside(".away")).unwrap();
    obstacles(&room.path(), 0);
    log.tick(now());
    let away = fs::metadata(room.beside(".away")).unwrap().len();
    (0..MUCH).for_each(|_| log.defer(MEMBERS).unwrap());
    log.flush();
    assert_eq!(fs::metadata(room.beside(".away")).unwrap().len(), away);
    clear(&room.path());
    log.tick(now());
    assert_eq!(lines(), 1 + MUCH, "behind a checkpoint");
}

#[test]
fn threads_share_one_gapless_chain() {
    let room = Room::new();
    let log = room.open().unwrap();
    let mut numbers: Vec<u64> = std::thread::scope(|scope| {
        let write = || {
            (0..500)
                .map(|_| log.append(MEMBERS).unwrap())
                .collect::<Vec<_>>()
        };
        let threads = [scope.spawn(write), scope.spawn(write), scope.spawn(write)];
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    log.close(now());
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 1_500);
    let report = room.report();
    assert_eq!((report.verified_to, report.signed_to), (1_502, 1_502));
}

/// The archived parts of a log and the log itself, in their order.
fn parts(room: &Room) -> Vec<PathBuf> {
    let names = fs::read_dir(room.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_part = |path: &PathBuf| {
        path.extension()
            .unwrap()
            .to_str()
            .unwrap()
            .bytes()
            .all(|byte| byte.is_ascii_digit())
    };
    let mut parts: Vec<_> = names.filter(is_part).collect();
    parts.sort();
    parts.push(room.path());
    parts
}

fn report_of(room: &Room, parts: &[PathBuf]) -> Report {
    let keys = PublicKeys::parse(&fs::read_to_string(room.beside(".jwks")).unwrap()).unwrap();
    let mut verification = Verification::new(&keys, None);
    for part in parts {
        verification
            .read(
                &part.display().to_string(),
                fs::read(part).unwrap().as_slice(),
            )
            .unwrap();
    }
    verification.finish()
}

fn rotating(room: &Room, rotate: Rotate) -> LogConfig {
    LogConfig {
        rotate: Some(rotate),
        ..LogConfig::at(room.path())
    }
}

#[test]
fn a_log_that_grew_too_large_goes_on_in_a_new_file() {
    let room = Room::new();
    let config = rotating(
        &room,
        Rotate {
            size: Some(2_000),
            age: None,
        },
    );
    let log = Log::open(&config, now()).unwrap();
    for _ in 0..30 {
        log.append(MEMBERS).unwrap();
        log.tick(now());
    }
    log.close(now());
    drop(log);
    let log = Log::open(&config, now()).unwrap();
    log.append(MEMBERS).unwrap();
    log.close(now());

    let parts = parts(&room);
    assert!(parts.len() > 3, "{parts:?}");
    let report = report_of(&room, &parts);
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.verified_to, report.signed_to);
    for part in &parts {
        assert_eq!(mode(part), 0o600);
        assert!(fs::metadata(part).unwrap().len() < 4_000);
    }
    let gap = [parts[..1].to_vec(), parts[2..].to_vec()].concat();
    assert!(!report_of(&room, &gap).is_whole(), "a missing part shows");
}

#[test]
fn a_log_that_is_too_old_goes_on_in_a_new_file_once_it_has_lines() {
    let room = Room::new();
    let config = rotating(
        &room,
        Rotate {
            size: None,
            age: Some(Duration::from_hours(1)),
        },
    );
    let log = Log::open(&config, now()).unwrap();
    let at = |seconds: i64| now() + jiff::SignedDuration::from_secs(seconds);
    log.tick(at(7_200));
    assert_eq!(parts(&room).len(), 1, "nothing to put away");
    log.append(MEMBERS).unwrap();
    log.tick(at(7_201));
    assert_eq!(parts(&room).len(), 2);
    log.tick(at(7_202));
    assert_eq!(parts(&room).len(), 2, "the new file is young");
    log.close(at(7_203));
    assert!(report_of(&room, &parts(&room)).is_whole());
}

#[test]
fn rotation_overwrites_nothing() {
    let room = Room::new();
    let config = rotating(
        &room,
        Rotate {
            size: Some(1),
            age: None,
        },
    );
    let log = Log::open(&config, now()).unwrap();
    log.append(MEMBERS).unwrap();
    let archive = room.beside(".00000000000000000002");
    fs::write(&archive, "kept").unwrap();
    log.tick(now());
    assert_eq!(fs::read_to_string(&archive).unwrap(), "kept");
    assert!(log.healthy(), "it stays in its file");
    fs::remove_file(&archive).unwrap();
    log.tick(now() + jiff::SignedDuration::from_secs(61));
    assert!(archive.exists(), "it is tried again");
    log.close(now());
    assert!(report_of(&room, &parts(&room)).is_whole());
}
