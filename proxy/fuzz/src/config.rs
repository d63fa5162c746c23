//! The configuration: any text is refused with a place, or loads and builds or says why not.

use std::{fs, path::PathBuf, sync::LazyLock};

use outrider::config::{Compiler, load};
use tempfile::TempDir;

use crate::fixture::{catalogue, lock_file};

struct Room {
    /// Kept for its files.
    _directory: TempDir,
    file: PathBuf,
}

static ROOM: LazyLock<Room> = LazyLock::new(|| {
    let directory = TempDir::new().expect("a directory");
    let write = |name: &str, text: &str| {
        fs::write(directory.path().join(name), text).expect("a file");
    };
    write("tools.json", &lock_file());
    write("methods.json", &catalogue());
    write("everything.json", include_str!("fixture/everything.json"));
    write("data.yaml", include_str!("fixture/data.yaml"));
    fs::create_dir(directory.path().join("policy")).expect("a directory");
    let file = directory.path().join("outrider.yaml");
    Room {
        _directory: directory,
        file,
    }
});

/// The text of `outrider.yaml`.
pub fn run(data: &[u8]) {
    if leads_out(data) {
        return;
    }
    fs::write(&ROOM.file, data).expect("a file");
    let loaded = match load(&ROOM.file) {
        Ok(loaded) => loaded,
        Err(failure) => {
            let [problem] = failure.problems.as_slice() else {
                panic!("{:?}", failure.problems);
            };
            let unread = std::str::from_utf8(data).is_err();
            assert!(problem.line > 0 || unread, "no place: {problem}");
            assert!(!problem.message.is_empty());
            assert_eq!(problem.file, ROOM.file.display().to_string());
            return;
        }
    };
    if let Err(problems) = loaded.build(&Compiler::Here, None) {
        assert!(!problems.is_empty(), "refused without a reason");
        assert!(problems.iter().all(|problem| !problem.message.is_empty()));
    }
}

/// Whether the text may name a file elsewhere, one that never ends among them: its author may, but
/// that is not what is looked for.
fn leads_out(data: &[u8]) -> bool {
    let text = String::from_utf8_lossy(data);
    let words = ["/dev", "/proc", "/sys", ".."];
    words.iter().any(|word| text.contains(word))
}
