//! URI templates of resources: what a template matches lies where the template says, however often
//! a reader decodes.

use outrider_schemas::template::{PREFIX, Templates, check};

/// Lines of templates, and in the last line a URI.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let uri = lines.pop().unwrap_or_default();
    let fine = lines.iter().all(|line| check(line).is_ok());
    match Templates::new(lines.iter().copied()) {
        Ok(templates) => {
            assert!(fine, "a template that alone is refused");
            if let Some(operation) = templates.find(uri) {
                matched(operation, uri, &lines);
            }
        }
        Err(bad) => assert!(!bad.is_empty(), "refused without a reason"),
    }
}

fn matched(operation: &str, uri: &str, templates: &[&str]) {
    let template = operation.strip_prefix(PREFIX).expect("a resource");
    assert!(templates.contains(&template), "a template of nobody");
    let Some((before, _)) = template.split_once('{') else {
        assert_eq!(template, uri, "another URI");
        return;
    };
    assert!(uri.starts_with(before), "it begins elsewhere");
    let after = template.rsplit('}').next().unwrap_or_default();
    assert!(uri.ends_with(after), "it ends elsewhere");
    let mut reading = uri.as_bytes().to_vec();
    loop {
        for segment in reading.split(|byte| b"/?#".contains(byte)) {
            assert!(segment != b"." && segment != b"..", "a dot segment");
        }
        assert!(
            !reading.contains(&b'\\') && !reading.contains(&0),
            "{reading:?}"
        );
        let next = crate::path::decoded(&reading);
        if next == reading {
            return;
        }
        reading = next;
    }
}
