use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn event(number: u8) -> Hash {
    [number; 16]
}

fn open(directory: &tempfile::TempDir, now: i64) -> Result<SeenFile, BadFile> {
    SeenFile::open(directory.path().join("seen"), at(now))
}

#[test]
fn what_was_dealt_with_is_known_after_a_restart_until_its_time() {
    let directory = tempfile::tempdir().unwrap();
    let file = open(&directory, 0).unwrap();
    file.keep(event(1), at(100)).unwrap();
    file.keep(event(2), at(200)).unwrap();
    assert!(file.has(&event(1), at(99)) && !file.has(&event(1), at(100)));
    drop(file);
    let file = open(&directory, 150).unwrap();
    assert!(!file.has(&event(1), at(50)));
    assert!(file.has(&event(2), at(150)) && !file.has(&event(3), at(150)));
}

#[test]
fn a_torn_last_line_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let file = open(&directory, 0).unwrap();
    file.keep(event(1), at(100)).unwrap();
    drop(file);
    let path = directory.path().join("seen");
    let whole = std::fs::read(&path).unwrap();
    let head = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        match open(&directory, 0) {
            // The line is whole but for its end.
            Ok(file) => assert!(!file.has(&event(1), at(50)), "{length}"),
            Err(BadFile::Foreign { line: 1, .. }) => assert!(length < head, "{length}"),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_file_of_somebody_else_and_one_in_use_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("seen");
    let head = "{\"outrider_seen\":{\"version\":1}}\n";
    for text in [
        "notes\n",
        "{\"outrider_seen\":{\"version\":2}}\n",
        "{}\n",
        "\n",
    ] {
        for text in [text.to_owned(), format!("{head}{text}")] {
            std::fs::write(&path, &text).unwrap();
            assert!(
                matches!(open(&directory, 0), Err(BadFile::Foreign { .. })),
                "{text}"
            );
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
    std::fs::write(&path, head).unwrap();
    let _one = open(&directory, 0).unwrap();
    let other = open(&directory, 0).unwrap_err();
    assert!(matches!(
        other,
        BadFile::Unopened {
            error: OpenError::Locked,
            ..
        }
    ));
}

#[test]
fn a_file_of_which_most_is_over_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let file = open(&directory, 0).unwrap();
    {
        // As many as make it due, without waiting for the disk each time.
        let mut state = file.state();
        for number in 0..=i64::try_from(TIDY).unwrap() {
            let mut name = event(0);
            name[..8].copy_from_slice(&number.to_be_bytes());
            state.append(&Line::Seen(name, 100)).unwrap();
            state.until.insert(name, 100);
        }
    }
    file.keep(event(9), at(200)).unwrap();
    file.sweep(at(150));
    let text = std::fs::read_to_string(directory.path().join("seen")).unwrap();
    assert_eq!(text.lines().count(), 2);
    assert!(file.has(&event(9), at(150)));
    file.keep(event(8), at(200)).unwrap();
    drop(file);
    assert!(open(&directory, 150).unwrap().has(&event(8), at(150)));
}
