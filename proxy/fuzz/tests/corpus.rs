//! What was ever kept holds: every input of every corpus, without an instrumented build.

use std::{fs, path::Path};

fn each(target: &str, run: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("corpus")
        .join(target);
    let mut count = 0;
    for entry in fs::read_dir(directory).expect("a corpus") {
        let path = entry.expect("an input").path();
        // A panic says which.
        println!("{}", path.display());
        run(&fs::read(path).expect("an input"));
        count += 1;
    }
    assert!(count > 0, "an empty corpus");
}

macro_rules! holds {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            each(stringify!($target), outrider_fuzz::$target::run);
        })*
    };
}

holds!(config json lock log mcp mcp_answer openapi openapi_request path pipeline sse template token);
